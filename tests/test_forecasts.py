"""Forecasts by start and step ahead, in the layouts that converters of GRIB write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.errors import InputError
from climdown.inputs.inspection import inspect_sources, open_local
from climdown.priors.prior import Prior
from tests.commands import LAT, LON, Shell, read_members
from tests.factories import FLOAT32_RTOL, PR, TAS, Floats

STARTS = np.arange(0.0, 30.0)  # days since 2001-01-01
STEPS = (6.0, 12.0, 24.0)
DATED = {"units": "hours since 2001-01-01", "calendar": "standard"}
# (start, step, where the times are): dimensions of cfgrib, of the Climate Data Store, of THREDDS.
LAYOUTS = {
    "cfgrib": ("time", "step", "valid_time"),
    "cds": ("forecast_reference_time", "forecast_period", "valid_time"),
    "thredds": ("reftime", "leadtime", "time"),
}


def values(kind: str) -> Floats:
    """Instants in K or sums since the start in m, shape (start, step, lat, lon)."""
    lat, lon = np.array(LAT)[:, None], np.array(LON)
    start = STARTS[:, None, None, None]
    step = np.array(STEPS)[:, None, None]
    if kind == "t2m":
        return np.asarray(280.0 - 0.5 * (lat - 40) + 0.1 * lon + 0.2 * np.sin(start) + 0.01 * step)
    return np.asarray(1e-4 * step * (1.5 + np.sin(lat + lon + 2.0 * start)))


def forecasts(
    layout: str, kind: str, *, stepped: dict[str, Any] | None = None, **described: str
) -> xr.Dataset:
    """A file of forecasts.

    Args:
        stepped: attributes of the steps in place of the usual ones.
        described: further attributes of the starts.
    """
    start, step, valid = LAYOUTS[layout]
    name, units = ("t2m", "K") if kind == "t2m" else ("tp", "m")
    own = {"units": units, "GRIB_stepType": "instant" if kind == "t2m" else "accum"}
    if kind == "t2m":
        own["standard_name"] = "air_temperature"
    role = "time" if layout == "cfgrib" else "forecast_reference_time"
    ahead = {"units": "hours", "standard_name": "forecast_period"} if stepped is None else stepped
    return xr.Dataset(
        {name: ((start, step, "latitude", "longitude"), values(kind), own)},
        {
            start: (start, 24.0 * STARTS, {"standard_name": role, **DATED, **described}),
            step: (step, list(STEPS), ahead),
            valid: ((start, step), 24.0 * STARTS[:, None] + STEPS, DATED),
            "latitude": ("latitude", list(LAT), {"units": "degrees_north"}),
            "longitude": ("longitude", list(LON), {"units": "degrees_east"}),
        },
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "forecast.nc"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("entry", [0, 2])
def test_instants_are_for_the_time_after_their_start(path: Path, layout: str, entry: int) -> None:
    forecasts(layout, "t2m").to_netcdf(path)
    field = cf.open_field(path, TAS, select={LAYOUTS[layout][1]: f"{STEPS[entry]:g}"})
    valid = 24.0 * STARTS + STEPS[entry]
    np.testing.assert_array_equal(field.time.values, valid)
    for dates in (field.time.dates, field.time.centres):
        assert [24 * date.day + date.hour for date in dates[:3]] == (24 + valid[:3]).tolist()
    read = field.read(slice(None))
    np.testing.assert_allclose(read, values("t2m")[:, entry], rtol=FLOAT32_RTOL)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_amounts_of_the_first_step_are_since_the_start(path: Path, layout: str) -> None:
    forecasts(layout, "tp").to_netcdf(path)
    field = cf.open_field(path, PR, select={LAYOUTS[layout][1]: "6"})
    read = field.read(slice(None))
    np.testing.assert_allclose(read, 4 * 1000.0 * values("tp")[:, 0], rtol=FLOAT32_RTOL)
    assert (field.time.centres[0].hour, field.time.dates[0].hour) == (3, 6)
    with pytest.raises(InputError, match="at forecast step 12 hours it may be the sum since"):
        cf.open_field(path, PR, select={LAYOUTS[layout][1]: "12"})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["tp", "t2m"])
def test_all_steps_at_once_are_refused_and_named(path: Path, layout: str, kind: str) -> None:
    forecasts(layout, kind).to_netcdf(path)
    step = LAYOUTS[layout][1]
    with pytest.raises(InputError, match=rf"choose one entry of each, like --select {step}=6"):
        cf.open_field(path, PR if kind == "tp" else TAS)
    (report,) = inspect_sources(open_local(path))
    assert report.problems == ()
    assert f"it runs along '{step}', the hours of a forecast: choose with --select" in (
        report.suspicious
    )
    sums = "amounts of later forecast steps may be sums since the start of the forecast"
    assert (sums in report.suspicious) == (kind == "tp")


@pytest.mark.parametrize("attributes", [{}, {"units": "furlongs"}])
def test_steps_without_units_are_told_by_the_times_they_are_for(
    path: Path, attributes: dict[str, str]
) -> None:
    forecasts("cfgrib", "t2m", stepped=attributes).to_netcdf(path)
    field = cf.open_field(path, TAS, select={"step": "24"})
    np.testing.assert_array_equal(field.time.values, 24.0 * STARTS + 24.0)
    forecasts("cfgrib", "tp", stepped=attributes).to_netcdf(path.with_name("tp.nc"))
    with pytest.raises(InputError, match="or since the entry before it; select the first step"):
        cf.open_field(path.with_name("tp.nc"), PR, select={"step": "12"})


def test_starts_are_known_by_the_words_of_cfgrib(path: Path) -> None:
    dataset = forecasts("cfgrib", "t2m", long_name="initial time of forecast")
    dataset.drop_vars("valid_time").to_netcdf(path)
    field = cf.open_field(path, TAS, select={"step": "12"})
    np.testing.assert_array_equal(field.time.values, 24.0 * STARTS + 12.0)


def test_stamps_at_hours_do_not_fit_into_whole_days(path: Path) -> None:
    dataset = forecasts("cfgrib", "t2m")
    days = {"units": "days since 2001-01-01", "standard_name": "time"}
    dataset = dataset.assign_coords(time=("time", STARTS.astype(np.int32), days))
    dataset.to_netcdf(path)
    field = cf.open_field(path, TAS, select={"step": "6"})
    np.testing.assert_array_equal(field.time.values, STARTS + 0.25)


@pytest.mark.parametrize("kind", ["tp", "t2m"])
def test_times_along_two_dimensions_alone_are_refused(path: Path, kind: str) -> None:
    dataset = forecasts("cfgrib", kind).rename(time="run", step="lead")
    dataset.drop_vars(["run", "lead"]).to_netcdf(path)
    message = r"its times in 'valid_time' along run and lead; expected .*`ncwa -a lead -d lead,0`"
    with pytest.raises(InputError, match=message):
        cf.open_field(path, PR if kind == "tp" else TAS)
    (report,) = inspect_sources(open_local(path))
    assert "its times in 'valid_time' along run and lead" in report.problems[0]


def test_one_forecast_along_the_times_it_is_for(path: Path) -> None:
    one = forecasts("cfgrib", "t2m").isel(time=0)
    one.to_netcdf(path)
    field = cf.open_field(path, TAS)
    np.testing.assert_array_equal(field.time.values, STEPS)
    np.testing.assert_allclose(field.read(slice(None)), values("t2m")[0], rtol=FLOAT32_RTOL)
    forecasts("cfgrib", "tp").isel(time=0).to_netcdf(path.with_name("tp.nc"))
    with pytest.raises(InputError, match=r"hours it may be .* take differences from step to step"):
        cf.open_field(path.with_name("tp.nc"), PR)


def test_amounts_of_files_that_are_ahead_by_different_steps_are_refused(tmp_path: Path) -> None:
    dataset = forecasts("cfgrib", "tp")
    for name, days, hours in (("a", slice(0, 10), 0.5), ("b", slice(10, 20), 1.0)):
        lead = ("step", [hours], dataset["step"].attrs)
        one = dataset.isel(time=days, step=[0]).assign_coords(step=lead)
        one.to_netcdf(tmp_path / f"{name}.nc")
    with pytest.raises(InputError, match=r"its forecast step \(1 hours\) differs from that of"):
        cf.open_field([tmp_path / "a.nc", tmp_path / "b.nc"], PR)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["tp", "t2m"])
def test_regridding_keeps_the_layout(path: Path, shell: Shell, layout: str, kind: str) -> None:
    forecasts(layout, kind).to_netcdf(path)
    regridded = shell("regrid", path, "fine.nc", "--grid", "-3,-1,41,42,0.5")
    assert regridded.code == 0, regridded.err
    start, step, valid = LAYOUTS[layout]
    with xr.open_dataset("fine.nc", decode_times=False) as result:
        assert result[kind].dims == (start, step, "lat", "lon")
        np.testing.assert_array_equal(result[valid].values, 24.0 * STARTS[:, None] + STEPS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_commands_write_the_times_that_forecasts_are_for(
    path: Path, shell: Shell, tiny_prior: Prior, layout: str
) -> None:
    forecasts(layout, "t2m").to_netcdf(path)
    for name, words in commands(path, tiny_prior, "delta").items():
        result = shell(*words, "--select", f"{LAYOUTS[layout][1]}=24")
        assert result.code == 0, result.err
        with xr.open_dataset(name, decode_times=False) as output:
            np.testing.assert_array_equal(output["time"].values, 24.0 * STARTS + 24.0)
    np.testing.assert_allclose(read_members("qdm.nc", "t2m"), values("t2m")[:, 2], atol=0.05)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_commands_take_amounts_of_the_first_step_alone(
    path: Path, shell: Shell, tiny_prior: Prior, layout: str
) -> None:
    forecasts(layout, "tp").to_netcdf(path)
    step = LAYOUTS[layout][1]
    for words in commands(path, tiny_prior, "bilinear").values():
        assert f"--select {step}=6" in shell(*words).message
        later = shell(*words, "--select", f"{step}=24")
        assert "it may be the sum since the start of the forecast" in later.message
        first = shell(*words, "--select", f"{step}=6")
        assert first.code == 0, first.err
    rate = 4.0 * values("tp")[:, 0]  # m day-1
    np.testing.assert_allclose(read_members("qdm.nc", "tp").mean(), rate.mean(), rtol=0.01)
    np.testing.assert_allclose(np.nanmean(read_members("run.nc", "pr")), rate.mean(), rtol=0.01)


def commands(path: Path, prior: Prior, method: str) -> dict[str, tuple[str | Path, ...]]:
    """Words of commands that need times, by what they write."""
    run = ("run", path, "run.nc", "--prior", prior.folder, "--method", method)
    qdm = ("qdm", path, "qdm.nc", "--ref", path, "--hist", path, "--group", "none")
    return {"run.nc": run, "qdm.nc": qdm}
