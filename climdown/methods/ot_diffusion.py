"""Conditional sampling after optimal transport (Wan et al. 2023, arXiv 2305.15618).

The paper factorises statistical downscaling: an optimal transport map takes the bias off the coarse
field, which `run --bias ot` does; then fine fields are drawn, all of whose coarse means are the
debiased ones, by a diffusion model whose denoiser is post-processed (their Eq. 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from climdown.methods.method import Method, Problem, check_steps, sampler_option, steps_option
from climdown.options import option, require

if TYPE_CHECKING:
    from torch import Tensor

    from climdown.diffusion.denoiser import Denoise
    from climdown.diffusion.sampler import Noise, Observation, Sampler

_REFERENCE_STEPS = 250


@dataclass(frozen=True)
class OTDiffusionOptions:
    """The options of OT-diffusion."""

    sampler: Literal["fast", "reference"] = sampler_option(
        f"{_REFERENCE_STEPS} steps of the reverse SDE"
    )
    steps: int | None = steps_option(f"the prior's, reference {_REFERENCE_STEPS}")
    guidance_scale: float = option(
        1.0, "Of the gradient that goes beside the exact means; 0 leaves it out."
    )

    def __post_init__(self) -> None:
        check_steps(self.steps)
        scale = self.guidance_scale
        require(scale >= 0, f"guidance scale is {scale}; need at least 0")


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
        from climdown.diffusion import guidance, schedule, solvers

        sigmas = schedule.karras_sigmas(
            self.steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max
        )
        guided = guidance.projected_gradient(denoise, observation, scale=self.guidance_scale)
        return solvers.sample_fast(guided, noise, sigmas)


@dataclass(frozen=True)
class ReferenceOTDiffusion:
    """Several hundred steps of the reverse SDE on the variance-preserving schedule, as the paper's.

    Attributes:
        steps, guidance_scale: as of `OTDiffusion`.
        ladder: the noise levels of so many steps; None takes the variance-preserving ones.
    """

    steps: int = _REFERENCE_STEPS
    guidance_scale: float = 1.0
    ladder: Callable[[int], Tensor] | None = None

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        from climdown.diffusion import guidance, schedule, solvers

        guided = guidance.projected_gradient(denoise, observation, scale=self.guidance_scale)
        sigmas = (self.ladder or schedule.vp_sigmas)(self.steps)
        return solvers.sample(guided, noise, sigmas, eta=1.0)


class OTDiffusionMethod(Method):
    """`--method ot-diffusion`."""

    name = "ot-diffusion"
    summary = "Draws under the input's exact coarse means, after --bias ot."
    source = "arXiv:2305.15618"
    bias = ("ot", "none")
    Options = OTDiffusionOptions

    def decide(self, options: OTDiffusionOptions, problem: Problem) -> dict[str, Any]:
        """See `Method`."""
        reference = options.sampler == "reference"
        default = _REFERENCE_STEPS if reference else problem.card.sampling.steps
        return {
            "sampler": options.sampler,
            "steps": options.steps or default,
            "guidance_scale": options.guidance_scale,
        }

    def sampler(self, decided: Mapping[str, Any], problem: Problem) -> Sampler:
        """See `Method`."""
        steps, scale = decided["steps"], decided["guidance_scale"]
        if decided["sampler"] == "reference":
            return ReferenceOTDiffusion(steps, scale)
        sampling = problem.card.sampling
        return OTDiffusion(steps, scale, sampling.sigma_min, sampling.sigma_max)
