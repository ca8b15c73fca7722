"""`climdown evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from climdown.cli.console import out, progress_bar
from climdown.cli.help import examples
from climdown.cli.parameters import INPUT, OUTPUT, input_files, period

EXAMPLES = examples(
    "climdown evaluate out.nc --reference obs.nc",
    "climdown evaluate zssd=out1.nc cm=out2.nc --reference obs.nc --input gcm.nc",
)


def evaluate(
    outputs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FILE...",
            help="Outputs to judge, of climdown or others; patterns are quoted.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ],
    reference: Annotated[list[str], input_files("Observations or reanalysis to judge by.")] = [],  # noqa: B006
    given: Annotated[
        list[str], typer.Option("--input", metavar="FILE", help="What they were made from.")
    ] = [],  # noqa: B006
    grid: Annotated[str | None, typer.Option(metavar="SPEC", help="Grid.")] = None,
    time: Annotated[str | None, period("The period to judge.")] = None,
    states: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the sums there.", rich_help_panel=OUTPUT),
    ] = None,
) -> None:
    """Judge ensembles by observations: scores, maps, and a verdict in plain words."""
    from climdown.evaluation.evaluate import evaluate as judge
    from climdown.evaluation.request import Request

    named = {}
    for word in outputs:
        name, _, path = word.rpartition("=")
        named[name or Path(path).stem] = (path,)
    request = Request(
        outputs=named, reference=tuple(reference), input=tuple(given), grid=grid, period=time
    )
    with progress_bar("units") as bar:
        result = judge(request, states or Path(".evaluation"), progress=lambda d, t: bar(d, t, ""))
    if result is None:
        return
    for score in result.scores:
        out.print(score)
