"""Integrators of the reverse process; they know a denoiser and nothing of guidance."""

from __future__ import annotations

import itertools
import math

from torch import Tensor

from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.sampler import Noise


def sample(denoise: Denoise, noise: Noise, sigmas: Tensor, *, eta: float = 1.0) -> Tensor:
    """Walk from pure noise to a clean field down a ladder of noise levels.

    At each level x = x0 + sigma n is replaced by a draw at the next one. With eta = 1 the draw
    is from q(x_next | x, x0 = D(x, sigma)), the ancestral step of DDPM (Ho et al. 2020,
    arXiv 2006.11239, Eq. 6-7) written for the variance-exploding convention; with eta = 0 it
    is DDIM (Song et al. 2021, arXiv 2010.02502, Eq. 12), which here is Euler's method on the
    probability-flow ODE.

    Args:
        denoise: D(x, sigma) = E[x0 | x].
        noise: noise(0) starts, noise(i) is added by step i.
        sigmas: descending, the last one zero, shape (steps + 1,).
        eta: share of fresh noise, 0 to 1.

    Returns:
        shape (batch, channels, ny, nx).
    """
    levels = [float(sigma) for sigma in sigmas]
    x = levels[0] * noise(0)
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(levels), start=1):
        denoised = denoise(x, sigma)
        fresh = eta * sigma_next * math.sqrt(1.0 - (sigma_next / sigma) ** 2)
        kept = math.sqrt(sigma_next**2 - fresh**2)
        x = denoised + (kept / sigma) * (x - denoised)
        if fresh > 0:
            x = x + fresh * noise(i)
    return x
