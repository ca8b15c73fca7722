"""Conversion of units by UDUNITS; of water between mass and depth, geopotential and height."""

from __future__ import annotations

import re
from functools import lru_cache

import cf_units
import numpy as np

from climdown.arrays import AnyArray

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


def convert_units(values: AnyArray, source: str, target: str) -> AnyArray:
    """Convert by UDUNITS; mass of water per area to depth and geopotential to height as well.

    Raises:
        ValueError: a unit is unknown, or the two are not convertible.
    """
    source_unit, target_unit = _unit(source), _unit(target)
    if source_unit is not None and target_unit is not None:
        values = np.asarray(values) * 1.0
        if source_unit.is_convertible(target_unit):
            return np.asarray(source_unit.convert(values, target_unit))
        for one, other, ratio in _BRIDGES:
            for left, right, factor in ((one, other, 1.0 / ratio), (other, one, ratio)):
                near, far = cf_units.Unit(left), cf_units.Unit(right)
                if source_unit.is_convertible(near) and far.is_convertible(target_unit):
                    return np.asarray(
                        far.convert(factor * source_unit.convert(values, near), target_unit)
                    )
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
