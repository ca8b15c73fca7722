"""Intervals of measures: blocks of days are drawn again, with what they summed up to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from climdown.arrays import Float64
from climdown.evaluation.measure import Measure, unit_of
from climdown.evaluation.plan import Plan
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.scene import Scene
from climdown.evaluation.states import States

# With fewer segments an interval would be narrower than the truth.
FEWEST = 5
# Resampled sums that are held at once.
_BYTES = 128 << 20


@dataclass(frozen=True)
class Score:
    """A measure of an output.

    Attributes:
        output: its name; the reference's own value is `reference`.
        variable: or two, joined by "+".
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
    for pair in itertools.combinations(names, 2):
        yield "+".join(pair), plan.scenes[pair[0]]


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
    theirs = {}
    if against or (measure.kind == "input" and plan.paired):
        theirs = _sums(plan, states, measure, REFERENCE, variable)
    if any(name not in theirs for name in measure.sums):
        if against:
            return None
        theirs = {}
    segments = plan.segments[output].count(measure.along)
    drawn = resamples if segments >= FEWEST else 0
    values, own = _resampled(plan, measure, scene, ours, theirs, drawn)
    if not np.isfinite(values[0]):
        return None
    low, high = _interval(values[1:])
    reference = None if own is None else float(own)
    units = unit_of(measure, scene)
    value = float(values[0])
    return Score(output, variable, measure.name, units, value, low, high, reference, segments)


def _sums(
    plan: Plan, states: States, measure: Measure, source: str, variable: str
) -> dict[str, Float64]:
    suffix = {"pairs": "/pairs", "input": "/input"}.get(measure.kind, "")
    segments = plan.segments[source].count(measure.along)
    found = states.of(measure.along, f"{source}{suffix}", variable, segments)
    return {name: found[name] for name in measure.sums if name in found}


def _resampled(
    plan: Plan,
    measure: Measure,
    scene: Scene,
    ours: Mapping[str, Float64],
    theirs: Mapping[str, Float64],
    drawn: int,
) -> tuple[Float64, float | None]:
    """The value, then those of the resamples; and the reference's own."""
    values, own = [], None
    size = sum(x[0].size for x in (*ours.values(), *theirs.values()))
    at_once = max(1, _BYTES // (8 * max(size, 1)))
    weights = _weights(len(next(iter(ours.values()))), drawn, salt=1)
    # Pairs are drawn together, periods of their own each by itself.
    other = weights
    if theirs:
        count = len(next(iter(theirs.values())))
        other = weights if plan.paired else _weights(count, drawn, salt=2)
    for start in range(0, drawn + 1, at_once):
        part = slice(start, start + at_once)
        one = {name: _weighted(weights[part], x) for name, x in ours.items()}
        two = {name: _weighted(other[part], x) for name, x in theirs.items()}
        if measure.kind in ("against", "variables"):
            values.append(measure.value(scene, one, two))
            continue
        values.append(measure.value(scene, one))
        if start == 0 and two:
            own = float(measure.value(scene, {n: x[:1] for n, x in two.items()})[0])
    return np.concatenate(values), own


def _weights(segments: int, drawn: int, *, salt: int) -> Float64:
    """How often each segment is drawn: once, then by resamples; shape (drawn + 1, segments)."""
    random = np.random.default_rng([segments, salt])
    counts = random.multinomial(segments, np.full(segments, 1.0 / segments), size=drawn)
    return np.concatenate([np.ones((1, segments)), counts.astype(np.float64)])


def _weighted(weights: Float64, sums: Float64) -> Float64:
    flat = weights @ sums.reshape(len(sums), -1)
    return np.asarray(flat.reshape(len(weights), *sums.shape[1:]))


def _interval(values: Float64) -> tuple[float | None, float | None]:
    finite = values[np.isfinite(values)]
    if finite.size < 0.9 * max(values.size, 1) or finite.size == 0:
        return None, None
    low, high = np.quantile(finite, (0.025, 0.975))
    return float(low), float(high)
