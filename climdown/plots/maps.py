"""Maps as PNG files; matplotlib is imported on first use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from climdown.arrays import Floats, Mask
from climdown.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh


@dataclass(frozen=True, eq=False)
class Panel:
    """A field on its grid; panels of one `scale` share their colours."""

    title: str
    grid: Grid
    values: Floats
    scale: str
    colours: str


def draw_panels(rows: Sequence[Sequence[Panel]], path: Path, *, title: str) -> None:
    """Draw rows of maps side by side into a PNG.

    Each panel's colour range is that of all panels of its row with the same scale.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(3.1 * columns, 2.7 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, row_axes in zip(rows, axes, strict=True):
        for panel, axis in zip(row, row_axes, strict=False):
            shared = [p.values for p in row if p.scale == panel.scale]
            image = _draw_map(axis, panel, _limits(shared), extent=row[-1].grid)
            axis.set_title(panel.title, fontsize=9)
            axis.tick_params(labelsize=7)
            figure.colorbar(image, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)


def draw_montage(
    samples: Mapping[str, Floats],
    reals: Mapping[str, Floats],
    path: Path,
    *,
    grid: Grid,
    title: str,
    colours: Mapping[str, str] | None = None,
    side: int = 4,
    blind: int | None = None,
) -> Mask:
    """Draw a square of samples beside a square of real days for each variable into a PNG.

    All maps of a variable share one colour scale.

    Args:
        samples, reals: by variable, each of shape (n, ny, nx) with n >= side^2; the first are
            drawn, those of all variables in the same places.
        grid: of the fields.
        colours: matplotlib's name of a colour map by variable.
        blind: a seed that shuffles samples and real days and leaves out their labels, so that
            a reader may try to tell them apart.

    Returns:
        Whether each map of a variable is a sample, shape (2 side^2,): the left square row by
        row, then the right one.

    Raises:
        ValueError: too few samples or real days.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = side**2
    if min(len(fields) for part in (samples, reals) for fields in part.values()) < count:
        raise ValueError(f"a montage needs {count} samples and {count} real days of each variable")
    order = np.arange(2 * count)
    if blind is not None:
        order = np.random.default_rng(blind).permutation(order)
    figure = Figure(figsize=(3.4 * side, 1.4 * side * len(samples)), layout="constrained")
    FigureCanvasAgg(figure)
    blocks = figure.subfigures(len(samples), 2, squeeze=False)
    for name, row in zip(samples, blocks, strict=True):
        maps = np.concatenate([samples[name][:count], reals[name][:count]])
        limits = _limits(maps)
        colour = (colours or {}).get(name, "viridis")
        for part, block, label in zip(
            np.split(order, 2), row, ("samples", "real days"), strict=True
        ):
            axes = block.subplots(side, side, squeeze=False)
            for index, axis in zip(part, axes.flat, strict=True):
                panel = Panel("", grid, maps[index], name, colour)
                image = _draw_map(axis, panel, limits, extent=grid)
                axis.set_xticks([])
                axis.set_yticks([])
            block.suptitle(name if blind is not None else f"{name}, {label}", fontsize=10)
            block.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)
    return order < count


def _limits(fields: Floats | Sequence[Floats]) -> tuple[float, float]:
    """The colour range of fields: up to a high quantile, so that one cell does not dim the rest."""
    finite = np.concatenate([values[np.isfinite(values)] for values in fields])
    return float(finite.min()), float(np.quantile(finite, 0.998))


def _draw_map(axis: Axes, panel: Panel, limits: tuple[float, float], *, extent: Grid) -> QuadMesh:
    image = axis.pcolormesh(
        panel.grid.lon_edges,
        panel.grid.lat_edges,
        np.ma.masked_invalid(panel.values),
        vmin=limits[0],
        vmax=limits[1],
        cmap=panel.colours,
    )
    axis.set_xlim(extent.lon_edges[0], extent.lon_edges[-1])
    axis.set_ylim(extent.lat_edges[0], extent.lat_edges[-1])
    axis.set_facecolor("0.85")
    axis.set_aspect(1.0 / np.cos(np.radians(extent.lat.mean())))
    return image
