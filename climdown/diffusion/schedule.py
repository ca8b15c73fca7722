"""Noise levels, and the changes of variable between the conventions of the literature.

One convention serves all code: x = x0 + sigma n with n ~ N(0, I) (variance exploding). A DDPM
with cumulative signal fraction alpha_bar sees x' = sqrt(alpha_bar) x at
sigma = sqrt((1 - alpha_bar) / alpha_bar), so every DDPM step has its equivalent here.
"""

from __future__ import annotations

import torch
from torch import Tensor


def karras_sigmas(
    steps: int, *, sigma_min: float = 0.02, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """Noise levels of Karras et al. 2022 (arXiv 2206.00364, Eq. 5), from high to low, then 0.

    Returns:
        float64, shape (steps + 1,); the grid of levels is kept in double precision.

    Raises:
        ValueError: fewer than one step, or levels out of order.
    """
    _check_range(steps, sigma_min, sigma_max)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels = (high + ramp * (low - high)) ** rho
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


def geometric_sigmas(steps: int, *, sigma_min: float = 0.01, sigma_max: float = 500.0) -> Tensor:
    """Levels sigma_min (sigma_max / sigma_min)^t at even times t from 1 to 0.

    The variance-exploding schedule of Song et al. 2021 (arXiv 2011.13456, Appendix C). With a
    lower `sigma_max` it is the remaining part of the same schedule, in `steps` steps.

    Returns:
        float64, shape (steps + 1,), from high to low; the last one is `sigma_min`, not zero.

    Raises:
        ValueError: fewer than one step, or levels out of order.
    """
    _check_range(steps, sigma_min, sigma_max)
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    levels: Tensor = sigma_min * (sigma_max / sigma_min) ** times
    return levels


def lognormal_sigmas(uniform: Tensor, *, mean: float, std: float) -> Tensor:
    """Training noise levels, ln(sigma) ~ N(mean, std^2) (arXiv 2206.00364, Table 1).

    Args:
        uniform: random numbers in (0, 1), any shape.
    """
    # Six standard deviations: float32 may draw 0 itself.
    normal = torch.special.ndtri(uniform.double().clamp(1e-9, 1.0 - 1e-9))
    return torch.exp(mean + std * normal).float()


def sigma_from_alpha_bar(alpha_bar: Tensor) -> Tensor:
    """The noise level at which a DDPM with this cumulative signal fraction stands."""
    return torch.sqrt((1 - alpha_bar) / alpha_bar)


def alpha_bar_from_sigma(sigma: Tensor) -> Tensor:
    """The inverse of `sigma_from_alpha_bar`."""
    return 1 / (1 + sigma**2)


def ddpm_sigmas(
    steps: int, *, beta_first: float = 1e-4, beta_last: float = 0.02, train_steps: int = 1000
) -> Tensor:
    """Levels of the linear-beta DDPM (Ho et al. 2020, arXiv 2006.11239), respaced to `steps`.

    Returns:
        float64, shape (steps + 1,), from high to low, then 0.
    """
    if not 1 <= steps <= train_steps:
        raise ValueError(f"need 1 to {train_steps} steps, found {steps}")
    betas = torch.linspace(beta_first, beta_last, train_steps, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - betas, dim=0)
    index = torch.linspace(train_steps - 1, 0, steps, dtype=torch.float64).round().long()
    levels = sigma_from_alpha_bar(alpha_bar[index])
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


def vp_sigma(time: Tensor, *, beta_min: float = 0.1, beta_max: float = 20.0) -> Tensor:
    """The noise level of the variance-preserving SDE at a time in (0, 1].

    Linear beta(t) (Song et al. 2021, arXiv 2011.13456, Eq. 33): with B(t) its integral,
    alpha_bar = exp(-B), so sigma = sqrt(exp(B) - 1).
    """
    integral = beta_min * time + 0.5 * (beta_max - beta_min) * time**2
    return torch.expm1(integral).sqrt()


def vp_sigmas(steps: int, *, last: float = 1e-3) -> Tensor:
    """Levels of the variance-preserving SDE at even times from 1 to `last`, then 0.

    Returns:
        float64, shape (steps + 1,).

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"need at least one step, found {steps}")
    levels = vp_sigma(torch.linspace(1.0, last, steps, dtype=torch.float64))
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


def _check_range(steps: int, sigma_min: float, sigma_max: float) -> None:
    if steps < 1:
        raise ValueError(f"need at least one step, found {steps}")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"need 0 < sigma_min < sigma_max, found {sigma_min} and {sigma_max}")
