"""What a training run leaves for people: a CSV log, and pictures of samples."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from climdown.arrays import Floats, Mask
from climdown.diffusion import consistency, schedule, solvers
from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.noise import KeyedNoise
from climdown.files import placed
from climdown.plots.maps import Panel, draw_panels
from climdown.priors.card import Card
from climdown.training.samples import Dataset
from climdown.training.trainer import Step

_PANELS = 4
_STEPS = 18
_COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "seconds", "validation")


class Log:
    """A CSV file with a row per step; a resumed run cuts off what it will do again.

    Args:
        step: steps that are done.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        rows: list[list[str]] = []
        if step > 0 and path.is_file():
            with path.open(newline="", encoding="utf-8") as stream:
                complete = [row for row in csv.reader(stream) if len(row) >= len(_COLUMNS)]
            rows = [row for row in complete if _number(row[0]) <= step]
        with placed(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([list(_COLUMNS), *rows[1:]])

    def add(self, step: Step, seconds: float) -> None:
        """Append a row; scores by noise level stand as "level: score" in the last columns."""
        score = step.score
        row: list[Any] = [
            step.number,
            f"{step.loss:.6g}",
            f"{step.rate:.4g}",
            f"{step.gradient:.4g}",
            f"{seconds:.3f}",
            "" if score is None else f"{score:.6g}",
            *(f"{level}: {value:.6g}" for level, value in step.validation.items()),
        ]
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerow(row)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


@torch.no_grad()
def draw_samples(dataset: Dataset, model: Denoiser, device: torch.device, path: Path) -> None:
    """Draw unconditional samples beside validation days of the same dates, into a PNG."""
    days = torch.linspace(0, len(dataset.validation) - 1, _PANELS).round().long()
    real, valid, calendar = dataset.validation.take(days)
    keys = tuple((member, "picture") for member in range(_PANELS))
    noise = KeyedNoise(0, keys, tuple(real.shape[1:]), device)
    denoise = model.bind(calendar.to(device))
    card = dataset.card
    low, high = card.sampling.sigma_min, card.sampling.sigma_max
    if card.kind == "consistency":
        drawn = consistency.sample(denoise, noise, torch.tensor([high]), sigma_min=card.sigma_min)
    else:
        sigmas = schedule.karras_sigmas(_STEPS, sigma_min=low, sigma_max=high)
        drawn = solvers.sample_fast(denoise, noise, sigmas)
    rows = []
    for variable, name in enumerate(v.name for v in card.variables):
        chain = dataset.train.chains[variable]
        fields = [
            (f"{name}, {title}", _physical(x[:, variable], chain, cells))
            for title, x, cells in (
                ("sample", drawn.float().cpu(), dataset.train.mask[variable]),
                ("real", real, valid[:, variable].numpy() > 0),
            )
        ]
        rows.append(
            [
                Panel(t, card.grid, f, scale=name, colours=_colours(card, variable))
                for t, fs in fields
                for f in fs
            ]
        )
    draw_panels(rows, path, title=f"{card.name}: samples and real days")


def _physical(x: Tensor, chain: Any, mask: Mask) -> Floats:
    values = chain.inverse(x.numpy().astype(np.float64))
    return np.where(mask, values, np.nan)


def _colours(card: Card, variable: int) -> str:
    kinds = [step["kind"] for step in card.variables[variable].transform]
    return "Blues" if "log" in kinds else "RdYlBu_r"
