"""Members and a reference of the same steps, and the scene on which they are compared."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from climdown.arrays import Float32, Float64
from climdown.evaluation import exceedance, pairs, ranks, spread
from climdown.evaluation.comparison import Comparison, compare
from climdown.evaluation.measure import Resampled
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Along, Segments
from climdown.evaluation.states import States
from climdown.evaluation.statistics import Statistics, Sums
from climdown.evaluation.work import Task, Work
from climdown.grid import Grid

STATISTICS = Statistics(
    step_of_pairs=pairs.STEPS,
    stretch_of_pairs=(
        *pairs.STRETCHES,
        *spread.STRETCHES,
        *ranks.STRETCHES,
        *exceedance.STRETCHES,
    ),
)
GRID = Grid.regular(40.0, 60.0, 0.0, 15.0, 5.0)  # 4 x 3 cells, whose areas differ


@dataclass(frozen=True, eq=False)
class Case:
    """Members, shape (time, member, ny, nx), and the reference, (time, ny, nx)."""

    scene: Scene
    members: Float32
    truth: Float32
    part: Segments

    @property
    def compared(self) -> Comparison:
        """All steps at once."""
        return compare(self.scene, self.members, self.truth)

    def sums(self) -> Sums:
        """All sums over all steps, without `Work`."""
        compared, found = self.compared, Sums()
        for step in STATISTICS.step_of_pairs:
            sums = step(self.scene, compared, self.part)
            found |= {name: values.sum(axis=0) for name, values in sums.items()}
        for stretch in STATISTICS.stretch_of_pairs:
            found |= stretch(self.scene, compared, self.part)
        return found

    def resampled(self) -> Resampled:
        """The same with a leading axis."""
        return {name: np.asarray(values)[None] for name, values in self.sums().items()}

    def worked(self, *cuts: int) -> dict[Along, Sums]:
        """All sums by segment, of tasks that end at some steps."""
        work, states = Work({self.scene.name: self.scene}, STATISTICS, paired=True), States()
        edges = sorted({0, *cuts, len(self.truth)})
        for start, stop in itertools.pairwise(edges):
            states.merge(work(self._task(slice(start, stop))))
        return {
            along: states.of(along, "ours/pairs", self.scene.name, self.part.count(along))
            for along in ("blocks", "groups")
        }

    def _task(self, piece: slice) -> Task:
        values = {
            REFERENCE: {self.scene.name: self.truth[piece][:, None]},
            "ours": {self.scene.name: self.members[piece]},
        }
        return Task(self.part.take(piece), values, {}, None, {})


def make_case(
    *,
    members: int = 5,
    steps: int = 40,
    amounts: bool = False,
    gaps: bool = False,
    seed: int = 0,
    grid: Grid = GRID,
) -> Case:
    """Weather that members and reference share in part; amounts are dry half of the time."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(steps, 1, *grid.shape))
    values = signal + rng.normal(size=(steps, members + 1, *grid.shape))
    values = np.maximum(6.0 * values, 0.0) if amounts else 280.0 + values
    if gaps:
        values[rng.random((steps, 1, *grid.shape)).repeat(members + 1, axis=1) < 0.2] = np.nan
    found = values.astype(np.float32)
    part = make_part(steps)
    truth = found[:, 0]
    return Case(make_scene(truth, part, amounts=amounts, grid=grid), found[:, 1:], truth, part)


def make_part(steps: int) -> Segments:
    """Days in blocks of 10 and groups of 20, from the middle of March on."""
    number = np.arange(steps)
    return Segments(
        steps=number,
        unit=np.zeros(steps, dtype=np.intp),
        block=number // 10,
        group=number // 20,
        tenth=number // 20,
        span=np.zeros(steps, dtype=np.intp),
        whole=np.ones(steps, dtype=np.bool_),
        month=(2 + (number + 15) // 30) % 12,
        number=number.astype(np.int64) - 5,
        years=number / 365.0,
        third=np.full(steps, -1),
        step_days=1.0,
    )


def make_scene(truth: Float32, part: Segments, *, amounts: bool, grid: Grid = GRID) -> Scene:
    """As a survey of all days would have it."""
    values = truth.astype(np.float64)
    thresholds = {"1 mm": 1.0, "10 mm": 10.0} if amounts else {"P75": 281.0, "P95": 282.3}
    reached = np.stack(
        [np.where(np.isnan(values), np.nan, values >= t) for t in thresholds.values()]
    )
    return Scene(
        name="pr" if amounts else "tas",
        units="mm day-1" if amounts else "K",
        amounts=amounts,
        grid=grid,
        mask=np.asarray(np.isfinite(truth).any(axis=0)),
        climatology=by_month(values, part),
        deviation=float(np.nanstd(values)),
        tail=np.nanquantile(values, 0.95, axis=0),
        cells=np.arange(4),
        edges=np.zeros((4, 1), dtype=np.float32),
        pooled=np.zeros(1),
        thresholds=thresholds,
        frequency=np.stack([by_month(one, part) for one in reached]),
        seed=7,
    )


def by_month(values: Float64, part: Segments) -> Float64:
    """Means of days, shape (12, ny, nx); NaN in months that have none."""
    means = np.full((12, *values.shape[1:]), np.nan)
    for month in np.unique(part.month):
        means[month] = np.nanmean(values[part.month == month], axis=0)
    return means


def exchanged(case: Case) -> list[Case]:
    """Each of the reference and the members in turn as the reference of the others."""
    everyone = np.concatenate([case.truth[:, None], case.members], axis=1)
    return [
        replace(case, truth=everyone[:, i], members=np.delete(everyone, i, axis=1))
        for i in range(everyone.shape[1])
    ]
