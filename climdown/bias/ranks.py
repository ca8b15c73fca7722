"""Ranks of values among those of their group, equal values sharing their average rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from climdown.arrays import Index, Mask
from climdown.bias.grouping import Array, DateSequence, Grouping, Windows, home
from climdown.bias.rows import missing_last, parts_of, pick, starts_of
from climdown.errors import InputError


@dataclass(frozen=True, eq=False)
class RankPlan:
    """The part of the ranking that is the same for all blocks of cells.

    Attributes:
        windows: of the pool.
        ranked: whether a member is a step of sim that uses this group's map, (groups, longest).
        groups: of each step of sim, shape (time,).
        sim_steps: positions of sim's steps in the pool, shape (time,); None if sim is the pool.
        disjoint: no step of the pool belongs to two groups.
    """

    windows: Windows
    ranked: Mask
    groups: Index
    sim_steps: Index | None
    disjoint: bool


def plan_ranks(
    grouping: Grouping, dates: DateSequence, pool_dates: DateSequence | None
) -> RankPlan:
    groups = grouping.group_of(dates)
    sim_steps, pool_groups = None, groups
    # For each step of the pool the group whose map it uses, -1 if sim does not have the step. The
    # last entry serves the members' padding, which is -1 as an index too.
    marks = np.append(groups, -1)
    if pool_dates is not None:
        pool_groups = grouping.group_of(pool_dates)
        index = {date: step for step, date in enumerate(pool_dates)}
        missing = [date for date in dates if date not in index]
        if missing:
            raise InputError(f"the pool to rank among lacks {missing[0]}, a step of sim")
        sim_steps = np.array([index[date] for date in dates], dtype=np.int64)
        marks = np.full(len(pool_groups) + 1, -1)
        marks[sim_steps] = groups
    windows = grouping.windows(pool_groups)
    ranked = marks[windows.members()] == np.arange(grouping.count)[:, None]
    # Only windows around a day of the year overlap.
    disjoint = grouping.kind != "dayofyear" or grouping.window == 1
    return RankPlan(windows, ranked, groups, sim_steps, disjoint)


def disjoint_ranks(rows: Array, plan: RankPlan) -> Array:
    """Twice the rank from 0 of each step in its one group, shape (cells, time).

    Twice, because average ranks of equal values may be halves.
    """
    xp, device = home(rows)
    cells, steps = rows.shape
    # Missing values and padding are infinite, so that they sort behind all valid values and do not
    # change their ranks.
    runs = plan.windows.runs(missing_last(rows))
    values = plan.windows.cut(runs, slice(None), xp.inf)
    order = xp.argsort(values, axis=-1, stable=False)
    # From places in a row to places among all rows laid end to end.
    order += starts_of(order)
    # Where each value comes from, cells end to end; padding goes to one step more than there are.
    source = xp.asarray(plan.windows.members(steps), device=device)[:, None]
    source = source + (steps + 1) * xp.reshape(xp.arange(cells, device=device), (-1, 1))
    source = pick(xp.reshape(source, (-1,)), order)
    longest = values.shape[-1]
    ranks = xp.empty(cells * (steps + 1), dtype=xp.int32, device=device)
    twice = 2 * xp.arange(longest, dtype=xp.int32, device=device)
    ranks[source] = xp.broadcast_to(twice, source.shape)
    # Equal values at ranks first to last of a group share the average: twice that is the sum.
    ties = _ties(pick(xp.reshape(values, (-1,)), order))
    shared = xp.astype(ties.first % longest + ties.last % longest, xp.int32)
    ranks[xp.take(xp.reshape(source, (-1,)), ties.place, axis=0)] = shared
    return xp.reshape(ranks, (cells, steps + 1))[:, :-1]


def window_ranks(rows: Array, plan: RankPlan) -> Array:
    """As `disjoint_ranks`, where windows overlap; steps that only the pool has get no rank.

    Every window is sorted, so values are first replaced by their place in the sorted series: short
    integers, with one more bit that marks the steps whose rank in this window is wanted.
    """
    xp, device = home(rows)
    (cells, steps), longest = rows.shape, plan.windows.longest
    dtype = xp.int16 if steps < 2**15 - 1 else xp.int32
    lowest, padding = xp.iinfo(dtype).min, xp.iinfo(dtype).max - 1
    rows = missing_last(rows)
    # One sort of the whole series of each cell. A step's place in it orders any window as the
    # value itself would, in two bytes for up to 32,766 steps.
    order = xp.argsort(rows, axis=-1, stable=False)
    order += starts_of(order)
    ties = _ties(pick(xp.reshape(rows, (-1,)), order))
    # Even keys from the lowest number up: the lowest bit stays free for the mark, and the padding,
    # even as well, lies above all keys.
    keys = xp.empty(cells * steps, dtype=dtype, device=device)
    keys[order] = xp.astype(2 * xp.arange(steps, device=device) + lowest, dtype)
    runs, order = plan.windows.runs(xp.reshape(keys, rows.shape)), xp.reshape(order, (-1,))
    ranks = xp.zeros(cells * steps, dtype=xp.int32, device=device)
    for part in parts_of(runs, plan.windows):
        window = plan.windows.cut(runs, part, padding)
        # Mark the steps whose own group this is; the others only fill the window.
        window += xp.astype(xp.asarray(plan.ranked[part], device=device), dtype)[:, None]
        window = xp.reshape(xp.sort(window, axis=-1, stable=False), (-1,))
        (marked,) = xp.nonzero(xp.astype(window & 1, xp.bool))
        # Back from a sorted key to its place in the order of the whole series. Rows of the windows
        # are laid out as (groups, cells), so that their number modulo `cells` is the cell.
        row = marked // longest
        place = (xp.astype(xp.take(window, marked, axis=0), xp.int64) - lowest) >> 1
        place += row % cells * steps
        row *= longest
        # The place in the sorted window is the rank, up to ties.
        twice = 2 * (marked - row)
        (tied,) = xp.nonzero(xp.take(ties.among, place, axis=0))
        if tied.shape[0]:
            # Equal values have different keys, in the arbitrary order of the sort. Those of a tie
            # take the ranks from a = #(keys below its first) to b - 1, with b = #(keys up to its
            # last): twice the average is a + b - 1.
            run = xp.searchsorted(ties.place, place[tied])
            bounds = xp.stack([ties.first[run], ties.last[run] + 1])
            bounds = 2 * (bounds - place[tied] // steps * steps) + lowest
            below = _count_below(window, row[tied], longest, bounds)
            twice[tied] = xp.sum(below, axis=0) - 1
        ranks[xp.take(order, place, axis=0)] = xp.astype(twice, xp.int32)
    return xp.reshape(ranks, rows.shape)


class _Ties(NamedTuple):
    """Values equal to a neighbour in ordered rows, by their places in the rows laid end to end.

    Attributes:
        place: ascending, shape (ties,).
        first, last: of the run of equal values that each is in, shape (ties,).
        among: whether a place is one of them, shape (places,).
    """

    place: Array
    first: Array
    last: Array
    among: Array


def _ties(ordered: Array) -> _Ties:
    """Ties in rows that ascend along the last axis; infinity stands for missing and has none."""
    xp, _ = home(ordered)
    same = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] < xp.inf)
    # The first value of a row has no predecessor, the last no successor.
    edge = xp.zeros_like(ordered[..., :1], dtype=xp.bool)
    before = xp.reshape(xp.concat([edge, same], axis=-1), (-1,))
    after = xp.reshape(xp.concat([same, edge], axis=-1), (-1,))
    among = before | after
    (place,) = xp.nonzero(among)
    # A run of ties opens where the predecessor differs and closes where the successor does.
    opens, closes = ~xp.take(before, place, axis=0), ~xp.take(after, place, axis=0)
    run = xp.cumulative_sum(xp.astype(opens, xp.int64)) - 1
    first, last = xp.take(place[opens], run, axis=0), xp.take(place[closes], run, axis=0)
    return _Ties(place, first, last, among)


def _count_below(flat: Array, first: Array, length: int, bounds: Array) -> Array:
    """How many of the `length` ascending values from `first` on are below each bound.

    Args:
        flat: rows of ascending values, end to end.
        first: place of the first value of a row, shape (queries,).
        bounds: shape (..., queries), as is the result.
    """
    xp, _ = home(flat)
    below, end = xp.zeros_like(bounds), xp.full_like(bounds, length)
    # Bisection by powers of two, in step for all queries: no branch depends on the data, which
    # suits vector units and GPUs.
    step = 1 << (length.bit_length() - 1)
    while step:
        probe = xp.minimum(below + step, end)
        below = xp.where(pick(flat, first + probe - 1) < bounds, probe, below)
        step //= 2
    return below
