"""Area-weighted scores of fields and ensembles against a truth.

Fields have shape (time, ny, nx), ensembles (time, member, ny, nx), weights (ny, nx). Cells
missing in the truth are left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.floating]


def weighted_mean(values: Values, areas: Values) -> float:
    """Mean over all finite values, each weighted by its cell's area."""
    weights = np.broadcast_to(areas, values.shape)
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("no finite value to average")
    return float(np.average(values[finite], weights=weights[finite]))


def mean_absolute_error(forecast: Values, truth: Values, areas: Values) -> float:
    """Area-weighted mean of |forecast - truth|."""
    return weighted_mean(np.abs(forecast - truth), areas)


def quantile_error(forecast: Values, truth: Values, areas: Values, *, quantile: float) -> float:
    """Area-weighted mean absolute error of each cell's own quantile over time."""
    missing = ~np.isfinite(truth) | ~np.isfinite(forecast)
    known = ~missing.all(axis=0)
    ours = np.where(missing, np.nan, forecast)[:, known]
    theirs = np.where(missing, np.nan, truth)[:, known]
    error = np.nanquantile(ours, quantile, axis=0) - np.nanquantile(theirs, quantile, axis=0)
    return weighted_mean(np.abs(error), areas[known])


def fair_crps(ensemble: Values, truth: Values, areas: Values) -> float:
    """Area-weighted continuous ranked probability score, fair to the ensemble's size.

    mean |x_i - y| - 1 / (2 M (M - 1)) sum_ij |x_i - x_j| (Ferro 2014, doi:10.1002/qj.2270).

    Raises:
        ValueError: fewer than two members.
    """
    members = ensemble.shape[1]
    if members < 2:
        raise ValueError("the fair CRPS needs at least two members")
    skill = np.abs(ensemble - truth[:, None]).mean(axis=1)
    # Sorted members turn the double sum into a single one.
    ranked = np.sort(ensemble, axis=1)
    factors = 2.0 * np.arange(1, members + 1) - members - 1
    spread = np.tensordot(factors, ranked, axes=(0, 1)) / (members * (members - 1))
    return weighted_mean(skill - spread, areas)


def spread_skill_ratio(ensemble: Values, truth: Values, areas: Values) -> float:
    """Spread over error of the ensemble mean, 1 for a reliable ensemble of any size.

    sqrt((M + 1) / M mean variance) / RMSE (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1).
    """
    members = ensemble.shape[1]
    known = np.where(np.isfinite(truth), 1.0, np.nan)
    variance = weighted_mean(ensemble.var(axis=1, ddof=1) * known, areas)
    error = weighted_mean((ensemble.mean(axis=1) - truth) ** 2, areas)
    return float(np.sqrt((members + 1) / members * variance / error))
