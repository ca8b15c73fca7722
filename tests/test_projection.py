"""Cells that a grid mapping alone describes, against the formulas of Snyder (USGS 1395, 1987)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.mesh import Mesh
from tests.commands import Shell, read_members
from tests.factories import TAS, Floats, make_dataset

RADIUS = 6371229.0
Places = tuple[Floats, Floats]


def rotated(x: Floats, y: Floats) -> Places:
    """Pole at 39.25 N, 162 W: a turn about the axis, then one by which the pole moves."""
    lat, lon = np.radians(y), np.radians(x)
    tilt, turn = np.radians(90.0 - 39.25), np.radians(-162.0 + 180.0)
    up = np.sin(lat) * np.cos(tilt) + np.cos(lat) * np.cos(lon) * np.sin(tilt)
    out = np.cos(lat) * np.cos(lon) * np.cos(tilt) - np.sin(lat) * np.sin(tilt)
    east = np.arctan2(np.cos(lat) * np.sin(lon), out) + turn
    return np.degrees(np.arcsin(up)), np.degrees(east)


def lambert(x: Floats, y: Floats) -> Places:
    """One standard parallel, 50 N, which is the origin's, too; 10 E (equations 14-15, 15-1)."""
    n, phi = np.sin(np.radians(50.0)), np.radians(50.0)
    f = np.cos(phi) * np.tan(np.pi / 4 + phi / 2) ** n / n
    rho_0 = RADIUS * f / np.tan(np.pi / 4 + phi / 2) ** n
    rho = np.hypot(x, rho_0 - y)
    lat = 2 * np.arctan((RADIUS * f / rho) ** (1 / n)) - np.pi / 2
    return np.degrees(lat), 10.0 + np.degrees(np.arctan2(x, rho_0 - y)) / n


def stereographic(x: Floats, y: Floats) -> Places:
    """North pole, scale 1 at 70 N, straight down 45 W (equations 21-5 to 21-8)."""
    k = (1 + np.sin(np.radians(70.0))) / 2
    rho = np.hypot(x, y)
    lat = 90.0 - 2 * np.degrees(np.arctan(rho / (2 * RADIUS * k)))
    return lat, -45.0 + np.degrees(np.arctan2(x, -y))


ROTATED = {
    "grid_mapping_name": "rotated_latitude_longitude",
    "grid_north_pole_latitude": 39.25,
    "grid_north_pole_longitude": -162.0,
}
LAMBERT = {
    "grid_mapping_name": "lambert_conformal_conic",
    "standard_parallel": 50.0,
    "latitude_of_projection_origin": 50.0,
    "longitude_of_central_meridian": 10.0,
    "earth_radius": RADIUS,
}
STEREOGRAPHIC = {
    "grid_mapping_name": "polar_stereographic",
    "latitude_of_projection_origin": 90.0,
    "straight_vertical_longitude_from_pole": -45.0,
    "standard_parallel": 70.0,
    "earth_radius": RADIUS,
}
CASES = (
    (ROTATED, rotated, "grid", 0.5, "degrees"),
    (LAMBERT, lambert, "projection", 50e3, "m"),
    (STEREOGRAPHIC, stereographic, "projection", 50.0, "km"),
)


def write_projected(
    path: Path,
    mapping: Mapping[str, Any],
    kind: str,
    units: str,
    x: Floats,
    y: Floats,
    bounds: tuple[Floats, Floats] | None = None,
    stated: str = "crs",
) -> None:
    """A file of tas whose cells only its grid mapping describes."""
    dataset = make_dataset(lat=y, lon=x, lat_name="y", lon_name="x")
    ends = {"grid": ("longitude", "latitude"), "projection": ("x_coordinate", "y_coordinate")}
    for axis, end in zip("xy", ends[kind], strict=True):
        dataset[axis].attrs = {"standard_name": f"{kind}_{end}", "units": units}
    dataset["tas"].attrs["grid_mapping"] = stated
    dataset["crs"] = ((), np.int32(0), dict(mapping))
    if bounds is not None:
        for axis, low_high in zip("xy", bounds, strict=True):
            dataset[axis].attrs["bounds"] = f"{axis}_bnds"
            dataset[f"{axis}_bnds"] = ((axis, "bnds"), low_high)
    dataset.to_netcdf(path)


def midway(places: Floats) -> Floats:
    half = 0.5 * (places[1] - places[0])
    return np.stack([places - half, places + half], axis=1)


def apart(lon: Floats, expected: Floats) -> Floats:
    return np.asarray(np.abs((lon - expected + 180.0) % 360.0 - 180.0))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("mapping", "inverse", "kind", "step", "units"), CASES)
def test_centres_and_corners_are_those_of_the_projection(
    tmp_path: Path,
    mapping: Mapping[str, Any],
    inverse: Callable[[Floats, Floats], Places],
    kind: str,
    step: float,
    units: str,
    turned: bool,
) -> None:
    x, y = step * np.arange(-3.0, 5.0), step * np.arange(-6.5, 2.0)
    y = y[::-1] if turned else y
    write_projected(tmp_path / "tas.nc", mapping, kind, units, x, y)
    mesh = cf.open_field(tmp_path / "tas.nc", TAS).cells
    assert isinstance(mesh, Mesh)
    assert mesh.lat_vertices is not None
    assert mesh.lon_vertices is not None
    metres = 1000.0 if units == "km" else 1.0
    lat, lon = inverse(*np.meshgrid(metres * x, metres * y))
    np.testing.assert_allclose(mesh.lat, lat, atol=1e-7)
    assert apart(mesh.lon, lon).max() < 1e-7
    # The corners in any order: the first and third are opposite ones.
    near_x, near_y = metres * (x - 0.5 * step), metres * (y - 0.5 * step)
    lat, lon = inverse(*np.meshgrid(near_x, near_y))
    np.testing.assert_allclose(mesh.lat_vertices[..., 0], lat, atol=1e-7)
    assert apart(mesh.lon_vertices[..., 0], lon).max() < 1e-7


def test_bounds_of_the_projected_axes_make_the_corners(tmp_path: Path) -> None:
    x, y = 1000.0 * np.array([0.0, 10, 20, 30]), 1000.0 * np.array([0.0, 10, 30, 60])
    y_bounds = 1000.0 * np.array([[-5.0, 4], [4, 18], [18, 45], [45, 75]])
    write_projected(
        tmp_path / "tas.nc", LAMBERT, "projection", "m", x, y, bounds=(midway(x), y_bounds)
    )
    mesh = cf.open_field(tmp_path / "tas.nc", TAS).cells
    assert isinstance(mesh, Mesh)
    assert mesh.lat_vertices is not None
    lat, _ = lambert(*np.meshgrid(x - 5000.0, y_bounds[:, 1]))
    np.testing.assert_allclose(mesh.lat_vertices[..., 3], lat, atol=1e-7)


def test_wrong_bounds_of_an_even_projected_axis_are_named_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x = y = np.linspace(0.0, 90e3, 10)
    shifted = midway(x) + 5000.0
    paths = tmp_path / "wrong.nc", tmp_path / "right.nc"
    write_projected(paths[0], LAMBERT, "projection", "m", x, y, bounds=(shifted, midway(y)))
    write_projected(paths[1], LAMBERT, "projection", "m", x, y)
    wrong, right = (cf.open_field(path, TAS).cells for path in paths)
    assert isinstance(wrong, Mesh)
    assert isinstance(right, Mesh)
    assert wrong.matches(right)
    assert "wrong.nc: the bounds [0, 10000] of x 0 contradict" in caplog.text


def test_a_rotated_pole_is_regridded_as_with_its_coordinates(tmp_path: Path, shell: Shell) -> None:
    x, y = np.linspace(-20.0, -10.32, 12), np.linspace(-10.0, -2.08, 10)
    write_projected(tmp_path / "mapped.nc", ROTATED, "grid", "degrees", x, y, stated="crs: x y")
    lat, lon = rotated(*np.meshgrid(x, y))
    corner_lat, corner_lon = rotated(
        *np.broadcast_arrays(midway(x)[None, :, [0, 1, 1, 0]], midway(y)[:, None, [0, 0, 1, 1]])
    )
    with xr.open_dataset("mapped.nc", decode_times=False) as dataset:
        located = (
            dataset.load()
            .drop_vars("crs")
            .assign_coords(
                lat=(("y", "x"), lat, {"units": "degrees_north", "bounds": "lat_v"}),
                lon=(("y", "x"), lon, {"units": "degrees_east", "bounds": "lon_v"}),
                lat_v=(("y", "x", "v"), corner_lat),
                lon_v=(("y", "x", "v"), corner_lon),
            )
        )
    del located["tas"].attrs["grid_mapping"]
    located.to_netcdf("located.nc")
    for name in ("mapped", "located"):
        result = shell("regrid", f"{name}.nc", f"{name}_1.nc", "--grid", "-12,0,32,42,1")
        assert result.code == 0, result.err
    values = read_members("mapped_1.nc")
    assert np.isfinite(values).any()
    np.testing.assert_allclose(values, read_members("located_1.nc"), rtol=1e-6)
    assert "curvilinear, 10 x 12 cells" in shell("inspect", "mapped.nc", "--no-priors").out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid_north_pole_latitude": None}, "'crs' cannot be read"),
        ({"grid_mapping_name": "hexagons"}, "'crs' cannot be read .*hexagons"),
    ],
)
def test_mappings_that_cannot_be_read_are_named(
    tmp_path: Path, shell: Shell, changes: dict[str, Any], message: str
) -> None:
    mapping = {k: v for k, v in (ROTATED | changes).items() if v is not None}
    places = np.arange(0.0, 5)
    write_projected(tmp_path / "tas.nc", mapping, "grid", "degrees", places, places)
    result = shell("regrid", "tas.nc", "out.nc", "--grid", "1")
    assert result.code == 3
    assert "no variable with latitude and longitude" in result.message
    assert re.search(f"tas.nc: variable 'tas': .*{message}", result.err)


@pytest.mark.parametrize(
    ("units", "stated", "message"),
    [
        ("K", "crs", "its axis 'y' is in 'K'; expected units convertible to m"),
        ("m", "other", "its grid_mapping 'other' is not in the file"),
    ],
)
def test_axes_and_names_that_do_not_fit_a_mapping_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, units: str, stated: str, message: str
) -> None:
    places = 1000.0 * np.arange(0.0, 5)
    path = tmp_path / "tas.nc"
    write_projected(path, LAMBERT, "projection", units, places, places, stated=stated)
    cf.open_dataset(path).close()
    assert message in caplog.text


def test_a_hole_in_a_projected_axis_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = 1000.0 * np.arange(0.0, 10), 1000.0 * np.delete(np.arange(0.0, 10), 4)
    write_projected(tmp_path / "tas.nc", LAMBERT, "projection", "m", x, y)
    cf.open_dataset(tmp_path / "tas.nc").close()
    assert "tas.nc: variable 'tas': y has a hole between 3000 and 5000" in caplog.text
