"""The verdict: findings in plain words, each with the rule that it was found by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "fair", "poor", "unknown"]


@dataclass(frozen=True)
class Finding:
    """What is good about an output, what is not, or what the sample cannot tell."""

    output: str
    variable: str
    level: Level
    text: str
    rule: str
