"""Misfits of coarse observations, their gradients, and guidance built on them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from climdown.diffusion.guidance import misfit_guidance, unified_coordinate_guidance
from climdown.diffusion.observation import CoarseObservation, CoarseOperator
from climdown.grid import Grid
from tests.operators import COARSE, FINE, make_operator, observe, ones, random, some_mask


def test_masked_cells_are_ignored_even_when_they_are_nan() -> None:
    mask, x = some_mask(), random(2, *FINE.shape)
    operator = make_operator(mask, log=True)
    broken = torch.where(mask > 0, x, torch.nan)
    assert torch.equal(operator.lower(broken), operator.lower(x))
    observation = observe(operator, random(2, *COARSE.shape).exp(), ones(2))
    assert observation.residual(broken[:, None]).isfinite().all()


@pytest.mark.parametrize("log", [False, True], ids=["linear", "log"])
def test_gradients_of_the_misfit_agree_with_finite_differences(
    log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed = ones(1)
    observed[:, 1, 1] = 0.0
    coarse = random(1, *COARSE.shape, seed=1).exp()
    operator = make_operator(some_mask(), log=log)
    observation = observe(operator, coarse, observed)
    x = random(1, 1, *FINE.shape).abs().requires_grad_(True)
    # The gradient takes the sensitivity for a constant; so do the differences.
    here = operator.sensitivity(x[:, 0], operator.lower(x[:, 0])).detach()
    monkeypatch.setattr(CoarseOperator, "sensitivity", lambda *_: here)

    def misfit(x: Tensor) -> Tensor:
        return observation.residual(x).square().sum()

    assert torch.autograd.gradcheck(misfit, (x,), eps=1e-6, rtol=1e-5)


@pytest.mark.parametrize("log", [False, True], ids=["linear", "log"])
def test_the_residual_is_exactly_zero_for_a_field_that_fits_and_for_no_other(log: bool) -> None:
    operator, x = make_operator(some_mask(), log=log), random(2, 1, *FINE.shape).abs()
    observed = (operator.covered > 0).double().expand(2, -1, -1)
    observation = observe(operator, operator.lower(x[:, 0]), observed)
    assert (observation.residual(x) == 0).all()
    assert observation.residual(x + 0.1).abs().max() > 0.01


def test_the_residual_is_the_weighted_misfit_of_the_raised_means() -> None:
    # One unit too warm everywhere: what is left is w, on valid cells.
    mask, x = some_mask(), random(1, 1, *FINE.shape)
    operator = make_operator(mask)
    observed = (operator.covered > 0).double()[None]
    residual = observe(operator, operator.lower(x[:, 0]), observed).residual(x + 1.0)
    counted = mask * (operator.seen(observed)[0] > 0.05)
    expected = torch.sqrt(torch.from_numpy(FINE.areas / FINE.areas.mean())) * counted
    torch.testing.assert_close(residual[0, 0], expected)


@pytest.mark.parametrize("missing", [1e9, float("nan"), float("inf")])
def test_missing_coarse_cells_do_not_contribute(missing: float) -> None:
    x, coarse = random(1, 1, *FINE.shape).requires_grad_(True), random(1, *COARSE.shape, seed=1)
    observed = ones(1)
    observed[:, 2, 3] = 0.0
    before = observe(make_operator(), coarse, observed).residual(x)
    coarse[:, 2, 3] = missing
    after = observe(make_operator(), coarse, observed).residual(x)
    assert torch.equal(before, after)
    (gradient,) = torch.autograd.grad(after.square().sum(), x)
    assert (gradient[..., 8:, 12:] == 0).all()
    assert (gradient[..., :8, :12] != 0).all()


def test_residuals_stand_in_the_order_of_the_observed_channels() -> None:
    x, operator = random(2, 3, *FINE.shape), make_operator()
    weights = torch.ones(FINE.shape, dtype=torch.float64)
    lowered = tuple(operator.lower(x[:, channel]) for channel in (2, 0))
    observation = CoarseObservation((operator,) * 2, (2, 0), lowered, (ones(2),) * 2, weights)
    assert observation.residual(x).shape == (2, 2, *FINE.shape)
    assert (observation.residual(x) == 0).all()
    shifted = x + torch.tensor([5.0, 1.0, 0.0]).reshape(1, 3, 1, 1)
    means = observation.residual(shifted).mean(dim=(0, 2, 3))
    torch.testing.assert_close(means, torch.tensor([0.0, 5.0]).double())


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_fine_space_misfit_steers_as_many_times_more_as_a_coarse_cell_has_cells(
    factor: int,
) -> None:
    # ZSSD, Fig. 5b: a mean over n cells has a gradient of 1/n in each; raised, n of them add up.
    fine, coarse = Grid.regular(-8, 8, 0, 16, 0.5), Grid.regular(-8, 8, 0, 16, 0.5 * factor)
    operator = make_operator(fine=fine, coarse=coarse)
    x = torch.zeros(1, *fine.shape, dtype=torch.float64, requires_grad=True)
    misfit = operator.lower(x) - 1.0
    raised = operator.raise_(misfit, torch.ones_like(misfit))
    (on_fine,) = torch.autograd.grad(raised.square().sum(), x, retain_graph=True)
    (on_coarse,) = torch.autograd.grad(misfit.square().sum(), x)
    ratio = (on_fine.norm() / on_coarse.norm()).item()
    # Exact for cells of equal area; those of this grid differ by 1 %.
    assert ratio == pytest.approx(factor**2, rel=0.01)


def linear_denoise(x: Tensor, sigma: float) -> Tensor:
    return x / (1.0 + sigma**2)


def test_guidance_steps_down_the_gradient_through_the_denoiser() -> None:
    operator, sigma, scale = make_operator(), 0.5, 1.7
    x, coarse = random(2, 1, *FINE.shape), random(2, *COARSE.shape, seed=1)
    observation = observe(operator, coarse, ones(2))
    denoised = linear_denoise(x, sigma)
    # grad_x of 1/2 |r(D(x))|^2 with D = x / (1 + sigma^2), by dense matrices.
    basis = torch.eye(FINE.lat.size * FINE.lon.size, dtype=torch.float64)
    zero = observation.residual(torch.zeros_like(x))
    fields = basis.reshape(-1, 1, 1, *FINE.shape)
    A = torch.stack([observation.residual(f.expand(2, -1, -1, -1))[0] - zero[0] for f in fields])
    r = observation.residual(denoised).flatten(1)
    gradient = (r @ A.flatten(1).T).reshape(x.shape) / (1.0 + sigma**2)
    guided = unified_coordinate_guidance(linear_denoise, observation, scale=scale)
    torch.testing.assert_close(guided(x, sigma), denoised - scale * gradient)


def test_the_coarse_residual_is_the_misfit_of_the_means_weighted_by_their_areas() -> None:
    mask, x = some_mask(), random(1, 1, *FINE.shape)
    operator = make_operator(mask)
    observed = ones(1)
    observed[:, 2, 3] = 0.0
    observation = observe(operator, operator.lower(x[:, 0]), observed)
    residual = observation.coarse_residual(x + 1.0)[0, 0]
    areas = torch.from_numpy(COARSE.areas / 16 / FINE.areas.mean())
    expected = torch.sqrt(areas) * observed[0] * (operator.covered > 0)
    # The weights are means by area of the fine cells' areas, within 1e-4 of plain means here.
    torch.testing.assert_close(residual, expected, rtol=1e-4, atol=1e-12)


def test_guidance_without_a_high_steps_down_the_gradient_on_the_coarse_grid() -> None:
    operator, x, sigma = make_operator(), random(1, 1, *FINE.shape), 0.5
    observation = observe(operator, random(1, *COARSE.shape, seed=1), ones(1))
    point = x.clone().requires_grad_(True)
    misfit = 0.5 * observation.coarse_residual(linear_denoise(point, sigma)).square().sum()
    (gradient,) = torch.autograd.grad(misfit, point)
    guided = misfit_guidance(linear_denoise, observation.coarse_residual, 1.7)(x, sigma)
    torch.testing.assert_close(guided, linear_denoise(x, sigma) - 1.7 * gradient)
    other = unified_coordinate_guidance(linear_denoise, observation, scale=1.7)(x, sigma)
    assert (guided - other).abs().max() > 0.01


def test_guidance_of_scale_zero_is_the_denoiser() -> None:
    observation = observe(make_operator(), random(1, *COARSE.shape), ones(1))
    x = random(1, 1, *FINE.shape)
    guided = unified_coordinate_guidance(linear_denoise, observation, scale=0.0)
    assert torch.equal(guided(x, 2.0), linear_denoise(x, 2.0))


def test_guidance_works_without_gradients_outside_and_keeps_no_graph() -> None:
    observation = observe(make_operator(), random(1, *COARSE.shape), ones(1))
    guided = unified_coordinate_guidance(linear_denoise, observation, scale=1.0)
    x = random(1, 1, *FINE.shape)
    outside = guided(x.clone().requires_grad_(True), 1.0)
    with torch.no_grad():
        inside = guided(x, 1.0)
    assert torch.equal(inside, outside)
    assert not outside.requires_grad


def test_guidance_of_a_field_does_not_depend_on_its_batch() -> None:
    x, coarse = random(3, 1, *FINE.shape), random(3, *COARSE.shape, seed=1)

    def guide(part: slice) -> Tensor:
        observation = observe(make_operator(some_mask()), coarse[part], ones(3)[part])
        guided = unified_coordinate_guidance(linear_denoise, observation, scale=1.0)
        return guided(x[part], 0.7)

    for i in range(3):
        one = slice(i, i + 1)
        torch.testing.assert_close(guide(slice(None))[one], guide(one), rtol=1e-12, atol=1e-12)
