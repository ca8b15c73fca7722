"""`climdown inspect`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from climdown.cli.console import out


def inspect(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="NetCDF files or quoted patterns.", show_default=False
        ),
    ],
) -> None:
    """Show what climdown understands of NetCDF files: variables, grid, calendar, gaps, range."""
    from climdown import cf, inspection

    for path in cf.expand_paths(files):
        table = Table("", "", title=str(path), show_header=False, title_justify="left")
        for report in inspection.describe_file(path):
            for label, text in report:
                table.add_row(label, text)
            table.add_section()
        out.print(table, highlight=False, markup=False)
