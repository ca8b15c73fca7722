"""What every written file has: axes with bounds, compressed variables, a place when whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import netCDF4
import numpy as np

from climdown import cf
from climdown.arrays import Float64
from climdown.grid import Grid

FILL_VALUE = np.float32(1e20)
CRS = "crs"
# Latitudes and longitudes without a datum are of no use to GIS: WGS 84, by CF's appendix F.
_WGS84 = {
    "grid_mapping_name": "latitude_longitude",
    "long_name": "WGS 84",
    "longitude_of_prime_meridian": 0.0,
    "semi_major_axis": 6378137.0,
    "inverse_flattening": 298.257223563,
    "crs_wkt": (
        'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,'
        'AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,'
        'AUTHORITY["EPSG","8901"]],UNIT["degree",0.0174532925199433,'
        'AUTHORITY["EPSG","9122"]],AXIS["Latitude",NORTH],AXIS["Longitude",EAST],'
        'AUTHORITY["EPSG","4326"]]'
    ),
}
# Calendars of which CF-1.11 asks whether they count leap seconds; no input says.
_LEAP_SECONDS = ("standard", "gregorian", "proleptic_gregorian", "julian")
# The types of numbers that CF had before its version 1.9.
_CLASSIC = ("i1", "i2", "i4", "f4", "f8")
CHUNK_BYTES = 4 << 20  # what CMIP data requests ask for, uncompressed


@dataclass(frozen=True)
class OutputVariable:
    """A variable of an output file and its CF attributes."""

    name: str
    attributes: Mapping[str, Any]


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


def classic_type(kind: np.dtype[Any]) -> np.dtype[Any]:
    """The type to write numbers in: CF-1.8 knows no 64-bit or unsigned integers, but double."""
    return kind if kind.str[1:] in _CLASSIC else np.dtype("f8")


def _add_time(file: netCDF4.Dataset, time: cf.TimeAxis) -> None:
    # An unlimited axis would be chunked one value at a time.
    steps = max(len(time), 1)
    kind = classic_type(time.values.dtype)
    variable = file.createVariable("time", kind, ("time",), chunksizes=(steps,))
    attributes = {"standard_name": "time", "long_name": "time", "axis": "T"}
    variable.setncatts({**attributes, "units": time.units, "calendar": time.calendar})
    if time.calendar in _LEAP_SECONDS:
        variable.units_metadata = "leap_seconds: unknown"
    variable[:] = time.values
    if time.bounds is not None:
        variable.bounds = "time_bnds"
        kind = classic_type(time.bounds.dtype)
        bounds = file.createVariable("time_bnds", kind, ("time", "bnds"), chunksizes=(steps, 2))
        bounds[:] = time.bounds


def add_horizontal(file: netCDF4.Dataset, grid: Grid) -> None:
    """Add latitude and longitude of a grid, degrees, with their bounds."""
    pair = "bnds"
    if pair not in file.dimensions:
        file.createDimension(pair, 2)
    elif file.dimensions[pair].size != 2:
        pair = "bnds_horizontal"
        file.createDimension(pair, 2)
    file.createVariable(CRS, "i4", ()).setncatts(_WGS84)
    for name, centres, edges, words in (
        ("lat", grid.lat, grid.lat_edges, ("latitude", "degrees_north", "Y")),
        ("lon", grid.lon, grid.lon_edges, ("longitude", "degrees_east", "X")),
    ):
        file.createDimension(name, centres.size)
        _add_axis(file, name, centres, None if grid.point else edges, *words, pair)


def _add_axis(
    file: netCDF4.Dataset,
    name: str,
    centres: Float64,
    edges: Float64 | None,
    standard_name: str,
    units: str,
    axis: str,
    pair: str,
) -> None:
    variable = file.createVariable(name, "f8", (name,))
    attributes = {"standard_name": standard_name, "long_name": standard_name, "units": units}
    variable.setncatts({**attributes, "axis": axis})
    variable[:] = centres
    if edges is None:
        return
    variable.bounds = f"{name}_bnds"
    bounds = file.createVariable(f"{name}_bnds", "f8", (name, pair))
    bounds[:] = np.stack([edges[:-1], edges[1:]], axis=1)


def add_variable(
    file: netCDF4.Dataset, variable: OutputVariable, dimensions: tuple[str, ...], steps: int
) -> netCDF4.Variable[Any]:
    """Add a variable of fields in single precision, in chunks of so many time steps."""
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
    """Add a variable that is compressed without loss; missing values are `FILL_VALUE`.

    Args:
        chunks: length along each dimension.
        kind: single or double precision.
    """
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
    mapped = {"grid_mapping": CRS} if {"lat", "lon"} <= set(dimensions) else {}
    target.setncatts({**variable.attributes, **mapped, "missing_value": fill})
    return target


def chunk_steps(grid: Grid, time: cf.TimeAxis) -> int:
    """Time steps per chunk: at least 4 MiB, or all there are."""
    field_bytes = 4 * grid.lat.size * grid.lon.size
    return max(1, min(len(time), -(-CHUNK_BYTES // field_bytes)))
