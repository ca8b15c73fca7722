"""Optimal transport against closed forms between Gaussians, POT, symmetries and real winters."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ot
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal, qmc

from climdown.bias import transport
from climdown.bias.reduction import Map, Standardiser, leading_eofs
from climdown.bias.transport import adjust, choose_epsilon, fit
from climdown.errors import ConfigError, ConvergenceError, InputError
from climdown.grid import Grid
from climdown.metrics.scores import maximum_mean_discrepancy, sliced_wasserstein
from tests.factories import Floats, shared_data

A = np.array([[1.0, 0.5], [0.5, 0.8]])
B = np.array([[1.5, -0.4], [-0.4, 0.6]])


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def quasi(mean: Floats, covariance: Floats, n: int = 2048, seed: int = 0) -> Floats:
    """A Gaussian sample from a scrambled Sobol sequence: moments to about 1e-3, not 1/sqrt(n)."""
    drawn = qmc.MultivariateNormalQMC(mean, covariance, rng=np.random.default_rng(seed)).random(n)
    return np.asarray(drawn, dtype=np.float64)


def root(matrix: Floats) -> Floats:
    return np.asarray(sqrtm(matrix).real, dtype=np.float64)


def bures_map(a: Floats, b: Floats) -> Floats:
    """Linear part of the optimal map from N(., a) to N(., b)."""
    half = root(a)
    inverse = np.linalg.inv(half)
    return np.asarray(inverse @ root(half @ b @ half) @ inverse)


def entropic_map(a: Floats, b: Floats, reg: float) -> Floats:
    """Linear part of the entropic map from N(., a) to N(., b).

    From the plan's cross-covariance (Janati et al. 2020, arXiv 2006.02572, theorem 1), whose
    2 sigma^2 is our reg.
    """
    half, square = root(a), reg / 2.0
    inner = root(4.0 * half @ b @ half + square**2 * np.eye(len(a)))
    cross = 0.5 * half @ inner @ np.linalg.inv(half) - 0.5 * square * np.eye(len(a))
    return np.asarray(cross.T @ np.linalg.inv(a))


def linear_part(points: Floats, mapped: Floats) -> Floats:
    x, z = points - points.mean(axis=0), mapped - mapped.mean(axis=0)
    return np.asarray(np.linalg.lstsq(x, z, rcond=None)[0].T)


def plan_of(fitted: transport.Transport) -> Floats:
    """The plan written out from the potentials, as their documentation says."""
    x, y = fitted.source - fitted.source.mean(0), fitted.target - fitted.target.mean(0)
    f, g = fitted.potentials
    exponent = (f[:, None] + g[None, :] - ot.dist(x, y)) / fitted.regularisation
    return np.asarray(np.exp(exponent) / (len(x) * len(y)))


@pytest.mark.parametrize("epsilon", [0.5, 0.1, 0.02])
def test_map_between_gaussians_has_the_entropic_closed_form(epsilon: float) -> None:
    mean_a, mean_b = np.array([1.0, 2.0]), np.array([-3.0, 0.5])
    source, target = quasi(mean_a, A), quasi(mean_b, B, seed=1)
    fitted = fit(source, target, epsilon=epsilon)
    assert fitted.scale == pytest.approx(np.trace(A) + np.trace(B), rel=0.01)
    expected = entropic_map(A, B, fitted.regularisation)
    mapped = fitted.project()
    # Over twice what ten other seeds miss the closed form by at worst: 0.004, 0.0006, 0.0027.
    np.testing.assert_allclose(linear_part(source, mapped), expected, atol=0.01)
    np.testing.assert_allclose(mapped.mean(axis=0), mean_b, atol=0.0015)
    # Off the samples, where the plan has points to go by.
    new = quasi(mean_a, 0.5 * A, n=256, seed=2)
    inside = mean_b + (new - mean_a) @ expected.T
    assert np.sqrt(np.mean((fitted(new) - inside) ** 2)) < 0.007


def test_map_between_gaussians_nears_the_optimal_map() -> None:
    source, target = quasi(np.zeros(2), A), quasi(np.ones(2), B, seed=1)
    optimal = bures_map(A, B)
    distances = []
    for epsilon in (0.3, 0.1, 0.03):
        fitted = fit(source, target, epsilon=epsilon)
        bias = np.abs(entropic_map(A, B, fitted.regularisation) - optimal).max()
        distances.append(np.abs(linear_part(source, fitted.project()) - optimal).max())
        assert distances[-1] < bias + 0.01
    assert distances == sorted(distances, reverse=True)


def test_closed_forms_agree_without_regularisation() -> None:
    np.testing.assert_allclose(entropic_map(A, B, 1e-9), bures_map(A, B), atol=1e-7)
    np.testing.assert_allclose(bures_map(A, B) @ A @ bures_map(A, B).T, B, atol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 7, 1000])
def test_plan_is_that_of_pot(batch_size: int | None) -> None:
    source, target = normal(60, 4), 1.5 * normal(45, 4, seed=1) + 2.0
    fitted = fit(source, target, epsilon=0.05, tolerance=1e-10, batch_size=batch_size)
    # On the plain cost, about no means: the plan is the same.
    plan = ot.sinkhorn(
        np.full(60, 1 / 60),
        np.full(45, 1 / 45),
        ot.dist(source, target),
        fitted.regularisation,
        method="sinkhorn_log",
        numItermax=20000,
        stopThr=1e-12,
    )
    np.testing.assert_allclose(plan_of(fitted), plan, atol=1e-6 * plan.max())
    np.testing.assert_allclose(fitted.project(), 60 * plan @ target, atol=1e-6)
    assert fitted.marginal_error <= 1e-10


@pytest.mark.parametrize("batch_size", [None, 16])
def test_marginals_are_as_reported(batch_size: int | None) -> None:
    fitted = fit(normal(50, 3), 2 * normal(70, 3, seed=1), epsilon=0.02, batch_size=batch_size)
    plan = plan_of(fitted)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 50, rtol=1e-10)
    error = np.abs(plan.sum(axis=0) - 1 / 70).sum()
    assert fitted.marginal_error == pytest.approx(error, rel=1e-6)
    assert 0 < fitted.marginal_error <= 1e-3


def test_blocks_change_nothing() -> None:
    source, target = normal(50, 3), normal(40, 3, seed=1)
    whole = fit(source, target, batch_size=50)
    parts = fit(source, target, batch_size=7)
    assert whole.iterations == parts.iterations
    new = normal(23, 3, seed=2)
    np.testing.assert_allclose(parts(new), whole(new), atol=1e-10)
    np.testing.assert_allclose(replace(whole, batch_size=1)(new), whole(new), atol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_map_on_the_samples_is_the_projection(batch_size: int | None) -> None:
    fitted = fit(normal(50, 3), normal(40, 3, seed=1) + 5, batch_size=batch_size)
    np.testing.assert_allclose(fitted(fitted.source), fitted.project(), atol=1e-9)


@settings(max_examples=15)
@given(st.integers(0, 2**16), st.integers(2, 12), st.integers(2, 12), st.booleans())
def test_order_and_place_do_not_matter(seed: int, n: int, m: int, blocked: bool) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    size = 5 if blocked else None
    moved = fit(source, target, epsilon=0.1, batch_size=size).project()

    rows, others = rng.permutation(n), rng.permutation(m)
    permuted = fit(source[rows], target[others], epsilon=0.1, batch_size=size).project()
    np.testing.assert_allclose(permuted, moved[rows], atol=1e-8)

    here, there = 100.0 * rng.normal(size=(2, 3))
    shifted = fit(source + here, target + there, epsilon=0.1, batch_size=size).project()
    np.testing.assert_allclose(shifted, moved + there, atol=1e-8)

    scaled = fit(7.0 * source, 7.0 * target, epsilon=0.1, batch_size=size).project()
    np.testing.assert_allclose(scaled, 7.0 * moved, atol=1e-8)


@pytest.mark.parametrize("batch_size", [None, 32])
def test_torch_and_numpy_agree(batch_size: int | None) -> None:
    assert_same_in_torch("cpu", batch_size)


@pytest.mark.gpu
@pytest.mark.parametrize("batch_size", [None, 32])
def test_cuda_and_numpy_agree(batch_size: int | None) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert_same_in_torch("cuda", batch_size)


def assert_same_in_torch(device: str, batch_size: int | None) -> None:
    source, target, new = normal(90, 3), 2 * normal(80, 3, seed=1), normal(11, 3, seed=2)

    def tensor(x: Floats) -> torch.Tensor:
        return torch.tensor(x, device=device)

    def mapped(place: Any) -> Any:
        x, y, z = place(source), place(target), place(new)
        standard = Standardiser.fit(y)
        x, y, z = standard.forward(x), standard.forward(y), standard.forward(z)
        reduction = leading_eofs(x, y, count=2)
        fitted = fit(reduction.reduce(x), reduction.reduce(y), batch_size=batch_size)
        return standard.inverse(reduction.lift(fitted)(z)), fitted.project()

    for ours, theirs in zip(mapped(np.asarray), mapped(tensor), strict=True):
        assert isinstance(theirs, torch.Tensor)
        assert theirs.device.type == device
        np.testing.assert_allclose(theirs.cpu().numpy(), ours, atol=1e-8)


def test_single_precision_is_enough() -> None:
    source, target = normal(200, 20), 2 * normal(150, 20, seed=1) + 3
    double = fit(source, target, tolerance=1e-5, batch_size=64)
    single = fit(torch.tensor(source).float(), torch.tensor(target).float(), tolerance=1e-5)
    assert single.project().dtype == torch.float32
    # The plan is decided to the tolerance; values reach ten.
    np.testing.assert_allclose(single.project().numpy(), double.project(), atol=1e-3)


def test_a_far_point_is_reached_in_single_precision_too() -> None:
    """At first no row's mass in its column is above zero in single precision."""
    source = normal(40, 2).astype(np.float32)
    target = source.copy()
    target[7] = 300.0, 0.0
    options: dict[str, Any] = {"epsilon": 1e-3, "tolerance": 1e-4, "max_iterations": 2000}
    single = fit(source, target, batch_size=8, **options)
    double = fit(source.astype(np.float64), target.astype(np.float64), **options)
    assert double.project().max() > 250
    # A row's 40th of the mass is decided to the tolerance, over 300 units.
    np.testing.assert_allclose(single.project(), double.project(), atol=40 * 1e-4 * 300)


def test_starting_from_a_larger_epsilon_leads_to_the_same_plan() -> None:
    source, target = normal(80, 3), normal(60, 3, seed=1) ** 3
    for size in (None, 20):
        rough = fit(source, target, epsilon=0.1, batch_size=size)
        warm = fit(source, target, epsilon=0.05, tolerance=1e-9, batch_size=size, start=rough)
        cold = fit(source, target, epsilon=0.05, tolerance=1e-9, batch_size=size)
        np.testing.assert_allclose(warm.project(), cold.project(), atol=1e-6)
        again = fit(source, target, epsilon=0.05, tolerance=1e-8, batch_size=size, start=cold)
        assert again.iterations == 1


@pytest.mark.parametrize("batch_size", [None, 16])
def test_a_plan_that_does_not_converge_says_what_was_reached(batch_size: int | None) -> None:
    message = (
        r"^Sinkhorn at epsilon 0\.001 reached a marginal error of \S+ in 11 iterations; asked for "
        r"were 1\.0e-06: raise epsilon, or allow more iterations$"
    )
    with pytest.raises(ConvergenceError, match=message):
        fit(
            normal(50, 3),
            normal(40, 3, seed=1),
            epsilon=0.001,
            tolerance=1e-6,
            max_iterations=11,
            batch_size=batch_size,
        )


def broken(points: Floats) -> Floats:
    points = points.copy()
    points[[1, 4], 2] = np.nan, np.inf
    return points


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (normal(5), normal(5, 3), r"^source has shape \(5,\); expected points as rows, \(n, d\)$"),
        (normal(5, 3), normal(0, 3), r"^target has shape \(0, 3\)"),
        (normal(5, 3), normal(5, 2), r"^target has 2 columns; expected 3$"),
        (normal(5, 3), normal(5, 3).astype("f4"), r"^target is of type float32; expected float64$"),
        (normal(5, 3), torch.zeros(5, 3), r"^target is of type torch.float32; expected float64$"),
        (np.ones((5, 3), int), np.ones((5, 3), int), r"^source is of type int64; .* floating type"),
        (normal(5, 3), broken(normal(7, 3)), r"^target has 2 of 7 points with values that are not"),
        (np.ones((5, 3)), np.zeros((5, 3)), r"^source and target have no variance"),
    ],
)
def test_bad_samples_are_named(source: Any, target: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(source, target)


def test_bad_new_points_are_named() -> None:
    fitted = fit(normal(9, 3), normal(8, 3, seed=1))
    with pytest.raises(InputError, match=r"^new has 2 columns; expected 3$"):
        fitted(normal(4, 2))
    with pytest.raises(InputError, match=r"^new has 2 of 6 points with values that are not finite"):
        fitted(broken(normal(6, 3)))


@pytest.mark.parametrize("name", ["epsilon", "tolerance", "max_iterations", "batch_size"])
def test_options_are_positive(name: str) -> None:
    options: dict[str, Any] = {name: 0}
    with pytest.raises(ConfigError, match=f"^transport needs {name} > 0, found 0$"):
        fit(normal(5, 3), normal(5, 3), **options)


# --- The choice of epsilon ---


def test_choice_of_epsilon_comes_near_the_best_map() -> None:
    def truth(x: Floats) -> Floats:
        return np.asarray(x + 0.5 * np.sign(x) * np.abs(x) ** 1.5)

    def sample(seed: int) -> Floats:
        return normal(300, 3, seed=seed)

    source, target = sample(1), truth(sample(2))
    candidates = (0.005, 0.02, 0.1, 0.5)
    chosen = choose_epsilon(source, target, sample(3), truth(sample(4)), candidates)
    new = sample(5)
    errors = {
        e: np.mean((fit(source, target, epsilon=e)(new) - truth(new)) ** 2) for e in candidates
    }
    # Of the least possible; the smallest epsilon here has 1.9 times, the largest 5.9 times.
    assert errors[chosen] < 1.7 * min(errors.values())
    assert errors[chosen] < 0.5 * max(errors.values())


def four_samples(n: int) -> tuple[Floats, Floats, Floats, Floats]:
    return normal(n, 3), normal(n, 3, seed=1), normal(n, 3, seed=2), normal(n, 3, seed=3)


def test_choice_is_the_largest_within_the_slack() -> None:
    distances = {0.4: 3.0, 0.2: 1.09, 0.1: 1.0, 0.05: 1.2}

    def choose(slack: float) -> float:
        values = iter(distances.values())
        candidates = tuple(sorted(distances))
        return choose_epsilon(
            *four_samples(20), candidates, slack=slack, distance=lambda a, b: next(values)
        )

    assert [choose(0.0), choose(0.1), choose(2.0)] == [0.1, 0.2, 0.4]


def test_epsilons_that_do_not_converge_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    samples = four_samples(60)
    with caplog.at_level(logging.INFO, logger="climdown.bias.transport"):
        chosen = choose_epsilon(*samples, (0.5, 1e-4, 1e-5), max_iterations=30)
    assert chosen == 0.5
    assert "epsilon 0.0001 and smaller ones passed over: Sinkhorn at epsilon" in caplog.text
    message = r"^none of the epsilons 1e-05, 0\.0001 converged in 30 iterations: offer larger ones"
    with pytest.raises(ConvergenceError, match=message):
        choose_epsilon(*samples, (1e-4, 1e-5), max_iterations=30)
    with pytest.raises(ConfigError, match=r"^no candidates to choose epsilon from$"):
        choose_epsilon(*samples, ())


# --- Draws ---


def test_draws_follow_the_weights_of_the_plan() -> None:
    fitted = fit(normal(30, 2), normal(40, 2, seed=1), epsilon=0.2, tolerance=1e-9)
    new = np.repeat(normal(1, 2, seed=3), 20_000, axis=0)
    uniforms = (np.arange(20_000) + 0.5) / 20_000
    drawn = fitted.sample(new, uniforms)
    assert {tuple(point) for point in drawn} <= {tuple(point) for point in fitted.target}
    np.testing.assert_allclose(drawn.mean(axis=0), fitted(new[:1])[0], atol=1e-3)


def test_draws_keep_the_variance_that_means_lose() -> None:
    source, target = normal(800, 3), 2.0 * normal(900, 3, seed=1)
    fitted = fit(source, target, epsilon=0.1)
    drawn = fitted.sample(source, np.random.default_rng(0).random(800))
    np.testing.assert_allclose(drawn.std(axis=0), target.std(axis=0), rtol=0.05)
    assert (fitted(source).std(axis=0) < 0.95 * target.std(axis=0)).all()


@pytest.mark.parametrize("rows", [1, 7])
def test_draws_are_the_same_in_all_blocks_and_in_torch(rows: int) -> None:
    fitted = fit(normal(30, 2), normal(40, 2, seed=1))
    new, uniforms = normal(20, 2, seed=2), np.random.default_rng(3).random(20)
    drawn = fitted.sample(new, uniforms)
    np.testing.assert_array_equal(replace(fitted, batch_size=rows).sample(new, uniforms), drawn)
    first, second = map(torch.from_numpy, fitted.potentials)
    on_torch = replace(
        fitted,
        source=torch.from_numpy(fitted.source),
        target=torch.from_numpy(fitted.target),
        potentials=(first, second),
    ).sample(torch.from_numpy(new), torch.from_numpy(uniforms))
    np.testing.assert_array_equal(on_torch.numpy(), drawn)
    # The ends of the interval are days too.
    for end in (0.0, 1.0):
        assert np.isfinite(fitted.sample(new, np.full(20, end))).all()
    with pytest.raises(InputError, match=r"^uniforms have shape \(3,\); expected \(20,\)$"):
        fitted.sample(new, uniforms[:3])


# --- Standardising, EOFs, climate change ---


def test_standardiser_takes_the_references_numbers() -> None:
    reference = np.column_stack([normal(50) * 3 + 280, np.full(50, 0.1), np.zeros(50)])
    standard = Standardiser.fit(reference)
    np.testing.assert_allclose(standard.forward(reference).std(axis=0), [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(standard.std[1:], 1.0)
    least = np.array([1.0, 0.0, 0.5])
    np.testing.assert_allclose(Standardiser.fit(reference, least).std, [standard.std[0], 1.0, 0.5])
    other = normal(7, 3, seed=1)
    np.testing.assert_allclose(standard.inverse(standard.forward(other)), other, atol=1e-10)
    with pytest.raises(InputError, match=r"^reference has 2 of 6 points"):
        Standardiser.fit(broken(normal(6, 3)))


def test_all_eofs_are_as_none() -> None:
    source, target = normal(60, 5) * np.arange(1, 6), normal(50, 5, seed=1) + 3
    reduction = leading_eofs(source, target)
    np.testing.assert_allclose(reduction.eofs @ reduction.eofs.T, np.eye(5), atol=1e-12)
    assert reduction.explained == 1.0
    reduced = fit(reduction.reduce(source), reduction.reduce(target), tolerance=1e-9)
    plain = fit(source, target, tolerance=1e-9)
    new = normal(9, 5, seed=2)
    np.testing.assert_allclose(reduction.lift(reduced)(new), plain(new), atol=1e-6)


def test_eofs_are_those_of_the_mean_covariance() -> None:
    source, target = normal(600, 4) * [4, 3, 2, 1], normal(50, 4, seed=1) * [1, 1, 1, 8] - 9
    covariance = (np.cov(source.T, bias=True) + np.cov(target.T, bias=True)) / 2
    variances = np.sort(np.linalg.eigvalsh(covariance))[::-1]
    shares = np.cumsum(variances) / variances.sum()
    for count in (1, 2, 3, 4):
        reduction = leading_eofs(source, target, count=count)
        kept = reduction.eofs
        np.testing.assert_allclose(
            kept @ covariance @ kept.T, np.diag(variances[:count]), atol=1e-9
        )
        assert reduction.explained == pytest.approx(shares[count - 1])
        assert len(leading_eofs(source, target, explained=shares[count - 1] - 1e-3).eofs) == count


def test_what_lies_outside_the_eofs_stays_but_for_the_mean() -> None:
    source, target = normal(60, 5), normal(50, 5, seed=1) + np.arange(5)
    reduction = leading_eofs(source, target, count=2)
    fitted = fit(reduction.reduce(source), reduction.reduce(target), tolerance=1e-9)
    mapped = reduction.lift(fitted)(source)
    outside = np.eye(5) - reduction.eofs.T @ reduction.eofs
    shift = target.mean(axis=0) - source.mean(axis=0)
    np.testing.assert_allclose(mapped @ outside, (source + shift) @ outside, atol=1e-10)
    np.testing.assert_allclose(reduction.reduce(mapped), fitted.project(), atol=1e-10)
    np.testing.assert_allclose(mapped.mean(axis=0), target.mean(axis=0), atol=1e-7)


def test_bad_eofs_are_named() -> None:
    samples = normal(9, 3), normal(8, 3)
    with pytest.raises(ConfigError, match=r"^explained variance must lie in \(0, 1\], found 1.5$"):
        leading_eofs(*samples, explained=1.5)
    with pytest.raises(ConfigError, match=r"^of 3 columns there are 1 to 3 EOFs, found 4$"):
        leading_eofs(*samples, count=4)


def test_mean_change_is_carried_around_the_map() -> None:
    delta = np.array([3.0, -1.0])
    hist = quasi(np.zeros(2), A)
    fitted = fit(hist, quasi(np.array([5.0, 5.0]), B, seed=1), epsilon=0.05)
    before = fitted(hist).mean(axis=0)
    # The same days, all changed alike: exact to rounding.
    np.testing.assert_allclose(
        adjust(fitted, hist + delta, delta).mean(axis=0) - before, delta, atol=1e-10
    )
    # Other days of the changed climate: to their own sampling error, for which three standard
    # deviations of the mean of the mapped days are allowed.
    n = 400
    sim = multivariate_normal(delta, A, seed=3).rvs(n)
    change = adjust(fitted, sim, sim.mean(axis=0) - hist.mean(axis=0)).mean(axis=0) - before
    np.testing.assert_array_less(np.abs(change - delta), 3 * np.sqrt(np.diag(B) / n) + 0.01)
    # Without the helper most of it is lost at the edge of the target.
    far = 10 * delta
    assert np.linalg.norm(fitted(hist + far).mean(axis=0) - before) < 0.3 * np.linalg.norm(far)


# --- Distances between samples ---


def test_sliced_wasserstein_of_a_shift() -> None:
    sample, delta = normal(500, 6), np.array([3.0, 0, 0, 4.0, 0, 0])
    # sqrt of the mean of n = 4000 squared cosines, relative error about 1 / sqrt(2 n): five times.
    expected = 5.0 / np.sqrt(6)
    found = sliced_wasserstein(sample, sample + delta, projections=4000)
    assert found == pytest.approx(expected, rel=0.056)
    line = normal(500, 1)
    assert sliced_wasserstein(line, line - 2.5) == pytest.approx(2.5)


def test_sliced_wasserstein_of_gaussians() -> None:
    """In each direction the distance between N(0, 1) and N(1, 2^2): sqrt(1 + 1)."""
    a, b = normal(20000, 1), 1.0 + 2.0 * normal(15000, 1, seed=1)
    assert sliced_wasserstein(a, b) == pytest.approx(np.sqrt(2), abs=0.05)


def test_sliced_wasserstein_is_seeded() -> None:
    a, b = normal(40, 5), normal(30, 5, seed=1) + 1
    assert sliced_wasserstein(a, b) == sliced_wasserstein(a, b)
    assert sliced_wasserstein(a, b) != sliced_wasserstein(a, b, seed=1)


def test_discrepancy_is_the_double_sum() -> None:
    a, b = normal(7, 2), normal(5, 2, seed=1) + 1

    def kernel(x: Floats, y: Floats) -> float:
        return float(np.exp(-((x - y) ** 2).sum() / (2 * 1.3**2)))

    within = [
        sum(kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j)
        / (len(s) * (len(s) - 1))
        for s in (a, b)
    ]
    between = np.mean([kernel(x, y) for x in a for y in b])
    found = maximum_mean_discrepancy(a, b, bandwidth=1.3)
    assert found == pytest.approx(sum(within) - 2 * between)
    median = np.median([np.linalg.norm(x - y) for x, y in pairs(np.concatenate([a, b]))])
    assert maximum_mean_discrepancy(a, b) == maximum_mean_discrepancy(a, b, float(median))


def pairs(points: Floats) -> list[tuple[Floats, Floats]]:
    return [(points[i], points[j]) for i in range(len(points)) for j in range(i)]


def test_discrepancy_of_one_distribution_is_zero_in_the_mean() -> None:
    repeats = [
        maximum_mean_discrepancy(normal(60, 3, seed=seed), normal(50, 3, seed=1000 + seed))
        for seed in range(200)
    ]
    error = np.std(repeats) / np.sqrt(len(repeats))
    assert abs(np.mean(repeats)) < 3 * error
    assert min(repeats) < 0
    # A biased one would be off by about (1 - mean kernel) (1/60 + 1/50), many times the error.
    assert 10 * error < 0.01


def test_discrepancy_of_gaussians() -> None:
    """E k(x, y) = (1 + 2 / h^2)^(-1/2) exp(-s^2 / (2 h^2 + 4)) at shift s, for unit variances."""
    shift, width = 1.5, 2.0
    a, b = normal(3000, 1), normal(3000, 1, seed=1) + shift
    factor = (1 + 2 / width**2) ** -0.5
    expected = 2 * factor * (1 - np.exp(-(shift**2) / (2 * width**2 + 4)))
    # Sampling error: 3000 points of a function with values in [0, 1].
    found = maximum_mean_discrepancy(a, b, bandwidth=width)
    assert found == pytest.approx(expected, abs=0.02)


def test_bad_samples_of_distances_are_named() -> None:
    for distance in (sliced_wasserstein, maximum_mean_discrepancy):
        with pytest.raises(ValueError, match=r"^samples need rows of the same columns, found \(5,"):
            distance(normal(5, 2), normal(5, 3))
        with pytest.raises(ValueError, match=r"^a sample holds values that are not finite$"):
            distance(normal(5, 3), broken(normal(5, 3)))
    with pytest.raises(ValueError, match=r"needs at least two points of each sample$"):
        maximum_mean_discrepancy(normal(1, 3), normal(5, 3))
    with pytest.raises(ValueError, match=r"^the kernel needs a bandwidth > 0, found 0\.0$"):
        maximum_mean_discrepancy(np.ones((3, 2)), np.ones((3, 2)))


# --- Real winters ---


@pytest.fixture(scope="module")
def winters() -> tuple[Floats, Floats, Floats, Floats]:
    """Days of the model and of the observations on the same coarse land cells, and their winters.

    Columns are tas in degC, then log(1 + pr / 0.1 mm day-1).
    """
    folder = shared_data() / "iberia"
    observed, grid = coarse_observations(folder)
    modelled = interpolated_model(folder, grid)
    land = np.isfinite(observed).all(axis=(0, 1)) & np.isfinite(modelled).all(axis=(0, 1))
    columns = [np.concatenate(list(x[:, :, land]), axis=1) for x in (modelled, observed)]
    years = [winter_of(opened(folder, f"tas*{name}*.nc")) for name in ("historical", "E-OBS")]
    return columns[0], years[0], columns[1], years[1]


def opened(folder: Path, pattern: str) -> xr.DataArray:
    (path,) = folder.glob(pattern)
    with xr.open_dataset(path) as dataset:
        return dataset[path.name.split("_")[0]].load().astype(float).sortby(["lat", "lon"])


def winter_of(field: xr.DataArray) -> Floats:
    return np.asarray(field["time"].dt.year + (field["time"].dt.month == 12), dtype=np.float64)


def coarse_observations(folder: Path) -> tuple[Floats, Grid]:
    """Means over 5 x 5 cells of which at least half are land, (2, time, ny, nx)."""
    fields = [opened(folder, f"{name}*E-OBS_025deg*.nc") for name in ("tas", "pr")]
    blocks = [field.coarsen(lat=5, lon=5, boundary="trim") for field in fields]
    known = [field.notnull().coarsen(lat=5, lon=5, boundary="trim").mean() for field in fields]
    means = [b.mean().where(k >= 0.5) for b, k in zip(blocks, known, strict=True)]
    grid = Grid.from_centres(means[0]["lat"].values, means[0]["lon"].values)
    return np.stack([means[0].values, np.log1p(means[1].values / 0.1)]), grid


def interpolated_model(folder: Path, grid: Grid) -> Floats:
    """Linear in latitude and longitude, (2, time, ny, nx)."""
    fields = [opened(folder, f"{name}*CNRM*historical*.nc") for name in ("tas", "pr")]
    tas, pr = (field.interp(lat=grid.lat, lon=grid.lon).values for field in fields)
    return np.stack([tas - 273.15, np.log1p(np.maximum(pr * 86400.0, 0.0) / 0.1)])


def prepared(
    winters: tuple[Floats, Floats, Floats, Floats], held: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Model days and observations to fit, then those held out; half of the model's winters are."""
    hist, hist_years, ref, ref_years = winters
    ours, theirs = hist_years % 2 == held[0] % 2, np.isin(ref_years, held)
    standard = Standardiser.fit(ref[~theirs])
    samples = hist[~ours], ref[~theirs], hist[ours], ref[theirs]
    source, target, held_source, held_target = (standard.forward(x) for x in samples)
    return source, target, held_source, held_target


def correlations(points: Floats) -> Floats:
    """Of tas and pr at each cell."""
    z = (points - points.mean(axis=0)) / points.std(axis=0)
    tas, pr = np.split(z, 2, axis=1)
    return np.asarray((tas * pr).mean(axis=0))


@pytest.mark.data
@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("reduced", [False, True])
def test_held_out_winters_come_near_held_out_observations(
    winters: tuple[Floats, Floats, Floats, Floats], odd: int, reduced: bool
) -> None:
    held = np.array([year for year in range(1991, 1998) if year % 2 == odd], dtype=np.float64)
    source, target, raw, truth = prepared(winters, held)
    mapping: Map
    if reduced:
        reduction = leading_eofs(source, target, explained=0.95)
        assert 10 <= len(reduction.eofs) <= 20
        mapping = reduction.lift(fit(reduction.reduce(source), reduction.reduce(target)))
    else:
        mapping = fit(source, target)
    mapped = mapping(raw)
    assert sliced_wasserstein(mapped, truth) < 0.5 * sliced_wasserstein(raw, truth)
    width = float(np.sqrt(2 * source.shape[1]))
    discrepancies = [maximum_mean_discrepancy(x, truth, width) for x in (mapped, raw)]
    assert discrepancies[0] < 0.2 * discrepancies[1]
    # Averaging takes little variance: the fitted observations have 1 in each column.
    tas, pr = np.split(mapped.var(axis=0), 2)
    assert 0.75 < tas.mean() < 1.2
    assert 0.75 < pr.mean() < 1.2


@pytest.mark.data
def test_correlation_of_the_variables_comes_nearer(
    winters: tuple[Floats, Floats, Floats, Floats],
) -> None:
    """Over the seven winters left out in turn; one alone differs from the others by chance."""
    errors = []
    for year in range(1991, 1998):
        source, target, raw, truth = prepared(winters, np.array([year], dtype=np.float64))
        # By blocks, which is the faster way.
        mapped = fit(source, target, batch_size=1000)(raw)
        expected = correlations(truth)
        errors.append([np.mean((correlations(x) - expected) ** 2) for x in (mapped, raw, target)])
    ours, before, floor = np.sqrt(np.mean(errors, axis=0))
    # The floor is what the other observed winters themselves miss by.
    assert before - ours > 0.5 * (before - floor)
