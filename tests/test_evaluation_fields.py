from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from climdown.arrays import Float32
from climdown.evaluation import fields, maps
from climdown.evaluation.histograms import bin_counts, merged, quantiles, shift_distance
from climdown.evaluation.scene import Scene
from climdown.grid import Grid
from climdown.metrics import cells, scores
from tests.scenes import (
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

PART = days(400)
MASK = some_mask()


@pytest.fixture(scope="module")
def truth() -> Float32:
    return with_gaps(weather(PART, seed=1), MASK, share=0.02)


@pytest.fixture(scope="module")
def members() -> Float32:
    return with_gaps(weather(PART, members=3, seed=2) + np.float32(0.7), MASK, share=0.02)


@pytest.fixture(scope="module")
def scene(truth: Float32) -> Scene:
    return scene_of(np.nan_to_num(truth[:, 0], nan=280.0), PART, mask=MASK)


@pytest.mark.parametrize("statistic", [*fields.STEPS, *fields.STRETCHES])
@pytest.mark.parametrize("amounts", [False, True])
def test_sums_do_not_depend_on_how_time_is_cut(statistic: object, amounts: bool) -> None:
    values = with_gaps(rain(PART, members=2), MASK, share=0.1)
    scene = scene_of(values[:, 0], PART, mask=MASK, amounts=amounts)
    assert_adds(
        lambda cut: statistic(scene, values[cut], PART.take(cut)),  # type: ignore[operator]
        len(values),
        step=statistic in fields.STEPS,
    )


def test_means_are_those_of_xarray(scene: Scene, members: Float32) -> None:
    sums = of_steps(fields.means(scene, members, PART))
    array = xr.DataArray(members.astype(np.float64), dims=("time", "member", "y", "x"))
    areas = xr.DataArray(scene.areas, dims=("y", "x"))
    expected = array.weighted(areas).mean()
    np.testing.assert_allclose(fields.domain_mean(scene, sums), expected, rtol=1e-13)
    months = [array[PART.month == month].weighted(areas).mean().item() for month in range(12)]
    np.testing.assert_allclose(maps.seasonal_cycle(sums)[0], months, rtol=1e-13)


def test_maps_are_those_of_numpy(scene: Scene, members: Float32) -> None:
    sums = resampled(fields.moments(scene, members, PART))
    pooled = members.reshape(-1, *MASK.shape).astype(np.float64)
    expected = cells.mean_by_cell(pooled)
    np.testing.assert_allclose(maps.mean_map(sums)[0], expected, rtol=1e-13)
    away = (members - scene.climatology[PART.month][:, None]).reshape(-1, *MASK.shape)
    deviations = cells.deviation_by_cell(away)
    np.testing.assert_allclose(maps.deviation_map(sums)[0], deviations, rtol=1e-10)
    rows = [
        scores.weighted_mean(row, area) for row, area in zip(expected, scene.areas, strict=True)
    ]
    np.testing.assert_allclose(maps.zonal_mean(scene, maps.mean_map(sums))[0], rows, rtol=1e-13)


def test_a_month_without_climatology_keeps_the_others(truth: Float32, scene: Scene) -> None:
    late = days(400, start=(2001, 4, 1))
    january = scene_of(np.nan_to_num(truth[:20, 0], nan=280.0), days(20), mask=MASK)
    sums = resampled(fields.moments(january, truth, late))
    expected = cells.mean_by_cell(truth[:, 0].astype(np.float64))
    np.testing.assert_allclose(maps.mean_map(sums)[0], expected, rtol=1e-12)
    assert np.isfinite(maps.deviation_map(sums)[0][MASK]).all()


def test_errors_of_means_and_deviations(scene: Scene, truth: Float32, members: Float32) -> None:
    ours, theirs = (resampled(fields.moments(scene, x, PART)) for x in (members, truth))
    one, two = (cells.mean_by_cell(x.reshape(-1, *MASK.shape)) for x in (members, truth))
    expected = scores.mean_absolute_error(one, two, scene.areas)
    np.testing.assert_allclose(fields.mean_error(scene, ours, theirs), expected, rtol=1e-4)
    rows = [np.average(np.nan_to_num(x), axis=1, weights=MASK + 0.0) for x in (one, two)]
    zonal = np.average(np.abs(rows[0] - rows[1]), weights=scene.areas.sum(axis=1))
    np.testing.assert_allclose(fields.zonal_error(scene, ours, theirs), zonal, rtol=1e-3)


def test_doubled_departures_have_twice_the_deviation(scene: Scene, truth: Float32) -> None:
    climatology = scene.climatology[PART.month][:, None]
    doubled = np.asarray(climatology + 2.0 * (truth - climatology), dtype=np.float32)
    ours, theirs = (resampled(fields.moments(scene, x, PART)) for x in (doubled, truth))
    np.testing.assert_allclose(fields.deviation_ratio(scene, ours, theirs), 2.0, rtol=1e-6)
    mean = maps.area_mean(scene, maps.deviation_map(theirs))
    np.testing.assert_allclose(fields.deviation_error(scene, ours, theirs), mean, rtol=1e-6)


def test_a_shift_is_the_bias_and_the_error_of_each_month(scene: Scene, truth: Float32) -> None:
    ours, theirs = (
        of_steps(fields.means(scene, x, PART)) for x in (truth + np.float32(1.5), truth)
    )
    np.testing.assert_allclose(fields.bias(scene, ours, theirs), 1.5, rtol=1e-6)
    np.testing.assert_allclose(fields.season_error(scene, ours, theirs), 1.5, rtol=1e-6)


def test_months_that_one_source_lacks_have_no_error(scene: Scene, truth: Float32) -> None:
    january = slice(0, 31)
    warm = truth[january] + np.float32(2)
    ours = of_steps(fields.means(scene, warm, PART.take(january)))
    year = slice(0, 365)
    theirs = of_steps(fields.means(scene, truth[year], PART.take(year)))
    np.testing.assert_allclose(fields.season_error(scene, ours, theirs), 2.0, rtol=1e-6)


def test_shares_of_wet_days_are_weighted_by_area() -> None:
    values = with_gaps(rain(PART, members=3), MASK, share=0.1)
    values[0, 0, 0, 0] = np.float32(1.0)  # wet days begin with it
    scene = scene_of(values[:, 0], PART, mask=MASK, amounts=True)
    sums = of_steps(fields.means(scene, values, PART) | fields.rain(scene, values, PART))
    known = np.isfinite(values)
    for share, least in ((fields.wet_share, 1.0), (fields.damp_share, 0.1)):
        wet = np.where(known, values >= np.float32(least), np.nan)
        expected = scores.weighted_mean(wet, scene.areas)
        np.testing.assert_allclose(share(scene, sums), expected, rtol=1e-12)
    assert fields.rain(scene_of(values[:, 0], PART, mask=MASK), values, PART) == {}


@pytest.mark.parametrize(
    "grid",
    [
        Grid.regular(40.0, 43.0, -5.0, -1.0, 0.25),
        # Columns of two widths.
        Grid(
            lat=np.array([40.0, 41.0, 42.5]),
            lon=np.array([0.5, 1.5, 3.0, 5.0]),
            lat_edges=np.array([39.5, 40.5, 41.5, 43.5]),
            lon_edges=np.array([0.0, 1.0, 2.0, 4.0, 6.0]),
        ),
    ],
)
def test_pooled_counts_are_a_weighted_histogram(grid: Grid) -> None:
    part, mask = days(50), some_mask(grid=grid)
    values = with_gaps(rain(part, members=2, grid=grid), mask, share=0.1)
    scene = scene_of(values[:, 0], part, grid=grid, mask=mask, amounts=True)
    counts = fields.marginal(scene, values, part)["pooled"]
    ends = np.concatenate([[-np.inf], scene.pooled, [np.inf]])
    known = np.isfinite(values)
    weights = np.broadcast_to(scene.areas, values.shape)[known]
    # Values on an edge belong to the bin above it.
    place = np.searchsorted(ends, values[known].astype(np.float64), side="right") - 1
    expected = np.bincount(place, weights=weights, minlength=len(ends) - 1)
    np.testing.assert_allclose(counts, expected, rtol=1e-12, atol=1e-15)


def test_missing_and_infinite_values_are_in_no_bin() -> None:
    rows = np.array([[np.nan, 1.0, -np.inf, 3.0], [np.inf, 2.0, 2.0, -5.0]], dtype=np.float32)
    edges = np.array([0.0, 2.0])
    np.testing.assert_array_equal(bin_counts(rows, edges), [[0, 1, 1], [1, 0, 2]])
    by_row = bin_counts(rows, np.array([[0.0, 2.0], [2.0, 9.0]]))
    np.testing.assert_array_equal(by_row, [[0, 1, 1], [1, 2, 0]])


def test_quantiles_of_bins_approach_those_of_the_values() -> None:
    values = np.random.default_rng(0).normal(size=(3, 50_000)).astype(np.float32)
    edges = np.linspace(-5, 5, 401)
    levels = np.array([0.0, 0.01, 0.25, 0.5, 0.99, 1.0])
    found = quantiles(bin_counts(values, edges), edges, levels)
    expected = np.quantile(values, levels, axis=1).T
    np.testing.assert_allclose(found, expected, atol=10 / 400)
    assert np.isnan(quantiles(np.zeros((1, 4)), np.arange(3.0), levels)).all()


def test_bins_are_merged_to_equal_shares_and_nothing_is_lost() -> None:
    theirs = np.array([[0.0, 5.0, 1.0, 0.0, 1.0, 1.0, 0.0]])
    ours = np.array([[2.0, 0.0, 1.0, 1.0, 1.0, 0.0, 3.0]])
    q, p = merged(ours, theirs, bins=4)
    # 5 of 8 in the first, then one each: they begin at 5/8, 6/8 and 7/8.
    np.testing.assert_allclose(p, [[5 / 8, 0, 1 / 8, 2 / 8]])
    np.testing.assert_allclose(q, [[2 / 8, 0, 1 / 8, 5 / 8]])


def test_the_divergence_of_two_normals_is_the_closed_form() -> None:
    edges = np.linspace(-8, 8, 4001)
    shares = [np.diff(scipy.stats.norm(m, 1).cdf(edges), prepend=0, append=1) for m in (0.3, 0)]
    ours, theirs = ({"pooled": x[None]} for x in shares)
    scene = scene_of(weather(PART)[:, 0], PART)
    # m^2 / 2, less what 64 bins and the thousandth that is spread leave out of it.
    np.testing.assert_allclose(fields.divergence(scene, ours, theirs), 0.3**2 / 2, rtol=0.02)
    # Total variation of normals: 2 Phi(m / 2) - 1.
    expected = 2 * scipy.stats.norm.cdf(0.15) - 1
    np.testing.assert_allclose(fields.histogram_error(scene, ours, theirs), expected, rtol=0.01)
    assert fields.divergence(scene, theirs, theirs) == pytest.approx(0.0, abs=1e-12)
    nothing = {"pooled": np.zeros_like(ours["pooled"])}
    assert np.isnan(fields.divergence(scene, nothing, theirs)).all()
    assert np.isnan(fields.histogram_error(scene, ours, nothing)).all()


def test_values_beyond_the_reference_leave_the_divergence_finite() -> None:
    far, near = np.zeros((1, 100)), np.zeros((1, 100))
    far[0, 90:], near[0, :80] = 1.0, 1.0
    scene = scene_of(weather(PART)[:, 0], PART)
    found = fields.divergence(scene, {"pooled": far}, {"pooled": near})
    assert np.isfinite(found).all()
    assert found > 4.0


def test_the_distance_of_two_histograms_is_wasserstein_1() -> None:
    random = np.random.default_rng(4)
    a, b = random.normal(0, 1, 4000), random.normal(0.4, 1.5, 3000)
    width = 0.05
    edges = np.arange(-12, 12 + width, width)
    one, two = (np.histogram(x, edges)[0].astype(np.float64) for x in (a, b))
    expected = scipy.stats.wasserstein_distance(a, b)
    assert shift_distance(one, two, width) == pytest.approx(expected, rel=0.01)


def test_a_source_without_values_has_no_measures(scene: Scene) -> None:
    nothing = np.full((len(PART.steps), 1, *MASK.shape), np.nan, dtype=np.float32)
    steps = of_steps(fields.means(scene, nothing, PART))
    stretch = resampled(fields.moments(scene, nothing, PART))
    assert np.isnan(fields.domain_mean(scene, steps)).all()
    for measure in (fields.mean_error, fields.deviation_ratio, fields.zonal_error):
        assert np.isnan(measure(scene, stretch, stretch)).all()
    assert np.isnan(fields.season_error(scene, steps, steps)).all()
