"""Noise levels: shape, end points, and agreement with the DDPM of Ho et al. 2020."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown.diffusion.schedule import (
    alpha_bar_from_sigma,
    ddpm_sigmas,
    karras_sigmas,
    lognormal_sigmas,
    sigma_from_alpha_bar,
    vp_sigma,
)


@settings(max_examples=50)
@given(
    steps=st.integers(2, 200),
    low=st.floats(1e-3, 0.5),
    ratio=st.floats(1.5, 1e4),
    rho=st.floats(1.0, 10.0),
)
def test_karras_levels_fall_from_sigma_max_to_sigma_min_then_zero(
    steps: int, low: float, ratio: float, rho: float
) -> None:
    levels = karras_sigmas(steps, sigma_min=low, sigma_max=low * ratio, rho=rho)
    assert levels.dtype == torch.float64
    assert levels.shape == (steps + 1,)
    assert (levels.diff() < 0).all()
    assert levels[0].item() == pytest.approx(low * ratio, rel=1e-12)
    assert levels[-2].item() == pytest.approx(low, rel=1e-9)
    assert levels[-1].item() == 0.0


@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
def test_karras_levels_are_equally_spaced_in_the_power_one_over_rho(rho: float) -> None:
    levels = karras_sigmas(12, sigma_min=0.1, sigma_max=50.0, rho=rho)[:-1]
    spacings = np.diff(levels.numpy() ** (1 / rho))
    np.testing.assert_allclose(spacings, spacings[0], rtol=1e-10)


def test_a_single_karras_step_starts_at_sigma_max() -> None:
    assert karras_sigmas(1, sigma_max=30.0).tolist() == pytest.approx([30.0, 0.0])


@pytest.mark.parametrize("steps", [0, -3])
def test_karras_needs_a_step(steps: int) -> None:
    with pytest.raises(ValueError, match=f"at least one step, found {steps}"):
        karras_sigmas(steps)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, 1.0)])
def test_karras_needs_levels_in_order(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=f"0 < sigma_min < sigma_max, found {low} and {high}"):
        karras_sigmas(5, sigma_min=low, sigma_max=high)


def test_sigma_and_alpha_bar_are_inverse() -> None:
    alpha_bar = torch.linspace(0.001, 0.999, 50, dtype=torch.float64)
    torch.testing.assert_close(alpha_bar_from_sigma(sigma_from_alpha_bar(alpha_bar)), alpha_bar)


def test_sigma_is_the_noise_to_signal_ratio_of_a_ddpm() -> None:
    # x' = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) n: here 0.6 x0 + 0.8 n.
    sigma = sigma_from_alpha_bar(torch.tensor(0.36, dtype=torch.float64))
    assert sigma.item() == pytest.approx(0.8 / 0.6)


def test_all_ddpm_levels_follow_the_product_of_the_signal_fractions() -> None:
    alpha_bar = 1.0
    expected = []
    for step in range(1000):
        alpha_bar *= 1.0 - (1e-4 + (0.02 - 1e-4) * step / 999)
        expected.append(np.sqrt((1.0 - alpha_bar) / alpha_bar))
    levels = ddpm_sigmas(1000)
    np.testing.assert_allclose(levels[:-1].numpy(), expected[::-1], rtol=1e-10)
    assert levels[-1].item() == 0.0


@pytest.mark.parametrize("steps", [2, 7, 40, 999])
def test_respaced_ddpm_levels_are_a_falling_selection_with_both_ends(steps: int) -> None:
    every = ddpm_sigmas(1000)
    levels = ddpm_sigmas(steps)
    assert levels.shape == (steps + 1,)
    assert (levels.diff() < 0).all()
    assert torch.isin(levels, every).all()
    assert levels[[0, -2]].tolist() == every[[0, -2]].tolist()


@pytest.mark.parametrize("steps", [0, 1001])
def test_ddpm_cannot_take_more_steps_than_it_was_trained_with(steps: int) -> None:
    with pytest.raises(ValueError, match=f"need 1 to 1000 steps, found {steps}"):
        ddpm_sigmas(steps)


def test_noise_levels_are_lognormal() -> None:
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    levels = lognormal_sigmas(uniform, mean=-1.2, std=1.3)
    fit = scipy.stats.kstest(levels.log().numpy(), scipy.stats.norm(-1.2, 1.3).cdf)
    assert fit.pvalue > 1e-4


def test_a_noise_level_is_a_quantile_of_the_lognormal() -> None:
    shares = torch.tensor([0.001, 0.1, 0.5, 0.9, 0.999], dtype=torch.float64)
    normal = statistics.NormalDist(0.4, 0.7)
    expected = [np.exp(normal.inv_cdf(float(share))) for share in shares]
    found = lognormal_sigmas(shares, mean=0.4, std=0.7)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_the_ends_of_the_uniform_numbers_give_levels_too() -> None:
    ends = lognormal_sigmas(torch.tensor([0.0, 1.0]), mean=0.0, std=1.0)
    # Six standard deviations below and above.
    np.testing.assert_allclose(ends.log().numpy(), [-5.998, 5.998], atol=1e-3)


@pytest.mark.parametrize("time", [1e-5, 0.1, 0.5, 1.0])
def test_the_variance_preserving_level_follows_from_the_integral_of_beta(time: float) -> None:
    integral, _ = scipy.integrate.quad(lambda t: 0.1 + t * (20.0 - 0.1), 0.0, time)
    alpha_bar = np.exp(-integral)
    level = vp_sigma(torch.tensor(time, dtype=torch.float64)).item()
    assert level == pytest.approx(np.sqrt((1.0 - alpha_bar) / alpha_bar), rel=1e-6)
