"""The least deviation by which a column is standardised: what both sides and neighbours support."""

from __future__ import annotations

import numpy as np

from climdown.adjust.columns import Columns
from climdown.arrays import Float32, Float64
from climdown.bias.reduction import deviations

# Shares of a deviation that a column's own may not fall below: of the historical one and of the
# cells around, then of the variable's everywhere.
_NEAR, _EVERYWHERE = 0.5, 0.1
_REACH = 2  # cells to each side


def least_deviations(columns: Columns, ref: Float32, hist: Float32) -> Float32:
    """Lower bounds of the reference's deviations.

    A cell where it rained on one day of hundreds would have that day some tens of its deviations
    away from all others, so that one cell decided which days are alike.

    Args:
        ref, hist: normalised days, shape (days, columns).

    Returns:
        shape (columns,).
    """
    ny, nx = columns.series[0].grid.shape
    of_ref, of_hist = deviations(ref), deviations(hist)
    bounds = [_NEAR * of_hist]
    fields = columns.on_grid(of_ref[None]).reshape(-1, ny, nx).astype(np.float64)
    around = np.stack([median_around(field) for field in fields]).reshape(-1)
    bounds.append(_NEAR * around[columns.cells])
    for span in columns.spans:
        everywhere = np.sqrt(np.mean(of_ref[span].astype(np.float64) ** 2))
        bounds.append(np.zeros_like(of_ref))
        bounds[-1][span] = _EVERYWHERE * everywhere
    return np.asarray(np.max(bounds, axis=0), dtype=np.float32)


def median_around(field: Float64) -> Float64:
    """Median over each cell and those up to two cells away, NaN left out, shape (ny, nx)."""
    padded = np.pad(field, _REACH, constant_values=np.nan)
    width = 2 * _REACH + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width))
    # Cells without any value around them are no columns.
    known = np.isfinite(windows).any(axis=(-1, -2))
    result = np.full(field.shape, np.nan)
    result[known] = np.nanmedian(windows[known], axis=(-1, -2))
    return result
