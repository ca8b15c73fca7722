"""The bias adjustments that a run can apply to its input, in one shape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from climdown.adjust.agreement import agree
from climdown.adjust.blocks import NEEDS, adjust_series
from climdown.adjust.days import FEWEST
from climdown.adjust.options import OTOptions, QDMOptions
from climdown.adjust.ot import describe, transport_series, with_years
from climdown.adjust.series import Series
from climdown.adjust.settings import Settings, choose_settings
from climdown.adjust.shared_days import SharedDays
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

    def samples(self) -> Sequence[str]:
        """Sentences on reference, historical simulation and simulation, for the output."""
        return ()

    def needs(self) -> str:
        """Of how many values a value needs to be adjusted, for a message."""
        return "it needs values in reference, historical simulation and simulation"

    def apply(
        self, wanted: Collection[str], *, folder: Path, device: str
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
    """Attributes: by variable, how it is adjusted, and the days of its series that count."""

    settings: Mapping[str, Settings]
    shared: Mapping[str, SharedDays]
    of_samples: tuple[str, ...]

    def samples(self) -> Sequence[str]:
        """See `Decided`."""
        return self.of_samples

    def describe(self) -> str:
        """See `Decided`."""
        return "; ".join(f"{name}: {one.describe()}" for name, one in self.settings.items())

    def needs(self) -> str:
        """See `Decided`."""
        return NEEDS

    def apply(
        self, wanted: Collection[str], *, folder: Path, device: str
    ) -> Iterator[tuple[str, Reader]]:
        """See `Decided`."""
        with open_engine(device=device) as engine:
            for name in wanted:
                shared, settings = self.shared[name], self.settings[name]
                (one,) = shared.series
                with ExitStack() as stack:
                    values, report = adjust_series(
                        one, settings, stack=stack, scratch=folder, engine=engine
                    )
                    _log(name, report.lines(settings, one.sim, one.sim.source_units))
                    yield name, _reader(values, shared)


class QDM(Adjustment):
    """Quantile delta mapping, cell by cell."""

    Options = QDMOptions

    def decide(self, series: Mapping[str, Series], options: QDMOptions) -> _DecidedQDM:
        """See `Adjustment`."""
        settings, shared = {}, {}
        lines: list[str] = []
        for name, one in series.items():
            shared[name], samples = agree([one], options.group, ranked=options.ranks == "sim")
            _log(name, samples)
            lines += samples
            settings[name] = choose_settings(shared[name].series[0], options)
        return _DecidedQDM(settings, shared, tuple(dict.fromkeys(lines)))


@dataclass(frozen=True)
class _DecidedOT(Decided):
    """Attributes: the names of the variables, in the order of the series of the days that count."""

    options: OTOptions
    names: tuple[str, ...]
    shared: SharedDays
    of_samples: tuple[str, ...]

    def samples(self) -> Sequence[str]:
        """See `Decided`."""
        return self.of_samples

    def describe(self) -> str:
        """See `Decided`."""
        return describe(self.options)

    def needs(self) -> str:
        """See `Decided`."""
        return (
            f"each group needs at least {FEWEST} days in reference and historical simulation, and "
            "a day values of all variables in all cells that are seldom missing"
        )

    def apply(
        self, wanted: Collection[str], *, folder: Path, device: str
    ) -> Iterator[tuple[str, Reader]]:
        """See `Decided`."""
        del folder  # all of it is in memory
        try:
            adjusted, lines = transport_series(self.shared, self.options, device=device)
        except ConvergenceError as error:
            raise ConvergenceError(
                f"{error}; `climdown ot` has options for these, and its output needs no --bias"
            ) from None
        _log("optimal transport", lines)
        for name, values in zip(self.names, adjusted, strict=True):
            if name in wanted:
                yield name, values.__getitem__


class OT(Adjustment):
    """Entropic optimal transport of all variables and cells together."""

    Options = OTOptions

    def decide(self, series: Mapping[str, Series], options: OTOptions) -> _DecidedOT:
        """See `Adjustment`; the transport checks complete days when it reads them."""
        shared, samples = agree(list(series.values()), options.group, ranked=False)
        _log("optimal transport", samples)
        options = with_years(options, next(iter(series.values())).sim)
        return _DecidedOT(options, tuple(series), shared, tuple(samples))


_ADJUSTMENTS: tuple[Adjustment, ...] = (QDM(), OT())
ADJUSTMENTS: Mapping[str, Adjustment] = {one.Options.adjustment: one for one in _ADJUSTMENTS}


def _reader(values: Scratch, shared: SharedDays) -> Reader:
    def read(block: slice) -> Float32:
        return values.read_times(block.start, block.stop)

    return lambda part: shared.spread(read, part)


def _log(name: str, lines: Sequence[str]) -> None:
    for line in lines:
        log.info("%s: %s", name, line)
