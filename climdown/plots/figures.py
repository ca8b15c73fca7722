"""What all figures share: ink that follows the page, colours of lines, SVG.

Figures have no background. What is drawn in `INK` is written as a colour of CSS, so that a page may
set it to white at night.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#2b2b2c"
"""A grey that nothing else has; in SVG it becomes `var(--ink)`."""
PIXELS = 96.0
"""Pixels of CSS in an inch."""
# Seven colours that the colour-blind tell apart (after Okabe and Ito 2008), of a contrast of 3 and
# more against white and against nearly black.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#C0609A", "#8A6D00", "#5B6EE1", "#A0522D")
_DASHES = ("-", (0, (6, 2)), (0, (4, 2, 1, 2)), (0, (2, 1)), (0, (8, 2, 2, 2)), (0, (3, 1)), "-.")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")

Dash = str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Style:
    """How a source is drawn, in all figures alike, told apart by more than its colour."""

    colour: str
    dash: Dash
    mark: str
    width: float

    @property
    def css(self) -> str:
        """The colour in a page."""
        return f"var(--ink, {INK})" if self.colour == INK else self.colour

    @property
    def dashes(self) -> str:
        """Lengths of strokes and gaps, as SVG has them."""
        gaps = self.dash[1] if isinstance(self.dash, tuple) else {"-.": (6, 2, 1, 2)}.get(self.dash)
        return "none" if gaps is None else " ".join(f"{self.width * one:g}" for one in gaps)


REFERENCE = Style(INK, "-", "", 3.0)
"""Wide, since it is drawn below all others."""
INPUT = Style("#77777a", (0, (1, 1)), ".", 1.8)


def output_style(place: int) -> Style:
    """The style of the output that was named at a place, counted from 0."""
    i = place % len(_COLOURS)
    return Style(_COLOURS[i], _DASHES[i], _MARKS[i], 1.6)


@dataclass(frozen=True)
class Picture:
    """A figure to stand in a page.

    Attributes:
        svg: an element, ready to be put into HTML.
        width, height: in pixels of CSS.
        alt: what it shows, for those who do not see it.
    """

    svg: str
    width: int
    height: int
    alt: str


@contextmanager
def canvas(width: int, height: int) -> Iterator[Figure]:
    """An empty figure of so many pixels of CSS, in the style of reports."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(_settings()):
        figure = Figure(figsize=(width / PIXELS, height / PIXELS), dpi=PIXELS)
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        yield figure


def shortened(text: str, most: int) -> str:
    """A title that fits."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _settings() -> dict[Any, Any]:
    inked = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(inked, INK),
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9.5,
        "axes.labelsize": 9,
        "axes.linewidth": 0.8,
        "axes.titlelocation": "left",
        "axes.formatter.use_mathtext": False,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "svg.fonttype": "none",
    }


def picture(figure: Figure, *, name: str, alt: str) -> Picture:
    """A figure as SVG.

    Args:
        name: of the picture, none other in the page has it; letters, digits and hyphens.
    """
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, dpi=2 * PIXELS)
    width, height = (round(PIXELS * float(inches)) for inches in figure.get_size_inches())
    return Picture(_embedded(stream.getvalue(), name, width, height), width, height, alt)


def _embedded(text: str, name: str, width: int, height: int) -> str:
    """The SVG element alone, with names of its own, sized in pixels."""
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # A style within a page is one for the whole page.
    text = re.sub(r"\s*<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w.-]+)", text))

    def own_name(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r'\sid="([^"]*)"', own_name, text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, f"var(--ink, {INK})")
    head = re.search(r"<svg[^>]*>", text)
    assert head is not None
    box = re.search(r'viewBox="[^"]*"', head[0])
    assert box is not None
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    opening = f'<svg {names} role="img" width="{width}" height="{height}" {box[0]}>'
    return re.sub(r"\n\s*", "\n", opening + text[head.end() :]).strip()
