"""Protocols of sampling methods and of the observations that guide them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from climdown.diffusion.denoiser import Denoise

Noise = Callable[[int], Tensor]
"""Standard normal fields for a step, shape (batch, channels, ny, nx); step 0 is the start."""


class Measures(Protocol):
    """Measures the misfit of fields with observations."""

    def residual(self, x: Tensor) -> Tensor:
        """Weighted misfit of normalised fields, shape (batch, ...); differentiable in x."""


class Projects(Protocol):
    """Moves fields so that they fit observations."""

    def project(self, x: Tensor, sigma: float | None = None) -> Tensor:
        """The nearest fields that fit the observations, same shape.

        With `sigma`, distance is measured by how errors at that noise level covary, where that is
        known.
        """


class Observation(Measures, Projects, Protocol):
    """Observations of a batch of fine fields."""

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
