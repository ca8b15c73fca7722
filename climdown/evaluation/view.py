"""What figures are made of: the sums of one variable, and how each source is named and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from climdown.arrays import Float64, Floats
from climdown.evaluation.evaluate import Evaluation
from climdown.evaluation.request import INPUT, REFERENCE
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Along
from climdown.plots import figures
from climdown.plots.charts import Chart, Line, draw_chart
from climdown.plots.figures import Picture, Style

_WRITTEN = {"degC": "°C", "mm day-1": "mm/day", "1": "", "m s-1": "m/s", "kg m-2 s-1": "kg/m²/s"}

Rows: TypeAlias = tuple[tuple[Picture, ...], ...]


@dataclass(frozen=True, eq=False)
class Illustration:
    """A figure of rows of pictures, and what to look for in it.

    Attributes:
        theme: the section that it stands in.
        caption: plain text.
        legend: sources and their styles.
    """

    theme: str
    title: str
    caption: str
    rows: Rows
    legend: tuple[tuple[str, Style], ...] = ()


@dataclass(frozen=True, eq=False)
class View:
    """One variable of an evaluation.

    Attributes:
        place: of the variable among all, part of the names of its pictures.
    """

    evaluation: Evaluation
    variable: str
    place: int

    @property
    def scene(self) -> Scene:
        """Its cells and scales."""
        return self.evaluation.plan.scenes[self.variable]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Those that have the variable."""
        plan = self.evaluation.plan
        return tuple(name for name in plan.outputs if self.variable in plan.variables(name))

    @property
    def sources(self) -> tuple[str, ...]:
        """The reference, which is drawn first, and the outputs."""
        return (REFERENCE, *self.outputs)

    @property
    def units(self) -> str:
        """Of the variable, as people write them."""
        return written(self.scene.units)

    def members(self, output: str) -> int:
        """How many an output has."""
        return len(self.evaluation.plan.outputs[output].members)

    def style(self, source: str) -> Style:
        """How a source is drawn."""
        named = {REFERENCE: figures.REFERENCE, INPUT: figures.INPUT}
        if source in named:
            return named[source]
        return figures.output_style(list(self.evaluation.plan.outputs).index(source))

    def by_segment(self, along: Along, source: str) -> dict[str, Float64]:
        """Sums of each segment by name."""
        count = self.evaluation.plan.segments[source.partition("/")[0]].count(along)
        return self.evaluation.states.of(along, source, self.variable, count)

    def total(self, along: Along, source: str) -> dict[str, Float64]:
        """Sums over all segments by name."""
        return self.evaluation.states.total(along, source, self.variable)

    def of_all(
        self, along: Along, names: Iterable[str], *, of: str = "", by_segment: bool = False
    ) -> dict[str, dict[str, Float64]]:
        """Sums of each source that has all the names; "/pairs" as `of` asks for those of pairs."""
        sums = self.by_segment if by_segment else self.total
        sources = self.outputs if of else self.sources
        found = {source: sums(along, f"{source}{of}") for source in sources}
        return {source: one for source, one in found.items() if set(names) <= one.keys()}

    def line(self, source: str, x: Floats, y: Floats, *, marks: bool = False) -> Line:
        """A line of a source."""
        return Line(source, self.style(source), x, y, marks)

    def name(self, word: str) -> str:
        """A name for a picture that no other has."""
        return f"{word}-{self.place}"

    def illustration(
        self, theme: str, title: str, caption: str, charts: Mapping[str, Chart]
    ) -> Illustration | None:
        """Charts by name as one figure; None if there is nothing in them."""
        complete = {
            name: replace(chart, lines=[line for line in chart.lines if line.known.any()])
            for name, chart in charts.items()
        }
        drawn = {name: chart for name, chart in complete.items() if chart.lines}
        if not drawn:
            return None
        pictures = (
            draw_chart(
                replace(chart, title=f"{self.variable}: {chart.title}"), name=self.name(name)
            )
            for name, chart in drawn.items()
        )
        shown = {line.label: line.style for chart in drawn.values() for line in chart.lines}
        order = [*(n for n in (REFERENCE, INPUT) if n in shown), *self.outputs]
        legend = tuple((name, shown[name]) for name in order if name in shown)
        return Illustration(theme, title, caption, (tuple(pictures),), legend)


def together(drawn: Iterable[Illustration]) -> list[Illustration]:
    """Figures of several variables as one, where one caption explains them."""
    result: dict[tuple[str, str], Illustration] = {}
    for one in drawn:
        key = (one.title, one.caption)
        if key in result:
            legend = tuple(dict([*result[key].legend, *one.legend]).items())
            one = replace(one, rows=_beside(result[key].rows, one.rows), legend=legend)
        result[key] = one
    return list(result.values())


def _beside(before: Rows, after: Rows) -> Rows:
    """Rows one below the other; single pictures side by side."""
    if len(before) == len(after) == len(after[0]) == 1:
        return ((*before[0], *after[0]),)
    return (*before, *after)


Illustrate: TypeAlias = Callable[[View], Illustration | None]
"""A figure of a variable, or None where its sums are not there."""


def written(units: str) -> str:
    """Units as people write them."""
    return _WRITTEN.get(units, units)


def with_units(text: str, units: str) -> str:
    """A quantity and its units in brackets, where it has any."""
    return f"{text} ({units})" if units else text
