"""The Gaussian part of a prior's denoiser on disk, see `diffusion.gaussian`.

For each variable `fields.safetensors` holds its mean, leading patterns and their variances, over
the variable's valid cells alone; patterns in half precision, since they are most of the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from climdown.arrays import Floats
from climdown.errors import ConfigError
from climdown.priors.card import Card

if TYPE_CHECKING:
    from climdown.diffusion.gaussian import GaussianPart

Fields = Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Patterns:
    """Of one variable's normalised fields, over its valid cells.

    Attributes:
        mean: of all training fields first, then without each block of them, (groups, cells).
        patterns: orthonormal rows, likewise, shape (groups, count, cells).
        variances: of new fields along each pattern, shape (count,).
        floor: variance of new fields along any other direction.
    """

    mean: Floats
    patterns: Floats
    variances: Floats
    floor: float


def field_names(variable: str) -> tuple[str, str, str]:
    """The names of mean, patterns and variances (the last of these the floor)."""
    return f"mean_{variable}", f"patterns_{variable}", f"variances_{variable}"


def to_fields(variable: str, part: Patterns) -> dict[str, Floats]:
    """What is stored: the patterns of all training fields."""
    values = (
        part.mean[0].astype(np.float32),
        part.patterns[0].astype(np.float16),
        np.append(part.variances, part.floor).astype(np.float32),
    )
    return dict(zip(field_names(variable), values, strict=True))


def from_fields(variable: str, fields: Fields) -> Patterns:
    """What was stored, with a single group."""
    mean, patterns, variances = (fields[name] for name in field_names(variable))
    return Patterns(mean[None], patterns[None], variances[:-1], float(variances[-1]))


def check_fields(card: Card, fields: Fields) -> None:
    """Refuse shapes or numbers with which no denoiser can be built.

    Raises:
        ConfigError: names the field, what was found and what was expected.
    """
    count = card.network.patterns
    for variable, mask in zip(card.variables, fields["mask"], strict=True):
        cells = int((mask > 0.5).sum())
        shapes = ((cells,), (count, cells), (count + 1,))
        for name, shape in zip(field_names(variable.name), shapes, strict=True):
            values = fields[name]
            if values.shape != shape:
                raise ConfigError(f"field '{name}' has shape {values.shape}; expected {shape}")
        if not (fields[name] > 0).all():
            raise ConfigError(f"field '{name}' holds variances that are not above 0")


def gaussian_part(card: Card, mask: Floats, patterns: Sequence[Patterns]) -> GaussianPart:
    """The module, from the patterns of each variable."""
    import torch

    from climdown.diffusion.gaussian import GaussianPart

    def single(values: Floats) -> torch.Tensor:
        return torch.from_numpy(np.array(values, dtype=np.float32))

    return GaussianPart(
        mask=single(mask),
        mean=[single(part.mean) for part in patterns],
        patterns=[single(part.patterns) for part in patterns],
        variances=[single(part.variances) for part in patterns],
        floor=torch.tensor([part.floor for part in patterns], dtype=torch.float32),
        sigma_min=card.sigma_min,
    )
