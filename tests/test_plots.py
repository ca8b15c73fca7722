"""Pictures are drawn, to size, with shared colours."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest

from climdown.grid import Grid
from climdown.plots.maps import Panel, draw_montage, draw_panels
from tests.factories import Floats

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


def fields(count: int, value: float) -> Floats:
    values: Floats = np.full((count, *FINE.shape), value)
    values[:, 0, 0] = np.nan
    return values


def test_a_montage_shows_samples_left_and_real_days_right_on_one_scale(tmp_path: Path) -> None:
    samples = {"t": fields(5, 0.0), "p": fields(5, 1.0)}
    reals = {"t": fields(4, 1.0), "p": fields(4, 1.0)}
    # One sample as warm as the real days.
    samples["t"][3] = reals["t"][3]
    path = tmp_path / "montage.png"
    key = draw_montage(samples, reals, path, grid=FINE, title="Which?", side=2)
    np.testing.assert_array_equal(key, [True] * 4 + [False] * 4)
    image = matplotlib.image.imread(path)[..., :3]
    height, width = image.shape[:2]
    # Twice 1.4 by 3.4 inches a map of a side, two variables, 130 dots an inch.
    assert (height, width) == (2 * 2 * 182, 2 * 442)
    warm, cold = (np.array(colour) for colour in (image_colour(1.0), image_colour(0.0)))
    left, right = image[: height // 2, : width // 2], image[: height // 2, width // 2 :]
    # Of the left square a map of four is warm; the colour bar adds a few dots of each.
    assert 1.8 < count(left, cold) / count(left, warm) < 3.2
    assert count(right, warm) > 10 * count(right, cold)
    assert count(right, warm) == pytest.approx(4 * count(left, warm), rel=0.2)


def image_colour(share: float) -> Floats:
    return np.asarray(mpl.colormaps["viridis"](share)[:3], dtype=np.float64)


def count(image: Floats, colour: Floats) -> int:
    return int((np.abs(image - colour).max(axis=-1) < 0.02).sum())


def test_a_blind_montage_is_shuffled_and_gives_its_key(tmp_path: Path) -> None:
    samples, reals = {"t": fields(4, 0.0)}, {"t": fields(4, 1.0)}
    samples["t"][:, 1], reals["t"][:, 1] = 0.5, 0.5

    def draw(blind: int) -> list[bool]:
        path = tmp_path / f"{blind}.png"
        key = draw_montage(samples, reals, path, grid=FINE, title="", side=2, blind=blind)
        return [bool(sample) for sample in key]

    keys = [draw(blind) for blind in (1, 2, 1)]
    assert keys[0] == keys[2] != keys[1]
    assert sum(keys[0]) == 4
    assert keys[0] != sorted(keys[0], reverse=True)
    image = matplotlib.image.imread(tmp_path / "1.png")[..., :3]
    half = image.shape[1] // 2
    warm, cold = image_colour(1.0), image_colour(0.0)
    for part, key in ((image[:, :half], keys[0][:4]), (image[:, half:], keys[0][4:])):
        if 0 < sum(key) < 4:
            ratio = count(part, cold) / count(part, warm)
            assert ratio == pytest.approx(sum(key) / (4 - sum(key)), rel=0.3)


def test_a_montage_needs_enough_of_both(tmp_path: Path) -> None:
    path = tmp_path / "montage.png"
    with pytest.raises(ValueError, match="needs 4 samples and 4 real days"):
        draw_montage(
            {"t": fields(4, 0.0)}, {"t": fields(3, 0.0)}, path, grid=FINE, title="", side=2
        )
    assert not path.exists()
