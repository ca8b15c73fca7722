"""Quantile delta mapping of a variable, in blocks of cells with bounded memory."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from climdown import cf
from climdown.adjust.periods import moving_periods
from climdown.adjust.possible import adjusted_line, held_line
from climdown.adjust.series import Climatology, Series
from climdown.adjust.settings import Settings
from climdown.arrays import Dates, Float32, Float64, Int64
from climdown.bias import quantile
from climdown.bias.dry import dry_below, jitter_dry, spread_dry_quantiles
from climdown.bias.grouping import Grouping
from climdown.bias.historical_ranks import adjust_by_historical_ranks
from climdown.bias.scratch import Scratch
from climdown.bias.stored_map import HIST, REF, StoredMap
from climdown.compute.device import to_device, to_host
from climdown.compute.engine import Engine
from climdown.errors import InputError, OutputError

_READ_BYTES = 64 << 20
# Of one block of cells: its three series with their copies, and its map.
_BLOCK_BYTES = 256 << 20
_COPIES = 8
NEEDS = (
    f"each cell and group of days needs at least {quantile.FEWEST} values in reference, historical "
    "and simulated files"
)
_NAMES = ("ref", "hist", "sim", "scen")

Progress = Callable[[int, int], None]
Keep = Callable[[slice, Mapping[str, Float32]], None]


def _no_days() -> Int64:
    return np.zeros(len(_NAMES), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Report:
    """What quantile delta mapping did, counted over all values.

    Attributes:
        values: adjusted.
        unmapped: left missing, for want of others to compare with.
        bounded: whose ratio was cut to the bound.
        highest: value of the result.
        held: whose quantity cannot be what they were, see `cf.physical_limits`.
        dry, days: in cells that were adjusted, days below the dry threshold and all days of ref,
            hist, sim and scen.
    """

    values: int = 0
    unmapped: int = 0
    bounded: int = 0
    highest: float = -np.inf
    dry: Int64 = field(default_factory=_no_days)
    days: Int64 = field(default_factory=_no_days)
    held: int = 0

    def __add__(self, other: Report) -> Report:
        return Report(
            self.values + other.values,
            self.unmapped + other.unmapped,
            self.bounded + other.bounded,
            max(self.highest, other.highest),
            self.dry + other.dry,
            self.days + other.days,
            self.held + other.held,
        )

    def lines(self, settings: Settings, sim: cf.Field, units: str) -> list[str]:
        """Sentences for people.

        Args:
            sim: what was adjusted.
            units: in which the highest value is given.
        """
        worked = sim.quantity.units
        lines = [adjusted_line(sim, self.values, self.highest, units)]
        lines += held_line(sim, settings.limits, self.held)
        if self.unmapped:
            lines.append(
                f"{self.unmapped} values left missing: fewer than {quantile.FEWEST} reference, "
                "historical or simulated values to compare with"
            )
        if settings.kind == "multiplicative":
            share = self.bounded / max(1, self.values)
            lines.append(
                f"ratio bounded at {settings.options.max_ratio:g} for {self.bounded} values "
                f"({share:.3%})"
            )
        if settings.dry:
            names = ("reference", "historical", "simulation", "adjusted")
            shares = ", ".join(
                f"{name} {dry / days:.1%}"
                for name, dry, days in zip(names, self.dry, self.days, strict=True)
                if days
            )
            lines.append(f"dry days (below {settings.dry:.3g} {worked}): {shares}")
        return lines


def adjust_series(
    series: Series,
    settings: Settings,
    *,
    stack: ExitStack,
    scratch: Path,
    engine: Engine,
    stored: StoredMap | None = None,
    keep: Keep | None = None,
    progress: Progress | None = None,
) -> tuple[Scratch, Report]:
    """Adjust a variable, in blocks of cells; memory does not grow with the number of cells.

    Args:
        stack: keeps the result until it is left.
        scratch: folder for the scratch files; they need three times the size of the data in
            float32, and the result once more.
        stored: a stored map, instead of training.
        keep: called with each block's quantiles.

    Returns:
        the adjusted values, in the units of the simulation, and what was done.

    Raises:
        InputError: infinite values, or fill values that a file does not declare.
        OutputError: no room for the scratch files.
        ConfigError: the cluster or the device gave up.
    """
    cells = math.prod(series.grid.shape)
    fields = _fields(series, stored)
    width = _width(fields, settings, cells)
    lengths = {name: len(one.time) for name, one in fields.items()}
    _check_room(scratch, 4 * cells * (sum(lengths.values()) + lengths["sim"]))
    with ExitStack() as inputs:
        stores = {
            name: inputs.enter_context(Scratch(scratch, times=times, cells=cells, width=width))
            for name, times in lengths.items()
        }
        for name, one in fields.items():
            _spill(one, stores[name])
        result = stack.enter_context(
            Scratch(scratch, times=lengths["sim"], cells=cells, width=width)
        )
        tasks = _tasks(series, settings, stores, stored, engine, with_quantiles=keep is not None)
        return result, _adjust_blocks(engine, tasks, result, keep, progress)


def _adjust_blocks(
    engine: Engine,
    tasks: Iterator[_Task],
    result: Scratch,
    keep: Keep | None,
    progress: Progress | None,
) -> Report:
    report, blocks = Report(), result.blocks
    for done, (block, outcome) in enumerate(
        zip(blocks, engine.map(_adjust_task, tasks), strict=True), start=1
    ):
        result.write_cells(block, outcome.scen)
        report += outcome.report
        if keep is not None:
            keep(block, outcome.quantiles)
        if progress is not None:
            progress(done, len(blocks))
    return report


def _check_room(folder: Path, wanted: int) -> None:
    """Refuse before hours of work what cannot end well."""
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise OutputError(
            f"scratch files of {wanted / 2**30:.1f} GiB do not fit in {folder}, which has "
            f"{free / 2**30:.1f} GiB free; write the output where there is room, or adjust less "
            "at once"
        )


def _fields(series: Series, stored: StoredMap | None) -> dict[str, cf.Field]:
    """The series whose values are needed."""
    fields = {"sim": series.sim}
    if stored is None:
        fields["hist"] = series.hist
        if isinstance(series.ref, cf.Field):
            fields["ref"] = series.ref
    return fields


def _width(fields: Mapping[str, cf.Field], settings: Settings, cells: int) -> int:
    """Cells per block."""
    longest = max(len(one.time) for one in fields.values())
    trained = 2 * settings.grouping.count * settings.probabilities.size
    return max(1, min(cells, _BLOCK_BYTES // (4 * (_COPIES * longest + trained))))


def _spill(field: cf.Field, scratch: Scratch) -> None:
    """Turn a field's values round, into a scratch file."""
    steps = max(1, _READ_BYTES // (8 * scratch.cells))
    for start in range(0, len(field.time), steps):
        values = field.read(slice(start, start + steps)).reshape(-1, scratch.cells)
        if np.isinf(values).any():
            raise InputError(f"{field.where} has infinite values; set them to missing")
        scratch.write_times(start, values)
    field.refuse_misread()


@dataclass(frozen=True, eq=False)
class _Task:
    """One block of cells: values of (time, width) and all that is needed to adjust them.

    Attributes:
        ref: values, or quantiles of (groups, nodes, width), or None where `stored` is given.
        stored: nodes and quantiles of a stored map.
        first_cell: number of the block's first cell, on which the random values of dry days
            depend.
        with_quantiles: whether the quantiles are wanted back.
    """

    settings: Settings
    ref: Float32 | None
    ref_dates: Dates | None
    hist: Float32 | None
    hist_dates: Dates | None
    sim: Float32
    sim_dates: Dates
    stored: tuple[Float64, Float32, Float32] | None
    first_cell: int
    threads: int
    device: str
    with_quantiles: bool


@dataclass(frozen=True, eq=False)
class _Result:
    scen: Float32
    quantiles: dict[str, Float32]
    report: Report


def _tasks(
    series: Series,
    settings: Settings,
    stores: Mapping[str, Scratch],
    stored: StoredMap | None,
    engine: Engine,
    *,
    with_quantiles: bool,
) -> Iterator[_Task]:
    quantiles = None
    if isinstance(series.ref, Climatology):
        quantiles = _by_group(series.ref, settings.grouping)
    for block in stores["sim"].blocks:
        ref = stores["ref"].read_cells(block) if "ref" in stores else None
        yield _Task(
            settings=settings,
            ref=ref if quantiles is None else quantiles[..., block],
            ref_dates=series.ref.time.centres if isinstance(series.ref, cf.Field) else None,
            hist=stores["hist"].read_cells(block) if "hist" in stores else None,
            hist_dates=series.hist.time.centres if "hist" in stores else None,
            sim=stores["sim"].read_cells(block),
            sim_dates=series.sim.time.centres,
            stored=None if stored is None else (stored.nodes, *stored.read(block)),
            first_cell=block.start,
            threads=engine.threads,
            device=engine.device,
            with_quantiles=with_quantiles,
        )


def _by_group(climatology: Climatology, grouping: Grouping) -> Float32:
    """A prior's quantiles in the order of the grouping, shape (groups, nodes, cells)."""
    values = climatology.quantiles.reshape(*climatology.quantiles.shape[:2], -1)
    if grouping.kind == "none":
        return values[-1:]
    by_month = np.full((12, *values.shape[1:]), np.nan, dtype=np.float32)
    for entry, month in enumerate(climatology.months):
        by_month[month - 1] = values[entry]
    return by_month


def _adjust_task(task: _Task) -> _Result:
    """Train a block's map and apply it: runs in this process or in a worker's."""
    trained = _train(task)
    scen, bounded, unmapped = _apply(task, trained)
    if task.settings.dry is not None:
        scen = dry_below(scen, task.settings.dry)
    limits, held = task.settings.limits, 0
    if limits is not None:
        scen, held = limits.hold(scen)
    finite = scen[np.isfinite(scen)]
    dry, days = _count_dry(task, scen)
    report = Report(
        values=finite.size,
        unmapped=unmapped,
        bounded=bounded,
        highest=float(finite.max()) if finite.size else -np.inf,
        dry=dry,
        days=days,
        held=held,
    )
    quantiles = {REF: trained.ref, HIST: trained.hist} if task.with_quantiles else {}
    return _Result(scen, {name: to_host(values) for name, values in quantiles.items()}, report)


def _count_dry(task: _Task, scen: Float32) -> tuple[Int64, Int64]:
    """Dry and all days of ref, hist, sim and scen in the cells that were adjusted.

    Only months that the simulation has count.
    """
    dry, days = _no_days(), _no_days()
    if task.settings.dry:
        adjusted = np.isfinite(scen).any(axis=0)
        for place, values in enumerate((*_of_same_months(task), task.sim, scen)):
            if values is not None:
                dry[place] = (values < np.float32(task.settings.dry))[..., adjusted].sum()
                days[place] = np.isfinite(values)[..., adjusted].sum()
    return dry, days


def _of_same_months(task: _Task) -> tuple[Float32 | None, Float32 | None]:
    """Values of ref and hist in the months of sim.

    Of a prior's reference every quantile stands for as many days.
    """
    months = {date.month for date in task.sim_dates}
    chosen: list[Float32 | None] = []
    for values, dates in ((task.ref, task.ref_dates), (task.hist, task.hist_dates)):
        if values is None:
            chosen.append(None)
        elif dates is not None:
            chosen.append(values[[date.month in months for date in dates]])
        else:
            by_month = task.settings.grouping.kind == "month"
            chosen.append(values[[month - 1 for month in sorted(months)]] if by_month else values)
    return chosen[0], chosen[1]


def _prepared(task: _Task, stream: str, values: Float32) -> Any:
    """Values on the device; small random values of dry days make their ranks distinct."""
    dry, seed = task.settings.dry, task.settings.options.seed
    if dry is not None:
        values = jitter_dry(values, dry, seed=seed, stream=stream, first_cell=task.first_cell)
    return to_device(values, task.device)


def _train(task: _Task) -> quantile.QuantileMap:
    """A block's map: the stored one, or trained on what the reference is."""
    if task.stored is not None:
        settings = task.settings
        nodes, *quantiles = task.stored
        on_device = (to_device(values, task.device) for values in quantiles)
        return quantile.QuantileMap(settings.kind, settings.grouping, nodes, *on_device)
    return _train_on_quantiles(task) if task.ref_dates is None else _train_on_days(task)


def _train_on_quantiles(task: _Task) -> quantile.QuantileMap:
    """The map to a reference of which only quantiles are known."""
    assert task.ref is not None
    assert task.hist is not None
    assert task.hist_dates is not None
    settings, ref = task.settings, task.ref
    nodes = quantile.nodes(settings.nodes)
    if settings.dry is not None:
        ref = spread_dry_quantiles(ref, nodes, settings.dry)
    return quantile.train_from_quantiles(
        to_device(ref, task.device),
        _prepared(task, "hist", task.hist),
        nodes=nodes,
        hist_dates=task.hist_dates,
        kind=settings.kind,
        grouping=settings.grouping,
        threads=task.threads,
    )


def _train_on_days(task: _Task) -> quantile.QuantileMap:
    """The map to a reference of days."""
    assert task.ref is not None
    assert task.ref_dates is not None
    assert task.hist is not None
    assert task.hist_dates is not None
    settings = task.settings
    return quantile.train(
        _prepared(task, "ref", task.ref),
        _prepared(task, "hist", task.hist),
        ref_dates=task.ref_dates,
        hist_dates=task.hist_dates,
        kind=settings.kind,
        grouping=settings.grouping,
        quantiles=settings.nodes,
        tails=settings.options.tails,
        threads=task.threads,
    )


def _apply(task: _Task, trained: quantile.QuantileMap) -> tuple[Float32, int, int]:
    """Adjusted values, how many ratios were bounded, how many values have no map."""
    options, dates = task.settings.options, task.sim_dates
    sim = _prepared(task, "sim", task.sim)
    if options.ranks == "hist":
        ref, hist = (to_host(values) for values in (trained.ref, trained.hist))
        mapped = adjust_by_historical_ranks(
            replace(trained, ref=ref, hist=hist),
            to_host(sim),
            dates,
            interpolation=options.interpolation,
            max_ratio=options.max_ratio,
        )
        return mapped.values, mapped.bounded, mapped.unmapped
    scen = np.empty(task.sim.shape, dtype=np.float32)
    bounded = unmapped = 0
    for part, window in moving_periods(dates, options.years):
        # Without a window a period is ranked among itself, which is quicker to say so.
        pool = {} if window == part else {"pool": sim[window], "pool_dates": list(dates[window])}
        adjusted = quantile.adjust(
            trained,
            sim[part],
            dates[part],
            interpolation=options.interpolation,
            max_ratio=options.max_ratio,
            threads=task.threads,
            **pool,
        )
        scen[part] = to_host(adjusted.values)
        bounded, unmapped = bounded + adjusted.bounded, unmapped + adjusted.unmapped
    return scen, bounded, unmapped
