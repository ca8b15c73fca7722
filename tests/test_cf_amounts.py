"""Amounts over time: how long each is gathered over, and files that say two things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.cf import open_field
from climdown.errors import InputError
from climdown.inputs.checks import check_reading
from tests.factories import FLOAT32_RTOL, Floats, make_dataset

RAIN = cf.Quantity(
    "pr", ("precipitation_flux", "thickness_of_rainfall_amount"), ("pr", "tp", "rr"), "mm day-1"
)
DAYS = (0.5, 1.5, 2.5)
MONTHS = (15.5, 45.0, 74.5)
HOURS = tuple(hour / 24.0 for hour in range(1, 73))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tp.nc"


def rain(lat: Floats, lon: Floats, step: int) -> Floats:
    """Three everywhere."""
    return np.asarray(3.0 + 0.0 * (lat + lon))


def amounts(path: Path | None, **options: Any) -> xr.Dataset:
    settings: dict[str, Any] = {
        "path": path,
        "name": "tp",
        "standard_name": None,
        "units": "mm",
        "values": rain,
        **options,
    }
    return make_dataset(**settings)


def rates(path: Path, quantity: cf.Quantity = RAIN, **select: str) -> list[float]:
    field = open_field(path, quantity, select=select)
    return [float(rate) for rate in field.read(slice(None))[:, 0, 0]]


def named(name: str) -> cf.Quantity:
    return cf.Quantity("pr", RAIN.standard_names, (name,), "mm day-1")


@pytest.mark.parametrize(
    "units",
    ["mm/month", "mm month-1", "mm mon-1", "kg m-2 month-1", "kg m**-2 month**-1", "mm per month"],
)
@pytest.mark.parametrize(
    ("calendar", "lengths"), [("standard", (31, 28, 31)), ("360_day", (30, 30, 30))]
)
def test_months_in_units_are_the_months_of_the_steps(
    path: Path, units: str, calendar: str, lengths: tuple[int, ...]
) -> None:
    amounts(path, units=units, calendar=calendar, times=MONTHS)
    np.testing.assert_allclose(rates(path), 3.0 / np.array(lengths), rtol=FLOAT32_RTOL)
    assert open_field(path, RAIN).source_units in ("mm day-1", "kg m-2 day-1")


def test_a_season_in_amounts_of_a_month_has_its_mean_month(path: Path) -> None:
    amounts(path, units="mm/month", times=[45.0, 135.5, 227.0], bounds=True)
    with netCDF4.Dataset(path, "a") as file:
        file["time_bnds"][:] = [[0, 90], [90, 181], [181, 273]]
    expected = [3.0 / 30, 9.0 / 91, 9.0 / 92]
    np.testing.assert_allclose(rates(path), expected, rtol=FLOAT32_RTOL)


def test_days_in_amounts_of_a_month_have_their_own_month(path: Path) -> None:
    amounts(path, units="mm/month", times=[30.5, 31.5])
    np.testing.assert_allclose(rates(path), [3.0 / 31, 3.0 / 28], rtol=FLOAT32_RTOL)


@pytest.mark.parametrize(
    "standard_name", ["precipitation_flux", "water_potential_evaporation_flux"]
)
def test_a_simulation_in_amounts_of_a_month_is_adjusted_in_those_of_a_day(
    path: Path, standard_name: str
) -> None:
    dataset = amounts(path, units="mm/month", times=MONTHS, standard_name=standard_name)
    quantity = cf.quantity_like(dataset["tp"])
    field = open_field(path, quantity)
    assert (quantity.units, field.source_units) == ("mm day-1", "mm day-1")
    expected = [3.0 / 31, 3.0 / 28, 3.0 / 31]
    np.testing.assert_allclose(rates(path, quantity), expected, rtol=FLOAT32_RTOL)


@pytest.mark.parametrize("kind", ["avgad", "avgua", "avg"])
@pytest.mark.parametrize("bounded", [False, True])
def test_means_of_amounts_are_amounts_of_a_day(path: Path, kind: str, bounded: bool) -> None:
    attributes = {"GRIB_stepType": kind}
    amounts(path, units="m", times=MONTHS, attributes=attributes, bounds=bounded)
    if bounded:
        with netCDF4.Dataset(path, "a") as file:
            file["time_bnds"][:] = [[0, 31], [31, 59], [59, 90]]
    np.testing.assert_allclose(rates(path), [3000.0] * 3, rtol=FLOAT32_RTOL)


def test_means_of_amounts_within_a_day_are_refused(path: Path) -> None:
    amounts(path, times=(0.25, 0.5), attributes={"GRIB_stepType": "avg"})
    with pytest.raises(InputError, match=r"tp\.nc: variable 'tp' .*means of amounts, of a day or"):
        rates(path)


def test_monthly_metres_of_ecmwf_are_those_of_a_day_and_it_is_said(path: Path) -> None:
    amounts(path, units="m", times=MONTHS)
    np.testing.assert_allclose(rates(path), [3000.0] * 3, rtol=FLOAT32_RTOL)
    (doubt,) = open_field(path, RAIN).doubts
    assert "monthly amounts in 'm' are taken as those of a day" in doubt


def test_monthly_joules_of_ecmwf_are_those_of_a_day(path: Path) -> None:
    amounts(
        path, name="ssrd", units="J m**-2", times=MONTHS, values=lambda y, x, t: 864e4 + 0 * y * x
    )
    sunshine = cf.Quantity("rsds", (), ("ssrd",), "W m-2")
    np.testing.assert_allclose(rates(path, sunshine), [100.0] * 3, rtol=FLOAT32_RTOL)


def test_monthly_sums_in_metres_are_sums_where_they_say_so(path: Path) -> None:
    amounts(path, units="m", times=MONTHS, attributes={"cell_methods": "time: sum"})
    np.testing.assert_allclose(rates(path), 3000.0 / np.array([31, 28, 31]), rtol=FLOAT32_RTOL)


@pytest.mark.parametrize("name", ["precip_2000h_x", "pr_1850hist", "tp_2400h", "tp_20hpa"])
def test_numbers_in_names_that_are_no_lengths_are_no_lengths(path: Path, name: str) -> None:
    amounts(path, name=name, times=DAYS)
    np.testing.assert_allclose(rates(path, named(name)), [3.0] * 3, rtol=FLOAT32_RTOL)


@pytest.mark.parametrize(
    ("name", "hours"), [("tp_6hr", 6), ("rain_3_hours_total", 3), ("p_72h", 72)]
)
def test_lengths_in_names_are_lengths(path: Path, name: str, hours: int) -> None:
    amounts(path, name=name, times=DAYS)
    np.testing.assert_allclose(rates(path, named(name)), [72.0 / hours] * 3, rtol=FLOAT32_RTOL)


@pytest.mark.parametrize(
    ("name", "bounded", "message"),
    [
        ("tp_18h", False, "may say amounts over 18 hours, or over the step"),
        ("tp_6h", True, "says amounts over 6 hours, its bounds of time over 24"),
    ],
)
def test_names_that_contradict_the_step_are_refused(
    path: Path, name: str, bounded: bool, message: str
) -> None:
    amounts(path, name=name, times=DAYS, bounds=bounded)
    with pytest.raises(InputError, match=message):
        rates(path, named(name))


def test_amounts_of_an_instant_are_refused(path: Path) -> None:
    amounts(path, attributes={"GRIB_stepType": "instant"})
    with pytest.raises(InputError, match="GRIB_stepType says instant, and an amount takes time"):
        rates(path)


def test_accumulations_over_long_steps_say_how_they_are_read(path: Path) -> None:
    amounts(path, times=(0.25, 0.5), attributes={"GRIB_stepType": "accum"})
    np.testing.assert_allclose(rates(path), [12.0] * 2, rtol=FLOAT32_RTOL)
    (doubt,) = open_field(path, RAIN).doubts
    assert "taken as sums over the step of 6 hours; GRIB_stepType accum does not say" in doubt


def test_accumulations_over_hours_are_no_matter(path: Path) -> None:
    amounts(path, times=HOURS, attributes={"GRIB_stepType": "accum"})
    np.testing.assert_allclose(rates(path), [72.0] * 72, rtol=FLOAT32_RTOL)
    assert open_field(path, RAIN).doubts == ()


def forecasts(path: Path, steps: list[float], *, scalar: bool = False, **options: Any) -> None:
    """Amounts of forecasts from the start of each day, further ahead by each entry."""
    dataset = amounts(None, times=(0.0, 1.0, 2.0), **options)
    lead = ("step", steps, {"units": "hours", "standard_name": "forecast_period"})
    stacked = xr.concat([dataset["tp"]] * len(steps), "step").transpose("time", "step", ...)
    result = dataset.assign(tp=stacked).assign_coords(step=lead)
    valid = 24.0 * result["time"] + result["step"]
    valid.attrs = {"units": "hours since 2001-01-01", "standard_name": "time"}
    result = result.assign_coords(valid_time=valid)
    (result.isel(step=0) if scalar else result).to_netcdf(path)


@pytest.mark.parametrize("steps", [[1, 2, 3], [3, 6], [6, 12, 24]])
def test_the_first_forecast_step_is_since_the_start(path: Path, steps: list[float]) -> None:
    forecasts(path, steps)
    found = rates(path, step=str(steps[0]))
    np.testing.assert_allclose(found, [72.0 / steps[0]] * 3, rtol=FLOAT32_RTOL)
    centre = open_field(path, RAIN, select={"step": str(steps[0])}).time.centres[0]
    assert centre.hour + centre.minute / 60 == steps[0] / 2


@pytest.mark.parametrize(
    ("steps", "label", "scalar"),
    [([1, 2, 3], "2", False), ([6, 12], "12", False), ([0, 6], "0", False), ([24], None, True)],
)
def test_later_forecast_steps_may_be_two_sums_and_are_refused(
    path: Path, steps: list[float], label: str | None, scalar: bool
) -> None:
    forecasts(path, steps, scalar=scalar)
    with pytest.raises(InputError, match=r"it may be the sum since the start of the forecast or"):
        open_field(path, RAIN, select={} if label is None else {"step": label})


def test_forecasts_are_for_the_time_after_their_start(path: Path) -> None:
    forecasts(path, [12, 24], units="mm day-1")
    axis = open_field(path, RAIN, select={"step": "24"}).time
    assert [date.day for date in axis.centres] == [2, 3, 4]
    assert [date.day for date in axis.dates] == [2, 3, 4]
    np.testing.assert_array_equal(axis.values, [1.0, 2.0, 3.0])


def hourly(lat: Floats, lon: Floats, step: int) -> Floats:
    """Amounts of an hour, wet and dry, at any hour of the day."""
    return np.asarray(np.maximum(0.0, np.sin(0.1 * lat + 0.5 * lon + 1.3 * step)))


def since_midnight(lat: Floats, lon: Floats, step: int) -> Floats:
    """The same, summed since midnight, for stamps at the end of each hour."""
    first = step - step % 24
    sums: Floats = np.stack([hourly(lat, lon, hour) for hour in range(first, step + 1)]).sum(axis=0)
    return sums


def every_third_hour(lat: Floats, lon: Floats, step: int) -> Floats:
    return since_midnight(lat, lon, 3 * step + 2)


@pytest.mark.parametrize(
    ("values", "times"), [(since_midnight, HOURS), (every_third_hour, HOURS[2::3])]
)
def test_sums_since_midnight_are_refused(path: Path, values: Any, times: tuple[float, ...]) -> None:
    amounts(path, values=values, times=times)
    with pytest.raises(InputError, match=r"tp\.nc: variable 'tp' holds sums that grow through"):
        check_reading([open_field(path, RAIN)])


def since_the_start(lat: Floats, lon: Floats, step: int) -> Floats:
    sums: Floats = np.stack([hourly(lat, lon, hour) for hour in range(step + 1)]).sum(axis=0)
    return sums


def test_sums_since_the_start_of_a_forecast_are_refused(path: Path) -> None:
    amounts(path, values=since_the_start, times=HOURS)
    with pytest.raises(InputError, match=r"variable 'tp' holds sums that grow from step to step"):
        check_reading([open_field(path, RAIN)])


def test_sums_of_days_since_the_start_are_refused(path: Path) -> None:
    amounts(path, values=since_the_start, times=tuple(range(1, 12)))
    with pytest.raises(InputError, match=r"holds sums that grow from step to step; .* differences"):
        check_reading([open_field(path, RAIN)])


@pytest.mark.parametrize(("leads", "refused"), [([6, 12, 18], True), ([6, 6, 6], False)])
def test_forecast_steps_along_time_are_one_step_each_or_refused(
    path: Path, leads: list[int], refused: bool
) -> None:
    dataset = amounts(None, times=(0.25, 0.5, 0.75))
    lead = ("time", leads, {"units": "hours", "standard_name": "forecast_period"})
    dataset.assign_coords(forecast_period=lead).to_netcdf(path)
    if not refused:
        np.testing.assert_allclose(rates(path), [12.0] * 3, rtol=FLOAT32_RTOL)
        return
    with pytest.raises(InputError, match="at forecast step 18 hours it may be the sum since"):
        rates(path)


@pytest.mark.parametrize("values", [hourly, rain])
def test_amounts_of_each_hour_are_no_running_sums(path: Path, values: Any) -> None:
    amounts(path, values=values, times=HOURS)
    check_reading([open_field(path, RAIN)])


def test_doubts_are_said_with_file_and_variable(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    amounts(path, units="m", times=MONTHS)
    check_reading([open_field(path, RAIN)])
    assert f"{path}: variable 'tp': monthly amounts" in caplog.text
