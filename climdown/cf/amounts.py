"""Amounts over time: how long each of them is gathered over, and where files do not say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import cftime
import numpy as np
import xarray as xr

from climdown.arrays import Float64
from climdown.cf.recognition import per_month
from climdown.cf.time import TimeAxis
from climdown.cf.units import convert_units, readable_units
from climdown.errors import InputError

# "total_precipitation_24hr": an amount over hours of its own, whatever the time step is.
_HOURS_IN_NAME = re.compile(r"_(\d+)_?(?:h|hrs?|hours?)(?![a-z0-9])", re.IGNORECASE)
_MOST_HOURS = 31 * 24  # more than a month in a name is a year or a number of another kind
_MONTH = 365.2425 / 12.0
# ECMWF's names of amounts; its monthly means of them are scaled to a day.
_ECMWF_NAMES = {
    *("total_precipitation", "tp", "cp", "lsp", "sf", "e", "ro", "sro", "ssro"),
    *("ssrd", "strd", "ssr", "str"),
}
_LEADS = {"step", "forecast_period", "leadtime", "lead_time"}
_ADVICE = "add bounds of time that span the hours of each amount, or give it as a rate"


@dataclass(frozen=True)
class Lead:
    """How far ahead of its start a forecast is.

    Attributes:
        days: from the start to the stamp that is meant.
        since: days from the entry before it in the file, or from the start; None if not known.
        along_time: whether the steps of the axis are different ones ahead; `days` is the largest.
    """

    days: float
    since: float | None
    along_time: bool = False


@dataclass(frozen=True, eq=False)
class Lengths:
    """Days by which the amounts of each step are divided, and what is uncertain about them."""

    days: Float64
    doubt: str | None = None


def lead_coordinates(array: xr.DataArray) -> Iterator[xr.DataArray]:
    """The coordinates of a variable that say how far ahead of its start a forecast is."""
    for name, coordinate in array.coords.items():
        named = coordinate.attrs.get("standard_name") == "forecast_period" or name in _LEADS
        if named and np.issubdtype(coordinate.dtype, np.number):
            yield coordinate


def forecast_lead(array: xr.DataArray, selected: xr.DataArray, step_days: float) -> Lead | None:
    """The forecast step of a variable of which one entry was selected; None if there is none.

    Args:
        step_days: of the time axis.
    """
    for coordinate in lead_coordinates(selected):
        if coordinate.ndim == 0:
            return _lead(array.coords[coordinate.name], coordinate)
        if coordinate.dims == ("time",):
            return _leads(coordinate, step_days)
    return None


def lead_by_valid_time(selected: xr.DataArray, axis: TimeAxis) -> Lead | None:
    """The forecast step of a variable by the times that it is for; None if these say none."""
    valid = selected.coords.get("valid_time")
    if valid is None or valid.dims != ("time",) or not isinstance(valid.values[0], cftime.datetime):
        return None
    pairs = zip(valid.values, axis.dates, strict=True)
    days = np.array([(one - other).total_seconds() / 86400.0 for one, other in pairs])
    if not days.min() > 0:
        return None
    return Lead(float(days.max()), None, along_time=bool(np.ptp(days) > 1e-6))


def _leads(steps: xr.DataArray, step_days: float) -> Lead | None:
    """Forecast steps along time: sums are of one length where each is one step ahead."""
    try:
        days = _in_days(steps)
    except ValueError:
        return None
    alike = bool(np.ptp(days) < 1e-6)
    return Lead(float(days.max()), step_days if alike else None, along_time=True)


def _lead(steps: xr.DataArray, chosen: xr.DataArray) -> Lead | None:
    try:
        days, all_days = (_in_days(coordinate) for coordinate in (chosen, steps))
    except ValueError:
        return None
    here, earlier = float(days[0]), np.sort(all_days[all_days < days[0] - 1e-6])
    if len(all_days) == 1:
        # No archive has steps of less than an hour.
        return Lead(here, here if here <= 1.01 / 24.0 else None)
    return Lead(here, here - float(earlier[-1]) if earlier.size else here)


def _in_days(coordinate: xr.DataArray) -> Float64:
    units = str(coordinate.attrs.get("units", ""))
    return convert_units(np.atleast_1d(coordinate.values).astype(np.float64), units, "days")


def amount_lengths(array: xr.DataArray, axis: TimeAxis, lead: Lead | None) -> Lengths:
    """How long each amount of a variable is gathered over.

    Args:
        array: with its attributes as the file has them.

    Raises:
        InputError: the file does not say, or says two things.
    """
    written = str(array.attrs["units"])
    if per_month(written) is not None:
        return Lengths(month_days(axis))
    kind, monthly = str(array.attrs.get("GRIB_stepType", "")), axis.step_days > 27.0
    if kind.startswith("avg"):
        return Lengths(_of_mean_amounts(axis, kind))
    hours = _hours_in_name(str(array.name), axis)
    if hours is not None:
        return Lengths(np.full(len(axis), hours / 24.0))
    if axis.bounded:
        return Lengths(axis.lengths)
    if kind == "instant":
        raise InputError(f"GRIB_stepType says instant, and an amount takes time; {_ADVICE}")
    if lead is not None:
        return Lengths(np.full(len(axis), _of_forecast(lead)))
    if monthly and _is_of_ecmwf(array):
        return Lengths(np.ones(len(axis)), _monthly_doubt(written))
    return Lengths(axis.lengths, _accumulation_doubt(kind, axis))


def month_days(axis: TimeAxis) -> Float64:
    """Days of the month that each step lies in; of the mean month of a longer step."""
    if not axis.bounded and not axis.step_days > 31.5:
        return np.array([float(date.daysinmonth) for date in axis.centres])
    lengths = axis.lengths
    in_month = np.array([float(date.daysinmonth) for date in axis.centres])
    months = np.maximum(1.0, np.round(lengths / _MONTH))
    return np.where(lengths < 27.5, in_month, lengths / months)


def _of_mean_amounts(axis: TimeAxis, kind: str) -> Float64:
    """ECMWF's means of amounts are amounts of a day."""
    if axis.step_days < 0.99:
        raise InputError(
            f"GRIB_stepType {kind} says means of amounts, of a day or of the step of "
            f"{24 * axis.step_days:.3g} hours; give it as a rate"
        )
    return np.ones(len(axis))


def _hours_in_name(name: str, axis: TimeAxis) -> float | None:
    """The hours that a variable's name says, where these can be a length."""
    match = _HOURS_IN_NAME.search(name)
    if match is None or not 0 < float(match[1]) <= _MOST_HOURS:
        return None
    hours = float(match[1])
    if axis.bounded:
        lengths = 24.0 * axis.lengths
        if not np.allclose(lengths, hours, rtol=0.01):
            raise InputError(
                f"its name says amounts over {hours:g} hours, its bounds of time over "
                f"{lengths[0]:g}; rename it or correct the bounds"
            )
    elif 24.0 % hours and hours % 24.0:
        raise InputError(
            f"its name may say amounts over {hours:g} hours, or over the step; rename it, or "
            f"{_ADVICE}"
        )
    return hours


def _of_forecast(lead: Lead) -> float:
    """Since the start of the forecast or since the entry before: known where these are one."""
    if lead.days > 0 and lead.since is not None and abs(lead.days - lead.since) < 1e-6:
        return lead.days
    since = "the entry before it" if lead.since is None else f"{24 * lead.since:g} hours before"
    first = "take differences from step to step" if lead.along_time else "select the first step"
    raise InputError(
        f"at forecast step {24 * lead.days:g} hours it may be the sum since the start of the "
        f"forecast or since {since}; {first}, or {_ADVICE}"
    )


def _is_of_ecmwf(array: xr.DataArray) -> bool:
    sums = "time: sum" in str(array.attrs.get("cell_methods", ""))
    named = str(array.name) in _ECMWF_NAMES or "GRIB_paramId" in array.attrs
    return named and not sums and readable_units(str(array.attrs["units"])) in ("m", "J m-2")


def _monthly_doubt(units: str) -> str:
    return (
        f"monthly amounts in '{units}' are taken as those of a day, as ECMWF's monthly means are; "
        "if they are sums of the month, say so: cell_methods 'time: sum'"
    )


def _accumulation_doubt(kind: str, axis: TimeAxis) -> str | None:
    if kind != "accum" or not axis.step_days > 1.01 / 24.0:
        return None
    return (
        f"amounts are taken as sums over the step of {24 * axis.step_days:.3g} hours; "
        f"GRIB_stepType accum does not say (ERA5 has them over 1 hour): {_ADVICE} if they are not"
    )
