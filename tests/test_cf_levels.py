"""Pressure levels, members and further dimensions: what is taken out of a file, and by what."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

from climdown.cf import Field, Quantity, VariableNotFoundError, labels, open_field
from climdown.cf.recognition import stated_levels
from climdown.errors import InputError
from tests.factories import (
    FLOAT32_RTOL,
    TAS,
    along,
    assert_holds_truth,
    make_dataset,
    shared_data,
    truth,
    wave,
)

ZG500 = Quantity(
    name="zg500",
    standard_names=("geopotential_height", "geopotential"),
    names=("zg", "z", "zg500", "z500"),
    units="m",
    level=50_000.0,
)
TA850 = Quantity(
    name="ta850",
    standard_names=("air_temperature",),
    names=("ta", "t", "ta850", "t850"),
    units="K",
    level=85_000.0,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.nc"


def heights(**options: object) -> xr.Dataset:
    settings: dict[str, object] = {
        "name": "zg",
        "standard_name": "geopotential_height",
        "units": "m",
        **options,
    }
    return make_dataset(**settings)  # type: ignore[arg-type]


def assert_is_entry(field: Field, index: int) -> None:
    """The field holds the wave, higher by ten for each entry of the further dimension."""
    expected = truth(field.grid, range(len(field.time))) + 10.0 * index
    np.testing.assert_allclose(field.read(slice(None)), expected, rtol=FLOAT32_RTOL)


@pytest.mark.parametrize("reverse", [False, True], ids=["descending", "ascending"])
@pytest.mark.parametrize(
    ("units", "factor"),
    [("Pa", 100.0), ("hPa", 1.0), ("mb", 1.0), ("millibars", 1.0), ("kPa", 0.1)],
)
def test_the_level_is_taken_in_any_units_and_order(
    path: Path, units: str, factor: float, reverse: bool
) -> None:
    levels = np.array([850.0, 700.0, 500.0, 250.0])[:: -1 if reverse else 1]
    dataset = along(heights(), "plev", levels * factor, attributes={"units": units})
    dataset.to_netcdf(path)
    assert_is_entry(open_field(path, ZG500), 1 if reverse else 2)


def test_a_level_that_is_rounded_in_the_file_is_still_meant(path: Path) -> None:
    along(heights(), "lev", [850.0, 499.9], attributes={"units": "hPa"}).to_netcdf(path)
    assert_is_entry(open_field(path, ZG500), 1)


def test_a_pressure_coordinate_beside_model_levels_is_understood(path: Path) -> None:
    dataset = along(heights(), "lev", None, size=2)
    pressure = {"standard_name": "air_pressure", "units": "Pa"}
    dataset.assign_coords(p=("lev", [85_000.0, 50_000.0], pressure)).to_netcdf(path)
    assert_is_entry(open_field(path, ZG500), 1)


def test_a_scalar_level_is_accepted_and_another_one_is_refused(path: Path, tmp_path: Path) -> None:
    for level in (500.0, 850.0):
        plev = xr.DataArray(level, attrs={"units": "hPa"})
        heights().assign_coords(plev=plev).to_netcdf(tmp_path / f"{level:g}.nc")
    field = open_field(tmp_path / "500.nc", ZG500)
    assert_holds_truth(field)
    assert float(field.scalars["plev"]) == 500.0
    with pytest.raises(
        InputError, match=r"\(for zg500 at 500 hPa\); found 'zg' \(levels 850 hPa, not 500\)"
    ):
        open_field(tmp_path / "850.nc", ZG500)


def test_a_level_that_is_missing_is_refused_with_the_ones_there(path: Path) -> None:
    levels = [85_000.0, 25_000.0]
    along(heights(), "plev", levels, attributes={"units": "Pa"}).to_netcdf(path)
    with pytest.raises(InputError, match=r"'zg' \(levels 850, 250 hPa, not 500\)"):
        open_field(path, ZG500)


@pytest.mark.parametrize("name", ["ta850", "t850", "T850", "t"])
def test_a_usual_name_alone_is_enough_for_a_level(path: Path, name: str) -> None:
    make_dataset(path=path, name=name, standard_name=None)
    assert_holds_truth(open_field(path, TA850))


@pytest.mark.parametrize(
    ("name", "long_name"),
    [("ta850", ""), ("temperature", "Temperature at 850 hPa"), ("temp", "T @ 850 mb")],
)
def test_a_level_in_the_name_or_the_long_name_counts(path: Path, name: str, long_name: str) -> None:
    make_dataset(path=path, name=name, attributes={"long_name": long_name})
    quantity = replace(TA850, names=())
    assert_holds_truth(open_field(path, quantity))
    with pytest.raises(InputError, match="levels 850 hPa, not 500"):
        open_field(path, replace(quantity, level=50_000.0))


def test_an_unusual_name_without_a_level_is_refused(path: Path) -> None:
    make_dataset(path=path, name="temperature")
    with pytest.raises(InputError, match=r"'temperature' \(no pressure level\)"):
        open_field(path, TA850)


def test_a_usual_name_that_says_another_level_is_refused(path: Path) -> None:
    make_dataset(path=path, name="t500")
    with pytest.raises(InputError, match=r"'t500' \(levels 500 hPa, not 850\)"):
        open_field(path, replace(TA850, names=("t", "t500", "t850")))


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("ta850", 85_000.0),
        ("Z500", 50_000.0),
        ("zg1000", 100_000.0),
        ("u250", 25_000.0),
        ("ua_200hPa", 20_000.0),
        ("u10", None),
        ("v10", None),
        ("u100", None),
        ("t2m", None),
        ("tas", None),
        ("temp2", None),
        ("pr500", None),
    ],
)
def test_levels_are_read_out_of_names_but_heights_are_not(name: str, level: float | None) -> None:
    found = stated_levels(xr.DataArray(0.0, name=name))
    assert (None if found is None else found.tolist()) == (None if level is None else [level])


@pytest.mark.parametrize("name", ["ta", "t", "T"])
def test_near_surface_temperature_is_never_taken_from_upper_air_names(
    path: Path, name: str
) -> None:
    make_dataset(path=path, name=name)
    with pytest.raises(InputError, match=rf"'{name}' \(on a pressure level, by its name\)"):
        open_field(path, TAS)


def test_upper_air_temperature_is_never_taken_from_near_surface_names(path: Path) -> None:
    ta = Quantity("ta", ("air_temperature",), ("ta",), "K")
    make_dataset(path=path, name="tas")
    with pytest.raises(InputError, match=r"'tas' \(no pressure level\)"):
        open_field(path, ta)
    path.unlink()
    make_dataset(path=path, name="T")
    assert_holds_truth(open_field(path, ta))
    path.unlink()
    make_dataset(path=path, name="temp", attributes={"long_name": "at 850 hPa"})
    assert_holds_truth(open_field(path, ta))


def test_an_upper_air_name_at_a_height_is_near_the_surface(path: Path) -> None:
    make_dataset(path=path, name="t", height=2.0)
    assert_holds_truth(open_field(path, TAS))


def test_tas_is_found_beside_ta_on_levels(path: Path) -> None:
    upper = along(make_dataset(name="ta"), "plev", [85_000.0], attributes={"units": "Pa"})
    xr.merge([make_dataset(), upper], compat="no_conflicts").to_netcdf(path)
    assert open_field(path, TAS).source_name == "tas"
    assert open_field(path, TA850).source_name == "ta"


@pytest.mark.parametrize("name", ["z", "geopot"])
def test_geopotential_becomes_height_and_back(path: Path, name: str) -> None:
    levels = [50_000.0]
    dataset = heights(name=name, standard_name="geopotential", units="m**2 s**-2")
    along(dataset, "level", levels, attributes={"units": "Pa"}).to_netcdf(path)
    field = open_field(path, ZG500)
    assert (field.source_units, field.attributes["units"]) == ("m2 s-2", "m**2 s**-2")
    expected = truth(field.grid, range(3)) / 9.80665
    np.testing.assert_allclose(field.read(slice(None)), expected, rtol=FLOAT32_RTOL)


def test_height_becomes_geopotential(path: Path) -> None:
    heights(name="zg500", units="gpm").to_netcdf(path)
    field = open_field(path, replace(ZG500, units="m2 s-2"))
    expected = truth(field.grid, range(3)) * 9.80665
    np.testing.assert_allclose(field.read(slice(None)), expected, rtol=FLOAT32_RTOL)


@pytest.mark.data
def test_era_geopotential_and_ncep_height_are_the_same_thing() -> None:
    folder = shared_data() / "europe"
    era = open_field(folder / "z500_day_ERA-Interim_*.nc", ZG500)
    ncep = open_field(folder / "zg500_day_NCEP-R1_*.nc", ZG500)
    means = [field.read(slice(0, 366)).mean() for field in (era, ncep)]
    # Two analyses of one year over about the same region; a factor of g would be 10.
    assert means[0] == pytest.approx(means[1], rel=0.02)
    with pytest.raises(InputError, match=r"'t' \(on a pressure level, by its name\)"):
        open_field(folder / "t850_day_ERA-Interim_*.nc", TAS)
    assert open_field(folder / "t850_day_ERA-Interim_*.nc", TA850).source_name == "t"
    with pytest.raises(InputError, match=r"'ta850' \(on a pressure level\)"):
        open_field(shared_data() / "iberia" / "ta850_day_CNRM-CM5_historical_*.nc", TAS)


@pytest.mark.data
def test_a_real_file_gives_the_level_asked_for() -> None:
    field = open_field(shared_data() / "cmip" / "rectilinear_grid_3D.nc", TA850)
    with xr.open_dataset(field.paths[0], decode_times=False) as raw:
        expected = raw["t"].sel(lev=85_000.0).values[:, ::-1]
    np.testing.assert_allclose(field.read(slice(None)), expected, rtol=FLOAT32_RTOL)


@pytest.mark.parametrize(
    ("members", "label", "index"),
    [
        (np.array([1, 2, 3]), "2", 1),
        (np.array([1, 2, 3]), "02", 1),
        (np.array([1.0, 2.0, 2.5], dtype=np.float32), "2.5", 2),
        (np.array([0.1, 0.2], dtype=np.float32), "0.2", 1),
        (np.array(["r1i1p1f1", "r2i1p1f1"], dtype=object), "r2i1p1f1", 1),
        (np.array([b"r1i1p1", b"r10i1p1"]), "r10i1p1", 1),
        (None, "1", 1),
    ],
    ids=["integers", "as numbers", "floats", "float32", "text", "characters", "positions"],
)
def test_a_member_is_selected_by_its_label(
    path: Path, members: npt.NDArray[np.generic] | None, label: str, index: int
) -> None:
    along(
        make_dataset(), "realization", members, size=None if members is not None else 3
    ).to_netcdf(path)
    assert_is_entry(open_field(path, TAS, select={"realization": label}), index)


def test_names_beside_a_dimension_without_numbers_label_it(path: Path) -> None:
    dataset = along(make_dataset(), "member", None, size=2)
    dataset["tas"].attrs["coordinates"] = "member_id"
    dataset["member_id"] = ("member", np.array([b"r1i1p1f1", b"r2i1p1f1"]))
    dataset.to_netcdf(path)
    for name in ("member", "member_id"):
        assert_is_entry(open_field(path, TAS, select={name: "r2i1p1f1"}), 1)
    with pytest.raises(InputError, match="--select member=r1i1p1f1"):
        open_field(path, TAS)


def test_character_arrays_of_classic_files_label_members(path: Path) -> None:
    along(make_dataset(), "ensemble", [0, 1]).drop_vars("ensemble").to_netcdf(path)
    with netCDF4.Dataset(path, "a") as file:
        file.createDimension("length", 8)
        names = file.createVariable("ensemble", "S1", ("ensemble", "length"))
        names[:] = netCDF4.stringtochar(np.array([b"r1i1p1", b"r2i1p1"], dtype="S8"))
    assert_is_entry(open_field(path, TAS, select={"ensemble": "r2i1p1"}), 1)


def test_labels_that_are_not_unique_give_way_to_positions() -> None:
    array = xr.DataArray(np.zeros(3), dims="m", coords={"m": [np.nan, np.nan, np.nan]})
    assert labels(array, "m") == ["0", "1", "2"]


def test_several_dimensions_are_selected_at_once(path: Path) -> None:
    dataset = along(make_dataset(), "realization", [1, 2])
    levels = xr.concat([dataset["tas"], dataset["tas"] + 20.0], dim="height")
    dataset["tas"] = levels.transpose("time", ...).assign_attrs(dataset["tas"].attrs)
    dataset.assign_coords(height=[2.0, 10.0]).to_netcdf(path)
    field = open_field(path, TAS, select={"realization": "2", "height": "10"})
    assert_is_entry(field, 3)
    assert (float(field.scalars["realization"]), float(field.scalars["height"])) == (2.0, 10.0)
    with pytest.raises(
        InputError,
        match=re.escape(
            "further dimensions (height=2, realization=2); choose one entry of each, "
            "like --select height=2 --select realization=1"
        ),
    ):
        open_field(path, TAS)
    with pytest.raises(InputError, match=r"further dimensions \(height=2\)"):
        open_field(path, TAS, select={"realization": "2"})


def test_a_member_and_a_level_are_taken_together(path: Path) -> None:
    dataset = along(heights(), "plev", [85_000.0, 50_000.0], attributes={"units": "Pa"})
    members = xr.concat([dataset["zg"], dataset["zg"] + 20.0], dim="realization")
    dataset["zg"] = members.assign_attrs(dataset["zg"].attrs)
    dataset.to_netcdf(path)
    assert_is_entry(open_field(path, ZG500, select={"realization": "1"}), 3)


def test_a_single_entry_needs_no_choice_but_may_be_named(path: Path) -> None:
    along(make_dataset(), "realization", [4]).to_netcdf(path)
    assert_is_entry(open_field(path, TAS), 0)
    assert_is_entry(open_field(path, TAS, select={"realization": "4"}), 0)


def test_a_scalar_coordinate_must_agree(path: Path) -> None:
    make_dataset().assign_coords(realization=3).to_netcdf(path)
    assert_holds_truth(open_field(path, TAS, select={"realization": "3"}))
    with pytest.raises(
        InputError, match=r"file\.nc: variable 'tas' has no realization '1'; it has 3"
    ):
        open_field(path, TAS, select={"realization": "1"})


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ({"realization": "7"}, "has no realization '7'; it has 1, 2"),
        ({"realization": "first"}, "has no realization 'first'; it has 1, 2"),
        ({"member": "1"}, "no dimension 'member' to select from; dimensions beside time, "),
        ({"time": "2001-01-01"}, "no dimension 'time' .* longitude: realization"),
        ({"lat": "40"}, "no dimension 'lat' .* longitude: realization"),
    ],
)
def test_unknown_labels_and_dimensions_are_refused_with_those_there(
    path: Path, select: dict[str, str], message: str
) -> None:
    along(make_dataset(), "realization", [1, 2]).to_netcdf(path)
    with pytest.raises(InputError, match=rf"file\.nc: variable 'tas' (has )?{message}"):
        open_field(path, TAS, select=select)


def test_many_labels_are_shortened(path: Path) -> None:
    along(make_dataset(), "realization", np.arange(30)).to_netcdf(path)
    with pytest.raises(InputError, match=r"it has 0, 1, .*, 19, \.\.\. \(30\)$"):
        open_field(path, TAS, select={"realization": "99"})


def test_a_selected_level_other_than_the_one_wanted_is_refused(path: Path) -> None:
    levels = [85_000.0, 50_000.0]
    along(heights(), "plev", levels, attributes={"units": "Pa"}).to_netcdf(path)
    assert_is_entry(open_field(path, ZG500, select={"plev": "50000"}), 1)
    with pytest.raises(InputError, match="has, as selected, levels 850 hPa, not 500"):
        open_field(path, ZG500, select={"plev": "85000"})


def test_files_without_a_match_say_so_apart_from_files_that_cannot_be_read(path: Path) -> None:
    along(make_dataset(), "realization", [1, 2]).to_netcdf(path)
    with pytest.raises(InputError) as unread:
        open_field(path, TAS)
    assert not isinstance(unread.value, VariableNotFoundError)
    for quantity, near in ((replace(TAS, units="Pa"), True), (ZG500, False)):
        with pytest.raises(VariableNotFoundError) as absent:
            open_field(path, quantity)
        assert absent.value.near is near


def test_a_forecast_file_names_its_axis_valid_time(path: Path) -> None:
    dataset = make_dataset(name="t2m").rename(time="valid_time")
    dataset["t2m"].attrs["standard_name"] = "unknown"
    begun = {"standard_name": "forecast_reference_time", "units": "days since 2001-01-01"}
    dataset = dataset.assign_coords(time=((), 0.0, begun), number=0)
    dataset.to_netcdf(path)
    field = open_field(path, TAS)
    assert (field.time.name, field.source_name) == ("valid_time", "t2m")
    assert_holds_truth(field)


def test_a_file_of_the_climate_data_store_is_read(path: Path) -> None:
    dataset = heights(
        name="z", standard_name="geopotential", units="m**2 s**-2", lat=[47.5, 45.0, 42.5, 40.0]
    )
    pressure = {"units": "hPa", "standard_name": "air_pressure", "positive": "down"}
    dataset = along(dataset, "pressure_level", [850.0, 500.0], attributes=pressure)
    versions = np.array(["0001", "0001", "0005"], dtype=object)
    dataset = dataset.rename(time="valid_time").assign_coords(
        number=0, expver=("valid_time", versions)
    )
    dataset.to_netcdf(path)
    assert_is_entry(open_field(path, replace(ZG500, units="m2 s-2")), 1)


def test_the_start_of_a_forecast_is_no_time_axis_but_a_choice(path: Path) -> None:
    started = {"units": "days since 2000-11-01", "standard_name": "forecast_reference_time"}
    dataset = along(make_dataset(), "init", [0.0, 365.0], attributes=started)
    # What remains of the time axis are its units.
    del dataset["time"].attrs["standard_name"], dataset["time"].attrs["axis"]
    dataset[["init", "time", "tas"]].to_netcdf(path)
    with pytest.raises(InputError, match=r"like --select 'init=2000-11-01 00:00:00'$"):
        open_field(path, TAS)
    assert_is_entry(open_field(path, TAS, select={"init": "2001-11-01 00:00:00"}), 1)


def test_time_may_be_a_coordinate_beside_its_dimension(path: Path) -> None:
    make_dataset().rename_dims(time="step").drop_indexes("time").to_netcdf(path)
    field = open_field(path, TAS)
    assert (field.time.name, len(field.time)) == ("time", 3)
    np.testing.assert_allclose(
        field.read(slice(1, 3)), truth(field.grid, range(1, 3), wave), rtol=FLOAT32_RTOL
    )
