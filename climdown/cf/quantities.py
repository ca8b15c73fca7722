"""Quantities that climate files hold: what they are called, and which values are believable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import xarray as xr

from climdown.cf.fields import Quantity
from climdown.cf.units import units_convertible


@dataclass(frozen=True)
class Known:
    """A family of variables that are one quantity.

    Attributes:
        quantity: its names; units in which `low` and `high` are given.
        kind: whether changes of it are differences or ratios.
        low, high: values beyond which something is wrong: units, a fill value, an error.
        trace: smaller values count as none, for quantities that are often zero.
    """

    quantity: Quantity
    kind: Literal["additive", "multiplicative"]
    low: float
    high: float
    trace: float | None = None


def _known(
    name: str,
    units: str,
    standard_names: str,
    names: str,
    kind: Literal["additive", "multiplicative"],
    low: float,
    high: float,
    trace: float | None = None,
) -> Known:
    quantity = Quantity(name, tuple(standard_names.split()), tuple(names.split()), units)
    return Known(quantity, kind, low, high, trace)


_AIR_TEMPERATURE = "air_temperature"
_RAIN = (
    "precipitation_flux lwe_precipitation_rate rainfall_flux convective_precipitation_flux "
    "lwe_thickness_of_precipitation_amount precipitation_amount"
)
KNOWN: tuple[Known, ...] = (
    # The record for a day is 1825 mm (La Réunion, 1966), for a month 9300 mm (Cherrapunji, 1861).
    _known("pr", "mm day-1", _RAIN, "pr tp rr precip prcp prc rainfall", "multiplicative",
           -1e-3, 1900.0, 0.05),
    _known("tasmax", "K", _AIR_TEMPERATURE, "tasmax tx t2max mx2t tmax", "additive", 170, 335),
    _known("tasmin", "K", _AIR_TEMPERATURE, "tasmin tn t2min mn2t tmin", "additive", 170, 335),
    _known("tas", "K", _AIR_TEMPERATURE, "tas t2m 2t tg tm temp2", "additive", 170, 335),
    _known("ta", "K", _AIR_TEMPERATURE, "ta t ta850 t850 ta500 t500", "additive", 150, 340),
    _known("tos", "K", "sea_surface_temperature surface_temperature", "tos sst ts skt",
           "additive", 170, 345),
    _known("psl", "Pa", "air_pressure_at_mean_sea_level air_pressure_at_sea_level",
           "psl msl mslp slp", "additive", 86_000, 109_500),
    _known("ps", "Pa", "surface_air_pressure", "ps sp", "additive", 30_000, 109_500),
    _known("zg", "m", "geopotential_height geopotential", "zg z gh zg500 z500 hgt", "additive",
           -1_000, 90_000),
    _known("uas", "m s-1", "eastward_wind", "uas u10 10u u ua", "additive", -150, 150),
    _known("vas", "m s-1", "northward_wind", "vas v10 10v v va", "additive", -150, 150),
    _known("sfcWind", "m s-1", "wind_speed", "sfcwind ws10 si10 wind", "multiplicative", 0, 150),
    _known("hurs", "%", "relative_humidity", "hurs rh r hur", "additive", -5, 120),
    _known("huss", "1", "specific_humidity", "huss q hus", "multiplicative", -1e-4, 0.06),
    _known("rsds", "W m-2",
           "surface_downwelling_shortwave_flux_in_air surface_downwelling_shortwave_flux",
           "rsds ssrd", "multiplicative", -5, 1_400),
)  # fmt: skip


def known_quantity(array: xr.DataArray) -> Known | None:
    """The family that a variable belongs to, by standard_name, units and name; None if none."""
    standard_name = array.attrs.get("standard_name")
    units, name = str(array.attrs.get("units", "")), str(array.name).lower()
    fitting = [
        known
        for known in KNOWN
        if units_convertible(units, known.quantity.units)
        and (
            standard_name in known.quantity.standard_names
            or (standard_name is None and name in known.quantity.names)
        )
    ]
    by_name = [known for known in fitting if name in known.quantity.names]
    return next(iter(by_name or fitting), None)


def quantity_like(array: xr.DataArray) -> Quantity:
    """What to look for in other files to find the same quantity, in this variable's units."""
    name = str(array.name)
    units = str(array.attrs.get("units", "1")).replace("**", "")
    known = known_quantity(array)
    if known is not None:
        names = (name.lower(), *known.quantity.names)
        return replace(known.quantity, name=name, names=names, units=units)
    standard_name = array.attrs.get("standard_name")
    standard_names = (str(standard_name),) if standard_name else ()
    return Quantity(name, standard_names, (name.lower(),), units)
