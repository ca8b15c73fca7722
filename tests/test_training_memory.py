"""Batches in parts: the same weights, also where memory ends in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from climdown.config import PriorConfig
from climdown.errors import ConfigError
from climdown.training import Dataset, Trainer, prepare
from tests.training import (
    assert_close_states,
    finish,
    state_of,
    with_consistency,
    with_training,
    without_dropout,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(training_config: PriorConfig) -> PriorConfig:
    return with_training(without_dropout(training_config), batch_size=8, steps=4)


@pytest.fixture(scope="module")
def dataset(config: PriorConfig, training_data: Path) -> Dataset:
    return prepare(config, training_data)


def limit_memory(trainer: Trainer, fields: int) -> list[int]:
    """Memory ends where the network gets more fields than these; the sizes it was given."""
    sizes: list[int] = []

    def check(_: Any, arguments: tuple[Any, ...]) -> None:
        sizes.append(len(arguments[0]))
        if len(arguments[0]) > fields:
            raise torch.OutOfMemoryError(f"no room for {len(arguments[0])} fields")

    trainer.model.network.register_forward_pre_hook(check)
    return sizes


@pytest.mark.parametrize("size", [1, 3, 4, 8, 20])
def test_gradients_of_parts_add_up_to_those_of_the_batch(
    size: int, config: PriorConfig, dataset: Dataset
) -> None:
    whole, parts = (
        Trainer(c, dataset, CPU) for c in (config, with_training(config, micro_batch=size))
    )
    sizes = limit_memory(parts, 1000)
    for one, other in zip(finish(whole), finish(parts), strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.gradient == pytest.approx(one.gradient, rel=1e-4)
    assert max(sizes) == min(size, 8)
    assert sum(sizes) == 4 * 8
    assert_close_states(state_of(whole), state_of(parts))


@pytest.mark.parametrize(
    ("fields", "sizes", "recipe"),
    [(7, (4,), None), (3, (4, 2), None), (1, (4, 2, 1), None), (3, (4, 2), "improved")],
    ids=str,
)
def test_the_parts_are_halved_until_they_fit(
    fields: int,
    sizes: tuple[int, ...],
    recipe: str | None,
    config: PriorConfig,
    dataset: Dataset,
    warned: pytest.LogCaptureFixture,
) -> None:
    if recipe is not None:
        config = with_consistency(config, recipe=recipe)
    whole, short = (Trainer(config, dataset, CPU) for _ in range(2))
    given = limit_memory(short, fields)
    assert [step.number for step in finish(short)] == [1, 2, 3, 4]
    finish(whole)
    assert_close_states(state_of(whole), state_of(short))
    told = [record.message for record in warned.records if "memory" in record.message]
    assert told == [
        f"memory of cpu ended; going on with {size} fields at once, gradients add up to the same "
        "batch"
        for size in sizes
    ]
    # Once found, the size stays.
    assert short.micro_batch == sizes[-1]
    assert len([size for size in given if size > fields]) == len(sizes)


def test_memory_that_ends_within_a_batch_counts_no_field_twice(
    config: PriorConfig, dataset: Dataset, warned: pytest.LogCaptureFixture
) -> None:
    """The first part fits, and has left its gradients, when the second one does not."""
    whole, short = (Trainer(with_training(config, micro_batch=4), dataset, CPU) for _ in range(2))
    calls = 0

    def check(_: Any, arguments: tuple[Any, ...]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise torch.OutOfMemoryError("just now")

    short.model.network.register_forward_pre_hook(check)
    finish(whole)
    finish(short)
    assert len(warned.records) == 1
    assert_close_states(state_of(whole), state_of(short))


def test_a_single_field_that_does_not_fit_is_a_clear_error(
    config: PriorConfig, dataset: Dataset, warned: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer(config, dataset, CPU)
    limit_memory(trainer, 0)
    message = (
        r"a single field of \(2, 6, 8\) values does not fit into the memory of cpu; make "
        r"network\.channels smaller, or set training\.precision = \"bf16\""
    )
    with pytest.raises(ConfigError, match=message):
        finish(trainer)
    assert len(warned.records) == 3  # 4, 2 and 1
