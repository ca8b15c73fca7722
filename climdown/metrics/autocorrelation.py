"""Temporal autocorrelation at a lag of one time step."""

from __future__ import annotations

import numpy as np

from climdown.arrays import Floats


def lag_one_autocorrelation(first: Floats, second: Floats, areas: Floats) -> float:
    """Correlation of fields with those one time step later, pooled over cells by area.

    Each cell's mean over the pairs is subtracted from either side first, so that a pattern which
    does not change with time adds nothing.

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
