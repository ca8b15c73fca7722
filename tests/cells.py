"""Series of a few cells, and the scene on which statistics of series are tested."""

from __future__ import annotations

import cftime
import numpy as np
import numpy.typing as npt

from climdown import cf
from climdown.evaluation.bins import bin_edges
from climdown.evaluation.bootstrap import _weighted
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments, runs, segments
from climdown.evaluation.states import Key, States
from climdown.evaluation.statistics import OfSeries, Sums
from climdown.evaluation.work import _add
from climdown.grid import Grid

Series = npt.NDArray[np.float32]


def scene_of(reference: Series, *, amounts: bool = False) -> Scene:
    """A scene of a column of cells with areas that differ, reference of shape (time, cells)."""
    cells = reference.shape[1]
    size = 60.0 / cells
    grid = Grid.regular(20.0, 80.0, 0.0, size, size)
    shape = (cells, 1)
    return Scene(
        name="pr" if amounts else "tas",
        units="mm day-1" if amounts else "K",
        amounts=amounts,
        grid=grid,
        mask=np.ones(shape, dtype=np.bool_),
        climatology=np.full((12, *shape), float(np.nanmean(reference))),
        deviation=1.0,
        tail=np.nanquantile(reference.astype(np.float64), 0.95, axis=0).reshape(shape),
        cells=np.arange(cells),
        edges=bin_edges(reference),
        pooled=np.array([0.0]),
        thresholds={},
    )


def days(count: int, *, start: str = "2001-01-01", gaps: tuple[int, ...] = ()) -> Segments:
    """So many days of the calendar without leap years, less those whose number is in `gaps`."""
    number = np.setdiff1d(np.arange(count), gaps)
    origin = f"days since {start}"
    dates = cftime.num2date(number, origin, "noleap")
    axis = cf.TimeAxis(np.asarray(dates), number + 0.0, origin, "noleap", None)
    return segments(axis, np.arange(len(number)))


def resampled(sums: Sums) -> dict[str, npt.NDArray[np.float64]]:
    """Sums as a measure is given them, of a single sample."""
    return _weighted(np.ones((1, 1)), {name: np.asarray(x)[None] for name, x in sums.items()})


def over_units(
    statistic: OfSeries, scene: Scene, values: Series, whole: Segments, *, backwards: bool = False
) -> Sums:
    """Sums of all units, added one by one in order of time, or backwards."""
    states = States()
    parts = runs(whole.unit)
    for part in reversed(parts) if backwards else parts:
        unit = whole.take(part)
        one = States()
        _add(one, "spans", ("a", "b"), unit.span[0], statistic(scene, values[part], unit))
        states.merge(one)
    return dict(states.total("spans", "a", "b"))


def key(name: str) -> Key:
    """A key of any source."""
    return Key("groups", "a", "b", name)
