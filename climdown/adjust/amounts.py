"""Amounts, such as rain, after a transport of days: its order of days, the right distribution.

A mean over observed days has more drizzle and less extremes than any of them, whatever units it is
taken in. So the transport says only which day is wetter than which, in each cell; how wet is said
by quantile mapping, and a climate's change is kept as a factor, not as a shift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from climdown.adjust.columns import AmountColumns
from climdown.adjust.options import QDMOptions
from climdown.arrays import Dates, Float32, Float64
from climdown.bias import quantile
from climdown.bias.dry import dry_below, jitter_dry
from climdown.bias.grouping import Grouping
from climdown.bias.marginals import in_order_of, probabilities_within, quantiles_at, ranks

_FEWEST = 20  # days of a month in each sample, to have a distribution of its own
_QUANTILES = 500
_BLOCK_BYTES = 64 << 20
_MAX_RATIO = QDMOptions().max_ratio
LARGEST_FACTOR = 2.0  # by which all amounts of a cell are changed for the sake of the mean


class Days(NamedTuple):
    """One entry for each sample: values of (days, cells), dates, or numbers of days."""

    ref: Any
    hist: Any
    sim: Any


class Changed(NamedTuple):
    """Amounts (days, cells) with their mean's change, and how many of its factors were bounded."""

    amounts: Float32
    bounded: int
    factors: int


@dataclass(frozen=True, eq=False)
class Amounts:
    """Amounts of one variable on the days of a group, whose distribution is adjusted.

    Attributes:
        place: the variable's columns.
        normalised: days of all columns by sample, as `Columns` has them.
        rows: of these, that belong to the group, by sample.
        dates: of the rows.
        seed: of the random order of days that are equal.
    """

    place: AmountColumns
    normalised: Days
    rows: Days
    dates: Days
    seed: int

    def without_change(self, window: slice) -> Float32:
        """The simulation with its history's distribution: each day's quantile there.

        Args:
            window: days of the simulation that are ranked among themselves.

        Returns:
            normalised amounts, shape (days, columns).
        """
        ties = self._uniforms(window)[:, None]
        result = np.empty((len(ties), self._width), dtype=np.float32)
        for block in self._blocks():
            _, hist, sim = self._values(block, window)
            for part in self._parts(window):
                if part.sim.size < quantile.FEWEST:
                    result[part.sim, block] = sim[part.sim]
                    continue
                places = ranks(sim[part.sim], ties[part.sim]) / (part.sim.size - 1)
                result[part.sim, block] = quantiles_at(hist[part.hist], places)
        return result

    def with_change(self, order: Float32, window: slice) -> Changed:
        """The distribution of quantile delta mapping in the order of the transported days.

        Args:
            order: of the window's days, any increasing function of amounts, (days, columns).
            window: as for `without_change`.

        Returns:
            amounts in the variable's units, shape (days, columns), and their factors.
        """
        result, bounded, factors = np.empty_like(order), 0, 0
        for block in self._blocks():
            values = self._values(block, window)
            for part in self._parts(window):
                days = (v[rows] for v, rows in zip(values, part, strict=True))
                mapped = self._mapped(Days(*days), Days(*self._dates(part, window)), block)
                result[part.sim, block] = in_order_of(mapped.amounts, order[part.sim, block])
                bounded, factors = bounded + mapped.bounded, factors + mapped.factors
        return Changed(self._with_dry_days(result), bounded, factors)

    def of_reference(self, order: Float32, history: Float32) -> Float32:
        """The reference's amount at a day's place in the transported history.

        Args:
            order, history: what the transport made of all days of the simulation and of the
                history, any increasing function of amounts, (days, columns).

        Returns:
            amounts in the variable's units, shape (days, columns).
        """
        everything = slice(0, len(order))
        uniforms, result = self._uniforms(everything), np.empty_like(order)
        for block in self._blocks():
            ref, _, _ = self._values(block, everything)
            for part in self._parts(everything):
                places = probabilities_within(
                    history[part.hist, block], order[part.sim, block], uniforms[part.sim]
                )
                amounts = self.place.inverse(ref[part.ref])
                result[part.sim, block] = quantiles_at(amounts, places)
        return self._with_dry_days(result)

    @property
    def _width(self) -> int:
        return int(self.place.columns.stop - self.place.columns.start)

    def _blocks(self) -> Iterator[slice]:
        step = max(1, _BLOCK_BYTES // (8 * max(map(len, self.rows))))
        for start in range(0, self._width, step):
            yield slice(start, min(start + step, self._width))

    def _values(self, block: slice, window: slice) -> Days:
        """Normalised values of a block of columns."""
        first = self.place.columns.start
        columns = slice(first + block.start, first + block.stop)
        rows = self.rows._replace(sim=self.rows.sim[window])
        return Days(*(v[:, columns][r] for v, r in zip(self.normalised, rows, strict=True)))

    def _uniforms(self, window: slice) -> Float64:
        """A number from 0 to 1 for each day of the simulation, whatever group it is in."""
        numbers = np.random.default_rng(self.seed).random(len(self.normalised.sim))
        return np.asarray(numbers[self.rows.sim[window]])

    def _dates(self, part: Days, window: slice) -> Iterator[Dates]:
        dates = self.dates._replace(sim=self.dates.sim[window])
        return (days[rows] for days, rows in zip(dates, part, strict=True))

    def _parts(self, window: slice) -> list[Days]:
        return days_alike(self.dates._replace(sim=self.dates.sim[window]))

    def _mapped(self, normalised: Days, dates: Days, block: slice) -> Changed:
        """Amounts of the simulation by quantile delta mapping, dry days all different."""
        ref, hist, sim = (
            self._distinct(name, self.place.inverse(values), block.start)
            for name, values in zip(Days._fields, normalised, strict=True)
        )
        if len(sim) < quantile.FEWEST:
            # Too few to be ranked among themselves: each by its place in the history.
            places = probabilities_within(hist, sim, np.full(len(sim), 0.5))
            ratios = _ratios(quantiles_at(ref, places), quantiles_at(hist, places))
            return Changed(sim * ratios, 0, 0)
        trained = quantile.train(
            ref,
            hist,
            ref_dates=dates.ref,
            hist_dates=dates.hist,
            kind="multiplicative",
            grouping=Grouping("none"),
            quantiles=_QUANTILES,
        )
        mapped = quantile.adjust(trained, sim, dates.sim, max_ratio=_MAX_RATIO).values
        mapped = self._with_changed_dryness(mapped, Days(ref, hist, sim))
        return self._with_mean_change(mapped, Days(*map(self._with_dry_days, (ref, hist, sim))))

    def _with_changed_dryness(self, mapped: Float32, amounts: Days) -> Float32:
        """Days whose quantile is dry in history or simulation, where a ratio says nothing.

        What was dry and stays so is as the reference is; what was wet becomes dry; what was dry
        and becomes wet is as wet as the simulation, and not drier than the reference.
        """
        ref, hist, sim = amounts
        if self.place.trace is None:
            return mapped
        places = ranks(sim, sim) / (len(sim) - 1)
        dry_before = quantiles_at(hist, places) < self.place.trace
        mapped = np.where(sim < self.place.trace, np.float32(0.0), mapped)
        at_least = np.maximum(quantiles_at(ref, places), self._with_dry_days(sim))
        return np.where(dry_before, at_least, mapped)

    def _with_mean_change(self, mapped: Float32, amounts: Days) -> Changed:
        """The mean's change is the simulation's: mean(ref) mean(sim) / mean(hist).

        Where the share of dry days changes, ratios of quantiles miss it by a tenth: wet quantiles
        of one sample meet dry ones of the other.
        """
        mapped = self._with_dry_days(mapped)
        ref, hist, sim, found = (v.mean(axis=0, dtype=np.float64) for v in (*amounts, mapped))
        wanted, divisor = ref * np.minimum(sim, _MAX_RATIO * hist), hist * found
        factor = np.divide(wanted, divisor, out=np.ones_like(wanted), where=divisor > 0)
        held = np.clip(factor, 1.0 / LARGEST_FACTOR, LARGEST_FACTOR)
        changed = np.asarray(mapped * held, dtype=np.float32)
        return Changed(changed, int((held != factor).sum()), factor.size)

    def _distinct(self, name: str, amounts: Float32, first: int) -> Float32:
        if self.place.trace is None:
            return amounts
        trace = self.place.trace
        return jitter_dry(amounts, trace, seed=self.seed, stream=name, first_cell=first)

    def _with_dry_days(self, amounts: Float32) -> Float32:
        return amounts if self.place.trace is None else dry_below(amounts, self.place.trace)


def _ratios(ref: Float32, hist: Float32) -> Float32:
    bound = np.float32(_MAX_RATIO)
    ratio = np.divide(ref, hist, out=np.full_like(ref, bound), where=hist > 0)
    return np.asarray(np.minimum(ratio, bound))


def days_alike(dates: Days) -> list[Days]:
    """Numbers of the days that share a distribution, by sample.

    These are the days of each month of the simulation, or all where a month has few of them in
    one of the samples.
    """
    months = [np.fromiter((d.month for d in days), np.intp, len(days)) for days in dates]
    by_month = [
        Days(*(np.flatnonzero(numbers == month) for numbers in months))
        for month in np.unique(months[-1])
    ]
    if min(rows.size for part in by_month for rows in part) >= _FEWEST:
        return by_month
    return [Days(*(np.arange(len(days)) for days in dates))]
