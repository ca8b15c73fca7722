"""What is judged: cells, their weights, and the scales of each variable's values.

All of it is taken from the reference, from days that are spread evenly over its period, before
anything is judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from climdown import regrid
from climdown.arrays import Float32, Float64, Floats, Index, Mask
from climdown.grid import Grid
from climdown.metrics.spectra import taper

WET = 1.0
"""mm day-1 from which a day is wet (ETCCDI; Zhang et al. 2011, doi:10.1002/wcc.147)."""
DRIZZLE = 0.1
"""mm day-1 below which a day counts as dry."""
SERIES_CELLS = 4096


@dataclass(frozen=True, eq=False)
class Scene:
    """One variable on the grid on which it is judged.

    Attributes:
        name, units: of the variable, as reported.
        amounts: whether it is precipitation: wet and dry days, spells, sums.
        grid: of all fields.
        mask: cells that are judged, shape (ny, nx).
        climatology: mean of the reference by month, shape (12, ny, nx); NaN in other months.
        deviation: of the reference within months, one number, in `units`.
        tail: 95th percentile of the reference in each cell, shape (ny, nx).
        cells: positions in the flattened grid of the cells whose series are kept, at most
            `SERIES_CELLS`, evenly spread.
        edges: between the bins of each of these cells, ascending, shape (cells, bins - 1).
        pooled: between the bins of all cells together, ascending, shape (bins - 1,).
        thresholds: values that are reached or not, by label, ascending.
        frequency: share of the reference's steps that reach each threshold, by month, shape
            (thresholds, 12, ny, nx); NaN in other months.
        coarse: cells of the input, or None.
        seed: of random ties.
    """

    name: str
    units: str
    amounts: bool
    grid: Grid
    mask: Mask
    climatology: Float64
    deviation: float
    tail: Float64
    cells: Index
    edges: Float32
    pooled: Float64
    thresholds: dict[str, float]
    frequency: Float64 = field(default_factory=lambda: np.empty((0, 12, 0, 0)))
    coarse: Coarse | None = None
    seed: int = 0

    @cached_property
    def areas(self) -> Float64:
        """Share of each cell in the area that is judged, 0 outside, shape (ny, nx)."""
        areas = np.where(self.mask, self.grid.areas, 0.0)
        return np.asarray(areas / areas.sum())

    @cached_property
    def cell_areas(self) -> Float64:
        """The same of the cells whose series are kept, summing to 1, shape (cells,)."""
        areas = self.areas.reshape(-1)[self.cells]
        return np.asarray(areas / areas.sum())

    @cached_property
    def base(self) -> Float64:
        """What departures are counted from, shape (12, ny, nx): the climatology.

        A month that the survey did not meet in a cell has the mean of its others.
        """
        known = np.isfinite(self.climatology)
        total = np.where(known, self.climatology, 0.0).sum(axis=0)
        others = np.where(self.mask, total / np.maximum(known.sum(axis=0), 1), np.nan)
        return np.where(known, self.climatology, others)

    @cached_property
    def window(self) -> Float64:
        """Taper of spectra, shape (ny, nx)."""
        return np.asarray(taper(self.mask), dtype=np.float64)

    @property
    def bins(self) -> int:
        """Number of bins of each cell's histogram."""
        return int(self.edges.shape[1]) + 1


@dataclass(frozen=True, eq=False)
class Coarse:
    """The input's cells over the region.

    Attributes:
        grid: of the input.
        weights: from the fine grid to these, conservative.
        areas: shares of the cells that are judged, those covered by the fine mask; 0 elsewhere,
            shape (cy, cx).
        edges: between the bins of the flattened cells, from the input, shape (cells, bins - 1).
    """

    grid: Grid
    weights: regrid.Weights
    areas: Float64
    edges: Float32

    def means(self, values: Floats) -> Floats:
        """Fine fields averaged over the coarse cells, shape (..., cy, cx); NaN outside."""
        known = np.isfinite(values)
        total = self._sums(np.where(known, values, np.zeros((), values.dtype)))
        # Mostly the same cells are missing in all fields.
        first = known.reshape(-1, *known.shape[-2:])[:1]
        alike = bool((known == first[0]).all())
        weight = self._sums(first)[0] if alike else self._sums(known)
        there = (self.areas > 0) & (weight > 0)
        return np.where(there, total / np.where(there, weight, 1.0), np.nan).astype(values.dtype)

    def spread(self, values: Floats) -> Float64:
        """The transpose: amounts of coarse cells, shape (..., cy, cx), handed to the fine ones.

        Each fine cell gets its share of each coarse cell; the sum over the domain is kept where
        coarse cells are covered.
        """
        lat, lon = self._factors
        return np.asarray(lat.T @ (values @ lon))

    @cached_property
    def _factors(self) -> tuple[Float64, Float64]:
        """The weights are products of two small matrices, which is much faster than themselves."""
        source = self.weights.source
        assert isinstance(source, Grid)
        return regrid.axis_weights(source, self.grid, "conservative")

    def _sums(self, values: Floats | Mask) -> Float64:
        lat, lon = self._factors
        rows = values.reshape(-1, values.shape[-1]).astype(np.float64) @ lon.T
        return np.asarray(lat @ rows.reshape(*values.shape[:-1], len(lon)))
