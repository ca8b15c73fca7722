"""`climdown qdm`: values against closed forms, whatever the files are like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from climdown.grid import Grid
from tests.commands import Result, Shell, read_members
from tests.factories import Floats, along
from tests.meshes import mesh_dataset, rotated_pole
from tests.series import (
    LAT,
    LON,
    PER_DAY,
    PR,
    WINTER,
    YEAR,
    daily,
    everywhere,
    noise,
    ranks,
    write_days,
)

BIAS = 3.0
# Float32 holds a temperature in kelvin to 3e-5.
KELVIN = 1e-4
DAYS = daily(2001, 3)
LATER = daily(2050, 3)


@pytest.fixture
def files(shell: Shell) -> Floats:
    """ref.nc, hist.nc (3 K warmer) and sim.nc; the simulated values."""
    ref, sim = 280.0 + noise(DAYS, 1), 285.0 + noise(LATER, 2)
    write_days("ref.nc", DAYS, ref)
    write_days("hist.nc", DAYS, ref + BIAS)
    write_days("sim.nc", LATER, sim)
    return sim


def qdm(shell: Shell, *arguments: Any, sim: str = "sim.nc", out: str = "out.nc") -> Result:
    """Run with ref.nc and hist.nc, and see it done."""
    result = shell("qdm", "--ref", "ref.nc", "--hist", "hist.nc", sim, out, *arguments)
    assert result.code == 0, result.err
    assert result.out == f"{out}\n"
    return result


@pytest.mark.parametrize("group", ["none", "month", "dayofyear"])
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("tails", ["constant", "extremes"])
def test_a_constant_bias_is_removed(
    shell: Shell, files: Floats, group: str, interpolation: str, tails: str
) -> None:
    options = ("--group", group, "--interpolation", interpolation, "--tails", tails)
    qdm(shell, *options, "--quantiles", 20)
    np.testing.assert_allclose(read_members("out.nc"), files - BIAS, rtol=0, atol=KELVIN)


def test_the_file_is_the_simulation_less_its_bias(shell: Shell, files: Floats) -> None:
    write_days("sim.nc", LATER, files, height=2.0, bounds=True, attributes={"original_name": "T"})
    result = qdm(shell)
    with netCDF4.Dataset("sim.nc") as source, netCDF4.Dataset("out.nc") as output:
        for name in ("time", "time_bnds", "lat", "lon", "height"):
            np.testing.assert_array_equal(output[name][:], source[name][:])
        assert output["time"].units == source["time"].units
        tas = output["tas"]
        assert tas.dimensions == ("time", "lat", "lon")
        assert (tas.units, tas.units_metadata) == ("K", "temperature: on_scale")
        assert (tas.standard_name, tas.original_name) == ("air_temperature", "T")
        assert tas.coordinates == "height"
        assert tas.bias_adjustment.startswith("quantile delta mapping (Cannon et al. 2015), add")
        assert "100 quantiles, by calendar month" in tas.bias_adjustment
        assert output.history.split("\n")[0].endswith("--hist hist.nc sim.nc out.nc")
        report = output.bias_adjustment_report
    assert report.startswith(f"{files.size} values adjusted, highest {files.max() - BIAS:.5g} K")
    for sentence in report.split("; "):
        assert sentence in result.err


def test_a_ratio_is_removed_from_what_has_ratios(shell: Shell) -> None:
    wind: Any = {"name": "sfcWind", "standard_name": "wind_speed", "units": "m s-1"}
    ref, sim = np.exp(noise(DAYS, 1)), np.exp(noise(LATER, 2))
    write_days("ref.nc", DAYS, ref, **wind)
    write_days("hist.nc", DAYS, 2.0 * ref, **wind)
    write_days("sim.nc", LATER, sim, **wind)
    qdm(shell)
    np.testing.assert_allclose(read_members("out.nc", "sfcWind"), sim / 2.0, rtol=1e-6)
    result = qdm(shell, "--kind", "additive", "--overwrite")
    # The difference of two exponentials is often negative, a speed never.
    held = int((read_members("out.nc", "sfcWind") == 0.0).sum())
    assert held > 100
    assert read_members("out.nc", "sfcWind").min() == 0.0
    assert (
        f"{held} values of sfcWind held within what it can be (never below 0 m s-1)" in result.err
    )


@pytest.mark.parametrize("months", [YEAR, WINTER], ids=["year", "winter"])
def test_calendars_may_all_differ(shell: Shell, months: tuple[int, ...]) -> None:
    # Quantiles of a month: m + p, m + 3 + 2 p and m + 8 + 3 p, whatever the number of days.
    ref = daily(1991, 4, months=months)
    hist = daily(1981, 5, calendar="noleap", months=months)
    sim = daily(2070, 3, calendar="360_day", months=months)
    for name, dates, low, width in (("ref", ref, 280, 1), ("hist", hist, 283, 2)):
        month = np.array([date.month for date in dates])
        series = low + month + width * ranks(dates, low)
        write_days(f"{name}.nc", dates, everywhere(series))
    month, p = np.array([date.month for date in sim]), ranks(sim, 7)
    write_days("sim.nc", sim, everywhere(288.0 + month + 3.0 * p))
    qdm(shell, "--quantiles", 40)
    # Beyond the outermost quantile its correction is kept.
    tau = np.clip(p, 0.5 / 40, 1.0 - 0.5 / 40)
    expected = 288.0 + month + 3.0 * p + (280.0 + tau) - (283.0 + 2.0 * tau)
    np.testing.assert_allclose(read_members("out.nc"), everywhere(expected), atol=KELVIN)
    with netCDF4.Dataset("out.nc") as file:
        assert file["time"].calendar == "360_day"


@pytest.mark.parametrize("group", ["none", "dayofyear"])
def test_calendars_may_differ_in_other_groups_too(shell: Shell, group: str) -> None:
    for name, calendar, low in (("ref", "standard", 280.0), ("hist", "360_day", 283.0)):
        dates = daily(2001, 2, calendar=calendar)
        write_days(f"{name}.nc", dates, everywhere(np.full(len(dates), low)))
    sim = daily(2050, 2, calendar="noleap")
    write_days("sim.nc", sim, 300.0 + noise(sim, 1))
    qdm(shell, "--group", group, "--window", 11)
    np.testing.assert_allclose(read_members("out.nc"), 297.0 + noise(sim, 1), atol=KELVIN)


def test_units_may_all_differ(shell: Shell, files: Floats) -> None:
    ref = 280.0 + noise(DAYS, 1)
    write_days("ref.nc", DAYS, ref - 273.15, units="degC")
    write_days("hist.nc", DAYS, 1.8 * (ref + BIAS) - 459.67, units="degF")
    qdm(shell)
    np.testing.assert_allclose(read_members("out.nc"), files - BIAS, rtol=0, atol=2 * KELVIN)
    wet = np.exp(noise(DAYS, 3))
    write_days("ref.nc", DAYS, wet, **{**PR, "units": "mm/day"})
    write_days("hist.nc", DAYS, 2.0 * wet / PER_DAY, **PR)
    write_days("sim.nc", DAYS, wet / 1000.0, **{**PR, "units": "m day-1"})
    qdm(shell, "--overwrite")
    inside = wet > 0.2  # far from the dry threshold
    found = read_members("out.nc", "pr")
    np.testing.assert_allclose(found[inside], wet[inside] / 2000.0, rtol=1e-5)
    with netCDF4.Dataset("out.nc") as file:
        assert file["pr"].units == "m day-1"


def test_days_are_as_often_dry_as_the_reference_and_dry_means_zero(shell: Shell) -> None:
    amount = np.exp(noise(DAYS, 3)) / PER_DAY
    write_days("ref.nc", DAYS, np.where(noise(DAYS, 4) > 0.3, amount, 0.0), **PR)
    write_days("hist.nc", DAYS, np.where(noise(DAYS, 5) > -1.0, amount, 0.0), **PR)
    write_days("sim.nc", DAYS, np.where(noise(DAYS, 6) > -1.0, amount, 0.0), **PR)
    qdm(shell, "--group", "none")
    threshold = 0.05 / PER_DAY
    ref, found = read_members("ref.nc", "pr"), read_members("out.nc", "pr")
    assert (found == 0).mean() == pytest.approx((ref == 0).mean(), abs=0.02)
    assert not ((found > 0) & (found < threshold)).any()


def test_missing_values_are_left_out_cell_by_cell(shell: Shell, files: Floats) -> None:
    ref, gaps = 280.0 + noise(DAYS, 1), noise(DAYS, 8) > 1.0
    write_days("ref.nc", DAYS, np.where(gaps, np.nan, ref))
    write_days("hist.nc", DAYS, np.where(gaps, np.nan, ref + BIAS))
    sim = np.where(noise(LATER, 9) > 1.5, np.nan, files)
    write_days("sim.nc", LATER, sim)
    qdm(shell)
    np.testing.assert_allclose(read_members("out.nc"), sim - BIAS, rtol=0, atol=KELVIN)


def test_a_cell_never_observed_comes_out_missing(shell: Shell, files: Floats) -> None:
    ref = 280.0 + noise(DAYS, 1)
    ref[:, 0, 1] = np.nan
    write_days("ref.nc", DAYS, ref)
    result = qdm(shell)
    expected = files - BIAS
    expected[:, 0, 1] = np.nan
    np.testing.assert_allclose(read_members("out.nc"), expected, rtol=0, atol=KELVIN)
    assert f"{len(LATER)} values left missing: fewer than 10" in result.err


def test_months_without_a_reference_come_out_missing(shell: Shell, files: Floats) -> None:
    winter = daily(2001, 3, months=WINTER)
    write_days("ref.nc", winter, 280.0 + noise(winter, 1))
    write_days("hist.nc", winter, 283.0 + noise(winter, 1))
    result = qdm(shell)
    assert "WARNING | months 3, 4, 5, 6, 7, 8, 9, 10, 11 of the simulation" in result.err
    assert "they will be missing\n" in result.err
    inside = np.array([date.month in WINTER for date in LATER])
    found = read_members("out.nc")
    np.testing.assert_allclose(found[inside], files[inside] - BIAS, rtol=0, atol=KELVIN)
    assert np.isnan(found[~inside]).all()
    for group in ("dayofyear", "none"):
        qdm(shell, "--group", group, "--overwrite")
        found = read_members("out.nc")
        np.testing.assert_allclose(found[inside], files[inside] - BIAS, rtol=0, atol=KELVIN)
        assert np.isnan(found[~inside]).all(), "no day of the reference tells of these"


def linear(days: Floats, lat: Floats, lon: Floats) -> Floats:
    """A series whose field is linear in longitude, so that means over cells are exact."""
    return days[:, None, None] + 0.5 * lon[None, None, :] + 0.0 * lat[None, :, None]


@pytest.mark.parametrize("spacing", [0.25, 0.5, 2.0])
def test_the_reference_may_be_finer_or_coarser(shell: Shell, spacing: float) -> None:
    fine = Grid.regular(36.0, 46.0, -8.0, 4.0, spacing)
    series = 280.0 + noise(DAYS, 1)[:, 0, 0]
    write_days("ref.nc", DAYS, linear(series, fine.lat, fine.lon), lat=fine.lat, lon=fine.lon)
    write_days("hist.nc", DAYS, linear(series + BIAS, LAT, LON))
    sim = 285.0 + noise(LATER, 2)
    write_days("sim.nc", LATER, sim)
    qdm(shell)
    np.testing.assert_allclose(read_members("out.nc"), sim - BIAS, rtol=0, atol=2 * KELVIN)


def test_a_global_simulation_is_cut_to_the_reference(shell: Shell) -> None:
    # Longitudes from 0 to 360, with the region across the seam.
    lat, lon = np.arange(-87.5, 90.0, 5.0), np.arange(0.0, 360.0, 5.0)
    region = np.array([37.5, 42.5]), np.array([-5.0, 0.0, 5.0])
    days, later = daily(2001, 1), daily(2050, 1)
    series, sim = 280.0 + noise(days, 1)[:, :1, :1], 280.0 + noise(later, 2, lat=lat, lon=lon)
    shape: Any = {"lat": lat, "lon": lon}
    write_days("ref.nc", days, series + np.zeros((1, 2, 3)), lat=region[0], lon=region[1])
    write_days("hist.nc", days, series + BIAS + np.zeros((1, 36, 72)), **shape)
    write_days("sim.nc", later, sim, **shape)
    qdm(shell)
    with xr.open_dataset("out.nc") as found:
        np.testing.assert_array_equal(found["lat"], region[0])
        np.testing.assert_array_equal(found["lon"], region[1])
        np.testing.assert_array_equal(found["lon_bnds"][0], [-7.5, -2.5])
        expected = sim[:, 25:27][:, :, [71, 0, 1]] - BIAS
        np.testing.assert_allclose(found["tas"], expected, rtol=0, atol=KELVIN)


def test_latitudes_may_descend(shell: Shell, files: Floats) -> None:
    write_days("sim.nc", LATER, files[:, ::-1], lat=LAT[::-1])
    qdm(shell)
    np.testing.assert_allclose(read_members("out.nc"), files - BIAS, rtol=0, atol=KELVIN)
    with netCDF4.Dataset("out.nc") as file:
        np.testing.assert_array_equal(file["lat"][:], LAT)


def test_the_grid_may_be_chosen(shell: Shell, files: Floats) -> None:
    qdm(shell, "--grid=-4,0,40,42,2")
    with xr.open_dataset("out.nc") as found:
        assert found["tas"].shape == (len(LATER), 1, 2)
        np.testing.assert_array_equal(found["lon"], [-3.0, -1.0])
        areas = np.diff(np.sin(np.radians([40.0, 41.0, 42.0])))
        expected = np.average(files[:, :2, :2].mean(axis=2), axis=1, weights=areas)
        np.testing.assert_allclose(found["tas"][:, 0, 0], expected - BIAS, rtol=0, atol=KELVIN)


def test_a_simulation_on_a_mesh_needs_a_grid(shell: Shell) -> None:
    cells = rotated_pole(ny=12, nx=12, south_west=(-16.0, -22.0))
    series = 280.0 + 2.0 * ranks(DAYS, 1, by_month=False)
    for name, values in (("hist", series + BIAS), ("sim", series + 5.0)):
        dataset = mesh_dataset(cells=cells, steps=len(DAYS))
        dataset["tas"][:] = values[:, None, None]
        dataset.to_netcdf(f"{name}.nc")
    write_days("ref.nc", DAYS, everywhere(series))
    options = ("--ref", "ref.nc", "--hist", "hist.nc", "sim.nc", "out.nc", "--group", "none")
    result = shell("qdm", *options)
    assert result.code == 4
    assert "sim.nc: variable 'tas' lies on a mesh" in result.message
    assert "--grid" in result.message
    result = shell("qdm", *options, "--grid=-4,0,40,43,1")
    assert result.code == 0, result.err
    expected = everywhere(series + 5.0 - BIAS)
    np.testing.assert_allclose(read_members("out.nc"), expected, rtol=0, atol=KELVIN)


def test_time_writes_a_part_of_what_is_adjusted_as_a_whole(shell: Shell, files: Floats) -> None:
    qdm(shell)
    qdm(shell, "--time", "2050-12/2051-02-10", out="part.nc")
    days = [(d.year, d.month, d.day) for d in LATER]
    part = [(2050, 12, 1) <= day <= (2051, 2, 10) for day in days]
    np.testing.assert_array_equal(read_members("part.nc"), read_members("out.nc")[part])
    with netCDF4.Dataset("out.nc") as whole, netCDF4.Dataset("part.nc") as file:
        np.testing.assert_array_equal(file["time"][:], whole["time"][:][part])


def test_periods_choose_what_is_trained_on(shell: Shell, files: Floats) -> None:
    whole = daily(2001, 6)
    broken = 280.0 + np.concatenate([noise(DAYS, 1), np.full((1096, 3, 4), 50.0)])[: len(whole)]
    write_days("ref.nc", whole, broken)
    write_days("hist.nc", whole, broken + BIAS + 10.0 * (broken > 300.0))
    qdm(shell, "--ref-period", "2001/2003", "--hist-period", "2001-01/2003-12")
    np.testing.assert_allclose(read_members("out.nc"), files - BIAS, rtol=0, atol=KELVIN)


def test_members_are_selected_where_files_have_them(shell: Shell, files: Floats) -> None:
    def members(dataset: xr.Dataset) -> xr.Dataset:
        return along(dataset, "realization", [1, 3], attributes={"standard_name": "realization"})

    write_days("sim.nc", LATER, files, change=members)
    qdm(shell, "--select", "realization=3", out="one.nc")
    # The second member is 10 K warmer than the first.
    np.testing.assert_allclose(read_members("one.nc"), files + 10.0 - BIAS, rtol=0, atol=KELVIN)
    write_days("hist.nc", DAYS, 280.0 + noise(DAYS, 1) + BIAS, change=members)
    qdm(shell, "--select", "realization=3", out="two.nc")
    np.testing.assert_allclose(read_members("two.nc"), files - BIAS, rtol=0, atol=KELVIN)


def test_options_take_several_files_and_patterns(shell: Shell, files: Floats) -> None:
    qdm(shell)
    for name in ("ref", "hist", "sim"):
        with xr.open_dataset(f"{name}.nc") as dataset:
            for i, part in enumerate((slice(0, 500), slice(500, None))):
                dataset.isel(time=part).to_netcdf(f"{name}_{i}.nc")
    arguments = ["--ref", "ref_1.nc", "--ref", "ref_0.nc", "--hist", "hist_[01].nc"]
    result = shell("qdm", *arguments, "sim_*.nc", "split.nc")
    assert result.code == 0, result.err
    result = shell("qdm", *arguments, "sim_0.nc", "sim_1.nc", "again.nc")
    assert result.code == 0, result.err
    for name in ("split.nc", "again.nc"):
        np.testing.assert_array_equal(read_members(name), read_members("out.nc"))


def test_one_of_several_variables_is_chosen(shell: Shell, files: Floats) -> None:
    maximum = {"standard_name": "air_temperature", "units": "K", "cell_methods": "time: maximum"}
    write_days("sim.nc", LATER, files, others={"tasmax": maximum})
    result = shell("qdm", "--ref", "ref.nc", "--hist", "hist.nc", "sim.nc", "out.nc")
    assert result.code == 3
    assert "sim.nc: 2 variables could be adjusted (tas, tasmax); choose with --v" in result.message
    qdm(shell, "--variable", "tas")
    np.testing.assert_allclose(read_members("out.nc"), files - BIAS, rtol=0, atol=KELVIN)
    result = shell(
        *("qdm", "--ref", "ref.nc", "--hist", "hist.nc", "sim.nc", "no.nc"), "--variable", "pr"
    )
    assert result.code == 3
    assert "sim.nc: no variable 'pr' with units, time, latitude" in result.message
    assert "found tas, tasmax" in result.message


def test_moving_years_rank_each_decade_within_its_own(shell: Shell) -> None:
    dates = daily(2001, 60, months=(1,))
    warming = 0.05 * (np.array([date.year for date in dates]) - 2001)
    series = 280.0 + warming[:, None, None] + noise(dates, 1, lat=LAT[:2], lon=LON[:2])
    days = daily(1971, 30, months=(1,))
    place: Any = {"lat": LAT[:2], "lon": LON[:2]}
    for name, shift, width in (("ref", 0.0, 1.0), ("hist", 2.0, 2.0)):
        write_days(f"{name}.nc", days, 280.0 + shift + width * noise(days, 5, **place), **place)
    write_days("sim.nc", dates, series, **place)
    qdm(shell, "--years", 30)
    moving = read_members("out.nc")
    years = np.array([date.year for date in dates])
    # The third decade, ranked within the 30 years around its middle, as a file of its own.
    inside = (years >= 2011) & (years < 2041)
    write_days("decades.nc", dates[inside], series[inside], **place)
    qdm(shell, "--time", "2021/2030", sim="decades.nc", out="decade.nc")
    decade = (years >= 2021) & (years < 2031)
    np.testing.assert_array_equal(read_members("decade.nc"), moving[decade])
    qdm(shell, "--years", 0, out="whole.nc")
    assert np.abs(read_members("whole.nc") - moving).max() > 0.1
    usual = qdm(shell, out="usual.nc")
    assert "ranked within 30 years" in usual.err
    np.testing.assert_array_equal(read_members("usual.nc"), moving)


def write_small(path: str, seed: int, **options: Any) -> None:
    dates = daily(2001, 2, months=WINTER)
    write_days(path, dates, options.pop("values")(noise(dates, seed)), **options)


@pytest.mark.parametrize("variable", ["tas", "pr"])
def test_blocks_and_threads_do_not_change_a_bit(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    options: Any = PR if variable == "pr" else {}
    form = (lambda z: np.maximum(z, 0.0) / PER_DAY) if variable == "pr" else (lambda z: 280.0 + z)
    for seed, name in enumerate(("ref", "hist", "sim")):
        write_small(f"{name}.nc", seed, values=form, **options)
    monkeypatch.setattr("climdown.compute.engine._cores", lambda: 1)
    qdm(shell)
    expected = read_members("out.nc", variable)
    for i, (block, cores) in enumerate(((1, 1), (5 * 60_000, 2), (1 << 28, 3))):
        monkeypatch.setattr("climdown.adjust.blocks._BLOCK_BYTES", block)
        monkeypatch.setattr("climdown.adjust.blocks._READ_BYTES", 800 * (i + 1))
        monkeypatch.setattr("climdown.compute.engine._cores", lambda cores=cores: cores)
        result = qdm(shell, out=f"{i}.nc")
        blocks = {0: 12, 2: 1}.get(i)
        assert blocks is None or f"{blocks} of {blocks} blocks" in result.err
        np.testing.assert_array_equal(read_members(f"{i}.nc", variable), expected)


def test_nothing_is_left_beside_the_output(shell: Shell, files: Floats) -> None:
    qdm(shell)
    assert sorted(p.name for p in Path().iterdir()) == ["hist.nc", "out.nc", "ref.nc", "sim.nc"]
