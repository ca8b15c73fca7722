"""Fields on another grid, as a run or an adjustment needs them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from climdown import cf, regrid
from climdown.errors import GridError
from climdown.grid import Grid


def regridded_to(field: cf.Field, grid: Grid, *, min_coverage: float = 0.5) -> cf.Field:
    """A field on another grid, lazily; of a larger file only what is needed is read.

    Raises:
        GridError: the two do not touch, or the field's cells cannot be regridded.
    """
    if isinstance(field.cells, Grid) and field.cells.point and grid.point:
        return _at(field, field.cells, grid)
    if isinstance(field.cells, Grid) and not grid.periodic:
        try:
            same = field.crop(grid)
            field = same if same.grid.digest == grid.digest else field.crop(_wider(grid, field))
        except GridError:
            pass  # the next step knows better what is wrong
    return onto(field, grid, min_coverage=min_coverage)


def _at(field: cf.Field, place: Grid, grid: Grid) -> cf.Field:
    """A field of one place as one of the same place; equal points need no cells."""
    if not place.is_at(grid):
        raise GridError(
            f"{field.where} is of "
            f"{place.describe()}; expected {grid.describe()}: give files of the same point, or "
            "bounds of latitude and longitude to average over cells"
        )
    return replace(field, cells=grid)


def _wider(grid: Grid, field: cf.Field) -> Grid:
    """One cell as large as a grid, and as what interpolation to its rim needs around it."""
    margin = 2.0 * max(grid.spacing, field.grid.spacing)
    south, north = max(grid.lat_edges[0] - margin, -90.0), min(grid.lat_edges[-1] + margin, 90.0)
    west, east = grid.lon_edges[0] - margin, grid.lon_edges[-1] + margin
    if south == -90.0 or north == 90.0 or east > west + 360.0:
        east = west + 360.0  # all meridians meet at a pole
    lat, lon = np.array([south, north]), np.array([west, east])
    return Grid(lat.mean(keepdims=True), lon.mean(keepdims=True), lat, lon)


def onto(field: cf.Field, grid: Grid, *, min_coverage: float = 0.5) -> cf.Field:
    """A field on another grid, lazily: averaged onto coarser cells, interpolated to finer ones.

    Raises:
        GridError: the two do not touch, or the field's cells cannot be regridded.
    """
    if field.cells.digest == grid.digest:
        return field
    weights = weights_onto(field, grid)
    return field.regridded(grid, lambda values: weights.apply(values, min_coverage=min_coverage))


def weights_onto(field: cf.Field, grid: Grid) -> regrid.Weights:
    """The weights of `onto`, with its errors."""
    cells, where = field.cells, cf.describe_paths(field.paths)
    has_corners = isinstance(cells, Grid) or cells.lat_vertices is not None
    # Cells of about the same size are averaged: values then move by overlap, and none is made up.
    averaged = has_corners and cells.spacing < 1.5 * grid.spacing
    try:
        weights = regrid.weights(cells, grid, "conservative" if averaged else "bilinear")
    except GridError as error:
        raise GridError(f"{where}: {error}") from None
    if not weights.coverage.any():
        raise GridError(
            f"{where}: the grid ({cells.describe()}) does not touch the region ({grid.describe()})"
        )
    return weights
