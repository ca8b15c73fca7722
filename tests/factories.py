"""Synthetic CF data for the tests: small, exact, known at every place and time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

from climdown.cf import Field, Quantity
from climdown.grid import Grid

Floats = npt.NDArray[np.float64]
# Values at (latitude, longitude, step), the first two as broadcast arrays in degrees.
Wave = Callable[[Floats, Floats, int], Floats]

TAS = Quantity(
    name="tas", standard_names=("air_temperature",), names=("tas", "t2m", "2t"), units="K"
)
PR = Quantity(
    name="pr",
    standard_names=("precipitation_flux", "lwe_precipitation_rate"),
    names=("pr", "tp", "rr"),
    units="mm day-1",
)
PSL = Quantity(
    name="psl",
    standard_names=("air_pressure_at_mean_sea_level", "air_pressure_at_sea_level"),
    names=("psl", "msl"),
    units="Pa",
)

# One rounding to float32 in the file and one on reading, with room for the unit conversion.
FLOAT32_RTOL = 4e-7


def wave(lat: Floats, lon: Floats, step: int) -> Floats:
    """A temperature in K that knows its place and time, and no longitude convention."""
    turn = np.radians(lon)
    bumps = 3.0 * np.sin(turn) + 2.0 * np.cos(2.0 * turn)
    return np.asarray(260.0 + 0.3 * lat + bumps + 0.1 * step, dtype=np.float64)


def truth(grid: Grid, steps: Sequence[int], values: Wave = wave) -> Floats:
    """What a field made by `make_dataset` holds on `grid` at some steps."""
    lat, lon = grid.lat[:, None], grid.lon[None, :]
    return np.stack([values(lat, lon, step) for step in steps])


def assert_holds_truth(field: Field, *, first_step: int = 0) -> None:
    """The field holds the factory's wave at every cell and step of its own grid and time."""
    steps = range(first_step, first_step + len(field.time))
    values = field.read(slice(None))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, truth(field.grid, steps), rtol=FLOAT32_RTOL)


def make_dataset(
    *,
    path: Path | None = None,
    name: str = "tas",
    standard_name: str | None = "air_temperature",
    units: str | None = "K",
    attributes: Mapping[str, str] | None = None,
    others: Mapping[str, Mapping[str, str]] | None = None,
    lat: npt.ArrayLike = (40.0, 42.5, 45.0, 47.5),
    lon: npt.ArrayLike = (0.0, 2.5, 5.0, 7.5, 10.0),
    lat_name: str = "lat",
    lon_name: str = "lon",
    bounds: bool = False,
    times: Sequence[float] = (0.5, 1.5, 2.5),
    time_units: str = "days since 2001-01-01",
    calendar: str = "standard",
    time_dtype: npt.DTypeLike = np.float64,
    first_step: int = 0,
    values: Wave = wave,
    missing: npt.NDArray[np.bool_] | None = None,
    height: float | None = None,
) -> xr.Dataset:
    """Build a CF dataset, with encoded (undecoded) times, and write it if `path` is given.

    Args:
        path: where to write NetCDF.
        attributes: further attributes of the variable.
        others: names and attributes of further variables, with the same values.
        lat, lon: in file order and in the file's own convention.
        bounds: whether to write cell bounds half-way between centres, and days as time bounds.
        times: encoded, in `time_units` of `calendar`; stored as `time_dtype`.
        first_step: the number of the first time step, handed to `values`.
        missing: mask of shape (lat, lon), True where every step is missing.
        height: a scalar height coordinate, in m.
    """
    y, x = np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
    steps = range(first_step, first_step + len(times))
    data = np.stack([values(y[:, None], x[None, :], step) for step in steps])
    if missing is not None:
        data = np.where(missing, np.nan, data)
    own = {"standard_name": standard_name, "units": units, **(attributes or {})}
    coordinates: dict[str, Any] = {
        "time": (
            "time",
            np.asarray(times, dtype=time_dtype),
            {"standard_name": "time", "units": time_units, "calendar": calendar, "axis": "T"},
        ),
        lat_name: (lat_name, y, {"standard_name": "latitude", "units": "degrees_north"}),
        lon_name: (lon_name, x, {"standard_name": "longitude", "units": "degrees_east"}),
    }
    if height is not None:
        coordinates["height"] = ((), height, {"standard_name": "height", "units": "m"})
    dimensions = ("time", lat_name, lon_name)
    entries: dict[str, Mapping[str, str | None]] = {name: own, **(others or {})}
    variables: dict[str, Any] = {
        key: (
            dimensions,
            data.astype(np.float32),
            {k: v for k, v in entry.items() if v is not None},
        )
        for key, entry in entries.items()
    }
    if bounds:
        stamps = np.floor(np.asarray(times, dtype=np.float64))
        variables["time_bnds"] = (("time", "bnds"), np.stack([stamps, stamps + 1.0], axis=1))
        variables["lat_bnds"] = ((lat_name, "bnds"), np.clip(_bounds(y), -90.0, 90.0))
        variables["lon_bnds"] = ((lon_name, "bnds"), _bounds(x))
        for axis, variable in (
            ("time", "time_bnds"),
            (lat_name, "lat_bnds"),
            (lon_name, "lon_bnds"),
        ):
            coordinates[axis][2]["bounds"] = variable
    dataset = xr.Dataset(variables, coordinates, {"Conventions": "CF-1.8", "source": "synthetic"})
    if path is not None:
        fills: dict[str, float | None] = {str(key): None for key in dataset.variables}
        fills.update(dict.fromkeys(entries, 1e20))
        encoding = {key: {"_FillValue": fill} for key, fill in fills.items()}
        dataset.to_netcdf(path, encoding=encoding)
    return dataset


def along(
    dataset: xr.Dataset,
    dimension: str,
    labels: npt.ArrayLike | None,
    *,
    size: int | None = None,
    attributes: Mapping[str, str] | None = None,
    shift: float = 10.0,
) -> xr.Dataset:
    """The variables of (time, lat, lon) with a further dimension, entry i higher by i * shift.

    Without `labels` the dimension has `size` entries and no coordinate.
    """
    coordinate = None if labels is None else np.asarray(labels)
    count = size or (0 if coordinate is None else coordinate.size)
    result = dataset.copy()
    for name, array in dataset.data_vars.items():
        if array.ndim == 3:
            entries = [array + i * shift for i in range(count)]
            result[name] = xr.concat(entries, dim=dimension).transpose("time", dimension, ...)
            result[name].attrs = array.attrs
    if coordinate is None:
        return result
    return result.assign_coords({dimension: (dimension, coordinate, attributes or {})})


def gaussian_grid(ny: int) -> Grid:
    """A global Gaussian grid of `ny` latitudes whose edges hold exactly the quadrature weights."""
    sines, quadrature = np.polynomial.legendre.leggauss(ny)
    edges = np.clip(np.concatenate([[-1.0], np.cumsum(quadrature) - 1.0]), -1.0, 1.0)
    edges[-1] = 1.0
    lon = 360.0 / (2 * ny) * np.arange(2 * ny)
    return Grid.from_centres(
        np.degrees(np.arcsin(sines)), lon, lat_edges=np.degrees(np.arcsin(edges))
    )


def shared_data() -> Path:
    """The folder of real data sets; the calling test is skipped where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CLIMDOWN_SHARED_DATA") or default)
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set CLIMDOWN_SHARED_DATA to their folder")
    return folder


def _bounds(centres: Floats) -> Floats:
    inner = 0.5 * (centres[:-1] + centres[1:])
    first, last = 1.5 * centres[0] - 0.5 * centres[1], 1.5 * centres[-1] - 0.5 * centres[-2]
    edges = np.concatenate([[first], inner, [last]])
    return np.stack([edges[:-1], edges[1:]], axis=1)


def write_damaged(path: Path) -> None:
    """A file whose header and coordinates are whole, and whose compressed values are not."""
    rng = np.random.default_rng(0)  # noise does not compress: nearly all of the file is values
    dataset = make_dataset(
        lat=np.arange(30, 60, 0.5),
        lon=np.arange(0, 30, 0.5),
        times=[day + 0.5 for day in range(20)],
        values=lambda lat, lon, step: 280.0 + rng.normal(size=(lat.size, lon.size)),
    )
    dataset.to_netcdf(path, encoding={"tas": {"zlib": True, "chunksizes": (1, 60, 60)}})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(bytes(content))
