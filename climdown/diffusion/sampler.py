"""What every sampling method offers, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from climdown.diffusion.denoiser import Denoise

Noise = Callable[[int], Tensor]
"""Standard normal fields for a step, shape (batch, channels, ny, nx); step 0 is the start."""


class Measures(Protocol):
    """How far fields are from what was observed."""

    def residual(self, x: Tensor) -> Tensor:
        """Weighted misfit of normalised fields, shape (batch, ...); differentiable in x."""


class Projects(Protocol):
    """Which fields fit what was observed."""

    def project(self, x: Tensor, sigma: float | None = None) -> Tensor:
        """The nearest fields that fit what was observed, same shape.

        With `sigma`, nearest as errors at that noise level hang together, where that is known.
        """


class Observation(Measures, Projects, Protocol):
    """What is known of a batch of fine fields."""

    def coarse_residual(self, x: Tensor) -> Tensor:
        """The residual on the coarse grid, shape (batch, ...)."""

    def interpolate(self, like: Tensor) -> Tensor:
        """A first guess, smooth between the observed means; shape of `like`."""

    def delta(self, pattern: Tensor, ratios: Sequence[bool]) -> Tensor:
        """A physical pattern (channels, ny, nx), changed by factors or differences of means.

        Normalised, shape (batch, channels, ny, nx).
        """


class Sampler(Protocol):
    """A method that draws fine fields given an observation of them."""

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
