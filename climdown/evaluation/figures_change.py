"""Figures of change with time: years and quantiles of the output, averaged over the input's cells,
against those of the input."""

from __future__ import annotations

from typing import Literal

import numpy as np

from climdown import cf
from climdown.arrays import Float64, Floats
from climdown.evaluation.measure import divided
from climdown.evaluation.request import INPUT
from climdown.evaluation.scene import Scene
from climdown.evaluation.view import Illustration, View, with_units
from climdown.plots.charts import Chart, Line

Whose = Literal["output", "input"]

_LEVELS = np.array([0.01, 0.05, *np.linspace(0.1, 0.9, 17), 0.95, 0.98, 0.99])
_EPOCH = 2000.0  # years of trends are counted from it
_FEWEST_YEARS = 3


def change_signal(view: View) -> Illustration | None:
    """Departures year by year, and the change of each quantile."""
    if view.scene.coarse is None:
        return None
    years, quantiles = _years(view), _quantile_changes(view)
    charts = {
        "years": Chart("year by year", "year", with_units("departure", view.units), years),
        "change": Chart(
            "change of quantiles",
            "quantile (%)",
            with_units("last third less first", view.units),
            quantiles,
            ideal=0.0,
        ),
    }
    caption = (
        "Members averaged over the input's cells, and the input itself: means of each year, as "
        "departures from the reference's mean of the month, and the change of each quantile from "
        "the first third of the years to the last. Lines of outputs should follow that of the "
        "input; where they do not, downscaling has changed the signal."
    )
    return view.illustration("change", "Change signal", caption, charts)


def _years(view: View) -> list[Line]:
    """A line of each output, and that of the input on the days of the first."""
    names = [f"trend_{name}" for name in ("days", "t", "output", "input")]
    found = view.of_all("units", names, of="/input", by_segment=True)
    whose: dict[str, tuple[Whose, dict[str, Float64]]] = {}
    for source, sums in found.items():
        whose.setdefault(INPUT, ("input", sums))
        whose[source] = ("output", sums)
    lines = [_year_line(view, source, *one) for source, one in whose.items()]
    return [line for line in lines if line.known.sum() >= _FEWEST_YEARS]


def _year_line(view: View, source: str, whose: Whose, sums: dict[str, Float64]) -> Line:
    days = sums["trend_days"]
    year = divided(sums["trend_t"].sum(axis=1), days.sum(axis=1)) + _EPOCH
    departures = divided(sums[f"trend_{whose}"], days)
    areas = _areas(view.scene, days.shape[1])
    means = [_average(row, areas) for row in departures]
    return view.line(source, year, np.array(means), marks=True)


def _average(values: Float64, areas: Float64) -> float:
    known = np.isfinite(values)
    return float(np.average(values[known], weights=areas[known])) if known.any() else np.nan


def _quantile_changes(view: View) -> list[Line]:
    """A line of each output, and that of the input on the days of the first."""
    names = [f"{part}_{whose}" for part in ("early", "late") for whose in ("output", "input")]
    found = view.of_all("groups", names, of="/input")
    lines: list[Line] = []
    for source, sums in found.items():
        if not lines:
            lines.append(view.line(INPUT, 100 * _LEVELS, _change(view.scene, sums, "input")))
        lines.append(view.line(source, 100 * _LEVELS, _change(view.scene, sums, "output")))
    return lines


def _change(scene: Scene, sums: dict[str, Float64], whose: Whose) -> Float64:
    """Change of each quantile, averaged over cells by area."""
    assert scene.coarse is not None
    early, late = sums[f"early_{whose}"], sums[f"late_{whose}"]
    cells = _cells(scene, len(early))
    areas = scene.coarse.areas.reshape(-1)[cells]
    known = (early.sum(axis=1) > 0) & (late.sum(axis=1) > 0)
    if not known.any():
        return np.full(_LEVELS.shape, np.nan)
    changes = [
        _quantiles(late[i], edges) - _quantiles(early[i], edges)
        for i, edges in enumerate(scene.coarse.edges[cells])
        if known[i]
    ]
    return np.asarray(np.average(changes, axis=0, weights=areas[known]))


def _quantiles(counts: Float64, edges: Floats) -> Float64:
    """Of binned values, linear within bins; the outermost bins have no width."""
    ends = np.concatenate([edges[:1], edges, edges[-1:]]).astype(np.float64)
    shares = np.append(0.0, np.cumsum(counts) / counts.sum())
    # Shares that do not rise belong to empty bins: the first of them is where a level is reached.
    rising, first = np.unique(shares, return_index=True)
    return np.asarray(np.interp(_LEVELS, rising, ends[first]))


def _cells(scene: Scene, count: int) -> np.typing.NDArray[np.intp]:
    """The coarse cells of so many rows of sums: those judged, or evenly spread ones of them."""
    assert scene.coarse is not None
    return cf.evenly(np.flatnonzero(scene.coarse.areas), count)


def _areas(scene: Scene, count: int) -> Float64:
    assert scene.coarse is not None
    return np.asarray(scene.coarse.areas.reshape(-1)[_cells(scene, count)])
