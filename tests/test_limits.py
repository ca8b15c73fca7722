"""Physical limits by standard name and units; adjusted values are held within them."""

from __future__ import annotations

from typing import Any

import netCDF4
import numpy as np
import pytest

from climdown import cf
from climdown.adjust.possible import within_limits
from climdown.adjust.series import Series
from tests.commands import Result, Shell, read_members
from tests.factories import Floats
from tests.series import Dates, daily, noise, write_days

DAYS, LATER = daily(2001, 2), daily(2051, 2)
INFINITE = float("inf")


@pytest.mark.parametrize(
    ("standard_name", "units", "expected"),
    [
        ("precipitation_flux", "kg m-2 s-1", (0.0, INFINITE)),
        ("snowfall_flux", "mm day-1", (0.0, INFINITE)),
        ("runoff_flux", "kg m-2 s-1", (0.0, INFINITE)),
        ("surface_snow_amount", "kg m-2", (0.0, INFINITE)),
        ("wind_speed", "m s-1", (0.0, INFINITE)),
        ("wind_speed_of_gust", "knot", (0.0, INFINITE)),
        ("surface_downwelling_longwave_flux_in_air", "W m-2", (0.0, INFINITE)),
        ("toa_outgoing_longwave_flux", "W m-2", (0.0, INFINITE)),
        ("sea_ice_area_fraction", "%", (0.0, 100.0)),
        ("sea_ice_area_fraction", "1", (0.0, 1.0)),
        ("sea_ice_thickness", "m", (0.0, INFINITE)),
        ("cloud_area_fraction", "%", (0.0, 100.0)),
        ("relative_humidity", "%", (0.0, 100.0)),
        ("specific_humidity", "g kg-1", (0.0, 1000.0)),
        ("surface_albedo", "1", (0.0, 1.0)),
        ("mass_content_of_water_in_soil", "kg m-2", (0.0, INFINITE)),
        ("air_temperature", "K", None),
        ("eastward_wind", "m s-1", None),
        ("surface_upward_latent_heat_flux", "W m-2", None),
        ("surface_net_downward_shortwave_flux", "W m-2", None),
        ("water_evapotranspiration_flux", "kg m-2 s-1", None),
        ("tendency_of_specific_humidity", "s-1", None),
        ("precipitation_flux_anomaly", "kg m-2 s-1", None),
        ("air_pressure_at_mean_sea_level", "Pa", None),
    ],
)
def test_limits_go_by_standard_name_and_units(
    standard_name: str, units: str, expected: tuple[float, float] | None
) -> None:
    limits = cf.physical_limits(cf.Quantity("x", (standard_name,), ("x",), units))
    assert (None if limits is None else (limits.low, limits.high)) == expected


@pytest.mark.parametrize(
    ("name", "units", "high"),
    [("prsn", "kg m-2 s-1", INFINITE), ("clt", "%", 100.0), ("siconc", "1", 1.0)],
)
def test_a_usual_name_will_do_without_a_standard_name(name: str, units: str, high: float) -> None:
    limits = cf.physical_limits(cf.Quantity(name, (), (name,), units))
    assert limits == cf.Limits(0.0, high)


def test_humidity_aloft_may_exceed_100_percent_over_ice() -> None:
    aloft = cf.Quantity("hur", ("relative_humidity",), ("hur",), "%", level=30_000.0)
    assert cf.physical_limits(aloft) == cf.Limits(0.0, INFINITE)


def beta(dates: Dates, seed: int, weight: float) -> Floats:
    """Shares from 0 to 1, the more the larger the weight."""
    return np.random.default_rng(seed).beta(weight, 1.5, (len(dates), 3, 4))


def write(name: str, values: Any, units: str, standard_name: str | None, top: float) -> None:
    options: Any = {"name": name, "units": units, "standard_name": standard_name}
    for sample, dates, seed, weight in (
        ("ref", DAYS, 1, 8.0),
        ("hist", DAYS, 2, 4.0),
        ("sim", LATER, 3, 6.0),
    ):
        write_days(f"{sample}.nc", dates, top * values(dates, seed, weight), **options)


def adjusted(shell: Shell, command: str, *options: str) -> Result:
    fast = ("--epsilon", "0.05") if command == "ot" else ()
    files = ("--ref", "ref.nc", "--hist", "hist.nc", "sim.nc", "out.nc")
    return shell(command, *files, *fast, *options)


def amounts(dates: Dates, seed: int, weight: float) -> Floats:
    """Amounts that are often nearly nothing."""
    return np.random.default_rng(seed).gamma(0.3, weight, (len(dates), 3, 4))


@pytest.mark.parametrize("command", ["qdm", "ot"])
@pytest.mark.parametrize(
    ("name", "values", "units", "standard_name", "top"),
    [
        ("hurs", beta, "%", "relative_humidity", 100.0),
        ("clt", beta, "%", None, 100.0),
        ("siconc", beta, "1", "sea_ice_area_fraction", 1.0),
        ("prsn", amounts, "kg m-2 s-1", "snowfall_flux", 1e-5),
        ("mrro", amounts, "mm day-1", None, 1.0),
    ],
)
def test_results_stay_what_the_quantity_can_be(
    shell: Shell, command: str, name: str, values: Any, units: str, standard_name: Any, top: float
) -> None:
    write(name, values, units, standard_name, top)
    result = adjusted(shell, command, *(("--kind", "additive") if command == "qdm" else ()))
    assert result.code == 0, result.err
    found = read_members("out.nc", name)
    assert found.min() >= 0.0
    with netCDF4.Dataset("out.nc") as file:
        report = str(file.bias_adjustment_report)
    at_limits = int((found == 0.0).sum())
    if values is beta:
        assert found.max() <= np.float32(top)
        at_limits += int((found == np.float32(top)).sum())
    assert at_limits > 0
    assert f"{at_limits} values of {name} held within what it can be" in report


def test_amounts_have_ratios_and_what_is_unknown_is_told_to_be_additive(shell: Shell) -> None:
    write("prsn", amounts, "kg m-2 s-1", "snowfall_flux", 1e-5)
    result = adjusted(shell, "qdm")
    assert "multiplicative" in result.err
    assert "additive" not in result.err
    write("blob", amounts, "kg", None, 1.0)
    result = adjusted(shell, "qdm", "--overwrite")
    assert "sim.nc: 'blob' is no quantity that climdown knows, and taken as additive" in result.err
    assert "additive" not in adjusted(shell, "qdm", "--overwrite", "--kind", "multiplicative").err


def test_the_minimum_of_a_day_is_never_above_its_maximum(shell: Shell) -> None:
    base: Any = {"standard_name": "air_temperature", "units": "K"}
    for sample, dates, seed in (("ref", DAYS, 1), ("hist", DAYS, 2), ("sim", LATER, 3)):
        low = 280.0 + 3.0 * noise(dates, seed)
        # Of the model the two are often nearly one, and independent of each other.
        width = np.abs(noise(dates, seed + 10)) * (2.0 if sample == "ref" else 0.05)
        for name, values, method in (
            ("tasmin", low, "minimum"),
            ("tasmax", low + width, "maximum"),
        ):
            about = {"cell_methods": f"time: {method}"}
            write_days(f"{sample}_{name}.nc", dates, values, name=name, attributes=about, **base)
    files = ("--ref", "ref_*.nc", "--hist", "hist_*.nc", "sim_*.nc", "out.nc")
    result = shell("ot", *files, "--epsilon", "0.05")
    assert result.code == 0, result.err
    assert (read_members("out.nc", "tasmin") <= read_members("out.nc", "tasmax")).all()


def test_minimum_and_maximum_out_of_order_are_changed_for_one_another(tmp_path: Any) -> None:
    series = []
    for name, units in (("tasmax", "degC"), ("tasmin", "K")):
        path = write_days(
            tmp_path / f"{name}.nc", DAYS, 10.0 + noise(DAYS, 1), name=name, units=units
        )
        quantity = cf.Quantity(name, ("air_temperature",), (name,), units)
        field = cf.open_field(path, quantity)
        series.append(Series(field, field, field))
    high = np.array([[[10.0, 5.0]]], dtype=np.float32)
    low = np.array([[[278.15, 283.15]]], dtype=np.float32)
    (upper, lower), lines = within_limits(series, [high, low])
    np.testing.assert_allclose(upper, [[[10.0, 10.0]]], atol=1e-4)
    np.testing.assert_allclose(lower, [[[278.15, 278.15]]], atol=1e-4)
    assert lines == ["1 values of tasmin and tasmax out of order, changed for one another"]
