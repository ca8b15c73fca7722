"""`climdown plot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
import typer
from rich.columns import Columns
from rich.text import Text

from climdown.cli.console import log, out
from climdown.cli.help import examples
from climdown.cli.parameters import INPUT, OUTPUT, Overwrite, Selection, parse_selection
from climdown.cli.printable import printable
from climdown.errors import ConfigError

if TYPE_CHECKING:
    from climdown.evaluation.quicklook import Look
    from climdown.plots.quicklook import Panel

EXAMPLES = examples(
    "climdown plot out.nc",
    "climdown plot out.nc --variable pr --time 1996-12-11 -o pr.png",
    "climdown plot out.nc --member 3",
)
_FORMS = ("png", "svg", "pdf")
_WIDEST = 56  # columns of a map


def plot(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="NetCDF files or quoted patterns: of one series, or of members.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ],
    variable: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Variable.", show_default="the first", rich_help_panel=INPUT
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Date, or the first step of a month or year.",
            show_default="the most varied of some steps",
            rich_help_panel=INPUT,
        ),
    ] = None,
    member: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Member, counted from 1.",
            show_default="the first four, mean and spread",
            rich_help_panel=INPUT,
        ),
    ] = None,
    select: Selection = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Picture to write: .png, .svg or .pdf.",
            show_default="a map in the terminal",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Look at one step of a file: members, their mean and spread, or the field.

    Reads any CF file, of climdown or not, on any cells. Without -o the maps are drawn in the
    terminal, in colours where it has them, and in plain characters where they are piped.
    """
    from climdown.evaluation.quicklook import look

    form = None if output is None else _form(output)
    seen = look(
        files, variable=variable, time=time, member=member, select=dict(parse_selection(select))
    )
    for line in seen.chosen:
        log.info("%s", line)
    if output is None or form is None:
        _print(seen)
    else:
        _write(seen, output, form, files, overwrite=overwrite)


def _form(output: Path) -> Literal["png", "svg", "pdf"]:
    form = output.suffix.lower().removeprefix(".")
    if form not in _FORMS:
        raise ConfigError(
            f"the output is {output}; expected a name that ends in .png, .svg or .pdf"
        )
    return cast("Literal['png', 'svg', 'pdf']", form)


def _write(
    seen: Look,
    output: Path,
    form: Literal["png", "svg", "pdf"],
    files: list[str],
    *,
    overwrite: bool,
) -> None:
    from climdown.files import owned, placed
    from climdown.plots.quicklook import draw

    with owned(output, files, overwrite=overwrite), placed(output) as temporary:
        temporary.write_bytes(draw(seen.panels, title=seen.title, form=form))
    out.print(str(output), highlight=False, markup=False)


def _print(seen: Look) -> None:
    """Maps as text: in colours side by side, or in characters one below the other."""
    from climdown.plots.quicklook import limits

    out.print(printable(seen.title), highlight=False, markup=False)
    maps = []
    for panel in _in_short(seen.panels):
        ends = limits(seen.panels, panel.scale)
        if out.is_terminal and out.color_system is not None:
            maps.append(_coloured(panel, ends))
        else:
            maps.append(_plain(panel, ends))
    if out.is_terminal:
        out.print(Columns(maps, padding=(0, 3)), soft_wrap=False)
    else:
        for one in maps:
            out.print(one)


def _in_short(panels: tuple[Panel, ...]) -> list[Panel]:
    """One member, mean and spread: a terminal has little room."""
    return list(panels) if len(panels) == 1 else [panels[0], *panels[-2:]]


def _columns() -> int:
    return max(8, min(_WIDEST, out.width - 2)) if out.is_terminal else _WIDEST


def _coloured(panel: Panel, ends: tuple[float, float]) -> Text:
    """Two values in each character, its upper and its lower half."""
    from climdown.plots.quicklook import colours, raster

    values = raster(panel, _columns(), per_square=1.0)
    if len(values) % 2:
        values = np.concatenate([values, np.full((1, values.shape[1]), np.nan)])
    known, tints = np.isfinite(values), colours(values, ends, panel.scale)
    text = Text(f"{printable(panel.title)}\n", no_wrap=True)
    for row in range(0, len(values), 2):
        for x in range(values.shape[1]):
            upper, lower = (
                f"rgb({','.join(map(str, tints[y, x]))})" if known[y, x] else None
                for y in (row, row + 1)
            )
            text.append(*_half_blocks(upper, lower))
        text.append("\n")
    bar = colours(np.linspace(*ends, 20), ends, panel.scale)
    text.append(f"{ends[0]:.3g} ")
    for tint in bar:
        text.append("█", f"rgb({','.join(map(str, tint))})")
    text.append(f" {ends[1]:.3g} {printable(panel.units)}")
    return text


def _half_blocks(upper: str | None, lower: str | None) -> tuple[str, str]:
    """A character and its style for two colours, one above the other; None shows nothing."""
    if upper is None:
        return (" ", "") if lower is None else ("▄", lower)
    return "▀", upper if lower is None else f"{upper} on {lower}"


def _plain(panel: Panel, ends: tuple[float, float]) -> Text:
    from climdown.plots.quicklook import characters, raster

    lines = characters(raster(panel, _columns(), per_square=0.5), ends)
    ramp = characters(np.linspace(*ends, 9)[None], ends)[0]
    scale = f"{ends[0]:.3g} {ramp} {ends[1]:.3g} {panel.units}; blank: no value"
    return Text("\n".join([panel.title, *lines, scale]), no_wrap=True)
