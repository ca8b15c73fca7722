"""Consistency training: each recipe learns, tuning starts from what fits, and no other."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from climdown.config import NetworkConfig, PriorConfig
from climdown.diffusion.consistency import Original
from climdown.errors import ConfigError, InputError, PriorError
from climdown.grid import Grid
from climdown.priors.build import build_denoiser
from climdown.priors.card import Card
from climdown.priors.prior import Prior, read_prior, write_prior
from climdown.training import Dataset, Trainer, prepare, train_consistency, train_diffusion, trainer
from climdown.training.objectives import Consistency
from tests.commands import Shell
from tests.factories import Floats, make_dataset
from tests.training import (
    advance,
    assert_same_bits,
    state_of,
    with_consistency,
    with_data,
    with_training,
    without_dropout,
)
from tests.training_data import write_statics

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def gaussian_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred days of 4 x 6 cells that vary together, and each a little for itself."""
    folder = tmp_path_factory.mktemp("gaussian")
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(300, 1, 1)) + 0.5 * rng.normal(size=(300, 4, 6))
    lat: Any = 40.125 + 0.25 * np.arange(4)
    lon: Any = -2.875 + 0.25 * np.arange(6)

    def values(lat: Floats, lon: Floats, step: int) -> Floats:
        return np.asarray(280.0 + (lat - 40.0) + 0.1 * lon + noise[step])

    times = [day + 0.5 for day in range(300)]
    make_dataset(path=folder / "tas.nc", lat=lat, lon=lon, times=times, values=values)
    write_statics(folder / "static.nc", lat=lat, lon=lon)
    return folder


@pytest.fixture(scope="module")
def gaussian_config(training_config: PriorConfig) -> PriorConfig:
    """A network without dropout and some seconds of training."""
    config = with_data(
        without_dropout(training_config),
        variables=training_config.data.variables[:1],
        train="2001-01-01/2001-07-31",
        validation="2001-08-01/2001-10-27",
    )
    config = dataclasses.replace(
        config, network=NetworkConfig(channels=(8,), heads=1, embedding=16, dropout=0.0)
    )
    return with_training(
        config,
        steps=150,
        batch_size=16,
        learning_rate=4e-3,
        warmup=5,
        ema=(0.9,),
        validate_every=50,
        sample_every=0,
        checkpoint_every=1000,
    )


@pytest.fixture(scope="module")
def teacher(
    gaussian_config: PriorConfig, gaussian_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Prior:
    """A diffusion prior to tune."""
    output = tmp_path_factory.mktemp("teacher") / "prior"
    return train_diffusion(gaussian_config, data=gaussian_data, output=output)


@pytest.mark.parametrize("recipe", ["tuned", "improved", "original"])
def test_each_recipe_brings_one_step_samples_nearer_to_the_data(
    recipe: str,
    gaussian_config: PriorConfig,
    gaussian_data: Path,
    teacher: Prior,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if recipe == "original":
        # From level to level takes an average's time: 150 of them are not for a test.
        few = Consistency(Original(last=10), 80.0)
        monkeypatch.setattr(trainer, "make_objective", lambda _: few)
    config = with_consistency(gaussian_config, recipe=recipe, initial=str(teacher.folder), stages=4)
    prior = train_consistency(config, data=gaussian_data, output=tmp_path)
    recorded = prior.card.training
    dataset = prepare(config, gaussian_data)
    fresh = Trainer(config, dataset, CPU)
    before = np.mean(list(fresh.scores(fresh.model).values()))
    assert recorded["validation_loss"] < 0.5 * before
    assert list(recorded["validation_loss_by_sigma"]) == ["0.5", "2", "80"]
    assert recorded["recipe"] == recipe
    # The prior is a consistency function when it is read again.
    card = read_prior(tmp_path).card
    assert (card.kind, card.sigma_min) == ("consistency", 0.002)
    denoiser = prior.denoiser()
    assert denoiser.sigma_min == 0.002
    x = torch.randn(2, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(denoiser(x, torch.full((2,), 0.002), torch.ones(2, 3)), x)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Consistency prior of tas (degC)" in readme
    assert "Energy distance of one-step samples" in readme


@pytest.mark.parametrize("recipe", ["improved", "original"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    recipe: str, training_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    config = with_consistency(training_config, recipe=recipe)
    dataset = prepare(config, training_data)
    whole = Trainer(config, dataset, CPU)
    told = advance(whole, 5)
    assert (whole.teacher is not None) == (recipe == "original")
    first = Trainer(config, dataset, CPU)
    told_again = advance(first, 3)
    first.save(tmp_path / "checkpoint.pt")
    second = Trainer(config, dataset, CPU)
    second.restore(tmp_path / "checkpoint.pt")
    assert told_again + advance(second, 2) == told
    assert_same_bits(state_of(second), state_of(whole))


def test_the_teacher_is_the_average_that_the_original_recipe_says(
    training_config: PriorConfig, training_data: Path
) -> None:
    config = with_consistency(training_config, recipe="original")
    student = Trainer(config, prepare(config, training_data), CPU)
    assert student.teacher is not None
    name = "network.conv_in.conv.weight"
    expected = student.model.state_dict()[name].clone()
    run = student.run()
    for step in range(3):
        kept = student.objective.teacher_decay(step / config.training.steps)
        next(run)
        expected = kept * expected + (1.0 - kept) * student.model.state_dict()[name]
        torch.testing.assert_close(student.teacher.state_dict()[name], expected)
    assert not torch.equal(expected, student.model.state_dict()[name])


@pytest.fixture(scope="module")
def tiny_config(training_config: PriorConfig) -> PriorConfig:
    return with_training(training_config, steps=1, sample_every=0)


@pytest.fixture(scope="module")
def tiny_dataset(tiny_config: PriorConfig, training_data: Path) -> Dataset:
    return prepare(tiny_config, training_data)


def write_initial(folder: Path, dataset: Dataset, **changes: Any) -> Prior:
    """A diffusion prior with fresh weights, trained on nothing, its card changed."""
    card = dataclasses.replace(dataset.card, **changes)
    torch.manual_seed(7)
    weights = build_denoiser(card, dataset.fields).state_dict()
    return write_prior(folder, card, weights, dataset.fields, "# initial\n")


def test_tuning_starts_from_the_weights_it_is_given(
    tiny_config: PriorConfig, training_data: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    initial = write_initial(tmp_path / "initial", tiny_dataset)
    # Nothing is learnt: what is written is what was there.
    config = with_training(tiny_config, learning_rate=0.0, weight_decay=0.0)
    config = with_consistency(config, recipe="tuned", initial=str(initial.folder))
    prior = train_consistency(config, data=training_data, output=tmp_path / "tuned")
    found, given = prior.denoiser().state_dict(), initial.denoiser().state_dict()
    assert_same_bits(found, {name: tensor.half().float() for name, tensor in given.items()})


def test_an_initial_prior_may_lie_below_the_data_folder(
    tiny_config: PriorConfig, training_data: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in training_data.iterdir():
        (data / path.name).symlink_to(path)
    write_initial(data / "priors" / "zssd", tiny_dataset)
    config = with_consistency(tiny_config, recipe="tuned", initial="priors/zssd")
    prior = train_consistency(config, data=data, output=tmp_path / "tuned")
    assert prior.card.training["initial"] == "priors/zssd"


def other_variables(card: Card) -> dict[str, Any]:
    first, second = card.variables
    return {"variables": (dataclasses.replace(first, units="K"), second)}


def other_grid(card: Card) -> dict[str, Any]:
    grid = card.grid
    moved = Grid(grid.lat + 0.5, grid.lon, grid.lat_edges + 0.5, grid.lon_edges)
    return {"grid": moved}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("variables", other_variables),
        ("grid", other_grid),
        (
            "network",
            lambda card: {"network": dataclasses.replace(card.network, channels=(4, 16))},
        ),
        ("statics", lambda card: {"statics": card.statics[::-1]}),
        ("sigma_data", lambda card: {"sigma_data": 0.5}),
    ],
)
def test_an_initial_prior_of_something_else_is_refused(
    name: str,
    changes: Callable[[Card], dict[str, Any]],
    tiny_config: PriorConfig,
    training_data: Path,
    tiny_dataset: Dataset,
    tmp_path: Path,
) -> None:
    initial = write_initial(tmp_path / "initial", tiny_dataset, **changes(tiny_dataset.card))
    config = with_consistency(tiny_config, recipe="tuned", initial=str(initial.folder))
    message = (
        f"consistency.initial {initial.folder} has other {name} than this configuration and its "
        "data; the two must be trained on the same"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        train_consistency(config, data=training_data, output=tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()


def test_an_initial_prior_must_be_one_of_diffusion(
    tiny_config: PriorConfig, training_data: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    initial = write_initial(tmp_path / "initial", tiny_dataset, kind="consistency", sigma_min=0.002)
    config = with_consistency(tiny_config, recipe="tuned", initial=str(initial.folder))
    with pytest.raises(ConfigError, match=r"initial is a consistency prior; expected one of dif"):
        train_consistency(config, data=training_data, output=tmp_path / "tuned")


def test_an_initial_prior_nobody_knows_is_refused(
    tiny_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    config = with_consistency(tiny_config, recipe="tuned", initial="no-such-prior")
    with pytest.raises(PriorError, match="no-such-prior"):
        train_consistency(config, data=training_data, output=tmp_path / "tuned")


def test_one_validation_field_cannot_be_compared(
    tiny_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    config = with_data(tiny_config, validation="2001-01-20/2001-01-20")
    message = "found 1 in 2001-01-20/2001-01-20, need at least 2"
    with pytest.raises(InputError, match=message):
        train_consistency(with_consistency(config), data=training_data, output=tmp_path)
    train_diffusion(config, data=training_data, output=tmp_path / "diffusion")


def test_each_command_wants_its_own_kind_of_configuration(
    tiny_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    message = r"tiny has a section \[consistency\]; train it with `climdown train consistency`"
    with pytest.raises(ConfigError, match=message):
        train_diffusion(with_consistency(tiny_config), data=training_data, output=tmp_path)
    message = r"tiny has no section \[consistency\]; train it with `climdown train diffusion`"
    with pytest.raises(ConfigError, match=message):
        train_consistency(tiny_config, data=training_data, output=tmp_path)


TOML = """
name = "tiny"
title = "A prior for tests"
[data]
train = "2001-01-01/2001-01-14"
validation = "2001-01-15/2001-01-20"
orography = "static.nc"
coarse_factor = 2
files = ["tas.nc", "pr.nc"]
[[data.variables]]
name = "tas"
standard_names = ["air_temperature"]
units = "degC"
[network]
channels = [4, 8]
heads = 2
embedding = 8
[training]
steps = 300
batch_size = 2
validate_every = 1
"""


def test_the_command_line_says_which_command_to_use(shell: Shell, training_data: Path) -> None:
    Path("plain.toml").write_text(TOML, encoding="utf-8")
    result = shell("train", "consistency", "plain.toml", "--data", training_data)
    assert result.code == 2
    assert "no section [consistency]" in result.message
    result = shell(
        *("train", "diffusion", "plain.toml", "--data", training_data),
        *("--set", "consistency.recipe=improved"),
    )
    assert result.code == 2
    assert "has a section [consistency]" in result.message
    assert not Path("tiny").exists()


def test_the_command_line_trains_with_entries_set(shell: Shell, training_data: Path) -> None:
    Path("plain.toml").write_text(TOML, encoding="utf-8")
    result = shell(
        *("train", "consistency", "plain.toml", "--data", training_data, "--device", "cpu"),
        *("--set", "consistency.recipe=improved", "--set", "training.steps=2"),
        *("--set", "training.ema=[0.5, 0.9]", "--set", "name=other"),
    )
    assert result.code == 0, result.err
    assert result.out.strip() == "other"
    prior = read_prior(Path("other"))
    assert (prior.card.name, prior.card.kind) == ("other", "consistency")
    assert prior.card.training["steps"] == 2
    assert prior.card.training["ema"] in (0.5, 0.9)
    result = shell(
        *("train", "consistency", "plain.toml", "--set", "training.steps=many"),
        *("--data", training_data),
    )
    assert result.code == 2
    assert "entry 'training.steps' is 'many'; expected int" in result.message
