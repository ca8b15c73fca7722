"""Random numbers that are determined by a key alone, not by the order in which they are drawn.

Each field's noise is keyed by (seed, member, time stamp, step). So a member is the same for any
batch size, order, number of members or device, and after resumption. Noise that is correlated in
time is a moving average over such numbers, and is reproducible in the same sense.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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


# Weights of a moving average below this share of the first one are left out.
_LEAST_WEIGHT = 1e-2


def red_weights(correlation: float) -> Tensor:
    """Weights c a^j of a moving average of white noise, for a = `correlation`; shape (J + 1,).

    The average has unit variance and, at a lag of k steps, the correlation
    a^k (1 - a^(2 (J - k + 1))) / (1 - a^(2 (J + 1))), zero beyond J: a^k up to a ten-thousandth,
    the red noise of a first-order autoregression.

    Args:
        correlation: 0 to below 1.
    """
    if correlation == 0.0:
        return torch.ones(1, dtype=torch.float64)
    last = math.ceil(math.log(_LEAST_WEIGHT) / math.log(correlation))
    weights = correlation ** torch.arange(last + 1, dtype=torch.float64)
    return weights / weights.square().sum().sqrt()


@dataclass(frozen=True)
class AutocorrelatedNoise:
    """The noise of one batch of fields, correlated from one time step to the next.

    Attributes:
        seed, shape, device: as of `KeyedNoise`.
        keys: (member, number of the time step) of each field in the batch; consecutive steps have
            consecutive numbers, and steps that are missing in the data are counted too.
        correlations: at a lag of one step, of each channel.
    """

    seed: int
    keys: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]
    device: torch.device
    correlations: tuple[float, ...]

    @cached_property
    def _weights(self) -> Tensor:
        """Shape (lags, channels, 1, 1), zero where a channel's average is over."""
        columns = [red_weights(correlation) for correlation in self.correlations]
        padded = torch.nn.utils.rnn.pad_sequence(columns)
        return padded.to(torch.float32)[:, :, None, None]

    def __call__(self, step: int) -> Tensor:
        """Noise for a step of the sampler; step 0 is the start. Shape (batch, *shape)."""
        # Each number is drawn once for all fields that share it. They are added up from the oldest
        # to the newest, so that a field's sum has the same bits in every batch.
        uses: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for row, (member, number) in enumerate(self.keys):
            for lag in range(len(self._weights)):
                uses[member, number - lag].append((row, lag))
        result = torch.zeros(len(self.keys), *self.shape)
        for member, number in sorted(uses):
            drawn = keyed_normal(f"{self.seed}/{member}/{number}/{step}", self.shape)
            for row, lag in uses[member, number]:
                result[row].addcmul_(self._weights[lag], drawn)
        return result.to(self.device)
