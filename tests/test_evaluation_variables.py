from __future__ import annotations

import itertools

import numpy as np
import ot
import pytest

from climdown.arrays import Float32
from climdown.evaluation import joint, variables
from climdown.evaluation.maps import pearson
from climdown.evaluation.scene import Scene
from climdown.metrics import cells, scores
from tests.scenes import assert_adds, days, rain, resampled, scene_of, some_mask, weather, with_gaps

PART = days(250)
FIRST, SECOND = some_mask(3), some_mask(4)


def series_of(scene: Scene, values: Float32) -> Float32:
    return np.take(values.reshape(*values.shape[:2], -1), scene.cells, axis=-1)


def two(*, members: int = 2, seed: int = 0) -> tuple[dict[str, Scene], dict[str, Float32]]:
    """Temperature, and rain that is heavier on cold days, on two masks."""
    warm = with_gaps(weather(PART, members=members, seed=seed), FIRST, share=0.02)
    cold = np.nan_to_num(280 - weather(PART, members=members, seed=seed))
    wet = with_gaps(
        np.maximum(rain(PART, members=members, seed=seed + 1) + cold - 3, 0).astype(np.float32),
        SECOND,
        share=0.02,
    )
    scenes = {
        "tas": scene_of(np.nan_to_num(warm[:, 0], nan=280.0), PART, mask=FIRST),
        "pr": scene_of(np.nan_to_num(wet[:, 0]), PART, name="pr", amounts=True, mask=SECOND),
    }
    values = {"tas": warm, "pr": wet}
    return scenes, {name: series_of(scenes[name], x) for name, x in values.items()}


@pytest.mark.parametrize("statistic", [variables.products, joint.of_pair])
def test_sums_do_not_depend_on_how_time_is_cut(statistic: object) -> None:
    scenes, series = two()
    assert_adds(
        lambda cut: statistic(  # type: ignore[operator]
            scenes, {name: x[cut] for name, x in series.items()}, PART.take(cut)
        ),
        250,
    )


def test_correlations_are_those_of_the_departures_in_shared_cells() -> None:
    scenes, series = two()
    found = pearson(resampled(variables.products(scenes, series, PART)))[0]
    away = {}
    for name, scene in scenes.items():
        whole = np.full((*series[name].shape[:2], scene.mask.size), np.nan)
        whole[..., scene.cells] = series[name]
        climatology = scene.climatology.reshape(12, -1)[PART.month]
        away[name] = (whole - climatology[:, None]).reshape(-1, *scene.mask.shape)
    expected = cells.correlation_by_cell(away["tas"], away["pr"]).reshape(-1)
    np.testing.assert_allclose(found, expected[scenes["tas"].cells], rtol=1e-10, atol=1e-12)
    # Cells that rain lacks are not told.
    assert np.isnan(found).sum() == (FIRST & ~SECOND).sum()
    assert np.nanmean(found) < -0.3


def test_the_error_of_correlations_is_weighted_by_area() -> None:
    scenes, series = two(members=1)
    _, other = two(members=3, seed=7)
    ours, theirs = (resampled(variables.products(scenes, x, PART)) for x in (other, series))
    difference = np.full(FIRST.size, np.nan)
    difference[scenes["tas"].cells] = (pearson(ours) - pearson(theirs))[0]
    areas = scenes["tas"].grid.areas
    maps = difference.reshape(areas.shape)
    found = variables.correlation_error(scenes["tas"], ours, theirs)
    assert found == pytest.approx(scores.weighted_mean(np.abs(maps), areas), rel=1e-12)
    signed = variables.mean_correlation_difference(scenes["tas"], ours, theirs)
    assert signed == pytest.approx(scores.weighted_mean(maps, areas), rel=1e-12)


def test_variables_taken_apart_lose_their_correlation() -> None:
    scenes, series = two(members=1)
    apart = {**series, "pr": np.random.default_rng(0).permutation(series["pr"])}
    ours, theirs = (resampled(variables.products(scenes, x, PART)) for x in (apart, series))
    assert variables.mean_correlation_difference(scenes["tas"], ours, theirs) > 0.3
    assert variables.correlation_error(scenes["tas"], theirs, theirs) == 0.0


def test_a_constant_has_no_correlation() -> None:
    scenes, series = two(members=1)
    dry = {**series, "pr": np.full_like(series["pr"], 0.3)}
    base = scenes["pr"].base
    base[:] = 0.1
    assert np.isnan(pearson(resampled(variables.products(scenes, dry, PART)))).all()


def vectors_of(scenes: dict[str, Scene], series: dict[str, Float32]) -> Float32:
    """The vectors of some variables, (time x member, d), computed in another way."""
    shared = set.intersection(*(set(s.cells.tolist()) for s in scenes.values()))
    chosen = np.array(sorted(shared))
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(64, len(chosen))).round().astype(int)]
    parts = []
    for name in sorted(scenes):
        where = np.searchsorted(scenes[name].cells, chosen)
        climatology = scenes[name].climatology.reshape(12, -1)[PART.month][:, None, chosen]
        parts.append((series[name][..., where] - climatology) / scenes[name].deviation)
    rows = np.concatenate(parts, axis=-1).reshape(-1, len(scenes) * len(chosen))
    return np.asarray(rows[np.isfinite(rows).all(axis=1)])


@pytest.mark.parametrize("names", [("tas",), ("pr",), ("pr", "tas"), ("tas", "pr")])
def test_covariances_are_those_of_numpy(names: tuple[str, ...]) -> None:
    scenes, series = two()
    scenes, series = {n: scenes[n] for n in names}, {n: series[n] for n in names}
    if len(names) == 1:
        sums = joint.of_one(scenes[names[0]], series[names[0]], PART)
    else:
        sums = joint.of_pair(scenes, series, PART)
    vectors = vectors_of(scenes, series)
    assert 10 < sums["vectors"] == len(vectors) < 500
    np.testing.assert_allclose(
        joint.covariance(resampled(sums))[0], np.cov(vectors.T), rtol=1e-9, atol=1e-12
    )


def test_covariance_error_is_relative() -> None:
    scenes, series = two(members=1)
    scene = scenes["tas"]
    away = series["tas"] - scene.climatology.reshape(12, -1)[PART.month][:, None, scene.cells]
    wide = np.asarray(series["tas"] + away, dtype=np.float32)
    ours, theirs = (resampled(joint.of_one(scene, x, PART)) for x in (wide, series["tas"]))
    # Departures twice as large have four times the covariance.
    assert joint.covariance_error(scene, ours, theirs) == pytest.approx(3.0, rel=1e-5)


def test_few_vectors_are_not_told() -> None:
    scenes, series = two(members=1)
    nothing = {name: np.full_like(x, np.nan) for name, x in series.items()}
    ours, theirs = (resampled(joint.of_pair(scenes, x, PART)) for x in (nothing, series))
    assert np.isnan(joint.covariance_error(scenes["tas"], ours, theirs)).all()
    assert np.isnan(joint.sliced_distance(scenes["tas"], ours, theirs)).all()


@pytest.mark.parametrize("names", [("tas",), ("pr",), ("pr", "tas")])
def test_the_sliced_distance_is_that_of_pot(names: tuple[str, ...]) -> None:
    scenes, one = two(members=2)
    _, other = two(members=1, seed=9)
    other = {name: np.asarray(1.02 * x, np.float32) for name, x in other.items()}
    scenes = {n: scenes[n] for n in names}
    one, other = ({n: x[n] for n in names} for x in (one, other))
    ours, theirs = (resampled(joint.of_pair(scenes, x, PART)) for x in (one, other))
    a, b = vectors_of(scenes, one), vectors_of(scenes, other)
    directions = joint.directions(a.shape[1])
    expected = ot.sliced_wasserstein_distance(a, b, projections=directions, p=1)
    found = joint.sliced_distance(scenes[names[0]], ours, theirs)
    assert found == pytest.approx(expected, rel=0.02)


def test_the_directions_are_spread_over_the_sphere() -> None:
    directions = joint.directions(100)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1.0)
    products = [abs(float(a @ b)) for a, b in itertools.combinations(directions.T, 2)]
    assert max(products) < 0.5
