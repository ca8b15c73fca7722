"""One axis of cells: the order of its centres, holes in it, and whether its bounds can be meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from climdown.arrays import Float64, Index, Mask
from climdown.errors import GridError

# Coordinates written as float32 carry errors of some 1e-5 degrees.
_ROUNDING = 1e-4  # degrees
_TOUCHING = 1e-3  # degrees
# Of the spacing: steps that differ by less are even. Those of Gaussian latitudes differ by 0.8 %.
_EVEN = 2e-3
# How much larger than its neighbours a step between centres must be to leave out a cell: one
# missing row makes it twice as large. Of an uneven axis, see `holes`.
_HOLE = 1.6
# Of the spacing: how far an edge may lie from the middle between two centres, where these are
# evenly spaced, or change in spacing from cell to cell by no more than the following factor.
_NEAR_MIDDLE, _NEAR_MIDDLE_UNEVEN = 0.1, 0.35
_SMOOTH = 1.15
# Of the width: how far from the middle of its cell a centre beside a hole may lie.
_OFF_CENTRE = 0.15


@dataclass(frozen=True, eq=False)
class Axis:
    """Cells along latitude or longitude, ascending.

    Attributes:
        centres: degrees, shape (n,).
        bounds: low and high, degrees, shape (n, 2); None where they are to be inferred.
        gapless: whether each cell ends where the next one begins.
        problem: what is wrong with the bounds of the file, where midpoints took their place.
        hole: what the axis leaves out, where bounds say that it does.
    """

    centres: Float64
    bounds: Float64 | None
    gapless: bool = True
    problem: str | None = None
    hole: str | None = None

    @property
    def edges(self) -> Float64 | None:
        """Edges of a gapless axis, shape (n + 1,); None where they are to be inferred."""
        return None if self.bounds is None else np.append(self.bounds[:, 0], self.bounds[-1, 1])


def ordered(centres: Float64, *, circular: bool) -> tuple[Float64, Index]:
    """Ascending centres, and the positions they have in the file.

    Descending axes are flipped. Longitudes continue past their seam (170, -170 becomes 170, 190),
    columns repeated after a full circle go, and an axis that was sorted after it was wrapped
    (0, 5, 350, 355) begins behind its hole, so that it spans as little as it can.

    Raises:
        GridError: longitudes in no order.
    """
    index = np.arange(centres.size)
    if _descends(centres, circular=circular):
        index = index[::-1]
    if not circular:
        return centres[index], index
    index = _once(unwrapped(centres[index]), index)
    lon = unwrapped(centres[index])
    first = _first_behind_hole(lon)
    return np.append(lon[first:], lon[:first] + 360.0), np.roll(index, -first)


def unwrapped(lon: Float64) -> Float64:
    """An ascending axis continuous across its seam: 170, -170 becomes 170, 190."""
    turns = np.concatenate([[0.0], np.cumsum(np.diff(lon) < 0)])
    return np.asarray(lon + 360.0 * turns, dtype=np.float64)


def checked_axis(
    name: str, centres: Float64, bounds: Float64 | None, *, scale: float = 1.0
) -> Axis:
    """An axis with bounds that can be meant; the file's own, or None where midpoints serve better.

    Args:
        name: "latitude", "longitude", or that of a projected coordinate.
        centres: ascending, degrees or what a projection has.
        bounds: of the file, on the side of the circle that the centres are on.
        scale: what differences count as degrees do; the spacing of projected coordinates.

    Raises:
        GridError: a hole that no bounds leave out, or neither centres nor bounds can be trusted.
    """
    if not (np.diff(centres) > 0.0).all():
        return Axis(centres, None)  # no grid, as `Grid` knows to tell
    gaps = holes(centres)
    if bounds is None:
        _refuse_hole(name, centres, gaps)
        return Axis(centres, None)
    low_high = np.sort(bounds[:, [0, -1]], axis=1) if bounds.shape[1] == 2 else None
    problem = _problem(name, centres, low_high, gaps, scale)
    if problem is None and low_high is not None:
        hole = _hole(name, centres, gaps) if gaps.any() else None
        return Axis(centres, low_high, hole is None or _touch(low_high / scale), hole=hole)
    if gaps.any() or (centres.size > 2 and not _smooth(centres)) or centres.size == 1:
        also = f", and {_hole(name, centres, gaps)}" if gaps.any() else ""
        raise GridError(f"{problem}{also}; correct the bounds, for example with `ncap2`")
    return Axis(centres, None, problem=f"{problem}; cells end midway between centres instead")


def holes(centres: Float64) -> Mask:
    """Which steps between ascending centres leave out cells, shape (n - 1,).

    Such a step is much larger than those on both its sides. How much is more on an axis that is
    uneven anyway: steps of Gaussian latitudes and stretched ocean grids change by some percent
    from one to the next, those of a list of places by any factor.
    """
    steps = np.diff(centres)
    if steps.size < 2 or not (steps > 0.0).all():
        return np.zeros(steps.shape, dtype=bool)
    ratio = steps / _beside(steps)
    suspect = ratio > _HOLE
    return np.asarray(suspect & (ratio > _hole_from(steps, suspect)))


def as_slice(index: Index) -> slice | Index:
    """Positions one after the other as a slice: files are read many times faster."""
    step = int(index[1] - index[0]) if index.size > 1 else 1
    if abs(step) != 1 or (np.diff(index) != step).any():
        return index
    stop = int(index[-1]) + step
    return slice(int(index[0]), None if stop < 0 else stop, step)


def _descends(centres: Float64, *, circular: bool) -> bool:
    if not circular:
        return bool(centres[0] > centres[-1])
    # Most steps go west, each taken the short way around the globe.
    steps = np.diff(centres)
    steps = np.where(np.abs(steps) > 180.0, -np.sign(steps) * (360.0 - np.abs(steps)), steps)
    return bool(np.sign(steps).sum() < 0)


def _once(lon: Float64, index: Index) -> Index:
    """Positions of the columns within one circle from the first; others must repeat these."""
    inside = lon < lon[0] + 360.0 - _ROUNDING
    if inside.all() or inside.sum() < 2:
        return index
    beyond = np.abs((lon[~inside, None] - lon[inside] + 180.0) % 360.0 - 180.0).min(axis=1)
    if beyond.max() > _ROUNDING:
        raise GridError(
            f"longitude runs around the globe more than once and meets itself nowhere, as at "
            f"{lon[~inside][beyond.argmax()] % 360.0:g} E; expected one ascending or descending "
            "order: sort the columns"
        )
    return np.asarray(index[inside])


def _first_behind_hole(lon: Float64) -> int:
    """The column that begins the shortest span; 0 where the axis has it already."""
    steps = np.diff(lon)
    if not steps.size:
        return 0
    widest = int(steps.argmax())
    seam = lon[0] + 360.0 - lon[-1]
    if not steps[widest] > seam + _ROUNDING:
        return 0
    # No cell is half a circle wide, so there the rest of the axis need not be asked.
    return widest + 1 if steps[widest] > 180.0 or holes(lon)[widest] else 0


def _beside(steps: Float64) -> Float64:
    """The step beside each one, the larger of both sides, that a hole stands out from.

    On each side the smaller of two steps, for two holes may lie side by side; at the end of the
    axis the last one, for its spacing may change there.
    """
    padded = np.concatenate([[0.0], steps, [0.0]])
    left, right = padded[:-2].copy(), padded[2:].copy()
    left[2:] = np.minimum(left[2:], steps[:-2])
    right[:-2] = np.minimum(right[:-2], steps[2:])
    left[-1], right[0] = padded[-3], padded[2]
    return np.asarray(np.maximum(left, right))


def _hole_from(steps: Float64, suspect: Mask) -> float:
    """How many times larger than its neighbours a step must be to leave out cells."""
    regular = ~(suspect[1:] | suspect[:-1])
    ratios = np.exp(np.abs(np.diff(np.log(steps))))[regular]
    return max(_HOLE, 1.5 * float(np.median(ratios)) ** 2) if ratios.size else 3.0


def _smooth(centres: Float64) -> bool:
    """Whether the spacing changes little from cell to cell."""
    ratios = np.exp(np.abs(np.diff(np.log(np.diff(centres)))))
    return bool((ratios < _SMOOTH).all())


def _even(centres: Float64) -> bool:
    steps = np.diff(centres)
    return bool(np.abs(steps - steps.mean()).max() < max(_EVEN * steps.mean(), _ROUNDING))


def _touch(bounds: Float64) -> bool:
    return bool(np.allclose(bounds[:-1, 1], bounds[1:, 0], rtol=0.0, atol=_TOUCHING))


def _refuse_hole(name: str, centres: Float64, gaps: Mask) -> None:
    if gaps.any():
        raise GridError(
            f"{_hole(name, centres, gaps)}, and no bounds say where its cells end; add the missing "
            f"cells or bounds of {name}, or cut out one side, for example with `cdo sellonlatbox`"
        )


def _hole(name: str, centres: Float64, gaps: Mask) -> str:
    place = int(gaps.argmax())
    sides = " and ".join(_degrees(name, centres[i]) for i in (place, place + 1))
    spacing = float(np.median(np.diff(centres)))
    return f"{name} has a hole between {sides} (most of its cells are {spacing:.4g} apart)"


def _degrees(name: str, value: float) -> str:
    """A place on the axis as files have it, for people."""
    if name != "longitude" or value <= 180.0:
        return f"{value:.6g}"
    return f"{value:.6g} (that is {value - 360.0:.6g})"


def _problem(
    name: str, centres: Float64, bounds: Float64 | None, gaps: Mask, scale: float
) -> str | None:
    """Why bounds cannot be those of the cells; None if they can."""
    if bounds is None or not np.isfinite(bounds).all():
        return f"the bounds of {name} are no two finite numbers for each cell"
    for wrong, text in _contradictions(name, centres / scale, bounds / scale, gaps):
        if wrong.any():
            cell = int(wrong.argmax())
            pair = f"[{bounds[cell, 0]:.6g}, {bounds[cell, 1]:.6g}]"
            return f"the bounds {pair} of {name} {centres[cell]:.6g} {text}"
    return None


def _contradictions(
    name: str, centres: Float64, bounds: Float64, gaps: Mask
) -> Iterator[tuple[Mask, str]]:
    """Which cells have bounds that cannot be theirs, by what is wrong."""
    low, high = bounds[:, 0], bounds[:, 1]
    outside = (centres < low - _ROUNDING) | (centres > high + _ROUNDING)
    yield low == high, "are one number"
    yield outside, "do not hold its centre"
    yield _apart(low, high, gaps), "are not those at which its neighbour begins"
    yield _bridging(centres, bounds, gaps), "bridge a hole in the axis"
    yield _off_middle(name, centres, bounds, gaps), "contradict the spacing of the centres"


def _apart(low: Float64, high: Float64, gaps: Mask) -> Mask:
    """Cells that overlap the next one, or leave a gap that is no hole."""
    between = low[1:] - high[:-1]
    wrong = (between < -_TOUCHING) | ((between > _TOUCHING) & ~gaps)
    return np.append(wrong, False)


def _bridging(centres: Float64, bounds: Float64, gaps: Mask) -> Mask:
    """Cells beside a hole that reach across it, where their centres lie at their far side."""
    width = bounds[:, 1] - bounds[:, 0]
    off = np.abs(centres - bounds.mean(axis=1)) > _OFF_CENTRE * width
    return np.asarray(off & (np.append(gaps, False) | np.append(False, gaps)))


def _off_middle(name: str, centres: Float64, bounds: Float64, gaps: Mask) -> Mask:
    """Cells of regular axes of which an edge is far from the middle between two centres.

    At a pole the last cell may be higher or lower than the others.
    """
    wrong = np.zeros(centres.shape, dtype=bool)
    if centres.size < 3 or gaps.any() or not _smooth(centres):
        return wrong
    steps = np.diff(centres)
    middles = centres[:-1] + 0.5 * steps
    ends = centres[0] - 0.5 * steps[0], centres[-1] + 0.5 * steps[-1]
    expected = np.concatenate([ends[:1], middles, ends[1:]])
    size = np.concatenate([steps[:1], steps, steps[-1:]])
    edges = np.append(bounds[:, 0], bounds[-1, 1])
    if name == "latitude":
        expected, edges = np.clip(expected, -90.0, 90.0), np.clip(edges, -90.0, 90.0)
    near = _NEAR_MIDDLE if _even(centres) else _NEAR_MIDDLE_UNEVEN
    far = np.abs(edges - expected) > near * size + _ROUNDING
    if name == "latitude":
        far[[0, -1]] &= (np.abs(edges[[0, -1]]) < 90.0 - _ROUNDING) | (
            90.0 - np.abs(expected[[0, -1]]) > size[[0, -1]]
        )
    return np.asarray(far[:-1] | far[1:])
