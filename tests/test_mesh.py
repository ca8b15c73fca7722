"""Meshes: what is a cell, what is none, inferred corners, extent and identity."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from climdown.errors import GridError
from climdown.grid import Grid
from climdown.mesh import Mesh, unit_vectors
from tests.factories import Floats
from tests.meshes import as_mesh, hexagons, rotated_pole, triangles, tripolar


def distances(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> Floats:
    """Between places, degrees of arc."""
    chord = np.linalg.norm(unit_vectors(*one) - unit_vectors(*other), axis=-1)
    return np.asarray(np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1))))


def corners(mesh: Mesh) -> tuple[Floats, Floats]:
    assert mesh.lat_vertices is not None
    assert mesh.lon_vertices is not None
    return mesh.lat_vertices, mesh.lon_vertices


def test_inferred_corners_of_a_rotated_pole_are_the_true_ones() -> None:
    true = rotated_pole(spacing=0.5)
    inferred = Mesh.from_centres(true.lat, true.lon)
    off = distances(corners(inferred), corners(true))
    # The mean of four centres lies off their middle by h^2 / 8 of the grid's curvature.
    assert off.max() < 1e-3 * 0.5
    np.testing.assert_array_equal(inferred.valid, True)


def test_inferred_corners_of_a_tripolar_grid_are_near_the_true_ones() -> None:
    true = tripolar(ny=120, nx=180, cap=40)
    inferred = Mesh.from_centres(true.lat, true.lon)
    off = distances(corners(inferred), corners(true)) / true.reach[..., None] / np.degrees(1)
    assert np.quantile(off, 0.95) < 0.02
    # At the seam the last row is extrapolated, and cells double back around its two poles.
    assert off[:-1].max() < 0.5


def test_cells_beside_a_hole_keep_their_corners() -> None:
    true = rotated_pole(spacing=0.5)
    lat, lon = true.lat.copy(), true.lon.copy()
    lat[6:9, 5:9] = np.nan
    holed = Mesh.from_centres(lat, lon)
    assert np.isnan(holed.lon[6:9, 5:9]).all()
    np.testing.assert_array_equal(holed.valid, np.isfinite(lat))
    off = distances(corners(holed), corners(true))
    assert np.nanmax(off) < 0.01 * 0.5


def test_a_place_that_many_cells_claim_is_no_place() -> None:
    true = rotated_pole(south_west=(-60.0, -30.0))
    lat, lon = true.lat.copy(), true.lon.copy()
    lat[:4, :4] = lon[:4, :4] = 0.0
    mesh = Mesh.from_centres(lat, lon)
    assert np.isnan(mesh.lat).sum() == 16
    assert mesh.valid.sum() == lat.size - 16


def test_repeated_cells_are_counted() -> None:
    plain, halo = tripolar(), tripolar(halo=True)
    assert (plain.copies == 1).all()
    assert (halo.copies[:, [0, 1, -2, -1]] > 1).all()
    assert (halo.copies[:-2, 2:-2] == 1).all()
    # Each place once, whatever its copies.
    assert (1.0 / halo.copies).sum() == pytest.approx(plain.lat.size)


def test_copies_are_found_in_any_longitude_convention() -> None:
    mesh = Mesh.from_centres([10.0, 10.0, 10.0, 20.0], [350.0, -10.0, 10.0, 350.0])
    np.testing.assert_array_equal(mesh.copies, [2, 2, 1, 1])


@pytest.mark.parametrize("fill", [np.nan, 1e20, -999.0])
def test_missing_corners_repeat_the_one_before(fill: float) -> None:
    padded = hexagons(padding=6)
    lat, lon = (values.copy() for values in corners(padded))
    again = (np.diff(lat, axis=1) == 0) & (np.diff(lon, axis=1) == 0)
    lat[:, 1:][again] = fill
    mesh = Mesh.from_centres(padded.lat, padded.lon, lat_vertices=lat, lon_vertices=lon)
    np.testing.assert_array_equal(corners(mesh), corners(padded))
    assert mesh.digest == padded.digest


def test_a_missing_first_corner_takes_the_last_one() -> None:
    cell = ([[np.nan, 0.0, 0.0, 1.0]], [[np.nan, 0.0, 1.0, 1.0]])
    mesh = Mesh.from_centres([0.5], [0.5], lat_vertices=cell[0], lon_vertices=cell[1])
    np.testing.assert_array_equal(corners(mesh)[0], [[1.0, 0.0, 0.0, 1.0]])
    assert mesh.valid.all()


def test_cells_with_two_corners_are_none() -> None:
    cell = ([[np.nan, np.nan, 0.0, 1.0]], [[0.0, 0.0, 1.0, 1.0]])
    mesh = Mesh.from_centres([0.5], [0.5], lat_vertices=cell[0], lon_vertices=cell[1])
    assert not mesh.valid.any()
    assert not mesh.damaged.any()


def test_corners_beyond_a_pole_are_moved_to_it() -> None:
    mesh = as_mesh(Grid.regular(80, 90, 0, 360, 5.0))
    lat, lon = corners(mesh)
    beyond = np.where(lat == 90.0, 92.5, lat)
    moved = Mesh.from_centres(mesh.lat, mesh.lon, lat_vertices=beyond, lon_vertices=lon)
    assert moved.digest == mesh.digest


def test_corners_elsewhere_are_damage() -> None:
    mesh = triangles(level=2)
    lat, lon = (values.copy() for values in corners(mesh))
    lon[7] += 90.0
    lat[9, 0], lon[9, 0] = -lat[9, 0], lon[9, 0] + 180.0
    lat[11] = lon[11] = 0.0
    broken = Mesh.from_centres(mesh.lat, mesh.lon, lat_vertices=lat, lon_vertices=lon)
    assert np.flatnonzero(broken.damaged).tolist() == [7, 9]
    assert np.flatnonzero(~broken.valid).tolist() == [7, 9, 11]
    assert np.isnan(broken.reach[[7, 9, 11]]).all()


def test_meshes_without_corners_have_no_valid_cell() -> None:
    mesh = Mesh.from_centres(triangles(level=1).lat, triangles(level=1).lon)
    assert mesh.lat_vertices is None
    assert not mesh.valid.any()
    assert not mesh.damaged.any()
    assert np.isnan(mesh.reach).all()
    assert mesh.describe().endswith("corners unknown")


def test_reach_is_the_distance_to_the_farthest_corner() -> None:
    mesh = as_mesh(Grid.regular(-1, 1, 0, 4, 2.0))
    # Half the diagonal of 2 by 2 degrees at the equator.
    assert np.degrees(mesh.reach) == pytest.approx(np.sqrt(2.0), rel=1e-3)


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        (rotated_pole(spacing=0.11), 0.11),
        (tripolar(ny=60, nx=90, cap=20, halo=True), 2.4),
        (triangles(level=4), 2.3),
    ],
    ids=["rotated pole", "tripolar", "triangles"],
)
def test_spacing_is_the_distance_between_neighbours(mesh: Mesh, expected: float) -> None:
    assert mesh.spacing == pytest.approx(expected, rel=0.05)


def test_the_spacing_of_one_cell_is_unknown() -> None:
    with pytest.raises(GridError, match="cannot tell the spacing of a mesh of one cell"):
        _ = Mesh.from_centres([10.0], [20.0]).spacing


def test_box_of_a_region_across_the_seam_runs_past_it() -> None:
    south, north, west, east = Mesh.from_centres([40.0, 50.0, 45.0], [350.0, 2.0, 15.0]).box
    assert (south, north, west, east) == (40.0, 50.0, -10.0, 15.0)


def test_box_of_a_region_across_the_date_line_runs_past_it() -> None:
    assert Mesh.from_centres([0.0, 1.0, 2.0], [170.0, -175.0, -160.0]).box[2:] == (170.0, 200.0)


def test_box_of_all_longitudes_is_the_circle() -> None:
    assert tripolar().box[2:] == (-180.0, 180.0)
    assert "global longitudes" in tripolar().describe()


def test_description_says_kind_size_spacing_and_extent() -> None:
    assert rotated_pole().describe().startswith("curvilinear, 20 x 24 cells of about 0.996 deg, 40")
    assert triangles().describe().startswith("unstructured, 1280 cells of about 4.55 deg, ")


def test_digests_tell_meshes_apart() -> None:
    mesh = rotated_pole()
    moved = mesh.lat.copy()
    moved[3, 3] += 1e-5
    different = [
        replace(mesh, lat=moved),
        replace(mesh, lat_vertices=None, lon_vertices=None),
        replace(mesh, lon=mesh.lon + 1e-5),
        Mesh(mesh.lat.ravel(), mesh.lon.ravel(), None, None),
    ]
    digests = {mesh.digest, *(other.digest for other in different)}
    assert len(digests) == 5
    assert replace(mesh, lat=mesh.lat + 1e-9).digest == mesh.digest


@pytest.mark.parametrize(
    ("lat", "lon", "message"),
    [
        (np.zeros(3), np.zeros(4), "latitude has shape (3,), longitude (4,)"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), "expected one shape of one or two dimensions"),
        (np.full(3, np.nan), np.zeros(3), "no cell with a known centre"),
        (np.zeros(9), np.zeros(9), "no cell with a known centre"),
        (np.array([1.0, 95.0]), np.zeros(2), "latitudes run from 1 to 95; expected degrees"),
    ],
)
def test_what_is_no_mesh_is_refused(lat: Floats, lon: Floats, message: str) -> None:
    with pytest.raises(GridError, match=re.escape(message)):
        Mesh.from_centres(lat, lon)


@pytest.mark.parametrize(
    ("lat", "lon"),
    [((3, 2), (3, 2)), ((2, 4), (2, 4)), ((3, 2, 4), (3, 2, 4)), ((3, 4), (3, 5)), ((3, 4), None)],
)
def test_corners_of_another_shape_are_refused(
    lat: tuple[int, ...], lon: tuple[int, ...] | None
) -> None:
    message = f"cell corners have shape {lat} in latitude and {lon} in longitude; expected"
    centres = np.array([1.0, 2.0, 3.0])
    with pytest.raises(GridError, match=re.escape(message)):
        Mesh(centres, centres, np.zeros(lat), None if lon is None else np.zeros(lon))
    if lon is not None:
        with pytest.raises(GridError, match=re.escape(message)):
            Mesh.from_centres(
                centres, centres, lat_vertices=np.zeros(lat), lon_vertices=np.zeros(lon)
            )
