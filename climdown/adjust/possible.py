"""Adjusted values stay what their quantities can be, alone and beside one another."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from climdown import cf
from climdown.adjust.series import Series
from climdown.arrays import Float32
from climdown.cf.recognition import extreme_by_name

log = logging.getLogger(__name__)


def within_limits(
    series: Sequence[Series], fields: Sequence[Float32]
) -> tuple[list[Float32], list[str]]:
    """Adjusted fields held within physical limits, tasmin never above tasmax.

    Args:
        series: one per variable.
        fields: their values, shape (time, ny, nx), in the simulation's units.

    Returns:
        the fields, and sentences on the values that were changed.
    """
    lines, result = [], []
    for one, values in zip(series, fields, strict=True):
        limits = cf.physical_limits(one.sim.quantity)
        held = 0
        if limits is not None:
            values, held = limits.hold(values)
        result.append(values)
        lines += held_line(one.sim, limits, held)
    return _in_order(series, result, lines), lines


def held_line(sim: cf.Field, limits: cf.Limits | None, held: int) -> list[str]:
    """A sentence on the values that were held back, where there are any."""
    if limits is None or not held:
        return []
    where = limits.describe(sim.quantity.units)
    return [f"{held} values of {sim.source_name} held within what it can be ({where})"]


def warn_of_unknown(sim: cf.Field) -> None:
    """Say that nothing is known of a quantity that is adjusted all the same."""
    log.warning(
        "%s: '%s' is no quantity that climdown knows, and taken as additive: its values may fall "
        "below zero; `climdown qdm --kind multiplicative` keeps amounts positive",
        cf.describe_paths(sim.paths),
        sim.source_name,
    )


def is_known(sim: cf.Field) -> bool:
    """Whether a quantity is of a known family, or has known limits."""
    family = cf.family_of_field(sim)
    return family is not None or cf.physical_limits(sim.quantity) is not None


def extremes_of_day(series: Sequence[Series]) -> tuple[int, int] | None:
    """Where among variables of one quantity the daily minimum and maximum are; None if not both."""
    places = {}
    for place, one in enumerate(series):
        quantity = one.sim.quantity
        if "air_temperature" in quantity.standard_names and quantity.level is None:
            places[extreme_by_name(quantity.name) or cf.extreme(cf.like_array(one.sim))] = place
    if {"minimum", "maximum"} <= set(places):
        return places["minimum"], places["maximum"]
    return None


def _in_order(series: Sequence[Series], fields: list[Float32], lines: list[str]) -> list[Float32]:
    """Minimum and maximum of a day changed for one another where they are out of order."""
    pair = extremes_of_day(series)
    if pair is None:
        return fields
    low, high = pair
    names = series[low].sim, series[high].sim
    units = [sim.quantity.units for sim in names]
    upper = cf.convert_units(fields[high], units[1], units[0]).astype(np.float32)
    wrong = fields[low] > upper
    if count := int(wrong.sum()):
        lowest, highest = np.minimum(fields[low], upper), np.maximum(fields[low], upper)
        turned = cf.convert_units(highest, units[0], units[1]).astype(np.float32)
        fields[low] = np.where(wrong, lowest, fields[low])
        fields[high] = np.where(wrong, turned, fields[high])
        lines.append(
            f"{count} values of {names[0].source_name} lay above {names[1].source_name}: the two "
            "were changed for one another"
        )
    return fields
