"""Conversion of units by UDUNITS, and of water between mass and depth."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cf_units
import numpy as np
import numpy.typing as npt

_WATER_DENSITY = 1000.0  # kg m-3: mass of precipitation to depth


def units_convertible(source: str, target: str) -> bool:
    """Whether `convert_units` knows the way, water mass to depth included."""
    try:
        convert_units(np.zeros(1), source, target)
    except ValueError:
        return False
    return True


def convert_units(values: npt.NDArray[Any], source: str, target: str) -> npt.NDArray[Any]:
    """Convert by UDUNITS; a mass of water per area becomes a depth where that is asked for.

    Raises:
        ValueError: a unit is unknown, or the two are not convertible.
    """
    try:
        known_source, known_target = _unit(source), _unit(target)
        for factor in (1.0, 1.0 / _WATER_DENSITY, _WATER_DENSITY):
            depth = cf_units.Unit("m3 kg-1") if factor < 1 else cf_units.Unit("kg m-3")
            unit = known_source if factor == 1.0 else known_source * depth
            if unit.is_convertible(known_target):
                return np.asarray(unit.convert(values * factor, known_target))
    except ValueError:
        pass
    raise ValueError(f"units '{source}' are not convertible to '{target}'")


@lru_cache(maxsize=64)
def _unit(text: str) -> cf_units.Unit:
    # ECMWF writes m**2 s**-2; UDUNITS wants m2 s-2.
    return cf_units.Unit(text.replace("**", "^"))
