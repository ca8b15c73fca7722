"""Coarse operators on small grids, and fields for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from climdown import regrid
from climdown.diffusion.observation import CoarseObservation, CoarseOperator, latitude_weights
from climdown.grid import Grid

FINE = Grid.regular(40.0, 46.0, 0.0, 8.0, 0.5)  # 12 x 16 cells
COARSE = Grid.regular(40.0, 46.0, 0.0, 8.0, 2.0)  # 3 x 4 cells
STRADDLING = Grid.regular(40.0, 46.4, 0.0, 8.0, 1.6)  # 4 x 5 cells, some fine cells in two
NOTHING_SEEN = (slice(0, 4), slice(0, 4))  # the fine cells of the first coarse cell


def identity(x: Tensor) -> Tensor:
    return x


def log_decode(x: Tensor) -> Tensor:
    return 0.1 * torch.expm1(x)


def log_encode(x: Tensor) -> Tensor:
    return torch.log1p(x / 0.1)


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def ones(batch: int) -> Tensor:
    return torch.ones(batch, *COARSE.shape, dtype=torch.float64)


def some_mask() -> Tensor:
    mask = torch.from_numpy((np.random.default_rng(0).random(FINE.shape) < 0.7).astype(float))
    mask[NOTHING_SEEN] = 0.0
    return mask


def make_operator(
    mask: Tensor | None = None,
    *,
    log: bool = False,
    fine: Grid = FINE,
    coarse: Grid = COARSE,
) -> CoarseOperator:
    lower = [torch.from_numpy(m) for m in regrid.axis_weights(fine, coarse, "conservative")]
    raised = [torch.from_numpy(m) for m in regrid.axis_weights(coarse, fine, "bilinear")]
    return CoarseOperator(
        lower_lat=lower[0],
        lower_lon=lower[1],
        raise_lat=raised[0],
        raise_lon=raised[1],
        mask=torch.ones(fine.shape, dtype=torch.float64) if mask is None else mask,
        decode=log_decode if log else identity,
        encode=log_encode if log else identity,
    )


def observe(operator: CoarseOperator, coarse: Tensor, observed: Tensor) -> CoarseObservation:
    """Observe the only channel of a batch on FINE."""
    weights = latitude_weights(torch.from_numpy(FINE.areas))
    return CoarseObservation((operator,), (0,), (coarse,), (observed,), weights)
