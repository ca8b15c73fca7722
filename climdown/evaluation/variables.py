"""Correlations of two variables of one source in each cell, and their error."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from climdown.arrays import AnyArray, Float32, Float64, Index
from climdown.evaluation.joint import shared_places
from climdown.evaluation.maps import pearson, weighted
from climdown.evaluation.measure import Measure, Resampled
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums


def products(scenes: Mapping[str, Scene], values: Mapping[str, Float32], part: Segments) -> Sums:
    """Moments of departures from the climatology of two variables, in the first one's cells.

    Cells that the second variable lacks have count 0.
    """
    one, two = values
    places = shared_places({name: scenes[name] for name in (one, two)})
    # Precipitation has plain departures, too: Pearson correlations, not those of ranks.
    x, y = (_departures(scenes[name], values[name], places[name], part) for name in (one, two))
    both = np.isfinite(x) & np.isfinite(y)
    if not both.all():
        np.copyto(x, 0.0, where=~both)
        np.copyto(y, 0.0, where=~both)
    sums = {"both": both.sum(axis=0), "x": x.sum(axis=0), "y": y.sum(axis=0)}
    for name, (u, v) in {"xx": (x, x), "yy": (y, y), "xy": (x, y)}.items():
        sums[name] = np.einsum("tc,tc->c", u, v)
    return {name: _placed(sum_, places[one], len(scenes[one].cells)) for name, sum_ in sums.items()}


def _departures(scene: Scene, values: Float32, places: Index, part: Segments) -> Float64:
    """From the climatology of the reference by month, shape (time x member, cells)."""
    base = scene.base.reshape(12, -1)[:, scene.cells[places]]
    # All cells mostly, which need no copy.
    chosen = values if len(places) == values.shape[-1] else values[..., places]
    return np.asarray(chosen - base[part.month][:, None]).reshape(-1, len(places))


def _placed(values: AnyArray, places: Index, cells: int) -> Float64:
    result = np.zeros(cells)
    result[places] = values
    return result


STRETCHES = (products,)


def correlation_error(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Area-weighted mean absolute difference of the correlations by cell."""
    error = np.abs(pearson(ours) - pearson(theirs))
    return weighted(error, scene.cell_areas)


def mean_correlation_difference(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Area-weighted mean difference of the correlations by cell."""
    error = pearson(ours) - pearson(theirs)
    return weighted(error, scene.cell_areas)


_SUMS = ("both", "x", "y", "xx", "yy", "xy")
MEASURES = (
    Measure(
        name="correlation_error",
        title="Error of the correlation of variables",
        theme="variables",
        kind="variables",
        along="groups",
        sums=_SUMS,
        value=correlation_error,
        best="low",
        units="1",
        formula=(
            "sum_i a_i |r_i - r_ref,i| / sum_i a_i, r_i Pearson's correlation in cell i of both "
            "variables' departures from the reference's mean of the month"
        ),
        source="doi:10.1002/2014EF000259",
        sentence="Whether two variables go together in a cell as they do in the reference.",
        tells=True,
    ),
    Measure(
        name="correlation_difference",
        title="Difference of the correlation of variables",
        theme="variables",
        kind="variables",
        along="groups",
        sums=_SUMS,
        value=mean_correlation_difference,
        best="zero",
        units="1",
        formula="sum_i a_i (r_i - r_ref,i) / sum_i a_i",
        source="doi:10.1002/2014EF000259",
        sentence="The same with its sign: away from the reference's correlation, up or down.",
    ),
)
