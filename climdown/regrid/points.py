"""Weights from the centres of cells of any shape: the nearest one, or linear between three."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.spatial import Delaunay, KDTree

from climdown.errors import GridError
from climdown.grid import FloatArray, Grid
from climdown.mesh import Mesh, unit_vectors

# Ocean grids repeat rows and columns: nearer points than this are one, in units of the radius.
_SAME_POINT = 1e-7
# Neighbours that tell how far a cell reaches; of a square grid's eight, four lie across corners.
_NEIGHBOURS = 6


def nearest_weights(source: Mesh, target: Grid) -> sp.csr_array:
    """The cell whose centre is nearest; none where that is farther off than its neighbours."""
    index, points = _distinct_points(source)
    tree = KDTree(points)
    reach = tree.query(points, k=min(_NEIGHBOURS, len(points)))[0][:, -1]
    distance, found = tree.query(_target_points(target))
    rows = np.flatnonzero(distance <= reach[found])
    return _matrix(rows, index[found[rows]], np.ones(rows.size), source, target)


def linear_weights(source: Mesh, target: Grid) -> sp.csr_array:
    """Linear interpolation in the triangles between centres; nothing outside them.

    Triangles are Delaunay's on the sphere: stereographic projection maps circles to circles, so
    a triangulation of the plane is one of the sphere. Each hemisphere is projected from the
    opposite pole.
    """
    index, points = _distinct_points(source)
    wanted = _target_points(target)
    parts = []
    for sign in (1.0, -1.0):
        # Sources reach over the equator, so that triangles there are whole.
        near = np.flatnonzero(sign * points[:, 2] > -0.5)
        rows = np.flatnonzero(wanted[:, 2] >= 0 if sign > 0 else wanted[:, 2] < 0)
        if near.size >= 3 and rows.size:
            parts.append(_triangle_weights(points, near, wanted, rows, sign))
    if not parts:
        raise GridError("cannot interpolate between fewer than three cells")
    rows, columns, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return _matrix(rows, index[columns], values, source, target)


def _triangle_weights(
    points: FloatArray,
    near: npt.NDArray[np.intp],
    wanted: FloatArray,
    rows: npt.NDArray[np.intp],
    sign: float,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], FloatArray]:
    plane = _stereographic(points[near], sign)
    triangles = Delaunay(plane)
    position = _stereographic(wanted[rows], sign)
    simplex = triangles.find_simplex(position)
    inside = simplex >= 0
    rows, position, simplex = rows[inside], position[inside], simplex[inside]
    corners = near[triangles.simplices[simplex]]
    # Barycentric coordinates of the ray through the point, in the flat triangle of the sphere.
    matrices = np.swapaxes(points[corners], 1, 2)
    shares = np.linalg.solve(matrices, wanted[rows][..., None])[..., 0]
    shares = np.clip(shares, 0.0, None)
    shares /= shares.sum(axis=1, keepdims=True)
    compact = _side(points[corners]) < 8.0 * _typical_side(points)
    keep = np.repeat(compact[:, None], 3, axis=1)
    return np.repeat(rows, 3)[keep.ravel()], corners[keep], shares[keep]


def _side(corners: FloatArray) -> FloatArray:
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1)
    return np.asarray(sides.max(axis=1))


def _typical_side(points: FloatArray) -> float:
    """The distance to the nearest neighbour that 19 in 20 points keep: long triangles over a
    hole of the mesh are no interpolation."""
    sample = points[:: max(1, len(points) // 2000)]
    return float(np.quantile(KDTree(points).query(sample, k=2)[0][:, 1], 0.95))


def _stereographic(points: FloatArray, sign: float) -> FloatArray:
    return np.asarray(points[:, :2] / (1.0 + sign * points[:, 2:]))


def _distinct_points(source: Mesh) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Indices and unit vectors of the cells with a known centre, repeated ones once."""
    points = unit_vectors(source.lat, source.lon).reshape(-1, 3)
    index = np.flatnonzero(np.isfinite(points).all(axis=1))
    keys = np.round(points[index] / _SAME_POINT).astype(np.int64)
    _, first = np.unique(keys, axis=0, return_index=True)
    index = index[np.sort(first)]
    return index, points[index]


def _target_points(target: Grid) -> FloatArray:
    lat, lon = np.meshgrid(target.lat, target.lon, indexing="ij")
    return unit_vectors(lat, lon).reshape(-1, 3)


def _matrix(
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    values: FloatArray,
    source: Mesh,
    target: Grid,
) -> sp.csr_array:
    shape = (target.lat.size * target.lon.size, source.lat.size)
    return sp.csr_array((values, (rows, columns)), shape=shape)
