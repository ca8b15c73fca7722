"""`climdown plot`: pictures and maps in text, of any file."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from climdown.cli import plot
from climdown.errors import ConfigError, InputError
from climdown.evaluation.quicklook import look
from climdown.grid import Grid
from climdown.mesh import Mesh
from climdown.plots.quicklook import Panel, characters, colours, draw, raster
from tests.commands import Shell, write_pr, write_tas
from tests.factories import Floats, along, make_dataset

GRID = Grid.regular(40, 44, 0, 8, 1.0)


def write_members(path: Path, members: int = 5) -> None:
    """tas of three days, each member ten kelvins warmer than the one before."""
    labels = np.arange(1, members + 1)
    attributes = {"standard_name": "realization"}
    along(make_dataset(), "realization", labels, attributes=attributes).to_netcdf(path)


# --- what is read


def test_members_their_mean_and_their_spread_are_shown(tmp_path: Path) -> None:
    write_members(tmp_path / "out.nc")
    seen = look([str(tmp_path / "out.nc")], time="2001-01-02")
    titles = [panel.title for panel in seen.panels]
    assert titles == ["member 1", "member 2", "member 3", "member 4", "mean of 5", "spread"]
    with xr.open_dataset(tmp_path / "out.nc") as file:
        day = file["tas"].isel(time=1).values.astype(np.float64)
    first, mean, spread = (seen.panels[i].values for i in (0, 4, 5))
    np.testing.assert_allclose(first, day[0], rtol=1e-6)
    np.testing.assert_allclose(mean, day.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(spread, np.sqrt(250.0), rtol=1e-4)
    assert seen.title == "tas, 2001-01-02"
    assert seen.chosen == ()


def test_one_member_is_shown_alone(tmp_path: Path) -> None:
    write_members(tmp_path / "out.nc")
    (panel,) = look([str(tmp_path / "out.nc")], member=3).panels
    assert panel.title == "member 3 of 5"
    for member in (0, 6):
        with pytest.raises(ConfigError, match=f"has 5 members; --member asks for {member}"):
            look([str(tmp_path / "out.nc")], member=member)


def test_the_most_varied_step_is_shown_and_said(tmp_path: Path) -> None:
    def varied(lat: Floats, lon: Floats, step: int) -> Floats:
        return 280.0 + (5.0 if step == 2 else 1.0) * np.sin(lon) + 0.0 * lat

    make_dataset(path=tmp_path / "tas.nc", values=varied, times=[0.5, 1.5, 2.5, 3.5])
    seen = look([str(tmp_path / "tas.nc")])
    assert seen.title == "tas, 2001-01-03"
    assert seen.chosen == ("2001-01-03, the most varied of 4 steps; others: --time",)


def test_rain_comes_in_mm_per_day_and_other_variables_are_named(tmp_path: Path) -> None:
    write_pr(tmp_path / "pr.nc")
    write_tas(tmp_path / "tas.nc")
    files = [str(tmp_path / "pr.nc"), str(tmp_path / "tas.nc")]
    seen = look(files)
    assert seen.chosen[0] == "variable pr; there are also tas: --variable"
    assert (seen.panels[0].units, seen.panels[0].scale) == ("mm/day", "amounts")
    assert 2.0 < np.nanmean(seen.panels[0].values) < 4.5
    assert look(files, variable="tas").panels[0].units == "K"


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    path = str(write_tas(tmp_path / "tas.nc"))
    with pytest.raises(ConfigError, match="has no variable 'pr'; it has tas"):
        look([path], variable="pr")
    with pytest.raises(InputError, match=r"tas.nc.*no time step lies in 1999-01-01"):
        look([path], time="1999-01-01")
    with pytest.raises(ConfigError, match="--time is 'noon'; expected a date like 1996-12-01"):
        look([path], time="noon")


def test_a_variable_that_cannot_be_read_does_not_hide_another(tmp_path: Path) -> None:
    dataset = make_dataset(others={"aaa": {"standard_name": "x"}})
    del dataset["aaa"].attrs["standard_name"]
    dataset[["aaa", "tas"]].to_netcdf(tmp_path / "two.nc")
    assert look([str(tmp_path / "two.nc")]).title.startswith("tas")


def test_a_dimension_to_choose_from_is_told(tmp_path: Path) -> None:
    along(make_dataset(), "lev", [1.0, 2.0]).to_netcdf(tmp_path / "levels.nc")
    with pytest.raises(InputError, match="choose one entry of each, like --select lev="):
        look([str(tmp_path / "levels.nc")])
    assert len(look([str(tmp_path / "levels.nc")], select={"lev": "2.0"}).panels) == 1


def test_fill_values_that_are_not_declared_are_refused(tmp_path: Path) -> None:
    dataset = make_dataset()
    dataset["tas"][:, 0, 0] = 1e20
    dataset.to_netcdf(tmp_path / "fill.nc", encoding={"tas": {"_FillValue": None}})
    with pytest.raises(InputError, match="fill"):
        look([str(tmp_path / "fill.nc")])


def test_a_field_without_dates_is_shown(tmp_path: Path) -> None:
    one = make_dataset().isel(time=0, drop=True)
    one["tas"].attrs["long_name"] = "Height"
    one.to_netcdf(tmp_path / "static.nc")
    path = str(tmp_path / "static.nc")
    (panel,) = look([path]).panels
    assert panel.title == "Height"
    np.testing.assert_array_equal(panel.values, one["tas"].values)
    for asked in ({"time": "2001"}, {"member": 1}):
        with pytest.raises(ConfigError, match="'tas' has neither dates nor members"):
            look([path], **asked)
    one.expand_dims(layer=2).to_netcdf(tmp_path / "layers.nc")
    with pytest.raises(InputError, match="has the further dimension layer and no dates"):
        look([str(tmp_path / "layers.nc")])


# --- text


def a_panel(values: Floats, cells: Grid | Mesh = GRID) -> Panel:
    return Panel("A map", cells, values, "K", "values")


def test_a_raster_has_north_above_and_the_shape_of_the_region() -> None:
    values = np.add.outer(np.arange(4.0) * 10, np.arange(8.0))
    shown = raster(a_panel(values), 16, per_square=1.0)
    # Four degrees by eight at 42 N.
    assert shown.shape == (round(16 * 4 / (8 * np.cos(np.radians(42)))), 16)
    assert (shown[0, 0], shown[-1, -1]) == (30.0, 7.0)
    np.testing.assert_array_equal(shown[-1], np.repeat(np.arange(8.0), 2))


def test_a_mesh_is_binned() -> None:
    lat, lon = np.meshgrid(np.arange(40.0, 45), np.arange(0.0, 9), indexing="ij")
    mesh = Mesh.from_centres(lat + 0.01 * lon, lon)
    values = np.where(lon > 6, np.nan, lon)
    shown = raster(a_panel(values, mesh), 9, per_square=1.0)
    for column, expected in enumerate((0, 1, 2, 3, 4, 5, 6)):
        assert np.nanmean(shown[:, column]) == expected
    assert np.isnan(shown[:, 7:]).all()


def test_characters_darken_with_the_value_and_nothing_is_blank() -> None:
    assert characters(np.array([[0.0, 0.5, 1.0, 9.0, np.nan]]), (0.0, 1.0)) == [".+@@ "]


def test_colours_are_those_of_the_picture() -> None:
    found = colours(np.array([0.0, 1.0, np.nan]), (0.0, 1.0), "values")
    np.testing.assert_array_equal(found[:2], [[68, 1, 84], [253, 231, 37]])


def test_piped_maps_are_plain_text_with_scale_and_units(shell: Shell) -> None:
    write_members(Path("out.nc"))
    result = shell("plot", "out.nc")
    assert result.code == 0, result.err
    assert result.out.isascii()
    assert "\x1b" not in result.out
    titles = [
        line for line in result.out.splitlines() if line in ("member 1", "mean of 5", "spread")
    ]
    assert titles == ["member 1", "mean of 5", "spread"]
    assert (
        len(re.findall(r"^[\d.]+ \.:-=\+\*#%@ [\d.]+ K; blank: no value$", result.out, re.M)) == 3
    )
    assert "others: --time" in result.err
    assert [p.name for p in Path().iterdir()] == ["out.nc"]


def test_a_terminal_has_colours_in_halves_of_characters(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_members(Path("out.nc"))
    stream = io.StringIO()
    settings: dict[str, Any] = {"color_system": "truecolor", "force_terminal": True}
    screen = Console(file=stream, width=200, soft_wrap=True, **settings)
    monkeypatch.setattr(plot, "out", screen)
    assert shell("plot", "out.nc").code == 0
    shown = stream.getvalue()
    assert "▀" in shown
    assert len(set(re.findall(r"38;2;\d+;\d+;\d+", shown))) > 10
    # Side by side, within the width.
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()
    assert any("member 1" in line and "mean of 5" in line and "spread" in line for line in plain)
    assert max(map(len, plain)) <= 200


@pytest.mark.parametrize(
    ("upper", "lower", "expected"),
    [
        (None, None, (" ", "")),
        ("rgb(1,2,3)", None, ("▀", "rgb(1,2,3)")),
        (None, "rgb(1,2,3)", ("▄", "rgb(1,2,3)")),
        ("rgb(1,2,3)", "rgb(4,5,6)", ("▀", "rgb(1,2,3) on rgb(4,5,6)")),
    ],
)
def test_halves_without_a_value_show_nothing(
    upper: str | None, lower: str | None, expected: tuple[str, str]
) -> None:
    assert plot._half_blocks(upper, lower) == expected


# --- pictures


@pytest.mark.parametrize(
    ("form", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_pictures_are_written_whole_and_not_over_others(
    shell: Shell, form: str, start: bytes
) -> None:
    write_members(Path("out.nc"))
    name = f"out.{form}"
    words = ("plot", "out.nc", "--time", "2001-01", "-o", name)
    result = shell(*words)
    assert (result.code, result.out) == (0, f"{name}\n"), result.err
    assert Path(name).read_bytes().startswith(start)
    again = shell(*words)
    assert again.code == 6
    assert "exists already; give --overwrite" in again.message
    assert shell(*words, "--overwrite").code == 0
    assert {p.name for p in Path().iterdir()} == {"out.nc", name}


def test_pictures_have_a_known_ending_and_are_not_the_input(shell: Shell) -> None:
    write_members(Path("out.nc"))
    for name in ("out.jpg", "out"):
        result = shell("plot", "out.nc", "-o", name)
        assert result.code == 2
        assert "expected a name that ends in .png, .svg or .pdf" in result.message
    write_members(Path("odd.png"))
    assert "is both input and output" in shell("plot", "odd.png", "-o", "odd.png").message


def test_maps_of_grids_and_meshes_show_the_same_colours() -> None:
    lat, lon = np.meshgrid(GRID.lat, GRID.lon, indexing="ij")
    values = np.where(lon > 4, 1.0, 0.0)
    known = Mesh.from_centres(lat, lon)
    bare = Mesh(lat.ravel(), lon.ravel(), None, None)
    for cells, field in ((GRID, values), (known, values), (bare, values.ravel())):
        png = draw([a_panel(field, cells)], title="", form="png")
        image = matplotlib.image.imread(io.BytesIO(png))[..., :3]
        for colour in ((68, 1, 84), (253, 231, 37)):
            there = np.abs(image - np.array(colour) / 255).max(axis=-1) < 0.02
            assert there.mean() > 0.05


def test_cells_across_the_seam_are_not_drawn_across_the_map() -> None:
    lat, lon = np.meshgrid(np.arange(40.0, 45), np.arange(176.0, 185), indexing="ij")
    mesh = Mesh.from_centres(lat, (lon + 180) % 360 - 180)
    png = draw([a_panel(np.where(lon > 180, 1.0, 0.0), mesh)], title="", form="png")
    image = matplotlib.image.imread(io.BytesIO(png))[..., :3]
    yellow = np.abs(image - np.array((253, 231, 37)) / 255).max(axis=-1) < 0.02
    columns = np.flatnonzero(yellow[: image.shape[0] // 2].any(axis=0))
    assert columns.min() > 0.45 * image.shape[1]  # east of the seam alone
