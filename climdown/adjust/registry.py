"""The bias adjustments that a run can apply to its input, in one shape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from climdown.adjust.agreement import agree
from climdown.adjust.blocks import adjust_series
from climdown.adjust.options import OTOptions, QDMOptions
from climdown.adjust.ot import describe, transport_series
from climdown.adjust.series import Series
from climdown.adjust.settings import Settings, choose_settings
from climdown.adjust.shared_days import SharedDays, share_days
from climdown.arrays import Float32
from climdown.bias.scratch import Scratch
from climdown.compute.engine import open_engine
from climdown.errors import ConvergenceError

log = logging.getLogger(__name__)

Reader = Callable[[slice], Float32]
"""Values of a block of time steps, shape (time, ny, nx)."""


class Decided(Protocol):
    """A bias adjustment with every choice made; nothing has been computed yet."""

    def describe(self) -> str:
        """The adjustment and its options, one line for people and for the output."""

    def apply(
        self, series: Mapping[str, Series], wanted: Collection[str], *, folder: Path, device: str
    ) -> Iterator[tuple[str, Reader]]:
        """Adjust all steps of the simulation, variable by variable.

        Args:
            wanted: variables whose values are asked for; no others are given.
            folder: for scratch files.

        Yields:
            a variable's name, and its adjusted values while the next has not been asked for.
        """


class Adjustment(Protocol):
    """A bias adjustment.

    Attributes:
        Options: what it declares, see `adjust.options`.
    """

    Options: ClassVar[Any]

    def decide(self, series: Mapping[str, Series], options: Any) -> Decided:
        """Check the series of each variable, and decide all details.

        Raises:
            InputError, ConfigError: of what cannot be used.
        """


@dataclass(frozen=True)
class _DecidedQDM(Decided):
    settings: Mapping[str, Settings]

    def describe(self) -> str:
        """See `Decided`."""
        return "; ".join(f"{name}: {one.describe()}" for name, one in self.settings.items())

    def apply(
        self, series: Mapping[str, Series], wanted: Collection[str], *, folder: Path, device: str
    ) -> Iterator[tuple[str, Reader]]:
        """See `Decided`."""
        with open_engine(device=device) as engine:
            for name in wanted:
                one, settings = series[name], self.settings[name]
                with ExitStack() as stack:
                    shared = share_days([one], settings.grouping.kind)
                    values, report = adjust_series(
                        shared.series[0], settings, stack=stack, scratch=folder, engine=engine
                    )
                    _log(name, report.lines(settings, one.sim, one.sim.source_units))
                    yield name, _reader(values, shared)


class QDM(Adjustment):
    """Quantile delta mapping, cell by cell."""

    Options = QDMOptions

    def decide(self, series: Mapping[str, Series], options: QDMOptions) -> _DecidedQDM:
        """See `Adjustment`."""
        settings = {}
        for name, one in series.items():
            shared, samples = agree([one], options.group, ranked=options.ranks == "sim")
            _log(name, samples)
            settings[name] = choose_settings(shared.series[0], options)
        return _DecidedQDM(settings)


@dataclass(frozen=True)
class _DecidedOT(Decided):
    options: OTOptions

    def describe(self) -> str:
        """See `Decided`."""
        return describe(self.options)

    def apply(
        self, series: Mapping[str, Series], wanted: Collection[str], *, folder: Path, device: str
    ) -> Iterator[tuple[str, Reader]]:
        """See `Decided`."""
        del folder  # all of it is in memory
        try:
            adjusted, lines = transport_series(list(series.values()), self.options, device=device)
        except ConvergenceError as error:
            raise ConvergenceError(
                f"{error}; `climdown ot` has options for these, and its output needs no --bias"
            ) from None
        _log("optimal transport", lines)
        for name, values in zip(series, adjusted, strict=True):
            if name in wanted:
                yield name, values.__getitem__


class OT(Adjustment):
    """Entropic optimal transport of all variables and cells together."""

    Options = OTOptions

    def decide(self, series: Mapping[str, Series], options: OTOptions) -> _DecidedOT:
        """See `Adjustment`; the transport checks complete days when it reads them."""
        _, samples = agree(list(series.values()), options.group, ranked=False)
        _log("optimal transport", samples)
        return _DecidedOT(options)


_ADJUSTMENTS: tuple[Adjustment, ...] = (QDM(), OT())
ADJUSTMENTS: Mapping[str, Adjustment] = {one.Options.adjustment: one for one in _ADJUSTMENTS}


def _reader(values: Scratch, shared: SharedDays) -> Reader:
    def read(block: slice) -> Float32:
        return values.read_times(block.start, block.stop)

    return lambda part: shared.spread(read, part)


def _log(name: str, lines: Sequence[str]) -> None:
    for line in lines:
        log.info("%s: %s", name, line)
