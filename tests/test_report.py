"""The report: what stands in it, and how it looks and behaves in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
from climdown.evaluation.finding import Finding
from climdown.evaluation.html import Html, joined, tag
from climdown.evaluation.registry import MEASURES
from climdown.evaluation.report import page, write_report
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.states import States
from climdown.evaluation.view import View
from climdown.grid import Grid
from tests.browser import Browser, chromium
from tests.evaluations import FINE, FLAT, complete, small_evaluation, values_of

FINDINGS = (
    Finding(FINE, "tas", "good", "Members are as sharp as the reference.", "ratio within 0.1"),
    Finding(FINE, "pr", "poor", "It rains too often, by <5 points>.", "more than 5 points"),
    Finding(FINE, "tas+pr", "unknown", "Too few days.", "fewer than 10"),
    Finding(FLAT, "", "fair", "A single member.", "one member"),
)
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
    details = text[text.index("<details>") : text.index("</details>")]
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


# --- in a browser


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        opened.show(Path("/dev/null"))
        yield opened


SIZES = [(1280, False), (1280, True), (390, False), (390, True)]

CONTRAST = """
const parse = (text) => {
  const parts = text.match(/[\\d.]+/g).map(Number);
  return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
};
const over = (top, below) => top.rgb.map((c, i) => c * top.alpha + below[i] * (1 - top.alpha));
const behind = (element) => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) {
    layers.unshift(parse(getComputedStyle(e).backgroundColor));
  }
  return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
};
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((c) => {
    const s = c / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
document.querySelectorAll("details").forEach((part) => { part.open = true; });
const poor = [];
let seen = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.textContent.trim() || element.closest("script, style, option")) continue;
  if (element.closest(".skip") || !element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  const below = behind(element);
  const ink = parse(element.closest("svg") ? style.fill : style.color);
  for (let e = element; e; e = e.parentElement) ink.alpha *= Number(getComputedStyle(e).opacity);
  const [a, b] = [luminance(over(ink, below)), luminance(below)].sort((x, y) => y - x);
  seen += 1;
  if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(`${node.textContent.trim()}: ${style.color}`);
}
return { seen, poor };
"""


@pytest.mark.parametrize(("width", "dark"), SIZES)
def test_nothing_is_asked_for_and_nothing_complained_about(
    window: Browser, path: Path, width: int, dark: bool
) -> None:
    window.requests(), window.log("browser")
    window.show(path, width=width, dark=dark)
    assert window.log("browser") == []
    asked = [url for url in window.requests() if not url.startswith("data:")]
    assert asked == [path.resolve().as_uri()]
    # Nothing but boxes that scroll by themselves is wider than the window.
    assert window.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "dark"), SIZES)
def test_all_text_has_contrast(window: Browser, path: Path, width: int, dark: bool) -> None:
    window.show(path, width=width, dark=dark)
    found = window.run(CONTRAST)
    assert found["seen"] > 300
    assert found["poor"] == []
    page = window.run("return getComputedStyle(document.body).backgroundColor")
    assert (page == "rgb(255, 255, 255)") != dark


def test_the_check_of_contrast_can_fail(window: Browser, tmp_path: Path) -> None:
    pale = tmp_path / "pale.html"
    pale.write_text("<p style='color: #999'>pale</p><p style='color: #333'>dark</p>")
    window.show(pale)
    assert window.run(CONTRAST) == {"seen": 2, "poor": ["pale: rgb(153, 153, 153)"]}


def test_every_picture_has_its_size_and_words(window: Browser, path: Path) -> None:
    window.show(path)
    pictures: list[dict[str, Any]] = window.run(
        "return [...document.querySelectorAll('img, svg[role=img]')].map((e) => ({"
        "alt: e.getAttribute('alt') || e.getAttribute('aria-label') || '',"
        "width: e.getAttribute('width'), height: e.getAttribute('height'),"
        "whole: e.tagName !== 'IMG' || e.closest('[hidden]') !== null"
        "  || (e.complete && e.naturalWidth > 0)}))"
    )
    assert len(pictures) > 50
    for one in pictures:
        assert one["alt"]
        assert int(one["width"]) > 0
        assert int(one["height"]) > 0
        assert one["whole"]
    others = window.run(
        "return [...document.querySelectorAll('svg:not([role=img])')]"
        ".filter((e) => e.getAttribute('aria-hidden') !== 'true').length"
    )
    assert others == 0


def test_the_page_has_a_language_headings_in_order_labels_and_names_once(
    window: Browser, path: Path
) -> None:
    window.show(path)
    found = window.run("""
      const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
      return {
        language: document.documentElement.lang,
        title: document.title,
        levels: [...document.querySelectorAll("h1, h2, h3")].map((e) => Number(e.tagName[1])),
        twice: ids.filter((id, i) => ids.indexOf(id) !== i),
        unlabelled: [...document.querySelectorAll("select")].filter((e) => !e.labels.length).length,
        mains: document.querySelectorAll("main").length,
        heads: [...document.querySelectorAll("table")].every(
          (t) => t.caption && [...t.querySelectorAll("th")].every((h) => h.scope)),
        dangling: [...document.querySelectorAll("a[href^='#']")].filter(
          (a) => !document.getElementById(a.hash.slice(1))).length,
        unnamed: [...document.querySelectorAll("[role=region], [role=group], nav, section")].filter(
          (e) => !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby")).length,
        unreachable: [...document.querySelectorAll("*")].filter(
          (e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === "auto"
            && e.tabIndex < 0).length,
      };
    """)
    assert found["language"] == "en"
    assert found["title"].startswith("Evaluation of")
    assert found["levels"][0] == 1
    assert max(np.diff(found["levels"])) <= 1
    nothing = ("twice", "unlabelled", "dangling", "unnamed", "unreachable")
    assert {name: found[name] for name in nothing} == dict(
        zip(nothing, ([], 0, 0, 0, 0), strict=True)
    )
    assert (found["mains"], found["heads"]) == (1, True)


SHOWN = """
const box = document.querySelector(".browser");
const panel = (name) => {
  const figure = box.querySelector(`[data-panel=${name}]`);
  return figure && !figure.hidden ? figure.querySelector("img").src : null;
};
return {
  member: panel("member"), reference: panel("reference"), spread: panel("spread"),
  status: box.querySelector(".status").textContent,
  alt: box.querySelector("[data-panel=member] img").alt,
  controls: !box.querySelector(".controls").hidden,
};
"""


def test_days_and_members_are_browsed_by_keys(window: Browser, path: Path) -> None:
    window.show(path)
    first = window.run(SHOWN)
    assert first["controls"]
    window.press(".browser select[name=member]", "\ue015")  # arrow down
    second = window.run(SHOWN)
    assert second["member"] != first["member"]
    assert second["reference"] == first["reference"]
    assert "member 2" in second["status"]
    assert "member 2 of fine" in second["alt"]
    window.press(".browser select[name=day]", "\ue015")
    third = window.run(SHOWN)
    assert third["reference"] != first["reference"]
    window.press(".browser select[name=output]", "\ue015")
    flat = window.run(SHOWN)
    assert "flat" in flat["status"]
    assert "member 1" in flat["status"]  # it has no second one
    assert flat["spread"] is None


def test_without_scripts_the_first_day_is_shown(window: Browser, path: Path) -> None:
    window.show(path, scripts=False)
    # Scripts of WebDriver run none the less.
    shown = window.run(SHOWN)
    assert not shown["controls"]
    assert shown["member"].startswith("data:image/png")
    assert "member 1" in shown["status"]
    window.show(path)


def test_figures_follow_the_page_into_the_dark_and_onto_paper(window: Browser, path: Path) -> None:
    ink = "return getComputedStyle(document.querySelector('svg[role=img] text')).fill"
    window.show(path, dark=True)
    assert window.run(ink) == "rgb(230, 232, 235)"
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    window.developer("Emulation.setEmulatedMedia", media="print", features=features)
    assert window.run(ink) == "rgb(0, 0, 0)"
    assert window.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    window.show(path)
    assert window.run(ink) == "rgb(34, 37, 42)"
