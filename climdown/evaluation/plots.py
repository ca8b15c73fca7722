"""Pictures. Only this module draws; matplotlib loads on first use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from climdown.grid import Grid


@dataclass(frozen=True, eq=False)
class Panel:
    """A field on its grid; panels of one `scale` share their colours."""

    title: str
    grid: Grid
    values: npt.NDArray[np.floating]
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
            finite = np.concatenate([values[np.isfinite(values)] for values in shared])
            image = axis.pcolormesh(
                panel.grid.lon_edges,
                panel.grid.lat_edges,
                np.ma.masked_invalid(panel.values),
                vmin=finite.min(),
                vmax=np.quantile(finite, 0.998),
                cmap=panel.colours,
            )
            extent = row[-1].grid
            axis.set_xlim(extent.lon_edges[0], extent.lon_edges[-1])
            axis.set_ylim(extent.lat_edges[0], extent.lat_edges[-1])
            axis.set_facecolor("0.85")
            middle = np.radians(extent.lat.mean())
            axis.set_aspect(1.0 / np.cos(middle))
            axis.set_title(panel.title, fontsize=9)
            axis.tick_params(labelsize=7)
            figure.colorbar(image, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)
