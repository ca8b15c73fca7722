"""Figures of ensembles: ranks, spread and skill, reliability, CRPS by number of members."""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float64
from climdown.evaluation.bootstrap import FEWEST
from climdown.evaluation.measure import divided
from climdown.evaluation.pairs import crps_of_members
from climdown.evaluation.ranks import classes
from climdown.evaluation.segments import Along
from climdown.evaluation.view import Illustration, View, with_units
from climdown.plots.charts import Chart

_MOST_MEMBERS = 50  # that the curve of CRPS goes up to, or as many as there are


def _ensembles(
    view: View, along: Along, names: list[str], *, by_segment: bool = False
) -> dict[str, dict[str, Float64]]:
    """Sums of pairs of the outputs of several members."""
    found = view.of_all(along, names, of="/pairs", by_segment=by_segment)
    return {source: one for source, one in found.items() if view.members(source) > 1}


def ranks(view: View) -> Illustration | None:
    """Where the truth lies among the members, also by intensity."""
    found = _ensembles(view, "groups", ["ranks"], by_segment=True)
    charts = {}
    for i, title in enumerate(("all values", *classes(view.scene))):
        counts = {
            source: one["ranks"][:, i - 1] if i else one["ranks"].sum(axis=1)
            for source, one in found.items()
        }
        counts = {source: one for source, one in counts.items() if one.sum() > 0}
        charts[f"ranks-{i}"] = Chart(
            title,
            "rank of the truth (share of ranks)",
            "frequency (1 expected)",
            [view.line(source, *_frequencies(one)) for source, one in counts.items()],
            stairs=True,
            ideal=1.0,
            band=_chance(list(counts.values())),
            x_limits=(0.0, 1.0),
        )
    caption = (
        "How often the truth has each rank among the members, ties at random; 1 at every rank is "
        "right. A valley means too little spread, a hill too much, a slope a bias. Values are "
        "classed by the mean of members and truth together. In the grey band lie 19 of 20 ranks of "
        "a calibrated ensemble, judged by how much frequencies vary from one stretch of time to "
        "the next."
    )
    return view.illustration("ensemble", "Rank histograms", caption, charts)


def _frequencies(counts: Float64) -> tuple[Float64, Float64]:
    """Where each rank begins, and its frequency over that of a flat histogram, to the last end."""
    total = counts.sum(axis=0)
    frequency = total / total.mean()
    return np.linspace(0.0, 1.0, total.size + 1), np.append(frequency, frequency[-1])


def _chance(counts: list[Float64]) -> tuple[float, float] | None:
    """1.96 standard errors about 1, of the frequencies of stretches; the widest of all outputs."""
    errors = [_standard_error(one) for one in counts if len(one) >= FEWEST]
    width = 1.96 * max(errors, default=np.nan)
    return (1 - width, 1 + width) if np.isfinite(width) else None


def _standard_error(counts: Float64) -> float:
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) < FEWEST:
        return float("nan")
    weight = counts.mean(axis=1)
    # Deviations from the own mean, so that a valley or a slope is no chance.
    residual = counts - weight[:, None] * (counts.sum(axis=0) / weight.sum())
    variance = (residual**2).sum(axis=0) / weight.sum() ** 2 * len(counts) / (len(counts) - 1)
    return float(np.sqrt(variance.mean()))


def spread_skill(view: View) -> Illustration | None:
    """Error of the ensemble mean where the spread is so large."""
    found = _ensembles(view, "groups", ["spread_skill"])
    lines = []
    for source, sums in found.items():
        weight, variance, error = np.moveaxis(sums["spread_skill"], -1, 0)
        members = view.members(source)
        spread = np.sqrt((members + 1) / members * divided(variance, weight))
        lines.append(view.line(source, spread, np.sqrt(divided(error, weight)), marks=True))
    chart = Chart(
        "spread and error",
        with_units("spread", view.units),
        with_units("error of the mean", view.units),
        lines,
        ideal="diagonal",
    )
    caption = (
        "Root-mean-square error of the ensemble mean where the spread is so large (bins of a "
        "quarter of an octave; spread times √((M + 1) / M) of M members). On the thin line the "
        "spread says how large the error will be; above it the ensemble is too sure of itself, "
        "below it not sure enough. A flat line: the spread says nothing."
    )
    return view.illustration("ensemble", "Spread and skill", caption, {"spread-skill": chart})


def reliability(view: View) -> Illustration | None:
    """How often an event happens that is forecast with a probability."""
    found = _ensembles(view, "groups", ["reliability"])
    charts = {}
    for i, label in enumerate(view.scene.thresholds):
        lines = []
        for source, sums in found.items():
            forecasts, events = np.moveaxis(sums["reliability"][i], -1, 0)
            chance = np.arange(forecasts.size) / max(forecasts.size - 1, 1)
            lines.append(view.line(source, chance, divided(events, forecasts), marks=True))
        charts[f"reliability-{i}"] = Chart(
            f"{label} or more",
            "forecast probability",
            "observed frequency",
            lines,
            ideal="diagonal",
            x_limits=(-0.03, 1.03),
            y_limits=(-0.03, 1.03),
        )
    caption = (
        "How often a threshold was reached when so many of the members reached it. Points on the "
        "thin line are reliable probabilities; a line flatter than it is too sure of itself, a "
        "steeper one not sure enough."
    )
    return view.illustration("ensemble", "Reliability", caption, charts)


def crps_by_members(view: View) -> Illustration | None:
    """The CRPS that so many of the members have."""
    found = _ensembles(view, "blocks", ["member_error", "member_difference", "weight"])
    lines = []
    for source, sums in found.items():
        count = np.unique(np.geomspace(1, max(_MOST_MEMBERS, view.members(source)), 30).round())
        total = {name: np.atleast_1d(sums[name]) for name in sums}
        lines.append(view.line(source, count, crps_of_members(total, count)[0]))
    chart = Chart(
        "CRPS by members",
        "members",
        with_units("CRPS", view.units),
        lines,
        log_x=True,
    )
    caption = (
        "Expected CRPS of an ensemble of m members like these, from their mean differences: "
        "E|x - y| - (1 - 1/m) E|x - x'| / 2. A line that is flat at the right end would "
        "gain nothing from more members; where the lines lie there is the fair CRPS."
    )
    return view.illustration("ensemble", "CRPS and members", caption, {"crps-members": chart})
