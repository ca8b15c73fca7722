"""The scales of each variable, from days of the reference that are spread evenly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from climdown import cf, regrid
from climdown.arrays import Float32, Float64, Floats, Index
from climdown.errors import GridError, InputError
from climdown.evaluation.scene import SERIES_CELLS, Coarse, Scene
from climdown.evaluation.segments import Segments
from climdown.inputs.checks import FILL, Tally

_SURVEY_BYTES = 256 << 20
_MOST_DAYS = 2000
# A cell is judged where so many of the days surveyed have a value.
_LEAST_SHARE = 0.5
# Steps between the levels of a cell's bins: even ones, and finer ones in the tails.
_LEVELS = np.unique(
    np.concatenate([np.linspace(0, 1, 97), np.linspace(0.9, 1, 65), np.linspace(0.99, 1, 33)])
)
_BEYOND = 33  # bins beyond the highest value seen, each a 32nd of the upper half wide


def survey(name: str, field: cf.Field, judged: Segments, *, amounts: bool) -> Scene:
    """The scene of one variable.

    Args:
        field: the reference, on the grid on which all are judged.
        judged: its steps.

    Raises:
        InputError: it has no values there, or impossible ones.
    """
    values, month = _days(field, judged)
    mask = np.asarray(np.isfinite(values).mean(axis=0) >= _LEAST_SHARE)
    if not mask.any():
        raise InputError(f"{field.where} has no values in the region and period that are judged")
    values[:, ~mask] = np.nan
    _refuse_impossible(field, values)
    climatology = _by_month(values, month)
    cells = cf.evenly(np.flatnonzero(mask), SERIES_CELLS)
    series = values.reshape(len(values), -1)[:, cells]
    everything = values[np.isfinite(values)]
    thresholds = _thresholds(everything, amounts=amounts)
    return Scene(
        name=name,
        units=field.quantity.units,
        amounts=amounts,
        grid=field.grid,
        mask=mask,
        climatology=climatology,
        deviation=_deviation(values - climatology[month]),
        tail=np.where(mask, _quantile(values, 0.95), np.nan),
        cells=cells,
        edges=bin_edges(series),
        pooled=bin_edges(_thinned(everything)[:, None])[0].astype(np.float64),
        thresholds=thresholds,
        frequency=_frequency(values, month, thresholds),
    )


def with_input(scene: Scene, field: cf.Field, judged: Segments) -> Scene:
    """The scene with the cells of the input.

    Args:
        field: the input on its own rectilinear cells, cut to the region.
        judged: its steps.

    Raises:
        GridError: no cell of it lies wholly in what is judged.
    """
    weights = regrid.weights(scene.grid, field.grid, "conservative")
    covered = np.nan_to_num(weights.apply(scene.mask.astype(np.float64))) * weights.coverage
    areas = np.where(covered > 0.9, field.grid.areas, 0.0)
    if not areas.any():
        raise GridError(
            f"{field.where}: none of its cells ({field.grid.describe()}) lies within what is "
            f"judged ({scene.grid.describe()}); leave out --input, or give a finer one"
        )
    values, _ = _days(field, judged)
    values = np.where(areas > 0, values, np.nan).reshape(len(values), -1)
    coarse = Coarse(field.grid, weights, areas / areas.sum(), bin_edges(values))
    return replace(scene, coarse=coarse)


def _days(field: cf.Field, judged: Segments) -> tuple[Float32, Index]:
    """Values of steps spread evenly, and the month of each."""
    most = max(32, min(_MOST_DAYS, _SURVEY_BYTES // (4 * int(np.prod(field.grid.shape)))))
    chosen = cf.evenly(np.arange(len(judged.steps)), most)
    steps = judged.steps[chosen]
    some = field.take(steps)
    return some.read(slice(0, len(steps))), judged.month[chosen]


def _thinned(values: Floats) -> Floats:
    """At most about a million of some values, with the same quantiles."""
    return np.sort(values)[cf.evenly(np.arange(values.size), 1 << 20)]


def _refuse_impossible(field: cf.Field, values: Float32) -> None:
    tally = Tally(cf.family_of_field(field), field.quantity.units)
    tally.add(values)
    if np.nanmax(np.abs(values)) > FILL or tally.impossible > 0.01 * tally.count:
        raise InputError(
            f"{field.where} has {tally.describe()}, its units are '{field.source_units}'; correct "
            "them, or declare its fill value"
        )


def _by_month(values: Floats, month: Index) -> Float64:
    means = np.full((12, *values.shape[1:]), np.nan)
    for one in np.unique(month):
        days = values[month == one].astype(np.float64)
        count = np.isfinite(days).sum(axis=0)
        total = np.nansum(days, axis=0)
        means[one] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def _frequency(values: Float32, month: Index, thresholds: Mapping[str, float]) -> Float64:
    """Share of days by month that reach each threshold, shape (thresholds, 12, ny, nx)."""
    reached = [np.where(np.isfinite(values), values >= t, np.nan) for t in thresholds.values()]
    return np.stack([_by_month(one, month) for one in reached])


def _deviation(anomalies: Floats) -> float:
    return float(np.sqrt(np.nanmean(np.asarray(anomalies, np.float64) ** 2)))


def _quantile(values: Float32, level: float) -> Float64:
    """A quantile of each cell; NaN where there is no value."""
    ordered = np.sort(values, axis=0)  # NaN comes last
    count = np.isfinite(values).sum(axis=0)
    place = level * np.maximum(count - 1, 0)
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    at_low, at_high = (np.take_along_axis(ordered, i[None], axis=0)[0] for i in (low, high))
    return np.asarray(at_low + (place - low) * (at_high - at_low), dtype=np.float64)


def bin_edges(series: Floats) -> Float32:
    """Edges between bins of each column, at its own quantiles and beyond its highest value.

    Equal quantiles, as of dry days, are set apart by the smallest step of the number format, so
    that the edges ascend.

    Args:
        series: shape (time, cells), NaN where missing.

    Returns:
        shape (cells, edges).
    """
    filled = np.where(np.isfinite(series), series, np.nan).astype(np.float32)
    quantiles = np.stack([_quantile(filled, level) for level in _LEVELS], axis=-1)
    quantiles = np.nan_to_num(quantiles)
    low, middle, high = quantiles[:, 0], quantiles[:, len(_LEVELS) // 2], quantiles[:, -1]
    width = np.maximum((high - middle) / (_BEYOND - 1), 1e-6 * np.abs(high) + 1e-12)
    beyond = high[:, None] + width[:, None] * np.arange(1, _BEYOND + 1)
    below = low[:, None] - (width[:, None] * np.arange(_BEYOND, 0, -1))
    return _ascending(np.concatenate([below, quantiles, beyond], axis=1).astype(np.float32))


def _ascending(edges: Float32) -> Float32:
    for i in range(1, edges.shape[1]):
        least = np.nextafter(edges[:, i - 1], np.float32(np.inf))
        edges[:, i] = np.maximum(edges[:, i], least)
    return edges


def _thresholds(values: Floats, *, amounts: bool) -> dict[str, float]:
    """What exceedance is judged of: round amounts of rain, else upper quantiles of all cells."""
    if amounts:
        return {"1 mm": 1.0, "10 mm": 10.0}
    return {f"P{level}": float(np.quantile(values, level / 100)) for level in (75, 95)}
