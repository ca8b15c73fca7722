"""Training: it learns, repeats itself exactly, and survives being killed."""

from __future__ import annotations

import dataclasses
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from climdown.arrays import Index
from climdown.config import PriorConfig, load_config
from climdown.diffusion.denoiser import Denoiser
from climdown.errors import ConfigError, OutputError, Requeue, ResumeError
from climdown.priors.card import CARD_FILE, MODEL_FILE, README_FILE
from climdown.training import CHECKPOINT, LOG, Dataset, Step, Trainer, prepare, train_diffusion
from climdown.training.objectives import VALIDATION_SIGMAS
from climdown.training.reader import FieldReader
from climdown.trial import judge_prior
from tests.commands import Shell
from tests.training import advance, assert_same_bits, state_of, with_training
from tests.training_data import rewrite

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(training_config: PriorConfig, training_data: Path) -> Dataset:
    return prepare(training_config, training_data)


def in_half_precision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a prior's file keeps of weights."""
    return {name: tensor.half().float() for name, tensor in state.items()}


class Shifted:
    """Reads other values where there are any."""

    def __init__(self, reader: FieldReader) -> None:
        self.reader = reader

    def read(self, index: Index) -> Any:
        return 1.02 * self.reader.read(index) + 1.0


def test_a_fresh_network_has_the_loss_of_knowing_the_variance_alone(
    training_config: PriorConfig, dataset: Dataset
) -> None:
    trainer = Trainer(training_config, dataset, CPU)
    scores = trainer.scores(trainer.model)
    assert list(scores) == [f"{level:g}" for level in VALIDATION_SIGMAS]
    losses = list(scores.values())
    # Its output is zero, so D = c_skip x, and E[loss] = (sigma^2 E[x^2] + 1) / (sigma^2 + 1).
    x, valid, _ = dataset.validation.take(torch.arange(len(dataset.validation)))
    square = float((x[valid > 0] ** 2).mean())
    sigma = np.array(VALIDATION_SIGMAS)
    expected = (sigma**2 * square + 1) / (sigma**2 + 1)
    np.testing.assert_allclose(losses, expected, atol=0.15)
    np.testing.assert_allclose(losses[-1], expected[-1], rtol=0.01)


def test_training_lowers_the_loss_below_that_of_the_variance_alone(
    training_config: PriorConfig, dataset: Dataset
) -> None:
    config = with_training(
        training_config, steps=80, batch_size=8, learning_rate=5e-3, ema=(0.9,), warmup=5
    )
    trainer = Trainer(config, dataset, CPU)
    before = trainer.scores(trainer.averages[0])
    losses = [step.loss for step in trainer.run()]
    after = trainer.scores(trainer.averages[0])
    assert np.mean(list(after.values())) < 0.9 * np.mean(list(before.values()))
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])
    assert all(math.isfinite(loss) for loss in losses)


def test_training_in_bfloat16_stays_near_training_in_float32(
    training_config: PriorConfig, dataset: Dataset
) -> None:
    full, half = (
        [
            step.loss
            for step in Trainer(
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
    rates = []
    for step in trainer.run():
        assert step.rate == trainer.optimiser.param_groups[0]["lr"]
        rates.append(step.rate)
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
    reader: Any = Shifted(validation.reader)
    shifted = dataclasses.replace(validation, reader=reader)
    states, losses = [], []
    for data in (dataset, dataclasses.replace(dataset, validation=shifted)):
        trainer = Trainer(training_config, data, CPU)
        losses.append([step.validation for step in trainer.run()])
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
    first.save(tmp_path / CHECKPOINT.name)
    advance(first, 1)  # work that the kill throws away
    second = Trainer(training_config, dataset, CPU)
    second.restore(tmp_path / CHECKPOINT.name)
    assert second.step == stop
    told_again += advance(second, 6 - stop)
    assert told_again == told
    assert_same_bits(state_of(second), state_of(whole))
    assert_same_bits(second.best, whole.best)
    assert (second.best_loss, second.best_ema) == (whole.best_loss, whole.best_ema)


def test_a_checkpoint_of_another_configuration_is_refused(
    training_config: PriorConfig, dataset: Dataset, training_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "prior"
    (output / CHECKPOINT).parent.mkdir(parents=True)
    Trainer(training_config, dataset, CPU).save(output / CHECKPOINT)
    other = with_training(training_config, learning_rate=1e-5)
    message = (
        f"{CHECKPOINT.name} belongs to another training configuration or other data; remove it"
    )
    with pytest.raises(ResumeError, match=message):
        train_diffusion(other, data=training_data, output=output)
    assert (output / CHECKPOINT).is_file()
    assert not (output / CARD_FILE).exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half"])
def test_a_damaged_checkpoint_is_named_with_the_remedy(
    content: bytes, training_config: PriorConfig, dataset: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / CHECKPOINT.name
    path.write_bytes(content)
    with pytest.raises(ResumeError, match=f"{path.name} is damaged; remove it"):
        Trainer(training_config, dataset, CPU).restore(path)


def test_a_checkpoint_of_other_data_is_refused(
    training_config: PriorConfig, dataset: Dataset, training_data: Path, tmp_path: Path
) -> None:
    path = tmp_path / CHECKPOINT.name
    Trainer(training_config, dataset, CPU).save(path)
    data = Path(shutil.copytree(training_data, tmp_path / "data"))
    with xr.open_dataset(data / "pr.nc", decode_times=False) as file:
        values = file["pr"].values.copy()
    values[2, 3, 3] *= 1.01  # one value of one training day
    rewrite(data / "pr.nc", "pr", values)
    other = Trainer(training_config, prepare(training_config, data), CPU)
    with pytest.raises(ResumeError, match="other data"):
        other.restore(path)


def test_a_finished_prior_is_not_trained_over(
    training_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    (tmp_path / CARD_FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError, match="holds a finished prior"):
        train_diffusion(training_config, data=training_data, output=tmp_path)


def test_a_diverged_training_says_so(training_config: PriorConfig, dataset: Dataset) -> None:
    trainer = Trainer(training_config, dataset, CPU)
    with torch.no_grad():
        next(trainer.averages[0].parameters()).fill_(float("nan"))
    with pytest.raises(ConfigError, match=r"training diverged .* lower training\.learning_rate"):
        list(trainer.run())


def test_a_failed_save_leaves_the_checkpoint_before_it(
    training_config: PriorConfig,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / CHECKPOINT.name
    trainer = Trainer(training_config, dataset, CPU)
    trainer.save(path)
    content = path.read_bytes()

    def full_disk(state: object, target: IO[bytes]) -> None:
        target.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OutputError, match=r"cannot write .*checkpoint.pt: No space left"):
        trainer.save(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_saves_left_is_removed_and_the_checkpoint_stays(
    training_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    asked = iter([False, False, True])
    with pytest.raises(Requeue):
        train_diffusion(
            training_config, data=training_data, output=tmp_path, should_stop=lambda: next(asked)
        )
    checkpoint = tmp_path / CHECKPOINT
    leftover = checkpoint.with_name(f".{CHECKPOINT.name}.0123456789abcdef.tmp")
    leftover.write_bytes(b"half")
    steps: list[Step] = []
    train_diffusion(training_config, data=training_data, output=tmp_path, progress=steps.append)
    assert steps[0].number == 4
    assert not leftover.exists()


def test_the_prior_has_the_average_of_the_best_validation(
    training_config: PriorConfig,
    training_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    averages: list[dict[str, Tensor]] = []

    def scores(trainer: Trainer, model: Denoiser) -> dict[str, float]:
        averages.append({k: v.clone() for k, v in model.state_dict().items()})
        return {"1": (0.9, 0.5, 0.7, 0.5)[len(averages) - 1]}

    monkeypatch.setattr(Trainer, "scores", scores)
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
    told: list[Step] = []
    prior = train_diffusion(
        training_config, data=training_data, output=output, progress=told.append
    )
    assert sorted(path.name for path in output.iterdir()) == sorted(
        [CARD_FILE, "fields.safetensors", MODEL_FILE, README_FILE, LOG.parent.name]
    )
    assert [path.name for path in (output / LOG.parent).iterdir()] == [LOG.name]
    assert [step.number for step in told] == [1, 2, 3, 4, 5, 6]
    validations = [step.score for step in told if step.score is not None]
    assert [step.number for step in told if step.score is not None] == [2, 4, 6]
    recorded = prior.card.training
    assert recorded["validation_loss"] == round(min(validations), 5)
    by_sigma = recorded["validation_loss_by_sigma"]
    assert list(by_sigma) == [f"{level:g}" for level in VALIDATION_SIGMAS]
    assert np.mean(list(by_sigma.values())) == pytest.approx(min(validations), abs=1e-5)
    assert (recorded["device"], recorded["steps"], recorded["fields"]) == ("cpu", 6, 14)
    readme = (output / README_FILE).read_text(encoding="utf-8")
    for text in ("# tiny", "tas (degC), pr (mm day-1), jointly", "none: synthetic", "made up"):
        assert text in readme


def test_a_kill_after_the_last_step_costs_nothing_but_the_last_writing(
    training_config: PriorConfig, training_data: Path, tmp_path: Path, dataset: Dataset
) -> None:
    trainer = Trainer(training_config, dataset, CPU)
    advance(trainer, 6)
    (tmp_path / CHECKPOINT).parent.mkdir()
    trainer.save(tmp_path / CHECKPOINT)
    told: list[Step] = []
    prior = train_diffusion(
        training_config, data=training_data, output=tmp_path, progress=told.append
    )
    assert told == []
    assert_same_bits(prior.denoiser().state_dict(), in_half_precision(trainer.best))


def test_a_run_that_is_stopped_asks_to_be_called_again_and_goes_on(
    training_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "stopped"
    train_diffusion(training_config, data=training_data, output=whole)
    asked: list[bool] = []

    def should_stop() -> bool:
        asked.append(len(asked) == 2)
        return asked[-1]

    message = "stopped by a signal after 3 of 6 steps; the same command goes on from there"
    with pytest.raises(Requeue, match=message):
        train_diffusion(training_config, data=training_data, output=output, should_stop=should_stop)
    assert (output / CHECKPOINT).is_file()
    assert not (output / CARD_FILE).exists()
    told: list[Step] = []
    train_diffusion(training_config, data=training_data, output=output, progress=told.append)
    assert [step.number for step in told] == [4, 5, 6]
    for name in (MODEL_FILE, "fields.safetensors", CARD_FILE):
        assert (output / name).read_bytes() == (whole / name).read_bytes()


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


@pytest.fixture(scope="module")
def whole(training_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file, and beside it the prior of an uninterrupted run, judged."""
    folder = tmp_path_factory.mktemp("commands")
    path = folder / "tiny.toml"
    path.write_text(TOML, encoding="utf-8")
    config = load_config(path)
    train_diffusion(config, data=training_data, output=folder / "whole")
    judge_prior(folder / "whole", config, training_data, device="cpu")
    return path


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_a_stopped_command_given_again_ends_in_the_same_bytes(
    number: signal.Signals, shell: Shell, whole: Path, training_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "stopped"
    arguments = (whole, "--data", training_data, "--output", output, "--device", "cpu")
    words = ["train", "diffusion", *map(str, arguments)]
    command = [sys.executable, "-m", "climdown", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (output / CHECKPOINT).is_file():
            time.sleep(0.005)
        process.send_signal(number)
        _, told = process.communicate()
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 75, told
        assert "the same command goes on from there" in told.splitlines()[-1]
        assert "Traceback" not in told
    assert (output / CHECKPOINT).is_file()
    assert not (output / MODEL_FILE).exists()
    again = shell(*words)
    assert again.code == 0, again.err
    assert "resuming at step" in again.err
    for name in (MODEL_FILE, "fields.safetensors", CARD_FILE):
        assert (output / name).read_bytes() == (whole.parent / "whole" / name).read_bytes()
    assert not (output / CHECKPOINT).exists()
