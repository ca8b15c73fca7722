"""Adjusted values stay what their quantities can be, alone and beside one another."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from climdown import cf
from climdown.adjust.series import Series
from climdown.arrays import Float32

log = logging.getLogger(__name__)


def within_limits(
    series: Sequence[Series], fields: Sequence[Float32]
) -> tuple[list[Float32], list[str]]:
    """Adjusted fields held within physical limits, temperatures of a day in their order.

    Args:
        series: one per variable.
        fields: their values, shape (time, ny, nx), in the simulation's units.

    Returns:
        the fields, and sentences on the values that were changed.
    """
    lines, result = [], {}
    for one, values in zip(series, fields, strict=True):
        limits = cf.physical_limits(one.sim.quantity)
        held = 0
        if limits is not None:
            values, held = limits.hold(values)
        result[one.sim.source_name] = values
        lines += held_line(one.sim, limits, held)
    order = cf.daily_order({one.sim.source_name: one.sim for one in series})
    if order is not None:
        result, changed = order.restore(result)
        lines += order.line(changed)
    return list(result.values()), lines


def adjusted_line(sim: cf.Field, count: int, highest: float, units: str) -> str:
    """How many values were adjusted, and the highest of them.

    Args:
        highest: in the units of the simulation's quantity.
        units: in which it is said.
    """
    (value,) = cf.convert_units(np.array([highest]), sim.quantity.units, units)
    return f"{count} values adjusted, highest {value:.5g} {units}"


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
