"""Histograms of cells, and what is read from them, against NumPy and SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
from scipy.stats import wasserstein_distance

from climdown.evaluation.bins import bin_edges, quantile
from climdown.evaluation.evaluate import evaluate
from climdown.evaluation.quantiles import (
    heavy_days,
    histograms,
    over_cells,
    quantile_error,
    quantiles_by_cell,
    wasserstein,
)
from climdown.evaluation.request import Request
from climdown.evaluation.scene import Scene
from tests.cells import Series, days, resampled, scene_of
from tests.factories import make_dataset, shared_data

Floats = npt.NDArray[np.float64]
LEVELS = (0.05, 0.5, 0.95, 0.99)
CELLS = 7


def temperatures(time: int, members: int = 1, *, seed: int = 0) -> Series:
    rng = np.random.default_rng(seed)
    values = 280.0 + np.arange(CELLS) + 5.0 * rng.normal(size=(time, members, CELLS))
    return values.astype(np.float32)


def rain(time: int, members: int = 1, *, seed: int = 0) -> Series:
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(0.6, 8.0, size=(time, members, CELLS)) + 0.1
    return np.where(rng.random(amounts.shape) < 0.6, 0.0, amounts).astype(np.float32)


def counts(scene: Scene, values: Series) -> Floats:
    return resampled(histograms(scene, values, days(len(values))))["histogram"]


def binned_within(scene: Scene, found: Floats, values: Series, level: float) -> None:
    """Each order statistic lies in the bin in which it was counted, so no error is wider."""
    flat = values.reshape(-1, values.shape[-1])
    for cell in range(flat.shape[1]):
        ordered = np.sort(flat[:, cell][np.isfinite(flat[:, cell])]).astype(np.float64)
        place = level * (len(ordered) - 1)
        both = ordered[[int(np.floor(place)), int(np.ceil(place))]]
        edges = np.concatenate([[-np.inf], scene.edges[cell].astype(np.float64), [np.inf]])
        bins = np.searchsorted(edges, both, side="right")
        widest = (edges[bins] - edges[bins - 1]).max()
        assert np.isfinite(widest)
        assert abs(found[cell] - np.quantile(ordered, level)) <= widest + 1e-6


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("make", [temperatures, rain])
@pytest.mark.parametrize(("time", "members"), [(90, 1), (90, 8), (3000, 2)])
def test_quantiles_are_those_of_numpy_within_a_bin(
    make: object, time: int, members: int, level: float
) -> None:
    assert callable(make)
    reference, values = make(time), make(time, members, seed=1)
    scene = scene_of(reference[:, 0])
    found = quantiles_by_cell(scene, counts(scene, values), level)[0]
    binned_within(scene, found, values, level)


def test_counts_are_those_of_a_loop_and_leave_out_missing_values() -> None:
    values = temperatures(200, 3, seed=1)
    values[np.random.default_rng(2).random(values.shape) < 0.1] = np.nan
    scene = scene_of(temperatures(100)[:, 0])
    found = histograms(scene, values, days(200))["histogram"]
    assert found.dtype == np.uint32
    for cell in range(CELLS):
        some = values[..., cell][np.isfinite(values[..., cell])]
        bins = np.searchsorted(scene.edges[cell], some, side="right")
        inside = ~np.isin(some, scene.edges[cell])
        expected = np.bincount(bins[inside], minlength=scene.bins)
        assert inside.all()
        np.testing.assert_array_equal(found[cell], expected)


def test_counts_add_however_time_is_cut() -> None:
    values, scene = rain(101, 2), scene_of(rain(90)[:, 0])
    whole = counts(scene, values)
    parts = counts(scene, values[:33]) + counts(scene, values[33:34]) + counts(scene, values[34:])
    np.testing.assert_array_equal(whole, parts)


def test_dry_days_have_a_median_of_exactly_nothing() -> None:
    scene = scene_of(rain(300)[:, 0], amounts=True)
    assert (quantiles_by_cell(scene, counts(scene, rain(300)), 0.5) == 0.0).all()


@pytest.mark.parametrize(("shift", "rtol"), [(0.5, 0.03), (3.0, 0.01), (40.0, 0.1)])
def test_a_shift_is_the_error_of_all_quantiles_and_the_distance(shift: float, rtol: float) -> None:
    reference = temperatures(2000)
    scene = scene_of(reference[:, 0])
    theirs = {"histogram": counts(scene, reference)}
    ours = {"histogram": counts(scene, reference + np.float32(shift))}
    for level in LEVELS:
        found = quantile_error(scene, ours, theirs, level=level)
        np.testing.assert_allclose(found, shift, rtol=rtol)
    np.testing.assert_allclose(wasserstein(scene, ours, theirs), shift, rtol=rtol)
    for level in LEVELS:
        assert quantile_error(scene, theirs, theirs, level=level) == 0.0
    assert wasserstein(scene, theirs, theirs) == 0.0


@pytest.mark.parametrize("make", [temperatures, rain])
def test_distances_are_those_of_scipy(make: object) -> None:
    assert callable(make)
    reference, values = make(1000), (1.02 * make(1000, 4, seed=1)).astype(np.float32)
    scene = scene_of(reference[:, 0])
    found = wasserstein(
        scene,
        {"histogram": counts(scene, values)},
        {"histogram": counts(scene, reference)},
    )
    exact = [
        wasserstein_distance(values[..., i].ravel(), reference[..., i].ravel())
        for i in range(CELLS)
    ]
    np.testing.assert_allclose(found[0], np.array(exact) @ scene.cell_areas, rtol=0.01)


def test_distances_are_exact_where_distributions_cross_within_a_bin() -> None:
    scene = scene_of(temperatures(90)[:, 0])
    rng = np.random.default_rng(0)
    one, two = (np.zeros((1, CELLS, scene.bins)) for _ in range(2))
    for x in (one, two):
        x[0, :, 40:50] = rng.integers(0, 9, size=(CELLS, 10))
    exact = []
    for cell in range(CELLS):
        edges = scene.edges[cell].astype(np.float64)
        x = np.linspace(edges[38], edges[50], 400_001)
        shares = [np.append(0, np.cumsum(c[0, cell])[1:-1]) / c[0, cell].sum() for c in (one, two)]
        gap = np.abs(np.interp(x, edges, shares[0]) - np.interp(x, edges, shares[1]))
        exact.append(gap.mean() * (x[-1] - x[0]))
    found = wasserstein(scene, {"histogram": one}, {"histogram": two})
    np.testing.assert_allclose(found[0], np.array(exact) @ scene.cell_areas, rtol=1e-4)


def test_days_above_the_observed_p99_are_counted() -> None:
    reference, values = temperatures(5000), temperatures(5000, 2, seed=1) + np.float32(2.0)
    scene = scene_of(reference[:, 0])
    found = heavy_days(
        scene, {"histogram": counts(scene, values)}, {"histogram": counts(scene, reference)}
    )
    threshold = np.quantile(reference[:, 0], 0.99, axis=0)
    shares = [(x > threshold).mean(axis=(0, 1)) @ scene.cell_areas for x in (values, reference)]
    np.testing.assert_allclose(found[0], shares[0] / shares[1], rtol=0.03)


@pytest.mark.parametrize(("time", "level"), [(9, 0.5), (49, 0.99), (0, 0.5)])
def test_too_few_days_tell_no_quantile(time: int, level: float) -> None:
    scene = scene_of(temperatures(90)[:, 0])
    few = np.full((max(time, 1), 1, CELLS), np.nan, dtype=np.float32)
    few[:time] = temperatures(90)[:time]
    sums = {"histogram": counts(scene, few)}
    assert np.isnan(quantile_error(scene, sums, sums, level=level)).all()
    enough = {"histogram": counts(scene, temperatures(time + 1 if time else 10))}
    assert np.isfinite(quantile_error(scene, enough, enough, level=level)).all()
    if time < 10:
        assert np.isnan(wasserstein(scene, sums, sums)).all()


def test_cells_without_values_are_left_out_of_means() -> None:
    scene = scene_of(temperatures(90)[:, 0])
    values = np.arange(2.0 * CELLS).reshape(2, CELLS)
    values[1, 1:] = np.nan
    found = over_cells(scene, values)
    np.testing.assert_allclose(found, [values[0] @ scene.cell_areas, values[1, 0]])
    assert np.isnan(over_cells(scene, np.full((1, CELLS), np.nan))).all()


def test_quantiles_of_the_region_are_means_of_those_of_cells() -> None:
    values = temperatures(4000)
    scene = scene_of(values[:, 0])
    levels = np.array([0.1, 0.5, 0.9])
    found = [
        over_cells(scene, quantiles_by_cell(scene, counts(scene, values), p))[0] for p in levels
    ]
    exact = np.quantile(values[:, 0].astype(np.float64), levels, axis=0) @ scene.cell_areas
    np.testing.assert_allclose(found, exact, atol=0.05)


@pytest.mark.parametrize(
    "series",
    [
        rain(400)[:, 0],
        temperatures(90)[:, 0],
        np.zeros((50, 2), dtype=np.float32),
        np.full((50, 2), 273.15, dtype=np.float32),
        np.full((50, 2), np.nan, dtype=np.float32),
        temperatures(1)[:, 0],
    ],
    ids=["rain", "temperature", "dry", "constant", "missing", "one day"],
)
def test_edges_ascend(series: Series) -> None:
    edges = bin_edges(series)
    assert np.isfinite(edges).all()
    assert (np.diff(edges.astype(np.float64), axis=1) > 0).all()


def test_edges_reach_beyond_what_was_seen() -> None:
    series = temperatures(1000)[:, 0]
    edges, spread = bin_edges(series), series.max(axis=0) - series.min(axis=0)
    assert (edges[:, -1] > series.max(axis=0) + 2 * spread).all()
    assert (edges[:, 0] < series.min(axis=0) - 2 * spread).all()


def test_quantiles_along_the_first_axis_are_those_of_numpy() -> None:
    values = temperatures(41)[:, 0]
    values[:7, 2] = np.nan
    values[:, 4] = np.nan
    found = quantile(values, 0.95)
    assert np.isnan(found[4])
    known = np.arange(CELLS) != 4
    exact = np.nanquantile(values[:, known].astype(np.float64), 0.95, axis=0)
    np.testing.assert_allclose(found[known], exact, rtol=1e-7)


@pytest.mark.data
@pytest.mark.parametrize("name", ["tas", "pr"])
@pytest.mark.parametrize("time", [90, 316])
def test_the_error_of_p99_of_real_winters_is_within_two_percent(name: str, time: int) -> None:
    path = shared_data() / "iberia" / f"{name}_day_E-OBS_025deg_19901201-19970228.nc"
    fields = xr.open_dataset(path)[name].values
    series = fields[:, np.isfinite(fields).all(axis=0)].astype(np.float32)
    reference, values = series[:time, None], series[-time:, None]
    scene = scene_of(reference[:, 0])
    found = quantile_error(
        scene,
        {"histogram": counts(scene, values)},
        {"histogram": counts(scene, reference)},
        level=0.99,
    )
    one, two = (np.quantile(x[:, 0].astype(np.float64), 0.99, axis=0) for x in (values, reference))
    np.testing.assert_allclose(found[0], np.abs(one - two) @ scene.cell_areas, rtol=0.02)


def test_scores_are_of_all_cells_and_their_intervals_lie_about_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = {name: rng.normal(size=(80, 20, 20)) for name in ("reference", "output")}
    lat, lon = np.arange(20.0), np.arange(20.0)
    for name, values in noise.items():
        make_dataset(
            path=tmp_path / f"{name}.nc",
            lat=lat,
            lon=lon,
            times=[day + 0.5 for day in range(80)],
            values=lambda y, x, step, values=values: 280.0 + values[step],  # type: ignore[misc]
        )
    request = Request(
        outputs={"a": (str(tmp_path / "output.nc"),)},
        reference=(str(tmp_path / "reference.nc"),),
        pairing="paired",
    )
    evaluation = evaluate(request, tmp_path / "states")
    assert evaluation is not None
    score = {s.measure: s for s in evaluation.scores}["p95_error"]
    one, two = (
        np.quantile((280.0 + noise[n]).astype(np.float32).astype(float), 0.95, axis=0)
        for n in ("output", "reference")
    )
    exact = (np.abs(one - two) * evaluation.plan.scenes["tas"].areas).sum()
    assert score.value is not None
    assert score.low is not None
    assert score.high is not None
    np.testing.assert_allclose(score.value, exact, rtol=0.02)
    assert 0.0 <= score.low < score.value < score.high < 2.0 * score.value
