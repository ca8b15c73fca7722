"""Files that a prior learns from: statics, values read back, values changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from climdown.training import Samples
from tests.factories import Floats, make_dataset

LAT: Floats = 40.125 + 0.25 * np.arange(6, dtype=np.float64)
LON: Floats = -2.875 + 0.25 * np.arange(8, dtype=np.float64)


def write_statics(path: Path, *, lat: Floats = LAT, lon: Floats = LON) -> None:
    """Altitude that rises by 100 m per degree north of 40, and land that fades to the east."""
    dataset = make_dataset(
        name="orog",
        standard_name="surface_altitude",
        units="m",
        lat=lat,
        lon=lon,
        times=[0.0],
        values=lambda y, x, _: 100.0 * (y - 40.0) + 0.0 * x,
    )
    land = np.broadcast_to(1.0 - (lon + 3.0) / 4.0, (1, lat.size, lon.size))
    attributes = {"standard_name": "land_area_fraction", "units": "1"}
    dataset["sftlf"] = (("time", "lat", "lon"), land.astype(np.float32), attributes)
    dataset.to_netcdf(path)


def celsius(data: Path) -> Any:
    with xr.open_dataset(data / "tas.nc") as file:
        return file["tas"].values.astype(np.float64) - 273.15


def days(samples: Samples) -> list[int]:
    """Days from zero, of January."""
    assert (samples.calendar[:, 0] == 1).all()
    return [int(day) - 1 for day in samples.calendar[:, 1]]


def rewrite(path: Path, name: str, values: Any) -> None:
    """Replace the values of a variable of a file."""
    with xr.open_dataset(path, decode_times=False) as file:
        changed = file.load().assign({name: (file[name].dims, values, file[name].attrs)})
    path.unlink()
    changed.to_netcdf(path)


def averaged(values: Any, factor: int = 2) -> Any:
    """Means of blocks of cells, weighted by area, over those that have values."""
    edges = np.sin(np.radians(40.0 + 0.25 * np.arange(7)))
    area = np.broadcast_to(np.diff(edges)[:, None], (6, 8))
    weight = np.where(np.isfinite(values), area, 0.0)

    def blocks(array: Any) -> Any:
        shape = (len(array), 6 // factor, factor, 8 // factor, factor)
        return array.reshape(shape).sum(axis=(2, 4))

    return blocks(np.where(weight > 0.0, values, 0.0) * weight) / blocks(weight)
