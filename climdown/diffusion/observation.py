"""Observing fine fields at a coarse scale."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from climdown.diffusion.gaussian import ErrorCovariance

PointwiseMap = Callable[[Tensor], Tensor]

# Guards divisions: a coarse cell of which valid cells cover less has no mean.
_EPSILON = 1e-6
# Newton steps of `fit` under a logarithm, and conjugate gradients within each.
_NEWTON_STEPS = 5
# Of a normalised value in one step.
_LONGEST_STEP = 2.0
_MOST_ITERATIONS = 50
# Of the residual in `_solve`, relative to the misfit that it starts from.
_TOLERANCE = 1e-6


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
        # Masked cells have no value: zero before decoding, or NaN * 0 would spread, in the values
        # and in the gradient.
        valid = self.mask > 0
        values = torch.where(valid, self.decode(torch.where(valid, x, 0.0)), 0.0)
        total = _product(self.lower_lat, values, self.lower_lon)
        # A mean over the valid part alone: the weights of the masked cells are divided out.
        return total / self.covered.clamp(min=_EPSILON)

    def sensitivity(self, x: Tensor, lowered: Tensor) -> Tensor:
        """How much steeper encode(lower(x)) is than a plain mean, shape of `lowered`, at least 1.

        With c_i the derivative of an encoded coarse value to the fine cell i, and w_i the
        area weights of the mean, sum c_i^2 / sum w_i^2. It is 1 for linear maps. Under a
        logarithm it grows with the share of the wettest cells, up to the number of cells
        where a single one makes up the whole mean.
        """
        # c_i = encode'(mean) w_i decode'(x_i) by the chain rule, w_i the area weights of the mean;
        # the division by the covered share drops out of the ratio.
        squares = self._squared_sum(self._slope(x) ** 2)
        encoded = _slope_of(self.encode, lowered)
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

    def fit(self, x: Tensor, coarse: Tensor, observed: Tensor) -> Tensor:
        """The nearest normalised fields whose means are the observed ones, shape (batch, ny, nx).

        Gauss-Newton steps of least norm, x + J^T (J J^T)^-1 r with J the derivative of `lower`: a
        single step where `decode` is linear. The misfit r is that of encoded means, divided by
        the slope of `encode`; under a logarithm a plain difference would overshoot by e to the
        power of it. Cells under no observed mean stay.

        Args:
            coarse: physical means y, shape (batch, coarse ny, coarse nx).
            observed: 1 where there is one, same shape.
        """
        for _ in range(_NEWTON_STEPS):
            # Row k of J is decode'(x_i) times the weight of cell i in mean k.
            slope = self._slope(x)
            misfit = self._physical_misfit(x, coarse, observed)
            change = self._adjoint(self._solve(misfit, slope, observed), slope)
            # Then J does not depend on x, and the step is exact.
            if self._linear:
                return x + change
            # Bounded, or means that contradict each other in a shared cell would diverge.
            x = x + change.clamp(-_LONGEST_STEP, _LONGEST_STEP)
        return x

    def krige(self, x: Tensor, coarse: Tensor, observed: Tensor, error: ErrorCovariance) -> Tensor:
        """Fields moved as their errors covary, shape (batch, ny, nx); see `fit`.

        x + S J^T (J S J^T)^-1 r with S the covariance of the error of x. For Gaussian errors this
        turns an expected value into the one given the observed means, and a draw into a draw given
        them (Matheron's rule). One step; where `decode` is linear, the means are then the observed
        ones up to rounding.
        """
        # `means` is J over the valid cells, (batch, coarse cells, cells), or of batch 1 where J is
        # the same for all fields. In double precision, since means whose errors are strongly
        # correlated make the matrix below ill-conditioned.
        slope = self._slope(x[:1] if self._linear else x).flatten(1)[:, None, error.cells]
        means = self._matrix[:, error.cells] * slope.double()
        patterns, gains = error.patterns.double(), error.gains.double()
        # J S J^T with S = rest I + P^T diag(gains) P, P the patterns: only the small J P^T enters,
        # never S itself, which is a matrix of cells by cells.
        along = means @ patterns.T
        usable = (observed * (self.covered > _EPSILON)).flatten(1).double()
        total = (along * gains) @ along.mT + error.rest.double() * means @ means.mT
        # A mean that is not observed becomes the equation weight = 0, which keeps one shape for a
        # batch whose fields lack different means.
        total = total * usable[:, :, None] * usable[:, None] + torch.diag_embed(1.0 - usable)
        misfit = self._physical_misfit(x, coarse, observed).flatten(1).double() * usable
        weights = torch.linalg.solve(total, misfit[..., None])
        # S J^T weights, in the same two parts.
        change = error.rest.double() * (means.mT @ weights)[..., 0]
        change = change + ((along.mT @ weights)[..., 0] * gains) @ patterns
        moved = x.flatten(1).clone()
        step = change.to(x)
        if not self._linear:
            step = step.clamp(-_LONGEST_STEP, _LONGEST_STEP)
        # Cells without values have no part in S and stay.
        moved[:, error.cells] += step
        return moved.reshape(x.shape)

    @cached_property
    def _matrix(self) -> Tensor:
        """Means as a matrix over all fine cells, (coarse cells, cells), in double precision."""
        # A dense matrix, for `krige` alone; everything else works axis by axis.
        lat, lon = self.lower_lat.double(), self.lower_lon.double()
        weights = (
            torch.einsum("ai,bj->abij", lat, lon)
            / self.covered.clamp(min=_EPSILON)[..., None, None]
        )
        return weights.flatten(2).flatten(0, 1)

    def _physical_misfit(self, x: Tensor, coarse: Tensor, observed: Tensor) -> Tensor:
        """Observed means less those of x, in physical units to first order; 0 where unobserved."""
        values = torch.where(observed > 0, coarse, 0.0)
        lowered = self.lower(x)
        steepness = _slope_of(self.encode, lowered)
        # The clipped logarithm is flat below zero, where a draw may lie: take the slope at y there.
        steepness = torch.where(steepness > 0, steepness, _slope_of(self.encode, values))
        return (self.encode(values) - self.encode(lowered)) / steepness * observed

    @cached_property
    def _linear(self) -> bool:
        """Whether `decode` has the same slope everywhere."""
        # By the slopes at two values, 0 and 1.
        one = torch.ones_like(self.mask)
        slopes = self._slope(torch.stack([0.0 * one, one]))
        return bool(torch.allclose(slopes[0], slopes[1]))

    def _slope(self, x: Tensor) -> Tensor:
        """Derivative of each fine cell's physical value, zero outside the mask."""
        return _slope_of(self.decode, torch.where(self.mask > 0, x, 0.0)) * self.mask

    def _adjoint(self, coarse: Tensor, slope: Tensor) -> Tensor:
        # J^T v: the transpose of each factor of `lower` in reverse order.
        scaled = coarse / self.covered.clamp(min=_EPSILON)
        return slope * _product(self.lower_lat.T, scaled, self.lower_lon.T)

    def _solve(self, misfit: Tensor, slope: Tensor, observed: Tensor) -> Tensor:
        """(J J^T)^-1 misfit by conjugate gradients, preconditioned with the diagonal.

        Where each fine cell lies in one coarse cell alone, J J^T is diagonal, and one iteration
        solves it.
        """
        # (J J^T)_kk, the sum of squares of row k. Its inverse is 0 for means that are unobserved
        # or cannot be changed: they stay out of all iterations.
        diagonal = self._squared_sum(slope**2) / self.covered.clamp(min=_EPSILON) ** 2
        inverse = torch.where(observed * diagonal > _EPSILON**2, 1.0 / diagonal, 0.0)

        def applied(v: Tensor) -> Tensor:
            fine = slope * self._adjoint(v, slope)
            total = _product(self.lower_lat, fine, self.lower_lon)
            return total / self.covered.clamp(min=_EPSILON) * observed

        # Each field of the batch has its own step lengths: the sums are over the coarse axes
        # alone. gamma is r^T M^-1 r with M the diagonal.
        solution = torch.zeros_like(misfit)
        residual = misfit * (inverse > 0)
        direction = z = inverse * residual
        gamma = (residual * z).sum(dim=(-2, -1), keepdim=True)
        enough = _TOLERANCE**2 * gamma
        for _ in range(_MOST_ITERATIONS):
            if bool((gamma <= enough).all()):
                break
            image = applied(direction)
            along = (direction * image).sum(dim=(-2, -1), keepdim=True)
            # A field that is solved already has gamma = along = 0; its step is 0 and not NaN.
            step = torch.where(along > 0, gamma / along, 0.0)
            solution = solution + step * direction
            residual = residual - step * image
            z = inverse * residual
            # The next direction is conjugate to the last ones with respect to J J^T.
            following = (residual * z).sum(dim=(-2, -1), keepdim=True)
            direction = z + torch.where(gamma > 0, following / gamma, 0.0) * direction
            gamma = following
        return solution

    def normalise(self, values: Tensor) -> Tensor:
        """The inverse of `decode`: physical fine fields to normalised ones, same shape.

        `encode` lacks the step to anomalies: the climatology that this step would subtract is
        encode(decode(0)).
        """
        return self.encode(values) - self.encode(self.decode(torch.zeros_like(values)))

    def raise_(self, coarse: Tensor, observed: Tensor) -> Tensor:
        """A_high: interpolate over the observed coarse cells alone, shape (batch, ny, nx).

        Fine cells that see no observed cell are 0.
        """
        total = _product(self.raise_lat, coarse * observed, self.raise_lon)
        # The interpolation weights of unobserved cells are divided out, as in `lower`.
        return total / self.seen(observed).clamp(min=_EPSILON)

    def seen(self, observed: Tensor) -> Tensor:
        """Interpolation weight of observed cells in each fine cell, shape (batch, ny, nx)."""
        return _product(self.raise_lat, observed, self.raise_lon)


@dataclass(frozen=True, eq=False)
class CoarseObservation:
    """Coarse values of some variables of a batch; the other variables are not guided.

    Attributes:
        operators: one per observed variable.
        channels: the channel of each.
        coarse: physical coarse values, shape (batch, coarse ny, coarse nx) each.
        observed: 1 where there is a value, same shapes.
        weights: of each fine cell in the misfit (the papers' w_lat), shape (ny, nx).
        errors: covariance of a denoiser's errors in a channel at a noise level, if it is known.
    """

    operators: tuple[CoarseOperator, ...]
    channels: tuple[int, ...]
    coarse: tuple[Tensor, ...]
    observed: tuple[Tensor, ...]
    weights: Tensor
    errors: Callable[[int, float], ErrorCovariance] | None = None

    def residual(self, x: Tensor) -> Tensor:
        """w (A(x) - y) *in the fine space*, shape (batch, observed variables, ny, nx).

        Coarse misfits are divided by the root of the operator's sensitivity, so that a step
        against the gradient reduces them by the same share whether rain falls everywhere or in
        one cell; without that such cells overshoot to extreme amounts.
        """
        parts = [
            self._residual(operator, x[:, channel], coarse, observed)
            for operator, channel, coarse, observed in self._variables()
        ]
        return torch.stack(parts, dim=1)

    def coarse_residual(self, x: Tensor) -> Tensor:
        """w (A_low(x) - y) on the coarse grid, shape (batch, observed variables, coarse ny, nx).

        The misfit of `residual` before A_high, weighted by coarse areas.
        """
        parts = [
            self._misfit(operator, x[:, channel], coarse, observed)
            * observed
            * (operator.covered > 0)
            * torch.sqrt(_product(operator.lower_lat, self.weights**2, operator.lower_lon))
            for operator, channel, coarse, observed in self._variables()
        ]
        return torch.stack(parts, dim=1)

    def project(self, x: Tensor, sigma: float | None = None) -> Tensor:
        """The nearest fields with the observed means, shape as x; other variables stay.

        Args:
            sigma: noise level of the denoiser whose output x is; if the covariance of its errors
                is known, the fields are first moved by `krige`.
        """
        result = x.clone()
        for operator, channel, coarse, observed in self._variables():
            fields = x[:, channel]
            if sigma is not None and self.errors is not None:
                fields = operator.krige(fields, coarse, observed, self.errors(channel, sigma))
            result[:, channel] = operator.fit(fields, coarse, observed)
        return result

    def interpolate(self, like: Tensor) -> Tensor:
        """Departures of the observed means from the prior's, interpolated.

        For anomalies from a climatology that is the delta method: the climatology's fine pattern,
        shifted. Variables that are not observed are at the prior's mean.

        Args:
            like: gives shape (batch, channels, ny, nx), type and device.
        """
        result = torch.zeros_like(like)
        for operator, channel, coarse, observed in self._variables():
            # Normalised fields of zero are the prior's mean, `normal` its coarse means.
            normal = operator.encode(operator.lower(result[:, channel]))
            values = operator.encode(torch.where(observed > 0, coarse, 0.0))
            result[:, channel] = operator.raise_(values - normal, observed) * operator.mask
        return result

    def delta(self, pattern: Tensor, ratios: Sequence[bool]) -> Tensor:
        """A fine pattern, changed by the interpolated difference of observed means to its own.

        Args:
            pattern: physical fine fields, shape (channels, ny, nx).
            ratios: by channel, whether the change is a factor; else it is a difference.

        Returns:
            normalised fields, shape (batch, channels, ny, nx): NaN in cells that see no observed
            mean, zero for variables that are not observed.
        """
        result = pattern.new_zeros((len(self.coarse[0]), *pattern.shape))
        for operator, channel, coarse, observed in self._variables():
            pattern_means = operator.lower(operator.normalise(pattern[None, channel]))
            # Where the pattern's mean is zero no factor can change it, and it stays.
            if ratios[channel]:
                change = torch.where(pattern_means > _EPSILON, coarse / pattern_means, 1.0)
            else:
                change = coarse - pattern_means
            raised = operator.raise_(torch.where(observed > 0, change, 0.0), observed)
            changed = pattern[channel] * raised if ratios[channel] else pattern[channel] + raised
            fields = operator.normalise(changed) * operator.mask
            result[:, channel] = torch.where(operator.seen(observed) > _EPSILON, fields, torch.nan)
        return result

    def _variables(self) -> Iterator[tuple[CoarseOperator, int, Tensor, Tensor]]:
        return zip(self.operators, self.channels, self.coarse, self.observed, strict=True)

    def _misfit(
        self, operator: CoarseOperator, x: Tensor, coarse: Tensor, observed: Tensor
    ) -> Tensor:
        values = torch.where(observed > 0, coarse, 0.0)
        lowered = operator.lower(x)
        misfit = operator.encode(lowered) - operator.encode(values)
        # Unobserved cells are compared with encode(0); `raise_` or the caller takes them out.
        return misfit * operator.sensitivity(x, lowered).rsqrt()

    def _residual(
        self, operator: CoarseOperator, x: Tensor, coarse: Tensor, observed: Tensor
    ) -> Tensor:
        misfit = self._misfit(operator, x, coarse, observed)
        # Where hardly any interpolation weight is observed, `raise_` would enlarge a single
        # distant mean to the full misfit.
        counted = operator.mask * (operator.seen(observed) > 0.05)
        return self.weights * counted * operator.raise_(misfit, observed)


def latitude_weights(areas: Tensor) -> Tensor:
    """w_lat: square roots of cell areas, scaled to a mean square of 1. Shape as `areas`."""
    return torch.sqrt(areas / areas.mean())


def _product(lat: Tensor, values: Tensor, lon: Tensor) -> Tensor:
    """Apply a matrix along each axis: (..., ny, nx) to (..., ny', nx')."""
    return lat @ values @ lon.T


def _slope_of(function: PointwiseMap, at: Tensor) -> Tensor:
    """Derivative of a pointwise map at each value."""
    with torch.enable_grad():
        # Pointwise, so that the gradient of the sum holds each value's own derivative.
        point = at.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(function(point).sum(), point)
    return slope
