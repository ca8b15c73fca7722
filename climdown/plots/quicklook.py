"""Maps of one step, of grids and of meshes: as a picture, or as blocks of text."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from climdown.arrays import AnyArray, Floats, Index
from climdown.grid import Grid
from climdown.mesh import Mesh
from climdown.plots.atlas import COLOURS, Scale, limits_of_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RAMP = " .:-=+*#%@"
_MOST_POLYGONS = 200_000  # cells of a mesh that are drawn as they are, else as points
_COLUMNS = 3
_TALLEST = 2.0  # height over width


@dataclass(frozen=True, eq=False)
class Panel:
    """A field on its cells; panels of one scale share their colours.

    Attributes:
        values: of the shape of the cells, NaN where there is none.
    """

    title: str
    cells: Grid | Mesh
    values: Floats
    units: str
    scale: Scale

    @property
    def box(self) -> tuple[float, float, float, float]:
        """South, north, west, east."""
        if isinstance(self.cells, Mesh):
            return self.cells.box
        lat, lon = self.cells.lat_edges, self.cells.lon_edges
        return float(lat[0]), float(lat[-1]), float(lon[0]), float(lon[-1])

    @property
    def aspect(self) -> float:
        """Height over width in the middle latitude, not too tall for a page."""
        south, north, west, east = self.box
        wide = (east - west) * math.cos(math.radians(0.5 * (south + north)))
        return float(np.clip((north - south) / max(wide, 1e-6), 1 / _TALLEST, _TALLEST))


def limits(panels: Sequence[Panel], scale: Scale) -> tuple[float, float]:
    """The range of colours of all panels of one scale."""
    return limits_of_values(
        np.concatenate([one.values.ravel() for one in panels if one.scale == scale]), scale
    )


def draw(panels: Sequence[Panel], *, title: str, form: Literal["png", "svg", "pdf"]) -> bytes:
    """Maps side by side in one picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(panels), _COLUMNS)
    rows = -(-len(panels) // columns)
    wide = 4.6 if columns > 1 else 7.0
    tall = (wide - 0.8) * panels[0].aspect + 1.1
    figure = Figure(figsize=(wide * columns, tall * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, axis in zip(panels, axes, strict=False):
        image = _draw(axis, panel, limits(panels, panel.scale))
        bar = figure.colorbar(image, ax=axis, shrink=0.85, orientation="horizontal")
        bar.set_label(panel.units)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.suptitle(title)
    stream = io.BytesIO()
    figure.savefig(stream, format=form, dpi=130)
    return stream.getvalue()


def _draw(axes: Axes, panel: Panel, limits: tuple[float, float]) -> Any:
    settings = {"cmap": COLOURS[panel.scale], "clim": limits, "rasterized": True}
    south, north, west, east = panel.box
    image = (
        _draw_mesh(axes, panel, settings)
        if isinstance(panel.cells, Mesh)
        else _draw_grid(axes, panel.cells, panel.values, settings)
    )
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.set_aspect(panel.aspect * (east - west) / (north - south))
    axes.set_facecolor("0.88")
    axes.set_title(panel.title)
    axes.set_xlabel("longitude (°E)")
    axes.set_ylabel("latitude (°N)")
    return image


def _draw_grid(axes: Axes, grid: Grid, values: Floats, settings: dict[str, Any]) -> Any:
    return axes.pcolormesh(grid.lon_edges, grid.lat_edges, np.ma.masked_invalid(values), **settings)


def _draw_mesh(axes: Axes, panel: Panel, settings: dict[str, Any]) -> Any:
    """Cells by their corners where these are known, else points at their centres."""
    from matplotlib.collections import PolyCollection

    mesh, values = panel.cells, panel.values
    assert isinstance(mesh, Mesh)
    shown = np.isfinite(values) & np.isfinite(mesh.lat)
    west = panel.box[2]
    if mesh.lat_vertices is not None and mesh.lon_vertices is not None:
        shown &= mesh.valid
        if shown.sum() <= _MOST_POLYGONS:
            centre = west + np.mod(mesh.lon[shown] - west, 360.0)[:, None]
            # Corners beside their centre, whatever circle they are written in.
            lon = centre + (mesh.lon_vertices[shown] - centre + 180.0) % 360.0 - 180.0
            corners = np.stack([lon, mesh.lat_vertices[shown]], axis=-1)
            cells = PolyCollection(
                list(corners), array=values[shown], edgecolors="face", **settings
            )
            return axes.add_collection(cells)
    lon = west + np.mod(mesh.lon[shown] - west, 360.0)
    limits = settings.pop("clim")
    size = max(1.0, 40_000.0 / max(shown.sum(), 1))
    return axes.scatter(
        lon, mesh.lat[shown], size, values[shown], marker="s", linewidths=0, vmin=limits[0],
        vmax=limits[1], **settings,
    )  # fmt: skip


# --- in text


def raster(panel: Panel, columns: int, *, per_square: float) -> Floats:
    """A field on so many columns of places of text, rows from north to south.

    Args:
        per_square: rows that are as high as a column is wide: 0.5 for whole characters, 1 for
            halves of them.
    """
    south, north, west, east = panel.box
    rows = max(1, round(columns * panel.aspect * per_square))
    lat = north - (np.arange(rows) + 0.5) * (north - south) / rows
    lon = west + (np.arange(columns) + 0.5) * (east - west) / columns
    if isinstance(panel.cells, Grid):
        y = _cell_of(panel.cells.lat_edges, lat)
        x = _cell_of(panel.cells.lon_edges, lon)
        return np.asarray(panel.values[y[:, None], x[None]])
    return _binned(panel, (rows, columns))


def _cell_of(edges: Floats, places: Floats) -> Index:
    found = np.searchsorted(edges, places, side="right") - 1
    return np.asarray(np.clip(found, 0, len(edges) - 2))


def _binned(panel: Panel, shape: tuple[int, int]) -> Floats:
    """Means of the cells of a mesh whose centres lie in each place, NaN where there are none."""
    assert isinstance(panel.cells, Mesh)
    south, north, west, east = panel.box
    lat, lon = panel.cells.lat.ravel(), panel.cells.lon.ravel()
    values = panel.values.ravel()
    known = np.isfinite(values) & np.isfinite(lat) & np.isfinite(lon)
    down = (north - lat[known]) / max(north - south, 1e-9)
    right = np.mod(lon[known] - west, 360.0) / max(east - west, 1e-9)
    row, column = (
        np.clip((share * size).astype(np.intp), 0, size - 1)
        for share, size in ((down, shape[0]), (right, shape[1]))
    )
    place = row * shape[1] + column
    count = np.bincount(place, minlength=shape[0] * shape[1])
    total = np.bincount(place, weights=values[known], minlength=shape[0] * shape[1])
    means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.asarray(means.reshape(shape))


def characters(values: Floats, limits: tuple[float, float]) -> list[str]:
    """A raster as lines of text: the darker the character, the higher the value; blank for none."""
    share = np.nan_to_num(np.clip((values - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0))
    # The lowest class is not blank: that is for what is missing.
    place = 1 + np.round(share * (len(_RAMP) - 2)).astype(np.intp)
    place[~np.isfinite(values)] = 0
    return ["".join(_RAMP[i] for i in row) for row in place]


def colours(values: Floats, limits: tuple[float, float], scale: Scale) -> AnyArray:
    """Red, green and blue of each value, 0 to 255, shape (..., 3)."""
    import matplotlib as mpl

    share = np.clip((np.nan_to_num(values) - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)
    return np.asarray(np.round(255 * mpl.colormaps[COLOURS[scale]](share)[..., :3]), np.uint8)
