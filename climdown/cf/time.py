"""Time axes, kept as they were written, in every CF calendar."""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cf_xarray  # noqa: F401  (registers the .cf accessor)
import cftime
import numpy as np
import numpy.typing as npt
import xarray as xr

from climdown.arrays import Index
from climdown.cf.opening import stored_values
from climdown.errors import ConfigError, InputError


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """A time axis as written: nothing is re-encoded between input and output.

    Attributes:
        dates: calendar-aware dates, shape (n,).
        values: encoded values, shape (n,), in `units` of `calendar`.
        bounds: encoded bounds, shape (n, 2), or None.
        name, bounds_name: of the variables in the file.
    """

    dates: npt.NDArray[np.object_]
    values: npt.NDArray[Any]
    units: str
    calendar: str
    bounds: npt.NDArray[Any] | None
    name: str = "time"
    bounds_name: str = "time_bnds"

    def __len__(self) -> int:
        return len(self.dates)

    def isel(self, part: slice | Index) -> TimeAxis:
        """The axis of a block of time steps, or of some of them."""
        bounds = None if self.bounds is None else self.bounds[part]
        return replace(self, dates=self.dates[part], values=self.values[part], bounds=bounds)

    def select(self, period: str | None) -> slice:
        """The steps of a period "START/END", both included, each a year, month or day.

        Raises:
            ConfigError: the period cannot be parsed.
            InputError: no step lies in it.
        """
        if period is None:
            return slice(0, len(self))
        start, end = _parse_period(period)
        days = [(d.year, d.month, d.day) for d in self.dates]
        inside = [i for i, day in enumerate(days) if day[: len(start)] >= start]
        inside = [i for i in inside if days[i][: len(end)] <= end]
        if not inside:
            raise InputError(f"no time step lies in {period}; the input has {self.describe()}")
        return slice(inside[0], inside[-1] + 1)

    @property
    def months(self) -> tuple[int, ...]:
        """The months that occur, ascending."""
        return tuple(sorted({int(date.month) for date in self.dates}))

    @property
    def step_days(self) -> float:
        """Median time step in days; NaN for a single step. Gaps between seasons do not count."""
        if len(self) < 2:
            return float("nan")
        steps = [
            (b - a).total_seconds() for a, b in zip(self.dates[:-1], self.dates[1:], strict=True)
        ]
        return float(np.median(steps)) / 86400.0

    @property
    def gaps(self) -> int:
        """Number of places where the axis jumps by more than one and a half median steps."""
        if len(self) < 3:
            return 0
        hours = np.array(
            [(b - a).total_seconds() for a, b in zip(self.dates[:-1], self.dates[1:], strict=True)]
        )
        # Calendar months differ by up to three days; that is no gap.
        return int((hours > 1.5 * np.median(hours)).sum())

    @property
    def start(self) -> tuple[int, ...]:
        """The first date, in a form that compares across calendars."""
        return _sort_key(self.dates[0])

    @property
    def lengths(self) -> npt.NDArray[np.float64]:
        """Days that each step lasts: by the bounds, else by the calendar; shape (n,).

        Raises:
            InputError: there are no bounds, and steps are neither months nor at most a day.
        """
        if self.bounds is not None:
            ends = cftime.num2date(self.bounds, self.units, self.calendar)
            days = [(end - start).total_seconds() / 86400.0 for start, end in ends]
        elif 27.5 <= self.step_days <= 31.5:
            days = [float(date.daysinmonth) for date in self.dates]
        elif self.step_days <= 1.01:
            days = [self.step_days] * len(self)
        else:
            raise InputError(f"how long a step of {self.describe()} lasts is not known")
        if not min(days) > 0:
            raise InputError(f"bounds of time do not ascend ({self.describe()})")
        return np.array(days)

    def rebased_bounds(self, units: str) -> npt.NDArray[Any]:
        """The bounds, encoded in other units of the same calendar."""
        if self.units == units or self.bounds is None:
            return np.asarray(self.bounds)
        dates = cftime.num2date(self.bounds, self.units, self.calendar)
        return np.asarray(cftime.date2num(dates, units, self.calendar), dtype=self.bounds.dtype)

    def describe(self) -> str:
        """One line for people."""
        first, last = self.dates[0].strftime("%Y-%m-%d"), self.dates[-1].strftime("%Y-%m-%d")
        return f"{len(self)} steps from {first} to {last} ({self.calendar})"


def calendar_conditions(
    dates: Sequence[Any] | npt.NDArray[np.object_], step_days: float
) -> npt.NDArray[np.float32]:
    """(month, day, hour) of each date, shape (n, 3).

    Daily and longer means belong to no hour; 12 stands for them all, whatever the stamp says.
    """
    daily = not step_days < 0.99
    return np.array(
        [(d.month, d.day, 12.0 if daily else d.hour + d.minute / 60.0) for d in dates],
        dtype=np.float32,
    )


def step_numbers(
    dates: Sequence[Any] | npt.NDArray[np.object_], step_days: float
) -> npt.NDArray[np.int64]:
    """A number for each date that grows by one from each step to the next, whatever is missing.

    Months are counted as months, all else in steps of `step_days` from the year 1 of the dates'
    own calendar: a date has the same number in every file of that calendar and step.
    """
    if 27.5 <= step_days <= 31.5:
        return np.array([12 * date.year + date.month for date in dates], dtype=np.int64)
    days = cftime.date2num(list(dates), "days since 0001-01-01", str(dates[0].calendar))
    # A stamp may lie a rounding error before midnight.
    steps = np.floor((np.asarray(days, dtype=np.float64) + 0.5 / 1440.0) / step_days)
    return np.asarray(steps, dtype=np.int64)


def evenly(index: npt.NDArray[np.intp], most: int | None) -> npt.NDArray[np.intp]:
    """At most so many of some steps, or of other places in an array, evenly spread."""
    count = min(most or len(index), len(index))
    return index[np.linspace(0, len(index) - 1, count).round().astype(np.intp)]


def time_axis(dates: Sequence[Any], *, units: str, bounded: bool = False) -> TimeAxis:
    """A time axis of equally long steps that begin at `dates` (calendar-aware), for new files.

    With `bounded`, stamps lie in the middle of steps as long as the first one, with bounds.
    """
    calendar = str(dates[0].calendar)
    starts = np.asarray(cftime.date2num(list(dates), units, calendar), dtype=np.float64)
    if not bounded:
        return TimeAxis(np.array(dates, dtype=object), starts, units, calendar, None)
    width = starts[1] - starts[0] if len(starts) > 1 else 1.0
    values = starts + 0.5 * width
    bounds = np.stack([starts, starts + width], axis=1)
    return TimeAxis(cftime.num2date(values, units, calendar), values, units, calendar, bounds)


def read_time_axis(array: xr.DataArray, dataset: xr.Dataset) -> TimeAxis:
    """The time axis of a variable, its numbers as they are stored in the dataset's file.

    Raises:
        InputError: there is none, or it is empty or has no units.
    """
    names = _time_names(array)
    if not names:
        dimensions = ", ".join(map(str, array.dims)) or "none"
        raise InputError(
            f"variable '{array.name}' has no time axis, only dimensions {dimensions}; expected a "
            "dimension with dates"
        )
    axis = dataset[names[0]]
    if axis.size == 0 or not isinstance(axis.values[0], cftime.datetime):
        raise InputError(
            f"variable '{array.name}' has a time axis that is empty or has no units; expected "
            "units like 'days since 1850-01-01'"
        )
    units, calendar = str(axis.encoding["units"]), str(axis.encoding.get("calendar", "standard"))
    bounds_name = str(axis.attrs.get("bounds", ""))
    bounds = None
    if bounds_name in dataset.variables:
        bounds = stored_values(dataset, bounds_name)
    return TimeAxis(
        dates=axis.values,
        # Dates and back again would lose the last bits of thirds of a day.
        values=stored_values(dataset, names[0]),
        units=units,
        calendar=calendar,
        bounds=bounds,
        name=names[0],
        bounds_name=bounds_name or "time_bnds",
    )


def has_time(array: xr.DataArray) -> bool:
    """Whether a variable runs along time."""
    return bool(_time_names(array))


def _time_names(array: xr.DataArray) -> list[str]:
    """Coordinates that may be the time axis, those that name their dimension first."""
    declared = array.cf.coordinates.get("time", [])
    axes = [str(name) for name in declared if name in array.dims]
    # ECMWF's files name neither standard_name nor axis: units of time are enough for CF.
    dated = [str(name) for name in array.coords if _dates(array, name)]
    return axes or sorted(dated, key=lambda name: name not in array.dims)


def check_ascending(axis: TimeAxis) -> None:
    """Check that every date comes after the one before it.

    Raises:
        InputError: one does not.
    """
    for before, after in itertools.pairwise(axis.dates):
        if _sort_key(after) <= _sort_key(before):
            raise InputError(
                f"times do not ascend: {after} follows {before}; do two files overlap?"
            )


def join_time_axes(axes: Sequence[TimeAxis]) -> TimeAxis:
    """One axis from consecutive ones, in the units of the first.

    Raises:
        InputError: a date does not come after the one before it.
    """
    first = axes[0]
    dates = np.concatenate([axis.dates for axis in axes])
    check_ascending(replace(first, dates=dates))
    if len(axes) == 1:
        return first
    known = [axis.rebased_bounds(first.units) for axis in axes if axis.bounds is not None]
    return replace(
        first,
        dates=dates,
        values=_encode(dates, first.units, first.calendar, first.values.dtype),
        bounds=np.concatenate(known) if len(known) == len(axes) else None,
    )


def _dates(array: xr.DataArray, name: Hashable) -> bool:
    coordinate = array.coords[name]
    if coordinate.ndim != 1 or coordinate.size == 0 or coordinate.dtype != object:
        return False
    if coordinate.attrs.get("standard_name") == "forecast_reference_time":
        return False
    return isinstance(coordinate.values[0], cftime.datetime)


def _encode(
    dates: npt.NDArray[Any], units: str, calendar: str, dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    if dates.dtype != object:
        return np.asarray(dates, dtype=dtype)
    values = np.asarray(cftime.date2num(dates, units, calendar))
    stored = values.astype(dtype)
    # Days of one file may be whole and those of the next begin at noon.
    if np.issubdtype(dtype, np.integer) and (stored != values).any():
        return values
    return stored


def _sort_key(date: Any) -> tuple[int, ...]:
    return (date.year, date.month, date.day, date.hour, date.minute, date.second)


def _parse_period(period: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    match = re.fullmatch(r"(\d{4}(?:-\d{2}){0,2})/(\d{4}(?:-\d{2}){0,2})", period.strip())
    if match is None:
        raise ConfigError(
            f"cannot read the period '{period}'; expected START/END, for example "
            "1990-12-01/1991-02-28 or 1990/1999"
        )
    start, end = (tuple(int(part) for part in text.split("-")) for text in match.groups())
    return start, end
