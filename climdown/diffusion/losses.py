"""Training losses."""

from __future__ import annotations

import torch
from torch import Tensor

from climdown.diffusion.denoiser import Denoiser


def lognormal_sigmas(
    count: int, *, mean: float, std: float, generator: torch.Generator | None = None
) -> Tensor:
    """Training noise levels: ln(sigma) ~ N(mean, std^2) (arXiv 2206.00364, Table 1)."""
    return torch.exp(mean + std * torch.randn(count, generator=generator))


def edm_loss(
    denoiser: Denoiser, x0: Tensor, valid: Tensor, calendar: Tensor, sigma: Tensor, noise: Tensor
) -> Tensor:
    """Weighted denoising error of each field (arXiv 2206.00364, Eq. 8), over valid cells alone.

    Args:
        x0: clean normalised fields, zero where missing, shape (batch, channels, ny, nx).
        valid: 1 where x0 was observed, same shape; zero outside the denoiser's mask.
        calendar: (month, day, hour), shape (batch, 3).
        sigma: noise levels, shape (batch,).
        noise: standard normal, same shape as x0.

    Returns:
        shape (batch,): 1 for a denoiser that knows the data's variance alone.
    """
    level = sigma.reshape(-1, 1, 1, 1)
    weight = (level**2 + denoiser.sigma_data**2) / (level * denoiser.sigma_data) ** 2
    denoised = denoiser((x0 + level * noise) * denoiser.mask, sigma, calendar)
    error: Tensor = weight * (denoised - x0) ** 2 * valid
    return error.sum(dim=(1, 2, 3)) / valid.sum(dim=(1, 2, 3)).clamp(min=1)
