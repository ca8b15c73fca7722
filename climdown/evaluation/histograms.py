"""Counts of values in bins, and what is read from them.

With edges e_1 < ... < e_K there are K + 1 bins: below e_1, from e_k to below e_(k+1), from e_K up.
"""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float32, Float64, Floats
from climdown.evaluation.measure import divided


def bin_counts(rows: Float32, edges: Floats) -> Float64:
    """Counts of the finite values of each row.

    Args:
        rows: shape (rows, n).
        edges: ascending, shape (rows, K), or (K,) for all rows.

    Returns:
        shape (rows, K + 1).
    """
    # Sorting and looking up few edges is much faster than looking up many values; NaN comes last.
    ordered = np.sort(rows, axis=1)
    least = np.nextafter(np.float32(-np.inf), np.float32(0))
    limits = np.empty((len(rows), edges.shape[-1] + 2), dtype=np.float32)
    limits[:, 0], limits[:, 1:-1], limits[:, -1] = least, edges, np.inf
    below = [np.searchsorted(x, e) for x, e in zip(ordered, limits, strict=True)]
    return np.diff(np.array(below, dtype=np.float64), axis=1)


def quantiles(counts: Float64, edges: Floats, levels: Floats) -> Float64:
    """Quantiles of binned values, linear within bins.

    The outermost bins have no width: what lies in them is put at the outermost edge. Edges of the
    bins of an evaluation lie well beyond the reference's lowest and highest value.

    Args:
        counts: shape (..., K + 1).
        edges: shape (..., K), the leading axes as of `counts` or fewer.
        levels: 0 to 1, shape (levels,).

    Returns:
        shape (..., levels); NaN where there are no values.
    """
    total = counts.sum(axis=-1, keepdims=True)
    shares = divided(np.cumsum(counts, axis=-1), total)
    ends = np.concatenate([edges[..., :1], edges, edges[..., -1:]], axis=-1).astype(np.float64)
    ends = np.broadcast_to(ends, (*counts.shape[:-1], ends.shape[-1]))
    found = [_one_quantile(shares, ends, float(level)) for level in levels]
    return np.stack(found, axis=-1)


def _one_quantile(shares: Float64, ends: Float64, level: float) -> Float64:
    # The first bin at whose end the level is reached, and that is not empty; a rounding error
    # must not skip one.
    place = np.argmax((shares >= level - 1e-12) & (shares > 0), axis=-1)[..., None]

    def at(values: Float64, where: np.typing.NDArray[np.intp]) -> Float64:
        return np.asarray(np.take_along_axis(values, where, axis=-1)[..., 0])

    before = np.where(place[..., 0] > 0, at(shares, np.maximum(place - 1, 0)), 0.0)
    inside = at(shares, place) - before
    part = np.clip(
        np.where(inside > 0, (level - before) / np.where(inside > 0, inside, 1), 0), 0, 1
    )
    low, high = at(ends, place), at(ends, place + 1)
    return np.where(np.isfinite(at(shares, place)), low + part * (high - low), np.nan)


def merged(ours: Float64, theirs: Float64, bins: int = 64) -> tuple[Float64, Float64]:
    """Shares of two histograms in bins of about equal content of the second, at most so many.

    Neighbours are merged until each holds about 1 / bins of the second; a single value that holds
    more, as dry days do, stays one bin.

    Args:
        ours, theirs: counts, shape (R, K).

    Returns:
        shape (R, bins) each, summing to 1; 0 in bins that are not used.
    """
    first, second = (divided(x, x.sum(axis=1, keepdims=True)) for x in (ours, theirs))
    before = np.nan_to_num(np.cumsum(second, axis=1) - second)
    # Beyond the highest value of the second all belongs to the bin of that value.
    last = np.where(second > 0, before, 0.0).max(axis=1, keepdims=True)
    label = np.floor(np.minimum(before, last) * bins + 1e-9).astype(np.intp)
    label = np.minimum(label, bins - 1) + bins * np.arange(len(ours))[:, None]
    one, two = (
        np.bincount(label.ravel(), weights=x.ravel(), minlength=bins * len(ours))
        for x in (np.nan_to_num(first), np.nan_to_num(second))
    )
    return (
        np.asarray(one.reshape(-1, bins), dtype=np.float64),
        np.asarray(two.reshape(-1, bins), dtype=np.float64),
    )


def shift_distance(ours: Float64, theirs: Float64, width: float) -> Float64:
    """Wasserstein-1 distance of two histograms with bins of one width, shape (...).

    Integral of |F - G|, with distribution functions linear within bins, by the trapezoidal rule.

    Args:
        ours, theirs: counts, shape (..., K).
        width: of a bin; the distance is in its units.
    """
    one, two = (divided(x, x.sum(axis=-1, keepdims=True)) for x in (ours, theirs))
    return np.asarray(np.abs(np.cumsum(one - two, axis=-1)).sum(axis=-1) * width)
