"""The browser of days and members: small images, and the script's data to change them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from climdown.arrays import Floats
from climdown.evaluation.days import Day, Shown, on_cells
from climdown.evaluation.figures_maps import value_scale
from climdown.evaluation.html import Html, data_url, joined, tag
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.view import View
from climdown.grid import Grid
from climdown.plots.atlas import Scale, limits_of_values
from climdown.plots.thumbnails import colour_bar, thumbnail

_WIDTH = 220  # pixels of an image
_MOST_OUTPUTS = 6
_PANELS = ("reference", "input", "member", "mean", "spread")
_Entry = dict[str, Any]


def browser(view: View, days: Iterator[Day], *, most_bytes: int) -> Html:
    """Images of days of all outputs, the first of which is shown without a script.

    Args:
        most_bytes: of all images; days that do not fit are left out, but for the first.
    """
    limits: dict[Scale, tuple[float, float]] = {}
    entries: list[_Entry] = []
    used = 0
    for day in days:
        if not entries:
            limits = _limits(view, day)
        entry = _entry(view, day, limits)
        used += len(json.dumps(entry))
        if entries and used > most_bytes:
            break
        entries.append(entry)
    name = view.name("browser")
    return tag(
        "div",
        _controls(name, entries),
        tag("p", _status(entries[0]), class_="status", aria_live="polite"),
        _panels(view, entries[0]),
        *_scales(view, limits),
        tag("script", Html(_data(entries)), type="application/json"),
        class_="browser",
        id=name,
    )


def _data(entries: list[_Entry]) -> str:
    # What ends a script must not stand in it.
    return json.dumps(entries, separators=(",", ":")).replace("<", "\\u003c")


def _limits(view: View, day: Day) -> dict[Scale, tuple[float, float]]:
    values = [one.members for one in day.sources.values()]
    spreads = [one.spread for one in day.sources.values() if one.spread is not None]
    scale = value_scale(view)
    limits = {scale: limits_of_values(np.concatenate([v.ravel() for v in values]), scale)}
    if spreads:
        limits["spread"] = limits_of_values(np.concatenate([v.ravel() for v in spreads]), "spread")
    return limits


def _entry(view: View, day: Day, limits: dict[Scale, tuple[float, float]]) -> _Entry:
    """Images of a day by output, as the script reads them."""
    scale = value_scale(view)
    truth = day.sources[REFERENCE]

    def image(values: Any, kind: Scale) -> str:
        return data_url(thumbnail(values, limits[kind], kind))

    def of_output(shown: Shown) -> _Entry:
        return {
            "date": shown.date,
            "input": None if shown.input is None else image(_masked(view, *shown.input), scale),
            "members": [image(one, scale) for one in shown.members],
            "mean": None if shown.spread is None else image(shown.mean, scale),
            "spread": None if shown.spread is None else image(shown.spread, "spread"),
        }

    outputs = view.outputs[:_MOST_OUTPUTS]
    return {
        "kind": day.kind,
        "date": truth.date,
        "reference": image(truth.members[0], scale),
        "outputs": {name: of_output(day.sources[name]) for name in outputs},
    }


def _masked(view: View, grid: Grid, values: Floats) -> Floats:
    """The input where there is something to compare it with."""
    return np.where(view.scene.mask, on_cells(grid, values, view.scene.grid), np.nan)


def _status(entry: _Entry) -> str:
    name, first = next(iter(entry["outputs"].items()))
    return f"{entry['kind']}: {name} on {first['date']}, member 1; reference on {entry['date']}"


def _controls(name: str, entries: list[_Entry]) -> Html:
    """Choices of day, output and member; the script shows them."""
    outputs = entries[0]["outputs"]
    count = max(len(one["members"]) for one in outputs.values())
    days = [f"{entry['kind']} ({entry['date']})" for entry in entries]
    members = [f"member {i + 1}" for i in range(count)]
    fields = [
        tag(
            "label",
            label,
            tag("select", *(tag("option", t, value=str(i)) for i, t in enumerate(texts)), name=key),
        )
        for label, key, texts in (
            ("Day ", "day", days),
            ("Output ", "output", list(outputs)),
            ("Member ", "member", members),
        )
    ]
    return tag(
        "form",
        tag("fieldset", tag("legend", "Show"), *fields),
        class_="controls",
        aria_controls=name,
        hidden=True,
    )


def _panels(view: View, entry: _Entry) -> Html:
    """The images of the first day, output and member."""
    name, first = next(iter(entry["outputs"].items()))
    sources = {
        "reference": entry["reference"],
        "input": first["input"],
        "member": first["members"][0],
        "mean": first["mean"],
        "spread": first["spread"],
    }
    height = _height(view)
    shown = [
        tag(
            "figure",
            tag(
                "img",
                src=source or "data:,",
                width=_WIDTH,
                height=height,
                alt=f"{view.variable}: {panel} of {name}, {first['date']}",
            ),
            tag("figcaption", _title(panel)),
            data_panel=panel,
            hidden=source is None,
        )
        for panel, source in sources.items()
        if source is not None or any(o[panel] for o in entry["outputs"].values())
    ]
    return tag("div", *shown, class_="thumbnails", data_variable=view.variable)


def _title(panel: str) -> str:
    return {"mean": "Ensemble mean", "member": "Member 1"}.get(panel, panel.capitalize())


def _height(view: View) -> int:
    grid = view.scene.grid
    north = grid.lat_edges[-1] - grid.lat_edges[0]
    east = grid.lon_edges[-1] - grid.lon_edges[0]
    return round(_WIDTH * float(north / (east * np.cos(np.radians(grid.lat.mean())))))


def _scales(view: View, limits: dict[Scale, tuple[float, float]]) -> Iterator[Html]:
    for scale, (low, high) in limits.items():
        what = "spread" if scale == "spread" else view.variable
        yield tag(
            "p",
            joined(f"{what}: {low:.3g} "),
            tag("img", src=data_url(colour_bar(scale)), width=160, height=10, alt="to"),
            joined(f" {high:.3g} {view.units}"),
            class_="scale",
        )
