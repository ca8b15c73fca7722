"""Statistics in one pass against NumPy's in two, and the ways to thin and average the data."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown.config import PriorConfig
from climdown.errors import ConfigError, InputError
from climdown.grid import Grid
from climdown.training import prepare
from climdown.training.climatology import VariableStatistics, normalised_pattern
from climdown.transforms import Anomaly, Chain, Standardise
from tests.factories import Floats, make_dataset
from tests.training import with_data
from tests.training_data import averaged, celsius, days, write_statics

GRID = Grid.regular(40.0, 41.0, -3.0, -1.5, 0.25)  # 4 x 6 cells


def collected(
    values: npt.NDArray[np.float32], cuts: list[int], *, offset: float | None
) -> VariableStatistics:
    statistics = VariableStatistics(GRID, GRID.coarsen(2), offset=offset)
    bounds = [0, *sorted(cuts), len(values)]
    for start, stop in itertools.pairwise(bounds):
        if stop > start:
            statistics.add(values[start:stop])
    return statistics


def standard(chain: Chain) -> Standardise:
    last = chain.steps[-1]
    assert isinstance(last, Standardise)
    return last


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    mean=st.sampled_from([0.0, 280.0, 1e5]),
    std=st.sampled_from([0.3, 10.0]),
    missing=st.sampled_from([0.0, 0.1, 0.4]),
    cuts=st.lists(st.integers(0, 30), max_size=4),
)
def test_one_pass_gives_the_deviation_of_two_passes_even_for_pressures(
    seed: int, mean: float, std: float, missing: float, cuts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    shape = (30, *GRID.shape)
    values = (mean + std * rng.normal(size=shape)).astype(np.float32)
    values[rng.random(shape) < missing] = np.nan
    statistics = collected(values, cuts, offset=None)
    exact = values.astype(np.float64)
    valid = np.isfinite(exact)
    mask = valid.sum(axis=0) >= 0.5 * 30
    np.testing.assert_array_equal(statistics.mask(0.5), mask)
    chain = statistics.transform("psl", mask)
    anomaly = chain.steps[0]
    assert isinstance(anomaly, Anomaly)
    expected = np.where(mask, np.nanmean(exact, axis=0), 0.0)
    np.testing.assert_allclose(anomaly.climatology, expected, rtol=1e-7)
    away = (exact - anomaly.climatology)[:, mask]
    assert standard(chain).std == pytest.approx(np.sqrt(np.nanmean(away**2)), rel=1e-6)
    assert standard(chain).mean == 0.0


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    offset=st.sampled_from([0.1, 1.0]),
    cuts=st.lists(st.integers(0, 30), max_size=4),
)
def test_one_pass_gives_mean_and_deviation_of_logarithms(
    seed: int, offset: float, cuts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.4, 5.0, size=(30, *GRID.shape)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    statistics = collected(values, cuts, offset=offset)
    mask = statistics.mask(0.5)
    logs = np.log1p(values.astype(np.float64) / offset)[:, mask]
    found = standard(statistics.transform("pr", mask))
    assert found.mean == pytest.approx(np.nanmean(logs), rel=1e-9)
    assert found.std == pytest.approx(np.nanstd(logs), rel=1e-6)
    expected = np.where(mask, np.nanmean(values.astype(np.float64), axis=0), 0.0)
    np.testing.assert_allclose(statistics.climatology(mask), expected, rtol=1e-6)


def test_infinite_values_are_missing_ones() -> None:
    values = np.random.default_rng(0).normal(size=(12, *GRID.shape)).astype(np.float32)
    gone = values.copy()
    gone[0, 0], gone[5, 1, 1] = np.inf, -np.inf
    holes = np.where(np.isfinite(gone), gone, np.nan).astype(np.float32)
    one, other = (collected(v, [4], offset=None) for v in (gone, holes))
    mask = one.mask(0.5)
    assert standard(one.transform("tas", mask)) == standard(other.transform("tas", mask))
    np.testing.assert_array_equal(one.quantiles([1] * 12), other.quantiles([1] * 12))


def test_a_pattern_knows_nothing_of_cells_outside_the_mask() -> None:
    climatology = np.arange(24, dtype=np.float32).reshape(GRID.shape)
    mask = climatology > 5
    chain = Chain((Standardise(3.0, 2.0),))
    pattern = normalised_pattern(climatology, mask, chain)
    inside = climatology[mask].astype(np.float64)
    np.testing.assert_allclose(
        pattern[mask], (inside - inside.mean()) / inside.std(), rtol=1e-6, atol=1e-7
    )
    assert (pattern[~mask] == 0).all()


def test_samples_are_what_numpy_makes_of_the_files(
    training_config: PriorConfig, training_data: Path
) -> None:
    dataset = prepare(training_config, training_data)
    tas = celsius(training_data)
    with xr.open_dataset(training_data / "pr.nc") as file:
        pr = file["pr"].values.astype(np.float64) * 86400.0
    train, mask = tas[:14], dataset.fields["mask"][0] > 0
    climatology = np.where(mask, np.nanmean(train, axis=0), 0.0)
    std = np.sqrt(np.nanmean((train - climatology)[:, mask] ** 2))
    logs = np.log1p(pr)
    index = np.array([3, 0, 5, 5, 2])
    for samples, first in ((dataset.train, 0), (dataset.validation, 14)):
        x, valid, calendar = samples.take(torch.from_numpy(index))
        chosen = first + index
        known = np.isfinite(tas[chosen]) & mask
        expected = np.where(known, (tas[chosen] - climatology) / std, 0.0)
        np.testing.assert_allclose(x[:, 0].numpy(), expected, atol=2e-5)
        np.testing.assert_array_equal(valid[:, 0].numpy(), known)
        expected = (logs[chosen] - logs[:14].mean()) / logs[:14].std()
        np.testing.assert_allclose(x[:, 1].numpy(), expected, atol=2e-5)
        assert (valid[:, 1] == 1).all()
        np.testing.assert_array_equal(calendar.numpy(), [[1, d + 1, 12] for d in chosen])
        assert (x.dtype, valid.dtype) == (torch.float32, torch.float32)


def test_statistics_may_come_from_some_of_the_days(
    training_config: PriorConfig, training_data: Path
) -> None:
    dataset = prepare(with_data(training_config, statistics_fields=4), training_data)
    assert days(dataset.train) == list(range(14))
    chosen = [0, 4, 9, 13]  # evenly spread over fourteen
    tas = celsius(training_data)[chosen]
    mask = np.isfinite(tas).sum(axis=0) >= 2
    np.testing.assert_array_equal(dataset.fields["mask"][0] > 0, mask)
    mean = np.where(mask, np.nanmean(tas, axis=0), 0.0)
    np.testing.assert_allclose(dataset.fields["climatology_tas"], mean, atol=1e-4)
    std = np.sqrt(np.nanmean((tas - mean)[:, mask] ** 2))
    assert dataset.card.variables[0].transform[1]["std"] == pytest.approx(std, rel=1e-5)
    assert dataset.card.training["fields"] == 14


@pytest.mark.parametrize("count", [14, 1000])
def test_more_statistics_fields_than_days_are_all_of_them(
    count: int, training_config: PriorConfig, training_data: Path
) -> None:
    whole = prepare(training_config, training_data)
    assert (
        prepare(with_data(training_config, statistics_fields=count), training_data).digest
        == whole.digest
    )


FIRST = -5.0  # 2000-12-27, days from 2001-01-01
STEPS = 4 * 45


def hourly(lat: Floats, lon: Floats, step: int) -> Floats:
    """Temperatures in K that know their step."""
    return np.asarray(280.0 + 2.0 * (lat - 40.0) + np.cos(lon) + 0.01 * step, dtype=np.float64)


@pytest.fixture(scope="module")
def six_hourly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tas four times a day, from 27 December to 9 February."""
    folder = tmp_path_factory.mktemp("hourly")
    lat: Any = 40.125 + 0.25 * np.arange(6)
    lon: Any = -2.875 + 0.25 * np.arange(8)
    times = [FIRST + 0.25 * step for step in range(STEPS)]
    make_dataset(path=folder / "tas.nc", lat=lat, lon=lon, times=times, values=hourly)
    write_statics(folder / "static.nc")
    return folder


@pytest.fixture
def hourly_config(training_config: PriorConfig) -> PriorConfig:
    return with_data(
        training_config,
        variables=training_config.data.variables[:1],
        train="2000-12-27/2001-01-31",
        validation="2001-02-01/2001-02-09",
    )


def test_hours_are_chosen(hourly_config: PriorConfig, six_hourly: Path) -> None:
    dataset = prepare(with_data(hourly_config, hours=(0, 12)), six_hourly)
    assert len(dataset.train) == 2 * 36
    assert len(dataset.validation) == 2 * 9
    assert dataset.card.step_days == 0.5
    calendar = dataset.train.calendar.numpy()
    np.testing.assert_array_equal(calendar[:3], [[12, 27, 0], [12, 27, 12], [12, 28, 0]])
    steps = np.arange(0, 4 * 36, 2)
    mean = 280.0 + 0.01 * steps.mean() - 273.15 + 2.0 * 0.125 + np.cos(-2.875)
    assert dataset.fields["climatology_tas"][0, 0] == pytest.approx(mean, abs=1e-4)


def test_one_hour_a_day_is_daily_data(hourly_config: PriorConfig, six_hourly: Path) -> None:
    dataset = prepare(with_data(hourly_config, hours=(6,)), six_hourly)
    assert (dataset.card.step_days, len(dataset.train)) == (1.0, 36)


def test_months_are_chosen(hourly_config: PriorConfig, six_hourly: Path) -> None:
    dataset = prepare(with_data(hourly_config, months=(12, 2)), six_hourly)
    assert dataset.card.months == (12,)
    assert dataset.card.step_days == 0.25
    assert len(dataset.train) == 4 * 5
    assert len(dataset.validation) == 4 * 9
    mean = 280.0 + 0.01 * 9.5 - 273.15 + 2.0 * 0.125 + np.cos(-2.875)
    assert dataset.fields["climatology_tas"][0, 0] == pytest.approx(mean, abs=1e-4)


def test_no_time_step_left_is_refused(hourly_config: PriorConfig, six_hourly: Path) -> None:
    config = with_data(hourly_config, months=(7,), hours=(0, 3))
    message = r"no time step is left of months \[7\] and hours \[0, 3\]; the data have 180 steps"
    with pytest.raises(InputError, match=message):
        prepare(config, six_hourly)


def test_a_month_without_a_counted_field_has_no_quantiles_but_a_place(
    hourly_config: PriorConfig, six_hourly: Path
) -> None:
    # Two fields, the first and the last: none of the other month's would be counted.
    config = with_data(
        hourly_config, train="2000-12-27/2001-02-05", validation="2001-02-06/2001-02-09"
    )
    dataset = prepare(with_data(config, statistics_fields=30), six_hourly)
    assert dataset.card.months == (1, 2, 12)
    assert dataset.fields["quantiles_tas"].shape[0] == 4
    dataset = prepare(with_data(config, statistics_fields=2), six_hourly)
    assert dataset.card.months == (1, 2, 12)
    assert dataset.fields["quantiles_tas"].shape[0] == 4


def test_a_box_averages_by_area(training_config: PriorConfig, training_data: Path) -> None:
    config = with_data(training_config, grid="-3,-1,40,41.5,0.5", coarse_factor=3)
    dataset = prepare(config, training_data)
    grid = dataset.card.grid
    assert grid.shape == (3, 4)
    np.testing.assert_allclose(grid.lat, [40.25, 40.75, 41.25])
    np.testing.assert_allclose(grid.lon, [-2.75, -2.25, -1.75, -1.25])
    tas = averaged(celsius(training_data))
    x, valid, _ = dataset.train.take(torch.arange(14))
    found = dataset.train.chains[0].inverse(x[:, 0].numpy().astype(np.float64))
    known = valid[:, 0].numpy() > 0
    # Only the coarse cells of the last row lack something on day five; three quarters fill one.
    assert known[[0, 1, 2, 3, 4, 6, 13]].all()
    np.testing.assert_allclose(found[known], tas[:14][known], atol=1e-4)


def test_a_coarse_cell_needs_as_much_of_its_area_as_a_cell_of_its_days(
    training_config: PriorConfig, training_data: Path
) -> None:
    for least, known in ((0.4, 1.0), (0.6, 0.0)):
        config = with_data(
            training_config, grid="-3,-1,40,41.5,0.5", coarse_factor=3, min_valid=least
        )
        # On day five the last row of fine cells is missing: half of each coarse cell there.
        _, valid, _ = prepare(config, training_data).train.take(torch.tensor([5]))
        assert (valid[0, 0, -1] == known).all()
        assert (valid[0, 0, 0] == 1).all()


def test_a_global_grid_may_be_named(training_config: PriorConfig, tmp_path: Path) -> None:
    lat: Any = np.arange(-87.5, 90.0, 5.0)
    lon: Any = np.arange(2.5, 360.0, 5.0)
    times = [day + 0.5 for day in range(20)]
    options: dict[str, Any] = {"lat": lat, "lon": lon, "times": times}

    def rising(lat: Floats, lon: Floats, step: int) -> Floats:
        return np.asarray(280.0 + 0.2 * lat + 3.0 * np.sin(step) + 0.0 * lon)

    make_dataset(path=tmp_path / "tas.nc", values=rising, **options)
    write_statics(tmp_path / "static.nc", lat=lat, lon=lon)
    variables = training_config.data.variables[:1]
    dataset = prepare(with_data(training_config, grid="r24x12", variables=variables), tmp_path)
    assert dataset.card.grid.shape == (12, 24)
    assert dataset.card.grid.periodic
    x, valid, _ = dataset.train.take(torch.arange(14))
    assert (valid == 1).all()
    found = dataset.train.chains[0].inverse(x[:, 0].numpy().astype(np.float64))
    np.testing.assert_allclose(found[:, 6, :], found[:, 6, :1] + np.zeros((1, 24)), atol=1e-4)
    # The mean over the sphere is kept.
    weights = dataset.card.grid.areas / dataset.card.grid.areas.sum()
    mean = (found * weights).sum(axis=(1, 2))
    np.testing.assert_allclose(mean, 6.85 + 3.0 * np.sin(np.arange(14)), atol=1e-3)


def test_a_grid_that_is_none_is_refused(training_config: PriorConfig, training_data: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the grid 'hexagons'"):
        prepare(with_data(training_config, grid="hexagons"), training_data)


def test_a_variable_never_observed_is_refused(
    training_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    lat: Any = 40.125 + 0.25 * np.arange(6)
    lon: Any = -2.875 + 0.25 * np.arange(8)
    times = [day + 0.5 for day in range(20)]

    def never(lat: Floats, lon: Floats, step: int) -> Floats:
        return np.full((6, 8), np.nan if step % 2 else 280.0)

    make_dataset(path=tmp_path / "tas.nc", lat=lat, lon=lon, times=times, values=never)
    for name in ("pr.nc", "static.nc"):
        (tmp_path / name).symlink_to(training_data / name)
    message = r"no cell of tas is observed on 90% of the training days; lower data\.min_valid"
    with pytest.raises(InputError, match=message):
        prepare(with_data(training_config, min_valid=0.9), tmp_path)


def test_files_named_once_serve_all_variables(
    training_config: PriorConfig, training_data: Path
) -> None:
    variables = tuple(
        dataclasses.replace(entry, files=()) for entry in training_config.data.variables
    )
    shared = with_data(training_config, variables=variables, files=("tas.nc", "pr.nc"))
    one, other = prepare(shared, training_data), prepare(training_config, training_data)
    for name, field in one.fields.items():
        np.testing.assert_array_equal(field, other.fields[name])
