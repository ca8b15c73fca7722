"""`climdown regrid`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from climdown.cli.console import command_line, log, out
from climdown.cli.help import examples
from climdown.cli.parameters import INPUT, METHOD, OUTPUT, Overwrite

EXAMPLES = examples(
    "climdown regrid in.nc out.nc --grid 0.5",
    "climdown regrid in.nc out.nc --grid -10,5,35,45,0.25 --method bilinear",
    "climdown regrid in.nc out.nc --grid eobs-iberia-zssd:coarse",
)


def regrid(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="NetCDF file.", show_default=False, rich_help_panel=INPUT
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT", help="File to write.", show_default=False, rich_help_panel=OUTPUT
        ),
    ],
    grid: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="Target: a spacing in degrees, a box WEST,EAST,SOUTH,NORTH,SPACING, rNXxNY "
            "(global, as CDO has it), a NetCDF file, or a prior's name with :fine or :coarse.",
            show_default=False,
            rich_help_panel=METHOD,
        ),
    ],
    method: Annotated[
        Literal["conservative", "bilinear", "nearest"],
        typer.Option(help="How values move to the new cells.", rich_help_panel=METHOD),
    ] = "conservative",
    backend: Annotated[
        Literal["auto", "native", "xesmf"],
        typer.Option(
            help="Who builds the weights. auto: native (exact), but xesmf for bilinear from "
            "curvilinear grids where esmpy is installed (conda-forge has it, pip has not).",
            rich_help_panel=METHOD,
        ),
    ] = "auto",
    min_coverage: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Cells of which less is covered by valid input are missing: 0 to 1.",
            rich_help_panel=METHOD,
        ),
    ] = 1e-6,
    overwrite: Overwrite = False,
) -> None:
    """Regrid a file: rectilinear, curvilinear or unstructured, to a rectilinear grid.

    Every variable with latitude and longitude is regridded, with all its other dimensions; time,
    levels, scalar coordinates, bounds and attributes are kept. Missing values count for nothing:
    a cell's value is the mean of its valid part.
    """
    from climdown.inputs.targets import named_grid
    from climdown.regrid import file

    command = command_line()
    for report in file.regrid_file(
        source,
        output,
        target=named_grid(grid),
        method=method,
        backend=backend,
        min_coverage=min_coverage,
        overwrite=overwrite,
        command=command,
    ):
        log.info(
            "%s: %s; weights %s, %.1f %% of the target's cells covered",
            report.name,
            report.source,
            report.backend,
            100 * report.covered,
        )
    out.print(str(output), highlight=False, markup=False)
