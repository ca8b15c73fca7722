"""Values that an input cannot hold: undeclared fill values, wrong units, empty steps."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from climdown import cf
from climdown.arrays import Dates, Float32
from climdown.errors import InputError

log = logging.getLogger(__name__)

_CHECK_BYTES = 64 << 20
# No quantity comes near it: a fill value that the file does not declare.
FILL = 1e15
# A larger share of impossible values is no matter of a few bad cells.
_MOST_IMPOSSIBLE = 0.01


def check_values(field: cf.Field, *, empty_steps: bool = False) -> Tally:
    """Read all values once, block by block.

    Args:
        empty_steps: whether there may be time steps without any value.

    Returns:
        the range of the values, and their mean.

    Raises:
        InputError: infinite values, an undeclared fill value, values that the quantity cannot
            have, or time steps without any value.
    """
    where = f"{cf.describe_paths(field.paths)}: variable '{field.source_name}'"
    family = cf.known_family(field.quantity) or cf.known_quantity(cf.like_array(field))
    tally = Tally(family, field.quantity.units)
    steps = max(1, _CHECK_BYTES // (8 * math.prod(field.grid.shape)))
    empty: list[Any] = []
    for start in range(0, len(field.time), steps):
        values = field.read(slice(start, start + steps))
        dates = field.time.dates[start : start + steps]
        _refuse_fill(where, values, dates)
        empty.extend(dates[np.isnan(values).all(axis=(1, 2))])
        tally.add(values)
    if len(empty) == len(field.time):
        raise InputError(
            f"{where} is missing everywhere in the region and period; choose others, or check its "
            "_FillValue"
        )
    if empty and not empty_steps:
        raise InputError(
            f"{where} has no value at all in the region at {len(empty)} of {len(field.time)} "
            f"steps, first at {empty[0].isoformat()}; leave these out with --time"
        )
    if tally.strange:
        text = f"{where} has {tally.describe()}, its units are '{field.source_units}'"
        if tally.strange > _MOST_IMPOSSIBLE * tally.count:
            raise InputError(f"{text}; correct them, for example with `ncatted -a units,...`")
        log.warning("%s", text)
    return tally


class Tally:
    """Counts values that a quantity cannot have.

    Attributes:
        low, high: the smallest and the largest value; infinite where there is none.
    """

    def __init__(self, known: cf.VariableFamily | None, units: str) -> None:
        self.known, self.units = known, units
        self.limits = (-np.inf, np.inf) if known is None else known.range_in(units)
        self.count = self.strange = 0
        self.low, self.high = np.inf, -np.inf
        self.total = 0.0

    @property
    def mean(self) -> float:
        """Of all values; NaN where there is none."""
        return self.total / self.count if self.count else float("nan")

    def add(self, values: Float32) -> None:
        valid = values[np.isfinite(values)]
        if valid.size:
            self.count += valid.size
            self.total += float(valid.sum(dtype=np.float64))
            self.strange += int(((valid < self.limits[0]) | (valid > self.limits[1])).sum())
            self.low = min(self.low, float(valid.min()))
            self.high = max(self.high, float(valid.max()))

    def describe(self) -> str:
        name = "" if self.known is None else self.known.quantity.name
        return (
            f"{self.strange / self.count:.2%} of its values outside {self.limits[0]:.4g} to "
            f"{self.limits[1]:.4g} {self.units}, unbelievable for {name}: they run from "
            f"{self.low:.4g} to {self.high:.4g}"
        )


def _refuse_fill(where: str, values: Float32, dates: Dates) -> None:
    broken = np.abs(values) > FILL
    if broken.any():
        kind = "infinite" if np.isinf(values[broken]).all() else f"{values[broken][0]:.3g}"
        date = dates[broken.any(axis=(1, 2))][0].isoformat()
        raise InputError(
            f"{where} has {kind} values, first at {date}; set them to missing, or declare them "
            "as its _FillValue"
        )
