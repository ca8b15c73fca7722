"""Time axes, kept as they were written, in every CF calendar."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

import cf_xarray  # noqa: F401  (registers the .cf accessor)
import cftime
import numpy as np

from climdown.arrays import AnyArray, Dates, Float32, Float64, Index, Int64, Mask
from climdown.cf import dating
from climdown.errors import ConfigError, InputError


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """A time axis as written: nothing is re-encoded between input and output.

    Stamps are for output; where a step lies in the calendar is asked of `centres`.

    Attributes:
        dates: calendar-aware stamps, shape (n,).
        values: encoded values, shape (n,), in `units` of `calendar`.
        bounds: bounds, shape (n, 2), encoded as `values` are, or None.
        name, bounds_name: of the variables in the file.
        climatological: whether bounds span the years of a climatology.
    """

    dates: Dates
    values: AnyArray
    units: str
    calendar: str
    bounds: AnyArray | None
    name: str = "time"
    bounds_name: str = "time_bnds"
    climatological: bool = False
    _centres: Dates | None = None

    def __len__(self) -> int:
        return len(self.dates)

    def isel(self, part: slice | Index) -> TimeAxis:
        """The axis of a block of time steps, or of some of them."""
        bounds = None if self.bounds is None else self.bounds[part]
        return replace(
            self,
            dates=self.dates[part],
            values=self.values[part],
            bounds=bounds,
            _centres=self.centres[part],
        )

    @cached_property
    def centres(self) -> Dates:
        """The middle of each step's bounds, to the minute; its stamp where it has none; (n,).

        Whole families of models stamp the end of a month or day, which is the next one's start.
        """
        if self._centres is not None:
            return self._centres
        return dating.middles(self.dates, self._ends, self.units, self.calendar)

    @property
    def bounded(self) -> bool:
        """Whether bounds say how long each step lasts; those of instants do not."""
        meant = self.bounds is not None and not self.climatological
        return meant and bool((self._ends[:, 1] != self._ends[:, 0]).any())

    def later(self, days: float) -> TimeAxis:
        """The axis of forecasts that start at the stamps and are for so many days later."""
        dates = dating.to_the_minute(dating.to_the_minute(self.dates) + timedelta(days=days))
        values = dating.encoded(dates, self.units, self.calendar, self.values.dtype)
        return replace(self, dates=dates, values=values, bounds=None, _centres=None)

    def ending(self, days: float) -> TimeAxis:
        """The axis of sums over so many days up to the stamps: they belong to the middle."""
        dates = dating.to_the_minute(self.dates) - timedelta(days=0.5 * days)
        return replace(self, _centres=dating.to_the_minute(dates))

    @property
    def keyed(self) -> Dates:
        """What random numbers of steps are keyed by: stamps, or centres of steps without theirs."""
        outside = self._stamps_at_ends
        return np.where(outside, self.centres, self.dates)

    @property
    def doubt(self) -> str | None:
        """What is wrong with the bounds, for people; None if nothing."""
        if self.bounds is None or self.climatological:
            return None
        amiss = np.flatnonzero(~np.isfinite(self._ends).all(axis=1))
        if not amiss.size:
            return None
        first = int(amiss[0])
        stated = f"{self.bounds[first].tolist()} {self.units}"
        return (
            f"the bounds of time are not those of their steps at {amiss.size} of {len(self)}, "
            f"first at {self.dates[first].isoformat()} ({stated}); "
            "expected bounds that hold their stamp"
        )

    def month_doubt(self, cell_methods: str) -> str | None:
        """Why the months of monthly means may be other ones, for people; None if they may not."""
        if self.bounded or not 27.5 <= self.step_days <= 31.5:
            return None
        return dating.month_doubt(self.centres, cell_methods)

    def day_doubt(self, cell_methods: str) -> str | None:
        """Why the days of daily means may be other ones, for people; None if they may not."""
        if self.bounded or not 0.99 <= self.step_days <= 1.01:
            return None
        return dating.day_doubt(self.centres, cell_methods)

    @cached_property
    def _ends(self) -> Float64:
        """Start and end of each step, shape (n, 2); NaN where bounds do not tell."""
        bounds = None if self.climatological else self.bounds
        if bounds is None:
            return dating.step_ends(self.values, None, 1.0)
        unit = dating.unit_days(self.units, self.calendar)
        return dating.step_ends(self.values, bounds, unit)

    @property
    def _stamps_at_ends(self) -> Mask:
        start, end = self._ends.T
        values = np.asarray(self.values, np.float64)
        return np.asarray((end > start) & (values >= end))

    def select(self, period: str | None) -> slice:
        """The steps of a period "START/END", both included, each a year, month or day.

        Raises:
            ConfigError: the period cannot be parsed.
            InputError: no step lies in it.
        """
        if period is None:
            return slice(0, len(self))
        start, end = _parse_period(period)
        days = dating.date_keys(self.centres, 3)
        inside = [i for i, day in enumerate(days) if day[: len(start)] >= start]
        inside = [i for i in inside if days[i][: len(end)] <= end]
        if not inside:
            raise InputError(f"no time step lies in {period}; the input has {self.describe()}")
        return slice(inside[0], inside[-1] + 1)

    @property
    def months(self) -> tuple[int, ...]:
        """The months that occur, ascending."""
        return tuple(sorted({int(date.month) for date in self.centres}))

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
    def lengths(self) -> Float64:
        """Days that each step lasts: by the bounds, else by the calendar; shape (n,).

        Raises:
            InputError: there are no bounds, and steps are neither months nor at most a day; or
                bounds that cannot be meant.
        """
        if self.bounds is not None and not self.climatological:
            if self.doubt is not None:
                raise InputError(self.doubt)
            ends = cftime.num2date(self._ends, self.units, self.calendar)
            days = [(end - start).total_seconds() / 86400.0 for start, end in ends]
        elif 27.5 <= self.step_days <= 31.5:
            days = [float(date.daysinmonth) for date in self.centres]
        elif self.step_days <= 1.01:
            days = [self.step_days] * len(self)
        else:
            raise InputError(
                f"how long a step of {self.describe()} lasts is not known; add bounds of time"
            )
        if not min(days) > 0:
            raise InputError(f"bounds of time do not ascend ({self.describe()})")
        return np.array(days)

    @property
    def shared_calendar(self) -> str:
        """The calendar; after 1582 the standard and the proleptic Gregorian one are the same."""
        return dating.shared_calendar(self.dates)

    def encoded_as(self, units: str, calendar: str) -> TimeAxis:
        """The same axis in other units and another calendar that has its dates.

        Raises:
            InputError: the calendar lacks one of the dates.
        """
        if (self.units, self.calendar) == (units, calendar):
            return self
        dates, bounds = dating.in_calendar(self.dates, calendar), self.bounds
        if bounds is not None:
            own = self.units, self.calendar
            bounds = dating.bounds_in_units(bounds, *own, (units, calendar))
        return replace(
            self,
            dates=dates,
            values=dating.encoded(dates, units, calendar, self.values.dtype),
            units=units,
            calendar=calendar,
            bounds=bounds,
            _centres=dating.in_calendar(self.centres, calendar),
        )

    def describe(self) -> str:
        """One line for people."""
        first, last = (self.centres[i].strftime("%Y-%m-%d") for i in (0, -1))
        return f"{len(self)} steps from {first} to {last} ({self.calendar})"


def calendar_conditions(dates: Sequence[Any] | Dates, step_days: float) -> Float32:
    """(month, day, hour) of each date, shape (n, 3).

    Daily and longer means belong to no hour; 12 stands for them all, whatever the stamp says.
    """
    daily = not step_days < 0.99
    return np.array(
        [(d.month, d.day, 12.0 if daily else d.hour + d.minute / 60.0) for d in dates],
        dtype=np.float32,
    )


def step_numbers(dates: Sequence[Any] | Dates, step_days: float) -> Int64:
    """A number for each date that grows by one from each step to the next, whatever is missing.

    Months are counted as months, all else in steps of `step_days` from the year 1 of the dates'
    own calendar: a date has the same number in every file of that calendar and step.
    """
    if 27.5 <= step_days <= 31.5:
        rounded = dating.to_the_minute(np.array(dates, dtype=object))
        return np.array([12 * date.year + date.month for date in rounded], dtype=np.int64)
    days = cftime.date2num(list(dates), "days since 0001-01-01", str(dates[0].calendar))
    # A stamp may lie a rounding error before midnight.
    steps = np.floor((np.asarray(days, dtype=np.float64) + 0.5 / 1440.0) / step_days)
    return np.asarray(steps, dtype=np.int64)


def evenly(index: Index, most: int | None) -> Index:
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
    axes = [axis.encoded_as(first.units, first.calendar) for axis in axes]
    dates = np.concatenate([axis.dates for axis in axes])
    check_ascending(replace(first, dates=dates))
    if len(axes) == 1:
        return first
    bounds = [axis.bounds for axis in axes if axis.bounds is not None]
    return replace(
        first,
        dates=dates,
        values=_joined_values(axes, dates),
        bounds=np.concatenate(bounds) if len(bounds) == len(axes) else None,
        _centres=np.concatenate([axis.centres for axis in axes]),
    )


def _joined_values(axes: Sequence[TimeAxis], dates: Dates) -> AnyArray:
    """Values of consecutive axes in the same units: bit for bit where they are of one type."""
    first = axes[0]
    if len({axis.values.dtype for axis in axes}) == 1:
        return np.concatenate([axis.values for axis in axes])
    return dating.encoded(dates, first.units, first.calendar, first.values.dtype)


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
