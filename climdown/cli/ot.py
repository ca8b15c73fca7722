"""`climdown ot`."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from climdown.adjust.options import OTOptions
from climdown.cli.declared import with_options
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


@with_options(OTOptions, panel="Method")
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
    *,
    options: OTOptions,
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
