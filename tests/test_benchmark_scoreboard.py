"""The scoreboard: its rows against closed forms, its parts on synthetic and on real days."""

from __future__ import annotations

import importlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import torch

from climdown import cf
from climdown.config import PriorConfig, VariableConfig
from climdown.errors import ConfigError
from climdown.grid import Grid
from climdown.priors.prior import Prior
from tests.commands import run_config
from tests.factories import Floats, make_dataset, shared_data

competitors, foreign, gcm, judging, paired, running, scoreboard, supervised = (
    importlib.import_module(f"benchmarks.{name}")
    for name in (
        "competitors",
        "foreign",
        "gcm",
        "judging",
        "paired",
        "running",
        "scoreboard",
        "supervised",
    )
)
EXAMPLES = Path(__file__).parent.parent / "examples"
GRID = Grid.regular(30.0, 42.0, 0.0, 16.0, 1.0)
DAYS = [day + 0.5 for day in range(20)]


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """The scoreboard silences the package's log."""
    level = logging.getLogger("climdown").level
    yield
    logging.getLogger("climdown").setLevel(level)


# Scores


VARIABLES = (
    VariableConfig(
        name="x", files=("x.nc",), units="K", standard_names=("air_temperature",), names=("x",)
    ),
)


def judged(ensembles: dict[str, Floats], truth: Floats, **settings: Any) -> dict[str, Any]:
    """Rows by method, of members (time, member, ny, nx) or single fields in files."""
    time = axis("2001-01-01", len(truth))
    write(Path("truth.nc"), time, truth)
    outputs = {}
    for place, (label, values) in enumerate(ensembles.items()):
        path = Path(f"{place}.nc")
        if values.ndim == 3:
            write(path, time, values)
        else:
            members = [Path(f"{place}-{m}.nc") for m in range(values.shape[1])]
            for m, member in enumerate(members):
                write(member, time, values[:, m])
        files = (path,) if values.ndim == 3 else tuple(members)
        outputs[label] = judging.Written(files, 0.5, 3)
    rows = judging.judged(outputs, Path("truth.nc"), **settings)
    return {row["method"]: row for row in rows}


def write(path: Path, time: cf.TimeAxis, values: Floats, grid: Grid = GRID) -> None:
    running.write_fields(path, grid, time, VARIABLES, {"x": values}, {})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_members_off_by_a_constant_have_its_size_as_error() -> None:
    truth = 280.0 + normal(60, *GRID.shape)
    members = truth[:, None] + np.array([0.2, 0.4])[:, None, None]
    found = judged({"cm:steps=4": members, "single": truth - 2.0}, truth)
    ours, single = found["cm:steps=4"], found["single"]
    assert ours["mae"] == pytest.approx(0.3, abs=1e-4)
    assert single["p99_error"] == pytest.approx(2.0, abs=0.02)
    # mean |x - y| less half the mean difference of two members
    assert ours["crps"] == pytest.approx(0.3 - 0.1, abs=1e-4)
    # (M + 1) / M times the variance of two members 0.2 apart, over the squared error
    assert ours["spread_skill"] == pytest.approx(np.sqrt(1.5 * 0.02 / 0.09), rel=1e-3)
    assert (ours["evaluations"], ours["seconds"]) == (3, 0.5)
    assert single["crps"] == pytest.approx(2.0, abs=1e-4)
    assert "spread_skill" not in single


@pytest.mark.usefixtures("here")
def test_all_methods_are_scored_where_all_of_them_have_values() -> None:
    truth = 280.0 + normal(12, *GRID.shape)
    lacking, wrong = truth.copy(), truth.copy()
    lacking[:, :, :6] = np.nan
    wrong[:, :, :6] += 5.0
    found = judged({"lacking": lacking, "wrong": wrong}, truth)
    assert [row["mae"] for row in found.values()] == [0.0, 0.0]


@pytest.mark.usefixtures("here")
def test_a_climate_is_judged_beside_its_interpolated_input() -> None:
    truth = 280.0 + normal(60, *GRID.shape)
    shuffled = truth[np.random.default_rng(2).permutation(60)]
    coarse = GRID.coarsen(4)
    write(Path("input.nc"), axis("2001-01-01", 60), running.coarsened(truth, GRID, coarse), coarse)
    settings = {"given": [Path("input.nc")], "pairing": "unpaired", "interpolated": "input"}
    found = judged({"shuffled": shuffled}, truth, **settings)
    assert list(found) == ["shuffled", "input"]
    ours, given = found["shuffled"], found["input"]
    for name in ("mean_error", "p95_error"):
        assert ours[name] == pytest.approx(0.0, abs=1e-4), name
        assert given[name] > 0.01, name
    assert abs(ours["coarse_correlation"]) < 0.3
    assert "crps" not in ours
    assert "seconds" not in given


def test_a_row_is_compared_with_the_raw_input_of_its_variable() -> None:
    rows = [
        {"variable": "x (K)", "method": gcm.RAW, "mean_error": 2.0, "p95_error": None},
        {"variable": "x (K)", "method": "one", "mean_error": 0.5, "p95_error": 1.0},
        {"variable": "y (K)", "method": gcm.RAW, "mean_error": 0.25},
        {"variable": "y (K)", "method": "one", "mean_error": 0.5},
    ]
    gcm._compare_with_raw(rows)
    assert [row.get("mean_vs_raw_%") for row in rows] == [None, -75.0, None, 100.0]
    assert "p95_vs_raw_%" not in rows[1]


def test_changes_are_compared_as_differences_and_as_ratios() -> None:
    raws = [np.full((3, 2, 2), 2.0), np.full((4, 2, 2), 3.0)]
    guides = [np.full((3, 2, 2), 4.0), np.full((4, 2, 2), 6.0)]
    members = [np.full((6, 2, 2), 4.0), np.full((8, 2, 2), 6.6)]
    members[1][:, 0] -= 0.2
    members[1][:, 1] += 0.2
    found = gcm.change_scores(members, guides, raws, np.ones((2, 2)), ratio=True)
    assert [found[name] for name in ("raw", "guide")] == [1.0, 2.0]
    assert found["members"] == pytest.approx(2.6)
    assert found["members_vs_guide_%"] == pytest.approx(30.0)
    assert found["members_vs_raw_%"] == pytest.approx(160.0)
    assert found["ratio_vs_guide_%"] == pytest.approx(10.0)
    assert found["ratio_vs_raw_%"] == pytest.approx(10.0)
    assert found["cell_error_guide"] == pytest.approx(0.6)
    plain = gcm.change_scores(members, guides, raws, np.ones((2, 2)), ratio=False)
    assert "ratio_vs_raw_%" not in plain


# Methods, days, fields


def test_a_method_brings_its_options() -> None:
    method = competitors.parse_competitor("cm:steps=4:noise_scale=200km")
    assert method.label == "cm:steps=4:noise_scale=200km"
    assert method.settings == {
        "method": "cm",
        "options": {"steps": 4, "noise_scale": "200km"},
    }
    priors = {"diffusion": "one", "consistency": "other"}
    assert method.prior(priors) == "other"
    assert competitors.parse_competitor("zssd").prior(priors) == "one"
    assert method.prior({"diffusion": "one"}) is None


def test_a_method_that_cannot_run_on_an_input_is_told_and_left_out(
    capsys: pytest.CaptureFixture[str], tiny_prior: Prior, tmp_path: Path
) -> None:
    methods = [competitors.parse_competitor(word) for word in ("cm", "zssd")]
    entries = {"bias": "qdm"}  # without --historical
    assert competitors.draw_all(methods, {"diffusion": tiny_prior}, [], entries, tmp_path) == {}
    text = capsys.readouterr().out
    assert "zssd: left out, --bias qdm needs the same model" in text
    assert "cm" not in text


@pytest.mark.parametrize(
    ("word", "message"),
    [("zsd", "unknown method 'zsd'"), ("cm:stops=4", "cm:stops=4: unknown option 'stops'")],
)
def test_a_method_that_the_command_does_not_have_is_an_error(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        competitors.parse_competitor(word)


def axis(first: str, days: int) -> cf.TimeAxis:
    values = np.arange(float(days))
    dates = cftime.num2date(values, f"days since {first}", "standard")
    return cf.TimeAxis(dates, values, f"days since {first}", "standard", None)


def test_stretches_are_spread_over_all_days() -> None:
    time = axis("2001-01-01", 90)
    found = competitors.stretches(time, None, 12)
    assert found == [
        "2001-01-01/2001-01-04",
        "2001-02-13/2001-02-16",
        "2001-03-28/2001-03-31",
    ]
    assert competitors.stretches(time, None, None) == ["2001-01-01/2001-03-31"]
    assert competitors.stretches(time, "2001-02/2001-02", 400) == ["2001-02-01/2001-02-28"]
    assert len(competitors.stretches(axis("2001-01-01", 2000), None, 480)) == 12


def test_days_held_out_are_those_of_validation_or_else_none_of_training(
    training_config: PriorConfig,
) -> None:
    data = training_config.data  # 14 days of January 2001, then 6 for validation
    time = axis("2001-01-01", 20)
    np.testing.assert_array_equal(running.held_out(time, data, None), np.arange(14, 20))
    np.testing.assert_array_equal(running.held_out(time, data, "2001-01-03/2001-01-03"), [2])
    other = axis("2000-12-30", 6)
    np.testing.assert_array_equal(running.held_out(other, data, None), [0, 1])


def test_delta_gives_the_climatology_back(training_config: PriorConfig) -> None:
    tas, pr = training_config.data.variables
    coarse, mean = GRID.coarsen(4), np.exp(normal(*GRID.shape))
    means = running.coarsened(mean, GRID, coarse)
    for variable in (tas, pr):
        found = running.delta(variable, np.stack([means, 3 * means]), coarse, GRID, mean)
        np.testing.assert_allclose(found[0], mean)
    np.testing.assert_allclose(found[1], 3 * mean)


def test_padding_covers_the_region_and_keeps_the_values() -> None:
    inner = Grid.from_centres([30.0, 32.5, 35.0], [10.0, 12.5])
    values = normal(2, 3, 2)
    grid, padded = foreign.padded(values, inner, Grid.regular(24.0, 36.0, 8.0, 20.0, 1.0))
    assert grid.lat_edges[0] <= 24.0
    assert grid.lon_edges[-1] >= 20.0
    assert (grid.lat[0], grid.lat[-1]) == (25.0, 35.0)
    assert (grid.lon[0], grid.lon[-1]) == (7.5, 20.0)
    np.testing.assert_array_equal(padded[:, 2:, 1:3], values)
    assert np.isfinite(padded).sum() == values.size


def test_tables_leave_out_columns_without_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"method": "one", "mae": 0.12345, "seconds": None}, {"method": "two", "mae": 123.456}]
    running.print_table("title", rows, ("method", "mae", "seconds"))
    text = capsys.readouterr().out
    assert text == "\ntitle\n\n| method | mae |\n|---|---|\n| one | 0.123 |\n| two | 123.5 |\n"


# Parts, on a tiny prior and twenty days


@pytest.fixture
def data(
    training_data: Path,
    training_config: PriorConfig,
    trained: Prior,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Observed days, and a model that is 3 K too warm and, later, 5 K warmer and a fifth wetter."""
    folder = Path(shutil.copytree(training_data, tmp_path / "data"))
    lat, lon = 40.25 + 0.5 * np.arange(3), -2.75 + 0.5 * np.arange(4)
    weather = normal(20, 3, 4)

    for name, later in (("hist", 0.0), ("rcp", 1.0)):

        def tas(y: Floats, x: Floats, step: int, later: float = later) -> Floats:
            values: Floats = 283.0 + 2.0 * (y - 40.0) + np.cos(x) + 2.0 * weather[step]
            return values + 5.0 * later

        def pr(y: Floats, x: Floats, step: int, later: float = later) -> Floats:
            values: Floats = 3e-5 * np.exp(weather[step]) + 0.0 * x * y
            return values * (1.0 + 0.2 * later)

        coordinates: dict[str, Any] = {"lat": lat, "lon": lon, "times": DAYS}
        make_dataset(path=folder / f"{name}_tas.nc", values=tas, **coordinates)
        make_dataset(
            path=folder / f"{name}_pr.nc",
            name="pr",
            standard_name="precipitation_flux",
            units="kg m-2 s-1",
            values=pr,
            **coordinates,
        )
    priors = {"diffusion": str(trained.folder)}
    for module in (paired, foreign, gcm):
        monkeypatch.setattr(module, "load_config", lambda path: training_config)
    monkeypatch.setattr(paired, "CASES", (paired.Case("tiny", priors, 2),))
    monkeypatch.setattr(supervised, "CASES", paired.CASES)
    monkeypatch.setattr(foreign, "PRIORS", priors)
    monkeypatch.setattr(foreign, "HISTORICAL", "hist_{name}.nc")
    monkeypatch.setattr(gcm, "PRIORS", priors)
    monkeypatch.setattr(gcm, "HISTORICAL", "hist_{name}.nc")
    monkeypatch.setattr(gcm, "SCENARIO", "rcp_{name}.nc")
    monkeypatch.setattr(gcm, "REFERENCE", {"tas": "tas.nc", "pr": "pr.nc"})
    monkeypatch.setattr(gcm, "REFERENCE_PERIOD", "2001-01-01/2001-01-12")
    return folder


def score(data: Path, *words: str) -> Any:
    """The numbers that the scoreboard stores."""
    stored = data / "scores.json"
    options = ["--data", str(data), "--members", "2", "--methods", "bilinear,delta,zssd:steps=2"]
    scoreboard.main([*options, *words, "--json", str(stored)])
    return json.loads(stored.read_text(encoding="utf-8"))


def test_part_a_has_baselines_methods_and_the_supervised_network(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(data), "--output", str(tmp_path), "--steps", "3", "--minutes", "99"]
    supervised.main(words)
    rows = score(data, "--parts", "a", "--supervised", str(tmp_path))["a"]["tiny"]
    text = capsys.readouterr().out
    assert "tiny: 3 steps in" in text
    days = "6 steps from 2001-01-15 to 2001-01-20 (standard), none of them trained on"
    assert f"tiny, 2 members, {days}" in text
    methods = ["bilinear", "delta", "zssd:steps=2", "supervised"]
    assert [row["method"] for row in rows] == 2 * methods
    by_name = {row["method"]: row for row in rows if row["variable"] == "tas (degC)"}
    assert by_name["zssd:steps=2"]["evaluations"] == 2
    assert by_name["supervised"]["evaluations"] == 1
    assert by_name["zssd:steps=2"]["spread_skill"] > 0
    assert all(row["seconds"] > 0 for row in rows if row["evaluations"])


def test_a_day_that_the_supervised_network_was_not_run_on_is_an_error(
    data: Path, tmp_path: Path
) -> None:
    words = ["--data", str(data), "--output", str(tmp_path), "--steps", "1", "--minutes", "99"]
    supervised.main([*words, "--period", "2001-01-15/2001-01-16"])
    with pytest.raises(ValueError, match=r"tiny.nc lacks \(2001, 1, 17\)"):
        score(data, "--parts", "a", "--supervised", str(tmp_path))


def test_part_b_scores_the_input_with_and_without_adjustment(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    period = "2001-01-05/2001-01-20", "2001-01-01/2001-01-14"
    here = foreign.Experiment("here", "hist_{name}.nc", ("tas",), *period)
    absent = foreign.Experiment("absent", "no_{name}.nc", ("tas",), *period)
    monkeypatch.setattr(foreign, "EXPERIMENTS", (here, absent))
    found = score(data, "--parts", "b", "--days", "8")["b"]
    assert "absent: left out" in capsys.readouterr().out
    assert list(found) == ["here"]
    rows = {(row["input"], row["method"]): row for row in found["here"]}
    assert {setting for setting, _ in rows} == set(foreign.SETTINGS)
    errors = {setting: rows[setting, "delta"]["input_mae"] for setting in foreign.SETTINGS}
    assert errors["own"] < 1e-3
    assert errors["qdm"] < 0.8 * errors["raw"]
    assert rows["own", "zssd:steps=2"]["mae"] < rows["raw", "zssd:steps=2"]["mae"]


def test_part_c_judges_the_climate_and_the_change(data: Path) -> None:
    found = score(data, "--parts", "c", "--days", "16")["c"]
    climate = [name for name in found if name.startswith("gcm, bias from")]
    assert climate == [
        "gcm, bias from prior, held out",
        "gcm, bias from prior, in sample",
        "gcm, bias from files, held out of the adjustment",
    ]
    rows = {(row["variable"][:3], row["method"]): row for row in found[climate[0]]}
    raw, ours = rows["tas", gcm.RAW], rows["tas", "zssd:steps=2"]
    assert ours["mean_error"] < raw["mean_error"]
    expected = 100.0 * (ours["mean_error"] / raw["mean_error"] - 1.0)
    assert ours["mean_vs_raw_%"] == pytest.approx(expected)
    # The fast sampler keeps what guides it, whatever the network says.
    assert ours["coarse_correlation"] > 0.999
    assert rows["tas", "observed"]["mean_error"] > 0
    change = {row["variable"][:3]: row for row in found["change"]}
    assert change["tas"]["raw"] == pytest.approx(5.0, abs=1e-3)
    assert abs(change["tas"]["members_vs_raw_%"]) < 3.0
    assert abs(change["tas"]["members_vs_guide_%"]) < 0.1
    assert abs(change["pr "]["ratio_vs_guide_%"]) < 1.0


def test_stretches_have_the_fields_of_the_whole(
    data: Path, trained: Prior, tmp_path: Path, training_config: PriorConfig
) -> None:
    inputs = [data / "hist_tas.nc", data / "hist_pr.nc"]
    config = run_config(members=2, steps=2)
    whole = competitors.draw(trained, inputs, config, tmp_path / "whole")
    periods = ["2001-01-01/2001-01-02", "2001-01-19/2001-01-20"]
    parts = competitors.draw(trained, inputs, config, tmp_path / "parts", periods)
    assert [len(one.files) for one in (whole, parts)] == [1, 2]
    assert [date.day for date in parts.dates] == [1, 2, 19, 20]
    for v in training_config.data.variables:
        values, guide = whole.members(v), whole.guide[v.name]
        np.testing.assert_allclose(parts.members(v), values[[0, 1, 18, 19]], atol=1e-4)
        np.testing.assert_array_equal(parts.guide[v.name], guide[[0, 1, 18, 19]])


def test_the_supervised_network_learns_and_keeps_the_best_weights() -> None:
    # The truth is the baseline plus a pattern that the network sees.
    pattern = torch.from_numpy(normal(1, 8, 8)).float()
    given = torch.from_numpy(normal(32, 1, 8, 8, seed=1)).float()
    ones = torch.ones_like(given)
    days = supervised.Pairs(given, given + pattern, ones, torch.ones(32, 3))
    torch.manual_seed(0)
    network = supervised.UNet(
        variables=1, statics=1, channels=(8, 8), attention=0, heads=2, embedding=8
    )
    before = supervised.validate(network, pattern, days)
    assert before == pytest.approx(float(pattern.abs().mean()))
    told = dict(supervised.fit(network, pattern, days, days, 99.0, 60))
    assert list(told)[-1] == 60
    after = supervised.validate(network, pattern, days)
    assert after == pytest.approx(min(told.values()))
    assert after < 0.6 * before
    predicted = supervised.predict(network, pattern, days)
    assert float((predicted - days.truth).abs().mean()) == pytest.approx(after, rel=1e-5)


def test_missing_cells_do_not_count_in_the_supervised_loss() -> None:
    given, known = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    truth = torch.full((2, 1, 4, 4), 0.5)
    known[0, 0, 0], truth[0, 0, 0] = 0.0, 1e6
    days = supervised.Pairs(given, truth, known, torch.ones(2, 3))
    network = supervised.UNet(
        variables=1, statics=1, channels=(4, 4), attention=0, heads=2, embedding=8
    )
    assert supervised.validate(network, torch.zeros(1, 4, 4), days) == pytest.approx(0.5)


# Real days


@pytest.mark.data
def test_every_method_beats_interpolation_on_days_never_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(shared_data()), "--examples", str(EXAMPLES), "--members", "2"]
    words += ["--days", "4", "--parts", "a", "--only", "iberia-x5,europe-x4"]
    words += ["--methods", "bilinear,delta,zssd,cm"]
    scoreboard.main([*words, "--json", str(tmp_path / "s.json")])
    text = capsys.readouterr().out
    assert "iberia-x5, 2 members" in text
    assert "| zg500 (m) | zssd |" in text
    found = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    for rows in found["a"].values():
        crps = {(row["variable"], row["method"]): row["crps"] for row in rows}
        for (variable, method), crps_score in crps.items():
            if method not in ("bilinear", "delta"):
                assert crps_score < crps[variable, "delta"], (variable, method)
                assert crps_score < 0.8 * crps[variable, "bilinear"], (variable, method)
