"""Maps: an example day, means and biases, spread and errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from climdown.arrays import Float64
from climdown.evaluation.days import Day, Shown
from climdown.evaluation.measure import divided
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.view import Illustration, View
from climdown.plots.atlas import Map, Scale, draw_maps

_MEMBERS = 2  # that an example day shows


def value_scale(view: View) -> Scale:
    """Of the variable's own values."""
    return "amounts" if view.scene.amounts else "values"


def difference_scale(view: View) -> Scale:
    """Of differences of the variable."""
    return "change of amounts" if view.scene.amounts else "difference"


def _illustration(
    view: View, word: str, title: str, caption: str, rows: list[list[Map]]
) -> Illustration:
    """Rows of maps, of which all of one scale share their colours."""
    land = (view.scene.grid, view.scene.mask)
    maps = [one for row in rows for one in row]
    pictures = iter(draw_maps(maps, land=land, name=view.name(word)))
    drawn = tuple(tuple(next(pictures) for _ in row) for row in rows)
    return Illustration("maps", f"{title}, {view.variable}", caption, drawn)


def _ranges(view: View, output: str) -> bool:
    """Whether an output counts for the range of colours: one that has to be beaten does not."""
    return output not in view.evaluation.plan.baselines


def example_day(view: View, day: Day) -> Illustration:
    """Input, members, mean, spread and reference of one day, of the first output."""
    name = view.outputs[0]
    shown, truth = day.sources[name], day.sources[REFERENCE]
    maps = [*_of_output(view, name, shown)]
    scale = value_scale(view)
    maps.append(
        Map(f"Reference {truth.date}", view.scene.grid, truth.members[0], view.units, scale)
    )
    if view.evaluation.plan.paired:
        error = shown.mean - truth.members[0]
        what = "Mean less reference" if len(shown.members) > 1 else "Output less reference"
        maps.append(Map(what, view.scene.grid, error, view.units, difference_scale(view)))
    same = shown.date == truth.date
    caption = (
        f"{name} on {shown.date}: {day.kind} of sixty days spread evenly over the "
        f"period{'' if same else f', and a day of the same rank of the reference ({truth.date})'}. "
        "A member should look like the reference: as sharp, as varied, and no smoother; the mean "
        "is smoother by its nature. Members should agree where the input decides, and differ in "
        "detail."
    )
    return _illustration(view, "day", "An example day", caption, [maps])


def _of_output(view: View, name: str, shown: Shown) -> list[Map]:
    scale, grid = value_scale(view), view.scene.grid
    maps = []
    if shown.input is not None:
        maps.append(Map("Input", *shown.input, view.units, scale))
    for i, member in enumerate(shown.members[:_MEMBERS], start=1):
        title = f"{name}, member {i}" if shown.spread is not None else name
        maps.append(Map(title, grid, member, view.units, scale))
    if shown.spread is not None:
        maps.append(Map("Ensemble mean", grid, shown.mean, view.units, scale))
        maps.append(Map("Spread", grid, shown.spread, view.units, "spread"))
    return maps


def means_and_biases(view: View) -> Illustration | None:
    """Means over the period, and where they are off."""
    found = view.of_all("groups", ["sum", "count"])
    means = {source: divided(one["sum"], one["count"]) for source, one in found.items()}
    truth = means.pop(REFERENCE, None)
    if truth is None or not means:
        return None
    grid, units, scale = view.scene.grid, view.units, value_scale(view)
    rows = [[Map("Reference, mean", grid, truth, units, scale)], []]
    away = difference_scale(view)
    for name, one in means.items():
        rows[0].append(Map(f"{name}, mean", grid, one, units, scale))
        bias = Map(f"{name}, bias", grid, one - truth, units, away, _ranges(view, name))
        rows[1].append(bias)
    caption = (
        "Means over the period and all members; the bias is output less reference, all on one "
        "scale, which baselines may exceed. A bias that follows mountains or coasts is one of the "
        "method; a smooth one comes from the input."
    )
    return _illustration(view, "mean", "Means and biases", caption, rows)


def spread_and_errors(view: View) -> Illustration | None:
    """Spread, error of the mean, and CRPS of each cell."""
    found: dict[str, list[Map]] = {"spread": [], "CRPS": []}
    for name, sums in view.of_all("groups", ["weight_map"], of="/pairs").items():
        for kind, values in _spread_and_error(view, name, sums):
            one = Map(f"{name}, {kind}", view.scene.grid, values, view.units, "spread")
            found[kind].append(replace(one, ranges=_ranges(view, name)))
    rows = [maps for maps in found.values() if maps]
    if not rows:
        return None
    caption = (
        "Spread (root-mean-square standard deviation of the members) and CRPS of each cell, all "
        "on one scale, which baselines may exceed. Spread should be large where CRPS is large."
    )
    return _illustration(view, "spread", "Spread and CRPS", caption, rows)


def _spread_and_error(view: View, name: str, sums: dict[str, Float64]) -> list[tuple[str, Float64]]:
    weight, found = sums["weight_map"], []
    if "variance_map" in sums and view.members(name) > 1:
        found.append(("spread", np.sqrt(divided(sums["variance_map"], weight))))
    if "crps_map" in sums:
        found.append(("CRPS", divided(sums["crps_map"], weight)))
    return found
