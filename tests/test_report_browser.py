"""The report in a browser: requests, contrast, labels, sizes, keys, the dark and paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climdown.evaluation.report import write_report
from tests.browser import Browser, chromium
from tests.evaluations import FINDINGS, complete, small_evaluation


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    evaluation = complete(small_evaluation(folder))
    write_report(folder / "report.html", evaluation, FINDINGS, command="climdown evaluate")
    return folder / "report.html"


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
