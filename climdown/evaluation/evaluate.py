"""`evaluate()`: the plan, the sums of all its units, and the scores made of them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from climdown.compute.engine import Engine, open_engine
from climdown.evaluation.bootstrap import Score, Skill, judge
from climdown.evaluation.plan import Plan
from climdown.evaluation.planning import make_plan
from climdown.evaluation.registry import MEASURES, STATISTICS
from climdown.evaluation.request import Request
from climdown.evaluation.states import States
from climdown.evaluation.storage import StateStore
from climdown.evaluation.work import Task, Work, sources_together, tasks

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was judged, all sums, the scores, and the skill against each baseline."""

    plan: Plan
    states: States
    scores: tuple[Score, ...]
    skills: tuple[Skill, ...] = ()


def evaluate(
    request: Request, folder: Path, *, progress: Progress | None = None
) -> Evaluation | None:
    """Judge outputs; None where units of other shards are still to come.

    Args:
        folder: of the sums; it stays, so that reports can be made of it again.
        progress: called with the number of units done, and of all.

    Raises:
        ConfigError, InputError, GridError: files that cannot be compared.
        ResumeError, OutputError: the folder is of another evaluation, or cannot be written.
    """
    plan = make_plan(request)
    store = StateStore.open(folder, plan.identity, discard=request.overwrite)
    if compute(request, plan, store, progress=progress) > 0:
        return None
    return gather(request, plan, store)


def compute(
    request: Request, plan: Plan, store: StateStore, *, progress: Progress | None = None
) -> int:
    """Make the sums of this process's units; how many units others have still to make.

    Raises:
        InputError: a file is damaged, or has a fill value that it does not declare.
        ConfigError: there is no such cluster, or it lost a unit.
        OutputError: sums cannot be written.
    """
    units = _units(plan)
    mine = units if request.shard is None else units[request.shard[0] :: request.shard[1]]
    missing = [unit for unit in mine if not store.has(_name(*unit))]
    if len(missing) < len(mine):
        log.info("resuming: %d of %d units of work are done", len(mine) - len(missing), len(mine))
    with open_engine(request.scheduler) as engine:
        _compute(plan, store, missing, engine, progress)
    rest = sum(not store.has(_name(*unit)) for unit in units if unit not in set(mine))
    if rest:
        log.info("%d of %d units of work are still to come", rest, len(units))
    return rest


def gather(request: Request, plan: Plan, store: StateStore) -> Evaluation:
    """The scores of all sums."""
    states = States()
    for unit in _units(plan):
        states.merge(store.read(_name(*unit)))
    found, skills = judge(plan, states, MEASURES, resamples=request.resamples, seed=request.seed)
    return Evaluation(plan, states, tuple(found), tuple(skills))


def _units(plan: Plan) -> list[tuple[int, int]]:
    """Sources that are read together, by their place, and the unit of each."""
    return [
        (i, unit)
        for i, names in enumerate(sources_together(plan))
        for unit in range(plan.segments[names[0]].count("units"))
    ]


def _name(place: int, unit: int) -> str:
    return f"{place:03d}-{unit:05d}"


def _compute(
    plan: Plan,
    store: StateStore,
    units: list[tuple[int, int]],
    engine: Engine,
    progress: Progress | None,
) -> None:
    """Sums of units, each stored when it is whole."""
    work = Work(plan.scenes, STATISTICS, plan.paired)
    given: deque[tuple[tuple[int, int], bool]] = deque()  # unit of each task, and if it is its last

    def all_tasks() -> Iterator[Task]:
        together = sources_together(plan)
        for place, unit in units:
            for task in tasks(plan, together[place], unit):
                given.append(((place, unit), task.whole is not None))
                yield task

    done, sums = 0, States()
    for states in engine.map(work, all_tasks(), abreast=True):
        sums.merge(states)
        unit, last = given.popleft()
        if last:
            plan.refuse_misread()
            store.write(_name(*unit), sums)
            done, sums = done + 1, States()
            if progress is not None:
                progress(done, len(units))
