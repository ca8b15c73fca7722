"""Tables of scores, and the methods that they were made by, as HTML."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import get_args

from climdown.evaluation.bootstrap import Score
from climdown.evaluation.evaluate import Evaluation
from climdown.evaluation.html import Html, joined, tag
from climdown.evaluation.measure import Best, Measure, Theme
from climdown.evaluation.registry import MEASURES
from climdown.evaluation.view import written

# A DOI may hold almost any character, but ends before what ends a word of a sentence.
_LINKS = re.compile(r"(doi|arXiv)[: ]\s*(\d\S*?)(?=[;,.]*(?:\s|$))")
_WANTED: dict[Best, str] = {
    "low": "low is good",
    "high": "high is good",
    "zero": "0 is good",
    "one": "1 is good",
    "reference": "as the reference",
    "none": "",
}


def main_tables(evaluation: Evaluation) -> Iterator[Html]:
    """A table of each variable, and of each group of them: measures by outputs."""
    told = [one for one in MEASURES if one.tells]
    for variable in dict.fromkeys(score.variable for score in evaluation.scores):
        scores = [score for score in evaluation.scores if score.variable == variable]
        shown = [m for m in told if any(s.measure == m.name for s in scores)]
        if shown:
            yield _main_table(variable, list(evaluation.plan.outputs), shown, scores)


def _main_table(
    variable: str, outputs: list[str], measures: list[Measure], scores: list[Score]
) -> Html:
    outputs = [name for name in outputs if any(s.output == name for s in scores)]
    own = any(score.reference is not None for score in scores)
    heads = ["Measure", *outputs, *(["Reference"] if own else [])]
    rows = [
        _main_row(one, outputs, [s for s in scores if s.measure == one.name], own=own)
        for one in measures
    ]
    caption = variable.replace("+", " and ")
    return _boxed(f"Scores of {caption}", caption, heads, rows)


def _main_row(measure: Measure, outputs: list[str], scores: list[Score], *, own: bool) -> Html:
    by_output = {score.output: score for score in scores}
    best = best_of(measure.best, scores)
    units = written(scores[0].units)
    wanted = ", ".join(filter(None, (units, _WANTED[measure.best])))
    head = tag("th", measure.title, tag("small", wanted), scope="row")
    cells = [_score_cell(by_output.get(name), best=name in best) for name in outputs]
    if own:
        reference = next((s.reference for s in scores if s.reference is not None), None)
        cells.append(tag("td", "" if reference is None else number(reference, scores[0])))
    return tag("tr", head, *cells)


def best_of(best: Best, scores: Sequence[Score]) -> set[str]:
    """Outputs with the best value; none where there is but one, or nothing is better."""
    known = {s.output: _distance(best, s) for s in scores}
    distances = {name: d for name, d in known.items() if d is not None and math.isfinite(d)}
    if len(distances) < 2:
        return set()
    least = min(distances.values())
    return {name for name, distance in distances.items() if distance == least}


def _distance(best: Best, score: Score) -> float | None:
    """How far a score is from what would be good; smaller is better."""
    if score.value is None or best == "none":
        return None
    if best in ("low", "high"):
        return score.value if best == "low" else -score.value
    wanted = {"zero": 0.0, "one": 1.0}.get(best, score.reference)
    return None if wanted is None else abs(score.value - wanted)


def _score_cell(score: Score | None, *, best: bool) -> Html:
    if score is None or score.value is None:
        return tag("td", "–")
    value = number(score.value, score)
    shown = tag("strong", value) if best else Html(value)
    if score.low is None or score.high is None:
        return tag("td", shown)
    interval = f"{number(score.low, score)} to {number(score.high, score)}"
    return tag("td", shown, tag("small", interval))


def number(value: float, score: Score) -> str:
    """A value with two digits of its interval's width, and with three of its own at least."""
    width = 0.0
    if score.low is not None and score.high is not None:
        width = score.high - score.low
    if not (width > 0 and math.isfinite(width)):
        return f"{value:.3g}"
    decimals = 1 - math.floor(math.log10(width))
    if score.value:
        decimals = max(decimals, 2 - math.floor(math.log10(abs(score.value))))
    if decimals > 6 or decimals < -3:
        return f"{value:.3g}"
    return f"{round(value, decimals):.{max(decimals, 0)}f}"


def full_table(scores: Sequence[Score]) -> Html:
    """Every score with its interval and sample size."""
    heads = ["Variable", "Output", "Measure", "Value", "95 % interval", "Reference", "Units", "n"]
    rows = []
    for score in sorted(scores, key=lambda s: (s.variable, s.measure)):
        interval = ""
        if score.low is not None and score.high is not None:
            interval = f"{score.low:.4g} to {score.high:.4g}"
        texts = (
            score.output,
            score.measure,
            "–" if score.value is None else f"{score.value:.5g}",
            interval,
            "" if score.reference is None else f"{score.reference:.5g}",
            written(score.units),
            str(score.segments),
        )
        cells = (tag("td", text) for text in texts)
        rows.append(tag("tr", tag("th", score.variable, scope="row"), *cells))
    return _boxed("All scores", "All scores; n: segments of time that were resampled", heads, rows)


def _boxed(label: str, caption: str, heads: Sequence[str], rows: Sequence[Html]) -> Html:
    """A table in a box that it scrolls in, by keys too."""
    head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in heads)))
    table = tag("table", tag("caption", caption), head, tag("tbody", *rows))
    return tag("div", table, class_="box", tabindex="0", role="region", aria_label=label)


def methods_list(scores: Sequence[Score]) -> Html:
    """What each measure that has a score is, by theme."""
    used = {score.measure for score in scores}
    entries: list[Html] = []
    for theme in get_args(Theme):
        shown = [one for one in MEASURES if one.name in used and one.theme == theme]
        if shown:
            count = tag("small", f"{len(shown)} measure{'s' if len(shown) > 1 else ''}")
            summary = tag("summary", theme.capitalize(), count)
            entries.append(tag("details", summary, tag("dl", *map(_method, shown))))
    return joined(*entries)


def _method(measure: Measure) -> Html:
    units = {"variable": "those of the variable", "1": "none"}.get(measure.units, measure.units)
    parts = [tag("p", measure.sentence), tag("p", tag("code", measure.formula))]
    source = [Html(" Source: "), _source(measure.source), Html(".")] if measure.source else []
    parts.append(tag("p", f"Units: {units}. In files: {measure.name}.", *source))
    return joined(tag("dt", measure.title), tag("dd", *parts))


def _source(text: str) -> Html:
    """A source, with links where it names DOIs or papers of arXiv."""
    parts: list[str] = []
    end = 0
    for match in _LINKS.finditer(text):
        site = "https://doi.org/" if match[1] == "doi" else "https://arxiv.org/abs/"
        parts += [text[end : match.start()], tag("a", match[0], href=site + match[2])]
        end = match.end()
    return joined(*parts, text[end:])
