"""Maps and profiles made of sums, for measures and figures; each with a leading axis of resamples.

Sums of maps (`fields.moments`) have shape (R, ny, nx).
"""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float64, Floats
from climdown.evaluation.measure import Resampled, divided
from climdown.evaluation.scene import Scene


def weighted(values: Floats, weights: Floats) -> Float64:
    """Mean over the last axis of the finite values, shape (...); NaN where there are none."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0) @ weights
    return divided(total, known @ weights)


def area_mean(scene: Scene, maps: Float64) -> Float64:
    """Area-weighted mean over the cells that have a value, from (R, ny, nx) to (R,)."""
    return weighted(maps.reshape(len(maps), -1), scene.areas.reshape(-1))


def mean_map(sums: Resampled) -> Float64:
    """Mean of each cell over steps and members, shape (R, ny, nx), in the variable's units."""
    return divided(sums["sum"], sums["count"])


def deviation_map(sums: Resampled) -> Float64:
    """Standard deviation of each cell, shape (R, ny, nx), of departures from the climatology.

    sqrt(sum (d - mean d)^2 / (n - 1)) over steps and members, with d = x less the reference's mean
    of the month. NaN of cells with fewer than two values.
    """
    count = sums["count"]
    squares = sums["square"] - sums["departure"] * divided(sums["departure"], count)
    return np.asarray(np.sqrt(divided(np.maximum(squares, 0.0), count - 1.0)))


def pearson(sums: Resampled) -> Float64:
    """Correlation of x and y from sums of both, x, y, xx, yy and xy, shape (R, ...).

    NaN where one of them does not vary.
    """
    n = sums["both"]
    xx, yy, xy = (
        sums[name] - sums[name[0]] * divided(sums[name[1]], n) for name in ("xx", "yy", "xy")
    )
    # What rounding leaves of a constant is no variance.
    varies = (xx > 1e-12 * sums["xx"]) & (yy > 1e-12 * sums["yy"])
    ratio = np.where(varies, xy, 0.0) / np.sqrt(np.where(varies, xx * yy, 1.0))
    return np.where(varies, np.clip(ratio, -1.0, 1.0), np.nan)


def zonal_mean(scene: Scene, maps: Float64) -> Float64:
    """Mean over the judged cells of each row, from (R, ny, nx) to (R, ny); NaN where none is."""
    known = np.isfinite(maps)
    total = np.where(known, maps * scene.areas, 0.0).sum(axis=-1)
    return divided(total, (known * scene.areas).sum(axis=-1))


def seasonal_cycle(sums: Resampled) -> Float64:
    """Area-weighted mean of each month of the year, shape (R, 12); NaN of months without days."""
    return divided(sums["month_total"], sums["month_weight"])
