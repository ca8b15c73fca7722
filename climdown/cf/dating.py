"""Where in the calendar steps lie: by the middle of their bounds, else by their stamps."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import cftime
import numpy as np

from climdown.arrays import AnyArray, Dates, Float64
from climdown.errors import InputError

# Arithmetic leaves stamps and bounds a rounding error off; no step is as short as a minute.
_MINUTE = 1.0 / 1440.0
# Bounds longer than this around steps closer than half of them are those of a climatology.
_CLIMATOLOGY = 1.5 * 365.0
_GREGORIAN = {"standard", "gregorian", "proleptic_gregorian"}
_REFORM = (1582, 10, 15)


def to_the_minute(dates: Dates) -> Dates:
    """Dates without the rounding errors of their arithmetic: 23:59:59.991 is midnight."""
    return np.array([_to_the_minute(date) for date in dates], dtype=object)


def _to_the_minute(date: Any) -> Any:
    if date.second == 0 and date.microsecond == 0:
        return date
    return (date + timedelta(seconds=30)).replace(second=0, microsecond=0)


def step_ends(values: AnyArray, bounds: AnyArray | None, unit_days: float) -> Float64:
    """Start and end of each step, ascending; NaN where its bounds cannot be meant.

    These are bounds that do not hold their stamp, and those of a climatology over years, whose
    middle says nothing of the month. Bounds of no length are those of an instant.

    Args:
        values: stamps, shape (n,).
        bounds: shape (n, 2), or None, in the units of the stamps.
        unit_days: days in one of these units.

    Returns:
        shape (n, 2), in the same units.
    """
    stamps = np.asarray(values, dtype=np.float64)
    if bounds is None or bounds.shape != (*stamps.shape, 2):
        return np.full((*stamps.shape, 2), np.nan)
    ends = np.sort(np.asarray(bounds, dtype=np.float64), axis=1)
    margin = _MINUTE / unit_days
    meant = (ends[:, 0] - margin <= stamps) & (stamps <= ends[:, 1] + margin)
    if len(stamps) > 1:
        width, step = np.diff(ends, axis=1)[:, 0], np.median(np.diff(stamps))
        meant &= ~((width * unit_days > _CLIMATOLOGY) & (width > 2.0 * step))
    return np.where(meant[:, None], ends, np.nan)


def unit_days(units: str, calendar: str) -> float:
    """Days in one unit of time."""
    first, second = cftime.num2date([0, 1], units, calendar)
    return float((second - first).total_seconds()) / 86400.0


def middles(dates: Dates, ends: Float64, units: str, calendar: str) -> Dates:
    """The middle of each step to the minute; its stamp where start and end are NaN.

    Args:
        dates: stamps, shape (n,).
        ends: as `step_ends` gives them.
    """
    result = dates.copy()
    meant = np.isfinite(ends).all(axis=1)
    if meant.any():
        result[meant] = cftime.num2date(ends[meant].mean(axis=1), units, calendar)
    for candidate in (to_the_minute(result), to_the_minute(dates)):
        if (np.diff(candidate) > timedelta(0)).all():
            return candidate
    return dates


def month_doubt(stamps: Dates, cell_methods: str) -> str | None:
    """That months without bounds may end at their stamps, for people; None if they do not."""
    if "time: " not in cell_methods:
        return None
    if any((date.day, date.hour, date.minute) != (1, 0, 0) for date in stamps):
        return None
    return (
        "monthly steps are stamped at midnight of the first of a month and have no bounds of "
        "time: taken as the months that begin there; if they end there, add bounds"
    )


def day_doubt(stamps: Dates, cell_methods: str) -> str | None:
    """That days without bounds may end at their stamps, for people; None if they do not."""
    if "time: " not in cell_methods or "time: point" in cell_methods:
        return None
    if any(date.hour or date.minute for date in stamps):
        return None
    return (
        "daily steps are stamped at midnight and have no bounds of time: taken as the days that "
        "begin there; if they end there, add bounds"
    )


def exactness(step_days: float) -> int:
    """How many of (year, month, day, hour, minute) tell steps of this length apart."""
    return 2 if step_days > 27.0 else 3 if step_days > 0.99 else 5


def date_keys(dates: Iterable[Any], exact: int) -> list[tuple[int, ...]]:
    """Dates as exact as their step: a daily mean may be stamped at any hour."""
    return [(d.year, d.month, d.day, d.hour, d.minute)[:exact] for d in dates]


def shared_calendar(dates: Dates) -> str:
    """The calendar of dates; "standard" where the proleptic Gregorian one has the same dates."""
    first = dates[0]
    gregorian = first.calendar in _GREGORIAN and (first.year, first.month, first.day) >= _REFORM
    return "standard" if gregorian else str(first.calendar)


def in_calendar(dates: AnyArray, calendar: str) -> Dates:
    """The same days and times, as dates of another calendar.

    Raises:
        InputError: the calendar does not have one of these days.
    """
    flat = [_in_calendar(date, calendar) for date in dates.ravel()]
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    return result.reshape(dates.shape)


def _in_calendar(date: Any, calendar: str) -> Any:
    clock = (date.hour, date.minute, date.second, date.microsecond)
    try:
        return cftime.datetime(date.year, date.month, date.day, *clock, calendar=calendar)
    except ValueError:
        raise InputError(f"{date.isoformat()} is no date of the calendar {calendar}") from None


def encoded(dates: AnyArray, units: str, calendar: str, dtype: np.dtype[Any]) -> AnyArray:
    """Dates as numbers of a type, of double precision where that type would cut them."""
    values = np.asarray(cftime.date2num(dates, units, calendar))
    stored = values.astype(dtype)
    # Days of one file may be whole and those of the next begin at noon.
    if np.issubdtype(dtype, np.integer) and (stored != values).any():
        return values
    return stored


def bounds_in_units(
    bounds: AnyArray, units: str, calendar: str, wanted: tuple[str, str]
) -> AnyArray:
    """Bounds of time encoded in other units; bit for bit as they are where they already are.

    Args:
        units, calendar: of the bounds; units without an epoch count from that of `wanted`.
        wanted: units and calendar, as a rule those of the axis.

    Raises:
        InputError: the units cannot be read, or the calendar wanted lacks one of the dates.
    """
    if " since " not in units:
        units = f"{units} since {re.split(' since ', wanted[0])[-1]}"
    if _meaning(units, calendar) == _meaning(*wanted):
        return bounds
    dates = cftime.num2date(bounds, units, calendar)
    whole = np.issubdtype(bounds.dtype, np.integer)
    dtype = bounds.dtype if whole else np.dtype(np.float64)
    return encoded(in_calendar(np.asarray(dates), wanted[1]), *wanted, dtype)


def _meaning(units: str, calendar: str) -> tuple[str, ...]:
    """What tells two encodings of time apart: the dates of 0 and 1, and the calendar."""
    try:
        first, second = cftime.num2date([0, 1], units, calendar)
    except ValueError as error:
        raise InputError(
            f"bounds of time have units '{units}', which cannot be read ({error}); expected those "
            "of their axis, or none"
        ) from None
    return first.isoformat(), second.isoformat(), str(first.calendar)
