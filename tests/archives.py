"""Tiny Zarr stores with the structure of the two public ERA5 archives, with made-up weather.

What the archives hold was taken from the data guide and notebooks of WeatherBench 2 and from the
code that writes ARCO-ERA5. Every value is a function of place and time, so that tests know it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from climdown.grid import Grid

Floats = npt.NDArray[np.float64]
Stamps = npt.NDArray[np.datetime64]

GRAVITY = 9.80665  # m s-2
LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)  # hPa
# Of the variables, as they are written there: ECMWF's units, standard names where CF has one.
ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "mean_sea_level_pressure": {
        "long_name": "Mean sea level pressure",
        "short_name": "msl",
        "standard_name": "air_pressure_at_mean_sea_level",
        "units": "Pa",
    },
    "10m_u_component_of_wind": {
        "long_name": "10 metre U wind component",
        "short_name": "u10",
        "units": "m s**-1",
    },
    "10m_v_component_of_wind": {
        "long_name": "10 metre V wind component",
        "short_name": "v10",
        "units": "m s**-1",
    },
    "geopotential": {
        "long_name": "Geopotential",
        "short_name": "z",
        "standard_name": "geopotential",
        "units": "m**2 s**-2",
    },
    "total_precipitation": {
        "long_name": "Total precipitation",
        "short_name": "tp",
        "units": "m",
    },
    "geopotential_at_surface": {
        "long_name": "Geopotential",
        "short_name": "z",
        "standard_name": "geopotential",
        "units": "m**2 s**-2",
    },
    "land_sea_mask": {
        "long_name": "Land-sea mask",
        "short_name": "lsm",
        "standard_name": "land_binary_mask",
        "units": "(0 - 1)",
    },
}
_AXES = {
    "latitude": {"long_name": "latitude", "units": "degrees_north"},
    "longitude": {"long_name": "longitude", "units": "degrees_east"},
}


def write_arco_era5(
    path: str | Path,
    *,
    days: int = 2,
    lat: npt.ArrayLike | None = None,
    lon: npt.ArrayLike | None = None,
    levels: Sequence[int] = LEVELS,
    hours: int = 1,
    start: str = "2020-01-01",
    zarr_format: Literal[2, 3] = 2,
) -> xr.Dataset:
    """A store like ARCO-ERA5's "full_37-1h-0p25deg-chunk-1.zarr-v3", and what is in it.

    Hourly, dimensions (time, level, latitude, longitude), latitudes descending from pole to pole,
    levels in hPa without attributes, static fields repeated at every step, precipitation as the
    amount of the hour before; one step to a chunk.

    Args:
        path: where to write: a folder, or an address like "memory://era5.zarr".
        days: from `start` on.
        lat, lon: degrees; by default 30 by 30 degrees with both poles.
        hours: time step.
    """
    y = np.asarray(np.linspace(90.0, -90.0, 7) if lat is None else lat, np.float64)
    x = np.asarray(np.arange(0.0, 360.0, 30.0) if lon is None else lon, np.float64)
    stamps = _stamps(start, days, hours)
    values = _values(y, x, stamps, levels)
    values["total_precipitation"] = _rain(y, x, stamps, hours)
    for name in ("geopotential_at_surface", "land_sea_mask"):
        values[name] = np.broadcast_to(values[name], values["total_precipitation"].shape)
    dataset = _dataset(values, y, x, stamps, "1900-01-01", levels, _AXES)
    dataset.attrs = {"valid_time_start": "1940-01-01", "valid_time_stop": "2026-06-30"}
    _write(dataset.astype(np.float32), path, zarr_format, steps=1)
    return dataset


def write_weatherbench(
    path: str | Path,
    *,
    days: int = 2,
    lat: npt.ArrayLike | None = None,
    lon: npt.ArrayLike | None = None,
    levels: Sequence[int] = LEVELS,
    hours: int = 6,
    start: str = "2020-01-01",
    zarr_format: Literal[2, 3] = 2,
    longitude_first: bool = True,
) -> xr.Dataset:
    """A store like WeatherBench 2's of ERA5, and what is in it.

    Six-hourly, static fields without time, precipitation as the amount of the 24 hours (and of
    the 6 hours) before each step, and levels in hPa without attributes.

    Args:
        path: where to write: a folder, or an address like "memory://era5.zarr".
        days: from `start` on.
        lat, lon: degrees; by default 30 by 30 degrees with both poles.
        hours: time step.
        longitude_first: as in the regridded stores ("240x121_equiangular_with_poles"), with
            dimensions (time, level, longitude, latitude), latitudes ascending and no attributes of
            axes; else as in "1440x721_with_derived_variables", like ARCO-ERA5.
    """
    poles = (-90.0, 90.0) if longitude_first else (90.0, -90.0)
    y = np.asarray(np.linspace(*poles, 7) if lat is None else lat, np.float64)
    x = np.asarray(np.arange(0.0, 360.0, 30.0) if lon is None else lon, np.float64)
    stamps = _stamps(start, days, hours)
    values = _values(y, x, stamps, levels)
    for length in (6, 24):
        values[f"total_precipitation_{length}hr"] = _rain(y, x, stamps, length)
    axes = {} if longitude_first else _AXES
    dataset = _dataset(values, y, x, stamps, "1959-01-01", levels, axes)
    written = dataset.transpose(..., "longitude", "latitude") if longitude_first else dataset
    _write(written.astype(np.float32), path, zarr_format, steps=8 if longitude_first else 1)
    return dataset


def archive_grid(dataset: xr.Dataset) -> Grid:
    """The grid of a store, axes ascending."""
    return Grid.from_centres(np.sort(dataset["latitude"].values), dataset["longitude"].values)


def _stamps(start: str, days: int, hours: int) -> Stamps:
    return np.datetime64(start, "h") + np.arange(0, 24 * days, hours).astype("timedelta64[h]")


def _since(stamps: Stamps, date: str) -> npt.NDArray[np.int64]:
    return (stamps - np.datetime64(date, "h")).astype(np.int64)


def _values(lat: Floats, lon: Floats, stamps: Stamps, levels: Sequence[int]) -> dict[str, Floats]:
    """Fields of shapes (time, [level,] lat, lon) and (lat, lon); waves that travel eastwards."""
    phi, lam = np.radians(lat)[:, None], np.radians(lon)[None, :]
    hour = _since(stamps, "2020-01-01")[:, None, None].astype(np.float64)
    swing = np.cos(phi) ** 2 * (
        np.sin(2.0 * lam - 2.0 * np.pi * hour / 96.0)
        + 0.5 * np.sin(3.0 * lam + phi - 2.0 * np.pi * hour / 31.0)
    )
    ground = np.maximum(np.sin(lam) * np.cos(phi) + 0.3 * np.sin(3.0 * phi), 0.0)
    # A standard atmosphere's height, with the pattern growing upwards.
    heights = [44_330.0 * (1.0 - (level / 1013.25) ** 0.1903) for level in levels]
    aloft = [
        height - 400.0 * np.sin(phi) ** 2 + (60.0 + 0.01 * height) * swing for height in heights
    ]
    return {
        "mean_sea_level_pressure": 101_325.0 + 1_000.0 * swing,
        "10m_u_component_of_wind": 5.0 * np.cos(2.0 * phi) + 4.0 * swing,
        "10m_v_component_of_wind": 3.0 * np.roll(swing, 1, axis=2),
        "geopotential": GRAVITY * np.stack(aloft, axis=1),
        "geopotential_at_surface": GRAVITY * 2_000.0 * ground,
        "land_sea_mask": (ground > 0.0).astype(np.float64),
    }


def _rain(lat: Floats, lon: Floats, stamps: Stamps, hours: int) -> Floats:
    """Amounts in m over the hours that end at each step, shape (time, lat, lon)."""
    phi, lam = np.radians(lat)[:, None], np.radians(lon)[None, :]
    amounts = np.zeros((stamps.size, lat.size, lon.size))
    for before in range(hours):
        hour = (_since(stamps, "2020-01-01") - before)[:, None, None]
        wave = np.cos(phi) * np.sin(2.0 * lam - 2.0 * np.pi * hour / 96.0)
        amounts += 1e-3 * np.maximum(wave - 0.2, 0.0)
    return amounts


def _dataset(
    values: Mapping[str, Floats],
    lat: Floats,
    lon: Floats,
    stamps: Stamps,
    since: str,
    levels: Sequence[int],
    axes: Mapping[str, Mapping[str, str]],
) -> xr.Dataset:
    dimensions = {
        4: ("time", "level", "latitude", "longitude"),
        3: ("time", "latitude", "longitude"),
        2: ("latitude", "longitude"),
    }
    variables: dict[str, Any] = {}
    for name, data in values.items():
        known = ATTRIBUTES.get(name) or ATTRIBUTES["total_precipitation"]
        variables[name] = (dimensions[data.ndim], data, dict(known))
    coding = {"units": f"hours since {since}", "calendar": "proleptic_gregorian"}
    coordinates = {
        "time": ("time", _since(stamps, since), coding),
        "level": ("level", np.asarray(levels, np.int64)),
        "latitude": ("latitude", lat.astype(np.float32), dict(axes.get("latitude", {}))),
        "longitude": ("longitude", lon.astype(np.float32), dict(axes.get("longitude", {}))),
    }
    return xr.Dataset(variables, coordinates)


def _write(dataset: xr.Dataset, path: str | Path, zarr_format: Literal[2, 3], steps: int) -> None:
    encoding = {
        name: {"chunks": tuple(steps if d == "time" else array.sizes[d] for d in array.dims)}
        for name, array in dataset.data_vars.items()
    }
    dataset.to_zarr(
        path,
        mode="w",
        zarr_format=zarr_format,
        consolidated=zarr_format == 2,
        encoding=encoding,
    )
