"""Observing fine fields at a coarse scale, and steering a denoiser by what was observed.

Guidance is a function from denoiser to denoiser; no solver knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.sampler import Observation

PointwiseMap = Callable[[Tensor], Tensor]

_EPSILON = 1e-6


@dataclass(frozen=True, eq=False)
class CoarseOperator:
    """A = A_high after A_low for one variable (ZSSD, arXiv 2601.21760, Sec. 3.2).

    A_low takes the area-weighted mean over the valid fine cells in each coarse cell; A_high
    interpolates back to the fine grid. Both are products of a matrix per axis.

    Attributes:
        lower_lat, lower_lon: overlap fractions, shapes (coarse ny, ny) and (coarse nx, nx).
        raise_lat, raise_lon: interpolation weights, shapes (ny, coarse ny) and (nx, coarse nx).
        mask: valid fine cells, shape (ny, nx).
        decode: normalised fine values to physical ones, in which means are taken.
        encode: physical coarse values to the space in which misfits are measured.
    """

    lower_lat: Tensor
    lower_lon: Tensor
    raise_lat: Tensor
    raise_lon: Tensor
    mask: Tensor
    decode: PointwiseMap
    encode: PointwiseMap

    def lower(self, x: Tensor) -> Tensor:
        """A_low: physical means over coarse cells of normalised fields (batch, ny, nx).

        Coarse cells without a valid fine cell are 0.
        """
        # Masked cells hold nothing; zero them before decoding, or NaN * 0 would spread, in the
        # values and in the gradient.
        valid = self.mask > 0
        values = torch.where(valid, self.decode(torch.where(valid, x, 0.0)), 0.0)
        total = _product(self.lower_lat, values, self.lower_lon)
        return total / self.covered.clamp(min=_EPSILON)

    def sensitivity(self, x: Tensor, lowered: Tensor) -> Tensor:
        """How much steeper encode(lower(x)) is than a plain mean, shape of `lowered`, at least 1.

        With c_i the derivative of an encoded coarse value to the fine cell i, and w_i the
        area weights of the mean, sum c_i^2 / sum w_i^2. It is 1 for linear maps. Under a
        logarithm it grows with the share of the wettest cells, up to the number of cells
        where a single one makes up the whole mean.
        """
        with torch.enable_grad():
            fine = torch.where(self.mask > 0, x, 0.0).detach().requires_grad_(True)
            coarse = lowered.detach().requires_grad_(True)
            (decoded,) = torch.autograd.grad(self.decode(fine).sum(), fine)
            (encoded,) = torch.autograd.grad(self.encode(coarse).sum(), coarse)
        squares = self._squared_sum(self.mask * decoded**2)
        return (encoded**2 * squares / self._squared_weights).clamp(min=1.0)

    @cached_property
    def _squared_weights(self) -> Tensor:
        return self._squared_sum(self.mask).clamp(min=_EPSILON**2)

    def _squared_sum(self, values: Tensor) -> Tensor:
        return _product(self.lower_lat**2, values, self.lower_lon**2)

    @cached_property
    def covered(self) -> Tensor:
        """Share of each coarse cell that valid fine cells cover, (coarse ny, coarse nx)."""
        return _product(self.lower_lat, self.mask, self.lower_lon)

    def raise_(self, coarse: Tensor, observed: Tensor) -> Tensor:
        """A_high: interpolate over the observed coarse cells alone, shape (batch, ny, nx).

        Fine cells that see no observed cell are 0.
        """
        total = _product(self.raise_lat, coarse * observed, self.raise_lon)
        return total / self.seen(observed).clamp(min=_EPSILON)

    def seen(self, observed: Tensor) -> Tensor:
        """Interpolation weight of observed cells in each fine cell, shape (batch, ny, nx)."""
        return _product(self.raise_lat, observed, self.raise_lon)


@dataclass(frozen=True, eq=False)
class CoarseObservation:
    """Coarse values of some variables of a batch; the others are simply not guided.

    Attributes:
        operators: one per observed variable.
        channels: the channel of each.
        coarse: physical coarse values, shape (batch, coarse ny, coarse nx) each.
        observed: 1 where there is a value, same shapes.
        weights: of each fine cell in the misfit (the papers' w_lat), shape (ny, nx).
    """

    operators: tuple[CoarseOperator, ...]
    channels: tuple[int, ...]
    coarse: tuple[Tensor, ...]
    observed: tuple[Tensor, ...]
    weights: Tensor

    def residual(self, x: Tensor) -> Tensor:
        """w (A(x) - y) *in the fine space*, shape (batch, observed variables, ny, nx).

        Coarse misfits are divided by the root of the operator's sensitivity, so that a step
        against the gradient takes off the same share of them whether rain falls everywhere
        or in one cell; without it such cells overshoot into absurd amounts.
        """
        parts = [
            self._residual(operator, x[:, channel], coarse, observed)
            for operator, channel, coarse, observed in zip(
                self.operators, self.channels, self.coarse, self.observed, strict=True
            )
        ]
        return torch.stack(parts, dim=1)

    def _residual(
        self, operator: CoarseOperator, x: Tensor, coarse: Tensor, observed: Tensor
    ) -> Tensor:
        values = torch.where(observed > 0, coarse, 0.0)
        lowered = operator.lower(x)
        misfit = operator.encode(lowered) - operator.encode(values)
        misfit = misfit * operator.sensitivity(x, lowered).rsqrt()
        counted = operator.mask * (operator.seen(observed) > 0.05)
        return self.weights * counted * operator.raise_(misfit, observed)


def unified_coordinate_guidance(
    denoise: Denoise, observation: Observation, *, scale: float
) -> Denoise:
    """Steer a denoiser by the gradient of the misfit through the network.

    D~(x, sigma) = D(x, sigma) - scale * grad_x 1/2 || w (A(D(x, sigma)) - y) ||^2

    with the misfit in the fine space, where A has singular values near 1 for smooth fields
    whatever the factor; on the coarse grid they would shrink with the number of cells
    averaged (ZSSD, arXiv 2601.21760, Fig. 5b). In the paper the gradient is taken off
    x_{t-1}; taking it off the denoised field instead lets any solver use it, and scales it by
    the solver's own step.
    """

    def guided(x: Tensor, sigma: float) -> Tensor:
        with torch.enable_grad():
            x_in = x.detach().requires_grad_(True)
            denoised = denoise(x_in, sigma)
            misfit = 0.5 * observation.residual(denoised).square().sum()
            (gradient,) = torch.autograd.grad(misfit, x_in)
        return denoised.detach() - scale * gradient

    return guided


def latitude_weights(areas: Tensor) -> Tensor:
    """w_lat: square roots of cell areas, scaled to a mean square of 1. Shape as `areas`."""
    return torch.sqrt(areas / areas.mean())


def _product(lat: Tensor, values: Tensor, lon: Tensor) -> Tensor:
    """Apply a matrix along each axis: (..., ny, nx) to (..., ny', nx')."""
    return lat @ values @ lon.T
