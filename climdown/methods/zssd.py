"""Zero-shot statistical downscaling by guided diffusion (ZSSD, arXiv 2601.21760)."""

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

_REFERENCE_STEPS = 1000


@dataclass(frozen=True)
class ZSSDOptions:
    """The options of ZSSD."""

    sampler: Literal["fast", "reference"] = sampler_option(
        "a thousand steps with guidance through the network"
    )
    steps: int | None = steps_option(f"the prior's, reference {_REFERENCE_STEPS}")
    guidance_scale: float | None = option(
        None,
        "Pull of the reference sampler towards the input.",
        default_text="the prior's",
    )

    def __post_init__(self) -> None:
        check_steps(self.steps)
        pull = self.guidance_scale
        require(pull is None or pull >= 0, f"guidance scale is {pull}; need at least 0")
        require(
            pull is None or self.sampler == "reference",
            "the guidance scale is one of the reference sampler; the fast one has no such number: "
            "leave it out, or give --sampler reference",
        )


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
        from climdown.diffusion import guidance, schedule, solvers

        sigmas = schedule.karras_sigmas(
            self.steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max
        )
        guided = guidance.projection(denoise, observation)
        return solvers.sample_fast(guided, noise, sigmas, eta=self.eta)


@dataclass(frozen=True)
class ReferenceZSSD:
    """The paper's sampler: DDPM steps, unified coordinate guidance through the network.

    Attributes:
        steps: network evaluations per field, each with a derivative; up to 1000.
        guidance_scale: zeta; too small blurs towards climatology, too large breaks the
            trajectory.
        eta: 1 for the ancestral sampler of the paper, 0 for a deterministic one.
        ladder: the noise levels of so many steps; None takes those of DDPM.
    """

    steps: int = _REFERENCE_STEPS
    guidance_scale: float = 1.0
    eta: float = 1.0
    ladder: Callable[[int], Tensor] | None = None

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        from climdown.diffusion import guidance, schedule, solvers

        guided = guidance.unified_coordinate_guidance(
            denoise, observation, scale=self.guidance_scale
        )
        sigmas = (self.ladder or schedule.ddpm_sigmas)(self.steps)
        return solvers.sample(guided, noise, sigmas, eta=self.eta)


class ZSSDMethod(Method):
    """`--method zssd`."""

    name = "zssd"
    summary = "Guides a diffusion prior by the input."
    source = "arXiv:2601.21760"
    Options = ZSSDOptions

    def decide(self, options: ZSSDOptions, problem: Problem) -> dict[str, Any]:
        """See `Method`."""
        sampling = problem.card.sampling
        if options.sampler == "fast":
            return {"sampler": "fast", "steps": options.steps or sampling.steps}
        scale = options.guidance_scale
        return {
            "sampler": "reference",
            "steps": options.steps or _REFERENCE_STEPS,
            "guidance_scale": sampling.guidance_scale if scale is None else scale,
        }

    def sampler(self, decided: Mapping[str, Any], problem: Problem) -> Sampler:
        """See `Method`."""
        if decided["sampler"] == "reference":
            return ReferenceZSSD(decided["steps"], decided["guidance_scale"])
        sampling = problem.card.sampling
        return ZSSD(decided["steps"], sampling.sigma_min, sampling.sigma_max)
