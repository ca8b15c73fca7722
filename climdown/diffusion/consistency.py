"""Consistency models: one network evaluation from noise to a field.

A consistency function maps every point of a probability-flow trajectory to the trajectory's
start (Song et al. 2023, arXiv 2303.01469). It is learnt from pairs of neighbouring noise levels
of one field with one noise: the network's output at the higher level is trained to agree with its
output at the lower one. Three recipes choose the pairs and their weights.

The masked, area-wide root mean square takes the place of the papers' Euclidean norm, so that
losses do not depend on the number of cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from climdown.diffusion.denoiser import Denoise, Denoiser
from climdown.diffusion.sampler import Noise
from climdown.diffusion.schedule import karras_sigmas, lognormal_sigmas
from climdown.diffusion.tiles import Window

_HUBER = 0.00054  # times the root of the number of values (arXiv 2310.14189, Sec. 3.3)


@dataclass(frozen=True)
class Pairs:
    """Noise levels to be brought to agree, high and low, and weights; shape (batch,) each."""

    high: Tensor
    low: Tensor
    weight: Tensor


class Recipe(Protocol):
    """How consistency is learnt."""

    def pairs(self, uniform: Tensor, progress: float) -> Pairs:
        """Levels for uniform random numbers in (0, 1), at a share of all training steps."""

    def distance(self, one: Tensor, other: Tensor, valid: Tensor) -> Tensor:
        """Between two outputs of shape (batch, channels, ny, nx); shape (batch,)."""

    def teacher_decay(self, progress: float) -> float:
        """Of the moving average of weights used at the lower level; 0 for the current weights."""


@dataclass(frozen=True)
class Tuned:
    """Easy consistency tuning of a trained diffusion prior (Geng et al. 2024, arXiv 2406.14548).

    The lower level starts at `sigma_min`, where the loss is that of diffusion, and approaches the
    higher one in `stages`: low = high (1 - n(high) / 2^(stage + 1)), n(t) = 1 + 8 / (1 + e^t).

    Their weight 1 / (high - low) is kept where noise is weak. Above 1 a trajectory bends with the
    logarithm of its level, and pairs are weighted by that: with the paper's weight a level of 100
    counts a hundredth, and one-step samples from pure noise drift while everything else improves.
    """

    sigma_min: float = 0.002
    mean: float = -1.1
    std: float = 2.0
    stages: int = 8

    def pairs(self, uniform: Tensor, progress: float) -> Pairs:
        high = lognormal_sigmas(uniform, mean=self.mean, std=self.std)
        # Room for a lower level above sigma_min.
        high = high.clamp(min=2 * self.sigma_min)
        # progress = 1 belongs to the last stage.
        stage = min(int(progress * self.stages), self.stages - 1)
        # n(t) with 8 / (1 + e^t) = 8 sigmoid(-t). In the first stage 1 - n / 2 is below 0 for t <
        # ln 7, four fifths of the default levels, and the clamp makes low = sigma_min.
        adjusted = 1.0 + 8.0 * torch.sigmoid(-high)
        low = (high * (1.0 - adjusted / 2.0 ** (stage + 1))).clamp(min=self.sigma_min)
        return Pairs(high, low, torch.sqrt(1.0 + high**2) / (high - low))

    def distance(self, one: Tensor, other: Tensor, valid: Tensor) -> Tensor:
        return pseudo_huber(one, other, valid)

    def teacher_decay(self, progress: float) -> float:
        return 0.0


@dataclass(frozen=True)
class Improved:
    """Improved consistency training from scratch (Song & Dhariwal 2023, arXiv 2310.14189).

    Karras levels whose number doubles from `first` to `last`, drawn with lognormal density;
    pseudo-Huber distance, weight 1 / (high - low), and a teacher without a moving average.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    mean: float = -1.1
    std: float = 2.0
    first: int = 10
    last: int = 1280

    def levels(self, progress: float) -> int:
        """Number of intervals: min(first 2^floor(k / K'), last) (their Table 2)."""
        doublings = math.floor(math.log2(self.last / self.first)) + 1
        return int(min(self.first * 2 ** math.floor(progress * doublings), self.last))

    def pairs(self, uniform: Tensor, progress: float) -> Pairs:
        grid = _ascending(self.levels(progress) + 1, self.sigma_min, self.sigma_max)
        # p(i) ~ erf((ln sigma_(i+1) - mean) / (sqrt(2) std)) - erf((ln sigma_i - mean) / ...)
        # (their lognormal schedule), drawn by the inverse of its cumulative sum; in double
        # precision on the CPU, as the grid.
        bounds = torch.erf((grid.log() - self.mean) / (math.sqrt(2.0) * self.std))
        share = torch.cumsum(bounds.diff(), dim=0) / (bounds[-1] - bounds[0])
        index = torch.searchsorted(share, uniform.double().cpu()).clamp(max=len(grid) - 2)
        return _neighbours(grid, index, uniform, weighted=True)

    def distance(self, one: Tensor, other: Tensor, valid: Tensor) -> Tensor:
        return pseudo_huber(one, other, valid)

    def teacher_decay(self, progress: float) -> float:
        return 0.0


@dataclass(frozen=True)
class Original:
    """Consistency training as first published and as used for downscaling by Hess et al.

    Number of levels and decay of the teacher by the schedules of Song et al. 2023 (arXiv
    2303.01469, Appendix C): N(k) = ceil(sqrt(k/K ((s1 + 1)^2 - s0^2) + s0^2) - 1) + 1, mu(k) =
    exp(s0 ln(mu0) / N(k)); levels drawn evenly, unweighted. The distance is L1 alone: the
    LPIPS of the papers needs a network whose weights are downloaded and fitted to photographs.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    first: int = 2
    last: int = 150
    decay: float = 0.9

    def levels(self, progress: float) -> int:
        """Number of levels N."""
        square = progress * ((self.last + 1) ** 2 - self.first**2) + self.first**2
        return math.ceil(math.sqrt(square) - 1) + 1

    def pairs(self, uniform: Tensor, progress: float) -> Pairs:
        grid = _ascending(self.levels(progress), self.sigma_min, self.sigma_max)
        # Each of the N - 1 intervals with equal probability; the clamp is for uniform = 1.
        index = (uniform.double().cpu() * (len(grid) - 1)).long().clamp(max=len(grid) - 2)
        return _neighbours(grid, index, uniform, weighted=False)

    def distance(self, one: Tensor, other: Tensor, valid: Tensor) -> Tensor:
        return _mean((one - other).abs(), valid)

    def teacher_decay(self, progress: float) -> float:
        # The more levels, the slower the teacher follows.
        return math.exp(self.first * math.log(self.decay) / self.levels(progress))


def consistency_loss(
    student: Denoiser,
    target: Tensor,
    recipe: Recipe,
    pairs: Pairs,
    x0: Tensor,
    valid: Tensor,
    calendar: Tensor,
    noise: Tensor,
    group: Tensor | None = None,
    window: Window | None = None,
) -> Tensor:
    """Weighted distance of the student's output at the higher level to a target, shape (batch,).

    Args:
        target: the teacher's output at the lower level, without gradient, for the window.
        x0: clean normalised fields, zero where missing, shape (batch, channels, ny, nx).
        valid: 1 where x0 was observed, same shape.
        calendar: (month, day, hour), shape (batch, 3).
        noise: standard normal, same shape as x0.
        group: of the Gaussian part's patterns for each field, shape (batch,).
        window: cells to predict; None takes all.
    """
    # With the x0 and noise of the target: x0 + sigma noise at the two levels stands for two points
    # of one trajectory.
    answer = noisy_answer(student, x0, calendar, pairs.high, noise, group, window)
    valid = valid if window is None else valid[(..., *window)]
    return pairs.weight * recipe.distance(answer, target, valid)


def noisy_answer(
    model: Denoiser,
    x0: Tensor,
    calendar: Tensor,
    sigma: Tensor,
    noise: Tensor,
    group: Tensor | None = None,
    window: Window | None = None,
) -> Tensor:
    """A model's output for x0 + sigma noise, shape as x0 or that of the window."""
    noisy = (x0 + sigma.reshape(-1, 1, 1, 1) * noise) * model.mask
    answer: Tensor = model(noisy, sigma, calendar, group, window)
    return answer


def pseudo_huber(one: Tensor, other: Tensor, valid: Tensor) -> Tensor:
    """sqrt(|d|^2 + c^2) - c with |d| the root mean square over valid cells, shape (batch,).

    arXiv 2310.14189, Eq. 8, with norm and c both divided by the root of the number of values.
    """
    distance: Tensor = torch.sqrt(_mean((one - other) ** 2, valid) + _HUBER**2) - _HUBER
    return distance


def sample(
    consistency: Denoise, noise: Noise, sigmas: Tensor, *, sigma_min: float = 0.002
) -> Tensor:
    """Draw fields in one evaluation per level (arXiv 2303.01469, Algorithm 1).

    Args:
        consistency: f(x, sigma).
        noise: noise(0) starts, noise(i) is added before evaluation i.
        sigmas: descending levels, the first one the start; a single one for one step.

    Returns:
        shape (batch, channels, ny, nx).
    """
    # A final 0 of a solver's schedule asks for no evaluation.
    levels = [float(sigma) for sigma in sigmas if float(sigma) > 0.0]
    x = consistency(levels[0] * noise(0), levels[0])
    for step, level in enumerate(levels[1:], start=1):
        # What f returns stands at sigma_min: the noise added makes up the rest of the level's
        # variance.
        x = consistency(x + math.sqrt(level**2 - sigma_min**2) * noise(step), level)
    return x


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    mean: Tensor = (values * valid).sum(dim=(1, 2, 3)) / valid.sum(dim=(1, 2, 3)).clamp(min=1)
    return mean


def _ascending(count: int, low: float, high: float) -> Tensor:
    # Without the 0 that ends a solver's schedule, from sigma_min up.
    return karras_sigmas(count, sigma_min=low, sigma_max=high)[:-1].flip(0)


def _neighbours(grid: Tensor, index: Tensor, like: Tensor, *, weighted: bool) -> Pairs:
    # From double precision on the CPU to the type and device of the fields.
    low, high = grid[index].to(like), grid[index + 1].to(like)
    return Pairs(high, low, 1.0 / (high - low) if weighted else torch.ones_like(high))
