"""Files as models and people write them, regridded: the values lie where they belong."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.errors import GridError, InputError
from climdown.grid import Grid
from climdown.inputs.targets import named_grid, target_grid
from climdown.mesh import Mesh
from climdown.regrid import build, file
from climdown.regrid.polygons import cell_areas
from tests.factories import make_dataset, shared_data
from tests.meshes import (
    as_mesh,
    hexagons,
    mesh_dataset,
    rotated_pole,
    smooth,
    triangles,
    tripolar,
)

REGION = "8,28,44,56,2"
BROAD = "-180,180,-90,90,10"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights are kept in an empty folder."""
    monkeypatch.setenv("CLIMDOWN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(logging.getLogger("climdown"), "propagate", True)
    build._cached.cache_clear()
    yield
    build._cached.cache_clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.nc"


def regridded(path: Path, grid: str, **options: Any) -> xr.Dataset:
    """What `regrid_file` makes of a file."""
    output = path.with_name("out.nc")
    file.regrid_file(path, output, target=named_grid(grid), overwrite=True, **options)
    return xr.load_dataset(output, decode_times=False)


def assert_in_place(result: xr.Dataset, *, tolerance: float, known: float = 1.0) -> None:
    """Values of `smooth`, one more with each step, at least in a share `known` of the cells."""
    lat, lon = np.meshgrid(result.lat, result.lon, indexing="ij")
    for step, values in enumerate(result["tas"].values):
        assert np.isfinite(values).mean() >= known
        assert np.nanmax(np.abs(values - smooth(lat, lon) - step)) < tolerance


def cells_of(path: Path, name: str = "tas") -> tuple[Grid | Mesh, xr.DataArray]:
    with cf.open_dataset(path) as dataset:
        return cf.horizontal_cells(dataset[name], dataset)


@pytest.mark.parametrize(
    ("dims", "names", "corners", "declared"),
    [
        (["ncells"], ("clat", "clon"), ("clat_vertices", "clon_vertices"), True),
        (["cell"], ("clat", "clon"), ("clat_bnds", "clon_bnds"), False),
        (["i"], ("latitude", "longitude"), ("vertices_latitude", "vertices_longitude"), False),
    ],
    ids=["ICON", "cell", "CMIP6"],
)
@pytest.mark.parametrize("radians", [True, False])
def test_icon(
    path: Path,
    dims: list[str],
    names: tuple[str, str],
    corners: tuple[str, str],
    declared: bool,
    radians: bool,
) -> None:
    mesh_dataset(
        path=path,
        cells=triangles(level=4),
        dims=dims,
        names=names,
        corners=corners,
        declared=declared,
        radians=radians,
    )
    result = regridded(path, BROAD)
    # A cell holds the value of its centre: off by its radius times 0.3 K per degree.
    assert_in_place(result, tolerance=0.5)
    assert set(result.variables) == {"time", "lat", "lon", "lat_bnds", "lon_bnds", "crs", "tas"}


@pytest.mark.parametrize("fill", [None, 1e20, -999.0])
def test_fesom_pads_its_corners(path: Path, fill: float | None) -> None:
    cells = hexagons(level=3)
    if fill is not None:
        assert cells.lat_vertices is not None
        assert cells.lon_vertices is not None
        lat, lon = cells.lat_vertices.copy(), cells.lon_vertices.copy()
        lat[:, 6:] = lon[:, 6:] = np.nan
        cells = replace(cells, lat_vertices=lat, lon_vertices=lon)
    mesh_dataset(path=path, cells=cells, dims=["ncells"], fill=fill)
    assert_in_place(regridded(path, BROAD), tolerance=1.0)


@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest"])
@pytest.mark.parametrize("corners", [None, ("bounds_nav_lat", "bounds_nav_lon")])
def test_nemo_with_halos_a_fold_and_land(
    path: Path, method: str, corners: tuple[str, str] | None
) -> None:
    cells = tripolar(ny=90, nx=120, cap=30, halo=True)
    values = smooth(cells.lat, cells.lon)
    values[:, [0, -1]] = values[-1] = np.nan  # masked halos
    land = (np.abs(cells.lat - 20) < 15) & (np.abs(cells.lon - 100) < 30)
    values[land] = np.nan
    mesh_dataset(
        path=path, cells=cells, names=("nav_lat", "nav_lon"), corners=corners, values=values
    )
    result = regridded(path, "-180,180,-70,90,5", method=method)
    assert_in_place(result, tolerance=0.8, known=0.93)
    assert np.isnan(result["tas"][0].sel(lat=22.5, lon=102.5))
    # Without a seam: neither in the east, nor along the fold.
    across = result["tas"][0].sel(lat=[2.5, 62.5, 72.5, 82.5])
    assert np.isfinite(across.values[1:]).all()


def test_nemo_whose_land_blocks_lie_nowhere(path: Path) -> None:
    """A model that leaves out blocks of land writes 0 N 0 E there."""
    cells = tripolar(ny=90, nx=120, cap=30)
    values = smooth(cells.lat, cells.lon)
    lat, lon = cells.lat.copy(), cells.lon.copy()
    block = (slice(30, 40), slice(20, 40))
    values[block] = 1e3
    lat[block] = lon[block] = 0.0
    mesh_dataset(
        path=path,
        cells=Mesh(lat, lon, None, None),
        names=("nav_lat", "nav_lon"),
        corners=None,
        values=values,
    )
    result = regridded(path, "-180,180,-70,90,5")
    assert_in_place(result, tolerance=0.8, known=0.95)


def write_euro_cordex(path: Path, *, corners: bool) -> None:
    cells = rotated_pole(ny=60, nx=64, spacing=0.33)
    dataset = mesh_dataset(
        cells=cells,
        dims=["rlat", "rlon"],
        corners=("lat_vertices", "lon_vertices") if corners else None,
    )
    for name, size, word in (("rlat", 60, "latitude"), ("rlon", 64, "longitude")):
        attributes = {"standard_name": f"grid_{word}", "units": "degrees"}
        dataset[name] = (name, -10.0 + 0.33 * np.arange(size), attributes)
    dataset["rotated_pole"] = ((), b"", {"grid_mapping_name": "rotated_latitude_longitude"})
    dataset["tas"].attrs["grid_mapping"] = "rotated_pole"
    dataset["height"] = ((), 2.0, {"standard_name": "height", "units": "m"})
    dataset["tas"].encoding["coordinates"] = "lat lon height"
    dataset.set_coords("height").to_netcdf(path)


@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest"])
@pytest.mark.parametrize("corners", [True, False])
def test_euro_cordex(path: Path, corners: bool, method: str) -> None:
    write_euro_cordex(path, corners=corners)
    result = regridded(path, REGION, method=method)
    assert_in_place(result, tolerance=0.15)
    expected = {"time", "height", "lat", "lon", "lat_bnds", "lon_bnds", "crs", "tas"}
    assert set(result.variables) == expected
    assert result["tas"].attrs["grid_mapping"] == "crs", "no longer that of the rotated pole"
    assert float(result["tas"].height) == 2.0


@pytest.mark.parametrize("fill", [None, 9.969209968386869e36, -999.0, -9999.0])
def test_ocean_whose_land_has_no_place(path: Path, fill: float | None) -> None:
    """CESM2 and others leave coordinates and corners missing on Antarctica and elsewhere."""
    cells = tripolar(ny=90, nx=120, cap=30)
    assert cells.lat_vertices is not None
    assert cells.lon_vertices is not None
    land = (cells.lat < -70) | ((cells.lat > 20) & (cells.lat < 40) & (cells.lon < 30))
    values = np.where(land, np.nan, smooth(cells.lat, cells.lon))
    gone = Mesh(
        *(np.where(land, np.nan, a) for a in (cells.lat, cells.lon)),
        *(np.where(land[..., None], np.nan, a) for a in (cells.lat_vertices, cells.lon_vertices)),
    )
    mesh_dataset(path=path, cells=gone, dims=["nlat", "nlon"], fill=fill, values=values)
    for method in ("conservative", "bilinear", "nearest"):
        result = regridded(path, "-180,180,-90,90,5", method=method)
        assert_in_place(result, tolerance=0.8, known=0.8)
        assert np.isnan(result["tas"].sel(lat=slice(-90, -76))).all()
        assert np.isnan(result["tas"].sel(lat=32.5, lon=12.5)).all()


def write_two_grids(path: Path, *, named: bool) -> Mesh:
    """Temperatures on one grid and winds on another, half a cell off, over the same dimensions."""
    t_cells, u_cells = (
        rotated_pole(ny=40, nx=40, spacing=0.5, south_west=(s, s)) for s in (-10.0, -9.0)
    )
    dataset = mesh_dataset(cells=t_cells, names=("TLAT", "TLONG"), corners=None)
    u = mesh_dataset(cells=u_cells, names=("ULAT", "ULONG"), corners=None)
    dataset = dataset.assign_coords(ULAT=u["ULAT"], ULONG=u["ULONG"])
    dataset["uas"] = u["tas"]
    for name, coordinates in (("tas", "TLAT TLONG"), ("uas", "ULONG ULAT")):
        dataset[name].encoding = {"coordinates": coordinates} if named else {"coordinates": None}
    if not named:
        dataset = dataset.reset_coords(["TLAT", "TLONG", "ULAT", "ULONG"])
    dataset.to_netcdf(path)
    return u_cells


def test_two_grids_in_one_file(path: Path) -> None:
    u_cells = write_two_grids(path, named=True)
    found, _ = cells_of(path, "uas")
    assert isinstance(found, Mesh)
    np.testing.assert_array_equal(found.lat, u_cells.lat)
    result = regridded(path, REGION)
    assert_in_place(result, tolerance=0.2)
    assert_in_place(result.drop_vars("tas").rename(uas="tas"), tolerance=0.2)
    assert "ULAT" not in result.variables


def test_a_variable_that_could_lie_on_two_grids_is_refused(path: Path) -> None:
    write_two_grids(path, named=False)
    message = r"in\.nc: variable 'tas' has several coordinates of latitude: TLAT, ULAT; name"
    with pytest.raises(InputError, match=message):
        regridded(path, REGION)


def test_winds_and_temperatures_on_rectilinear_grids_of_their_own(path: Path) -> None:
    dataset = make_dataset(lat=np.arange(-88, 89, 4.0), lon=np.arange(0, 360, 4.0))
    u = make_dataset(
        name="uas", lat=np.arange(-90, 91, 4.0), lon=np.arange(2, 360, 4.0), lat_name="latu"
    ).rename(lon="lonu")
    xr.merge([dataset, u]).to_netcdf(path)
    result = regridded(path, "10")
    for name in ("tas", "uas"):
        assert result[name].dims == ("time", "lat", "lon")
        assert np.isfinite(result[name]).all()
    assert float(np.abs(result["tas"] - result["uas"]).max()) < 1.0


def test_axes_that_are_only_nominal_yield_to_the_coordinates_that_are_named(path: Path) -> None:
    """GFDL's oceans have one-dimensional latitudes that hold in the south alone."""
    cells = tripolar(ny=90, nx=120, cap=30)
    dataset = mesh_dataset(cells=cells, dims=["yh", "xh"], names=("geolat", "geolon"))
    dataset["yh"] = ("yh", np.linspace(-78, 89, 90), {"units": "degrees_north"})
    dataset["xh"] = ("xh", 1.5 + 3.0 * np.arange(120), {"units": "degrees_east"})
    dataset.to_netcdf(path)
    assert isinstance(cells_of(path)[0], Mesh)
    assert_in_place(regridded(path, "-180,180,-70,90,5"), tolerance=0.5)


@pytest.mark.parametrize("moving", [False, True])
def test_coordinates_repeated_at_each_time(path: Path, moving: bool) -> None:
    """WRF writes XLAT(Time, y, x)."""
    cells = rotated_pole(ny=40, nx=40, spacing=0.5)
    names = ("XLAT", "XLONG")
    dataset = mesh_dataset(cells=cells, names=names, corners=None)
    for name in names:
        again = np.stack([dataset[name].values, dataset[name].values + 0.5 * moving])
        dataset = dataset.assign_coords({name: (("time", "y", "x"), again, dataset[name].attrs)})
    dataset.to_netcdf(path)
    if moving:
        message = r"in\.nc: variable 'tas' has a latitude that changes along time; expected"
        with pytest.raises(InputError, match=message):
            regridded(path, REGION)
    else:
        assert_in_place(regridded(path, REGION), tolerance=0.2)


@pytest.mark.parametrize("corners", [None, ("lat_vertices", "lon_vertices")])
@pytest.mark.parametrize("turned", [False, True])
def test_two_axes_written_out_are_a_rectilinear_grid(
    path: Path, corners: tuple[str, str] | None, turned: bool
) -> None:
    grid = Grid.regular(-90, 90, -180, 180, 7.5)
    dataset = mesh_dataset(cells=as_mesh(grid), corners=corners)
    if turned:
        dataset = dataset.isel(y=slice(None, None, -1)).transpose("x", "y", ...)
    dataset.to_netcdf(path)
    found, array = cells_of(path)
    assert isinstance(found, Grid)
    assert found.digest == grid.digest
    assert array.dims == ("time", "lat", "lon")
    assert_in_place(regridded(path, BROAD), tolerance=0.8)


def test_a_grid_with_one_bent_row_is_a_mesh(path: Path) -> None:
    cells = as_mesh(Grid.regular(30, 60, 0, 40, 2.0))
    cells.lat[3, 5:] += 0.1
    mesh_dataset(path=path, cells=cells)
    assert isinstance(cells_of(path)[0], Mesh)


@pytest.mark.parametrize("dims", [("y", "x"), ("x", "y"), ("j", "i"), ("cell", "lat")])
def test_dimensions_of_cells_may_have_any_names(path: Path, dims: tuple[str, str]) -> None:
    cells = rotated_pole(ny=40, nx=44, spacing=0.5)
    mesh_dataset(path=path, cells=cells, dims=dims, names=("TLAT", "TLONG"))
    assert_in_place(regridded(path, REGION), tolerance=0.2)


@pytest.mark.parametrize("stated", [True, False])
def test_coordinates_that_nobody_names_are_found(path: Path, stated: bool) -> None:
    """Without attributes, or with them but not named by the variable."""
    cells = rotated_pole(ny=40, nx=44, spacing=0.5)
    dataset = mesh_dataset(cells=cells, attributes=stated)
    dataset = dataset.reset_coords([n for n in ("lat", "lon") if n in dataset.coords])
    dataset["tas"].encoding["coordinates"] = None
    dataset.to_netcdf(path)
    with netCDF4.Dataset(path) as file:
        assert "coordinates" not in file["tas"].ncattrs()
    assert_in_place(regridded(path, REGION), tolerance=0.2)


def test_axes_without_any_attribute(path: Path) -> None:
    dataset = make_dataset(lat=np.arange(40, 61, 2.0), lon=np.arange(0, 31, 2.0))
    for name in ("lat", "lon"):
        dataset[name].attrs = {}
    dataset.to_netcdf(path)
    assert np.isfinite(regridded(path, "4,24,44,56,4")["tas"]).all()


GAUSSIAN_LAT = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))


@pytest.mark.parametrize("west", [0.0, -180.0, 5.0])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("bounds", ["none", "beyond the pole"])
def test_gaussian_grids_in_every_order_and_convention(
    path: Path, west: float, flipped: bool, bounds: str
) -> None:
    lat = GAUSSIAN_LAT[::-1] if flipped else GAUSSIAN_LAT
    dataset = make_dataset(
        lat=lat,
        lon=west + 5.625 * np.arange(64),
        bounds=bounds != "none",
        values=lambda y, x, step: smooth(*np.broadcast_arrays(y, x)) + step,
    )
    if bounds != "none":
        spread = 0.5 * np.diff(lat).mean()
        dataset["lat_bnds"][0, 0], dataset["lat_bnds"][-1, 1] = lat[0] - spread, lat[-1] + spread
    dataset.to_netcdf(path)
    for grid in ("-180,180,-90,90,7.5", "-15,15,30,60,2.5", "345,15,30,60,2.5"):
        for method in ("conservative", "bilinear"):
            assert_in_place(regridded(path, grid, method=method), tolerance=0.35)


def test_a_seam_inside_a_region_keeps_uneven_bounds(path: Path) -> None:
    dataset = make_dataset(lon=[350, 355, 0, 10], bounds=True)
    dataset["lon_bnds"][:] = [[347, 352], [352, 357], [357, 3], [3, 17]]
    dataset.to_netcdf(path)
    found, _ = cells_of(path)
    assert isinstance(found, Grid)
    assert found.lon_edges.tolist() == [347, 352, 357, 363, 377]


def test_a_column_repeated_after_the_circle_is_dropped(path: Path) -> None:
    make_dataset(path=path, lat=np.arange(-85, 86, 10.0), lon=np.arange(0, 361, 10.0), bounds=True)
    found, array = cells_of(path)
    assert isinstance(found, Grid)
    assert (found.shape, array.shape, found.periodic) == ((18, 36), (3, 18, 36), True)


def test_levels_members_and_further_dimensions_are_kept(path: Path) -> None:
    cells = rotated_pole(ny=40, nx=44, spacing=0.5)
    dataset = mesh_dataset(cells=cells)
    tas = dataset["tas"]
    dataset["tas"] = xr.concat(
        [xr.concat([tas, tas + 10], "plev"), xr.concat([tas + 100, tas + 110], "plev")],
        "realization",
    ).transpose("time", "plev", "y", "realization", "x")
    dataset["plev"] = ("plev", [85000.0, 50000.0], {"units": "Pa", "positive": "down"})
    dataset["realization"] = ("realization", np.array([3, 7], np.int32))
    dataset.to_netcdf(path, unlimited_dims=["time", "realization"])
    result = regridded(path, REGION)
    assert result["tas"].dims == ("time", "plev", "realization", "lat", "lon")
    for k, member in enumerate((3, 7)):
        for j, level in enumerate((85000.0, 50000.0)):
            part = result.sel(realization=member, plev=level)
            assert_in_place(part - 100 * k - 10 * j, tolerance=0.2)
    with netCDF4.Dataset(path.with_name("out.nc")) as file:
        unlimited = {n for n, d in file.dimensions.items() if d.isunlimited()}
        assert unlimited == {"time", "realization"}
        assert file["realization"].dtype == np.int32


def test_a_file_without_time(path: Path) -> None:
    dataset = mesh_dataset(cells=triangles(level=3)).isel(time=0, drop=True)
    dataset.to_netcdf(path)
    assert_in_place(regridded(path, BROAD).expand_dims("time"), tolerance=0.8)


@pytest.mark.parametrize("kind", ["NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF4_CLASSIC"])
def test_old_formats(path: Path, kind: str) -> None:
    mesh_dataset(cells=triangles(level=3)).to_netcdf(path, format=kind)  # type: ignore[call-overload]
    assert_in_place(regridded(path, BROAD), tolerance=0.8)


@pytest.mark.parametrize(
    ("encoding", "tolerance"),
    [
        ({"dtype": "i2", "scale_factor": 0.01, "add_offset": 273.0, "_FillValue": -32768}, 0.006),
        ({"dtype": "i4", "_FillValue": -1}, 0.51),
        ({"dtype": "f8", "_FillValue": -1e30}, 1e-12),
    ],
    ids=["packed", "integers", "double"],
)
def test_packed_integer_and_double_values(
    path: Path, encoding: dict[str, Any], tolerance: float
) -> None:
    """Missing in one cell; against the same values unpacked."""
    cells = triangles(level=2)
    values = smooth(cells.lat, cells.lon)
    values[7] = np.nan
    mesh_dataset(path=path, cells=cells, values=values, encoding=encoding)
    result = regridded(path, BROAD)["tas"]
    assert result.dtype == (np.float32 if encoding["dtype"] == "i2" else np.float64)
    weights = build.weights(cells, Grid.regular(-90, 90, -180, 180, 10.0), "conservative")
    digits = 2e-5 if result.dtype == np.float32 else 0.0
    np.testing.assert_allclose(result[0], weights.apply(values), atol=tolerance + digits)


def test_ship_tracks_and_stations_are_not_regridded(path: Path) -> None:
    dataset = mesh_dataset(cells=Mesh(np.arange(2.0), np.arange(2.0), None, None), dims=["obs"])
    track = dataset.isel(obs=0, drop=True).drop_vars(
        ["lat", "lon", "lat_vertices"], errors="ignore"
    )
    for name in ("lat", "lon"):
        track = track.assign_coords({name: ("time", [1.0, 2.0], dataset[name].attrs)})
    track["tas"].encoding["coordinates"] = "lat lon"
    track.to_netcdf(path)
    with pytest.raises(InputError, match="no variable with latitude and longitude coordinates"):
        regridded(path, REGION)
    dataset.isel(obs=0).to_netcdf(path)
    with pytest.raises(GridError, match="cannot infer the size of a single cell"):
        regridded(path, REGION)


def test_latitude_and_longitude_on_different_dimensions_of_a_mesh_are_refused(path: Path) -> None:
    dataset = mesh_dataset(cells=rotated_pole())
    dataset = dataset.assign_coords(lon=("x", dataset["lon"].values[0], dataset["lon"].attrs))
    dataset.to_netcdf(path)
    message = "variable 'tas' has latitude along (y, x) and longitude along (x); expected the same"
    with pytest.raises(InputError, match=re.escape(message)):
        regridded(path, REGION)


def test_corners_in_other_units_than_they_say_are_damage(path: Path) -> None:
    """Centres in degrees, corners in radians that do not say so."""
    dataset = mesh_dataset(cells=triangles(level=2))
    for name in ("lat_vertices", "lon_vertices"):
        dataset[name] = np.radians(dataset[name])
    dataset.to_netcdf(path)
    with pytest.raises(GridError, match=r"in\.nc: of \d+ cells with corners, those of \d+ make no"):
        regridded(path, BROAD)


def test_areas_of_the_old_cells_are_not_regridded(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = mesh_dataset(cells=triangles(level=2))
    dataset["areacella"] = dataset["tas"][0].drop_vars("time")
    dataset["areacella"].attrs = {"standard_name": "cell_area", "units": "m2"}
    dataset["name"] = ("cell", np.array(["a"] * dataset.sizes["cell"], dtype="S1"))
    dataset["tas"].attrs["cell_measures"] = "area: areacella"
    dataset.to_netcdf(path)
    with caplog.at_level(logging.WARNING, logger="climdown"):
        result = regridded(path, BROAD)
    assert "left out" in caplog.text
    assert "areacella" in caplog.text
    assert "areacella" not in result.variables
    assert "cell_measures" not in result["tas"].attrs


@pytest.mark.data
def test_a_real_tripolar_ocean_keeps_its_mean(tmp_path: Path) -> None:
    source = shared_data() / "cmip" / "tos_ocean_bipolar_grid.nc"
    output = tmp_path / "out.nc"
    file.regrid_file(source, output, target=named_grid("r360x180"))
    cells, array = cells_of(source, "tos")
    assert isinstance(cells, Mesh)
    values = array.values[0].astype(np.float64)
    assert (cells.copies > 1).sum() == 880
    grid = target_grid("r360x180")
    weights = build.weights(cells, grid, "conservative")
    with xr.open_dataset(output) as result:
        found = result["tos"].values[0].astype(np.float64)
    share = (weights.matrix @ np.isfinite(values).ravel().astype(float)).reshape(grid.shape)
    areas = cell_areas(cells) / cells.copies
    before = np.nansum(values * areas) / areas[np.isfinite(values)].sum()
    after = np.nansum(found * share * grid.areas) / (share * grid.areas).sum()
    assert after == pytest.approx(before, rel=1e-6)  # float32 in the file


@pytest.mark.data
def test_a_real_rotated_pole_keeps_its_mean_over_a_box(tmp_path: Path) -> None:
    source = shared_data() / "cmip" / "small_rotPole_precipitation.nc"
    output = tmp_path / "out.nc"
    file.regrid_file(source, output, target=named_grid("0,20,45,55,0.5"))
    cells, array = cells_of(source, "pr")
    box = (cells.lat > 45) & (cells.lat < 55) & (cells.lon > 0) & (cells.lon < 20)
    with xr.open_dataset(output) as result:
        means = result["pr"].weighted(np.cos(np.radians(result.lat))).mean(("lat", "lon"))
    # Cells of 0.22 degrees are all but equal in area; those on the border are in or out.
    expected = array.values[:, np.asarray(box)].mean(axis=1)
    np.testing.assert_allclose(means, expected, rtol=0.02)
