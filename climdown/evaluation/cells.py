"""The cells on which all are judged, and fields on them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from climdown.arrays import Index, Mask
from climdown.errors import GridError
from climdown.evaluation.ensembles import Ensemble
from climdown.evaluation.request import Request
from climdown.grid import Grid
from climdown.inputs.onto import regridded_to
from climdown.inputs.targets import target_grid

# Degrees by which the centres of one cell may differ between files.
_TOLERANCE = 1e-3


def common_grid(request: Request, outputs: Mapping[str, Ensemble], reference: Ensemble) -> Grid:
    """The cells on which all are judged: those that all have, or those that were asked for.

    Raises:
        GridError: none lies in the region, or cells are not those of a rectilinear grid.
        ConfigError: a grid that cannot be read.
    """
    first, *others = outputs.values()
    named = {"reference": reference, "output": first}.get(request.grid or "output")
    grid = named.first.grid if named else target_grid(str(request.grid), first.first.cells)
    if request.region is not None:
        grid = _in_region(grid, request.region)
    if request.grid is None:
        for other in (reference, *others):
            grid = _overlap(grid, other.first.grid)
    return grid


def onto(ensemble: Ensemble, grid: Grid, *, regridded: bool) -> Ensemble:
    """An ensemble on the cells that are judged, regridded only where that was asked for.

    Raises:
        GridError: it does not touch them, or has other cells.
    """
    if regridded:
        return ensemble.map(lambda field: regridded_to(field, grid))
    cut = ensemble.map(lambda field: field.crop(grid))
    if not cut.first.grid.matches(grid):
        raise GridError(
            f"{ensemble.where} has other cells ({ensemble.first.cells.describe()}) than what it is "
            f"compared with ({grid.describe()}); give --grid reference, --grid output or another "
            "grid to judge all on"
        )
    return cut


def _in_region(grid: Grid, region: tuple[float, float, float, float]) -> Grid:
    """The cells of a grid whose centres lie in a box of west, east, south, north."""
    west, east, south, north = region
    span = (east - west) % 360.0 or 360.0
    rows = (grid.lat >= south) & (grid.lat <= north)
    columns = np.mod(grid.lon - west, 360.0) <= span
    part = _part(grid, rows, columns)
    if part is None:
        raise GridError(
            f"{grid.describe()} has no cells in the region {west:g},{east:g},{south:g},{north:g} "
            "(west, east, south, north), or a gap in it"
        )
    return part


def _overlap(grid: Grid, other: Grid) -> Grid:
    """The part of a grid that another covers with the same cells; all of it if they differ."""
    rows = np.abs(grid.lat[:, None] - other.lat[None]).min(axis=1) < _TOLERANCE
    turned = (grid.lon[:, None] - other.lon[None] + 180.0) % 360.0 - 180.0
    columns = np.abs(turned).min(axis=1) < _TOLERANCE
    return _part(grid, rows, columns) or grid


def _part(grid: Grid, rows: Mask, columns: Mask) -> Grid | None:
    """Neighbouring rows and columns of a grid, also across its seam; None if there is a gap."""
    lat, lon = _stretches(rows), _stretches(columns)
    if len(lat) != 1:
        return None
    if len(lon) == 1:
        return grid.isel(lat[0], lon[0])
    if len(lon) != 2 or not (grid.periodic and columns[0] and columns[-1]):
        return None
    west, east = grid.isel(lat[0], lon[1]), grid.isel(lat[0], lon[0])
    return Grid(
        west.lat,
        np.concatenate([west.lon, east.lon + 360.0]),
        west.lat_edges,
        np.concatenate([west.lon_edges, east.lon_edges[1:] + 360.0]),
    )


def _stretches(chosen: Mask) -> list[slice]:
    """Runs of neighbours that are chosen."""
    places: Index = np.flatnonzero(chosen)
    if not places.size:
        return []
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return [slice(int(run[0]), int(run[-1]) + 1) for run in runs]
