"""What statistics are: functions that give sums, which add over time, shards and workers.

A statistic of a *source* sees its values alone, a statistic of *pairs* sees members and the
reference of the same steps. Each returns sums by name, one set for each step (`STEP`), for a
stretch of steps (`STRETCH`), or for a whole unit of consecutive steps (`UNIT`). Arrays of sums are
float64, or uint32 where they count in many bins; missing values are NaN in what comes in, and have
weight 0 in what goes out. Sums of series are kept by tenths, and those of their units by spans, so
that 100 years take no more memory than ten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from climdown.arrays import AnyArray, Float32
from climdown.evaluation.comparison import Comparison
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments

Sums: TypeAlias = dict[str, AnyArray]
"""Sums by name. Of a STEP statistic each has shape (time, ...); of others (...)."""

OfSource: TypeAlias = Callable[[Scene, Float32, Segments], Sums]
"""Fields of one source: values of shape (time, member, ny, nx)."""
OfSeries: TypeAlias = Callable[[Scene, Float32, Segments], Sums]
"""Series of some cells (`Scene.cells`): values of shape (time, member, cells)."""
OfPairs: TypeAlias = Callable[[Scene, Comparison, Segments], Sums]
"""Members compared with the reference of the same steps, so that members are sorted once."""
OfInput: TypeAlias = Callable[[Scene, Float32, Float32, Segments], Sums]
"""Coarse means of members, shape (time, member, cy, cx), and the input, (time, cy, cx)."""
OfFine: TypeAlias = Callable[[Scene, Float32, Float32, Segments], Sums]
"""Members on their own cells, shape (time, member, ny, nx), and the input, (time, cy, cx)."""
OfVariables: TypeAlias = Callable[[Mapping[str, Scene], Mapping[str, Float32], Segments], Sums]
"""Series of two variables of one source by name, each of shape (time, member, cells)."""


@dataclass(frozen=True)
class Statistics:
    """All statistics by what they see and what they sum over."""

    step_of_source: tuple[OfSource, ...] = ()
    stretch_of_source: tuple[OfSource, ...] = ()
    stretch_of_series: tuple[OfSeries, ...] = ()
    unit_of_series: tuple[OfSeries, ...] = ()
    step_of_pairs: tuple[OfPairs, ...] = ()
    stretch_of_pairs: tuple[OfPairs, ...] = ()
    step_of_input: tuple[OfInput, ...] = ()
    stretch_of_input: tuple[OfInput, ...] = ()
    step_of_fine: tuple[OfFine, ...] = ()
    unit_of_input: tuple[OfInput, ...] = ()
    stretch_of_variables: tuple[OfVariables, ...] = ()
