"""The verdict: rules on intervals, days that a prior has seen, forecasts that are wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.evaluation.bootstrap import Score
from climdown.evaluation.finding import Level
from climdown.evaluation.registry import MEASURES
from climdown.evaluation.rules import RULES, distances, level_of
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import segments
from climdown.evaluation.survey import survey
from climdown.priors.prior import Prior
from tests.commands import Shell
from tests.factories import TAS, Floats, shared_data
from tests.judging import LAT, LON, members_of, weather, write_case, write_coarse, write_members
from tests.series import WINTER, Dates, daily, write_days

DAYS = daily(2001, 4, months=WINTER)
WORDS = ("evaluate", "out.nc", "--reference", "ref.nc", "--input", "gcm.nc")


def findings(shell: Shell, *words: str) -> list[dict[str, Any]]:
    result = shell(*words, "--json", "scores.json", "--overwrite")
    assert result.code == 0, result.err
    found = json.loads(Path("scores.json").read_text("utf-8"))["findings"]
    assert len(result.out.splitlines()) >= len(found)
    return list(found)


def levels(found: list[dict[str, Any]], part: str) -> list[str]:
    """Levels of the findings whose text or rule has a part."""
    return [one["level"] for one in found if part in one["text"] or part in one["rule"]]


@pytest.mark.parametrize(
    ("interval", "level"),
    [
        ((0.0, 0.9), "good"),
        ((0.0, 1.0), "good"),
        ((0.9, 1.1), "fair"),
        ((1.1, 1.9), "fair"),
        ((1.1, 2.1), "fair"),
        ((2.1, 9.0), "poor"),
        ((0.9, 2.1), "unknown"),
        ((0.0, 9.0), "unknown"),
    ],
)
def test_green_and_red_are_for_what_is_certain(interval: tuple[float, float], level: Level) -> None:
    assert level_of(interval, 1.0, 2.0) == level


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    path = write_days(tmp_path / "ref.nc", DAYS, weather(DAYS)[:, :3, :4])
    field = cf.open_field(path, TAS)
    return survey("tas", field, segments(field.time, np.arange(len(field.time))), amounts=False)


PLAIN = Score("out", "tas", "x", "K", 2.0, 1.5, 2.5, 3.0, 9, -1.5, -0.5)


def test_distances_are_those_of_intervals(scene: Scene) -> None:
    unit = scene.deviation
    assert distances("value", PLAIN, scene) == (2.0, 1.5, 2.5)
    assert distances("difference", PLAIN, scene) == (1.0, 0.5, 1.5)
    assert distances("scale", PLAIN, scene) == pytest.approx((1 / unit, 0.5 / unit, 1.5 / unit))
    assert distances("share of scale", PLAIN, scene) == pytest.approx(
        (2 / unit, 1.5 / unit, 2.5 / unit)
    )
    assert distances("factor", PLAIN, scene) == pytest.approx((2.0, 1.5, 2.5))
    below = replace(PLAIN, value=0.5, low=0.4, high=1.2)
    assert distances("factor", below, scene) == pytest.approx((2.0, 1.0, 2.5))
    across = replace(PLAIN, value=-0.1, low=-0.5, high=0.2)
    assert distances("value", across, scene) == (0.1, 0.0, 0.5)


def test_amounts_are_compared_by_their_ratio(scene: Scene) -> None:
    rain = replace(scene, amounts=True)
    assert distances("scale", PLAIN, rain) is None
    known = replace(PLAIN, ratio_low=0.6, ratio_high=0.8)
    assert distances("scale", known, rain) == pytest.approx((1 / 3, 0.2, 0.4))
    assert distances("scale", replace(known, reference=None), rain) is None


def test_without_an_interval_nothing_is_certain(scene: Scene) -> None:
    few = replace(PLAIN, low=None, high=None, difference_low=None, difference_high=None)
    few = replace(few, ratio_low=None, ratio_high=None)
    for compared in ("scale", "difference", "value", "share of scale", "factor"):
        assert distances(compared, few, scene) is None
    for rule in RULES:
        assert rule.level(few, scene) == "unknown"


def test_every_rule_is_of_a_measure_that_there_is() -> None:
    known = {one.name for one in MEASURES}
    assert sorted({rule.measure for rule in RULES} - known) == []


def test_rules_say_what_they_do() -> None:
    for rule in RULES:
        assert rule.measure in rule.describe()
        assert rule.good <= rule.fair
        assert set(rule.words) == {"good", "fair", "poor"}
        assert rule.compared != "factor" or rule.good >= 1


def test_a_good_forecast_is_called_good(shell: Shell) -> None:
    write_case(DAYS)
    found = findings(shell, *WORDS)
    assert levels(found, "closer to what happened than bilinear") == ["good"]
    assert levels(found, "the mean is right")
    assert not levels(found, "one and the same")


def write_output(members: Floats, dates: Dates = DAYS, **options: Any) -> None:
    write_members("out.nc", dates, members, **options)


def test_a_bias_of_a_kelvin_is_called_a_bias(shell: Shell) -> None:
    truth = write_case(DAYS, rain=False)
    write_output(members_of(truth + 1.0, 3))
    assert levels(findings(shell, *WORDS), "the mean is biased") == ["poor"]


def test_rain_scaled_by_four_fifths_is_called_a_bias(shell: Shell) -> None:
    truth = write_case(DAYS)

    def drier(dataset: Any) -> Any:
        return dataset.assign(pr=(0.8 * dataset["pr"]).assign_attrs(dataset["pr"].attrs))

    write_output(members_of(truth, 3, spread=0.1), rain=True, change=drier)
    found = findings(shell, *WORDS)
    biased = [one["variable"] for one in found if "the mean is biased" in one["text"]]
    assert biased == ["pr"]
    assert levels(found, "the mean is biased") == ["poor"]


def test_members_shuffled_in_time_are_worse_than_the_input(shell: Shell) -> None:
    truth = write_case(DAYS, rain=False)
    order = np.random.default_rng(0).permutation(len(DAYS))
    write_output(members_of(truth, 3)[order])
    found = findings(shell, *WORDS, "--paired")
    assert levels(found, "farther from what happened than bilinear") == ["poor"]


def test_members_that_are_repeated_are_called_so(shell: Shell) -> None:
    truth = write_case(DAYS, rain=False)
    write_output(members_of(truth, 1).repeat(4, axis=1))
    for pairing in ("--paired", "--unpaired"):
        found = findings(shell, *WORDS, pairing)
        assert levels(found, "all 4 members are one and the same field") == ["poor"]


def test_of_a_single_day_nothing_can_be_told(shell: Shell) -> None:
    days = DAYS[:1]
    truth = weather(days)
    write_days("ref.nc", days, truth, lat=LAT, lon=LON)
    write_coarse("gcm.nc", days, truth)
    write_output(members_of(truth, 3), days)
    assert {one["level"] for one in findings(shell, *WORDS)} == {"unknown"}


def test_baselines_are_compared_and_not_judged(shell: Shell) -> None:
    truth = write_case(DAYS, rain=False)
    write_members("base.nc", DAYS, members_of(truth, 1, seed=5, spread=2.0))
    found = findings(shell, *WORDS, "--baseline", "plain=base.nc")
    assert {one["output"] for one in found} == {"out"}
    assert levels(found, "closer to what happened than plain") == ["good"]
    assert not levels(found, "bilinear")


# --- days that the prior has seen


def write_card(prior: Prior, folder: Path, **training: str) -> str:
    """A prior whose card tells other periods; its hash."""
    from climdown.files import file_digest

    folder.mkdir()
    entry = json.loads((prior.folder / "card.json").read_text("utf-8"))
    entry["training"] = {**entry["training"], **training}
    (folder / "card.json").write_text(json.dumps(entry), encoding="utf-8")
    return file_digest(folder / "card.json")


@pytest.mark.parametrize(
    ("periods", "level", "words"),
    [
        ({"train": "1990/2001", "validation": "2050/2051"}, "poor", "was trained"),
        ({"train": "1990/2000", "validation": "2003/2003"}, "fair", "was watched"),
        ({"train": "1990/2000", "validation": "2050/2051"}, "good", "trained on other days"),
        ({"train": "", "validation": ""}, "unknown", "does not say which days"),
    ],
)
def test_days_that_the_prior_has_seen_are_said_in_red(
    shell: Shell, tiny_prior: Prior, periods: dict[str, str], level: str, words: str
) -> None:
    truth = write_case(DAYS, rain=False)
    digest = write_card(tiny_prior, Path("prior"), **periods)
    said = {"climdown_prior": "prior", "climdown_prior_sha256": digest}
    write_output(members_of(truth, 3), attributes=said)
    (found,) = [one for one in findings(shell, *WORDS) if words in one["text"]]
    assert found["level"] == level
    if level == "poor":
        assert found["text"].startswith("90 of the 361 judged days lie in 1990/2001")


@pytest.mark.parametrize(("name", "digest"), [("prior", "0" * 64), ("no-such-prior", "")])
def test_without_the_card_it_cannot_be_told(
    shell: Shell, tiny_prior: Prior, name: str, digest: str
) -> None:
    truth = write_case(DAYS, rain=False)
    write_card(tiny_prior, Path("prior"), train="1990/2000", validation="1990/2000")
    said = {"climdown_prior": name, "climdown_prior_sha256": digest}
    write_output(members_of(truth, 3), attributes=said)
    assert levels(findings(shell, *WORDS), "has seen the judged days cannot be told") == ["unknown"]


def test_another_version_of_the_card_still_warns(shell: Shell, tiny_prior: Prior) -> None:
    truth = write_case(DAYS, rain=False)
    write_card(tiny_prior, Path("prior"), train="1990/2001")
    said = {"climdown_prior": "prior", "climdown_prior_sha256": "0" * 64}
    write_output(members_of(truth, 3), attributes=said)
    found = findings(shell, *WORDS)
    assert levels(found, "has not seen (the card of that name here is another version)") == ["poor"]


@pytest.mark.data
def test_days_of_its_training_are_said_in_red_of_a_bundled_prior(shell: Shell) -> None:
    """Ten days of a winter that the card names, made by `climdown run` itself."""
    folder = shared_data() / "iberia"
    names = ("tas", "pr")
    for name in names:
        path = folder / f"{name}_day_E-OBS_025deg_19901201-19970228.nc"
        with xr.open_dataset(path) as dataset:
            dataset.sel(time=slice("1993-01-01", "1993-01-10")).to_netcdf(f"obs_{name}.nc")
        assert shell("regrid", f"obs_{name}.nc", f"gcm_{name}.nc", "--grid", "1.25").code == 0
    given = [f"gcm_{name}.nc" for name in names]
    made = shell("run", *given, "out.nc", "--method", "cm", "--members", 2)
    assert made.code == 0, made.err
    words = [word for name in names for word in ("--reference", f"obs_{name}.nc")]
    found = findings(shell, "evaluate", "out.nc", *words, "--paired")
    assert levels(found, "10 of the 10 judged days lie in 1990-12-01/1996-02-29") == ["poor"]
