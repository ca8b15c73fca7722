"""Members against the reference of the same steps: what all statistics of pairs are made of.

The members are sorted once for each value of the reference, by a network of comparisons of whole
fields, in blocks that stay in the processor's cache. All arithmetic is in float64, in which
differences of float32 values are exact or nearly so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from climdown.arrays import AnyArray, Float32, Float64, Index, Mask
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments, runs

# Values of one member that are worked on at once, and those of the fields that statistics see.
_BLOCK = 1 << 13
_PIECE = 1 << 16


@dataclass(frozen=True, eq=False)
class Comparison:
    """Members and reference, value by value of the reference.

    All arrays have the shape (time, cells), the flattened grid. Where it is not `valid`, values
    and weights are 0, and numbers of members mean nothing.

    Attributes:
        members: their number, M.
        valid: where reference and all members have a value.
        weights: areas of cells where it is valid.
        truth: the reference, y.
        error: of the ensemble mean, mean x_i - y.
        member_error: mean |x_i - y|.
        member_difference: mean |x_i - x_j| of different members; 0 of a single one.
        variance: of members, with M - 1; 0 of a single one.
        tail_error, tail_difference: like those of members, of max(x, t) with t the scene's tail.
        below, equal: number of members below the reference, and of those equal to it.
        reaching: number of members at or above each threshold, shape (thresholds, time, cells).
        reached: whether the reference is, same shape.
    """

    members: int
    valid: Mask
    weights: Float64
    truth: Float64
    error: Float64
    member_error: Float64
    member_difference: Float64
    variance: Float64
    tail_error: Float64
    tail_difference: Float64
    below: Index
    equal: Index
    reaching: Index
    reached: Mask


def pieces(part: Segments, cells: int) -> Iterator[slice]:
    """Stretches of steps that are compared at once, none of them across groups."""
    steps = max(1, _PIECE // cells)
    for run in runs(part.group):
        for start in range(run.start, run.stop, steps):
            yield slice(start, min(start + steps, run.stop))


def compare(scene: Scene, members: Float32, truth: Float32) -> Comparison:
    """Compare members, shape (time, member, ny, nx), with the reference, (time, ny, nx)."""
    steps, count = members.shape[:2]
    x, y = members.reshape(steps, count, -1), truth.reshape(steps, -1).astype(np.float64)
    levels = np.array(list(scene.thresholds.values()), dtype=np.float64)
    compared = _empty(count, y, levels)
    tail = scene.tail.reshape(-1)
    for times, cells in _blocks(*y.shape):
        block = x[times, :, cells].swapaxes(0, 1).astype(np.float64, order="C")
        _compare_block(compared, block, (times, cells), tail[cells], levels)
    return _without_missing(compared, scene)


def _blocks(steps: int, cells: int) -> Iterator[tuple[slice, slice]]:
    at_once = max(1, _BLOCK // cells)
    for step in range(0, steps, at_once):
        for cell in range(0, cells, _BLOCK):
            yield slice(step, step + at_once), slice(cell, cell + _BLOCK)


def _empty(count: int, truth: Float64, levels: Float64) -> Comparison:
    shape, by_level = truth.shape, (len(levels), *truth.shape)
    return Comparison(
        members=count,
        valid=np.zeros(shape, dtype=bool),
        weights=np.zeros(shape),
        truth=truth,
        error=np.zeros(shape),
        member_error=np.zeros(shape),
        member_difference=np.zeros(shape),
        variance=np.zeros(shape),
        tail_error=np.zeros(shape),
        tail_difference=np.zeros(shape),
        below=np.zeros(shape, dtype=np.intp),
        equal=np.zeros(shape, dtype=np.intp),
        reaching=np.zeros(by_level, dtype=np.intp),
        reached=np.greater_equal(truth, levels[:, None, None]),
    )


def _compare_block(
    into: Comparison,
    block: Float64,
    where: tuple[slice, slice],
    tail: Float64,
    levels: Float64,
) -> None:
    """Fill in what a block of members tells, shape (member, time, cells); uses it up."""
    truth = into.truth[where]
    mean = block.mean(axis=0)
    into.error[where] = mean - truth
    into.member_error[where] = np.abs(block - truth).mean(axis=0)
    into.below[where] = _number(block < truth)
    into.equal[where] = _number(block == truth)
    for level, reaching in zip(levels, into.reaching, strict=True):
        reaching[where] = _number(block >= level)
    if len(block) > 1:
        into.variance[where] = ((block - mean) ** 2).sum(axis=0) / (len(block) - 1)
    rows = ranked(block)
    into.member_difference[where] = _mean_difference(rows)
    for row in rows:
        np.maximum(row, tail, out=row)
    into.tail_error[where] = _mean_distance(rows, np.maximum(truth, tail))
    into.tail_difference[where] = _mean_difference(rows)


def _number(flags: Mask) -> AnyArray:
    return np.asarray(flags.sum(axis=0, dtype=np.int16))


def ranked(values: Float64) -> list[Float64]:
    """Rows of the same values in which each column ascends from row to row; uses the array up.

    NaN in a row of a column may spread to others of its rows.
    """
    rows, spare = list(values), np.empty_like(values[0])
    for low, high in _network(len(rows)):
        np.minimum(rows[low], rows[high], out=spare)
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare = spare, rows[low]
    return rows


@lru_cache
def _network(count: int) -> tuple[tuple[int, int], ...]:
    """Pairs of rows to put in order, one after another, that sort so many rows.

    Batcher's merge exchange (Knuth 1998, The Art of Computer Programming 3, algorithm 5.2.2M).
    """
    pairs: list[tuple[int, int]] = []
    half = 1 << max((count - 1).bit_length() - 1, 0)
    p = half if count > 1 else 0
    while p > 0:
        q, r, d = half, 0, p
        while d > 0:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            d, q, r = (q - p, q >> 1, p) if q != p else (0, q, r)
        p >>= 1
    return tuple(pairs)


def _mean_distance(rows: list[Float64], truth: Float64) -> Float64:
    """Mean of |x_i - y|."""
    total = np.zeros_like(truth)
    for row in rows:
        total += np.abs(row - truth)
    return np.asarray(total / len(rows))


def _mean_difference(rows: list[Float64]) -> Float64:
    """Mean of |x_i - x_j| over all pairs of different rows, which ascend; 0 of a single one."""
    count, total = len(rows), np.zeros_like(rows[0])
    # sum_ij |x_i - x_j| = 2 sum_i (2 i - M - 1) x_(i); the ends are taken together, since their
    # factors differ by the sign alone.
    for i in range(count // 2):
        total += (count - 1 - 2 * i) * (rows[count - 1 - i] - rows[i])
    return np.asarray(total * (2.0 / max(count * (count - 1), 1)))


def _without_missing(compared: Comparison, scene: Scene) -> Comparison:
    """The same with zeros where a value is missing, and weights where none is."""
    np.isfinite(compared.error, out=compared.valid)
    missing = ~compared.valid
    for values in (
        compared.truth,
        compared.error,
        compared.member_error,
        compared.member_difference,
        compared.variance,
        compared.tail_error,
        compared.tail_difference,
    ):
        np.copyto(values, 0.0, where=missing)
    np.copyto(compared.weights, scene.areas.reshape(-1), where=compared.valid)
    return compared
