"""Scale-adaptive downscaling by a consistency model (Hess et al., arXiv 2403.02774)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from climdown.methods import noise_scale
from climdown.methods.method import Method, Problem, check_steps, keep_means_option, steps_option

if TYPE_CHECKING:
    from torch import Tensor

    from climdown.diffusion.denoiser import Denoise
    from climdown.diffusion.sampler import Noise, Observation, Sampler


@dataclass(frozen=True)
class CMOptions:
    """The options of the consistency model."""

    steps: int | None = steps_option()
    noise_scale: float | str = noise_scale.noise_scale_option()
    keep_means: bool | None = keep_means_option()

    def __post_init__(self) -> None:
        check_steps(self.steps)
        noise_scale.check_noise_scale(self.noise_scale)


@dataclass(frozen=True)
class ScaleAdaptiveCM:
    """The input is noised to the scale that it resolves; the network draws smaller ones anew.

    x_in is the observation interpolated; x = f(x_in + sigma n, sigma) keeps what stands out of
    the noise (their Eq. 8 and following). Moving each answer to the nearest field with the observed
    means is not in the paper; it costs no evaluation and takes a fifth off the error.

    Attributes:
        noise_scale: sigma(t*), in normalised units.
        steps: network evaluations; after the first, each begins from the field before it and
            less noise, evenly in log sigma down to `lowest`.
        sigma_min: the level at which f is the identity.
        lowest: share of `noise_scale` at which the last of several steps begins.
        keep_means: whether answers are moved to the observed means.
    """

    noise_scale: float
    steps: int = 1
    sigma_min: float = 0.002
    lowest: float = 0.25
    keep_means: bool = True

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        import torch

        x = observation.interpolate(noise(0))
        spent = torch.linspace(0.0, 1.0, self.steps, dtype=torch.float64)
        for step, share in enumerate(spent.tolist()):
            sigma = self.noise_scale * self.lowest**share
            added = math.sqrt(max(sigma**2 - self.sigma_min**2, 0.0))
            with torch.no_grad():
                x = denoise(x + added * noise(step), sigma)
                x = observation.project(x, sigma) if self.keep_means else x
        return x


class CMMethod(Method):
    """`--method cm`."""

    name = "cm"
    summary = "Draws the input's small scales by a consistency prior, in one network evaluation."
    source = "doi:10.1038/s42256-025-00980-5"
    prior_kinds = ("consistency",)
    Options = CMOptions

    def decide(self, options: CMOptions, problem: Problem) -> dict[str, Any]:
        """See `Method`."""
        return {
            "steps": options.steps or problem.card.sampling.steps,
            "keep_means": options.keep_means is not False,
            "noise_scale": noise_scale.find_noise_scale(options.noise_scale, problem),
        }

    def sampler(self, decided: Mapping[str, Any], problem: Problem) -> Sampler:
        """See `Method`."""
        return ScaleAdaptiveCM(
            decided["noise_scale"],
            decided["steps"],
            problem.card.sigma_min,
            keep_means=decided["keep_means"],
        )
