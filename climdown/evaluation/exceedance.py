"""Probabilities that a threshold is reached, against whether it was: Brier scores, reliability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from climdown.arrays import Float64
from climdown.evaluation.comparison import Comparison
from climdown.evaluation.measure import Measure, Resampled, divided
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums


def reliability(scene: Scene, compared: Comparison, part: Segments) -> Sums:
    """Area-weighted counts by the number of members that reach each threshold.

    Returns:
        `reliability`, shape (thresholds, M + 1, 2): forecasts of so many members, and those of
        which the event happened. `climatological`, shape (thresholds, 2): weight and squared error
        of the climatology's frequency in the cell and month as a forecast. Nothing where there are
        no thresholds.
    """
    if not scene.thresholds:
        return {}
    weights, counts = compared.weights.reshape(-1), compared.members + 1
    found = []
    for number, happened in zip(compared.reaching, compared.reached, strict=True):
        labels = 2 * number + happened
        without, with_it = (
            np.bincount(labels.reshape(-1), weights, minlength=2 * counts).reshape(counts, 2).T
        )
        found.append(np.stack([without + with_it, with_it], axis=-1))
    return {
        "reliability": np.stack(found),
        "climatological": _climatological(scene, compared, part),
    }


def _climatological(scene: Scene, compared: Comparison, part: Segments) -> Float64:
    chance = scene.frequency[:, part.month].reshape(compared.reached.shape)
    weights = np.where(np.isnan(chance), 0.0, compared.weights)
    squares = weights * (np.nan_to_num(chance) - compared.reached) ** 2
    return np.stack([weights.sum(axis=(1, 2)), squares.sum(axis=(1, 2))], axis=-1)


STRETCHES = (reliability,)


def fair_brier(counts: Float64) -> Float64:
    """Brier score of infinitely many members like these (Ferro 2014, doi:10.1002/qj.2270).

    mean (k / M - o)^2 - k (M - k) / (M^2 (M - 1)); of a single member the plain score.

    Args:
        counts: of one threshold, shape (R, M + 1, 2).

    Returns:
        shape (R,).
    """
    forecasts, events = counts[..., 0], counts[..., 1]
    members = counts.shape[-2] - 1
    p = np.arange(members + 1) / members
    unfair = p * (1 - p) / max(members - 1, 1)
    squares = forecasts * (p**2 - unfair) + events * (1 - 2 * p)
    return divided(squares.sum(axis=-1), forecasts.sum(axis=-1))


def reliability_term(counts: Float64) -> Float64:
    """Mean squared difference of probability and frequency (Murphy 1973), shape (R,)."""
    forecasts, events = counts[..., 0], counts[..., 1]
    p = np.linspace(0.0, 1.0, counts.shape[-2])
    squares = forecasts * (p - np.nan_to_num(divided(events, forecasts))) ** 2
    return divided(squares.sum(axis=-1), forecasts.sum(axis=-1))


def resolution_term(counts: Float64) -> Float64:
    """Mean squared departure of frequencies from that of all cases (Murphy 1973), shape (R,)."""
    forecasts, events = counts[..., 0], counts[..., 1]
    overall = divided(events.sum(axis=-1), forecasts.sum(axis=-1))[..., None]
    squares = forecasts * (np.nan_to_num(divided(events, forecasts)) - overall) ** 2
    return divided(squares.sum(axis=-1), forecasts.sum(axis=-1))


def _of(
    term: Callable[[Float64], Float64], threshold: int
) -> Callable[[Scene, Resampled], Float64]:
    """A term of one of the thresholds."""

    def value(scene: Scene, sums: Resampled) -> Float64:
        return term(sums["reliability"][:, threshold])

    return value


def _skill(threshold: int) -> Callable[[Scene, Resampled], Float64]:
    """Share by which the Brier score is lower than that of the climatology."""

    def skill(scene: Scene, sums: Resampled) -> Float64:
        weight, squares = np.moveaxis(sums["climatological"][:, threshold], -1, 0)
        brier = fair_brier(sums["reliability"][:, threshold])
        return 1 - divided(brier, divided(squares, weight))

    return skill


def _measures(threshold: int, level: str, event: str) -> tuple[Measure, ...]:
    """Those of one threshold.

    Args:
        threshold: its position among the scene's.
        level: "low" or "high", as part of names.
        event: what happens, for people.
    """
    brier = Measure(
        name=f"brier_{level}",
        title=f"Fair Brier score, {level} threshold",
        theme="skill",
        kind="pairs",
        along="groups",
        sums=("reliability",),
        value=_of(fair_brier, threshold),
        best="low",
        units="1",
        formula="mean (k / M - o)^2 - k (M - k) / (M^2 (M - 1)), k members of M have the event",
        source="doi:10.1002/qj.2270",
        sentence=(
            f"Mean squared error of the probability of {event}, without the share that is owed to "
            "the small number of members."
        ),
    )
    return (
        brier,
        replace(
            brier,
            name=f"brier_skill_{level}",
            title=f"Brier skill, {level} threshold",
            sums=("reliability", "climatological"),
            value=_skill(threshold),
            best="high",
            formula="1 - BS / mean (c - o)^2, c the reference's frequency by cell and month",
            source="doi:10.1256/qj.06.25",
            sentence=(
                f"By how much the probability of {event} is better than the frequency that the "
                "reference has in the same cell and month: 1 is perfect, 0 no better."
            ),
        ),
        replace(
            brier,
            name=f"reliability_{level}",
            title=f"Unreliability, {level} threshold",
            theme="ensemble",
            value=_of(reliability_term, threshold),
            formula="mean (k / M - o_k)^2, o_k the frequency of the event where k members have it",
            source="doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2",
            sentence=(
                f"Mean squared difference between the probability of {event} and how often it then "
                "happened: 0 is perfect; few members make it larger even if they are calibrated."
            ),
            members=2,
        ),
        replace(
            brier,
            name=f"resolution_{level}",
            title=f"Resolution, {level} threshold",
            theme="ensemble",
            value=_of(resolution_term, threshold),
            best="high",
            formula="mean (o_k - o)^2, o the frequency of the event in all cases",
            source="doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2",
            sentence=(
                f"How far the frequencies of {event} differ between forecasts: 0 if forecasts tell "
                "nothing, at most the variance of the event itself. Differences between regions "
                "and seasons count, too."
            ),
            members=2,
        ),
    )


MEASURES = (
    *_measures(0, "low", "reaching the lower threshold (1 mm day-1 of rain, else P75)"),
    *_measures(-1, "high", "reaching the higher threshold (10 mm day-1 of rain, else P95)"),
)
