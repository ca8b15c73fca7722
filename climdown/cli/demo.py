"""`climdown demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from climdown.cli.console import log, out, progress_bar


def demo(
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path(),
    days: Annotated[int, typer.Option(help="Days to downscale.", min=2)] = 6,
    members: Annotated[int, typer.Option(help="Size of the ensemble.", min=2)] = 4,
    seed: Annotated[int, typer.Option(help="Same seed, same fields.")] = 0,
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
