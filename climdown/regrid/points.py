"""Weights from the centres of cells of any shape: the nearest one, or linear between three."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.spatial import Delaunay, KDTree, QhullError

from climdown.arrays import Float64, Index
from climdown.errors import GridError
from climdown.grid import Grid
from climdown.mesh import Mesh, places, unit_vectors

# The reach of a cell without corners is the distance to its sixth neighbour: in a square grid four
# of the eight neighbours share an edge, and four a corner.
_NEIGHBOURS = 6
# In distances to the nearest neighbour: triangles with a longer side bridge a hole of the mesh.
_LONGEST = 8.0
# From a triangle of the plane to the one of the sphere beside it.
_STEPS = 3


def nearest_weights(source: Mesh, target: Grid) -> sp.csr_array:
    """The cell whose centre is nearest; none outside the mesh and in its holes.

    A target lies in the mesh if it is within the corners' distance of one of the centres near it.
    """
    points, spread, first = _distinct_points(source)
    tree = KDTree(points)
    count = min(_NEIGHBOURS + 1, len(points))
    # The first neighbour of a centre is itself.
    neighbours = tree.query(points, k=[count])[0][:, 0]
    reach = source.reach.ravel()[first]
    # The distance to the sixth neighbour where corners are unknown; a little more, so that a
    # target on a corner is inside.
    reach = np.where(np.isfinite(reach), reach, neighbours) * (1.0 + 1e-9)
    distances, nearest = tree.query(_target_points(target), k=np.arange(1, count + 1))
    # Any of the near cells may hold the target: large cells may lie beside small ones.
    rows = np.flatnonzero((distances <= reach[nearest]).any(axis=1))
    return _matrix(rows, nearest[rows, 0], np.ones(rows.size), spread, len(distances))


def linear_weights(source: Mesh, target: Grid) -> sp.csr_array:
    """Linear interpolation in the triangles between centres; nothing outside them.

    Triangles are Delaunay's on the sphere: stereographic projection maps circles to circles, so
    a triangulation of the plane is one of the sphere. Each hemisphere is projected from the
    opposite pole.
    """
    points, spread, _ = _distinct_points(source)
    wanted = _target_points(target)
    longest = _LONGEST * _typical_side(points)
    parts = []
    for sign in (1.0, -1.0):
        # Sources reach over the equator, so that no triangle is cut there.
        near = np.flatnonzero(sign * points[:, 2] > -min(2.0 * longest, 0.5))
        rows = np.flatnonzero(wanted[:, 2] >= 0 if sign > 0 else wanted[:, 2] < 0)
        if (triangles := _triangles(points[near], sign)) is not None:
            parts.append(_triangle_weights(triangles, points, near, wanted, rows, sign, longest))
    if not parts:
        raise GridError(
            f"cannot interpolate between {len(points)} cells whose centres span no triangle: use "
            "--method nearest"
        )
    rows, columns, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return _matrix(rows, columns, values, spread, len(wanted))


def _triangles(points: Float64, sign: float) -> Delaunay | None:
    """None for fewer than three points, and for those on one line."""
    try:
        return Delaunay(_stereographic(points, sign)) if len(points) > 2 else None
    except QhullError:
        return None


def _triangle_weights(
    triangles: Delaunay,
    points: Float64,
    near: Index,
    wanted: Float64,
    rows: Index,
    sign: float,
    longest: float,
) -> tuple[Index, Index, Float64]:
    # Negative where the plane has no triangle: such targets lie outside the mesh.
    simplex = triangles.find_simplex(_stereographic(wanted[rows], sign))
    rows, simplex = rows[simplex >= 0], simplex[simplex >= 0]
    shares = _shares(points[near[triangles.simplices[simplex]]], wanted[rows])
    # Sides are straight lines in the plane but great circles on the sphere: a point between the
    # two belongs to the neighbouring triangle.
    for _ in range(_STEPS):
        # The neighbour across the side opposite the corner with the most negative share.
        beyond = triangles.neighbors[simplex, shares.argmin(axis=1)]
        outside = np.flatnonzero((shares.min(axis=1) < 0) & (beyond >= 0))
        simplex[outside] = beyond[outside]
        corners = near[triangles.simplices[simplex[outside]]]
        shares[outside] = _shares(points[corners], wanted[rows[outside]])
    corners = near[triangles.simplices[simplex]]
    # What is still outside after these steps is so by rounding or at the hull.
    shares = np.clip(shares, 0.0, None)
    shares /= shares.sum(axis=1, keepdims=True)
    # Triangles with a long side bridge holes and bays of the mesh; targets in them get no weight.
    compact = _side(points[corners]) < longest
    keep = np.repeat(compact[:, None], 3, axis=1)
    return np.repeat(rows, 3)[keep.ravel()], corners[keep], shares[keep]


def _shares(corners: Float64, wanted: Float64) -> Float64:
    """Barycentric coordinates, in flat triangles, of where the rays through points meet them."""
    a, b, c = np.moveaxis(corners, 1, 0)
    # The share of corner a is the volume (p, b, c) over the sum of the three (Cramer's rule).
    volumes = [(wanted * np.cross(p, q)).sum(axis=1) for p, q in ((b, c), (c, a), (a, b))]
    total = np.sum(volumes, axis=0)
    return np.asarray(np.stack(volumes, axis=1) / np.where(total == 0, 1.0, total)[:, None])


def _side(corners: Float64) -> Float64:
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1)
    return np.asarray(sides.max(axis=1))


def _typical_side(points: Float64) -> float:
    """The 95th percentile of the distances to the nearest neighbour."""
    # A sample is enough for a quantile, and keeps large meshes quick.
    sample = points[:: max(1, len(points) // 2000)]
    return float(np.quantile(KDTree(points).query(sample, k=2)[0][:, 1], 0.95))


def _stereographic(points: Float64, sign: float) -> Float64:
    return np.asarray(points[:, :2] / (1.0 + sign * points[:, 2:]))


def _distinct_points(source: Mesh) -> tuple[Float64, sp.csr_array, Index]:
    """Distinct centres: unit vectors, matrix (centres, cells) of means over copies, a cell of each.

    Ocean grids repeat rows and columns, and a copy may be missing where another is not.
    """
    located = np.flatnonzero(np.isfinite(source.lat) & np.isfinite(source.lon))
    lat, lon = source.lat.ravel()[located], source.lon.ravel()[located]
    # At a pole all longitudes name one place.
    at_pole = np.abs(lat) > 90.0 - 1e-6
    _, first, centre = np.unique(
        places(lat, np.where(at_pole, 0.0, lon)), return_index=True, return_inverse=True
    )
    # Weights of a place are spread evenly over its copies: a mean.
    share = 1.0 / np.bincount(centre)[centre]
    spread = sp.csr_array((share, (centre, located)), shape=(first.size, source.lat.size))
    return unit_vectors(lat[first], lon[first]), spread, located[first]


def _target_points(target: Grid) -> Float64:
    lat, lon = np.meshgrid(target.lat, target.lon, indexing="ij")
    return unit_vectors(lat, lon).reshape(-1, 3)


def _matrix(
    rows: Index,
    centres: Index,
    values: Float64,
    spread: sp.csr_array,
    targets: int,
) -> sp.csr_array:
    """The matrix (targets, cells) from weights of the distinct centres."""
    matrix = sp.csr_array((values, (rows, centres)), shape=(targets, spread.shape[0]))
    return sp.csr_array(matrix @ spread)
