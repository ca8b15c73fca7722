"""Area-weighted scores of fields and ensembles against a truth.

Fields have shape (time, ny, nx), ensembles (time, member, ny, nx), weights (ny, nx). Cells
missing in the truth are left out.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist, pdist

from climdown.arrays import Floats
from climdown.metrics.cells import correlation_by_cell, mean_by_cell


def weighted_mean(values: Floats, areas: Floats) -> float:
    """Mean over all finite values, each weighted by its cell's area."""
    weights = np.broadcast_to(areas, values.shape)
    # Weights of missing values are left out of the denominator, too.
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("no finite value to average")
    return float(np.average(values[finite], weights=weights[finite]))


def mean_absolute_error(forecast: Floats, truth: Floats, areas: Floats) -> float:
    """Area-weighted mean of |forecast - truth|."""
    return weighted_mean(np.abs(forecast - truth), areas)


def fair_crps(ensemble: Floats, truth: Floats, areas: Floats) -> float:
    """Area-weighted continuous ranked probability score, fair to the ensemble's size.

    mean |x_i - y| - 1 / (2 M (M - 1)) sum_ij |x_i - x_j| (Ferro 2014, doi:10.1002/qj.2270).

    Raises:
        ValueError: fewer than two members.
    """
    members = ensemble.shape[1]
    if members < 2:
        raise ValueError("the fair CRPS needs at least two members")
    # mean_i |x_i - y|, (time, ny, nx).
    skill = np.abs(ensemble - truth[:, None]).mean(axis=1)
    # Sorted members turn the double sum into a single one.
    ranked = np.sort(ensemble, axis=1)
    # sum_ij |x_i - x_j| = 2 sum_i (2 i - M - 1) x_(i) for x_(i) in ascending order.
    factors = 2.0 * np.arange(1, members + 1) - members - 1
    spread = np.tensordot(factors, ranked, axes=(0, 1)) / (members * (members - 1))
    return weighted_mean(skill - spread, areas)


def spread_skill_ratio(ensemble: Floats, truth: Floats, areas: Floats) -> float:
    """Spread over error of the ensemble mean, 1 for a reliable ensemble of any size.

    sqrt((M + 1) / M mean variance) / RMSE (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1).
    """
    members = ensemble.shape[1]
    scored = np.where(np.isfinite(truth), 1.0, np.nan)
    # Means of variance and squared error over time and cells come before the roots: the ratio of
    # root means, not the mean of ratios.
    variance = weighted_mean(ensemble.var(axis=1, ddof=1) * scored, areas)
    error = weighted_mean((ensemble.mean(axis=1) - truth) ** 2, areas)
    return float(np.sqrt((members + 1) / members * variance / error))


def coarse_correlation(ensemble: Floats, coarse: Floats, areas: Floats) -> float:
    """Correlation over time of members with their input in each coarse cell, averaged.

    Hess et al. (2024, arXiv 2403.02774, Table 1) pool fields and correlate them; here over time
    alone, so that differences between cells do not count.

    Args:
        ensemble: averaged over the coarse cells, shape (time, member, cy, cx).
        coarse: the input, shape (time, cy, cx), NaN where it is missing.
        areas: shape (cy, cx).
    """
    correlations = [correlation_by_cell(ensemble[:, m], coarse) for m in range(ensemble.shape[1])]
    return weighted_mean(np.stack(correlations), areas)


def mean_change(before: Floats, after: Floats, areas: Floats) -> float:
    """Change of the area-weighted mean between two periods, shapes (n, ny, nx) and (m, ny, nx).

    Over the cells that have values in both; ensembles may be given as one long series.
    """
    return weighted_mean(mean_by_cell(after) - mean_by_cell(before), areas)


def change_error(
    before: Floats, after: Floats, coarse_before: Floats, coarse_after: Floats, areas: Floats
) -> float:
    """Area-weighted mean absolute difference between two changes of the mean of each cell.

    Args:
        before, after: of the members, as for `mean_change`.
        coarse_before, coarse_after: of the input on the same cells.
    """
    # The input's own change is what the members should have, neither more nor less.
    ours = mean_by_cell(after) - mean_by_cell(before)
    theirs = mean_by_cell(coarse_after) - mean_by_cell(coarse_before)
    return mean_absolute_error(ours, theirs, areas)


def sliced_wasserstein(a: Floats, b: Floats, *, projections: int = 200, seed: int = 0) -> float:
    """Sliced 2-Wasserstein distance between two samples of points (n, d) and (m, d).

    The root of the mean squared Wasserstein distance over random directions, in the columns'
    units (Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3). A shift s gives |s| / sqrt(d).
    The same seed draws the same directions; their error falls as 1 / sqrt(projections).

    Raises:
        ValueError: points that are not rows of the same columns, or not finite.
    """
    # Imported here, since POT loads torch.
    import ot

    _check_samples(a, b)
    distance = ot.sliced_wasserstein_distance(a, b, n_projections=projections, seed=seed)
    return float(distance)


def maximum_mean_discrepancy(a: Floats, b: Floats, bandwidth: float | None = None) -> float:
    """Squared maximum mean discrepancy of two samples of points (n, d) and (m, d), unbiased.

    Kernel exp(-|x - y|^2 / (2 bandwidth^2)); its mean over repeated samples of one distribution
    is zero, so that it may be negative (Gretton et al. 2012, JMLR 13, 723-773, lemma 6).

    Args:
        bandwidth: in the columns' units; by default the median distance between the points of
            both samples, of up to 1000 evenly spaced points of each. Give one where several
            values are to be compared: the median grows with the samples' distance.

    Raises:
        ValueError: fewer than two points in a sample, points that are not rows of the same
            columns or not finite, or no bandwidth above zero.
    """
    _check_samples(a, b)
    if min(len(a), len(b)) < 2:
        raise ValueError("the maximum mean discrepancy needs at least two points of each sample")
    width = _median_distance(a, b) if bandwidth is None else bandwidth
    if not width > 0:
        raise ValueError(f"the kernel needs a bandwidth > 0, found {width}")
    n, m = len(a), len(b)
    # Each point's kernel with itself is 1 and left out.
    # The U-statistic: mean kernel within a, plus within b, less twice between.
    within_a = (_kernel_sum(a, a, width) - n) / (n * (n - 1))
    within_b = (_kernel_sum(b, b, width) - m) / (m * (m - 1))
    return within_a + within_b - 2.0 * _kernel_sum(a, b, width) / (n * m)


def _kernel_sum(a: Floats, b: Floats, width: float) -> float:
    # By blocks of rows, so that memory stays linear in the samples.
    blocks = (a[start : start + 512] for start in range(0, len(a), 512))
    return sum(
        float(np.exp(cdist(block, b, "sqeuclidean") / (-2.0 * width**2)).sum()) for block in blocks
    )


def _median_distance(a: Floats, b: Floats) -> float:
    # Evenly spaced and not drawn, so that the bandwidth is the same every time.
    spaced = [x[np.linspace(0, len(x) - 1, min(len(x), 1000)).astype(int)] for x in (a, b)]
    return float(np.median(pdist(np.concatenate(spaced))))


def _check_samples(a: Floats, b: Floats) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"samples need rows of the same columns, found {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a sample holds values that are not finite")
