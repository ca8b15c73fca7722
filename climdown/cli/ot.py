"""`climdown ot`."""

from __future__ import annotations

from typing import Annotated

import typer

from climdown.adjust.options import OTOptions
from climdown.cli.console import command_line
from climdown.cli.declared import with_options
from climdown.cli.help import examples
from climdown.cli.parameters import (
    INPUT,
    METHOD,
    SAME_MODEL,
    Device,
    HistPeriod,
    Overwrite,
    RefPeriod,
    Selection,
    SimAndOut,
    WorkingGrid,
    WrittenPeriod,
    input_files,
    parse_selection,
    print_adjusted,
    split_sim_and_out,
)

EXAMPLES = examples(
    "climdown ot --ref obs.nc --hist hist.nc ssp585.nc adjusted.nc",
    "climdown ot --ref obs.nc --hist hist.nc ssp585.nc adjusted.nc --eofs 0.95",
)


@with_options(OTOptions, panel=METHOD)
def ot(
    sim: SimAndOut,
    ref: Annotated[list[str], input_files("Observations or reanalysis: files.")],
    hist: Annotated[list[str], input_files(SAME_MODEL)],
    variable: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Variable in SIM; all that are named are adjusted together. May be repeated.",
            show_default="all",
            rich_help_panel=INPUT,
        ),
    ] = None,
    ref_period: RefPeriod = None,
    hist_period: HistPeriod = None,
    select: Selection = None,
    *,
    options: OTOptions,
    grid: WorkingGrid = None,
    device: Device = "cpu",
    time: WrittenPeriod = None,
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
        command=command_line(),
    )
    print_adjusted(summary.output, summary.lines)
