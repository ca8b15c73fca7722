"""Statistics by cell against plain numpy, xarray and closed forms, with gaps."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scores.continuous.correlation import pearsonr

from climdown.metrics.cells import (
    correlation_by_cell,
    deviation_by_cell,
    mean_by_cell,
    quantile_by_cell,
    wet_day_frequency,
)
from tests.factories import Floats

SHAPE = (30, 4, 5)


def fields(seed: int = 0) -> Floats:
    """Normal values with gaps; the first cell is empty, the second has one value."""
    rng = np.random.default_rng(seed)
    values: Floats = np.where(rng.random(SHAPE) < 0.2, np.nan, rng.normal(size=SHAPE))
    values[:, 0, 0] = np.nan
    values[1:, 0, 1] = np.nan
    values[0, 0, 1] = 3.0
    return values


def labelled(values: Floats) -> xr.DataArray:
    return xr.DataArray(values, dims=("time", "lat", "lon"))


@pytest.fixture(autouse=True)
def loud() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_mean_deviation_and_quantile_are_those_of_xarray_over_the_days_there_are() -> None:
    values = fields()
    reference = labelled(values)
    np.testing.assert_allclose(mean_by_cell(values), reference.mean("time"), rtol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        deviation = reference.std("time", ddof=1).values
        quantile = reference.quantile(0.9, "time").values
    deviation[0, 1] = np.nan
    np.testing.assert_allclose(deviation_by_cell(values), deviation, rtol=1e-12)
    np.testing.assert_allclose(quantile_by_cell(values, 0.9), quantile, rtol=1e-12)


def test_an_empty_cell_has_no_statistic_and_one_value_no_deviation() -> None:
    values = fields()
    assert np.isnan(mean_by_cell(values)[0, 0])
    assert np.isnan(quantile_by_cell(values, 0.5)[0, 0])
    assert np.isnan(wet_day_frequency(values)[0, 0])
    assert (mean_by_cell(values)[0, 1], quantile_by_cell(values, 0.99)[0, 1]) == (3.0, 3.0)
    assert np.isnan(deviation_by_cell(values)[0, :2]).all()


def test_wet_days_are_those_of_at_least_the_threshold_among_days_with_a_value() -> None:
    values = np.array([0.0, 0.99, 1.0, 5.0, np.nan]).reshape(5, 1, 1)
    assert wet_day_frequency(values).item() == pytest.approx(2 / 4)
    assert wet_day_frequency(values, 0.5).item() == pytest.approx(3 / 4)


def test_correlation_is_that_of_the_scores_package_on_days_that_have_both() -> None:
    a, b = fields(), 0.6 * fields() + fields(seed=1)
    both = np.isfinite(a) & np.isfinite(b)
    u, v = np.where(both, a, np.nan), np.where(both, b, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pearsonr(labelled(u), labelled(v), preserve_dims=("lat", "lon")).values
    found = correlation_by_cell(a, b)
    np.testing.assert_allclose(found[1:], expected[1:], rtol=1e-12)
    assert np.isnan(found[0, :2]).all()


@given(st.floats(-5, 5).filter(lambda x: abs(x) > 0.1), st.floats(-100, 100))
def test_correlation_with_a_linear_function_is_its_sign(slope: float, offset: float) -> None:
    values = np.random.default_rng(0).normal(size=(10, 2, 2))
    found = correlation_by_cell(values, slope * values + offset)
    np.testing.assert_allclose(found, np.sign(slope), atol=1e-9)
    assert np.abs(found).max() <= 1.0


def test_a_cell_that_does_not_vary_has_no_correlation() -> None:
    values = np.random.default_rng(0).normal(size=(10, 1, 2))
    other = values.copy()
    other[:, 0, 0] = 2.0
    found = correlation_by_cell(values, other)
    assert np.isnan(found[0, 0])
    assert found[0, 1] == pytest.approx(1.0)


def test_correlation_needs_equal_shapes() -> None:
    with pytest.raises(ValueError, match=r"different shapes: \(3, 2, 2\) and \(4, 2, 2\)"):
        correlation_by_cell(np.zeros((3, 2, 2)), np.zeros((4, 2, 2)))
