"""Means, deviations and quantiles of the training data in one pass, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from climdown import regrid
from climdown.bias import quantile
from climdown.grid import FloatArray, Grid
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
        self._lower = regrid.weights(grid, coarse, "conservative")
        self._shift: FloatArray | None = None
        self._days = 0
        self._count = np.zeros(grid.shape)
        self._total = np.zeros(grid.shape)
        # Sums of the transformed values: logarithms, or differences from the first field.
        self._sum = np.zeros(grid.shape)
        self._squares = np.zeros(grid.shape)
        self._lowered: list[npt.NDArray[np.float32]] = []

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count a block of fields in, shape (n, ny, nx), NaN where missing."""
        values = values.astype(np.float64)
        valid = np.isfinite(values)
        if self._shift is None:
            # Sums of squares of differences keep their digits; those of pressures would not.
            self._shift = np.nan_to_num(values[0], posinf=0.0, neginf=0.0)
        known = np.where(valid, values, 0.0)
        z = known - self._shift if self.log is None else self.log.forward(known)
        z = np.where(valid, z, 0.0)
        self._days += len(values)
        self._count += valid.sum(axis=0)
        self._total += known.sum(axis=0)
        self._sum += z.sum(axis=0)
        self._squares += (z**2).sum(axis=0)
        lowered = self._lower.apply(np.where(valid, values, np.nan), min_coverage=_MIN_COVER)
        self._lowered.append(lowered.astype(np.float32))

    def mask(self, min_valid: float) -> npt.NDArray[np.bool_]:
        """Cells observed on at least this fraction of days, shape (ny, nx)."""
        return np.asarray(self._count >= min_valid * self._days)

    def climatology(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Mean of each cell, zero outside the mask, shape (ny, nx)."""
        mean = np.where(mask, self._total / np.maximum(self._count, 1), 0.0)
        return mean.astype(np.float32)

    def transform(self, name: str, mask: npt.NDArray[np.bool_]) -> Chain:
        """The chain that standardises the variable over the cells of a mask."""
        count = float(self._count[mask].sum())
        if self.log is not None:
            mean = float(self._sum[mask].sum()) / count
            variance = float(self._squares[mask].sum()) / count - mean**2
            return Chain((self.log, Standardise(mean, float(np.sqrt(variance)))))
        # The card stores float32; fit with what will be read back.
        climatology = self.climatology(mask).astype(np.float64)
        away = climatology - (self._shift if self._shift is not None else 0.0)
        squares = self._squares - 2.0 * away * self._sum + self._count * away**2
        std = float(np.sqrt(squares[mask].sum() / count))
        return Chain((Anomaly(climatology, f"climatology_{name}"), Standardise(0.0, std)))

    def quantiles(
        self, months: Sequence[int], *, among: Sequence[int] | None = None
    ) -> npt.NDArray[np.float32]:
        """Quantiles per coarse cell, shape (months + 1, nodes, ny, nx), the last over all months.

        Args:
            months: of every field that was counted, in order.
            among: months to answer for, NaN where none was counted; None takes those counted.
        """
        flat = np.concatenate(self._lowered).reshape(self._days, -1)
        nodes = quantile.nodes(_QUANTILES if self.log is None else _LOG_QUANTILES)
        names = np.asarray(months)
        members = [np.flatnonzero(names == month) for month in sorted(set(among or months))]
        padded = np.full((len(members) + 1, len(names)), -1)
        for row, index in zip(padded, [*members, np.arange(len(names))], strict=True):
            row[: len(index)] = index
        found = quantile.group_quantiles(flat, padded, nodes)
        return np.asarray(found.reshape(*found.shape[:2], *self.coarse.shape), dtype=np.float32)


def normalised_pattern(
    climatology: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], chain: Chain
) -> npt.NDArray[np.float32]:
    """The climatology as a conditioning channel of zero mean and unit variance."""
    z = chain.without_fields().forward(climatology.astype(np.float64))
    z = (z - z[mask].mean()) / z[mask].std()
    return np.asarray(np.where(mask, z, 0.0), dtype=np.float32)
