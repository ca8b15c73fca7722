"""Moving windows of years: every step adjusted once, within a window around it."""

from __future__ import annotations

import cftime
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown.adjust.periods import moving_periods


@settings(max_examples=200)
@given(
    first=st.integers(1850, 2100),
    count=st.integers(1, 150),
    years=st.integers(10, 60),
    kept=st.sets(st.integers(0, 149), max_size=30),
    steps=st.integers(1, 3),
)
def test_periods_cover_each_step_once_within_a_window_of_years(
    first: int, count: int, years: int, kept: set[int], steps: int
) -> None:
    gaps = {year for year in kept if 0 < year < count - 1}  # years that the file lacks
    numbers = [first + i for i in range(count) if i not in gaps for _ in range(steps)]
    dates = np.array([cftime.datetime(year, 1, 5) for year in numbers], dtype=object)
    covered = np.zeros(len(dates), dtype=int)
    for part, window in moving_periods(dates, years):
        covered[part] += 1
        assert window.start <= part.start < part.stop <= window.stop
        first_year, last_year = numbers[window.start], numbers[window.stop - 1]
        assert last_year - first_year < years
        assert count <= years or numbers[part.stop - 1] - numbers[part.start] < 10
        # Of the years it begins and ends with the window lacks nothing.
        assert first_year not in numbers[: window.start]
        assert last_year not in numbers[window.stop :]
    np.testing.assert_array_equal(covered, 1)


def test_a_window_stands_around_its_decade_and_leans_inwards_at_the_ends() -> None:
    dates = np.array([cftime.datetime(year, 7, 1) for year in range(2015, 2101)], dtype=object)
    years = [
        tuple(dates[i].year for i in (p.start, p.stop - 1, w.start, w.stop - 1))
        for p, w in moving_periods(dates, 30)
    ]
    assert years[:3] == [
        (2015, 2024, 2015, 2044),
        (2025, 2034, 2015, 2044),
        (2035, 2044, 2025, 2054),
    ]
    assert years[-2:] == [(2085, 2094, 2071, 2100), (2095, 2100, 2071, 2100)]


def test_without_a_window_all_is_one_period() -> None:
    dates = np.array([cftime.datetime(year, 7, 1) for year in range(2015, 2045)], dtype=object)
    for years in (None, 30, 31):
        assert list(moving_periods(dates, years)) == [(slice(0, 30), slice(0, 30))]
