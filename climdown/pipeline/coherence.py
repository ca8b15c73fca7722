"""How a run's noise hangs together in time: members as sequences instead of single days."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from climdown import cf
from climdown.config import RunConfig
from climdown.diffusion.noise import AutocorrelatedNoise, KeyedNoise
from climdown.diffusion.sampler import Noise
from climdown.errors import ConfigError
from climdown.priors.card import Prior

if TYPE_CHECKING:
    from climdown.pipeline import Plan

# What a card says is followed up to here: sums over ever more numbers would take the time.
_MOST = 0.95


def choose_coherence(prior: Prior, axis: cf.TimeAxis, config: RunConfig) -> dict[str, float]:
    """Correlation of the noise at consecutive steps by the prior's variables; {} without any.

    "auto" takes that of the detail which coarse cells leave open, from the prior's card: of a
    sampler that is linear in its noise, what members draw has the correlation of the noise.

    Raises:
        ConfigError: a number was asked for, and several dates fall into one step.
    """
    names, wanted = [variable.name for variable in prior.card.variables], config.coherence
    if wanted in ("none", 0):
        return {}
    if isinstance(wanted, str):
        known = {} if _auto_is_none(prior, axis) else prior.card.lag_correlation
        found = {name: min(max(known.get(name, 0.0), 0.0), _MOST) for name in names}
        return found if any(found.values()) else {}
    step = _step(prior, axis, config)
    if not _distinct(axis, step):
        raise ConfigError(
            f"some dates share a time step of {step:.3g} days ({axis.describe()}); noise that is "
            "correlated in time needs equal steps: leave --coherence out"
        )
    return dict.fromkeys(names, float(wanted))


def describe_coherence(plan: Plan) -> str:
    """In words, for the plan."""
    found: dict[str, float] = plan.identity["coherence"]
    if found:
        return f"coherent in time: {', '.join(f'{n} {c:.2f}' for n, c in found.items())}"
    reason = _auto_is_none(plan.prior, plan.time) if plan.config.coherence == "auto" else None
    return "each step drawn for itself" + (f" ({reason})" if reason else "")


def _auto_is_none(prior: Prior, axis: cf.TimeAxis) -> str | None:
    """Why a prior's own coherence cannot be had for this input, or None."""
    if not prior.card.lag_correlation:
        return "the prior tells no coherence"
    if _smallest_step(axis) < 0.8 * prior.card.step_days:
        return f"the prior tells coherence of steps of {prior.card.step_days:.3g} days"
    return None if _distinct(axis, prior.card.step_days) else "some dates share a time step"


def _distinct(axis: cf.TimeAxis, step_days: float) -> bool:
    return len(np.unique(cf.step_numbers(axis.dates, step_days))) == len(axis)


def make_noise(plan: Plan, keys: Sequence[tuple[int, Any]]) -> Noise:
    """The noise of a batch, by (member, date) of each field."""
    card, seed = plan.prior.card, plan.config.seed
    shape = (len(card.variables), *card.grid.shape)
    found: dict[str, float] = plan.identity.get("coherence", {})  # a baseline draws nothing
    if not found:
        stamps = tuple((member, date.isoformat()) for member, date in keys)
        return KeyedNoise(seed, stamps, shape, plan.device)
    numbers = cf.step_numbers([date for _, date in keys], _step(plan.prior, plan.time, plan.config))
    numbered = tuple((key[0], n) for key, n in zip(keys, numbers.tolist(), strict=True))
    return AutocorrelatedNoise(seed, numbered, shape, plan.device, tuple(found.values()))


def _step(prior: Prior, axis: cf.TimeAxis, config: RunConfig) -> float:
    """Days between dates that are one step apart: the prior's, or of a number the input's own.

    By the prior's a date has the same number in every file and period, whatever is missing there.
    """
    known = prior.card.step_days
    own = known if config.coherence == "auto" else _smallest_step(axis)
    return own if own < 0.8 * known or 1.25 * known < own < np.inf else known


def _smallest_step(axis: cf.TimeAxis) -> float:
    """In days; gaps, even many of them, do not count. Infinite for a single step."""
    steps = (b - a for a, b in itertools.pairwise(axis.dates))
    return min((step.total_seconds() / 86400.0 for step in steps), default=np.inf)
