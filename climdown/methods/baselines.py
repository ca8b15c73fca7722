"""What every downscaling is compared with: interpolation, and the delta method."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.sampler import Noise, Observation


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


def no_network(x: Tensor, sigma: float) -> Tensor:  # noqa: ARG001
    """In place of a denoiser, for methods that ask none.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(f"a baseline asks no network, yet it was asked at noise level {sigma:g}")
