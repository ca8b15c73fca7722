"""What tests of training share: changed configurations, and the state of a trainer."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from climdown.config import ConsistencyConfig, PriorConfig
from climdown.training import Step, Trainer


def with_training(config: PriorConfig, **changes: Any) -> PriorConfig:
    """Another `[training]`."""
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **changes))


def with_data(config: PriorConfig, **changes: Any) -> PriorConfig:
    """Another `[data]`."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))


def without_dropout(config: PriorConfig) -> PriorConfig:
    """Training whose only randomness lies in the batches."""
    return dataclasses.replace(config, network=dataclasses.replace(config.network, dropout=0.0))


def with_consistency(config: PriorConfig, **settings: Any) -> PriorConfig:
    """The same as a consistency prior, from scratch unless told otherwise."""
    settings = {"recipe": "improved", **settings}
    return dataclasses.replace(config, consistency=ConsistencyConfig(**settings))


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    """Weights, their averages, the teacher and the optimiser's moments."""
    state = {f"model.{k}": v for k, v in trainer.model.state_dict().items()}
    for number, average in enumerate(trainer.averages):
        state |= {f"average.{number}.{k}": v for k, v in average.state_dict().items()}
    if trainer.teacher is not None:
        state |= {f"teacher.{k}": v for k, v in trainer.teacher.state_dict().items()}
    for number, moments in trainer.optimiser.state_dict()["state"].items():
        state |= {f"optimiser.{number}.{k}": v for k, v in moments.items()}
    return {k: v.clone() for k, v in state.items()}


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Two states are equal to the last bit."""
    assert one.keys() == other.keys()
    assert [k for k in one if not torch.equal(one[k], other[k])] == []


def advance(trainer: Trainer, steps: int) -> list[Step]:
    """Do some steps; what they told."""
    run = trainer.run()
    return [next(run) for _ in range(steps)]


def assert_close_states(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Each tensor to 1e-5 of its size; Adam blows up gradients that are nothing but rounding."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        if name.startswith("optimiser"):
            continue
        apart = float((tensor - other[name]).norm())
        assert apart <= 1e-5 * float(tensor.norm()) + 1e-6, name


def finish(trainer: Trainer) -> list[Step]:
    return list(trainer.run())


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))
