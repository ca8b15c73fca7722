"""Nearest neighbours against scipy's trees and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from climdown.metrics import distances
from climdown.metrics.distances import nearest_neighbour_distances
from tests.factories import Floats


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture(params=[1, 7, 256])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks smaller and larger than the samples."""
    monkeypatch.setattr(distances, "_ROWS", request.param)


@pytest.mark.usefixtures("rows")
def test_distances_are_those_of_a_tree_over_the_root_of_the_number_of_cells() -> None:
    a, b = normal(20, 2, 3, 4), normal(30, 2, 3, 4, seed=1)
    expected = cKDTree(b.reshape(30, -1)).query(a.reshape(20, -1))[0] / np.sqrt(24)
    np.testing.assert_allclose(nearest_neighbour_distances(a, b), expected, rtol=1e-9)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("exclude", [0, 3])
def test_days_near_in_time_are_no_neighbours_within_one_series(exclude: int) -> None:
    series = np.cumsum(normal(25, 2, 3), axis=0)
    expected = [
        min(
            np.sqrt(np.mean((series[i] - series[j]) ** 2))
            for j in range(25)
            if abs(i - j) > exclude
        )
        for i in range(25)
    ]
    found = nearest_neighbour_distances(series, series, exclude=exclude)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.usefixtures("rows")
def test_only_cells_that_both_have_count() -> None:
    a, b = normal(12, 3, 4), normal(15, 3, 4, seed=1)
    a[:, 0, 0] = np.nan
    a[3, 1] = np.nan
    b[5:9, :, 2] = np.nan
    expected = [min(np.sqrt(np.nanmean((x - y) ** 2)) for y in b) for x in a]
    np.testing.assert_allclose(nearest_neighbour_distances(a, b), expected, rtol=1e-9)


def test_a_copy_is_found_and_a_shift_is_the_distance() -> None:
    b = 100.0 * normal(10, 5, 5)
    a = b[[7, 2]] + np.array([0.0, 0.25])[:, None, None]
    found = nearest_neighbour_distances(a.astype(np.float32), b.astype(np.float32))
    np.testing.assert_allclose(found, [0.0, 0.25], atol=1e-5)


def test_fields_of_different_shapes_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"different shapes: \(3, 4\) and \(4, 3\)"):
        nearest_neighbour_distances(np.zeros((2, 3, 4)), np.zeros((2, 4, 3)))


def test_a_field_without_a_neighbour_is_an_error() -> None:
    series = normal(4, 2, 2)
    with pytest.raises(ValueError, match="a field has no neighbour"):
        nearest_neighbour_distances(series, series, exclude=3)
    apart = np.full((2, 1, 2), np.nan)
    apart[0, 0, 0] = apart[1, 0, 1] = 1.0
    with pytest.raises(ValueError, match="none shares a cell"):
        nearest_neighbour_distances(apart[:1], apart[1:])
