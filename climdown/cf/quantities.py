"""Families of common variables: their names, plausible ranges, and how they change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import xarray as xr

from climdown.cf.fields import Field
from climdown.cf.recognition import (
    Quantity,
    extreme,
    extreme_by_name,
    per_month,
    rate_units,
    standard_name,
    stated_levels,
)
from climdown.cf.units import convert_units, readable_units

Kind = Literal["additive", "multiplicative"]


@dataclass(frozen=True)
class VariableFamily:
    """A family of variables that are one quantity.

    Attributes:
        quantity: its names; units in which `low` and `high` are given.
        kind: whether changes of it are differences or ratios.
        low, high: values beyond which something is wrong: units, a fill value, an error.
        trace: smaller values count as none, for quantities that are often zero.
        aloft: whether it is given on pressure levels.
    """

    quantity: Quantity
    kind: Kind
    low: float
    high: float
    trace: float | None = None
    aloft: bool = False

    def range_in(self, units: str) -> tuple[float, float]:
        """`low` and `high` in other units; no limits where these do not convert."""
        bounds = np.array([self.low, self.high])
        # Amounts over a step of unknown length (kg m-2) have no rate to compare with.
        try:
            low, high = convert_units(bounds, self.quantity.units, units)
        except ValueError:
            return -np.inf, np.inf
        return float(low), float(high)

    def in_units(self, value: float, units: str) -> float:
        """A number in the quantity's units, in others that these convert to."""
        return float(convert_units(np.array([value]), self.quantity.units, units)[0])


# What ERA5's public archives, ARCO-ERA5 and WeatherBench 2, call them.
_ARCHIVE_NAMES = {
    "pr": "total_precipitation total_precipitation_24hr",
    "tas": "2m_temperature",
    "ta": "temperature",
    "psl": "mean_sea_level_pressure",
    "ps": "surface_pressure",
    "zg": "geopotential",
    "uas": "10m_u_component_of_wind",
    "ua": "u_component_of_wind",
    "vas": "10m_v_component_of_wind",
    "va": "v_component_of_wind",
}


def _family(
    name: str,
    units: str,
    standard_names: str,
    names: str,
    kind: Kind,
    limits: tuple[float, float],
    *,
    trace: float | None = None,
    aloft: bool = False,
) -> VariableFamily:
    usual = (*names.split(), *_ARCHIVE_NAMES.get(name, "").split())
    quantity = Quantity(name, tuple(standard_names.split()), usual, units)
    return VariableFamily(quantity, kind, *limits, trace, aloft)


_TEMPERATURE = "air_temperature"
_RAIN = (
    "precipitation_flux lwe_precipitation_rate rainfall_flux rainfall_rate precipitation_amount "
    "rainfall_amount lwe_thickness_of_precipitation_amount thickness_of_rainfall_amount"
)
_SUNSHINE = (
    "surface_downwelling_shortwave_flux_in_air surface_downwelling_shortwave_flux "
    "integral_wrt_time_of_surface_downwelling_shortwave_flux_in_air"
)
# Families that share a standard_name are distinguished by name, extreme and level.
FAMILIES: tuple[VariableFamily, ...] = (
    # The record for a day is 1825 mm (La Réunion, 1966), for a month 9300 mm (Cherrapunji, 1861).
    _family("pr", "mm day-1", _RAIN, "pr tp rr precip prcp prate rainfall", "multiplicative",
           (-1e-3, 1900.0), trace=0.05),
    _family("tas", "K", _TEMPERATURE, "tas t2m 2t tg tm temp2", "additive", (170.0, 335.0)),
    _family("tasmax", "K", _TEMPERATURE, "tasmax tx t2max mx2t tmax", "additive", (170.0, 335.0)),
    _family("tasmin", "K", _TEMPERATURE, "tasmin tn t2min mn2t tmin", "additive", (170.0, 335.0)),
    _family("ta", "K", _TEMPERATURE, "ta t ta850 t850 ta500 t500", "additive", (150.0, 340.0),
           aloft=True),
    _family("tos", "K", "sea_surface_temperature", "tos sst", "additive", (265.0, 315.0)),
    _family("ts", "K", "surface_temperature", "ts skt", "additive", (160.0, 360.0)),
    _family("psl", "Pa", "air_pressure_at_mean_sea_level air_pressure_at_sea_level",
           "psl msl mslp slp prmsl", "additive", (86_000.0, 109_500.0)),
    _family("ps", "Pa", "surface_air_pressure", "ps sp", "additive", (30_000.0, 109_500.0)),
    _family("zg", "m", "geopotential_height geopotential", "zg z gh zg500 z500 hgt", "additive",
           (-1_000.0, 90_000.0), aloft=True),
    _family("uas", "m s-1", "eastward_wind", "uas u10 10u", "additive", (-150.0, 150.0)),
    _family("ua", "m s-1", "eastward_wind", "ua u", "additive", (-200.0, 200.0), aloft=True),
    _family("vas", "m s-1", "northward_wind", "vas v10 10v", "additive", (-150.0, 150.0)),
    _family("va", "m s-1", "northward_wind", "va v", "additive", (-200.0, 200.0), aloft=True),
    _family("sfcWind", "m s-1", "wind_speed", "sfcwind ws10 si10 wind", "multiplicative",
           (0.0, 150.0)),
    _family("hurs", "%", "relative_humidity", "hurs rh rh2m", "additive", (-5.0, 120.0)),
    _family("hur", "%", "relative_humidity", "hur r", "additive", (-20.0, 180.0), aloft=True),
    _family("huss", "1", "specific_humidity", "huss q2m", "multiplicative", (-1e-4, 0.06)),
    _family("hus", "1", "specific_humidity", "hus q", "multiplicative", (-1e-4, 0.06), aloft=True),
    _family("rsds", "W m-2", _SUNSHINE, "rsds ssrd", "multiplicative", (-5.0, 1_400.0)),
)  # fmt: skip


# Metres of height per kelvin of a column's mean temperature and unit of ln(pressure): R / g.
_METRES_PER_KELVIN = 29.27
# Mean temperatures of columns, K, and pressures at sea level, Pa, beyond which there are none.
_COLUMNS, _SEA_LEVEL = (200.0, 300.0), (87_000.0, 108_500.0)


def _at_level(known: VariableFamily | None, level: float | None) -> VariableFamily | None:
    """The family with the limits that it has at a pressure level, by the hypsometric equation."""
    if known is None or known.quantity.name != "zg" or level is None or not level > 0.0:
        return known
    low, high = (_METRES_PER_KELVIN * np.log(p / level) for p in _SEA_LEVEL)
    return replace(
        known,
        low=min(float(low * t) for t in _COLUMNS),
        high=max(float(high * t) for t in _COLUMNS),
    )


def family_of_array(array: xr.DataArray) -> VariableFamily | None:
    """The family that a variable belongs to; None if none.

    Its units must fit, and its standard_name, or its name where it has none. Families that share
    a standard_name are distinguished by the name, else by extreme (tasmax) and pressure level (ta).
    """
    standard, units = standard_name(array), str(array.attrs.get("units", ""))
    fitting = [
        family
        for family in FAMILIES
        if (
            standard in family.quantity.standard_names
            or (standard is None and family.quantity.named(array.name))
        )
        and rate_units(units, family.quantity.units) is not None
    ]
    by_name = [family for family in fitting if family.quantity.named(array.name)]
    levels = stated_levels(array)
    aloft = levels is not None
    alike = [
        family
        for family in fitting
        if family.aloft == aloft and extreme_by_name(family.quantity.name) == extreme(array)
    ]
    level = float(levels[0]) if levels is not None and levels.size == 1 else None
    return _at_level(next(iter(by_name or alike or fitting), None), level)


def family_of(quantity: Quantity) -> VariableFamily | None:
    """The family that a quantity is meant to be, by its name and units; None if none."""
    # "zg50" is zg at 50 hPa.
    bare = quantity.name.rstrip("0123456789") if quantity.level is not None else quantity.name
    fitting = (
        family
        for family in FAMILIES
        if (family.quantity.named(quantity.name) or (family.aloft and family.quantity.named(bare)))
        and rate_units(quantity.units, family.quantity.units) == quantity.units
    )
    return _at_level(next(fitting, None), quantity.level)


def family_of_field(field: Field) -> VariableFamily | None:
    """The family that a field belongs to, by its file, else by what was asked for; None if none."""
    return family_of_array(like_array(field)) or family_of(field.quantity)


def like_array(field: Field) -> xr.DataArray:
    """A scalar stand-in with a field's name and attributes, to ask what it is."""
    return xr.DataArray(0.0, name=field.source_name, attrs=field.attributes)


def quantity_like(array: xr.DataArray) -> Quantity:
    """What to look for in other files to find the same quantity, in this variable's units.

    A variable on one pressure level, or whose name says one ("ta850"), keeps that level; amounts
    over a step or a month (mm, mm/month) become rates (mm day-1).
    """
    name = str(array.name)
    units = readable_units(str(array.attrs.get("units", "1")))
    if (amount := per_month(units)) is not None:
        units = f"{amount} day-1"
    family = family_of_array(array)
    if family is None:
        standard = standard_name(array)
        quantity = Quantity(name, () if standard is None else (standard,), (name,), units)
    else:
        units = rate_units(units, family.quantity.units) or units
        names = (name, *family.quantity.names)
        quantity = replace(family.quantity, name=name, names=names, units=units)
    levels = stated_levels(array)
    if levels is None or levels.size != 1:
        return quantity
    return replace(quantity, level=float(levels[0]))
