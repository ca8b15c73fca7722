"""Quantile delta mapping: every quantile gets its own correction, the model keeps its change.

Additive, scen = sim + [F_ref^-1(tau) - F_hist^-1(tau)]; multiplicative,
scen = sim * F_ref^-1(tau) / F_hist^-1(tau); tau = F_sim(sim) (Cannon, Sobie & Murdock 2015,
doi:10.1175/JCLI-D-14-00754.1). The corrections are known at nodes of tau and interpolated between.

Arrays are (time, cells), float32 or float64, NaN where a value is missing, of NumPy or of torch
on any device: one code serves all. It works on blocks of cells, whose size a byte budget sets,
and turns them round, because sorting wants each cell's values in one piece. Results are the same
for every block size and number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import array_api_compat
import numpy as np
import numpy.typing as npt

from climdown.bias.grouping import Array, Dates, Grouping, Indices, Windows, home
from climdown.errors import ConfigError, InputError

Floats = npt.NDArray[np.float64]
Kind = Literal["additive", "multiplicative"]
Tails = Literal["constant", "extremes"]
Interpolation = Literal["linear", "nearest"]
Result = TypeVar("Result")

# A group of a cell with fewer valid values has no quantiles worth the name: no map there.
FEWEST = 10
# Of one block of cells with its temporaries. On a CPU smaller ones stay in the cache, larger ones
# leave threads longer alone with their work; a GPU wants much to do at once.
CPU_BLOCK_BYTES = 2**25
GPU_BLOCK_BYTES = 2**32
_BYTES_PER_STEP = 48
# The windows of a block are cut out and sorted in parts of this share of its bytes.
_WINDOWS_SHARE = 16


def nodes(count: int) -> Floats:
    """The middles of `count` equal parts of (0, 1): (i + 0.5) / count.

    Raises:
        ConfigError: fewer than two.
    """
    if count < 2:
        raise ConfigError(f"{count} quantiles asked for; expected at least 2")
    return (np.arange(count) + 0.5) / count


def cells_per_block(steps: int, block_bytes: int) -> int:
    """How many cells of `steps` time steps are worked on at once within a budget of memory."""
    return max(1, block_bytes // (_BYTES_PER_STEP * max(steps, 1)))


def group_quantiles(
    values: Array,
    members: Indices | Windows,
    nodes: Floats,
    *,
    threads: int = 1,
    block_bytes: int | None = None,
) -> Array:
    """Quantiles of the valid values of each group and cell, shape (groups, nodes, cells).

    Linear between order statistics (type 7 of Hyndman & Fan 1996, the default of NumPy). NaN
    where a group has fewer than `FEWEST` valid values in a cell.

    Args:
        values: shape (time, cells).
        members: indices of the time steps of each group, shape (groups, longest), padded with
            -1, as `Grouping.members` gives them; or as windows, quicker where these overlap.
        nodes: probabilities of the quantiles, from 0 to 1.
        threads: blocks of cells worked on at the same time.
        block_bytes: see `cells_per_block`; a fitting size if None.
    """
    windows = members if isinstance(members, Windows) else Windows.of_members(members)
    xp, device = home(values)
    # Cells come first in memory, so that turning the axes again later copies nothing.
    shape = (values.shape[1], len(windows.first), len(nodes))
    found = xp.empty(shape, dtype=values.dtype, device=device)

    def work(cells: slice) -> None:
        found[cells] = _quantiles(_rows(values[:, cells]), windows, nodes)

    _in_blocks(work, values, threads, block_bytes)
    return xp.moveaxis(found, 0, -1)


@dataclass(frozen=True, eq=False)
class QuantileMap:
    """What QDM knows after training.

    Attributes:
        kind: "additive" or "multiplicative".
        grouping: of the dates; each group has its quantiles.
        nodes: probabilities of the quantiles, ascending, shape (nodes,).
        ref, hist: quantiles of the reference and of the model in the reference's period, shape
            (groups, nodes, cells); NaN where there is no map.

    Raises:
        ConfigError: the kind is unknown, or the nodes do not ascend from 0 to 1.
        InputError: a shape does not fit.
    """

    kind: Kind
    grouping: Grouping
    nodes: Floats
    ref: Array
    hist: Array

    def __post_init__(self) -> None:
        _check_option("kind of map", self.kind, Kind)
        _probabilities(self.nodes)
        expected = (self.grouping.count, len(self.nodes), self.hist.shape[-1])
        for name, quantiles in (("ref", self.ref), ("hist", self.hist)):
            if tuple(quantiles.shape) != expected:
                raise InputError(
                    f"quantiles of {name} have shape {tuple(quantiles.shape)}; expected "
                    f"{expected} (groups, nodes, cells)"
                )

    def cells(self, cells: slice) -> QuantileMap:
        """The map of some of the cells."""
        return replace(self, ref=self.ref[..., cells], hist=self.hist[..., cells])

    def corrections(self, max_ratio: float) -> tuple[Array, Array]:
        """Corrections at the nodes and whether the bound set them, both (cells, groups, nodes).

        Of a multiplicative map 0/0 is 1 and x/0 is the bound; quantiles below 0, the rounding
        errors of many a model's precipitation, count as 0.
        """
        xp, _ = home(self.ref)
        ref, hist = xp.moveaxis(self.ref, -1, 0), xp.moveaxis(self.hist, -1, 0)
        if self.kind == "additive":
            return ref - hist, xp.zeros_like(ref, dtype=xp.bool)
        nothing, one = xp.zeros_like(ref), xp.ones_like(ref)
        ref, hist = xp.where(ref < 0, nothing, ref), xp.where(hist < 0, nothing, hist)
        bounded, none = ref > max_ratio * hist, hist == 0
        ratio = ref / xp.where(bounded | none, one, hist)
        ratio = xp.where(none, one, ratio)
        return xp.where(bounded, max_ratio * one, ratio), bounded


def train(
    ref: Array,
    hist: Array,
    *,
    ref_dates: Dates,
    hist_dates: Dates,
    kind: Kind,
    grouping: Grouping,
    quantiles: int | npt.ArrayLike = 50,
    tails: Tails = "constant",
    threads: int = 1,
    block_bytes: int | None = None,
) -> QuantileMap:
    """A map from the model's climate to the reference's.

    Args:
        ref, hist: reference and model in a common period, shape (time, cells); the times of the
            two, their number and their calendar may differ.
        ref_dates, hist_dates: calendar-aware dates, in any CF calendar.
        kind: "additive" for temperatures, "multiplicative" for amounts from zero up.
        quantiles: number of quantiles, at `nodes`, or their probabilities.
        tails: "constant" keeps the outermost node's correction beyond it (Boé et al. 2007,
            doi:10.1002/joc.1602); "extremes" adds nodes 0 and 1, the smallest and largest
            values, so that the correction goes on changing out to them.
        threads, block_bytes: see `group_quantiles`.

    Raises:
        ConfigError: an unknown kind or tail, too few quantiles or such as do not ascend.
        InputError: dates, reference and model do not fit together.
    """
    _check_option("tails", tails, Tails)
    known = nodes(quantiles) if isinstance(quantiles, int) else _probabilities(quantiles)
    if tails == "extremes":
        known = np.union1d(known, [0.0, 1.0])
    _check_series("ref", ref, ref_dates)
    windows = grouping.windows(grouping.group_of(ref_dates))
    return train_from_quantiles(
        group_quantiles(ref, windows, known, threads=threads, block_bytes=block_bytes),
        hist,
        nodes=known,
        hist_dates=hist_dates,
        kind=kind,
        grouping=grouping,
        threads=threads,
        block_bytes=block_bytes,
    )


def train_from_quantiles(
    ref_quantiles: Array,
    hist: Array,
    *,
    nodes: Floats,
    hist_dates: Dates,
    kind: Kind,
    grouping: Grouping,
    threads: int = 1,
    block_bytes: int | None = None,
) -> QuantileMap:
    """A map to a reference whose quantiles are known, such as the climatology of a prior.

    Args:
        ref_quantiles: shape (groups, nodes, cells), at `nodes`, for the same grouping.
        hist, hist_dates, kind, grouping, threads, block_bytes: as for `train`.

    Raises:
        ConfigError: an unknown kind, or nodes that do not ascend.
        InputError: the shapes do not fit together.
    """
    _check_series("hist", hist, hist_dates)
    windows = grouping.windows(grouping.group_of(hist_dates))
    found = group_quantiles(hist, windows, nodes, threads=threads, block_bytes=block_bytes)
    return QuantileMap(kind, grouping, nodes, ref_quantiles, found)


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Adjusted values and what a report should say of them.

    Attributes:
        values: scen, shape (time, cells), of the type of sim.
        bounded: number of values for which the bound on the ratio had a part in the correction.
        unmapped: number of valid values left missing, because there is no map for their group
            and cell, or because fewer than `FEWEST` values were there to rank them.
    """

    values: Array
    bounded: int
    unmapped: int


def adjust(
    trained: QuantileMap,
    sim: Array,
    dates: Dates,
    *,
    interpolation: Interpolation = "linear",
    max_ratio: float = 10.0,
    pool: Array | None = None,
    pool_dates: Dates | None = None,
    threads: int = 1,
    block_bytes: int | None = None,
) -> Adjusted:
    """Adjust a simulation.

    tau of a value is its rank among the n valid values of its group in the pool, from 0 to 1:
    (rank - 1) / (n - 1), equal values sharing their average rank.

    Args:
        trained: the map, for the same cells.
        sim: shape (time, cells), without infinities.
        dates: calendar-aware dates of sim, in any CF calendar.
        interpolation: of the corrections between nodes, "linear" or "nearest".
        max_ratio: upper bound of a multiplicative correction. Without one, drizzle in a model
            that is dry in its reference period turns into floods.
        pool, pool_dates: values that sim is ranked among, if other than sim itself: a moving
            window of years that contains all steps of sim.
        threads, block_bytes: see `group_quantiles`.

    Raises:
        ConfigError: an unknown interpolation, or a bound that is not positive.
        InputError: dates, map, sim and pool do not fit together.
    """
    _check_option("interpolation", interpolation, Interpolation)
    if not max_ratio > 0:
        raise ConfigError(f"the bound on the ratio is {max_ratio}; expected a number above 0")
    _check_series("sim", sim, dates)
    if pool is None:
        pool, pool_dates = sim, None
    else:
        pool_dates = () if pool_dates is None else pool_dates
        _check_series("pool", pool, pool_dates)
    _check_cells(trained, sim, pool)
    plan = _plan(trained.grouping, dates, pool_dates)
    xp, device = home(sim)
    values = xp.empty(sim.shape, dtype=sim.dtype, device=device)

    def work(cells: slice) -> tuple[int, int]:
        block = trained.cells(cells), sim[:, cells], pool[:, cells]
        found, bounded, unmapped = _adjust_block(plan, *block, interpolation, max_ratio)
        values[:, cells] = found.T
        return bounded, unmapped

    counts = _in_blocks(work, pool, threads, block_bytes)
    return Adjusted(values, sum(b for b, _ in counts), sum(u for _, u in counts))


@dataclass(frozen=True, eq=False)
class _Plan:
    """What all blocks of cells share.

    Attributes:
        windows: of the pool.
        own: whether a member is a step of sim that uses this group's map, (groups, longest).
        groups: of each step of sim, shape (time,).
        kept: where the steps of sim lie in the pool, shape (time,); None if sim is the pool.
        disjoint: no step of the pool belongs to two groups.
    """

    windows: Windows
    own: npt.NDArray[np.bool_]
    groups: Indices
    kept: Indices | None
    disjoint: bool


def _plan(grouping: Grouping, dates: Dates, pool_dates: Dates | None) -> _Plan:
    groups = grouping.group_of(dates)
    kept, pool_groups = None, groups
    marks = np.append(groups, -1)
    if pool_dates is not None:
        pool_groups = grouping.group_of(pool_dates)
        index = {date: step for step, date in enumerate(pool_dates)}
        missing = [date for date in dates if date not in index]
        if missing:
            raise InputError(f"the pool to rank among lacks {missing[0]}, a step of sim")
        kept = np.array([index[date] for date in dates], dtype=np.int64)
        marks = np.full(len(pool_groups) + 1, -1)
        marks[kept] = groups
    windows = grouping.windows(pool_groups)
    own = marks[windows.members()] == np.arange(grouping.count)[:, None]
    disjoint = grouping.kind != "dayofyear" or grouping.window == 1
    return _Plan(windows, own, groups, kept, disjoint)


def _adjust_block(
    plan: _Plan, trained: QuantileMap, sim: Array, pool: Array, interpolation: str, max_ratio: float
) -> tuple[Array, int, int]:
    """scen of a block of cells, shape (cells, time), and the two counts of `Adjusted`."""
    xp, device = home(sim)
    rows = _rows(pool)
    x = rows if plan.kept is None else _rows(sim)
    counts = plan.windows.valid(rows)
    twice = (_disjoint_ranks if plan.disjoint else _window_ranks)(rows, plan)
    if plan.kept is not None:
        twice = xp.take(twice, xp.asarray(plan.kept, device=device), axis=1)
    correction, bounded = trained.corrections(max_ratio)
    correction = xp.astype(correction, x.dtype, copy=False)
    if (counts < FEWEST).any():
        few = xp.asarray(counts < FEWEST, device=device)[..., None]
        correction = xp.where(few, xp.full_like(correction, xp.nan), correction)
    table = _rank_table(counts, trained.nodes, interpolation)
    found, near = _at_nodes(correction, bounded, twice, table, plan.groups)
    scen = x + found if trained.kind == "additive" else x * found
    unmapped = int(xp.sum(xp.isnan(scen))) - int(xp.sum(xp.isnan(x)))
    return scen, 0 if near is None else int(xp.sum(near & ~xp.isnan(scen))), unmapped


class _RankTable(NamedTuple):
    """Where among the nodes the possible taus lie: n values have 2n - 1 of them, with halves.

    Attributes:
        start: place in the table of the lowest rank, of the shape of the counts n.
        low: the node below, shape (entries,).
        weight: of the node after it, shape (entries,).
    """

    start: Indices
    low: Indices
    weight: Floats


def _rank_table(counts: Indices, nodes: Floats, interpolation: str) -> _RankTable:
    distinct, which = np.unique(np.maximum(counts, 2), return_inverse=True)
    sizes = 2 * distinct - 1
    ends = np.cumsum(sizes)
    twice = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
    tau = twice / np.repeat(2 * distinct - 2, sizes)
    position = np.interp(tau, nodes, np.arange(len(nodes)))
    low = np.minimum(np.floor(position), len(nodes) - 2)
    weight = position - low
    if interpolation == "nearest":
        low, weight = low + (weight > 0.5), 0.0 * weight
    return _RankTable((ends - sizes)[which.reshape(counts.shape)], low.astype(np.int64), weight)


def _at_nodes(
    correction: Array, bounded: Array, twice: Array, table: _RankTable, groups: Indices
) -> tuple[Array, Array | None]:
    """Corrections of (cells, groups, nodes) at each step's tau, and where a bound had a part."""
    xp, device = home(correction)
    cells, count, nodes = correction.shape
    # Missing values rank behind all valid ones; what they look up is never used.
    spare = (0, 2 * twice.shape[-1])
    low = xp.asarray(np.pad(table.low, spare), device=device)
    entry = twice + xp.asarray(table.start[:, groups], device=device)
    at = _pick(low, entry)
    at += xp.asarray(groups * nodes, device=device)
    at += count * nodes * xp.reshape(xp.arange(cells, device=device), (-1, 1))
    values, flags = xp.reshape(correction, (-1,)), xp.reshape(bounded, (-1,))
    found = _pick(values, at)
    near = _pick(flags, at) if bool(xp.any(flags)) else None
    if table.weight.any():
        weight = xp.asarray(np.pad(table.weight, spare), dtype=values.dtype, device=device)
        weight = _pick(weight, entry)
        at += 1
        found += (_pick(values, at) - found) * weight
        if near is not None:
            near |= _pick(flags, at) & (weight > 0)
    return found, near


def _quantiles(rows: Array, windows: Windows, nodes: Floats) -> Array:
    """Quantiles of rows (cells, time), shape (cells, groups, nodes)."""
    xp, device = home(rows)
    counts, runs = windows.valid(rows).T[..., None], windows.runs(rows)
    found = xp.empty((len(rows), len(counts), len(nodes)), dtype=rows.dtype, device=device)
    for part in _parts(runs, windows):
        window = xp.sort(windows.cut(runs, part, xp.nan), axis=-1, stable=False)
        last = np.maximum(counts[part] - 1, 0)
        position = last * nodes
        low = np.floor(position).astype(np.int64)
        weight = xp.asarray(position - low, dtype=rows.dtype, device=device)
        value = _select(window, low)
        value += (_select(window, np.minimum(low + 1, last)) - value) * weight
        few = counts[part] < FEWEST
        if few.any():
            missing = xp.full_like(value, xp.nan)
            value = xp.where(xp.asarray(few, device=device), missing, value)
        found[:, part] = xp.moveaxis(value, 0, 1)
    return found


def _select(window: Array, index: Indices) -> Array:
    """Values at some places of each row of windows (groups, cells, longest).

    The places are of shape (groups, cells or 1, places), the result is (groups, cells, places).
    """
    xp, device = home(window)
    if (index == index[:1, :1]).all():
        return xp.take(window, xp.asarray(index[0, 0], device=device), axis=-1)
    return _pick(xp.reshape(window, (-1,)), _starts(window) + xp.asarray(index, device=device))


def _disjoint_ranks(rows: Array, plan: _Plan) -> Array:
    """Twice the rank from 0 of each step in its one group, shape (cells, time).

    Twice, because average ranks of equal values may be halves.
    """
    xp, device = home(rows)
    cells, steps = rows.shape
    runs = plan.windows.runs(_missing_last(rows))
    values = plan.windows.cut(runs, slice(None), xp.inf)
    order = xp.argsort(values, axis=-1, stable=False)
    order += _starts(order)
    # Where each value comes from, cells end to end; padding goes to one step more than there are.
    source = xp.asarray(plan.windows.members(steps), device=device)[:, None]
    source = source + (steps + 1) * xp.reshape(xp.arange(cells, device=device), (-1, 1))
    source = _pick(xp.reshape(source, (-1,)), order)
    longest = values.shape[-1]
    found = xp.empty(cells * (steps + 1), dtype=xp.int32, device=device)
    twice = 2 * xp.arange(longest, dtype=xp.int32, device=device)
    found[source] = xp.broadcast_to(twice, source.shape)
    ties = _ties(_pick(xp.reshape(values, (-1,)), order))
    shared = xp.astype(ties.first % longest + ties.last % longest, xp.int32)
    found[xp.take(xp.reshape(source, (-1,)), ties.place, axis=0)] = shared
    return xp.reshape(found, (cells, steps + 1))[:, :-1]


def _window_ranks(rows: Array, plan: _Plan) -> Array:
    """As `_disjoint_ranks`, where windows overlap; steps that are not kept have no rank there.

    Every window is sorted, so values are first replaced by their place in the whole row: short
    integers, with one more bit that marks the steps the window is for.
    """
    xp, device = home(rows)
    (cells, steps), longest = rows.shape, plan.windows.longest
    dtype = xp.int16 if steps < 2**15 - 1 else xp.int32
    lowest, padding = xp.iinfo(dtype).min, xp.iinfo(dtype).max - 1
    rows = _missing_last(rows)
    order = xp.argsort(rows, axis=-1, stable=False)
    order += _starts(order)
    ties = _ties(_pick(xp.reshape(rows, (-1,)), order))
    keys = xp.empty(cells * steps, dtype=dtype, device=device)
    keys[order] = xp.astype(2 * xp.arange(steps, device=device) + lowest, dtype)
    runs, order = plan.windows.runs(xp.reshape(keys, rows.shape)), xp.reshape(order, (-1,))
    found = xp.zeros(cells * steps, dtype=xp.int32, device=device)
    for part in _parts(runs, plan.windows):
        window = plan.windows.cut(runs, part, padding)
        window += xp.astype(xp.asarray(plan.own[part], device=device), dtype)[:, None]
        window = xp.reshape(xp.sort(window, axis=-1, stable=False), (-1,))
        (marked,) = xp.nonzero(xp.astype(window & 1, xp.bool))
        row = marked // longest
        place = (xp.astype(xp.take(window, marked, axis=0), xp.int64) - lowest) >> 1
        place += row % cells * steps
        row *= longest
        twice = 2 * (marked - row)
        (tied,) = xp.nonzero(xp.take(ties.among, place, axis=0))
        if tied.shape[0]:
            run = xp.searchsorted(ties.place, place[tied])
            bounds = xp.stack([ties.first[run], ties.last[run] + 1])
            bounds = 2 * (bounds - place[tied] // steps * steps) + lowest
            below = _count_below(window, row[tied], longest, bounds)
            twice[tied] = xp.sum(below, axis=0) - 1
        found[xp.take(order, place, axis=0)] = xp.astype(twice, xp.int32)
    return xp.reshape(found, rows.shape)


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
    edge = xp.zeros_like(ordered[..., :1], dtype=xp.bool)
    before = xp.reshape(xp.concat([edge, same], axis=-1), (-1,))
    after = xp.reshape(xp.concat([same, edge], axis=-1), (-1,))
    among = before | after
    (place,) = xp.nonzero(among)
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
    found, end = xp.zeros_like(bounds), xp.full_like(bounds, length)
    step = 1 << (length.bit_length() - 1)
    while step:
        probe = xp.minimum(found + step, end)
        found = xp.where(_pick(flat, first + probe - 1) < bounds, probe, found)
        step //= 2
    return found


def _missing_last(rows: Array) -> Array:
    """Rows with missing values replaced by infinity: NaN would take argsort off its fast path."""
    xp, _ = home(rows)
    missing = xp.isnan(rows)
    return xp.where(missing, xp.full_like(rows, xp.inf), rows) if bool(xp.any(missing)) else rows


def _rows(values: Array) -> Array:
    """Cells first and contiguous, shape (cells, time)."""
    xp, device = home(values)
    rows = xp.empty((values.shape[1], values.shape[0]), dtype=values.dtype, device=device)
    rows[...] = values.T
    return rows


def _starts(array: Array) -> Array:
    """Place of the first value of each row, rows laid end to end, with a last axis of 1."""
    xp, device = home(array)
    *rows, length = array.shape
    return xp.reshape(length * xp.arange(int(np.prod(rows)), device=device), (*rows, 1))


def _pick(flat: Array, index: Array) -> Array:
    """flat[index], by the quicker of the two ways."""
    xp, _ = home(flat)
    return xp.reshape(xp.take(flat, xp.reshape(index, (-1,)), axis=0), index.shape)


def _parts(runs: Array, windows: Windows) -> Iterator[slice]:
    """Slices of the groups, each with few enough values in all cells to be sorted at once."""
    each = runs.shape[1] * max(windows.longest, 1) * runs.itemsize
    size = max(1, _default_bytes(runs) // _WINDOWS_SHARE // each)
    for start in range(0, len(windows.first), size):
        yield slice(start, start + size)


def _default_bytes(array: Array) -> int:
    on_cpu = str(array_api_compat.device(array)) == "cpu"
    return CPU_BLOCK_BYTES if on_cpu else GPU_BLOCK_BYTES


def _in_blocks(
    work: Callable[[slice], Result], values: Array, threads: int, block_bytes: int | None
) -> list[Result]:
    """Do the work on blocks of cells, several at a time."""
    steps, cells = values.shape
    threads = max(threads, 1)
    largest = cells_per_block(steps, block_bytes or _default_bytes(values))
    # As many blocks for each thread.
    rounds = max(1, -(-cells // (largest * threads)))
    size = max(1, -(-cells // (rounds * threads)))
    blocks = [slice(start, min(start + size, cells)) for start in range(0, cells, size)]
    if threads == 1:
        return [work(block) for block in blocks]
    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(work, blocks))


def _probabilities(quantiles: npt.ArrayLike) -> Floats:
    found = np.asarray(quantiles, dtype=np.float64)
    ascend = found.ndim == 1 and len(found) > 1 and bool((np.diff(found) > 0).all())
    if not ascend or found[0] < 0 or found[-1] > 1:
        raise ConfigError("quantiles must be at least two probabilities that ascend from 0 to 1")
    return found


def _check_option(name: str, value: str, options: Any) -> None:
    if value not in get_args(options):
        raise ConfigError(f"unknown {name} '{value}'; expected {' or '.join(get_args(options))}")


def _check_cells(trained: QuantileMap, sim: Array, pool: Array) -> None:
    if not sim.shape[1] == pool.shape[1] == trained.ref.shape[-1]:
        raise InputError(
            f"sim has {sim.shape[1]} cells, its pool {pool.shape[1]} and the map "
            f"{trained.ref.shape[-1]}; expected the same cells in all three"
        )


def _check_series(name: str, values: Array, dates: Dates) -> None:
    if values.ndim != 2 or values.shape[0] != len(dates) or len(dates) == 0:
        raise InputError(
            f"{name} has shape {tuple(values.shape)} for {len(dates)} dates; expected (time, cells)"
        )
    if not home(values)[0].isdtype(values.dtype, "real floating"):
        raise InputError(f"{name} has values of type {values.dtype}; expected floating point")
