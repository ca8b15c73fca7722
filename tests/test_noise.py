"""Noise belongs to (seed, member, time stamp, step) and to nothing else."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from climdown.diffusion.noise import AutocorrelatedNoise, KeyedNoise, keyed_normal, red_weights

SHAPE = (2, 40, 50)
CELLS = math.prod(SHAPE)
CPU = torch.device("cpu")
STAMPS = ("2001-01-01T00:00:00", "2001-01-02T00:00:00")


def noise(*keys: tuple[int, str], seed: int = 7) -> KeyedNoise:
    return KeyedNoise(seed=seed, keys=keys, shape=SHAPE, device=CPU)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@settings(max_examples=25)
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


def coherent(
    *keys: tuple[int, int], correlations: tuple[float, ...] = (0.8, 0.3)
) -> AutocorrelatedNoise:
    return AutocorrelatedNoise(7, keys, SHAPE, CPU, correlations)


@given(st.floats(1e-6, 0.95))
@settings(max_examples=100)
def test_red_weights_have_unit_variance_and_the_correlation_that_they_say(a: float) -> None:
    weights = red_weights(a).numpy()
    last = len(weights) - 1
    found = np.correlate(weights, weights, "full")[last:]
    k = np.arange(last + 1)
    expected = a**k * (1 - a ** (2.0 * (last - k + 1))) / (1 - a ** (2.0 * (last + 1)))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)
    assert found[0] == pytest.approx(1.0, rel=1e-12)
    assert found[1] == pytest.approx(a, abs=1e-4)
    assert a**last < 0.01 + 1e-9
    assert last == 1 or a ** (last - 1) > 0.01 - 1e-9


def test_without_correlation_there_is_one_weight() -> None:
    assert red_weights(0.0).tolist() == [1.0]


def test_coherent_noise_is_a_moving_average_of_keyed_numbers() -> None:
    drawn = coherent((3, 100))(5)[0]
    for channel, a in enumerate((0.8, 0.3)):
        terms = [
            weight * keyed_normal(f"7/3/{100 - lag}/5", SHAPE)[channel].double()
            for lag, weight in enumerate(red_weights(a).tolist())
        ]
        torch.testing.assert_close(drawn[channel].double(), sum(terms), rtol=0, atol=5e-6)


@settings(max_examples=25)
@given(
    order=st.permutations(list(itertools.product(range(2), (10, 11, 12, 40)))),
    size=st.integers(1, 8),
)
def test_coherent_noise_of_a_field_has_the_same_bits_in_any_batch(
    order: list[tuple[int, int]], size: int
) -> None:
    def drawn(*keys: tuple[int, int]) -> Tensor:
        return AutocorrelatedNoise(3, keys, (2, 3, 4), CPU, (0.6, 0.0))(5)

    for field, key in zip(drawn(*order[:size]), order, strict=False):
        assert torch.equal(field, drawn(key)[0])


def test_coherent_noise_is_correlated_by_distance_in_steps_and_channel_and_in_nothing_else() -> (
    None
):
    base = coherent((1, 50))(2)[0]
    cells = CELLS / 2
    # Gaps do not draw near: 50 and 53 are three steps apart, whatever lies between them in a file.
    for number in (49, 51, 53, 60):
        other = coherent((1, 50), (1, number))(2)[1]
        for channel, a in enumerate((0.8, 0.3)):
            expected = a ** abs(number - 50)
            bound = 4.5 * (1 - expected**2) / math.sqrt(cells) + 1e-3
            found = correlation(base[channel], other[channel])
            assert found == pytest.approx(expected, abs=bound), (number, channel)
    for other in (coherent((2, 50))(2)[0], coherent((1, 50))(3)[0], coherent((1, 500))(2)[0]):
        assert abs(correlation(base, other)) < 4.5 / math.sqrt(CELLS)
    bound = 4.5 / math.sqrt(cells)
    assert abs(correlation(base[0], base[1])) < bound
    assert abs(correlation(base[:, :, 1:], base[:, :, :-1])) < bound


def test_coherent_noise_is_standard_normal() -> None:
    # Far enough apart to be independent.
    drawn = coherent(*((1, 100 * i) for i in range(10)))(0)
    assert (drawn.shape, drawn.dtype, drawn.device) == ((10, *SHAPE), torch.float32, CPU)
    for values in drawn.double().transpose(0, 1).flatten(1):
        count = values.numel()
        assert abs(values.mean().item()) < 4.5 / math.sqrt(count)
        assert abs(values.var().item() - 1.0) < 4.5 * math.sqrt(2 / count)
        assert abs((values**4).mean().item() - 3.0) < 4.5 * math.sqrt(96 / count)
