"""Means, deviations and quantiles of the training data in one pass, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from climdown import regrid
from climdown.arrays import Float32, Float64, Mask
from climdown.bias import quantile
from climdown.grid import Grid
from climdown.transforms import Anomaly, Chain, Log, Standardise

# Reference quantiles per coarse cell that a prior carries; skewed variables need more.
_QUANTILES, _LOG_QUANTILES = 100, 500
# Coarse cells of which the observations fill less have no reference.
_MIN_COVER = 0.1


class VariableStatistics:
    """What one variable's transform and reference need, collected block by block.

    Args:
        offset: of the logarithm; None for anomalies from each cell's mean.
        coarse: the grid of the reference quantiles.
    """

    def __init__(self, grid: Grid, coarse: Grid, *, offset: float | None) -> None:
        self.grid, self.coarse = grid, coarse
        self.log = None if offset is None else Log(offset)
        self._to_coarse = regrid.weights(grid, coarse, "conservative")
        self._shift: Float64 | None = None
        self._days = 0
        self._count = np.zeros(grid.shape)
        self._total = np.zeros(grid.shape)
        # Sums of the transformed values: logarithms, or differences from the first field.
        self._sum = np.zeros(grid.shape)
        self._squares = np.zeros(grid.shape)
        self._coarse_fields: list[Float32] = []

    def add(self, values: Float32) -> None:
        """Count a block of fields in, shape (n, ny, nx), NaN where missing."""
        values = values.astype(np.float64)
        valid = np.isfinite(values)
        if self._shift is None:
            # Sums of squares of differences keep their digits; those of pressures would not.
            self._shift = np.nan_to_num(values[0], posinf=0.0, neginf=0.0)
        filled = np.where(valid, values, 0.0)
        z = filled - self._shift if self.log is None else self.log.forward(filled)
        z = np.where(valid, z, 0.0)
        self._days += len(values)
        self._count += valid.sum(axis=0)
        self._total += filled.sum(axis=0)
        self._sum += z.sum(axis=0)
        self._squares += (z**2).sum(axis=0)
        averaged = self._to_coarse.apply(np.where(valid, values, np.nan), min_coverage=_MIN_COVER)
        self._coarse_fields.append(averaged.astype(np.float32))

    def mask(self, min_valid: float) -> Mask:
        """Cells observed on at least this fraction of days, shape (ny, nx)."""
        return np.asarray(self._count >= min_valid * self._days)

    def climatology(self, mask: Mask) -> Float32:
        """Mean of each cell, zero outside the mask, shape (ny, nx)."""
        mean = np.where(mask, self._total / np.maximum(self._count, 1), 0.0)
        return mean.astype(np.float32)

    def transform(self, name: str, mask: Mask) -> Chain:
        """The chain that standardises the variable over the cells of a mask."""
        count = float(self._count[mask].sum())
        if self.log is not None:
            mean = float(self._sum[mask].sum()) / count
            variance = float(self._squares[mask].sum()) / count - mean**2
            return Chain((self.log, Standardise(mean, float(np.sqrt(variance)))))
        # The card stores float32; fit with what will be read back.
        climatology = self.climatology(mask).astype(np.float64)
        difference = climatology - (self._shift if self._shift is not None else 0.0)
        squares = self._squares - 2.0 * difference * self._sum + self._count * difference**2
        std = float(np.sqrt(squares[mask].sum() / count))
        return Chain((Anomaly(climatology, f"climatology_{name}"), Standardise(0.0, std)))

    def quantiles(self, months: Sequence[int], *, among: Sequence[int] | None = None) -> Float32:
        """Quantiles per coarse cell, shape (months + 1, nodes, ny, nx), the last over all months.

        Args:
            months: of every field that was counted, in order.
            among: months to answer for, NaN where none was counted; None takes those counted.
        """
        flat = np.concatenate(self._coarse_fields).reshape(self._days, -1)
        nodes = quantile.nodes(_QUANTILES if self.log is None else _LOG_QUANTILES)
        names = np.asarray(months)
        members = [np.flatnonzero(names == month) for month in sorted(set(among or months))]
        padded = np.full((len(members) + 1, len(names)), -1)
        for row, index in zip(padded, [*members, np.arange(len(names))], strict=True):
            row[: len(index)] = index
        quantiles = quantile.group_quantiles(flat, padded, nodes)
        shape = (*quantiles.shape[:2], *self.coarse.shape)
        return np.asarray(quantiles.reshape(shape), dtype=np.float32)


def normalised_pattern(climatology: Float32, mask: Mask, chain: Chain) -> Float32:
    """The climatology as a conditioning channel of zero mean and unit variance."""
    z = chain.without_fields().forward(climatology.astype(np.float64))
    z = (z - z[mask].mean()) / z[mask].std()
    return np.asarray(np.where(mask, z, 0.0), dtype=np.float32)
