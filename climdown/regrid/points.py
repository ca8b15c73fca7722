"""Weights from the centres of cells of any shape: the nearest one, or linear between three."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.spatial import Delaunay, KDTree

from climdown.errors import GridError
from climdown.grid import FloatArray, Grid
from climdown.mesh import Mesh, places, unit_vectors

# Neighbours that tell how far a cell without corners reaches; of a square grid's eight, four lie
# across corners.
_NEIGHBOURS = 6


def nearest_weights(source: Mesh, target: Grid) -> sp.csr_array:
    """The cell whose centre is nearest; none where that is farther off than its corners."""
    points, spread, first = _distinct_points(source)
    tree = KDTree(points)
    neighbours = tree.query(points, k=min(_NEIGHBOURS + 1, len(points)))[0][:, -1]
    reach = source.reach.ravel()[first]
    reach = np.where(np.isfinite(reach), reach, neighbours) * (1.0 + 1e-9)
    distance, found = tree.query(_target_points(target))
    rows = np.flatnonzero(distance <= reach[found])
    return _matrix(rows, found[rows], np.ones(rows.size), spread, distance.size)


def linear_weights(source: Mesh, target: Grid) -> sp.csr_array:
    """Linear interpolation in the triangles between centres; nothing outside them.

    Triangles are Delaunay's on the sphere: stereographic projection maps circles to circles, so
    a triangulation of the plane is one of the sphere. Each hemisphere is projected from the
    opposite pole.
    """
    points, spread, _ = _distinct_points(source)
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
    return _matrix(rows, columns, values, spread, len(wanted))


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


def _distinct_points(source: Mesh) -> tuple[FloatArray, sp.csr_array, npt.NDArray[np.intp]]:
    """Distinct centres: unit vectors, matrix (centres, cells) of means over copies, a cell of each.

    Ocean grids repeat rows and columns, and a copy may be missing where another is not.
    """
    known = np.flatnonzero(np.isfinite(source.lat) & np.isfinite(source.lon))
    lat, lon = source.lat.ravel()[known], source.lon.ravel()[known]
    at_pole = np.abs(lat) > 90.0 - 1e-6
    _, first, centre = np.unique(
        places(lat, np.where(at_pole, 0.0, lon)), return_index=True, return_inverse=True
    )
    share = 1.0 / np.bincount(centre)[centre]
    spread = sp.csr_array((share, (centre, known)), shape=(first.size, source.lat.size))
    return unit_vectors(lat[first], lon[first]), spread, known[first]


def _target_points(target: Grid) -> FloatArray:
    lat, lon = np.meshgrid(target.lat, target.lon, indexing="ij")
    return unit_vectors(lat, lon).reshape(-1, 3)


def _matrix(
    rows: npt.NDArray[np.intp],
    centres: npt.NDArray[np.intp],
    values: FloatArray,
    spread: sp.csr_array,
    targets: int,
) -> sp.csr_array:
    """The matrix (targets, cells) from weights of the distinct centres."""
    matrix = sp.csr_array((values, (rows, centres)), shape=(targets, spread.shape[0]))
    return sp.csr_array(matrix @ spread)
