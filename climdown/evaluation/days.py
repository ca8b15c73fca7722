"""A few days to look at: of high and low means, of each source, whole members."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from climdown import cf
from climdown.arrays import Float32, Float64, Floats
from climdown.evaluation.ensembles import Ensemble
from climdown.evaluation.plan import Plan
from climdown.evaluation.request import REFERENCE
from climdown.grid import Grid

_CANDIDATES = 60  # days spread evenly over the period, of which some are chosen
_MOST_MEMBERS = 8
# Label and place among the candidates, ordered by their mean over the region.
_VALUES = (
    ("highest mean", 1.0),
    ("lowest mean", 0.0),
    ("median mean", 0.5),
    ("mean in the upper quarter", 0.8),
)
_AMOUNTS = (
    ("most rain", 1.0),
    ("rain in the upper tenth", 0.9),
    ("rain in the upper quarter", 0.75),
    ("median rain", 0.5),
)


@dataclass(frozen=True, eq=False)
class Shown:
    """One source on one day.

    Attributes:
        date: for people.
        members: at most some, shape (member, ny, nx).
        mean, spread: of all members, shape (ny, nx); spread None of a single one.
        input: what it was made from, on its own cells, with its grid; None if there is none.
    """

    date: str
    members: Float32
    mean: Float32
    spread: Float32 | None
    input: tuple[Grid, Float32] | None


@dataclass(frozen=True, eq=False)
class Day:
    """A day of one kind, of all sources: the same one where days are pairs.

    Attributes:
        kind: why it was chosen, for people.
        sources: outputs and reference.
    """

    kind: str
    sources: Mapping[str, Shown]


def days_of(plan: Plan, variable: str) -> Iterator[Day]:
    """Days of different kinds, the most telling first, read one by one."""
    scene = plan.scenes[variable]
    names = [n for n in plan.outputs if variable in plan.variables(n)]
    ordered = {REFERENCE: _ordered(plan, REFERENCE, variable)}
    for name in names:
        ordered[name] = ordered[REFERENCE] if plan.paired else _ordered(plan, name, variable)
    seen: set[int] = set()
    for kind, level in _AMOUNTS if scene.amounts else _VALUES:
        places = {n: int(one[round(level * (len(one) - 1))]) for n, one in ordered.items()}
        if places[REFERENCE] in seen:
            continue
        seen.add(places[REFERENCE])
        yield Day(kind, {n: _shown(plan, n, variable, place) for n, place in places.items()})


def _ordered(plan: Plan, name: str, variable: str) -> np.typing.NDArray[np.intp]:
    """Places of candidates among the judged steps, from the lowest mean to the highest."""
    steps = plan.segments[name].steps
    places = cf.evenly(np.arange(len(steps)), _CANDIDATES)
    field = _ensemble(plan, name).members[0][variable].take(steps[places])
    areas = plan.scenes[variable].areas
    means = np.array([_mean(v, areas) for v in field.read(slice(0, len(places)))])
    known = np.isfinite(means)
    return np.asarray(places[known][np.argsort(means[known], kind="stable")])


def _mean(values: Float32, areas: Float64) -> float:
    known = np.where(np.isfinite(values), areas, 0.0)
    weight = known.sum()
    return float((np.nan_to_num(values) * known).sum() / weight) if weight > 0 else float("nan")


def _ensemble(plan: Plan, name: str) -> Ensemble:
    return plan.reference if name == REFERENCE else plan.outputs[name]


def _shown(plan: Plan, name: str, variable: str, place: int) -> Shown:
    ensemble, mask = _ensemble(plan, name), plan.scenes[variable].mask
    step = int(plan.segments[name].steps[place])
    values = ensemble.read(variable, slice(step, step + 1))[0]
    values[:, ~mask] = np.nan
    several = len(values) > 1
    return Shown(
        date=describe_date(ensemble.time, step),
        members=values[:_MOST_MEMBERS],
        mean=values.mean(axis=0),
        spread=values.std(axis=0, ddof=1) if several else None,
        input=_input(plan, name, variable, place),
    )


def _input(plan: Plan, name: str, variable: str, place: int) -> tuple[Grid, Float32] | None:
    if plan.input is None or name not in plan.input_steps:
        return None
    field, step = plan.input.members[0].get(variable), int(plan.input_steps[name][place])
    if field is None or step < 0:
        return None
    return field.grid, field.read(slice(step, step + 1))[0]


def describe_date(time: cf.TimeAxis, step: int) -> str:
    """The date of a step, with its hour where steps are shorter than a day."""
    date: Any = time.centres[step]
    day = f"{date.year:04d}-{date.month:02d}-{date.day:02d}"
    return day if time.step_days > 0.99 else f"{day} {date.hour:02d}:{date.minute:02d}"


def on_cells(grid: Grid, values: Floats, target: Grid) -> Floats:
    """The value of the cell in which each centre of another grid lies, NaN outside of all."""
    rows = np.searchsorted(grid.lat_edges, target.lat, side="right") - 1
    turned = grid.lon_edges[0] + np.mod(target.lon - grid.lon_edges[0], 360.0)
    columns = np.searchsorted(grid.lon_edges, turned, side="right") - 1
    inside = ((rows >= 0) & (rows < grid.shape[0]))[:, None] & (columns < grid.shape[1])[None]
    clipped = np.clip(rows, 0, grid.shape[0] - 1), np.clip(columns, 0, grid.shape[1] - 1)
    return np.where(inside, values[clipped[0][:, None], clipped[1][None]], np.nan)
