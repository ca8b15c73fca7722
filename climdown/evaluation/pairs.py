"""Errors and continuous ranked probability scores of members of the same days as the reference."""

from __future__ import annotations

import numpy as np

from climdown.arrays import AnyArray, Float64
from climdown.evaluation.comparison import Comparison
from climdown.evaluation.measure import Measure, Resampled, divided
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums


def errors(scene: Scene, compared: Comparison, part: Segments) -> Sums:
    """Area-weighted sums of each step: weight, errors of the mean and of members, spread."""
    areas, error = scene.areas.reshape(-1), compared.error
    return {
        "weight": compared.weights.sum(axis=1),
        "absolute_error": np.abs(error) @ areas,
        "squared_error": error**2 @ areas,
        "variance": compared.variance @ areas,
        # What the squared error of the mean of M members is where they and the truth are drawn
        # from one distribution (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1).
        "expected_squared_error": (1 + 1 / compared.members) * (compared.variance @ areas),
        "member_error": compared.member_error @ areas,
        "member_difference": compared.member_difference @ areas,
        "tail_error": compared.tail_error @ areas,
        "tail_difference": compared.tail_difference @ areas,
    }


def anomaly_products(scene: Scene, compared: Comparison, part: Segments) -> Sums:
    """Area-weighted products of each step of departures from the climatology of the month."""
    climatology = scene.climatology[part.month].reshape(compared.truth.shape)
    # Months of which the reference has no climatology are left out.
    truth = np.nan_to_num(compared.truth - climatology)
    forecast = np.nan_to_num(compared.truth + compared.error - climatology)

    def summed(a: Float64, b: Float64) -> Float64:
        return np.asarray((a * b * compared.weights).sum(axis=1))

    return {
        "acc_product": summed(forecast, truth),
        "acc_forecast": summed(forecast, forecast),
        "acc_truth": summed(truth, truth),
    }


def maps(scene: Scene, compared: Comparison, part: Segments) -> Sums:
    """Sums over steps of each cell: number of steps, fair CRPS, error of the mean, variance."""

    def summed(values: AnyArray) -> Float64:
        return np.asarray(values.sum(axis=0, dtype=np.float64).reshape(scene.mask.shape))

    return {
        "weight_map": summed(compared.valid),
        "crps_map": summed(compared.member_error - 0.5 * compared.member_difference),
        "error_map": summed(compared.error),
        "variance_map": summed(compared.variance),
    }


STEPS = (errors, anomaly_products)
STRETCHES = (maps,)


def crps_of_members(sums: Resampled, counts: AnyArray) -> Float64:
    """The CRPS that ensembles of so many such members have, in expectation.

    E|x - y| - (1 - 1 / m) E|x - x'| / 2: a single member's absolute error for m = 1, the fair CRPS
    for m without end (Ferro et al. 2008, doi:10.1002/met.45).

    Args:
        sums: `member_error`, `member_difference` and `weight`, each of shape (R,).
        counts: numbers of members, m, shape (n,).

    Returns:
        shape (R, n).
    """
    error, difference = (
        divided(sums[name], sums["weight"])[:, None]
        for name in ("member_error", "member_difference")
    )
    return np.asarray(error - 0.5 * (1 - 1 / np.asarray(counts, np.float64)) * difference)


def fair_crps(scene: Scene, sums: Resampled) -> Float64:
    """Of an ensemble of any size what one of infinitely many such members would have."""
    return divided(sums["member_error"] - 0.5 * sums["member_difference"], sums["weight"])


def tail_crps(scene: Scene, sums: Resampled) -> Float64:
    """The same of what lies above the tail's threshold alone."""
    return divided(sums["tail_error"] - 0.5 * sums["tail_difference"], sums["weight"])


def mean_absolute_error(scene: Scene, sums: Resampled) -> Float64:
    """Of the ensemble mean."""
    return divided(sums["absolute_error"], sums["weight"])


def member_absolute_error(scene: Scene, sums: Resampled) -> Float64:
    """Of single members, averaged over them."""
    return divided(sums["member_error"], sums["weight"])


def root_mean_square_error(scene: Scene, sums: Resampled) -> Float64:
    """Of the ensemble mean; the mean over all steps and cells comes before the root."""
    return np.sqrt(divided(sums["squared_error"], sums["weight"]))


def anomaly_correlation(scene: Scene, sums: Resampled) -> Float64:
    """Of the ensemble mean, over all steps and cells together."""
    return divided(sums["acc_product"], np.sqrt(sums["acc_forecast"] * sums["acc_truth"]))


MEASURES = (
    Measure(
        name="crps",
        title="Fair CRPS",
        theme="skill",
        kind="pairs",
        along="blocks",
        sums=("member_error", "member_difference", "weight"),
        value=fair_crps,
        best="low",
        units="variable",
        formula="mean |x_i - y| - sum_ij |x_i - x_j| / (2 M (M - 1))",
        source="doi:10.1002/qj.2270",
        sentence=(
            "How far the members lie from what happened, less how far they lie from each other; "
            "the absolute error of a single member."
        ),
        tells=True,
    ),
    Measure(
        name="tail_crps",
        title="Fair CRPS of the upper tail",
        theme="skill",
        kind="pairs",
        along="blocks",
        sums=("tail_error", "tail_difference", "weight"),
        value=tail_crps,
        best="low",
        units="variable",
        formula="the fair CRPS of v(x_i) and v(y), v(x) = max(x, t), t the reference's P95 by cell",
        source="doi:10.1137/22M1532184",
        sentence=(
            "The CRPS of what lies above the 95th percentile of each cell's reference; values "
            "below it count as equal to it."
        ),
    ),
    Measure(
        name="mae",
        title="MAE of the ensemble mean",
        theme="skill",
        kind="pairs",
        along="blocks",
        sums=("absolute_error", "weight"),
        value=mean_absolute_error,
        best="low",
        units="variable",
        formula="mean |mean_i x_i - y|",
        source="doi:10.3354/cr030079",
        sentence="How far the mean of the members lies from what happened.",
        tells=True,
    ),
    Measure(
        name="member_mae",
        title="MAE of single members",
        theme="skill",
        kind="pairs",
        along="blocks",
        sums=("member_error", "weight"),
        value=member_absolute_error,
        best="low",
        units="variable",
        formula="mean |x_i - y|",
        source="doi:10.3354/cr030079",
        sentence=(
            "How far a single member lies from what happened; more than the ensemble mean even "
            "where the ensemble is perfect, since members carry weather that cannot be known."
        ),
    ),
    Measure(
        name="rmse",
        title="RMSE of the ensemble mean",
        theme="skill",
        kind="pairs",
        along="blocks",
        sums=("squared_error", "weight"),
        value=root_mean_square_error,
        best="low",
        units="variable",
        formula="sqrt(mean (mean_i x_i - y)^2)",
        source="doi:10.1016/C2017-0-03921-6",
        sentence="Like the MAE of the ensemble mean; large errors count for more.",
    ),
    Measure(
        name="acc",
        title="Anomaly correlation",
        theme="skill",
        kind="pairs",
        along="blocks",
        sums=("acc_product", "acc_forecast", "acc_truth"),
        value=anomaly_correlation,
        best="high",
        units="1",
        formula="mean f o / sqrt(mean f^2 mean o^2), f and o departures of the ensemble mean and "
        "of the reference from the reference's climatology by cell and month",
        source="doi:10.1175/1520-0493(1989)117<0572:SSACCI>2.0.CO;2",
        sentence=(
            "Whether the ensemble mean departs from normal where and when the reference does; 1 is "
            "perfect, 0 is no better than the climatology's pattern."
        ),
        tells=True,
    ),
)
