"""Latitude and longitude of variables, as grids with ascending axes or as meshes."""

from __future__ import annotations

import cf_xarray  # noqa: F401  (registers the .cf accessor)
import numpy as np
import xarray as xr

from climdown.errors import InputError
from climdown.grid import FloatArray, Grid
from climdown.mesh import Mesh

_USUAL_NAMES = {
    "latitude": ("lat", "latitude", "nav_lat", "clat"),
    "longitude": ("lon", "longitude", "nav_lon", "clon"),
}


def gridded_variables(dataset: xr.Dataset) -> list[str]:
    """Names of variables that have latitude and longitude, bounds left out."""
    bounds = {dataset[name].attrs.get("bounds") for name in dataset.variables}
    names = []
    for name, array in dataset.data_vars.items():
        located = all(_coordinate_names(array, kind) for kind in ("latitude", "longitude"))
        if located and name not in bounds and set(horizontal_dims(array)) <= set(array.dims):
            names.append(str(name))
    described = set().union(*(horizontal_names(dataset[n], dataset) for n in names))
    return [name for name in names if name not in described]


def horizontal_cells(array: xr.DataArray, dataset: xr.Dataset) -> tuple[Grid | Mesh, xr.DataArray]:
    """The cells of a variable, and the variable with its horizontal dimensions last.

    Rectilinear: dimensions (..., lat, lon) on ascending axes; descending latitudes are flipped,
    a longitude axis with a jump is unwrapped. Curvilinear: (..., y, x). Unstructured: (..., cell).

    Raises:
        InputError: a coordinate is missing.
        GridError: the coordinates do not form a grid.
    """
    lat, lon = _coordinate(array, "latitude"), _coordinate(array, "longitude")
    if lat.ndim == 1 and lon.ndim == 1 and lat.dims != lon.dims:
        return _rectilinear(array, dataset, lat, lon)
    return _mesh(array, dataset, lat, lon)


def horizontal_dims(array: xr.DataArray) -> tuple[str, ...]:
    """Names of the dimensions that latitude and longitude run along."""
    lat, lon = _coordinate(array, "latitude"), _coordinate(array, "longitude")
    return tuple(dict.fromkeys(str(d) for d in (*lat.dims, *lon.dims)))


def horizontal_names(array: xr.DataArray, dataset: xr.Dataset) -> set[str]:
    """Names of the variables that describe a variable's cells: coordinates, bounds, mapping."""
    names = set()
    for kind in ("latitude", "longitude"):
        coordinate = _coordinate(array, kind)
        names.add(str(coordinate.name))
        if (found := _bounds_name(coordinate, dataset)) is not None:
            names.add(found)
    mapping = array.attrs.get("grid_mapping") or array.encoding.get("grid_mapping")
    if mapping:
        names.add(str(mapping).split(":")[0].strip())
    return names


def _rectilinear(
    array: xr.DataArray, dataset: xr.Dataset, lat: xr.DataArray, lon: xr.DataArray
) -> tuple[Grid, xr.DataArray]:
    lat_edges, lon_edges = _edges(lat, dataset), _edges(lon, dataset)
    lat_values, lon_values = _degrees(lat), _degrees(lon)
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


def _mesh(
    array: xr.DataArray, dataset: xr.Dataset, lat: xr.DataArray, lon: xr.DataArray
) -> tuple[Mesh, xr.DataArray]:
    dims = tuple(str(d) for d in lat.dims)
    if set(dims) != {str(d) for d in lon.dims} or len(dims) not in (1, 2):
        raise InputError(
            f"variable '{array.name}' has latitude along ({', '.join(dims)}) and longitude along "
            f"({', '.join(map(str, lon.dims))}); expected the same one or two dimensions"
        )
    lon = lon.transpose(*dims)
    corners = _vertices(lat, dims, dataset), _vertices(lon, dims, dataset)
    mesh = Mesh.from_centres(
        _degrees(lat), _degrees(lon), lat_vertices=corners[0], lon_vertices=corners[1]
    )
    names = ("y", "x") if len(dims) == 2 else ("cell",)
    # Axes along the same dimensions (rlat, i) say nothing more, and may bear the new names.
    array = array.drop_vars([n for n in array.coords if set(array[n].dims) & set(dims)])
    array = array.rename(dict(zip(dims, names, strict=True)))
    return mesh, array.transpose(..., *names)


def _coordinate(array: xr.DataArray, kind: str) -> xr.DataArray:
    names = _coordinate_names(array, kind)
    on_axis = [name for name in names if name in array.dims] or names
    if not on_axis:
        raise InputError(f"variable '{array.name}' has no {kind} coordinate")
    return array[on_axis[0]]


def _coordinate_names(array: xr.DataArray, kind: str) -> list[str]:
    """Coordinates by CF criteria; those without any attribute by their names."""
    known = array.cf.coordinates.get(kind, [])
    if known:
        return [str(name) for name in known]
    usual = _USUAL_NAMES[kind]
    return [
        str(name)
        for name, coordinate in array.coords.items()
        if str(name).lower() in usual and "units" not in coordinate.attrs
    ]


def _degrees(coordinate: xr.DataArray, like: xr.DataArray | None = None) -> FloatArray:
    """Values in degrees; some models write radians. Bounds take the units of their axis."""
    values = np.array(coordinate.values, dtype=np.float64)
    # Fill values that the file does not declare.
    values[~(np.abs(values) < 1e4)] = np.nan
    units = str(
        coordinate.attrs.get(
            "units", (like if like is not None else coordinate).attrs.get("units", "")
        )
    )
    return np.degrees(values) if units.lower().startswith("rad") else values


def _bounds_name(coordinate: xr.DataArray, dataset: xr.Dataset) -> str | None:
    """The bounds variable, by attribute or, where files forget that, by its usual names."""
    name = str(coordinate.name)
    declared = coordinate.attrs.get("bounds") or coordinate.encoding.get("bounds")
    usual = [
        f"{name}_bnds",
        f"{name}_bounds",
        f"{name}_vertices",
        f"vertices_{name}",
        f"bounds_{name}",
    ]
    for candidate in [declared, *usual]:
        if candidate in dataset.variables:
            return str(candidate)
    return None


def _vertices(
    coordinate: xr.DataArray, dims: tuple[str, ...], dataset: xr.Dataset
) -> FloatArray | None:
    """Corners of shape (*cells, corners), or None."""
    name = _bounds_name(coordinate, dataset)
    if name is None:
        return None
    bounds = dataset[name]
    extra = [d for d in bounds.dims if str(d) not in dims]
    if len(extra) != 1 or len(bounds.dims) != len(dims) + 1 or bounds.sizes[extra[0]] < 3:
        return None
    return _degrees(bounds.transpose(*dims, extra[0]), like=coordinate)


def _edges(axis: xr.DataArray, dataset: xr.Dataset) -> FloatArray | None:
    """Contiguous edges from an axis's bounds variable, or None to infer them."""
    name = _bounds_name(axis, dataset)
    if name is None or dataset[name].ndim != 2:
        return None
    bounds = np.sort(_degrees(dataset[name], like=axis), axis=1)
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
