from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from climdown.arrays import Float32
from climdown.evaluation import coarse
from climdown.evaluation.histograms import quantiles
from climdown.evaluation.scene import Coarse, Scene
from climdown.evaluation.segments import Segments
from climdown.metrics import scores
from tests.scenes import (
    COARSE,
    assert_adds,
    days,
    of_steps,
    rain,
    resampled,
    scene_of,
    some_mask,
    weather,
    with_gaps,
)

YEARS = days(7 * 365)
MONTHS = days(120)


def case(part: Segments, *, amounts: bool = False, members: int = 2) -> tuple[Scene, Float32]:
    """A scene, and members whose coarse means have a gap."""
    make: Callable[..., Float32] = rain if amounts else weather
    mask = some_mask()
    values = with_gaps(make(part, members=members), mask)
    values[5, 0] = np.nan
    filled = np.nan_to_num(values[:, -1], nan=280.0)
    return scene_of(filled, part, mask=mask, amounts=amounts), values


def cells_of(scene: Scene) -> Coarse:
    assert scene.coarse is not None
    return scene.coarse


def given_to(scene: Scene, means: Float32, *, error: float = 0.5, seed: int = 2) -> Float32:
    """An input near the first member, with a gap, on all its cells."""
    noise = error * np.random.default_rng(seed).normal(size=(len(means), *COARSE.shape))
    given = np.nan_to_num(means[:, 0], nan=0.3) + noise
    given[7, 1] = np.nan
    return np.asarray(np.maximum(given, 0.0), dtype=np.float32)


@pytest.mark.parametrize("gaps", [0.0, 0.1])
def test_coarse_means_are_those_of_the_weights(gaps: float) -> None:
    values = with_gaps(weather(MONTHS, members=2), some_mask(), share=gaps)
    part = cells_of(scene_of(np.nan_to_num(values[:, 0], nan=280), MONTHS, mask=some_mask()))
    expected = np.where(part.areas > 0, part.weights.apply(values), np.nan)
    assert 0 < (part.areas > 0).sum() < part.areas.size
    found = part.means(values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=3e-7)
    np.testing.assert_allclose(part.means(values[3, 1]), expected[3, 1], rtol=3e-7)


def test_spreading_is_the_transpose_of_coarse_sums() -> None:
    part = cells_of(scene_of(weather(MONTHS)[:, 0], MONTHS))
    random = np.random.default_rng(1)
    fine, amounts = random.normal(size=(12, 16)), random.normal(size=(2, *COARSE.shape))
    expected = [(part.weights.apply(fine) * one).sum() for one in amounts]
    np.testing.assert_allclose((part.spread(amounts) * fine).sum(axis=(1, 2)), expected, rtol=1e-12)


@pytest.mark.parametrize("amounts", [False, True])
@pytest.mark.parametrize(
    "statistic",
    [*coarse.STEPS, *coarse.STEPS_OF_FINE, *coarse.STRETCHES, *coarse.UNITS],
    ids=lambda f: f.__name__,
)
def test_sums_do_not_depend_on_how_time_is_cut(
    statistic: Callable[..., dict[str, object]], amounts: bool
) -> None:
    scene, values = case(YEARS, amounts=amounts)
    means = cells_of(scene).means(values)
    given = given_to(scene, means)
    first = values if statistic in coarse.STEPS_OF_FINE else means
    assert_adds(
        lambda cut: statistic(scene, first[cut], given[cut], YEARS.take(cut)),  # type: ignore[arg-type, return-value]
        len(values),
        step=statistic in (*coarse.STEPS, *coarse.STEPS_OF_FINE),
    )


def test_differences_from_the_input_are_weighted_by_area() -> None:
    scene, values = case(MONTHS)
    means = cells_of(scene).means(values)
    given = given_to(scene, means)
    sums = of_steps(coarse.differences(scene, means, given, MONTHS))
    difference = means.astype(np.float64) - given[:, None]
    areas = cells_of(scene).areas
    expected = scores.weighted_mean(difference, areas)
    np.testing.assert_allclose(coarse.mean_difference(scene, sums), expected, rtol=1e-10)
    expected = np.sqrt(scores.weighted_mean(difference**2, areas))
    np.testing.assert_allclose(coarse.coarse_rmse(scene, sums), expected, rtol=1e-12)


def test_the_correlation_with_the_input_is_that_of_the_metric() -> None:
    scene, values = case(MONTHS, members=3)
    means = cells_of(scene).means(values)
    given = given_to(scene, means)
    areas = cells_of(scene).areas
    judged = areas > 0
    sums = resampled(coarse.products(scene, means, given, MONTHS))
    expected = scores.coarse_correlation(
        means.astype(np.float64)[..., judged], given.astype(np.float64)[..., judged], areas[judged]
    )
    np.testing.assert_allclose(coarse.coarse_correlation(scene, sums), expected, rtol=1e-9)


def test_drizzle_is_counted_where_the_input_is_dry() -> None:
    scene, values = case(MONTHS, amounts=True)
    part = cells_of(scene)
    given = given_to(scene, part.means(values), error=0.2)
    sums = of_steps(coarse.drizzle(scene, values, given, MONTHS))
    # Each coarse cell has 4 x 4 fine ones.
    dry = np.repeat(np.repeat((given < np.float32(0.1)) & (part.areas > 0), 4, 1), 4, 2)
    damp = np.where(np.isfinite(values), values >= np.float32(0.1), np.nan)
    damp = np.where(dry[:, None], damp, np.nan)
    assert 0.001 < np.nanmean(damp) < 0.999
    expected = scores.weighted_mean(damp, scene.grid.areas)
    np.testing.assert_allclose(coarse.drizzle_share(scene, sums), expected, rtol=1e-10)


def test_only_amounts_have_drizzle_and_wet_inputs_have_none() -> None:
    scene, values = case(MONTHS)
    given = given_to(scene, cells_of(scene).means(values))
    assert coarse.drizzle(scene, values, given, MONTHS) == {}
    scene, values = case(MONTHS, amounts=True)
    sums = of_steps(coarse.drizzle(scene, values, np.full_like(given, 5.0), MONTHS))
    assert np.isnan(coarse.drizzle_share(scene, sums)).all()


def rising(part: Segments, slope: float) -> Float32:
    return np.asarray(slope * part.years[:, None, None, None], dtype=np.float32)


def test_trends_are_slopes_of_least_squares() -> None:
    scene, values = case(YEARS)
    means = cells_of(scene).means(values + rising(YEARS, 0.3))
    given = given_to(scene, means)
    sums = resampled(coarse.trends(scene, means, given, YEARS))
    areas = cells_of(scene).areas.reshape(-1)
    judged = np.flatnonzero(areas)
    base = cells_of(scene).means(scene.base).reshape(12, -1)[YEARS.month]
    for i, cell in enumerate(judged):
        input_ = given.reshape(len(given), -1)[:, cell] - base[:, cell]
        series = means.reshape(*means.shape[:2], -1)[..., cell] - base[:, cell, None]
        known = np.isfinite(series) & np.isfinite(input_)[:, None]
        years = np.broadcast_to(YEARS.years[:, None], known.shape)[known]
        for name, x in (("output", series), ("input", np.repeat(input_[:, None], 2, 1))):
            expected = scipy.stats.linregress(years, x[known].astype(np.float64)).slope
            assert coarse.slopes(sums, name)[0, i] == pytest.approx(expected, rel=1e-7)


def test_a_trend_added_to_the_input_is_found() -> None:
    scene, values = case(YEARS)
    means = cells_of(scene).means(values)
    given = np.asarray(means[:, 1] + rising(YEARS, 0.5)[:, 0], dtype=np.float32)
    more = np.asarray(means[:, 1:] + rising(YEARS, 0.6), dtype=np.float32)
    sums = resampled(coarse.trends(scene, more, given, YEARS))
    assert coarse.trend_difference(scene, sums) == pytest.approx(0.1, abs=1e-4)
    own = coarse.slopes(sums, "input")[0] @ cells_of(scene).areas[cells_of(scene).areas > 0]
    assert coarse.trend_ratio(scene, sums) == pytest.approx((own + 0.1) / own, abs=1e-3)


def test_changes_of_quantiles_are_those_between_the_thirds() -> None:
    scene, values = case(YEARS, amounts=True)
    means = cells_of(scene).means(values)
    means[:, 1][YEARS.third == 2] *= np.float32(1.5)
    given = given_to(scene, means)
    sums = resampled(coarse.changes(scene, means, given, YEARS))
    levels = np.array([0.5, 0.8, 0.95])
    judged = cells_of(scene).areas.reshape(-1) > 0
    both = np.isfinite(means) & np.isfinite(given)[:, None]
    for name, x in (("output", means), ("input", np.repeat(given[:, None], 2, axis=1))):
        flat = np.where(both, x, np.nan).reshape(*x.shape[:2], -1)[..., judged]
        late, early = (
            np.nanquantile(flat[YEARS.third == third].reshape(-1, judged.sum()), levels, axis=0)
            for third in (2, 0)
        )
        found = coarse.quantile_changes(scene, sums, name, levels)[0]
        # Bins are about a tenth wide there.
        np.testing.assert_allclose(found, (late - early).T, atol=0.12)
        if name == "output":
            assert found[:, 2].min() > 1.0
    difference = coarse.change_difference(scene, sums, level=0.99)
    assert difference > 1.0


def test_changes_of_the_same_values_do_not_differ() -> None:
    scene, values = case(YEARS)
    means = cells_of(scene).means(values)[:, 1:]
    sums = resampled(coarse.changes(scene, means, means[:, 0], YEARS))
    for measure in coarse.MEASURES:
        if measure.name.startswith("change_difference"):
            np.testing.assert_allclose(measure.value(scene, sums), 0.0, atol=1e-12)


def test_few_years_tell_no_change() -> None:
    part = days(5 * 365)
    scene, values = case(part)
    means = cells_of(scene).means(values)
    given = given_to(scene, means)
    assert coarse.trends(scene, means, given, part) == {}
    assert coarse.changes(scene, means, given, part) == {}
    assert (part.third == -1).all()


def test_thirds_are_whole_units_and_years_are_those_of_the_calendar() -> None:
    assert np.unique(YEARS.third[:365]).tolist() == [0]
    counts = [len(np.unique(YEARS.unit[YEARS.third == third])) for third in range(3)]
    assert counts == [3, 2, 2]
    # The first day's middle is half a day after the beginning of 2001.
    starts = days(3).years
    np.testing.assert_allclose(starts, 1.0 + np.arange(3) / 365, atol=1e-12)


def test_no_more_than_some_coarse_cells_are_followed() -> None:
    scene, _ = case(MONTHS)
    assert coarse.followed(scene).tolist() == np.flatnonzero(cells_of(scene).areas).tolist()
    counts = np.zeros((1, 3, cells_of(scene).edges.shape[1] + 1))
    assert np.isnan(quantiles(counts, cells_of(scene).edges[:3], np.array([0.5]))).all()
