"""The rules of the verdict: a score, what it is compared with, and where good and poor begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from climdown.evaluation.bootstrap import Score
from climdown.evaluation.finding import Level
from climdown.evaluation.scene import Scene

Interval = tuple[float, float, float]
"""A number and its interval of 95 %: (value, low, high)."""

Compared = Literal["scale", "difference", "value", "share of scale", "factor"]
"""How far a score is from what it should be, see `WORDS`."""
WORDS: dict[Compared, str] = {
    "scale": "from the reference's own, in its deviations within months; of amounts as a share",
    "difference": "from the reference's own",
    "value": "from 0",
    "share of scale": "from 0, in the reference's deviations within months",
    "factor": "from 1, as a factor up or down",
}
"""What distances are, for people."""


@dataclass(frozen=True)
class Rule:
    """One line of the table of rules.

    Attributes:
        measure: its name.
        compared: how the distance to what is good is measured.
        good: distances up to which it is good.
        fair: and beyond which it is poor.
        aspect: what it is about, to follow "whether".
        words: for each level; {value} and {reference} are the numbers with units.
        members: the fewest that it needs.
    """

    measure: str
    compared: Compared
    good: float
    fair: float
    aspect: str
    words: dict[Literal["good", "fair", "poor"], str]
    members: int = 1

    def describe(self) -> str:
        """The rule, for people."""
        return (
            f"{self.measure}, its distance {WORDS[self.compared]}: green if its interval of 95 % "
            f"lies within {self.good:g}, red if all of it lies beyond {self.fair:g}, grey if it "
            "reaches from one to the other, else amber"
        )

    def level(self, score: Score, scene: Scene) -> Level:
        """What a score says."""
        found = distances(self.compared, score, scene)
        return "unknown" if found is None else level_of(found[1:], self.good, self.fair)


def level_of(interval: tuple[float, float], good: float, fair: float) -> Level:
    """The level of an interval of distances.

    Green and red are for what is certain: all of the interval lies there. What may be either is
    unknown.
    """
    low, high = interval
    if high <= good:
        return "good"
    if low > fair:
        return "poor"
    return "unknown" if low <= good and high > fair else "fair"


def distances(compared: Compared, score: Score, scene: Scene) -> Interval | None:
    """The distance of a score to what is good, with its interval; None where there is none."""
    found = _numbers(compared, score, scene)
    if found is None or not np.isfinite(found).all():
        return None
    value, low, high = found
    near = 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))
    far = max(abs(low), abs(high))
    if compared == "factor":
        return float(np.exp(abs(value))), float(np.exp(near)), float(np.exp(far))
    return abs(value), near, far


def _numbers(compared: Compared, score: Score, scene: Scene) -> Interval | None:
    """What is 0 of a perfect output, with its interval."""
    if compared in ("scale", "difference"):
        return _apart(compared, score, scene)
    if score.value is None or score.low is None or score.high is None:
        return None
    values = np.array([score.value, score.low, score.high])
    if compared == "factor":
        values = np.log(np.maximum(values, 1e-9))
    if compared == "share of scale":
        values = values / scene.deviation if scene.deviation > 0 else values * np.inf
    return float(values[0]), float(values[1]), float(values[2])


def _apart(compared: Compared, score: Score, scene: Scene) -> Interval | None:
    low, high = score.difference_low, score.difference_high
    if score.value is None or score.reference is None or low is None or high is None:
        return None
    unit = 1.0
    if compared == "scale":
        unit = abs(score.reference) if scene.amounts else scene.deviation
    if not unit > 0:
        return None
    return (score.value - score.reference) / unit, low / unit, high / unit


RULES: tuple[Rule, ...] = (
    Rule(
        "mean",
        "scale",
        0.05,
        0.15,
        "the mean is right",
        {
            "good": "the mean is right: {value}, reference {reference}",
            "fair": "the mean is a little off: {value}, reference {reference}",
            "poor": "the mean is biased: {value}, reference {reference}",
        },
    ),
)
