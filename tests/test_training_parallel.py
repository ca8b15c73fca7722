"""Several processes, and parts of batches, end in the weights of one process and the whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from climdown.config import PriorConfig, load_config
from climdown.errors import ConfigError
from climdown.training import LOG, Dataset, Trainer, fit, prepare
from climdown.training.parallel import Team, joined
from tests.training import (
    assert_close_states,
    finish,
    rows_of,
    state_of,
    with_consistency,
    with_training,
    without_dropout,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(training_config: PriorConfig) -> PriorConfig:
    return without_dropout(training_config)


@pytest.fixture(scope="module")
def dataset(config: PriorConfig, training_data: Path) -> Dataset:
    return prepare(config, training_data)


@dataclass(frozen=True)
class Threads(Team):
    """A team of threads in place of processes: they meet to add up."""

    barrier: Barrier = field(default_factory=lambda: Barrier(1))
    told: dict[int, list[Tensor]] = field(default_factory=dict)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        self.told[self.rank] = [tensor.clone() for tensor in tensors]
        self.barrier.wait(60.0)
        sums = [sum(parts) for parts in zip(*self.told.values(), strict=True)]
        self.barrier.wait(60.0)
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(torch.as_tensor(total))


def team_of(size: int, config: PriorConfig, dataset: Dataset) -> list[Trainer]:
    barrier, told = Barrier(size), {}  # type: ignore[var-annotated]
    teams = [Threads(rank, size, barrier, told) for rank in range(size)]
    return [Trainer(config, dataset, CPU, team=team) for team in teams]


@given(size=st.integers(1, 9), count=st.integers(0, 40))
def test_each_place_of_a_batch_lies_with_one_process(size: int, count: int) -> None:
    shares = [Team(rank, size).share(count) for rank in range(size)]
    assert sorted(place for share in shares for place in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [Team(rank, size).leads for rank in range(size)] == [True] + [False] * (size - 1)


def test_alone_there_is_nothing_to_add_up_or_to_wait_for() -> None:
    tensor = torch.ones(3)
    Team().add_up([tensor])
    Team().wait()
    assert torch.equal(tensor, torch.ones(3))


def test_a_batch_is_the_same_whoever_shares_it(config: PriorConfig, dataset: Dataset) -> None:
    config = with_training(config, batch_size=5)
    whole = Trainer(config, dataset, CPU)._read(3)
    for size in (2, 3, 7):
        for rank in range(size):
            part = Trainer(config, dataset, CPU, team=Team(rank, size))._read(3)
            places = Team(rank, size).share(5)
            assert len(part) == len(places)
            for name in ("x0", "valid", "calendar", "uniform", "noise"):
                assert torch.equal(getattr(part, name), getattr(whole, name)[places])


@pytest.mark.parametrize(
    ("size", "batch_size", "recipe"),
    [(2, 4, None), (2, 5, None), (3, 2, None), (2, 3, "improved"), (2, 3, "original")],
    ids=str,
)
def test_a_team_ends_in_the_weights_of_one(
    size: int, batch_size: int, recipe: str | None, config: PriorConfig, dataset: Dataset
) -> None:
    config = with_training(config, batch_size=batch_size)
    if recipe is not None:
        config = with_consistency(config, recipe=recipe)
    alone = Trainer(config, dataset, CPU)
    expected = finish(alone)
    trainers = team_of(size, config, dataset)
    with ThreadPoolExecutor(size) as pool:
        steps = list(pool.map(finish, trainers))
    for trainer, told in zip(trainers, steps, strict=True):
        assert_close_states(state_of(alone), state_of(trainer))
        for one, other in zip(expected, told, strict=True):
            assert other.loss == pytest.approx(one.loss, rel=1e-5)
            assert other.gradient == pytest.approx(one.gradient, rel=1e-4)
    lead, *others = steps
    for one, other in zip(expected, lead, strict=True):
        assert other.validation == pytest.approx(one.validation, rel=1e-4)
    assert all(step.score is None for told in others for step in told)


def test_processes_without_work_are_told_of(
    config: PriorConfig, dataset: Dataset, warned: pytest.LogCaptureFixture
) -> None:
    fit._announce(config, dataset, Team(0, 4))
    assert warned.messages == []
    fit._announce(config, dataset, Team(0, 5))
    assert warned.messages == ["5 processes share batches of 4"]


def test_all_stop_where_one_is_asked_to(config: PriorConfig, dataset: Dataset) -> None:
    trainers = team_of(2, config, dataset)

    def run(trainer: Trainer) -> int:
        asked = iter([False, False, trainer.team.rank == 1, False, False, False])
        return len(list(trainer.run(lambda: next(asked))))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, trainers)) == [3, 3]


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
files = ["tas.nc"]
standard_names = ["air_temperature"]
units = "degC"
[network]
channels = [4, 8]
heads = 2
embedding = 8
dropout = 0.0
[training]
steps = 6
batch_size = 5
validate_every = 3
warmup = 2
"""

# The command line, which keeps the last state in full precision.
PROGRAM = """
from climdown.cli import main
from climdown.training import fit

finish = fit._finish

def keep(trainer, output):
    trainer.save(output / "state.pt")
    finish(trainer, output)

fit._finish = keep
main()
"""


def test_two_processes_end_in_the_weights_of_one(training_data: Path, tmp_path: Path) -> None:
    path, program, output = (tmp_path / name for name in ("tiny.toml", "program.py", "two"))
    path.write_text(TOML, encoding="utf-8")
    program.write_text(PROGRAM, encoding="utf-8")
    # Standing alone, the launcher finds a free port by itself.
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    words = ["train", "diffusion", path, "--data", training_data, "--output", output]
    done = subprocess.run(
        [*launcher, program, *map(str, words), "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    config = load_config(path)
    alone = Trainer(config, prepare(config, training_data), CPU)
    told = finish(alone)
    state: dict[str, Any] = torch.load(output / "state.pt", weights_only=True)
    found = {f"model.{name}": tensor for name, tensor in state["model"].items()}
    found |= {f"average.0.{name}": t for name, t in state["averages"][0].items()}
    expected = {k: v for k, v in state_of(alone).items() if not k.startswith("optimiser")}
    assert_close_states(expected, found)
    rows = rows_of(output / LOG)[1:]
    assert [int(row[0]) for row in rows] == [step.number for step in told]
    for row, step in zip(rows, told, strict=True):
        assert float(row[1]) == pytest.approx(step.loss, rel=2e-5)
        assert float(row[3]) == pytest.approx(step.gradient, rel=1e-3)
    assert float(rows[-1][5]) == pytest.approx(told[-1].score, rel=2e-5)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As if a launcher had started this process as one of two."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    yield monkeypatch
    assert not dist.is_initialized()


def test_no_contact_with_the_others_is_a_clear_error(launched: pytest.MonkeyPatch) -> None:
    message = "cannot join the other training processes .*; start them with torchrun"
    with pytest.raises(ConfigError, match=message), joined(CPU):
        pass


def test_more_processes_than_devices_is_a_clear_error(launched: pytest.MonkeyPatch) -> None:
    launched.setattr(torch.cuda, "device_count", lambda: 1)
    message = "process 1 has no CUDA device of its own, this machine has 1; start one process per"
    with pytest.raises(ConfigError, match=message), joined(torch.device("cuda")):
        pass


def test_alone_the_device_is_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined(CPU) as (team, device):
        assert (team, device) == (Team(0, 1), CPU)
    assert not dist.is_initialized()
