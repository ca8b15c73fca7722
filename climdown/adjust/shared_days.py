"""The days of the year that reference, historical simulation and simulation share.

Quantiles of a winter and of whole years are of two climates: what only some of the three have
must not count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from climdown import cf
from climdown.adjust.series import Climatology, Series, shared_months
from climdown.arrays import Float32, Index, Mask
from climdown.errors import ConfigError, InputError
from climdown.inputs import matching

log = logging.getLogger(__name__)

_DAYS = 31  # of every month, so that a day has one number in all calendars
# A day counts as shared if the others have one so near: calendars end their months differently.
_NEAR = 2
_MONTHLY = 1.5  # days; of longer steps only the month counts


@dataclass(frozen=True, eq=False)
class SharedDays:
    """Series of the days that count.

    Attributes:
        series: one per variable.
        steps: of the simulation, that take part, shape (n,).
        total: number of the simulation's steps.
    """

    series: tuple[Series, ...]
    steps: Index
    total: int

    def spread(self, read: Callable[[slice], Float32], part: slice) -> Float32:
        """Values of a block of all steps, shape (time, ny, nx), NaN where a day does not count.

        Args:
            read: values of a block of the steps that take part.
        """
        first, last = map(int, np.searchsorted(self.steps, [part.start, part.stop]))
        shape = (part.stop - part.start, *self.series[0].grid.shape)
        if last - first == shape[0]:
            return read(slice(first, last)).reshape(shape)
        result = np.full(shape, np.nan, dtype=np.float32)
        if last > first:
            values = read(slice(first, last)).reshape(-1, *shape[1:])
            result[self.steps[first:last] - part.start] = values
        return result


def share_days(series: Sequence[Series], group: str) -> SharedDays:
    """Cut series to the days of the year that all of them have.

    Args:
        group: "none", "season", "month" or "dayofyear": which days are judged together.

    Raises:
        InputError: they share no day.
        ConfigError: a prior's quantiles of all its months together are of other months.
    """
    shared: Mask = np.logical_and.reduce([_shared(one, group) for one in series])
    for one in series:
        _check_months(one)
        if isinstance(one.ref, Climatology) and group == "none":
            _check_together(one.ref, shared)
    return _cut(series, shared)


def share_months(series: Series, months: Collection[int]) -> SharedDays:
    """Cut the series of a stored map to the months that it was trained on.

    Raises:
        InputError: the simulation has none of them.
    """
    if not set(series.sim.time.months) & set(months):
        raise InputError(
            f"{cf.describe_paths(series.sim.paths)}: has months "
            f"{matching.numbers(series.sim.time.months)}; the reference and the historical "
            f"simulation share months {matching.numbers(sorted(months))}"
        )
    return _cut([series], np.repeat(np.isin(np.arange(1, 13), list(months)), _DAYS))


def _cut(series: Sequence[Series], shared: Mask) -> SharedDays:
    sim = series[0].sim
    steps = _steps(sim, shared)
    if steps.size == 0:
        raise InputError(
            f"{cf.describe_paths(sim.paths)}: no step of {sim.source_name} is on a day of the year "
            "that the reference and the historical simulation share; give files of the same season"
        )
    return SharedDays(tuple(_cut_one(one, shared) for one in series), steps, len(sim.time))


def _check_months(one: Series) -> None:
    months = one.sim.time.months
    if not set(months) & shared_months(one):
        raise InputError(
            f"{cf.describe_paths(one.sim.paths)}: has months {matching.numbers(months)}; the "
            "reference and the historical simulation share months "
            f"{matching.numbers(sorted(shared_months(one))) or 'none'}"
        )


def _cut_one(one: Series, shared: Mask) -> Series:
    ref = one.ref if isinstance(one.ref, Climatology) else _cut_field(one.ref, shared)
    return Series(ref, _cut_field(one.hist, shared), _cut_field(one.sim, shared))


def _cut_field(field: cf.Field, shared: Mask) -> cf.Field:
    steps = _steps(field, shared)
    if steps.size == 0:
        raise InputError(
            f"{cf.describe_paths(field.paths)}: no step of {field.source_name} is on a day of the "
            "year that reference, historical simulation and simulation share; give files of the "
            "same season"
        )
    return field if steps.size == len(field.time) else field.take(steps)


def _steps(field: cf.Field, shared: Mask) -> Index:
    return np.flatnonzero(shared[_days_of_year(field)])


def _shared(one: Series, group: str) -> Mask:
    """Which days of the year all three have, shape (12 * 31,)."""
    shared: Mask = np.ones(12 * _DAYS, dtype=np.bool_)
    for sample in (one.ref, one.hist, one.sim):
        days = _present(sample).reshape(12, _DAYS)
        lacking: Mask = np.logical_not(days.any(axis=1))
        if sample is one.sim and group == "month":
            # Months are judged one by one: those that it lacks do not disturb the others.
            days, lacking = days | lacking[:, None], np.zeros_like(lacking)
        shared &= _near(days.ravel()) & ~np.repeat(lacking, _DAYS)
    return shared


def _present(sample: cf.Field | Climatology) -> Mask:
    """Which days of the year a sample has; whole months of what has months alone."""
    days = np.zeros((12, _DAYS), dtype=bool)
    if isinstance(sample, Climatology):
        days[np.array(sample.months) - 1] = True
        return days.ravel()
    days.ravel()[_days_of_year(sample)] = True
    # A part of a month in one year alone is where the file begins or ends, and no season.
    once = len(years_of(sample)) < 2
    if once or sample.time.step_days > _MONTHLY:
        days[days.any(axis=1)] = True
    return days.ravel()


def _near(days: Mask) -> Mask:
    """Days with a neighbour among `days`, in a circle."""
    near: Mask = np.logical_or.reduce([np.roll(days, shift) for shift in range(-_NEAR, _NEAR + 1)])
    return near


def _days_of_year(field: cf.Field) -> Index:
    dates = field.time.centres
    return np.array([_DAYS * (d.month - 1) + min(d.day, _DAYS) - 1 for d in dates], dtype=np.intp)


def years_of(field: cf.Field) -> tuple[int, ...]:
    """The years in which a field has steps, ascending."""
    return tuple(sorted({int(date.year) for date in field.time.centres}))


def warn_of_lost_days(sim: cf.Field, steps: Index) -> None:
    """Say which days of a simulation come out missing, of which `steps` are those that count."""
    lost = np.setdiff1d(np.arange(len(sim.time)), steps)
    if not lost.size:
        return
    gone = sim.time.isel(lost)
    months = [m for m in gone.months if m not in sim.time.isel(steps).months]
    if months:
        log.warning(
            "months %s of the simulation are not in both reference and historical simulation: "
            "they will be missing",
            matching.numbers(months),
        )
    days = [date for date in gone.centres if date.month not in months]
    if days:
        log.warning(
            "%d days of the simulation, the first %s, are on days of the year that reference and "
            "historical simulation do not share: they will be missing",
            len(days),
            days[0].strftime("%Y-%m-%d"),
        )


def _check_together(ref: Climatology, shared: Mask) -> None:
    """Quantiles of several months together cannot be cut to some of them."""
    months = (np.flatnonzero(shared.reshape(12, _DAYS).any(axis=1)) + 1).tolist()
    if months and set(months) != set(ref.months):
        raise ConfigError(
            f"prior {ref.prior} carries quantiles of months {matching.numbers(ref.months)} "
            f"together, and the files share months {matching.numbers(months)} with it; choose "
            "--group month"
        )
