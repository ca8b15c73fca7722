"""The input as a sampler sees it: coarse values of its variables on the device."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from climdown import cf, regrid
from climdown.adjust.registry import Reader
from climdown.arrays import AnyArray, Float64
from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.observation import CoarseObservation, CoarseOperator, latitude_weights
from climdown.grid import Grid
from climdown.priors.prior import Prior
from climdown.transforms import Chain

log = logging.getLogger(__name__)

# A coarse cell guides where valid fine cells fill at least this share of it. A climate model's
# coastal cell that is mostly sea would draw warm rims along the coast of a land-only prior; the
# mean of an input that is itself missing over sea speaks of its land alone.
_MIN_CELL = 0.5
_MIN_CELL_OF_MASKED_INPUT = 0.1


class Observer:
    """Turns blocks of the input into observations on the device.

    Args:
        fields: the input by variable, in the prior's units.
        grid: on which the input guides.
        adjusted: functions that read bias-adjusted values on that grid, by variable.
    """

    def __init__(
        self,
        prior: Prior,
        fields: Mapping[str, cf.Field],
        grid: Grid,
        device: torch.device,
        adjusted: Mapping[str, Reader] | None = None,
    ) -> None:
        self.fields, self.grid, self.device = fields, grid, device
        self.adjusted = adjusted or {}
        names = [variable.name for variable in prior.card.variables]
        self.names = tuple(name for name in names if name in fields)
        self.channels = tuple(map(names.index, self.names))
        self.operators = make_operators(prior, self.channels, grid, device)
        self.weights = latitude_weights(_tensor(prior.card.grid.areas, device))
        self.guiding = tuple(map(self._guiding, self.names, self.operators))
        self._shape = prior.mask.shape

    def coarse_values(self, part: slice) -> list[Tensor]:
        """A_low of the input, in the prior's units, NaN where it does not guide."""
        return [
            torch.where(guiding, self._lowered(name, part), torch.nan)
            for name, guiding in zip(self.names, self.guiding, strict=True)
        ]

    def first_guess(self, most: int) -> Float64:
        """Interpolated, normalised observations of at most so many steps, evenly spread.

        Returns:
            shape (steps, channels, ny, nx).
        """
        steps = cf.evenly(np.arange(len(self._time)), most).tolist()
        rows = [self.coarse_values(slice(step, step + 1)) for step in steps]
        coarse = [torch.cat(values) for values in zip(*rows, strict=True)]
        like = torch.zeros(len(steps), *self._shape, device=self.device)
        guess: Float64 = self.observation(coarse).interpolate(like).double().cpu().numpy()
        return guess

    @property
    def _time(self) -> cf.TimeAxis:
        return next(iter(self.fields.values())).time

    def _lowered(self, name: str, part: slice) -> Tensor:
        field = self.fields[name]
        if name in self.adjusted:
            values = self.adjusted[name](part)
        else:
            values = field.read(part)
            if field.grid.digest != self.grid.digest:
                weights = regrid.weights(field.grid, self.grid, "conservative")
                values = np.asarray(weights.apply(values, min_coverage=0.5), np.float32)
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def _guiding(self, name: str, operator: CoarseOperator) -> Tensor:
        """Which coarse cells guide, by their share of valid fine cells; shape (ny, nx)."""
        first = self._lowered(name, slice(0, 1))[0]
        # Observations differ by a cell or two in what they call land: the majority tells.
        sea = torch.isfinite(first)[operator.covered < 1e-6]
        masked = int(sea.sum()) <= sea.numel() / 2
        threshold = _MIN_CELL_OF_MASKED_INPUT if masked else _MIN_CELL
        guiding = operator.covered >= threshold
        log.debug("%s: %d coarse cells guide", name, int(guiding.sum()))
        return guiding

    def observation(
        self, coarse: Sequence[Tensor], model: Denoiser | None = None
    ) -> CoarseObservation:
        """The observation of a batch from its coarse values, shape (batch, ny, nx) each.

        Args:
            model: to be steered; its Gaussian part tells how its errors covary.
        """
        gaussian = None if model is None else model.gaussian
        return CoarseObservation(
            operators=self.operators,
            channels=self.channels,
            coarse=tuple(coarse),
            observed=tuple(torch.isfinite(values).float() for values in coarse),
            weights=self.weights,
            errors=None if gaussian is None else gaussian.error_covariance,
        )


def make_operators(
    prior: Prior, channels: Sequence[int], coarse: Grid, device: torch.device
) -> tuple[CoarseOperator, ...]:
    """A prior's variables observed at the scale of a grid, by channel."""
    fine, names = prior.card.grid, [v.name for v in prior.card.variables]
    lower_lat, lower_lon = (
        _tensor(matrix, device) for matrix in regrid.axis_weights(fine, coarse, "conservative")
    )
    raise_lat, raise_lon = (
        _tensor(matrix, device) for matrix in regrid.axis_weights(coarse, fine, "bilinear")
    )
    return tuple(
        CoarseOperator(
            lower_lat=lower_lat,
            lower_lon=lower_lon,
            raise_lat=raise_lat,
            raise_lon=raise_lon,
            mask=_tensor(prior.mask[channel], device),
            decode=partial(prior.transforms[names[channel]].inverse, xp=torch),
            encode=partial(_encode, prior.transforms[names[channel]].without_fields()),
        )
        for channel in channels
    )


def _encode(chain: Chain, values: Tensor) -> Tensor:
    encoded: Tensor = chain.forward(values, torch)
    return encoded


def _tensor(values: AnyArray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)
