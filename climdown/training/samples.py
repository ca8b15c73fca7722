"""Training fields with their conditions, and all else that a prior is made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from climdown.arrays import Floats, Index, Mask
from climdown.priors.card import Card
from climdown.priors.gaussian import Patterns
from climdown.training.reader import FieldReader
from climdown.transforms import Chain


@dataclass(frozen=True, eq=False)
class Samples:
    """Fields with their conditions, read and normalised when they are taken.

    Attributes:
        index: of each field among the reader's dates, shape (n,).
        chains: from physical to normalised values, one per variable.
        mask: cells that a variable has, shape (variables, ny, nx).
        calendar: (month, day, hour), shape (n, 3).
        group: patterns of the Gaussian part that each field had no share in, shape (n,).
    """

    reader: FieldReader
    index: Index
    chains: tuple[Chain, ...]
    mask: Mask
    calendar: Tensor
    group: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def take(
        self, index: Tensor | Index, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A batch on a device.

        Returns:
            x normalised, zero where missing, shape (n, variables, ny, nx); 1 where it was
            observed, same shape; calendar, shape (n, 3).
        """
        chosen = torch.as_tensor(index)
        values = self.reader.read(self.index[chosen.numpy()])
        valid = np.isfinite(values) & self.mask
        for variable, chain in enumerate(self.chains):
            values[:, variable] = chain.forward(values[:, variable])
        x = np.where(valid, values, np.float32(0.0))
        observed = torch.from_numpy(valid.astype(np.float32))
        return torch.from_numpy(x).to(device), observed.to(device), self.calendar[chosen].to(device)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything a prior is made of, but for its weights.

    Attributes:
        patterns: of the Gaussian part, by variable; empty without one.
    """

    card: Card
    fields: dict[str, Floats]
    train: Samples
    validation: Samples
    patterns: tuple[Patterns, ...] = ()

    @cached_property
    def digest(self) -> str:
        """A hash of the card and of all statistics of the training data."""
        digest = hashlib.sha256(self.card.to_json().encode())
        for name in sorted(self.fields):
            digest.update(np.ascontiguousarray(self.fields[name]).tobytes())
        return digest.hexdigest()
