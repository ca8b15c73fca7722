"""Quantile delta mapping of a variable, in blocks of cells with bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from climdown import cf
from climdown.adjust.engine import Engine, to_device, to_host
from climdown.adjust.inputs import Climatology, Series
from climdown.adjust.periods import moving_periods
from climdown.bias import maps, quantile
from climdown.bias.dry import dry_below, jitter_dry, spread_dry_quantiles
from climdown.bias.grouping import Grouping
from climdown.bias.maps import StoredMap
from climdown.bias.scratch import Scratch
from climdown.config import QDMConfig
from climdown.errors import ConfigError, InputError

_READ_BYTES = 64 << 20
# Of one series in one block; about eight such arrays are alive at a time.
_BLOCK_BYTES = 32 << 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """Quantile delta mapping of one variable, every choice made.

    Attributes:
        dry: precipitation below this is none, in the simulation's units; None if it does not apply.
    """

    kind: Literal["additive", "multiplicative"]
    grouping: Grouping
    nodes: int
    dry: float | None
    options: QDMConfig

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Of the quantiles, the extremes' 0 and 1 included, shape (nodes,)."""
        inner = quantile.nodes(self.nodes)
        return np.concatenate([[0.0], inner, [1.0]]) if self._extremes else inner

    @property
    def _extremes(self) -> bool:
        return self.options.tails == "extremes"

    def describe(self) -> str:
        """One line for people and for the output's attributes."""
        group = {"none": "all days together", "month": "by calendar month"}.get(
            self.grouping.kind, f"by day of the year, {self.grouping.window} days around it"
        )
        tails = {"constant": "constant correction", "extremes": "out to the extremes"}
        bound = f", ratio at most {self.options.max_ratio:g}" if self._ratio else ""
        return (
            f"quantile delta mapping (Cannon et al. 2015), {self.kind}, {self.nodes} quantiles, "
            f"{group}, {self.options.interpolation} between them, beyond them "
            f"{tails[self.options.tails]}{bound}"
        )

    @property
    def _ratio(self) -> bool:
        return self.kind == "multiplicative"


@dataclass(frozen=True)
class Report:
    """What quantile delta mapping did, counted over all values.

    Attributes:
        values: adjusted; unmapped: left missing, for want of a reference or historical value.
        bounded: whose ratio was cut to the bound.
        dry_ref, dry_hist, dry_sim, dry_scen: days below the dry threshold; `*_days`: all of them.
        highest: value of the result.
    """

    values: int = 0
    unmapped: int = 0
    bounded: int = 0
    dry: tuple[int, int, int, int] = (0, 0, 0, 0)
    days: tuple[int, int, int, int] = (0, 0, 0, 0)
    highest: float = -np.inf

    def __add__(self, other: Report) -> Report:
        pairs = zip(self.dry, other.dry, strict=True), zip(self.days, other.days, strict=True)
        dry, days = (tuple(a + b for a, b in both) for both in pairs)
        return Report(
            self.values + other.values,
            self.unmapped + other.unmapped,
            self.bounded + other.bounded,
            dry,  # type: ignore[arg-type]
            days,  # type: ignore[arg-type]
            max(self.highest, other.highest),
        )

    def lines(self, settings: Settings, units: str) -> list[str]:
        """Sentences for people."""
        lines = [f"{self.values} values adjusted, highest {self.highest:.5g} {units}"]
        if self.unmapped:
            lines.append(f"{self.unmapped} values left missing: no reference or historical value")
        if settings.kind == "multiplicative":
            share = self.bounded / max(1, self.values)
            lines.append(
                f"ratio bounded at {settings.options.max_ratio:g} for {self.bounded} values "
                f"({share:.3%})"
            )
        if settings.dry is not None:
            names = ("reference", "historical", "simulation", "adjusted")
            shares = (d / max(1, n) for d, n in zip(self.dry, self.days, strict=True))
            parts = (
                f"{name} {share:.1%}"
                for name, share, n in zip(names, shares, self.days, strict=True)
                if n
            )
            lines.append(f"dry days (below {settings.dry:.3g} {units}): {', '.join(parts)}")
        return lines


def choose_settings(series: Series, options: QDMConfig) -> Settings:
    """Kind, number of quantiles and dry threshold for a variable.

    Raises:
        ConfigError: a grouping that the prior's climatology does not have.
    """
    known = cf.known_quantity(cf.like_array(series.sim))
    rain = known is not None and known.trace is not None
    kind = options.kind
    if kind == "auto":
        kind = known.kind if known is not None else "additive"
    dry = None
    if rain and known is not None and kind == "multiplicative":
        threshold = known.trace if options.dry_threshold is None else options.dry_threshold
        converted = cf.convert_units(
            np.array([threshold]), known.quantity.units, series.sim.quantity.units
        )
        dry = float(converted[0]) or None
    nodes = options.quantiles or (500 if rain else 100)
    if isinstance(series.ref, Climatology):
        if options.group == "dayofyear":
            raise ConfigError(
                f"prior {series.ref.prior} carries quantiles by month and of all its months; "
                "choose --group month or none, or give observations as --ref"
            )
        if options.tails == "extremes":
            raise ConfigError(
                f"prior {series.ref.prior} does not carry the extremes; choose --tails constant, "
                "or give observations as --ref"
            )
        nodes = series.ref.quantiles.shape[1]
        if options.quantiles not in (None, nodes):
            raise ConfigError(
                f"prior {series.ref.prior} carries {nodes} quantiles of this variable; "
                f"--quantiles {options.quantiles} needs observations as --ref"
            )
    return Settings(kind, Grouping(options.group, options.window), nodes, dry, options)


def adjust_series(
    series: Series,
    settings: Settings,
    *,
    stack: ExitStack,
    scratch: Path,
    engine: Engine,
    stored: StoredMap | None = None,
    keep: Callable[[slice, Mapping[str, Any]], None] | None = None,
    progress: Progress | None = None,
) -> tuple[Scratch, Report]:
    """Adjust a variable, in blocks of cells; memory does not grow with the number of cells.

    Args:
        stack: keeps the scratch files until it is left.
        scratch: path that the scratch files' names begin with; they need three times the size of
            the data in float32, and the result once more.
        stored: a kept map, instead of training.
        keep: called with each block's quantiles.

    Returns:
        the adjusted values, in the units of the simulation, and what was done.
    """
    cells = math.prod(series.grid.shape)
    fields = {"sim": series.sim}
    if stored is None:
        fields["hist"] = series.hist
        if isinstance(series.ref, cf.Field):
            fields["ref"] = series.ref
    longest = max(len(field.time) for field in fields.values())
    width = max(1, min(cells, _BLOCK_BYTES // (4 * longest)))
    stores = {
        name: stack.enter_context(_spill(field, Path(f"{scratch}.{name}"), width))
        for name, field in fields.items()
    }
    result = stack.enter_context(
        Scratch(Path(f"{scratch}.scen"), times=len(series.sim.time), cells=cells, width=width)
    )
    tasks = _tasks(series, settings, stores, stored, engine)
    report = Report()
    blocks = stores["sim"].blocks
    for done, (block, found) in enumerate(
        zip(blocks, engine.map(_adjust_task, tasks), strict=True), start=1
    ):
        scen, trained, counted = found
        result.write_cells(block, scen)
        report += counted
        if keep is not None:
            keep(block, {maps.REF: to_host(trained.ref), maps.HIST: to_host(trained.hist)})
        if progress is not None:
            progress(done, len(blocks))
    return result, report


def _tasks(
    series: Series,
    settings: Settings,
    stores: Mapping[str, Scratch],
    stored: StoredMap | None,
    engine: Engine,
) -> Iterator[_Task]:
    ref_dates = series.ref.time.dates if isinstance(series.ref, cf.Field) else None
    known = None
    if isinstance(series.ref, Climatology):
        known = _by_group(series.ref, settings.grouping)
    for block in stores["sim"].blocks:
        ref = hist = None
        if stored is None:
            hist = stores["hist"].read_cells(block)
            ref = stores["ref"].read_cells(block) if known is None else known[..., block]
        yield _Task(
            settings=settings,
            ref=ref,
            ref_dates=ref_dates,
            hist=hist,
            hist_dates=series.hist.time.dates,
            sim=stores["sim"].read_cells(block),
            sim_dates=series.sim.time.dates,
            stored=None if stored is None else (stored.nodes, *stored.read(block)),
            first_cell=block.start,
            threads=engine.threads,
            device=engine.device,
        )


def _by_group(climatology: Climatology, grouping: Grouping) -> npt.NDArray[np.float32]:
    """A prior's quantiles in the order of the grouping, shape (groups, nodes, cells)."""
    values = climatology.quantiles.reshape(*climatology.quantiles.shape[:2], -1)
    if grouping.kind == "none":
        return values[-1:]
    found = np.full((12, *values.shape[1:]), np.nan, dtype=np.float32)
    for entry, month in enumerate(climatology.months):
        found[month - 1] = values[entry]
    return found


def _spill(field: cf.Field, path: Path, width: int) -> Scratch:
    """A field's values turned round, in a scratch file."""
    cells = math.prod(field.cells.shape)
    scratch = Scratch(path, times=len(field.time), cells=cells, width=width)
    steps = max(1, _READ_BYTES // (8 * cells))
    for start in range(0, len(field.time), steps):
        part = slice(start, min(start + steps, len(field.time)))
        values = field.read(part).reshape(-1, cells)
        if np.isinf(values).any():
            raise InputError(
                f"{cf.describe_paths(field.paths)}: variable '{field.source_name}' has infinite "
                "values; set them to missing"
            )
        scratch.write_times(start, values)
    return scratch


@dataclass(frozen=True, eq=False)
class _Task:
    """One block of cells: values of (time, width) and all that is needed to adjust them.

    Attributes:
        ref: values, or quantiles of (groups, nodes, width), or None where `stored` is given.
        stored: quantiles of a kept map.
        first_cell: number of the block's first cell, by which dry days are told apart.
    """

    settings: Settings
    ref: npt.NDArray[np.float32] | None
    ref_dates: npt.NDArray[np.object_] | None
    hist: npt.NDArray[np.float32] | None
    hist_dates: npt.NDArray[np.object_] | None
    sim: npt.NDArray[np.float32]
    sim_dates: npt.NDArray[np.object_]
    stored: tuple[npt.NDArray[np.float64], Any, Any] | None
    first_cell: int
    threads: int
    device: str


def _adjust_task(task: _Task) -> tuple[npt.NDArray[np.float32], quantile.QuantileMap, Report]:
    """Train a block's map and apply it: runs in this process or in a worker's."""
    settings = task.settings
    dry, days = [0, 0, 0, 0], [0, 0, 0, 0]

    def prepared(place: int, name: str, values: npt.NDArray[np.float32]) -> Any:
        """Dry days counted and told apart, on the device."""
        if settings.dry is not None:
            days[place] = int(np.isfinite(values).sum())
            dry[place] = int((values < settings.dry).sum())
            values = jitter_dry(
                values,
                settings.dry,
                seed=settings.options.seed,
                stream=name,
                first_cell=task.first_cell,
            )
        return to_device(values, task.device)

    trained = _train(task, prepared)
    sim = prepared(2, "sim", task.sim)
    scen, bounded, unmapped = _apply(task, trained, sim)
    if settings.dry is not None:
        scen = dry_below(scen, settings.dry)
        dry[3], days[3] = int((scen == 0).sum()), int(np.isfinite(scen).sum())
    finite = scen[np.isfinite(scen)]
    report = Report(
        values=finite.size,
        unmapped=unmapped,
        bounded=bounded,
        dry=(dry[0], dry[1], dry[2], dry[3]),
        days=(days[0], days[1], days[2], days[3]),
        highest=float(finite.max()) if finite.size else -np.inf,
    )
    return scen, trained, report


def _train(
    task: _Task, prepared: Callable[[int, str, npt.NDArray[np.float32]], Any]
) -> quantile.QuantileMap:
    settings = task.settings
    if task.stored is not None:
        nodes, ref, hist = task.stored
        on_device = (to_device(values, task.device) for values in (ref, hist))
        return quantile.QuantileMap(settings.kind, settings.grouping, nodes, *on_device)
    assert task.ref is not None
    assert task.hist is not None
    assert task.hist_dates is not None
    hist = prepared(1, "hist", task.hist)
    if task.ref_dates is None:
        ref = task.ref
        if settings.dry is not None:
            ref = spread_dry_quantiles(ref, quantile.nodes(settings.nodes), settings.dry)
        return quantile.train_from_quantiles(
            to_device(ref, task.device),
            hist,
            nodes=quantile.nodes(settings.nodes),
            hist_dates=task.hist_dates,
            kind=settings.kind,
            grouping=settings.grouping,
            threads=task.threads,
        )
    return quantile.train(
        prepared(0, "ref", task.ref),
        hist,
        ref_dates=task.ref_dates,
        hist_dates=task.hist_dates,
        kind=settings.kind,
        grouping=settings.grouping,
        quantiles=settings.nodes,
        tails=settings.options.tails,
        threads=task.threads,
    )


def _apply(
    task: _Task, trained: quantile.QuantileMap, sim: Any
) -> tuple[npt.NDArray[np.float32], int, int]:
    """Adjusted values, how many ratios were bounded, how many values have no map."""
    options, dates = task.settings.options, task.sim_dates
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
