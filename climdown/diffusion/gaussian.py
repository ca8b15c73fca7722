"""The denoiser of Gaussian data in closed form, as the linear part that a network corrects.

For normal fields with mean mu and covariance C the denoiser is linear, D = mu + C (C + sigma^2)^-1
(x - mu). It covers what convolutions learn worst from few fields: patterns as large as the domain,
and the covariance of distant cells. Learnt scores are close to it at all but the lowest noise
levels (Wang & Vastola 2024, arXiv 2412.09726).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class ErrorCovariance:
    """Cov[x0 | x] of one variable, rest I + patterns^T diag(gains) patterns over its cells.

    Attributes:
        cells: numbers of the valid cells among all, shape (cells,).
        patterns: shape (count, cells).
        gains: variance along each pattern beyond the rest, shape (count,).
        rest: variance along any other direction, a scalar.
    """

    cells: Tensor
    patterns: Tensor
    gains: Tensor
    rest: Tensor


class GaussianPart(nn.Module):
    """The denoiser of a Gaussian for each variable, from its leading patterns.

    Training fields must not be denoised by patterns that were fitted to them, or the network would
    learn to rely on the patterns too much. Therefore patterns come in groups: the first is for new
    fields, and each other one was fitted without some of the training fields.

    Args:
        mask: 1 where a variable has values, shape (channels, ny, nx); what follows has values over
            these cells alone, one tensor for each variable.
        mean: shape (groups, cells).
        patterns: orthonormal rows, shape (groups, count, cells).
        variances: of each pattern, shape (count,).
        floor: variance along any other direction of each variable, shape (channels,).
        sigma_min: 0, or the noise level at which a consistency function is the identity: then
            the solution of the Gaussian's probability-flow equation takes the denoiser's place.
    """

    floor: Tensor

    def __init__(
        self,
        *,
        mask: Tensor,
        mean: Sequence[Tensor],
        patterns: Sequence[Tensor],
        variances: Sequence[Tensor],
        floor: Tensor,
        sigma_min: float = 0.0,
    ) -> None:
        super().__init__()
        self.sigma_min = sigma_min
        self.register_buffer("floor", floor, persistent=False)
        for channel, valid in enumerate(mask):
            # Patterns are stored over valid cells alone; these numbers put them into a field.
            cells = torch.nonzero(valid.flatten() > 0)[:, 0]
            self.register_buffer(f"cells_{channel}", cells, persistent=False)
            self.register_buffer(f"mean_{channel}", mean[channel], persistent=False)
            self.register_buffer(f"patterns_{channel}", patterns[channel], persistent=False)
            self.register_buffer(f"variances_{channel}", variances[channel], persistent=False)

    def forward(self, x: Tensor, sigma: Tensor, group: Tensor | None = None) -> Tensor:
        """E[x0 | x], or with `sigma_min` the start of the trajectory through x.

        Args:
            x: shape (batch, channels, ny, nx).
            sigma: shape (batch,).
            group: of patterns for each field, shape (batch,); None takes the first.

        Returns:
            shape as x, zero outside the mask.
        """
        flat = x.flatten(2).float()
        level = sigma.float()[:, None]
        result = torch.zeros_like(flat)
        # Half precision would distort the patterns, and the network would have to correct that.
        with torch.autocast(x.device.type, enabled=False):
            for channel in range(x.shape[1]):
                cells = self.get_buffer(f"cells_{channel}")
                values = flat[:, channel, cells]
                result[:, channel, cells] = self._by_group(channel, values, level, group)
        return result.reshape(x.shape)

    def error_variance(self, sigma: Tensor) -> Tensor:
        """Mean over cells of Var[x0 | x], shape (batch, channels)."""
        square = sigma.float()[:, None] ** 2
        by_channel = []
        for channel, floor in enumerate(self.floor):
            variances = self.get_buffer(f"variances_{channel}")
            cells = len(self.get_buffer(f"cells_{channel}"))
            # The trace of the covariance of x0 given x, v sigma^2 / (v + sigma^2) in each
            # direction: along the patterns, and across them in all other directions of the cells'
            # space.
            along = (variances * square / (variances + square)).sum(dim=1)
            across = (cells - len(variances)) * (floor * square / (floor + square))[:, 0]
            by_channel.append((along + across) / cells)
        return torch.stack(by_channel, dim=1)

    def error_covariance(self, channel: int, sigma: float) -> ErrorCovariance:
        """Covariance of the denoised cells' errors: observing some of them corrects the others."""
        # By the first group of patterns, which is for new fields.
        variances, floor = self.get_buffer(f"variances_{channel}"), self.floor[channel]
        rest = floor * sigma**2 / (floor + sigma**2)
        return ErrorCovariance(
            cells=self.get_buffer(f"cells_{channel}"),
            patterns=self.get_buffer(f"patterns_{channel}")[0],
            gains=variances * sigma**2 / (variances + sigma**2) - rest,
            rest=rest,
        )

    def _by_group(
        self, channel: int, values: Tensor, level: Tensor, group: Tensor | None
    ) -> Tensor:
        if group is None:
            return self._filtered(channel, values, level, 0)
        result = torch.empty_like(values)
        # Few groups, large patterns: one product for the rows of each, instead of patterns per
        # field.
        for number in sorted(set(group.tolist())):
            rows = group == number
            result[rows] = self._filtered(channel, values[rows], level[rows], number)
        return result

    def _filtered(self, channel: int, values: Tensor, level: Tensor, group: int) -> Tensor:
        """Shape (batch, cells), as values; level of shape (batch, 1)."""
        # With C = floor I + P^T diag(v - floor) P and P orthonormal, C (C + sigma^2)^-1 has the
        # gain of the floor everywhere and gain(v) - gain(floor) more along P: two thin products
        # instead of a matrix of cells by cells.
        mean = self.get_buffer(f"mean_{channel}")[group]
        patterns = self.get_buffer(f"patterns_{channel}")[group]
        rest = self._gain(self.floor[channel], level)
        gains = self._gain(self.get_buffer(f"variances_{channel}"), level) - rest
        away = values - mean
        return mean + rest * away + (gains * (away @ patterns.T)) @ patterns

    def _gain(self, variance: Tensor, level: Tensor) -> Tensor:
        # The probability-flow equation moves each coordinate in proportion to its standard
        # deviation sqrt(v + sigma^2): from level sigma down to sigma_min.
        if self.sigma_min > 0.0:
            return torch.sqrt((variance + self.sigma_min**2) / (variance + level**2))
        # Wiener's filter, direction by direction.
        return variance / (variance + level**2)
