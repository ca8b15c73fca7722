"""Grids: areas, edges at the poles and the seam, cutting, coarsening, description."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown.errors import GridError
from climdown.grid import Grid
from tests.factories import gaussian_grid

SPHERE = 4.0 * np.pi


def global_grids() -> dict[str, Grid]:
    gaussian = gaussian_grid(64)
    return {
        "Gaussian with bounds": gaussian,
        "Gaussian without bounds": Grid.from_centres(gaussian.lat, gaussian.lon),
        "regular": Grid.regular(-90, 90, 0, 360, 2.5),
        "spacing that does not divide": Grid.regular(-90, 90, -180, 180, 7.0),
        "rows at the poles": Grid.from_centres(np.linspace(-90, 90, 73), 3.75 * np.arange(96)),
        "single precision": Grid.from_centres(
            np.linspace(-89.5, 89.5, 180, dtype=np.float32),
            np.arange(0.05, 360, 0.1, dtype=np.float32),
        ),
    }


@pytest.mark.parametrize("name", global_grids())
def test_global_cell_areas_sum_to_the_sphere(name: str) -> None:
    grid = global_grids()[name]
    assert grid.periodic
    assert (grid.areas > 0).all()
    # Centres in single precision leave edges some 1e-6 degrees off inside, none at the ends.
    assert grid.areas.sum() == pytest.approx(SPHERE, rel=1e-12)


def test_gaussian_areas_are_the_quadrature_weights() -> None:
    grid = gaussian_grid(32)
    quadrature = np.polynomial.legendre.leggauss(32)[1]
    # arcsin is ill-conditioned at the poles: the weights return to 1e-12, not to machine epsilon.
    np.testing.assert_allclose(grid.areas.sum(axis=1), 2 * np.pi * quadrature, rtol=1e-11)


@settings(max_examples=50)
@given(
    south=st.floats(-89, 60),
    height=st.floats(2, 28),
    west=st.floats(-180, 360),
    width=st.floats(2, 90),
    spacing=st.floats(0.5, 2),
)
def test_regular_grid_holds_the_box_and_its_area(
    south: float, height: float, west: float, width: float, spacing: float
) -> None:
    grid = Grid.regular(south, south + height, west, west + width, spacing)
    low, high = grid.lat_edges[[0, -1]]
    left, right = grid.lon_edges[[0, -1]]
    assert (low, left) == (south, west)
    assert south + height - 1e-6 <= high < south + height + spacing
    assert west + width - 1e-6 <= right < west + width + spacing
    area = (np.sin(np.radians(high)) - np.sin(np.radians(low))) * np.radians(right - left)
    assert grid.areas.sum() == pytest.approx(area, rel=1e-10)
    np.testing.assert_allclose(np.diff(grid.lat_edges), spacing, rtol=1e-9)


def test_regular_grid_cuts_its_last_cell_at_the_pole_and_the_full_circle() -> None:
    grid = Grid.regular(-90, 90, 0, 360, 7.0)
    assert grid.shape == (26, 52)
    assert grid.lat_edges[-1] == 90.0
    assert grid.lon_edges[-1] == 360.0


def test_inferred_edges_lie_midway_and_stop_at_the_poles() -> None:
    grid = Grid.from_centres([-90, -80, -60, 90], [350, 360, 380])
    assert grid.lat_edges.tolist() == [-90, -85, -70, 15, 90]
    assert grid.lon_edges.tolist() == [345, 355, 370, 390]
    assert not grid.periodic


def test_given_bounds_beyond_the_poles_are_clipped() -> None:
    grid = Grid.from_centres([-90, 0, 90], [0, 1], lat_edges=[-135, -45, 45, 135])
    assert grid.lat_edges.tolist() == [-90, -45, 45, 90]


def test_edges_inferred_on_a_global_gaussian_grid_reach_the_poles() -> None:
    reference = gaussian_grid(64)
    grid = Grid.from_centres(reference.lat, reference.lon)
    assert grid.lat_edges[[0, -1]].tolist() == [-90, 90]
    # Midpoints of T42 lie within 0.1 degrees of the exact edges, the outermost the farthest off.
    np.testing.assert_allclose(grid.lat_edges, reference.lat_edges, atol=0.1)


def test_edges_inferred_on_a_band_or_a_region_do_not_jump_to_the_pole() -> None:
    lon = 2.5 * np.arange(144)
    assert Grid.from_centres([60, 65, 70, 75], lon).lat_edges[-1] == 77.5
    assert Grid.from_centres([86, 87, 88, 89], [0, 1]).lat_edges[-1] == 89.5


def test_float32_longitudes_close_the_circle_exactly() -> None:
    lon = np.arange(0, 360, 0.7, dtype=np.float32)[:514]
    grid = Grid.from_centres([0, 1], np.linspace(0, 360, 515, dtype=np.float32)[:-1])
    assert grid.lon_edges[-1] - grid.lon_edges[0] == 360.0
    assert not Grid.from_centres([0, 1], lon).periodic


def test_coarsening_merges_whole_blocks_and_keeps_their_area() -> None:
    fine = Grid.regular(30, 47, -10, 7.5, 0.5)
    coarse = fine.coarsen(4)
    assert coarse.shape == (8, 8)
    blocks = fine.areas[:32, :32].reshape(8, 4, 8, 4).sum(axis=(1, 3))
    np.testing.assert_allclose(coarse.areas, blocks, rtol=1e-12)
    assert fine.coarsen(1).digest == fine.digest


def test_isel_keeps_cells_with_their_edges() -> None:
    grid = Grid.regular(0, 10, 0, 20, 1)
    part = grid.isel(slice(2, 5), slice(-4, None))
    assert part.shape == (3, 4)
    assert part.lat_edges.tolist() == [2, 3, 4, 5]
    assert part.lon_edges.tolist() == [16, 17, 18, 19, 20]
    np.testing.assert_array_equal(part.areas, grid.areas[2:5, -4:])


@settings(max_examples=30)
@given(
    lat=st.lists(st.integers(-8000, 8000), min_size=2, max_size=8, unique=True),
    lon=st.lists(st.integers(-17000, 17000), min_size=2, max_size=8, unique=True),
)
def test_dictionary_round_trip_keeps_the_digest(lat: list[int], lon: list[int]) -> None:
    y, x = np.sort(lat) / 100.0, np.sort(lon) / 100.0
    edges = np.concatenate([[x[0] - 1], 0.5 * (x[:-1] + x[1:]), [x[-1] + 1]])
    grid = Grid.from_centres(y, x, lon_edges=edges)
    assert Grid.from_dict(grid.to_dict()).digest == grid.digest


def test_digest_tells_grids_apart_and_forgives_rounding() -> None:
    grid = Grid.regular(0, 10, 0, 20, 1)
    same = Grid.from_centres(grid.lat + 1e-9, grid.lon - 1e-9)
    assert same.digest == grid.digest
    assert Grid.regular(0, 10, 0.001, 20.001, 1).digest != grid.digest
    assert Grid.from_centres(grid.lat, grid.lon + 360).digest != grid.digest


def test_spacing_is_the_coarser_of_both_axes() -> None:
    assert Grid.from_centres([0, 1, 2], [0, 3, 6]).spacing == 3.0


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (Grid.regular(-90, 90, 0, 360, 2.5), "72 x 144 cells of 2.5 deg, 90S..90N, global"),
        (Grid.regular(34, 44, -10, 5, 0.25), "40 x 60 cells of 0.25 deg, 34N..44N, 10W..5E"),
    ],
)
def test_description_names_size_spacing_and_extent(grid: Grid, words: str) -> None:
    assert grid.describe().startswith(words)


@pytest.mark.parametrize(
    ("lat", "lon", "message"),
    [
        ([], [0, 1], "latitude axis has shape"),
        ([[0, 1]], [0, 1], "latitude axis has shape"),
        ([0, 1], ["a", "b"], "longitude axis does not hold numbers"),
        ([0, np.nan], [0, 1], "latitude axis has values that are not finite"),
        ([1, 0], [0, 1], "latitude is not strictly ascending"),
        ([0, 1], [5, 5], "longitude is not strictly ascending"),
        ([0, 1], [0], "cannot infer the size of a single cell"),
        ([0, 1], np.arange(0, 362.5, 2.5), "longitude cells span 362.5 degrees"),
    ],
)
def test_malformed_centres_are_refused(lat: object, lon: object, message: str) -> None:
    with pytest.raises(GridError, match=message):
        Grid.from_centres(lat, lon)  # type: ignore[arg-type]


def test_edges_that_do_not_fit_their_centres_are_refused() -> None:
    with pytest.raises(GridError, match="latitude has 2 cells but 4 edges"):
        Grid.from_centres([0, 1], [0, 1], lat_edges=[0, 1, 2, 3])
    with pytest.raises(GridError, match="longitude has cell centres outside their bounds"):
        Grid.from_centres([0, 1], [0, 1], lon_edges=[0.4, 0.6, 2.0])


def test_latitudes_beyond_a_pole_are_refused() -> None:
    lat, lon = np.array([88.0, 92.0]), np.array([0.0, 1.0])
    with pytest.raises(GridError, match=r"latitude runs from 86 to 94; expected values within"):
        Grid(lat, lon, np.array([86.0, 90.0, 94.0]), np.array([-0.5, 0.5, 1.5]))


@pytest.mark.parametrize(
    "box", [(10, 10, 0, 5, 1), (0, 10, 5, 0, 1), (0, 10, 0, 5, 0), (0, 10, 0, 5, np.nan)]
)
def test_impossible_boxes_are_refused(box: tuple[float, float, float, float, float]) -> None:
    with pytest.raises(GridError, match="need spacing > 0, north > south, east > west"):
        Grid.regular(*box)


@pytest.mark.parametrize("part", [slice(0, 4, 2), slice(3, 3), slice(None, None, -1)])
def test_only_contiguous_cells_can_be_taken(part: slice) -> None:
    with pytest.raises(GridError, match="cannot take cells"):
        Grid.regular(0, 10, 0, 20, 1).isel(part, slice(None))


@pytest.mark.parametrize("factor", [-1, 0, 11])
def test_impossible_coarsening_is_refused(factor: int) -> None:
    with pytest.raises(GridError, match=f"by a factor {factor}"):
        Grid.regular(0, 10, 0, 20, 1).coarsen(factor)


def test_incomplete_descriptions_are_refused() -> None:
    entry = Grid.regular(0, 10, 0, 20, 1).to_dict()
    del entry["lon_edges"]
    with pytest.raises(GridError, match="lacks the axis 'lon_edges'"):
        Grid.from_dict(entry)


def test_kilometres_are_those_of_a_mean_cell() -> None:
    assert Grid.regular(-1.0, 1.0, 0.0, 3.0, 1.0).kilometres == pytest.approx(111.195)
    assert Grid.regular(59.0, 61.0, 0.0, 8.0, 2.0).kilometres == pytest.approx(222.39 * 0.5**0.5)
