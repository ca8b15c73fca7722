"""`climdown inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from climdown.cli.console import out
from climdown.errors import ClimdownError

if TYPE_CHECKING:
    from climdown.inspection import VariableReport


def inspect(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="NetCDF files or quoted patterns.", show_default=False
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per file, one per line.")
    ] = False,
    priors: Annotated[
        bool, typer.Option(help="Say what each bundled prior would make of each file.")
    ] = True,
) -> None:
    """Show what climdown understands of NetCDF files.

    Variables, grid, calendar, frequency, gaps, range, suspicious values, and what each bundled
    prior would make of each file.
    """
    from climdown import cf, inspection

    for path in cf.expand_paths(files):
        reports = inspection.inspect_file(path)
        verdicts = _verdicts(path) if priors else {}
        if as_json:
            entry: dict[str, Any] = {
                "file": str(path),
                "variables": [report.to_dict() for report in reports],
                "priors": verdicts,
            }
            out.file.write(json.dumps(entry, allow_nan=False) + "\n")
        else:
            out.print(_table(path, reports, verdicts), highlight=False, markup=False)


def _table(path: Path, reports: list[VariableReport], verdicts: dict[str, str]) -> Table:
    table = Table("", "", title=str(path), show_header=False, title_justify="left")
    if not reports:
        table.add_row("variables", "none with latitude and longitude")
    for report in reports:
        for label, text in report.rows():
            table.add_row(label, text)
        table.add_section()
    for name, verdict in verdicts.items():
        table.add_row(f"prior {name}", verdict)
    return table


def _verdicts(path: Path) -> dict[str, str]:
    """What each bundled prior would make of a file."""
    from climdown import matching
    from climdown.priors.store import bundled_names, load_prior

    verdicts = {}
    for name in bundled_names():
        try:
            prior = load_prior(name)
            fields = matching.match(prior, [path], None)
            free = [v.name for v in prior.card.variables if v.name not in fields]
            verdicts[name] = f"fits: guided by {', '.join(fields)}" + (
                f"; free: {', '.join(free)}" if free else ""
            )
        except ClimdownError as error:
            verdicts[name] = f"does not fit: {str(error).removeprefix(f'{path}: ')}"
    return verdicts
