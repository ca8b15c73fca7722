"""Averages of the weights over training."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn


def decay(value: float, profile: str, step: int) -> float:
    """How much of an average stays at a step (the first is 0).

    Args:
        value: the decay itself, or the relative width of a power function's average.
        profile: "exponential" (shorter at first, so that early weights are forgotten) or "power":
            (1 - 1 / t)^(gamma + 1) (Karras et al. 2024, arXiv 2312.02696, Eq. 127).
    """
    if profile == "exponential":
        return min(value, (1 + step) / (10 + step))
    return float((1.0 - 1.0 / (step + 1)) ** (power_exponent(value) + 1.0))


def power_exponent(width: float) -> float:
    """gamma of a power function's average of relative width sigma_rel (arXiv 2312.02696, Eq. 126).

    The largest root of sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).

    Raises:
        ValueError: a width that no average has.
    """
    if not 0.0 < width < math.sqrt(1.0 / 12.0):
        raise ValueError(f"no power function's average has relative width {width}")
    t = width**-2
    return float(np.roots([1.0, 7.0, 16.0 - t, 12.0 - t]).real.max())


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, kept: float) -> None:
    """average = kept average + (1 - kept) model, for all parameters."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - kept)
