"""Conversion of units by UDUNITS; of water between mass and depth, geopotential and height."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import cf_units
import numpy as np
import numpy.typing as npt

_WATER_DENSITY = 1000.0  # kg m-3: mass of precipitation to depth
_STANDARD_GRAVITY = 9.80665  # m s-2: geopotential to geopotential height
# What is one quantity to the field and two to UDUNITS: units of each, and their ratio.
_BRIDGES = (
    ("kg m-2", "m", _WATER_DENSITY),
    ("kg m-2 s-1", "m s-1", _WATER_DENSITY),
    ("m2 s-2", "m", _STANDARD_GRAVITY),
)
# Spellings that UDUNITS refuses or, worse, takes for something else: "degrees Celsius" for an
# angle times a temperature, "C" for coulomb, "mb" for millibarn.
_SPELLINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), text)
    for pattern, text in (
        (r"(deg(ree)?s?|°|º|o)?[\s_]*(c|celsius|centigrade)", "degC"),
        (r"(deg(ree)?s?|°)?[\s_]*(k|kelvins?)", "K"),
        (r"(deg(ree)?s?|°)[\s_]*(f|fahrenheit)", "degF"),
        (r"mb|hpa", "hPa"),
        (r"gpm", "m"),
        (r"\(0 ?- ?1\)", "1"),
    )
)


def readable_units(text: str) -> str:
    """Units in a form that UDUNITS reads, where the field writes them otherwise.

    ECMWF's "m**2 s**-2" becomes "m2 s-2", its "(0 - 1)" becomes "1", "deg C" becomes "degC"; what
    is unknown stays.
    """
    text = text.strip()
    for pattern, readable in _SPELLINGS:
        if pattern.fullmatch(text):
            return readable
    return re.sub(r"\s+of water( equivalent)?$", "", text.replace("**", ""))


def units_convertible(source: str, target: str) -> bool:
    """Whether `convert_units` knows the way."""
    try:
        convert_units(np.zeros(1), source, target)
    except ValueError:
        return False
    return True


def plainly_convertible(source: str, target: str) -> bool:
    """Whether UDUNITS converts the one to the other: water's mass and its depth are two."""
    first, second = _unit(source), _unit(target)
    return first is not None and second is not None and bool(first.is_convertible(second))


def convert_units(values: npt.NDArray[Any], source: str, target: str) -> npt.NDArray[Any]:
    """Convert by UDUNITS; mass of water per area to depth and geopotential to height as well.

    Raises:
        ValueError: a unit is unknown, or the two are not convertible.
    """
    found, wanted = _unit(source), _unit(target)
    if found is not None and wanted is not None:
        values = np.asarray(values) * 1.0
        if found.is_convertible(wanted):
            return np.asarray(found.convert(values, wanted))
        for one, other, ratio in _BRIDGES:
            for here, there, factor in ((one, other, 1.0 / ratio), (other, one, ratio)):
                near, far = cf_units.Unit(here), cf_units.Unit(there)
                if found.is_convertible(near) and far.is_convertible(wanted):
                    return np.asarray(far.convert(factor * found.convert(values, near), wanted))
    raise ValueError(f"units '{source}' are not convertible to '{target}'")


@lru_cache(maxsize=64)
def _unit(text: str) -> cf_units.Unit | None:
    """The unit, or None where UDUNITS does not know it."""
    try:
        with cf_units.suppress_errors():  # UDUNITS would write to standard error
            unit = cf_units.Unit(readable_units(text))
    except ValueError:
        return None
    return None if unit.is_unknown() or unit.is_no_unit() else unit
