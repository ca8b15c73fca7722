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
# angle times a temperature, "C" for coulomb, "mb" for millibarn, "pa" for a picoyear.
_SPELLINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), text)
    for pattern, text in (
        (r"(deg(ree)?s?|°|º|o)?[\s_.]*(c|cel[sc]ius|centigrade)", "degC"),
        (r"(deg(ree)?s?|°)?[\s_.]*(k|kelvins?)", "K"),
        (r"(deg(ree)?s?|°)[\s_.]*(f|fahrenheit)", "degF"),
        (r"mb|hpa", "hPa"),
        (r"pa", "Pa"),
        (r"gpm", "m"),
        (r"gpdam", "dam"),
        (r"pct|per cent", "percent"),
        (r"\(0 ?- ?1\)|fraction|unitless", "1"),
        # "kg/m2s" is one word to UDUNITS, "kg/m2 s" a product with seconds.
        (r"kg\s*/\s*\(?m\^?2[\s.*]*s(ec)?\)?", "kg m-2 s-1"),
        (r"kg[\s.*]*m\^?-2[\s.*]*s(ec)?\^?-1", "kg m-2 s-1"),
    )
)
_TIME = r"(h|hrs?|hours?|d|days?|min|minutes?|s|secs?|seconds?)"
# "mm/3hr" is three times mm h to UDUNITS, "mm 3h-1" three times mm h-1.
_PER_SEVERAL = re.compile(rf"(?:/|\bper\b)\s*(\d+(?:\.\d+)?)\s*{_TIME}\b", re.IGNORECASE)
_SEVERAL_INVERSE = re.compile(rf"(?<=\s)(\d+(?:\.\d+)?)\s*{_TIME}\s*\^?-1\b", re.IGNORECASE)
_SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def readable_units(text: str) -> str:
    """Units in a form that UDUNITS reads, where the field writes them otherwise.

    ECMWF's "m**2 s**-2" becomes "m2 s-2", its "(0 - 1)" becomes "1", "deg C" becomes "degC",
    "mm/3hr" becomes "mm (3 hr)-1"; what is unknown stays.
    """
    text = text.strip().replace("**", "").translate(_SUPERSCRIPTS)
    for pattern, readable in _SPELLINGS:
        if pattern.fullmatch(text):
            return readable
    text = re.sub(r"\s+of water( equivalent)?\b", "", text)
    for several in (_PER_SEVERAL, _SEVERAL_INVERSE):
        text = several.sub(r" (\1 \2)-1", text)
    return re.sub(r"\s+", " ", text)


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
