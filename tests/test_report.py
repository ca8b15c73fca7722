"""The report: what stands in it."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climdown.errors import OutputError
from climdown.evaluation import browser as days_and_members
from climdown.evaluation import report, tables
from climdown.evaluation.bootstrap import Score
from climdown.evaluation.days import days_of, on_cells
from climdown.evaluation.evaluate import Evaluation
from climdown.evaluation.html import Html, joined, tag
from climdown.evaluation.registry import MEASURES
from climdown.evaluation.report import page, write_report
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.states import States
from climdown.evaluation.view import View
from climdown.grid import Grid
from tests.evaluations import FINDINGS, FINE, FLAT, complete, small_evaluation, values_of

COMMAND = "climdown evaluate fine=fine.nc flat=flat.nc --report 'a & b.html'"


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return complete(small_evaluation(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="module")
def path(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("report") / "report.html"
    write_report(written, evaluation, FINDINGS, command=COMMAND)
    return written


@pytest.fixture(scope="module")
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


class Elements(HTMLParser):
    """All elements of a page, with the words directly in them; fails where tags do not match."""

    EMPTY = ("img", "meta", "link", "br", "hr", "input", "path", "use", "image", "line", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "link", "br", "hr", "input"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


# --- what stands in it


def test_the_report_is_one_small_file_without_any_address_of_others(text: str) -> None:
    assert len(text.encode()) < 8_000_000
    page = Elements(text)
    sources = [a[k] for _, a in page.found for k in ("src", "xlink:href", "srcset") if a.get(k)]
    assert sources
    assert [s for s in sources if not str(s).startswith(("data:", "#"))] == []
    links = [str(a["href"]) for a in page.all("a")]
    assert {link.split("/")[2] for link in links if not link.startswith("#")} <= {
        "doi.org",
        "arxiv.org",
    }
    assert [a for a in page.all("link") if a["rel"] != "icon"] == []
    assert "@import" not in text
    assert not re.search(r"url\((?!#|\"?data:)", text)


def test_it_reads_like_results(text: str) -> None:
    words = " ".join(Elements(text).words)
    headings = [a["id"] for a in Elements(text).all("section")]
    assert headings == [
        *("verdict", "scores", "maps", "distribution", "space", "ensemble", "time"),
        *("days", "methods"),
    ]
    assert f"Evaluation of {FINE}, {FLAT} and bilinear" in words
    for told in (
        "pairs of the same dates",
        "judged on 12 x 16 cells",
        "It rains too often, by <5 points>.",  # words are no tags
        "Rule:  more than 5 points".replace("  ", " "),
        "tas and pr",
        "climdown evaluate fine=fine.nc flat=flat.nc --report 'a & b.html'",
    ):
        assert told in words
    numbers = [int(n) for n in re.findall(r"Figure (\d+)\. ", words)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 12


def test_findings_have_words_and_shapes_beside_their_colours_the_worst_first(text: str) -> None:
    part = text[text.index('id="verdict"') : text.index('id="scores"')]
    assert re.findall(r'<li class="(\w+)">', part) == ["poor", "unknown", "good", "fair"]
    for shape, word in (("▲", "Poor"), ("○", "Unknown"), ("●", "Good"), ("◆", "Fair")):
        assert f'<span aria-hidden="true">{shape}</span> {word}' in part
    assert "1 poor, 1 unknown, 1 good" in part


def test_no_finding_is_said() -> None:
    assert "No finding: there is too little to judge by." in report.verdict(())


def test_every_measure_that_is_shown_is_explained(text: str, evaluation: Evaluation) -> None:
    words = " ".join(Elements(text).words)
    used = {score.measure for score in evaluation.scores}
    for measure in MEASURES:
        assert (f"In files: {measure.name}." in words) == (measure.name in used)
        if measure.name in used:
            for told in (measure.title, measure.sentence, measure.formula, measure.source):
                assert told in words
    assert ("a", {"href": "https://doi.org/10.1002/qj.2270"}) in Elements(text).found


def test_every_score_stands_in_the_full_table(text: str, evaluation: Evaluation) -> None:
    start = text.index("<details><summary>All scores")
    details = text[start : text.index("</details>", start)]
    assert details.count("<tr>") == 1 + len(evaluation.scores)
    score = evaluation.scores[0]
    assert f"<td>{score.value:.5g}</td>" in details


def test_figures_of_a_theme_are_left_out_with_their_sums(evaluation: Evaluation) -> None:
    without = replace(evaluation, states=States(), scores=())
    sections = [a["id"] for a in Elements(page(without, (), command="")).all("section")]
    assert sections == ["verdict", "scores", "maps", "days", "methods"]


def test_a_report_is_written_whole_or_not_at_all(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(report, "page", lambda *a, **k: "")
        with pytest.raises(OutputError, match="cannot write"):
            write_report(tmp_path / "missing" / "report.html", evaluation, (), command="")
    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr(report, "tag", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(tmp_path / "report.html", evaluation, (), command="")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"


def test_the_same_evaluation_is_the_same_report(evaluation: Evaluation, text: str) -> None:
    assert page(evaluation, FINDINGS, command=COMMAND) == text


# --- parts


def a_score(value: float | None, low: float | None = None, high: float | None = None) -> Score:
    return Score("a", "tas", "crps", "K", value, low, high, None, 9)


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.10586, 0.1030, 0.1085, "0.1059"),
        (8.5158, 7.24, 9.68, "8.52"),
        (1234.5, 900.0, 1500.0, "1230"),
        (0.10585, None, None, "0.106"),
        (0.0, -0.01, 0.02, "0.000"),
        (5.0, 5.0, 5.0, "5"),
    ],
)
def test_numbers_have_the_digits_of_their_interval(
    value: float, low: float | None, high: float | None, expected: str
) -> None:
    assert tables.number(value, a_score(value, low, high)) == expected


def test_the_best_is_the_nearest_to_what_is_good() -> None:
    values = {"a": 0.8, "b": 1.1, "c": 2.0}
    scores = [
        Score(name, "tas", "m", "K", value, None, None, 1.9, 9) for name, value in values.items()
    ]
    for best, expected in (
        ("low", {"a"}),
        ("high", {"c"}),
        ("one", {"b"}),
        ("zero", {"a"}),
        ("reference", {"c"}),
        ("none", set()),
    ):
        assert tables.best_of(best, scores) == expected  # type: ignore[arg-type]
    assert tables.best_of("low", scores[:1]) == set()
    assert tables.best_of("low", [a_score(float("nan")), a_score(None)]) == set()


def test_sources_are_links_where_they_name_papers() -> None:
    shown = tables._source("doi:10.1002/qj.2270; arXiv 2403.02774; Wilks (2019)")
    assert shown.count("<a ") == 2
    odd = "10.1175/1520-0493(2004)132&lt;3019:EMKESU&gt;2.0.CO;2"
    assert f'href="https://doi.org/{odd}"' in tables._source(f"doi:{unescape(odd)}.")
    assert 'href="https://doi.org/10.1002/qj.2270"' in shown
    assert 'href="https://arxiv.org/abs/2403.02774"' in shown
    assert shown.endswith("; Wilks (2019)")


def test_words_are_escaped_and_html_is_not() -> None:
    assert tag("p", "a < b", tag("b", "&")) == "<p>a &lt; b<b>&amp;</b></p>"
    assert tag("img", alt='"x"', hidden=True, src=None) == '<img alt="&quot;x&quot;" hidden>'
    assert joined(Html("<i>"), "<i>") == "<i>&lt;i&gt;"
    assert tag("label", class_="a", for_="b", aria_label="c") == (
        '<label class="a" for="b" aria-label="c"></label>'
    )


def test_days_are_those_of_high_and_low_means(evaluation: Evaluation) -> None:
    plan = evaluation.plan
    days = list(days_of(plan, "tas"))
    truth = values_of(plan, REFERENCE, "tas")[:, 0]
    means = np.nansum(truth * plan.scenes["tas"].areas, axis=(1, 2))
    order = np.argsort(means)
    for day, place in zip(days, (order[-1], order[0], order[30]), strict=False):
        np.testing.assert_allclose(day.sources[REFERENCE].members[0], truth[place], rtol=1e-6)
        fine = values_of(plan, FINE, "tas")[place]
        np.testing.assert_allclose(day.sources[FINE].mean, fine.mean(axis=0), rtol=1e-6)
        spread = day.sources[FINE].spread
        assert spread is not None
        np.testing.assert_allclose(spread, fine.std(axis=0, ddof=1), rtol=1e-3)
        assert day.sources[FLAT].spread is None
        given = day.sources[FINE].input
        assert given is not None
        assert given[0].shape == (3, 4)
        assert {one.date for one in day.sources.values()} == {day.sources[REFERENCE].date}
    assert days[0].sources[REFERENCE].date.startswith("200")


def test_days_that_are_no_pairs_are_chosen_from_each_source(tmp_path: Path) -> None:
    plan = small_evaluation(tmp_path, pairing="unpaired").plan
    first = next(days_of(plan, "tas"))
    for source in (REFERENCE, FINE):
        values = values_of(plan, source, "tas")[:, 0]
        means = np.nansum(values * plan.scenes["tas"].areas, axis=(1, 2))
        found = first.sources[source].members[0]
        np.testing.assert_allclose(found, values[np.argmax(means)], rtol=1e-6)


def test_coarse_values_are_shown_on_fine_cells() -> None:
    coarse, fine = Grid.regular(0, 4, 358, 362, 2.0), Grid.regular(-1, 3, -1, 2, 1.0)
    values = np.arange(4.0).reshape(2, 2)
    shown = on_cells(coarse, values, fine)
    row = [0.0, 1.0, 1.0]
    np.testing.assert_array_equal(shown[1:], [row, row, [2.0, 3.0, 3.0]])
    assert np.isnan(shown[0]).all()  # south of all cells


def test_days_that_do_not_fit_are_left_out_but_for_the_first(evaluation: Evaluation) -> None:
    view = View(evaluation, "tas", 0)
    small = days_and_members.browser(view, days_of(evaluation.plan, "tas"), most_bytes=1)
    large = days_and_members.browser(view, days_of(evaluation.plan, "tas"), most_bytes=10**7)
    assert small.count('"kind"') == 1
    assert large.count('"kind"') > 2


def test_a_period_without_corresponding_days_has_a_report(tmp_path: Path) -> None:
    given = small_evaluation(tmp_path, pairing="unpaired")
    words = " ".join(Elements(page(complete(given), FINDINGS, command="")).words)
    assert "not the same: distributions" in words
    assert "Rank histograms" not in words


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "settings",
    [{"still": True}, {"period": "2000-12-05/2000-12-05"}, {"members": 1, "variables": ("pr",)}],
)
def test_where_there_is_little_to_show_there_is_a_report(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    given = complete(small_evaluation(tmp_path, **settings))
    words = " ".join(Elements(page(given, (), command="")).words)
    assert "Figure 1." in words
    assert "nan" not in words.lower().split()
