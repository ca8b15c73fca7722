"""Persistence, spells and sums over days, against loops over days."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from climdown.evaluation.scene import WET
from climdown.evaluation.segments import Segments
from climdown.evaluation.time_structure import (
    LONGEST,
    UNITS,
    deviation_ratio,
    deviations,
    lag_correlations,
    lag_error,
    lag_mean,
    mean_length,
    persistence,
    spells,
    wet_day_error,
    windows,
)
from tests.cells import Series, days, over_units, resampled, scene_of

Floats = npt.NDArray[np.float64]
CELLS, MEMBERS = 5, 3


def autoregressive(time: int, phi: float, *, seed: int = 0, members: int = MEMBERS) -> Series:
    rng = np.random.default_rng(seed)
    values = np.zeros((time, members, CELLS))
    noise = rng.normal(size=values.shape)
    values[0] = noise[0]
    for t in range(1, time):
        values[t] = phi * values[t - 1] + np.sqrt(1 - phi**2) * noise[t]
    return (280.0 + np.arange(CELLS) + 3.0 * values).astype(np.float32)


def rain(time: int, *, seed: int = 0, missing: float = 0.0) -> Series:
    rng = np.random.default_rng(seed)
    state = autoregressive(time, 0.6, seed=seed) - 280.0 - np.arange(CELLS)
    values = np.where(state > 0, np.abs(state) * 4.0, 0.0).astype(np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    return np.asarray(values)


def neighbours(whole: Segments) -> list[tuple[int, int]]:
    pairs = itertools.pairwise(range(len(whole.number)))
    return [(s, t) for s, t in pairs if whole.number[t] == whole.number[s] + 1]


def lag_by_loops(values: Series, whole: Segments) -> Floats:
    product, square = np.zeros(CELLS), np.zeros(CELLS)
    for member in range(values.shape[1]):
        for cell in range(CELLS):
            x = values[:, member, cell].astype(np.float64)
            labels = whole.month + 12 * np.cumsum(np.append(0, np.diff(whole.number) != 1))
            for label in np.unique(labels):
                x[labels == label] -= np.nanmean(x[labels == label])
            for s, t in neighbours(whole):
                if np.isfinite(x[s] * x[t]):
                    product[cell] += x[s] * x[t]
                    square[cell] += 0.5 * (x[s] ** 2 + x[t] ** 2)
    return np.asarray(product / square)


@pytest.mark.parametrize("gaps", [(), (40, 41, 100)])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_autocorrelation_is_that_of_a_loop(gaps: tuple[int, ...], missing: float) -> None:
    whole = days(150, gaps=gaps)
    values = autoregressive(len(whole.steps), 0.7)
    values[np.random.default_rng(3).random(values.shape) < missing] = np.nan
    sums = resampled(persistence(scene_of(values[:, 0]), values, whole))
    found = lag_correlations(sums)[0]
    np.testing.assert_allclose(found, lag_by_loops(values, whole), rtol=1e-4)
    assert sums["lag_pairs"] == len(neighbours(whole))


def test_autocorrelation_of_an_autoregression_is_its_coefficient() -> None:
    whole = days(20 * 365)
    rough, smooth = (autoregressive(20 * 365, phi, members=1) for phi in (0.2, 0.5))
    season = 10.0 * np.sin(2 * np.pi * np.arange(20 * 365) / 365)[:, None, None]
    scene = scene_of(rough[:, 0])
    one, two = (
        resampled(over_units(persistence, scene, (x + season).astype(np.float32), whole))
        for x in (rough, smooth)
    )
    # The mean of a month of 30 days takes about (1 + phi)^2 / (1 - phi) / 30 away.
    np.testing.assert_allclose(lag_mean(scene, one), 0.2, atol=0.07)
    np.testing.assert_allclose(lag_mean(scene, two), 0.5, atol=0.12)
    exact = np.abs(lag_correlations(one) - lag_correlations(two)) @ scene.cell_areas
    np.testing.assert_allclose(lag_error(scene, one, two), exact, rtol=1e-12)
    assert 0.22 < lag_error(scene, one, two)[0] < 0.32
    assert lag_error(scene, one, one) == 0.0


def test_autocorrelation_of_few_days_or_of_a_constant_is_not_told() -> None:
    values = autoregressive(60, 0.5)
    scene = scene_of(values[:, 0])
    for count, told in ((30, False), (31, True)):
        sums = resampled(persistence(scene, values[:count], days(count)))
        assert np.isfinite(lag_mean(scene, sums))[0] == told
    constant = np.full_like(values, 273.15)
    assert np.isnan(lag_mean(scene, resampled(persistence(scene, constant, days(60))))).all()


def spells_by_loops(state: npt.NDArray[np.bool_], whole: Segments, areas: Floats) -> Floats:
    counts = np.zeros(LONGEST)
    for member, cell in itertools.product(range(state.shape[1]), range(CELLS)):
        run = 0
        for t in range(len(state)):
            follows = t > 0 and whole.number[t] == whole.number[t - 1] + 1
            if run and not (follows and state[t, member, cell]):
                counts[min(run, LONGEST) - 1] += areas[cell]
                run = 0
            run += int(state[t, member, cell])
        if run:
            counts[min(run, LONGEST) - 1] += areas[cell]
    return counts


@pytest.mark.parametrize("gaps", [(), (40, 41, 100)])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_spells_are_those_of_a_loop(gaps: tuple[int, ...], missing: float) -> None:
    whole = days(120, gaps=gaps)
    values = rain(len(whole.steps), missing=missing)
    scene = scene_of(values[:, 0], amounts=True)
    sums = spells(scene, values, whole)
    for name, state in (("wet", values >= WET), ("dry", values < WET)):
        expected = spells_by_loops(state, whole, scene.cell_areas)
        np.testing.assert_allclose(sums[f"spells_{name}"], expected, rtol=1e-12)
        held = state.sum(axis=(0, 1)) @ scene.cell_areas
        np.testing.assert_allclose(sums[f"spells_{name}_days"], held, rtol=1e-12)
        found = mean_length(scene, resampled(sums), name=name)
        np.testing.assert_allclose(found, held / expected.sum(), rtol=1e-12)
    np.testing.assert_array_equal(sums["wet_days"], (values >= WET).sum(axis=(0, 1)))
    np.testing.assert_array_equal(sums["known_days"], np.isfinite(values).sum(axis=(0, 1)))


def test_spells_above_the_95th_percentile_are_those_of_a_loop() -> None:
    whole, values = days(400), autoregressive(400, 0.8)
    scene = scene_of(values[:, 0])
    sums = spells(scene, values, whole.take(slice(0, 365)))
    assert set(sums) == {"spells_high", "spells_high_days"}
    sums = spells(scene, values, whole)
    expected = spells_by_loops(values > scene.tail[:, 0], whole, scene.cell_areas)
    np.testing.assert_allclose(sums["spells_high"], expected, rtol=1e-12)


def test_the_mean_length_of_long_spells_is_not_cut() -> None:
    values = np.zeros((300, MEMBERS, CELLS), dtype=np.float32)
    scene = scene_of(rain(300)[:, 0], amounts=True)
    sums = spells(scene, values, days(300))
    assert sums["spells_dry"][LONGEST - 1] == pytest.approx(MEMBERS)
    assert mean_length(scene, resampled(sums), name="dry")[0] == pytest.approx(300.0)
    assert np.isnan(mean_length(scene, resampled(sums), name="wet")).all()


def test_the_error_of_wet_days_is_that_of_numpy() -> None:
    reference, values = rain(200), rain(200, seed=1, missing=0.05)
    scene = scene_of(reference[:, 0], amounts=True)
    one, two = (resampled(spells(scene, x, days(200))) for x in (values, reference))
    shares = [
        (x >= WET).sum(axis=(0, 1)) / np.isfinite(x).sum(axis=(0, 1)) for x in (values, reference)
    ]
    exact = np.abs(shares[0] - shares[1]) @ scene.cell_areas
    np.testing.assert_allclose(wet_day_error(scene, one, two), exact, rtol=1e-12)
    none = resampled(spells(scene, np.full_like(values, np.nan), days(200)))
    assert np.isnan(wet_day_error(scene, none, two)).all()


@pytest.mark.parametrize(("name", "length"), [("five_day", 5), ("thirty_day", 30)])
def test_deviations_of_windows_are_those_of_loops(name: str, length: int) -> None:
    whole = days(400, gaps=(123,))
    values = autoregressive(len(whole.steps), 0.9)
    values[7, 1, 2] = np.nan
    scene = scene_of(values[:, 0])
    climatology = np.random.default_rng(5).normal(280.0, 5.0, size=(12, CELLS, 1))
    scene = replace(scene, climatology=climatology)
    found = deviations(resampled(windows(scene, values, whole)), name, 3)[0]
    away = values - climatology[whole.month].reshape(-1, 1, CELLS)
    starts = [*range(0, 123 - length + 1, length), *range(123, len(away) - length + 1, length)]
    means = np.array([away[s : s + length].mean(axis=0) for s in starts])
    centred = means - np.nanmean(means, axis=0)
    freedom = (np.isfinite(means).sum(axis=0) - 1).sum(axis=0)
    exact = np.sqrt(np.nansum(centred**2, axis=(0, 1)) / freedom)
    np.testing.assert_allclose(found, exact, rtol=1e-4)


def test_variability_is_right_of_members_alike_and_of_members_that_differ() -> None:
    reference = autoregressive(90, 0.5, members=1)
    scene = scene_of(reference[:, 0])
    same = np.repeat(reference, 8, axis=1)
    one, two = (resampled(windows(scene, x, days(90))) for x in (same, reference))
    found = deviation_ratio(scene, one, two, name="five_day", fewest=10)
    np.testing.assert_allclose(found, 1.0, rtol=1e-10)
    assert np.isnan(deviation_ratio(scene, one, two, name="thirty_day", fewest=10)).all()
    # Of short series, members with means of their own: no more and no less variable.
    members = autoregressive(60, 0.0, members=400)
    scene = scene_of(members[:, 0])
    exact = np.sqrt(members.reshape(12, 5, 400, CELLS).mean(axis=1).var(axis=0, ddof=1).mean(0))
    single = [
        deviations(resampled(windows(scene, members[:, [m]], days(60))), "five_day", 10) ** 2
        for m in range(400)
    ]
    np.testing.assert_allclose(np.sqrt(np.mean(single, axis=0))[0], exact, rtol=1e-4)
    np.testing.assert_allclose(exact, 3.0 / np.sqrt(5.0), rtol=0.05)


@pytest.mark.parametrize("statistic", UNITS)
@pytest.mark.parametrize("amounts", [False, True])
def test_sums_of_units_do_not_depend_on_their_order(statistic: object, amounts: bool) -> None:
    assert callable(statistic)
    whole = days(4 * 365)
    values = rain(4 * 365) if amounts else autoregressive(4 * 365, 0.5)
    scene = scene_of(values[:, 0], amounts=amounts)
    one = over_units(statistic, scene, values, whole)
    two = over_units(statistic, scene, values, whole, backwards=True)
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-12)


@pytest.mark.parametrize("statistic", UNITS)
def test_steps_that_are_not_days_have_no_structure_of_days(statistic: object) -> None:
    assert callable(statistic)
    values = rain(60)
    whole = replace(days(60), step_days=30.4)
    assert statistic(scene_of(values[:, 0], amounts=True), values, whole) == {}
