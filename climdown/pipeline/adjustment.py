"""The input with its bias adjusted: a stage of a run with parts of its own.

It is computed once, on the grid where the input guides, and placed beside the units of the run; a
resumed run reads it, and so can every process that takes part.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from climdown import cf, regrid
from climdown.adjust.registry import ADJUSTMENTS, Decided, Reader
from climdown.adjust.series import (
    REF_COVERAGE,
    Climatology,
    Series,
    open_period,
    prior_climatology,
)
from climdown.arrays import Float32, Float64
from climdown.errors import InputError
from climdown.files import fingerprints, flush_folder, placed
from climdown.grid import Grid
from climdown.inputs.matching import Matched, quantity
from climdown.inputs.onto import regridded_to
from climdown.priors.card import Variable
from climdown.priors.prior import Prior
from climdown.stream import is_usable, seal

log = logging.getLogger(__name__)

_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Reference:
    """What an input is adjusted to, and by.

    Attributes:
        historical: of the input's model in the reference's period: files, and a period or None.
        observed: the same of observations; no files take the quantiles that the prior carries.
        verify: whether fingerprints hash every byte.
    """

    historical: tuple[str, ...]
    historical_period: str | None
    observed: tuple[str, ...]
    observed_period: str | None
    verify: bool = False

    def identity(self) -> dict[str, Any]:
        """Fingerprints and periods, as JSON values."""
        return {
            "historical": fingerprints(cf.expand_paths(self.historical), verify=self.verify),
            "historical_period": self.historical_period,
            "reference": fingerprints(cf.expand_paths(self.observed), verify=self.verify),
            "reference_period": self.observed_period,
        }


@dataclass(frozen=True, eq=False)
class AdjustedInput:
    """The bias adjustment of a run, checked; nothing has been computed yet.

    Attributes:
        decided: the adjustment with all its choices.
        options: of the adjustment, by name.
        reference: files and periods, with their fingerprints.
        series: by variable, in the prior's units, on the filter grid, or on the finer one of the
            prior's quantiles; the simulation is all of the input, so that what a run samples does
            not change how it is adjusted.
        steps: of the input, that the run samples.
        averages: by variable, from the grid of the series to the filter grid, where they differ.
    """

    decided: Decided
    options: Mapping[str, Any]
    reference: Mapping[str, Any]
    source: str
    series: Mapping[str, Series]
    steps: slice
    averages: Mapping[str, Averages] = field(default_factory=dict)

    def describe(self) -> str:
        """One line for people and for the output."""
        return f"{self.decided.describe()}; reference: {self.source}"

    def report(self) -> str:
        """Files, steps and years that it was made from, for the output."""
        return "; ".join(self.decided.samples())

    def identity(self) -> dict[str, Any]:
        """Everything about the adjustment that decides the result, as JSON values."""
        return {
            "bias": self.decided.describe(),
            "bias_options": dict(self.options),
            **self.reference,
        }

    def readers(self, folder: Path, device: str, key: str = "") -> dict[str, Reader]:
        """Functions that read the run's steps on the filter grid; computes what is not there yet.

        Args:
            folder: of the run's parts.
            key: of the run, in the seals of the parts.

        Raises:
            InputError: a step has no adjusted value: nothing would guide it.
            ConvergenceError: the transport did not converge.
            OutputError: there is no room.
        """
        stage = folder / "adjusted"
        paths = {name: stage / f"{name}.npy" for name in self.series}
        keys = {name: f"{key} adjusted {name}" for name in paths}
        if wanted := [name for name, path in paths.items() if not _is_there(path, keys[name])]:
            stage.mkdir(exist_ok=True)
            flush_folder(folder)
            for name, read in self.decided.apply(wanted, folder=folder, device=device):
                self._place(paths[name], name, read, keys[name])
        readers = {name: _part_reader(path) for name, path in paths.items()}
        order = cf.daily_order({name: one.sim for name, one in self.series.items()})
        if order is None:
            return readers
        if wanted:
            self._report(order, readers)
        return readers | {name: _ordered_reader(order, readers, name) for name in order.names}

    def _report(self, order: cf.DailyOrder, readers: Mapping[str, Reader]) -> None:
        """Say how many adjusted temperatures are out of their order."""
        blocks = self._blocks(next(iter(self.series.values())).grid)
        parts = ({name: readers[name](part) for name in order.names} for part, _ in blocks)
        for line in order.line(sum(order.restore(values)[1] for values in parts)):
            log.info("bias adjustment: %s", line)

    def _place(self, path: Path, name: str, read: Reader, key: str) -> None:
        """Write the run's steps of an adjusted variable, block by block of time."""
        one = self.series[name]
        averages = self.averages.get(name)
        grid = one.grid if averages is None else averages.weights.target
        shape = (self.steps.stop - self.steps.start, *grid.shape)
        with placed(path) as temporary:
            array = open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            for part, source in self._blocks(one.grid):
                values = read(source)
                array[part] = values if averages is None else averages.apply(values)
                self._check_steps(one.sim, source, array[part])
            array.flush()
            seal(temporary, key)

    def _blocks(self, grid: Grid) -> Iterator[tuple[slice, slice]]:
        """Blocks of the run's steps, and where they are among all of the input's."""
        first, total = self.steps.start, self.steps.stop - self.steps.start
        length = max(1, _BLOCK_BYTES // (4 * grid.areas.size))
        for start in range(0, total, length):
            stop = min(start + length, total)
            yield slice(start, stop), slice(first + start, first + stop)

    def _check_steps(self, sim: cf.Field, part: slice, values: Float32) -> None:
        empty = np.isnan(values).all(axis=(1, 2))
        if empty.any():
            raise InputError(
                f"{cf.describe_paths(sim.paths)}: bias adjustment left no value of "
                f"{sim.source_name} at {sim.time.dates[part][empty][0].isoformat()}: "
                f"{self.decided.needs()}; choose other steps with --time, or give more of "
                "--historical and --reference"
            )


@dataclass(frozen=True, eq=False)
class Averages:
    """Means of a prior's coarse cells over larger ones, by the valid fine cells in each.

    Attributes:
        weights: from the coarse cells to the larger ones.
        share: of each coarse cell that valid fine cells fill, shape (ny, nx).
    """

    weights: regrid.Weights
    share: Float64

    @classmethod
    def between(cls, prior: Prior, variable: Variable, coarse: Grid, grid: Grid) -> Averages:
        """Of one variable of a prior."""
        channel = [v.name for v in prior.card.variables].index(variable.name)
        fine = regrid.weights(prior.card.grid, coarse, "conservative")
        valid = fine.apply(prior.mask[channel].astype(np.float64))
        return cls(
            regrid.weights(coarse, grid, "conservative"), np.nan_to_num(valid).astype(np.float64)
        )

    def apply(self, values: Float32) -> Float32:
        """As A_low has it of fine fields, shape (time, *grid.shape), NaN where under half is known.

        Args:
            values: shape (time, ny, nx).
        """
        valid_input = np.isfinite(values)
        valid = self.weights.apply(np.where(valid_input, self.share, 0.0))
        total = self.weights.apply(np.where(valid_input, self.share * np.nan_to_num(values), 0.0))
        enough = valid > 0.5 * self.weights.apply(self.share)
        means = np.where(enough, total / np.where(enough, valid, 1.0), np.nan)
        return np.asarray(means, dtype=np.float32)


def plan_adjustment(
    name: str,
    options: Any,
    reference: Reference,
    *,
    prior: Prior,
    matched: Matched,
    grid: Grid,
    select: Mapping[str, str],
) -> AdjustedInput:
    """Open what an adjustment needs, and decide its details.

    Args:
        name, options: of the adjustment.
        matched: the input; all its steps take part in the adjustment.
        grid: on which the input guides.

    Raises:
        InputError, GridError, PriorError, ConfigError: of what cannot be used.
    """
    # Quantiles do not tell those of means over larger cells: these are taken of adjusted values.
    working = grid if reference.observed else prior.card.coarse_grid
    guided = [variable for variable in prior.card.variables if variable.name in matched.region]
    series = _open_series(reference, prior, guided, matched, working, select)
    averages = {}
    if working.digest != grid.digest:
        averages = {v.name: Averages.between(prior, v, working, grid) for v in guided}
    source = ", ".join(reference.observed) or f"quantiles of prior {prior.card.name}"
    return AdjustedInput(
        decided=ADJUSTMENTS[name].decide(series, options),
        options=asdict(options),
        reference=reference.identity(),
        source=source,
        series=series,
        steps=matched.steps,
        averages=averages,
    )


def _open_series(
    reference: Reference,
    prior: Prior,
    guided: Sequence[Variable],
    matched: Matched,
    grid: Grid,
    select: Mapping[str, str],
) -> dict[str, Series]:
    """Reference, historical and simulated values of each variable on one grid."""
    historical = cf.Sources.open(reference.historical)
    observed = cf.Sources.open(reference.observed) if reference.observed else None
    series = {}
    for variable in guided:
        wanted = quantity(variable)
        hist = open_period(historical, wanted, reference.historical_period, select)
        ref: cf.Field | Climatology
        if observed is None:
            ref = prior_climatology(prior, variable, variable.units)
        else:
            days = open_period(observed, wanted, reference.observed_period, select)
            ref = regridded_to(days, grid, min_coverage=REF_COVERAGE)
        sim = matched.everywhere[variable.name]
        series[variable.name] = Series(ref, regridded_to(hist, grid), regridded_to(sim, grid))
    return series


def _is_there(path: Path, key: str) -> bool:
    """Whether a variable has been adjusted; a damaged part is adjusted anew, and said so."""
    return path.is_file() and is_usable(path, key, otherwise="adjusted")


def _ordered_reader(order: cf.DailyOrder, readers: Mapping[str, Reader], name: str) -> Reader:
    """One of the temperatures of a day, as it is in order with the others.

    Variables are adjusted and kept one by one: only where they are read are they all there.
    """

    def read(part: slice) -> Float32:
        return order.restore({one: readers[one](part) for one in order.names})[0][name]

    return read


def _part_reader(path: Path) -> Reader:
    values: Float32 = np.load(path, mmap_mode="r", allow_pickle=False)
    return lambda part: np.array(values[part])
