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
        why: the borders are where they are.
    """

    measure: str
    compared: Compared
    good: float
    fair: float
    aspect: str
    words: dict[Literal["good", "fair", "poor"], str]
    members: int = 1
    why: str = ""

    def describe(self) -> str:
        """The rule, for people."""
        why = f"; {self.why}" if self.why else ""
        return (
            f"{self.measure}, its distance {WORDS[self.compared]}: green if its interval of 95 % "
            f"lies within {self.good:g}, red if all of it lies beyond {self.fair:g}, grey if it "
            f"reaches from one to the other, else amber{why}"
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
        values = values / scene.deviation if scene.deviation > 0 else np.full(3, np.nan)
    return float(values[0]), float(values[1]), float(values[2])


def _apart(compared: Compared, score: Score, scene: Scene) -> Interval | None:
    if score.value is None or score.reference is None:
        return None
    if compared == "scale" and scene.amounts:
        return _share_apart(score)
    low, high = score.difference_low, score.difference_high
    unit = scene.deviation if compared == "scale" else 1.0
    if low is None or high is None or not unit > 0:
        return None
    return (score.value - score.reference) / unit, low / unit, high / unit


def _share_apart(score: Score) -> Interval | None:
    """By the ratio, in which wet weeks, that output and reference share, cancel."""
    if score.value is None or score.ratio_low is None or score.ratio_high is None:
        return None
    assert score.reference is not None
    return score.value / score.reference - 1.0, score.ratio_low - 1.0, score.ratio_high - 1.0


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
    Rule(
        "deviation_ratio",
        "factor",
        1.1,
        1.3,
        "it varies as much as the reference",
        {
            "good": "it varies as much as the reference: ratio of deviations {value}",
            "fair": "it varies not quite as the reference: ratio of deviations {value}",
            "poor": "it does not vary as the reference: ratio of deviations {value}",
        },
    ),
    Rule(
        "wasserstein",
        "share of scale",
        0.1,
        0.25,
        "its values are distributed as the reference's",
        {
            "good": "its values are distributed as the reference's: {value} apart",
            "fair": "its values are distributed a little differently: {value} apart",
            "poor": "its values are not distributed as the reference's: {value} apart",
        },
    ),
    Rule(
        "p99_error",
        "share of scale",
        0.25,
        0.75,
        "its highest values are right",
        {
            "good": "its highest values are right: P99 off by {value}",
            "fair": "its highest values are a little off: P99 by {value}",
            "poor": "its highest values are wrong: P99 off by {value}",
        },
    ),
    Rule(
        "spread_skill",
        "factor",
        1.25,
        1.7,
        "its members spread as much as they err",
        {
            "good": "its members spread as much as they err: ratio {value}",
            "fair": "its members spread not quite as much as they err: ratio {value}",
            "poor": "its spread says nothing of its errors: ratio {value}",
        },
        members=2,
        why="members that spread half or twice as much as they should are red",
    ),
    Rule(
        "outliers",
        "factor",
        1.5,
        3.0,
        "the reference lies among the members",
        {
            "good": "the reference lies among the members: ratio of outliers {value}",
            "fair": "the rate of a reference outside the members is a little off: ratio {value}",
            "poor": "the reference lies outside the members at the wrong rate: ratio {value}",
        },
        members=2,
    ),
    Rule(
        "wet_share",
        "difference",
        0.02,
        0.05,
        "it has as many wet days",
        {
            "good": "it has as many wet days: share {value}, reference {reference}",
            "fair": "its number of wet days is a little off: {value}, reference {reference}",
            "poor": "it has the wrong number of wet days: share {value}, reference {reference}",
        },
    ),
    Rule(
        "damp_share",
        "difference",
        0.02,
        0.05,
        "it drizzles as often",
        {
            "good": "it drizzles as often: {value} of days have 0.1 mm, reference {reference}",
            "fair": "its drizzle is a little off: {value} of days have some, reference {reference}",
            "poor": "its drizzle is wrong: {value} of days have 0.1 mm, reference {reference}",
        },
    ),
    Rule(
        "coarse_drizzle",
        "difference",
        0.02,
        0.05,
        "it is dry where the input is",
        {
            "good": "it is dry where the input is: {value} is wet, reference {reference}",
            "fair": "it drizzles a little where the input is dry: {value}, reference {reference}",
            "poor": "it drizzles where the input is dry: {value}, reference {reference}",
        },
    ),
    Rule(
        "log_spectral_distance",
        "value",
        1.0,
        2.5,
        "it has the reference's detail",
        {
            "good": "it has the reference's detail: spectra {value} apart",
            "fair": "its detail is a little too strong or too weak: spectra {value} apart",
            "poor": "its detail is not the reference's: spectra {value} apart",
        },
    ),
    Rule(
        "correlation_error",
        "value",
        0.05,
        0.15,
        "its variables go together",
        {
            "good": "its variables go together as they should: correlations off by {value}",
            "fair": "its variables go together a little differently: correlations off by {value}",
            "poor": "its variables do not go together: correlations off by {value}",
        },
    ),
    Rule(
        "lag1_error",
        "value",
        0.05,
        0.15,
        "days follow one another as in the reference",
        {
            "good": "days follow one another as they should: correlation off by {value}",
            "fair": "days follow one another a little differently: correlation off by {value}",
            "poor": "days do not follow one another as they should: correlation off by {value}",
        },
    ),
    Rule(
        "coarse_rmse",
        "share of scale",
        0.05,
        0.25,
        "its coarse means are the input's",
        {
            "good": "its coarse means are the input's: {value} apart",
            "fair": "its coarse means are near the input's: {value} apart",
            "poor": "its coarse means are not the input's: {value} apart",
        },
    ),
)
