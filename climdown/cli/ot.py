"""`climdown ot`."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, Any, cast

import typer

from climdown.adjust.options import OTOptions
from climdown.cli.options import (
    Device,
    Overwrite,
    Period,
    Selection,
    SimAndOut,
    WorkingGrid,
    WrittenPeriod,
    parse_selection,
    print_adjusted,
    split_sim_and_out,
)


def ot(
    sim: SimAndOut,
    ref: Annotated[
        list[str],
        typer.Option(
            help="Observations or reanalysis: files. May be repeated.", show_default=False
        ),
    ],
    hist: Annotated[
        list[str],
        typer.Option(
            help="The same model in the reference's period. May be repeated.", show_default=False
        ),
    ],
    variable: Annotated[
        list[str] | None,
        typer.Option(help="Variables in SIM, adjusted together. (default: all)"),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="Regularisation, as a fraction of the mean squared distance. "
            "(default: chosen on years held out)"
        ),
    ] = None,
    eofs: Annotated[
        float | None,
        typer.Option(
            help="Transport within leading EOFs: their share of the variance (0.95) or their "
            "number (40). (default: all columns)"
        ),
    ] = None,
    group: Annotated[
        str, typer.Option(metavar="none|season|month", help="Days transported together.")
    ] = "season",
    keep_change: Annotated[
        bool, typer.Option(help="Keep the simulation's mean change against HIST.")
    ] = True,
    years: Annotated[
        int | None,
        typer.Option(
            help="Take that change for each decade from so many years around it. "
            "(default: all of SIM is one period)"
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest marginal error of the plan.")] = 1e-3,
    max_iterations: Annotated[int, typer.Option(help="When to give up.")] = 5000,
    grid: WorkingGrid = None,
    ref_period: Period = None,
    hist_period: Period = None,
    time: WrittenPeriod = None,
    select: Selection = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Adjust variables and cells together by entropic optimal transport (Wan et al. 2023).

    Whole days of the model are moved onto days like the observed ones, so that variables and
    neighbours go together as observed. Works on coarse fields, all of them in memory.
    """
    from climdown.adjust.ot import ot_file

    inputs, output = split_sim_and_out(sim)
    options = OTOptions(
        epsilon=epsilon,
        eofs=eofs,
        group=cast(Any, group),
        keep_change=keep_change,
        years=years,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    summary = ot_file(
        inputs,
        output,
        ref=ref,
        hist=hist,
        options=options,
        variables=variable or (),
        grid=grid,
        ref_period=ref_period,
        hist_period=hist_period,
        period=time,
        select=dict(parse_selection(select)),
        device=device,
        overwrite=overwrite,
        command=shlex.join(["climdown", *sys.argv[1:]]),
    )
    print_adjusted(summary.output, summary.lines)
