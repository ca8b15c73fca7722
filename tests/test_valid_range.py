"""Valid ranges in other units than CF has them in, and what ranges leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from climdown import cf
from climdown.errors import InputError
from climdown.inputs.checks import check_values
from climdown.inputs.inspection import inspect_sources, open_local
from climdown.priors.prior import Prior
from tests.commands import LAT, LON, Shell
from tests.factories import TAS, Floats, make_dataset

PACKING: dict[str, Any] = {"scale_factor": 0.01, "add_offset": 280.0}
# Codes of 285 to 295 K, spread evenly over cells and steps.
CODES = np.linspace(500, 1500, 36).round().reshape(3, 3, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tas.nc"


def write(path: Path, stored: Floats, kind: str = "i2", **attributes: Any) -> Path:
    """A file with these stored values of tas."""
    dataset = make_dataset(lat=LAT, lon=LON, height=2.0).drop_vars("tas")
    dataset.to_netcdf(path)
    with netCDF4.Dataset(path, "a") as file:
        variable = file.createVariable("tas", kind, ("time", "lat", "lon"), fill_value=False)
        variable.set_auto_maskandscale(False)
        described = {"standard_name": "air_temperature", "units": "K", "coordinates": "height"}
        variable.setncatts({**described, **attributes})
        variable[:] = stored
    return path


def limits(kind: str, low: float, high: float) -> dict[str, Any]:
    return {"valid_range": np.array([low, high], dtype=kind)}


def told(path: Path) -> str:
    (report,) = inspect_sources(open_local(path))
    return "\n".join(report.suspicious)


WRONG: dict[str, dict[str, Any]] = {
    "of the packed type": limits("i2", 200, 330),
    "of a wider integer type": limits("i4", 200, 330),
    "as two limits": {"valid_min": np.int16(200), "valid_max": np.int16(330)},
    "as one limit": {"valid_max": np.int16(330)},
    "in text": {"valid_range": "200, 330"},
    "in packed units, of an unpacked type": limits("f8", 400, 2000),
}


@pytest.mark.parametrize("stated", WRONG.values(), ids=WRONG)
def test_valid_ranges_in_other_units_are_refused_with_both_readings(
    path: Path, stated: dict[str, Any]
) -> None:
    field = cf.open_field(write(path, CODES, **PACKING, **stated), TAS)
    name = next(iter(stated))
    readings = r"100.0% of its values are missing; in (un)?packed units, as .*, 0.0%; correct it"
    with pytest.raises(InputError, match=rf"'tas' has {name} .*{readings}") as refused:
        check_values(field)
    assert f"ncatted -a {name},tas,d,," in str(refused.value)
    assert str(refused.value).removeprefix(f"{path}: variable 'tas' ") in told(path)


def test_ranges_of_values_that_packing_turns_round_are_read_both_ways(path: Path) -> None:
    turned: dict[str, Any] = {"scale_factor": -0.01, "add_offset": 300.0}
    field = cf.open_field(write(path, CODES, **turned, **limits("i2", 200, 330)), TAS)
    with pytest.raises(
        InputError, match=r"as 296\.695 to 298\.005, 100.0% .* as 199\.995 to 330\.005"
    ):
        check_values(field)


@pytest.mark.parametrize("method", ["conservative", "nearest"])
def test_commands_write_nothing_of_values_out_of_a_misread_range(
    path: Path, shell: Shell, tiny_prior: Prior, method: str
) -> None:
    write(path, CODES, **PACKING, **limits("i2", 200, 330))
    for words in (
        ("regrid", path, "out.nc", "--grid", "0.5", "--method", method),
        ("run", path, "out.nc", "--prior", tiny_prior.folder),
        ("qdm", path, "out.nc", "--ref", path, "--hist", path, "--group", "none"),
    ):
        assert "read in packed units, as 281.995 to 283.305" in shell(*words).message
        assert not Path("out.nc").exists()


def test_what_a_valid_range_leaves_out_is_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    field = cf.open_field(write(path, CODES, **PACKING, **limits("i2", 0, 1250)), TAS)
    check_values(field)
    (said,) = [record.getMessage() for record in caplog.records]
    line = "has valid_range 0 to 1250: 25.00% of its values are outside of 279.995 to 292.505"
    assert said == f"{path}: variable 'tas' {line}, and missing"
    assert line in told(path)


def test_a_range_in_the_units_of_another_file_is_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    field = cf.open_field(write(path, 280.0 + 0.01 * CODES, "f4", **limits("f4", -80, 60)), TAS)
    with pytest.raises(InputError, match="is missing everywhere"):
        check_values(field)
    assert "100.00% of its values are outside of -80 to 60, and missing" in caplog.text


@pytest.mark.parametrize("code", [-999, 32000])
@pytest.mark.parametrize("rows", [1, 2])
def test_one_number_out_of_a_valid_range_is_a_fill_value(
    path: Path, caplog: pytest.LogCaptureFixture, code: int, rows: int
) -> None:
    stored = CODES.copy()
    stored[:, :rows] = code
    field = cf.open_field(write(path, stored, **PACKING, **limits("i2", 0, 2000)), TAS)
    check_values(field)
    assert not caplog.records
    read = field.read(slice(None))
    assert np.isnan(read[:, :rows]).all()
    np.testing.assert_allclose(read[:, rows:], 280.0 + 0.01 * CODES[:, rows:], rtol=1e-6)


@pytest.mark.parametrize("stated", [limits("f8", 200, 330), limits("i2", -100, 2000)])
def test_ranges_that_hold_all_values_are_not_named(
    path: Path, caplog: pytest.LogCaptureFixture, stated: dict[str, Any]
) -> None:
    check_values(cf.open_field(write(path, CODES, **PACKING, **stated), TAS))
    assert not caplog.records
    assert "valid_range" not in told(path)


def test_files_of_a_series_are_judged_together_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, first in (("a", 0), ("b", 10)):
        path = write(tmp_path / f"{name}.nc", CODES, **PACKING)
        with netCDF4.Dataset(path, "a") as file:
            file["time"][:] += first
            file["tas"].valid_range = np.array([0, 1250], dtype="i2")
    field = cf.open_field(sorted(tmp_path.glob("?.nc")), TAS)
    for _ in range(2):
        check_values(field)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "25.00% of its values are outside" in said
    (judged,) = field.watch.valid_ranges()
    assert (judged.seen, judged.outside) == (4 * CODES.size, CODES.size)
