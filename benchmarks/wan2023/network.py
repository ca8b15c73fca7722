"""A network for periodic fields in one dimension, as small as the test problem allows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from climdown.errors import ConfigError

_GROUPS = 8
_FREQUENCIES = 16


class PeriodicNetwork(nn.Module):
    """Predicts fields (batch, 1, 1, points) on a circle from noisy ones, for a `Denoiser`.

    Convolutions of width 5 over patches of neighbouring points, which smooth fields allow: each
    layer sees ten points a patch of five would, at a fraction of the work. The U-Net of climate
    fields halves both axes, and would pad the one of length 1 up to its stride.

    Args:
        patch: points taken together.
        width: channels, a multiple of 8.
        blocks: residual blocks; the network sees 4 (blocks + 1) patches to either side.

    Raises:
        ConfigError: a width that is no multiple of 8.
    """

    def __init__(self, *, patch: int = 8, width: int = 128, blocks: int = 6) -> None:
        super().__init__()
        if width % _GROUPS:
            raise ConfigError(f"width is {width}; the network needs a multiple of {_GROUPS}")
        self.patch = patch
        self.embed = nn.Sequential(nn.Linear(2 * _FREQUENCIES, width), nn.SiLU())
        self.enter = _convolution(patch, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.leave = _convolution(width, patch)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, noise: Tensor, _static: Tensor, _calendar: Tensor) -> Tensor:
        """Predict; `noise` has shape (batch,). Statics and calendar are of no use here.

        Raises:
            ConfigError: points that do not fill patches.
        """
        points = x.shape[-1]
        if points % self.patch:
            raise ConfigError(f"{points} points do not fill patches of {self.patch}")
        frequencies = 100.0 ** (torch.arange(_FREQUENCIES, device=x.device) / _FREQUENCIES)
        angles = noise[:, None] * frequencies
        embedding = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        h = self.enter(x.reshape(len(x), -1, self.patch).transpose(1, 2))
        for block in self.blocks:
            h = block(h, embedding)
        result: Tensor = self.leave(F.silu(h)).transpose(1, 2).reshape(x.shape)
        return result


class _Block(nn.Module):
    """Two convolutions with group norm; the noise level scales and shifts in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.first = _convolution(width, width)
        self.modulate = nn.Linear(width, 2 * width)
        self.middle = nn.GroupNorm(_GROUPS, width)
        self.second = _convolution(width, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulate(embedding)[..., None].chunk(2, dim=1)
        h = self.middle(self.first(F.silu(self.norm(x))))
        result: Tensor = x + self.second(F.silu(h * (1 + scale) + shift))
        return result


def _convolution(inputs: int, outputs: int) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, 5, padding=2, padding_mode="circular")
