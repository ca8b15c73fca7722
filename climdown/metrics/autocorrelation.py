"""How much of a step's fine detail is still there at the next: lag-one autocorrelation."""

from __future__ import annotations

import numpy as np

from climdown import regrid
from climdown.arrays import Floats
from climdown.grid import Grid


def fine_detail(fields: Floats, fine: Grid, coarse: Grid) -> Floats:
    """Fields minus their coarse means, interpolated bilinearly; shape (..., ny, nx), as given.

    NaN where a field is missing, or all coarse cells around.
    """
    means = regrid.weights(fine, coarse, "conservative").apply(fields)
    return fields - regrid.weights(coarse, fine, "bilinear").apply(means)


def lag_correlation(first: Floats, second: Floats, areas: Floats) -> float:
    """Correlation of pairs of fields one step apart, pooled over cells by their area.

    Each cell's means over the pairs are taken off: what stands still is no persistence.

    Args:
        first, second: shape (pairs, ...), NaN where missing.
        areas: shape (...).

    Returns:
        -1 to 1; 0 where nothing varies.
    """
    both = np.isfinite(first) & np.isfinite(second)
    count = np.maximum(both.sum(axis=0), 1)
    a, b = (np.where(both, x, 0.0).astype(np.float64) for x in (first, second))
    a, b = (np.where(both, x - x.sum(axis=0) / count, 0.0) for x in (a, b))
    covariance, one, two = (float((x * areas).sum()) for x in (a * b, a * a, b * b))
    scale = float(np.sqrt(one * two))
    return float(np.clip(covariance / scale, -1.0, 1.0)) if scale > 0 else 0.0
