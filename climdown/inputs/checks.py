"""Values that an input cannot hold: undeclared fill values, wrong units, empty steps."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from climdown import cf
from climdown.arrays import Dates, Float32, Floats
from climdown.errors import InputError
from climdown.inputs.typical import Typical

log = logging.getLogger(__name__)

_CHECK_BYTES = 64 << 20
_WATCHED_STEPS = 240  # ten days of hours
_WATCHED_VALUES = 1 << 22
_SAMPLED_STEPS = 8
_FEWEST_STEPS = 8  # amounts may grow over a few steps by chance
# No quantity comes near it: a fill value that the file does not declare.
FILL = 1e15
# A larger share of impossible values is no matter of a few bad cells.
_MOST_IMPOSSIBLE = 0.01


def check_values(
    field: cf.Field, like: Typical | None = None, *, empty_steps: bool = False
) -> Tally:
    """Read all values once, block by block.

    Args:
        like: what the values are to be used with.
        empty_steps: whether there may be time steps without any value.

    Returns:
        the range of the values, and their mean.

    Raises:
        InputError: infinite values, an undeclared fill value, values that the quantity cannot
            have or that are nothing like the typical ones, or time steps without any value.
    """
    where = field.where
    family = cf.family_of(field.quantity) or cf.family_of_array(cf.like_array(field))
    tally = Tally(family, field.quantity.units)
    steps = _steps_at_once(field)
    empty: list[Any] = []
    for start in range(0, len(field.time), steps):
        values = field.read(slice(start, start + steps))
        dates = field.time.centres[start : start + steps]
        _refuse_fill(where, values, dates)
        empty.extend(dates[np.isnan(values).all(axis=(1, 2))])
        tally.add(values)
    field.refuse_misread()
    if not empty_steps or len(empty) == len(field.time):
        _refuse_empty(where, empty, len(field.time))
    if tally.impossible:
        text = f"{where} has {tally.describe()}, its units are '{field.source_units}'"
        if tally.impossible > _MOST_IMPOSSIBLE * tally.count:
            raise InputError(f"{text}; correct them, for example with `ncatted -a units,...`")
        log.warning("%s", text)
    if like is not None:
        like.refuse_unlike(where, field, mean=tally.mean, high=tally.high)
    return tally


def check_sample(field: cf.Field, like: Typical) -> None:
    """Check a few steps, spread over the field, as `check_values` checks all.

    Raises:
        InputError: a fill value that is not declared, a valid range in other units, or values
            that are nothing like the typical ones.
    """
    tally = Tally(None, field.quantity.units)
    for step in cf.evenly(np.arange(len(field.time)), _SAMPLED_STEPS).tolist():
        tally.add(field.read(slice(step, step + 1)))
    field.refuse_misread()
    if tally.count:
        like.refuse_unlike(field.where, field, mean=tally.mean, high=tally.high)


class Tally:
    """Counts values that a quantity cannot have.

    Args:
        family: of the quantity; None has no limits.
        units: of the values.

    Attributes:
        low, high: the smallest and the largest value; infinite where there is none.
    """

    def __init__(self, family: cf.VariableFamily | None, units: str) -> None:
        self.family, self.units = family, units
        self.limits = (-np.inf, np.inf) if family is None else family.range_in(units)
        self.count = self.impossible = 0
        self.total, self.low, self.high = 0.0, np.inf, -np.inf

    @property
    def mean(self) -> float:
        """Of all values; NaN where there is none."""
        return self.total / self.count if self.count else float("nan")

    def add(self, values: Float32) -> None:
        """Count the values of a block; missing ones do not count."""
        valid = values[np.isfinite(values)]
        if valid.size:
            self.count += valid.size
            self.total += float(valid.sum(dtype=np.float64))
            self.impossible += int(((valid < self.limits[0]) | (valid > self.limits[1])).sum())
            self.low = min(self.low, float(valid.min()))
            self.high = max(self.high, float(valid.max()))

    def describe(self) -> str:
        """The share of impossible values and the range of all, for a message."""
        name = "" if self.family is None else self.family.quantity.name
        return (
            f"{self.impossible / self.count:.2%} of its values outside {self.limits[0]:.4g} to "
            f"{self.limits[1]:.4g} {self.units}, unbelievable for {name}: they run from "
            f"{self.low:.4g} to {self.high:.4g}"
        )


def _refuse_empty(where: str, empty: Sequence[Any], steps: int) -> None:
    """Refuse a variable without any value, at all steps or at the dates in `empty`."""
    if len(empty) == steps:
        raise InputError(
            f"{where} is missing everywhere in the region and period; choose others, or check its "
            "_FillValue"
        )
    if empty:
        raise InputError(
            f"{where} has no value at all in the region at {len(empty)} of {steps} "
            f"steps, first at {empty[0].isoformat()}; leave these out with --time"
        )


def check_reading(fields: Iterable[cf.Field]) -> None:
    """Say what files may mean otherwise than they are read.

    Raises:
        InputError: amounts that are running sums of the day.
    """
    for field in fields:
        for doubt in field.doubts:
            log.warning("%s: %s", field.where, doubt)
        if (sums := running_sums(field)) is not None:
            raise InputError(f"{field.where} {sums}")


def running_sums(field: cf.Field, steps: int = _WATCHED_STEPS) -> str | None:
    """Why amounts are taken for sums since midnight, as ERA5-Land's, or since an earlier start.

    Whether they are since midnight, no attribute says: GRIB_stepType is accum for those of ERA5
    too, which are over an hour.

    Args:
        steps: how many are looked at, from the first one.

    Returns:
        a line to follow the variable's name; None for amounts of each step.

    Raises:
        InputError: the file is damaged.
    """
    if field.step_days is None or not field.time.step_days <= 1.01:
        return None
    amounts = field.first_steps(steps, _WATCHED_VALUES)
    # Evaporation and the like may be counted downwards.
    amounts = amounts if np.nansum(amounts) >= 0 else -amounts
    dates = field.time.dates[: len(amounts)]
    how, remedy = _growing(amounts), "take differences from step to step first"
    if how is None and (last := _last_hour(amounts, dates)) is not None:
        how = f"grow through the day and begin anew after {last:02d} UTC"
        remedy += f", or the sums of each day: `cdo shifttime,-12hour -selhour,{last} IN OUT`"
    if how is None:
        return None
    return f"holds sums that {how}; expected amounts of each step: {remedy}"


def warn_of_disorder(fields: Mapping[str, cf.Field]) -> None:
    """Count what an input has out of the order of a day's temperatures: it is used as it is.

    Variables on grids of their own are not compared.

    Args:
        fields: by variable, with the same steps.
    """
    order = cf.daily_order(fields)
    if order is None or len({fields[name].grid.digest for name in order.names}) > 1:
        return
    first = fields[order.names[0]]
    steps, changed = _steps_at_once(first), 0
    for start in range(0, len(first.time), steps):
        part = slice(start, start + steps)
        changed += order.restore({name: fields[name].read(part) for name in order.names})[1]
    if changed:
        paths = [path for name in order.names for path in fields[name].paths]
        log.warning(
            "%s: %d values of %s are out of order, of which none is ever above the next; they are "
            "used as they are: adjust these variables together, with `climdown ot` or --bias",
            cf.describe_paths(list(dict.fromkeys(paths))),
            changed,
            order.listed,
        )


def _steps_at_once(field: cf.Field) -> int:
    return max(1, _CHECK_BYTES // (8 * math.prod(field.grid.shape)))


def _growing(amounts: Floats) -> str | None:
    """Says so where amounts of shape (steps, cells) never fall, and grow wherever there are any."""
    least = 1e-3 * np.nanmax(amounts, initial=0.0)
    changes = np.diff(amounts, axis=0)
    if len(amounts) < _FEWEST_STEPS or (changes < -least).any():
        return None
    wet = amounts[-1] > least
    grown = np.count_nonzero(amounts[-1][wet] > amounts[0][wet] + least)
    return "grow from step to step" if grown > 0.5 * max(wet.sum(), 1) else None


def _last_hour(amounts: Floats, dates: Dates) -> int | None:
    """The hour after which amounts begin anew; None if they do so at other hours too.

    They fall there wherever there are any, and nowhere else.

    Args:
        amounts: shape (steps, cells).
        dates: of the steps.
    """
    least = 1e-3 * np.nanmax(amounts, initial=0.0)
    if len(amounts) < 2 or len({date.hour for date in dates}) < 2:
        return None
    full = amounts[:-1] > least
    falls = full & (np.diff(amounts, axis=0) < -least)
    hours = np.array([date.hour for date in dates[:-1]])
    resets = np.unique(hours[falls.any(axis=1)])
    if resets.size != 1:
        return None
    at = hours == resets[0]
    days = int(falls[at].any(axis=1).sum())
    if days < 2 or falls[at].sum() <= 0.9 * full[at].sum():
        return None
    return int(resets[0])


def _refuse_fill(where: str, values: Float32, dates: Dates) -> None:
    broken = np.abs(values) > FILL
    if broken.any():
        kind = "infinite" if np.isinf(values[broken]).all() else f"{values[broken][0]:.3g}"
        date = dates[broken.any(axis=(1, 2))][0].isoformat()
        raise InputError(
            f"{where} has {kind} values, first at {date}; set them to missing, or declare them "
            "as its _FillValue"
        )
