"""Decoding, variable by variable: what cannot be decoded stays as it is stored, with the reason."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import cftime
import numpy as np
import xarray as xr

from climdown.arrays import Float64
from climdown.cf.missing import with_typed_missing_values
from climdown.cf.valid_range import masked_outside_valid_range

# Where a dataset keeps the reasons why times are left undecoded, by name of the variable.
_UNDECODED = "undecoded"
_UNITS = "expected days, hours, minutes or seconds since a date, in a calendar of CF"
# "day as %Y%m%d.%f", "month as %Y%m.%f", "year as %Y.%f": CDO's absolute time.
_ABSOLUTE = re.compile(r"(day|month|year)s?\s+as\s+%Y(?:%m)?(?:%d)?(?:\.%f)?")
# An hour's means over 570 years; more are a damaged header, and take minutes to decode.
_MOST_STEPS = 5_000_000
# No date of any calendar is so many seconds away.
_FAR = 1e15


def decoded(stored: xr.Dataset) -> xr.Dataset:
    """The dataset decoded by CF, lazily, with calendar-aware dates for every calendar.

    Times that cannot be decoded stay as they are stored; `why_undecoded` has the reasons.
    """
    typed = with_typed_missing_values(stored)
    problems = dict(_time_problems(typed))
    coder = xr.coders.CFDatetimeCoder(use_cftime=True)
    decoders = {str(name): False if name in problems else coder for name in typed.variables}
    dataset = xr.decode_cf(typed, decode_times=decoders, decode_timedelta=False)
    dataset.encoding[_UNDECODED] = problems
    return masked_outside_valid_range(dataset, stored)


def why_undecoded(dataset: xr.Dataset, name: str) -> str | None:
    """Why a variable's times are not decoded; None where they are, or where it has none."""
    reasons: Mapping[str, str] = dataset.encoding.get(_UNDECODED, {})
    return reasons.get(name)


def is_undecoded_time(array: xr.DataArray) -> bool:
    """Whether a variable holds times that could not be decoded."""
    return array.dtype.kind in "iuf" and _in_time_units(array.attrs)


def with_relative_time(stored: xr.Dataset) -> xr.Dataset:
    """The undecoded dataset with CDO's absolute times ("day as %Y%m%d.%f") in days since a date.

    Months and years without a fraction begin on their first day, as in CDO.
    """
    relative: dict[str, xr.Variable] = {}
    for name, variable in stored.variables.items():
        if _is_absolute(variable.attrs):
            pair = {str(name), str(variable.attrs.get("bounds", ""))}
            # What is no date stays, and is named where dates are needed.
            with suppress(ValueError, OverflowError):
                members = pair & {str(n) for n in stored.variables}
                relative |= {member: _relative(stored, member, str(name)) for member in members}
    return stored.assign(relative)


def _is_absolute(attributes: Mapping[Any, Any]) -> bool:
    return _ABSOLUTE.fullmatch(str(attributes.get("units", "")).strip()) is not None


def _in_time_units(attributes: Mapping[Any, Any]) -> bool:
    return "since" in str(attributes.get("units", "")) or _is_absolute(attributes)


def _relative(stored: xr.Dataset, name: str, axis: str) -> xr.Variable:
    """The values of an absolute axis, or of its bounds, in days since the first of its years."""
    variable, attributes = stored.variables[name], stored.variables[axis].attrs
    calendar = str(attributes.get("calendar", "proleptic_gregorian")).lower()
    step = str(attributes["units"]).split()[0].rstrip("s").lower()
    start = _absolute_date(float(stored.variables[axis].values.flat[0]), step, calendar)
    units = f"days since {start.year:04d}-01-01 00:00:00"
    values = np.asarray(variable.values, dtype=np.float64)
    days = [_absolute_days(float(value), step, units, calendar) for value in values.flat]
    own = {**variable.attrs, "units": units, "calendar": calendar}
    for declared in ("_FillValue", "missing_value"):
        own.pop(declared, None)
    return xr.Variable(variable.dims, np.reshape(days, values.shape), own, variable.encoding)


def _absolute_days(value: float, step: str, units: str, calendar: str) -> float:
    """Days of an absolute time, whole seconds where it is within a rounding of one."""
    if not abs(value) < _FAR:
        return value
    days = float(cftime.date2num(_absolute_date(value, step, calendar), units, calendar))
    fraction = abs(value) - int(abs(value))
    if fraction and step != "day":
        ahead = _absolute_date(int(value) + 1, step, calendar)
        fraction *= float(cftime.date2num(ahead, units, calendar)) - days
    seconds = 86400.0 * fraction
    nearest = round(seconds)
    return days + (nearest if abs(seconds - nearest) < 1e-3 else seconds) / 86400.0


def _absolute_date(value: float, step: str, calendar: str) -> Any:
    """The day, or the first day of the month or year, that an absolute time lies in."""
    number = int(abs(value))
    year, month, day = number, 1, 1
    if step == "day":
        year, month, day = number // 10000, number // 100 % 100, number % 100
    elif step == "month":
        year, month = divmod(number, 100)
        # The month after December, asked for its beginning.
        year, month = (year + 1, 1) if month == 13 else (year, month)
    return cftime.datetime(year, month, day, calendar=calendar)


def _time_problems(typed: xr.Dataset) -> Iterator[tuple[str, str]]:
    """Names of variables whose times cannot be decoded, and why."""
    for name, variable in _times(typed):
        if variable.ndim < 2 and variable.size > _MOST_STEPS:
            yield (
                name,
                f"the time axis cannot be decoded ('{name}' has {variable.size} steps); expected "
                f"at most {_MOST_STEPS}: split the file",
            )
            continue
        try:
            _decode_times(name, variable)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            yield name, _reason(name, variable, error)


def _times(typed: xr.Dataset) -> Iterator[tuple[str, xr.Variable]]:
    """Variables in units of time since a date, and their bounds, in the same where these say none.

    Bounds with attributes of their own stand for themselves.
    """
    for name, variable in typed.variables.items():
        if not _in_time_units(variable.attrs):
            continue
        yield str(name), variable
        bounds = variable.attrs.get("bounds")
        if bounds in typed.variables and "units" not in typed.variables[bounds].attrs:
            shared = {k: variable.attrs[k] for k in ("units", "calendar") if k in variable.attrs}
            own = typed.variables[bounds]
            yield str(bounds), xr.Variable(own.dims, own._data, {**own.attrs, **shared})


def _decode_times(name: Hashable, variable: xr.Variable) -> None:
    """Decode an axis or its bounds; of fields only the first and last value are looked at.

    Raises:
        ValueError and others: they cannot be decoded, or a step holds no time.
    """
    coder = xr.coders.CFDatetimeCoder(use_cftime=True)
    times = xr.conventions.decode_cf_variable(
        name, variable, decode_times=coder, decode_timedelta=False
    )
    if _is_axis(variable):
        np.asarray(times.values)
        if _is_absolute(variable.attrs):
            raise ValueError(f"'{variable.attrs['units']}' with {variable.values.flat[0]:.10g}")
        if _first_fill(variable) is not None:
            raise ValueError("a step without a time")


def _is_axis(variable: xr.Variable) -> bool:
    """Whether it is an axis or its bounds, no field of times."""
    return variable.ndim < 2 or variable.shape[1:] == (2,)


def _reason(name: str, variable: xr.Variable, error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[0].split(". Try opening")[0]
    step = _first_fill(variable) if _is_axis(variable) else None
    if step is None:
        return f"the time axis cannot be decoded ('{name}': {line}); {_UNITS}"
    values = np.atleast_1d(variable.values)
    listed = ", ".join(f"{number:.6g}" for number in np.ravel(values[step]))
    return (
        f"the time axis cannot be decoded ('{name}': step {step + 1} of {len(values)} has "
        f"{listed}, a fill value); expected a date at each step: correct it, or leave that step out"
    )


def _first_fill(variable: xr.Variable) -> int | None:
    """The first step, from 0, that holds a fill value."""
    numbers: Float64 = np.atleast_1d(np.asarray(variable.values, dtype=np.float64))
    missing = np.asarray(variable.attrs.get("missing_value", np.nan), dtype=np.float64)
    if numbers.size == 0:
        return None
    filled = ~(np.abs(numbers) < _FAR) | np.isin(numbers, np.ravel(missing))
    steps = np.flatnonzero(filled.reshape(len(numbers), -1).any(axis=1))
    return int(steps[0]) if steps.size else None
