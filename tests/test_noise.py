"""Noise belongs to (seed, member, time stamp, step) and to nothing else."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from climdown.diffusion.noise import KeyedNoise, keyed_normal

SHAPE = (2, 40, 50)
CELLS = math.prod(SHAPE)
CPU = torch.device("cpu")
STAMPS = ("2001-01-01T00:00:00", "2001-01-02T00:00:00")


def noise(*keys: tuple[int, str], seed: int = 7) -> KeyedNoise:
    return KeyedNoise(seed=seed, keys=keys, shape=SHAPE, device=CPU)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(list(itertools.product(range(3), STAMPS))), size=st.integers(1, 6))
def test_noise_of_a_field_is_the_same_in_any_batch(order: list[tuple[int, str]], size: int) -> None:
    batch = KeyedNoise(seed=3, keys=tuple(order[:size]), shape=(1, 3, 4), device=CPU)(step=5)
    for drawn, key in zip(batch, order, strict=False):
        alone = KeyedNoise(seed=3, keys=(key,), shape=(1, 3, 4), device=CPU)(step=5)
        torch.testing.assert_close(drawn, alone[0], rtol=0, atol=0)


def test_noise_ignores_and_leaves_the_global_random_state() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, after_first = noise((0, STAMPS[0]))(1), torch.randn(3)
        torch.manual_seed(0)
        expected = torch.randn(3)
        second = noise((0, STAMPS[0]))(1)
    assert torch.equal(first, second)
    assert torch.equal(after_first, expected)


def test_noise_of_different_keys_differs_and_is_uncorrelated() -> None:
    draws = {
        "base": noise((1, STAMPS[0]))(2),
        "member": noise((2, STAMPS[0]))(2),
        "time": noise((1, STAMPS[1]))(2),
        "step": noise((1, STAMPS[0]))(3),
        "seed": noise((1, STAMPS[0]), seed=8)(2),
    }
    # A sample correlation of independent normals has standard deviation 1 / sqrt(n).
    for (one, a), (two, b) in itertools.combinations(draws.items(), 2):
        assert abs(correlation(a, b)) < 4.5 / math.sqrt(CELLS), (one, two)


def test_digits_do_not_run_together_between_parts_of_the_key() -> None:
    a = KeyedNoise(seed=1, keys=((23, "4"),), shape=(1, 2, 2), device=CPU)(5)
    b = KeyedNoise(seed=12, keys=((3, "4"),), shape=(1, 2, 2), device=CPU)(5)
    c = KeyedNoise(seed=1, keys=((2, "34"),), shape=(1, 2, 2), device=CPU)(5)
    assert not torch.equal(a, b)
    assert not torch.equal(a, c)


def test_channels_rows_and_columns_of_one_field_are_uncorrelated() -> None:
    field = noise((0, STAMPS[0]))(0)[0]
    bound = 4.5 / math.sqrt(CELLS / 2)
    assert abs(correlation(field[0], field[1])) < bound
    assert abs(correlation(field[:, 1:], field[:, :-1])) < bound
    assert abs(correlation(field[:, :, 1:], field[:, :, :-1])) < bound


def test_noise_is_standard_normal() -> None:
    values = noise(*((member, STAMPS[0]) for member in range(10)))(0).double().flatten()
    count = values.numel()
    # 4.5 standard errors of each sample moment of a standard normal.
    assert abs(values.mean().item()) < 4.5 / math.sqrt(count)
    assert abs(values.var().item() - 1.0) < 4.5 * math.sqrt(2 / count)
    assert abs((values**3).mean().item()) < 4.5 * math.sqrt(15 / count)
    assert abs((values**4).mean().item() - 3.0) < 4.5 * math.sqrt(96 / count)


@pytest.mark.parametrize("batch", [1, 3])
def test_noise_is_float32_of_batch_and_field_shape_on_the_device(batch: int) -> None:
    drawn = noise(*((member, STAMPS[0]) for member in range(batch)))(0)
    assert drawn.shape == (batch, *SHAPE)
    assert drawn.dtype == torch.float32
    assert drawn.device == CPU


def test_keyed_normal_depends_on_the_text_alone() -> None:
    assert torch.equal(keyed_normal("a", (5,)), keyed_normal("a", (5,)))
    assert not torch.equal(keyed_normal("a", (5,)), keyed_normal("b", (5,)))
