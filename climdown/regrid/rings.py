"""Corners in an order that crosses the cell, sorted into the order around it."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from climdown.arrays import Float64, Mask
from climdown.mesh import unit_vectors

# Sine of the angle by which a corner may lie on the wrong side: float32 coordinates.
_TOLERANCE = 1e-6


def untangled(lat: Float64, lon: Float64) -> tuple[Float64, Float64]:
    """Cells with their corners in order: bow ties, as grids have at folds, are undone.

    Args:
        lat, lon: corners, degrees, shape (cells, corners); in either direction, some repeated.
    """
    points = unit_vectors(lat, lon)
    angles = _bearings(points)
    turns = (np.roll(angles, -1, axis=1) - angles + np.pi) % (2 * np.pi) - np.pi
    # Corners that go around the middle in one direction cannot cross.
    suspects = np.flatnonzero((turns > _TOLERANCE).any(axis=1) & (turns < -_TOLERANCE).any(axis=1))
    tangled = suspects[_crosses_itself(points[suspects])]
    if tangled.size == 0:
        return lat, lon
    lat, lon = lat.copy(), lon.copy()
    order = np.argsort(angles[tangled], axis=1, kind="stable")
    for values in (lat, lon):
        values[tangled] = np.take_along_axis(values[tangled], order, axis=1)
    return lat, lon


def _bearings(points: Float64) -> Float64:
    """Directions from the middle of each cell to its corners, radians, shape (cells, corners)."""
    new = np.linalg.norm(points - np.roll(points, 1, axis=1), axis=-1) > 0
    middle = (points * new[..., None]).sum(axis=1, keepdims=True)
    middle /= np.maximum(np.linalg.norm(middle, axis=-1, keepdims=True), 1e-300)
    first = points[:, :1] - middle * (points[:, :1] * middle).sum(axis=-1, keepdims=True)
    aside = np.cross(middle, first)
    bearings = np.arctan2((points * aside).sum(axis=-1), (points * first).sum(axis=-1))
    return np.asarray(bearings, dtype=np.float64)


def _crosses_itself(points: Float64) -> Mask:
    """Whether two edges of a cell cross, shape (cells,)."""
    ends = np.roll(points, -1, axis=1)
    normals = np.cross(points, ends)
    corners = points.shape[1]
    crossing = np.zeros(len(points), dtype=bool)
    for i, j in combinations(range(corners), 2):
        if j - i not in (1, corners - 1):
            crossing |= _apart(normals[:, i], points[:, j], ends[:, j]) & _apart(
                normals[:, j], points[:, i], ends[:, i]
            )
    return crossing


def _apart(normal: Float64, one: Float64, other: Float64) -> Mask:
    """Whether two points lie on different sides of the great circle with this normal."""
    sides = (normal * one).sum(axis=-1) * (normal * other).sum(axis=-1)
    return np.asarray(sides < 0)
