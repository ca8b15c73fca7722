"""Charts of lines: spectra, distributions, ranks, reliability, cycles and series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from climdown.arrays import Floats, Mask
from climdown.plots.figures import INK, Picture, Style, canvas, picture, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT = 372, 288
# Room for labels, in pixels: left, bottom, right, top.
_MARGINS = (62, 46, 12, 28)
_LONGEST_TITLE = 46
_FEW_DECADES = 3
_DECADES = 8  # that a logarithmic axis shows


@dataclass(frozen=True, eq=False)
class Line:
    """One line; NaN breaks it.

    Attributes:
        label: of its source, as in the legend.
        x, y: shape (n,).
        marks: whether each point is marked.
    """

    label: str
    style: Style
    x: Floats
    y: Floats
    marks: bool = False

    @property
    def known(self) -> Mask:
        """Which of the points there are, shape (n,)."""
        return np.asarray(np.isfinite(self.x) & np.isfinite(self.y))


@dataclass(frozen=True, eq=False)
class Chart:
    """Lines in one frame.

    Attributes:
        title, x_label, y_label: with units.
        lines: the last is drawn on top.
        log_x, log_y: whether the axes are logarithmic.
        falling_x: whether x falls to the right, as wavelengths do.
        stairs: each y holds from its x to the next, as in histograms.
        ideal: a thin line where all would lie if all were well: y = x, or a constant y.
        band: low and high y of what is expected by chance.
        x_ticks: places and labels, where numbers will not do.
        x_limits, y_limits: None takes what the lines need.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    falling_x: bool = False
    stairs: bool = False
    ideal: Literal["diagonal"] | float | None = None
    band: tuple[float, float] | None = None
    x_ticks: Sequence[tuple[float, str]] = ()
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None

    def describe(self) -> str:
        """What is seen, in words and numbers."""
        lines = "; ".join(filter(None, (_described(line) for line in self.lines)))
        return f"Line chart, {self.title}: {self.y_label} against {self.x_label}. {lines}."


def _described(line: Line) -> str:
    if not line.known.any():
        return ""
    x, y = line.x[line.known], line.y[line.known]
    return f"{line.label} from {y[0]:.3g} at {x[0]:.3g} to {y[-1]:.3g} at {x[-1]:.3g}"


def draw_chart(chart: Chart, *, name: str) -> Picture:
    """Draw a chart; `name` is as of `figures.picture`."""
    left, bottom, right, top = _MARGINS
    with canvas(_WIDTH, _HEIGHT) as figure:
        axes = figure.add_axes(
            (
                left / _WIDTH,
                bottom / _HEIGHT,
                1 - (left + right) / _WIDTH,
                1 - (bottom + top) / _HEIGHT,
            )
        )
        for line in chart.lines:
            _draw_line(axes, line, stairs=chart.stairs)
        _scale(axes, chart)
        _draw_expected(axes, chart)
        axes.set_title(shortened(chart.title, _LONGEST_TITLE))
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(chart.y_label)
        return picture(figure, name=name, alt=chart.describe())


def _draw_line(axes: Axes, line: Line, *, stairs: bool) -> None:
    style = line.style
    axes.plot(
        line.x,
        line.y,
        color=style.colour,
        linestyle=style.dash,
        linewidth=style.width,
        marker=style.mark if line.marks and style.mark else None,
        markersize=4,
        drawstyle="steps-post" if stairs else "default",
    )


def _scale(axes: Axes, chart: Chart) -> None:
    if chart.log_x:
        axes.set_xscale("log")
        places = _round_numbers(*axes.get_xlim())
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.set_xticks([], minor=True)
    if chart.log_y:
        axes.set_yscale("log")
        _limit_decades(axes)
        _mark_few_decades(axes)
    if chart.x_limits is not None:
        axes.set_xlim(*chart.x_limits)
    if chart.y_limits is not None:
        axes.set_ylim(*chart.y_limits)
    if chart.x_ticks:
        axes.set_xticks([place for place, _ in chart.x_ticks], [text for _, text in chart.x_ticks])
    if chart.falling_x:
        axes.invert_xaxis()
    axes.grid(visible=True, color=INK, alpha=0.12, linewidth=0.6)


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within a range."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = [first * 10.0**decade for decade in decades for first in (1, 2, 5)]
    return [number for number in numbers if low <= number <= high]


def _limit_decades(axes: Axes) -> None:
    low, high = axes.get_ylim()
    if high / low > 10**_DECADES:
        axes.set_ylim(high / 10**_DECADES, high)


def _mark_few_decades(axes: Axes) -> None:
    """Round numbers where powers of ten would be too few."""
    low, high = axes.get_ylim()
    if high / low < 10**_FEW_DECADES:
        places = _round_numbers(low, high)
        axes.set_yticks(places, [f"{place:g}" for place in places])
        axes.set_yticks([], minor=True)


def _draw_expected(axes: Axes, chart: Chart) -> None:
    """The ideal and the band, which leave the limits as they are."""
    limits = axes.get_xlim(), axes.get_ylim()
    thin: dict[str, Any] = {"color": INK, "linewidth": 0.9, "alpha": 0.7, "zorder": 1}
    if chart.ideal == "diagonal":
        axes.axline((limits[0][0], limits[0][0]), slope=1.0, **thin)
    elif isinstance(chart.ideal, float):
        axes.axhline(chart.ideal, **thin)
    if chart.band is not None:
        axes.axhspan(*chart.band, color=INK, alpha=0.13, linewidth=0, zorder=0)
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
