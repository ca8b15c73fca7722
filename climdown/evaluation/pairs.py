"""Statistics of members and the reference of the same days, and what is made of them."""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float32, Float64
from climdown.evaluation.measure import Measure, Resampled
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums


def errors(scene: Scene, members: Float32, truth: Float32, part: Segments) -> Sums:
    """Area-weighted sums of each step: weight, errors of the mean, spread, mean differences."""
    areas = np.where(np.isfinite(truth), scene.areas, 0.0)

    def summed(values: Float32) -> Float64:
        return np.asarray(np.einsum("tyx,tyx->t", np.nan_to_num(values), areas))

    count = members.shape[1]
    error = members.mean(axis=1) - truth
    return {
        "weight": areas.sum(axis=(1, 2)),
        "error": summed(error),
        "absolute_error": summed(np.abs(error)),
        "squared_error": summed(error**2),
        "variance": summed(members.var(axis=1, ddof=1)) if count > 1 else np.zeros(len(truth)),
        "member_error": summed(np.abs(members - truth[:, None]).mean(axis=1)),
        "member_difference": summed(_mean_difference(members)),
    }


def _mean_difference(members: Float32) -> Float32:
    """Mean of |x_i - x_j| over all pairs of different members; 0 of a single one."""
    count = members.shape[1]
    if count < 2:
        return np.zeros_like(members[:, 0])
    ranked = np.sort(members, axis=1)
    # sum_ij |x_i - x_j| = 2 sum_i (2 i - M - 1) x_(i) for x_(i) in ascending order.
    factors = (2.0 * np.arange(1, count + 1) - count - 1).astype(np.float32)
    return np.asarray(np.tensordot(factors, ranked, axes=(0, 1)) * 2 / (count * (count - 1)))


STEPS = (errors,)
STRETCHES = ()


def fair_crps(scene: Scene, sums: Resampled) -> Float64:
    """Of an ensemble of any size what one of infinitely many such members would have."""
    pairs = sums["member_error"] - 0.5 * sums["member_difference"]
    return np.asarray(pairs / sums["weight"])


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
)
