"""Telling variables apart: by standard_name, units, extremes, pressure levels; last by name."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import xarray as xr

from climdown.arrays import Float64
from climdown.cf.units import convert_units, readable_units, units_convertible

_LEVEL_IN_TEXT = re.compile(r"\b(\d{2,4})\s*(hpa|mb|mbar|millibars?)\b", re.IGNORECASE)
# "ta850", "z500hPa"; u10 is a wind at 10 m, and so is ECMWF's u100 one at 100 m.
_LEVEL_IN_NAME = re.compile(
    r"(?:ta?|temp|zg?|gh|hgt|hus|q|hur|r|wap|ua|va|[uv](?!100$))_?(\d{3,4})(?:hpa|mb)?",
    re.IGNORECASE,
)
# What the near-surface quantity of a standard_name is never called.
_NAMES_ALOFT = {
    "air_temperature": ("ta", "t"),
    "eastward_wind": ("ua", "u", "u_component_of_wind"),
    "northward_wind": ("va", "v", "v_component_of_wind"),
    "relative_humidity": ("hur", "r"),
    "specific_humidity": ("hus", "q"),
}
# Axes of levels that may go without units, as those of ERA5's public archives do.
_LEVEL_AXES = ("level", "plev", "pressure", "pressure_level", "isobaricinhpa")
_PER_MONTH = re.compile(
    r"\s*(?:/|\bper\b)\s*\(?mon(?:th)?s?\)?$|[\s.*]+mon(?:th)?s?\s*\^?-1$", re.IGNORECASE
)
_EXTREME_NAMES = {"tx": "maximum", "tn": "minimum", "mx2t": "maximum", "mn2t": "minimum"}


@dataclass(frozen=True)
class Quantity:
    """What is looked for in a file.

    Attributes:
        name: what it is called in the output, for example "tas".
        standard_names: CF standard names that mean it (precipitation has several).
        names: usual variable names, to choose among several with the standard name, or to
            accept one that has none; upper and lower case are one.
        units: units the values are wanted in.
        level: pressure level in Pa, taken out of a file that has several.
    """

    name: str
    standard_names: tuple[str, ...]
    names: tuple[str, ...]
    units: str
    level: float | None = None

    def named(self, name: object) -> bool:
        """Whether a variable's name is one of the usual ones."""
        return str(name).lower() in {usual.lower() for usual in self.names}


@dataclass(frozen=True)
class Mismatch:
    """Why a variable is not the quantity; `near` if it could be but for units, level and such."""

    reason: str
    near: bool


def mismatch(array: xr.DataArray, quantity: Quantity) -> Mismatch | None:
    """Why a variable is not the quantity; None if it is."""
    name = standard_name(array)
    usual_name = quantity.named(array.name)
    if name is None and not usual_name:
        return Mismatch("no standard_name", near=False)
    if name is not None and name not in quantity.standard_names:
        return Mismatch(name, near=False)
    reason = (
        _units_mismatch(array, quantity)
        or (None if usual_name else _extreme_mismatch(array, quantity))
        or _level_mismatch(array, quantity, usual_name=usual_name)
    )
    return None if reason is None else Mismatch(reason, near=True)


def standard_name(array: xr.DataArray) -> str | None:
    """The standard name, or None; GRIB converters write "unknown" where they know none."""
    name = str(array.attrs.get("standard_name", "")).strip()
    return None if name in ("", "unknown") else name


def rate_units(source: str, target: str) -> str | None:
    """What to call the units of values so that they convert: as they are, or per day.

    Amounts over a time step ("mm", "J m-2") are rates once divided by its length, and those of a
    month ("mm/month") once divided by the month's. None where neither converts.
    """
    amount = per_month(source)
    per_day = f"{amount or source} day-1"
    candidates = (per_day,) if amount else (source, per_day)
    return next((u for u in candidates if units_convertible(u, target)), None)


def is_amount(array: xr.DataArray, quantity: Quantity) -> bool:
    """Whether a variable is an amount over its step where a rate is asked for."""
    written = readable_units(str(array.attrs["units"]))
    return (rate_units(written, quantity.units) or written) != written


def per_month(units: str) -> str | None:
    """Units of the amount where units are those of an amount in a month; None if they are not.

    A month of UDUNITS is 30.44 days, whatever the calendar.
    """
    amount, count = _PER_MONTH.subn("", readable_units(units))
    return amount if count and amount else None


def extreme(array: xr.DataArray) -> str | None:
    """The "maximum" or "minimum" over time that a variable holds, by cell_methods or its name.

    Files of tasmax and tasmin without cell_methods exist; nothing else tells them from tas.
    """
    match = re.search(r"\btime: (maximum|minimum)\b", _methods(array))
    return match[1] if match else extreme_by_name(str(array.name))


def extreme_by_name(name: str) -> str | None:
    """The extreme that a variable's name says it holds: tasmax, tx, Tmin."""
    name = name.lower()
    match = re.search(r"(max|min)(imum)?$", name)
    return f"{match[1]}imum" if match else _EXTREME_NAMES.get(name)


def stated_levels(array: xr.DataArray) -> Float64 | None:
    """Pressure levels in Pa that a variable says it lies on, by coordinate, name or long_name."""
    axis = pressure_axis(array)
    if axis is not None:
        return axis_levels(axis)
    by_name = _LEVEL_IN_NAME.fullmatch(str(array.name))
    match = by_name or _LEVEL_IN_TEXT.search(str(array.attrs.get("long_name", "")))
    return None if match is None else np.array([100.0 * float(match[1])])


def pressure_axis(array: xr.DataArray) -> xr.DataArray | None:
    """The coordinate of pressure along a dimension of its own, or the scalar one."""
    for name in array.coords:
        coordinate: xr.DataArray = array[name]
        declared = coordinate.ndim == 1 and standard_name(coordinate) == "air_pressure"
        along_itself = declared or coordinate.dims in ((), (name,))
        if along_itself and units_convertible(str(coordinate.attrs.get("units", "")), "Pa"):
            return coordinate
        if coordinate.dims in ((), (name,)) and _is_bare_pressure(coordinate):
            return coordinate.assign_attrs(units="hPa")
    return None


def axis_levels(axis: xr.DataArray) -> Float64:
    """The levels of a coordinate of pressure in Pa."""
    values = np.atleast_1d(axis.values).astype(np.float64)
    return convert_units(values, str(axis.attrs["units"]), "Pa")


def nearest_level(levels: Float64, wanted: float) -> int | None:
    """Which level is meant; one off by more than 1 % is another."""
    index = int(np.abs(levels - wanted).argmin())
    return index if abs(levels[index] - wanted) <= 0.01 * wanted else None


def describe_levels(levels: Float64, wanted: float) -> str:
    """What is there and what was wanted, for people."""
    listed = ", ".join(f"{level / 100:g}" for level in levels)
    return f"levels {listed} hPa, not {wanted / 100:g}"


def _is_bare_pressure(coordinate: xr.DataArray) -> bool:
    """Whether an axis without units holds pressures in hPa, by its name and values.

    Model levels, which are numbered 1, 2, 3, ..., have no gaps.
    """
    named = str(coordinate.name).lower() in _LEVEL_AXES and "units" not in coordinate.attrs
    if not named or not np.issubdtype(coordinate.dtype, np.number):
        return False
    if standard_name(coordinate) not in (None, "air_pressure"):
        return False
    values = np.atleast_1d(coordinate.values).astype(np.float64)
    numbered = values.size > 1 and (np.abs(np.diff(values)) == 1.0).all()
    return bool(values.min() > 0.0 and 100.0 <= values.max() <= 1100.0 and not numbered)


def _methods(array: xr.DataArray) -> str:
    return str(array.attrs.get("cell_methods", ""))


def _units_mismatch(array: xr.DataArray, quantity: Quantity) -> str | None:
    units = array.attrs.get("units")
    if units is None:
        return "no units"
    return None if rate_units(str(units), quantity.units) else f"units '{units}'"


def _extreme_mismatch(array: xr.DataArray, quantity: Quantity) -> str | None:
    held, wanted = extreme(array), extreme_by_name(quantity.name)
    if held == wanted:
        return None
    if held is None:
        return f"not a {wanted} over time"
    stated = f"time: {held}"
    return stated if stated in _methods(array) else "an extreme, by its name"


def _level_mismatch(array: xr.DataArray, quantity: Quantity, *, usual_name: bool) -> str | None:
    levels = stated_levels(array)
    if quantity.level is not None:
        if levels is None:
            # A file of one level often says so in its name alone.
            return None if usual_name else "no pressure level"
        index = nearest_level(levels, quantity.level)
        return describe_levels(levels, quantity.level) if index is None else None
    if usual_name:
        return None
    aloft = _NAMES_ALOFT.get(standard_name(array) or "", ())
    wanted = quantity.name.lower() in aloft
    by_name = str(array.name).lower() in aloft and not _has_height(array)
    if wanted:
        return None if by_name or levels is not None else "no pressure level"
    if levels is not None:
        return "on a pressure level"
    return "on a pressure level, by its name" if by_name else None


def _has_height(array: xr.DataArray) -> bool:
    return any(c.attrs.get("standard_name") == "height" for c in array.coords.values())
