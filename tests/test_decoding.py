"""Times that cannot be decoded stop only what needs dates; CDO's absolute times are decoded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cftime
import netCDF4
import numpy as np
import pytest

from climdown import cf
from climdown.errors import InputError
from tests.commands import Shell
from tests.factories import TAS, assert_holds_truth, make_dataset

FILL = 9.969209968386869e36


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tas.nc"


def write(path: Path, **options: Any) -> None:
    make_dataset(path=path, **options).close()


def months_since(path: Path) -> None:
    write(path, time_units="months since 1955-01-01")


def years_since(path: Path) -> None:
    write(path, time_units="years since 1955-01-01")


def no_such_date(path: Path) -> None:
    write(path, time_units="days since 0000-00-00")


def no_such_calendar(path: Path) -> None:
    write(path, calendar="365_days")


def fill_in_time(path: Path) -> None:
    write(path, times=(0.5, FILL, 2.5))


def declared_fill_in_time(path: Path) -> None:
    write(path, times=(0.5, -999.0, 2.5))
    with netCDF4.Dataset(path, "a") as file:
        file["time"].missing_value = np.float32(-999.0)


def nan_in_time(path: Path) -> None:
    write(path, times=(0.5, 1.5, np.nan))


def fill_in_bounds(path: Path) -> None:
    write(path, bounds=True)
    with netCDF4.Dataset(path, "a") as file:
        file["time_bnds"][0, 0] = 1e20


UNDECODABLE = {
    months_since: "units 'months since 1955-01-01'",
    years_since: "units 'years since 1955-01-01'",
    no_such_date: "days since 0000-00-00",
    no_such_calendar: "365_days",
    fill_in_time: "('time': step 2 of 3 has 9.96921e+36, a fill value)",
    declared_fill_in_time: "('time': step 2 of 3 has -999, a fill value)",
    nan_in_time: "('time': step 3 of 3 has nan, a fill value)",
}
CASES = pytest.mark.parametrize(
    ("make", "words"), UNDECODABLE.items(), ids=[make.__name__ for make in UNDECODABLE]
)


def test_stamps_are_believed_where_bounds_hold_a_fill(path: Path) -> None:
    fill_in_bounds(path)
    (doubt,) = cf.open_field(path, TAS).doubts
    assert "the bounds of time are not those of their steps at 1 of 3" in doubt


@CASES
def test_fields_need_dates(path: Path, make: Any, words: str) -> None:
    make(path)
    expected = rf"tas\.nc: the time axis cannot be decoded .*{re.escape(words)}.*; expected "
    with pytest.raises(InputError, match=expected):
        cf.open_field(path, TAS)


@CASES
def test_regridding_needs_no_dates(path: Path, make: Any, words: str, shell: Shell) -> None:
    make(path)
    assert shell("regrid", path, "out.nc", "--grid", "2.5").code == 0
    with netCDF4.Dataset(path) as before, netCDF4.Dataset("out.nc") as after:
        for name in {"time", "time_bnds"} & set(before.variables):
            for file in (before, after):
                file[name].set_auto_mask(False)
            np.testing.assert_array_equal(after[name][:], before[name][:])
        assert after["time"].units == before["time"].units
        # Cells of the same size and place keep their values.
        np.testing.assert_allclose(after["tas"][:].max(), before["tas"][:].max(), rtol=1e-6)


@CASES
def test_inspecting_needs_no_dates(path: Path, make: Any, words: str, shell: Shell) -> None:
    make(path)
    result = shell("inspect", path, "--no-priors")
    assert result.code == 0
    assert words in result.out
    assert "4 x 5 cells of 2.5 deg" in result.out
    assert "choose time" not in result.out


def test_a_time_axis_without_standard_name_is_known_by_its_units(path: Path) -> None:
    dataset = make_dataset(time_units="months since 1955-01-01")
    del dataset["time"].attrs["standard_name"], dataset["time"].attrs["axis"]
    dataset.to_netcdf(path)
    with pytest.raises(InputError, match="the time axis cannot be decoded"):
        cf.open_field(path, TAS)


@pytest.mark.parametrize("units", ["hours since analysis", "days since start of run", "since"])
@pytest.mark.parametrize("dims", [("time",), (), ("time", "lat", "lon")])
def test_a_side_variable_that_cannot_be_decoded_stops_no_other(
    path: Path, units: str, dims: tuple[str, ...], shell: Shell
) -> None:
    write(path)
    with netCDF4.Dataset(path, "a") as file:
        variable = file.createVariable("tau", "f4", dims)
        variable.units = units
        variable[...] = 6.0
    assert_holds_truth(cf.open_field(path, TAS))
    assert shell("regrid", path, "out.nc", "--grid", "2.5").code == 0
    with netCDF4.Dataset("out.nc") as file:
        assert "tas" in file.variables
        # Times of cells have no means; others are copied.
        assert ("tau" in file.variables) == ("lat" not in dims)


def test_too_many_steps_are_not_decoded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("climdown.cf.decoding._MOST_STEPS", 2)
    write(path)
    with pytest.raises(InputError, match=r"\('time' has 3 steps\); expected at most 2: split"):
        cf.open_field(path, TAS)


# Dates as `cdo showtimestamp` has them.
ABSOLUTE = {
    "day as %Y%m%d.%f": (
        (20010115.25, 20010116.75, 20010301.0),
        ((2001, 1, 15, 6), (2001, 1, 16, 18), (2001, 3, 1, 0)),
    ),
    "month as %Y%m.%f": ((200111, 200112, 200201), ((2001, 11, 1), (2001, 12, 1), (2002, 1, 1))),
    "year as %Y.%f": ((1999, 2000, 2001), ((1999, 1, 1), (2000, 1, 1), (2001, 1, 1))),
    "day as %Y%m%d": ((20001231, 20010101, 20010102), ((2000, 12, 31), (2001, 1, 1), (2001, 1, 2))),
}


@pytest.mark.parametrize(("units", "case"), ABSOLUTE.items(), ids=ABSOLUTE)
@pytest.mark.parametrize("calendar", ["proleptic_gregorian", "noleap", "360_day"])
def test_absolute_times_are_decoded(path: Path, units: str, case: Any, calendar: str) -> None:
    times, dates = case
    if calendar == "360_day":
        times = tuple(20001230 if t == 20001231 else t for t in times)
        dates = tuple((2000, 12, 30) if d == (2000, 12, 31) else d for d in dates)
    write(path, times=times, time_units=units, calendar=calendar)
    field = cf.open_field(path, TAS)
    expected = [cftime.datetime(*date, calendar=calendar) for date in dates]
    assert list(field.time.dates) == expected
    decoded = cftime.num2date(field.time.values, field.time.units, field.time.calendar)
    assert list(decoded) == expected


def test_absolute_bounds_are_decoded_with_their_axis(path: Path) -> None:
    write(path, times=(200111.5, 200112.5), time_units="month as %Y%m.%f", bounds=True)
    with netCDF4.Dataset(path, "a") as file:
        file["time_bnds"][:] = [[200111, 200112], [200112, 200201]]
    time = cf.open_field(path, TAS).time
    assert [(date.month, date.day) for date in time.dates] == [(11, 16), (12, 16)]
    np.testing.assert_array_equal(time.lengths, [30.0, 31.0])


def test_a_fill_among_absolute_times_is_one_line(path: Path) -> None:
    write(path, times=(20010115.0, FILL, 20010117.0), time_units="day as %Y%m%d.%f")
    with pytest.raises(InputError, match=r"step 2 of 3 has 9\.96921e\+36, a fill value"):
        cf.open_field(path, TAS)


def test_absolute_times_that_are_no_dates_are_one_line(path: Path) -> None:
    write(path, times=(20011345.0, 20011346.0), time_units="day as %Y%m%d.%f")
    with pytest.raises(InputError, match=r"time axis cannot be decoded .*20011345"):
        cf.open_field(path, TAS)


def test_regridding_keeps_absolute_times(path: Path, shell: Shell) -> None:
    write(path, times=(20010115.25, 20010116.75), time_units="day as %Y%m%d.%f")
    assert shell("regrid", path, "out.nc", "--grid", "2.5").code == 0
    with netCDF4.Dataset("out.nc") as file:
        assert file["time"].units == "day as %Y%m%d.%f"
        np.testing.assert_array_equal(file["time"][:], [20010115.25, 20010116.75])
