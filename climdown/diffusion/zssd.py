"""Zero-shot statistical downscaling by guided diffusion (ZSSD, arXiv 2601.21760)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from climdown.diffusion import schedule, solvers
from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.guidance import unified_coordinate_guidance
from climdown.diffusion.sampler import Noise, Observation


@dataclass(frozen=True)
class ZSSD:
    """Posterior sampling from an unconditional prior with unified coordinate guidance.

    Attributes:
        steps: network evaluations per field.
        guidance_scale: zeta; too small blurs towards climatology, too large breaks the
            trajectory.
        sigma_min, sigma_max: range of noise levels.
        eta: 1 for the ancestral sampler of the paper, 0 for a deterministic one.
    """

    steps: int = 40
    guidance_scale: float = 1.0
    sigma_min: float = 0.02
    sigma_max: float = 80.0
    eta: float = 1.0

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        guided = unified_coordinate_guidance(denoise, observation, scale=self.guidance_scale)
        sigmas = schedule.karras_sigmas(
            self.steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max
        )
        return solvers.sample(guided, noise, sigmas, eta=self.eta)
