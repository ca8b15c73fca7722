"""What every downscaling is compared with: interpolation, the delta method, and BCSD.

They use no more of a prior than its grid and climatology, and draw nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from climdown.errors import PriorError
from climdown.methods.method import Method, NoOptions, Problem

if TYPE_CHECKING:
    from torch import Tensor

    from climdown.diffusion.denoiser import Denoise
    from climdown.diffusion.sampler import Noise, Observation, Sampler


@dataclass(frozen=True, eq=False)
class Delta:
    """A fine climatology, changed by what the observed means differ from its own, interpolated.

    The spatial disaggregation of Wood et al. 2004 (doi:10.1023/B:CLIM.0000013685.99609.9e, Sec.
    3.1): coarse factors of precipitation and differences of temperature, interpolated and applied
    to the fine climatology. From a pattern of zeros it is plain interpolation. Nothing is drawn.

    Attributes:
        pattern: the climatology in physical units, shape (channels, ny, nx).
        ratios: by channel, whether the change is a factor; else it is a difference.
    """

    pattern: Tensor
    ratios: tuple[bool, ...]

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:  # noqa: ARG002
        """The one normalised field of each observation, shape (batch, channels, ny, nx)."""
        return observation.delta(self.pattern, self.ratios)


class Baseline(Method):
    """A method that draws nothing."""

    source = "doi:10.1023/B:CLIM.0000013685.99609.9e"
    prior_kinds = ("diffusion", "consistency")
    members = 1
    Options = NoOptions

    def decide(self, options: NoOptions, problem: Problem) -> dict[str, Any]:  # noqa: ARG002
        """There is nothing to decide."""
        return {}

    def sampler(self, decided: Mapping[str, Any], problem: Problem) -> Sampler:  # noqa: ARG002
        """The delta method with the prior's climatologies.

        Raises:
            PriorError: the prior carries no climatology of a variable.
        """
        import torch

        pattern = torch.zeros(problem.mask.shape, dtype=torch.float32, device=problem.device)
        ratios = [False] * len(pattern)
        for variable in problem.variables:
            climatology = problem.climatology(variable.name)
            if climatology is None:
                raise PriorError(
                    f"prior {problem.card.name} carries no climatology of {variable.name} on its "
                    f"fine grid, from which {self.name} starts; train it anew, choose another "
                    "prior, or give --method bilinear"
                )
            pattern[variable.channel] = torch.from_numpy(climatology).to(problem.device)
            ratios[variable.channel] = variable.ratio
        return Delta(pattern, tuple(ratios))


class Bilinear(Baseline):
    """`--method bilinear`."""

    name = "bilinear"
    summary = "Baseline: interpolates the input."

    def sampler(self, decided: Mapping[str, Any], problem: Problem) -> Sampler:  # noqa: ARG002
        """The delta method from a pattern of zeros."""
        import torch

        pattern = torch.zeros(problem.mask.shape, dtype=torch.float32, device=problem.device)
        return Delta(pattern, (False,) * len(pattern))


class DeltaChange(Baseline):
    """`--method delta`."""

    name = "delta"
    summary = "Baseline: adds the input's change from its climatology to the prior's."


class BCSD(Baseline):
    """`--method bcsd`."""

    name = "bcsd"
    summary = "Baseline: delta after --bias qdm."
    bias = ("qdm",)
