"""Statistics of the fields of one source, and measures of means, deviations and distributions."""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float32, Float64, Mask
from climdown.evaluation.histograms import bin_counts, merged
from climdown.evaluation.maps import (
    area_mean,
    deviation_map,
    mean_map,
    seasonal_cycle,
    zonal_mean,
)
from climdown.evaluation.measure import Measure, Resampled, divided
from climdown.evaluation.scene import DRIZZLE, WET, Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums

# Share that is spread evenly over all bins, so that an empty one does not make all infinite.
_SPREAD = 1e-3
_STEPS = 16


def means(scene: Scene, values: Float32, part: Segments) -> Sums:
    """Area-weighted sum of each step, over members, and its weight; by month of the year, too."""
    areas, known = scene.areas.reshape(-1), np.isfinite(values)
    filled = np.where(known, values, np.float32(0))
    total = filled.sum(axis=1, dtype=np.float64).reshape(len(values), -1) @ areas
    weight = _members(known) @ areas
    month = np.arange(12) == part.month[:, None]
    return {
        "total": total,
        "weight": weight,
        "month_total": month * total[:, None],
        "month_weight": month * weight[:, None],
    }


def rain(scene: Scene, values: Float32, part: Segments) -> Sums:
    """Area-weighted number of members' cells that are wet, or have drizzle at least."""
    if not scene.amounts:
        return {}
    areas = scene.areas.reshape(-1)
    return {
        "wet_area": _members(values >= np.float32(WET)) @ areas,
        "damp_area": _members(values >= np.float32(DRIZZLE)) @ areas,
    }


def _members(cells: Mask) -> Float64:
    """The number of members by step and cell, from (time, member, ny, nx) to (time, cells)."""
    counts = cells.sum(axis=1, dtype=np.int32).reshape(len(cells), -1)
    return np.asarray(counts, dtype=np.float64)


def moments(scene: Scene, values: Float32, part: Segments) -> Sums:
    """Sums and sums of squares of each cell, over steps and members."""
    # Of a few steps at once, which stay in the processor's cache.
    pieces = [slice(i, i + _STEPS) for i in range(0, len(values), _STEPS)]
    sums = [_moments(scene, values[piece], part.take(piece)) for piece in pieces]
    return {name: np.sum([one[name] for one in sums], axis=0) for name in sums[0]}


def _moments(scene: Scene, values: Float32, part: Segments) -> Sums:
    known = np.isfinite(values)
    base = scene.base[part.month]
    # About the climatology, since squares of kelvins would lose what varies.
    away = values - base[:, None]
    np.copyto(away, 0.0, where=~known)
    members = known.sum(axis=1, dtype=np.int32)
    count, departure = members.sum(axis=0), away.sum(axis=(0, 1))
    removed = np.where(members > 0, members * base, 0.0).sum(axis=0)
    return {
        "count": count,
        "sum": departure + removed,
        "departure": departure,
        "square": np.einsum("tmyx,tmyx->yx", away, away),
    }


def marginal(scene: Scene, values: Float32, part: Segments) -> Sums:
    """Area-weighted counts of the values of all cells and members, on `Scene.pooled`."""
    grid, total = scene.grid, scene.grid.areas[scene.mask].sum()
    rows = np.moveaxis(values, 2, 0)
    counts = np.zeros(len(scene.pooled) + 1)
    widths = np.round(np.diff(grid.lon_edges), 9)
    # Cells of one row and width have the same area, and are counted together.
    for width in np.unique(widths):
        columns = widths == width
        # All columns mostly, which need no copy.
        chosen = rows if columns.all() else rows[..., columns]
        binned = bin_counts(chosen.reshape(len(rows), -1), scene.pooled)
        counts += grid.areas[:, np.argmax(columns)] @ binned
    return {"pooled": counts / total}


STEPS = (means, rain)
STRETCHES = (moments, marginal)


def domain_mean(scene: Scene, sums: Resampled) -> Float64:
    """Mean over region and period."""
    return divided(sums["total"], sums["weight"])


def bias(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Difference of the means over region and period."""
    return domain_mean(scene, ours) - domain_mean(scene, theirs)


def mean_error(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Area-weighted mean absolute difference of the means by cell."""
    return area_mean(scene, np.abs(mean_map(ours) - mean_map(theirs)))


def zonal_error(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Mean absolute difference of the zonal means, rows weighted by their area."""
    error = np.abs(zonal_mean(scene, mean_map(ours)) - zonal_mean(scene, mean_map(theirs)))
    weight = scene.areas.sum(axis=1) * np.isfinite(error)
    return divided((np.nan_to_num(error) * weight).sum(axis=1), weight.sum(axis=1))


def deviation_ratio(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Ratio of the area-weighted means of the deviations by cell."""
    one, two = deviation_map(ours), deviation_map(theirs)
    both = np.where(np.isfinite(one) & np.isfinite(two), 1.0, np.nan)
    return divided(area_mean(scene, one * both), area_mean(scene, two * both))


def deviation_error(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Area-weighted mean absolute difference of the deviations by cell."""
    return area_mean(scene, np.abs(deviation_map(ours) - deviation_map(theirs)))


def season_error(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Mean absolute difference of the means by month, over the months that both have."""
    error = np.abs(seasonal_cycle(ours) - seasonal_cycle(theirs))
    known = np.isfinite(error)
    return divided(np.nan_to_num(error).sum(axis=1), known.sum(axis=1))


def divergence(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Kullback-Leibler divergence of the pooled values, nats."""
    shares = merged(ours["pooled"], theirs["pooled"])
    q, p = (x * (1.0 - _SPREAD) + _SPREAD / x.shape[1] for x in shares)
    told = (shares[0].sum(axis=1) > 0) & (shares[1].sum(axis=1) > 0)
    return np.where(told, (p * np.log(p / q)).sum(axis=1), np.nan)


def histogram_error(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Half the sum of absolute differences of shares."""
    q, p = merged(ours["pooled"], theirs["pooled"])
    told = (q.sum(axis=1) > 0) & (p.sum(axis=1) > 0)
    return np.where(told, 0.5 * np.abs(q - p).sum(axis=1), np.nan)


def wet_share(scene: Scene, sums: Resampled) -> Float64:
    """Share of days and area with `WET` or more."""
    return divided(sums["wet_area"], sums["weight"])


def damp_share(scene: Scene, sums: Resampled) -> Float64:
    """Share of days and area with `DRIZZLE` or more."""
    return divided(sums["damp_area"], sums["weight"])


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
    ),
    Measure(
        name="bias",
        title="Bias of the mean",
        theme="distribution",
        kind="against",
        along="blocks",
        sums=("total", "weight"),
        value=bias,
        best="zero",
        units="variable",
        formula="mean of the output - mean of the reference, over region and period",
        source="doi:10.1016/C2017-0-03921-6",
        sentence="By how much all days and cells together are too high or too low.",
        tells=True,
    ),
    Measure(
        name="mean_error",
        title="Error of the mean by cell",
        theme="distribution",
        kind="against",
        along="groups",
        sums=("sum", "count"),
        value=mean_error,
        best="low",
        units="variable",
        formula="sum_i a_i |mean_t x_ti - mean_t y_ti| / sum_i a_i",
        source="doi:10.1002/2014EF000259",
        sentence="How far the mean of a cell lies from the reference's, whichever its sign.",
    ),
    Measure(
        name="zonal_error",
        title="Error of the zonal mean",
        theme="distribution",
        kind="against",
        along="groups",
        sums=("sum", "count"),
        value=zonal_error,
        best="low",
        units="variable",
        formula="mean over rows, by area, of |zonal mean of the output - that of the reference|",
        source="arXiv 2403.02774",
        sentence="How far the mean of a band of latitude lies from the reference's.",
    ),
    Measure(
        name="season_error",
        title="Error of the seasonal cycle",
        theme="distribution",
        kind="against",
        along="blocks",
        sums=("month_total", "month_weight"),
        value=season_error,
        best="low",
        units="variable",
        formula="mean over months of |mean of the month - that of the reference|, over the region",
        source="doi:10.1002/2014EF000259",
        sentence="How far the mean of a month of the year lies from the reference's.",
    ),
    Measure(
        name="deviation_ratio",
        title="Ratio of standard deviations",
        theme="distribution",
        kind="against",
        along="groups",
        sums=("count", "departure", "square"),
        value=deviation_ratio,
        best="one",
        units="1",
        formula=(
            "sum_i a_i s_i / sum_i a_i s_ref,i, s_i the standard deviation of a cell's departures "
            "from the reference's mean of the month"
        ),
        source="doi:10.1002/2014EF000259",
        sentence="Below 1 the days of a cell vary too little, above 1 too much.",
        tells=True,
    ),
    Measure(
        name="deviation_error",
        title="Error of the standard deviation by cell",
        theme="distribution",
        kind="against",
        along="groups",
        sums=("count", "departure", "square"),
        value=deviation_error,
        best="low",
        units="variable",
        formula="sum_i a_i |s_i - s_ref,i| / sum_i a_i, s_i as of the ratio of deviations",
        source="doi:10.1002/2014EF000259",
        sentence="How far the standard deviation of a cell lies from the reference's.",
    ),
    Measure(
        name="divergence",
        title="Kullback-Leibler divergence of values",
        theme="distribution",
        kind="against",
        along="groups",
        sums=("pooled",),
        value=divergence,
        best="low",
        units="nat",
        formula=(
            "sum_b p_b ln(p_b / q_b), p the reference's and q the output's share, by area, in bins "
            "that hold 1/64 of the reference's values; a thousandth of each is spread evenly"
        ),
        source="doi:10.1214/aoms/1177729694",
        sentence="How different the values of all cells together are distributed; 0 if alike.",
    ),
    Measure(
        name="histogram_error",
        title="Histogram error",
        theme="distribution",
        kind="against",
        along="groups",
        sums=("pooled",),
        value=histogram_error,
        best="low",
        units="1",
        formula="0.5 sum_b |q_b - p_b|, bins as of the divergence (total variation distance)",
        source="arXiv 2403.02774",
        sentence="The share of values that lies in the wrong bin of the histogram.",
    ),
    Measure(
        name="wet_share",
        title="Share of wet days (1 mm)",
        theme="distribution",
        kind="source",
        along="blocks",
        sums=("wet_area", "weight"),
        value=wet_share,
        best="reference",
        units="1",
        formula="area-weighted share of days with 1 mm or more",
        source="doi:10.1002/wcc.147",
        sentence="How often it rains.",
        amounts=True,
    ),
    Measure(
        name="damp_share",
        title="Share of days with 0.1 mm",
        theme="distribution",
        kind="source",
        along="blocks",
        sums=("damp_area", "weight"),
        value=damp_share,
        best="reference",
        units="1",
        formula="area-weighted share of days with 0.1 mm or more",
        source="doi:10.1175/JCLI3672.1",
        sentence="How often there is rain that can be measured; too often is called drizzle.",
        amounts=True,
    ),
)
