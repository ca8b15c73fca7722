"""Distributions and orders of columns: NumPy's quantiles and ranks written out are the oracles."""

from __future__ import annotations

import numpy as np
import pytest

from climdown.adjust.amounts import Days, days_alike
from climdown.adjust.deviation import median_around
from climdown.arrays import Float32
from climdown.bias.marginals import in_order_of, probabilities_within, quantiles_at, ranks
from tests.series import daily


def normal(*shape: int, seed: int = 0) -> Float32:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_ranks_count_what_is_smaller_and_ties_decide() -> None:
    values = np.array([[3.0, 0.0], [0.0, 0.0], [7.0, 5.0], [0.0, 1.0]])
    ties = np.array([[0.1], [0.9], [0.2], [0.4]])
    np.testing.assert_array_equal(ranks(values, ties), [[2, 0], [1, 1], [3, 3], [0, 2]])


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_quantiles_are_numpys(size: int) -> None:
    sample = normal(size, 3)
    probabilities = np.random.default_rng(1).random((11, 3))
    for column in range(3):
        expected = np.quantile(sample[:, column].astype(float), probabilities[:, column])
        found = quantiles_at(sample, probabilities)[:, column]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [2, 10, 631, 1805])
def test_a_value_at_its_own_rank_is_itself(size: int) -> None:
    sample = normal(size, 2)
    places = ranks(sample, sample) / (size - 1)
    np.testing.assert_array_equal(quantiles_at(sample, places), sample)


def test_values_take_the_order_of_another_sample() -> None:
    values, order = normal(50, 4), normal(50, 4, seed=1)
    found = in_order_of(values, order)
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(values, axis=0))
    np.testing.assert_array_equal(found.argsort(axis=0), order.argsort(axis=0))
    np.testing.assert_array_equal(in_order_of(values, np.zeros((50, 4))), values)


def test_places_among_equal_values_are_spread_over_their_share() -> None:
    sample = np.array([[0.0], [0.0], [0.0], [2.0]])
    new = np.array([[0.0], [0.0], [1.0], [2.0], [9.0], [-1.0]])
    uniforms = np.array([0.0, 1.0, 0.3, 0.5, 0.5, 0.5])
    found = probabilities_within(sample, new, uniforms)
    np.testing.assert_allclose(found[:, 0], [0.0, 2 / 3, 2.5 / 3, 1.0, 1.0, 0.0])


def test_months_share_a_distribution_where_all_samples_have_days_of_them() -> None:
    summer, july = daily(2001, 2, months=(6, 7, 8)), daily(2001, 2, months=(7,))
    found = days_alike(Days(summer, summer, july))
    assert [[rows.size for rows in part] for part in found] == [[62, 62, 62]]
    assert {summer[i].month for i in found[0].ref} == {7}
    few = days_alike(Days(summer, daily(2001, 2, months=(6, 8)), july))
    assert [[rows.size for rows in part] for part in few] == [[184, 122, 62]]


def test_medians_around_cells_are_those_of_the_cells_that_are_there() -> None:
    field = normal(6, 7).astype(np.float64)
    field[0, 0] = np.nan
    found = median_around(field)
    assert found[3, 3] == np.median(field[1:6, 1:6])
    assert found[0, 0] == np.nanmedian(field[:3, :3])
    assert np.isnan(median_around(np.full((2, 2), np.nan))).all()
