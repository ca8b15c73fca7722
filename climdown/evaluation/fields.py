"""Statistics of the fields of one source: means and deviations, in time and in space."""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float32, Float64
from climdown.evaluation.measure import Measure, Resampled
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums


def means(scene: Scene, values: Float32, part: Segments) -> Sums:
    """Area-weighted sum of each step, over members, and its weight; by month of the year, too."""
    areas, known = scene.areas, np.isfinite(values)
    total = np.einsum("tmyx,yx->t", np.where(known, values, 0.0), areas)
    weight = np.einsum("tmyx,yx->t", known, areas)
    month = np.arange(12) == part.month[:, None]
    return {
        "total": total,
        "weight": weight,
        "month_total": month * total[:, None],
        "month_weight": month * weight[:, None],
    }


def moments(scene: Scene, values: Float32, part: Segments) -> Sums:
    """Sums and sums of squares of each cell, over steps and members."""
    known = np.isfinite(values)
    # About the climatology, since squares of kelvins would lose what varies.
    away = np.where(known, values - scene.climatology[part.month][:, None], 0.0)
    return {
        "count": known.sum(axis=(0, 1)),
        "departure": away.sum(axis=(0, 1)),
        "square": (away**2).sum(axis=(0, 1)),
    }


STEPS = (means,)
STRETCHES = (moments,)


def domain_mean(scene: Scene, sums: Resampled) -> Float64:
    """Mean over region and period."""
    return np.asarray(sums["total"] / sums["weight"])


MEASURES = (
    Measure(
        name="mean",
        title="Mean",
        theme="distribution",
        kind="source",
        along="blocks",
        sums=("total", "weight"),
        value=domain_mean,
        best="reference",
        units="variable",
        formula="sum_t sum_i a_i x_ti / sum_t sum_i a_i, a_i the areas of cells",
        source="",
        sentence="The mean over the region and the period.",
        tells=True,
    ),
)
