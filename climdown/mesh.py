"""Cells of any shape on the sphere: curvilinear grids and unstructured meshes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from climdown.errors import GridError
from climdown.grid import FloatArray, span

# A cell wider than this is no cell: its vertices are wrong.
_WIDEST_CELL = 60.0  # degrees


@dataclass(frozen=True, eq=False)
class Mesh:
    """Cells given by their centres and, where known, by their corners.

    Attributes:
        lat, lon: centres, degrees, shape (ny, nx) for a curvilinear grid or (n,) for an
            unstructured mesh; NaN marks cells that do not exist (blocks of land cut out of an
            ocean model).
        lat_vertices, lon_vertices: corners in order around each cell, shape (*shape, corners),
            the last one repeated where a cell has fewer; None if unknown.

    Build one with `Mesh.from_centres`, which infers the corners of curvilinear cells.

    Raises:
        GridError: shapes that do not fit, no cell at all, or latitudes beyond the poles.
    """

    lat: FloatArray
    lon: FloatArray
    lat_vertices: FloatArray | None
    lon_vertices: FloatArray | None

    def __post_init__(self) -> None:
        if self.lat.ndim not in (1, 2) or self.lat.shape != self.lon.shape:
            raise GridError(
                f"latitude has shape {self.lat.shape}, longitude {self.lon.shape}; expected one "
                "shape of one or two dimensions"
            )
        if not np.isfinite(self.lat).any():
            raise GridError("the grid has no cell with a known centre")
        if np.nanmax(np.abs(self.lat)) > 90.01:
            raise GridError(
                f"latitudes run from {np.nanmin(self.lat):g} to {np.nanmax(self.lat):g}; "
                "expected degrees within -90 and 90"
            )
        for vertices in (self.lat_vertices, self.lon_vertices):
            if vertices is not None and (
                vertices.shape[:-1] != self.lat.shape or vertices.shape[-1] < 3
            ):
                raise GridError(
                    f"cell corners have shape {vertices.shape}; expected "
                    f"{(*self.lat.shape, 'three or more')}"
                )

    @classmethod
    def from_centres(
        cls,
        lat: npt.ArrayLike,
        lon: npt.ArrayLike,
        *,
        lat_vertices: npt.ArrayLike | None = None,
        lon_vertices: npt.ArrayLike | None = None,
    ) -> Mesh:
        """Build a mesh; a curvilinear grid without corners gets those midway between centres."""
        centres = np.array(lat, np.float64), np.array(lon, np.float64)
        missing = ~(np.isfinite(centres[0]) & np.isfinite(centres[1]))
        for values in centres:
            values[missing] = np.nan
        if lat_vertices is not None and lon_vertices is not None:
            corners = np.array(lat_vertices, np.float64), np.array(lon_vertices, np.float64)
            return cls(*centres, *corners)
        if centres[0].ndim == 2 and min(centres[0].shape) > 1:
            return cls(*centres, *_infer_vertices(*centres))
        return cls(*centres, None, None)

    @property
    def shape(self) -> tuple[int, ...]:
        """(ny, nx) or (cells,)."""
        return self.lat.shape

    @cached_property
    def valid(self) -> npt.NDArray[np.bool_]:
        """Which cells have corners that can be one cell, shape of the mesh."""
        if self.lat_vertices is None or self.lon_vertices is None:
            return np.zeros(self.shape, dtype=bool)
        corners = unit_vectors(self.lat_vertices, self.lon_vertices)
        with np.errstate(invalid="ignore"):
            middle = corners.mean(axis=-2, keepdims=True)
            reach = np.linalg.norm(corners - middle, axis=-1).max(axis=-1)
            known = (np.abs(self.lat_vertices) <= 90.01).all(axis=-1)
            return np.asarray(known & (reach < np.radians(_WIDEST_CELL / 2)) & (reach > 0))

    @cached_property
    def spacing(self) -> float:
        """Median distance from a cell to its nearest neighbour, degrees of arc."""
        from scipy.spatial import KDTree

        points = unit_vectors(self.lat, self.lon).reshape(-1, 3)
        points = points[np.isfinite(points).all(axis=-1)]
        if len(points) < 2:
            raise GridError("cannot tell the spacing of a mesh of one cell")
        sample = points[:: max(1, len(points) // 5000)]
        # Ocean grids repeat columns: the nearest cell that is not the same one counts.
        distances = KDTree(points).query(sample, k=min(4, len(points)))[0]
        distances = np.where(distances > 1e-7, distances, np.inf).min(axis=1)
        chords = np.median(distances[np.isfinite(distances)])
        return float(np.degrees(2 * np.arcsin(min(1.0, chords / 2))))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over centres and corners rounded to 1e-6 degree: equal for equal meshes."""
        digest = hashlib.sha256(b"mesh")
        for values in (self.lat, self.lon, self.lat_vertices, self.lon_vertices):
            if values is not None:
                digest.update(str(values.shape).encode())
                rounded = np.round(np.nan_to_num(values, nan=1e6) * 1e6)
                digest.update(rounded.astype("<i8").tobytes())
        return digest.hexdigest()

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """(south, north, west, east) of the centres, degrees; west and east 360 apart if global.

        The longitudes are those outside the widest gap between meridians that hold cells.
        """
        known = np.isfinite(self.lat)
        south, north = float(self.lat[known].min()), float(self.lat[known].max())
        lon = np.unique(np.round(np.mod(self.lon[known], 360.0), 6))
        gaps = np.diff(np.append(lon, lon[0] + 360.0))
        widest = int(np.argmax(gaps))
        if gaps[widest] < 20.0:
            return south, north, -180.0, 180.0
        west, east = float(lon[(widest + 1) % lon.size]), float(lon[widest])
        east = east if east >= west else east + 360.0
        turn = 360.0 if west > 180.0 else 0.0
        return south, north, west - turn, east - turn

    def describe(self) -> str:
        """One line for people: kind, size, spacing and extent."""
        kind = "curvilinear" if self.lat.ndim == 2 else "unstructured"
        size = " x ".join(map(str, self.shape))
        south, north, west, east = self.box
        extent = "global longitudes" if east - west >= 360 else span((west, east), "E", "W")
        corners = "" if self.lat_vertices is not None else ", corners unknown"
        return (
            f"{kind}, {size} cells of about {self.spacing:.3g} deg, "
            f"{span((south, north), 'N', 'S')}, {extent}{corners}"
        )


def unit_vectors(lat: FloatArray, lon: FloatArray) -> FloatArray:
    """Points on the unit sphere, shape (..., 3), from degrees."""
    phi, lam = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def _infer_vertices(lat: FloatArray, lon: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Corners midway between the four centres around them, outermost ones extrapolated."""
    points = unit_vectors(lat, lon)
    for axis in (0, 1):
        first = 2 * points.take([0], axis) - points.take([1], axis)
        last = 2 * points.take([-1], axis) - points.take([-2], axis)
        points = np.concatenate([first, points, last], axis=axis)
    nodes = points[:-1, :-1] + points[1:, :-1] + points[:-1, 1:] + points[1:, 1:]
    nodes /= np.linalg.norm(nodes, axis=-1, keepdims=True)
    node_lat = np.degrees(np.arcsin(np.clip(nodes[..., 2], -1.0, 1.0)))
    node_lon = np.degrees(np.arctan2(nodes[..., 1], nodes[..., 0]))

    def around(node: FloatArray) -> FloatArray:
        return np.stack([node[:-1, :-1], node[:-1, 1:], node[1:, 1:], node[1:, :-1]], axis=-1)

    return around(node_lat), around(node_lon)
