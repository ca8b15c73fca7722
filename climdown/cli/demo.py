"""`climdown demo`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from climdown.cli.console import log, out, progress_bar
from climdown.cli.help import examples
from climdown.cli.parameters import ENSEMBLE, INPUT, OUTPUT, Seed, whole_number

if TYPE_CHECKING:
    from climdown.evaluation.evaluate import Evaluation

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
    for row in _rows(result.evaluation):
        table.add_row(*row)
    out.print(table, highlight=False)
    out.print(
        f"input:  {result.input}\noutput: {result.output}\ntruth:  {result.truth}\n"
        f"report: {result.report}",
        highlight=False,
        markup=False,
    )
    out.print(
        "\nOn a file of your own (tas or pr over Iberia, December to February):\n"
        "  climdown inspect tas.nc\n"
        f"  climdown run --method zssd --members {members} tas.nc out.nc",
        highlight=False,
        markup=False,
    )


def _rows(evaluation: Evaluation) -> Iterator[tuple[str, str, str, str]]:
    """Errors by variable, of interpolation and of climdown."""
    values = {(one.variable, one.measure, one.output): one for one in evaluation.scores}
    for name, scene in evaluation.plan.scenes.items():
        for measure, title in (("mae", "mean absolute error"), ("crps", "CRPS (fair)")):
            plain, ours = (values[name, measure, one].value for one in ("bilinear", "climdown"))
            yield f"{name} ({scene.units})", title, f"{plain:.2f}", f"{ours:.2f}"
