"""`climdown demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from climdown.cli.console import log, out, progress_bar
from climdown.cli.help import examples
from climdown.cli.parameters import ENSEMBLE, INPUT, OUTPUT, Seed, whole_number

EXAMPLES = examples("climdown demo", "climdown demo --folder demo --days 3 --members 2")


def demo(
    days: Annotated[int, whole_number("Days to downscale.", panel=INPUT, min=2)] = 6,
    members: Annotated[int, whole_number("Members to draw.", panel=ENSEMBLE, min=2)] = 4,
    seed: Seed = 0,
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to write.", rich_help_panel=OUTPUT)
    ] = Path(),
) -> None:
    """Downscale a pseudo-GCM drawn from the bundled prior, offline, and compare with the truth."""
    from climdown.demo import run_demo

    with progress_bar("fields") as bar:
        result = run_demo(
            folder,
            days=days,
            members=members,
            seed=seed,
            progress=lambda done, total: bar(done, total, ""),
        )
    log.info("the pseudo-GCM is %s", result.bias)
    table = Table(
        "variable", "measure", "bilinear", "climdown", title="error against the hidden truth"
    )
    for row in result.scores:
        table.add_row(row.variable, row.measure, f"{row.bilinear:.2f}", f"{row.climdown:.2f}")
    out.print(table, highlight=False)
    out.print(f"input:   {result.input}\noutput:  {result.output}\npicture: {result.picture}")
    out.print(
        "\nOn a file of your own (tas or pr over Iberia, December to February):\n"
        "  climdown inspect tas.nc\n"
        f"  climdown run --method zssd --members {members} tas.nc out.nc",
        highlight=False,
        markup=False,
    )
