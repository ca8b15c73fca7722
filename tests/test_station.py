"""One station: a point without a cell, which bias adjustment needs none of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.errors import GridError
from climdown.grid import Grid
from tests.commands import Shell, read_members
from tests.factories import TAS, make_dataset
from tests.series import daily

SHIFT = {"ref": 285.0, "hist": 287.0, "sim": 290.0}
FORMS = ("axes", "scalar", "station", "lat axis")


def station(form: str, lat: float, lon: float, name: str) -> xr.Dataset:
    """Four years of days about the mean of a sample, in one of the forms files have."""
    first = 2081 if name == "sim" else 1991
    days = np.arange(daily(first, 4).size)
    series = SHIFT[name] + 3.0 * np.random.default_rng(len(name)).normal(size=days.size)
    dataset = make_dataset(
        lat=[lat],
        lon=[lon],
        times=(days + 0.5).tolist(),
        time_units=f"days since {first}-01-01",
        values=lambda y, x, step: series[step] + 0.0 * y * x,
    )
    if form == "scalar":
        return dataset.isel(lat=0, lon=0)
    if form == "lat axis":
        return dataset.isel(lon=0)
    if form == "station":
        flat = dataset.isel(lat=0, lon=0).expand_dims("station", axis=1)
        for axis in ("lat", "lon"):
            flat[axis] = ("station", [float(flat[axis])], dataset[axis].attrs)
        return flat
    return dataset


def write_all(forms: dict[str, str], **places: tuple[float, float]) -> None:
    for name, form in forms.items():
        lat, lon = places.get(name, (40.4, -3.7))
        station(form, lat, lon, name).to_netcdf(f"{name}.nc")


@pytest.mark.parametrize("command", ["qdm", "ot"])
@pytest.mark.parametrize("form", FORMS)
def test_one_station_is_adjusted_in_whatever_form(
    shell: Shell, tmp_path: Path, form: str, command: str
) -> None:
    # The reference is a file of another form; a turn and a rounding of the place are none.
    write_all({"ref": "axes", "hist": form, "sim": form}, ref=(40.395, 356.3))
    result = shell(command, "sim.nc", "out.nc", "--ref", "ref.nc", "--hist", "hist.nc")
    assert result.code == 0, result.err
    values = read_members("out.nc")
    assert values.shape[1:] == (1, 1)
    inputs = {name: read_members(f"{name}.nc").mean() for name in SHIFT}
    # An additive adjustment moves the mean by the error of the model, 2 K.
    expected = inputs["sim"] + inputs["ref"] - inputs["hist"]
    assert values.mean() == pytest.approx(expected, abs=0.05)
    with xr.open_dataset("out.nc") as output:
        assert (float(output.lat[0]), float(output.lon[0])) == (40.4, -3.7)
        assert "lat_bnds" not in output
        assert "bounds" not in output.lat.attrs


def test_a_map_of_a_station_is_kept_and_used_again(shell: Shell, tmp_path: Path) -> None:
    write_all(dict.fromkeys(SHIFT, "axes"))
    inputs = ("--ref", "ref.nc", "--hist", "hist.nc")
    assert shell("qdm", "sim.nc", "one.nc", *inputs, "--save-map", "map.nc").code == 0
    result = shell("qdm", "sim.nc", "two.nc", "--map", "map.nc")
    assert result.code == 0, result.err
    np.testing.assert_array_equal(read_members("two.nc"), read_members("one.nc"))


@pytest.mark.parametrize("command", ["qdm", "ot"])
@pytest.mark.parametrize("place", [(40.5, -3.7), (40.4, -3.5)])
def test_another_point_is_refused_by_both_places(
    shell: Shell, tmp_path: Path, place: tuple[float, float], command: str
) -> None:
    write_all(dict.fromkeys(SHIFT, "axes"), hist=place)
    result = shell(command, "sim.nc", "out.nc", "--ref", "ref.nc", "--hist", "hist.nc")
    assert result.code == 4
    assert f"hist.nc: variable 'tas' is of one point, {place[0]}N, {-place[1]}W" in result.message
    assert "expected one point, 40.4N, 3.7W" in result.message


def test_a_point_and_a_grid_are_not_compared(shell: Shell, tmp_path: Path) -> None:
    write_all({"sim": "axes", "hist": "axes"})
    make_dataset(path=tmp_path / "ref.nc", lat=[40, 41], lon=[-4, -3], times=[0.5, 1.5])
    result = shell("qdm", "sim.nc", "out.nc", "--ref", "ref.nc", "--hist", "hist.nc")
    assert result.code == 4, result.err


@pytest.mark.parametrize("form", FORMS)
def test_a_station_has_no_cell_to_regrid(shell: Shell, tmp_path: Path, form: str) -> None:
    write_all({"sim": form})
    result = shell("regrid", "sim.nc", "out.nc", "--grid", "-5,0,38,42,1")
    assert result.code == 4
    assert "cannot infer the size of a single cell" in result.message


def test_a_station_is_described_by_its_place(tmp_path: Path, shell: Shell) -> None:
    write_all({"sim": "scalar"})
    assert "one point, 40.4N, 3.7W" in shell("inspect", "sim.nc", "--no-priors").out


def test_one_row_without_bounds_is_still_no_point(tmp_path: Path) -> None:
    make_dataset(path=tmp_path / "row.nc", lat=[40.0])
    with pytest.raises(GridError, match="cannot infer the size of a single cell"):
        cf.open_field(tmp_path / "row.nc", TAS)
    assert not Grid.from_centres([40.0], [1.0, 2.0], lat_edges=[39.0, 41.0]).point
