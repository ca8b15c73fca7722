"""Telling variables apart by standard_name and units, converting and reading their values."""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown import cf
from climdown.cf import Quantity, fields, open_field
from climdown.cf.units import readable_units
from climdown.errors import InputError
from climdown.grid import Grid
from tests.factories import (
    FLOAT32_RTOL,
    PR,
    PSL,
    TAS,
    assert_holds_truth,
    make_dataset,
    wave,
    write_damaged,
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
    with pytest.raises(
        InputError, match=r"tas\.nc: no variable .* found 'T_air' \(no standard_name\)"
    ):
        open_field(path, TAS)


def test_the_usual_name_wins_among_several(path: Path) -> None:
    make_dataset(path=path, name="soil_air", others={"tas": TWIN})
    assert open_field(path, TAS).source_name == "tas"


def test_the_name_itself_wins_among_usual_ones(path: Path) -> None:
    make_dataset(path=path, name="t2m", others={"TAS": TWIN})
    assert open_field(path, TAS).source_name == "TAS"


def test_names_are_one_in_upper_and_lower_case(path: Path) -> None:
    wind = Quantity("sfcWind", ("wind_speed",), ("sfcWind",), "m s-1")
    make_dataset(path=path, name="sfcwind", standard_name=None, units="m/s")
    assert open_field(path, wind).source_name == "sfcwind"


def test_a_name_that_grib_converters_do_not_know_is_no_name(path: Path) -> None:
    make_dataset(path=path, name="t2m", standard_name="unknown")
    assert open_field(path, TAS).source_name == "t2m"


def test_a_quantity_without_standard_names_goes_by_its_names(path: Path) -> None:
    make_dataset(path=path, name="index", standard_name=None, units="1")
    index = Quantity("index", (), ("index",), "%")
    np.testing.assert_allclose(
        open_field(path, index).read(slice(0, 1))[0, 0, 0], 27400.0, rtol=1e-5
    )
    with pytest.raises(InputError, match="no variable named other in units convertible to 1"):
        open_field(path, Quantity("other", (), ("other",), "1"))


def test_a_message_lists_the_likeliest_variables_first_and_not_hundreds(path: Path) -> None:
    others = {f"v{i}": {"standard_name": "specific_humidity", "units": "1"} for i in range(10)}
    make_dataset(path=path, name="zz", units="Pa", others=others)
    with pytest.raises(InputError, match=r"found 'zz' \(units 'Pa'\); 'v0' .*; and 3 more$"):
        open_field(path, TAS)


def test_several_files_are_told_apart_in_the_message(tmp_path: Path) -> None:
    make_dataset(path=tmp_path / "a.nc", units="Pa")
    make_dataset(path=tmp_path / "b.nc", standard_name="specific_humidity")
    with pytest.raises(
        InputError, match=r"a\.nc and 1 more: .* found a\.nc: 'tas' .*; b\.nc: 'tas' \(specific"
    ):
        open_field(tmp_path / "*.nc", TAS)


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


@pytest.mark.parametrize(
    ("name", "methods", "reason"),
    [
        ("tas", "time: mean", "not a maximum over time"),
        ("air", None, "not a maximum over time"),
        ("tasmin", None, "an extreme, by its name"),
        ("tn", None, "an extreme, by its name"),
        ("air", "area: mean time: minimum (interval: 1 hour)", "time: minimum"),
    ],
)
def test_an_extreme_is_not_taken_from_the_mean_or_the_other_extreme(
    path: Path, name: str, methods: str | None, reason: str
) -> None:
    attributes = {} if methods is None else {"cell_methods": methods}
    make_dataset(path=path, name=name, attributes=attributes)
    tasmax = Quantity("tasmax", TAS.standard_names, ("tasmax", "tx"), "K")
    with pytest.raises(InputError, match=re.escape(f"'{name}' ({reason})")):
        open_field(path, tasmax)


@pytest.mark.parametrize(
    ("name", "methods"), [("air", "time: maximum"), ("TX", None), ("temperature_max", None)]
)
def test_an_extreme_is_found_by_its_methods_or_its_name(
    path: Path, name: str, methods: str | None
) -> None:
    attributes = {} if methods is None else {"cell_methods": methods}
    make_dataset(path=path, name=name, attributes=attributes)
    tasmax = Quantity("tasmax", TAS.standard_names, ("tasmax",), "K")
    assert open_field(path, tasmax).source_name == name


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
        ("m2 s-2", "m", 9.80665, 1.0),
        ("gpm", "m**2 s**-2", 1.0, 9.80665),
        ("g m-2", "mm", 1000.0, 1.0),
        ("inch/day", "kg m-2 s-1", 86400.0 / 25.4, 1.0),
        ("mb", "Pa", 1.0, 100.0),
        ("%", "1", 50.0, 0.5),
        ("mm day-1", "kg m-2 s-1", 8.64, 1e-4),
        ("mm", "kg m-2", 3.0, 3.0),
        ("degF", "degC", 212.0, 100.0),
        ("kg/m2s", "mm day-1", 1e-4, 8.64),
        ("kg/m^2s", "mm day-1", 1e-4, 8.64),
        ("kg / (m2 s)", "mm day-1", 1e-4, 8.64),
        ("kg/m^2/s", "mm day-1", 1e-4, 8.64),
        ("kg m**-2 s**-1", "mm day-1", 1e-4, 8.64),
        ("kg m\u207b\u00b2 s\u207b\u00b9", "mm day-1", 1e-4, 8.64),
        ("kgm-2s-1", "mm day-1", 1e-4, 8.64),
        ("mm/3hr", "mm day-1", 1.0, 8.0),
        ("mm/6h", "mm day-1", 1.5, 6.0),
        ("mm/24 hours", "mm day-1", 5.0, 5.0),
        ("mm per 12 hours", "mm day-1", 5.0, 10.0),
        ("mm 3h-1", "mm day-1", 1.0, 8.0),
        ("kg/m2/3h", "kg m-2 s-1", 10800.0, 1.0),
        ("m of water equivalent per day", "mm day-1", 0.01, 10.0),
        ("mbar", "Pa", 1.0, 100.0),
        ("pa", "hPa", 100.0, 1.0),
        ("percent", "1", 50.0, 0.5),
        ("pct", "%", 50.0, 50.0),
        ("W/m2", "W m-2", 3.0, 3.0),
        ("gpdam", "m", 550.0, 5500.0),
    ],
)
def test_units_convert_both_ways(source: str, target: str, value: float, expected: float) -> None:
    there = cf.convert_units(np.array([value]), source, target)
    np.testing.assert_allclose(there, [expected], rtol=1e-13)
    np.testing.assert_allclose(cf.convert_units(there, target, source), [value], rtol=1e-13)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("K", "Pa"),
        ("fortnights per", "s"),
        ("", "K"),
        ("unknown", "1"),
        ("0-1", "1"),
        ("mm/3furlongs", "mm day-1"),
        # What water and gravity would bridge, and must not.
        ("m2 s-2", "Pa"),
        ("kg m-3", "1"),
        ("s", "m s-1"),
    ],
)
def test_units_that_do_not_convert_are_refused(
    source: str, target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not cf.units_convertible(source, target)
    with pytest.raises(ValueError, match=f"units '{source}' are not convertible to '{target}'"):
        cf.convert_units(np.zeros(2), source, target)
    assert capfd.readouterr().err == "", "UDUNITS talks to the user"


@pytest.mark.parametrize(
    ("spelled", "readable"),
    [
        ("celsius", "degC"),
        ("Celsius", "degC"),
        ("deg C", "degC"),
        ("degrees C", "degC"),
        ("degrees Celsius", "degC"),
        ("degree_Celsius", "degC"),
        ("°C", "degC"),
        ("C", "degC"),
        ("deg.C", "degC"),
        ("deg. Celsius", "degC"),
        ("Celcius", "degC"),
        ("Kelvin", "K"),
        ("deg K", "K"),
        ("degrees F", "degF"),
        ("hpa", "hPa"),
        ("mb", "hPa"),
        ("m of water equivalent", "m"),
        ("m**2 s**-2", "m2 s-2"),
        (" K ", "K"),
        # What UDUNITS reads is left alone.
        ("kg/m2/s", "kg/m2/s"),
        ("mm d-1", "mm d-1"),
        ("furlongs", "furlongs"),
    ],
)
def test_spellings_of_the_field_become_readable(spelled: str, readable: str) -> None:
    assert readable_units(spelled) == readable


@pytest.mark.parametrize("spelled", ["deg C", "degrees Celsius", "C", "°C"])
def test_celsius_is_celsius_however_it_is_spelled(path: Path, spelled: str) -> None:
    # UDUNITS takes two of these for an angle times a temperature, and for electric charge.
    make_dataset(path=path, units=spelled, values=lambda y, x, t: wave(y, x, t) - 273.15)
    field = open_field(path, TAS)
    assert_holds_truth(field)
    assert field.source_units == "degC"


@pytest.mark.parametrize(
    "units", ["kg m-2 s-1", "kg/m2/s", "kg/m^2/s", "kg m**-2 s**-1", "mm s-1", "kg m-2s-1"]
)
def test_spellings_of_a_flux_are_one(path: Path, units: str) -> None:
    make_dataset(
        path=path,
        name="pr",
        standard_name="precipitation_flux",
        units=units,
        values=lambda y, x, t: wave(y, x, t) / 86400.0,
    )
    assert_holds_truth(open_field(path, PR))


@pytest.mark.parametrize("units", ["mm d-1", "mm/d", "mm/day", "kg m-2 day-1", "mm day**-1"])
def test_spellings_of_a_daily_depth_are_one(path: Path, units: str) -> None:
    make_dataset(path=path, name="pr", standard_name="precipitation_flux", units=units)
    assert_holds_truth(open_field(path, PR))


@settings(max_examples=50)
@given(
    pair=st.sampled_from(
        [("kg m-2 s-1", "mm day-1"), ("K", "degF"), ("m2 s-2", "dam"), ("hPa", "Pa"), ("1", "%")]
    ),
    value=st.floats(-1e6, 1e6),
)
def test_conversion_there_and_back_is_the_identity(pair: tuple[str, str], value: float) -> None:
    there = cf.convert_units(np.array([value]), *pair)
    back = cf.convert_units(there, *reversed(pair))
    np.testing.assert_allclose(back, [value], rtol=1e-12, atol=1e-9)


RAIN = Quantity(
    "pr", ("precipitation_flux", "thickness_of_rainfall_amount"), ("pr", "tp", "rr"), "mm day-1"
)


def amounts(path: Path, **options: object) -> None:
    """Three of an amount at every step."""
    settings: dict[str, object] = {
        "path": path,
        "name": "rr",
        "standard_name": "thickness_of_rainfall_amount",
        "units": "mm",
        "values": lambda y, x, t: 3.0 + 0.0 * (y + x),
        **options,
    }
    make_dataset(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [3.0, 3.0, 3.0]),
        ({"units": "m", "standard_name": None, "name": "tp"}, [3000.0] * 3),
        ({"times": [0.25, 0.5, 0.75]}, [12.0] * 3),
        # Months of a year without a leap day, and of 30 days each; bounds of a day and a half.
        ({"times": [15.5, 45.0, 74.5]}, [3 / 31, 3 / 28, 3 / 31]),
        ({"times": [15.0, 45.0, 75.0], "calendar": "360_day"}, [0.1] * 3),
        ({"bounds": True, "times": [0.5]}, [3.0]),
    ],
    ids=["daily", "metres", "six-hourly", "monthly", "360_day", "one bounded step"],
)
def test_amounts_over_a_step_become_rates(
    path: Path, options: dict[str, object], expected: list[float]
) -> None:
    amounts(path, **options)
    field = open_field(path, RAIN)
    np.testing.assert_allclose(field.read(slice(None))[:, 0, 0], expected, rtol=FLOAT32_RTOL)
    np.testing.assert_allclose(
        field.isel(slice(0, 1)).read(slice(None))[:, 0, 0], expected[:1], rtol=FLOAT32_RTOL
    )
    assert field.source_units in ("mm day-1", "m day-1")


def test_a_rate_made_of_amounts_describes_itself_as_one(path: Path) -> None:
    amounts(path, attributes={"cell_methods": "time: sum", "long_name": "rain"})
    field = open_field(path, RAIN)
    assert field.attributes == {
        "standard_name": "precipitation_flux",
        "long_name": "rain",
        "cell_methods": "time: mean",
        "units": "mm day-1",
    }


def test_bounds_tell_the_length_of_uneven_steps(path: Path) -> None:
    amounts(path, times=[1.0, 5.0, 10.0], bounds=True)
    with netCDF4.Dataset(path, "a") as file:
        file["time_bnds"][:] = [[0, 2], [2, 8], [8, 12]]
    field = open_field(path, RAIN)
    np.testing.assert_allclose(field.read(slice(None))[:, 0, 0], [1.5, 0.5, 0.75], rtol=1e-6)
    np.testing.assert_allclose(field.read(slice(1, 3))[:, 0, 0], [0.5, 0.75], rtol=1e-6)
    later = field.isel(slice(1, 3)).read(slice(None))
    np.testing.assert_allclose(later[:, 0, 0], [0.5, 0.75], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": [0.5]}, "how long a step of 1 steps .* is not known; add bounds of time"),
        (
            {"times": [0.0, 5.0, 10.0]},
            "variable 'rr' holds amounts per step \\('mm'\\), and how long",
        ),
    ],
)
def test_amounts_over_steps_of_unknown_length_are_refused(
    path: Path, options: dict[str, object], message: str
) -> None:
    amounts(path, **options)
    with pytest.raises(InputError, match=rf"tas\.nc: .*{message}"):
        open_field(path, RAIN)


def test_bounds_of_other_steps_are_refused_for_amounts(path: Path) -> None:
    amounts(path, bounds=True)
    with netCDF4.Dataset(path, "a") as file:
        file["time_bnds"][:] = 0.0
    with pytest.raises(InputError, match="bounds of time are not those of their steps at 3 of 3"):
        open_field(path, RAIN)


@pytest.fixture
def damaged(path: Path) -> Path:
    write_damaged(path)
    return path


def test_opening_reads_no_values_and_reading_damaged_ones_says_so(damaged: Path) -> None:
    field = open_field(damaged, TAS).crop(Grid.regular(40, 45, 5, 10, 1.0)).isel(slice(5, 15))
    with pytest.raises(
        InputError, match=r"tas\.nc: variable 'tas' cannot be read \(.*HDF error\); the file may be"
    ):
        field.read(slice(None))


@pytest.mark.parametrize("limit", [1, 500, 1 << 20])
def test_values_do_not_depend_on_how_many_are_read_at_once(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fields, "_READ_BYTES", limit)
    make_dataset(path=tmp_path / "a.nc", times=[0.5, 1.5, 2.5])
    make_dataset(path=tmp_path / "b.nc", times=[3.5, 4.5], first_step=3)
    field = open_field(tmp_path / "*.nc", TAS)
    assert_holds_truth(field)
    np.testing.assert_array_equal(field.read(slice(1, 4)), field.read(slice(None))[1:4])
    assert field.read(slice(2, 2)).shape == (0, 4, 5)


def test_reading_a_small_part_of_much_takes_little_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fields, "_READ_BYTES", 1 << 18)
    lat, lon = np.arange(0, 60, 0.5), np.arange(0, 60, 0.5)
    make_dataset(path=path, lat=lat, lon=lon, times=[d + 0.5 for d in range(200)])
    target = Grid.regular(10, 12, 10, 12, 1.0)
    field = open_field(path, TAS).regridded(target, lambda values: values[..., :2, :2])
    tracemalloc.start()
    try:
        values = field.read(slice(None))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert values.shape == (200, 2, 2)
    # 200 x 120 x 120 values of 8 bytes are 23 MB; a block and its conversions are some 1 MB.
    assert peak < 3e6


def test_reading_works_without_dask(path: Path) -> None:
    make_dataset(path=path)
    code = (
        "import sys\n"
        "sys.modules['dask'] = sys.modules['dask.array'] = None\n"
        "from climdown.cf import Quantity, open_field\n"
        "tas = Quantity('tas', ('air_temperature',), ('tas',), 'K')\n"
        "print(open_field(sys.argv[1], tas).read(slice(None)).shape)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "(3, 4, 5)"), ran.stderr


def test_opening_does_not_need_dask_where_it_is(path: Path) -> None:
    make_dataset(path=path)
    assert all(segment.chunks is None for segment in open_field(path, TAS).segments)


def test_several_declared_fill_values_are_all_missing(
    path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    make_dataset(path=path, values=lambda y, x, t: np.where(y < 41, -999.0, wave(y, x, t)))
    with netCDF4.Dataset(path, "a") as file:
        file["tas"].missing_value = np.float32(-999.0)
    values = open_field(path, TAS).read(slice(None))
    assert np.isnan(values[:, 0]).all()
    assert np.isfinite(values[:, 1:]).all()
    assert [w for w in recwarn if issubclass(w.category, UserWarning)] == []


def test_an_undeclared_fill_value_does_not_warn(path: Path) -> None:
    make_dataset(
        path=path,
        name="pr",
        standard_name="precipitation_flux",
        units="kg m-2 s-1",
        values=lambda y, x, t: 1e36 + 0.0 * (y + x),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isinf(open_field(path, PR).read(slice(None))).all()


def test_attributes_that_cannot_be_decoded_are_refused(path: Path) -> None:
    make_dataset(path=path).close()
    with netCDF4.Dataset(path, "a") as file:
        file["tas"].scale_factor = [1.0, 2.0]
    with pytest.raises(InputError, match=r"tas\.nc: cannot be decoded \("):
        open_field(path, TAS)


@pytest.mark.parametrize(
    ("units", "calendar"),
    [("months since 2000-01-01", "standard"), ("days since 2000-01-01", "lunar")],
)
def test_times_that_cf_does_not_know_are_refused(path: Path, units: str, calendar: str) -> None:
    make_dataset(path=path, time_units=units, calendar=calendar)
    with pytest.raises(InputError, match=r"time axis cannot be decoded .*; expected days, hours"):
        open_field(path, TAS)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; name its files, like '.*/\*\.nc'"):
        open_field(tmp_path, TAS)


def test_a_file_named_twice_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "tas_1.nc"
    make_dataset(path=path)
    assert cf.expand_paths([path, tmp_path / "tas_*.nc", str(path)]) == [path]


@pytest.mark.parametrize("first", [0, 1])
def test_files_in_any_order_and_by_pattern_are_one_series(tmp_path: Path, first: int) -> None:
    for year in range(3):
        make_dataset(
            path=tmp_path / f"tas_{2 - year}.nc",
            times=[365.0 * year, 365.0 * year + 1.0],
            first_step=2 * year,
        )
    names = [tmp_path / f"tas_{i}.nc" for i in (first, 2, 1 - first)]
    patterns: list[str | Path] = [str(tmp_path / "tas_?.nc")]
    mixed: list[str | Path] = [tmp_path / "tas_[12].nc", names[0], names[2]]
    for inputs in (names, patterns, mixed):
        field = open_field(inputs, TAS)
        assert_holds_truth(field)
        assert [path.name for path in field.paths] == ["tas_2.nc", "tas_1.nc", "tas_0.nc"]


def test_files_that_overlap_are_both_named(tmp_path: Path) -> None:
    for name, start in (("a", 0.5), ("b", 3.5), ("c", 4.5)):
        make_dataset(path=tmp_path / f"{name}.nc", times=[start, start + 1.0, start + 2.0])
    with pytest.raises(InputError, match=r"b\.nc and .*c\.nc: times do not ascend: 2001-01-05"):
        open_field(tmp_path / "*.nc", TAS)


def test_times_within_a_file_must_ascend(path: Path) -> None:
    make_dataset(path=path, times=[0.5, 2.5, 1.5])
    with pytest.raises(InputError, match=r"tas\.nc: times do not ascend: 2001-01-02"):
        open_field(path, TAS)
