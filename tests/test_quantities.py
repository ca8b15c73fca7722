"""Families of variables: which one a variable is, and how to find it again elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st

from climdown import cf
from climdown.cf.quantities import FAMILIES
from climdown.cf.recognition import mismatch
from tests.factories import FLOAT32_RTOL, make_dataset, shared_data, truth, wave

BY_NAME = {known.quantity.name: known for known in FAMILIES}


def variable(name: str, units: str, **attributes: str) -> xr.DataArray:
    return xr.DataArray(0.0, name=name, attrs={"units": units, **attributes})


def family(name: str, units: str, **attributes: str) -> str | None:
    known = cf.family_of_array(variable(name, units, **attributes))
    return None if known is None else known.quantity.name


@pytest.mark.parametrize(
    ("name", "units", "standard_name", "expected"),
    [
        # CMIP
        ("pr", "kg m-2 s-1", "precipitation_flux", "pr"),
        ("tas", "K", "air_temperature", "tas"),
        ("tasmax", "K", "air_temperature", "tasmax"),
        ("tasmin", "K", "air_temperature", "tasmin"),
        ("ta", "K", "air_temperature", "ta"),
        ("ta850", "K", "air_temperature", "ta"),
        ("tos", "degC", "sea_surface_temperature", "tos"),
        ("ts", "K", "surface_temperature", "ts"),
        ("psl", "Pa", "air_pressure_at_mean_sea_level", "psl"),
        ("psl", "Pa", "air_pressure_at_sea_level", "psl"),
        ("ps", "Pa", "surface_air_pressure", "ps"),
        ("zg500", "m", "geopotential_height", "zg"),
        ("uas", "m s-1", "eastward_wind", "uas"),
        ("ua", "m s-1", "eastward_wind", "ua"),
        ("vas", "m s-1", "northward_wind", "vas"),
        ("va", "m s-1", "northward_wind", "va"),
        ("sfcWind", "m s-1", "wind_speed", "sfcWind"),
        ("hurs", "%", "relative_humidity", "hurs"),
        ("hur", "%", "relative_humidity", "hur"),
        ("huss", "1", "specific_humidity", "huss"),
        ("hus", "1", "specific_humidity", "hus"),
        ("rsds", "W m-2", "surface_downwelling_shortwave_flux_in_air", "rsds"),
        # ECMWF, with the standard_name GRIB converters write where they know none
        ("tp", "m", "unknown", "pr"),
        ("t2m", "K", "unknown", "tas"),
        ("mx2t", "K", "unknown", "tasmax"),
        ("t", "K", "air_temperature", "ta"),
        ("msl", "Pa", "air_pressure_at_mean_sea_level", "psl"),
        ("sp", "Pa", "surface_air_pressure", "ps"),
        ("z", "m**2 s**-2", "geopotential", "zg"),
        ("u10", "m s**-1", "unknown", "uas"),
        ("u", "m s**-1", "eastward_wind", "ua"),
        ("v10", "m s**-1", "unknown", "vas"),
        ("si10", "m s**-1", "unknown", "sfcWind"),
        ("sst", "K", "unknown", "tos"),
        ("skt", "K", "unknown", "ts"),
        ("q", "kg kg**-1", "specific_humidity", "hus"),
        ("r", "%", "relative_humidity", "hur"),
        ("ssrd", "J m**-2", "unknown", "rsds"),
        # E-OBS
        ("rr", "mm", "thickness_of_rainfall_amount", "pr"),
        ("tg", "Celsius", "air_temperature", "tas"),
        ("tx", "Celsius", "air_temperature", "tasmax"),
        ("tn", "Celsius", "air_temperature", "tasmin"),
    ],
)
def test_variables_of_the_field_are_recognised(
    name: str, units: str, standard_name: str, expected: str
) -> None:
    assert family(name, units, standard_name=standard_name) == expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, "tas"),
        ({"cell_methods": "time: maximum"}, "tasmax"),
        ({"cell_methods": "time: minimum within days time: mean over days"}, "tasmin"),
        ({"long_name": "temperature at 850 hPa"}, "ta"),
        # An extreme aloft has no family of its own; what it shares is how it changes.
        ({"long_name": "at 850 hPa", "cell_methods": "time: maximum"}, "tas"),
    ],
)
def test_an_unusual_name_is_told_by_extreme_and_level(
    attributes: dict[str, str], expected: str
) -> None:
    found = family("air_temp", "K", standard_name="air_temperature", **attributes)
    assert found == expected


def test_a_pressure_axis_makes_a_variable_one_aloft() -> None:
    levels = {"plev": ("plev", [85_000.0, 50_000.0], {"units": "Pa"})}
    attributes = {"standard_name": "eastward_wind", "units": "m s-1"}
    array = xr.DataArray(np.zeros(2), levels, ("plev",), "wind_east", attributes)
    known = cf.family_of_array(array)
    assert known is not None
    assert known.quantity.name == "ua"


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("tas", {"units": "Pa", "standard_name": "air_temperature"}),
        ("tas", {"units": "K", "standard_name": "soil_temperature"}),
        ("tas", {"standard_name": "air_temperature"}),
        ("tas", {"units": "warm", "standard_name": "air_temperature"}),
        ("prc", {"units": "kg m-2 s-1", "standard_name": "convective_precipitation_flux"}),
        ("flag", {"units": "1"}),
        ("z", {"units": "m2 s-2", "standard_name": "surface_geopotential"}),
    ],
)
def test_what_no_family_fits_is_unknown(name: str, attributes: dict[str, str]) -> None:
    array = xr.DataArray(0.0, name=name, attrs=attributes)
    assert cf.family_of_array(array) is None


@pytest.mark.parametrize("known", FAMILIES, ids=lambda known: known.quantity.name)
def test_each_family_knows_itself_by_every_name_and_standard_name(known: cf.VariableFamily) -> None:
    quantity = known.quantity
    assert known.low < known.high
    for name in quantity.names:
        assert family(name, quantity.units) == quantity.name
        assert family(name.upper(), quantity.units) == quantity.name
        for standard_name in quantity.standard_names:
            found = family(name, quantity.units, standard_name=standard_name)
            assert found == quantity.name


def test_no_name_belongs_to_two_families() -> None:
    names = [name for known in FAMILIES for name in known.quantity.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "units", "low", "high"),
    [
        ("tas", "degC", -103.15, 61.85),
        ("pr", "kg m-2 s-1", -1e-3 / 86400, 1900 / 86400),
        ("zg", "m2 s-2", -1_000 * 9.80665, 90_000 * 9.80665),
        ("psl", "hPa", 860.0, 1095.0),
        # Amounts over a step of unknown length.
        ("pr", "mm", -np.inf, np.inf),
    ],
)
def test_plausible_ranges_come_in_other_units(
    name: str, units: str, low: float, high: float
) -> None:
    np.testing.assert_allclose(BY_NAME[name].range_in(units), (low, high), rtol=1e-12)


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (cf.Quantity("tas", ("x",), (), "degC"), "tas"),
        (cf.Quantity("t2m", (), (), "K"), "tas"),
        (cf.Quantity("SFCWIND", (), (), "knots"), "sfcWind"),
        (cf.Quantity("rr", (), (), "mm day-1"), "pr"),
        (cf.Quantity("rr", (), (), "mm"), None),
        (cf.Quantity("tas", (), (), "Pa"), None),
        (cf.Quantity("snow", (), (), "m"), None),
    ],
)
def test_a_quantity_has_the_family_of_its_name(quantity: cf.Quantity, expected: str | None) -> None:
    known = cf.family_of(quantity)
    assert (None if known is None else known.quantity.name) == expected


@given(
    known=st.sampled_from(FAMILIES),
    other=st.sampled_from(FAMILIES),
    own=st.integers(0, 9),
    foreign=st.integers(0, 9),
)
def test_what_is_like_a_variable_is_found_in_its_family_and_nowhere_else(
    known: cf.VariableFamily, other: cf.VariableFamily, own: int, foreign: int
) -> None:
    def one_of(entry: cf.VariableFamily, index: int) -> xr.DataArray:
        quantity = entry.quantity
        return variable(
            quantity.names[index % len(quantity.names)],
            quantity.units,
            standard_name=quantity.standard_names[index % len(quantity.standard_names)],
        )

    array, candidate = one_of(known, own), one_of(other, foreign)
    # ERA5's archives call it so aloft, and many others near the surface.
    assume("temperature" not in (array.name, candidate.name))
    quantity = cf.quantity_like(array)
    assert mismatch(array, quantity) is None
    levels = [cf.quantity_like(a).level for a in (array, candidate)]
    if known is not other:
        assert mismatch(candidate, quantity) is not None
    elif levels[0] == levels[1] or levels[1] is None:
        assert mismatch(candidate, quantity) is None


def test_daily_amounts_in_the_reference_match_a_flux(tmp_path: Path) -> None:
    """Precipitation of E-OBS and of a model: other name, standard_name and units."""
    make_dataset(
        path=tmp_path / "rr.nc",
        name="rr",
        standard_name="thickness_of_rainfall_amount",
        units="mm",
        values=lambda y, x, t: wave(y, x, t),
    )
    model = make_dataset(name="pr", standard_name="precipitation_flux", units="kg m-2 s-1")
    quantity = cf.quantity_like(model["pr"])
    assert (quantity.name, quantity.units, quantity.level) == ("pr", "kg m-2 s-1", None)
    field = cf.open_field(tmp_path / "rr.nc", quantity)
    expected = truth(field.grid, range(3)) / 86400.0
    np.testing.assert_allclose(field.read(slice(None)), expected, rtol=FLOAT32_RTOL)
    back = cf.quantity_like(xr.open_dataset(tmp_path / "rr.nc")["rr"])
    assert (back.name, back.units) == ("rr", "mm day-1")
    assert mismatch(model["pr"], back) is None


@pytest.mark.parametrize(
    ("name", "attributes", "level"),
    [
        ("ta850", {"units": "K", "standard_name": "air_temperature"}, 85_000.0),
        ("zg", {"units": "m", "long_name": "height of 500 hPa"}, 50_000.0),
        ("tas", {"units": "K"}, None),
        ("uas", {"units": "m/s", "standard_name": "eastward_wind"}, None),
    ],
)
def test_a_level_stays_with_what_is_looked_for(
    name: str, attributes: dict[str, str], level: float | None
) -> None:
    quantity = cf.quantity_like(xr.DataArray(0.0, name=name, attrs=attributes))
    assert quantity.level == level


def test_several_levels_are_left_to_choose() -> None:
    levels = {"plev": ("plev", [85_000.0, 50_000.0], {"units": "Pa"})}
    array = xr.DataArray(np.zeros(2), levels, ("plev",), "ta", {"units": "K"})
    assert cf.quantity_like(array).level is None


def test_temperature_at_one_level_is_not_found_at_another(tmp_path: Path) -> None:
    for name in ("ta850", "ta500"):
        make_dataset(path=tmp_path / f"{name}.nc", name=name)
    quantity = cf.quantity_like(xr.open_dataset(tmp_path / "ta850.nc")["ta850"])
    assert cf.open_field(tmp_path / "*.nc", quantity).source_name == "ta850"


def test_a_variable_of_no_family_is_looked_for_by_its_own_names() -> None:
    quantity = cf.quantity_like(variable("lai", "m2 m-2", standard_name="leaf_area_index"))
    assert quantity == cf.Quantity("lai", ("leaf_area_index",), ("lai",), "m2 m-2")
    bare = cf.quantity_like(xr.DataArray(0.0, name="Index"))
    assert bare == cf.Quantity("Index", (), ("Index",), "1")
    assert cf.quantity_like(variable("t2m", "deg C")).units == "degC"
    assert cf.quantity_like(variable("z", "m**2 s**-2")).units == "m2 s-2"


def test_a_field_can_be_asked_what_it_is(tmp_path: Path) -> None:
    make_dataset(path=tmp_path / "t.nc", name="air", height=2.0)
    quantity = cf.Quantity("tas", ("air_temperature",), (), "degC")
    field = cf.open_field(tmp_path / "t.nc", quantity)
    known = cf.family_of_array(cf.like_array(field))
    assert known is not None
    assert known.quantity.name == "tas"


@pytest.mark.data
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("iberia/tas_day_E-OBS_*.nc", "tas"),
        ("iberia/pr_day_E-OBS_050deg_*.nc", "pr"),
        ("iberia/pr_day_CNRM-CM5_historical_*.nc", "pr"),
        ("iberia/psl_day_CNRM-CM5_historical_*.nc", "psl"),
        ("iberia/ta850_day_CNRM-CM5_historical_*.nc", "ta"),
        ("europe/mslp_day_ERA-Interim_*.nc", "psl"),
        ("europe/t850_day_ERA-Interim_*.nc", "ta"),
        ("europe/z500_day_ERA-Interim_*.nc", "zg"),
        ("europe/zg500_day_NCEP-R1_*.nc", "zg"),
        ("cmip/tasmax_day_CanESM2_*.nc", "tasmax"),
        ("cmip/tos_ocean_bipolar_grid.nc", "tos"),
        ("cmip/tas_Amon_HadCM3_*.nc", "tas"),
    ],
)
def test_real_variables_are_recognised(pattern: str, expected: str) -> None:
    (path,) = cf.expand_paths([shared_data() / pattern])
    with cf.open_dataset(path) as dataset:
        families = [cf.family_of_array(dataset[name]) for name in cf.gridded_variables(dataset)]
    assert expected in [known.quantity.name for known in families if known is not None]
