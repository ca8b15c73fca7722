"""What a measure declares: one number that judges an output, from sums that add.

`value` is given sums over any selection of segments, one for each resample: leading axis R, so that
a bootstrap is one call. It returns shape (R,), NaN where the sums do not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from climdown.arrays import Float64, Floats
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Along

Resampled: TypeAlias = Mapping[str, Float64]
"""Sums by name, each of shape (R, ...)."""
Theme = Literal[
    "skill", "ensemble", "distribution", "extremes", "space", "time", "variables", "input", "change"
]
Kind = Literal["pairs", "source", "against", "input", "variables"]
"""What `value` is given.

pairs: sums of pairs. source: sums of one source, and the value of the reference is reported beside
that of the output. against: sums of the output and of the reference. input: sums of members against
their input; of pairs the value of the reference against the input is reported beside it. variables:
sums of two variables of the output and of the reference.
"""
Best = Literal["low", "high", "zero", "one", "reference", "none"]
"""What is good: low or high values, near 0, near 1, or near the reference's own value."""


@dataclass(frozen=True)
class Measure:
    """A number that judges an output.

    Attributes:
        name: in files: lower case, words joined by underscores.
        title: in reports.
        theme: under which it is reported.
        kind: what `value` is given, see `Kind`.
        along: the segments that its sums are kept by, all of one kind.
        sums: names of the sums that it reads; those without any are left out.
        value: from (scene, sums) to shape (R,), or (scene, output's, reference's) if `against`
            or `variables`.
        best: what is good.
        units: "variable" stands for the variable's own, "1" for none.
        formula: in plain mathematics.
        source: a DOI, an arXiv number or a book.
        sentence: explains it to somebody who has not met it.
        amounts: only of precipitation.
        members: the fewest that it needs.
        tells: shown in the main table of a report.
        by_cell: its sums have the cells of series as their first axis and are too large to be drawn
            again as a whole: its interval is made from some of the cells.
    """

    name: str
    title: str
    theme: Theme
    kind: Kind
    along: Along
    sums: tuple[str, ...]
    value: Callable[..., Float64]
    best: Best
    units: str
    formula: str
    source: str
    sentence: str
    amounts: bool = False
    members: int = 1
    tells: bool = False
    by_cell: bool = False


def unit_of(measure: Measure, scene: Scene) -> str:
    """The units of a measure of a variable, for people."""
    return measure.units.replace("variable", scene.units)


def divided(total: Floats, weight: Floats) -> Float64:
    """Total over weight; NaN where there is no weight."""
    there = weight > 0
    return np.asarray(np.where(there, total / np.where(there, weight, 1.0), np.nan))
