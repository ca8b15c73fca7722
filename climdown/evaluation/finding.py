"""What a finding is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "fair", "poor", "unknown"]
"""Green, amber, red, and what the sample cannot tell."""


@dataclass(frozen=True)
class Finding:
    """What is good about an output, what is not, or what the sample cannot tell.

    Attributes:
        output: its name.
        variable: or several, joined by "+"; empty where it concerns all.
        text: for people.
        rule: that it was found by, for people.
        measure: whose score it reads; empty where it reads none.
    """

    output: str
    variable: str
    level: Level
    text: str
    rule: str
    measure: str = ""
