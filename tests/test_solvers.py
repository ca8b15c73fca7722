"""The solver against closed forms: Gaussian data, a known clean field, and Ho's own DDPM."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from climdown.diffusion import solvers
from climdown.diffusion.schedule import ddpm_sigmas, karras_sigmas
from tests.denoisers import gaussian_denoiser, random_noise

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
_FACTOR = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [-0.5, 0.3, 0.7]], dtype=torch.float64)
COVARIANCE = _FACTOR @ _FACTOR.T


def probability_flow_end(start: Tensor, sigma: float) -> Tensor:
    """Where the flow takes x at sigma: each mode of x - m shrinks as sqrt(c / (c + sigma^2))."""
    variances, modes = torch.linalg.eigh(COVARIANCE)
    shrink = (modes * torch.sqrt(variances / (variances + sigma**2))) @ modes.T
    end: Tensor = (MEAN + (start.flatten(1) - MEAN) @ shrink).reshape(start.shape)
    return end


def test_without_fresh_noise_the_error_against_the_probability_flow_falls_with_order_one() -> None:
    sigma_max, start = 20.0, random_noise(16, 1, 1, 3)(0)
    exact = probability_flow_end(sigma_max * start, sigma_max)
    steps = [50, 100, 200, 400]
    errors = []
    for count in steps:
        # sigma_min is so low that the last step to zero costs 1e-6 only.
        sigmas = karras_sigmas(count, sigma_min=1e-3, sigma_max=sigma_max)
        denoise = gaussian_denoiser(MEAN, COVARIANCE)
        x = solvers.sample(denoise, lambda step: start, sigmas, eta=0.0)
        errors.append((x - exact).abs().max().item())
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.03)
    assert errors[-1] < 0.02


def test_ancestral_samples_have_the_mean_and_covariance_of_the_data() -> None:
    count = 8000
    x = solvers.sample(
        gaussian_denoiser(MEAN, COVARIANCE),
        random_noise(count, 1, 1, 3),
        karras_sigmas(400, sigma_min=0.01, sigma_max=30.0),
        eta=1.0,
    ).flatten(1)
    variances = COVARIANCE.diagonal()
    # 4 standard errors of a sample mean and, for normals, of a sample covariance; the
    # ancestral step at 400 levels adds a known lack of variance of order 1 / steps.
    assert ((x.mean(0) - MEAN).abs() < 4 * torch.sqrt(variances / count)).all()
    errors = torch.sqrt((COVARIANCE**2 + torch.outer(variances, variances)) / count)
    assert ((x.T.cov() - COVARIANCE).abs() < 4 * errors + 0.01).all()


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_every_level_holds_the_noise_its_name_says(eta: float) -> None:
    # With the clean field known, x at each level is x0 + sigma n, whatever eta.
    clean, count = 3.0, 20_000
    seen: dict[float, Tensor] = {}

    def denoise(x: Tensor, sigma: float) -> Tensor:
        seen[sigma] = x.flatten()
        return torch.full_like(x, clean)

    sigmas = karras_sigmas(6, sigma_min=0.5, sigma_max=10.0)
    draw = random_noise(count, 1, 1, 1)

    def noise(step: int) -> Tensor:
        # The sampler starts at sigma_max n; put the clean field below the first one.
        return draw(step) + (clean / sigmas[0] if step == 0 else 0.0)

    x = solvers.sample(denoise, noise, sigmas, eta=eta)
    assert list(seen) == sigmas[:-1].tolist()
    for sigma, values in seen.items():
        assert abs(values.mean().item() - clean) < 4.5 * sigma / math.sqrt(count)
        assert values.std().item() == pytest.approx(sigma, rel=4.5 / math.sqrt(2 * count))
    assert torch.equal(x, torch.full_like(x, clean))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_eta_sets_how_much_noise_a_step_keeps(eta: float) -> None:
    seen = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        seen.append(x.flatten())
        return torch.zeros_like(x)

    count, sigmas = 20_000, torch.tensor([5.0, 2.0, 0.0])
    solvers.sample(denoise, random_noise(count, 1, 1, 1), sigmas, eta=eta)
    correlation = torch.corrcoef(torch.stack(seen))[0, 1].item()
    # The Brownian path of the ancestral sampler has correlation sigma_next / sigma.
    assert correlation == pytest.approx(1.0 if eta == 0 else 0.4, abs=4.5 / math.sqrt(count))


def test_ancestral_steps_are_those_of_ho_et_al_after_the_change_of_variable() -> None:
    train_steps, first, last = 30, 1e-3, 0.2
    draws = [random_noise(4, 1, 1, 3, seed=step)(0) for step in range(train_steps + 1)]
    denoise = gaussian_denoiser(MEAN, COVARIANCE)
    sigmas = ddpm_sigmas(train_steps, beta_first=first, beta_last=last, train_steps=train_steps)
    ours = solvers.sample(denoise, lambda step: draws[step], sigmas, eta=1.0)

    beta = np.linspace(first, last, train_steps)
    bars = np.concatenate([[1.0], np.cumprod(1 - beta)])
    # Ho starts at x_T ~ N(0, I); the exact marginal is sqrt(1 - alpha_bar) of it.
    x = math.sqrt(1 - bars[-1]) * draws[0]
    for i, t in enumerate(range(train_steps, 0, -1), start=1):
        b, bar, bar_next = beta[t - 1], bars[t], bars[t - 1]
        x0 = denoise(x / math.sqrt(bar), math.sqrt((1 - bar) / bar))
        of_x0 = math.sqrt(bar_next) * b / (1 - bar)
        of_x = math.sqrt(1 - b) * (1 - bar_next) / (1 - bar)
        x = of_x0 * x0 + of_x * x + math.sqrt((1 - bar_next) / (1 - bar) * b) * draws[i]
    torch.testing.assert_close(ours, x, rtol=1e-10, atol=1e-10)


def test_the_last_step_returns_the_denoised_field_without_noise() -> None:
    answers = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        answers.append(0.3 * x)
        return answers[-1]

    x = solvers.sample(denoise, random_noise(2, 1, 1, 3), karras_sigmas(4), eta=1.0)
    torch.testing.assert_close(x, answers[-1], rtol=0, atol=1e-14)


@pytest.mark.parametrize(("eta", "expected"), [(0.0, [0]), (1.0, [0, 1, 2, 3])])
def test_noise_is_asked_for_by_the_number_of_the_step(eta: float, expected: list[int]) -> None:
    asked = []

    def noise(step: int) -> Tensor:
        asked.append(step)
        return torch.zeros(1, 1, 1, 1)

    solvers.sample(lambda x, sigma: x, noise, karras_sigmas(4), eta=eta)
    assert asked == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_keep_the_type_of_the_noise(dtype: torch.dtype) -> None:
    x = solvers.sample(
        lambda x, sigma: 0.5 * x, lambda step: torch.ones(1, 1, 2, 2, dtype=dtype), karras_sigmas(3)
    )
    assert x.dtype == dtype


@pytest.mark.parametrize(("eta", "order"), [(0.0, 2.0)])
def test_the_fast_solver_is_of_second_order(eta: float, order: float) -> None:
    sigma_max, start = 20.0, random_noise(16, 1, 1, 3)(0)
    exact = probability_flow_end(sigma_max * start, sigma_max)
    steps, errors = [50, 100, 200, 400], []
    for count in steps:
        # Equal steps in log sigma; sigma_min is so low that the last step costs 1e-8 only.
        levels = torch.logspace(math.log10(sigma_max), -4.0, count + 1, dtype=torch.float64)
        sigmas = torch.cat([levels, torch.zeros(1, dtype=torch.float64)])
        denoise = gaussian_denoiser(MEAN, COVARIANCE)
        x = solvers.sample_fast(denoise, lambda step: start, sigmas, eta=eta)
        errors.append((x - exact).abs().max().item())
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(-order, abs=0.15)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_fast_samples_have_the_mean_and_covariance_of_the_data(eta: float) -> None:
    count = 8000
    x = solvers.sample_fast(
        gaussian_denoiser(MEAN, COVARIANCE),
        random_noise(count, 1, 1, 3),
        karras_sigmas(60, sigma_min=0.01, sigma_max=30.0),
        eta=eta,
    ).flatten(1)
    variances = COVARIANCE.diagonal()
    # 4 standard errors; a ladder of 60 levels costs less than 0.01 of variance.
    assert ((x.mean(0) - MEAN).abs() < 4 * torch.sqrt(variances / count)).all()
    errors = torch.sqrt((COVARIANCE**2 + torch.outer(variances, variances)) / count)
    assert ((x.T.cov() - COVARIANCE).abs() < 4 * errors + 0.01).all()
