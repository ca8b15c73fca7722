"""What values of a variable are like where a prior was trained, to judge an input by."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from climdown import cf
from climdown.errors import InputError
from climdown.priors.card import Variable
from climdown.priors.prior import Prior
from climdown.transforms import Log

log = logging.getLogger(__name__)

# Deviations by which the mean over region and period may differ: 30 K for daily temperature.
_MOST_DEVIATIONS = 10.0
# For amounts: how many times the prior's mean there may be.
_MOST_TIMES = 50.0
# Less than this part of the prior's mean is a dry spell, or an amount in other units.
_LEAST_PART = 1e-3
# How near another reading of the units must come to the prior's mean to be named.
_NEAR_DEVIATIONS, _NEAR_TIMES = 4.0, 20.0
_FLUX = "kg m-2 s-1"
# What files state wrongly in place of one another.
_UNITS = (
    *("m2 s-2", "m", "dam", "km", "kg m-2 s-1", "m s-1", "m day-1", "mm day-1", "mm h-1"),
    *("K", "degC", "degF", "Pa", "hPa", "kPa", "1", "%"),
)


@dataclass(frozen=True)
class Typical:
    """A variable of a prior over its region, in the variable's units.

    Attributes:
        prior: its name.
        mean: over all valid cells and training days.
        deviation: from day to day in a cell; None for amounts, which are judged by ratios.
        trace: smaller amounts count as none.
    """

    prior: str
    units: str
    mean: float
    deviation: float | None
    trace: float = 0.0

    def refuse_unlike(self, where: str, field: cf.Field, *, mean: float, high: float) -> None:
        """Check an input's mean over region and period; `high` is its largest value.

        Raises:
            InputError: the prior has never seen anything like it; names the units in which the
                values would be usual.
        """
        if not self._is_unlike(field, mean, high):
            if self.deviation is None and self._is_dry(mean, high):
                log.warning(
                    "%s is dry everywhere, with a mean of %.3g %s; that of prior %s is %s",
                    *(where, mean, self.units, self.prior, self._described()),
                )
            return
        raise InputError(
            f"{where} has a mean of {mean:.4g} {self.units} over the region and period, as its "
            f"units '{field.source_units}' say; that of prior {self.prior} is {self._described()}"
            f"{self._other_readings(field, mean)}; correct the units, for example with "
            "`ncatted -a units,...`, or the values"
        )

    def _is_unlike(self, field: cf.Field, mean: float, high: float) -> bool:
        if self.deviation is not None:
            return abs(mean - self.mean) > _MOST_DEVIATIONS * self.deviation
        if mean > _MOST_TIMES * self.mean:
            return True
        # A dry spell has no rain either: what is all drizzle is a flux if that makes it usual.
        return self._is_dry(mean, high) and self._is_near(self._as(_FLUX, field, mean))

    def _is_dry(self, mean: float, high: float) -> bool:
        return 0.0 < mean < _LEAST_PART * self.mean and high < self.trace

    def _as(self, units: str, field: cf.Field, mean: float) -> float:
        """The mean, were the numbers of the file in these units."""
        stored = cf.convert_units(np.array([mean]), self.units, field.source_units)
        return float(cf.convert_units(stored, units, self.units)[0])

    def _is_near(self, mean: float) -> bool:
        if self.deviation is not None:
            return abs(mean - self.mean) < _NEAR_DEVIATIONS * self.deviation
        return self.mean / _NEAR_TIMES < mean < _NEAR_TIMES * self.mean

    def _described(self) -> str:
        spread = "" if self.deviation is None else f", with deviations of {self.deviation:.4g}"
        return f"{self.mean:.4g}{spread}"

    def _other_readings(self, field: cf.Field, mean: float) -> str:
        readings = [f"in '{u}' it would be {value:.4g}" for u, value in self._usual(field, mean)]
        return f" ({', '.join(readings)})" if readings else ""

    def _usual(self, field: cf.Field, mean: float) -> Iterator[tuple[str, float]]:
        """Other units in which the mean of the file would be usual."""
        for units in _UNITS:
            if cf.units_convertible(units, self.units):
                value = self._as(units, field, mean)
                if self._is_near(value):
                    yield units, value


def typical(prior: Prior, variable: Variable) -> Typical:
    """Mean and deviation of a variable where a prior has values of it."""
    chain = prior.transforms[variable.name]
    index = [v.name for v in prior.card.variables].index(variable.name)
    mask = prior.mask[index]
    low, middle, high = (
        float(chain.inverse(np.full(mask.shape, z, dtype=np.float64))[mask].mean())
        for z in (-1.0, 0.0, 1.0)
    )
    climatology = prior.climatology(variable.name)
    mean = middle if climatology is None else float(climatology[mask].mean())
    amount = any(isinstance(step, Log) for step in chain.steps)
    deviation = None if amount else 0.5 * (high - low)
    return Typical(prior.card.name, variable.units, mean, deviation, variable.trace or 0.0)
