"""Coarse means of members against the input: consistency day by day, and changes with time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from climdown import cf
from climdown.arrays import Float32, Float64, Floats, Index
from climdown.evaluation.histograms import bin_counts, quantiles
from climdown.evaluation.maps import pearson, weighted
from climdown.evaluation.measure import Measure, Resampled, divided
from climdown.evaluation.scene import DRIZZLE, Coarse, Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums

# Coarse cells whose quantiles are followed, at most, evenly spread.
_CELLS = 256
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def _judged(scene: Scene) -> tuple[Coarse, Index]:
    """The cells of the input, and the flat positions of those that are judged."""
    assert scene.coarse is not None
    return scene.coarse, np.flatnonzero(scene.coarse.areas)


def _areas(scene: Scene, cells: Index) -> Float64:
    assert scene.coarse is not None
    return np.asarray(scene.coarse.areas.reshape(-1)[cells])


def _columns(scene: Scene, means: Float32, given: Float32, cells: Index) -> tuple[Float32, Float32]:
    """Members, shape (time, member, cells), and input, (time, cells), NaN where either is."""
    x, y = (values.reshape(*values.shape[:-2], -1)[..., cells] for values in (means, given))
    return np.where(np.isfinite(y)[:, None], x, np.float32(np.nan)), y


def differences(scene: Scene, means: Float32, given: Float32, part: Segments) -> Sums:
    """Area-weighted sums of each step and all members: weight, difference, its square."""
    _, cells = _judged(scene)
    x, y = _columns(scene, means, given, cells)
    areas, difference = _areas(scene, cells), x.astype(np.float64) - y[:, None]
    known, filled = np.isfinite(difference), np.nan_to_num(difference)
    return {
        "weight": known.sum(axis=1) @ areas,
        "difference": filled.sum(axis=1) @ areas,
        "squared_difference": (filled**2).sum(axis=1) @ areas,
    }


def drizzle(scene: Scene, values: Float32, given: Float32, part: Segments) -> Sums:
    """Area of fine cells in dry coarse ones of each step and all members, and what is not dry."""
    if not scene.amounts:
        return {}
    coarse, _ = _judged(scene)
    dry = given < np.float32(DRIZZLE)
    # The area of each fine cell that lies in dry coarse cells, (time, ny, nx).
    areas = coarse.spread(np.where(dry, coarse.areas, 0.0))
    known = np.isfinite(values).sum(axis=1, dtype=np.int32)
    damp = (values >= np.float32(DRIZZLE)).sum(axis=1, dtype=np.int32)
    return {
        "dry_weight": (known * areas).sum(axis=(1, 2)),
        "drizzle": (damp * areas).sum(axis=(1, 2)),
    }


def products(scene: Scene, means: Float32, given: Float32, part: Segments) -> Sums:
    """Moments of each member and the input in judged cells, shape (member, cells)."""
    _, cells = _judged(scene)
    x, y = _columns(scene, means, given, cells)
    # About the same value at all times, so that squares of kelvins keep what varies.
    base = _base(scene, cells)
    u, v = np.nan_to_num(x - base), np.nan_to_num(y - base)[:, None]
    known = np.isfinite(x)
    v = np.where(known, v, 0.0)
    sums = {"x": u, "y": v, "xx": u * u, "yy": v * v, "xy": u * v}
    return {"both": known.sum(axis=0), **{name: each.sum(axis=0) for name, each in sums.items()}}


def _base(scene: Scene, cells: Index) -> Float64:
    """The mean of the reference's climatology in coarse cells, shape (cells,)."""
    assert scene.coarse is not None
    return np.asarray(scene.coarse.means(scene.base.mean(axis=0)).reshape(-1)[cells])


def trends(scene: Scene, means: Float32, given: Float32, part: Segments) -> Sums:
    """Sums for straight lines through the days of judged cells, members pooled, by unit.

    Of departures from the reference's climatology, so that a unit that is not whole has no season.
    """
    if part.third[0] < 0:
        return {}
    coarse, cells = _judged(scene)
    x, y = _columns(scene, means, given, cells)
    base = coarse.means(scene.base).reshape(12, -1)[part.month][:, cells]
    known = np.isfinite(x).sum(axis=1)
    u = np.nan_to_num(x - base[:, None]).sum(axis=1)
    v = np.nan_to_num(y - base) * known
    t = part.years[:, None]
    sums = {"days": known, "t": t * known, "tt": t**2 * known}
    sums |= {"output": u, "t_output": t * u, "input": v, "t_input": t * v}
    return {f"trend_{name}": each.sum(axis=0) for name, each in sums.items()}


def changes(scene: Scene, means: Float32, given: Float32, part: Segments) -> Sums:
    """Histograms of some judged cells in the first and the last third, of output and input."""
    coarse, _ = _judged(scene)
    cells = followed(scene)
    x, y = _columns(scene, means, given, cells)
    edges = coarse.edges[cells]
    sums = {}
    for third, name in ((0, "early"), (2, "late")):
        chosen = part.third == third
        if chosen.any():
            ours = np.moveaxis(x[chosen], 2, 0).reshape(len(cells), -1)
            theirs = np.where(np.isfinite(x[chosen]).any(axis=1), y[chosen], np.float32(np.nan))
            sums[f"{name}_output"] = bin_counts(ours, edges)
            sums[f"{name}_input"] = bin_counts(theirs.T, edges)
    return sums


def followed(scene: Scene) -> Index:
    """Flat positions of the coarse cells whose quantiles are followed."""
    return cf.evenly(_judged(scene)[1], _CELLS)


STEPS = (differences,)
STEPS_OF_FINE = (drizzle,)
STRETCHES = (products, changes)
UNITS = (trends,)


def mean_difference(scene: Scene, sums: Resampled) -> Float64:
    """Mean of coarse members less the input."""
    return divided(sums["difference"], sums["weight"])


def coarse_rmse(scene: Scene, sums: Resampled) -> Float64:
    """Root mean square of coarse members less the input."""
    return np.asarray(np.sqrt(divided(sums["squared_difference"], sums["weight"])))


def coarse_correlation(scene: Scene, sums: Resampled) -> Float64:
    """`metrics.scores.coarse_correlation`: over time, mean over members and cells by area."""
    correlations = pearson(sums)
    areas = np.broadcast_to(_areas(scene, _judged(scene)[1]), correlations.shape[1:])
    return weighted(correlations.reshape(len(correlations), -1), areas.reshape(-1))


def drizzle_share(scene: Scene, sums: Resampled) -> Float64:
    """Share of fine cells that are not dry where the input is."""
    return divided(sums["drizzle"], sums["dry_weight"])


def slopes(sums: Resampled, name: str) -> Float64:
    """Trend of each judged cell, per year, shape (R, cells), of "output" or "input"."""
    n, t = sums["trend_days"], sums["trend_t"]
    mean = divided(t, n)
    return divided(
        sums[f"trend_t_{name}"] - mean * sums[f"trend_{name}"], sums["trend_tt"] - mean * t
    )


def trend_difference(scene: Scene, sums: Resampled) -> Float64:
    """Trend of the output less that of the input."""
    areas = _areas(scene, _judged(scene)[1])
    return weighted(slopes(sums, "output") - slopes(sums, "input"), areas)


def trend_ratio(scene: Scene, sums: Resampled) -> Float64:
    """Trend of the output over that of the input, each averaged over the region."""
    areas = _areas(scene, _judged(scene)[1])
    ours, theirs = (weighted(slopes(sums, name), areas) for name in ("output", "input"))
    there = theirs != 0
    return np.where(there, ours / np.where(there, theirs, 1.0), np.nan)


def quantile_changes(scene: Scene, sums: Resampled, name: str, levels: Floats) -> Float64:
    """Change of quantiles of each cell followed, last third less first, shape (R, cells, levels).

    Args:
        name: "output" or "input".
        levels: 0 to 1.
    """
    assert scene.coarse is not None
    edges = scene.coarse.edges[followed(scene)]
    late, early = (quantiles(sums[f"{part}_{name}"], edges, levels) for part in ("late", "early"))
    return late - early


def change_difference(scene: Scene, sums: Resampled, *, level: float) -> Float64:
    """Change of a quantile of the output less that of the input, averaged by area."""
    ours, theirs = (
        quantile_changes(scene, sums, name, np.array([level]))[..., 0]
        for name in ("output", "input")
    )
    return weighted(ours - theirs, _areas(scene, followed(scene)))


def _measure(
    name: str,
    title: str,
    sums: tuple[str, ...],
    value: Callable[..., Float64],
    formula: str,
    sentence: str,
    **how: object,
) -> Measure:
    declared = {"theme": "input", "kind": "input", "best": "zero", "along": "blocks", **how}
    declared.setdefault("units", "variable")
    declared.setdefault("source", "arXiv 2403.02774")
    return Measure(
        name=name,
        title=title,
        sums=sums,
        value=value,
        formula=formula,
        sentence=sentence,
        **declared,  # type: ignore[arg-type]
    )


_TREND = tuple(
    f"trend_{name}" for name in ("days", "t", "tt", "output", "t_output", "input", "t_input")
)
_LINE = (
    "b the slope over years, by least squares, of coarse means less the reference's mean of the "
    "month, members pooled"
)


def _change(level: float) -> Measure:
    label = f"P{100 * level:g}"
    return _measure(
        f"change_difference_p{100 * level:02.0f}",
        f"Change of {label}, difference from the input",
        ("early_output", "late_output", "early_input", "late_input"),
        partial(change_difference, level=level),
        f"({label} of the last third of the years - {label} of the first) of coarse members, less "
        "that of the input; mean over cells by area",
        f"Whether {label} changes with time as it does in the input.",
        theme="change",
        along="groups",
        source="doi:10.1175/JCLI-D-14-00754.1",
    )


MEASURES = (
    _measure(
        "coarse_difference",
        "Mean difference from the input",
        ("difference", "weight"),
        mean_difference,
        "mean over days, members and the input's cells of (coarse mean of a member - input)",
        "By how much the output, averaged over the input's cells, is off the input.",
    ),
    _measure(
        "coarse_rmse",
        "RMSE against the input",
        ("squared_difference", "weight"),
        coarse_rmse,
        "root of the mean of (coarse mean of a member - input)^2 over days, members and cells",
        "How far the output, averaged over the input's cells, lies from the input of the day.",
        best="low",
        tells=True,
    ),
    _measure(
        "coarse_correlation",
        "Correlation with the input",
        ("both", "x", "y", "xx", "yy", "xy"),
        coarse_correlation,
        "Pearson's correlation over days of a member's coarse mean and the input; mean over "
        "members and cells by area",
        "Whether the output follows the input from day to day.",
        best="one",
        units="1",
        along="groups",
    ),
    _measure(
        "coarse_drizzle",
        "Drizzle in dry coarse cells",
        ("drizzle", "dry_weight"),
        drizzle_share,
        "share of area and days with 0.1 mm or more in coarse cells whose input is below 0.1 mm",
        "How often it rains where the input is dry; some of it there is in truth, too.",
        best="reference",
        units="1",
        source="doi:10.1175/JCLI3672.1",
        amounts=True,
    ),
    _measure(
        "trend_difference",
        "Trend, difference from the input",
        _TREND,
        trend_difference,
        f"mean over cells by area of (b - b of the input), {_LINE}",
        "Whether the output warms, or wets, as fast as the input.",
        theme="change",
        along="units",
        units="variable year-1",
        source="doi:10.1007/s40641-016-0050-x",
    ),
    _measure(
        "trend_ratio",
        "Trend, ratio to the input",
        _TREND,
        trend_ratio,
        f"mean of b over cells by area / that of the input, {_LINE}",
        "1 if the output's trend is the input's; says little where that is near 0.",
        best="one",
        theme="change",
        along="units",
        units="1",
        source="doi:10.1007/s40641-016-0050-x",
    ),
    *map(_change, _LEVELS),
)
