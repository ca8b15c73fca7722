"""How well a prior downscales the days that it was kept from, as its card tells it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from climdown.priors.card import Card

ENTRY = "skill"
"""Of what a card says of the training."""


@dataclass(frozen=True)
class Skill:
    """Fair CRPS of one variable on validation days that were averaged and downscaled again.

    Attributes:
        crps: of the prior's members, in `units`.
        baselines: mean absolute errors of methods that draw nothing, by name: their CRPS.
        days, members: that it was measured on.
        factor: cells of the fine grid per coarse cell, along each axis.
    """

    crps: float
    baselines: Mapping[str, float]
    units: str
    days: int
    members: int
    factor: int

    @property
    def beaten_by(self) -> tuple[str, ...]:
        """Baselines that are as good, or better."""
        return tuple(name for name, error in self.baselines.items() if error <= self.crps)

    def to_dict(self) -> dict[str, Any]:
        """For a card, rounded to four digits."""
        rounded = {name: _rounded(error) for name, error in self.baselines.items()}
        return {**asdict(self), "crps": _rounded(self.crps), "baselines": rounded}


def skill_of(card: Card) -> dict[str, Skill]:
    """By variable; empty where the card tells none, or no numbers."""
    entries = card.training.get(ENTRY)
    found = {} if not isinstance(entries, dict) else {k: _read(v) for k, v in entries.items()}
    return {name: skill for name, skill in found.items() if skill is not None}


def weaknesses(card: Card, variables: Collection[str] | None = None) -> list[str]:
    """One line for each variable in which baselines are as good as the prior.

    Args:
        variables: to look at; None takes all.
    """
    return [
        f"prior {card.name} is no better than {' and '.join(one.beaten_by)} for {name} on its "
        f"validation days (CRPS {one.crps:.3g} against {min(one.baselines.values()):.3g} "
        f"{one.units}): train it longer, or on more data"
        for name, one in skill_of(card).items()
        if one.beaten_by and (variables is None or name in variables)
    ]


def skill_table(card: Card) -> str:
    """Markdown for people; empty where there is none."""
    skills = skill_of(card)
    if not skills:
        return ""
    first = next(iter(skills.values()))
    names = list(first.baselines)
    rows = [
        f"| {name} ({one.units}) | {one.crps:.3g} | "
        + " | ".join(f"{one.baselines.get(n, math.nan):.3g}" for n in names)
        + " |"
        for name, one in skills.items()
    ]
    return "\n".join(
        [
            f"Validation days averaged over {first.factor} x {first.factor} cells and downscaled "
            f"again ({first.days} days, {first.members} members): fair CRPS, and what methods "
            "without a network have.",
            "",
            f"| | this prior | {' | '.join(names)} |",
            "|---|---|" + "---|" * len(names),
            *rows,
        ]
    )


def _read(entry: Any) -> Skill | None:
    """What a card may say, which may come from anywhere."""
    try:
        baselines = {str(name)[:40]: float(x) for name, x in entry["baselines"].items()}
        counts = (int(entry[name]) for name in ("days", "members", "factor"))
        skill = Skill(float(entry["crps"]), baselines, str(entry["units"])[:40], *counts)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None
    numbers = [skill.crps, *baselines.values()]
    return skill if baselines and all(map(math.isfinite, numbers)) else None


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
