"""Conversion of units by UDUNITS; of water between mass and depth, geopotential and height."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cf_units
import numpy as np
import numpy.typing as npt

_WATER_DENSITY = 1000.0  # kg m-3: mass of precipitation to depth
_STANDARD_GRAVITY = 9.80665  # m s-2: geopotential to geopotential height
# What a value is multiplied by, beyond UDUNITS: number and units of the factor.
_BRIDGES = (
    (1.0, "1"),
    (1.0 / _WATER_DENSITY, "m3 kg-1"),
    (_WATER_DENSITY, "kg m-3"),
    (1.0 / _STANDARD_GRAVITY, "s2 m-1"),
    (_STANDARD_GRAVITY, "m s-2"),
)


def units_convertible(source: str, target: str) -> bool:
    """Whether `convert_units` knows the way."""
    try:
        convert_units(np.zeros(1), source, target)
    except ValueError:
        return False
    return True


def convert_units(values: npt.NDArray[Any], source: str, target: str) -> npt.NDArray[Any]:
    """Convert by UDUNITS; mass of water per area to depth and geopotential to height as well.

    Raises:
        ValueError: a unit is unknown, or the two are not convertible.
    """
    try:
        known_source, known_target = _unit(source), _unit(target)
        for factor, units in _BRIDGES:
            unit = known_source if factor == 1.0 else known_source * _unit(units)
            if unit.is_convertible(known_target):
                return np.asarray(unit.convert(values * factor, known_target))
    except ValueError:
        pass
    raise ValueError(f"units '{source}' are not convertible to '{target}'")


@lru_cache(maxsize=64)
def _unit(text: str) -> cf_units.Unit:
    # ECMWF writes m**2 s**-2; UDUNITS wants m2 s-2.
    return cf_units.Unit(text.replace("**", "^"))
