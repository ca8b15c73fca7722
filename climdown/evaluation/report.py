"""The report: one HTML file that reads like the results of a paper and needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path

from climdown import cf
from climdown.evaluation import (
    figures_change,
    figures_distribution,
    figures_ensemble,
    figures_maps,
    figures_time,
)
from climdown.evaluation.browser import browser
from climdown.evaluation.days import Day, days_of
from climdown.evaluation.ensembles import Ensemble
from climdown.evaluation.evaluate import Evaluation
from climdown.evaluation.finding import Finding, Level
from climdown.evaluation.html import Html, joined, tag
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.tables import full_table, main_tables, methods_list
from climdown.evaluation.view import Illustrate, Illustration, View, together
from climdown.files import place_text
from climdown.plots.figures import Picture, Style
from climdown.version import __version__

FIGURES: tuple[Illustrate, ...] = (
    figures_maps.means_and_biases,
    figures_maps.spread_and_errors,
    figures_distribution.distribution,
    figures_distribution.spectrum,
    figures_distribution.zonal_mean,
    figures_ensemble.ranks,
    figures_ensemble.spread_skill,
    figures_ensemble.reliability,
    figures_ensemble.crps_by_members,
    figures_time.seasonal_cycle,
    figures_time.time_series,
    figures_change.change_signal,
)
_THEMES = {
    "maps": "Maps",
    "distribution": "Distributions",
    "space": "Space",
    "ensemble": "The ensemble",
    "time": "Time",
    "change": "Change",
}
# Each level has a shape beside its colour.
_LEVELS: Mapping[Level, tuple[str, str]] = {
    "poor": ("▲", "Poor"),
    "fair": ("◆", "Fair"),
    "unknown": ("○", "Unknown"),
    "good": ("●", "Good"),
}
# For images to browse, of the eight million bytes that a report may have.
_BROWSER_BYTES = 3_500_000
# No program and no address but what the file holds.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(
    path: Path, evaluation: Evaluation, findings: Sequence[Finding], *, command: str
) -> None:
    """Write the report of an evaluation, whole or not at all.

    Args:
        findings: the verdict.
        command: by which it was made.

    Raises:
        OutputError: it cannot be written.
        InputError: a file cannot be read.
    """
    place_text(path, page(evaluation, findings, command=command))


def page(evaluation: Evaluation, findings: Sequence[Finding], *, command: str) -> str:
    """The report as text of HTML."""
    variables = enumerate(evaluation.plan.scenes)
    views = [View(evaluation, variable, place) for place, variable in variables]
    days = [_Days(view) for view in views]
    sections = [
        ("verdict", "Verdict", verdict(findings)),
        ("scores", "Scores", _scores(evaluation)),
        *_figure_sections(views, days),
        ("days", "Days and members", _days(days)),
        ("methods", "Methods", _methods(evaluation, command)),
    ]
    shown = [(key, title, body) for key, title, body in sections if body]
    title = f"Evaluation of {_listed(evaluation.plan.outputs)}"
    body = joined(
        tag("a", "Skip to the verdict", href="#verdict", class_="skip"),
        tag("header", tag("h1", title), _summary(evaluation)),
        tag("nav", *(tag("a", t, href=f"#{key}") for key, t, _ in shown), aria_label="Sections"),
        tag("main", *(_section(key, t, content) for key, t, content in shown)),
        tag("footer", tag("p", f"Made by climdown {__version__}.")),
    )
    head = joined(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Html(_resource("report.css"))),
    )
    script = tag("script", Html(_resource("report.js")))
    return (
        f"<!DOCTYPE html>\n{tag('html', tag('head', head), tag('body', body, script), lang='en')}"
    )


def _resource(name: str) -> str:
    return resources("climdown.evaluation").joinpath(name).read_text(encoding="utf-8")


def _section(key: str, title: str, content: Html) -> Html:
    return tag("section", tag("h2", title, id=f"{key}-title"), content, id=key,
               aria_labelledby=f"{key}-title")  # fmt: skip


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _summary(evaluation: Evaluation) -> Html:
    plan = evaluation.plan
    sizes = [f"{n} ({len(one.members)})" for n, one in plan.outputs.items()]
    rows = [
        ("Outputs (members)", ", ".join(sizes)),
        ("Reference", ", ".join(_files(plan.reference))),
        ("Period", _periods(evaluation)),
        ("Days", "pairs of the same dates" if plan.paired else "not the same: distributions"),
    ]
    return tag("dl", *(joined(tag("dt", a), tag("dd", b)) for a, b in rows), class_="summary")


def _files(ensemble: Ensemble) -> list[str]:
    """The files of each variable, once."""
    found = (cf.describe_paths(field.paths) for field in ensemble.members[0].values())
    return list(dict.fromkeys(found))


def _periods(evaluation: Evaluation) -> str:
    plan = evaluation.plan
    periods = {name: plan.period(name) for name in (REFERENCE, *plan.outputs)}
    if len(set(periods.values())) == 1:
        return periods[REFERENCE]
    return "; ".join(f"{name}: {text}" for name, text in periods.items())


def verdict(findings: Sequence[Finding]) -> Html:
    """Findings of each output, the worst first, each with its rule; the good ones are folded."""
    if not findings:
        return tag("p", "No finding: there is too little to judge by.")
    parts: list[Html] = []
    for output in dict.fromkeys(one.output for one in findings):
        own = [one for one in findings if one.output == output]
        own.sort(key=lambda one: list(_LEVELS).index(one.level))
        parts.append(tag("h3", output, tag("small", counted(own))))
        good = [one for one in own if one.level == "good"]
        rest = [one for one in own if one.level != "good"]
        if rest:
            parts.append(tag("ul", *map(_finding, rest), class_="findings"))
        if good:
            summary = tag("summary", f"{len(good)} good: {_aspects(good)}")
            parts.append(
                tag("details", summary, tag("ul", *map(_finding, good), class_="findings"))
            )
    return joined(*parts)


def counted(findings: Sequence[Finding]) -> str:
    """How many findings there are of each level, the worst first."""
    counts = {level: sum(one.level == level for one in findings) for level in _LEVELS}
    told = [f"{n} {_LEVELS[level][1].lower()}" for level, n in counts.items() if n]
    return ", ".join(told)


def _aspects(findings: Sequence[Finding]) -> str:
    """What findings are about, without their numbers."""
    texts = (one.text.partition(":")[0] for one in findings)
    return "; ".join(dict.fromkeys(texts))


def _finding(finding: Finding) -> Html:
    shape, word = _LEVELS[finding.level]
    badge = tag("span", tag("span", shape, aria_hidden="true"), f" {word}", class_="badge")
    about = finding.variable.replace("+", " and ")
    subject = [tag("span", about, class_="subject"), ": "] if about else []
    text = tag("span", *subject, finding.text, class_="text")
    return tag("li", badge, text, tag("small", f"Rule: {finding.rule}"), class_=finding.level)


def _scores(evaluation: Evaluation) -> Html:
    note = (
        "Below each value its 95 % interval, from blocks of days that were drawn again. Bold: the "
        "best of the row, whether or not chance could have made it so; outputs differ surely where "
        "their intervals do not overlap."
    )
    tables = list(main_tables(evaluation))
    everything = tag("details", tag("summary", "All scores"), full_table(evaluation.scores))
    return joined(*([tag("p", note)] if tables else []), *tables, everything)


class _Days:
    """Days of a variable, read when they are asked for; the first one is kept for two uses."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._rest = days_of(view.evaluation.plan, view.variable)
        self.first = next(self._rest)

    def __iter__(self) -> Iterator[Day]:
        yield self.first
        yield from self._rest


def _figure_sections(
    views: Sequence[View], days: Sequence[_Days]
) -> Iterator[tuple[str, str, Html]]:
    """Figures by theme, numbered through."""
    found = [figures_maps.example_day(one.view, one.first) for one in days]
    for draw in FIGURES:
        found += together(one for view in views if (one := draw(view)) is not None)
    number = 0
    for theme, title in _THEMES.items():
        drawn = []
        for one in (one for one in found if one.theme == theme):
            number += 1
            drawn.append(_figure(number, one))
        yield theme, title, joined(*drawn)


def _figure(number: int, one: Illustration) -> Html:
    caption = tag("figcaption", tag("b", f"Figure {number}. {one.title}. "), one.caption)
    legend = [_legend(one.legend)] if one.legend else []
    rows = [_row(row, f"Figure {number}, row {i}", one) for i, row in enumerate(one.rows, start=1)]
    return tag("figure", *legend, *rows, caption)


def _row(row: Sequence[Picture], label: str, one: Illustration) -> Html:
    """Pictures side by side; maps are many, and scroll in their row where it is narrow."""
    pictures = map(_drawn, row)
    if one.theme != "maps":
        return tag("div", *pictures, class_="pictures")
    return tag(
        "div", *pictures, class_="pictures maps", tabindex="0", role="group", aria_label=label
    )


def _drawn(picture: Picture) -> Html:
    """The picture with its words for those who do not see it."""
    label = tag("svg", aria_label=picture.alt).removesuffix("></svg>").removeprefix("<svg")
    return Html(picture.svg.replace("<svg", f"<svg{label}", 1))


def _legend(entries: Sequence[tuple[str, Style]]) -> Html:
    return tag("ul", *(tag("li", _stroke(style), name) for name, style in entries), class_="legend")


def _stroke(style: Style) -> Html:
    line = tag("line", x1=0, y1=5, x2=32, y2=5, stroke=style.css, stroke_width=str(style.width),
               stroke_dasharray=style.dashes)  # fmt: skip
    return tag("svg", line, width=32, height=10, aria_hidden="true")


def _days(days: Sequence[_Days]) -> Html:
    share = _BROWSER_BYTES // len(days)
    parts = []
    for one in days:
        parts.append(tag("h3", one.view.variable))
        parts.append(browser(one.view, iter(one), most_bytes=share))
    return joined(*parts)


def _methods(evaluation: Evaluation, command: str) -> Html:
    notes = tag("ul", *(tag("li", note) for note in evaluation.plan.notes))
    made = tag("p", "Made by ", tag("code", command), f", climdown {__version__}.")
    return joined(notes, made, methods_list(evaluation.scores))
