"""Declared missing values mask, whatever type they are declared in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import numpy.typing as npt
import pytest

from climdown import cf
from climdown.cf.missing import declared_numbers
from tests.commands import Shell
from tests.factories import TAS, make_dataset

LAT, LON = np.arange(30.0, 45.0, 2.5), np.arange(0.0, 20.0, 2.5)
GAP = (slice(None), slice(3, 6), slice(0, 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tas.nc"


def write_stored(
    path: Path,
    stored: npt.NDArray[Any],
    *,
    fill: Any = None,
    **attributes: object,
) -> None:
    """A file with these stored values of tas, shape (1, 6, 8), and attributes as they are."""
    make_dataset(path=path, lat=LAT, lon=LON, times=[0.5]).close()
    with netCDF4.Dataset(path, "a") as file:
        file.renameVariable("tas", "smooth")
        file["smooth"].standard_name = "sea_surface_temperature"
        dims = ("time", "lat", "lon")
        variable = file.createVariable("tas", stored.dtype, dims, fill_value=fill)
        variable.set_auto_maskandscale(False)
        variable.setncatts({"standard_name": "air_temperature", "units": "K", **attributes})
        variable[:] = stored


def temperatures(dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """280 to 280.47 K, a value of its own in each of 1 x 6 x 8 cells."""
    return (280.0 + 0.01 * np.arange(48.0)).reshape(1, 6, 8).astype(dtype)


def with_gap(values: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
    result = values.copy()
    result[GAP] = fill
    return result


def read(path: Path) -> npt.NDArray[Any]:
    return cf.open_field(path, TAS).read(slice(None))


SINGLE = np.float32(-999.9)
FLOATS: dict[str, tuple[npt.DTypeLike, float, object]] = {
    "single data, double attribute": ("f4", -999.9, np.float64(-999.9)),
    "single data, double 1e20": ("f4", 1e20, np.float64(1e20)),
    "double data, single attribute": ("f8", -999.9, SINGLE),
    "double data of singles, double attribute": ("f8", float(SINGLE), np.float64(-999.9)),
    "single data, integer attribute": ("f4", -9999.0, np.int32(-9999)),
    "text": ("f4", -999.9, "-999.9"),
    "text of CDL": ("f4", 1e20, "1.e20f"),
    "text of several": ("f4", -99.9, "-999.9, -99.9"),
    "several": ("f4", -888.8, np.array([-999.9, -888.8])),
    "netCDF's default in six digits": ("f4", 9.969209968386869e36, np.float64(9.96921e36)),
}


@pytest.mark.parametrize(("dtype", "fill", "declared"), FLOATS.values(), ids=FLOATS)
def test_declared_missing_values_mask_whatever_their_type(
    path: Path, dtype: npt.DTypeLike, fill: float, declared: object
) -> None:
    values = temperatures(dtype)
    write_stored(path, with_gap(values, fill), fill=False, missing_value=declared)
    expected = with_gap(values, np.nan).astype(np.float32)
    np.testing.assert_array_equal(read(path), expected)


def test_missing_value_and_fill_value_mask_both(path: Path) -> None:
    values = with_gap(temperatures(), -999.9)
    values[0, 0, 7] = 1e20
    write_stored(path, values, fill=np.float32(1e20), missing_value=np.float64(-999.9))
    expected = with_gap(temperatures(), np.nan)
    expected[0, 0, 7] = np.nan
    np.testing.assert_array_equal(read(path), expected)


PACKED = {"scale_factor": 0.01, "add_offset": 273.15}
CODES: dict[str, tuple[str, int, dict[str, object]]] = {
    "in a wider type": ("i2", -999, {"missing_value": np.float64(-999.0)}),
    "in another integer type": ("i2", -32768, {"missing_value": np.int32(-32768)}),
    "in text": ("i2", -32768, {"missing_value": "-32768"}),
    # No code of two bytes: 600.82 K is code 32767.
    "in unpacked units": ("i4", 100_000, {"missing_value": np.float64(100_000 * 0.01 + 273.15)}),
    "by a packed range": ("i2", 9000, {"valid_range": np.array([0, 5000], dtype="i2")}),
    "by a range of four bytes": ("i2", 9000, {"valid_range": np.array([0, 5000], dtype="i4")}),
    "by an unpacked range": ("i2", 9000, {"valid_range": np.array([273.15, 323.15])}),
    "by valid_max": ("i2", 9000, {"valid_max": np.int16(5000)}),
    "by valid_min": ("i2", -9000, {"valid_min": np.int16(-5000)}),
    "by both": ("i2", -9000, {"valid_min": np.int16(-5000), "valid_max": np.int16(5000)}),
}


@pytest.mark.parametrize(("dtype", "code", "attributes"), CODES.values(), ids=CODES)
def test_declared_missing_values_mask_packed_data(
    path: Path, dtype: str, code: int, attributes: dict[str, Any]
) -> None:
    codes = np.arange(48, dtype=dtype).reshape(1, 6, 8)
    write_stored(path, with_gap(codes, code), fill=False, **PACKED, **attributes)
    expected = with_gap(273.15 + 0.01 * np.arange(48.0).reshape(1, 6, 8), np.nan)
    np.testing.assert_allclose(read(path), expected, rtol=2e-7)


def test_a_packed_range_turns_round_with_a_negative_factor(path: Path) -> None:
    codes = np.arange(48, dtype="i2").reshape(1, 6, 8)
    write_stored(
        path, codes, fill=False, scale_factor=-0.5, add_offset=300.0, valid_min=np.int16(4)
    )
    values = read(path)
    assert np.isnan(values[0, 0, :4]).all()
    np.testing.assert_array_equal(values.ravel()[4:], 300.0 - 0.5 * np.arange(4, 48))


def test_unsigned_bytes_have_unsigned_missing_values(path: Path) -> None:
    codes = np.arange(48, dtype="i1").reshape(1, 6, 8)
    codes[0, 0, :2] = (-56, -1)  # 200 and 255
    packed = {"scale_factor": 0.5, "add_offset": 250.0, "_Unsigned": "true"}
    write_stored(path, codes, fill=False, missing_value=np.int16(255), **packed)
    values = read(path)
    assert (values[0, 0, 0], values[0, 0, 2]) == (350.0, 251.0)
    assert np.isnan(values[0, 0, 1])


def test_a_range_in_double_keeps_its_own_ends_in_single(path: Path) -> None:
    values = temperatures()
    # In single precision both ends lie outside of what double has.
    low, high = 280.01, 280.46
    write_stored(path, values, fill=False, valid_range=np.array([low, high]))
    inside = read(path).ravel()
    assert np.isnan(inside[[0, 47]]).all()
    np.testing.assert_array_equal(inside[1:47], values.ravel()[1:47])


def test_an_actual_range_masks_nothing(path: Path) -> None:
    values = temperatures()
    write_stored(path, values, fill=False, actual_range=np.array([280.1, 280.2]))
    np.testing.assert_array_equal(read(path), values)


def test_an_empty_range_is_named_and_not_used(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = temperatures()
    write_stored(path, values, fill=False, valid_range=np.array([300.0, 200.0]))
    np.testing.assert_array_equal(read(path), values)
    assert "'tas': its valid range is empty (300 to 200) and not used" in caplog.text


def test_ranges_of_coordinates_mask_no_cells(path: Path) -> None:
    make_dataset(path=path, lon=np.arange(170.0, 190.0, 2.5)).close()
    with netCDF4.Dataset(path, "a") as file:
        file["lon"].valid_range = np.array([-180.0, 180.0])
    assert cf.open_field(path, TAS).grid.lon[-1] == 187.5


@pytest.mark.parametrize("declared", [np.inf, np.nan, 1e300, "none"])
@pytest.mark.parametrize("scale", [0.01, 0.0])
def test_what_no_code_can_be_masks_nothing(path: Path, declared: object, scale: float) -> None:
    codes = np.arange(48, dtype="i2").reshape(1, 6, 8)
    packed = {"scale_factor": scale, "add_offset": 273.15}
    write_stored(path, codes, fill=False, missing_value=declared, **packed)
    np.testing.assert_allclose(read(path), 273.15 + scale * codes, rtol=2e-7)


def test_stores_have_missing_values_of_any_type_too(tmp_path: Path) -> None:
    dataset = make_dataset()
    dataset["tas"][:, 1, 2] = -999.9
    dataset["tas"].attrs["missing_value"] = -999.9
    dataset.to_zarr(tmp_path / "tas.zarr")
    values = cf.open_field(tmp_path / "tas.zarr", TAS).read(slice(None))
    assert np.isnan(values[:, 1, 2]).all()
    assert np.isfinite(values).sum() == values.size - 3


@pytest.mark.parametrize(
    ("attribute", "numbers"),
    [
        ("-999.f", [-999.0]),
        ("-32767s; 1E+20", [-32767.0, 1e20]),
        (b"-1", [-1.0]),
        (["-1", "none"], [-1.0]),
        ("n/a", []),
        (np.array([1, 2], dtype="i2"), [1.0, 2.0]),
    ],
)
def test_numbers_are_read_from_attributes(attribute: object, numbers: list[float]) -> None:
    assert declared_numbers(attribute) == numbers


def test_regridding_leaves_declared_missing_values_out(path: Path, shell: Shell) -> None:
    flat = np.full((1, 6, 8), 280.0, dtype=np.float32)
    write_stored(path, with_gap(flat, -999.9), fill=False, missing_value=np.float64(-999.9))
    assert shell("regrid", path, "out.nc", "--grid", "1").code == 0
    with netCDF4.Dataset("out.nc") as file:
        values = file["tas"][:]
    assert np.ma.getmaskarray(values).any()
    # A mean over the valid part of constant values is that constant.
    np.testing.assert_allclose(values.compressed(), 280.0, rtol=1e-7)
