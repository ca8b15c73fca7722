"""Axes as published files have them: holes, longitudes sorted after a wrap, bounds that lie."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.cf.axes import checked_axis, holes, ordered
from climdown.errors import GridError
from climdown.grid import Grid
from climdown.mesh import Mesh
from tests.commands import Shell, read_members
from tests.factories import TAS, Floats, assert_holds_truth, gaussian_grid, make_dataset

LAT = np.arange(30.0, 46.0, 2.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tas.nc"


def with_bounds(dataset: xr.Dataset, axis: str, low: Floats, high: Floats) -> xr.Dataset:
    """The dataset with these bounds of one axis."""
    dataset[axis].attrs["bounds"] = f"{axis}_bnds"
    return dataset.assign({f"{axis}_bnds": ((axis, "bnds"), np.stack([low, high], axis=1))})


def around(centres: Floats, half: float) -> tuple[Floats, Floats]:
    return centres - half, centres + half


@pytest.mark.parametrize(
    ("lon", "expected"),
    [
        (np.sort(np.arange(-9.8, 5, 1.4) % 360), np.arange(-9.8, 5, 1.4)),
        (np.sort((np.arange(170.0, 191, 4) + 180) % 360 - 180), np.arange(170.0, 191, 4)),
        (np.array([0.0, 1.0, 357.0, 358.0, 359.0]), np.array([-3.0, -2, -1, 0, 1])),
        (np.array([4.0, 2.0, 0.0, 358.0, 356.0]), np.array([-4.0, -2, 0, 2, 4])),
        (np.array([358.0, 356.0, 4.0, 2.0, 0.0]), np.array([-4.0, -2, 0, 2, 4])),
        (np.array([0.0, 358.0]), np.array([-2.0, 0.0])),
        (np.array([-180.0, -177.0, 174.0, 177.0, 180.0]), np.array([174.0, 177, 180, 183])),
    ],
    ids=["greenwich", "date line", "short", "descending", "descending sorted", "two", "repeated"],
)
def test_longitudes_sorted_after_a_wrap_span_as_little_as_they_can(
    path: Path, lon: Floats, expected: Floats
) -> None:
    make_dataset(path=path, lon=lon)
    field = cf.open_field(path, TAS)
    shift = 360.0 * np.round((field.grid.lon[0] - expected[0]) / 360.0)
    np.testing.assert_allclose(field.grid.lon - shift, expected, atol=1e-9)
    spacing = expected[1] - expected[0]
    np.testing.assert_allclose(np.diff(field.grid.lon_edges), spacing, atol=1e-9)
    assert_holds_truth(field)


def test_regridding_over_a_sorted_seam_gives_what_the_region_gives(
    tmp_path: Path, shell: Shell
) -> None:
    west = np.arange(-9.8, 5, 1.4)
    make_dataset(path=tmp_path / "region.nc", lat=LAT, lon=west)
    make_dataset(path=tmp_path / "sorted.nc", lat=LAT, lon=np.sort(west % 360))
    for name in ("region", "sorted"):
        result = shell("regrid", f"{name}.nc", f"{name}_1.nc", "--grid", "-10,5,30,44,1")
        assert result.code == 0, result.err
    np.testing.assert_allclose(read_members("sorted_1.nc"), read_members("region_1.nc"), rtol=1e-6)
    shell("regrid", "sorted.nc", "spaced.nc", "--grid", "1.0")
    with xr.open_dataset("spaced.nc") as spaced:
        assert spaced.sizes["lon"] == 16  # 349.5 E to 364.9 E


def test_bounds_of_longitudes_sorted_after_a_wrap_turn_with_them(path: Path) -> None:
    lon = np.array([0.0, 2.0, 5.0, 352.0, 354.0, 357.0])
    low = np.array([358.5, 1.0, 3.5, 350.5, 353.0, 355.5])
    high = np.array([361.0, 3.5, 6.5, 353.0, 355.5, 358.5])
    with_bounds(make_dataset(lon=lon), "lon", low, high).to_netcdf(path)
    field = cf.open_field(path, TAS)
    assert field.grid.lon.tolist() == [352, 354, 357, 360, 362, 365]
    assert field.grid.lon_edges.tolist() == [350.5, 353, 355.5, 358.5, 361, 363.5, 366.5]
    assert_holds_truth(field)


@pytest.mark.parametrize(
    "places",
    [
        gaussian_grid(32).lat,
        gaussian_grid(7).lat,
        np.cumsum(np.linspace(0.3, 1.2, 40)) - 15,  # stretched
        np.degrees(np.arcsin(np.linspace(-0.9, 0.9, 30))),  # of equal area
        np.array([0.0, 1, 2, 3, 5, 7, 9]),  # a nest in a coarser grid
        np.array([0.0, 2, 4, 5, 6, 7, 9, 11]),
        np.array([10.0, 20, 40]),
        np.cumsum(np.random.default_rng(1).uniform(0.5, 1.5, 50)) - 20,
        np.array([-88.0, -60, 0, 60, 88]),
    ],
)
def test_irregular_axes_without_a_hole_are_read_as_they_are(path: Path, places: Floats) -> None:
    assert not holes(places).any()
    make_dataset(path=path, lat=places, lon=places)
    field = cf.open_field(path, TAS)
    np.testing.assert_array_equal(field.grid.lat, places)
    np.testing.assert_allclose(field.grid.lon_edges[1:-1], (places[1:] + places[:-1]) / 2)
    assert_holds_truth(field)


@pytest.mark.parametrize("step", [0.25, 1.0, 30.0])
@pytest.mark.parametrize("first", [0.0, -180.0, 17.0])
def test_a_full_circle_keeps_its_first_longitude(path: Path, first: float, step: float) -> None:
    lon = first + np.arange(0, 360, step)
    centres, index = ordered(lon, circular=True)
    np.testing.assert_array_equal(centres, lon)
    np.testing.assert_array_equal(index, np.arange(lon.size))


@pytest.mark.parametrize(
    ("lat", "lon", "sides"),
    [
        (np.delete(LAT, 3), np.arange(5.0), "latitude has a hole between 34 and 38"),
        (np.delete(LAT, 3)[::-1], np.arange(5.0), "latitude has a hole between 34 and 38"),
        (np.delete(LAT, [2, 4]), np.arange(5.0), "latitude has a hole between 32 and 36"),
        (np.delete(LAT, 6), np.arange(5.0), "latitude has a hole between 40 and 44"),
        (np.delete(gaussian_grid(32).lat, 10), np.arange(5.0), "latitude has a hole between"),
        (LAT, np.delete(np.arange(0, 30, 2.5), [4, 5]), "longitude has a hole between 7.5 and 15"),
        (LAT, [350, 355, 0, 5, 20, 25], r"longitude has a hole between 365 \(that is 5\) and 380"),
    ],
)
def test_a_hole_without_bounds_is_refused_by_both_its_sides(
    path: Path, lat: Floats, lon: Sequence[float], sides: str
) -> None:
    make_dataset(path=path, lat=lat, lon=lon)
    with pytest.raises(GridError, match=rf"tas.nc: {sides}.*; add the missing cells or bounds"):
        cf.open_field(path, TAS)


@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest"])
@pytest.mark.parametrize("axis", ["lat", "lon"])
def test_cells_on_both_sides_of_a_hole_with_bounds_stay_apart(
    tmp_path: Path, shell: Shell, axis: str, method: str
) -> None:
    places = {"lat": LAT, "lon": np.arange(0.0, 20, 2)}
    places[axis] = np.delete(places[axis], 4)
    dataset = make_dataset(lat=places["lat"], lon=places["lon"])
    with_bounds(dataset, axis, *around(places[axis], 1.0)).to_netcdf(tmp_path / "in.nc")
    cells = cf.open_field(tmp_path / "in.nc", TAS).cells
    assert isinstance(cells, Mesh)
    result = shell("regrid", "in.nc", "out.nc", "--grid", "-1,19,29,45,2", "--method", method)
    assert result.code == 0, result.err
    values = np.moveaxis(read_members("out.nc"), 1 if axis == "lat" else 2, 0)
    assert np.isnan(values[4]).all()
    source = np.moveaxis(dataset["tas"].values, 1 if axis == "lat" else 2, 0)
    np.testing.assert_allclose(np.delete(values, 4, axis=0), source, rtol=1e-6)


@pytest.mark.parametrize("beside", ["lat", "lon"])
def test_bounds_that_bridge_a_hole_are_refused(path: Path, beside: str) -> None:
    places = np.delete(np.arange(0.0, 20, 2), 4)
    edges = np.concatenate([[-1.0], (places[1:] + places[:-1]) / 2, [19.0]])
    whole = np.arange(0.0, 20, 2)
    axes = {"lat": whole, "lon": whole, beside: places}
    dataset = make_dataset(lat=axes["lat"], lon=axes["lon"])
    with_bounds(dataset, beside, edges[:-1], edges[1:]).to_netcdf(path)
    with pytest.raises(GridError, match=r"bridge a hole in the axis.*between 6 and 10"):
        cf.open_field(path, TAS)


def test_one_large_cell_amid_small_ones_is_none(path: Path) -> None:
    places, edges = np.array([1.0, 2, 4, 6, 7]), np.array([0.5, 1.5, 2.5, 5.5, 6.5, 7.5])
    with_bounds(make_dataset(lat=places), "lat", edges[:-1], edges[1:]).to_netcdf(path)
    assert cf.open_field(path, TAS).grid.lat_edges.tolist() == edges.tolist()


SEAM = np.arange(0, 360, 2.5)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (np.maximum(SEAM - 1.25, 0.0), np.append(SEAM[:-1] + 1.25, 360.0)),
        (SEAM - 1.25, np.append(SEAM[:-1] + 1.25, SEAM[-1] + 3.75)),
        (SEAM, SEAM + 2.5),
        (SEAM - 2.5, SEAM),
        ((SEAM - 1.25)[::-1], (SEAM + 1.25)[::-1]),
        (SEAM - 0.5, SEAM + 0.5),
        (SEAM - 2.0, SEAM + 2.0),
        (0.0 * SEAM, 0.0 * SEAM),
        (np.nan * SEAM, SEAM + 1.25),
    ],
    ids=["seam", "wide", "shifted", "back", "reversed", "narrow", "overlap", "zero", "nan"],
)
def test_bounds_that_contradict_even_longitudes_are_named_once_and_replaced(
    path: Path, caplog: pytest.LogCaptureFixture, low: Floats, high: Floats
) -> None:
    dataset = make_dataset(lat=LAT, lon=SEAM, others={"tasmax": {"units": "K"}})
    with_bounds(dataset, "lon", low, high).to_netcdf(path)
    with caplog.at_level(logging.WARNING), cf.open_dataset(path) as opened:
        cells = [cf.horizontal_cells(opened[name], opened)[0] for name in ("tas", "tasmax")]
    for grid in cells:
        assert isinstance(grid, Grid)
        np.testing.assert_array_equal(grid.lon_edges, np.append(SEAM, 360.0) - 1.25)
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 1
    assert str(path) in warned[0]
    assert "of longitude" in warned[0]
    assert "midway between centres instead" in warned[0]


@pytest.mark.parametrize("lat", [np.arange(-85.0, 90, 10), gaussian_grid(24).lat])
def test_bounds_that_contradict_latitudes_are_replaced(
    path: Path, caplog: pytest.LogCaptureFixture, lat: Floats
) -> None:
    shifted = np.append(lat, 90.0)
    lon = np.arange(0, 360, 30.0)
    with_bounds(make_dataset(lat=lat, lon=lon), "lat", shifted[:-1], shifted[1:]).to_netcdf(path)
    grid = cf.open_field(path, TAS).grid
    np.testing.assert_array_equal(grid.lat_edges, Grid.from_centres(lat, lon).lat_edges)
    assert "of latitude" in caplog.text


@pytest.mark.parametrize(
    ("lat", "edges"),
    [
        (gaussian_grid(32).lat, gaussian_grid(32).lat_edges),
        (np.arange(-90.0, 91, 10), np.r_[-90, np.arange(-85.0, 90, 10), 90]),
        (np.arange(-80.0, 81, 10), np.r_[-90, np.arange(-75.0, 80, 10), 90]),
        (np.array([1.0, 2, 5, 7]), np.array([0.5, 1.2, 4.0, 6.5, 9])),
    ],
    ids=["gaussian", "half cells at the poles", "tall cells at the poles", "uneven"],
)
def test_bounds_that_can_be_meant_are_believed(
    path: Path, caplog: pytest.LogCaptureFixture, lat: Floats, edges: Floats
) -> None:
    with_bounds(make_dataset(lat=lat), "lat", edges[:-1], edges[1:]).to_netcdf(path)
    np.testing.assert_array_equal(cf.open_field(path, TAS).grid.lat_edges, edges)
    assert not caplog.records


@pytest.mark.parametrize("half", [1.0, -1.0])
def test_bounds_of_descending_latitudes_may_ascend_or_descend(path: Path, half: float) -> None:
    lat = LAT[::-1]
    with_bounds(make_dataset(lat=lat), "lat", *around(lat, half)).to_netcdf(path)
    np.testing.assert_array_equal(cf.open_field(path, TAS).grid.lat_edges, np.arange(29.0, 46, 2))


def test_uneven_centres_outside_their_bounds_are_refused() -> None:
    centres = np.array([1.0, 2, 5, 7])
    bounds = np.array([[0.5, 1.2], [1.2, 1.8], [1.8, 6.5], [6.5, 9]])
    with pytest.raises(
        GridError, match=r"bounds \[1.2, 1.8\] of latitude 2 do not hold its centre"
    ):
        checked_axis("latitude", centres, bounds)


def test_longitudes_in_no_order_are_refused(path: Path) -> None:
    make_dataset(path=path, lon=[10, 350, 20, 5])
    with pytest.raises(GridError, match="expected one ascending or descending order"):
        cf.open_field(path, TAS)
