"""Latitude and longitude of variables, as grids with ascending axes."""

from __future__ import annotations

import cf_xarray  # noqa: F401  (registers the .cf accessor)
import numpy as np
import xarray as xr

from climdown.errors import InputError
from climdown.grid import FloatArray, Grid


def gridded_variables(dataset: xr.Dataset) -> list[str]:
    """Names of variables that have latitude and longitude, bounds left out."""
    bounds = {dataset[name].attrs.get("bounds") for name in dataset.variables}
    names = []
    for name, array in dataset.data_vars.items():
        coordinates = array.cf.coordinates
        if "latitude" in coordinates and "longitude" in coordinates and name not in bounds:
            names.append(str(name))
    return names


def rectilinear_grid(array: xr.DataArray, dataset: xr.Dataset) -> tuple[Grid, xr.DataArray]:
    """The grid of a variable and the variable as (..., lat, lon) on ascending axes.

    Descending latitudes are flipped; a longitude axis with a jump is unwrapped.

    Raises:
        InputError: the coordinates are missing or two-dimensional.
        GridError: they do not form a grid.
    """
    lat, lon = _coordinate(array, "latitude"), _coordinate(array, "longitude")
    if lat.ndim != 1 or lon.ndim != 1 or lat.dims == lon.dims:
        raise InputError(
            f"variable '{array.name}' lies on a curvilinear or unstructured grid; climdown reads "
            "rectilinear ones (one latitude and one longitude axis): regrid it first, "
            "for example with `cdo remapcon,r360x180 in.nc out.nc`"
        )
    lat_edges, lon_edges = _edges(lat, dataset), _edges(lon, dataset)
    lat_values = np.asarray(lat.values, dtype=np.float64)
    lon_values = np.asarray(lon.values, dtype=np.float64)
    array = array.drop_vars([lat.name, lon.name]).rename({lat.dims[0]: "lat", lon.dims[0]: "lon"})
    if lat_values.size > 1 and lat_values[0] > lat_values[-1]:
        lat_values, array = lat_values[::-1], array.isel(lat=slice(None, None, -1))
        lat_edges = None if lat_edges is None else lat_edges[::-1]
    if lon_values.size > 1 and (np.diff(lon_values) < 0).sum() > 1:
        lon_values, array = lon_values[::-1], array.isel(lon=slice(None, None, -1))
        lon_edges = None if lon_edges is None else lon_edges[::-1]
    lon_values = _unwrap(lon_values)
    if lon_edges is not None:
        lon_edges = _unwrap(lon_edges)
        lon_edges = lon_edges + 360.0 * np.round((lon_values[0] - lon_edges[0]) / 360.0)
    grid = Grid.from_centres(lat_values, lon_values, lat_edges=lat_edges, lon_edges=lon_edges)
    return grid, array.transpose(..., "lat", "lon")


def _coordinate(array: xr.DataArray, kind: str) -> xr.DataArray:
    names = array.cf.coordinates.get(kind, [])
    on_axis = [name for name in names if name in array.dims] or names
    if not on_axis:
        raise InputError(f"variable '{array.name}' has no {kind} coordinate")
    return array[on_axis[0]]


def _edges(axis: xr.DataArray, dataset: xr.Dataset) -> FloatArray | None:
    """Contiguous edges from an axis's bounds variable, or None to infer them."""
    name = axis.attrs.get("bounds")
    if name not in dataset.variables or dataset[name].ndim != 2:
        return None
    bounds = np.sort(np.asarray(dataset[name].values, dtype=np.float64), axis=1)
    if bounds.shape != (axis.size, 2) or not np.isfinite(bounds).all():
        return None
    if axis.size > 1 and axis.values[0] > axis.values[-1]:
        edges = np.append(bounds[:, 1], bounds[-1, 0])
        contiguous = np.allclose(bounds[:-1, 0], bounds[1:, 1], atol=1e-3)
    else:
        edges = np.append(bounds[:, 0], bounds[-1, 1])
        contiguous = np.allclose(bounds[:-1, 1], bounds[1:, 0], atol=1e-3)
    return edges if contiguous else None


def _unwrap(lon: FloatArray) -> FloatArray:
    """Make an ascending axis continuous across its seam: 170, -170 becomes 170, 190."""
    turns = np.concatenate([[0.0], np.cumsum(np.diff(lon) < 0)])
    return np.asarray(lon + 360.0 * turns, dtype=np.float64)
