"""The scales of each variable, from days of the reference that are spread evenly."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from climdown import cf, regrid
from climdown.arrays import Float32, Float64, Floats, Index, Mask
from climdown.errors import GridError, InputError
from climdown.evaluation.bins import bin_edges, quantile
from climdown.evaluation.ensembles import Ensemble
from climdown.evaluation.scene import SERIES_CELLS, Coarse, Scene
from climdown.evaluation.segments import Segments
from climdown.inputs.checks import FILL, Tally

log = logging.getLogger(__name__)

_SURVEY_BYTES = 256 << 20
_MOST_DAYS = 2000
# Enough to see which cells have values, and whether members differ.
_FEW_DAYS, _FEWEST_DAYS = 32, 4
# A cell is judged where so many of the days surveyed have a value.
_LEAST_SHARE = 0.5


def survey(
    name: str,
    field: cf.Field,
    judged: Segments,
    *,
    amounts: bool,
    within: Mask | None = None,
    most_cells: int = SERIES_CELLS,
) -> Scene:
    """The scene of one variable.

    Args:
        field: the reference, on the grid on which all are judged.
        judged: its steps.
        amounts: whether it is precipitation.
        within: cells where all outputs have values, shape (ny, nx); None for all.
        most_cells: of which series are kept.

    Raises:
        InputError: it has no values there, or impossible ones.
    """
    values, month = _days(field, judged)
    mask = _mask(field, values, within)
    values[:, ~mask] = np.nan
    climatology = _by_month(values, month)
    cells = scattered(mask, most_cells)
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
        tail=np.where(mask, quantile(values, 0.95), np.nan),
        cells=cells,
        edges=bin_edges(series),
        pooled=bin_edges(_thinned(everything)[:, None])[0].astype(np.float64),
        thresholds=thresholds,
        frequency=_frequency(values, month, thresholds),
    )


def covered(field: cf.Field, judged: Segments) -> Mask:
    """Cells in which a field has values on most days, by some of them.

    Raises:
        InputError: there are none, or impossible values.
    """
    return _mask(field, _days(field, judged, most=_FEW_DAYS)[0])


def repeated(ensemble: Ensemble, judged: Segments) -> bool:
    """Whether several members are one and the same, by some days."""
    if len(ensemble.members) < 2:
        return False
    for name, first in ensemble.members[0].items():
        values, _ = _days(first, judged, most=_FEWEST_DAYS)
        for member in ensemble.members[1:]:
            others, _ = _days(member[name], judged, most=_FEWEST_DAYS)
            if not np.array_equal(values, others, equal_nan=True):
                return False
    return True


def _mask(field: cf.Field, values: Float32, within: Mask | None = None) -> Mask:
    """Cells with values on most days, shape (ny, nx).

    Raises:
        InputError: there are none, or impossible values.
    """
    mask = np.asarray(np.isfinite(values).mean(axis=0) >= _LEAST_SHARE)
    if within is not None:
        mask &= within
    if not mask.any():
        raise InputError(f"{field.where} has no values in the region and period that are judged")
    _refuse_impossible(field, values)
    return mask


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


def scattered(mask: Mask, most: int) -> Index:
    """Positions of at most so many of a mask's cells, evenly spread.

    The first of a sequence that fills the plane evenly (R2 of Roberts 2018), so that two masks
    that differ in some cells have most of the chosen ones in common.
    """
    inside = np.flatnonzero(mask)
    y, x = np.unravel_index(inside, mask.shape)
    plastic = 1.324717957244746
    order = np.argsort((y / plastic + x / plastic**2) % 1.0, kind="stable")
    return np.sort(inside[order[:most]])


def _days(field: cf.Field, judged: Segments, *, most: int = _MOST_DAYS) -> tuple[Float32, Index]:
    """Values of steps spread evenly, and the month of each."""
    fitting = max(_FEW_DAYS, _SURVEY_BYTES // (4 * int(np.prod(field.grid.shape))))
    most = min(most, fitting)
    chosen = cf.evenly(np.arange(len(judged.steps)), most)
    steps = judged.steps[chosen]
    values = field.read_steps(steps)
    field.refuse_misread()
    return values, judged.month[chosen]


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


def _thresholds(values: Floats, *, amounts: bool) -> dict[str, float]:
    """What exceedance is judged of: round amounts of rain, else upper quantiles of all cells."""
    if amounts:
        return {"1 mm": 1.0, "10 mm": 10.0}
    return {f"P{level}": float(np.quantile(values, level / 100)) for level in (75, 95)}
