"""Where steps lie in the calendar: the middle of bounds, in whatever units and calendar."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cftime
import netCDF4
import numpy as np
import numpy.typing as npt
import pytest

from climdown import cf
from climdown.cf import dating, open_field
from climdown.errors import InputError
from climdown.inputs.inspection import inspect_sources
from tests.factories import TAS, assert_holds_truth, make_dataset

Bounds = npt.NDArray[np.float64]
UNITS = "days since 2001-01-01"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tas.nc"


def write_bounded(path: Path, times: npt.ArrayLike, bounds: npt.ArrayLike, **options: str) -> None:
    """A file whose bounds of time are these.

    Args:
        options: of `make_dataset`; `bounds_units` and `bounds_calendar` are stated by the bounds.
    """
    stated = {k: options.pop(f"bounds_{k}", None) for k in ("units", "calendar")}
    stamps = [float(t) for t in np.asarray(times)]
    make_dataset(path=path, times=stamps, bounds=True, **options)  # type: ignore[arg-type]
    with netCDF4.Dataset(path, "a") as file:
        file["time_bnds"].setncatts({k: v for k, v in stated.items() if v})
        file["time_bnds"][:] = np.asarray(bounds)


def months(count: int, calendar: str = "standard") -> Bounds:
    """Bounds of months from January 2001, shape (count, 2), in days."""
    firsts = [cftime.datetime(2001 + m // 12, 1 + m % 12, 1) for m in range(count + 1)]
    edges = cftime.date2num(
        [cftime.datetime(d.year, d.month, 1, calendar=calendar) for d in firsts], UNITS, calendar
    )
    return np.stack([edges[:-1], edges[1:]], axis=1).astype(np.float64)


def numbers_of(axis: cf.TimeAxis) -> list[int]:
    return [date.month for date in axis.centres]


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
@pytest.mark.parametrize("turned", [False, True], ids=["ascending", "decreasing"])
def test_months_stamped_at_their_end_are_the_months_of_their_bounds(
    path: Path, calendar: str, turned: bool
) -> None:
    bounds = months(14, calendar)
    stored = bounds[:, ::-1] if turned else bounds
    write_bounded(path, bounds[:, 1], stored, calendar=calendar)
    axis = open_field(path, TAS).time
    assert numbers_of(axis) == [*range(1, 13), 1, 2]
    assert axis.select("2001-12/2001-12") == slice(11, 12)
    assert axis.isel(slice(11, 12)).months == (12,)
    np.testing.assert_allclose(axis.lengths, bounds[:, 1] - bounds[:, 0])
    assert axis.values.tolist() == bounds[:, 1].tolist()
    assert axis.bounds is not None
    assert axis.bounds.tolist() == stored.tolist()
    assert axis.doubt is None


def test_days_stamped_at_their_end_are_the_days_before(path: Path) -> None:
    days = np.arange(33.0)
    write_bounded(path, days + 1, np.stack([days, days + 1], axis=1))
    axis = open_field(path, TAS).time
    assert axis.select("2001-01/2001-01") == slice(0, 31)
    assert axis.describe() == "33 steps from 2001-01-01 to 2001-02-02 (standard)"


@pytest.mark.parametrize("error", [-1e-7, 1e-7, -4e-9])
@pytest.mark.parametrize("clock", [0.0, 0.5])
def test_stamps_a_rounding_error_off_are_what_they_should_be(
    path: Path, error: float, clock: float
) -> None:
    times = [day + clock + error for day in range(33)]
    make_dataset(path=path, times=times)
    axis = open_field(path, TAS).time
    assert axis.select("2001-01-01/2001-01-31") == slice(0, 31)
    assert {(date.hour, date.minute, date.second) for date in axis.centres} == {(24 * clock, 0, 0)}
    assert axis.values.tolist() == times


def test_months_a_rounding_error_early_are_numbered_one_by_one(path: Path) -> None:
    make_dataset(path=path, times=[float(end) - 1e-7 for end in months(14)[:, 1]])
    axis = open_field(path, TAS).time
    assert numbers_of(axis) == [*range(2, 13), 1, 2, 3]
    assert np.diff(cf.step_numbers(axis.keyed, axis.step_days)).tolist() == [1] * 13


@pytest.mark.parametrize("place", [0.0, 0.25, 0.5])
def test_noise_is_keyed_by_stamps_that_lie_in_their_step(path: Path, place: float) -> None:
    days = np.arange(3.0)
    write_bounded(path, days + place, np.stack([days, days + 1], axis=1))
    axis = open_field(path, TAS).time
    assert list(axis.keyed) == list(axis.dates)
    assert [date.hour for date in axis.centres] == [12, 12, 12]


def test_noise_of_days_stamped_at_their_end_is_keyed_by_the_day(path: Path) -> None:
    days = np.arange(3.0)
    write_bounded(path, days + 1, np.stack([days, days + 1], axis=1))
    axis = open_field(path, TAS).time
    assert [date.isoformat() for date in axis.keyed] == [
        f"2001-01-0{day}T12:00:00" for day in (1, 2, 3)
    ]


def test_bounds_of_instants_leave_their_stamps(path: Path) -> None:
    times = np.array([0.25, 0.5, 0.75])
    write_bounded(path, times, np.stack([times, times], axis=1))
    axis = open_field(path, TAS).time
    assert list(axis.centres) == list(axis.dates)
    assert not axis.bounded
    assert axis.doubt is None


@pytest.mark.parametrize("shift", [400.0, -400.0, np.nan])
def test_bounds_without_their_stamp_are_said_and_not_believed(path: Path, shift: float) -> None:
    bounds = months(12)
    write_bounded(path, bounds.mean(axis=1), bounds + shift)
    (doubt,) = open_field(path, TAS).doubts
    assert doubt.startswith("the bounds of time are not those of their")
    assert "at 12 of 12, first at 2001-01-16T12:00:00" in doubt
    assert numbers_of(open_field(path, TAS).time) == list(range(1, 13))


@pytest.mark.parametrize("declared", [True, False])
def test_months_of_a_climatology_are_those_of_its_stamps(path: Path, declared: bool) -> None:
    bounds = months(12)
    over_years = np.stack([bounds[:, 0] - 29 * 365.0, bounds[:, 1]], axis=1)
    write_bounded(path, bounds.mean(axis=1), over_years)
    if declared:
        with netCDF4.Dataset(path, "a") as file:
            file["time"].climatology = "time_bnds"
    axis = open_field(path, TAS).time
    assert numbers_of(axis) == list(range(1, 13))
    assert (axis.doubt is None) == declared


def test_years_and_decades_are_those_of_the_middle_of_their_bounds(path: Path) -> None:
    edges = 3652.5 * np.arange(4)
    write_bounded(path, edges[1:], np.stack([edges[:-1], edges[1:]], axis=1))
    axis = open_field(path, TAS).time
    assert [date.year for date in axis.centres] == [2006, 2016, 2026]


@pytest.mark.parametrize("methods", ["time: mean", "area: time: mean", "time: sum"])
def test_unbounded_months_stamped_on_the_first_say_how_they_are_read(
    path: Path, methods: str
) -> None:
    starts = [float(start) for start in months(12)[:, 0]]
    make_dataset(path=path, times=starts, attributes={"cell_methods": methods})
    field = open_field(path, TAS)
    assert numbers_of(field.time) == list(range(1, 13))
    assert [("taken as the months that begin there" in doubt) for doubt in field.doubts] == [True]


def test_inspect_names_bounds_of_other_steps(path: Path) -> None:
    bounds = months(12)
    write_bounded(path, bounds.mean(axis=1), bounds + 400.0)
    (report,) = inspect_sources(cf.Sources.open(path))
    assert report.suspicious[0].startswith("the bounds of time are not those of their steps at 12")


def test_unbounded_months_stamped_in_their_middle_are_no_matter(path: Path) -> None:
    make_dataset(
        path=path,
        times=[float(middle) for middle in months(12).mean(axis=1)],
        attributes={"cell_methods": "time: mean"},
    )
    assert open_field(path, TAS).doubts == ()


@pytest.mark.parametrize(
    ("units", "calendar", "factor", "shift"),
    [
        ("hours since 2001-01-01", None, 24.0, 0.0),
        ("minutes since 2001-01-01 00:00:00", None, 1440.0, 0.0),
        ("days since 2000-12-01", None, 1.0, 31.0),
        ("hours since 1900-01-01", "proleptic_gregorian", 24.0, 24.0 * 36890.0),
        ("hours", None, 24.0, 0.0),
        ("days since 2001-01-01", "noleap", 1.0, 0.0),
    ],
)
def test_bounds_are_read_in_units_of_their_own(
    path: Path, units: str, calendar: str | None, factor: float, shift: float
) -> None:
    days = np.arange(3.0)
    bounds = np.stack([days, days + 1], axis=1)
    stated = {"bounds_units": units} | ({"bounds_calendar": calendar} if calendar else {})
    write_bounded(path, days + 1, factor * bounds + shift, **stated)
    axis = open_field(path, TAS).time
    assert axis.bounds is not None
    np.testing.assert_allclose(axis.bounds, bounds, rtol=0.0, atol=1e-9)
    assert axis.lengths.tolist() == [1.0, 1.0, 1.0]
    assert [date.day for date in axis.centres] == [1, 2, 3]


def test_bounds_in_a_calendar_with_other_days_are_refused(path: Path) -> None:
    days = np.arange(58.0, 61.0)
    write_bounded(
        path,
        days,
        np.stack([days, days + 1], axis=1),
        calendar="noleap",
        bounds_units=UNITS,
        bounds_calendar="360_day",
    )
    with pytest.raises(InputError, match=r"2001-02-29T.* is no date of the calendar noleap"):
        open_field(path, TAS)


def test_bounds_in_units_of_no_time_are_refused() -> None:
    with pytest.raises(
        InputError, match="bounds of time have units 'furlongs since 2001-01-01', which cannot"
    ):
        dating.bounds_in_units(np.zeros((1, 2)), "furlongs", "standard", (UNITS, "standard"))


@pytest.mark.parametrize("order", [("standard", "proleptic_gregorian"), ("gregorian", "standard")])
@pytest.mark.parametrize("units", [UNITS, "days since 1500-01-01"])
def test_gregorian_calendars_are_one_after_the_reform(
    tmp_path: Path, order: tuple[str, str], units: str
) -> None:
    for i, calendar in enumerate(order):
        dates = [cftime.datetime(2001, 1, 1 + 3 * i + d, 12, calendar=calendar) for d in range(3)]
        times = [float(t) for t in cftime.date2num(dates, units, calendar)]
        options = {"time_units": units, "calendar": calendar, "first_step": 3 * i}
        make_dataset(path=tmp_path / f"{i}.nc", times=times, **options)  # type: ignore[arg-type]
    field = open_field(tmp_path / "*.nc", TAS)
    assert np.diff(field.time.values).tolist() == [1.0] * 5
    assert [date.day for date in field.time.centres] == [1, 2, 3, 4, 5, 6]
    assert field.time.calendar == order[0]
    assert_holds_truth(field)


def test_gregorian_calendars_are_two_before_the_reform(tmp_path: Path) -> None:
    units = "days since 1500-01-01"
    make_dataset(path=tmp_path / "a.nc", time_units=units)
    make_dataset(
        path=tmp_path / "b.nc", time_units=units, calendar="proleptic_gregorian", times=[20.5]
    )
    with pytest.raises(InputError, match="its calendar proleptic_gregorian differs from standard"):
        open_field(tmp_path / "*.nc", TAS)


@pytest.mark.parametrize(
    ("dtype", "units", "expected", "kind"),
    [
        (np.int64, "hours since 2001-01-01", [[0, 24], [24, 48]], "i"),
        (np.int64, "days since 2000-12-31 12:00", [[0.5, 1.5], [1.5, 2.5]], "f"),
        (np.float32, "days since 2000-12-31", [[1, 2], [2, 3]], "f"),
    ],
)
def test_bounds_follow_their_axis_into_other_units(
    dtype: Any, units: str, expected: list[list[float]], kind: str
) -> None:
    axis = cf.time_axis(
        [cftime.datetime(2001, 1, day, calendar="standard") for day in (1, 2)],
        units="days since 2001-01-01",
        bounded=True,
    )
    assert axis.bounds is not None
    other = replace(axis, bounds=axis.bounds.astype(dtype)).encoded_as(units, "standard")
    assert other.bounds is not None
    np.testing.assert_allclose(other.bounds, expected, rtol=1e-12)
    assert other.bounds.dtype.kind == kind
    assert [date.day for date in other.centres] == [1, 2]
