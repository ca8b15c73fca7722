"""The denoiser: D(x, sigma, cond) = E[x0 | x0 + sigma n = x], shared by all methods."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Denoise(Protocol):
    """A denoiser with its conditions bound: (x, sigma) -> E[x0 | x].

    x has shape (batch, channels, ny, nx); sigma is a positive number.
    """

    def __call__(self, x: Tensor, sigma: float) -> Tensor: ...


class Denoiser(nn.Module):
    """A network wrapped in the preconditioning of Karras et al. 2022 (arXiv 2206.00364, Table 1).

    The network sees inputs of unit variance and predicts targets of unit variance at every
    noise level. Cells outside `mask` are zero in input and output.

    With `sigma_min` > 0 it is the consistency function of Song et al. 2023 (arXiv 2303.01469,
    Eq. 25), which at that level gives back its input; with 0 the two forms are the same.

    Args:
        network: called as network(x, c_noise, static, calendar).
        static: conditioning fields, shape (statics, ny, nx).
        mask: 1 where a variable has values, shape (channels, ny, nx).
        sigma_data: standard deviation of the normalised data.
        sigma_min: the noise level at which the output is the input.
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
    ) -> None:
        super().__init__()
        self.network = network
        self.sigma_data = sigma_data
        self.sigma_min = sigma_min
        self.register_buffer("static", static, persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, sigma: Tensor, calendar: Tensor) -> Tensor:
        """Denoise.

        Args:
            x: shape (batch, channels, ny, nx).
            sigma: noise level of each field, shape (batch,).
            calendar: (month, day, hour) of each field, shape (batch, 3); month 1..12,
                day 1..31, hour 0..24.
        """
        level = sigma.to(torch.float32).reshape(-1, 1, 1, 1)
        variance = level**2 + self.sigma_data**2
        above = level - self.sigma_min
        c_skip = self.sigma_data**2 / (above**2 + self.sigma_data**2)
        c_out = above * self.sigma_data * torch.rsqrt(variance)
        c_in = torch.rsqrt(variance)
        x = x * self.mask
        output = self.network(c_in * x, level.flatten().log() / 4, self.static, calendar)
        denoised: Tensor = (c_skip * x + c_out * output.to(x.dtype)) * self.mask
        return denoised

    def bind(self, calendar: Tensor) -> Denoise:
        """Fix the calendar conditions of a batch, shape (batch, 3)."""

        def denoise(x: Tensor, sigma: float) -> Tensor:
            levels = torch.full((x.shape[0],), sigma, dtype=torch.float32, device=x.device)
            denoised: Tensor = self(x, levels, calendar)
            return denoised

        return denoise
