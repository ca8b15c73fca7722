"""Intervals of measures: blocks of days are drawn again, with what they summed up to."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from climdown import cf
from climdown.arrays import AnyArray, Float64
from climdown.evaluation.measure import Measure, divided, unit_of
from climdown.evaluation.plan import Plan
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.scene import Scene
from climdown.evaluation.states import States

# With fewer segments an interval would be narrower than the truth.
FEWEST = 5
# Resampled sums that are held at once: few, so that they stay in the processor's cache.
_BYTES = 8 << 20
# Columns of one product: so few that the processor's other cores, which are busy, are not asked.
_COLUMNS = 512
# Cells, evenly spread, from which the intervals of measures `by_cell` are made.
_CELLS = 192
# Kinds of measures that are given sums of the reference beside those of the output.
_OF_BOTH = ("against", "variables")


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
        difference_low, difference_high: of the interval of value - reference, the reference
            resampled, too; of pairs on the same days.
        ratio_low, ratio_high: likewise of value / reference; None where a resample of that
            is not positive.
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
    difference_low: float | None = None
    difference_high: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None


@dataclass(frozen=True)
class Skill:
    """By how much an output is better than a baseline: 1 - score / score of the baseline.

    Attributes:
        output, baseline, variable, measure: names.
        value: 1 of a perfect output, 0 of one as good as the baseline.
        low, high: of the interval of 95 %, both resampled on the same days; None where there are
            too few segments.
        segments: that were resampled.
    """

    output: str
    baseline: str
    variable: str
    measure: str
    value: float
    low: float | None
    high: float | None
    segments: int


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A measure of an output: the value, then those of the resamples, shape (1 + drawn,)."""

    values: Float64
    reference: Float64 | None
    segments: int


Place = tuple[str, str, str]  # output, variable, measure
_Values = tuple[Float64, Float64 | None]
"""A measure of all resamples, shape (1 + drawn,), and the reference's own where it has one."""


def judge(
    plan: Plan,
    states: States,
    measures: tuple[Measure, ...],
    *,
    resamples: int,
    seed: int = 0,
) -> tuple[list[Score], list[Skill]]:
    """All measures of all outputs that have what they need, and the skill against baselines.

    Args:
        resamples: of the bootstrap; 0 for no intervals.
        seed: the same seed, the same resamples.
    """
    drawn: dict[Place, _Drawn] = {}
    units: dict[Place, str] = {}
    for output in plan.outputs:
        for variable, scene in _subjects(plan, output):
            chosen = [one for one in measures if _applies(one, plan, output, variable, scene)]
            found: dict[str, _Drawn] = {}
            for alike in _of_the_same_sums(chosen):
                found |= _draw(plan, states, alike, output, variable, scene, resamples, seed)
            for one in (one for one in chosen if one.name in found):
                place = output, variable, one.name
                drawn[place], units[place] = found[one.name], unit_of(one, scene)
    positive = {one.name for one in measures if one.best == "low"}
    found_scores = [
        _score(place, one, units[place], positive=place[2] in positive)
        for place, one in drawn.items()
    ]
    return found_scores, list(_skills(plan, drawn, measures))


def _of_the_same_sums(measures: Iterable[Measure]) -> Iterable[tuple[Measure, ...]]:
    """Measures that are made of the same sums, which are drawn again once for all of them."""
    alike: dict[tuple[object, ...], tuple[Measure, ...]] = {}
    for one in measures:
        key = one.kind, one.along, one.sums, one.by_cell
        alike[key] = (*alike.get(key, ()), one)
    return alike.values()


def _applies(measure: Measure, plan: Plan, output: str, variable: str, scene: Scene) -> bool:
    enough = len(plan.outputs[output].members) >= measure.members
    amounts = scene.amounts or not measure.amounts
    return enough and amounts and (measure.kind == "variables") == ("+" in variable)


def _subjects(plan: Plan, output: str) -> Iterator[tuple[str, Scene]]:
    names = plan.variables(output)
    yield from ((name, plan.scenes[name]) for name in names)
    for pair in itertools.combinations(names, 2):
        yield "+".join(pair), plan.scenes[pair[0]]


def _score(place: Place, drawn: _Drawn, units: str, *, positive: bool) -> Score:
    low, high = _interval(drawn.values)
    if low is not None and positive:
        low = max(low, 0.0)
    own = drawn.reference
    apart = (None, None) if own is None else _interval(drawn.values - own)
    # Where resamples of the reference reach 0 a ratio says nothing.
    stable = own is not None and (own > 0).all()
    times = _interval(divided(drawn.values, own)) if own is not None and stable else (None, None)
    reference = None if own is None or not np.isfinite(own[0]) else float(own[0])
    value = float(drawn.values[0])
    return Score(*place, units, value, low, high, reference, drawn.segments, *apart, *times)


def _skills(
    plan: Plan, drawn: Mapping[Place, _Drawn], measures: tuple[Measure, ...]
) -> Iterator[Skill]:
    """Of measures of pairs of which low is good."""
    names = {one.name for one in measures if one.kind == "pairs" and one.best == "low"}
    for (output, variable, measure), ours in drawn.items():
        if measure not in names or output in plan.baselines:
            continue
        for baseline in plan.baselines:
            theirs = drawn.get((baseline, variable, measure))
            if theirs is None or not theirs.values[0] > 0:
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                skill = 1.0 - ours.values / theirs.values
            low, high = _interval(skill)
            value = float(skill[0])
            yield Skill(output, baseline, variable, measure, value, low, high, ours.segments)


def _draw(
    plan: Plan,
    states: States,
    measures: tuple[Measure, ...],
    output: str,
    variable: str,
    scene: Scene,
    resamples: int,
    seed: int,
) -> dict[str, _Drawn]:
    """Measures of the same sums by name; without those whose sums are missing, or do not tell."""
    first = measures[0]
    ours = _sums(plan, states, first, output, variable)
    if any(name not in ours for name in first.sums):
        return {}
    against = first.kind in ("against", "variables", "source")
    theirs = {}
    if against or (first.kind == "input" and plan.paired):
        theirs = _sums(plan, states, first, REFERENCE, variable)
    if any(name not in theirs for name in first.sums):
        if against:
            return {}
        theirs = {}
    segments = plan.segments[output].count(first.along)
    fewest = min(segments, plan.segments[REFERENCE].count(first.along))
    drawn = resamples if fewest >= FEWEST else 0
    with np.errstate(divide="ignore", invalid="ignore"):  # resamples may hold no day that counts
        found = _resampled(plan, measures, scene, ours, theirs, drawn, seed)
    return {
        one.name: _Drawn(values, own, segments)
        for one, (values, own) in zip(measures, found, strict=True)
        if np.isfinite(values[0])
    }


def _sums(
    plan: Plan, states: States, measure: Measure, source: str, variable: str
) -> dict[str, AnyArray]:
    suffix = {"pairs": "/pairs", "input": "/input"}.get(measure.kind, "")
    segments = plan.segments[source].count(measure.along)
    found = states.of(measure.along, f"{source}{suffix}", variable, segments)
    return {name: found[name] for name in measure.sums if name in found}


def _resampled(
    plan: Plan,
    measures: tuple[Measure, ...],
    scene: Scene,
    ours: Mapping[str, AnyArray],
    theirs: Mapping[str, AnyArray],
    drawn: int,
    seed: int,
) -> list[_Values]:
    """Of each measure the value, then those of the resamples."""
    # Pairs are drawn together, periods of their own each by itself.
    weights = _weights(_length(ours), drawn, seed, salt=1)
    other = weights if plan.paired or not theirs else _weights(_length(theirs), drawn, seed, salt=2)
    if not measures[0].by_cell:
        return _values(measures, scene, (ours, weights), (theirs, other))
    once = _values(measures, scene, (ours, weights[:1]), (theirs, other[:1]))
    if not drawn:
        return once
    few, (one, two) = _of_some_cells(scene, ours, theirs)
    many = _values(measures, few, (one, weights), (two, other))
    return [(_about(v, w), own) for (v, own), (w, _) in zip(once, many, strict=True)]


def _about(value: Float64, values: Float64) -> Float64:
    """How much it varies is that of some cells, about the value of all."""
    return value * values / values[:1] if values[0] > 0 else value + values - values[:1]


def _values(
    measures: tuple[Measure, ...],
    scene: Scene,
    ours: tuple[Mapping[str, AnyArray], Float64],
    theirs: tuple[Mapping[str, AnyArray], Float64],
) -> list[_Values]:
    """Measures of sums, each sum with its weights, shape (resamples, segments)."""
    size = sum(x[0].size for sums, _ in (ours, theirs) for x in sums.values())
    at_once = max(1, _BYTES // (8 * max(size, 1)))
    values: list[list[Float64]] = [[] for _ in measures]
    own: list[list[Float64]] = [[] for _ in measures]
    for start in range(0, len(ours[1]), at_once):
        one, two = (_weighted(w[start : start + at_once], x) for x, w in (ours, theirs))
        for place, measure in enumerate(measures):
            if measure.kind in _OF_BOTH:
                values[place].append(measure.value(scene, one, two))
                continue
            values[place].append(measure.value(scene, one))
            if two:
                own[place].append(measure.value(scene, two))
    return [
        (np.concatenate(v), np.concatenate(o) if o else None)
        for v, o in zip(values, own, strict=True)
    ]


def _of_some_cells(
    scene: Scene, *sums: Mapping[str, AnyArray]
) -> tuple[Scene, list[dict[str, AnyArray]]]:
    chosen = cf.evenly(np.arange(len(scene.cells)), _CELLS)
    few = replace(scene, cells=scene.cells[chosen], edges=scene.edges[chosen])
    return few, [{name: x[:, chosen] for name, x in one.items()} for one in sums]


def _length(sums: Mapping[str, AnyArray]) -> int:
    return len(next(iter(sums.values())))


def _weights(segments: int, drawn: int, seed: int, *, salt: int) -> Float64:
    """How often each segment is drawn: once, then by resamples; shape (drawn + 1, segments)."""
    random = np.random.default_rng([seed, segments, salt])
    counts = random.multinomial(segments, np.full(segments, 1.0 / segments), size=drawn)
    return np.concatenate([np.ones((1, segments)), counts.astype(np.float64)])


def _weighted(weights: Float64, sums: Mapping[str, AnyArray]) -> dict[str, Float64]:
    """Sums of weighted segments, shape (resamples, ...)."""
    found = {}
    for name, x in sums.items():
        columns = x.reshape(len(x), -1)
        flat = np.empty((len(weights), columns.shape[1]))
        for start in range(0, columns.shape[1], _COLUMNS):
            part = slice(start, start + _COLUMNS)
            np.matmul(weights, columns[:, part].astype(np.float64, copy=False), out=flat[:, part])
        found[name] = flat.reshape(len(weights), *x.shape[1:])
    return found


def _interval(values: Float64) -> tuple[float | None, float | None]:
    """Of 95 % about the first value, from those of the resamples that follow it.

    About the value, since drawing again adds noise, which makes distances larger than they are.
    """
    finite = values[1:][np.isfinite(values[1:])]
    if finite.size < 0.9 * max(len(values) - 1, 1) or finite.size == 0:
        return None, None
    low, middle, high = np.quantile(finite, (0.025, 0.5, 0.975))
    return float(low - middle + values[0]), float(high - middle + values[0])
