"""What a prior learns from: masks, splits, statics and transforms of the training data."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from climdown import cf
from climdown.config import PriorConfig
from climdown.errors import ConfigError, InputError
from climdown.grid import Grid
from climdown.training import GRAVITY, Dataset, Samples, prepare
from climdown.training.climatology import VariableStatistics
from climdown.transforms import Chain
from tests.factories import make_dataset
from tests.training import with_data
from tests.training_data import averaged, celsius, days, rewrite, write_statics

TRAIN, VALIDATION = range(14), range(14, 20)  # days of January 2001, from zero


@pytest.fixture(scope="module")
def dataset(training_config: PriorConfig, training_data: Path) -> Dataset:
    return prepare(training_config, training_data)


@pytest.fixture
def copied(training_data: Path, tmp_path: Path) -> Path:
    """A copy of the data, to change."""
    return Path(shutil.copytree(training_data, tmp_path / "data"))


def chains(dataset: Dataset) -> list[Chain]:
    fields = {name: values.astype(np.float64) for name, values in dataset.fields.items()}
    return [Chain.from_list(v.transform, fields) for v in dataset.card.variables]


def all_of(samples: Samples) -> tuple[Tensor, Tensor]:
    """Normalised values and where they were observed, of every field."""
    x, valid, _ = samples.take(torch.arange(len(samples)))
    return x, valid


def test_the_split_is_that_of_the_configuration(dataset: Dataset) -> None:
    assert days(dataset.train) == list(TRAIN)
    assert days(dataset.validation) == list(VALIDATION)


def test_each_sample_holds_its_own_day_in_normalised_units(
    dataset: Dataset, training_data: Path
) -> None:
    expected = celsius(training_data)
    tas = chains(dataset)[0]
    for samples in (dataset.train, dataset.validation):
        x, known = all_of(samples)
        values = tas.inverse(x[:, 0].numpy().astype(np.float64))
        valid = known[:, 0].numpy() > 0
        np.testing.assert_allclose(values[valid], expected[days(samples)][valid], atol=1e-4)


def test_units_are_converted_before_the_logarithm(dataset: Dataset, training_data: Path) -> None:
    with xr.open_dataset(training_data / "pr.nc") as file:
        millimetres = file["pr"].values[list(TRAIN)].astype(np.float64) * 86400.0
    values = chains(dataset)[1].inverse(all_of(dataset.train)[0][:, 1].numpy().astype(np.float64))
    np.testing.assert_allclose(values, millimetres, rtol=1e-5)
    logs = np.log1p(millimetres)
    standard = dataset.card.variables[1].transform[1]
    assert standard["mean"] == pytest.approx(logs.mean(), rel=1e-6)
    assert standard["std"] == pytest.approx(logs.std(), rel=1e-6)


def test_cells_seldom_observed_are_masked_on_every_day(dataset: Dataset) -> None:
    mask = np.ones((2, 6, 8))
    mask[0, 0, 0] = 0.0  # tas is there on 3 of 14 days; need half of them
    np.testing.assert_array_equal(dataset.fields["mask"], mask)
    for samples in (dataset.train, dataset.validation):
        x, valid = all_of(samples)
        assert (valid[:, 0, 0, 0] == 0).all()
        assert (x[:, 0, 0, 0] == 0).all()
    assert dataset.fields["climatology_tas"][0, 0] == 0.0
    assert dataset.fields["pattern_tas"][0, 0] == 0.0


def test_min_valid_decides_which_cells_are_masked(
    training_config: PriorConfig, training_data: Path
) -> None:
    generous = prepare(with_data(training_config, min_valid=3 / 14), training_data)
    assert generous.fields["mask"].all()
    strict = prepare(with_data(training_config, min_valid=1.0), training_data)
    assert strict.fields["mask"][0].sum() == 6 * 8 - 8 - 1  # a row lacks one day
    assert strict.fields["mask"][1].all()


def test_a_day_that_is_missing_in_a_valid_cell_is_zero_and_not_valid(dataset: Dataset) -> None:
    x, valid = all_of(dataset.train)
    assert (valid[5, 0, -1] == 0).all()
    assert (x[5, 0, -1] == 0).all()
    assert (valid[6, 0, -1] == 1).all()
    assert dataset.fields["mask"][0, -1].all()
    assert torch.isfinite(x).all()


def test_the_climatology_is_the_mean_of_the_observed_training_days(
    dataset: Dataset, training_data: Path
) -> None:
    mean = np.nanmean(celsius(training_data)[list(TRAIN)], axis=0)
    mean[0, 0] = 0.0
    np.testing.assert_allclose(dataset.fields["climatology_tas"], mean, atol=1e-4)


def test_training_data_are_standardised(dataset: Dataset) -> None:
    x, valid = all_of(dataset.train)
    for channel in (0, 1):
        known = x[:, channel][valid[:, channel] > 0]
        assert float(known.mean()) == pytest.approx(0.0, abs=1e-4)
        assert float(known.std(correction=0)) == pytest.approx(1.0, abs=1e-4)


def test_patterns_have_zero_mean_and_unit_variance_inside_the_mask(dataset: Dataset) -> None:
    for i, name in enumerate(("pattern_tas", "pattern_pr")):
        pattern = dataset.fields[name][dataset.fields["mask"][i] > 0]
        assert pattern.mean() == pytest.approx(0.0, abs=1e-5)
        assert pattern.std() == pytest.approx(1.0, abs=1e-5)


def test_validation_days_leave_no_trace_in_what_is_fitted(
    dataset: Dataset, training_config: PriorConfig, copied: Path
) -> None:
    values = celsius(copied) + 273.15
    values[list(VALIDATION)] += 30.0
    rewrite(copied / "tas.nc", "tas", values.astype(np.float32))
    other = prepare(training_config, copied)
    assert other.card.to_json() == dataset.card.to_json()
    for name, field in dataset.fields.items():
        np.testing.assert_array_equal(other.fields[name], field)
    assert other.digest == dataset.digest
    assert torch.equal(all_of(other.train)[0], all_of(dataset.train)[0])
    assert not torch.equal(all_of(other.validation)[0], all_of(dataset.validation)[0])


def test_quantiles_are_those_of_the_averaged_training_days(
    dataset: Dataset, training_data: Path
) -> None:
    with xr.open_dataset(training_data / "pr.nc") as file:
        rain = 86400.0 * file["pr"].values.astype(np.float64)
    for name, values, count in (("tas", celsius(training_data), 100), ("pr", rain, 500)):
        found = dataset.fields[f"quantiles_{name}"]
        assert found.shape == (2, count, 3, 4)
        nodes = (np.arange(count) + 0.5) / count
        expected = np.quantile(averaged(values[list(TRAIN)]), nodes, axis=0)
        for entry in (0, 1):  # January, and all months, which is the same here
            np.testing.assert_allclose(found[entry], expected, rtol=1e-5, atol=1e-5)


def test_quantiles_are_in_the_order_of_the_months() -> None:
    grid = Grid.regular(40.0, 41.5, -3.0, -1.0, 0.25)
    months = [12] * 15 + [1] * 20 + [2] * 9
    rng = np.random.default_rng(0)
    days = rng.normal(size=(44, 1, 1)) + 0.0 * grid.areas
    days[:, :2, :2] = np.nan
    days[:8, 2, 2:4] = np.nan  # half of a coarse cell, on some days
    statistics = VariableStatistics(grid, grid.coarsen(2), offset=None)
    for start in range(0, 44, 10):
        statistics.add(days[start : start + 10].astype(np.float32))
    found = statistics.quantiles(months)
    assert found.shape == (4, 100, 3, 4)
    nodes, numbers = (np.arange(100) + 0.5) / 100, np.array(months)
    for entry, inside in ((0, numbers == 1), (2, numbers == 12), (3, numbers > 0)):
        expected = np.quantile(days[inside, -1, -1], nodes)
        np.testing.assert_allclose(found[entry, :, 1, 1], expected, atol=1e-6)
        assert np.isnan(found[entry, :, 0, 0]).all()
    assert np.isnan(found[1]).all(), "nine days of February are too few"


def test_statics_are_kilometres_and_fractions_on_the_grid(dataset: Dataset) -> None:
    grid = dataset.card.grid
    height = np.broadcast_to(0.1 * (grid.lat - 40.0)[:, None], grid.shape)
    land = np.broadcast_to(1.0 - (grid.lon + 3.0) / 4.0, grid.shape)
    np.testing.assert_allclose(dataset.fields["orography"], height, atol=1e-6)
    np.testing.assert_allclose(dataset.fields["land_fraction"], land, atol=1e-6)


def test_surface_geopotential_serves_as_orography(
    dataset: Dataset, training_config: PriorConfig, copied: Path
) -> None:
    with xr.open_dataset(copied / "static.nc", decode_times=False) as file:
        statics = file.load()
    statics["orog"] = statics["orog"] * GRAVITY
    statics["orog"].attrs = {"standard_name": "surface_geopotential", "units": "m2 s-2"}
    (copied / "static.nc").unlink()
    statics.to_netcdf(copied / "static.nc")
    orography = prepare(training_config, copied).fields["orography"]
    np.testing.assert_allclose(orography, dataset.fields["orography"], rtol=1e-6)


def test_the_card_says_what_the_data_are(dataset: Dataset, training_config: PriorConfig) -> None:
    card = dataset.card
    assert (card.name, card.kind, card.months, card.step_days) == ("tiny", "diffusion", (1,), 1.0)
    assert card.statics == ("orography", "land_fraction", "pattern_tas", "pattern_pr")
    assert (card.coarse_factor, card.licence) == (2, "none: synthetic")
    assert card.network == training_config.network
    np.testing.assert_allclose(card.grid.lat, 40.125 + 0.25 * np.arange(6))
    np.testing.assert_allclose(card.grid.lon, -2.875 + 0.25 * np.arange(8))
    assert [v.units for v in card.variables] == ["degC", "mm day-1"]
    assert [v.minimum for v in card.variables] == [None, 0.0]
    assert card.training["fields"] == len(TRAIN)
    assert card.training["validation"] == "2001-01-15/2001-01-20"
    assert card.training["attribution"] == "made up"


def test_a_level_goes_from_the_configuration_to_the_card(
    training_config: PriorConfig, copied: Path
) -> None:
    with xr.open_dataset(copied / "tas.nc", decode_times=False) as file:
        aloft = file.load().rename(tas="ta")
    plev = xr.DataArray([85_000.0, 50_000.0], dims="plev", attrs={"units": "Pa"})
    aloft["ta"] = xr.concat([aloft["ta"], aloft["ta"] - 30.0], dim=plev.rename("plev"))
    aloft["plev"].attrs |= {"standard_name": "air_pressure", "units": "Pa"}
    (copied / "tas.nc").unlink()
    aloft.to_netcdf(copied / "tas.nc")
    first, second = training_config.data.variables
    wanted = dataclasses.replace(first, name="ta", names=("ta",), level=50_000.0)
    config = with_data(training_config, variables=(wanted, second))
    prepared = prepare(config, copied)
    assert [variable.level for variable in prepared.card.variables] == [50_000.0, None]
    cold = float(prepared.fields["climatology_ta"][3, 3])
    assert cold == pytest.approx(float(celsius_mean(copied)[3, 3]) - 30.0, abs=1e-3)


def celsius_mean(data: Path) -> Any:
    with xr.open_dataset(data / "tas.nc") as file:
        return file["ta"].sel(plev=85_000.0).values[list(TRAIN)].astype(float).mean(axis=0) - 273.15


def test_daily_means_belong_to_no_hour(dataset: Dataset) -> None:
    expected = [[1.0, day + 1.0, 12.0] for day in TRAIN]
    np.testing.assert_array_equal(dataset.train.calendar.numpy(), expected)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_hours_count_where_there_are_several_a_day(calendar: str) -> None:
    units = "days since 2001-02-28"
    dates = cftime.num2date([0.0, 0.25, 0.5625], units, calendar)
    conditions = cf.calendar_conditions(dates, 0.25)
    assert conditions.dtype == np.float32
    np.testing.assert_array_equal(conditions, [[2, 28, 0], [2, 28, 6], [2, 28, 13.5]])
    np.testing.assert_array_equal(cf.calendar_conditions(dates, 1.0)[:, 2], 12)
    np.testing.assert_array_equal(cf.calendar_conditions(dates, float("nan"))[:, 2], 12)


def test_times_only_one_variable_has_are_left_out(
    dataset: Dataset, training_config: PriorConfig, copied: Path
) -> None:
    with xr.open_dataset(copied / "pr.nc", decode_times=False) as file:
        shorter = file.load().isel(time=[i for i in range(20) if i not in (4, 17)])
    (copied / "pr.nc").unlink()
    shorter.to_netcdf(copied / "pr.nc")
    other = prepare(training_config, copied)
    assert days(other.train) == [day for day in TRAIN if day != 4]
    assert days(other.validation) == [day for day in VALIDATION if day != 17]
    assert torch.equal(all_of(other.train)[1][4], all_of(dataset.train)[1][5])


def test_periods_that_share_days_are_refused(
    training_config: PriorConfig, training_data: Path
) -> None:
    config = with_data(training_config, validation="2001-01-13/2001-01-20")
    with pytest.raises(ConfigError, match="training and validation share 2 time steps"):
        prepare(config, training_data)


@pytest.mark.parametrize("period", ["train", "validation"])
def test_a_period_outside_the_data_is_refused(
    period: str, training_config: PriorConfig, training_data: Path
) -> None:
    with pytest.raises(InputError, match="no time step lies in 1990/1991; the input has 20 steps"):
        prepare(with_data(training_config, **{period: "1990/1991"}), training_data)


@pytest.mark.parametrize(
    ("name", "kept"), [("training", range(14, 20)), ("validation", range(14))], ids=str
)
def test_a_period_that_only_one_variable_covers_is_refused(
    name: str, kept: range, training_config: PriorConfig, copied: Path
) -> None:
    with xr.open_dataset(copied / "pr.nc", decode_times=False) as file:
        shorter = file.load().isel(time=list(kept))
    (copied / "pr.nc").unlink()
    shorter.to_netcdf(copied / "pr.nc")
    message = f"no time step that all variables share lies in the {name} period"
    with pytest.raises(InputError, match=message):
        prepare(training_config, copied)


def move_pr(folder: Path, days: float, *, bounded: bool = False) -> None:
    """Stamp pr so much later; `bounded` gives it bounds of the days as they were."""
    with xr.open_dataset(folder / "pr.nc", decode_times=False) as file:
        moved = file.load()
    starts = np.floor(moved["time"].values)
    moved["time"] = moved["time"] + days
    moved["time"].attrs = {"units": "days since 2001-01-01", "calendar": "standard"}
    if bounded:
        moved["time"].attrs["bounds"] = "time_bnds"
        moved["time_bnds"] = (("time", "bnds"), np.stack([starts, starts + 1.0], axis=1))
    (folder / "pr.nc").unlink()
    moved.to_netcdf(folder / "pr.nc")


@pytest.mark.parametrize(("later", "bounded"), [(0.25, False), (0.5, True), (-0.5, True)])
def test_days_are_one_whatever_part_of_them_is_stamped(
    dataset: Dataset,
    training_config: PriorConfig,
    copied: Path,
    later: float,
    bounded: bool,
) -> None:
    move_pr(copied, later, bounded=bounded)
    other = prepare(training_config, copied)
    assert days(other.train) == list(TRAIN)
    assert torch.equal(all_of(other.train)[0], all_of(dataset.train)[0])
    assert other.card.months == (1,)


def test_variables_without_a_common_time_are_refused(
    training_config: PriorConfig, copied: Path
) -> None:
    move_pr(copied, 30.0)
    with pytest.raises(InputError, match="the training variables share no time step"):
        prepare(training_config, copied)


def test_variables_in_calendars_that_differ_are_refused(
    training_config: PriorConfig, copied: Path
) -> None:
    with xr.open_dataset(copied / "pr.nc", decode_times=False) as file:
        other = file.load()
    other["time"].attrs["calendar"] = "noleap"
    (copied / "pr.nc").unlink()
    other.to_netcdf(copied / "pr.nc")
    with pytest.raises(InputError, match="the training variables share no time step"):
        prepare(training_config, copied)


def test_variables_on_different_grids_are_refused(
    training_config: PriorConfig, copied: Path
) -> None:
    (copied / "pr.nc").unlink()
    make_dataset(
        path=copied / "pr.nc",
        name="pr",
        standard_name="precipitation_flux",
        units="mm day-1",
        times=[day + 0.5 for day in range(20)],
    )
    with pytest.raises(InputError, match=r"pr\.nc: the grid differs from that of .*tas\.nc"):
        prepare(training_config, copied)


def test_a_missing_file_is_named(training_config: PriorConfig, copied: Path) -> None:
    (copied / "pr.nc").unlink()
    with pytest.raises(InputError, match=r"no such file: .*pr\.nc"):
        prepare(training_config, copied)


def test_a_missing_orography_file_is_named(training_config: PriorConfig, copied: Path) -> None:
    (copied / "static.nc").unlink()
    with pytest.raises(InputError, match=r"static\.nc: cannot be read as NetCDF"):
        prepare(training_config, copied)


def test_statics_are_taken_at_a_step_that_has_data(
    dataset: Dataset, training_config: PriorConfig, copied: Path
) -> None:
    with xr.open_dataset(copied / "static.nc", decode_times=False) as file:
        static = file.load()
    # As an archive that repeats them at every step, and begins before its data.
    empty = static.where(False).assign_coords(time=[-10.0])
    repeated = xr.concat([empty, static.assign_coords(time=[0.5])], dim="time")
    repeated["time"].attrs = {"units": "days since 2001-01-01", "calendar": "standard"}
    (copied / "static.nc").unlink()
    repeated.to_netcdf(copied / "static.nc")
    fields = prepare(training_config, copied).fields
    for name in ("orography", "land_fraction"):
        np.testing.assert_array_equal(fields[name], dataset.fields[name])


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        (["orog"], "no variable for orography; expected standard_name surface_geopotential"),
        (["sftlf"], "no variable for land_fraction; "),
        (["orog", "sftlf"], "no variable for land_fraction and orography"),
    ],
    ids=str,
)
def test_a_missing_static_is_named(
    dropped: list[str], message: str, training_config: PriorConfig, copied: Path
) -> None:
    with xr.open_dataset(copied / "static.nc", decode_times=False) as file:
        rest = file.load().drop_vars(dropped)
    (copied / "static.nc").unlink()
    rest.to_netcdf(copied / "static.nc")
    with pytest.raises(InputError, match=message):
        prepare(training_config, copied)


def test_statics_that_leave_cells_bare_are_refused(
    training_config: PriorConfig, copied: Path
) -> None:
    (copied / "static.nc").unlink()
    write_statics(copied / "static.nc", lat=np.array([40.125, 40.375, 40.625]))
    with pytest.raises(InputError, match=r"static\.nc: orography does not cover the grid \(6 x 8"):
        prepare(training_config, copied)
