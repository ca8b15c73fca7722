"""Units of work: values read, and the sums of all statistics of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from climdown.arrays import AnyArray, Float32
from climdown.evaluation.comparison import compare, pieces
from climdown.evaluation.plan import Plan
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Along, Segments, runs
from climdown.evaluation.states import Key, States
from climdown.evaluation.statistics import Statistics, Sums

# Values of fields that are held at once.
_CHUNK_BYTES = 192 << 20
# Values that a statistic of single steps is given at once: they stay in the processor's cache.
_PIECE_BYTES = 1 << 20

ByVariable = Mapping[str, Float32]


@dataclass(frozen=True, eq=False)
class Task:
    """Consecutive steps of one unit, with the values of the sources that have them.

    Attributes:
        part: the steps of `values`.
        values: by source and variable, shape (time, member, ny, nx); of pairs all sources.
        inputs: of the input by output and variable, shape (time, cy, cx).
        whole: the steps of `series`: the unit, when its last fields have been read; else None.
        series: by source and variable, shape (time, member, cells).
    """

    part: Segments
    values: Mapping[str, ByVariable]
    inputs: Mapping[str, ByVariable]
    whole: Segments | None
    series: Mapping[str, ByVariable]


def sources_together(plan: Plan) -> list[list[str]]:
    """Sources whose steps are read together: all if they are pairs, else each by itself."""
    names = [REFERENCE, *plan.outputs]
    return [names] if plan.paired else [[name] for name in names]


def tasks(plan: Plan, names: list[str], unit: int) -> Iterator[Task]:
    """The tasks of one unit, in order of time."""
    labels = plan.segments[names[0]]
    where = labels.units[unit]
    columns: dict[tuple[str, str], list[Float32]] = {}
    chunks = list(_chunks(where, _steps_at_once(plan, names)))
    for chunk in chunks:
        values = {name: _read(plan, name, chunk) for name in names}
        if plan.paired:
            _keep_common(values)
        for name, by_variable in values.items():
            for variable, fields in by_variable.items():
                cells = plan.scenes[variable].cells
                # Taken and not indexed, which would put the cells first in memory.
                series = np.take(fields.reshape(*fields.shape[:2], -1), cells, axis=-1)
                columns.setdefault((name, variable), []).append(series)
        last = chunk.stop == where.stop
        yield Task(
            part=labels.take(chunk),
            values=values,
            inputs={
                name: _read_input(plan, name, chunk) for name in names if name in plan.input_steps
            },
            whole=labels.take(where) if last else None,
            series=_joined(columns) if last else {},
        )


def _steps_at_once(plan: Plan, names: list[str]) -> int:
    fields = sum(
        len(plan.outputs[n].members) * len(plan.variables(n))
        if n != REFERENCE
        else len(plan.scenes)
        for n in names
    )
    cells = next(iter(plan.scenes.values())).mask.size
    return max(1, _CHUNK_BYTES // (4 * fields * cells))


def _chunks(where: slice, steps: int) -> Iterator[slice]:
    for start in range(where.start, where.stop, steps):
        yield slice(start, min(start + steps, where.stop))


def _read(plan: Plan, name: str, chunk: slice) -> dict[str, Float32]:
    ensemble = plan.reference if name == REFERENCE else plan.outputs[name]
    variables = tuple(plan.scenes) if name == REFERENCE else plan.variables(name)
    steps = plan.segments[name].steps[chunk]
    result = {}
    for variable in variables:
        values = ensemble.read_steps(variable, steps)
        values[..., ~plan.scenes[variable].mask] = np.nan
        result[variable] = values
    return result


def _keep_common(values: Mapping[str, dict[str, Float32]]) -> None:
    """Leave values only where all sources have them, so that all are judged on the same."""
    variables = {variable for by_variable in values.values() for variable in by_variable}
    for variable in variables:
        having = [
            by_variable[variable] for by_variable in values.values() if variable in by_variable
        ]
        common = np.logical_and.reduce([np.isfinite(x).all(axis=1) for x in having])
        missing = ~common
        for fields in having:
            np.copyto(fields, np.float32(np.nan), where=missing[:, None])


def _read_input(plan: Plan, name: str, chunk: slice) -> dict[str, Float32]:
    """The input on the dates of an output's steps, shape (time, cy, cx); NaN where it has none."""
    assert plan.input is not None
    places = plan.input_steps[name][chunk]
    result = {}
    for variable in tuple(plan.scenes) if name == REFERENCE else plan.variables(name):
        field = plan.input.members[0].get(variable)
        if field is None:
            continue
        values = np.full((len(places), *field.grid.shape), np.nan, dtype=np.float32)
        there = places >= 0
        if there.any():
            first, last = int(places[there].min()), int(places[there].max())
            values[there] = field.read(slice(first, last + 1))[places[there] - first]
        result[variable] = values
    return result


def _joined(columns: Mapping[tuple[str, str], list[Float32]]) -> dict[str, dict[str, Float32]]:
    result: dict[str, dict[str, Float32]] = {}
    for (name, variable), parts in columns.items():
        result.setdefault(name, {})[variable] = np.concatenate(parts)
    return result


@dataclass(frozen=True, eq=False)
class Work:
    """What is done with a task; a value, so that other processes can do it.

    Attributes:
        scenes: by variable.
        statistics: all of them.
        paired: whether sources of a task are pairs.
    """

    scenes: Mapping[str, Scene]
    statistics: Statistics
    paired: bool

    def __call__(self, task: Task) -> States:
        """The sums of all statistics over a task."""
        states = States()
        for source, by_variable in task.values.items():
            self._add_source(states, source, by_variable, task)
            if self.paired and source != REFERENCE:
                self._add_pairs(states, source, by_variable, task)
            if source in task.inputs:
                self._add_input(states, source, by_variable, task)
        if task.whole is not None:
            for source, by_variable in task.series.items():
                self._add_series(states, source, by_variable, task.whole)
        return states

    def _add_source(self, states: States, source: str, values: ByVariable, task: Task) -> None:
        for variable, fields in values.items():
            scene, key = self.scenes[variable], (source, variable)
            for step in self.statistics.step_of_source:
                _add_steps(states, key, _in_pieces(step, scene, task.part, fields), task.part)
            for sums_of in self.statistics.stretch_of_source:
                _add_stretches(states, key, task.part, _on(sums_of, scene, fields))

    def _add_pairs(self, states: States, source: str, values: ByVariable, task: Task) -> None:
        for variable, members in values.items():
            scene, key = self.scenes[variable], (f"{source}/pairs", variable)
            truth = task.values[REFERENCE][variable][:, 0]
            for piece in pieces(task.part, scene.mask.size):
                labels = task.part.take(piece)
                compared = compare(scene, members[piece], truth[piece])
                for step in self.statistics.step_of_pairs:
                    _add_steps(states, key, step(scene, compared, labels), labels)
                for sums_of in self.statistics.stretch_of_pairs:
                    _add(states, "groups", key, labels.group[0], sums_of(scene, compared, labels))

    def _add_input(self, states: States, source: str, values: ByVariable, task: Task) -> None:
        for variable, given in task.inputs[source].items():
            scene, key = self.scenes[variable], (f"{source}/input", variable)
            if scene.coarse is None:
                continue
            means = scene.coarse.means(values[variable])
            for fine in self.statistics.step_of_fine:
                sums = _in_pieces(fine, scene, task.part, values[variable], given)
                _add_steps(states, key, sums, task.part)
            given = np.where(np.isfinite(means).all(axis=1), given, np.float32(np.nan))
            for step in self.statistics.step_of_input:
                _add_steps(states, key, step(scene, means, given, task.part), task.part)
            for sums_of in self.statistics.stretch_of_input:
                _add_stretches(states, key, task.part, _on(sums_of, scene, means, given))
            for whole in self.statistics.unit_of_input:
                _add(states, "units", key, task.part.unit[0], whole(scene, means, given, task.part))

    def _add_series(self, states: States, source: str, values: ByVariable, whole: Segments) -> None:
        for variable, series in values.items():
            scene, key = self.scenes[variable], (source, variable)
            for sums_of in self.statistics.stretch_of_series:
                for run in runs(whole.tenth):
                    sums = sums_of(scene, series[run], whole.take(run))
                    _add(states, "tenths", key, whole.tenth[run.start], sums)
            for unit_sums in self.statistics.unit_of_series:
                _add(states, "spans", key, whole.span[0], unit_sums(scene, series, whole))
        for pair in itertools.combinations(values, 2):
            key = (source, "+".join(pair))
            for joint in self.statistics.stretch_of_variables:

                def stretch(part: slice, labels: Segments) -> Sums:
                    cut = {name: values[name][part] for name in pair}  # noqa: B023 - called at once
                    return joint(self.scenes, cut, labels)  # noqa: B023

                _add_stretches(states, key, whole, stretch)


def _on(
    sums_of: Callable[..., Sums], scene: Scene, *arrays: Float32
) -> Callable[[slice, Segments], Sums]:
    """A statistic of a stretch of some arrays."""
    return lambda part, labels: sums_of(scene, *(x[part] for x in arrays), labels)


def _in_pieces(step: Callable[..., Sums], scene: Scene, part: Segments, *arrays: Float32) -> Sums:
    """The sums of single steps, of a few steps at once."""
    at_once = max(1, _PIECE_BYTES // arrays[0][0].nbytes)
    pieces = [slice(i, i + at_once) for i in range(0, len(part.steps), at_once)]
    sums = [step(scene, *(x[piece] for x in arrays), part.take(piece)) for piece in pieces]
    return {name: np.concatenate([one[name] for one in sums]) for name in sums[0]}


def _add_steps(states: States, key: tuple[str, str], sums: Sums, part: Segments) -> None:
    """Add sums of single steps up by blocks."""
    starts = [run.start for run in runs(part.block)]
    for name, values in sums.items():
        added = np.add.reduceat(np.asarray(values, np.float64), starts, axis=0)
        _place(states, "blocks", key, int(part.block[0]), name, added)


def _add_stretches(
    states: States, key: tuple[str, str], part: Segments, sums_of: Callable[[slice, Segments], Sums]
) -> None:
    for run in runs(part.group):
        _add(states, "groups", key, part.group[run.start], sums_of(run, part.take(run)))


def _add(
    states: States, along: Along, key: tuple[str, str], segment: np.intp | int, sums: Sums
) -> None:
    for name, values in sums.items():
        _place(states, along, key, int(segment), name, np.asarray(values)[None])


def _place(
    states: States, along: Along, key: tuple[str, str], first: int, name: str, values: AnyArray
) -> None:
    states.add(Key(along, *key, name), first, values)
