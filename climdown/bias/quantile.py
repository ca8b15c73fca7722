"""Quantile delta mapping: each quantile is corrected, and the model's change in it is kept.

Additive, scen = sim + [F_ref^-1(tau) - F_hist^-1(tau)]; multiplicative,
scen = sim * F_ref^-1(tau) / F_hist^-1(tau); tau = F_sim(sim) (Cannon, Sobie & Murdock 2015,
doi:10.1175/JCLI-D-14-00754.1). The corrections are known at nodes of tau and interpolated between.

Arrays are (time, cells), float32 or float64, NaN where a value is missing, of NumPy or of torch
on any device: one code serves all. It works on blocks of cells, whose size a byte budget sets,
and transposes them, because sorting wants each cell's values side by side in memory. Results are
the same for every block size and number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from climdown.arrays import Float64, Index
from climdown.bias.grouping import Array, DateSequence, Grouping, Windows, home
from climdown.bias.rank_table import RankTable, interpolated
from climdown.bias.ranks import RankPlan, disjoint_ranks, plan_ranks, window_ranks
from climdown.bias.rows import (
    in_blocks,
    parts_of,
    pick,
    rows_of_cells,
    starts_of,
)
from climdown.errors import ConfigError, InputError

Kind = Literal["additive", "multiplicative"]
Tails = Literal["constant", "extremes"]
Interpolation = Literal["linear", "nearest"]

# Fewer valid values of a group in a cell make no reliable quantiles: there is no map then.
FEWEST = 10


def nodes(count: int) -> Float64:
    """The middles of `count` equal parts of (0, 1): (i + 0.5) / count.

    Raises:
        ConfigError: fewer than two.
    """
    if count < 2:
        raise ConfigError(f"{count} quantiles asked for; expected at least 2")
    return (np.arange(count) + 0.5) / count


def group_quantiles(
    values: Array,
    members: Index | Windows,
    nodes: Float64,
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
        block_bytes: see `rows.cells_per_block`; a fitting size if None.
    """
    windows = members if isinstance(members, Windows) else Windows.of_members(members)
    xp, device = home(values)
    # Cells come first in memory, so that turning the axes again later copies nothing.
    shape = (values.shape[1], len(windows.first), len(nodes))
    quantiles = xp.empty(shape, dtype=values.dtype, device=device)

    def work(cells: slice) -> None:
        quantiles[cells] = _quantiles(rows_of_cells(values[:, cells]), windows, nodes)

    in_blocks(work, values, threads, block_bytes)
    return xp.moveaxis(quantiles, 0, -1)


@dataclass(frozen=True, eq=False)
class QuantileMap:
    """A trained quantile delta mapping.

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
    nodes: Float64
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

        In a multiplicative map 0/0 is 1 and x/0 is the bound; quantiles below 0, rounding errors
        in the precipitation of many models, count as 0.
        """
        xp, _ = home(self.ref)
        ref, hist = xp.moveaxis(self.ref, -1, 0), xp.moveaxis(self.hist, -1, 0)
        if self.kind == "additive":
            return ref - hist, xp.zeros_like(ref, dtype=xp.bool)
        zero, one = xp.zeros_like(ref), xp.ones_like(ref)
        ref, hist = xp.where(ref < 0, zero, ref), xp.where(hist < 0, zero, hist)
        # As a product x/0 exceeds the bound without a division; 0/0 does not, and is set to 1;
        # where the reference is missing, so is its ratio.
        bounded, zero_hist = ref > max_ratio * hist, hist == 0
        ratio = ref / xp.where(bounded | zero_hist, one, hist)
        ratio = xp.where(zero_hist & (ref == 0), one, ratio)
        return xp.where(bounded, max_ratio * one, ratio), bounded


def train(
    ref: Array,
    hist: Array,
    *,
    ref_dates: DateSequence,
    hist_dates: DateSequence,
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
    probabilities = nodes(quantiles) if isinstance(quantiles, int) else _probabilities(quantiles)
    if tails == "extremes":
        probabilities = np.union1d(probabilities, [0.0, 1.0])
    _check_series("ref", ref, ref_dates)
    windows = grouping.windows(grouping.group_of(ref_dates))
    return train_from_quantiles(
        group_quantiles(ref, windows, probabilities, threads=threads, block_bytes=block_bytes),
        hist,
        nodes=probabilities,
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
    nodes: Float64,
    hist_dates: DateSequence,
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
    hist_quantiles = group_quantiles(hist, windows, nodes, threads=threads, block_bytes=block_bytes)
    return QuantileMap(kind, grouping, nodes, ref_quantiles, hist_quantiles)


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Adjusted values, and the counts that a report gives of them.

    Attributes:
        values: scen, shape (time, cells), of the type of sim.
        bounded: number of values to whose correction a bounded ratio contributed.
        unmapped: number of valid values left missing, because there is no map for their group
            and cell, or because fewer than `FEWEST` values were there to rank them.
    """

    values: Array
    bounded: int
    unmapped: int


def adjust(
    trained: QuantileMap,
    sim: Array,
    dates: DateSequence,
    *,
    interpolation: Interpolation = "linear",
    max_ratio: float = 10.0,
    pool: Array | None = None,
    pool_dates: DateSequence | None = None,
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
        max_ratio: upper bound of a multiplicative correction. Without one, drizzle becomes
            extreme precipitation where the model is dry in its reference period.
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
    plan = plan_ranks(trained.grouping, dates, pool_dates)
    xp, device = home(sim)
    values = xp.empty(sim.shape, dtype=sim.dtype, device=device)

    def work(cells: slice) -> tuple[int, int]:
        block = trained.cells(cells), sim[:, cells], pool[:, cells]
        scen, bounded, unmapped = _adjust_block(plan, *block, interpolation, max_ratio)
        values[:, cells] = scen.T
        return bounded, unmapped

    counts = in_blocks(work, pool, threads, block_bytes)
    return Adjusted(values, sum(b for b, _ in counts), sum(u for _, u in counts))


def _adjust_block(
    plan: RankPlan,
    trained: QuantileMap,
    sim: Array,
    pool: Array,
    interpolation: str,
    max_ratio: float,
) -> tuple[Array, int, int]:
    """scen of a block of cells, shape (cells, time), and the two counts of `Adjusted`."""
    xp, device = home(sim)
    rows = rows_of_cells(pool)
    x = rows if plan.sim_steps is None else rows_of_cells(sim)
    counts = plan.windows.valid(rows)
    # tau as the integer 2 (rank - 1), see `RankTable`; first for each step of the pool, ...
    twice = (disjoint_ranks if plan.disjoint else window_ranks)(rows, plan)
    if plan.sim_steps is not None:  # ... then for those of them that are sim's
        twice = xp.take(twice, xp.asarray(plan.sim_steps, device=device), axis=1)
    node_corrections, bounded = trained.corrections(max_ratio)
    node_corrections = xp.astype(node_corrections, x.dtype, copy=False)
    if (counts < FEWEST).any():
        # Too few values to rank: no correction, and scen is missing.
        few = xp.asarray(counts < FEWEST, device=device)[..., None]
        node_corrections = xp.where(few, xp.full_like(node_corrections, xp.nan), node_corrections)
    table = RankTable.of(counts, trained.nodes, interpolation)
    correction, at_bound = interpolated(node_corrections, bounded, twice, table, plan.groups)
    scen = x + correction if trained.kind == "additive" else x * correction
    unmapped = int(xp.sum(xp.isnan(scen))) - int(xp.sum(xp.isnan(x)))
    return scen, 0 if at_bound is None else int(xp.sum(at_bound & ~xp.isnan(scen))), unmapped


def _quantiles(rows: Array, windows: Windows, nodes: Float64) -> Array:
    """Quantiles of rows (cells, time), shape (cells, groups, nodes)."""
    xp, device = home(rows)
    counts, runs = windows.valid(rows).T[..., None], windows.runs(rows)
    quantiles = xp.empty((len(rows), len(counts), len(nodes)), dtype=rows.dtype, device=device)
    for part in parts_of(runs, windows):
        # NaN sorts last: the first n values of a row are the valid ones, in order.
        window = xp.sort(windows.cut(runs, part, xp.nan), axis=-1, stable=False)
        last = np.maximum(counts[part] - 1, 0)
        # Type 7: quantile p lies at place (n - 1) p, counted from 0, here in double precision.
        position = last * nodes
        low = np.floor(position).astype(np.int64)
        weight = xp.asarray(position - low, dtype=rows.dtype, device=device)
        value = _select(window, low)
        value += (_select(window, np.minimum(low + 1, last)) - value) * weight
        few = counts[part] < FEWEST
        if few.any():
            missing = xp.full_like(value, xp.nan)
            value = xp.where(xp.asarray(few, device=device), missing, value)
        quantiles[:, part] = xp.moveaxis(value, 0, 1)
    return quantiles


def _select(window: Array, index: Index) -> Array:
    """Values at some places of each row of windows (groups, cells, longest).

    The places are of shape (groups, cells or 1, places), the result is (groups, cells, places).
    """
    xp, device = home(window)
    # Windows of one length without missing values read the same places in all rows.
    if (index == index[:1, :1]).all():
        return xp.take(window, xp.asarray(index[0, 0], device=device), axis=-1)
    return pick(xp.reshape(window, (-1,)), starts_of(window) + xp.asarray(index, device=device))


def _probabilities(quantiles: npt.ArrayLike) -> Float64:
    probabilities = np.asarray(quantiles, dtype=np.float64)
    ascend = (
        probabilities.ndim == 1
        and len(probabilities) > 1
        and bool((np.diff(probabilities) > 0).all())
    )
    if not ascend or probabilities[0] < 0 or probabilities[-1] > 1:
        raise ConfigError("quantiles must be at least two probabilities that ascend from 0 to 1")
    return probabilities


def _check_option(name: str, value: str, options: Any) -> None:
    if value not in get_args(options):
        raise ConfigError(f"unknown {name} '{value}'; expected {' or '.join(get_args(options))}")


def _check_cells(trained: QuantileMap, sim: Array, pool: Array) -> None:
    if not sim.shape[1] == pool.shape[1] == trained.ref.shape[-1]:
        raise InputError(
            f"sim has {sim.shape[1]} cells, its pool {pool.shape[1]} and the map "
            f"{trained.ref.shape[-1]}; expected the same cells in all three"
        )


def _check_series(name: str, values: Array, dates: DateSequence) -> None:
    if values.ndim != 2 or values.shape[0] != len(dates) or len(dates) == 0:
        raise InputError(
            f"{name} has shape {tuple(values.shape)} for {len(dates)} dates; expected (time, cells)"
        )
    if not home(values)[0].isdtype(values.dtype, "real floating"):
        raise InputError(f"{name} has values of type {values.dtype}; expected floating point")
