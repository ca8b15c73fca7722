"""Options that several commands share, and the panels of the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from climdown.cli.console import log, out
from climdown.errors import ConfigError

INPUT = "Input"
METHOD = "Method"
ENSEMBLE = "Ensemble"
BIAS = "Bias adjustment"
COMPUTING = "Computing"
OUTPUT = "Output"


def input_files(text: str, *, panel: str = INPUT, default: str | None = None) -> Any:
    """Files of one kind, one at a time."""
    return typer.Option(
        metavar="FILE",
        help=f"{text} May be repeated.",
        show_default=default or False,
        rich_help_panel=panel,
    )


def period(text: str, *, panel: str = INPUT) -> Any:
    """A period, of which a year, a month or a day may be an end."""
    return typer.Option(metavar="START/END", help=text, show_default="all", rich_help_panel=panel)


def cache_folder(*, panel: str) -> Any:
    """The folder of fetched priors."""
    return typer.Option(
        metavar="DIR",
        help="Folder of fetched priors.",
        show_default="huggingface_hub's cache, see HF_HOME",
        rich_help_panel=panel,
    )


def whole_number(text: str, *, panel: str, **settings: Any) -> Any:
    """A number of things."""
    return typer.Option(metavar="N", help=text, rich_help_panel=panel, **settings)


def flag(name: str, text: str, *, panel: str) -> Any:
    """What is off unless it is named."""
    return typer.Option(name, help=text, rich_help_panel=panel)


SimAndOut = Annotated[
    list[str],
    typer.Argument(
        metavar="SIM... OUT",
        help="Files of the simulation to adjust, or quoted patterns, then the file to write.",
        show_default=False,
        rich_help_panel=INPUT,
    ),
]
SAME_MODEL = "The same model in the reference's period: files."
WorkingGrid = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="Grid to work on, as of `climdown regrid`.",
        show_default="SIM's own",
        rich_help_panel=METHOD,
    ),
]
RefPeriod = Annotated[str | None, period("Part of --ref to use: 1971/2000.")]
HistPeriod = Annotated[str | None, period("Part of --hist to use: 1971/2000.")]
WrittenPeriod = Annotated[
    str | None, period("Part of SIM to write, while all of it counts.", panel=OUTPUT)
]
Selection = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DIM=LABEL",
        help="Entry of a further dimension, as realization=3. May be repeated.",
        rich_help_panel=INPUT,
    ),
]
_DEVICE = typer.Option(help="Where to compute.", rich_help_panel=COMPUTING)
Device = Annotated[Literal["cpu", "cuda"], _DEVICE]
AnyDevice = Annotated[Literal["auto", "cpu", "cuda"], _DEVICE]
Seed = Annotated[int, whole_number("Same seed, same members.", panel=ENSEMBLE)]
CacheDir = Annotated[Path | None, cache_folder(panel=INPUT)]
Overwrite = Annotated[bool, flag("--overwrite", "Replace the output.", panel=OUTPUT)]


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
