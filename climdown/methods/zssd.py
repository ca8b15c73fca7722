"""Zero-shot statistical downscaling by guided diffusion (ZSSD, arXiv 2601.21760)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from climdown.diffusion import schedule, solvers
from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.guidance import coarse_guidance, projection, unified_coordinate_guidance
from climdown.diffusion.sampler import Noise, Observation


@dataclass(frozen=True)
class ZSSD:
    """Posterior sampling from an unconditional prior in a dozen network evaluations.

    A second-order solver, and guidance that needs no derivative of the network: what it says is
    moved to the nearest field that has the observed means. The last field has them too.

    Attributes:
        steps: network evaluations per field.
        sigma_min, sigma_max: range of noise levels.
        eta: 1 for the SDE, 0 for the probability-flow ODE.
    """

    steps: int = 16
    sigma_min: float = 0.02
    sigma_max: float = 80.0
    eta: float = 1.0

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        sigmas = schedule.karras_sigmas(
            self.steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max
        )
        guided = projection(denoise, observation)
        return solvers.sample_fast(guided, noise, sigmas, eta=self.eta)


@dataclass(frozen=True)
class ReferenceZSSD:
    """The paper's sampler: DDPM steps, unified coordinate guidance through the network.

    Attributes:
        steps: network evaluations per field, each with a derivative; up to 1000.
        guidance_scale: zeta; too small blurs towards climatology, too large breaks the
            trajectory.
        eta: 1 for the ancestral sampler of the paper, 0 for a deterministic one.
        ladder: the noise levels of so many steps.
        coarse_loss: measure the misfit on the coarse grid, as plain posterior sampling does: the
            paper's ablation (Fig. 5b).
    """

    steps: int = 1000
    guidance_scale: float = 1.0
    eta: float = 1.0
    ladder: Callable[[int], Tensor] = schedule.ddpm_sigmas
    coarse_loss: bool = False

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        guide = coarse_guidance if self.coarse_loss else unified_coordinate_guidance
        guided = guide(denoise, observation, scale=self.guidance_scale)
        return solvers.sample(guided, noise, self.ladder(self.steps), eta=self.eta)
