"""The diffusion bridge: noise drowns what the input does not resolve, and diffusion draws it anew.

Bischoff & Deck (arXiv 2305.01822), the baseline of Hess et al. (arXiv 2403.02774): the interpolated
input is carried forward to a noise level sigma(t*), and from there back by the reverse SDE of an
unconditional prior. Above the scale that the noise drowns the input is kept, as far as noise and
network let it be: nothing else ties the result to it.

Moving what the network says to the nearest fields with the observed means, as `cm` does, is not in
the papers. It costs no evaluation, and is the default of the fast sampler; the reference leaves it
out.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from climdown.diffusion import schedule, solvers
from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.guidance import projection
from climdown.diffusion.sampler import Noise, Observation


@dataclass(frozen=True)
class Bridge:
    """The way back in a dozen network evaluations of a second-order solver.

    Attributes:
        noise_scale: sigma(t*), in normalised units, above `sigma_min`.
        steps: network evaluations.
        sigma_min: the lowest noise level.
        keep_means: whether the network's answers are moved to the observed means.
    """

    noise_scale: float
    steps: int = 16
    sigma_min: float = 0.02
    keep_means: bool = True

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        sigmas = schedule.karras_sigmas(
            self.steps, sigma_min=self.sigma_min, sigma_max=self.noise_scale
        )
        answer = projection(denoise, observation) if self.keep_means else denoise
        return solvers.sample_fast(answer, noise, sigmas, start=observation.interpolate(noise(0)))


@dataclass(frozen=True)
class ReferenceBridge:
    """The papers' way back: 500 steps of Euler-Maruyama on a geometric ladder.

    Attributes:
        noise_scale, steps, keep_means: as of `Bridge`.
        sigma_min: the lowest noise level; the schedule's other end, 500, does not matter, since the
            way begins at `noise_scale`.
    """

    noise_scale: float
    steps: int = 500
    sigma_min: float = 0.01
    keep_means: bool = False

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        sigmas = schedule.geometric_sigmas(
            self.steps, sigma_min=self.sigma_min, sigma_max=self.noise_scale
        )
        answer = projection(denoise, observation) if self.keep_means else denoise
        guess = observation.interpolate(noise(0))
        x = solvers.euler_maruyama(answer, noise, sigmas, start=guess)
        return observation.project(x) if self.keep_means else x
