"""The network that a prior's card describes, in torch, which is imported when one is built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import safe_open

from climdown.arrays import Floats
from climdown.config import NetworkConfig
from climdown.errors import ConfigError
from climdown.priors import gaussian
from climdown.priors.bounds import require
from climdown.priors.card import Card

if TYPE_CHECKING:
    import torch

    from climdown.diffusion.denoiser import Denoiser
    from climdown.diffusion.tiles import Tiles
    from climdown.diffusion.unet import UNet


def build_denoiser(
    card: Card,
    fields: Mapping[str, Floats],
    patterns: Sequence[gaussian.Patterns] = (),
    *,
    tile: int | None = None,
) -> Denoiser:
    """A denoiser of the card's shape with fresh weights.

    Args:
        patterns: of its Gaussian part, instead of those among the fields.
        tile: as of `Prior.denoiser`.
    """
    import torch

    from climdown.diffusion.denoiser import Denoiser

    tile = card.network.tile if tile is None else tile
    part = None
    if card.network.patterns:
        patterns = patterns or [gaussian.from_fields(v.name, fields) for v in card.variables]
        part = gaussian.gaussian_part(card, fields["mask"], patterns)
    network = build_network(
        card,
        inputs=len(card.variables) * (1 if part is None else 2),
        # A tile does not close the circle.
        periodic=card.grid.periodic and not 0 < tile < card.grid.shape[1],
    )
    static = np.stack([fields[name] for name in card.statics])
    return Denoiser(
        network,
        static=torch.from_numpy(static.astype(np.float32)),
        mask=torch.from_numpy(np.array(fields["mask"], dtype=np.float32)),
        sigma_data=card.sigma_data,
        sigma_min=card.sigma_min,
        gaussian=part,
        tiles=make_tiles(card, tile) if tile else None,
    )


def build_network(card: Card, *, inputs: int, periodic: bool) -> UNet:
    """The network alone, of the card's size, with fresh weights.

    Args:
        inputs: channels of fields that it sees, beside the statics.
        periodic: whether its fields close the circle.
    """
    from climdown.diffusion.unet import UNet

    sizes = asdict(card.network)
    for other in ("patterns", "tile"):
        del sizes[other]
    return UNet(
        variables=len(card.variables),
        inputs=inputs,
        statics=len(card.statics),
        periodic=periodic,
        **sizes,
    )


def make_tiles(card: Card, size: int) -> Tiles:
    """Tiles of so many cells along each side, a quarter of that shared with each neighbour.

    Raises:
        ConfigError: the network needs larger ones.
    """
    from climdown.diffusion.tiles import Tiles

    stride = 2 ** (len(card.network.channels) - 1)
    if size < 4 * stride:
        raise ConfigError(
            f"tiles of {size} cells are too small for the {len(card.network.channels)} levels of "
            f"prior {card.name}; need at least {4 * stride}"
        )
    return Tiles(size, size // 4, periodic=card.grid.periodic, stride=stride)


def to_device(model: Denoiser, device: torch.device) -> Denoiser:
    """Move a denoiser, its weights in the memory format that convolutions are fastest in."""
    import torch

    model.to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def check_weights(path: Path, card: Card) -> None:
    """Refuse weights too few for the card's network, before a network of that size is made.

    Raises:
        ConfigError: says how many numbers the file holds and how many are needed.
        SafetensorError: the file is no safetensors.
    """
    with safe_open(path, framework="np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    count, least = sum(map(math.prod, shapes)), _least_weights(card.network)
    require(count >= least, f"found {count} numbers, the card's network has more than {least}")


def _least_weights(network: NetworkConfig) -> int:
    """Fewer numbers than the U-Net has, and more than a tenth of them.

    Counted are the square 3 x 3 convolutions and the modulation of each residual block.
    """
    blocks = 2 * network.blocks + 1
    per_level = (9 * width**2 + 2 * width * network.embedding for width in network.channels)
    return blocks * sum(per_level) + network.embedding**2
