"""Maps for reports: one picture for each field, with its scale; coastlines from masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from climdown.arrays import Floats, Mask
from climdown.grid import Grid
from climdown.plots.figures import INK, Picture, canvas, picture, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scale = Literal["values", "amounts", "spread", "difference", "change of amounts"]
COLOURS: dict[Scale, str] = {
    "values": "viridis",
    "amounts": "viridis_r",
    "spread": "cividis",
    "difference": "RdBu_r",
    "change of amounts": "BrBG",
}
"""Perceptually uniform, or diverging about 0; all told apart by the colour-blind."""
_WIDTH = 286
_MARGINS = (38, 62, 12, 24)  # left, bottom, right, top
_TALLEST = 480
_LONGEST_TITLE = 38


@dataclass(frozen=True, eq=False)
class Map:
    """A field on its grid.

    Attributes:
        values: shape (ny, nx), NaN where there is none.
        units: of the values.
        scale: what kind of values; all maps of one drawing and scale share their colours.
        ranges: whether its values count for the range of colours.
    """

    title: str
    grid: Grid
    values: Floats
    units: str
    scale: Scale
    ranges: bool = True

    def describe(self) -> str:
        """What is seen, in words and numbers."""
        known = self.values[np.isfinite(self.values)]
        if not known.size:
            return f"Map, {self.title}: no values."
        return (
            f"Map, {self.title}: from {known.min():.3g} to {known.max():.3g} {self.units}, "
            f"mean of cells {known.mean():.3g}."
        )


def draw_maps(maps: Sequence[Map], *, land: tuple[Grid, Mask] | None, name: str) -> list[Picture]:
    """Draw maps over the same region.

    Args:
        land: the cells that have values, whose outline is drawn, on their grid.
        name: as of `figures.picture`; a number is added.
    """
    limits = {scale: limits_of(maps, scale) for scale in {one.scale for one in maps}}
    extent = maps[-1].grid if land is None else land[0]
    return [
        _draw(one, limits[one.scale], extent, land, name=f"{name}-{i}")
        for i, one in enumerate(maps)
    ]


def limits_of(maps: Sequence[Map], scale: Scale) -> tuple[float, float]:
    """The range of colours of all maps of one scale."""
    alike = [one for one in maps if one.scale == scale]
    counted = [one for one in alike if one.ranges] or alike
    return limits_of_values(np.concatenate([one.values.ravel() for one in counted]), scale)


def limits_of_values(values: Floats, scale: Scale) -> tuple[float, float]:
    """A range of colours that leaves out few of the values; of differences, about 0."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    if scale in ("difference", "change of amounts"):
        most = float(np.quantile(np.abs(values), 0.99)) or 1.0
        return -most, most
    low, high = (float(x) for x in np.quantile(values, (0.002, 0.998)))
    low = 0.0 if scale in ("amounts", "spread") else low
    return low, high if high > low else low + 1.0


def _draw(
    one: Map,
    limits: tuple[float, float],
    extent: Grid,
    land: tuple[Grid, Mask] | None,
    *,
    name: str,
) -> Picture:
    left, bottom, right, top = _MARGINS
    wide = _WIDTH - left - right
    tall = min(round(wide * _aspect(extent)), _TALLEST)
    height = tall + bottom + top
    with canvas(_WIDTH, height) as figure:
        axes = figure.add_axes((left / _WIDTH, bottom / height, wide / _WIDTH, tall / height))
        image = axes.pcolormesh(
            one.grid.lon_edges,
            one.grid.lat_edges,
            np.ma.masked_invalid(one.values),
            vmin=limits[0],
            vmax=limits[1],
            cmap=COLOURS[one.scale],
            rasterized=True,
        )
        if land is not None:
            draw_coast(axes, *land)
        _frame(axes, extent)
        axes.set_title(shortened(one.title, _LONGEST_TITLE))
        bar = figure.add_axes((left / _WIDTH, 36 / height, wide / _WIDTH, 9 / height))
        _draw_scale(figure, image, bar, one)
        return picture(figure, name=name, alt=one.describe())


def _aspect(grid: Grid) -> float:
    """Height over width of a region in its middle latitude."""
    north = grid.lat_edges[-1] - grid.lat_edges[0]
    east = grid.lon_edges[-1] - grid.lon_edges[0]
    return float(north / (east * np.cos(np.radians(grid.lat.mean()))))


def draw_coast(axes: Axes, grid: Grid, mask: Mask) -> None:
    """The outline of the cells that have values."""
    if mask.all() or not mask.any() or min(mask.shape) < 2:
        return
    axes.contour(grid.lon, grid.lat, mask.astype(float), [0.5], colors=INK, linewidths=0.8)


def _frame(axes: Axes, extent: Grid) -> None:
    axes.set_xlim(extent.lon_edges[0], extent.lon_edges[-1])
    axes.set_ylim(extent.lat_edges[0], extent.lat_edges[-1])
    axes.set_aspect("auto")
    axes.locator_params(nbins=5, steps=[1, 2, 5, 10])
    axes.xaxis.set_major_formatter(lambda x, _: _degrees(x, "E", "W"))
    axes.yaxis.set_major_formatter(lambda y, _: _degrees(y, "N", "S"))
    axes.tick_params(labelsize=7, length=2)


def _degrees(value: float, ahead: str, behind: str) -> str:
    value = (value + 180.0) % 360.0 - 180.0 if ahead == "E" else value
    return f"{abs(value):g}{ahead if value > 0 else behind if value < 0 else '°'}"


def _draw_scale(figure: Figure, image: object, axes: Axes, one: Map) -> None:
    bar = figure.colorbar(image, cax=axes, orientation="horizontal")  # type: ignore[arg-type]
    bar.outline.set_visible(False)
    bar.solids.set_rasterized(True)  # type: ignore[union-attr]
    axes.locator_params(nbins=6)
    axes.tick_params(labelsize=7, length=2)
    axes.set_xlabel(one.units, fontsize=8, labelpad=1)
