"""How long the detail lasts that a prior has to invent: the lag-one autocorrelations of its card.

A cell's detail here is what the coarse means around it leave open, linearly. The rest of a field
follows from its input, day by day, and has the input's persistence without any help.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from climdown import cf, regrid
from climdown.arrays import Floats as Values
from climdown.grid import Grid
from climdown.metrics.autocorrelation import lag_one_autocorrelation
from climdown.training.reader import Index

if TYPE_CHECKING:
    from climdown.training.data import Samples

# At most so many pairs of steps and fine cells are looked at, evenly spread.
_PAIRS, _CELLS = 512, 8192
# A cell is regressed on its coarse cell and the eight around; fewer days could not tell them apart.
_AROUND = 9
_FEWEST_DAYS = 10 * _AROUND


def lag_correlations(
    train: Samples, dates: Sequence[Any], step_days: float, *, factor: int
) -> list[float]:
    """Lag-one autocorrelation of each variable's detail, normalised; empty where it cannot be told.

    Pairs are of consecutive steps, gaps are left out. Means are taken month by month, since the
    cycle of the seasons is no weather's memory.

    Args:
        dates: of all training fields.
        step_days: of the data.
        factor: fine cells per coarse cell, along each axis.
    """
    steps = np.array([(b - a).total_seconds() / 86400.0 for a, b in itertools.pairwise(dates)])
    # Calendar months differ by up to a tenth.
    pairs = cf.evenly(np.flatnonzero(steps < 1.25 * step_days), _PAIRS)
    days = np.unique(np.concatenate([pairs, pairs + 1]))
    if len(days) < _FEWEST_DAYS:
        return []
    grid = train.reader.fields[0].grid
    blocks = _Blocks(grid, factor, np.asarray(train.mask.any(axis=0)))
    parts = np.array_split(days, -(-len(days) // train.reader.block))
    read = [blocks.of(train, part) for part in parts]
    cells, around = (np.concatenate(part) for part in zip(*read, strict=True))
    months = np.array([dates[i].month for i in days])
    first = np.searchsorted(days, pairs)
    second = np.searchsorted(days, pairs + 1)
    found = []
    for variable in range(cells.shape[1]):
        left = np.stack(
            [
                _unexplained(cells[:, variable, k], around[:, variable, k], months)
                for k in range(cells.shape[2])
            ],
            axis=1,
        )
        found.append(lag_one_autocorrelation(left[first], left[second], blocks.areas))
    return found


class _Blocks:
    """Some of the coarse cells: their fine cells, and the coarse cells around them."""

    def __init__(self, grid: Grid, factor: int, mask: npt.NDArray[np.bool_]) -> None:
        coarse = grid.coarsen(factor)
        ny, nx = coarse.shape
        known = mask[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor).any(axis=(1, 3))
        chosen = cf.evenly(np.flatnonzero(known), max(1, _CELLS // factor**2))
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
        self._lower = regrid.weights(grid, coarse, "conservative")
        self.areas = grid.areas[self._fine].reshape(len(chosen), -1)

    def of(self, train: Samples, days: Index) -> tuple[Values, Values]:
        """Normalised values of fine cells, (n, variables, blocks, cells); of coarse ones around."""
        x, known, _ = train.take(days)
        values = np.where(known.numpy() > 0, x.numpy(), np.nan)
        means = self._lower.apply(values)
        return _flat(values, *self._fine), _flat(means, *self._around)


def _flat(values: Values, rows: Index, columns: Index) -> Values:
    return values[:, :, rows, columns].reshape(*values.shape[:2], len(rows), -1)


def _unexplained(cells: Values, around: Values, months: Index) -> Values:
    """What a linear regression on the coarse cells around leaves, shape (days, cells)."""
    y, x = (_anomalies(part, months) for part in (cells, around))
    known = np.isfinite(y)
    # What is missing on some days counts as its mean.
    y, x = np.nan_to_num(y), np.nan_to_num(x)
    coefficients, *_ = np.linalg.lstsq(x, y, rcond=1e-6)
    return np.where(known, y - x @ coefficients, np.nan)


def _anomalies(values: Values, months: Index) -> Values:
    values = values.astype(np.float64)
    for month in np.unique(months):
        rows = months == month
        known = np.isfinite(values[rows])
        total = np.where(known, values[rows], 0.0).sum(axis=0)
        values[rows] -= total / np.maximum(known.sum(axis=0), 1)
    return values
