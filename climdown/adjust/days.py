"""Days of a group: standardised, transported and brought back to the variables' units."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from climdown.adjust.amounts import LARGEST_FACTOR, Amounts, Days
from climdown.adjust.columns import Columns
from climdown.adjust.deviation import least_deviations
from climdown.adjust.options import OTOptions
from climdown.adjust.periods import moving_periods
from climdown.arrays import Float32, Float64
from climdown.bias import transport
from climdown.bias.reduction import Reduction, Standardiser, leading_eofs
from climdown.compute.device import to_device, to_host

log = logging.getLogger(__name__)

# Of the years, this many at the end are held out to choose epsilon.
_HELD_OUT = 0.25
FEWEST = 20  # days of a group in either sample


@dataclass(frozen=True, eq=False)
class _Sample:
    """Standardised points of a group and the winters they are from, by their January."""

    points: Any
    years: npt.NDArray[np.int64]

    def split(self) -> tuple[Any, Any]:
        """Points of the first years, and of those held out."""
        years = np.unique(self.years)
        first_held = years[-max(1, round(_HELD_OUT * years.size))]
        held = self.years >= first_held
        return self.points[~held], self.points[held]


@dataclass(frozen=True, eq=False)
class _Moves:
    """Where the transport takes standardised days: a mean of observed days, or one of them.

    Attributes:
        uniforms: for each day, which observed one is drawn; None takes the mean.
    """

    fitted: transport.Transport
    reduction: Reduction | None

    def __call__(self, points: Any, uniforms: Any | None) -> Any:
        """Days (n, columns) moved; with uniforms (n,) by draws."""

        def move(reduced: Any) -> Any:
            if uniforms is None:
                return self.fitted(reduced)
            return self.fitted.sample(reduced, uniforms)

        return move(points) if self.reduction is None else self.reduction.lift(move)(points)


class Group:
    """Days that are transported together, standardised by the reference's.

    Args:
        rows: of `columns`, by sample.
    """

    def __init__(
        self,
        columns: Columns,
        rows: Mapping[str, npt.NDArray[np.intp]],
        options: OTOptions,
        device: str,
    ) -> None:
        self.columns, self.options, self.device = columns, options, device
        self.rows = Days(**rows)
        self.dates = Days(*(columns.dates[name][rows[name]] for name in Days._fields))
        ref, hist = columns.ref[self.rows.ref], columns.hist[self.rows.hist]
        self.standardiser = Standardiser.fit(ref, least_deviations(columns, ref, hist))
        self.ref, self.hist, self.sim = map(self._sample, Days._fields)
        normalised = Days(columns.ref, columns.hist, columns.sim)
        self.amounts = [
            Amounts(place, normalised, self.rows, self.dates, options.seed)
            for place in columns.amounts
        ]
        self.factors: dict[str, tuple[int, int]] = {}  # by variable, bounded ones and all

    def adjust(self) -> tuple[Float32, str]:
        """Days of the simulation in the variables' units, and a sentence on them."""
        options = self.options
        ref, hist, reduction = self._reduced(options.eofs)
        fitted = transport.fit(
            hist.points,
            ref.points,
            epsilon=options.epsilon or _chosen_epsilon(hist, ref, options),
            tolerance=options.tolerance,
            max_iterations=options.max_iterations,
        )
        moves = _Moves(fitted, reduction)
        adjusted = self._with_change(moves) if options.keep_change else self._as_reference(moves)
        text = (
            f"{len(hist.points)} historical and {len(ref.points)} reference days, epsilon "
            f"{fitted.epsilon:g}, {fitted.iterations} iterations, marginal error "
            f"{fitted.marginal_error:.1e}"
        )
        if reduction is not None:
            text += f", {len(reduction.eofs)} EOFs ({reduction.explained:.1%} of the variance)"
        if names := " and ".join(one.place.name for one in self.amounts):
            text += f", the distribution of {names} by quantile mapping"
        return adjusted, text + self._bounds()

    def _bounds(self) -> str:
        """Where the mean of an amount was not changed as far as the simulation's, in words."""
        return "".join(
            f", the factor of the mean of {name} bounded to {1 / LARGEST_FACTOR:g} to "
            f"{LARGEST_FACTOR:g} for {bounded} of {factors} cells and months"
            for name, (bounded, factors) in self.factors.items()
            if bounded
        )

    def _sample(self, name: str) -> _Sample:
        values = self.standardiser.forward(getattr(self.columns, name)[getattr(self.rows, name)])
        years = np.array([d.year + (d.month == 12) for d in getattr(self.dates, name)])
        return _Sample(to_device(values.astype(np.float32), self.device), years)

    def _reduced(self, eofs: float | None) -> tuple[_Sample, _Sample, Reduction | None]:
        """Reference and historical days within leading EOFs, a share of the variance or a count."""
        if eofs is None:
            return self.ref, self.hist, None
        points = self.hist.points, self.ref.points
        reduction = (
            leading_eofs(*points, count=int(eofs))
            if eofs > 1
            else leading_eofs(*points, explained=eofs)
        )
        ref, hist = (_Sample(reduction.reduce(s.points), s.years) for s in (self.ref, self.hist))
        return ref, hist, reduction

    def _as_reference(self, moves: _Moves) -> Float32:
        """The simulation as if it were of the reference's climate."""
        days = to_host(moves(self.sim.points, self._uniforms("sim")))
        result = self._in_units(days)
        if self.amounts:
            history = to_host(moves(self.hist.points, self._uniforms("hist")))
        for one in self.amounts:
            span = one.place.columns
            result[:, span] = one.of_reference(days[:, span], history[:, span])
        return result

    def _with_change(self, moves: _Moves) -> Float32:
        """The simulation, period by period, its change taken off before the map and put back."""
        before = to_host(self.hist.points).mean(axis=0, dtype=np.float64)
        result = np.empty((len(self.rows.sim), self.columns.sim.shape[1]), dtype=np.float32)
        for part, window in moving_periods(self.dates.sim, self.options.years):
            # Amounts are ranked within the window: there all of its days are moved.
            rows = window if self.amounts else part
            change = to_host(self.sim.points)[window].mean(axis=0, dtype=np.float64) - before
            days = self._moved(moves, rows, change)
            values = self._in_units(days)
            for one in self.amounts:
                span = one.place.columns
                changed = one.with_change(days[:, span], window)
                values[:, span] = changed.amounts
                bounded, factors = self.factors.get(one.place.name, (0, 0))
                counts = bounded + changed.bounded, factors + changed.factors
                self.factors[one.place.name] = counts
            result[part] = values[part.start - rows.start : part.stop - rows.start]
        return result

    def _moved(self, moves: _Moves, rows: slice, change: Float64) -> Float32:
        """Days moved as their history is: less the mean change; amounts less all change."""
        points = self.sim.points[rows]
        if self.amounts:
            points, change = to_host(points).copy(), change.copy()
            for one in self.amounts:
                span = one.place.columns
                mean, std = self.standardiser.mean[span], self.standardiser.std[span]
                points[:, span] = (one.without_change(rows) - mean) / std
                change[span] = 0.0
            points = to_device(points, self.device)
        uniforms = self._uniforms("sim", rows)
        shift = to_device(change.astype(np.float32), self.device)
        return to_host(transport.adjust(lambda x: moves(x, uniforms), points, shift))

    def _in_units(self, days: Float32) -> Float32:
        return np.asarray(self.standardiser.inverse(days).astype(np.float32))

    def _uniforms(self, name: str, part: slice = slice(None)) -> Any | None:
        """For each day of a sample the number that draws an observed one; None: no draws."""
        if self.options.map == "barycentre":
            return None
        stream = Days._fields.index(name)
        rng = np.random.default_rng([self.options.seed, stream])
        numbers = rng.random(len(getattr(self.columns, name)), dtype=np.float32)
        return to_device(numbers[getattr(self.rows, name)[part]], self.device)


def _chosen_epsilon(hist: _Sample, ref: _Sample, options: OTOptions) -> float:
    """Epsilon by the last years held out; the default where there are too few to hold out."""
    (fit_hist, held_hist), (fit_ref, held_ref) = hist.split(), ref.split()
    if min(map(len, (fit_hist, held_hist, fit_ref, held_ref))) < FEWEST:
        log.warning("too few years to choose epsilon by; taking %g", transport.EPSILON)
        return transport.EPSILON
    return transport.choose_epsilon(
        fit_hist,
        fit_ref,
        held_hist,
        held_ref,
        # Averaging over many days costs variance, which an adjustment must keep.
        slack=0.02,
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
    )
