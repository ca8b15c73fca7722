"""The bias adjustment of a run: the input on the grid where it guides, adjusted before it does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from climdown import cf, files, regrid
from climdown.adjust.blocks import adjust_series
from climdown.adjust.inputs import (
    REF_COVERAGE,
    Climatology,
    Series,
    brought,
    check_months,
    open_period,
    prior_climatology,
    shared_months,
)
from climdown.adjust.ot import describe, transport_series
from climdown.adjust.settings import Settings, choose_settings
from climdown.bias.scratch import Scratch
from climdown.compute.engine import open_engine
from climdown.config import RunConfig
from climdown.errors import ConvergenceError, InputError
from climdown.grid import Grid
from climdown.inputs import matching
from climdown.priors.card import Variable
from climdown.priors.prior import Prior

log = logging.getLogger(__name__)

Reader = Callable[[slice], npt.NDArray[np.float32]]
"""Values of a block of time steps on the filter grid, shape (time, ny, nx)."""

_CHECK_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Adjustment:
    """The bias adjustment of a run, checked; nothing has been computed yet.

    Attributes:
        config: of the run.
        series: by variable, in the prior's units, on the filter grid, or on the finer one of the
            prior's quantiles; the simulation is all of the input, so that what a run samples does
            not change how it is adjusted.
        settings: of quantile delta mapping, by variable; empty for transport.
        steps: of the input, that the run samples.
        averages: by variable, from the grid of the series to the filter grid, where they differ.
    """

    config: RunConfig
    series: Mapping[str, Series]
    settings: Mapping[str, Settings]
    steps: slice
    averages: Mapping[str, Averages] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The method and its options, for people."""
        if self.config.adjustment == "ot":
            return describe(self.config.ot)
        return "; ".join(f"{name}: {s.describe()}" for name, s in self.settings.items())

    def describe(self) -> str:
        """One line for people and for the output."""
        ref = next(iter(self.series.values())).ref
        source = ", ".join(self.config.reference)
        if isinstance(ref, Climatology):
            source = f"quantiles of prior {ref.prior}"
        return f"{self.method}; reference: {source}"

    def readers(self, stack: ExitStack, scratch: Path, device: str) -> dict[str, Reader]:
        """Adjust all of the input, and give functions that read the run's steps of the result.

        Args:
            stack: keeps scratch files until it is left.
            scratch: folder for these.

        Raises:
            InputError: a step has no adjusted value: nothing would guide it.
            ConvergenceError: the transport did not converge.
        """
        read = (
            self._transported(device)
            if self.config.adjustment == "ot"
            else self._mapped(stack, scratch, device)
        )
        readers = {
            name: _later(self._averaged(name, one), self.steps.start) for name, one in read.items()
        }
        for name, reader in readers.items():
            self._check_steps(name, reader)
        return readers

    def _averaged(self, name: str, read: Reader) -> Reader:
        if name not in self.averages:
            return read
        averages = self.averages[name]
        return lambda part: averages.apply(read(part))

    def _transported(self, device: str) -> dict[str, Reader]:
        series = list(self.series.values())
        try:
            adjusted, lines = transport_series(series, self.config.ot, device=device)
        except ConvergenceError as error:
            raise ConvergenceError(
                f"{error}; `climdown ot` has options for these, and its output needs no --bias"
            ) from None
        _report("optimal transport", lines)
        return {
            name: values.__getitem__ for name, values in zip(self.series, adjusted, strict=True)
        }

    def _mapped(self, stack: ExitStack, scratch: Path, device: str) -> dict[str, Reader]:
        engine = stack.enter_context(open_engine(device=device))
        readers = {}
        for name, one in self.series.items():
            settings = self.settings[name]
            values, report = adjust_series(
                one, settings, stack=stack, scratch=scratch, engine=engine
            )
            _report(name, report.lines(settings, one.sim.quantity.units))
            readers[name] = _reader(values, one.grid)
        return readers

    def _check_steps(self, name: str, read: Reader) -> None:
        sim = self.series[name].sim
        dates = sim.time.dates[self.steps]
        block = max(1, _CHECK_BYTES // (4 * sim.grid.areas.size))
        for start in range(0, len(dates), block):
            part = slice(start, min(start + block, len(dates)))
            empty = np.isnan(read(part)).all(axis=(1, 2))
            if empty.any():
                raise InputError(
                    f"{cf.describe_paths(sim.paths)}: bias adjustment left no value of "
                    f"{sim.source_name} at {dates[part][empty][0].isoformat()}; choose other steps "
                    "with --time, or give more of --historical and --reference"
                )


@dataclass(frozen=True, eq=False)
class Averages:
    """Means of a prior's coarse cells over larger ones, by the valid fine cells in each.

    Attributes:
        weights: from the coarse cells to the larger ones.
        share: of each coarse cell that valid fine cells fill, shape (ny, nx).
    """

    weights: regrid.Weights
    share: npt.NDArray[np.float64]

    @classmethod
    def between(cls, prior: Prior, variable: Variable, coarse: Grid, grid: Grid) -> Averages:
        """Of one variable of a prior."""
        channel = [v.name for v in prior.card.variables].index(variable.name)
        fine = regrid.weights(prior.card.grid, coarse, "conservative")
        valid = fine.apply(prior.mask[channel].astype(np.float64))
        return cls(regrid.weights(coarse, grid, "conservative"), np.nan_to_num(valid))

    def apply(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """As A_low has it of fine fields, shape (time, *grid.shape), NaN where under half is known.

        Args:
            values: shape (time, ny, nx).
        """
        known = np.isfinite(values)
        valid = self.weights.apply(np.where(known, self.share, 0.0))
        total = self.weights.apply(np.where(known, self.share * np.nan_to_num(values), 0.0))
        enough = valid > 0.5 * self.weights.apply(self.share)
        means = np.where(enough, total / np.where(enough, valid, 1.0), np.nan)
        return np.asarray(means, dtype=np.float32)


def plan_adjustment(
    prior: Prior,
    inputs: Sequence[cf.Location],
    fields: Mapping[str, cf.Field],
    grid: Grid,
    config: RunConfig,
) -> Adjustment:
    """Open what the adjustment needs, and decide its details.

    Args:
        inputs: files of the input; all their steps take part in the adjustment.
        fields: the input that the run samples.
        grid: on which the input guides.
        config: whose `reference` is empty to take the quantiles that the prior carries.

    Raises:
        InputError, GridError, PriorError, ConfigError: of what cannot be used.
    """
    # Quantiles do not tell those of means over larger cells: these are taken of adjusted values.
    working = grid if config.reference else prior.card.coarse_grid
    guided = [variable for variable in prior.card.variables if variable.name in fields]
    series = {v.name: _open(prior, v, inputs, working, config) for v in guided}
    for one in series.values():
        if config.adjustment == "qdm":  # transport says so itself
            check_months(one.sim, shared_months(one), config.qdm.group)
    name = next(iter(series))
    dates = fields[name].time.dates
    first = int(np.flatnonzero(series[name].sim.time.dates == dates[0])[0])
    settings = {}
    if config.adjustment == "qdm":
        settings = {name: choose_settings(one, config.qdm) for name, one in series.items()}
    averages = {}
    if working.digest != grid.digest:
        averages = {v.name: Averages.between(prior, v, working, grid) for v in guided}
    return Adjustment(config, series, settings, slice(first, first + len(dates)), averages)


def _open(
    prior: Prior, variable: Variable, inputs: Sequence[cf.Location], grid: Grid, config: RunConfig
) -> Series:
    wanted, select = matching.quantity(variable), dict(config.select)
    hist = open_period(config.historical, wanted, config.historical_period, select)
    sim = cf.open_field(inputs, wanted, select=select)
    if not config.reference:
        ref = prior_climatology(prior, variable, variable.units)
        return Series(ref, brought(hist, grid), brought(sim, grid))
    observed = open_period(config.reference, wanted, config.reference_period, select)
    observed = brought(observed, grid, min_coverage=REF_COVERAGE)
    return Series(observed, brought(hist, grid), brought(sim, grid))


def identity(adjustment: Adjustment) -> dict[str, Any]:
    """Everything about the adjustment that decides the result, as JSON values."""
    config = adjustment.config
    return {
        "bias": adjustment.method,
        "bias_options": asdict(config.qdm if config.adjustment == "qdm" else config.ot),
        "historical": _fingerprints(config.historical),
        "historical_period": config.historical_period,
        "reference": _fingerprints(config.reference),
        "reference_period": config.reference_period,
    }


def _fingerprints(names: Sequence[str]) -> list[list[str]]:
    return [[path.name, files.file_fingerprint(path)] for path in cf.expand_paths(names)]


def _reader(values: Scratch, grid: Grid) -> Reader:
    return lambda part: values.read_times(part.start, part.stop).reshape(-1, *grid.shape)


def _later(read: Reader, first: int) -> Reader:
    """Steps counted from another first one."""
    return lambda part: read(slice(part.start + first, part.stop + first))


def _report(name: str, lines: Sequence[str]) -> None:
    for line in lines:
        log.info("%s: %s", name, line)
