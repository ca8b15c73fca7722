"""Figures of reports: their lines are what the values say, their pictures stand on any page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest

from climdown.evaluation import (
    figures_change,
    figures_distribution,
    figures_ensemble,
    figures_maps,
    figures_time,
    view,
)
from climdown.evaluation.evaluate import Evaluation
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.states import Key, States
from climdown.evaluation.view import Illustrate, View
from climdown.grid import Grid
from climdown.plots import figures
from climdown.plots.atlas import Map, draw_maps, limits_of
from climdown.plots.charts import Chart, Line, draw_chart
from climdown.plots.thumbnails import colour_bar, thumbnail
from tests.evaluations import FINE, FLAT, complete, small_evaluation, values_of
from tests.factories import Floats

GRID = Grid.regular(40, 44, 0, 8, 0.5)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return complete(small_evaluation(tmp_path_factory.mktemp("small")))


Charts = Mapping[str, Chart]


@pytest.fixture
def charts(monkeypatch: pytest.MonkeyPatch, evaluation: Evaluation) -> object:
    """Charts that a figure draws, by name."""

    def of(draw: Illustrate, variable: str = "tas", given: Evaluation = evaluation) -> Charts:
        seen: dict[str, Chart] = {}

        def record(chart: Chart, *, name: str) -> figures.Picture:
            seen[name.rpartition("-")[0]] = chart
            return draw_chart(chart, name=name)

        with monkeypatch.context() as patch:
            patch.setattr(view, "draw_chart", record)
            draw(View(given, variable, 0))
        return seen

    return of


def line(chart: Chart, label: str) -> Line:
    (found,) = (one for one in chart.lines if one.label == label)
    return found


# --- what is drawn


def test_quantiles_are_those_of_the_values(charts, evaluation: Evaluation) -> None:  # type: ignore[no-untyped-def]
    drawn = line(charts(figures_distribution.distribution)["quantiles"], FINE)
    levels = np.linspace(0.1, 0.9, 9)
    places = np.searchsorted(figures_distribution._LEVELS, levels)
    weights = np.broadcast_to(evaluation.plan.scenes["tas"].areas, (60, 1, 12, 16))
    for source, found in ((REFERENCE, drawn.x), (FINE, drawn.y)):
        values = values_of(evaluation.plan, source, "tas")
        known = np.isfinite(values)
        shares = np.broadcast_to(weights, values.shape)[known]
        order = np.argsort(values[known])
        cumulated = np.cumsum(shares[order]) / shares.sum()
        expected = np.interp(levels, cumulated, values[known][order])
        # Within a bin, of which a hundredth of the values lie in each.
        np.testing.assert_allclose(found[places], expected, atol=0.15)


def test_densities_hold_all_that_lies_between_their_bins(charts, evaluation: Evaluation) -> None:  # type: ignore[no-untyped-def]
    edges = evaluation.plan.scenes["pr"].pooled
    for one in charts(figures_distribution.distribution, "pr")["density"].lines:
        ends = edges[figures_distribution._apart(edges, (edges[-1] - edges[0]) / 60)]
        values = values_of(evaluation.plan, one.label, "pr")
        areas = np.broadcast_to(evaluation.plan.scenes["pr"].areas, values.shape)
        inside = (values >= np.float32(ends[0])) & (values < np.float32(ends[-1]))
        share = areas[inside].sum() / areas[np.isfinite(values)].sum()
        assert np.nansum(one.y * np.diff(ends)) == pytest.approx(share, rel=1e-6)


def test_spectra_are_means_over_members_and_their_ratio_is_one_of_a_shift(charts) -> None:  # type: ignore[no-untyped-def]
    drawn = charts(figures_distribution.spectrum)
    reference, fine, flat = (line(drawn["power"], n) for n in (REFERENCE, FINE, FLAT))
    # Half a kelvin more everywhere is the same spectrum; noise of each cell is more power.
    np.testing.assert_allclose(flat.y, reference.y, rtol=1e-4)
    np.testing.assert_allclose(line(drawn["ratio"], FLAT).y, 1.0, rtol=1e-4)
    assert fine.y[-1] > 2 * reference.y[-1]
    # Down to two cells, of 0.5 degrees at 43 N.
    assert fine.x[-1] == pytest.approx(
        2 * np.sqrt(np.cos(np.radians(43.0))) * 0.5 * 111.195, rel=0.01
    )


def test_zonal_means_are_averages_of_rows(charts, evaluation: Evaluation) -> None:  # type: ignore[no-untyped-def]
    drawn = charts(figures_distribution.zonal_mean)
    values = values_of(evaluation.plan, REFERENCE, "tas")
    found = line(drawn["zonal"], REFERENCE)
    np.testing.assert_allclose(found.x, np.nanmean(values, axis=(0, 1, 3)), rtol=1e-6)
    np.testing.assert_array_equal(found.y, evaluation.plan.scenes["tas"].grid.lat)
    np.testing.assert_allclose(line(drawn["zonal-bias"], FLAT).x, 0.5, atol=1e-4)


def test_the_crps_of_so_many_members_is_the_ensembles_own(charts, evaluation: Evaluation) -> None:  # type: ignore[no-untyped-def]
    found = line(charts(figures_ensemble.crps_by_members)["crps-members"], FINE)
    members = values_of(evaluation.plan, FINE, "tas")
    truth = values_of(evaluation.plan, REFERENCE, "tas")
    apart = np.abs(members[:, :, None] - members[:, None]).mean(axis=(1, 2))
    crps = np.abs(members - truth).mean(axis=1) - 0.5 * apart
    areas = np.broadcast_to(evaluation.plan.scenes["tas"].areas, crps.shape)
    known = np.isfinite(crps)
    expected = np.average(crps[known], weights=areas[known])
    assert found.y[found.x == 5] == pytest.approx(expected, rel=1e-4)
    single = np.abs(members - truth).mean(axis=1)
    assert found.y[0] == pytest.approx(np.average(single[known], weights=areas[known]), rel=1e-4)


def test_spread_and_skill_are_of_equal_size_where_the_ensemble_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.5, 2.0, size=200_000)
    centre = rng.normal(size=spread.size)
    members = centre + spread * rng.normal(size=(5, spread.size))
    truth = centre + spread * rng.normal(size=spread.size)
    error, variance = members.mean(0) - truth, members.var(0, ddof=1)
    ratio = np.sqrt((error**2).mean() / ((5 + 1) / 5 * variance.mean()))
    assert ratio == pytest.approx(1.0, abs=0.01)  # what the factor of the figure stands for


def test_spread_and_error_of_each_bin(charts, evaluation: Evaluation) -> None:  # type: ignore[no-untyped-def]
    chart = charts(figures_ensemble.spread_skill)["spread-skill"]
    assert [one.label for one in chart.lines] == [FINE]  # one member has no spread
    found, sums = chart.lines[0], View(evaluation, "tas", 0).total("groups", f"{FINE}/pairs")
    weight, variance, error = sums["spread_skill"].T
    np.testing.assert_allclose(found.x, np.sqrt(6 / 5 * variance / weight))
    np.testing.assert_allclose(found.y, np.sqrt(error / weight))


def test_ranks_are_frequencies_and_single_members_have_none(charts, evaluation: Evaluation) -> None:  # type: ignore[no-untyped-def]
    drawn = charts(figures_ensemble.ranks)
    assert set(drawn) == {f"ranks-{i}" for i in range(4)}
    found = line(drawn["ranks-0"], FINE)
    counts = View(evaluation, "tas", 0).total("groups", f"{FINE}/pairs")["ranks"].sum(axis=0)
    np.testing.assert_allclose(found.y[:-1], 6 * counts / counts.sum())
    np.testing.assert_allclose(found.x, np.arange(7) / 6)
    assert all(one.label == FINE for chart in drawn.values() for one in chart.lines)


def test_nineteen_of_twenty_ranks_of_a_calibrated_ensemble_lie_in_the_band() -> None:
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(200):
        # Twelve stretches of 300 cases each, which come in tens that share their rank.
        counts = 10 * rng.multinomial(30, np.full(6, 1 / 6), size=12).astype(np.float64)
        band = figures_ensemble._chance([counts])
        assert band is not None
        _, frequency = figures_ensemble._frequencies(counts)
        inside.append((band[0] < frequency[:-1]) & (frequency[:-1] < band[1]))
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)
    assert figures_ensemble._chance([np.ones((3, 6))]) is None


def test_probabilities_are_compared_with_frequencies(charts, evaluation: Evaluation) -> None:  # type: ignore[no-untyped-def]
    drawn = charts(figures_ensemble.reliability, "pr")
    assert [chart.title for chart in drawn.values()] == ["pr: 1 mm or more", "pr: 10 mm or more"]
    found = line(drawn["reliability-0"], FINE)
    np.testing.assert_allclose(found.x, np.arange(6) / 5)
    members = values_of(evaluation.plan, FINE, "pr")
    truth = values_of(evaluation.plan, REFERENCE, "pr")[:, 0]
    areas = np.broadcast_to(evaluation.plan.scenes["pr"].areas, truth.shape)
    three = ((members > 1.0).sum(axis=1) == 3) & np.isfinite(truth)
    assert found.y[3] == pytest.approx(np.average(truth[three] > 1.0, weights=areas[three]))


def test_the_seasonal_cycle_begins_after_the_gap() -> None:
    assert figures_time._order(np.isin(np.arange(12), (11, 0, 1))) == [11, 0, 1]
    assert figures_time._order(np.isin(np.arange(12), (5, 6, 7))) == [5, 6, 7]
    assert figures_time._order(np.ones(12, dtype=bool)) == list(range(12))


def test_two_months_are_no_cycle_and_three_are(charts, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert charts(figures_time.seasonal_cycle) == {}  # sixty days from December on
    given = small_evaluation(tmp_path)
    states = States()
    for name, values in (("month_total", np.arange(12.0)), ("month_weight", np.ones(12))):
        values[5:9] = 0.0
        states.add(Key("blocks", REFERENCE, "tas", name), 0, values[None])
    drawn = charts(figures_time.seasonal_cycle, "tas", replace(given, states=states))["season"]
    np.testing.assert_array_equal(drawn.lines[0].y, [9, 10, 11, 0, 1, 2, 3, 4])
    assert [text for _, text in drawn.x_ticks] == list("ONDJFMAM")


def test_the_series_is_that_of_blocks_and_breaks_between_seasons(charts, evaluation) -> None:  # type: ignore[no-untyped-def]
    found = line(charts(figures_time.time_series)["series"], REFERENCE)
    values = values_of(evaluation.plan, REFERENCE, "tas")[:, 0]
    areas = evaluation.plan.scenes["tas"].areas
    means = np.nansum(values * areas, axis=(1, 2))
    blocks = evaluation.plan.segments[REFERENCE].block
    expected = [means[blocks == block].mean() for block in range(blocks[-1] + 1)]
    np.testing.assert_allclose(found.y, expected, rtol=1e-6)
    assert found.x[0] == pytest.approx(2000 + 340 / 366, abs=0.01)


def test_maps_of_means_and_biases_are_those_of_the_values(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Map] = []
    monkeypatch.setattr(
        figures_maps,
        "draw_maps",
        lambda maps, **settings: seen.extend(maps) or draw_maps(maps, **settings),  # type: ignore[func-returns-value]
    )
    figures_maps.means_and_biases(View(evaluation, "tas", 0))
    maps = {one.title: one for one in seen}
    truth = values_of(evaluation.plan, REFERENCE, "tas").mean(axis=(0, 1))
    np.testing.assert_allclose(maps["Reference, mean"].values, truth, rtol=1e-6)
    inside = evaluation.plan.scenes["tas"].mask
    np.testing.assert_allclose(maps[f"{FLAT}, bias"].values[inside], 0.5, atol=1e-4)
    assert np.isnan(maps[f"{FLAT}, bias"].values[~inside]).all()
    # The interpolated input is what others have to beat: it does not stretch the scale.
    assert {title for title, one in maps.items() if not one.ranges} == {"bilinear, bias"}


@pytest.mark.parametrize(
    "draw",
    [
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
    ],
)
def test_without_its_sums_there_is_no_figure(draw: Illustrate, evaluation: Evaluation) -> None:
    assert draw(View(replace(evaluation, states=States()), "tas", 0)) is None


def test_the_change_signal_is_that_of_the_coarse_series(charts, evaluation: Evaluation) -> None:  # type: ignore[no-untyped-def]
    scene = evaluation.plan.scenes["tas"]
    assert scene.coarse is not None
    edges = scene.coarse.edges.reshape(scene.coarse.areas.size, -1)
    cells = np.flatnonzero(scene.coarse.areas)
    rng, states = np.random.default_rng(2), States()
    early = rng.normal(284.0, 2.0, size=(len(cells), 4000))
    shifts = {"output": 1.5, "input": 0.5}
    for whose, shift in shifts.items():
        for part, values in (("early", early), ("late", early + shift)):
            counts = [
                np.bincount(np.searchsorted(e, v, side="right"), minlength=edges.shape[1] + 1)
                for e, v in zip(edges[cells], values, strict=True)
            ]
            key = Key("groups", f"{FINE}/input", "tas", f"{part}_{whose}")
            states.add(key, 0, np.array(counts, dtype=np.float64)[None])
    drawn = charts(figures_change.change_signal, given=replace(evaluation, states=states))
    assert list(drawn) == ["change"]
    middle = slice(5, 15)
    for label, shift in ((FINE, 1.5), ("input", 0.5)):
        found = line(drawn["change"], label)
        np.testing.assert_allclose(found.y[middle], shift, atol=0.25)


def test_years_are_means_of_cells_by_area(charts, evaluation: Evaluation) -> None:  # type: ignore[no-untyped-def]
    scene = evaluation.plan.scenes["tas"]
    assert scene.coarse is not None
    areas = scene.coarse.areas[scene.coarse.areas > 0]
    years: Any = _Years()
    plan = replace(evaluation.plan, segments=dict.fromkeys((FINE, FLAT, "bilinear"), years))
    days = np.full((4, areas.size), 30.0)
    output = days * (np.arange(4.0)[:, None] + np.arange(areas.size))
    sums = {
        "days": days,
        "t": days * np.arange(1.0, 5)[:, None],
        "output": output,
        "input": 0 * days,
    }
    states = States()
    for name, values in sums.items():
        states.add(Key("units", f"{FINE}/input", "tas", f"trend_{name}"), 0, values)
    given = replace(evaluation, states=states, plan=plan)
    drawn = charts(figures_change.change_signal, given=given)
    assert list(drawn) == ["years"]
    found = line(drawn["years"], FINE)
    np.testing.assert_allclose(found.x, [2001, 2002, 2003, 2004])
    expected = np.arange(4.0) + np.average(np.arange(areas.size), weights=areas)
    np.testing.assert_allclose(found.y, expected)
    np.testing.assert_array_equal(line(drawn["years"], "input").y, 0.0)


class _Years:
    """Segments of four years."""

    def count(self, along: str) -> int:
        return 4


# --- pictures


def a_map(values: Floats, **settings: object) -> Map:
    return Map("A map", GRID, values, "K", "values", **settings)  # type: ignore[arg-type]


def test_pictures_take_the_ink_of_their_page_and_names_of_their_own() -> None:
    field = np.add.outer(np.arange(8.0), np.arange(16.0))
    land = np.ones(GRID.shape, dtype=bool)
    land[:3, :5] = False
    x = np.arange(3.0)
    chart = Chart("A chart", "x", "y", [Line("one", figures.REFERENCE, x, x)], band=(0.5, 1.0))
    pictures = [draw_chart(chart, name=f"chart-{i}") for i in range(2)]
    pictures += draw_maps([a_map(field), a_map(field)], land=(GRID, land), name="map")
    names = [name for one in pictures for name in re.findall(r'\sid="([^"]*)"', one.svg)]
    assert len(names) == len(set(names)) > 0
    for one in pictures:
        assert one.svg.startswith("<svg ")
        assert f'width="{one.width}" height="{one.height}"' in one.svg
        assert "<style" not in one.svg
        assert "<metadata" not in one.svg
        assert figures.INK not in one.svg.replace(f"var(--ink, {figures.INK})", "")
        assert "var(--ink" in one.svg
        assert not re.search(r"(href|src)=\"(?!#|data:)", one.svg)
        assert set(re.findall(r"url\(#([^)]*)\)", one.svg)) <= set(names)


def test_the_same_chart_is_the_same_text() -> None:
    chart = Chart("A chart", "x", "y", [Line("one", figures.INPUT, np.arange(3.0), np.arange(3.0))])
    assert draw_chart(chart, name="a").svg == draw_chart(chart, name="a").svg


@pytest.mark.parametrize("south", [0, 60])
def test_maps_are_as_high_as_their_latitude_asks(south: int) -> None:
    grid = Grid.regular(south, south + 10, 0, 20, 1.0)
    (drawn,) = draw_maps([Map("", grid, np.zeros(grid.shape), "", "values")], land=None, name="a")
    wide, tall = 286 - 38 - 12, drawn.height - 62 - 24
    assert tall / wide == pytest.approx(0.5 / np.cos(np.radians(south + 5)), abs=0.003)


def test_scales_leave_out_few_values_and_those_that_do_not_count() -> None:
    values = np.linspace(0.0, 1.0, 128).reshape(GRID.shape)
    values[0, 0] = np.nan
    wild = a_map(values * 100, ranges=False)
    assert limits_of([a_map(values), wild], "values") == pytest.approx((0.008, 1.0), abs=0.003)
    assert limits_of([wild], "values")[1] > 99
    low, high = limits_of([replace(a_map(values - 0.2), scale="difference")], "difference")
    assert low == -high
    assert limits_of([a_map(np.full(GRID.shape, 3.0))], "values") == (3.0, 4.0)
    assert limits_of([a_map(np.full(GRID.shape, np.nan))], "values") == (0.0, 1.0)


def test_pictures_say_what_they_show() -> None:
    values = np.full(GRID.shape, 2.0)
    values[0, 0] = 6.0
    assert a_map(values).describe() == "Map, A map: from 2 to 6 K, mean of cells 2.03."
    assert a_map(values * np.nan).describe() == "Map, A map: no values."
    x = np.array([1.0, 2.0, np.nan])
    chart = Chart("Title", "time", "heat", [Line("one", figures.INPUT, x, 10 * x)])
    assert chart.describe() == (
        "Line chart, Title: heat against time. one from 10 at 1 to 20 at 2."
    )


def test_thumbnails_have_the_colours_of_the_scale_and_nothing_where_nothing_is() -> None:
    values = np.array([[0.0, 0.5], [1.0, np.nan]])
    image = matplotlib.image.imread(io.BytesIO(thumbnail(values, (0.0, 1.0), "values")))
    assert image.shape == (2, 2, 4)
    colours = mpl.colormaps["viridis"](np.array([[1.0, 0.0], [0.0, 0.5]]))
    np.testing.assert_allclose(image[0, 0], colours[0, 0], atol=0.01)  # north is up
    np.testing.assert_allclose(image[1], colours[1], atol=0.01)
    assert image[0, 1, 3] == 0.0
    assert matplotlib.image.imread(io.BytesIO(colour_bar("spread"))).shape == (1, 255, 4)


def test_thumbnails_of_large_grids_show_every_so_many_cells() -> None:
    large = np.random.default_rng(0).normal(size=(330, 200))
    image = matplotlib.image.imread(io.BytesIO(thumbnail(large, (-3.0, 3.0), "values")))
    assert image.shape[:2] == (110, 67)


def test_logarithmic_axes_are_marked_by_round_numbers() -> None:
    x = np.array([30.0, 700.0])
    chart = Chart(
        "", "", "", [Line("one", figures.INPUT, x, x / 100)], log_x=True, log_y=True, falling_x=True
    )
    texts = re.findall(r"<text[^>]*>([^<]+)<", draw_chart(chart, name="a").svg)
    assert {"50", "100", "200", "500"} <= set(texts)
    assert {"0.5", "1", "2", "5"} <= set(texts)


def test_long_titles_are_shortened_and_told_in_full() -> None:
    (drawn,) = draw_maps(
        [replace(a_map(np.zeros(GRID.shape)), title="x" * 60)], land=None, name="a"
    )
    assert f">{'x' * 37}…<" in drawn.svg
    assert "x" * 60 in drawn.alt
