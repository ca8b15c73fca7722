"""Lag-one autocorrelation of the fine detail that a prior draws, for its card.

A cell's detail here is its residual from a linear regression on the coarse means around it. The
rest of a field follows from its input, day by day, and with it the input's autocorrelation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from climdown import cf, regrid
from climdown.arrays import Floats, Index, Mask
from climdown.grid import Grid
from climdown.metrics.autocorrelation import lag_one_autocorrelation
from climdown.training.samples import Samples

# At most so many pairs of steps and fine cells are looked at, evenly spread.
_PAIRS, _CELLS = 512, 8192
# A cell is regressed on its coarse cell and the eight around; fewer days would not determine it.
_AROUND = 9
_FEWEST_DAYS = 10 * _AROUND


def lag_one_autocorrelations(
    train: Samples, dates: Sequence[Any], step_days: float, *, factor: int
) -> list[float]:
    """Lag-one autocorrelation of each variable's detail, normalised; empty with too few days.

    Pairs are of consecutive steps, gaps are left out. Means are taken month by month, since the
    seasonal cycle is no autocorrelation of the weather.

    Args:
        dates: of all training fields.
        step_days: of the data.
        factor: fine cells per coarse cell, along each axis.
    """
    pairs = _consecutive(dates, step_days)
    days = np.unique(np.concatenate([pairs, pairs + 1]))
    if len(days) < _FEWEST_DAYS:
        return []
    grid = train.reader.fields[0].grid
    blocks = _Blocks(grid, factor, np.asarray(train.mask.any(axis=0)))
    parts = np.array_split(days, -(-len(days) // train.reader.block))
    read = [blocks.of(train, part) for part in parts]
    cells, around = (np.concatenate(part) for part in zip(*read, strict=True))
    months = np.array([dates[i].month for i in days])
    first, second = np.searchsorted(days, pairs), np.searchsorted(days, pairs + 1)
    correlations = []
    for variable in range(cells.shape[1]):
        residuals = _residuals(cells[:, variable], around[:, variable], months)
        correlations.append(
            lag_one_autocorrelation(residuals[first], residuals[second], blocks.areas)
        )
    return correlations


def _consecutive(dates: Sequence[Any], step_days: float) -> Index:
    """Positions of dates that the next one follows by one step; some, where there are many."""
    steps = np.array([(b - a).total_seconds() / 86400.0 for a, b in itertools.pairwise(dates)])
    # Calendar months differ by up to a tenth.
    return cf.evenly(np.flatnonzero(steps < 1.25 * step_days), _PAIRS)


class _Blocks:
    """Some of the coarse cells: their fine cells, and the coarse cells around them."""

    def __init__(self, grid: Grid, factor: int, mask: Mask) -> None:
        coarse = grid.coarsen(factor)
        ny, nx = coarse.shape
        valid = mask[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor).any(axis=(1, 3))
        chosen = cf.evenly(np.flatnonzero(valid), max(1, _CELLS // factor**2))
        rows, columns = np.unravel_index(chosen, coarse.shape)
        inner = np.arange(factor)
        self._fine = (
            (rows[:, None] * factor + inner)[:, :, None],
            (columns[:, None] * factor + inner)[:, None, :],
        )
        beside = columns[:, None] + np.array([-1, 0, 1])
        beside = beside % nx if grid.periodic else beside.clip(0, nx - 1)
        above = (rows[:, None] + np.array([-1, 0, 1])).clip(0, ny - 1)
        self._around = above[:, :, None], beside[:, None, :]
        self._to_coarse = regrid.weights(grid, coarse, "conservative")
        self.areas = grid.areas[self._fine].reshape(len(chosen), -1)

    def of(self, train: Samples, days: Index) -> tuple[Floats, Floats]:
        """Normalised values of fine cells, (n, variables, blocks, cells); of coarse ones around."""
        x, observed, _ = train.take(days)
        values = np.where(observed.numpy() > 0, x.numpy(), np.nan)
        means = self._to_coarse.apply(values)
        return _flat(values, *self._fine), _flat(means, *self._around)


def _flat(values: Floats, rows: Index, columns: Index) -> Floats:
    return values[:, :, rows, columns].reshape(*values.shape[:2], len(rows), -1)


def _residuals(cells: Floats, around: Floats, months: Index) -> Floats:
    """Of a variable's fine cells, block by block, shape (days, blocks, cells)."""
    blocks = range(cells.shape[1])
    return np.stack([_residual(cells[:, k], around[:, k], months) for k in blocks], axis=1)


def _residual(cells: Floats, around: Floats, months: Index) -> Floats:
    """From a linear regression on the coarse cells around, shape (days, cells)."""
    y, x = (_anomalies(part, months) for part in (cells, around))
    valid = np.isfinite(y)
    # What is missing on some days counts as its mean.
    y, x = np.nan_to_num(y), np.nan_to_num(x)
    coefficients, *_ = np.linalg.lstsq(x, y, rcond=1e-6)
    return np.where(valid, y - x @ coefficients, np.nan)


def _anomalies(values: Floats, months: Index) -> Floats:
    values = values.astype(np.float64)
    for month in np.unique(months):
        rows = months == month
        valid = np.isfinite(values[rows])
        total = np.where(valid, values[rows], 0.0).sum(axis=0)
        values[rows] -= total / np.maximum(valid.sum(axis=0), 1)
    return values
