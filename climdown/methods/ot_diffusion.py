"""Conditional sampling after optimal transport (Wan et al. 2023, arXiv 2305.15618).

The paper factorises statistical downscaling: an optimal transport map takes the bias off the coarse
field, which `run --bias ot` does; then fine fields are drawn, all of whose coarse means are the
debiased ones, by a diffusion model whose denoiser is post-processed (their Eq. 7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from climdown.diffusion import schedule, solvers
from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.guidance import projected_gradient
from climdown.diffusion.sampler import Noise, Observation


@dataclass(frozen=True)
class OTDiffusion:
    """Exact coarse means and the gradient beside them, in a dozen differentiated evaluations.

    Attributes:
        steps: network evaluations per field, each with a derivative.
        guidance_scale: of the gradient; 0 is ZSSD's fast sampler. 1 is right for independent cells
            as noise goes to zero.
        sigma_min, sigma_max: range of noise levels.
    """

    steps: int = 16
    guidance_scale: float = 1.0
    sigma_min: float = 0.02
    sigma_max: float = 80.0

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        sigmas = schedule.karras_sigmas(
            self.steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max
        )
        guided = projected_gradient(denoise, observation, scale=self.guidance_scale)
        return solvers.sample_fast(guided, noise, sigmas)


@dataclass(frozen=True)
class ReferenceOTDiffusion:
    """Several hundred steps of the reverse SDE on the variance-preserving schedule, as the paper's.

    Attributes:
        steps, guidance_scale: as of `OTDiffusion`.
        ladder: the noise levels of so many steps.
    """

    steps: int = 250
    guidance_scale: float = 1.0
    ladder: Callable[[int], Tensor] = schedule.vp_sigmas

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        guided = projected_gradient(denoise, observation, scale=self.guidance_scale)
        return solvers.sample(guided, noise, self.ladder(self.steps), eta=1.0)
