"""What `climdown inspect` finds wrong in axes, bounds, stamps and accumulations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from climdown.inputs.inspection import inspect_sources, open_local
from tests.factories import Floats, make_dataset

LON: Floats = np.arange(0.0, 12.0, 2.0)


def suspicious(dataset: xr.Dataset, path: Path) -> tuple[str, ...]:
    """The remarks on the file's only gridded variable."""
    dataset.to_netcdf(path)
    (report,) = inspect_sources(open_local(path))
    return report.suspicious


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.nc"


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"lon": [0, 2, 4, 350, 352, 354]}, "lon jumps from 4 to 350 where its other steps are 2"),
        ({"lon": [-20, -18, -16, -4, -2]}, "lon jumps from -16 to -4 where its other steps are 2"),
        ({"lat": [50, 48, 46, 30, 28]}, "lat jumps from 46 to 30 where its other steps are 2"),
    ],
)
def test_holes_in_axes_are_named(path: Path, axes: dict[str, Any], words: str) -> None:
    (message,) = suspicious(make_dataset(**axes), path)
    assert message == f"{words}: a hole, or sorted across the seam"


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
        (0, 0, 0.0, "1 of 6 cells are not as wide, like that at 0, 1 wide"),
        (5, 1, 13.0, "1 of 6 cells are not as wide, like that at 10, 4 wide"),
    ],
)
def test_bounds_that_contradict_an_even_axis_are_named(
    path: Path, cell: int, edge: int, value: float, words: str
) -> None:
    dataset = make_dataset(lon=LON, bounds=True)
    dataset["lon_bnds"][cell, edge] = value
    (message,) = suspicious(dataset, path)
    assert message == f"bounds of lon contradict its even steps of 2: {words}"


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


def test_accumulations_of_forecasts_are_named(path: Path) -> None:
    dataset = make_dataset(attributes={"GRIB_stepType": "accum"})
    steps = ("time", [6.0, 12.0, 18.0], {"standard_name": "forecast_period", "units": "hours"})
    dataset = dataset.assign_coords(lead=steps)
    first, second = suspicious(dataset, path)
    assert first.startswith("GRIB_stepType is accum: values may be sums since the start of a")
    assert second == "it runs along 'lead', the hours of a forecast: choose with --select"
