"""Reading times: calendars, several files, periods, gaps; and the files themselves."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import cftime
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown import cf
from climdown.cf import open_field
from climdown.errors import ConfigError, InputError
from tests.factories import (
    TAS,
    assert_holds_truth,
    make_dataset,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tas.nc"


# The sixtieth day of a leap year, and of a century year that is one in the Julian calendar only.
SIXTIETH_DAY = {
    "standard": {2004: (2, 29), 1900: (3, 1)},
    "proleptic_gregorian": {2004: (2, 29), 1900: (3, 1)},
    "noleap": {2004: (3, 1), 1900: (3, 1)},
    "360_day": {2004: (2, 30), 1900: (2, 30)},
    "julian": {2004: (2, 29), 1900: (2, 29)},
}
CALENDARS = tuple(SIXTIETH_DAY)


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("year", [2004, 1900])
def test_dates_follow_the_calendar_and_bounds_come_along(
    path: Path, calendar: str, year: int
) -> None:
    times = [57.5, 58.5, 59.5]
    units = f"days since {year}-01-01"
    make_dataset(path=path, calendar=calendar, time_units=units, times=times, bounds=True)
    axis = open_field(path, TAS).time
    assert (axis.dates[-1].month, axis.dates[-1].day) == SIXTIETH_DAY[calendar][year]
    assert {date.hour for date in axis.dates} == {12}
    assert axis.values.tolist() == times
    assert axis.bounds is not None
    assert axis.bounds.tolist() == [[t - 0.5, t + 0.5] for t in times]
    assert (axis.units, axis.calendar) == (units, calendar)
    assert (axis.name, axis.bounds_name) == ("time", "time_bnds")
    assert (axis.step_days, axis.gaps) == (1.0, 0)


@settings(max_examples=30)
@given(
    start=st.integers(0, 60000),
    divisor=st.sampled_from([1, 2, 3, 8, 24]),
    dtype=st.sampled_from(["f8", "f4", "i4", "i8"]),
    calendar=st.sampled_from(CALENDARS),
    units=st.sampled_from(["days since 1850-01-01", "hours since 1900-01-01 00:00:0.0"]),
)
def test_time_values_and_type_are_unchanged_by_reading(
    tmp_path_factory: pytest.TempPathFactory,
    start: int,
    divisor: int,
    dtype: str,
    calendar: str,
    units: str,
) -> None:
    count = 3 if dtype.startswith("i") else 9
    times = np.unique((start + np.arange(count) / divisor).astype(dtype))
    path = tmp_path_factory.mktemp("times") / "tas.nc"
    make_dataset(
        path=path, times=times.tolist(), time_dtype=dtype, time_units=units, calendar=calendar
    )
    axis = open_field(path, TAS).time
    assert axis.values.dtype == np.dtype(dtype)
    if divisor in (3, 24) and dtype == "f8":
        # Thirds have no exact double: the nearest one comes back, which the file may miss by one.
        np.testing.assert_array_max_ulp(axis.values, times, maxulp=2)
    else:
        np.testing.assert_array_equal(axis.values, times)


def test_files_are_sorted_by_time_and_values_rebased_to_the_first(tmp_path: Path) -> None:
    late, early = tmp_path / "a.nc", tmp_path / "b.nc"
    make_dataset(path=late, time_units="days since 2001-01-04", first_step=3, bounds=True)
    make_dataset(path=early, time_units="days since 2001-01-01", bounds=True)
    field = open_field([late, early], TAS)
    assert field.paths == (early, late)
    assert field.time.values.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert field.time.bounds is not None
    assert field.time.bounds[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert_holds_truth(field)


def test_joining_never_truncates_times_to_integers(tmp_path: Path) -> None:
    first, second = tmp_path / "a.nc", tmp_path / "b.nc"
    make_dataset(path=first, times=[0, 1, 2], time_dtype="i4")
    make_dataset(path=second, times=[3.5, 4.5, 5.5], first_step=3)
    assert open_field([first, second], TAS).time.values.tolist() == [0, 1, 2, 3.5, 4.5, 5.5]


def test_two_names_of_one_calendar_are_the_same_calendar(tmp_path: Path) -> None:
    first, second = tmp_path / "a.nc", tmp_path / "b.nc"
    make_dataset(path=first, calendar="noleap")
    make_dataset(path=second, calendar="365_day", times=[3.5, 4.5], first_step=3)
    assert_holds_truth(open_field([first, second], TAS))


def test_files_without_the_quantity_are_passed_over(tmp_path: Path) -> None:
    make_dataset(path=tmp_path / "a.nc")
    make_dataset(path=tmp_path / "b.nc", name="ps", standard_name="surface_air_pressure")
    assert open_field(tmp_path / "*.nc", TAS).paths == (tmp_path / "a.nc",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"times": [2.5, 3.5]}, "times do not ascend: 2001-01-03 12:00:00 follows"),
        ({"times": [3.5], "lat": [40, 41, 42, 43]}, "its grid .* differs from that of"),
        ({"times": [3.5], "calendar": "360_day"}, "its calendar 360_day differs from standard"),
        ({"times": [3.5], "units": "degC"}, "its units 'degC' differ from 'K'"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    make_dataset(path=tmp_path / "a.nc")
    make_dataset(path=tmp_path / "b.nc", **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        open_field(tmp_path / "*.nc", TAS)


@pytest.fixture
def winters(path: Path) -> cf.TimeAxis:
    """January and February of 2001 and 2002, daily, at noon."""
    days = [*range(59), *range(365, 365 + 59)]
    make_dataset(path=path, times=[day + 0.5 for day in days])
    return open_field(path, TAS).time


def test_gaps_between_seasons_are_counted_and_do_not_change_the_step(winters: cf.TimeAxis) -> None:
    assert (len(winters), winters.gaps, winters.step_days) == (118, 1, 1.0)
    assert winters.months == (1, 2)
    assert winters.describe() == "118 steps from 2001-01-01 to 2002-02-28 (standard)"


def test_monthly_steps_of_unequal_length_are_no_gaps(path: Path) -> None:
    make_dataset(path=path, times=[15.5, 45.0, 74.5, 105.0])
    axis = open_field(path, TAS).time
    assert (axis.gaps, axis.step_days) == (0, 29.5)


def test_one_step_has_no_spacing(path: Path) -> None:
    make_dataset(path=path, times=[0.5])
    axis = open_field(path, TAS).time
    assert np.isnan(axis.step_days)
    assert axis.gaps == 0


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        (None, slice(0, 118)),
        ("2001/2001", slice(0, 59)),
        ("2001-02/2002-01", slice(31, 90)),
        ("2001-02-28/2002-01-01", slice(58, 60)),
        (" 1900/2001-01-01 ", slice(0, 1)),
        ("2002-02-28/2100", slice(117, 118)),
    ],
)
def test_periods_include_both_ends(
    winters: cf.TimeAxis, period: str | None, expected: slice
) -> None:
    assert winters.select(period) == expected


@pytest.mark.parametrize("period", ["2001", "2001-1/2002", "winter/summer", "2001/2002/2003", ""])
def test_unreadable_periods_are_refused(winters: cf.TimeAxis, period: str) -> None:
    with pytest.raises(ConfigError, match="cannot read the period"):
        winters.select(period)


@pytest.mark.parametrize("period", ["2001-06/2001-08", "2003/2004", "2002/2001"])
def test_periods_without_a_step_are_refused(winters: cf.TimeAxis, period: str) -> None:
    with pytest.raises(InputError, match=f"no time step lies in {period}; the input has 118"):
        winters.select(period)


def test_paths_and_patterns_that_name_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: .*absent\.nc"):
        cf.expand_paths([tmp_path / "absent.nc"])
    with pytest.raises(InputError, match=r"no file matches .*tas_\*\.nc"):
        cf.expand_paths([str(tmp_path / "tas_*.nc")])


def test_a_file_whose_name_looks_like_a_pattern_is_taken_as_it_is(tmp_path: Path) -> None:
    odd = tmp_path / "tas[1].nc"
    make_dataset(path=odd)
    assert cf.expand_paths([odd]) == [odd]


def test_files_that_are_not_netcdf_are_refused(path: Path) -> None:
    path.write_text("not NetCDF")
    with pytest.raises(InputError, match=r"tas\.nc: cannot be read as NetCDF"):
        open_field(path, TAS)


def test_time_units_that_cannot_be_decoded_are_refused(path: Path) -> None:
    make_dataset(path=path, time_units="days since the flood")
    with pytest.raises(InputError, match=r"tas\.nc: the time axis cannot be decoded"):
        open_field(path, TAS)


def test_units_of_time_are_enough_to_tell_the_time_axis(path: Path) -> None:
    dataset = make_dataset().rename(time="t")
    del dataset["t"].attrs["standard_name"], dataset["t"].attrs["axis"]
    dataset.to_netcdf(path)
    field = open_field(path, TAS)
    assert field.time.name == "t"
    assert_holds_truth(field)


def test_variables_without_a_time_axis_are_refused(path: Path) -> None:
    make_dataset().isel(time=0).to_netcdf(path)
    with pytest.raises(InputError, match=r"tas\.nc: variable 'tas' has no time axis"):
        open_field(path, TAS)


def test_a_time_axis_without_units_is_refused(path: Path) -> None:
    dataset = make_dataset()
    del dataset["time"].attrs["units"], dataset["time"].attrs["calendar"]
    dataset.to_netcdf(path)
    with pytest.raises(InputError, match="time axis that is empty or has no units"):
        open_field(path, TAS)


def test_stored_times_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    thirds = [day + part / 3.0 for day in range(20) for part in range(3)]
    make_dataset(path=tmp_path / "tas.nc", times=thirds, time_units="days since 1850-01-01")
    field = open_field(tmp_path / "tas.nc", TAS)
    np.testing.assert_array_equal(field.time.values, np.array(thirds))


@settings(max_examples=60)
@given(
    calendar=st.sampled_from(CALENDARS),
    start=st.integers(-60000, 60000),
    divisor=st.sampled_from([1, 2, 4, 8, 24]),
    stamp=st.sampled_from([0.0, 0.5]),
    jitter=st.integers(-15, 15),
)
def test_steps_are_numbered_one_by_one_in_every_calendar(
    calendar: str, start: int, divisor: int, stamp: float, jitter: int
) -> None:
    places = start + (np.arange(1500) + stamp) / divisor
    dates = cftime.num2date(places, "days since 2001-01-01", calendar)
    dates[7] += timedelta(seconds=jitter)  # stamps may be rounded
    numbers = cf.step_numbers(dates, 1.0 / divisor)
    assert np.diff(numbers).tolist() == [1] * (len(places) - 1)
    # Neither what else is in a file nor the time of its origin matters.
    for part in (slice(700, 701), slice(None, None, 3)):
        np.testing.assert_array_equal(cf.step_numbers(dates[part], 1.0 / divisor), numbers[part])


@pytest.mark.parametrize("calendar", CALENDARS)
def test_the_day_before_march_is_the_calendars_own(calendar: str) -> None:
    dates = [cftime.datetime(1900, *day, calendar=calendar) for day in ((2, 28), (3, 1))]
    before = {"360_day": 3, "julian": 2}.get(calendar, 1)
    assert np.diff(cf.step_numbers(dates, 1.0)).tolist() == [before]


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("step", [28.0, 30.0, 30.5, 31.0])
def test_months_are_numbered_as_months(calendar: str, step: float) -> None:
    dates = [
        cftime.datetime(year, month, day, calendar=calendar)
        for year, month, day in ((1999, 11, 15), (1999, 12, 1), (2000, 1, 30), (2000, 2, 14))
    ]
    assert np.diff(cf.step_numbers(dates, step)).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(14, 4, [0, 4, 9, 13]), (3, 8, [0, 1, 2]), (3, None, [0, 1, 2]), (5, 1, [0]), (0, 4, [])],
)
def test_at_most_so_many_steps_evenly_spread(
    count: int, most: int | None, expected: list[int]
) -> None:
    assert cf.evenly(np.arange(count) + 7, most).tolist() == [i + 7 for i in expected]
