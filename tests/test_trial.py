"""A prior is judged on its validation days, and what is no better than interpolation is told."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climdown import regrid
from climdown.config import PriorConfig
from climdown.errors import ConfigError
from climdown.methods.registry import plain_baselines
from climdown.priors.card import CARD_FILE, README_FILE, Card, read_card
from climdown.priors.prior import Prior
from climdown.priors.skill import ENTRY, Skill, skill_of, skill_table, weaknesses
from climdown.training.data import validation_days
from climdown.trial import judge_prior, with_section
from tests.commands import Shell
from tests.training import with_data

GOOD = Skill(0.1, {"delta": 0.3, "bilinear": 0.9}, "K", days=30, members=8, factor=5)
POOR = dataclasses.replace(GOOD, crps=0.4)


def card_with(card: Card, entries: Any) -> Card:
    return dataclasses.replace(card, training={**card.training, ENTRY: entries})


@pytest.fixture(scope="module")
def judged(
    trained: Prior,
    training_config: PriorConfig,
    training_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Prior:
    """The prior of six steps, which has learnt nothing, judged."""
    folder = tmp_path_factory.mktemp("judged") / "tiny"
    shutil.copytree(trained.folder, folder)
    return judge_prior(folder, training_config, training_data, device="cpu", members=3)


def test_a_skill_survives_the_card() -> None:
    entries = {"tas": GOOD.to_dict(), "pr": POOR.to_dict()}
    assert skill_of(card_with(read_bundled(), entries)) == {"tas": GOOD, "pr": POOR}


def read_bundled() -> Card:
    from climdown.priors.store import find_prior

    return read_card(find_prior("eobs-iberia-cm"))


def test_what_baselines_do_as_well_is_named_with_both_numbers() -> None:
    card = card_with(read_bundled(), {"tas": GOOD.to_dict(), "pr": POOR.to_dict()})
    (line,) = weaknesses(card)
    assert "no better than delta for pr" in line
    assert "CRPS 0.4 against 0.3 K" in line
    assert weaknesses(card, ["tas"]) == []


@pytest.mark.parametrize(
    "entries",
    [
        None,
        "good",
        {"tas": 3},
        {"tas": {**GOOD.to_dict(), "crps": "nan"}},
        {"tas": {**GOOD.to_dict(), "baselines": {}}},
        {"tas": {**GOOD.to_dict(), "baselines": {"delta": [1]}}},
        {"tas": {**GOOD.to_dict(), "days": 1e400}},
    ],
)
def test_what_a_card_from_anywhere_says_is_not_trusted(entries: Any) -> None:
    card = card_with(read_bundled(), entries)
    assert skill_of(card) == {}
    assert weaknesses(card) == []
    assert skill_table(card) == ""


def test_baselines_have_the_errors_that_numpy_finds(
    judged: Prior, training_config: PriorConfig, training_data: Path
) -> None:
    axis, truth = validation_days(training_config, training_data, 30)
    assert len(axis) == 6
    card = judged.card
    fine, coarse = card.grid, card.coarse_grid
    for i, name in enumerate(("tas", "pr")):
        target = np.where(judged.mask[i], truth[name], np.nan).astype(np.float64)
        means = regrid.weights(fine, coarse, "conservative").apply(target)
        raised = regrid.weights(coarse, fine, "bilinear").apply(means)
        error = np.abs(raised - target)
        weights = np.where(np.isfinite(error), fine.areas, 0.0)
        expected = np.nansum(error * weights) / weights.sum()
        assert skill_of(card)[name].baselines["bilinear"] == pytest.approx(expected, rel=2e-4)


def test_the_card_the_readme_and_the_commands_tell_it(
    judged: Prior, training_data: Path, shell: Shell
) -> None:
    found = skill_of(judged.card)
    assert set(found) == {"tas", "pr"}
    for one in found.values():
        assert tuple(one.baselines) == plain_baselines()
        assert (one.days, one.members, one.factor) == (6, 3, 2)
        assert one.crps > 0
    lines = weaknesses(judged.card)
    assert lines, "six steps teach nothing"
    assert skill_table(judged.card) in (judged.folder / README_FILE).read_text(encoding="utf-8")
    for words in (("verify", judged.folder), ("show", judged.folder)):
        result = shell("priors", *words)
        assert result.code == 0, result.err
    assert "CRPS of tas" in result.out
    for line in lines:
        assert line in shell("priors", "verify", judged.folder).err


def test_run_says_again_what_training_said(
    judged: Prior, training_data: Path, shell: Shell
) -> None:
    words = ("run", training_data / "tas.nc", "out.nc", "--prior", judged.folder, "--members", 2)
    result = shell(*words, "--steps", 2, "--bias", "none", "--time", "2001-01-15/2001-01-16")
    assert result.code == 0, result.err
    told = [line for line in weaknesses(judged.card, ["tas"]) if line in result.err]
    assert told == weaknesses(judged.card, ["tas"])
    assert " for pr " not in result.err, "pr is not among the input"
    plain = shell("run", "--method", "bilinear", *words[1:3], "--prior", judged.folder,
                  "--overwrite", "--time", "2001-01-15/2001-01-16")  # fmt: skip
    assert plain.code == 0, plain.err
    assert "no better than" not in plain.err


def test_the_configuration_must_be_that_of_the_prior(
    judged: Prior, training_config: PriorConfig, training_data: Path
) -> None:
    other = with_data(training_config, validation="2001-01-15/2001-01-18")
    with pytest.raises(ConfigError, match=r"validated on 2001-01-15/2001-01-18; .* holds tiny"):
        judge_prior(judged.folder, other, training_data)


def test_a_card_that_names_no_validation_is_not_that_of_the_configuration(
    judged: Prior, training_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "silent"
    shutil.copytree(judged.folder, folder)
    entries = {k: v for k, v in judged.card.training.items() if k != "validation"}
    silent = dataclasses.replace(judged.card, training=entries)
    (folder / CARD_FILE).write_text(silent.to_json(), encoding="utf-8")
    with pytest.raises(ConfigError, match="holds tiny, validated on None: give the configuration"):
        judge_prior(folder, training_config, training_data)


def test_days_are_stretches_of_consecutive_ones() -> None:
    from climdown.training.data import _stretches

    assert _stretches(6, 30).tolist() == list(range(6))
    chosen = _stretches(90, 30)
    assert len(chosen) == 30
    assert (chosen[0], chosen[-1]) == (0, 89)
    assert (np.diff(chosen) == 1).sum() == 24, "six stretches of five days"


def test_a_readme_keeps_all_that_others_wrote() -> None:
    plain = "# mine\n\nWords of mine.\n"
    first = with_section(plain, "table 1")
    assert first == f"{plain}\n## On days that it was kept from\n\ntable 1\n"
    assert with_section(first, "table 2") == first.replace("table 1", "table 2")
    longer = "# mine\n\nWords.\n\n## Use\n\nAs you like.\n"
    second = with_section(longer, "table 1")
    assert second.startswith("# mine\n\nWords.\n\n## On days")
    assert second.endswith("table 1\n\n## Use\n\nAs you like.\n")
    assert with_section(second, "table 1") == second
