"""What every written file has: axes with bounds, compressed variables, a place when whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import netCDF4
import numpy as np
import numpy.typing as npt

from climdown import cf
from climdown.errors import OutputError
from climdown.grid import Grid

FILL_VALUE = np.float32(1e20)
CHUNK_BYTES = 4 << 20  # what CMIP data requests ask for, uncompressed


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists or whose folder does not.

    Raises:
        OutputError: says which, and the remedy.
    """
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists already; give --overwrite to replace it")
    if output.is_dir():
        raise OutputError(f"{output} is a folder; expected the name of a NetCDF file")
    if not output.resolve().parent.is_dir():
        raise OutputError(f"the folder {output.resolve().parent} of the output does not exist")


@dataclass(frozen=True)
class OutputVariable:
    """A variable of an output file and its CF attributes."""

    name: str
    attributes: Mapping[str, Any]


@contextmanager
def placed(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder, renamed when all went well, else removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # The netCDF library reports a full disk as a RuntimeError.
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot write {path}: {reason}") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def create(path: Path, grid: Grid, time: cf.TimeAxis) -> Iterator[netCDF4.Dataset]:
    """A new file with its axes and their bounds."""
    file = netCDF4.Dataset(path, "w", format="NETCDF4")
    try:
        file.createDimension("time", None)
        file.createDimension("bnds", 2)
        _add_time(file, time)
        add_horizontal(file, grid)
        yield file
    finally:
        file.close()


def _add_time(file: netCDF4.Dataset, time: cf.TimeAxis) -> None:
    # An unlimited axis would be chunked one value at a time.
    steps = max(len(time), 1)
    variable = file.createVariable("time", time.values.dtype, ("time",), chunksizes=(steps,))
    attributes = {"standard_name": "time", "long_name": "time", "axis": "T"}
    variable.setncatts({**attributes, "units": time.units, "calendar": time.calendar})
    variable[:] = time.values
    if time.bounds is not None:
        variable.bounds = "time_bnds"
        kind = time.bounds.dtype
        bounds = file.createVariable("time_bnds", kind, ("time", "bnds"), chunksizes=(steps, 2))
        bounds[:] = time.bounds


def add_horizontal(file: netCDF4.Dataset, grid: Grid) -> None:
    pair = "bnds"
    if pair not in file.dimensions:
        file.createDimension(pair, 2)
    elif file.dimensions[pair].size != 2:
        pair = "bnds_horizontal"
        file.createDimension(pair, 2)
    for name, centres, edges, words in (
        ("lat", grid.lat, grid.lat_edges, ("latitude", "degrees_north", "Y")),
        ("lon", grid.lon, grid.lon_edges, ("longitude", "degrees_east", "X")),
    ):
        file.createDimension(name, centres.size)
        _add_axis(file, name, centres, edges, *words, pair)


def _add_axis(
    file: netCDF4.Dataset,
    name: str,
    centres: npt.NDArray[np.float64],
    edges: npt.NDArray[np.float64],
    standard_name: str,
    units: str,
    axis: str,
    pair: str,
) -> None:
    variable = file.createVariable(name, "f8", (name,))
    attributes = {"standard_name": standard_name, "long_name": standard_name, "units": units}
    variable.setncatts({**attributes, "axis": axis, "bounds": f"{name}_bnds"})
    variable[:] = centres
    bounds = file.createVariable(f"{name}_bnds", "f8", (name, pair))
    bounds[:] = np.stack([edges[:-1], edges[1:]], axis=1)


def add_variable(
    file: netCDF4.Dataset, variable: OutputVariable, dimensions: tuple[str, ...], steps: int
) -> netCDF4.Variable[Any]:
    sizes = {"time": steps, "realization": 1}
    chunks = tuple(sizes.get(name, file.dimensions[name].size) for name in dimensions)
    return add_compressed(file, variable, dimensions, chunks)


def add_compressed(
    file: netCDF4.Dataset,
    variable: OutputVariable,
    dimensions: tuple[str, ...],
    chunks: tuple[int, ...],
    kind: Literal["f4", "f8"] = "f4",
) -> netCDF4.Variable[Any]:
    target = file.createVariable(
        variable.name,
        kind,
        dimensions,
        compression="zlib",
        complevel=4,
        shuffle=True,
        fill_value=np.dtype(kind).type(FILL_VALUE),
        chunksizes=chunks,
    )
    fill = np.dtype(kind).type(FILL_VALUE)
    target.setncatts({**variable.attributes, "missing_value": fill})
    return target


def chunk_steps(grid: Grid, time: cf.TimeAxis) -> int:
    """Time steps per chunk: at least 4 MiB, or all there are."""
    field_bytes = 4 * grid.lat.size * grid.lon.size
    return max(1, min(len(time), -(-CHUNK_BYTES // field_bytes)))
