"""Scores against an independent package, closed forms and plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm
from scores.probability import crps_for_ensemble

from climdown.grid import Grid
from climdown.metrics.scores import (
    change_error,
    coarse_correlation,
    fair_crps,
    mean_absolute_error,
    mean_change,
    spread_skill_ratio,
    weighted_mean,
)
from tests.factories import Floats

GRID = Grid.regular(30, 60, 0, 20, 5.0)  # 6 x 4 cells of uneven area
AREAS = GRID.areas
EQUAL = np.ones(GRID.shape)


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def with_gaps(values: Floats, seed: int = 9) -> Floats:
    gaps = np.random.default_rng(seed).random(values.shape) < 0.2
    return np.where(gaps, np.nan, values)


def test_weighted_mean_is_the_integral_over_the_area() -> None:
    # The area-weighted mean of sin(latitude) over a band is the middle of its sines.
    edges = np.sin(np.radians(GRID.lat_edges))
    cell_means = np.broadcast_to((0.5 * (edges[1:] + edges[:-1]))[:, None], GRID.shape)
    assert weighted_mean(cell_means, AREAS) == pytest.approx(0.5 * (edges[0] + edges[-1]))


def test_weighted_mean_leaves_out_missing_cells_and_their_areas() -> None:
    values = np.array([[1.0, np.nan], [4.0, np.inf]])
    assert weighted_mean(values, np.array([[1.0, 100.0], [2.0, 100.0]])) == pytest.approx(3.0)


def test_weighted_mean_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no finite value to average"):
        weighted_mean(np.full((3, *GRID.shape), np.nan), AREAS)


def test_mean_absolute_error_ignores_the_sign_and_cells_missing_in_the_truth() -> None:
    truth = with_gaps(normal(5, *GRID.shape))
    signs = np.sign(normal(5, *GRID.shape, seed=1))
    assert mean_absolute_error(truth + 0.7 * signs, truth, AREAS) == pytest.approx(0.7)


def test_mean_absolute_error_weighs_cells_by_area() -> None:
    truth, forecast = np.zeros((2, *GRID.shape)), np.zeros((2, *GRID.shape))
    forecast[:, 0] = 1.0
    expected = AREAS[0].sum() / AREAS.sum()
    assert mean_absolute_error(forecast, truth, AREAS) == pytest.approx(expected)
    assert expected != pytest.approx(1 / 6, rel=0.05)


@pytest.mark.parametrize("members", [2, 3, 10])
@pytest.mark.parametrize("gaps", [False, True])
def test_fair_crps_agrees_with_the_scores_package(members: int, gaps: bool) -> None:
    ensemble, truth = normal(7, members, *GRID.shape), 2.0 * normal(7, *GRID.shape, seed=1)
    truth = with_gaps(truth) if gaps else truth
    reference = crps_for_ensemble(
        xr.DataArray(ensemble, dims=("time", "member", "lat", "lon")),
        xr.DataArray(truth, dims=("time", "lat", "lon")),
        "member",
        method="fair",
        preserve_dims="all",
    )
    expected = reference.weighted(xr.DataArray(AREAS, dims=("lat", "lon"))).mean().item()
    assert fair_crps(ensemble, truth, AREAS) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("members", [2, 5, 40])
def test_fair_crps_of_normal_members_has_the_closed_form_for_any_number(members: int) -> None:
    truth, times = 0.8, 1000
    expected = truth * (2 * norm.cdf(truth) - 1) + 2 * norm.pdf(truth) - 1 / math.sqrt(math.pi)
    ensemble = normal(times, members, *GRID.shape)
    known = np.full((times, *GRID.shape), truth)
    by_time = [fair_crps(e[None], k[None], EQUAL) for e, k in zip(ensemble, known, strict=True)]
    error = float(np.std(by_time)) / math.sqrt(times)
    # With two members, dividing by M^2 instead of M (M - 1) would err by 0.28.
    assert 4.5 * error < 0.06
    assert fair_crps(ensemble, known, EQUAL) == pytest.approx(expected, abs=4.5 * error)


def test_fair_crps_of_equal_members_is_their_absolute_error() -> None:
    truth, forecast = normal(4, *GRID.shape), normal(4, *GRID.shape, seed=1)
    ensemble = np.repeat(forecast[:, None], 3, axis=1)
    expected = mean_absolute_error(forecast, truth, AREAS)
    assert fair_crps(ensemble, truth, AREAS) == pytest.approx(expected)


def test_fair_crps_does_not_depend_on_the_order_of_members() -> None:
    ensemble, truth = normal(4, 6, *GRID.shape), normal(4, *GRID.shape, seed=1)
    expected = fair_crps(ensemble, truth, AREAS)
    assert fair_crps(ensemble[:, ::-1], truth, AREAS) == pytest.approx(expected)


def test_fair_crps_needs_two_members() -> None:
    with pytest.raises(ValueError, match="at least two members"):
        fair_crps(normal(4, 1, *GRID.shape), normal(4, *GRID.shape), AREAS)


@pytest.mark.parametrize("members", [2, 5, 20])
@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_spread_skill_ratio_is_one_for_a_reliable_ensemble_of_any_size(
    members: int, spread: float
) -> None:
    # Truth and members scatter alike about a predictable signal; `spread` scales the members.
    times = 600
    signal = 3.0 * normal(times, *GRID.shape)
    truth = signal + normal(times, *GRID.shape, seed=1)
    noise = normal(times, members, *GRID.shape, seed=2)
    ensemble = signal[:, None] + spread * noise
    expected = spread * math.sqrt((members + 1) / (members + spread**2))
    # Relative errors of a mean of n squares are sqrt(2 / n), of n variances
    # sqrt(2 / n (M - 1)); the root halves them. Without (M + 1) / M, M = 2 would err by 18 %.
    bound = 4.5 * 0.5 * math.sqrt(2 / signal.size * (1 + 1 / (members - 1)))
    assert bound < 0.04
    assert spread_skill_ratio(ensemble, truth, EQUAL) == pytest.approx(expected, rel=bound)


def test_spread_skill_ratio_counts_spread_only_where_there_is_truth() -> None:
    ensemble, truth = normal(50, 4, *GRID.shape), normal(50, *GRID.shape, seed=1)
    ensemble[:, :, 0] *= 100.0
    truth[:, 0] = np.nan
    inner = spread_skill_ratio(ensemble[:, :, 1:], truth[:, 1:], AREAS[1:])
    assert spread_skill_ratio(ensemble, truth, AREAS) == pytest.approx(inner)


def test_correlation_with_the_input_is_over_time_in_each_cell() -> None:
    coarse = normal(40, *GRID.shape)
    pattern = 100.0 * normal(*GRID.shape, seed=1)
    ensemble = np.stack([2.0 * coarse + pattern, pattern - coarse], axis=1)
    assert coarse_correlation(ensemble[:, :1], coarse, AREAS) == pytest.approx(1.0)
    assert coarse_correlation(ensemble, coarse, AREAS) == pytest.approx(0.0)
    # A pattern that all days share is no skill.
    noise = pattern + normal(40, *GRID.shape, seed=2)
    assert abs(coarse_correlation(noise[:, None], coarse + pattern, AREAS)) < 4.5 / math.sqrt(960)


def test_change_is_that_of_the_weighted_mean() -> None:
    before, after = normal(30, *GRID.shape), normal(20, *GRID.shape, seed=1)
    expected = np.average(after.mean(axis=0) - before.mean(axis=0), weights=AREAS)
    assert mean_change(before, after, AREAS) == pytest.approx(expected)
    before[:, 0] = np.nan  # such cells count in neither
    inner = np.average((after.mean(axis=0) - before.mean(axis=0))[1:], weights=AREAS[1:])
    assert mean_change(before, after, AREAS) == pytest.approx(inner)


def test_change_error_does_not_cancel_between_cells() -> None:
    zero = np.zeros((2, *GRID.shape))
    after = zero + np.where(np.arange(GRID.shape[1]) % 2, 0.5, -0.5)
    assert mean_change(zero, after, AREAS) == pytest.approx(0.0)
    assert change_error(zero, after, zero, zero, AREAS) == pytest.approx(0.5)
    assert change_error(zero, after, zero + 3.0, after + 3.0, AREAS) == pytest.approx(0.0)
