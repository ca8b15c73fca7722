"""Latitude and longitude of variables, as grids with ascending axes or as meshes."""

from __future__ import annotations

import logging
import re
from typing import TypeAlias

import numpy as np
import xarray as xr

from climdown.arrays import Float64, Index
from climdown.cf.axes import Axis, as_slice, checked_axis, ordered
from climdown.cf.projection import with_projected_cells
from climdown.errors import InputError
from climdown.grid import Grid
from climdown.mesh import Mesh

# Cells, the variable on them, and what is wrong with the axes and what is unusual.
_Located: TypeAlias = tuple[Grid | Mesh, xr.DataArray, tuple[str, ...], tuple[str, ...]]

log = logging.getLogger(__name__)

_KINDS = ("latitude", "longitude")
_UNITS = {
    "latitude": re.compile(r"degrees?_?(north|n)", re.IGNORECASE),
    "longitude": re.compile(r"degrees?_?(east|e)", re.IGNORECASE),
}
_USUAL_NAMES = {
    kind: {*names.split()}
    for kind, names in (
        ("latitude", "lat latitude nav_lat clat tlat ulat xlat latcell"),
        ("longitude", "lon long longitude nav_lon clon tlong ulong tlon ulon xlong loncell"),
    )
}
# What a coordinate found by its name alone may be measured in.
_PLAIN_UNITS = ("", "1", "deg", "degree", "degrees", "rad", "radian", "radians")
# Larger values are fill values that the file does not declare, like -999.
_LARGEST = 720.0
_SAME = 1e-4  # degrees


def with_coordinates(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with its latitudes and longitudes as coordinates, also where no one says so.

    Where a grid mapping alone describes the cells, their places are made from it.
    """
    names = [
        str(name)
        for name, array in dataset.data_vars.items()
        if 0 < array.ndim <= 3
        and np.issubdtype(array.dtype, np.floating)
        and any(_is(array, kind) for kind in _KINDS)
    ]
    bounds = {dataset[name].attrs.get("bounds") for name in dataset.variables}
    located = dataset.set_coords([name for name in names if name not in bounds])
    without = [
        array
        for name, array in located.data_vars.items()
        if name not in bounds and not all(_candidates(array, kind) for kind in _KINDS)
    ]
    return with_projected_cells(located, without)


def gridded_variables(dataset: xr.Dataset) -> list[str]:
    """Names of variables that have latitude and longitude, bounds left out."""
    bounds = {dataset[name].attrs.get("bounds") for name in dataset.variables}
    names = [
        str(name)
        for name, array in dataset.data_vars.items()
        if name not in bounds and _is_gridded(array)
    ]
    described = set().union(*(horizontal_names(dataset[n], dataset) for n in names))
    return [name for name in names if name not in described]


def horizontal_cells(array: xr.DataArray, dataset: xr.Dataset) -> tuple[Grid | Mesh, xr.DataArray]:
    """The cells of a variable, and the variable with its horizontal dimensions last.

    Rectilinear: dimensions (..., lat, lon) on ascending axes; descending latitudes are flipped,
    a longitude axis with a jump is unwrapped, columns repeated after a full circle are dropped.
    Two-dimensional coordinates that are but two axes written out are rectilinear, too.
    Curvilinear: (..., y, x). Unstructured: (..., cell).

    Raises:
        InputError: a coordinate is missing, moves in time, or could be one of several.
        GridError: the coordinates do not form a grid.
    """
    return _cells_last(*cells_as_stored(array, dataset))


def cells_and_remarks(
    array: xr.DataArray, dataset: xr.Dataset
) -> tuple[Grid | Mesh, tuple[str, ...]]:
    """The cells of a variable, and what looks wrong with its axes, one line each.

    What is told here is no more warned of when fields are taken from the dataset.

    Raises:
        InputError, GridError: as `horizontal_cells`.
    """
    cells, array, problems, remarks = _located(array, dataset)
    _named_problems(dataset).update(problems)
    return _cells_last(cells, array)[0], (*problems, *remarks)


def _cells_last(cells: Grid | Mesh, array: xr.DataArray) -> tuple[Grid | Mesh, xr.DataArray]:
    names = ("lat", "lon") if isinstance(cells, Grid) else ("y", "x")
    return cells, array.transpose(..., *(names if len(cells.shape) == 2 else ("cell",)))


def cells_as_stored(array: xr.DataArray, dataset: xr.Dataset) -> tuple[Grid | Mesh, xr.DataArray]:
    """As `horizontal_cells`, with the dimensions in the order of the file.

    Lazy values are read many times faster so, where that order is another.

    Raises:
        InputError, GridError: as `horizontal_cells`.
    """
    cells, array, problems, _ = _located(array, dataset)
    for problem in problems:
        _warn_once(dataset, problem)
    return cells, array


def _located(array: xr.DataArray, dataset: xr.Dataset) -> _Located:
    lat, lon = _coordinate(array, "latitude"), _coordinate(array, "longitude")
    dims = tuple(str(d) for d in lat.dims)
    if lat.size == lon.size == 1 and not _has_bounds(lat, lon, dataset):
        return (*_point(array, lat, lon), (), ())
    if lat.ndim == 1 and lon.ndim == 1 and lat.dims != lon.dims:
        bounds = _bounds(lat, dims, dataset), _bounds(lon, (str(lon.dims[0]),), dataset)
        axes = (dims[0], str(lon.dims[0]))
        return _rectilinear(array, axes, (_degrees(lat), _degrees(lon)), bounds)
    if set(dims) != {str(d) for d in lon.dims} or len(dims) not in (1, 2):
        raise InputError(
            f"variable '{array.name}' has latitude along ({', '.join(dims)}) and longitude along "
            f"({', '.join(map(str, lon.dims))}); expected the same one or two dimensions"
        )
    lon = lon.transpose(*dims)
    centres = _degrees(lat), _degrees(lon)
    corners = _bounds(lat, dims, dataset), _bounds(lon, dims, dataset)
    if len(dims) == 2 and (order := _axes_order(*centres)) is not None:
        return _written_out(array, dims, centres, corners, order)
    return (*_mesh(array, dims, centres, corners), (), ())


def horizontal_dims(array: xr.DataArray) -> tuple[str, ...]:
    """Names of the dimensions that latitude and longitude run along.

    Raises:
        InputError: a coordinate is missing.
    """
    coordinates = [_named(array, kind)[0] for kind in _KINDS]
    dims = (d for name in coordinates for d in _dims_in_space(array, array[name]))
    return tuple(dict.fromkeys(dims))


def horizontal_names(array: xr.DataArray, dataset: xr.Dataset) -> set[str]:
    """Names of the variables that describe a variable's cells: coordinates, bounds, mapping."""
    names = set()
    for name in (n for kind in _KINDS for n in _candidates(array, kind)):
        names.add(name)
        if (bounds := _bounds_name(array[name], dataset)) is not None:
            names.add(bounds)
    for attribute in ("grid_mapping", "mesh"):
        described = array.attrs.get(attribute) or array.encoding.get(attribute)
        if described:
            # "crs", or "crs: lat lon" in the extended form.
            names.add(str(described).split(":")[0].strip())
    return names


def _is_gridded(array: xr.DataArray) -> bool:
    candidates = [_candidates(array, kind) for kind in _KINDS]
    if not all(candidates) or any(_is(array, kind) for kind in _KINDS):
        return False
    dims = {d for names in candidates for d in array[names[0]].dims}
    if not dims:  # one place: what varies in time is of it
        return any(_is_time(array[d]) for d in array.dims if d in array.coords)
    # Along time it is the track of a ship.
    return bool(dims) and not any(_is_time(array[d]) for d in dims if len(dims) == 1)


def _is_time(coordinate: xr.DataArray) -> bool:
    described = {**coordinate.attrs, **coordinate.encoding}
    dated = "calendar" in described or "since" in str(described.get("units", ""))
    return coordinate.dtype.kind == "M" or dated


def _is(coordinate: xr.DataArray, kind: str) -> bool:
    """Whether a variable is a latitude or longitude: by CF attributes, or by its name."""
    standard_name = str(coordinate.attrs.get("standard_name", ""))
    if standard_name in _KINDS or standard_name.startswith(("grid_", "projection_")):
        return standard_name == kind
    units = str(coordinate.attrs.get("units", ""))
    if any(pattern.fullmatch(units) for pattern in _UNITS.values()):
        return _UNITS[kind].fullmatch(units) is not None
    return str(coordinate.name).lower() in _USUAL_NAMES[kind] and units.lower() in _PLAIN_UNITS


def _candidates(array: xr.DataArray, kind: str) -> list[str]:
    """Coordinates of a kind, those that suit best: named by the variable, else its own axes."""
    candidates = [str(n) for n, coordinate in array.coords.items() if _is(coordinate, kind)]
    attribute = array.encoding.get("coordinates", array.attrs.get("coordinates", ""))
    stated = [name for name in candidates if name in str(attribute).split()]
    placed = [name for name in stated or candidates if array[name].ndim > 0]
    return [name for name in placed if name in array.dims] or placed or stated or candidates


def _named(array: xr.DataArray, kind: str) -> list[str]:
    names = _candidates(array, kind)
    if not names:
        raise InputError(f"variable '{array.name}' has no {kind} coordinate")
    return names


def _dims_in_space(array: xr.DataArray, coordinate: xr.DataArray) -> tuple[str, ...]:
    """The dimensions of a coordinate, less that of time where it is repeated at each step."""
    dims = tuple(str(d) for d in coordinate.dims)
    repeated = len(dims) > 2 or (len(dims) == 2 and _is_time(array[dims[0]]))
    return dims[1:] if repeated else dims


def _coordinate(array: xr.DataArray, kind: str) -> xr.DataArray:
    names = _named(array, kind)
    if len(names) > 1:
        raise InputError(
            f"variable '{array.name}' has several coordinates of {kind}: {', '.join(names)}; name "
            "the right ones in its attribute 'coordinates', for example with ncatted"
        )
    coordinate = array[names[0]]
    if len(_dims_in_space(array, coordinate)) == coordinate.ndim:
        return coordinate
    still = coordinate.isel({coordinate.dims[0]: 0}, drop=True)
    if not np.allclose(coordinate.values, still.values, rtol=0.0, atol=_SAME, equal_nan=True):
        raise InputError(
            f"variable '{array.name}' has a {kind} that changes along {coordinate.dims[0]}; "
            "expected cells that stay in place"
        )
    return still


def _rectilinear(
    array: xr.DataArray,
    dims: tuple[str, str],
    centres: tuple[Float64, Float64],
    bounds: tuple[Float64 | None, Float64 | None],
) -> _Located:
    lat, rows = ordered(centres[0], circular=False)
    lon, columns = ordered(centres[1], circular=True)
    array = array.isel({dims[0]: as_slice(rows), dims[1]: as_slice(columns)})
    lat_bounds, lon_bounds = (
        None if values is None else values[index]
        for values, index in zip(bounds, (rows, columns), strict=True)
    )
    if lon_bounds is not None:
        lon_bounds = lon_bounds + 360.0 * np.round((lon[:, None] - lon_bounds) / 360.0)
    y, x = checked_axis("latitude", lat, lat_bounds), checked_axis("longitude", lon, lon_bounds)
    problems = tuple(axis.problem for axis in (y, x) if axis.problem is not None)
    remarks = tuple(filter(None, (y.hole, x.hole, _turned(lon, columns))))
    if y.gapless and x.gapless:
        grid = Grid.from_centres(y.centres, x.centres, lat_edges=y.edges, lon_edges=x.edges)
        return grid, _renamed(array, dims, ("lat", "lon")), problems, remarks
    array = _renamed(array, dims, ("y", "x")).transpose(..., "y", "x")
    return _with_holes(y, x), array, problems, remarks


def _turned(lon: Float64, columns: Index) -> str | None:
    """That longitudes begin in the middle of the file; None if they do not."""
    if isinstance(as_slice(columns), slice):
        return None
    return f"longitude is sorted across its seam: read from {lon[0]:.6g} to {lon[-1]:.6g}"


def _has_bounds(lat: xr.DataArray, lon: xr.DataArray, dataset: xr.Dataset) -> bool:
    dims = ([str(d) for d in axis.dims] for axis in (lat, lon))
    return any(
        _bounds(axis, tuple(along), dataset) is not None
        for axis, along in zip((lat, lon), dims, strict=True)
    )


def _point(array: xr.DataArray, lat: xr.DataArray, lon: xr.DataArray) -> tuple[Grid, xr.DataArray]:
    """One place without a cell, whether its coordinates have dimensions or none."""
    place = (float(_degrees(axis).ravel()[0]) for axis in (lat, lon))
    along = {*lat.dims, *lon.dims}
    array = array.squeeze([d for d in array.dims if d in along])
    array = array.drop_vars([n for n in (*along, lat.name, lon.name) if n in array.coords])
    return Grid.at(*place), array.expand_dims(("lat", "lon"), axis=(-2, -1))


def _with_holes(y: Axis, x: Axis) -> Mesh:
    """Cells of two axes that leave some out, which no grid of touching cells can have."""
    lat_bounds, lon_bounds = np.clip(_low_high(y), -90.0, 90.0), _low_high(x)
    return Mesh.from_bounds(y.centres, x.centres, lat_bounds=lat_bounds, lon_bounds=lon_bounds)


def _low_high(axis: Axis) -> Float64:
    """Low and high bounds of each cell; inferred ones lie midway between centres."""
    if axis.bounds is not None:
        return axis.bounds
    edges = Grid.from_centres([0.0, 1.0], axis.centres).lon_edges
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _named_problems(dataset: xr.Dataset) -> set[str]:
    """What has been said of a file."""
    named: set[str] = dataset.encoding.setdefault("named_problems", set())
    return named


def _warn_once(dataset: xr.Dataset, problem: str) -> None:
    """Name what is wrong with a file, once however many variables have it."""
    named = _named_problems(dataset)
    if problem not in named:
        named.add(problem)
        log.warning("%s: %s", dataset.encoding.get("source", "input"), problem)


def _axes_order(lat: Float64, lon: Float64) -> tuple[int, int] | None:
    """Which dimensions latitude and longitude follow, if each follows one; else None."""
    if min(lat.shape) < 2 or not (np.isfinite(lat).all() and np.isfinite(lon).all()):
        return None
    for along_lat, along_lon in ((0, 1), (1, 0)):
        aside = _shortest_way(lon - lon.take([0], along_lat))
        if np.ptp(lat, axis=along_lon).max() < _SAME and np.abs(aside).max() < _SAME:
            north = np.diff(lat.take(0, along_lon))
            east = _shortest_way(np.diff(lon.take(0, along_lat)))
            return (along_lat, along_lon) if _monotonic(north) and _monotonic(east) else None
    return None


def _shortest_way(degrees: Float64) -> Float64:
    """Differences of longitude as steps east or west by half a circle at most."""
    return np.asarray((degrees + 180.0) % 360.0 - 180.0)


def _monotonic(steps: Float64) -> bool:
    """Whether all steps go one way, and none stays in place."""
    return bool((np.abs(steps) > _SAME).all() and abs(np.sign(steps).sum()) == steps.size)


def _written_out(
    array: xr.DataArray,
    dims: tuple[str, ...],
    centres: tuple[Float64, Float64],
    corners: tuple[Float64 | None, Float64 | None],
    order: tuple[int, int],
) -> _Located:
    """Two-dimensional coordinates of a rectilinear grid as its two axes."""
    axes: list[Float64] = []
    bounds: list[Float64 | None] = []
    for values, vertices, along in zip(centres, corners, order, strict=True):
        line = (slice(None), 0) if along == 0 else (0, slice(None))
        axes.append(values[line])
        bounds.append(None if vertices is None else _outer(vertices[line], axes[-1]))
    names = (dims[order[0]], dims[order[1]])
    return _rectilinear(array, names, (axes[0], axes[1]), (bounds[0], bounds[1]))


def _outer(vertices: Float64, centres: Float64) -> Float64:
    """Lowest and highest corner of each cell, shape (n, 2), on the side of the circle it is on."""
    near = vertices + 360.0 * np.round((centres[:, None] - vertices) / 360.0)
    return np.stack([near.min(axis=1), near.max(axis=1)], axis=1)


def _mesh(
    array: xr.DataArray,
    dims: tuple[str, ...],
    centres: tuple[Float64, Float64],
    corners: tuple[Float64 | None, Float64 | None],
) -> tuple[Mesh, xr.DataArray]:
    vertices = corners if all(c is not None and c.shape[-1] > 2 for c in corners) else (None, None)
    mesh = Mesh.from_centres(*centres, lat_vertices=vertices[0], lon_vertices=vertices[1])
    return mesh, _renamed(array, dims, ("y", "x") if len(dims) == 2 else ("cell",))


def _renamed(array: xr.DataArray, dims: tuple[str, ...], names: tuple[str, ...]) -> xr.DataArray:
    """The array with these dimensions under their new names."""
    # Coordinates along them (rlat, i) say nothing more; others may bear the new names.
    dropped = [n for n, c in array.coords.items() if set(c.dims) & set(dims) or n in names]
    array = array.drop_vars(dropped)
    return array.rename(dict(zip(dims, names, strict=True)))


def _degrees(coordinate: xr.DataArray, like: xr.DataArray | None = None) -> Float64:
    """Values in degrees; some models write radians. Bounds take the units of their axis."""
    values = np.array(coordinate.values, dtype=np.float64)
    values[~(np.abs(values) < _LARGEST)] = np.nan
    units = coordinate.attrs.get("units") or (like.attrs.get("units") if like is not None else "")
    return np.degrees(values) if str(units).lower().startswith("rad") else values


def _bounds_name(coordinate: xr.DataArray, dataset: xr.Dataset) -> str | None:
    """The bounds variable, by attribute or, where files forget that, by its usual names."""
    name = str(coordinate.name)
    declared = coordinate.attrs.get("bounds") or coordinate.encoding.get("bounds")
    ends, starts = ("bnds", "bounds", "vertices", "corners"), ("vertices", "bounds")
    usual = [f"{name}_{end}" for end in ends] + [f"{start}_{name}" for start in starts]
    for candidate in [declared, *usual]:
        if candidate in dataset.variables:
            return str(candidate)
    return None


def _bounds(coordinate: xr.DataArray, dims: tuple[str, ...], dataset: xr.Dataset) -> Float64 | None:
    """Bounds of shape (*cells, corners), degrees, or None where there are no usable ones."""
    name = _bounds_name(coordinate, dataset)
    if name is None:
        return None
    bounds = dataset[name]
    if bounds.ndim == len(dims) + 2:  # of cells that stay in place
        bounds = bounds.isel({bounds.dims[0]: 0})
    extra = [d for d in bounds.dims if str(d) not in dims]
    if len(extra) != 1 or bounds.ndim != len(dims) + 1 or bounds.sizes[extra[0]] < 2:
        return None
    return _degrees(bounds.transpose(*dims, extra[0]), like=coordinate)
