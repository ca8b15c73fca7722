"""Regridding from cells of any shape: areas, conservation, shapes, poles, copies, neighbours."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import spherely
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown.errors import GridError
from climdown.grid import Grid
from climdown.mesh import Mesh, unit_vectors
from climdown.regrid import METHODS, Method, build, points, polygons, weights
from climdown.regrid.polygons import cell_areas
from climdown.regrid.rings import untangled
from tests.factories import Floats, gaussian_grid
from tests.meshes import as_mesh, hexagons, rotated_pole, smooth, triangles, tripolar

GLOBE = Grid.regular(-90, 90, 0, 360, 5.0)
REGION = Grid.regular(42, 58, 5, 31, 0.8)
MESHES = {
    "rotated pole": rotated_pole(),
    "tripolar": tripolar(),
    "halo": tripolar(halo=True),
    "triangles": triangles(),
    "hexagons": hexagons(),
    "rectilinear": as_mesh(Grid.regular(-90, 90, -180, 180, 6.0)),
}
GLOBAL_MESHES = ["triangles", "hexagons", "rectilinear"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Weights are kept in an empty folder, and in no other."""
    monkeypatch.setenv("CLIMDOWN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(logging.getLogger("climdown"), "propagate", True)
    yield tmp_path / "cache"
    build._cached.cache_clear()


def corners(mesh: Mesh) -> tuple[Floats, Floats]:
    assert mesh.lat_vertices is not None
    assert mesh.lon_vertices is not None
    count = mesh.lat_vertices.shape[-1]
    return mesh.lat_vertices.reshape(-1, count), mesh.lon_vertices.reshape(-1, count)


def with_corners(mesh: Mesh, lat: Floats, lon: Floats) -> Mesh:
    shape = (*mesh.shape, -1)
    return replace(mesh, lat_vertices=lat.reshape(shape), lon_vertices=lon.reshape(shape))


def difference(one: Mesh, other: Mesh) -> float:
    """The largest difference between overlaps with the cells of the globe, steradian."""
    matrices = (weights(mesh, GLOBE, "conservative").matrix for mesh in (one, other))
    apart = np.abs(next(matrices) - next(matrices)).max(axis=1).toarray().ravel()
    return float((apart * GLOBE.areas.ravel()).max())


def s2_polygons(mesh: Mesh) -> np.ndarray:
    """The cells as polygons of the S2 library, repeated corners dropped."""
    rings = (
        dict.fromkeys(zip(lon.tolist(), lat.tolist(), strict=True))
        for lat, lon in zip(*corners(mesh), strict=True)
    )
    return np.array([spherely.create_polygon(list(ring)) for ring in rings], dtype=object)


def s2_shares(mesh: Mesh, grid: Grid, points_per_side: int = 100) -> Floats:
    """Shares of target cells by intersection of polygons, parallels drawn by many points."""
    sources = s2_polygons(mesh)
    rows = []
    for y, x in np.ndindex(grid.shape):
        (south, north), (west, east) = grid.lat_edges[y : y + 2], grid.lon_edges[x : x + 2]
        lon = np.linspace(west, east, points_per_side)
        below = [(west, -90.0)] if south == -90.0 else [(v, south) for v in lon]
        above = [(west, 90.0)] if north == 90.0 else [(v, north) for v in lon[::-1]]
        cell = spherely.create_polygon(below + above)
        overlap = spherely.area(spherely.intersection(cell, sources), radius=1.0)
        rows.append(overlap / spherely.area(cell, radius=1.0))
    return np.array(rows)


@pytest.mark.parametrize("name", ["rotated pole", "tripolar", "triangles", "hexagons"])
def test_areas_are_those_of_s2(name: str) -> None:
    mesh = MESHES[name]
    expected = spherely.area(s2_polygons(mesh), radius=1.0)
    np.testing.assert_allclose(cell_areas(mesh).ravel(), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("rotated pole", Grid.regular(40, 60, 0, 40, 4.0)),
        ("tripolar", Grid.regular(-90, 90, 0, 360, 30.0)),
        ("triangles", Grid.regular(-90, -40, -170, 190, 25.0)),
        ("hexagons", Grid.regular(50, 90, -170, 190, 10.0)),
    ],
)
def test_overlaps_are_those_of_s2(name: str, grid: Grid) -> None:
    shares = weights(MESHES[name], grid, "conservative").matrix.toarray()
    # Great circles between 100 points err from a parallel by (width / 99)^2 / 16 / height.
    np.testing.assert_allclose(shares, s2_shares(MESHES[name], grid), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", GLOBAL_MESHES)
def test_cells_fill_the_sphere(name: str) -> None:
    assert cell_areas(MESHES[name]).sum() == pytest.approx(4 * np.pi, rel=1e-13)
    coverage = weights(MESHES[name], GLOBE, "conservative").coverage
    np.testing.assert_allclose(coverage, 1.0, rtol=1e-11)


@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("grid", [GLOBE, gaussian_grid(32)], ids=["regular", "Gaussian"])
def test_conservative_weights_keep_the_integral(name: str, grid: Grid) -> None:
    mesh = MESHES[name]
    field = np.random.default_rng(0).normal(size=mesh.shape) + 5.0
    # Copies in a halo hold the values of what they copy.
    if name == "halo":
        inner = field[:-1, 1:-1]
        wrapped = np.concatenate([inner[:, -1:], inner, inner[:, :1]], axis=1)
        field = np.concatenate([wrapped, wrapped[-1:, ::-1]])
    before = (field * cell_areas(mesh) / mesh.copies).sum()
    operator = weights(mesh, grid, "conservative")
    after = (operator.apply(field) * operator.coverage * grid.areas)[operator.coverage > 1e-6]
    assert after.sum() == pytest.approx(before, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MESHES)
def test_constants_stay_constant(name: str, method: Method) -> None:
    mesh = MESHES[name]
    operator = weights(mesh, GLOBE if name != "rotated pole" else REGION, method)
    result = operator.apply(np.full(mesh.shape, 287.5))
    known = operator.coverage >= 1e-6
    assert known.mean() > 0.9
    np.testing.assert_allclose(result[known], 287.5, rtol=1e-13)
    assert np.isnan(result[~known]).all()
    rows = operator.matrix.sum(axis=1)
    assert operator.matrix.data.min() >= 0
    if method != "conservative":
        np.testing.assert_allclose(rows[rows > 0], 1.0, rtol=1e-13)


@pytest.mark.parametrize("name", MESHES)
def test_coverage_is_at_most_one(name: str) -> None:
    assert weights(MESHES[name], GLOBE, "conservative").coverage.max() < 1.0 + 1e-9


@pytest.mark.parametrize("target", [GLOBE, Grid.regular(31, 67, -13, 41, 1.3)])
def test_a_rectilinear_grid_written_as_a_mesh_gives_almost_the_same(target: Grid) -> None:
    """Edges along parallels become great circles, which bulge by width^2 / 16 at most."""
    grid = gaussian_grid(48)
    lat, lon = np.meshgrid(grid.lat, grid.lon, indexing="ij")
    field = smooth(lat, lon)
    exact = weights(grid, target, "conservative")
    mesh = weights(as_mesh(grid), target, "conservative")
    np.testing.assert_allclose(mesh.coverage, exact.coverage, rtol=1e-10)
    assert np.abs(mesh.apply(field) - exact.apply(field)).max() < 5e-4 * np.abs(field).max()
    width, height = np.radians(3.75), np.diff(np.sin(np.radians(target.lat_edges))).min()
    assert np.abs(mesh.matrix - exact.matrix).max() < width**2 / 16 / height


@settings(max_examples=25)
@given(
    pole=st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
    corner=st.tuples(st.floats(-85, 60), st.floats(-180, 180)),
    spacing=st.floats(0.3, 6.0),
)
def test_areas_are_kept_wherever_the_cells_lie(
    pole: tuple[float, float], corner: tuple[float, float], spacing: float
) -> None:
    """Anywhere, over the poles and the seam too; turning the sphere changes no area."""
    mesh = rotated_pole(ny=4, nx=5, spacing=spacing, pole=pole, south_west=corner)
    unturned = rotated_pole(ny=4, nx=5, spacing=spacing, pole=(90.0, 0.0), south_west=corner)
    areas = cell_areas(mesh)
    np.testing.assert_allclose(areas, cell_areas(unturned), rtol=1e-7)
    grid = Grid.regular(-90, 90, -180, 180, 11.0)
    matrix = polygons.conservative_weights(mesh, grid)
    found = matrix.T @ grid.areas.ravel()
    np.testing.assert_allclose(found, areas.ravel(), rtol=1e-9)


def test_a_finer_or_shifted_target_adds_up_to_the_coarser_one() -> None:
    mesh, fine = MESHES["tripolar"], Grid.regular(-90, 90, -170, 190, 1.0)
    coarse = fine.coarsen(10)
    x = smooth(mesh.lat, mesh.lon)
    once = weights(mesh, coarse, "conservative")
    matrix = weights(fine, coarse, "conservative").matrix
    twice = matrix @ (weights(mesh, fine, "conservative").matrix @ x.ravel())
    np.testing.assert_allclose(twice, once.matrix @ x.ravel(), rtol=1e-11)


def test_longitude_conventions_of_the_target_do_not_matter() -> None:
    mesh = MESHES["tripolar"]
    east, west = (Grid.regular(-90, 90, w, w + 360, 5.0) for w in (0, -180))
    one, other = (weights(mesh, g, "conservative").matrix.toarray() for g in (east, west))
    turned = np.roll(one.reshape(36, 72, -1), 36, axis=1).reshape(other.shape)
    np.testing.assert_allclose(turned, other, atol=1e-14)


@pytest.mark.parametrize("turn", [-360.0, 360.0, 720.0])
def test_longitude_conventions_of_the_corners_do_not_matter(turn: float) -> None:
    mesh = MESHES["hexagons"]
    lat, lon = corners(mesh)
    odd = np.arange(lon.shape[1]) % 2 == 1
    moved = with_corners(mesh, lat, lon + turn * odd)
    assert difference(mesh, moved) < 1e-14


def test_clockwise_corners_are_the_same_cells() -> None:
    for mesh in (MESHES["tripolar"], MESHES["triangles"], MESHES["rectilinear"]):
        backwards = with_corners(mesh, *(values[:, ::-1].copy() for values in corners(mesh)))
        assert difference(mesh, backwards) < 1e-14


def test_bow_ties_are_untied() -> None:
    mesh = MESHES["tripolar"]
    lat, lon = (values.copy() for values in corners(mesh))
    # Cells at the seam's two poles are concave: no order of crossed corners tells how.
    tied = (np.arange(len(lat)) % 3 == 0) & (np.arange(len(lat)) < len(lat) - mesh.shape[1])
    for values in (lat, lon):
        values[tied] = values[tied][:, [0, 2, 1, 3]]
    crossed = with_corners(mesh, lat, lon)
    assert difference(mesh, crossed) < 1e-14


def test_concave_cells_are_left_as_they_are() -> None:
    lat, lon = np.array([[0.0, 0.0, 1.0, 4.0]]), np.array([[0.0, 4.0, 1.0, 0.0]])
    for values, same in zip(untangled(lat, lon), (lat, lon), strict=True):
        np.testing.assert_array_equal(values, same)
    mesh = Mesh(np.array([0.8]), np.array([0.8]), lat, lon)
    expected = spherely.area(s2_polygons(mesh), radius=1.0)
    np.testing.assert_allclose(cell_areas(mesh), expected, rtol=1e-10)


@pytest.mark.parametrize("pole", [90.0, -90.0])
@pytest.mark.parametrize("on_corner", [True, False])
def test_cells_over_a_pole(pole: float, on_corner: bool) -> None:
    """Squares around a pole, one of them holding it, or four that meet there."""
    offset = 0.0 if on_corner else 0.5
    # The pole of the rotated grid lies on the equator, and its origin on the pole.
    mesh = rotated_pole(
        ny=6, nx=6, spacing=1.0, pole=(0.0, 180.0), south_west=(-3 + offset, -3 + offset)
    )
    if pole < 0:
        mesh = Mesh(-mesh.lat, mesh.lon, -corners(mesh)[0].reshape(6, 6, 4), mesh.lon_vertices)
    south, north = (80.0, 90.0) if pole > 0 else (-90.0, -80.0)
    cap = Grid.regular(south, north, -180, 180, 0.5)
    operator = weights(mesh, cap, "conservative")
    inner = np.abs(cap.lat) > 88.0
    np.testing.assert_allclose(operator.coverage[inner], 1.0, rtol=1e-8)
    area = (operator.matrix.T @ cap.areas.ravel()).reshape(mesh.shape)
    np.testing.assert_allclose(area, cell_areas(mesh), rtol=1e-9)


def test_corners_on_the_pole_may_have_any_longitude() -> None:
    mesh = as_mesh(Grid.regular(-90, 90, 0, 360, 10.0))
    lat, lon = corners(mesh)
    at_pole = np.abs(lat) == 90.0
    anywhere = np.where(at_pole, np.random.default_rng(0).uniform(-180, 360, lon.shape), lon)
    assert difference(mesh, with_corners(mesh, lat, anywhere)) < 1e-14


def test_cells_that_do_not_exist_count_for_nothing() -> None:
    mesh = MESHES["triangles"]
    holed = replace(mesh, lat=mesh.lat.copy(), lon=mesh.lon.copy())
    lat, lon = (values.copy() for values in corners(mesh))
    for values in (holed.lat, holed.lon, lat, lon):
        values[5:50] = np.nan
    operator = weights(with_corners(holed, lat, lon), GLOBE, "conservative")
    matrix = weights(mesh, GLOBE, "conservative").matrix.toarray()
    matrix[:, 5:50] = 0.0
    np.testing.assert_allclose(operator.matrix.toarray(), matrix, atol=1e-13)


def test_a_missing_copy_leaves_the_other() -> None:
    """Models mask their halos."""
    mesh = tripolar(halo=True)
    full = smooth(mesh.lat, mesh.lon)
    masked = full.copy()
    masked[:, [0, -1]] = masked[-1] = np.nan
    for method in METHODS:
        operator = weights(mesh, Grid.regular(-70, 89, -180, 180, 3.0), method)
        np.testing.assert_allclose(operator.apply(masked), operator.apply(full), rtol=1e-14)
        both = np.stack([full, masked + 1.0])
        np.testing.assert_array_equal(operator.apply(both)[0], operator.apply(full))


def test_a_place_missing_in_all_its_copies_is_missing() -> None:
    mesh = tripolar(halo=True)
    values = np.ones(mesh.shape)
    values[:, [0, -2]] = np.nan
    columns = mesh.filled_copies(values.reshape(-1, 1)).reshape(mesh.shape)
    np.testing.assert_array_equal(np.isnan(columns)[:-2], np.isnan(values)[:-2])


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_damaged_corners_are_left_out_or_refused(
    share: float, caplog: pytest.LogCaptureFixture
) -> None:
    mesh = MESHES["triangles"]
    lat, lon = (values.copy() for values in corners(mesh))
    count = int(share * len(lat))
    lat[:count, 2], lon[:count, 2] = lat[:count, 1], lon[:count, 1]
    damaged = with_corners(mesh, lat, lon)
    if share > 0.1:
        message = re.escape(f"of 1280 cells with corners, those of {count} make no cell")
        with pytest.raises(GridError, match=message):
            weights(damaged, GLOBE, "conservative")
        return
    with caplog.at_level(logging.WARNING, logger="climdown"):
        operator = weights(damaged, GLOBE, "conservative")
    assert f"{count} cells have corners that make no cell" in caplog.text
    assert operator.coverage.sum() < 0.97 * operator.coverage.size
    assert np.isnan(cell_areas(damaged)[:count]).all()


def test_corners_that_are_all_missing_are_refused() -> None:
    mesh = MESHES["triangles"]
    nowhere = with_corners(mesh, *(np.full_like(values, np.nan) for values in corners(mesh)))
    with pytest.raises(GridError, match="of 0 cells with corners"):
        weights(nowhere, GLOBE, "conservative")


def test_unknown_corners_cannot_conserve() -> None:
    mesh = replace(MESHES["triangles"], lat_vertices=None, lon_vertices=None)
    with pytest.raises(GridError, match=r"corners are unknown .* use --method bilinear or nearest"):
        weights(mesh, GLOBE, "conservative")
    assert np.isfinite(weights(mesh, GLOBE, "nearest").apply(mesh.lat)).all()


def test_targets_elsewhere_get_nothing() -> None:
    for method in METHODS:
        operator = weights(MESHES["rotated pole"], Grid.regular(-40, -20, 0, 30, 5.0), method)
        assert not operator.coverage.any()


def brute_force_nearest(mesh: Mesh, grid: Grid) -> Floats:
    """Numbers of the cells nearest to each target, shape (targets,)."""
    lat, lon = np.meshgrid(grid.lat, grid.lon, indexing="ij")
    cosines = (
        unit_vectors(lat, lon).reshape(-1, 3) @ unit_vectors(mesh.lat, mesh.lon).reshape(-1, 3).T
    )
    return np.asarray(cosines.argmax(axis=1), dtype=np.float64)


@pytest.mark.parametrize("corners_known", [True, False])
@pytest.mark.parametrize("name", ["triangles", "hexagons", "tripolar"])
def test_nearest_is_the_nearest(name: str, corners_known: bool) -> None:
    mesh = MESHES[name]
    if not corners_known:
        mesh = replace(mesh, lat_vertices=None, lon_vertices=None)
    grid = Grid.regular(-70, 90, -178.7, 181.3, 2.9)
    found = weights(mesh, grid, "nearest").apply(
        np.arange(mesh.lat.size, dtype=float).reshape(mesh.shape)
    )
    np.testing.assert_array_equal(found.ravel(), brute_force_nearest(mesh, grid))


def test_nearest_ends_where_the_cells_end() -> None:
    mesh = MESHES["rotated pole"]
    target = Grid.regular(35, 65, -10, 46, 0.5)
    reached = weights(mesh, target, "nearest").coverage > 0
    covered = weights(mesh, target, "conservative").coverage
    assert reached[covered > 0.99].all()
    assert not reached[covered == 0].mean() > 0.02


@pytest.mark.parametrize("name", ["rotated pole", "tripolar", "triangles", "hexagons"])
def test_bilinear_returns_the_values_at_the_centres(name: str) -> None:
    mesh = MESHES[name]
    field = smooth(mesh.lat, mesh.lon)
    for y, x in [(3, 5), (12, 20)]:
        cell = (y, x) if len(mesh.shape) == 2 else (y * 7 + x,)
        lat, lon = float(mesh.lat[cell]), float(mesh.lon[cell])
        target = Grid.from_centres(
            [lat], [lon], lat_edges=[lat - 0.1, lat + 0.1], lon_edges=[lon - 0.1, lon + 0.1]
        )
        assert weights(mesh, target, "bilinear").apply(field)[0, 0] == pytest.approx(field[cell])


def test_bilinear_errs_by_the_square_of_the_spacing() -> None:
    """Fields linear on the sphere's chords are exact but for the triangle's depth below it."""
    grid = Grid.regular(-90, 90, -178, 182, 4.0)
    lat, lon = np.meshgrid(grid.lat, grid.lon, indexing="ij")
    errors = []
    for level in (2, 3, 4):
        mesh = triangles(level=level)
        found = weights(mesh, grid, "bilinear").apply(smooth(mesh.lat, mesh.lon))
        errors.append(np.abs(found - smooth(lat, lon)).max())
    assert 3.0 < errors[0] / errors[1] < 5.0
    assert 3.0 < errors[1] / errors[2] < 5.0


def test_bilinear_is_exact_for_planes_through_the_three_centres() -> None:
    """x, y and z are the ray's point up to one factor, the depth of the flat triangle."""
    mesh = MESHES["triangles"]
    operator = weights(mesh, GLOBE, "bilinear")
    lat, lon = np.meshgrid(GLOBE.lat, GLOBE.lon, indexing="ij")
    found = np.stack(
        [operator.apply(axis) for axis in np.moveaxis(unit_vectors(mesh.lat, mesh.lon), -1, 0)],
        axis=-1,
    )
    depth = np.linalg.norm(found, axis=-1, keepdims=True)
    assert (depth > 0.99).all()
    np.testing.assert_allclose(found / depth, unit_vectors(lat, lon), atol=1e-13)


def test_bilinear_does_not_bridge_a_hole() -> None:
    mesh = rotated_pole(ny=60, nx=60, spacing=0.3)
    lat, lon = mesh.lat.copy(), mesh.lon.copy()
    lat[20:40, 20:40] = lon[20:40, 20:40] = np.nan
    holed = Mesh(lat, lon, None, None)
    middle = (float(mesh.lat[30, 30]), float(mesh.lon[30, 30]))
    target = Grid.regular(middle[0] - 0.5, middle[0] + 0.5, middle[1] - 0.5, middle[1] + 0.5, 0.5)
    assert np.isfinite(weights(mesh, target, "bilinear").apply(mesh.lat)).all()
    assert np.isnan(weights(holed, target, "bilinear").apply(mesh.lat)).all()


@pytest.mark.parametrize(
    ("lat", "lon"),
    [([1.0, 2.0], [0.0, 0.0]), ([10.0, 20.0, 30.0, 40.0], [5.0, 5.0, 5.0, 5.0])],
    ids=["two cells", "a line"],
)
def test_cells_without_a_triangle_cannot_be_interpolated(
    lat: list[float], lon: list[float]
) -> None:
    mesh = Mesh.from_centres(lat, lon)
    with pytest.raises(GridError, match=f"between {len(lat)} cells whose centres span no triangle"):
        points.linear_weights(mesh, GLOBE)


def test_the_mean_over_a_box_is_that_of_its_cells() -> None:
    """One target cell whose border follows no edge of the source."""
    mesh = rotated_pole(ny=80, nx=80, spacing=0.25)
    box = Grid.from_centres([50.5], [17.0], lat_edges=[47, 54], lon_edges=[12, 22])
    found = weights(mesh, box, "conservative").apply(smooth(mesh.lat, mesh.lon))[0, 0]
    fine = Grid.regular(47, 54, 12, 22, 0.02)
    lat, lon = np.meshgrid(fine.lat, fine.lon, indexing="ij")
    # Cells hold the value of their centre: off by h^2 / 24 of the curvature.
    assert found == pytest.approx(np.average(smooth(lat, lon), weights=fine.areas), abs=2e-4)
