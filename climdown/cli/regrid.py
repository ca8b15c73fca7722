"""`climdown regrid`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from climdown.cli.console import log, out

if TYPE_CHECKING:
    from climdown.regrid import Backend, Method


def regrid(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="NetCDF file.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="File to write.", show_default=False)
    ],
    grid: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="Target: a spacing in degrees, a box WEST,EAST,SOUTH,NORTH,SPACING, rNXxNY "
            "(global, as CDO has it), a NetCDF file, or a prior's name with :fine or :coarse.",
            show_default=False,
        ),
    ],
    method: Annotated[
        str,
        typer.Option(
            metavar="conservative|bilinear|nearest", help="How values move to the new cells."
        ),
    ] = "conservative",
    backend: Annotated[
        str,
        typer.Option(
            metavar="auto|native|xesmf",
            help="Who builds the weights: auto is native (exact), but for bilinear from "
            "curvilinear grids where esmpy is installed.",
        ),
    ] = "auto",
    min_coverage: Annotated[
        float,
        typer.Option(help="Cells of which a smaller share is covered by valid input are missing."),
    ] = 1e-6,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT.")] = False,
) -> None:
    """Regrid a file: rectilinear, curvilinear or unstructured, to a rectilinear grid.

    Every variable with latitude and longitude is regridded, with all its other dimensions; time,
    levels, scalar coordinates, bounds and attributes are kept. Missing values count for nothing:
    a cell's value is the mean of its valid part.
    """
    from climdown.inputs.targets import named_grid
    from climdown.regrid import file

    command = shlex.join(["climdown", *sys.argv[1:]])
    for report in file.regrid_file(
        source,
        output,
        target=named_grid(grid),
        method=cast("Method", method),
        backend=cast("Backend", backend),
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
