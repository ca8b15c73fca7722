"""Where steps lie in time: in units of work, and in the blocks that the bootstrap resamples.

A unit is a year, or the season of a year where the files hold some months only: spells, sums over
days and yearly extremes are counted within it. Sums of single steps are kept by blocks of some
days, sums of maps by groups of blocks, and what needs consecutive steps by units; what is large is
kept by tenths of the groups, or spans of units.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from climdown import cf
from climdown.arrays import Dates, Float64, Index, Int64, Mask

Along = Literal["blocks", "groups", "units", "tenths", "spans"]

_BLOCK_DAYS = 10.0
# With fewer units groups are cut within them.
_FEWEST_UNITS = 8
# Of what is kept for each cell in many bins, or of each member.
_MOST = 10
# Units that are shorter than so much of the longest one have no highest day or longest spell.
_WHOLE = 0.9
# With fewer units a trend would be that of single years.
_FEWEST_FOR_CHANGE = 6


@dataclass(frozen=True, eq=False)
class Segments:
    """Steps of a time axis that are judged, and the segments that each lies in.

    Attributes:
        steps: positions on the axis, ascending, shape (n,).
        unit, block, group: of each step, counted from 0, ascending, shape (n,).
        tenth: of each step: the groups in order, at most ten runs of them, shape (n,).
        span: of each step: whole units in order, at most ten runs of them, shape (n,).
        whole: whether the unit of each step is about as long as the longest, shape (n,).
        month: of each step, 0 to 11, shape (n,).
        number: of each step; grows by one from step to step, shape (n,).
        years: of each step, decimal years since 2000 in the calendar's own years, shape (n,).
        third: of each step, 0 to 2: the units in order, a third each; -1 throughout where there
            are too few units to tell a change, shape (n,).
        step_days: length of a step.
    """

    steps: Index
    unit: Index
    block: Index
    group: Index
    tenth: Index
    span: Index
    whole: Mask
    month: Index
    number: Int64
    years: Float64
    third: Index
    step_days: float

    def count(self, along: Along) -> int:
        """Number of segments of a kind."""
        labels = {
            "blocks": self.block,
            "groups": self.group,
            "units": self.unit,
            "tenths": self.tenth,
            "spans": self.span,
        }
        return int(labels[along][-1]) + 1

    @cached_property
    def units(self) -> tuple[slice, ...]:
        """The steps of each unit, as positions among those judged."""
        return tuple(runs(self.unit))

    def take(self, part: slice) -> Segments:
        """A stretch of the steps, with the labels that they have."""
        return replace(
            self,
            steps=self.steps[part],
            unit=self.unit[part],
            block=self.block[part],
            group=self.group[part],
            tenth=self.tenth[part],
            span=self.span[part],
            whole=self.whole[part],
            month=self.month[part],
            number=self.number[part],
            years=self.years[part],
            third=self.third[part],
        )


def runs(labels: Index) -> list[slice]:
    """Stretches of equal neighbours."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def segments(axis: cf.TimeAxis, steps: Index, *, most_groups: int = 24) -> Segments:
    """Cut the steps of an axis that are judged into units, blocks and groups.

    Args:
        steps: positions, ascending, at least one.
        most_groups: bounds the memory of sums of maps.
    """
    dates = axis.centres[steps]
    step_days = axis.step_days if len(axis) > 1 else 1.0
    month = np.array([d.month - 1 for d in dates], dtype=np.intp)
    first = _first_month(month)
    year = np.array([d.year for d in dates]) - (month < first)
    unit = np.cumsum(np.append(0, np.diff(year) != 0))
    number = cf.step_numbers(dates, step_days)
    block = _blocks(unit, number, step_days)
    group = _groups(unit, block, most_groups)
    return Segments(
        steps=steps,
        unit=unit,
        block=block,
        group=group,
        tenth=_shared_out(group, _MOST),
        span=_shared_out(unit, _MOST),
        whole=_whole(unit),
        month=month,
        number=number,
        years=_years(dates),
        third=_thirds(unit),
        step_days=step_days,
    )


def _whole(unit: Index) -> Mask:
    length = np.bincount(unit)
    return np.asarray((length >= _WHOLE * length.max())[unit])


def _years(dates: Dates) -> Float64:
    starts = {y: type(dates[0])(y, 1, 1) for d in dates for y in (d.year, d.year + 1)}
    return np.array(
        [
            d.year - 2000 + (d - starts[d.year]) / (starts[d.year + 1] - starts[d.year])
            for d in dates
        ]
    )


def _thirds(unit: Index) -> Index:
    count = int(unit[-1]) + 1
    return np.full_like(unit, -1) if count < _FEWEST_FOR_CHANGE else unit * 3 // count


def _first_month(month: Index) -> int:
    """With which month a season of the year begins: the one after the longest gap; 0 for all."""
    present = np.isin(np.arange(12), month)
    gaps = [_months_missing_before(present, m) if present[m] else 0 for m in range(12)]
    return int(np.argmax(gaps))


def _months_missing_before(present: np.typing.NDArray[np.bool_], month: int) -> int:
    back = np.roll(present[::-1], month)  # the month before, the one before that, ...
    return int(np.argmax(back))


def _blocks(unit: Index, number: Int64, step_days: float) -> Index:
    length = max(1, round(_BLOCK_DAYS / step_days))
    labels = np.zeros(len(unit), dtype=np.intp)
    for part in runs(unit):
        labels[part] = (number[part] - number[part][0]) // length
    changes = (np.diff(unit) != 0) | (np.diff(labels) != 0)
    return np.asarray(np.cumsum(np.append(0, changes)), dtype=np.intp)


def _groups(unit: Index, block: Index, most: int) -> Index:
    """At most so many runs of blocks; of whole units where there are enough of them."""
    labels = unit if unit[-1] + 1 >= min(_FEWEST_UNITS, most) else block
    return _shared_out(labels, most)


def _shared_out(labels: Index, most: int) -> Index:
    """Consecutive labels made at most so many, each of about as many."""
    count = int(labels[-1]) + 1
    return np.asarray(labels * min(most, count) // count, dtype=np.intp)
