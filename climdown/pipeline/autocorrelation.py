"""Temporal autocorrelation of a run's noise: members as sequences instead of single days."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from climdown import cf
from climdown.diffusion.noise import AutocorrelatedNoise, KeyedNoise
from climdown.diffusion.sampler import Noise
from climdown.errors import ConfigError
from climdown.priors.card import Card

# What a card says is followed up to here: sums over ever more numbers would take the time.
_MOST = 0.95


@dataclass(frozen=True)
class Autocorrelation:
    """Correlation of the noise from one time step to the next.

    Attributes:
        by_variable: of the prior, all of them; empty draws each step for itself.
        step_days: between dates that are one step apart.
        reason: why the prior's own cannot be had, or None.
    """

    by_variable: Mapping[str, float]
    step_days: float
    reason: str | None = None

    def describe(self) -> str:
        """In words, for the plan."""
        if self.by_variable:
            listed = ", ".join(f"{name} {value:.2f}" for name, value in self.by_variable.items())
            return f"coherent in time: {listed}"
        return "each step drawn for itself" + (f" ({self.reason})" if self.reason else "")

    def noise(
        self,
        seed: int,
        keys: Sequence[tuple[int, Any]],
        shape: tuple[int, ...],
        device: torch.device,
    ) -> Noise:
        """The noise of a batch, by (member, date) of each field.

        Args:
            shape: of one field, (channels, ny, nx).
        """
        if not self.by_variable:
            stamps = tuple((member, date.isoformat()) for member, date in keys)
            return KeyedNoise(seed, stamps, shape, device)
        numbers = cf.step_numbers([date for _, date in keys], self.step_days)
        numbered = tuple((key[0], n) for key, n in zip(keys, numbers.tolist(), strict=True))
        return AutocorrelatedNoise(seed, numbered, shape, device, tuple(self.by_variable.values()))


def choose_autocorrelation(
    card: Card, axis: cf.TimeAxis, wanted: float | Literal["auto", "none"]
) -> Autocorrelation:
    """That of a run's noise.

    Args:
        wanted: "auto" takes that of the detail which coarse cells leave open, from the prior's
            card: of a sampler that is linear in its noise, what members draw has the correlation of
            the noise. A number is for all variables.

    Raises:
        ConfigError: a number was asked for, and several dates fall into one step.
    """
    step = _step(card, axis, wanted)
    names = [variable.name for variable in card.variables]
    if wanted in ("none", 0):
        return Autocorrelation({}, step)
    if isinstance(wanted, str):
        reason = _auto_is_none(card, axis)
        on_card = {} if reason else card.lag_correlation
        values = {name: min(max(on_card.get(name, 0.0), 0.0), _MOST) for name in names}
        return Autocorrelation(values if any(values.values()) else {}, step, reason)
    if not _distinct(axis, step):
        raise ConfigError(
            f"some dates share a time step of {step:.3g} days ({axis.describe()}); noise that is "
            "correlated in time needs equal steps: leave --coherence out"
        )
    return Autocorrelation(dict.fromkeys(names, float(wanted)), step)


def _auto_is_none(card: Card, axis: cf.TimeAxis) -> str | None:
    """Why a prior's own autocorrelation cannot be had for this input, or None."""
    if not card.lag_correlation:
        return "the prior tells no coherence"
    if _smallest_step(axis) < 0.8 * card.step_days:
        return f"the prior tells coherence of steps of {card.step_days:.3g} days"
    return None if _distinct(axis, card.step_days) else "some dates share a time step"


def _distinct(axis: cf.TimeAxis, step_days: float) -> bool:
    return len(np.unique(cf.step_numbers(axis.dates, step_days))) == len(axis)


def _step(card: Card, axis: cf.TimeAxis, wanted: float | str) -> float:
    """Days between dates that are one step apart: the prior's, or of a number the input's own.

    By the prior's a date has the same number in every file and period, whatever is missing there.
    """
    trained = card.step_days
    days = trained if wanted == "auto" else _smallest_step(axis)
    return days if days < 0.8 * trained or 1.25 * trained < days < np.inf else trained


def _smallest_step(axis: cf.TimeAxis) -> float:
    """In days; gaps, even many of them, do not count. Infinite for a single step."""
    steps = (b - a for a, b in itertools.pairwise(axis.dates))
    return min((step.total_seconds() / 86400.0 for step in steps), default=np.inf)
