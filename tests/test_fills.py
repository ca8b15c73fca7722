"""Fill values that no one declares are refused where means would be made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import numpy.typing as npt
import pytest

from climdown import cf
from climdown.cf import FillWatch
from climdown.cf.fills import refuse_misread
from climdown.errors import InputError
from climdown.priors.prior import Prior
from tests.commands import Shell, write_tas
from tests.factories import PR, TAS, make_dataset
from tests.series import WINTER, daily, noise, write_days

SINGLE = {"dtype": np.dtype("f4")}
PACKED = {"dtype": np.dtype("i2"), "scale_factor": 0.01, "add_offset": 273.15}
WARM = np.linspace(250.0, 310.0, 50)
DAYS = daily(2001, 2, months=WINTER)


def watched(values: npt.ArrayLike, encoding: dict[str, Any] | None = None) -> FillWatch:
    watch = FillWatch()
    watch.add(np.asarray(values, dtype=np.float64), SINGLE if encoding is None else encoding)
    return watch


@pytest.mark.parametrize(
    "fill",
    [
        *(1e20, float(np.float32(1e20)), 9.969209968386869e36, -9e33, 1e30, -1e34, 1e10),
        *(-999.0, -9999.0, -99999.0, -999.9, float(np.float32(-999.9)), -9999.9, -99.9, -99.0),
        *(-888.0, 9999.0, 999.0, 32767.0, -32767.0, -32768.0, 2147483647.0),
        float(np.finfo(np.float32).max),
    ],
)
def test_a_number_that_stands_for_missing_far_from_all_others_is_a_fill(fill: float) -> None:
    found = watched([*WARM, fill]).undeclared()
    assert found is not None
    assert (found.value, found.low, found.high, found.certain) == (fill, 250.0, 310.0, True)


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        (np.arange(-2000.0, 5001.0, 1.0), SINGLE),  # -999 among depths
        ([*np.linspace(-998.5, 5000.0, 100), -999.0], SINGLE),  # the lowest, but near
        (np.linspace(980.0, 1040.0, 61), SINGLE),  # hPa
        (np.arange(1000.0), SINGLE),  # counts to 999
        ([0.0, 1.0, 5.0, 1200.0], SINGLE),  # a cloudburst
        (np.linspace(1e21, 2e22, 9), SINGLE),  # J
        ([0.0, 1e-3, 1e9 + 1234567.0], SINGLE),
        ([1.0, 2.0, 99.0], SINGLE),  # %
        ([1.0, 2.0, 17.0, 999.0], {"dtype": np.dtype("i2"), "flag_values": [1, 2, 17, 999]}),
        ([999.0, 999.0], SINGLE),
        ([], SINGLE),
        ([np.nan, np.inf], SINGLE),
        (273.15 + 0.01 * np.arange(-32768, 32768), PACKED),
    ],
)
def test_values_that_are_near_others_are_values(values: Any, encoding: dict[str, Any]) -> None:
    assert watched(values, encoding).undeclared() is None


@pytest.mark.parametrize("code", [32767, -32768, -32767, -9999, -999])
def test_fills_of_packed_data_are_seen_by_their_code(code: int) -> None:
    packed = {**PACKED, "scale_factor": 0.001}
    values = 273.15 + 0.001 * np.arange(10.0)
    found = watched([*values, 273.15 + 0.001 * code], packed).undeclared()
    assert found is not None
    assert found.value == pytest.approx(273.15 + 0.001 * code)


def test_whole_fields_of_a_fill_are_seen() -> None:
    found = watched([-9999.0, -9999.0]).undeclared()
    assert found is not None
    assert found.describe() == "has no other value than -9999"


def test_what_counts_is_all_that_was_read_in_whatever_order() -> None:
    depths = np.arange(-2000.0, 1.0)
    watch = FillWatch()
    for part in (depths[1001:1100], depths[:1001], depths):
        watch.add(part, SINGLE)
    assert (watch.low, watch.high, watch.undeclared()) == (-2000.0, 0.0, None)
    shallow = watched(depths[1001:])  # -999 is the lowest
    shallow.add(np.array([np.nan, -9999.0, 1e20]), SINGLE)
    found = shallow.undeclared()
    assert found is not None
    assert (found.value, found.low, found.high) == (1e20, -998.0, 0.0)


@pytest.mark.parametrize(
    ("values", "encoding", "words"),
    [
        # A third of the span away: a fill on heights to 3000 m, most likely.
        ([*np.linspace(0.0, 3000.0, 50), -999.0], SINGLE, "-999 where all others lie between 0 an"),
        ([*range(50), 999.0], {"dtype": np.dtype("i4")}, "999 where all others lie between 0 and"),
    ],
)
def test_what_may_be_a_value_is_named(
    values: Any, encoding: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_misread(watched(values, encoding), "x.nc", "x")
    assert f"x.nc: variable 'x' has values of {words}" in caplog.text
    assert "taken for a value; if it is a fill value, declare it: `ncatted -a" in caplog.text


def test_what_is_no_value_is_refused() -> None:
    expected = (
        r"x\.nc: variable 'x' has values of -999 where all others lie between 250 and 310: a fill "
        r"value that the file does not declare; declare it: `ncatted -a missing_value,x,o,d,-999`"
    )
    with pytest.raises(InputError, match=expected):
        refuse_misread(watched([*WARM, -999.0]), "x.nc", "x")


def write_filled(path: Path, fill: float, **options: Any) -> None:
    """A file with an undeclared fill in one cell of its last step."""
    write_tas(path, **options)
    with netCDF4.Dataset(path, "a") as file:
        file["tas"].set_auto_mask(False)
        file["tas"][-1, 1, 2] = fill


@pytest.mark.parametrize("fill", [-999.0, -9999.0, 32767.0, 9.969209968386869e36, 1e30])
@pytest.mark.parametrize("method", ["conservative", "bilinear"])
def test_regridding_refuses_an_undeclared_fill(
    fill: float, method: str, tmp_path: Path, shell: Shell
) -> None:
    write_filled(tmp_path / "tas.nc", fill)
    result = shell("regrid", "tas.nc", "out.nc", "--grid", "0.7", "--method", method)
    assert result.code == 3
    assert f"tas.nc: variable 'tas' has values of {fill:.7g} where all others" in result.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tas.nc"]


def test_nearest_cells_are_taken_as_they_are(tmp_path: Path, shell: Shell) -> None:
    write_filled(tmp_path / "tas.nc", -999.0)
    assert shell("regrid", "tas.nc", "out.nc", "--grid", "1", "--method", "nearest").code == 0
    with netCDF4.Dataset("out.nc") as file:
        assert file["tas"][:].min() == -999.0


@pytest.mark.parametrize("fill", [-999.0, 32767.0])
def test_a_run_refuses_an_undeclared_fill(
    fill: float, tmp_path: Path, shell: Shell, tiny_prior: Prior
) -> None:
    write_filled(tmp_path / "tas.nc", fill)
    result = shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--members", 1)
    assert result.code == 3
    assert f"tas.nc: variable 'tas' has values of {fill:.7g} where all others" in result.message
    assert not Path("out.nc").exists()


@pytest.mark.parametrize("command", ["qdm", "ot"])
@pytest.mark.parametrize("name", ["ref.nc", "hist.nc", "sim.nc"])
@pytest.mark.parametrize("fill", [-9999.0, 1e30])
def test_adjusting_refuses_an_undeclared_fill(
    command: str, name: str, fill: float, shell: Shell
) -> None:
    for seed, file in enumerate(("ref.nc", "hist.nc", "sim.nc")):
        values = 280.0 + noise(DAYS, seed)
        if file == name:
            values[7, 1, 1] = fill
        write_days(file, DAYS, values)
    result = shell(command, "--ref", "ref.nc", "--hist", "hist.nc", "sim.nc", "out.nc")
    assert result.code == 3
    # No quantity comes near the larger ones; the smaller ones are told by all other values.
    told = (
        "values of {:.7g} where all others" if fill < 1e15 else "{:g} values, first at 2001-01-08"
    )
    assert f"{name}: variable 'tas' has {told.format(fill)}" in result.message
    assert not Path("out.nc").exists()


def test_parts_of_a_field_that_are_not_read_may_hold_anything(tmp_path: Path) -> None:
    write_filled(tmp_path / "tas.nc", -999.0)
    field = cf.open_field(tmp_path / "tas.nc", TAS).isel(slice(0, 2))
    field.read(slice(None))
    field.refuse_misread()
    whole = cf.open_field(tmp_path / "tas.nc", TAS)
    whole.read(slice(None))
    with pytest.raises(InputError, match="has values of -999 where"):
        whole.refuse_misread()


def test_fills_are_seen_before_units_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "pr.nc"
    rain = lambda lat, lon, step: np.where(lat == 45.0, -999.0, 1e-4 + 0.0 * lon)  # noqa: E731
    make_dataset(
        path=path, name="pr", standard_name="precipitation_flux", units="kg m-2 s-1", values=rain
    )
    field = cf.open_field(path, PR)
    field.read(slice(None))
    with pytest.raises(InputError, match=r"has values of -999 where .* 0\.0001 and 0\.0001"):
        field.refuse_misread()
