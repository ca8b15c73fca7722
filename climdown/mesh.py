"""Cells of any shape on the sphere: curvilinear grids and unstructured meshes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from climdown.arrays import Float64, Index, Mask
from climdown.errors import GridError
from climdown.grid import span

# The corners of a cell that is wider than this are wrong.
_WIDEST_CELL = 60.0  # degrees
# Corners this far beyond a pole were extrapolated, and mean the pole; others are wrong.
_BEYOND_POLE = 10.0  # degrees
# Ocean grids repeat a cell in halos and folds; a place that occurs more often is a filler, such as
# 0 N 0 E where a model leaves out blocks of land.
_MOST_COPIES = 8
_SAME_PLACE = 1e-4  # degrees
# Longitudes without cells that a global mesh may have.
_WIDEST_GAP = 20.0  # degrees


@dataclass(frozen=True, eq=False)
class Mesh:
    """Cells given by their centres and, where known, by their corners.

    Attributes:
        lat, lon: centres, degrees, shape (ny, nx) for a curvilinear grid or (n,) for an
            unstructured mesh; NaN marks cells that do not exist (blocks of land cut out of an
            ocean model).
        lat_vertices, lon_vertices: corners in order around each cell, shape (*shape, corners),
            the last one repeated where a cell has fewer; None if unknown.
        along_axes: whether cells are rows and columns along parallels and meridians, from
            `from_bounds`; edges of others are great circles.

    Build one with `Mesh.from_centres`, which infers the corners of curvilinear cells.

    Raises:
        GridError: shapes that do not fit, no cell at all, or latitudes beyond the poles.
    """

    lat: Float64
    lon: Float64
    lat_vertices: Float64 | None
    lon_vertices: Float64 | None
    along_axes: bool = field(default=False, kw_only=True)

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
        lat, lon = (
            None if vertices is None else vertices.shape
            for vertices in (self.lat_vertices, self.lon_vertices)
        )
        if lat != lon or (lat is not None and (lat[:-1] != self.lat.shape or lat[-1] < 3)):
            raise GridError(
                f"cell corners have shape {lat} in latitude and {lon} in longitude; expected "
                f"{(*self.lat.shape, 'three or more')} in both"
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
        if centres[0].shape != centres[1].shape:
            return cls(*centres, None, None)  # raises the error
        missing = ~(np.isfinite(centres[0]) & np.isfinite(centres[1]))
        # Before corners are inferred, so that filler places do not become anyone's neighbours.
        missing |= _copies(*centres) > _MOST_COPIES
        for values in centres:
            values[missing] = np.nan
        if lat_vertices is not None and lon_vertices is not None:
            corners = np.array(lat_vertices, np.float64), np.array(lon_vertices, np.float64)
            return cls(*centres, *_padded(*corners))
        if centres[0].ndim == 2 and min(centres[0].shape) > 1:
            return cls(*centres, *_infer_vertices(*centres))
        return cls(*centres, None, None)

    @property
    def shape(self) -> tuple[int, ...]:
        """(ny, nx) or (cells,)."""
        return self.lat.shape

    @cached_property
    def valid(self) -> Mask:
        """Which cells have corners that can be one cell, shape of the mesh."""
        return np.asarray(self._has_corners & ~self.damaged)

    @cached_property
    def damaged(self) -> Mask:
        """Which cells have corners that cannot be theirs: too far apart, or not around them."""
        if self.lat_vertices is None or self.lon_vertices is None:
            return np.zeros(self.shape, dtype=bool)
        corners = unit_vectors(self.lat_vertices, self.lon_vertices)
        # In space, where a pole or the date line is a place like any other.
        middle = corners.mean(axis=-2)
        reach = np.linalg.norm(corners - middle[..., None, :], axis=-1).max(axis=-1)
        off = np.linalg.norm(unit_vectors(self.lat, self.lon) - middle, axis=-1)
        # NaN, of cells without corners, compares false.
        with np.errstate(invalid="ignore"):
            wrong = (reach > np.radians(_WIDEST_CELL / 2)) | (off > 2.0 * reach)
        return np.asarray(self._has_corners & wrong)

    @cached_property
    def reach(self) -> Float64:
        """Distance from each centre to its farthest corner, in radii; NaN without corners."""
        if self.lat_vertices is None or self.lon_vertices is None:
            return np.full(self.shape, np.nan)
        centre = unit_vectors(self.lat, self.lon)[..., None, :]
        away = np.linalg.norm(unit_vectors(self.lat_vertices, self.lon_vertices) - centre, axis=-1)
        return np.where(self.valid, away.max(axis=-1), np.nan)

    @classmethod
    def from_bounds(
        cls, lat: Float64, lon: Float64, *, lat_bounds: Float64, lon_bounds: Float64
    ) -> Mesh:
        """Rows and columns of cells that need not touch one another, as those of a `Grid` do.

        Args:
            lat, lon: centres, degrees, ascending, shapes (ny,) and (nx,).
            lat_bounds, lon_bounds: low and high, degrees, shapes (ny, 2) and (nx, 2).
        """
        shape = (lat.size, lon.size, 4)
        return cls(
            *np.meshgrid(lat, lon, indexing="ij"),
            np.broadcast_to(lat_bounds[:, None, [0, 0, 1, 1]], shape),
            np.broadcast_to(lon_bounds[None, :, [0, 1, 1, 0]], shape),
            along_axes=True,
        )

    @cached_property
    def _has_corners(self) -> Mask:
        """Corners are known and differ: some models write equal corners where there is no cell."""
        if self.lat_vertices is None or self.lon_vertices is None:
            return np.zeros(self.shape, dtype=bool)
        finite = np.isfinite(self.lat_vertices) & np.isfinite(self.lon_vertices)
        spread = np.ptp(self.lat_vertices, axis=-1) + np.ptp(self.lon_vertices, axis=-1)
        return np.asarray(finite.all(axis=-1) & (spread > 0))

    @cached_property
    def copies(self) -> Index:
        """How many cells have each cell's centre, shape of the mesh; 1 where it is unknown."""
        return _copies(self.lat, self.lon)

    def filled_copies(self, values: Float64) -> Float64:
        """Values (cells, fields); those missing in one copy of a cell are taken from other copies.

        Models mask their halos, and ocean grids repeat a row along their fold.
        """
        cells = np.flatnonzero(self.copies > 1)
        missing = np.isnan(values[cells])
        if not missing.any():
            return values
        _, place = np.unique(
            places(self.lat.ravel()[cells], self.lon.ravel()[cells]), return_inverse=True
        )
        # The mean over the copies that have a value.
        total, count = np.zeros((2, place.max() + 1, values.shape[1]))
        np.add.at(total, place, np.where(missing, 0.0, values[cells]))
        np.add.at(count, place, ~missing)
        means = np.where(count > 0, total / np.maximum(count, 1.0), np.nan)[place]
        values = values.copy()
        values[cells] = np.where(missing, means, values[cells])
        return values

    @cached_property
    def spacing(self) -> float:
        """Median distance from a cell to its nearest neighbour, degrees of arc."""
        from scipy.spatial import KDTree

        points = unit_vectors(self.lat, self.lon).reshape(-1, 3)
        points = points[np.isfinite(points).all(axis=-1)]
        if len(points) < 2:
            raise GridError("cannot tell the spacing of a mesh of one cell")
        # A sample is enough for a median.
        sample = points[:: max(1, len(points) // 5000)]
        # Ocean grids repeat columns: the nearest cell that is not the same one counts.
        distances = KDTree(points).query(sample, k=min(4, len(points)))[0]
        distances = np.where(distances > 1e-7, distances, np.inf).min(axis=1)
        # From chords to arcs: 2 arcsin(chord / 2).
        chords = np.median(distances[np.isfinite(distances)])
        return float(np.degrees(2 * np.arcsin(min(1.0, chords / 2))))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over centres and corners rounded to 1e-6 degree: equal for equal meshes."""
        digest = hashlib.sha256(b"axes" if self.along_axes else b"mesh")
        for values in (self.lat, self.lon, self.lat_vertices, self.lon_vertices):
            if values is not None:
                digest.update(str(values.shape).encode())
                # NaN has no integer; no coordinate is as large as its stand-in.
                rounded = np.round(np.nan_to_num(values, nan=1e6) * 1e6)
                digest.update(rounded.astype("<i8").tobytes())
        return digest.hexdigest()

    def matches(self, other: Mesh) -> bool:
        """Whether two meshes are one but for the rounding of stored coordinates."""
        return all(
            _alike(one, two, turn)
            for one, two, turn in (
                (self.lat, other.lat, 0.0),
                (self.lon, other.lon, 360.0),
                (self.lat_vertices, other.lat_vertices, 0.0),
                (self.lon_vertices, other.lon_vertices, 360.0),
            )
        )

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """(south, north, west, east) of the centres, degrees; west and east 360 apart if global.

        The longitudes are those outside the widest gap between meridians that hold cells.
        """
        located = np.isfinite(self.lat)
        return _box(self.lat[located], self.lon[located])

    @cached_property
    def extent(self) -> tuple[float, float, float, float]:
        """As `box`, but of the cells' outer edges: of their corners where these are known."""
        if self.valid.any() and self.lat_vertices is not None and self.lon_vertices is not None:
            south, north, west, east = _box(
                self.lat_vertices[self.valid], self.lon_vertices[self.valid]
            )
        else:
            half = 0.5 * self.spacing
            south, north, west, east = self.box
            south, north = max(south - half, -90.0), min(north + half, 90.0)
            if east - west < 360.0:
                # A degree of longitude shrinks with the latitude; bounded, or it would grow
                # without end at a pole.
                wide = half / max(np.cos(np.radians(0.5 * (south + north))), 0.2)
                west, east = west - wide, east + wide
        if east - west >= 360.0:
            # The cell over a pole has no corner there.
            south = -90.0 if south < -90.0 + self.spacing else south
            north = 90.0 if north > 90.0 - self.spacing else north
        return south, north, west, east

    def describe(self) -> str:
        """One line for people: kind, size, spacing and extent."""
        kind = "curvilinear" if self.lat.ndim == 2 else "unstructured"
        size = " x ".join(map(str, self.shape))
        south, north, west, east = self.box
        extent = "global longitudes" if east - west >= 360 else span((west, east), "E", "W")
        corners = "" if self.lat_vertices is not None else ", corners unknown"
        located = np.isfinite(self.lat)
        several = np.unique(places(self.lat[located], self.lon[located])).size > 1
        spacing = f" of about {self.spacing:.3g} deg" if several else ""
        return f"{kind}, {size} cells{spacing}, {span((south, north), 'N', 'S')}, {extent}{corners}"


def _alike(one: Float64 | None, two: Float64 | None, turn: float) -> bool:
    """Equal degrees but for rounding and, where `turn` is 360, for whole circles."""
    if one is None or two is None or one.shape != two.shape:
        return one is two
    apart = one - two
    apart = apart - turn * np.round(apart / turn) if turn else apart
    missing = np.isnan(one) & np.isnan(two)
    return bool((missing | (np.abs(apart) < _SAME_PLACE)).all())


def unit_vectors(lat: Float64, lon: Float64) -> Float64:
    """Points on the unit sphere, shape (..., 3), from degrees."""
    phi, lam = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def _box(lat: Float64, lon: Float64) -> tuple[float, float, float, float]:
    """South, north, and the meridians beside the widest gap, 360 apart where it is narrow."""
    south, north = float(lat.min()), float(lat.max())
    # On the circle of longitudes: the last gap leads from the last meridian back to the first.
    meridians = np.unique(np.round(np.mod(lon, 360.0), 6))
    gaps = np.diff(np.append(meridians, meridians[0] + 360.0))
    widest = int(np.argmax(gaps))
    # No wide gap: the cells go all the way round.
    if gaps[widest] < _WIDEST_GAP:
        return south, north, -180.0, 180.0
    west, east = float(meridians[(widest + 1) % meridians.size]), float(meridians[widest])
    east = east if east >= west else east + 360.0
    # Into the convention with the western edge from -180 to 180.
    turn = 360.0 if west > 180.0 else 0.0
    return south, north, west - turn, east - turn


def places(lat: Float64, lon: Float64) -> npt.NDArray[np.int64]:
    """Numbers that are equal for equal places, whatever the longitude convention."""
    turn = round(360.0 / _SAME_PLACE)
    # As whole numbers of the tolerance: 359.99999 and 0 degrees come out equal by the remainder.
    east = np.round(lon / _SAME_PLACE).astype(np.int64) % turn
    return np.asarray(np.round((lat + 90.0) / _SAME_PLACE).astype(np.int64) * turn + east)


def _copies(lat: Float64, lon: Float64) -> Index:
    copies = np.ones(lat.shape, dtype=np.intp)
    located = np.isfinite(lat) & np.isfinite(lon)
    _, inverse, counts = np.unique(
        places(lat[located], lon[located]), return_inverse=True, return_counts=True
    )
    copies[located] = counts[inverse]
    return copies


def _padded(lat: Float64, lon: Float64) -> tuple[Float64, Float64]:
    """Corners, with those beyond a pole moved to it and missing ones replaced by the one before."""
    beyond = np.abs(lat) > 90.0
    lat = np.where(beyond & (np.abs(lat) <= 90.0 + _BEYOND_POLE), np.sign(lat) * 90.0, lat)
    if lat.shape != lon.shape or lat.ndim == 0:
        return lat, lon
    missing = ~(np.isfinite(lat) & np.isfinite(lon) & (np.abs(lat) <= 90.0))
    lat, lon = np.where(missing, np.nan, lat), np.where(missing, np.nan, lon)
    # Cells with fewer corners than the array has room for, but enough for an area.
    some = missing.any(axis=-1) & ((~missing).sum(axis=-1) >= 3)
    if not some.any():
        return lat, lon
    # The number of the last known corner up to each; corners before the first take the last.
    number = np.where(missing[some], -1, np.arange(lat.shape[-1]))
    last = np.maximum.accumulate(number, axis=-1)
    last = np.where(last < 0, number.max(axis=-1, keepdims=True), last)
    for values in (lat, lon):
        values[some] = np.take_along_axis(values[some], last, axis=-1)
    return lat, lon


def _infer_vertices(lat: Float64, lon: Float64) -> tuple[Float64, Float64]:
    """Corners midway between the four centres around them, outermost ones extrapolated."""
    frame = ((1, 1), (1, 1), (0, 0))
    points = np.pad(unit_vectors(lat, lon), frame, constant_values=np.nan)
    # Twice: the corners of the frame are extrapolated from its sides.
    points = _continued(_continued(points))
    # Node (j, i) is between four centres; means of unit vectors are midpoints also across a pole or
    # the date line. With a frame of one there are ny + 1 by nx + 1 nodes.
    nodes = points[:-1, :-1] + points[1:, :-1] + points[:-1, 1:] + points[1:, 1:]
    nodes /= np.linalg.norm(nodes, axis=-1, keepdims=True)
    node_lat = np.degrees(np.arcsin(np.clip(nodes[..., 2], -1.0, 1.0)))
    node_lon = np.degrees(np.arctan2(nodes[..., 1], nodes[..., 0]))
    exists = np.isfinite(lat)[..., None]

    def around(node: Float64) -> Float64:
        # Corners of cell (j, i), in order around it.
        corners = [node[:-1, :-1], node[:-1, 1:], node[1:, 1:], node[1:, :-1]]
        return np.where(exists, np.stack(corners, axis=-1), np.nan)

    return around(node_lat), around(node_lon)


def _continued(points: Float64) -> Float64:
    """Missing points extrapolated from two known ones beside them, the mean over directions."""
    total, count = np.zeros(points.shape), np.zeros(points.shape)
    for axis in (0, 1):
        for step in (1, -1):
            # Linear extrapolation from the two nearest points on one side: 2 p1 - p2.
            guess = 2 * _shifted(points, step, axis) - _shifted(points, 2 * step, axis)
            finite = np.isfinite(guess)
            total += np.where(finite, guess, 0.0)
            count += finite
    guesses = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.where(np.isfinite(points), points, guesses)


def _shifted(points: Float64, step: int, axis: int) -> Float64:
    """The entries `step` before each along an axis, NaN where there are none."""
    moved = np.moveaxis(np.full_like(points, np.nan), axis, 0)
    size = len(moved)
    lines = np.moveaxis(points, axis, 0)
    # For a negative step the entries after each.
    moved[max(step, 0) : size + min(step, 0)] = lines[max(-step, 0) : size - max(step, 0)]
    return np.moveaxis(moved, 0, axis)
