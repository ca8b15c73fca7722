"""Quantile maps as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from climdown.arrays import Float64, Floats
from climdown.files import placed
from climdown.grid import Grid
from climdown.stream.writing import OutputVariable, add_compressed, add_horizontal


@contextmanager
def map_writer(
    path: Path,
    *,
    grid: Grid,
    nodes: Float64,
    groups: int,
    variables: Mapping[str, Mapping[str, Any]],
    attributes: Mapping[str, Any],
) -> Iterator[Callable[[slice, Mapping[str, Floats]], None]]:
    """Write quantiles of each group and cell, atomically, a block of cells at a time.

    Args:
        nodes: probabilities of the quantiles.
        variables: names with their attributes, of dimensions (lat, lon, group, quantile).

    Yields:
        a function of a slice of flat cells and, by name, arrays of (groups, nodes, width).
    """
    with placed(path) as temporary, netCDF4.Dataset(temporary, "w", format="NETCDF4") as file:
        file.setncatts(dict(attributes))
        add_horizontal(file, grid)
        file.createDimension("group", groups)
        file.createDimension("quantile", nodes.size)
        probability = file.createVariable("quantile", "f8", ("quantile",))
        probability.setncatts({"long_name": "probability of the quantile", "units": "1"})
        probability[:] = nodes
        dimensions = ("lat", "lon", "group", "quantile")
        chunks = (1, min(grid.lon.size, 16), groups, nodes.size)
        targets = {
            name: add_compressed(file, OutputVariable(name, entries), dimensions, chunks)
            for name, entries in variables.items()
        }

        def write(cells: slice, arrays: Mapping[str, Floats]) -> None:
            for y, columns, part in rows_of(cells, grid.lon.size):
                for name, values in arrays.items():
                    moved = np.moveaxis(values[..., part], -1, 0)
                    targets[name][y, columns] = np.ma.masked_invalid(moved)

        yield write


def rows_of(cells: slice, width: int) -> Iterator[tuple[int, slice, slice]]:
    """A run of flat cells, row by row: the row, its columns, and their place in the run."""
    start = cells.start
    while start < cells.stop:
        y, x = divmod(start, width)
        stop = min(cells.stop, (y + 1) * width)
        yield y, slice(x, x + stop - start), slice(start - cells.start, stop - cells.start)
        start = stop
