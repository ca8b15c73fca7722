"""Great circles around cells, and the areas between them and parallels, in closed form.

In longitude and z = sin(latitude), areas on the sphere are areas in the plane, and the great
circle between two corners is the curve

    z(u) = k cos u / sqrt(1 - k^2 sin^2 u),    integral of z du = arcsin(k sin u),

with u the longitude from the circle's northernmost point and k the sine of its inclination.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from climdown.arrays import Float64, Index, Mask
from climdown.mesh import unit_vectors

_CIRCLE = 2 * np.pi
_POLE_PIECES = 4


@dataclass(frozen=True, eq=False)
class Arcs:
    """Edges of cells, sorted by cell, each array of shape (arcs,); angles in radians.

    Attributes:
        cell: number of the cell that the arc belongs to.
        start, stop: longitudes on the way around the cell, without jumps of 360 degrees.
        apex: longitude of the northernmost point of the arc's great circle.
        sine, cosine: of the circle's inclination to the equator.
        low, high: least and greatest z on the arc.
    """

    cell: Index
    start: Float64
    stop: Float64
    apex: Float64
    sine: Float64
    cosine: Float64
    low: Float64
    high: Float64

    def __getitem__(self, part: slice | Index) -> Arcs:
        return Arcs(*(getattr(self, field.name)[part] for field in fields(self)))


def arcs_around(lat: Float64, lon: Float64) -> Arcs:
    """The arcs between corners of cells, degrees, shape (cells, corners), and along a pole.

    Around a cell that holds a pole, or has a corner there, whose longitude is arbitrary, the
    longitudes do not return to their beginning: arcs on the pole close the way.
    """
    lam = np.radians(lon)
    # The shorter way from each corner to the next, in [-pi, pi): longitudes then run on across 0
    # and 360 degrees without a jump.
    steps = (np.roll(lam, -1, axis=1) - lam + np.pi) % _CIRCLE - np.pi
    start = lam[:, :1] + np.cumsum(steps, axis=1) - steps
    stop = start + steps
    z = np.sin(np.radians(lat))
    cell = np.repeat(np.arange(len(lat)), lat.shape[1])
    apex, sine, cosine = (values.ravel() for values in _circles(lat, lon, steps))
    ends = z.ravel(), np.roll(z, -1, axis=1).ravel()
    edges = _with_range(cell, start.ravel(), stop.ravel(), apex, sine, cosine, ends)
    # The steps of a cell that holds no pole add up to zero, those around a pole to a whole circle.
    around = np.flatnonzero(np.abs(steps.sum(axis=1)) > np.pi)
    if around.size == 0:
        return edges
    pole = np.where(z[around].mean(axis=1) > 0, 1.0, -1.0)
    return _joined(edges, _along_pole(around, stop[around, -1], start[around, 0], pole))


def area_north_of(arcs: Arcs, start: Float64, stop: Float64, level: Float64) -> Float64:
    """Integral of max(z - level, 0) over longitude, along arcs from `start` to `stop`.

    Args:
        start, stop: longitudes between those of each arc, radians.
        level: a parallel's z.
    """
    # (1 - z)(1 + z) keeps the digits that 1 - z^2 loses near a pole.
    across = arcs.sine * np.sqrt(np.maximum((1.0 - level) * (1.0 + level), 0.0))
    # cos of the angle u at which the circle crosses the parallel: tan(latitude) = tan(i) cos u
    # with i the inclination. Beyond +-1 there is no crossing, and the clipped reach is 0 or pi.
    slope = level * arcs.cosine / np.maximum(across, 1e-300)
    # The circle lies north of the parallel this far to either side of its apex.
    reach = np.arccos(np.clip(slope, -1.0, 1.0))

    # Of z(u) - level; odd in u.
    def primitive(angle: Float64) -> Float64:
        sine = np.sin(angle)
        # arcsin(k sin u), without its loss of digits near a right angle.
        height = np.arctan2(arcs.sine * sine, np.hypot(np.cos(angle), arcs.cosine * sine))
        return np.asarray(height - level * angle)

    total, turns = np.zeros(reach.shape), np.zeros(reach.shape)
    for longitude, sign in ((start, -1.0), (stop, 1.0)):
        angle = longitude - arcs.apex
        # To within half a circle of the apex. South of the parallel the integrand is 0, so that an
        # angle beyond the reach counts as the reach.
        turn = np.rint(angle / _CIRCLE)
        total += sign * primitive(np.clip(angle - _CIRCLE * turn, -reach, reach))
        turns += sign * turn
    # Each whole turn passes all of the part north of the parallel once.
    if turns.any():
        total += 2.0 * turns * primitive(reach)
    return total


def signed_areas(arcs: Arcs, cells: int) -> Float64:
    """Areas of cells, steradian, shape (cells,); negative where corners run anticlockwise."""
    # Down to the south pole, z = -1: Green's theorem for the area between edge and pole. On the
    # way around, eastward edges add and westward ones subtract.
    parts = area_north_of(arcs, arcs.start, arcs.stop, np.full(arcs.cell.shape, -1.0))
    return np.asarray(np.bincount(arcs.cell, parts, minlength=cells), dtype=np.float64)


def _circles(lat: Float64, lon: Float64, steps: Float64) -> tuple[Float64, Float64, Float64]:
    """Apex, and sine and cosine of the inclination, of the circles through successive corners."""
    # The plane of a great circle has the normal a x b for corners a and b.
    x, y, z = np.moveaxis(unit_vectors(lat, lon), -1, 0)
    next_x, next_y, next_z = (np.roll(values, -1, axis=1) for values in (x, y, z))
    normal_x, normal_y = y * next_z - z * next_y, z * next_x - x * next_z
    # From the step in longitude, whose sign decides on which side of a pole an edge passes.
    ring = np.cos(np.radians(lat))
    normal_z = ring * np.roll(ring, -1, axis=1) * np.sin(steps)
    # The northernmost point lies opposite to the horizontal part of the normal that points north.
    sign = np.where(normal_z < 0, 1.0, -1.0)
    flat = np.hypot(normal_x, normal_y)
    # Repeated corners span no plane: the guard leaves zeros, and an arc of no length adds nothing.
    length = np.maximum(np.hypot(flat, normal_z), 1e-300)
    apex = np.arctan2(sign * normal_y, sign * normal_x)
    return apex, flat / length, np.abs(normal_z) / length


def _with_range(
    cell: Index,
    start: Float64,
    stop: Float64,
    apex: Float64,
    sine: Float64,
    cosine: Float64,
    ends: tuple[Float64, Float64],
) -> Arcs:
    """Arcs with their extremes of z, which lie at an end or at the circle's turning points."""
    west, east = np.minimum(start, stop) - apex, np.maximum(start, stop) - apex

    def holds(angle: float) -> Mask:
        turns = np.floor((east - angle) / _CIRCLE) - np.floor((west - angle) / _CIRCLE)
        return np.asarray(turns > 0)

    # The circle is northernmost at u = 0 and southernmost at u = pi.
    low = np.where(holds(np.pi), -sine, np.minimum(*ends))
    high = np.where(holds(0.0), sine, np.maximum(*ends))
    return Arcs(cell, start, stop, apex, sine, cosine, low, high)


def _along_pole(cell: Index, start: Float64, stop: Float64, pole: Float64) -> Arcs:
    """Arcs on the pole at z = `pole`, in pieces shorter than half a circle."""
    # A circle of inclination 90 degrees has z(u) = sign(cos u): within a quarter circle of its
    # apex it stays on the north pole, and within a quarter of the opposite point on the south
    # pole. That expresses a way along a pole by the same formula as any edge.
    edges = np.linspace(start, stop, _POLE_PIECES + 1)
    begin, end = edges[:-1].ravel(), edges[1:].ravel()
    pole = np.tile(pole, _POLE_PIECES)
    apex = 0.5 * (begin + end) + np.where(pole > 0, 0.0, np.pi)
    one, zero = np.ones(pole.size), np.zeros(pole.size)
    return Arcs(np.tile(cell, _POLE_PIECES), begin, end, apex, one, zero, pole, pole)


def _joined(edges: Arcs, closing: Arcs) -> Arcs:
    pairs = ((getattr(edges, f.name), getattr(closing, f.name)) for f in fields(Arcs))
    both = Arcs(*(np.concatenate(pair) for pair in pairs))
    # Overlaps are summed over runs of one cell's arcs.
    return both[np.argsort(both.cell, kind="stable")]
