"""Conservative weights from cells of any shape, by intersecting polygons on the sphere.

Edges of source cells are great circles; those of the target follow its parallels, drawn with
enough points that the two differ by less than 1e-4 of a cell. Intersections and areas are
those of the S2 library, through spherely.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from climdown.errors import GridError
from climdown.grid import FloatArray, Grid
from climdown.mesh import Mesh, unit_vectors

log = logging.getLogger(__name__)

_CHUNK = 200_000  # pairs intersected at once, to bound memory
_MARGIN = 1e-9  # degrees
# More cells than this share without a usable polygon, and the corners are not corners.
_MAX_BROKEN = 0.1


def conservative_weights(source: Mesh, target: Grid) -> sp.csr_array:
    """Share of each target cell's area that each source cell fills.

    Raises:
        GridError: the corners are unknown, or most of them do not make cells.
    """
    if source.lat_vertices is None:
        raise GridError(
            "the cells' corners are unknown (no bounds on latitude and longitude), so areas "
            "cannot be conserved: use bilinear or nearest"
        )
    index, polygons = _source_polygons(source)
    boxes = _Boxes.of(source, index)
    rows, columns = _candidates(boxes, target)
    shape = (target.lat.size * target.lon.size, source.lat.size)
    matrix = sp.csr_array(shape, dtype=np.float64)
    cells: dict[int, Any] = {}
    for start in range(0, rows.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        shares = _shares(rows[part], columns[part], polygons, target, cells)
        kept = shares > 0
        entries = (shares[kept], (rows[part][kept], index[columns[part][kept]]))
        matrix = matrix + sp.csr_array(entries, shape=shape)
    return sp.csr_array(matrix)


def _shares(
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    polygons: npt.NDArray[np.object_],
    target: Grid,
    cells: dict[int, Any],
) -> FloatArray:
    """Intersection area over target area, for pairs of a target row and a source polygon."""
    import spherely

    for row in np.unique(rows):
        if int(row) not in cells:
            cells[int(row)] = _target_polygon(target, *divmod(int(row), target.lon.size))
    targets = np.array([cells[int(row)] for row in rows], dtype=object)
    overlaps = spherely.intersection(targets, polygons[columns])
    areas = spherely.area(overlaps, radius=1.0) / spherely.area(targets, radius=1.0)
    return np.asarray(areas, dtype=np.float64)


def _source_polygons(source: Mesh) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.object_]]:
    """Flat indices of the cells that exist, and their polygons."""
    assert source.lat_vertices is not None
    assert source.lon_vertices is not None
    corners = source.lat_vertices.shape[-1]
    lat = source.lat_vertices.reshape(-1, corners)
    lon = source.lon_vertices.reshape(-1, corners)
    usable = np.flatnonzero(source.valid)
    polygons, index, broken = [], [], 0
    for i in usable:
        polygon = _polygon(lon[i], lat[i])
        if polygon is None:
            broken += 1
        else:
            index.append(i)
            polygons.append(polygon)
    if broken > _MAX_BROKEN * usable.size or not polygons:
        raise GridError(
            f"{broken} of {usable.size} cells have corners that make no cell; the bounds of "
            "latitude and longitude seem damaged: use bilinear or nearest"
        )
    if broken:
        log.warning("%d cells have corners that make no cell and are left out", broken)
    return np.array(index, dtype=np.intp), np.array(polygons, dtype=object)


def _polygon(lon: FloatArray, lat: FloatArray) -> Any:
    """A polygon from corners in either direction, repeated ones dropped; None if there is none."""
    import spherely

    points = [(float(x), float(y)) for x, y in zip(lon, lat, strict=True)]
    ring = [p for p, before in zip(points, points[-1:] + points[:-1], strict=True) if p != before]
    if len(ring) < 3:
        return None
    try:
        return spherely.create_polygon(ring)
    except (ValueError, RuntimeError):
        pass
    try:
        return spherely.create_polygon(_convex_order(ring))
    except (ValueError, RuntimeError):
        return None


def _convex_order(ring: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same corners sorted around their middle: undoes a bow tie at a fold of the grid."""
    lon, lat = (np.array(values) for values in zip(*ring, strict=True))
    corners = unit_vectors(lat, lon)
    middle = corners.mean(axis=0)
    middle /= np.linalg.norm(middle)
    first = corners[0] - middle * (corners[0] @ middle)
    angle = np.arctan2(corners @ np.cross(middle, first), corners @ first)
    return [ring[i] for i in np.argsort(angle)]


def _target_polygon(target: Grid, y: int, x: int) -> Any:
    """A cell between parallels and meridians, its parallels drawn by several points."""
    import spherely

    south, north = np.clip(target.lat_edges[y : y + 2], -90.0, 90.0)
    west, east = target.lon_edges[x : x + 2]
    width, height = np.radians(east - west), np.radians(north - south)
    # A great circle bulges by width^2 / 16 at most from its parallel (at 45 degrees).
    count = max(2, int(np.ceil(np.sqrt(width**2 / (16.0 * height) / 1e-4))) + 1)
    count = max(count, int(np.ceil(width / np.radians(30.0))) + 1)
    lon = np.linspace(west, east, count)
    below = [(west, -90.0)] if south <= -90.0 + _MARGIN else [(v, south) for v in lon]
    above = [(west, 90.0)] if north >= 90.0 - _MARGIN else [(v, north) for v in lon[::-1]]
    return spherely.create_polygon([(float(a), float(b)) for a, b in below + above])


class _Boxes:
    """Latitudes and longitudes that cells cannot leave, degrees, one row per cell.

    A great circle between two points of one parallel bulges towards the pole; cells around a
    pole hold all longitudes.
    """

    def __init__(self, south: FloatArray, north: FloatArray, west: FloatArray, width: FloatArray):
        self.south, self.north, self.west, self.width = south, north, west, width

    @classmethod
    def of(cls, source: Mesh, index: npt.NDArray[np.intp]) -> _Boxes:
        assert source.lat_vertices is not None
        assert source.lon_vertices is not None
        corners = source.lat_vertices.shape[-1]
        lat = source.lat_vertices.reshape(-1, corners)[index]
        lon = source.lon_vertices.reshape(-1, corners)[index]
        steps = (np.diff(lon, axis=1, append=lon[:, :1]) + 180.0) % 360.0 - 180.0
        # A corner on the pole has any longitude.
        at_pole = np.abs(lat) > 90.0 - 1e-6
        around = np.abs(steps.sum(axis=1)) > 180.0
        path = np.concatenate([np.zeros((len(lon), 1)), np.cumsum(steps[:, :-1], axis=1)], axis=1)
        low, high = path.min(axis=1), path.max(axis=1)
        bulge = np.degrees(np.radians(np.minimum(high - low, 90.0)) ** 2 / 8.0)
        south, north = lat.min(axis=1), lat.max(axis=1)
        all_round = around | at_pole.any(axis=1)
        south = np.where(all_round & (south < 0), -90.0, np.maximum(south - bulge, -90.0))
        north = np.where(all_round & (north > 0), 90.0, np.minimum(north + bulge, 90.0))
        west = np.where(all_round, 0.0, lon[:, 0] + low)
        return cls(south, north, west, np.where(all_round, 360.0, high - low))


def _candidates(boxes: _Boxes, target: Grid) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Pairs of target cell (flat) and source cell whose boxes overlap."""
    ny, nx = target.shape
    first = np.searchsorted(target.lat_edges, boxes.south - _MARGIN, side="right") - 1
    last = np.searchsorted(target.lat_edges, boxes.north + _MARGIN, side="left")
    first, last = np.clip(first, 0, ny), np.clip(last, 0, ny)
    rows, columns = [], []
    base = target.lon_edges[0]
    for turn in (-360.0, 0.0, 360.0):
        west = base + np.mod(boxes.west - base, 360.0) + turn
        left = np.searchsorted(target.lon_edges, west - _MARGIN, side="right") - 1
        right = np.searchsorted(target.lon_edges, west + boxes.width + _MARGIN, side="left")
        left, right = np.clip(left, 0, nx), np.clip(right, 0, nx)
        tall, wide = np.maximum(last - first, 0), np.maximum(right - left, 0)
        count = tall * wide
        source = np.repeat(np.arange(count.size), count)
        within = np.arange(source.size) - np.repeat(np.cumsum(count) - count, count)
        y = first[source] + within // np.maximum(wide[source], 1)
        x = left[source] + within % np.maximum(wide[source], 1)
        rows.append(y * nx + x)
        columns.append(source)
    flat, cells = np.concatenate(rows), np.concatenate(columns)
    # Cells all round meet a target in more than one turn.
    pairs = np.unique(flat.astype(np.int64) * max(1, boxes.south.size) + cells)
    return pairs // max(1, boxes.south.size), pairs % max(1, boxes.south.size)
