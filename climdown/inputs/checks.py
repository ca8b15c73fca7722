"""Values that an input cannot hold: undeclared fill values, wrong units, empty steps."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from climdown import cf
from climdown.arrays import Dates, Float32
from climdown.errors import InputError
from climdown.inputs.typical import Typical

log = logging.getLogger(__name__)

_CHECK_BYTES = 64 << 20
# No quantity comes near it: a fill value that the file does not declare.
FILL = 1e15
# A larger share of impossible values is no matter of a few bad cells.
_MOST_IMPOSSIBLE = 0.01


def check_values(field: cf.Field, like: Typical | None = None) -> None:
    """Read all values once, block by block.

    Args:
        like: what the values are to be used with.

    Raises:
        InputError: infinite values, an undeclared fill value, values that the quantity cannot
            have or that are nothing like the typical ones, or time steps without any value.
    """
    where = f"{cf.describe_paths(field.paths)}: variable '{field.source_name}'"
    tally = _Tally(cf.family_of(field.quantity), field.quantity.units)
    steps = max(1, _CHECK_BYTES // (8 * math.prod(field.grid.shape)))
    empty: list[Any] = []
    for start in range(0, len(field.time), steps):
        values = field.read(slice(start, start + steps))
        dates = field.time.dates[start : start + steps]
        _refuse_fill(where, values, dates)
        empty.extend(dates[np.isnan(values).all(axis=(1, 2))])
        tally.add(values)
    _refuse_empty(where, empty, len(field.time))
    if tally.impossible:
        text = f"{where} has {tally.describe()}, its units are '{field.source_units}'"
        if tally.impossible > _MOST_IMPOSSIBLE * tally.count:
            raise InputError(f"{text}; correct them, for example with `ncatted -a units,...`")
        log.warning("%s", text)
    if like is not None:
        like.refuse_unlike(where, field, mean=tally.total / tally.count, high=tally.high)


class _Tally:
    """Counts values that a quantity cannot have.

    Args:
        family: of the quantity; None has no limits.
        units: of the values.
    """

    def __init__(self, family: cf.VariableFamily | None, units: str) -> None:
        self.family, self.units = family, units
        self.limits = (-np.inf, np.inf) if family is None else family.range_in(units)
        self.count = self.impossible = 0
        self.total, self.low, self.high = 0.0, np.inf, -np.inf

    def add(self, values: Float32) -> None:
        """Count the values of a block; missing ones do not count."""
        valid = values[np.isfinite(values)]
        if valid.size:
            self.count += valid.size
            self.total += float(valid.sum(dtype=np.float64))
            self.impossible += int(((valid < self.limits[0]) | (valid > self.limits[1])).sum())
            self.low = min(self.low, float(valid.min()))
            self.high = max(self.high, float(valid.max()))

    def describe(self) -> str:
        """The share of impossible values and the range of all, for a message."""
        name = "" if self.family is None else self.family.quantity.name
        return (
            f"{self.impossible / self.count:.2%} of its values outside {self.limits[0]:.4g} to "
            f"{self.limits[1]:.4g} {self.units}, unbelievable for {name}: they run from "
            f"{self.low:.4g} to {self.high:.4g}"
        )


def _refuse_empty(where: str, empty: Sequence[Any], steps: int) -> None:
    """Refuse a variable without any value, at all steps or at the dates in `empty`."""
    if len(empty) == steps:
        raise InputError(
            f"{where} is missing everywhere in the region and period; choose others, or check its "
            "_FillValue"
        )
    if empty:
        raise InputError(
            f"{where} has no value at all in the region at {len(empty)} of {steps} "
            f"steps, first at {empty[0].isoformat()}; leave these out with --time"
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
