"""`climdown inspect`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from climdown.cli.console import out
from climdown.cli.help import examples
from climdown.cli.parameters import INPUT, OUTPUT, flag
from climdown.errors import ClimdownError

if TYPE_CHECKING:
    from climdown.cf import Location, Sources
    from climdown.inputs.inspection import VariableReport
    from climdown.priors.prior import Prior

EXAMPLES = examples(
    "climdown inspect tas.nc",
    "climdown inspect 'tas_*.nc' --no-priors",
    "climdown inspect tas.nc --json | jq .variables",
)
_WIDE = 10_000


def inspect(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="NetCDF files or quoted patterns.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ],
    priors: Annotated[
        bool,
        typer.Option(
            help="Say what each bundled prior would make of each file.", rich_help_panel=OUTPUT
        ),
    ] = True,
    as_json: Annotated[
        bool, flag("--json", "Print one JSON object per file, one per line.", panel=OUTPUT)
    ] = False,
) -> None:
    """Show what climdown understands of NetCDF files.

    Variables, grid, calendar, frequency, gaps, range, suspicious values, and what each bundled
    prior would make of each file.
    """
    from climdown import cf
    from climdown.inputs import inspection

    bundled = _bundled() if priors else {}
    for path in cf.expand_paths(files):
        sources = inspection.open_local(path)
        reports = inspection.inspect_sources(sources)
        verdicts = {name: _verdict(prior, sources) for name, prior in bundled.items()}
        sources.close()
        if as_json:
            entry: dict[str, Any] = {
                "file": str(path),
                "variables": [report.to_dict() for report in reports],
                "priors": verdicts,
            }
            out.file.write(json.dumps(entry, allow_nan=False) + "\n")
        else:
            # Off a terminal nothing is lost by long lines, and much by folded ones.
            console = out if out.is_terminal else Console(file=out.file, width=_WIDE)
            console.print(_table(path, reports, verdicts), highlight=False, markup=False)


def _table(path: Location, reports: list[VariableReport], verdicts: dict[str, str]) -> Table:
    table = Table(title=str(path), show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    if not reports:
        table.add_row("variables", "none with latitude and longitude")
    for report in reports:
        for label, text in report.rows():
            table.add_row(Text(label), Text(text))
        table.add_section()
    for name, verdict in verdicts.items():
        table.add_row(Text(f"prior {name}"), Text(verdict))
    return table


def _bundled() -> dict[str, Prior | ClimdownError]:
    """The bundled priors by name, or why one cannot be read."""
    from climdown.priors.store import bundled_names, load_prior

    bundled: dict[str, Prior | ClimdownError] = {}
    for name in bundled_names():
        try:
            bundled[name] = load_prior(name)
        except ClimdownError as error:
            bundled[name] = error
    return bundled


def _verdict(prior: Prior | ClimdownError, sources: Sources) -> str:
    """What a bundled prior would make of a file."""
    from climdown.inputs import matching

    if isinstance(prior, ClimdownError):
        return f"cannot be read: {prior}"
    try:
        fields = matching.match(prior, sources, None).region
    except ClimdownError as error:
        return f"does not fit: {str(error).removeprefix(f'{sources.paths[0]}: ')}"
    free = [v.name for v in prior.card.variables if v.name not in fields]
    unguided = f"; free: {', '.join(free)}" if free else ""
    return f"fits: guided by {', '.join(fields)}{unguided}"
