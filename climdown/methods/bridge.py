"""The diffusion bridge: the input is noised, and diffusion draws what the noise hides anew.

Bischoff & Deck (arXiv 2305.01822), the baseline of Hess et al. (arXiv 2403.02774): the interpolated
input is carried forward to a noise level sigma(t*), and from there back by the reverse SDE of an
unconditional prior. Above the scale that this noise hides the input is kept, as far as noise and
network let it be: nothing else ties the result to it.

Moving what the network says to the nearest fields with the observed means, as `cm` does, is not in
the papers. It costs no evaluation, and is the default of the fast sampler; the reference leaves it
out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from climdown.errors import ConfigError
from climdown.methods import noise_scale
from climdown.methods.method import (
    Method,
    Problem,
    check_steps,
    keep_means_option,
    sampler_option,
    steps_option,
)

if TYPE_CHECKING:
    from torch import Tensor

    from climdown.diffusion.denoiser import Denoise
    from climdown.diffusion.sampler import Noise, Observation, Sampler

_REFERENCE_STEPS, _REFERENCE_LOWEST = 500, 0.01


@dataclass(frozen=True)
class BridgeOptions:
    """The options of the bridge."""

    sampler: Literal["fast", "reference"] = sampler_option("500 steps of Euler and Maruyama")
    steps: int | None = steps_option(f"the prior's, reference {_REFERENCE_STEPS}")
    noise_scale: float | str = noise_scale.noise_scale_option()
    keep_means: bool | None = keep_means_option("keep, but not the reference")

    def __post_init__(self) -> None:
        check_steps(self.steps)
        noise_scale.check_noise_scale(self.noise_scale)


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
        from climdown.diffusion import guidance, schedule, solvers

        sigmas = schedule.karras_sigmas(
            self.steps, sigma_min=self.sigma_min, sigma_max=self.noise_scale
        )
        answer = guidance.projection(denoise, observation) if self.keep_means else denoise
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
    steps: int = _REFERENCE_STEPS
    sigma_min: float = _REFERENCE_LOWEST
    keep_means: bool = False

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        from climdown.diffusion import guidance, schedule, solvers

        sigmas = schedule.geometric_sigmas(
            self.steps, sigma_min=self.sigma_min, sigma_max=self.noise_scale
        )
        answer = guidance.projection(denoise, observation) if self.keep_means else denoise
        guess = observation.interpolate(noise(0))
        x = solvers.euler_maruyama(answer, noise, sigmas, start=guess)
        return observation.project(x) if self.keep_means else x


class BridgeMethod(Method):
    """`--method bridge`."""

    name = "bridge"
    summary = "Draws the input's small scales by a diffusion prior, noised and denoised again."
    source = "arXiv:2305.01822"
    Options = BridgeOptions

    def decide(self, options: BridgeOptions, problem: Problem) -> dict[str, Any]:
        """See `Method`.

        Raises:
            ConfigError: noise so low that nothing would be drawn.
        """
        reference = options.sampler == "reference"
        level = noise_scale.find_noise_scale(options.noise_scale, problem)
        lowest = _lowest(options.sampler, problem)
        if not level > lowest:
            raise ConfigError(
                f"the noise scale is {level:g}, and the bridge ends at noise of {lowest:g}: "
                "nothing would be drawn; give a larger --noise-scale"
            )
        default = _REFERENCE_STEPS if reference else problem.card.sampling.steps
        keep = bool(options.keep_means) if reference else options.keep_means is not False
        return {
            "sampler": options.sampler,
            "steps": options.steps or default,
            "keep_means": keep,
            "noise_scale": level,
        }

    def sampler(self, decided: Mapping[str, Any], problem: Problem) -> Sampler:
        """See `Method`."""
        make = ReferenceBridge if decided["sampler"] == "reference" else Bridge
        lowest = _lowest(decided["sampler"], problem)
        return make(decided["noise_scale"], decided["steps"], lowest, decided["keep_means"])


def _lowest(sampler: str, problem: Problem) -> float:
    """The noise level at which the way back ends."""
    return _REFERENCE_LOWEST if sampler == "reference" else problem.card.sampling.sigma_min
