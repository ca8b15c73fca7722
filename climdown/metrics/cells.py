"""Statistics of each cell over time, for samples that share no time axis.

Fields have shape (time, ny, nx), in any units, NaN where missing; each statistic has shape
(ny, nx), NaN where it is not defined. The area-weighted error of one against that of a reference
is `metrics.mean_absolute_error`. The days of the two need be neither the same nor as many.
"""

from __future__ import annotations

import numpy as np

from climdown.arrays import Floats


def mean_by_cell(fields: Floats) -> Floats:
    """Mean of each cell, in the fields' units."""
    count = np.isfinite(fields).sum(axis=0)
    total = np.where(np.isfinite(fields), fields, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def deviation_by_cell(fields: Floats) -> Floats:
    """Standard deviation of each cell, in the fields' units: sqrt(sum (x - mean)^2 / (n - 1))."""
    count = np.isfinite(fields).sum(axis=0)
    squares = np.where(np.isfinite(fields), (fields - mean_by_cell(fields)) ** 2, 0.0).sum(axis=0)
    return np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)


def quantile_by_cell(fields: Floats, quantile: float) -> Floats:
    """A quantile of each cell, linear between its values, in the fields' units."""
    quantiles = np.full(fields.shape[1:], np.nan)
    present = np.isfinite(fields).any(axis=0)
    values = np.where(np.isfinite(fields), fields, np.nan)[:, present]
    quantiles[present] = np.nanquantile(values, quantile, axis=0)
    return quantiles


def wet_day_frequency(fields: Floats, threshold: float = 1.0) -> Floats:
    """Share of days of each cell with at least `threshold`, 0 to 1.

    A wet day has 1 mm or more (Zhang et al. 2011, doi:10.1002/wcc.147).

    Args:
        threshold: in the fields' units; the default is for mm day-1.
    """
    return mean_by_cell(np.where(np.isfinite(fields), fields >= threshold, np.nan))


def correlation_by_cell(a: Floats, b: Floats) -> Floats:
    """Pearson correlation over time of two variables in each cell, on days that have both.

    NaN where one of them does not vary.

    Raises:
        ValueError: the variables have different shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"the variables have different shapes: {a.shape} and {b.shape}")
    both = np.isfinite(a) & np.isfinite(b)
    u, v = (np.where(both, x, np.nan) for x in (a, b))
    u, v = u - mean_by_cell(u), v - mean_by_cell(v)
    scale = np.sqrt(mean_by_cell(u**2) * mean_by_cell(v**2))
    varies = scale > 0
    ratio = mean_by_cell(u * v) / np.where(varies, scale, 1.0)
    return np.where(varies, np.clip(ratio, -1.0, 1.0), np.nan)
