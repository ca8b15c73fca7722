"""Rank histograms, and probabilities that a threshold is reached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scores.probability import brier_score_for_ensemble, rank_histogram

from climdown.evaluation import exceedance, ranks
from climdown.evaluation.planning import make_plan
from climdown.evaluation.registry import measure as named
from climdown.evaluation.request import Request
from climdown.evaluation.survey import _frequency
from tests.factories import make_dataset
from tests.pairs import Case, exchanged, make_case


def value(name: str, case: Case) -> float:
    (result,) = named(name).value(case.scene, case.resampled())
    return float(result)


def of_counts(name: str, *counts: float) -> float:
    """A measure of a histogram."""
    sums = {"ranks": np.array([[counts, counts, counts]], dtype=np.float64)}
    return float(named(name).value(make_case().scene, sums)[0])


def test_ranks_agree_with_the_scores_package() -> None:
    case = make_case(members=6, gaps=True)
    known = np.isfinite(case.truth)
    x = xr.DataArray(case.members.swapaxes(1, 3)[known.swapaxes(1, 2)], dims=("case", "member"))
    y = xr.DataArray(case.truth.swapaxes(1, 2)[known.swapaxes(1, 2)], dims="case")
    weights = np.broadcast_to(case.scene.areas.T, (len(case.truth), 3, 4))[known.swapaxes(1, 2)]
    expected = rank_histogram(x, y, "member", weights=xr.DataArray(weights, dims="case"))
    counts = case.sums()["ranks"].sum(axis=0)
    assert counts.sum() == pytest.approx(case.sums()["weight"].sum())
    np.testing.assert_allclose(counts / counts.sum(), expected, rtol=1e-12)


@pytest.mark.parametrize("members", [1, 2, 9])
def test_ranks_of_exchangeable_members_are_flat(members: int) -> None:
    cases = exchanged(make_case(members=members, gaps=True))
    assert not cases[0].compared.equal[cases[0].compared.valid].any()
    counts = sum(case.sums()["ranks"].sum(axis=0) for case in cases)
    np.testing.assert_allclose(counts, np.mean(counts), rtol=1e-12)


def test_ties_are_broken_at_random_and_nothing_else_is() -> None:
    case = make_case(members=4, steps=400, amounts=True)
    dry = replace(case, members=0 * case.members, truth=0 * case.truth)
    counts = dry.sums()["ranks"][0]
    cases = 400 * 12
    # Of equal areas each frequency would have a standard error of sqrt(0.2 * 0.8 / n).
    assert np.abs(counts / counts.sum() - 0.2).max() < 4.5 * np.sqrt(0.16 / cases)
    compared = case.compared
    found = ranks._ranks(case.scene, compared, case.part)
    alone = compared.equal == 0
    np.testing.assert_array_equal(found[alone], compared.below[alone])
    assert (found >= compared.below).all()
    assert (found <= compared.below + compared.equal).all()
    assert (found > compared.below).any()


def test_ties_of_exchangeable_amounts_are_flat() -> None:
    cases = exchanged(make_case(members=4, steps=400, amounts=True))
    counts = sum(case.sums()["ranks"].sum(axis=0) for case in cases)
    frequencies = counts / np.sum(counts)
    assert np.abs(frequencies - 0.2).max() < 4.5 * np.sqrt(0.16 / (400 * 12))


def test_ties_depend_on_seed_and_step_alone() -> None:
    case = make_case(members=4, amounts=True)

    def found(one: Case) -> list[int]:
        result: list[int] = ranks._ranks(one.scene, one.compared, one.part).tolist()
        return result

    stretch = slice(7, 30)
    part = Case(case.scene, case.members[stretch], case.truth[stretch], case.part.take(stretch))
    assert found(part) == found(case)[stretch]
    assert found(replace(case, scene=replace(case.scene, seed=8))) != found(case)
    late = replace(case, part=replace(case.part, number=case.part.number + 1))
    assert found(late) != found(case)
    assert found(replace(case, scene=replace(case.scene, seed=-1))) != found(case)


@pytest.mark.parametrize("amounts", [False, True])
def test_classes_are_of_the_mean_of_members_and_reference(amounts: bool) -> None:
    case = make_case(steps=60, amounts=amounts, gaps=True)
    everyone = np.concatenate([case.truth[:, None], case.members], axis=1)
    mean = everyone.astype(np.float64).mean(axis=1)
    if amounts:
        low, high = mean < 0.1, mean >= 5.0
    else:
        away = (mean - case.scene.climatology[case.part.month]) / case.scene.deviation
        low, high = away <= -0.4307, away >= 0.4307
    middle = np.isfinite(mean) & ~low & ~high
    expected = [(one * case.scene.areas).sum() for one in (low, middle, high)]
    np.testing.assert_allclose(case.sums()["ranks"].sum(axis=1), expected, rtol=1e-12)
    assert min(expected) > 0
    assert len(set(ranks.classes(case.scene))) == 3


def test_the_histogram_of_each_class_is_flat_of_exchangeable_members() -> None:
    # By classes of the ensemble mean it would fall from 0.21 to 0.12 in the highest, of six ranks.
    cases = exchanged(make_case(steps=100, seed=1))
    assert not cases[0].compared.equal.any()
    by_class = np.asarray(sum(case.sums()["ranks"] for case in cases))
    np.testing.assert_allclose(by_class, by_class.mean(axis=1, keepdims=True).repeat(6, axis=1))


def test_months_without_climatology_are_near_normal() -> None:
    case = make_case(steps=5)
    unknown = replace(case.scene, climatology=np.full_like(case.scene.climatology, np.nan))
    counts = replace(case, scene=unknown).sums()["ranks"].sum(axis=1)
    np.testing.assert_allclose(counts, [0, 5, 0])


@pytest.mark.parametrize(
    ("counts", "bias", "dispersion", "outside", "distance"),
    [
        ((1, 1, 1, 1, 1), 0.0, 1.0, 1.0, 0.0),
        ((1, 0, 0, 0, 1), 0.0, 2.0, 2.5, 0.6),
        ((0, 0, 3, 0, 0), 0.0, 0.0, 0.0, 0.8),
        ((0, 0, 0, 0, 4), 1.0, 2.0, 2.5, 0.8),
        ((2, 2, 0, 0, 0), -0.75, 1.25, 1.25, 0.6),
    ],
)
def test_measures_of_known_histograms(
    counts: tuple[int, ...], bias: float, dispersion: float, outside: float, distance: float
) -> None:
    found = {
        "rank_bias": bias,
        "rank_dispersion": dispersion,
        "outliers": outside,
        "outliers_high": outside,
        "rank_distance": distance,
    }
    for name, expected in found.items():
        assert of_counts(name, *counts) == pytest.approx(expected), name


def test_outliers_of_high_means_are_of_their_class() -> None:
    flat, outside = [1.0, 1, 1], [1.0, 0, 1]
    sums = {"ranks": np.array([[flat, flat, outside]])}
    assert ranks.outliers_high(make_case().scene, sums)[0] == pytest.approx(1.5)
    assert ranks.outliers(make_case().scene, sums)[0] == pytest.approx(9 / 8)


def test_the_distance_by_chance_is_that_of_random_ranks() -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(500, np.full(11, 1 / 11), size=4000).astype(np.float64)
    sums = {"ranks": counts[:, None]}
    found = ranks.rank_distance(make_case().scene, sums).mean()
    # Half the sum of mean absolute deviations of 11 frequencies, each nearly normal.
    assert found == pytest.approx(np.sqrt((11 - 1) / (2 * np.pi * 500)), rel=0.02)


@pytest.mark.parametrize("amounts", [False, True])
@pytest.mark.parametrize("members", [2, 7])
def test_brier_scores_agree_with_the_scores_package(amounts: bool, members: int) -> None:
    case = make_case(members=members, amounts=amounts, gaps=True)
    # Values at a threshold reach it.
    first, last = case.scene.thresholds.values()
    case.members[0, 0], case.truth[1] = first, last
    case.members[2], case.truth[2] = first, last
    case.truth[0] = case.members[0, 1]
    x = xr.DataArray(case.members.astype(np.float64), dims=("time", "member", "lat", "lon"))
    y = xr.DataArray(case.truth.astype(np.float64), dims=("time", "lat", "lon"))
    areas = xr.DataArray(case.scene.areas, dims=("lat", "lon"))
    for level, threshold in zip(("low", "high"), (first, last), strict=True):
        expected = brier_score_for_ensemble(x, y, "member", threshold, preserve_dims="all")
        result = expected.squeeze("threshold").weighted(areas).mean().item()
        assert value(f"brier_{level}", case) == pytest.approx(result, rel=1e-11)


def test_brier_score_is_reliability_less_resolution_plus_uncertainty() -> None:
    case = make_case(members=6, steps=200, amounts=True, gaps=True)
    for i, threshold in enumerate(case.scene.thresholds.values()):
        probability = (case.members >= threshold).mean(axis=1)
        happened, known = case.truth >= threshold, np.isfinite(case.truth)
        weights = np.where(known, case.scene.areas, 0.0)
        plain = np.average((probability - happened) ** 2, weights=weights)
        chance = np.average(happened, weights=weights)
        counts = case.resampled()["reliability"][:, i]
        parts = exceedance.reliability_term(counts) - exceedance.resolution_term(counts)
        assert parts[0] + chance * (1 - chance) == pytest.approx(plain, rel=1e-11)


def test_counts_are_of_forecasts_and_of_those_that_came_true() -> None:
    case = make_case(members=3, gaps=True)
    counts = case.sums()["reliability"]
    weights = np.where(np.isfinite(case.truth), case.scene.areas, 0.0)
    for i, threshold in enumerate(case.scene.thresholds.values()):
        number = (case.members >= threshold).sum(axis=1)
        happened = case.truth >= threshold
        for k in range(4):
            expected = [weights[number == k].sum(), weights[(number == k) & happened].sum()]
            np.testing.assert_allclose(counts[i, k], expected, atol=1e-12)


def test_a_fair_brier_score_does_not_depend_on_the_number_of_members() -> None:
    case = make_case(members=6, steps=30)
    pairs = [
        value("brier_low", replace(case, members=case.members[:, [i, j]]))
        for i in range(6)
        for j in range(i)
    ]
    assert np.mean(pairs) == pytest.approx(value("brier_low", case), rel=1e-11)


def test_skill_is_against_the_frequency_of_cell_and_month() -> None:
    case = make_case(steps=60, gaps=True)
    happened = np.where(np.isfinite(case.truth), case.truth >= 281.0, np.nan)
    truth = xr.DataArray(
        happened, dims=("time", "y", "x"), coords={"month": ("time", case.part.month)}
    )
    areas = xr.DataArray(case.scene.areas, dims=("y", "x"))
    anomaly = truth.groupby("month") - truth.groupby("month").mean()
    expected = 1 - value("brier_low", case) / (anomaly**2).weighted(areas).mean().item()
    assert value("brier_skill_low", case) == pytest.approx(expected, rel=1e-11)
    assert 0.1 < expected < 0.9


def test_the_climatology_itself_has_no_skill() -> None:
    case = make_case(steps=300)
    days = [np.flatnonzero(case.part.month == month) for month in case.part.month]
    # Members are all days of the month, which come 8 or 16 times each.
    drawn = np.stack([np.resize(one, 240) for one in days])
    forecast = replace(case, members=case.truth[drawn])
    # What is left is the share that fairness takes off.
    assert value("brier_skill_low", forecast) == pytest.approx(1 / 239, rel=1e-9)
    assert value("brier_skill_low", case) > 0.2


def test_frequencies_are_of_days_that_reach_a_threshold_by_month() -> None:
    case = make_case(steps=60, gaps=True)
    found = _frequency(case.truth, case.part.month, case.scene.thresholds)
    np.testing.assert_allclose(found, case.scene.frequency)
    assert np.isnan(found[:, 0]).all()
    assert (found[0, 2:4] > found[1, 2:4]).any()


def test_the_seed_of_ties_is_that_of_the_request(tmp_path: Path) -> None:
    path = tmp_path / "tas.nc"
    make_dataset(path=path)
    request = Request(outputs={"same": (str(path),)}, reference=(str(path),), seed=11)
    assert make_plan(request).scenes["tas"].seed == 11


def test_scenes_without_thresholds_have_no_probabilities() -> None:
    case = make_case()
    without = replace(case.scene, thresholds={}, frequency=case.scene.frequency[:0])
    assert not {"reliability", "climatological"} & replace(case, scene=without).sums().keys()
