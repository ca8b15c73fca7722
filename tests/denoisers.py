"""Denoisers in closed form, and noise for samplers."""

from __future__ import annotations

import torch
from torch import Tensor

from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.sampler import Noise


def gaussian_denoiser(mean: Tensor, covariance: Tensor) -> Denoise:
    """D(x, sigma) = m + C (C + sigma^2 I)^-1 (x - m), for flattened fields."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        noisy = covariance + sigma**2 * torch.eye(len(mean), dtype=covariance.dtype)
        # C and (C + sigma^2 I)^-1 commute, so their product is symmetric.
        gain = torch.linalg.solve(noisy, covariance)
        denoised: Tensor = (mean + (x.flatten(1) - mean) @ gain).reshape(x.shape)
        return denoised

    return denoise


def random_noise(*shape: int, seed: int = 0) -> Noise:
    generator = torch.Generator().manual_seed(seed)
    return lambda step: torch.randn(*shape, generator=generator, dtype=torch.float64)
