"""A Gaussian prior whose posterior under block means is known exactly.

Three variables on 4 x 4 cells, correlated in space: the first is observed by its means over
2 x 2 blocks, the second is correlated with it, the third is independent of both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from climdown.diffusion.observation import CoarseObservation, CoarseOperator
from tests.denoisers import gaussian_denoiser

CORRELATION = 0.7
SHAPE = (3, 4, 4)
OBSERVED, CORRELATED, INDEPENDENT = (slice(16 * k, 16 * k + 16) for k in range(3))
TARGET = torch.tensor([[2.0, 1.0], [-0.5, 1.5]], dtype=torch.float64)


def spatial_covariance() -> Tensor:
    cells = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), axis=-1).reshape(-1, 2)
    distance = np.linalg.norm(cells[:, None] - cells[None], axis=-1)
    return torch.from_numpy(np.exp(-distance / 2.0))


BETWEEN = torch.tensor([[1.0, CORRELATION, 0.0], [CORRELATION, 1.0, 0.0], [0.0, 0.0, 1.0]])
MEAN = torch.tensor([0.5, -1.0, 0.25], dtype=torch.float64).repeat_interleave(16)
COVARIANCE = torch.kron(BETWEEN.double(), spatial_covariance())
DENOISE = gaussian_denoiser(MEAN, COVARIANCE)

HALVE = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]], dtype=torch.float64)
BLOCK_MEANS = torch.zeros(4, 48, dtype=torch.float64)
BLOCK_MEANS[:, OBSERVED] = torch.kron(HALVE, HALVE)

# The exact posterior: Gaussian conditioning on BLOCK_MEANS x = TARGET.
_GAIN = torch.linalg.solve(BLOCK_MEANS @ COVARIANCE @ BLOCK_MEANS.T, BLOCK_MEANS @ COVARIANCE).T
SHIFT = _GAIN @ (TARGET.flatten() - BLOCK_MEANS @ MEAN)
POSTERIOR = COVARIANCE - _GAIN @ BLOCK_MEANS @ COVARIANCE


def observe(batch: int, *, observed: float = 1.0) -> CoarseObservation:
    """Block means of the first variable, compared cell by cell after plain repetition."""
    ones = torch.ones(4, 4, dtype=torch.float64)
    operator = CoarseOperator(
        lower_lat=HALVE,
        lower_lon=HALVE,
        raise_lat=2 * HALVE.T,
        raise_lon=2 * HALVE.T,
        mask=ones,
        decode=lambda x: x,
        encode=lambda x: x,
    )
    there = torch.full((batch, 2, 2), observed, dtype=torch.float64)
    return CoarseObservation((operator,), (0,), (TARGET.expand(batch, 2, 2),), (there,), ones)


def no_noise(step: int) -> Tensor:
    return torch.zeros(1, *SHAPE, dtype=torch.float64)
