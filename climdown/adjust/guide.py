"""The bias adjustment of a run: the input on the grid where it guides, adjusted before it does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from climdown import cf, matching, stream
from climdown.adjust.blocks import Settings, adjust_series, choose_settings
from climdown.adjust.engine import open_engine
from climdown.adjust.inputs import (
    REF_COVERAGE,
    Series,
    check_months,
    open_reference,
    prior_climatology,
)
from climdown.adjust.ot import describe, transport_series
from climdown.config import OTConfig, QDMConfig
from climdown.errors import ConfigError, InputError
from climdown.grid import Grid
from climdown.priors.card import Prior

log = logging.getLogger(__name__)

Reader = Callable[[slice], npt.NDArray[np.float32]]
"""Values of a block of time steps on the filter grid, shape (time, ny, nx)."""


@dataclass(frozen=True, eq=False)
class Adjustment:
    """The bias adjustment of a run, checked; nothing has been computed yet.

    Attributes:
        series: by variable, on the filter grid, in the prior's units; the simulation is all of the
            input, so that what a run samples does not change how it is adjusted.
        first: step of the input that the run begins with.
        settings: of quantile delta mapping, by variable; empty for transport.
    """

    series: Mapping[str, Series]
    settings: Mapping[str, Settings]
    transport: OTConfig | None
    first: int

    def describe(self) -> str:
        """One line for people and for the output."""
        if self.transport is not None:
            return describe(self.transport)
        return "; ".join(f"{name}: {s.describe()}" for name, s in self.settings.items())

    def readers(self, stack: ExitStack, scratch: Path, device: str) -> dict[str, Reader]:
        """Adjust all of the input, and give functions that read the result.

        Args:
            stack: keeps scratch files until it is left.
            scratch: path that their names begin with.
        """
        if self.transport is not None:
            arrays, lines = transport_series(
                list(self.series.values()), self.transport, device=device
            )
            _report("optimal transport", lines)
            return {
                name: self._reader(one, _of_array(arrays[one.sim.source_name]))
                for name, one in self.series.items()
            }
        engine = stack.enter_context(open_engine(device=device))
        readers = {}
        for name, one in self.series.items():
            values, report = adjust_series(
                one,
                self.settings[name],
                stack=stack,
                scratch=Path(f"{scratch}.{name}"),
                engine=engine,
            )
            _report(name, report.lines(self.settings[name], one.sim.quantity.units))
            readers[name] = self._reader(one, _of_scratch(values, one.grid))
        return readers

    def _reader(self, series: Series, read: Reader) -> Reader:
        """Steps counted from the first one of the run; none may have lost all its values.

        Raises:
            InputError: a step has no adjusted value: nothing would guide it.
        """

        def shifted(part: slice) -> npt.NDArray[np.float32]:
            part = slice(part.start + self.first, part.stop + self.first)
            values = read(part)
            empty = np.isnan(values).all(axis=(1, 2))
            if empty.any():
                date = series.sim.time.dates[part][empty][0].isoformat()
                raise InputError(
                    f"{cf.describe_paths(series.sim.paths)}: bias adjustment left no value of "
                    f"{series.sim.source_name} at {date}; choose other steps with --time, or more "
                    "historical and reference data"
                )
            return values

        return shifted


def plan_adjustment(
    prior: Prior,
    inputs: Sequence[Path],
    fields: Mapping[str, cf.Field],
    grid: Grid,
    *,
    method: str,
    historical: Sequence[str],
    reference: Sequence[str],
    historical_period: str | None,
    reference_period: str | None,
    select: Mapping[str, str],
    qdm: QDMConfig,
    ot: OTConfig,
) -> Adjustment:
    """Open what the adjustment needs, and decide its details.

    Args:
        inputs: files of the input; all their steps take part in the adjustment.
        fields: the input that the run samples.
        method: "qdm" or "ot".
        historical: files of the input's model in the reference's period.
        reference: files of observations; empty takes the quantiles that the prior carries.

    Raises:
        ConfigError: something is missing that the method needs.
        InputError, GridError, PriorError: of what cannot be used.
    """
    if not historical:
        raise ConfigError(
            f"--bias {method} needs the same model in the reference's period; give --historical"
        )
    if method == "ot" and not reference:
        raise ConfigError(
            f"--bias ot needs whole days of observations, and prior {prior.card.name} carries "
            "quantiles only (its data's licence may not allow more); give --reference"
        )
    series = {}
    for variable in prior.card.variables:
        if variable.name not in fields:
            continue
        wanted = matching.quantity(variable)
        hist = cf.open_field(historical, wanted, select=select)
        hist = hist.isel(hist.time.select(historical_period))
        ref = (
            open_reference(reference, wanted, reference_period)
            if reference
            else prior_climatology(prior, wanted)
        )
        if isinstance(ref, cf.Field):
            ref = matching.onto(ref, grid, min_coverage=REF_COVERAGE)
        sim = cf.open_field(inputs, wanted, select=select)
        series[variable.name] = Series(ref, matching.onto(hist, grid), matching.onto(sim, grid))
        check_months(series[variable.name])
    some = next(iter(series))
    begin = fields[some].time.dates[0]
    first = int(np.flatnonzero(series[some].sim.time.dates == begin)[0])
    if method == "ot":
        return Adjustment(series, {}, ot, first)
    settings = {name: choose_settings(one, qdm) for name, one in series.items()}
    return Adjustment(series, settings, None, first)


def identity(adjustment: Adjustment, historical: Sequence[str], reference: Sequence[str]) -> Any:
    """Everything about the adjustment that decides the result, as JSON values."""
    files = [*cf.expand_paths(historical)]
    if reference and all(Path(name).exists() or "*" in name for name in reference):
        files += cf.expand_paths(reference)
    return {
        "description": adjustment.describe(),
        "files": {path.name: stream.file_fingerprint(path) for path in files},
        "reference": list(reference),
    }


def _report(name: str, lines: Sequence[str]) -> None:
    for line in lines:
        log.info("%s: %s", name, line)


def _of_array(values: npt.NDArray[np.float32]) -> Reader:
    return lambda part: values[part]


def _of_scratch(values: Any, grid: Grid) -> Reader:
    return lambda part: values.read_times(part.start, part.stop).reshape(-1, *grid.shape)
