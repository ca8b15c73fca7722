"""Intervals of measures: blocks of days are drawn again, with what they summed up to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from climdown import cf
from climdown.arrays import AnyArray, Float64
from climdown.evaluation.measure import Measure, unit_of
from climdown.evaluation.plan import Plan
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.scene import Scene
from climdown.evaluation.states import States

# With fewer segments an interval would be narrower than the truth.
FEWEST = 5
# Resampled sums that are held at once: few, so that they stay in the processor's cache.
_BYTES = 8 << 20
# Cells, evenly spread, from which the intervals of measures `by_cell` are made.
_CELLS = 192
# Kinds of measures that are given sums of the reference beside those of the output.
_OF_BOTH = ("against", "variables")


@dataclass(frozen=True)
class Score:
    """A measure of an output.

    Attributes:
        output: its name; the reference's own value is `reference`.
        variable: or several, joined by "+".
        measure, units: name of the measure, and its units.
        value: None where the sums do not tell.
        low, high: of the interval of 95 %; None where there are too few segments.
        reference: the reference's own value, of measures that it has one of.
        segments: that were resampled.
    """

    output: str
    variable: str
    measure: str
    units: str
    value: float | None
    low: float | None
    high: float | None
    reference: float | None
    segments: int


def scores(
    plan: Plan, states: States, measures: tuple[Measure, ...], *, resamples: int
) -> list[Score]:
    """All measures of all outputs that have what they need."""
    found = []
    for output, ensemble in plan.outputs.items():
        members = len(ensemble.members)
        for variable, scene in _subjects(plan, output):
            for measure in measures:
                if measure.members > members or (measure.amounts and not scene.amounts):
                    continue
                if (measure.kind == "variables") != ("+" in variable):
                    continue
                score = _score(plan, states, measure, output, variable, scene, resamples)
                if score is not None:
                    found.append(score)
    return found


def _subjects(plan: Plan, output: str) -> Iterator[tuple[str, Scene]]:
    names = plan.variables(output)
    yield from ((name, plan.scenes[name]) for name in names)
    if len(names) > 1:
        yield "+".join(names), plan.scenes[names[0]]


def _score(
    plan: Plan,
    states: States,
    measure: Measure,
    output: str,
    variable: str,
    scene: Scene,
    resamples: int,
) -> Score | None:
    ours = _sums(plan, states, measure, output, variable)
    if any(name not in ours for name in measure.sums):
        return None
    against = measure.kind in ("against", "variables", "source")
    theirs = _sums(plan, states, measure, REFERENCE, variable) if against else {}
    if against and any(name not in theirs for name in measure.sums):
        return None
    segments = plan.segments[output].count(measure.along)
    drawn = resamples if segments >= FEWEST else 0
    values, own = _resampled(plan, measure, scene, ours, theirs, drawn)
    if not np.isfinite(values[0]):
        return None
    low, high = _interval(values[0], values[1:])
    if low is not None and measure.best == "low":
        low = max(low, 0.0)
    reference = None if own is None else float(own)
    units = unit_of(measure, scene)
    value = float(values[0])
    return Score(output, variable, measure.name, units, value, low, high, reference, segments)


def _sums(
    plan: Plan, states: States, measure: Measure, source: str, variable: str
) -> dict[str, AnyArray]:
    suffix = {"pairs": "/pairs", "input": "/input"}.get(measure.kind, "")
    segments = plan.segments[source].count(measure.along)
    found = states.of(measure.along, f"{source}{suffix}", variable, segments)
    return {name: found[name] for name in measure.sums if name in found}


def _resampled(
    plan: Plan,
    measure: Measure,
    scene: Scene,
    ours: Mapping[str, AnyArray],
    theirs: Mapping[str, AnyArray],
    drawn: int,
) -> tuple[Float64, float | None]:
    """The value, then those of the resamples; and the reference's own."""
    # Pairs are drawn together, periods of their own each by itself.
    weights = _weights(_length(ours), drawn, salt=1)
    other = weights if plan.paired or not theirs else _weights(_length(theirs), drawn, salt=2)
    if not measure.by_cell:
        values = _drawn(measure, scene, (ours, weights), (theirs, other))
    else:
        once = _drawn(measure, scene, (ours, weights[:1]), (theirs, other[:1]))
        few, (one, two) = _of_some_cells(scene, ours, theirs)
        values = _drawn(measure, few, (one, weights), (two, other))
        # How much it varies is that of some cells, about the value of all.
        values = once * values / values[:1] if values[0] > 0 else once + values - values[:1]
    own = None
    if theirs and measure.kind not in _OF_BOTH:
        own = float(measure.value(scene, _weighted(np.ones((1, _length(theirs))), theirs))[0])
    return values, own


def _drawn(
    measure: Measure,
    scene: Scene,
    ours: tuple[Mapping[str, AnyArray], Float64],
    theirs: tuple[Mapping[str, AnyArray], Float64],
) -> Float64:
    """A measure of sums of both, each with its weights, shape (resamples,)."""
    size = sum(x[0].size for sums, _ in (ours, theirs) for x in sums.values())
    at_once = max(1, _BYTES // (8 * max(size, 1)))
    values = []
    for start in range(0, len(ours[1]), at_once):
        one, two = (_weighted(w[start : start + at_once], x) for x, w in (ours, theirs))
        both = (one, two) if measure.kind in _OF_BOTH else (one,)
        values.append(measure.value(scene, *both))
    return np.concatenate(values)


def _of_some_cells(
    scene: Scene, *sums: Mapping[str, AnyArray]
) -> tuple[Scene, list[dict[str, AnyArray]]]:
    chosen = cf.evenly(np.arange(len(scene.cells)), _CELLS)
    few = replace(scene, cells=scene.cells[chosen], edges=scene.edges[chosen])
    return few, [{name: x[:, chosen] for name, x in one.items()} for one in sums]


def _length(sums: Mapping[str, AnyArray]) -> int:
    return len(next(iter(sums.values())))


def _weights(segments: int, drawn: int, *, salt: int) -> Float64:
    """How often each segment is drawn: once, then by resamples; shape (drawn + 1, segments)."""
    random = np.random.default_rng([segments, salt])
    counts = random.multinomial(segments, np.full(segments, 1.0 / segments), size=drawn)
    return np.concatenate([np.ones((1, segments)), counts.astype(np.float64)])


def _weighted(weights: Float64, sums: Mapping[str, AnyArray]) -> dict[str, Float64]:
    """Sums of weighted segments, shape (resamples, ...)."""
    found = {}
    for name, x in sums.items():
        flat = weights @ x.reshape(len(x), -1).astype(np.float64, copy=False)
        found[name] = np.asarray(flat.reshape(len(weights), *x.shape[1:]))
    return found


def _interval(value: float, drawn: Float64) -> tuple[float | None, float | None]:
    """About the value: drawing again adds noise, which makes distances larger than they are."""
    finite = drawn[np.isfinite(drawn)]
    if finite.size < 0.9 * max(drawn.size, 1) or finite.size == 0:
        return None, None
    low, middle, high = np.quantile(finite, (0.025, 0.5, 0.975))
    return float(low - middle + value), float(high - middle + value)
