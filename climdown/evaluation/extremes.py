"""Extremes of whole years or seasons: indices of ETCCDI, return levels, year-to-year changes.

Units that are much shorter than the longest, and cells with too many missing values in a unit,
have none. Members are pooled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import lgamma, log

import numpy as np

from climdown import cf
from climdown.arrays import Float32, Float64, Floats, Index, Mask
from climdown.evaluation.measure import Measure, Resampled
from climdown.evaluation.quantiles import over_cells
from climdown.evaluation.scene import WET, Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums
from climdown.evaluation.time_structure import (
    climatology,
    deviation_ratio,
    is_daily,
    moments,
    some_members,
    stretches,
)

# A cell has the indices of a unit where so many of its steps have values.
_LEAST_KNOWN = 0.95
_MOST_CELLS = 256  # of return levels
_FEWEST_UNITS = 5  # for changes from year to year
_ETCCDI = "doi:10.1002/wcc.147"


def indices(scene: Scene, values: Float32, whole: Segments) -> Sums:
    """Sums of the indices of a unit over members, shape (cells,), and how many they are."""
    if not whole.whole[0]:
        return {}
    count = np.zeros(values.shape[-1])
    sums: dict[str, Float64] = {}
    for member in range(values.shape[1]):
        series = values[:, member]
        known = np.isfinite(series)
        enough = known.sum(axis=0) >= _LEAST_KNOWN * len(series)
        count += enough
        for name, index in _indices(scene, series, known, whole).items():
            here = enough & np.isfinite(index)
            _add(sums, f"index_{name}", np.where(here, index, 0.0))
            if name == "sdii":
                _add(sums, "index_sdii_count", here.astype(np.float64))
    return {"index_count": count, **sums}


def _add(sums: dict[str, Float64], name: str, values: Float64) -> None:
    sums[name] = sums[name] + values if name in sums else values


def _indices(scene: Scene, series: Float32, known: Mask, whole: Segments) -> dict[str, Floats]:
    """Indices of one member, each of shape (cells,)."""
    if not scene.amounts:
        return {"highest": _highest(series), "lowest": -_highest(-series)}
    if not is_daily(whole):
        return {}
    wet = series >= WET
    days = wet.sum(axis=0)
    total = np.where(wet, series, np.float32(0.0)).sum(axis=0, dtype=np.float64)
    return {
        "rx1day": _highest(series),
        "rx5day": _highest_sum(series, whole, 5),
        "sdii": np.where(days > 0, total / np.maximum(days, 1), np.nan),
        "cdd": _longest(series < WET, whole),
        "cwd": _longest(wet, whole),
    }


def _highest(series: Float32) -> Float32:
    """The highest value of each cell; NaN of none."""
    return np.asarray(np.fmax.reduce(series, axis=0))


def _highest_sum(series: Float32, whole: Segments, days: int) -> Float32:
    """The highest sum over consecutive days of each cell, 0 where there is none."""
    highest = np.zeros(series.shape[1], dtype=np.float32)
    for part in stretches(whole):
        count = part.stop - part.start - days + 1
        if count > 0:
            sums = series[part.start : part.start + count].copy()
            for later in range(part.start + 1, part.start + days):
                sums += series[later : later + count]
            highest = np.fmax(highest, np.fmax.reduce(sums, axis=0))
    return highest


def _longest(state: Mask, whole: Segments) -> Floats:
    """Most consecutive steps in a state, by cell."""
    held = state.astype(np.int16)  # of one type, for which loops are vectorised
    longest = np.zeros(state.shape[1], dtype=np.int16)
    for part in stretches(whole):
        run = np.zeros_like(longest)
        for step in held[part]:
            run += 1
            run *= step
            np.maximum(longest, run, out=longest)
    return longest.astype(np.float64)


def unit_means(scene: Scene, values: Float32, whole: Segments) -> Sums:
    """The mean of the unit, less the climatology: number and sum of members, and squares."""
    if not whole.whole[0]:
        return {}
    usual = climatology(scene, whole)
    means = [_mean(values[:, member] - usual) for member in some_members(values)]
    return moments("unit", np.stack(means)[None])


def _mean(away: Float32) -> Float64:
    """The mean of each cell; NaN where too many values are missing."""
    known = np.isfinite(away)
    days = known.sum(axis=0)
    total = np.where(known, away, np.float32(0.0)).sum(axis=0, dtype=np.float64)
    return np.asarray(total / np.where(days >= _LEAST_KNOWN * len(away), days, np.nan))


def maxima(scene: Scene, values: Float32, whole: Segments) -> Sums:
    """Counts of members' highest values of the unit, in the bins of some cells."""
    if not whole.whole[0]:
        return {}
    chosen = _few(scene)
    series = values[..., chosen]
    enough = np.isfinite(series).sum(axis=0) >= _LEAST_KNOWN * len(series)
    highest = np.fmax.reduce(series, axis=0)
    counts = np.zeros((len(chosen), scene.bins), dtype=np.uint32)
    for i, cell in enumerate(chosen):
        found = np.searchsorted(scene.edges[cell], highest[enough[:, i], i], side="right")
        counts[i] = np.bincount(found, minlength=scene.bins)
    return {"maxima": counts, "maxima_units": np.array(1.0)}


def _few(scene: Scene) -> Index:
    """Which of the cells have return levels."""
    return cf.evenly(np.arange(len(scene.cells)), _MOST_CELLS)


UNITS = (indices, unit_means, maxima)


def index_bias(scene: Scene, ours: Resampled, theirs: Resampled, *, name: str) -> Float64:
    """Mean over cells of the difference of an index that is averaged over units."""
    return over_cells(scene, _index(ours, name) - _index(theirs, name))


def _index(sums: Resampled, name: str) -> Float64:
    count = sums[_count_of(name)]
    return np.where(count > 0, sums[f"index_{name}"] / np.maximum(count, 1.0), np.nan)


def _count_of(name: str) -> str:
    return "index_sdii_count" if name == "sdii" else "index_count"


def return_level_error(
    scene: Scene, ours: Resampled, theirs: Resampled, *, period: int, fewest: int
) -> Float64:
    """Mean over some cells of the absolute difference of return levels."""
    one, two = (_return_levels(scene, x, period, fewest) for x in (ours, theirs))
    areas = scene.cell_areas[_few(scene)]
    gap = np.abs(one - two)
    known = np.isfinite(gap)
    weight = known @ areas
    return np.where(
        weight > 0, np.where(known, gap, 0.0) @ areas / np.maximum(weight, 1e-300), np.nan
    )


def _return_levels(scene: Scene, sums: Resampled, period: int, fewest: int) -> Float64:
    counts = sums["maxima"]
    edges = scene.edges[_few(scene)].astype(np.float64)
    ends = np.pad(edges, ((0, 0), (1, 1)), mode="edge")
    middles = 0.5 * (ends[:, 1:] + ends[:, :-1])
    enough = (sums["maxima_units"][:, None] >= fewest) & (counts.sum(axis=-1) >= fewest)
    levels = gev_level(*l_moments(counts, middles), period)
    return np.where(enough, levels, np.nan)


def l_moments(counts: Float64, middles: Float64) -> tuple[Float64, Float64, Float64]:
    """Mean, L-scale and L-skewness of values in bins, by unbiased probability-weighted moments.

    Hosking (1990, doi:10.1111/j.2517-6161.1990.tb01775.x), with b_r = sum_j (j - 1)...(j - r) x_(j)
    / (n (n - 1)...(n - r)), in which all values of a bin are its middle.

    Args:
        counts: shape (..., bins).
        middles: of the bins, ascending, shape (..., bins).

    Returns:
        each of shape (...); NaN of fewer than three values.
    """
    after = np.cumsum(counts, axis=-1)
    before = after - counts
    n = np.where(after[..., -1] >= 3, after[..., -1], np.nan)

    def pairs(k: Float64) -> Float64:
        return np.asarray(k * (k - 1.0) / 2.0)

    def triples(k: Float64) -> Float64:
        return np.asarray(k * (k - 1.0) * (k - 2.0) / 3.0)

    b0 = (counts * middles).sum(axis=-1) / n
    b1 = ((pairs(after) - pairs(before)) * middles).sum(axis=-1) / (n * (n - 1.0))
    b2 = ((triples(after) - triples(before)) * middles).sum(axis=-1)
    b2 = b2 / (n * (n - 1.0) * (n - 2.0))
    scale = 2.0 * b1 - b0
    third = 6.0 * b2 - 6.0 * b1 + b0
    skewness = np.where(scale > 0, third / np.where(scale > 0, scale, 1.0), 0.0)
    return b0, scale, skewness


def gev_level(mean: Float64, scale: Float64, skewness: Float64, period: float) -> Float64:
    """The level that a unit exceeds once in `period` units, of the GEV with these L-moments.

    Hosking, Wallis & Wood (1985, doi:10.1080/00401706.1985.10488049), whose shape k is
    7.8590 c + 2.9554 c^2 with c = 2 / (3 + skewness) - log 2 / log 3.
    """
    c = 2.0 / (3.0 + skewness) - log(2.0) / log(3.0)
    k = 7.8590 * c + 2.9554 * c**2
    k = np.where(np.abs(k) < 1e-6, 1e-6, k)
    gamma = np.exp(np.vectorize(lgamma, otypes=[np.float64])(1.0 + k))
    alpha = scale * k / ((1.0 - 2.0**-k) * gamma)
    xi = mean - alpha * (1.0 - gamma) / k
    return np.asarray(xi + alpha / k * (1.0 - (-np.log1p(-1.0 / period)) ** k))


def _index_measure(
    name: str, title: str, units: str, formula: str, sentence: str, *, amounts: bool = True
) -> Measure:
    value: Callable[..., Float64] = partial(index_bias, name=name)
    return Measure(
        name=f"{name}_bias",
        title=f"Bias of {title}",
        theme="extremes",
        kind="against",
        along="spans",
        sums=(f"index_{name}", _count_of(name)),
        value=value,
        best="zero",
        units=units,
        formula=f"sum_i a_i (I_i - I_ref,i), I the mean over units and members of {formula}",
        source=_ETCCDI,
        sentence=sentence,
        amounts=amounts,
    )


def _return_measure(period: int) -> Measure:
    value: Callable[..., Float64] = partial(return_level_error, period=period, fewest=period)
    return Measure(
        name=f"return_level_{period}_error",
        title=f"Error of the {period}-year return level",
        theme="extremes",
        kind="against",
        along="spans",
        sums=("maxima", "maxima_units"),
        value=value,
        best="low",
        units="variable",
        formula=(
            f"sum_i a_i |z_i - z_ref,i|, z exceeded with probability 1/{period} by the highest "
            f"value of a unit: GEV by L-moments, members pooled, at most {_MOST_CELLS} cells"
        ),
        source="doi:10.1111/j.2517-6161.1990.tb01775.x",
        sentence=(
            f"How far the value that is exceeded once in {period} years (or seasons) lies from the "
            f"one observed; only with {period} units or more."
        ),
    )


MEASURES = (
    _index_measure(
        "rx1day",
        "Rx1day",
        "variable",
        "its wettest day",
        "How much more, or less, the wettest day of a year (or season) brings than observed.",
    ),
    _index_measure(
        "rx5day",
        "Rx5day",
        "mm",
        "its wettest five consecutive days",
        "How much more, or less, the wettest five days in a row bring than observed.",
    ),
    _index_measure(
        "sdii",
        "SDII",
        "variable",
        "the mean over its wet days",
        "How much more, or less, falls on a wet day than observed.",
    ),
    _index_measure(
        "cdd",
        "CDD",
        "days",
        "its longest dry spell",
        "How many days longer, or shorter, the longest dry spell is than observed.",
    ),
    _index_measure(
        "cwd",
        "CWD",
        "days",
        "its longest wet spell",
        "How many days longer, or shorter, the longest wet spell is than observed.",
    ),
    _index_measure(
        "highest",
        "the highest value",
        "variable",
        "its highest value",
        "How far the highest value of a year (or season) is off: TXx of tasmax, TNx of tasmin.",
        amounts=False,
    ),
    _index_measure(
        "lowest",
        "the lowest value",
        "variable",
        "its lowest value",
        "How far the lowest value of a year (or season) is off: TNn of tasmin, TXn of tasmax.",
        amounts=False,
    ),
    Measure(
        name="interannual_variability",
        title="Interannual variability",
        theme="time",
        kind="against",
        along="spans",
        sums=("unit_count", "unit_departure", "unit_square"),
        value=partial(deviation_ratio, name="unit", fewest=_FEWEST_UNITS),
        best="one",
        units="1",
        formula=(
            "sum_i a_i s_i / sum_i a_i s_ref,i, s the standard deviation of the means of units, "
            "of a member, less the reference's climatology by month"
        ),
        source="doi:10.1017/CBO9780511612336",
        sentence=(
            "Whether years (or seasons) differ from each other as much as observed: 1 is right; "
            f"only with {_FEWEST_UNITS} units or more."
        ),
    ),
    _return_measure(10),
    _return_measure(20),
)
