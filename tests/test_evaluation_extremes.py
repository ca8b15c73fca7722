"""Extremes of units against loops over days, and return levels against SciPy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import comb
from scipy.stats import genextreme

from climdown.evaluation.evaluate import evaluate
from climdown.evaluation.extremes import (
    MEASURES,
    UNITS,
    gev_level,
    index_bias,
    indices,
    l_moments,
    maxima,
    unit_means,
)
from climdown.evaluation.measure import Measure
from climdown.evaluation.request import Request
from climdown.evaluation.scene import WET, Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.time_structure import deviations
from tests.cells import Series, days, over_units, resampled, scene_of
from tests.factories import make_dataset

Floats = npt.NDArray[np.float64]
CELLS, MEMBERS, YEAR = 4, 2, 365


def rain(time: int, *, seed: int = 0, members: int = MEMBERS) -> Series:
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, 8.0, size=(time, members, CELLS)) - 1.0
    return np.maximum(values, 0.0).astype(np.float32)


def temperatures(time: int, *, seed: int = 0, members: int = MEMBERS) -> Series:
    rng = np.random.default_rng(seed)
    values = 280.0 + 4.0 * rng.normal(size=(time, members, CELLS))
    return values.astype(np.float32)


def named(name: str) -> Measure:
    return next(one for one in MEASURES if one.name == name)


def longest_run(state: npt.NDArray[np.bool_], number: npt.NDArray[np.int64]) -> int:
    longest = run = 0
    for t, held in enumerate(state):
        follows = t > 0 and number[t] == number[t - 1] + 1
        run = (run if follows else 0) + 1 if held else 0
        longest = max(longest, run)
    return longest


def index_by_loops(name: str, x: Floats, whole: Segments) -> float:
    number = whole.number
    if name == "rx5day":
        starts = [t for t in range(len(x) - 4) if number[t + 4] == number[t] + 4]
        return max(float(np.nan_to_num(x[t : t + 5].sum(), nan=0.0)) for t in starts)
    known = np.isfinite(x)
    return {
        "rx1day": lambda: float(np.nanmax(x)),
        "sdii": lambda: float(x[known & (x >= WET)].mean()),
        "cdd": lambda: float(longest_run(x < WET, number)),
        "cwd": lambda: float(longest_run(x >= WET, number)),
        "highest": lambda: float(np.nanmax(x)),
        "lowest": lambda: float(np.nanmin(x)),
    }[name]()


@pytest.mark.parametrize("gaps", [(), (40, 200)])
@pytest.mark.parametrize("missing", [0.0, 0.02])
@pytest.mark.parametrize("name", ["rx1day", "rx5day", "sdii", "cdd", "cwd", "highest", "lowest"])
def test_indices_are_those_of_loops(name: str, missing: float, gaps: tuple[int, ...]) -> None:
    amounts = name not in ("highest", "lowest")
    whole = days(YEAR, gaps=gaps)
    values = (rain if amounts else temperatures)(len(whole.steps))
    values[np.random.default_rng(1).random(values.shape) < missing] = np.nan
    sums = indices(scene_of(values[:, 0], amounts=amounts), values, whole)
    np.testing.assert_array_equal(sums["index_count"], MEMBERS)
    for cell in range(CELLS):
        expected = sum(
            index_by_loops(name, values[:, m, cell].astype(np.float64), whole)
            for m in range(MEMBERS)
        )
        np.testing.assert_allclose(sums[f"index_{name}"][cell], expected, rtol=1e-6)


def test_a_cell_that_misses_many_days_has_no_indices() -> None:
    values = rain(YEAR)
    values[:19, 0, 1] = np.nan  # more than 5 % of 365
    values[:18, 0, 2] = np.nan
    scene = scene_of(values[:, 1], amounts=True)
    found = [indices(scene, values, days(YEAR)), unit_means(scene, values, days(YEAR))]
    np.testing.assert_array_equal(found[0]["index_count"], [2, 1, 2, 2])
    np.testing.assert_array_equal(found[1]["unit_count"].sum(axis=0), [2, 1, 2, 2])
    counts = maxima(scene, values, days(YEAR))["maxima"]
    np.testing.assert_array_equal(counts.sum(axis=1), [2, 1, 2, 2])


@pytest.mark.parametrize("statistic", UNITS)
def test_a_year_that_is_cut_short_has_no_extremes(statistic: object) -> None:
    assert callable(statistic)
    whole = days(2 * YEAR + 100)
    values = rain(2 * YEAR + 100)
    scene = scene_of(values[:, 0], amounts=True)
    last = slice(2 * YEAR, None)
    assert statistic(scene, values[last], whole.take(last)) == {}
    assert statistic(scene, values[:YEAR], whole.take(slice(0, YEAR)))


def test_a_dry_year_has_spells_but_no_mean_of_wet_days() -> None:
    values = np.zeros((2 * YEAR, 1, CELLS), dtype=np.float32)
    values[YEAR:] = rain(YEAR, members=1)
    scene = scene_of(values[:, 0], amounts=True)
    sums = over_units(indices, scene, values, days(2 * YEAR))
    np.testing.assert_array_equal(sums["index_count"], 2)
    np.testing.assert_array_equal(sums["index_sdii_count"], 1)


def test_biases_are_differences_of_means_over_years() -> None:
    reference, values = rain(3 * YEAR), rain(3 * YEAR, seed=1) * np.float32(1.5)
    scene, whole = scene_of(reference[:, 0], amounts=True), days(3 * YEAR)
    one, two = (resampled(over_units(indices, scene, x, whole)) for x in (values, reference))
    yearly = [
        x.reshape(3, YEAR, MEMBERS, CELLS).max(axis=1).mean(axis=(0, 1))
        for x in (values, reference)
    ]
    found = index_bias(scene, one, two, name="rx1day")
    np.testing.assert_allclose(found, (yearly[0] - yearly[1]) @ scene.cell_areas, rtol=1e-5)


def test_steps_that_are_not_days_have_no_indices_of_rain() -> None:
    values = rain(60)
    whole = replace(days(60), step_days=30.4)
    assert set(indices(scene_of(values[:, 0], amounts=True), values, whole)) == {"index_count"}


@pytest.mark.parametrize(("years", "told"), [(4, False), (6, True)])
def test_changes_from_year_to_year_are_those_of_numpy(years: int, told: bool) -> None:
    values = temperatures(years * YEAR)
    values += np.repeat(np.random.default_rng(2).normal(size=years), YEAR)[:, None, None]
    scene = scene_of(values[:, 0])
    sums = resampled(over_units(unit_means, scene, values.astype(np.float32), days(years * YEAR)))
    yearly = values.reshape(years, YEAR, MEMBERS, CELLS).mean(axis=1, dtype=np.float64)
    exact = np.sqrt(yearly.var(axis=0, ddof=1).mean(axis=0))
    found = deviations(sums, "unit", 5)[0]
    np.testing.assert_allclose(found, exact if told else np.nan, rtol=1e-4)
    ratio = named("interannual_variability").value(scene, sums, sums)
    np.testing.assert_allclose(ratio, 1.0 if told else np.nan)


def test_l_moments_are_those_of_the_sorted_sample() -> None:
    rng = np.random.default_rng(0)
    middles = np.sort(rng.normal(size=40))
    counts = rng.integers(0, 4, size=40).astype(np.float64)
    sample = np.repeat(middles, counts.astype(int))
    n = len(sample)
    # Hosking (1990), equation 2.4 ff.: b_r = mean of C(j - 1, r) / C(n - 1, r) x_(j).
    b = [np.mean(comb(np.arange(n), r) / comb(n - 1, r) * sample) for r in range(3)]
    scale = 2 * b[1] - b[0]
    expected = (b[0], scale, (6 * b[2] - 6 * b[1] + b[0]) / scale)
    np.testing.assert_allclose(l_moments(counts, middles), expected, rtol=1e-10)
    assert np.isnan(l_moments(np.array([1.0, 1.0]), np.array([0.0, 1.0]))[0])


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.15, 0.4])
@pytest.mark.parametrize(("period", "rtol"), [(10, 1e-4), (20, 1e-4), (500, 1.3e-3)])
def test_return_levels_are_those_of_scipy(shape: float, period: int, rtol: float) -> None:
    law = genextreme(shape, loc=30.0, scale=4.0)
    grid = (np.arange(200_000) + 0.5) / 200_000
    x = law.ppf(grid)
    b = [np.mean(x * grid**r) for r in range(3)]
    scale = 2 * b[1] - b[0]
    moments = (np.array(b[0]), np.array(scale), np.array((6 * b[2] - 6 * b[1] + b[0]) / scale))
    # The approximation of the shape is good to 9e-4 (Hosking, Wallis & Wood 1985).
    np.testing.assert_allclose(gev_level(*moments, period), law.ppf(1 - 1 / period), rtol=rtol)


@pytest.mark.parametrize(("years", "told"), [(9, False), (30, True)])
def test_the_error_of_return_levels_is_that_of_the_sample(years: int, told: bool) -> None:
    reference, values = temperatures(years * YEAR), temperatures(years * YEAR, seed=1)
    values = np.asarray(values * np.float32(1.01))
    scene, whole = scene_of(reference[:, 0]), days(years * YEAR)
    sums = [resampled(over_units(maxima, scene, x, whole)) for x in (values, reference)]
    found = named("return_level_10_error").value(scene, *sums)
    if not told:
        assert np.isnan(found).all()
        return
    exact = np.abs(np.subtract(*(levels_of_maxima(x, years) for x in (values, reference))))
    np.testing.assert_allclose(found, exact @ scene.cell_areas, rtol=0.05)


def levels_of_maxima(values: Series, years: int) -> Floats:
    highest = values.reshape(years, YEAR, MEMBERS, CELLS).max(axis=1).reshape(-1, CELLS)
    ones = np.ones(len(highest))
    found = [
        gev_level(*l_moments(ones, np.sort(highest[:, c]).astype(float)), 10) for c in range(CELLS)
    ]
    return np.array(found)


def test_return_levels_are_of_at_most_256_cells() -> None:
    values = np.random.default_rng(0).normal(size=(YEAR, 1, 700)).astype(np.float32)
    scene: Scene = scene_of(values[:, 0])
    sums = maxima(scene, values, days(YEAR))
    assert sums["maxima"].shape == (256, scene.bins)
    assert sums["maxima"].dtype == np.uint32
    highest = np.argmax(sums["maxima"], axis=1)
    chosen = np.linspace(0, 699, 256).round().astype(int)
    edges = np.take_along_axis(scene.edges[chosen], highest[:, None] - 1, axis=1)[:, 0]
    np.testing.assert_array_equal(values[:, 0, chosen].max(axis=0) >= edges, True)


@pytest.mark.parametrize("statistic", UNITS)
@pytest.mark.parametrize("amounts", [False, True])
def test_sums_of_units_do_not_depend_on_their_order(statistic: object, amounts: bool) -> None:
    assert callable(statistic)
    whole = days(4 * YEAR)
    values = (rain if amounts else temperatures)(4 * YEAR)
    scene = scene_of(values[:, 0], amounts=amounts)
    one = over_units(statistic, scene, values, whole)
    two = over_units(statistic, scene, values, whole, backwards=True)
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-12)


def test_scores_of_many_years_are_kept_by_ten_spans(tmp_path: Path) -> None:
    years = 12
    noise = {n: temperatures(years * YEAR, seed=i) for i, n in enumerate(("output", "reference"))}
    noise["output"][:, 0] *= np.linspace(1.0, 1.02, years * YEAR)[:, None].astype(np.float32)
    for name, values in noise.items():
        make_dataset(
            path=tmp_path / f"{name}.nc",
            lat=(40.0, 41.0),
            lon=(0.0, 1.0),
            times=[day + 0.5 for day in range(years * YEAR)],
            calendar="noleap",
            values=lambda y, x, step, values=values: values[step, 0].reshape(2, 2),  # type: ignore[misc]
        )
    request = Request(
        outputs={"a": (str(tmp_path / "output.nc"),)}, reference=(str(tmp_path / "reference.nc"),)
    )
    evaluation = evaluate(request, tmp_path / "states")
    assert evaluation is not None
    score = {s.measure: s for s in evaluation.scores}["highest_bias"]
    highest = [
        noise[n][:, 0].reshape(years, YEAR, 4).max(axis=1).mean(axis=0)
        for n in ("output", "reference")
    ]
    exact = (highest[0] - highest[1]) @ evaluation.plan.scenes["tas"].areas.reshape(-1)
    assert score.value is not None
    assert score.value == pytest.approx(exact, rel=1e-4)
    assert score.segments == 10
    assert score.low is not None
    assert score.high is not None
    assert score.low < score.value < score.high
