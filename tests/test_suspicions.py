"""What `climdown inspect` finds wrong in axes, bounds, stamps and accumulations."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.errors import InputError
from climdown.inputs import checks
from climdown.inputs.inspection import VariableReport, inspect_sources, open_local
from tests.factories import PR, TAS, Floats, make_dataset

LON: Floats = np.arange(0.0, 12.0, 2.0)


def suspicious(dataset: xr.Dataset, path: Path) -> tuple[str, ...]:
    """The remarks on the file's only gridded variable."""
    return report(dataset, path).suspicious


def report(dataset: xr.Dataset, path: Path) -> VariableReport:
    dataset.to_netcdf(path)
    (only,) = inspect_sources(open_local(path))
    return only


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.nc"


@pytest.mark.parametrize(
    ("lon", "ends"), [([0, 2, 4, 354, 356, 358], "354 to 364"), ([-179, -177, 179], "179 to 183")]
)
def test_longitudes_sorted_across_their_seam_are_named(
    path: Path, lon: list[float], ends: str
) -> None:
    (message,) = suspicious(make_dataset(lon=lon), path)
    assert message == f"longitude is sorted across its seam: read from {ends}"


@pytest.mark.parametrize(
    ("axis", "centres", "words"),
    [
        ("lon", [-20, -18, -16, -4, -2], "longitude has a hole between -16 and -4"),
        ("lat", [50, 48, 46, 30, 28], "latitude has a hole between 30 and 46"),
    ],
)
def test_holes_in_axes_are_named(path: Path, axis: str, centres: list[float], words: str) -> None:
    dataset = make_dataset(**{axis: centres})  # type: ignore[arg-type]
    (problem,) = report(dataset, path).problems
    assert problem.startswith(f"grid: {words} (most of its cells are 2 apart), and no bounds")
    dataset[axis].attrs["bounds"] = "edges"
    edges = np.stack([dataset[axis] - 1.0, dataset[axis] + 1.0], axis=1)
    told = suspicious(dataset.assign(edges=((axis, "two"), edges)), path)
    assert told == (f"{words} (most of its cells are 2 apart)",)


@pytest.mark.parametrize(
    "axes",
    [
        {"lon": np.arange(-6.0, 8.0, 2.0) % 360.0},  # across the seam
        {"lon": [176, 178, 180, -178, -176]},
        {"lat": [0.0, 1.0, 2.1, 3.4, 5.0, 7.2]},  # stretched
        {"lat": [40.0, 50.0]},
    ],
)
@pytest.mark.parametrize("bounds", [False, True])
def test_axes_without_holes_are_not_named(path: Path, axes: dict[str, Any], bounds: bool) -> None:
    seam = "lon" in axes
    assert suspicious(make_dataset(bounds=bounds and not seam, **axes), path) == ()


@pytest.mark.parametrize(
    ("cell", "edge", "value", "words"),
    [
        (0, 0, 0.0, "the bounds [0, 1] of longitude 0"),
        (5, 1, 13.0, "the bounds [9, 13] of longitude 10"),
    ],
)
def test_bounds_that_contradict_an_even_axis_are_named_once(
    path: Path,
    caplog: pytest.LogCaptureFixture,
    cell: int,
    edge: int,
    value: float,
    words: str,
) -> None:
    dataset = make_dataset(lon=LON, bounds=True)
    dataset["lon_bnds"][cell, edge] = value
    dataset.to_netcdf(path)
    sources = open_local(path)
    (message,) = inspect_sources(sources)[0].suspicious
    assert message.startswith(f"{words} contradict the spacing of the centres; cells end midway")
    sources.field(TAS)
    assert not caplog.records
    cf.open_field(path, TAS)
    assert message in caplog.text


def test_cells_cut_at_a_pole_contradict_nothing(path: Path) -> None:
    dataset = make_dataset(lat=np.arange(-90.0, 91.0, 30.0), bounds=True)
    assert float(dataset["lat_bnds"][0, 1] - dataset["lat_bnds"][0, 0]) == 15.0
    assert suspicious(dataset, path) == ()


def test_stamps_at_the_end_of_their_bounds_are_named(path: Path) -> None:
    dataset = make_dataset(times=(1.0, 2.0, 3.0), bounds=True)
    dataset["time_bnds"] -= 1.0
    (message,) = suspicious(dataset, path)
    assert message == (
        "stamps of time lie at the end of their bounds: the step of 2001-01-02 00:00:00 ends then"
    )


def test_stamps_outside_of_their_bounds_are_counted(path: Path) -> None:
    dataset = make_dataset(bounds=True)
    dataset["time_bnds"][1] += 7.0
    (message,) = suspicious(dataset, path)
    assert message.startswith("the bounds of time are not those of their steps at 1 of 3, first at")


def test_bounds_of_time_in_units_of_their_own_are_named(path: Path) -> None:
    dataset = make_dataset(bounds=True)
    dataset["time_bnds"].attrs = {"units": "hours since 2001-01-01", "calendar": "standard"}
    message = (
        "bounds of time are in 'hours since 2001-01-01', their axis in 'days since 2001-01-01'"
    )
    assert message in suspicious(dataset, path)


@pytest.mark.parametrize(
    ("cell_methods", "hour", "named"),
    [
        ("time: mean", 0.0, True),
        ("time: maximum", 0.0, True),
        ("time: mean", 0.5, False),
        ("time: point", 0.0, False),
        ("", 0.0, False),
    ],
)
def test_days_that_may_end_at_their_stamps_are_named(
    path: Path, cell_methods: str, hour: float, named: bool
) -> None:
    times = tuple(day + hour for day in range(5))
    dataset = make_dataset(times=times, attributes={"cell_methods": cell_methods})
    told = "\n".join(suspicious(dataset, path))
    assert ("daily steps are stamped at midnight and have no bounds of time" in told) == named


def rain(name: str = "tp", units: str = "m", **options: Any) -> xr.Dataset:
    return make_dataset(name=name, standard_name=None, units=units, **options)


def test_monthly_means_of_ecmwf_are_named_as_commands_name_them(path: Path) -> None:
    told = suspicious(rain(times=(0.0, 31.0, 59.0), values=lambda y, x, t: 0.003 + 0 * y * x), path)
    (doubt,) = cf.open_field(path, PR).doubts
    assert doubt in told
    assert doubt.startswith("monthly amounts in 'm' are taken as those of a day")


def since_midnight(lat: Floats, lon: Floats, step: int) -> Floats:
    """Sums of hours of rain, wet in half of the hours, for stamps at the end of the hours."""
    hours = range(step - step % 24, step + 1)
    sums: Floats = sum(np.maximum(0.0, np.sin(lat + 0.5 * lon + 1.3 * h)) for h in hours)  # type: ignore[assignment]
    return 1e-3 * sums


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_sums_since_midnight_are_named_as_commands_refuse_them(
    path: Path, large: bool, sign: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(checks, "_WATCHED_VALUES", 72 * 8)
    dataset = rain(
        times=[float(hour) for hour in range(1, 97)],
        time_units="hours since 2001-01-01",
        values=lambda y, x, t: sign * since_midnight(y, x, t),
        lat=np.arange(40.0, 48.0),
    )
    told = suspicious(dataset, path)
    field = cf.open_field(path, PR)
    with pytest.raises(InputError, match="begin anew after 00 UTC; expected amounts") as refused:
        checks.check_reading([field])
    assert str(refused.value).removeprefix(f"{field.where} ") in told


def test_hours_of_rain_are_no_sums_since_midnight(path: Path) -> None:
    dataset = rain(
        times=[float(hour) for hour in range(1, 97)],
        time_units="hours since 2001-01-01",
        attributes={"GRIB_stepType": "accum"},
        values=lambda y, x, t: 1e-3 * np.maximum(0.0, np.sin(y + 0.5 * x + 1.3 * t)),
    )
    assert suspicious(dataset, path) == ("no standard_name: it is recognised by its name alone",)


@pytest.mark.skipif(shutil.which("cdo") is None, reason="needs CDO")
def test_the_sums_of_days_that_a_refusal_proposes_are_those_of_the_days(path: Path) -> None:
    dataset = rain(
        times=[float(hour) for hour in range(1, 97)],
        time_units="hours since 2001-01-01",
        values=since_midnight,
    )
    dataset.to_netcdf(path)
    with pytest.raises(InputError, match=r"`cdo (.*) IN OUT`") as refused:
        checks.check_reading([cf.open_field(path, PR)])
    words = str(refused.value).split("`cdo ")[1].split(" IN OUT")[0].split()
    days = path.with_name("days.nc")
    subprocess.run(["cdo", "-s", *words, path, days], check=True)
    field = cf.open_field(days, PR)
    checks.check_reading([field])
    assert [date.day for date in field.time.centres] == [1, 2, 3, 4]
    lat, lon = field.grid.lat[:, None], field.grid.lon[None, :]
    expected = [1000.0 * since_midnight(lat, lon, hour) for hour in (23, 47, 71, 95)]
    np.testing.assert_allclose(field.read(slice(None)), expected, rtol=1e-5)


def test_forecasts_along_time_are_named_as_commands_refuse_them(path: Path) -> None:
    steps = ("time", [6.0, 12.0, 18.0], {"standard_name": "forecast_period", "units": "hours"})
    dataset = rain(times=(0.25, 0.5, 0.75), values=lambda y, x, t: 0.001 + 0 * y * x)
    told = suspicious(dataset.assign_coords(lead=steps), path)
    with pytest.raises(InputError, match="at forecast step 18 hours it may be the sum") as refused:
        cf.open_field(path, PR)
    assert any(line in str(refused.value) for line in told if line.startswith("holds amounts"))


def test_stamps_a_rounding_error_before_midnight_are_named(path: Path) -> None:
    times = [float(np.float32(day + 1.0) - 1e-7) for day in range(3)]
    (message,) = suspicious(make_dataset(times=times), path)
    assert message.startswith(
        "stamps of time lie a rounding error beside the minute: 2001-01-01 23"
    )
    assert message.endswith("is taken for 2001-01-02 00:00:00")


def test_a_flux_called_a_daily_amount_is_named(path: Path) -> None:
    flux = rain("pr", "mm day-1", values=lambda y, x, t: 3e-5 + 1e-6 * np.sin(y + x))
    assert (
        "no value is larger than 3.085e-05 mm day-1, a trace: are the units right?"
        in suspicious(flux, path)
    )


@pytest.mark.parametrize("order", [("lat", "lon", "time"), ("lon", "time", "lat")])
def test_sums_are_found_whatever_the_order_of_dimensions(
    path: Path, order: tuple[str, ...]
) -> None:
    hours = [float(hour) for hour in range(1, 97)]
    units = "hours since 2001-01-01"
    dataset = rain(times=hours, time_units=units, values=since_midnight)
    told = suspicious(dataset.transpose(*order), path)
    assert any(line.startswith("holds sums that grow through the day") for line in told)
    amounts = cf.open_field(path, PR).first_steps(96, 96 * 10)
    assert amounts.shape[0] == 96
    assert amounts.shape[1] < 20
