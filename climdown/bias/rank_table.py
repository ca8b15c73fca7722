"""Corrections at nodes of tau, interpolated to the tau of each value by looking up its rank.

tau of a value is (rank - 1) / (n - 1) among the n valid values of its group, equal values sharing
their average rank. An average of integers is an integer or a half, so that n values have but
2n - 1 taus, which the integer 2 (rank - 1) numbers. Where these lie among the nodes is computed
once per n, in a table, instead of once per value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from climdown.arrays import Float64, Index
from climdown.bias.grouping import Array, home
from climdown.bias.rows import pick


class RankTable(NamedTuple):
    """Where among the nodes the possible taus lie, the tables of all n end to end.

    Attributes:
        start: place in the table of the lowest rank, of the shape of the counts n.
        low: the node below, shape (entries,).
        weight: of the node after it, shape (entries,).
    """

    start: Index
    low: Index
    weight: Float64

    @classmethod
    def of(cls, counts: Index, nodes: Float64, interpolation: str) -> RankTable:
        """The table for numbers of valid values.

        Args:
            counts: n of each cell and group, shape (cells or 1, groups).
            nodes: ascending probabilities, shape (nodes,).
            interpolation: "linear" or "nearest".
        """
        # One table for each distinct n: cells without gaps all share one. A single value has no
        # tau; it is not used, and 2 keeps its table from dividing by 0.
        distinct, which = np.unique(np.maximum(counts, 2), return_inverse=True)
        sizes = 2 * distinct - 1
        ends = np.cumsum(sizes)
        # 0, 1, ..., 2n - 2 for each n.
        twice = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
        tau = twice / np.repeat(2 * distinct - 2, sizes)
        # Beyond the outermost nodes `interp` stays at them: the tails' constant correction.
        position = np.interp(tau, nodes, np.arange(len(nodes)))
        # The last node is the one after another, with weight 1.
        low = np.minimum(np.floor(position), len(nodes) - 2)
        weight = position - low
        if interpolation == "nearest":
            low, weight = low + (weight > 0.5), 0.0 * weight
        start = (ends - sizes)[which.reshape(counts.shape)]
        return cls(start, low.astype(np.int64), weight)


def interpolated(
    correction: Array, bounded: Array, twice: Array, table: RankTable, groups: Index
) -> tuple[Array, Array | None]:
    """Corrections at each step's tau, and where a bound contributed, both (cells, time).

    Args:
        correction: at the nodes, shape (cells, groups, nodes).
        bounded: whether the bound on the ratio set it, of the same shape.
        twice: 2 (rank - 1) of each step, shape (cells, time).
        groups: whose map each step uses, shape (time,).

    Returns:
        the corrections; and flags, or None where no bound was set at all.
    """
    xp, device = home(correction)
    cells, count, nodes = correction.shape
    # Missing values rank behind all valid ones, beyond the end of the table; what they look up
    # there is never used.
    spare = (0, 2 * twice.shape[-1])
    low = xp.asarray(np.pad(table.low, spare), device=device)
    entry = twice + xp.asarray(table.start[:, groups], device=device)
    # Place of (cell, group, node below tau) in the flat corrections; built up in place, as these
    # arrays are as large as the series themselves.
    at = pick(low, entry)
    at += xp.asarray(groups * nodes, device=device)
    at += count * nodes * xp.reshape(xp.arange(cells, device=device), (-1, 1))
    values, flags = xp.reshape(correction, (-1,)), xp.reshape(bounded, (-1,))
    at_tau = pick(values, at)
    at_bound = pick(flags, at) if bool(xp.any(flags)) else None
    # Not for "nearest", whose node may be the last one: there is none after it.
    if table.weight.any():
        weight = xp.asarray(np.pad(table.weight, spare), dtype=values.dtype, device=device)
        weight = pick(weight, entry)
        at += 1
        at_tau += (pick(values, at) - at_tau) * weight
        if at_bound is not None:
            # A node of weight 0 says nothing of the result.
            at_bound |= pick(flags, at) & (weight > 0)
    return at_tau, at_bound
