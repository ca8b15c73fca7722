"""Histograms of each cell, and the quantiles and distances that are read from them.

Quantiles are those of `numpy.quantile`, with values spread evenly within their bin; the bins are
those of `bins.bin_edges`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from climdown.arrays import Float32, Float64, Floats, Int64
from climdown.evaluation.maps import weighted
from climdown.evaluation.measure import Measure, Resampled
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums

_CELLS_AT_ONCE = 256
FEWEST_VALUES = 10  # of a cell; fewer do not tell a distribution


def histograms(scene: Scene, values: Float32, part: Segments) -> Sums:
    """Counts of the values of all members in the bins of each cell, shape (cells, bins)."""
    cells = values.shape[-1]
    below = np.empty((cells, scene.bins + 1), dtype=np.int64)
    for start in range(0, cells, _CELLS_AT_ONCE):
        chosen = slice(start, start + _CELLS_AT_ONCE)
        below[chosen] = _below(values[..., chosen], scene.edges[chosen])
    return {"histogram": np.diff(below, axis=1).astype(np.uint32)}


def _below(values: Float32, edges: Float32) -> Int64:
    """Numbers of values below each edge of their cell, after 0, and of all; (cells, edges + 2)."""
    import torch

    # Few edges are sought among many sorted values, which is faster than the reverse.
    series = np.ascontiguousarray(values.reshape(-1, values.shape[-1]).T)
    known = np.isfinite(series)
    np.copyto(series, np.float32(np.inf), where=~known)  # beyond all edges
    series.sort(axis=1)
    count = known.sum(axis=1)
    found = torch.searchsorted(torch.from_numpy(series), torch.from_numpy(edges)).numpy()
    return np.concatenate([np.zeros((len(found), 1), np.int64), found, count[:, None]], axis=1)


STRETCHES = (histograms,)


def quantiles_by_cell(scene: Scene, counts: Float64, level: float) -> Float64:
    """A quantile of each cell from its histogram, after `numpy.quantile` (linear).

    Args:
        counts: shape (R, cells, bins).

    Returns:
        shape (R, cells); NaN where a cell has too few values to tell: fewer than 10, or so few that
        on average less than half a value lies beyond the quantile.
    """
    cumulative = np.cumsum(counts, axis=-1)
    total = cumulative[..., -1]
    last = np.maximum(total - 1.0, 0.0)
    low = np.floor(last * level)
    ranks = np.stack([low, np.minimum(low + 1.0, last)], axis=-1)
    at_low, at_high = np.moveaxis(_at(scene, cumulative, ranks), -1, 0)
    enough = (total >= FEWEST_VALUES) & (total * min(level, 1.0 - level) >= 0.5)
    return np.where(enough, at_low + (last * level - low) * (at_high - at_low), np.nan)


def _at(scene: Scene, cumulative: Float64, ranks: Float64) -> Float64:
    """The values of ranks, from 0: each in the middle of its share of a bin; (R, cells, ranks)."""
    import torch

    ends, sought = _ends(scene), ranks + 0.5
    bins = torch.searchsorted(torch.from_numpy(cumulative), torch.from_numpy(sought)).numpy()
    bins = np.minimum(bins, cumulative.shape[-1] - 1)
    before = np.take_along_axis(cumulative, np.maximum(bins - 1, 0), axis=-1)
    before = np.where(bins > 0, before, 0.0)
    within = np.take_along_axis(cumulative, bins, axis=-1) - before
    cells = np.arange(len(ends))[:, None]
    lower, upper = ends[cells, bins], ends[cells, bins + 1]
    return np.asarray(lower + (sought - before) / np.maximum(within, 1.0) * (upper - lower))


def _ends(scene: Scene) -> Float64:
    """Both ends of all bins; those of the outermost lie on their only edge; (cells, bins + 1)."""
    edges = scene.edges.astype(np.float64)
    # The bin of zeros is as narrow as numbers of its precision allow.
    edges[np.abs(edges) < np.finfo(np.float32).tiny] = 0.0
    return np.pad(edges, ((0, 0), (1, 1)), mode="edge")


def over_cells(scene: Scene, values: Floats) -> Float64:
    """Area-weighted mean over the cells that have a value; shapes (R, cells) and (R,)."""
    return weighted(values, scene.cell_areas)


def quantile_error(scene: Scene, ours: Resampled, theirs: Resampled, *, level: float) -> Float64:
    """Mean over cells of the absolute difference of a quantile."""
    one = quantiles_by_cell(scene, ours["histogram"], level)
    two = quantiles_by_cell(scene, theirs["histogram"], level)
    return over_cells(scene, np.abs(one - two))


def wasserstein(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Mean over cells of the integral of |F - G|."""
    gap = _shares(ours["histogram"])
    gap -= _shares(theirs["histogram"])
    return over_cells(scene, _integral(gap, np.diff(_ends(scene))))


def _integral(gap: Float64, widths: Float64) -> Float64:
    """Of the absolute value of what is linear between the ends of bins, shape (R, cells)."""
    before = np.pad(gap[..., :-1], ((0, 0), (0, 0), (1, 0)))
    twice = np.abs(gap) + np.abs(before)
    # Where the sign changes within a bin two triangles are left of the trapezium.
    crossed = np.maximum(-gap * before, 0.0) / np.maximum(twice, 1e-300)
    return np.asarray(np.einsum("rcb,cb->rc", 0.5 * twice - crossed, widths))


def _shares(counts: Float64) -> Float64:
    """Shares of values below the upper end of each bin, shape (R, cells, bins); NaN of few."""
    cumulative = np.cumsum(counts, axis=-1)
    total = cumulative[..., -1:]
    return cumulative / np.where(total >= FEWEST_VALUES, total, np.nan)


def heavy_days(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Share of days above the reference's 99th percentile, over the reference's own share."""
    threshold = quantiles_by_cell(scene, theirs["histogram"], 0.99)
    one = over_cells(scene, _share_above(scene, ours["histogram"], threshold))
    # Of n values as many lie above their own quantile as have a higher rank.
    total = np.where(np.isfinite(threshold), theirs["histogram"].sum(axis=-1), np.nan)
    two = over_cells(scene, (total - 1.0 - np.floor((total - 1.0) * 0.99)) / total)
    return np.asarray(one / two)


def _share_above(scene: Scene, counts: Float64, threshold: Float64) -> Float64:
    """Share of the values of each cell above a threshold of its own, shapes (R, cells)."""
    import torch

    shares, ends = _shares(counts), _ends(scene)
    cells = np.arange(len(ends))
    edges = torch.from_numpy(np.ascontiguousarray(ends[:, 1:-1]))
    sought = torch.from_numpy(np.ascontiguousarray(threshold.T))
    upper = torch.searchsorted(edges, sought, right=True).numpy().T
    width = ends[cells, upper + 1] - ends[cells, upper]
    part = (threshold - ends[cells, upper]) / np.where(width > 0, width, 1.0)
    at_upper = np.take_along_axis(shares, upper[..., None], axis=-1)[..., 0]
    below = np.take_along_axis(shares, np.maximum(upper - 1, 0)[..., None], axis=-1)[..., 0]
    at_lower = np.where(upper > 0, below, 0.0)
    return np.asarray(1.0 - at_lower - np.clip(part, 0.0, 1.0) * (at_upper - at_lower))


def _of_level(level: int, *, sentence: str, tells: bool = False) -> Measure:
    value: Callable[..., Float64] = partial(quantile_error, level=level / 100)
    return Measure(
        name=f"p{level:02d}_error",
        title=f"Error of P{level}",
        theme="extremes" if level in (1, 99) else "distribution",
        kind="against",
        along="tenths",
        sums=("histogram",),
        value=value,
        best="low",
        units="variable",
        formula=f"sum_i a_i |Q_i({level / 100:g}) - Q_ref,i({level / 100:g})|, members pooled",
        source="doi:10.2307/2684934",
        sentence=sentence,
        tells=tells,
        by_cell=True,
    )


MEASURES = (
    _of_level(5, sentence="How far the low values of each cell lie from those observed."),
    _of_level(50, sentence="How far the median of each cell lies from the one observed."),
    _of_level(95, sentence="How far the high values of each cell lie from those observed."),
    _of_level(
        99,
        sentence=(
            "How far the value that one day in a hundred exceeds lies from the one observed, cell "
            "by cell; a season of 90 days holds a single such day, so that few seasons tell little."
        ),
        tells=True,
    ),
    Measure(
        name="wasserstein",
        title="Wasserstein distance",
        theme="distribution",
        kind="against",
        along="tenths",
        sums=("histogram",),
        value=wasserstein,
        best="low",
        units="variable",
        formula="sum_i a_i integral |F_i(x) - F_ref,i(x)| dx, members pooled",
        source="doi:10.1007/978-3-540-71050-9",
        sentence=(
            "How far the values of each cell must be moved, on average, to have the distribution "
            "observed."
        ),
        by_cell=True,
    ),
    Measure(
        name="days_above_p99",
        title="Days above the observed P99",
        theme="extremes",
        kind="against",
        along="tenths",
        sums=("histogram",),
        value=heavy_days,
        best="one",
        units="1",
        formula="sum_i a_i P(x_i > Q_ref,i(0.99)) / sum_i a_i P(x_ref,i > Q_ref,i(0.99))",
        source="doi:10.1002/wcc.147",
        sentence=(
            "How often values come that are exceeded on one observed day in a hundred: 2 is twice "
            "as often as observed."
        ),
        by_cell=True,
    ),
)
