"""Cells of models that have no rectilinear grid, in closed form, and files of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from climdown.grid import Grid
from climdown.mesh import Mesh, unit_vectors
from tests.factories import Floats


def smooth(lat: Floats, lon: Floats) -> Floats:
    """A temperature in K, smooth over the whole sphere: a polynomial of Cartesian coordinates."""
    x, y, z = np.moveaxis(unit_vectors(np.asarray(lat), np.asarray(lon)), -1, 0)
    return np.asarray(280.0 + 8.0 * x - 5.0 * y + 12.0 * z + 6.0 * x * z - 4.0 * x * y)


def rotated_pole(
    *,
    ny: int = 20,
    nx: int = 24,
    spacing: float = 1.0,
    pole: tuple[float, float] = (39.25, -162.0),
    south_west: tuple[float, float] = (-10.0, -12.0),
) -> Mesh:
    """Cells of a rotated grid, as regional models have them, with their true corners.

    Args:
        pole: latitude and longitude of the grid's north pole.
        south_west: rotated latitude and longitude of the outer corner.
    """
    y, x = np.meshgrid(
        south_west[0] + spacing * np.arange(ny + 1),
        south_west[1] + spacing * np.arange(nx + 1),
        indexing="ij",
    )
    half = 0.5 * spacing
    centres = _unrotate(y[:-1, :-1] + half, x[:-1, :-1] + half, pole)
    return Mesh(*centres, *_around(*_unrotate(y, x, pole)))


def tripolar(*, ny: int = 30, nx: int = 36, cap: int = 10, halo: bool = False) -> Mesh:
    """An ocean grid from 78 S whose rows end on a seam between two poles at 60 N and beyond.

    Args:
        cap: how many of the rows lie north of 60 N, on ellipses around the seam.
        halo: as NEMO writes it: the last column before the first, the first after the last, and
            a last row that is the one before, backwards.
    """
    # Twice as fine: corners at even entries, centres at odd ones.
    rows, turns = np.linspace(0.0, ny, 2 * ny + 1), np.linspace(0.0, 2 * np.pi, 2 * nx + 1)
    row, angle = np.meshgrid(rows, turns, indexing="ij")
    plain = -78.0 + 138.0 * row / (ny - cap)
    along = 1.2 * np.clip(ny - row, 0.0, cap) / cap
    east = np.cosh(along) * np.cos(angle) / np.cosh(1.2)
    north = np.sinh(along) * np.sin(angle) / np.sinh(1.2)
    in_cap = row > ny - cap
    lat = np.where(in_cap, 90.0 - 30.0 * np.hypot(east, north), plain)
    lon = np.degrees(np.where(in_cap, np.arctan2(north, east), angle)) % 360.0
    centres = lat[1::2, 1::2], lon[1::2, 1::2]
    arrays = [*centres, *_around(lat[::2, ::2], lon[::2, ::2])]
    if halo:
        arrays = [np.concatenate([a[:, -1:], a, a[:, :1]], axis=1) for a in arrays]
        arrays = [np.concatenate([a, a[-1:, ::-1]], axis=0) for a in arrays]
    return Mesh(*arrays)


def triangles(*, level: int = 3) -> Mesh:
    """The faces of an icosahedron cut in four `level` times: 20 * 4^level cells, the whole sphere.

    One of its corners lies on each pole.
    """
    corners = _icosahedron()
    for _ in range(level):
        a, b, c = np.moveaxis(corners, 1, 0)
        ab, bc, ca = (_unit(p + q) for p, q in ((a, b), (b, c), (c, a)))
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        corners = np.concatenate([np.stack(part, axis=1) for part in parts])
    return Mesh(*_places(_unit(corners.mean(axis=1))), *_places(corners))


def hexagons(*, level: int = 2, padding: int = 16) -> Mesh:
    """Cells around the corners of `triangles`, the last of 5 or 6 corners repeated (FESOM)."""
    faces = triangles(level=level)
    assert faces.lat_vertices is not None
    assert faces.lon_vertices is not None
    nodes = unit_vectors(faces.lat_vertices, faces.lon_vertices)
    middles = unit_vectors(faces.lat, faces.lon)
    keys = np.round(nodes.reshape(-1, 3), 6) + 0.0
    _, first, cell = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    centres = nodes.reshape(-1, 3)[first]
    corners = np.empty((first.size, padding, 3))
    for i, centre in enumerate(centres):
        around = middles[np.flatnonzero(cell == i) // 3]
        aside = np.cross(centre, around[0])
        angle = np.arctan2(around @ aside, around @ np.cross(aside, centre))
        ring = around[np.argsort(angle)]
        corners[i] = ring[np.minimum(np.arange(padding), len(ring) - 1)]
    return Mesh(*_places(centres), *_places(corners))


def as_mesh(grid: Grid) -> Mesh:
    """A rectilinear grid written as a curvilinear one."""
    lat, lon = np.meshgrid(grid.lat, grid.lon, indexing="ij")
    nodes = np.meshgrid(grid.lat_edges, grid.lon_edges, indexing="ij")
    return Mesh(lat, lon, *_around(*nodes))


def mesh_dataset(
    *,
    cells: Mesh,
    path: Path | None = None,
    dims: Sequence[str] | None = None,
    names: tuple[str, str] = ("lat", "lon"),
    corners: tuple[str, str] | None = ("lat_vertices", "lon_vertices"),
    declared: bool = True,
    radians: bool = False,
    attributes: bool = True,
    fill: float | None = None,
    steps: int = 2,
    calendar: str = "standard",
    values: Floats | None = None,
    encoding: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build a dataset of tas on a mesh, and write it if `path` is given.

    Args:
        dims: of the cells; else y, x or cell.
        corners: names of the variables of corners, or None to leave them out.
        declared: whether coordinates name their bounds.
        radians: whether coordinates and corners are in radians.
        attributes: whether coordinates have standard_name and units, and the variable names them.
        fill: what stands for missing coordinates and corners, undeclared; else NaN.
        values: of the first step, shape of the cells; each later step is one more.
        encoding: of the variable.
    """
    dims = tuple(dims or (("y", "x") if len(cells.shape) == 2 else ("cell",)))
    unit = np.radians if radians else np.asarray
    variables: dict[str, Any] = {}
    for name, corner, kind, side, centre, around in (
        (names[0], corners and corners[0], "latitude", "north", cells.lat, cells.lat_vertices),
        (names[1], corners and corners[1], "longitude", "east", cells.lon, cells.lon_vertices),
    ):
        units = "radian" if radians else f"degrees_{side}"
        said = {"standard_name": kind, "units": units} if attributes else {}
        if corner is not None and around is not None:
            variables[corner] = ((*dims, "vertices"), _filled(unit(around), fill))
            said |= {"bounds": corner} if declared else {}
        variables[name] = (dims, _filled(unit(centre), fill), said)
    first = smooth(cells.lat, cells.lon) if values is None else values
    data = np.stack([first + step for step in range(steps)])
    own = {"standard_name": "air_temperature", "units": "K", "cell_methods": "time: mean"}
    variables["tas"] = (("time", *dims), data, own)
    stamps = {"units": "days since 2001-01-01", "calendar": calendar, "standard_name": "time"}
    variables["time"] = ("time", np.arange(steps) + 0.5, stamps)
    dataset = xr.Dataset(variables, attrs={"Conventions": "CF-1.8", "history": "made up"})
    dataset["tas"].encoding = {"dtype": "f4", "_FillValue": np.float32(1e20), **(encoding or {})}
    if attributes:
        dataset["tas"].encoding["coordinates"] = f"{names[0]} {names[1]}"
        dataset = dataset.set_coords(list(names))
    if path is not None:
        for key in set(dataset.variables) - {"tas"}:
            dataset[key].encoding["_FillValue"] = None
        dataset.to_netcdf(path)
    return dataset


def _filled(values: Floats, fill: float | None) -> Floats:
    return values if fill is None else np.where(np.isfinite(values), values, fill)


def _unit(points: Floats) -> Floats:
    return np.asarray(points / np.linalg.norm(points, axis=-1, keepdims=True))


def _places(points: Floats) -> tuple[Floats, Floats]:
    """Latitudes and longitudes of unit vectors, degrees."""
    lat = np.degrees(np.arctan2(points[..., 2], np.hypot(points[..., 0], points[..., 1])))
    return lat, np.degrees(np.arctan2(points[..., 1], points[..., 0]))


def _unrotate(lat: Floats, lon: Floats, pole: tuple[float, float]) -> tuple[Floats, Floats]:
    """Geographical latitude and longitude of rotated ones, degrees."""
    x, y, z = np.moveaxis(unit_vectors(lat, lon), -1, 0)
    sine, cosine = np.sin(np.radians(pole[0])), np.cos(np.radians(pole[0]))
    found = _places(np.stack([cosine * z - sine * x, -y, sine * z + cosine * x], axis=-1))
    return found[0], (found[1] + pole[1] + 540.0) % 360.0 - 180.0


def _around(lat: Floats, lon: Floats) -> tuple[Floats, Floats]:
    """Corners of cells, anticlockwise, from a lattice of shape (ny + 1, nx + 1)."""
    lat_corners, lon_corners = (
        np.stack([n[:-1, :-1], n[:-1, 1:], n[1:, 1:], n[1:, :-1]], axis=-1) for n in (lat, lon)
    )
    return lat_corners, lon_corners


def _icosahedron() -> Floats:
    """Its 20 faces, shape (20, 3 corners, 3)."""
    ring = np.arctan(0.5)
    angles = np.radians(36.0 * np.arange(10))
    height = np.where(np.arange(10) % 2 == 0, ring, -ring)
    belt = unit_vectors(np.degrees(height), np.degrees(angles))
    north, south = np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, -1.0])
    faces = []
    for i in range(10):
        pole = north if i % 2 == 0 else south
        faces += [(pole, belt[i], belt[(i + 2) % 10]), (belt[i], belt[i - 1], belt[(i + 1) % 10])]
    return np.array(faces)
