"""What is minimised: the denoising error of a diffusion prior, or a consistency model's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from climdown.config import PriorConfig, TrainingConfig
from climdown.diffusion import consistency, schedule
from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.losses import edm_loss
from climdown.diffusion.tiles import Window
from climdown.training.samples import Samples

VALIDATION_SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_VALIDATION_DAYS = 30
_ONE_STEP_DAYS = 90
# One-step samples are judged at these levels, and at the largest, from noise alone.
_ONE_STEP_SIGMAS = (0.5, 2.0)
_DDPM_STEPS = 1000
_VP_FIRST = 1e-5


@dataclass(frozen=True, eq=False)
class Batch:
    """Fields of a step, with their random numbers.

    Attributes:
        x0, valid, calendar: as of `Samples.take`.
        uniform: a random number in (0, 1) for each field, shape (n,).
        noise: standard normal, same shape as x0.
        group: patterns of a Gaussian part that each field had no share in, shape (n,).
    """

    x0: Tensor
    valid: Tensor
    calendar: Tensor
    uniform: Tensor
    noise: Tensor
    group: Tensor

    def __len__(self) -> int:
        return self.x0.shape[0]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        tensors = tuple(getattr(self, entry.name) for entry in fields(self))
        if device.type == "cuda":
            tensors = tuple(t.pin_memory() for t in tensors)
        return Batch(*(t.to(device, non_blocking=True) for t in tensors))

    def part(self, rows: slice) -> Batch:
        """Some of the fields."""
        return Batch(*(getattr(self, entry.name)[rows] for entry in fields(self)))


class Objective(Protocol):
    """A loss, and how a model is judged on days it never saw."""

    @property
    def needs_teacher(self) -> bool:
        """Whether an average answers for the lower level, not the weights themselves."""

    def loss(
        self, model: Denoiser, teacher: Denoiser | None, batch: Batch, progress: float
    ) -> Tensor:
        """Loss of each field, shape (n,), at a share of all steps."""

    def teacher_decay(self, progress: float) -> float:
        """Of the teacher, where there is one."""

    def validate(
        self, model: Denoiser, samples: Samples, device: torch.device, chunk: int
    ) -> dict[str, float]:
        """Scores by noise level, smaller is better; their mean chooses the weights kept."""


@dataclass(frozen=True)
class Diffusion:
    """Denoising at lognormal levels, or at those of DDPM or of the variance-preserving SDE."""

    settings: TrainingConfig
    needs_teacher: bool = False

    def sigmas(self, uniform: Tensor) -> Tensor:
        """Noise levels for uniform random numbers."""
        kind = self.settings.noise
        if kind == "edm":
            mean, std = self.settings.sigma_mean, self.settings.sigma_std
            return schedule.lognormal_sigmas(uniform, mean=mean, std=std)
        if kind == "ddpm":
            levels = schedule.ddpm_sigmas(_DDPM_STEPS)[:-1].to(uniform.device)
            return levels[(uniform * _DDPM_STEPS).long().clamp(max=_DDPM_STEPS - 1)].float()
        return schedule.vp_sigma(_VP_FIRST + (1.0 - _VP_FIRST) * uniform.double()).float()

    def loss(
        self, model: Denoiser, teacher: Denoiser | None, batch: Batch, progress: float
    ) -> Tensor:
        return edm_loss(
            model,
            batch.x0,
            batch.valid,
            batch.calendar,
            self.sigmas(batch.uniform),
            batch.noise,
            weighting="network" if self.settings.noise == "edm" else "noise",
            group=batch.group,
            window=_drawn_window(model, batch.x0),
        )

    def teacher_decay(self, progress: float) -> float:
        return 0.0

    def validate(
        self, model: Denoiser, samples: Samples, device: torch.device, chunk: int
    ) -> dict[str, float]:
        """Loss at fixed noise levels, on days spread over validation."""
        x0, valid, calendar = samples.take(_spread(len(samples), _VALIDATION_DAYS))
        scores = {}
        for level in VALIDATION_SIGMAS:
            generator = torch.Generator().manual_seed(round(level * 1000))
            noise = torch.randn(x0.shape, generator=generator)
            losses = [
                edm_loss(
                    model,
                    x0[rows].to(device),
                    valid[rows].to(device),
                    calendar[rows].to(device),
                    torch.full((len(x0[rows]),), level, device=device),
                    noise[rows].to(device),
                )
                for rows in _chunks(len(x0), chunk)
            ]
            scores[f"{level:g}"] = float(torch.cat(losses).mean())
        return scores


@dataclass(frozen=True)
class Consistency:
    """Agreement between noise levels, by one of the recipes."""

    recipe: consistency.Recipe
    sigma_max: float

    @property
    def needs_teacher(self) -> bool:
        """Whether an average answers for the lower level, not the weights themselves."""
        return self.recipe.teacher_decay(0.0) > 0.0

    def loss(
        self, model: Denoiser, teacher: Denoiser | None, batch: Batch, progress: float
    ) -> Tensor:
        pairs = self.recipe.pairs(batch.uniform, progress)
        x0, calendar, noise = batch.x0, batch.calendar, batch.noise
        window = _drawn_window(model, x0)
        # Both answers with the same dropped units, or their difference would be dropout alone.
        state = _random_state(x0.device)
        with torch.no_grad():
            target = consistency.noisy_answer(
                teacher or model, x0, calendar, pairs.low, noise, batch.group, window
            )
        _set_random_state(x0.device, state)
        return consistency.consistency_loss(
            model,
            target,
            self.recipe,
            pairs,
            x0,
            batch.valid,
            calendar,
            noise,
            group=batch.group,
            window=window,
        )

    def teacher_decay(self, progress: float) -> float:
        return self.recipe.teacher_decay(progress)

    def validate(
        self, model: Denoiser, samples: Samples, device: torch.device, chunk: int
    ) -> dict[str, float]:
        """Energy distance of one-step samples to validation days, by noise level.

        The disagreement itself would not do: it is least for a model that answers every noise
        with the mean. See `energy_distance`.
        """
        x0, valid, calendar = samples.take(_spread(len(samples), _ONE_STEP_DAYS))
        scores = {}
        for level in (*_ONE_STEP_SIGMAS, self.sigma_max):
            generator = torch.Generator().manual_seed(round(level * 1000))
            noise = torch.randn(x0.shape, generator=generator)
            answers = [
                consistency.noisy_answer(
                    model,
                    x0[rows].to(device),
                    calendar[rows].to(device),
                    torch.full((len(x0[rows]),), level, device=device),
                    noise[rows].to(device),
                )
                .float()
                .cpu()
                for rows in _chunks(len(x0), chunk)
            ]
            scores[f"{level:g}"] = energy_distance(torch.cat(answers) * valid, x0)
        return scores


def energy_distance(drawn: Tensor, real: Tensor) -> float:
    """How far drawn fields are from real ones as distributions, in full fields and in fine parts.

    (2 E|X - Y| - E|X - X'| - E|Y - Y'|) / E|Y - Y'| (Székely & Rizzo 2013,
    doi:10.1016/j.jspi.2013.03.018), averaged over the fields and what is left of them after
    their means over 4 x 4 cells are taken off. Zero in the mean for samples of one distribution.

    Args:
        drawn, real: shape (n, channels, ny, nx), n at least 2, zero where missing. Fields of one
            row may be related, and are not compared.
    """
    count = len(real)
    distances = []
    for one, other in ((drawn, real), (_fine(drawn), _fine(real))):
        x, y = one.flatten(1).double(), other.flatten(1).double()
        pairs = torch.cdist(x, y)
        across = float(pairs.sum() - pairs.trace()) / (count * (count - 1))
        within = float(torch.pdist(y).mean())
        distances.append((2.0 * across - float(torch.pdist(x).mean()) - within) / within)
    return sum(distances) / len(distances)


def make_objective(config: PriorConfig) -> Objective:
    """The objective that a configuration asks for."""
    settings = config.consistency
    if settings is None:
        return Diffusion(config.training)
    low, high, mean, std = settings.sigma_min, settings.sigma_max, settings.mean, settings.std
    if settings.recipe == "tuned":
        return Consistency(consistency.Tuned(low, mean, std, settings.stages), high)
    if settings.recipe == "improved":
        return Consistency(consistency.Improved(low, high, mean, std), high)
    return Consistency(consistency.Original(low, high), high)


def _fine(fields: Tensor) -> Tensor:
    ny, nx = fields.shape[-2:]
    size = min(4, ny, nx)
    pooled = torch.nn.functional.avg_pool2d(fields, size, ceil_mode=True, count_include_pad=False)
    coarse = pooled.repeat_interleave(size, dim=-2).repeat_interleave(size, dim=-1)
    return fields - coarse[..., :ny, :nx]


def _drawn_window(model: Denoiser, x0: Tensor) -> Window | None:
    """Where the network is applied in this pass, if it is one of tiles."""
    if model.tiles is None:
        return None
    ny, nx = x0.shape[-2:]
    return model.tiles.draw((ny, nx), x0.device)


def _spread(count: int, most: int) -> Tensor:
    return torch.linspace(0, count - 1, min(most, count)).round().long()


def _chunks(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
