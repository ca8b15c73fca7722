"""What files say follows CF: names that fit their units, types of times, coordinates, the datum."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.cf.water import fitting_name
from tests.commands import Shell, read_members, write_pr, write_tas
from tests.priors import write_tiny_prior
from tests.series import PER_DAY, daily, noise, write_days

DAYS = daily(2001, 1)


@pytest.mark.parametrize(
    ("name", "units", "expected"),
    [
        ("precipitation_flux", "mm day-1", "lwe_precipitation_rate"),
        ("precipitation_flux", "kg m-2 day-1", "precipitation_flux"),
        ("lwe_precipitation_rate", "kg m-2 s-1", "precipitation_flux"),
        ("precipitation_amount", "mm day-1", "lwe_precipitation_rate"),
        ("precipitation_amount", "mm", "lwe_thickness_of_precipitation_amount"),
        ("thickness_of_rainfall_amount", "mm day-1", "rainfall_rate"),
        ("rainfall_rate", "kg m-2 s-1", "rainfall_flux"),
        ("snowfall_flux", "m s-1", "lwe_snowfall_rate"),
        ("convective_precipitation_flux", "mm h-1", "lwe_convective_precipitation_rate"),
        ("lwe_thickness_of_surface_snow_amount", "kg m-2", "surface_snow_amount"),
        ("runoff_flux", "mm day-1", None),
        ("geopotential", "m", "geopotential_height"),
        ("geopotential_height", "m2 s-2", "geopotential"),
        (
            "integral_wrt_time_of_surface_downwelling_shortwave_flux_in_air",
            "J m-2 day-1",
            "surface_downwelling_shortwave_flux_in_air",
        ),
        ("air_temperature", "K", "air_temperature"),
    ],
)
def test_a_depth_and_a_mass_have_names_of_their_own(
    name: str, units: str, expected: str | None
) -> None:
    assert fitting_name(name, units) == expected


@pytest.mark.parametrize("command", ["qdm", "ot"])
@pytest.mark.parametrize(
    ("written", "units", "scale", "expected"),
    [
        (None, "mm/day", 1.0, "lwe_precipitation_rate"),
        ("precipitation_flux", "mm/day", 1.0, "lwe_precipitation_rate"),
        ("precipitation_amount", "mm", 1.0, "lwe_precipitation_rate"),
        ("lwe_precipitation_rate", "kg m-2 s-1", 1.0 / PER_DAY, "precipitation_flux"),
    ],
)
def test_adjusted_rain_is_named_by_its_units(
    shell: Shell, command: str, written: str | None, units: str, scale: float, expected: str
) -> None:
    for seed, name in enumerate(("ref", "hist", "sim")):
        values = scale * np.exp(noise(DAYS, seed))
        about: Any = {"name": "pr", "units": units, "standard_name": written}
        write_days(f"{name}.nc", DAYS, values, attributes={"cell_methods": "time: sum"}, **about)
    fast = ("--epsilon", "0.05") if command == "ot" else ()
    result = shell(command, "--ref", "ref.nc", "--hist", "hist.nc", "sim.nc", "out.nc", *fast)
    assert result.code == 0, result.err
    with netCDF4.Dataset("out.nc") as file:
        assert file["pr"].standard_name == expected
        if units == "mm":
            assert (file["pr"].units, file["pr"].cell_methods) == ("mm day-1", "time: mean")


def whole_numbers(dataset: xr.Dataset) -> xr.Dataset:
    """Times in hours, 64-bit integers as xarray writes them."""
    time = dataset["time"]
    hours = np.round(24.0 * time.values).astype(np.int64)
    about = {**time.attrs, "units": str(time.attrs["units"]).replace("days", "hours")}
    return dataset.assign_coords(time=("time", hours, about))


def adjust(shell: Shell) -> Any:
    return shell("qdm", "--ref", "sim.nc", "--hist", "sim.nc", "sim.nc", "out.nc")


def regrid(shell: Shell) -> Any:
    return shell("regrid", "sim.nc", "out.nc", "--grid=-4,0,40,43,1")


def run(shell: Shell) -> Any:
    write_tiny_prior(Path("tiny"))
    return shell("run", "sim.nc", "out.nc", "--prior", "tiny", "--members", 2, "--steps", 2)


COMMANDS = pytest.mark.parametrize("command", [adjust, regrid, run])


@COMMANDS
def test_whole_numbers_of_time_are_written_as_double(
    shell: Shell, command: Callable[[Shell], Any]
) -> None:
    days = DAYS[:20]
    write_days("sim.nc", days, 280.0 + noise(days, 1), change=whole_numbers)
    result = command(shell)
    assert result.code == 0, result.err
    with netCDF4.Dataset("sim.nc") as source, netCDF4.Dataset("out.nc") as output:
        assert source["time"].dtype == np.int64
        assert output["time"].dtype == np.float64
        np.testing.assert_array_equal(output["time"][:], source["time"][:])
        kinds = {str(variable.dtype) for variable in output.variables.values()}
    assert kinds <= {"float64", "float32", "int32"}, "no type that CF-1.8 does not know"


@COMMANDS
def test_cells_lie_on_wgs_84(shell: Shell, command: Callable[[Shell], Any]) -> None:
    days = DAYS[:20]
    write_days("sim.nc", days, 280.0 + noise(days, 1))
    assert command(shell).code == 0
    with netCDF4.Dataset("out.nc") as file:
        fields = [v for v in file.variables.values() if {"lat", "lon"} <= set(v.dimensions)]
        assert {variable.grid_mapping for variable in fields} == {"crs"}
        assert file["crs"].grid_mapping_name == "latitude_longitude"
        # EPSG:4326: GRS 80's flattening differs in the ninth digit.
        assert file["crs"].semi_major_axis == 6378137.0
        assert file["crs"].inverse_flattening == 298.257223563
    if command is not run:
        again = shell("regrid", "out.nc", "again.nc", "--grid=-4,0,40,43,1")
        assert again.code == 0, again.err
        assert "left out" not in again.err
        np.testing.assert_allclose(read_members("again.nc"), read_members("out.nc"), rtol=1e-6)


def test_statistics_have_a_coordinate_of_realizations(shell: Shell) -> None:
    write_tiny_prior(Path("tiny"))
    write_tas(Path("tas.nc"))
    write_pr(Path("pr.nc"), units="mm day-1", values=lambda y, x, step: 3.0 + 0.0 * (x + y))
    result = shell(
        *("run", "tas.nc", "pr.nc", "out.nc", "--prior", "tiny", "--members", 3, "--steps", 2)
    )
    assert result.code == 0, result.err
    with netCDF4.Dataset("out.nc") as file:
        assert file.Conventions == cf.CONVENTIONS
        assert file["pr"].standard_name == "lwe_precipitation_rate"
        for name in ("tas_mean", "tas_spread", "pr_mean", "pr_spread"):
            assert "realization: " in file[name].cell_methods
            scalar = file[file[name].coordinates]
            assert scalar.standard_name == "realization"
            assert (scalar.shape, int(scalar[...])) == ((), 3)
        assert "coordinates" not in file["tas"].ncattrs()
