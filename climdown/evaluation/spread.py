"""Spread of members against the error of their mean, overall and by the size of the spread."""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float64, Index
from climdown.evaluation.comparison import Comparison
from climdown.evaluation.measure import Measure, Resampled, divided
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums

# Bins of spread, in quarters of octaves: from 1/64 of the reference's deviation to 4 times it, one
# for all below, and one for all above.
_PER_OCTAVE = 4
_LOWEST, _HIGHEST = -6, 2
BINS = _PER_OCTAVE * (_HIGHEST - _LOWEST) + 2


def by_spread(scene: Scene, compared: Comparison, part: Segments) -> Sums:
    """Weight, variance of members and squared error of their mean by bins of the spread.

    Returns:
        `spread_skill`, shape (BINS, 3); nothing of a single member.
    """
    if compared.members < 2:
        return {}
    labels = _bin(compared.variance, scene.deviation).reshape(-1)
    values = (1.0, compared.variance, compared.error**2)
    sums = [
        np.bincount(labels, weights=(one * compared.weights).reshape(-1), minlength=BINS)
        for one in values
    ]
    return {"spread_skill": np.stack(sums, axis=-1)}


def _bin(variance: Float64, deviation: float) -> Index:
    """The bin of each spread: of its binary logarithm relative to the deviation."""
    tiny = np.finfo(np.float64).tiny
    # A difference of logarithms, since a reference that does not vary has deviation 0.
    octave = 0.5 * (np.log2(np.maximum(variance, tiny)) - np.log2(max(deviation**2, tiny)))
    inner = np.floor(_PER_OCTAVE * (octave - _LOWEST)).astype(np.intp) + 1
    return np.asarray(np.clip(inner, 0, BINS - 1))


STRETCHES = (by_spread,)


def spread_skill_ratio(scene: Scene, sums: Resampled) -> Float64:
    """Means over all steps and cells come before the root, and before the ratio."""
    return np.sqrt(divided(sums["expected_squared_error"], sums["squared_error"]))


MEASURES = (
    Measure(
        name="spread_skill",
        title="Spread-skill ratio",
        theme="ensemble",
        kind="pairs",
        along="blocks",
        sums=("expected_squared_error", "squared_error"),
        value=spread_skill_ratio,
        best="one",
        units="1",
        formula="sqrt((M + 1) / M mean var x_i / mean (mean_i x_i - y)^2)",
        source="doi:10.1175/JHM-D-14-0008.1",
        sentence=(
            "Spread of the members over the error of their mean; 1 of a reliable ensemble of any "
            "size, below 1 where it is too sure of itself. A bias lowers it, too."
        ),
        members=2,
        tells=True,
    ),
)
