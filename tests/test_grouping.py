"""Groups of dates in every CF calendar, against definitions written out step by step."""

from __future__ import annotations

from datetime import date, timedelta

import cftime
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown.bias.grouping import Grouping, Windows, day_of_year
from climdown.errors import ConfigError

REAL_MONTHS = ("standard", "proleptic_gregorian", "julian", "noleap", "all_leap")
CALENDARS = (*REAL_MONTHS, "360_day")


def days(calendar: str, first: int = 0, count: int = 1461) -> npt.NDArray[np.object_]:
    """Consecutive days from so many days after 1 January 1999."""
    numbers = np.arange(first, first + count) + 0.5
    return np.asarray(cftime.num2date(numbers, "days since 1999-01-01", calendar))


@pytest.mark.parametrize(
    ("kind", "window", "message"),
    [
        ("season", 31, "unknown grouping 'season'; expected none, month, dayofyear"),
        ("dayofyear", 30, "window of a grouping is 30 days; expected an odd number"),
        ("dayofyear", -1, "window of a grouping is -1 days"),
        ("dayofyear", 367, "from 1 to 365"),
    ],
)
def test_a_grouping_is_checked_when_built(kind: str, window: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Grouping(kind, window)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "count"), [("none", 1), ("month", 12), ("dayofyear", 365)])
def test_count(kind: str, count: int) -> None:
    assert Grouping(kind).count == count  # type: ignore[arg-type]


@pytest.mark.parametrize("calendar", REAL_MONTHS)
def test_day_of_year_is_that_of_month_and_day_in_a_common_year(calendar: str) -> None:
    dates = days(calendar)
    leap = [(d.month, d.day) == (2, 29) for d in dates]
    assert any(leap) == (calendar != "noleap")
    common = [
        date(1999, d.month, 28 if is_leap else d.day)
        for d, is_leap in zip(dates, leap, strict=True)
    ]
    expected = [(day - date(1999, 1, 1)) // timedelta(days=1) for day in common]
    np.testing.assert_array_equal(day_of_year(dates), expected)


def test_a_year_of_360_days_is_spread_over_365() -> None:
    found = day_of_year(days("360_day", count=360))
    assert (found[0], found[-1]) == (0, 364)
    assert sorted(set(range(365)) - set(found)) == [36, 109, 182, 255, 328]
    # 16 July starts the second half of both years.
    assert day_of_year([cftime.datetime(2001, 7, 1, calendar="360_day")])[0] == 183
    assert (np.diff(found) >= 1).all()


@pytest.mark.parametrize("calendar", CALENDARS)
def test_months_are_those_the_dates_bear(calendar: str) -> None:
    dates = days(calendar)
    np.testing.assert_array_equal(Grouping("month").group_of(dates), [d.month - 1 for d in dates])
    members = Grouping("month").members(dates)
    for month in range(12):
        expected = [i for i, d in enumerate(dates) if d.month == month + 1]
        np.testing.assert_array_equal(members[month][: len(expected)], expected)
        assert (members[month][len(expected) :] == -1).all()


def test_no_grouping_has_everything_in_one_group() -> None:
    dates = days("noleap", count=7)
    np.testing.assert_array_equal(Grouping("none").members(dates), [np.arange(7)])
    np.testing.assert_array_equal(Grouping("none").group_of(dates), np.zeros(7))


@settings(max_examples=40)
@given(
    calendar=st.sampled_from(CALENDARS),
    window=st.sampled_from([1, 3, 31, 89, 365]),
    first=st.integers(0, 800),
    count=st.integers(0, 1200),
    share=st.floats(0.05, 1.0),
    seed=st.integers(0, 9),
)
def test_windows_hold_the_days_around_by_date_whatever_is_missing(
    calendar: str, window: int, first: int, count: int, share: float, seed: int
) -> None:
    dates = days(calendar, first, count)
    dates = dates[np.random.default_rng(seed).random(count) < share]
    grouping = Grouping("dayofyear", window)
    position, members = day_of_year(dates), grouping.members(dates)
    assert members.shape[0] == 365
    for day in (0, 1, 58, 59, 182, 350, 364):
        away = np.abs(position - day)
        expected = np.flatnonzero(np.minimum(away, 365 - away) <= window // 2)
        found = members[day]
        np.testing.assert_array_equal(np.sort(found[found >= 0]), expected)
        assert (found[: len(expected)] >= 0).all()


def test_winters_alone_have_no_summer_and_no_neighbours_across_the_gap() -> None:
    dates = np.array([d for d in days("standard") if d.month in (12, 1, 2)])
    members = Grouping("dayofyear", 31).members(dates)
    days_of_june = members[151:181]
    assert (days_of_june == -1).all()
    around = {(dates[i].month, dates[i].day) for i in members[364] if i >= 0}
    assert around == {(12, day) for day in range(16, 32)} | {(1, day) for day in range(1, 16)}
    last_of_february = {dates[i].month for i in members[58] if i >= 0}
    assert last_of_february == {2}


def test_windows_and_members_are_the_same_thing() -> None:
    windows = Grouping("dayofyear", 31).windows(Grouping("dayofyear").group_of(days("standard")))
    members = windows.members()
    again = Windows.of_members(members)
    np.testing.assert_array_equal(again.members(), members)
    np.testing.assert_array_equal(again.length, windows.length)


@pytest.mark.parametrize("kind", ["none", "month", "dayofyear"])
@pytest.mark.parametrize("torches", [False, True])
def test_cut_runs_are_the_members_values(kind: str, torches: bool) -> None:
    grouping = Grouping(kind, 5)  # type: ignore[arg-type]
    dates = days("standard", first=40, count=1000)
    windows = grouping.windows(grouping.group_of(dates))
    rows = np.random.default_rng(0).normal(size=(2, 1000))
    rows[1, ::3] = np.nan
    array = torch.from_numpy(rows) if torches else rows
    part = slice(0, 300)
    cut = np.asarray(windows.cut(windows.runs(array), part, -9.0))
    extended = np.append(rows, np.full((2, 1), -9.0), axis=1)
    expected = np.moveaxis(extended[:, windows.members()[part]], 0, 1)
    np.testing.assert_array_equal(cut, expected)
    valid = np.isfinite(extended[:, windows.members(1000)]) & (windows.members() >= 0)
    np.testing.assert_array_equal(windows.valid(array), valid.sum(axis=-1))
    np.testing.assert_array_equal(windows.valid(array[:1]), windows.length[None])
