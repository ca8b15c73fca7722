"""`climdown qdm`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from climdown.adjust.options import QDMOptions
from climdown.cli.console import command_line, progress_bar
from climdown.cli.declared import with_options
from climdown.cli.help import examples
from climdown.cli.parameters import (
    COMPUTING,
    INPUT,
    METHOD,
    OUTPUT,
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
    "climdown qdm --ref obs.nc --hist hist.nc ssp585.nc adjusted.nc",
    "climdown qdm --ref eobs-iberia-zssd --hist hist.nc ssp585.nc adjusted.nc",
    "climdown qdm --ref obs.nc --hist hist.nc ssp585.nc adjusted.nc --years 31",
)


@with_options(QDMOptions, panel=METHOD)
def qdm(
    sim: SimAndOut,
    ref: Annotated[
        list[str] | None,
        input_files("Observations or reanalysis: files, or a prior's name."),
    ] = None,
    hist: Annotated[list[str] | None, input_files(SAME_MODEL)] = None,
    variable: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Variable in SIM.",
            show_default="the only one",
            rich_help_panel=INPUT,
        ),
    ] = None,
    ref_period: RefPeriod = None,
    hist_period: HistPeriod = None,
    select: Selection = None,
    load_map: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="Apply a kept map; no --ref, no --hist.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    *,
    options: QDMOptions,
    grid: WorkingGrid = None,
    device: Device = "cpu",
    scheduler_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Let the workers of a Dask cluster do the work.",
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    time: WrittenPeriod = None,
    save_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the trained map.", rich_help_panel=OUTPUT),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Adjust a simulation to observations by quantile delta mapping (Cannon et al. 2015).

    The model's own change in every quantile is kept. Calendars may differ, series may hold
    seasons only. Precipitation: days below the dry threshold count as dry, ratios are bounded.
    """
    from climdown.adjust.qdm import qdm_file

    inputs, output = split_sim_and_out(sim)
    with progress_bar("blocks") as bar:
        summary = qdm_file(
            inputs,
            output,
            ref=ref,
            hist=hist,
            options=options,
            variable=variable,
            grid=grid,
            ref_period=ref_period,
            hist_period=hist_period,
            period=time,
            select=dict(parse_selection(select)),
            load_map=load_map,
            save_map=save_map,
            scheduler=scheduler_address,
            device=device,
            overwrite=overwrite,
            command=command_line(),
            progress=lambda done, total: bar(done, total, ""),
        )
    print_adjusted(summary.output, summary.lines)
