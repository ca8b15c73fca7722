"""Training: it learns, repeats itself exactly, and survives being killed."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from climdown import training
from climdown.config import PriorConfig, load_config
from climdown.errors import ConfigError, OutputError, ResumeError
from climdown.priors.card import CARD_FILE, MODEL_FILE, README_FILE
from climdown.training import Dataset, Trainer, prepare, train_diffusion

CPU = torch.device("cpu")
CHECKPOINT = "checkpoint.pt"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(training_config: PriorConfig, training_data: Path) -> Dataset:
    return prepare(training_config, training_data)


def with_training(config: PriorConfig, **changes: Any) -> PriorConfig:
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **changes))


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    """Weights, their average and the optimiser's moments."""
    state = {f"model.{k}": v for k, v in trainer.model.state_dict().items()}
    state |= {f"average.{k}": v for k, v in trainer.average.state_dict().items()}
    for number, moments in trainer.optimiser.state_dict()["state"].items():
        state |= {f"optimiser.{number}.{k}": v for k, v in moments.items()}
    return {k: v.clone() for k, v in state.items()}


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [k for k in one if not torch.equal(one[k], other[k])] == []


def in_half_precision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a prior's file keeps of weights."""
    return {name: tensor.half().float() for name, tensor in state.items()}


def advance(trainer: Trainer, steps: int) -> list[tuple[int, float, float | None]]:
    run = trainer.run()
    return [next(run) for _ in range(steps)]


def test_a_fresh_network_has_the_loss_of_knowing_the_variance_alone(
    training_config: PriorConfig, dataset: Dataset
) -> None:
    losses = Trainer(training_config, dataset, CPU).validation_losses()
    # Its output is zero, so D = c_skip x, and E[loss] = (sigma^2 E[x^2] + 1) / (sigma^2 + 1).
    valid = dataset.validation.valid > 0
    square = float((dataset.validation.x[valid] ** 2).mean())
    sigma = np.array(training._VALIDATION_SIGMAS)
    expected = (sigma**2 * square + 1) / (sigma**2 + 1)
    np.testing.assert_allclose(losses, expected, atol=0.15)
    np.testing.assert_allclose(losses[-1], expected[-1], rtol=0.01)


def test_training_lowers_the_loss_below_that_of_the_variance_alone(
    training_config: PriorConfig, dataset: Dataset
) -> None:
    config = with_training(
        training_config, steps=80, batch_size=8, learning_rate=5e-3, ema=0.9, warmup=5
    )
    trainer = Trainer(config, dataset, CPU)
    before = trainer.validation_losses()
    losses = [loss for _, loss, _ in trainer.run()]
    after = trainer.validation_losses()
    assert np.mean(after) < 0.9 * np.mean(before)
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])
    assert all(math.isfinite(loss) for loss in losses)


def test_training_in_bfloat16_stays_near_training_in_float32(
    training_config: PriorConfig, dataset: Dataset
) -> None:
    full, half = (
        [
            loss
            for _, loss, _ in Trainer(
                with_training(training_config, precision=precision), dataset, CPU
            ).run()
        ]
        for precision in ("fp32", "bf16")
    )
    assert full != half
    np.testing.assert_allclose(half, full, rtol=0.05)


def test_the_learning_rate_warms_up_and_then_falls_to_nothing(
    training_config: PriorConfig, dataset: Dataset
) -> None:
    config = with_training(training_config, steps=20, warmup=4, batch_size=1, validate_every=20)
    trainer = Trainer(config, dataset, CPU)
    rates = [trainer.optimiser.param_groups[0]["lr"] for _ in trainer.run()]
    peak = config.training.learning_rate
    assert rates[0] == pytest.approx(peak / 4)
    assert rates[:4] == sorted(rates[:4])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(peak * 0.5 * (1 + math.cos(math.pi * 19 / 20)))


def test_weights_do_not_depend_on_global_random_state_nor_change_it(
    training_config: PriorConfig, dataset: Dataset
) -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        trainer = Trainer(training_config, dataset, CPU)
        advance(trainer, 3)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(state_of(trainer))
    assert_same_bits(*states)


def test_another_seed_gives_other_weights(training_config: PriorConfig, dataset: Dataset) -> None:
    one, other = (
        Trainer(with_training(training_config, seed=seed), dataset, CPU) for seed in (3, 4)
    )
    fresh = [trainer.model.network.state_dict()["conv_in.conv.weight"] for trainer in (one, other)]
    assert not torch.equal(*fresh)


def test_validation_days_never_reach_the_weights(
    training_config: PriorConfig, dataset: Dataset
) -> None:
    validation = dataset.validation
    shifted = dataclasses.replace(validation, x=5.0 * validation.x + validation.valid)
    states, losses = [], []
    for data in (dataset, dataclasses.replace(dataset, validation=shifted)):
        trainer = Trainer(training_config, data, CPU)
        losses.append([validation for _, _, validation in trainer.run()])
        states.append(state_of(trainer))
    assert_same_bits(*states)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("stop", [1, 4])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    stop: int, training_config: PriorConfig, dataset: Dataset, tmp_path: Path
) -> None:
    whole = Trainer(training_config, dataset, CPU)
    told = advance(whole, 6)
    first = Trainer(training_config, dataset, CPU)
    told_again = advance(first, stop)
    first.save(tmp_path / CHECKPOINT)
    advance(first, 1)  # work that the kill throws away
    second = Trainer(training_config, dataset, CPU)
    second.restore(tmp_path / CHECKPOINT)
    assert second.step == stop
    told_again += advance(second, 6 - stop)
    assert told_again == told
    assert_same_bits(state_of(second), state_of(whole))
    assert_same_bits(second.best, whole.best)
    assert second.best_loss == whole.best_loss


def test_a_checkpoint_of_another_configuration_is_refused(
    training_config: PriorConfig, dataset: Dataset, training_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "prior"
    output.mkdir()
    Trainer(training_config, dataset, CPU).save(output / CHECKPOINT)
    other = with_training(training_config, learning_rate=1e-5)
    message = f"{CHECKPOINT} belongs to another training configuration or other data; remove it"
    with pytest.raises(ResumeError, match=message):
        train_diffusion(other, data=training_data, output=output)
    assert (output / CHECKPOINT).is_file()
    assert not (output / CARD_FILE).exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half"])
def test_a_damaged_checkpoint_is_named_with_the_remedy(
    content: bytes, training_config: PriorConfig, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(ResumeError, match=f"{CHECKPOINT} is damaged; remove it"):
        Trainer(training_config, dataset, CPU).restore(tmp_path / CHECKPOINT)


def test_a_checkpoint_of_other_data_is_refused(
    training_config: PriorConfig, dataset: Dataset, tmp_path: Path
) -> None:
    Trainer(training_config, dataset, CPU).save(tmp_path / CHECKPOINT)
    train = dataclasses.replace(dataset.train, x=dataset.train.x + 1.0)
    other = Trainer(training_config, dataclasses.replace(dataset, train=train), CPU)
    with pytest.raises(ResumeError, match="other data"):
        other.restore(tmp_path / CHECKPOINT)


def test_a_finished_prior_is_not_trained_over(
    training_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    (tmp_path / CARD_FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError, match="holds a finished prior"):
        train_diffusion(training_config, data=training_data, output=tmp_path)


def test_a_diverged_training_says_so(training_config: PriorConfig, dataset: Dataset) -> None:
    trainer = Trainer(training_config, dataset, CPU)
    with torch.no_grad():
        next(trainer.average.parameters()).fill_(float("nan"))
    with pytest.raises(ConfigError, match=r"training diverged .* lower training\.learning_rate"):
        list(trainer.run())


def test_a_failed_save_leaves_the_checkpoint_before_it(
    training_config: PriorConfig,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / CHECKPOINT
    trainer = Trainer(training_config, dataset, CPU)
    trainer.save(path)
    content = path.read_bytes()

    def full_disk(state: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        trainer.save(path)
    assert path.read_bytes() == content


def test_the_prior_has_the_average_of_the_best_validation(
    training_config: PriorConfig,
    training_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    averages: list[dict[str, Tensor]] = []

    def losses(trainer: Trainer) -> list[float]:
        averages.append({k: v.clone() for k, v in trainer.average.state_dict().items()})
        return [(0.9, 0.5, 0.7, 0.5)[len(averages) - 1]] * 9

    monkeypatch.setattr(Trainer, "validation_losses", losses)
    prior = train_diffusion(training_config, data=training_data, output=tmp_path)
    weights = prior.denoiser().state_dict()
    assert_same_bits(weights, in_half_precision(averages[1]))
    assert_same_bits(
        weights, in_half_precision(averages[3])
    )  # what the losses by noise level describe
    name = "network.conv_in.conv.bias"
    assert not torch.equal(averages[1][name], averages[2][name])
    assert prior.card.training["validation_loss"] == 0.5


def test_a_finished_training_leaves_a_prior_and_no_checkpoint(
    training_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "deep" / "prior"
    told: list[tuple[int, float | None]] = []
    prior = train_diffusion(
        training_config,
        data=training_data,
        output=output,
        progress=lambda step, loss, validation: told.append((step, validation)),
    )
    assert sorted(path.name for path in output.iterdir()) == sorted(
        [CARD_FILE, "fields.safetensors", MODEL_FILE, README_FILE]
    )
    assert [step for step, _ in told] == [1, 2, 3, 4, 5, 6]
    validations = [validation for _, validation in told if validation is not None]
    assert [step for step, validation in told if validation is not None] == [2, 4, 6]
    recorded = prior.card.training
    assert recorded["validation_loss"] == round(min(validations), 5)
    assert len(recorded["validation_loss_by_sigma"]) == 9
    assert (recorded["device"], recorded["steps"], recorded["fields"]) == ("cpu", 6, 14)
    readme = (output / README_FILE).read_text(encoding="utf-8")
    for text in ("# tiny", "tas (degC), pr (mm day-1), jointly", "none: synthetic", "made up"):
        assert text in readme


def test_a_kill_after_the_last_step_costs_nothing_but_the_last_writing(
    training_config: PriorConfig, training_data: Path, tmp_path: Path, dataset: Dataset
) -> None:
    trainer = Trainer(training_config, dataset, CPU)
    advance(trainer, 6)
    trainer.save(tmp_path / CHECKPOINT)
    told: list[int] = []
    prior = train_diffusion(
        training_config,
        data=training_data,
        output=tmp_path,
        progress=lambda step, loss, validation: told.append(step),
    )
    assert told == []
    assert_same_bits(prior.denoiser().state_dict(), in_half_precision(trainer.best))


TOML = """
name = "tiny"
title = "A prior for tests"
[data]
train = "2001-01-01/2001-01-14"
validation = "2001-01-15/2001-01-20"
orography = "static.nc"
coarse_factor = 2
[[data.variables]]
name = "tas"
files = ["t*.nc"]
standard_names = ["air_temperature"]
units = "degC"
[network]
channels = [4, 8]
heads = 2
embedding = 8
dropout = 0.1
[training]
steps = 100
batch_size = 2
validate_every = 50
checkpoint_every = 5
"""


def command(config: Path, data: Path, output: Path) -> Sequence[str]:
    words = ["train", "diffusion", config, "--data", data, "--output", output, "--device", "cpu"]
    return [sys.executable, "-m", "climdown", *map(str, words)]


def test_a_killed_command_given_again_ends_in_the_same_bytes(
    training_data: Path, tmp_path: Path
) -> None:
    path, output, whole = tmp_path / "tiny.toml", tmp_path / "killed", tmp_path / "whole"
    path.write_text(TOML, encoding="utf-8")
    train_diffusion(load_config(path), data=training_data, output=whole)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = command(path, training_data, output)
    with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (output / CHECKPOINT).is_file():
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (output / CHECKPOINT).is_file()
    assert not (output / MODEL_FILE).exists()
    again = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "resuming at step" in again.stderr
    for name in (MODEL_FILE, "fields.safetensors", CARD_FILE):
        assert (output / name).read_bytes() == (whole / name).read_bytes()
    assert not (output / CHECKPOINT).exists()
