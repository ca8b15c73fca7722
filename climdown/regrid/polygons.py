"""Conservative weights from cells of any shape, exact between great circles and parallels.

By Green's theorem the area of a source cell within a column of the target and north of a
parallel is a sum over the cell's edges, in closed form (`arcs`); the difference between two
parallels is the overlap with a target cell. No polygon is clipped, and cells may have any shape:
they may be concave, or hold a pole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from climdown.arrays import Float64, Index
from climdown.errors import GridError
from climdown.grid import Grid
from climdown.mesh import Mesh
from climdown.regrid.arcs import Arcs, arcs_around, area_north_of, signed_areas
from climdown.regrid.rings import untangled

log = logging.getLogger(__name__)

_CHUNK = 1_000_000  # integrals taken at once, to bound memory
_CIRCLE = 2 * np.pi
# Overlaps lower than this in z are rounding errors.
_NO_OVERLAP = 1e-14
# Steradian, about a square metre of the Earth: smaller cells are left out.
_NO_AREA = 2e-14
# If a larger share of the cells has no area, the file's corners must be wrong.
_MAX_BROKEN = 0.1


def conservative_weights(source: Mesh, target: Grid) -> sp.csr_array:
    """Share of each target cell's area that each source cell fills.

    Cells with one centre (the halo columns and the north fold of ocean grids repeat them) are
    one cell and share its weight.

    Raises:
        GridError: the corners are unknown, or many of them do not make cells.
    """
    index, arcs, areas = _cells(source)
    parts = [_overlaps(part, areas, target) for part in _chunks(arcs, target)]
    rows, columns, overlaps = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    columns = index[columns]
    # Each of n copies of a cell gets 1 / n of its weight.
    shares = overlaps / target.areas.ravel()[rows] / source.copies.ravel()[columns]
    shape = (target.lat.size * target.lon.size, source.lat.size)
    return sp.csr_array((shares, (rows, columns)), shape=shape)


def cell_areas(source: Mesh) -> Float64:
    """Areas of the cells, steradian, shape of the mesh; NaN where there is no cell.

    Raises:
        GridError: see `conservative_weights`.
    """
    index, _, areas = _cells(source)
    result = np.full(source.lat.size, np.nan)
    result[index] = np.where(areas == 0, np.nan, np.abs(areas))
    return result.reshape(source.shape)


def _cells(source: Mesh) -> tuple[Index, Arcs, Float64]:
    """Flat indices of the cells that have corners, their arcs, and their signed areas."""
    if source.lat_vertices is None or source.lon_vertices is None:
        raise GridError(
            "the cells' corners are unknown (no bounds on latitude and longitude), so areas "
            "cannot be conserved: use --method bilinear or nearest"
        )
    index = np.flatnonzero(source.valid)
    corners = source.lat_vertices.shape[-1]
    lat, lon = untangled(
        source.lat_vertices.reshape(-1, corners)[index],
        source.lon_vertices.reshape(-1, corners)[index],
    )
    arcs = arcs_around(lat, lon)
    areas = signed_areas(arcs, index.size)
    # The sign of 0 takes such a cell's overlaps out further down.
    areas[np.abs(areas) < _NO_AREA] = 0.0
    _check_broken(int((areas == 0).sum() + source.damaged.sum()), int((areas != 0).sum()))
    return index, arcs, areas


def _check_broken(broken: int, intact: int) -> None:
    if intact == 0 or broken > _MAX_BROKEN * (broken + intact):
        raise GridError(
            f"of {broken + intact} cells with corners, those of {broken} make no cell around its "
            "centre; the bounds of latitude and longitude seem damaged: correct them, or use "
            "--method bilinear or nearest"
        )
    if broken:
        log.warning("%d cells have corners that make no cell and are left out", broken)


def _chunks(arcs: Arcs, target: Grid) -> Iterator[Arcs]:
    """The arcs in parts of whole cells that take about `_CHUNK` integrals each."""
    first = np.flatnonzero(np.diff(arcs.cell, prepend=-1))
    # At most this many columns of the target per arc, times the parallels that its cell touches:
    # an upper bound on the integrals of `_overlaps`.
    columns = np.abs(arcs.stop - arcs.start) / np.radians(np.diff(target.lon_edges).min()) + 2.0
    low, high = _rows(arcs, first, target)
    work = np.cumsum(np.add.reduceat(columns, first) * (high - low + 2))
    # A part ends with the cell that fills it.
    ends = np.flatnonzero(np.diff(work // _CHUNK, append=-1))
    stops = np.append(first, arcs.cell.size)[ends + 1]
    for start, stop in zip([0, *stops[:-1]], stops, strict=True):
        yield arcs[start:stop]


def _rows(arcs: Arcs, first: Index, target: Grid) -> tuple[Index, Index]:
    """First and last row of the target that each cell may touch; last < first for none."""
    edges = _levels(target)
    # By the extremes of all arcs of a cell, since a great circle reaches farther towards the pole
    # than its ends.
    low = np.searchsorted(edges, np.minimum.reduceat(arcs.low, first), side="right") - 1
    high = np.searchsorted(edges, np.maximum.reduceat(arcs.high, first), side="left") - 1
    return np.maximum(low, 0), np.minimum(high, target.lat.size - 1)


def _levels(target: Grid) -> Float64:
    return np.asarray(np.sin(np.radians(np.clip(target.lat_edges, -90.0, 90.0))))


def _overlaps(arcs: Arcs, areas: Float64, target: Grid) -> tuple[Index, Index, Float64]:
    """Target cells (flat), source cells and the areas they share, steradian."""
    first = np.flatnonzero(np.diff(arcs.cell, prepend=-1))
    low, high = (
        np.repeat(rows, np.diff(first, append=arcs.cell.size))
        for rows in _rows(arcs, first, target)
    )
    arc, column, start, stop = _pieces(arcs, target)
    # One integral for each piece and each parallel of its rows: low to high + 1. `piece` repeats
    # the pieces, `within` counts the parallels of each.
    lines = np.maximum(high - low + 2, 0)[arc]
    piece = np.repeat(np.arange(arc.size), lines)
    within = np.arange(piece.size) - np.repeat(np.cumsum(lines) - lines, lines)
    arc, column = arc[piece], column[piece]
    line = low[arc] + within
    north = area_north_of(arcs[arc], start[piece], stop[piece], _levels(target)[line])
    # The overlap with a row: north of its southern edge, less what is north of its northern edge.
    above, below = line <= high[arc], line > low[arc]
    # A parallel is the southern edge of the row of its number and the northern edge of the row
    # before.
    row = np.concatenate([line[above], line[below] - 1])
    cells = np.concatenate([arcs.cell[arc[above]], arcs.cell[arc[below]]])
    flat = row * target.lon.size + np.concatenate([column[above], column[below]])
    base = int(arcs.cell[0])
    shape = (int(arcs.cell[-1]) - base + 1, target.lat.size * target.lon.size)
    # Duplicate entries are summed by the conversion: Green's sum over a cell's edges.
    values = np.concatenate([north[above], -north[below]])
    total = sp.coo_array((values, (cells - base, flat)), shape=shape).tocsr().tocoo()
    # Cells with corners in anticlockwise order come out negative.
    overlap = total.data * np.sign(areas)[total.row + base]
    width = np.radians(np.diff(target.lon_edges))
    real = overlap > _NO_OVERLAP * width[total.col % target.lon.size]
    return total.col[real].astype(np.intp), total.row[real] + base, overlap[real]


def _pieces(arcs: Arcs, target: Grid) -> tuple[Index, Index, Float64, Float64]:
    """Arcs cut at the target's meridians: number of the arc, column, start and stop."""
    edges = np.radians(target.lon_edges)
    west, east = np.minimum(arcs.start, arcs.stop), np.maximum(arcs.start, arcs.stop)
    parts = []
    for turn in (0.0, -_CIRCLE):
        # Into the circle that begins at the target's first meridian; the second turn takes the
        # part of an arc beyond the end of that circle, which re-enters at its beginning.
        shift = turn - _CIRCLE * np.floor((west - edges[0]) / _CIRCLE)
        # Columns from the one that holds the western end to the one that holds the eastern end.
        left = np.searchsorted(edges, west + shift, side="right") - 1
        right = np.searchsorted(edges, east + shift, side="left")
        left, right = np.maximum(left, 0), np.minimum(right, target.lon.size)
        count = np.maximum(right - left, 0)
        arc = np.repeat(np.arange(count.size), count)
        column = left[arc] + np.arange(arc.size) - np.repeat(np.cumsum(count) - count, count)
        # The column's meridians in the longitudes of the arc, which keeps its direction.
        low, high = edges[column] - shift[arc], edges[column + 1] - shift[arc]
        ends = (np.clip(values[arc], low, high) for values in (arcs.start, arcs.stop))
        parts.append((arc, column, *ends))
    arc, column, start, stop = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return arc, column, start, stop
