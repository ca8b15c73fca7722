"""Regridding: conservation, exactness, poles, the seam, missing values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from climdown.errors import ConfigError, GridError
from climdown.grid import Grid
from climdown.regrid import Method, axis_weights, weights
from tests.factories import Floats, gaussian_grid, truth

T42 = gaussian_grid(64)
REGULAR = Grid.regular(-90, 90, -180, 180, 2.5)
METHODS: tuple[Method, ...] = ("conservative", "bilinear")


def noise(grid: Grid, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=grid.shape)


@st.composite
def random_grids(draw: st.DrawFn, low: float = 0.0) -> Grid:
    """Uneven regional grids that all contain latitudes 20..40 and longitudes low..low + 30."""

    def edges(start: float, stop: float) -> Floats:
        widths = draw(st.lists(st.floats(0.5, 5.0), min_size=2, max_size=7))
        inner = np.concatenate([[0.0], np.cumsum(widths)]) / np.sum(widths)
        # Weights are kept for grids equal to a millionth of a degree: these are more apart.
        return np.asarray(np.round(start + (stop - start) * inner, 4))

    y = edges(draw(st.floats(-30, 20)), draw(st.floats(40, 85)))
    x = edges(low - draw(st.floats(0, 50)), low + draw(st.floats(30, 90)))
    return Grid(0.5 * (y[:-1] + y[1:]), 0.5 * (x[:-1] + x[1:]), y, x)


@pytest.mark.parametrize(
    ("source", "target"),
    [(T42, REGULAR), (REGULAR, T42), (T42, Grid.regular(-90, 90, 0, 360, 7.0))],
    ids=["Gaussian to regular", "regular to Gaussian", "to cells that do not divide"],
)
def test_conservative_weights_keep_the_global_integral(source: Grid, target: Grid) -> None:
    fields = np.stack([noise(source, seed) + 3.0 for seed in range(3)])
    before = (fields * source.areas).sum(axis=(1, 2))
    after = (weights(source, target, "conservative").apply(fields) * target.areas).sum(axis=(1, 2))
    np.testing.assert_allclose(after, before, rtol=1e-12)


@pytest.mark.parametrize(
    "quarter",
    [
        Grid.from_centres(np.linspace(-90, 90, 721), 0.25 * np.arange(1440)),
        Grid.regular(-90, 90, -180, 180, 0.25),
    ],
    ids=["721 with poles", "720"],
)
def test_t85_and_a_quarter_degree_conserve_both_ways(quarter: Grid) -> None:
    gaussian = gaussian_grid(128)
    for source, target in ((gaussian, quarter), (quarter, gaussian)):
        operator = weights(source, target, "conservative")
        field = noise(source) + 3.0
        result = operator.apply(field)
        assert np.isfinite(result).all()
        before, after = (field * source.areas).sum(), (result * target.areas).sum()
        assert after == pytest.approx(before, rel=1e-12)
        np.testing.assert_allclose(operator.apply(np.full(source.shape, 287.5)), 287.5, rtol=1e-13)
        assert field.min() <= result.min() <= result.max() <= field.max()


@settings(max_examples=40)
@given(source=random_grids(), target=random_grids(low=-360.0))
def test_nearest_takes_the_nearest_centre_of_each_axis(source: Grid, target: Grid) -> None:
    field = noise(source)
    lon = target.lon + 360.0
    rows = np.abs(target.lat[:, None] - source.lat).argmin(axis=1)
    columns = np.abs(lon[:, None] - source.lon).argmin(axis=1)
    expected = field[np.ix_(rows, columns)]
    beyond_lat = (target.lat < source.lat_edges[0]) | (target.lat > source.lat_edges[-1])
    beyond_lon = (lon < source.lon_edges[0]) | (lon > source.lon_edges[-1])
    expected[beyond_lat] = np.nan
    expected[:, beyond_lon] = np.nan
    # Half-way between two centres, rounding decides.
    found = weights(source, target, "nearest").apply(field)
    ties = [
        np.diff(np.sort(np.abs(points[:, None] - centres), axis=1)[:, :2], axis=1)[:, 0] < 1e-9
        for points, centres in ((target.lat, source.lat), (lon, source.lon))
    ]
    known = ~(ties[0][:, None] | ties[1][None, :])
    np.testing.assert_array_equal(found[known], expected[known])


def test_forward_and_backward_conservative_weights_are_adjoint_under_cell_areas() -> None:
    there = weights(T42, REGULAR, "conservative")
    back = weights(REGULAR, T42, "conservative")
    x, y = noise(T42, 1), noise(REGULAR, 2)
    left = (there.apply(x) * y * REGULAR.areas).sum()
    right = (x * back.apply(y) * T42.areas).sum()
    # Random signs cancel: compare on the scale of the norms, not of the small product.
    assert left == pytest.approx(right, abs=1e-12 * 4 * np.pi)


@settings(max_examples=40)
@given(source=random_grids(), target=random_grids())
def test_overlap_areas_are_symmetric_between_any_two_grids(source: Grid, target: Grid) -> None:
    there = weights(source, target, "conservative").matrix.toarray()
    back = weights(target, source, "conservative").matrix.toarray()
    overlap = there * target.areas.reshape(-1, 1)
    np.testing.assert_allclose(overlap, (back * source.areas.reshape(-1, 1)).T, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [T42, REGULAR, Grid.regular(34, 44, -10, 5, 0.25)])
def test_constants_stay_constant(method: Method, target: Grid) -> None:
    source = Grid.from_centres(np.linspace(-90, 90, 73), 3.75 * np.arange(96))
    regridded = weights(source, target, method)
    np.testing.assert_allclose(regridded.coverage, 1.0, rtol=1e-13)
    np.testing.assert_allclose(regridded.apply(np.full(source.shape, 287.5)), 287.5, rtol=1e-13)


@settings(max_examples=40)
@given(source=random_grids(), target=random_grids(low=-360.0))
def test_bilinear_agrees_with_scipy_inside_the_hull(source: Grid, target: Grid) -> None:
    """The target is written a whole circle further west than the source."""
    field = noise(source)
    lon = target.lon + 360.0
    rows = (target.lat >= source.lat[0]) & (target.lat <= source.lat[-1])
    columns = (lon >= source.lon[0]) & (lon <= source.lon[-1])
    result = weights(source, target, "bilinear").apply(field)[np.ix_(rows, columns)]
    points = np.stack(np.meshgrid(target.lat[rows], lon[columns], indexing="ij"), axis=-1)
    expected = RegularGridInterpolator((source.lat, source.lon), field)(points)
    np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=40)
@given(source=random_grids(), slope=st.tuples(st.floats(-5, 5), st.floats(-5, 5)))
def test_bilinear_is_exact_for_linear_fields(source: Grid, slope: tuple[float, float]) -> None:
    def plane(grid: Grid) -> Floats:
        return np.asarray(7.0 + slope[0] * grid.lat[:, None] + slope[1] * grid.lon[None, :])

    south, north = source.lat[[0, -1]]
    west, east = source.lon[[0, -1]]
    target = Grid.from_centres(np.linspace(south, north, 9), np.linspace(west, east, 11))
    result = weights(source, target, "bilinear").apply(plane(source))
    np.testing.assert_allclose(result, plane(target), rtol=1e-11, atol=1e-9)


def test_bilinear_continues_the_outermost_half_cells_and_ends_there() -> None:
    source = Grid.regular(30, 40, 0, 10, 2.0)
    target = Grid.from_centres([29.5, 30.5, 35.0, 39.5, 40.5], [-0.5, 0.5, 5.0, 9.5, 10.5])
    result = weights(source, target, "bilinear").apply(noise(source))
    assert np.isnan(result[[0, -1]]).all()
    assert np.isnan(result[:, [0, -1]]).all()
    corners = noise(source)[np.ix_([0, -1], [0, -1])]
    np.testing.assert_allclose(result[np.ix_([1, 3], [1, 3])], corners, rtol=1e-14)


@pytest.mark.parametrize("source", [T42, Grid.from_centres(T42.lat, T42.lon)])
def test_bilinear_turns_to_the_zonal_mean_at_the_poles(source: Grid) -> None:
    field = noise(source)
    half = 0.5 * (source.lat[-1] + 90.0)
    target = Grid.from_centres([-90.0, 0.0, half, 90.0], source.lon)
    south, _, between, north = weights(source, target, "bilinear").apply(field)
    np.testing.assert_allclose(south, field[0].mean(), rtol=1e-11)
    np.testing.assert_allclose(north, field[-1].mean(), rtol=1e-11)
    np.testing.assert_allclose(between, 0.5 * (field[-1] + field[-1].mean()), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_every_longitude_convention_gives_the_same_values(method: Method) -> None:
    east = Grid.regular(-90, 90, 0, 360, 5.0)
    signed = Grid.regular(-90, 90, -180, 180, 5.0)
    field = noise(east)
    rolled = np.roll(field, east.lon.size // 2, axis=1)
    across = Grid.regular(30, 50, -11, 9, 1.0)
    beyond = Grid.regular(30, 50, 349, 369, 1.0)
    values = [
        weights(source, target, method).apply(data)
        for source, data in ((east, field), (signed, rolled))
        for target in (across, beyond)
    ]
    for other in values[1:]:
        np.testing.assert_allclose(other, values[0], rtol=1e-12, atol=1e-13)
    turned = weights(east, signed, method).apply(field)
    np.testing.assert_allclose(turned, rolled, rtol=1e-12, atol=1e-13)


def test_bilinear_has_no_jump_at_the_seam() -> None:
    source = Grid.regular(-90, 90, 0, 360, 1.0)
    target = Grid.regular(30, 40, -2, 2, 0.25)
    result = weights(source, target, "bilinear").apply(truth(source, [0])[0])
    # Linear interpolation errs by h^2/8 of the curvature, here 1/8 * (pi/180)^2 * (3 + 8).
    np.testing.assert_allclose(result, truth(target, [0])[0], atol=4.5e-4)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_conservative_coarsening_is_the_area_weighted_block_mean(factor: int) -> None:
    fine = Grid.regular(34, 44.5, -10, 5.25, 0.25)
    coarse = fine.coarsen(factor)
    ny, nx = coarse.shape

    def blocks(values: Floats) -> Floats:
        cut = values[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor)
        return np.asarray(cut.sum(axis=(1, 3)))

    expected = blocks(noise(fine) * fine.areas) / blocks(fine.areas)
    result = weights(fine, coarse, "conservative").apply(noise(fine))
    np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-12)


def test_axis_weights_are_the_factors_of_the_matrix() -> None:
    fine = Grid.regular(34, 44, -10, 5, 0.5)
    coarse = fine.coarsen(5)
    lat, lon = axis_weights(fine, coarse, "conservative")
    matrix = weights(fine, coarse, "conservative").matrix
    np.testing.assert_allclose(matrix.toarray(), np.kron(lat, lon), atol=1e-15)


def test_partly_covered_cells_keep_their_value_and_show_in_coverage() -> None:
    source = Grid.regular(30, 40, 0, 10, 1.0)
    target = Grid.regular(30, 40, -10, 20, 10.0)
    wide = Grid.from_centres([35], [-2.5, 2.5], lat_edges=[30, 40], lon_edges=[-5, 0, 5])
    half = Grid.from_centres([35], [0.0], lat_edges=[30, 40], lon_edges=[-5, 5])
    cover = weights(source, half, "conservative")
    np.testing.assert_allclose(cover.coverage, [[0.5]], rtol=1e-12)
    np.testing.assert_allclose(cover.apply(np.full(source.shape, 280.0)), [[280.0]], rtol=1e-13)
    for grid, kept in ((target, [False, True, False]), (wide, [False, True])):
        result = weights(source, grid, "conservative").apply(noise(source))
        np.testing.assert_array_equal(np.isfinite(result), [kept])


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), fraction=st.floats(0.0, 1.0))
def test_missing_cells_leave_the_mean_of_the_valid_ones(seed: int, fraction: float) -> None:
    fine = Grid.regular(30, 36, 0, 8, 0.5)
    coarse = fine.coarsen(4)
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(fine.shape) < fraction, np.nan, noise(fine, seed))

    def blocks(array: npt.NDArray[np.floating]) -> Floats:
        return np.asarray(array.reshape(3, 4, 4, 4).sum(axis=(1, 3)), dtype=np.float64)

    area = blocks(np.where(np.isfinite(values), fine.areas, 0.0))
    total = blocks(np.nan_to_num(values) * fine.areas)
    expected = np.where(area > 0, total / np.where(area > 0, area, 1.0), np.nan)
    result = weights(fine, coarse, "conservative").apply(values)
    np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("threshold", "kept"), [(0.2, True), (0.3, False)])
def test_cells_with_too_little_valid_cover_become_missing(threshold: float, kept: bool) -> None:
    fine = Grid.regular(-1, 1, 0, 2, 1.0)
    values = np.array([[1.0, np.nan], [np.nan, np.nan]])
    operator = weights(fine, fine.coarsen(2), "conservative")
    result = operator.apply(values, min_coverage=threshold)
    np.testing.assert_array_equal(result, [[1.0 if kept else np.nan]])


@pytest.mark.parametrize("method", METHODS)
def test_leading_dimensions_and_type_are_kept(method: Method) -> None:
    source, target = Grid.regular(30, 40, 0, 10, 1.0), Grid.regular(31, 39, 1, 9, 2.0)
    values = np.random.default_rng(0).normal(size=(2, 3, *source.shape))
    values[1, 2, 4, 4] = np.nan
    operator = weights(source, target, method)
    result = operator.apply(values)
    assert result.shape == (2, 3, *target.shape)
    np.testing.assert_array_equal(result[0, 1], operator.apply(values[0, 1]))
    np.testing.assert_array_equal(result[1, 2], operator.apply(values[1, 2]))
    assert operator.apply(values.astype(np.float32)).dtype == np.float32


def test_weights_are_built_once_for_equal_grids() -> None:
    def grids() -> tuple[Grid, Grid]:
        return Grid.regular(30, 40, 0, 10, 1.0), Grid.regular(30, 40, 0, 10, 2.0)

    first = weights(*grids(), "conservative")
    assert weights(*grids(), "conservative") is first
    assert weights(*grids(), "conservative", backend="native") is first
    assert weights(*grids(), "bilinear") is not first


def test_fields_of_another_shape_are_refused() -> None:
    operator = weights(REGULAR, T42, "conservative")
    with pytest.raises(GridError, match=r"field has \(64, 128\) cells, the weights expect"):
        operator.apply(np.zeros(T42.shape))


def test_whole_cells_reach_a_coverage_of_one() -> None:
    operator = weights(T42, REGULAR, "conservative")
    assert np.isfinite(operator.apply(noise(T42), min_coverage=1.0)).all()


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown regridding method 'cubic'"):
        weights(REGULAR, T42, "cubic")  # type: ignore[arg-type]
