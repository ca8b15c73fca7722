"""Telling variables apart by standard_name and units, and converting their values."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.cf import Quantity, open_field
from climdown.errors import InputError
from tests.factories import (
    PR,
    PSL,
    TAS,
    assert_holds_truth,
    make_dataset,
    wave,
)

TWIN = {"standard_name": "air_temperature", "units": "K"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tas.nc"


def test_a_variable_is_found_by_standard_name_under_an_unusual_name(path: Path) -> None:
    make_dataset(path=path, name="T_air", others={"huss": {"standard_name": "specific_humidity"}})
    field = open_field(path, TAS)
    assert (field.source_name, field.source_units) == ("T_air", "K")
    assert field.attributes["standard_name"] == "air_temperature"
    assert field.global_attributes["source"] == "synthetic"


def test_a_usual_name_serves_without_a_standard_name(path: Path) -> None:
    make_dataset(path=path, name="T2M", standard_name=None)
    assert open_field(path, TAS).source_name == "T2M"


def test_an_unusual_name_without_a_standard_name_is_refused(path: Path) -> None:
    make_dataset(path=path, name="T_air", standard_name=None)
    with pytest.raises(InputError, match=re.escape("tas.nc: 'T_air' (no standard_name)")):
        open_field(path, TAS)


def test_the_usual_name_wins_among_several(path: Path) -> None:
    make_dataset(path=path, name="soil_air", others={"tas": TWIN})
    assert open_field(path, TAS).source_name == "tas"


def test_several_candidates_with_unusual_names_are_refused(path: Path) -> None:
    make_dataset(path=path, name="a", others={"b": TWIN})
    with pytest.raises(InputError, match="several variables could be tas: a, b; keep one"):
        open_field(path, TAS)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"units": "K", "cell_methods": "area: mean time: maximum"}, "time: maximum"),
        ({"units": "K", "long_name": "Temperature at 850 hPa"}, "on a pressure level"),
        ({"units": "kg"}, "units 'kg'"),
        ({"units": "furlongs per"}, "units 'furlongs per'"),
        ({}, "no units"),
    ],
)
def test_near_surface_mean_temperature_is_not_mistaken(
    path: Path, entry: dict[str, str], reason: str
) -> None:
    make_dataset(path=path, name="other", units=entry.pop("units", None), attributes=entry)
    with pytest.raises(InputError, match=re.escape(f"'other' ({reason})")):
        open_field(path, TAS)


@pytest.mark.parametrize("name", ["tasmax", "Tmin", "temperature_maximum"])
def test_extremes_without_cell_methods_are_told_by_their_name(path: Path, name: str) -> None:
    make_dataset(path=path, name=name)
    with pytest.raises(InputError, match=re.escape(f"'{name}' (an extreme, by its name)")):
        open_field(path, TAS)


def test_a_usual_name_may_be_an_extreme(path: Path) -> None:
    make_dataset(path=path, name="tasmax", attributes={"cell_methods": "time: maximum"})
    tasmax = Quantity("tasmax", TAS.standard_names, ("tasmax",), "K")
    assert open_field(path, tasmax).source_name == "tasmax"


@pytest.mark.parametrize(
    "level",
    [
        xr.DataArray(85000.0, attrs={"standard_name": "air_pressure", "units": "Pa"}),
        xr.DataArray([850.0], dims="plev", attrs={"units": "millibars"}),
    ],
    ids=["scalar", "one level without a standard_name"],
)
def test_pressure_levels_are_told_from_near_surface(path: Path, level: xr.DataArray) -> None:
    dataset = make_dataset(name="ta")
    if level.ndim:
        dataset = dataset.expand_dims("plev")
    dataset.assign_coords(plev=level).to_netcdf(path)
    with pytest.raises(InputError, match=re.escape("'ta' (on a pressure level)")):
        open_field(path, TAS)
    t850 = Quantity(name="t850", standard_names=TAS.standard_names, names=("ta",), units="K")
    assert open_field(path, t850).source_name == "ta"


@pytest.mark.parametrize(
    ("quantity", "units", "factor", "offset"),
    [
        (TAS, "K", 1.0, 0.0),
        (TAS, "degC", 1.0, 273.15),
        (TAS, "celsius", 1.0, 273.15),
        (PR, "kg m-2 s-1", 86400.0, 0.0),
        (PR, "kg m**-2 s**-1", 86400.0, 0.0),
        (PR, "mm/day", 1.0, 0.0),
        (PR, "m s-1", 86400e3, 0.0),
        (PSL, "hPa", 100.0, 0.0),
    ],
)
def test_values_come_in_the_units_asked_for(
    path: Path, quantity: Quantity, units: str, factor: float, offset: float
) -> None:
    make_dataset(
        path=path,
        name="v",
        standard_name=quantity.standard_names[0],
        units=units,
        values=lambda lat, lon, step: (wave(lat, lon, step) - offset) / factor,
    )
    assert_holds_truth(open_field(path, quantity))


@pytest.mark.parametrize(
    ("source", "target", "value", "expected"),
    [
        ("m**2 s**-2", "m2 s-2", 49050.0, 49050.0),
        ("mm day-1", "kg m-2 s-1", 8.64, 1e-4),
        ("mm", "kg m-2", 3.0, 3.0),
        ("degF", "degC", 212.0, 100.0),
    ],
)
def test_units_convert_both_ways(source: str, target: str, value: float, expected: float) -> None:
    there = cf.convert_units(np.array([value]), source, target)
    np.testing.assert_allclose(there, [expected], rtol=1e-13)
    np.testing.assert_allclose(cf.convert_units(there, target, source), [value], rtol=1e-13)


@pytest.mark.parametrize(("source", "target"), [("K", "Pa"), ("fortnights per", "s"), ("", "K")])
def test_units_that_do_not_convert_are_refused(source: str, target: str) -> None:
    assert not cf.units_convertible(source, target)
    with pytest.raises(ValueError, match=f"units '{source}' are not convertible to '{target}'"):
        cf.convert_units(np.zeros(2), source, target)
