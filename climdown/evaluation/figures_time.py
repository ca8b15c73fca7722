"""Figures along time: the seasonal cycle, and means of stretches of the period."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from climdown.arrays import Dates, Float64
from climdown.evaluation.measure import divided
from climdown.evaluation.segments import Along
from climdown.evaluation.view import Illustration, View, with_units
from climdown.plots.charts import Chart, Line

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FEWEST_MONTHS = 3
_MOST_POINTS = 120  # blocks of a series; more are averaged over years
_TICKS = 5
_DAYS_OF_YEAR = 365.25


def seasonal_cycle(view: View) -> Illustration | None:
    """Means by month of the year."""
    found = view.of_all("blocks", ["month_total", "month_weight"])
    means = {s: divided(one["month_total"], one["month_weight"]) for s, one in found.items()}
    present = np.zeros(12, dtype=bool)
    for one in means.values():
        present |= np.isfinite(one)
    if present.sum() < _FEWEST_MONTHS:
        return None
    order = _order(present)
    chart = Chart(
        "seasonal cycle",
        "month",
        with_units(f"mean {view.variable}", view.units),
        [
            view.line(s, np.arange(len(order), dtype=float), m[order], marks=True)
            for s, m in means.items()
        ],
        x_ticks=[(i, _MONTHS[m][: 3 if len(order) < 8 else 1]) for i, m in enumerate(order)],
    )
    caption = (
        "Means over the region by month of the year. Lines that part in some months are biases "
        "that the mean over the period hides."
    )
    return view.illustration("time", "Seasonal cycle", caption, {"season": chart})


def _order(present: np.typing.NDArray[np.bool_]) -> list[int]:
    """The months that are there, from the first after a gap on."""
    first = next((m for m in range(12) if present[m] and not present[m - 1]), 0)
    return [m for m in ((first + i) % 12 for i in range(12)) if present[m]]


def time_series(view: View) -> Illustration | None:
    """Means over the region, of blocks of days or of years."""
    lines: list[Line] = []
    all_dates: list[Any] = []
    along = _resolution(view)
    for source, sums in view.of_all("blocks", ["total", "weight"], by_segment=True).items():
        x, y, dates = _series(view, source, sums, along)
        lines.append(view.line(source, x, y, marks=along == "units"))
        all_dates += dates
    if len({round(float(x), 6) for line in lines for x in line.x}) < 3:
        return None
    chart = Chart(
        "means over the region",
        "date" if along == "blocks" else "year",
        with_units(view.variable, view.units),
        lines,
        x_ticks=_date_ticks(all_dates) if along == "blocks" else (),
    )
    what = "about ten days" if along == "blocks" else "a year, or of the season of a year,"
    caption = (
        f"Means of {what} over the region, of all members together. Of the same days the lines "
        "should lie on each other; of different days look at the size of the swings and at trends."
    )
    return view.illustration("time", "Time series", caption, {"series": chart})


def _resolution(view: View) -> Along:
    counts = [view.evaluation.plan.segments[s].count("blocks") for s in view.sources]
    return "blocks" if max(counts) <= _MOST_POINTS else "units"


def _series(
    view: View, source: str, sums: dict[str, Float64], along: Along
) -> tuple[Float64, Float64, list[Any]]:
    """Time in years, means, and the dates; NaN between units that do not follow each other."""
    plan = view.evaluation.plan
    parts = plan.segments[source]
    labels = parts.block if along == "blocks" else parts.unit
    ensemble = plan.reference if source == "reference" else plan.outputs[source]
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    middles = (starts + np.append(starts[1:], len(labels)) - 1) // 2
    dates = ensemble.time.centres[parts.steps[middles]]
    weight, total = (_joined(sums[n], parts.block, labels) for n in ("weight", "total"))
    years, means = _years(dates), divided(total, weight)
    if along == "blocks":
        new = np.flatnonzero(np.diff(parts.unit[starts])) + 1
        gaps = new[np.diff(years)[new - 1] > 0.1]
        years, means = np.insert(years, gaps, years[gaps - 1]), np.insert(means, gaps, np.nan)
    return years, means, list(dates)


def _joined(blocks: Float64, block: np.typing.NDArray[np.intp], labels: Any) -> Float64:
    """Sums of blocks added up by the labels of the steps that lie in them."""
    owner = labels[np.flatnonzero(np.diff(block, prepend=-1))]
    return np.bincount(owner, weights=blocks).astype(np.float64)


def _years(dates: Dates | Sequence[Any]) -> Float64:
    return np.array([d.year + (d.dayofyr - 0.5) / _DAYS_OF_YEAR for d in dates], dtype=np.float64)


def _date_ticks(dates: list[Any]) -> list[tuple[float, str]]:
    ordered = sorted(dates, key=lambda d: float(_years([d])[0]))
    chosen = [ordered[i] for i in np.linspace(0, len(ordered) - 1, _TICKS).astype(int)]
    long = any(a.year != b.year for a, b in pairwise(chosen)) and len(ordered) > 60
    texts = [
        f"{d.year}-{d.month:02d}" if long else f"{d.day} {_MONTHS[d.month - 1]}" for d in chosen
    ]
    return list(zip(map(float, _years(chosen)), texts, strict=True))
