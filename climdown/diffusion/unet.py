"""A 2-D U-Net for fields on a regional or periodic latitude-longitude grid.

Static fields are concatenated to the input as channels; month, day and hour enter as cyclic
embeddings by cross-attention, as in ZSSD (arXiv 2601.21760).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Periods of month, day of month and hour.
_PERIODS = (12.0, 31.0, 24.0)
_HARMONICS = 2


class PaddedConv2d(nn.Module):
    """A 3 x 3 convolution, circular in longitude on periodic grids, zero-padded elsewhere."""

    def __init__(self, inputs: int, outputs: int, *, periodic: bool, zero: bool = False) -> None:
        super().__init__()
        self.periodic = periodic
        # Latitude gets its zeros from the convolution, a longitude that closes the circle its
        # other side in `forward`.
        padding = (1, 0) if periodic else (1, 1)
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=padding)
        # Zeros at the end of a residual branch leave the block its skip at first, and at the end of
        # the network they leave the denoiser its linear part.
        if zero:
            nn.init.zeros_(self.conv.weight)
            nn.init.zeros_(cast(Tensor, self.conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        if self.periodic:
            x = F.pad(x, (1, 1, 0, 0), mode="circular")
        return cast(Tensor, self.conv(x))


class ResidualBlock(nn.Module):
    """Two convolutions with group norm; the noise embedding scales and shifts in between."""

    def __init__(
        self, inputs: int, outputs: int, *, embedding: int, dropout: float, periodic: bool
    ) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(_groups(inputs), inputs)
        self.conv_in = PaddedConv2d(inputs, outputs, periodic=periodic)
        self.modulate = nn.Linear(embedding, 2 * outputs)
        self.norm_out = nn.GroupNorm(_groups(outputs), outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = PaddedConv2d(outputs, outputs, periodic=periodic, zero=True)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x)))
        # Adaptive group norm: the noise level scales and shifts each channel after the norm.
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(self.norm_out(h) * (1 + scale) + shift)
        result: Tensor = self.skip(x) + self.conv_out(self.dropout(h))
        return result


class Attention(nn.Module):
    """Self-attention over cells, then cross-attention to the calendar tokens."""

    def __init__(self, channels: int, *, tokens: int, heads: int) -> None:
        super().__init__()
        self.norm_self = nn.GroupNorm(_groups(channels), channels)
        self.self_attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm_cross = nn.LayerNorm(channels)
        self.cross_attention = nn.MultiheadAttention(
            channels, heads, kdim=tokens, vdim=tokens, batch_first=True
        )

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        batch, channels, ny, nx = x.shape
        # Cells as a sequence, (batch, cells, channels).
        cells = x.flatten(2).transpose(1, 2)
        normed = self.norm_self(x).flatten(2).transpose(1, 2)
        cells = cells + self.self_attention(normed, normed, normed, need_weights=False)[0]
        queries = self.norm_cross(cells)
        cells = cells + self.cross_attention(queries, tokens, tokens, need_weights=False)[0]
        result: Tensor = cells.transpose(1, 2).reshape(batch, channels, ny, nx)
        return result


class CalendarEmbedding(nn.Module):
    """Month, day and hour as three tokens, each from sines and cosines of its cycle."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * _HARMONICS, tokens)
        # The three share one projection; this offset tells attention which of them a token is.
        self.role = nn.Parameter(torch.randn(len(_PERIODS), tokens) * 0.02)

    def forward(self, calendar: Tensor) -> Tensor:
        """From shape (batch, 3) to (batch, 3, tokens)."""
        periods = calendar.new_tensor(_PERIODS)
        harmonics = torch.arange(1, _HARMONICS + 1, device=calendar.device)
        # December lies beside January, and hour 24 on hour 0; shape (batch, 3, harmonics).
        phase = 2 * math.pi * (calendar / periods)[..., None] * harmonics
        features = torch.cat([phase.sin(), phase.cos()], dim=-1)
        return F.silu(self.project(features) + self.role)


class UNet(nn.Module):
    """Predicts fields of shape (batch, variables, ny, nx) from noisy ones and conditions.

    Any ny, nx: fields are padded inside to a multiple of the deepest level's stride and
    cropped after. On periodic grids nx itself must be such a multiple, since a seam cannot
    be padded.

    Args:
        variables: channels of the output.
        inputs: channels of the input, if not as many.
        statics: static conditioning channels.
        channels: width of each level, finest first.
        blocks: residual blocks per level on the way down (one more on the way up).
        attention: attend at this many of the coarsest levels on the way down, besides the middle.
        embedding: width of the noise embedding and of the calendar tokens.
        periodic: whether longitude closes the circle.
    """

    def __init__(
        self,
        *,
        variables: int,
        statics: int,
        inputs: int | None = None,
        channels: Sequence[int],
        blocks: int = 1,
        attention: int = 1,
        heads: int = 4,
        embedding: int = 128,
        dropout: float = 0.0,
        periodic: bool = False,
    ) -> None:
        super().__init__()
        self.periodic = periodic
        # Each level but the last halves both axes.
        self.stride = 2 ** (len(channels) - 1)
        self.frequencies = 32
        self.noise_embedding = nn.Sequential(
            nn.Linear(2 * self.frequencies, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.calendar_embedding = CalendarEmbedding(embedding)
        self.conv_in = PaddedConv2d((inputs or variables) + statics, channels[0], periodic=periodic)

        def level(inputs: int, outputs: int, attend: bool) -> _Level:
            block = ResidualBlock(
                inputs, outputs, embedding=embedding, dropout=dropout, periodic=periodic
            )
            return _Level(
                block, Attention(outputs, tokens=embedding, heads=heads) if attend else None
            )

        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        # Widths of all fields that are handed across to the way up, the last one taken first.
        widths = [channels[0]]
        current = channels[0]
        deepest = len(channels) - 1
        for depth, width in enumerate(channels):
            # Attention costs the square of the number of cells.
            attend = depth > deepest - attention
            for _ in range(blocks):
                self.down.append(level(current, width, attend))
                current = width
                widths.append(current)
            if depth < deepest:
                self.shrink.append(nn.Conv2d(current, current, 2, stride=2))
                widths.append(current)
        self.middle = nn.ModuleList([level(current, current, True), level(current, current, False)])
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for depth, width in reversed(list(enumerate(channels))):
            # One block more than on the way down: a level has the field it began with to take in
            # too.
            for _ in range(blocks + 1):
                self.up.append(level(current + widths.pop(), width, False))
                current = width
            if depth > 0:
                self.grow.append(PaddedConv2d(current, current, periodic=periodic))
        self.blocks = blocks
        self.norm_out = nn.GroupNorm(_groups(current), current)
        self.conv_out = PaddedConv2d(current, variables, periodic=periodic, zero=True)

    def forward(self, x: Tensor, noise: Tensor, static: Tensor, calendar: Tensor) -> Tensor:
        """Predict.

        Args:
            x: shape (batch, inputs, ny, nx).
            noise: shape (batch,).
            static: shape (statics, ny, nx).
            calendar: shape (batch, 3).

        Raises:
            ValueError: a periodic grid whose number of longitudes the network cannot halve.
        """
        ny, nx = x.shape[-2:]
        embedding = self.noise_embedding(self._fourier(noise))
        tokens = self.calendar_embedding(calendar)
        x = torch.cat([x, static.expand(x.shape[0], -1, -1, -1)], dim=1)
        h = self.conv_in(self._pad(x))
        # Fields of every level, to be joined on the way up by channels.
        skips = [h]
        for i, block in enumerate(self.down):
            h = block(h, embedding, tokens)
            skips.append(h)
            # After the last block of a level.
            if (i + 1) % self.blocks == 0 and i // self.blocks < len(self.shrink):
                h = self.shrink[i // self.blocks](h)
                skips.append(h)
        for block in self.middle:
            h = block(h, embedding, tokens)
        for i, block in enumerate(self.up):
            h = block(torch.cat([h, skips.pop()], dim=1), embedding, tokens)
            if (i + 1) % (self.blocks + 1) == 0 and i // (self.blocks + 1) < len(self.grow):
                # Nearest neighbour and a convolution: a transposed convolution leaves a
                # checkerboard.
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
                h = self.grow[i // (self.blocks + 1)](h)
        result: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return result[..., :ny, :nx]

    def _fourier(self, noise: Tensor) -> Tensor:
        # Frequencies from 1 to nearly 100 in even ratios, for ln(sigma) / 4, from -1.6 to 1.1 for
        # sigma from 0.002 to 80.
        powers = torch.arange(self.frequencies, device=noise.device) / self.frequencies
        angles = noise[:, None] * (100.0**powers)[None, :]
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def _pad(self, x: Tensor) -> Tensor:
        ny, nx = x.shape[-2:]
        missing_y, missing_x = -ny % self.stride, -nx % self.stride
        if self.periodic and missing_x:
            raise ValueError(
                f"a periodic grid needs longitudes divisible by {self.stride}, found {nx}"
            )
        # Zeros to the east and north; `forward` cuts them off.
        return F.pad(x, (0, missing_x, 0, missing_y)) if missing_y or missing_x else x


class _Level(nn.Module):
    """A residual block, with attention where the level is coarse enough."""

    def __init__(self, block: ResidualBlock, attention: Attention | None) -> None:
        super().__init__()
        self.block = block
        self.attention = attention

    def forward(self, x: Tensor, embedding: Tensor, tokens: Tensor) -> Tensor:
        x = self.block(x, embedding)
        return x if self.attention is None else cast(Tensor, self.attention(x, tokens))


def _groups(channels: int) -> int:
    """Group-norm groups: at most 8, at least 4 channels each, dividing the channels."""
    return math.gcd(channels, min(8, max(1, channels // 4)))
