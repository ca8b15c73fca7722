"""Zero-shot statistical downscaling by guided diffusion (ZSSD, arXiv 2601.21760)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
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
        temperature: of the noise that each step adds, by channel, 1 where empty. A network that
            learnt from few fields draws too widely; less than 1 takes that back.
    """

    steps: int = 16
    sigma_min: float = 0.02
    sigma_max: float = 80.0
    eta: float = 1.0
    temperature: tuple[float, ...] = ()

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        sigmas = schedule.karras_sigmas(
            self.steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max
        )
        guided = projection(denoise, observation)
        return solvers.sample_fast(guided, self._tempered(noise), sigmas, eta=self.eta)

    def _tempered(self, noise: Noise) -> Noise:
        if not self.temperature:
            return noise
        scales = torch.tensor(self.temperature)[:, None, None]

        def scaled(step: int) -> Tensor:
            drawn = noise(step)
            return drawn if step == 0 else scales.to(drawn) * drawn

        return scaled


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
