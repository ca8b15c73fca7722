"""The denoiser: D(x, sigma, cond) = E[x0 | x0 + sigma n = x], shared by all methods."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from climdown.diffusion.gaussian import GaussianPart
from climdown.diffusion.tiles import Tiles, Window


class Denoise(Protocol):
    """A denoiser with its conditions bound: (x, sigma) -> E[x0 | x].

    x has shape (batch, channels, ny, nx); sigma is a positive number.
    """

    def __call__(self, x: Tensor, sigma: float) -> Tensor: ...


def no_network(x: Tensor, sigma: float) -> Tensor:  # noqa: ARG001
    """In place of a denoiser, for methods that ask none.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(f"a baseline asks no network, yet it was asked at noise level {sigma:g}")


class Denoiser(nn.Module):
    """A network wrapped in the preconditioning of Karras et al. 2022 (arXiv 2206.00364, Table 1).

    The network sees inputs of unit variance and predicts targets of unit variance at every
    noise level. Cells outside `mask` are zero in input and output.

    With `sigma_min` > 0 it is the consistency function of Song et al. 2023 (arXiv 2303.01469,
    Eq. 25), which returns its input at that level; with 0 the two forms are the same.

    The preconditioning is that of white Gaussian data: their denoiser, plus the network's output in
    units of that denoiser's error. With a `gaussian` part the covariance of the data replaces the
    white one, and the output of that part is a further input of the network.

    Args:
        network: called as network(x, c_noise, static, calendar).
        static: conditioning fields, shape (statics, ny, nx).
        mask: 1 where a variable has values, shape (channels, ny, nx).
        sigma_data: standard deviation of the normalised data.
        sigma_min: the noise level at which the output is the input.
        gaussian: the linear part, with the same `sigma_min`.
        tiles: in which the network is applied; None applies it to the whole domain at once.
    """

    static: Tensor
    mask: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        static: Tensor,
        mask: Tensor,
        sigma_data: float = 1.0,
        sigma_min: float = 0.0,
        gaussian: GaussianPart | None = None,
        tiles: Tiles | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.gaussian = gaussian
        self.tiles = tiles
        self.sigma_data = sigma_data
        self.sigma_min = sigma_min
        self.register_buffer("static", static, persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        calendar: Tensor,
        group: Tensor | None = None,
        window: Window | None = None,
    ) -> Tensor:
        """Denoise.

        Args:
            x: shape (batch, channels, ny, nx).
            sigma: noise level of each field, shape (batch,).
            calendar: (month, day, hour) of each field, shape (batch, 3); month 1..12,
                day 1..31, hour 0..24.
            group: of the Gaussian part's patterns, see there, shape (batch,).
            window: cells to predict, with one application of the network to them alone.

        Returns:
            shape as x, or that of the window.
        """
        level = sigma.to(torch.float32).reshape(-1, 1, 1, 1)
        x = x * self.mask
        noisy = x * torch.rsqrt(level**2 + self.sigma_data**2)
        if self.gaussian is None:
            above = level - self.sigma_min
            linear = x * (self.sigma_data**2 / (above**2 + self.sigma_data**2))
        else:
            linear = self.gaussian(x, sigma, group)
            noisy = torch.cat([noisy, linear], dim=1)
        c_noise, static, mask = level.flatten().log() / 4, self.static, self.mask
        if window is not None:
            noisy, linear, static, mask = (t[(..., *window)] for t in (noisy, linear, static, mask))
        if self.tiles is None or window is not None:
            output = self.network(noisy, c_noise, static, calendar)
        else:
            output = self.tiles.apply(self.network, noisy, c_noise, static, calendar)
        c_out = self.output_variance(sigma).sqrt() * (1.0 - self.sigma_min / level)
        denoised: Tensor = (linear + c_out * output.to(x.dtype)) * mask
        return denoised

    def output_variance(self, sigma: Tensor) -> Tensor:
        """Expected squared error of the linear part, shape (batch, channels or 1, 1, 1)."""
        if self.gaussian is not None:
            return self.gaussian.error_variance(sigma)[..., None, None]
        square = sigma.to(torch.float32).reshape(-1, 1, 1, 1) ** 2
        return square * self.sigma_data**2 / (square + self.sigma_data**2)

    def bind(self, calendar: Tensor) -> Denoise:
        """Fix the calendar conditions of a batch, shape (batch, 3)."""

        def denoise(x: Tensor, sigma: float) -> Tensor:
            levels = torch.full((x.shape[0],), sigma, dtype=torch.float32, device=x.device)
            denoised: Tensor = self(x, levels, calendar)
            return denoised

        return denoise
