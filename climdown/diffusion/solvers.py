"""Integrators of the reverse process, for any denoiser, with guidance or without."""

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
    # Levels as Python's floats: the time grid stays in double precision, fields in single.
    levels = [float(sigma) for sigma in sigmas]
    x = levels[0] * noise(0)
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(levels), start=1):
        denoised = denoise(x, sigma)
        # The variance of q(x_next | x, x0) for eta = 1, sigma_next^2 (1 - sigma_next^2 / sigma^2).
        # The rest of sigma_next comes from the noise that x has already, (x - D) / sigma, so that
        # the level after the step is sigma_next for every eta.
        fresh = eta * sigma_next * math.sqrt(1.0 - (sigma_next / sigma) ** 2)
        remaining = math.sqrt(sigma_next**2 - fresh**2)
        x = denoised + (remaining / sigma) * (x - denoised)
        if fresh > 0:
            x = x + fresh * noise(i)
    return x


def sample_fast(
    denoise: Denoise,
    noise: Noise,
    sigmas: Tensor,
    *,
    eta: float = 1.0,
    start: Tensor | None = None,
) -> Tensor:
    """The same walk by the second-order multistep solver DPM-Solver++(2M), with fresh noise.

    Exact in the linear part of the SDE; the denoiser's output is extrapolated linearly in log sigma
    from the last two levels (Lu et al. 2022, arXiv 2211.01095, Algorithm 2; with noise:
    Appendix E.3 there). One evaluation a step. In the variance-exploding convention, with
    h = ln(sigma / sigma_next):

        x_next = k x + (1 - k) D' + sigma_next sqrt(1 - e^(-2 eta h)) n,    k = e^-((1 + eta) h)

    where D' continues D to the middle of the step.

    Args:
        denoise, noise, sigmas, eta: as of `sample`.
        start: fields that the first noise is added to; None begins from pure noise.

    Returns:
        shape (batch, channels, ny, nx).
    """
    levels = [float(sigma) for sigma in sigmas]
    x = levels[0] * noise(0)
    x = x if start is None else start + x
    before: tuple[float, Tensor] | None = None
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(levels), start=1):
        denoised = denoise(x, sigma)
        # The limit of infinite h, with k = 0 and no noise; D is not continued over an infinite
        # step.
        if sigma_next == 0.0:
            return denoised
        h = math.log(sigma / sigma_next)
        middle = denoised
        if before is not None:
            # Linear in log sigma through the last two D, taken half a step ahead: of second order.
            h_before, denoised_before = before
            middle = denoised + (h / (2.0 * h_before)) * (denoised - denoised_before)
        k = math.exp(-(1.0 + eta) * h)
        x = k * x + (1.0 - k) * middle
        # expm1, since 1 - e^(-2 eta h) of short steps would lose its digits.
        if eta > 0.0:
            x = x + sigma_next * math.sqrt(-math.expm1(-2.0 * eta * h)) * noise(i)
        before = (h, denoised)
    return x


def euler_maruyama(denoise: Denoise, noise: Noise, sigmas: Tensor, *, start: Tensor) -> Tensor:
    """Integrate the reverse SDE of the variance-exploding process from noised fields.

    On a geometric ladder, sigma(t) = sigma_min (sigma_max / sigma_min)^t, the SDE dx =
    -g^2 score dt + g dw has g^2 dt = 2 sigma^2 h with h = ln(sigma / sigma_next), and the score is
    (D - x) / sigma^2 (Song et al. 2021, arXiv 2011.13456, Eq. 6 and Appendix C):

        x_next = x + 2 h (D - x) + sigma sqrt(2 h) n

    The last step adds no noise.

    Args:
        denoise, noise: as of `sample`.
        sigmas: descending, none of them zero, shape (steps + 1,).
        start: clean fields, to which noise of the first level is added.

    Returns:
        shape (batch, channels, ny, nx).
    """
    levels = [float(sigma) for sigma in sigmas]
    x = start + levels[0] * noise(0)
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(levels), start=1):
        h = math.log(sigma / sigma_next)
        # Drift: g^2 dt score = 2 sigma^2 h (D - x) / sigma^2.
        x = x + 2.0 * h * (denoise(x, sigma) - x)
        if i < len(levels) - 1:
            x = x + sigma * math.sqrt(2.0 * h) * noise(i)
    return x
