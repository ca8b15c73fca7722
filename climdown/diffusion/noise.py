"""Random numbers that depend on what they are for, never on who asks or when.

Each field's noise is keyed by (seed, member, time stamp, step). So a member is the same for
any batch size, order, number of members, device or resumption.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def keyed_normal(key: str, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 numbers determined by a text key alone.

    Drawn by the counter-based Philox generator on the CPU, so that every device sees the
    same numbers.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    words = np.frombuffer(digest, dtype="<u8")
    generator = np.random.Generator(np.random.Philox(key=words))
    return torch.from_numpy(generator.standard_normal(tuple(shape), dtype=np.float32))


@dataclass(frozen=True)
class KeyedNoise:
    """The noise of one batch of fields.

    Attributes:
        seed: of the run.
        keys: (member, time stamp) of each field in the batch.
        shape: of one field, (channels, ny, nx).
        device: where the sampler works.
    """

    seed: int
    keys: tuple[tuple[int, str], ...]
    shape: tuple[int, ...]
    device: torch.device

    def __call__(self, step: int) -> Tensor:
        """Noise for a step of the sampler; step 0 is the start. Shape (batch, *shape)."""
        draws = [
            keyed_normal(f"{self.seed}/{member}/{stamp}/{step}", self.shape)
            for member, stamp in self.keys
        ]
        return torch.stack(draws).to(self.device)
