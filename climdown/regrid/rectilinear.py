"""Exact weights between rectilinear grids: outer products of two small per-axis matrices.

The overlap of two rectilinear cells is the product of an overlap in sin(latitude) and one in
longitude, so weights are exact on the sphere and built in milliseconds.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from climdown.arrays import Float64
from climdown.grid import Grid
from climdown.mesh import Mesh
from climdown.regrid.weights import Method

_TOUCHING = 1e-3  # degrees


def axis_weights(source: Grid, target: Grid, method: Method) -> tuple[Float64, Float64]:
    """The per-axis factors of the weights: dense (ny', ny) in latitude and (nx', nx) in longitude.

    For "conservative", row i of a factor holds the fraction of target interval i that falls
    into each source interval (in sin(latitude), or in longitude modulo 360). For "bilinear",
    linear interpolation between centres, constant within the outermost half cells. For
    "nearest", one for the cell whose centre is nearest, within the source's edges.
    """
    if method == "conservative":
        return (
            _overlap_fractions(_pairs(_sin(source.lat_edges)), _sin(target.lat_edges)),
            _periodic_overlap_fractions(_pairs(source.lon_edges), target.lon_edges),
        )
    if method == "bilinear":
        return (
            _linear(source.lat, source.lat_edges, target.lat),
            _linear_longitude(source, target.lon),
        )
    # The larger of two linear weights belongs to the nearer centre; equal ones to the first.
    lat, lon = axis_weights(source, target, "bilinear")
    return _largest(lat), _largest(lon)


def _largest(linear: Float64) -> Float64:
    """One where a row of linear interpolation weights is largest: the nearest centre."""
    chosen = np.zeros_like(linear)
    rows = np.flatnonzero(linear.any(axis=1))
    chosen[rows, linear[rows].argmax(axis=1)] = 1.0
    return chosen


def rectilinear_weights(source: Grid, target: Grid, method: Method) -> sp.csr_array:
    """The weights, shape (target cells, source cells), as `Weights.matrix` wants them."""
    lat, lon = axis_weights(source, target, method)
    # Cells are numbered in C order, latitude first, which is the order of the Kronecker product.
    matrix = sp.kron(sp.csr_array(lat), sp.csr_array(lon), format="csr")
    if method == "bilinear" and source.periodic:
        matrix = matrix + _polar_correction(source, target, lon)
    return sp.csr_array(matrix)


def rectangle_weights(source: Mesh, target: Grid, method: Method) -> sp.csr_array:
    """Weights from rows and columns of cells that need not touch: nothing is said between these.

    Args:
        source: from `Mesh.from_bounds`.
    """
    assert source.lat_vertices is not None
    assert source.lon_vertices is not None
    lat, lon = source.lat_vertices[:, 0, 1:3], source.lon_vertices[0, :, :2]
    if method == "conservative":
        rows = _overlap_fractions(_sin(lat), _sin(target.lat_edges))
        columns = _periodic_overlap_fractions(lon, target.lon_edges)
    else:
        # Into the circle that begins at the source's west edge.
        wrapped = lon[0, 0] + np.mod(target.lon - lon[0, 0], 360.0)
        rows = _linear_in_runs(source.lat[:, 0], lat, target.lat)
        columns = _linear_in_runs(source.lon[0], lon, wrapped)
    if method == "nearest":
        rows, columns = _largest(rows), _largest(columns)
    return sp.csr_array(sp.kron(sp.csr_array(rows), sp.csr_array(columns), format="csr"))


def _linear_in_runs(centres: Float64, bounds: Float64, points: Float64) -> Float64:
    """Linear interpolation within each run of cells that touch; zero rows between the runs."""
    matrix = np.zeros((points.size, centres.size))
    ends = np.flatnonzero(bounds[1:, 0] - bounds[:-1, 1] > _TOUCHING) + 1
    for run in np.split(np.arange(centres.size), ends):
        edges = np.append(bounds[run, 0], bounds[run[-1], 1])
        part = _linear(centres[run], edges, points)
        # A point on the edge of two runs belongs to the first.
        part[matrix.any(axis=1)] = 0.0
        matrix[:, run] = part
    return matrix


def _pairs(edges: Float64) -> Float64:
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _sin(degrees: Float64) -> Float64:
    return np.asarray(np.sin(np.radians(degrees)), dtype=np.float64)


def _overlap_fractions(source: Float64, target_edges: Float64) -> Float64:
    # All pairs of intervals by broadcasting, shape (target, source).
    low = np.maximum(target_edges[:-1, None], source[None, :, 0])
    high = np.minimum(target_edges[1:, None], source[None, :, 1])
    return np.asarray(np.clip(high - low, 0.0, None) / np.diff(target_edges)[:, None])


def _periodic_overlap_fractions(source: Float64, target_edges: Float64) -> Float64:
    # Shift the target by whole circles so that every convention meets every other.
    first = int(np.floor((source[0, 0] - target_edges[-1]) / 360.0))
    last = int(np.ceil((source[-1, 1] - target_edges[0]) / 360.0))
    turns = range(first, last + 1)
    parts = [_overlap_fractions(source, target_edges + 360.0 * k) for k in turns]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def _linear(centres: Float64, edges: Float64, points: Float64) -> Float64:
    """Rows of linear interpolation weights; zero rows for points outside the edges."""
    matrix = np.zeros((points.size, centres.size))
    inside = (points >= edges[0] - 1e-9) & (points <= edges[-1] + 1e-9)
    rows = np.flatnonzero(inside)
    if centres.size == 1:
        matrix[rows, 0] = 1.0
        return matrix
    # Constant between the outermost centre and the outermost edge.
    position = np.clip(points[rows], centres[0], centres[-1])
    # The last centre itself belongs to the interval before it.
    left = np.clip(np.searchsorted(centres, position, side="right") - 1, 0, centres.size - 2)
    fraction = (position - centres[left]) / (centres[left + 1] - centres[left])
    matrix[rows, left] = 1.0 - fraction
    matrix[rows, left + 1] = fraction
    return matrix


def _linear_longitude(source: Grid, points: Float64) -> Float64:
    """Interpolation weights in longitude; a periodic source is extended across its seam."""
    base = source.lon_edges[0]
    wrapped = base + np.mod(points - base, 360.0)
    if not source.periodic:
        # A point a rounding error west of the first edge must not wrap to the far east.
        wrapped = np.where(wrapped - base > 360.0 - 1e-6, wrapped - 360.0, wrapped)
        return _linear(source.lon, source.lon_edges, wrapped)
    size = source.lon.size
    # A copy of the last column before the first and of the first behind the last.
    extended = np.concatenate([[source.lon[-1] - 360.0], source.lon, [source.lon[0] + 360.0]])
    open_ended = np.array([extended[0], extended[-1]])
    matrix = _linear(extended, open_ended, wrapped)
    # The weights of the copies go to the columns that they stand for.
    matrix[:, size] += matrix[:, 0]
    matrix[:, 1] += matrix[:, -1]
    return matrix[:, 1:-1]


def _polar_correction(source: Grid, target: Grid, lon: Float64) -> sp.csr_array:
    """Between the last row and the pole, interpolate towards the row's zonal mean.

    The value at a pole is one value; the zonal mean of the nearest row is its best estimate,
    where constant continuation would draw a fan of wedges. Returned as a difference to it.
    """
    towards_pole = np.zeros((target.lat.size, source.lat.size))
    for row, pole in ((0, -90.0), (source.lat.size - 1, 90.0)):
        # From 0 at the centre of the last row to 1 at the pole.
        gap = pole - source.lat[row]
        reaches_pole = abs(pole - source.lat_edges[0 if row == 0 else -1]) < 1e-6
        if abs(gap) > 1e-9 and reaches_pole:
            towards_pole[:, row] = np.clip((target.lat - source.lat[row]) / gap, 0.0, 1.0)
    # (1 - t) row + t mean = row + t (mean - row): the difference is added to the linear weights.
    zonal_mean = np.full_like(lon, 1.0 / source.lon.size)
    return sp.csr_array(sp.kron(sp.csr_array(towards_pole), sp.csr_array(zonal_mean - lon)))
