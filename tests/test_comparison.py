"""The rows that judge generated fields: known shifts, scales and copies come out as such."""

from __future__ import annotations

import math

import numpy as np
import pytest

from climdown.evaluation.unpaired import (
    Comparison,
    Neighbours,
    Row,
    climate_rows,
    correlation_row,
    neighbour_rows,
    spectral_rows,
)
from climdown.grid import Grid
from tests.factories import Floats

GRID = Grid.regular(36, 44, -8, 4, 1.0)
AREAS = GRID.areas / GRID.areas.sum()


def days(count: int, seed: int) -> Floats:
    """Independent days; the south-west corner is sea."""
    values: Floats = np.random.default_rng(seed).normal(size=(count, *GRID.shape))
    values[:, :2, :3] = np.nan
    return values


def by_measure(rows: list[Row]) -> dict[str, Row]:
    return {row.measure: row for row in rows}


def test_a_shifted_and_stretched_copy_has_the_errors_of_its_shift_and_stretch() -> None:
    held_out, training = days(50, 0), days(80, 1)
    mean = held_out.mean(axis=0)
    generated = mean + 1.5 * (held_out - mean) + 0.25
    samples = Comparison(held_out, generated[::-1], training)
    rows = by_measure(list(climate_rows("tas (K)", samples, GRID, wet=-100.0)))
    known = np.isfinite(mean)
    weights = AREAS[known] / AREAS[known].sum()
    deviation = held_out.std(axis=0, ddof=1)[known]
    upper = (np.quantile(held_out, 0.99, axis=0) - mean)[known]
    assert rows["mean"].error == pytest.approx(0.25)
    assert rows["mean"].held_out == pytest.approx(np.average(mean[known], weights=weights))
    assert rows["mean"].generated == pytest.approx(float(rows["mean"].held_out or 0.0) + 0.25)
    stretch = rows["standard deviation"].error
    assert stretch == pytest.approx(0.5 * np.average(deviation, weights=weights))
    tail = rows["99th percentile"].error
    assert tail == pytest.approx(np.average(np.abs(0.25 + 0.5 * upper), weights=weights))
    floor = np.abs(training.mean(axis=0) - mean)[known]
    assert rows["mean"].floor == pytest.approx(np.average(floor, weights=weights))
    assert rows["wet-day frequency"] == Row("tas (K)", "wet-day frequency", 1, 1, 1, 0, 0)


def test_wet_days_are_counted_only_where_asked_for() -> None:
    samples = Comparison(days(9, 0), days(9, 1), days(9, 2))
    assert "wet-day frequency" not in by_measure(list(climate_rows("tas", samples, GRID)))


def test_doubled_departures_have_four_times_the_power_at_all_wavelengths() -> None:
    held_out, training = days(20, 0), days(30, 1)
    climatology = training.mean(axis=0)
    doubled = climatology + 2.0 * (held_out - climatology)
    samples = Comparison(held_out, doubled, training)
    rows = by_measure(list(spectral_rows("tas", samples, GRID)))
    assert rows["log spectral distance (dB)"].error == pytest.approx(10 * math.log10(4))
    ratios = [row for name, row in rows.items() if name.startswith("relative power")]
    assert len(ratios) == 3
    for row in ratios:
        assert row.held_out == 1.0
        assert row.generated == pytest.approx(4.0)
        assert row.training == pytest.approx(1.0, abs=0.3)


def test_a_field_that_does_not_change_with_time_does_not_hide_the_weather() -> None:
    samples = Comparison(days(20, 0), 0.5 * days(20, 1), days(30, 2))
    relief = 50.0 * np.random.default_rng(5).normal(size=GRID.shape)
    expected = list(spectral_rows("tas", samples, GRID))
    found = list(spectral_rows("tas", Comparison(*(x + relief for x in samples)), GRID))
    assert found[0].error == pytest.approx(expected[0].error)
    assert found[0].error == pytest.approx(6.0, abs=0.8)


def test_correlation_of_two_variables_by_cell() -> None:
    one = Comparison(days(40, 0), days(40, 1), days(40, 2))
    other = Comparison(2.0 * one.held_out, -one.generated, one.training + 1.0)
    row = correlation_row("tas, pr", one, other, GRID)
    numbers = (row.held_out, row.generated, row.training, row.error, row.floor)
    assert numbers == pytest.approx((1.0, -1.0, 1.0, 2.0, 0.0), abs=1e-9)


def test_samples_that_repeat_training_days_lie_near_to_them() -> None:
    training, held_out = days(30, 1)[:, None], days(12, 0)[:, None]
    generated = training[::3] + 0.01
    found = {row.title: row for row in neighbour_rows(held_out, generated, training)}
    near, fresh = found["samples to training days"], found["validation days to training days"]
    assert near == Neighbours(near.title, *[pytest.approx(0.01, rel=1e-6)] * 3)  # type: ignore[arg-type]
    assert fresh.median > 1.0
    assert fresh.least <= fresh.low <= fresh.median
    assert found["training days to others, at least 7 days apart"].median > 1.0


def test_a_training_series_of_one_episode_is_not_compared_with_itself() -> None:
    parts = [days(n, n)[:, None] for n in (5, 6, 13)]
    assert not any("apart" in row.title for row in neighbour_rows(*parts))
    assert any("apart" in row.title for row in neighbour_rows(*parts, episode=6))
