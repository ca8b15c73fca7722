"""How some cells, of one variable or of two, vary together: covariances and projections.

Vectors are values of at most 64 cells, evenly spread, of each variable, as departures from the
reference's mean of the month over its standard deviation. Those with a missing value are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import numpy as np

from climdown import cf
from climdown.arrays import Float32, Float64, Index
from climdown.evaluation.histograms import shift_distance
from climdown.evaluation.measure import Measure, Resampled, divided
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums

_CELLS = 64
_PROJECTIONS = 64
# Bins of projections, in standard deviations; what lies beyond is counted in the last.
_REACH, _WIDTH = 12.0, 0.125
_BINS = round(2 * _REACH / _WIDTH)


def of_one(scene: Scene, values: Float32, part: Segments) -> Sums:
    """Of one variable: series of shape (time, member, cells)."""
    return of_pair({scene.name: scene}, {scene.name: values}, part)


def of_pair(scenes: Mapping[str, Scene], values: Mapping[str, Float32], part: Segments) -> Sums:
    """Number, sum and products of vectors, and histograms of their projections.

    Args:
        values: series by variable, each of shape (time, member, cells).
    """
    having = {name: scenes[name] for name in values}
    places = shared_places(having)
    chosen = {name: cf.evenly(where, _CELLS) for name, where in places.items()}
    columns = [
        _standardised(scenes[name], values[name], chosen[name], part) for name in sorted(having)
    ]
    vectors = np.concatenate(columns, axis=-1).reshape(-1, sum(map(len, chosen.values())))
    vectors = vectors[np.isfinite(vectors).all(axis=1)]
    return {
        "vectors": np.array(len(vectors)),
        "vector_sum": vectors.sum(axis=0),
        "vector_product": vectors.T @ vectors,
        "projected": _projected(vectors),
    }


def shared_places(scenes: Mapping[str, Scene]) -> dict[str, Index]:
    """Where, among the cells of each variable's series, those stand that all have."""
    shared = set.intersection(*(set(scene.cells.tolist()) for scene in scenes.values()))
    return {
        name: np.flatnonzero(np.isin(scene.cells, list(shared))) for name, scene in scenes.items()
    }


def _standardised(scene: Scene, values: Float32, places: Index, part: Segments) -> Float64:
    base = scene.base.reshape(12, -1)[:, scene.cells[places]]
    away = values[..., places] - base[part.month][:, None]
    return np.asarray(away / (scene.deviation if scene.deviation > 0 else 1.0))


def _projected(vectors: Float64) -> Float64:
    """Counts in even bins, shape (projections, bins)."""
    along = vectors @ directions(vectors.shape[1])
    place = np.floor((along + _REACH) / _WIDTH).astype(np.intp).clip(0, _BINS - 1)
    counts = np.bincount(
        (place + _BINS * np.arange(_PROJECTIONS)).ravel(), minlength=_PROJECTIONS * _BINS
    )
    return np.asarray(counts.reshape(_PROJECTIONS, _BINS), dtype=np.float64)


@lru_cache(maxsize=8)
def directions(size: int) -> Float64:
    """Unit vectors, the same in every run, shape (size, projections)."""
    drawn = np.random.default_rng(size).normal(size=(size, _PROJECTIONS))
    return np.asarray(drawn / np.sqrt((drawn**2).sum(axis=0)), dtype=np.float64)


STRETCHES_OF_SERIES = (of_one,)
STRETCHES_OF_VARIABLES = (of_pair,)


def covariance(sums: Resampled) -> Float64:
    """Of vectors over steps and members, shape (R, d, d): sum (v - mean)(v - mean)' / (n - 1)."""
    count = sums["vectors"][:, None, None]
    total = sums["vector_sum"]
    product = sums["vector_product"] - divided(total[:, :, None] * total[:, None, :], count)
    return divided(product, count - 1.0)


def covariance_error(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Relative Frobenius error of the covariance."""
    one, two = covariance(ours), covariance(theirs)
    error, size = (np.sqrt((x**2).sum(axis=(1, 2))) for x in (one - two, two))
    return divided(error, size)


def sliced_distance(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Mean Wasserstein-1 distance over the directions, in standard deviations."""
    distances = shift_distance(ours["projected"], theirs["projected"], _WIDTH)
    return np.asarray(distances.mean(axis=1), dtype=np.float64)


def _measures(kind: Literal["against", "variables"]) -> tuple[Measure, ...]:
    """Of one variable, or of two together."""
    pair = kind == "variables"
    suffix, of = ("_of_pair", "of both variables") if pair else ("", "of the variable")
    together = ", both variables" if pair else ""
    return (
        Measure(
            name=f"covariance_error{suffix}",
            title=f"Error of the covariance (covRMSE){together}",
            theme="variables" if pair else "space",
            kind=kind,
            along="groups" if pair else "tenths",
            sums=("vectors", "vector_sum", "vector_product"),
            value=covariance_error,
            best="low",
            units="1",
            formula=(
                "||C - C_ref|| / ||C_ref||, Frobenius norms, C the covariance over time of 64 cells"
                f" {of}, departures from the reference's mean of the month over its deviation"
            ),
            source="arXiv 2305.15618",
            sentence="How wrong it is which places vary together, and how strongly.",
        ),
        Measure(
            name=f"sliced_wasserstein{suffix}",
            title=f"Sliced Wasserstein-1 distance{together}",
            theme="variables" if pair else "space",
            kind=kind,
            along="groups" if pair else "tenths",
            sums=("projected",),
            value=sliced_distance,
            best="low",
            units="deviations",
            formula=(
                "mean over 64 directions u of W1(u'v, u'v_ref), v the vectors of the covariance "
                "error, from histograms with bins of 1/8"
            ),
            source="doi:10.1007/s10851-014-0506-3",
            sentence="How far whole fields lie from the reference's as a distribution.",
        ),
    )


MEASURES = (*_measures("against"), *_measures("variables"))
