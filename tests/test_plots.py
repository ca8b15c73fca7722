"""Pictures are drawn, to size, with shared colours."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np

from climdown.evaluation.plots import Panel, draw_panels
from climdown.grid import Grid

COARSE = Grid.regular(40, 44, -4, 0, 2.0)
FINE = Grid.regular(40, 44, -4, 0, 0.5)


def test_rows_of_maps_fill_a_png_in_which_equal_scales_share_their_colours(tmp_path: Path) -> None:
    def panel(grid: Grid, value: float, scale: str) -> Panel:
        values = np.full(grid.shape, value)
        values[0, 0] = np.nan
        return Panel(f"{scale} {value:g}", grid, values, scale, "viridis")

    rows = [
        [panel(COARSE, 0.0, "t"), panel(FINE, 1.0, "t"), panel(FINE, 0.0, "t")],
        [panel(FINE, 5.0, "p"), panel(FINE, 5.0, "q")],
    ]
    path = tmp_path / "maps.png"
    draw_panels(rows, path, title="Two rows")
    image = matplotlib.image.imread(path)
    height, width = image.shape[:2]
    # 2.7 by 3.1 inches a panel at 130 dots an inch.
    assert (height, width) == (2 * 351, 3 * 403)
    # The middle of each map of the first row, left of its colour bar.
    colours = [image[height // 4 + 10, int(width * (i + 0.4) / 3), :3] for i in range(3)]
    assert np.abs(colours[0] - colours[1]).max() > 0.3
    np.testing.assert_array_equal(colours[0], colours[2])
