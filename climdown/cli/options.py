"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from climdown.cli.console import log, out
from climdown.errors import ConfigError

SimAndOut = Annotated[
    list[str],
    typer.Argument(
        metavar="SIM... OUT",
        help="Files of the simulation to adjust, or quoted patterns, then the file to write.",
        show_default=False,
    ),
]
WorkingGrid = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC", help="Grid to work on, as of `climdown regrid`. (default: SIM's own)"
    ),
]
Period = Annotated[str | None, typer.Option(metavar="START/END")]
WrittenPeriod = Annotated[
    str | None,
    typer.Option(metavar="START/END", help="Part of SIM to write; all of it counts."),
]
Selection = Annotated[
    list[str] | None,
    typer.Option(metavar="DIM=LABEL", help="Entry of a further dimension: realization=3."),
]
Device = Annotated[str, typer.Option(metavar="cpu|cuda", help="Where to compute.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")]


def split_sim_and_out(files: list[str]) -> tuple[list[str], str]:
    """Inputs and output of a command of bias adjustment.

    Raises:
        ConfigError: fewer than two.
    """
    if len(files) < 2:
        raise ConfigError("expected at least one SIM and then OUT")
    return files[:-1], files[-1]


def print_adjusted(output: object, lines: tuple[str, ...]) -> None:
    """What was done, to the log; the file's name, to standard output."""
    for line in lines:
        log.info("%s", line)
    out.print(str(output), highlight=False, markup=False)


def parse_selection(entries: list[str] | None) -> tuple[tuple[str, str], ...]:
    """("DIM=LABEL", ...) as pairs.

    Raises:
        ConfigError: an entry has no "=", or a dimension occurs twice.
    """
    pairs = []
    for entry in entries or []:
        dimension, equals, label = entry.partition("=")
        if not (dimension and equals and label):
            raise ConfigError(f"--select is '{entry}'; expected DIM=LABEL, like realization=3")
        pairs.append((dimension, label))
    if len({dimension for dimension, _ in pairs}) < len(pairs):
        raise ConfigError("--select names a dimension twice")
    return tuple(pairs)
