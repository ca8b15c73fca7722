"""The input as a sampler sees it: coarse values of its variables on the device."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from climdown import regrid
from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.observation import CoarseObservation, CoarseOperator, latitude_weights
from climdown.grid import Grid
from climdown.pipeline import adjustment
from climdown.priors.card import Variable
from climdown.priors.prior import Prior
from climdown.transforms import Chain

if TYPE_CHECKING:
    from climdown.pipeline import Plan

log = logging.getLogger(__name__)

# A coarse cell guides where valid fine cells fill at least this share of it. A climate model's
# coastal cell that is mostly sea would draw warm rims along the coast of a land-only prior; the
# mean of an input that is itself missing over sea speaks of its land alone.
_MIN_CELL = 0.5
_MIN_CELL_OF_MASKED_INPUT = 0.1


class Observer:
    """Turns blocks of the input into observations on the device.

    Args:
        adjusted: functions that read bias-adjusted values on the filter grid, by variable.
    """

    def __init__(self, plan: Plan, adjusted: Mapping[str, adjustment.Reader] | None = None) -> None:
        self.plan = plan
        self.adjusted = adjusted or {}
        prior, fine, coarse = plan.prior, plan.prior.card.grid, plan.filter_grid
        names = [v.name for v in prior.card.variables]
        self.channels = tuple(names.index(v.name) for v in plan.variables)
        self.operators = make_operators(prior, self.channels, coarse, plan.device)
        self.weights = latitude_weights(_tensor(fine.areas, plan.device))
        self.guiding = tuple(
            self._guiding(variable, operator)
            for variable, operator in zip(plan.variables, self.operators, strict=True)
        )

    def coarse_values(self, part: slice) -> list[Tensor]:
        """A_low of the input, in the prior's units, NaN where it does not guide."""
        return [
            torch.where(guiding, self._lowered(variable, part), torch.nan)
            for variable, guiding in zip(self.plan.variables, self.guiding, strict=True)
        ]

    def _lowered(self, variable: Variable, part: slice) -> Tensor:
        field = self.plan.fields[variable.name]
        if variable.name in self.adjusted:
            adjusted = self.adjusted[variable.name](part)
            return torch.from_numpy(np.ascontiguousarray(adjusted)).to(self.plan.device)
        values = field.read(part)
        if field.grid.digest != self.plan.filter_grid.digest:
            weights = regrid.weights(field.grid, self.plan.filter_grid, "conservative")
            values = weights.apply(values, min_coverage=0.5)
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.plan.device)

    def _guiding(self, variable: Variable, operator: CoarseOperator) -> Tensor:
        """Which coarse cells guide, by their share of valid fine cells; shape (ny, nx)."""
        first = self._lowered(variable, slice(0, 1))[0]
        # Observations differ by a cell or two in what they call land: the majority tells.
        sea = torch.isfinite(first)[operator.covered < 1e-6]
        masked = int(sea.sum()) <= sea.numel() / 2
        threshold = _MIN_CELL_OF_MASKED_INPUT if masked else _MIN_CELL
        guiding = operator.covered >= threshold
        log.debug("%s: %d coarse cells guide", variable.name, int(guiding.sum()))
        return guiding

    def observation(
        self, coarse: Sequence[Tensor], model: Denoiser | None = None
    ) -> CoarseObservation:
        """The observation of a batch from its coarse values, shape (batch, ny, nx) each.

        Args:
            model: to be steered; its Gaussian part tells how its errors hang together.
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


def _tensor(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)
