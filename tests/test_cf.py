"""Reading CF grids as users have them: axes in any order and convention, blocks, regions."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.cf import open_field
from climdown.errors import GridError, InputError
from climdown.grid import Grid
from climdown.mesh import Mesh
from tests.factories import (
    FLOAT32_RTOL,
    PR,
    PSL,
    TAS,
    Floats,
    assert_holds_truth,
    gaussian_grid,
    make_dataset,
    shared_data,
    truth,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tas.nc"


@pytest.mark.parametrize("bounds", [True, False])
@pytest.mark.parametrize("lat", [np.arange(-90, 91, 10.0), np.arange(90, -91, -10.0)])
@pytest.mark.parametrize("west", [0.0, -180.0])
def test_global_fields_are_read_in_any_order_and_convention(
    path: Path, bounds: bool, lat: Floats, west: float
) -> None:
    make_dataset(path=path, lat=lat, lon=west + np.arange(0, 360, 10.0), bounds=bounds)
    field = open_field(path, TAS)
    assert field.grid.periodic
    assert field.grid.lat_edges[[0, 1, -2, -1]].tolist() == [-90, -85, 85, 90]
    assert field.grid.areas.sum() == pytest.approx(4 * np.pi, rel=1e-12)
    assert_holds_truth(field)


def test_a_region_across_the_seam_becomes_one_ascending_axis(path: Path) -> None:
    make_dataset(path=path, lon=[350, 355, 0, 5, 10])
    field = open_field(path, TAS)
    assert field.grid.lon.tolist() == [350, 355, 360, 365, 370]
    assert_holds_truth(field)


def test_a_region_across_the_date_line_becomes_one_ascending_axis(path: Path) -> None:
    make_dataset(path=path, lon=[175, -180, -175])
    field = open_field(path, TAS)
    assert field.grid.lon.tolist() == [175, 180, 185]
    assert_holds_truth(field)


def test_descending_longitudes_are_flipped_with_their_bounds(path: Path) -> None:
    make_dataset(path=path, lon=[9, 6, 3], bounds=True)
    field = open_field(path, TAS)
    assert field.grid.lon_edges.tolist() == [1.5, 4.5, 7.5, 10.5]
    assert_holds_truth(field)


def test_uneven_bounds_of_the_file_are_kept_and_clipped_at_the_pole(path: Path) -> None:
    dataset = make_dataset(lat=[90, 80, 60], bounds=True)
    dataset["lat_bnds"][:] = [[96, 84], [84, 72], [72, 50]]
    dataset.to_netcdf(path)
    field = open_field(path, TAS)
    assert field.grid.lat_edges.tolist() == [50, 72, 84, 90]
    assert_holds_truth(field)


def test_useless_bounds_are_inferred_anew(path: Path) -> None:
    dataset = make_dataset(lat=[10, 20, 30], lon=[350, 0, 10], bounds=True)
    dataset["lon_bnds"][:] = [[345, 355], [355, 5], [5, 15]]
    dataset["lat_bnds"][:] = np.nan
    dataset.to_netcdf(path)
    grid = open_field(path, TAS).grid
    assert grid.lat_edges.tolist() == [5, 15, 25, 35]
    assert grid.lon_edges.tolist() == [345, 355, 365, 375]


def test_axes_may_have_other_names_and_dimensions_another_order(path: Path) -> None:
    dataset = make_dataset(lat_name="latitude", lon_name="x")
    dataset.transpose("x", "time", "latitude").to_netcdf(path)
    assert_holds_truth(open_field(path, TAS))


def test_axes_may_be_auxiliary_coordinates_of_their_dimensions(path: Path) -> None:
    make_dataset(lat=[47, 43, 40]).rename_dims(lat="y", lon="x").to_netcdf(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        field = open_field(path, TAS)
    assert field.grid.lat.tolist() == [40, 43, 47]
    assert_holds_truth(field)


def test_bounds_may_follow_another_convention_than_their_centres(path: Path) -> None:
    dataset = make_dataset(lon=[-10, 0, 20], bounds=True)
    dataset["lon_bnds"][:] = [[344, 356], [356, 364], [364, 396]]
    dataset.to_netcdf(path)
    grid = open_field(path, TAS).grid
    assert (grid.lon.tolist(), grid.lon_edges.tolist()) == ([-10, 0, 20], [-16, -4, 4, 36])


def test_a_crop_keeps_centres_that_lie_off_the_middle_of_their_cells(path: Path) -> None:
    dataset = make_dataset(lon=[-10, 0, 20], bounds=True)
    dataset["lon_bnds"][:] = [[-16, -5], [-5, 4], [4, 36]]
    dataset.to_netcdf(path)
    field = open_field(path, TAS).crop(Grid.regular(40, 45, 361, 371, 1.0))
    assert (field.grid.lon.tolist(), field.grid.lon_edges.tolist()) == ([360, 380], [355, 364, 396])
    assert_holds_truth(field)


def test_packed_values_are_unpacked(path: Path) -> None:
    packing = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 273.0, "_FillValue": -32768}
    make_dataset().to_netcdf(path, encoding={"tas": packing})
    field = open_field(path, TAS)
    # Half of the packing step, and the rounding of float32 values near 280.
    np.testing.assert_allclose(
        field.read(slice(None)), truth(field.grid, range(3)), rtol=0, atol=5.1e-3
    )


def test_scalar_coordinates_are_kept_and_single_levels_dropped(path: Path) -> None:
    make_dataset(height=2.0).expand_dims(member=[4]).to_netcdf(path)
    field = open_field(path, TAS)
    assert float(field.scalars["height"]) == 2.0
    assert field.scalars["height"].attrs["units"] == "m"
    assert_holds_truth(field)


def test_missing_values_are_read_as_nan(path: Path) -> None:
    missing = np.zeros((4, 5), dtype=bool)
    missing[1, 3] = True
    make_dataset(path=path, missing=missing, lat=[47.5, 45, 42.5, 40])
    np.testing.assert_array_equal(
        np.isnan(open_field(path, TAS).read(slice(0, 1))[0]), missing[::-1]
    )


def test_blocks_of_time_span_files_and_equal_the_whole(tmp_path: Path) -> None:
    for year in range(3):
        make_dataset(
            path=tmp_path / f"tas_{year}.nc",
            times=[365.0 * year + day for day in range(4)],
            first_step=4 * year,
        )
    field = open_field(str(tmp_path / "tas_*.nc"), TAS)
    whole = field.read(slice(None))
    for part in (slice(0, 3), slice(3, 9), slice(4, 8), slice(11, 99), slice(-2, None)):
        np.testing.assert_array_equal(field.read(part), whole[part])
        cut = field.isel(part)
        np.testing.assert_array_equal(cut.read(slice(None)), whole[part])
        np.testing.assert_array_equal(cut.time.values, field.time.values[part])


@pytest.mark.parametrize("west", [0.0, -180.0, 5.0])
@pytest.mark.parametrize(
    "region",
    [
        Grid.regular(31, 44, -12, 9, 1.0),
        Grid.regular(31, 44, 348, 369, 1.0),
        Grid.regular(-90, 90, 170, 190, 5.0),
        Grid.regular(-20, 20, -180, 180, 5.0),
    ],
)
def test_a_crop_holds_the_columns_of_the_region(path: Path, west: float, region: Grid) -> None:
    make_dataset(path=path, lat=np.arange(85, -86, -10.0), lon=west + np.arange(2.5, 360, 5.0))
    field = open_field(path, TAS).crop(region)
    grid = field.grid
    assert grid.lat_edges[0] <= region.lat_edges[0] < grid.lat_edges[1]
    assert grid.lat_edges[-2] < region.lat_edges[-1] <= grid.lat_edges[-1]
    assert grid.lon_edges[0] <= region.lon_edges[0] < grid.lon_edges[1]
    assert grid.lon_edges[-2] < region.lon_edges[-1] <= grid.lon_edges[-1]
    assert_holds_truth(field)


def test_a_crop_of_a_regional_file_keeps_what_there_is(path: Path) -> None:
    make_dataset(path=path, lon=np.arange(-9.5, 10, 1.0))
    field = open_field(path, TAS).crop(Grid.regular(41, 44, 355, 390, 1.0))
    np.testing.assert_allclose(field.grid.lon_edges[[0, -1]], [355, 370])
    assert field.grid.lat.tolist() == [40, 42.5, 45]
    assert_holds_truth(field)


@pytest.mark.parametrize(
    "region", [Grid.regular(0, 10, 0, 10, 1.0), Grid.regular(40, 45, 20, 30, 1.0)]
)
def test_a_crop_elsewhere_is_refused(path: Path, region: Grid) -> None:
    make_dataset(path=path)
    with pytest.raises(GridError, match=r"tas\.nc: the grid .* does not touch the region"):
        open_field(path, TAS).crop(region)


def test_a_crop_over_a_gap_in_the_circle_is_refused(path: Path) -> None:
    make_dataset(path=path, lon=np.arange(5, 350, 10.0))
    with pytest.raises(GridError, match="does not touch the region"):
        open_field(path, TAS).crop(Grid.regular(40, 45, -30, 30, 10.0))


def test_further_dimensions_are_refused(path: Path) -> None:
    make_dataset().expand_dims(member=[1, 2]).to_netcdf(path)
    expected = "further dimensions (member=2); choose one entry of each, like --select member=1"
    with pytest.raises(InputError, match=re.escape(expected)):
        open_field(path, TAS)


def test_curvilinear_fields_lie_on_a_mesh_and_have_no_grid(path: Path) -> None:
    dataset = make_dataset().rename(lat="y", lon="x").drop_vars(["y", "x"])
    y, x = np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij")
    places = {
        name: (("y", "x"), values, {"standard_name": name, "units": f"degrees_{side}"})
        for name, values, side in (
            ("latitude", 40 + 2.5 * y + 0.5 * x, "north"),
            ("longitude", 2.5 * x - y, "east"),
        )
    }
    dataset.assign_coords(places).to_netcdf(path)
    field = open_field(path, TAS)
    assert isinstance(field.cells, Mesh)
    assert (field.cells.shape, field.read(slice(None)).shape) == ((4, 5), (3, 4, 5))
    with pytest.raises(GridError, match=r"tas\.nc: variable 'tas' lies on a mesh .* regrid it"):
        _ = field.grid


def test_variables_without_coordinates_are_not_gridded(path: Path) -> None:
    dataset = make_dataset(bounds=True)
    assert cf.gridded_variables(dataset) == ["tas"]
    with pytest.raises(InputError, match="variable 'bare' has no latitude coordinate"):
        cf.horizontal_cells(xr.DataArray(np.zeros((2, 2)), name="bare"), dataset)
    xr.Dataset({"bare": ("n", np.zeros(3))}).to_netcdf(path)
    with pytest.raises(InputError, match=r"no variable with .* no gridded variables"):
        open_field(path, TAS)


@pytest.mark.data
def test_cnrm_cm5_and_eobs_agree_on_an_iberian_winter() -> None:
    folder = shared_data() / "iberia"
    coarse = open_field(folder / "tas_day_CNRM-CM5_*.nc", TAS)
    assert coarse.time.gaps == 39
    assert (coarse.grid.shape, len(coarse.time), len(coarse.paths)) == ((8, 11), 3609, 2)
    fine = open_field(folder / "tas_day_E-OBS_025deg_*.nc", TAS)
    assert (fine.grid.shape, fine.source_units, fine.time.months) == ((41, 61), "degC", (1, 2, 12))
    same = coarse.isel(coarse.time.select("1990-12/1997-02"))
    assert len(same.time) == len(fine.time) == 632
    means = [np.nanmean(field.read(slice(0, 90))) for field in (same, fine)]
    # A GCM's bias and the sea are worth some kelvin; a unit mistake would be 273.
    assert abs(means[0] - means[1]) < 6.0
    rain = open_field(folder / "pr_day_CNRM-CM5_historical_*.nc", PR)
    assert 0.5 < rain.read(slice(None)).mean() < 5.0  # mm day-1


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "calendar", "ny"),
    [("tas_Amon_HadCM3_*.nc", "360_day", 73), ("tas_Amon_CanESM5_*.nc", "365_day", 64)],
)
def test_global_models_with_bounds_are_read_whole(name: str, calendar: str, ny: int) -> None:
    field = open_field(shared_data() / "cmip" / name, TAS)
    assert field.time.calendar == calendar
    assert (len(field.time), field.grid.lat.size, field.time.gaps) == (60, ny, 0)
    assert field.time.bounds is not None
    assert (field.time.bounds[1:, 0] == field.time.bounds[:-1, 1]).all()
    assert field.grid.periodic
    assert field.grid.areas.sum() == pytest.approx(4 * np.pi, rel=1e-9)
    with xr.open_dataset(field.paths[0], decode_times=False) as raw:
        np.testing.assert_array_equal(field.time.values, raw["time"].values)
        np.testing.assert_allclose(
            field.read(slice(3, 4)), raw["tas"][3:4].values, rtol=FLOAT32_RTOL
        )
    if ny == 64:
        np.testing.assert_allclose(field.grid.lat_edges, gaussian_grid(64).lat_edges, atol=1e-3)


@pytest.mark.data
def test_ecmwf_files_are_read_with_descending_latitudes_and_a_bare_time_axis() -> None:
    folder = shared_data() / "europe"
    era = open_field(folder / "mslp_day_ERA-Interim_*.nc", PSL)
    assert (era.grid.shape, len(era.time), era.time.gaps) == ((21, 24), 3288, 0)
    ncep = open_field(folder / "psl_day_NCEP-R1_25deg_2000*.nc", PSL)
    days = min(len(ncep.time), 365)
    means = [field.read(slice(0, days)).mean() for field in (era, ncep)]
    # Two analyses of one year over Europe: a unit mistake would be a factor of 100.
    assert means[0] == pytest.approx(means[1], abs=300.0)


@pytest.mark.data
def test_an_extreme_of_a_real_file_is_no_mean() -> None:
    with pytest.raises(InputError, match=re.escape("'tasmax' (an extreme, by its name)")):
        open_field(shared_data() / "cmip" / "tasmax_day_CanESM2_*.nc", TAS)


@pytest.mark.data
def test_a_real_rotated_pole_is_a_mesh() -> None:
    field = open_field(shared_data() / "cmip" / "small_rotPole_precipitation.nc", PR)
    assert isinstance(field.cells, Mesh)
    assert (field.cells.shape, len(field.time)) == ((190, 174), 4)
    assert field.cells.spacing == pytest.approx(0.22, abs=0.005)
