"""What of an input a prior can use: variables, steps, region, values; and meshes on the way."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.cf import Field, Quantity, open_field
from climdown.errors import ClimdownError, GridError, InputError, PriorError
from climdown.grid import Grid
from climdown.inputs import checks, matching
from climdown.inputs.checks import check_values
from climdown.inputs.onto import onto
from climdown.mesh import Mesh
from climdown.priors.card import Variable
from climdown.priors.prior import Prior
from tests.commands import rain, warmth, write_pr, write_tas
from tests.factories import (
    FLOAT32_RTOL,
    TAS,
    Floats,
    Wave,
    make_dataset,
    shared_data,
    truth,
)
from tests.meshes import as_mesh, mesh_dataset, rotated_pole
from tests.priors import FINE
from tests.priors import PR as PRIOR_PR
from tests.priors import TAS as PRIOR_TAS

# The cells of `write_tas`, with a rim.
COARSE = Grid.regular(38.0, 45.0, -6.0, 2.0, 1.0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of meshes are kept apart from the user's."""
    monkeypatch.setenv("CLIMDOWN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def match(prior: Prior, paths: Sequence[Path], period: str | None) -> dict[str, cf.Field]:
    """The fields of a run over these files."""
    return matching.match(prior, cf.Sources.open(paths), period).fields


def choose_prior(
    kinds: tuple[str, ...], paths: Sequence[cf.Location], period: str | None
) -> tuple[Prior, dict[str, cf.Field]]:
    """The prior that fits these files, and the fields of a run."""
    prior, matched = matching.choose_prior(kinds, cf.Sources.open(paths), period)
    return prior, matched.fields


def smooth(lat: Floats, lon: Floats, step: int) -> Floats:
    """A temperature whose mean over a cell is the one at its centre; a degree warmer each day."""
    return np.asarray(280.0 + 0.8 * (lat - 41.5) - 0.5 * (lon + 2.0) + step)


def rotated(spacing: float, *, ny: float = 10.0, nx: float = 12.0, west: float = -20.5) -> Mesh:
    """A regional model's cells over Iberia, tilted by some ten degrees; extents in degrees."""
    return rotated_pole(
        ny=round(ny / spacing),
        nx=round(nx / spacing),
        spacing=spacing,
        south_west=(-12.0, west),
    )


def unstructured(mesh: Mesh) -> Mesh:
    """The same cells in one dimension."""
    assert mesh.lat_vertices is not None
    assert mesh.lon_vertices is not None
    corners = (mesh.lat_vertices.reshape(-1, 4), mesh.lon_vertices.reshape(-1, 4))
    return Mesh(mesh.lat.ravel(), mesh.lon.ravel(), *corners)


def write_mesh(path: Path, mesh: Mesh, *, corners: bool = True) -> Path:
    names = ("lat_vertices", "lon_vertices") if corners else None
    first = smooth(mesh.lat, mesh.lon, 0)
    mesh_dataset(cells=mesh, path=path, corners=names, steps=3, values=first)
    return path


def test_a_priors_variable_goes_by_the_names_of_its_family_too() -> None:
    quantity = matching.quantity(PRIOR_PR)
    assert quantity.standard_names[:2] == PRIOR_PR.standard_names
    assert "thickness_of_rainfall_amount" in quantity.standard_names
    assert {"pr", "tp", "rr"} <= set(quantity.names)
    assert (quantity.name, quantity.units) == ("pr", "mm day-1")


@pytest.mark.parametrize(
    "variable",
    [
        replace(PRIOR_TAS, name="index"),
        replace(PRIOR_TAS, name="tas", level=85_000.0),
        replace(PRIOR_TAS, name="pr"),
    ],
    ids=["unknown", "on a level", "other units"],
)
def test_a_priors_variable_without_a_family_goes_by_its_card(variable: Variable) -> None:
    assert matching.quantity(variable) == Quantity(
        variable.name, variable.standard_names, variable.names, variable.units, variable.level
    )


def test_all_of_a_priors_variables_are_found_over_files(tmp_path: Path, tiny_prior: Prior) -> None:
    paths = [write_tas(tmp_path / "tas.nc"), write_pr(tmp_path / "rr.nc", name="rr", units="mm/d")]
    fields = match(tiny_prior, paths, "2001-01-02/2001-01-03")
    assert list(fields) == ["tas", "pr"]
    assert [len(field.time) for field in fields.values()] == [2, 2]
    assert [field.quantity.units for field in fields.values()] == ["degC", "mm day-1"]


def test_daily_amounts_guide_as_rates(tmp_path: Path, tiny_prior: Prior) -> None:
    flux = write_pr(tmp_path / "pr.nc")
    depth = write_pr(
        tmp_path / "rr.nc",
        name="rr",
        standard_name="thickness_of_rainfall_amount",
        units="mm",
        values=lambda lat, lon, step: 86400.0 * rain(lat, lon, step),
    )
    values = [match(tiny_prior, [p], None)["pr"].read(slice(None)) for p in (flux, depth)]
    np.testing.assert_allclose(values[0], values[1], rtol=FLOAT32_RTOL)


def test_no_variable_at_all_gives_the_likeliest_reason(tmp_path: Path, tiny_prior: Prior) -> None:
    # That there is no tas would be true, and no help.
    path = write_pr(tmp_path / "pr.nc", units="K")
    with pytest.raises(InputError, match=r"\(for pr\); found 'pr' \(units 'K'\)"):
        match(tiny_prior, [path], None)
    path = write_pr(tmp_path / "snow.nc", name="prsn", standard_name="snowfall_flux")
    with pytest.raises(InputError, match=r"\(for tas\); found 'prsn' \(snowfall_flux\)"):
        match(tiny_prior, [path], None)


def test_a_variable_that_nearly_fits_is_not_left_out_silently(
    tmp_path: Path, tiny_prior: Prior, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [write_tas(tmp_path / "tas.nc"), write_pr(tmp_path / "pr.nc", units="K")]
    with caplog.at_level(logging.WARNING):
        assert list(match(tiny_prior, paths, None)) == ["tas"]
    assert "pr stays unguided" in caplog.text
    assert "'pr' (units 'K')" in caplog.text


def test_a_variable_that_is_there_and_unreadable_is_an_error(
    tmp_path: Path, tiny_prior: Prior
) -> None:
    write_tas(tmp_path / "tas.nc")
    for year in range(2):  # the same days twice
        write_pr(tmp_path / f"pr_{year}.nc")
    with pytest.raises(InputError, match="times do not ascend"):
        match(tiny_prior, sorted(tmp_path.iterdir()), None)


@pytest.mark.parametrize(
    ("days", "other"),
    [((0.5, 1.5, 2.5), (0.0, 1.0, 2.0)), ((15.5, 45.0), (0.0, 31.0))],
    ids=["days at noon and midnight", "months at their middle and start"],
)
def test_stamps_within_a_step_are_the_same_step(
    tmp_path: Path, tiny_prior: Prior, days: tuple[float, ...], other: tuple[float, ...]
) -> None:
    paths = [write_tas(tmp_path / "a.nc", days=days), write_pr(tmp_path / "b.nc", days=other)]
    assert list(match(tiny_prior, paths, None)) == ["tas", "pr"]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"days": (0.5, 1.5, 3.5)}, "3 steps from 2001-01-01 12:00 to 2001-01-04 12:00"),
        ({"days": (0.5, 1.5)}, "2 steps from"),
        ({"calendar": "360_day"}, "360_day"),
        ({"days": (0.25, 0.5, 0.75)}, "to 2001-01-01 18:00"),
    ],
)
def test_other_steps_are_refused_with_both_spans(
    tmp_path: Path, tiny_prior: Prior, changes: dict[str, object], found: str
) -> None:
    paths = [write_tas(tmp_path / "a.nc"), write_pr(tmp_path / "b.nc", **changes)]  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=rf"b\.nc: the time axis of pr \(.*{found}.*\) differs from .*a\.nc"
    ):
        match(tiny_prior, paths, None)


def test_steps_unlike_those_of_the_training_are_said(
    tmp_path: Path, tiny_prior: Prior, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tas(tmp_path / "tas.nc", days=(15.5, 45.0))
    with caplog.at_level(logging.WARNING):
        match(tiny_prior, [path], None)
    assert "time step of 29.5 days, prior tiny was trained on 1" in caplog.text


def test_months_the_prior_does_not_know_are_refused(tmp_path: Path, tiny_prior: Prior) -> None:
    path = write_tas(tmp_path / "tas.nc", days=(50.0, 60.0, 70.0))
    with pytest.raises(InputError, match=r"has months 3; prior tiny knows months 1, 2, 12 only"):
        match(tiny_prior, [path], None)
    assert len(match(tiny_prior, [path], "2001-02/2001-02")["tas"].time) == 1


def test_choosing_a_prior_gives_the_reason_for_each(
    tmp_path: Path, tiny_prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("climdown.priors.store.bundled_folder", lambda: tiny_prior.folder.parent)
    path = write_tas(tmp_path / "tas.nc")
    prior, fields = choose_prior(("diffusion",), [path], None)
    assert (prior.card.name, list(fields)) == ("tiny", ["tas"])
    with pytest.raises(
        PriorError, match=r"no bundled prior fits .*: tiny: .*tas\.nc: no time step"
    ):
        choose_prior(("diffusion",), [path], "1850/1851")


# --- meshes


def read_mesh(path: Path, mesh: Mesh, prior: Prior, *, corners: bool = True) -> Field:
    return match(prior, [write_mesh(path, mesh, corners=corners)], None)["tas"]


def test_an_unstructured_copy_gives_the_values_of_its_rectilinear_original(
    tmp_path: Path, tiny_prior: Prior
) -> None:
    grid = tiny_prior.card.coarse_grid
    original = open_field(write_tas(tmp_path / "a.nc", values=smooth), TAS)
    assert original.grid.digest == grid.digest
    field = read_mesh(tmp_path / "b.nc", unstructured(as_mesh(COARSE)), tiny_prior)
    # Cells along the prior's coarse grid: the one average in between moves nothing.
    assert field.grid.digest == grid.digest
    expected = original.read(slice(None)) - 273.15
    # Between parallels and great circles lie some thousandths of a cell, here of half a kelvin.
    np.testing.assert_allclose(field.read(slice(None)), expected, rtol=0, atol=5e-3)


@pytest.mark.parametrize("spacing", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("corners", [True, False])
def test_a_rotated_grid_gives_the_field_it_samples(
    tmp_path: Path, tiny_prior: Prior, spacing: float, corners: bool
) -> None:
    mesh = rotated(spacing)
    field = read_mesh(tmp_path / "tas.nc", mesh, tiny_prior, corners=corners)
    parts = tiny_prior.card.coarse_grid.spacing / field.grid.spacing
    assert parts == pytest.approx(round(1 / spacing))
    expected = truth(field.grid, range(3), smooth) - 273.15
    # A cell holds the mean of the cells it touches, whose middle is off its own by part of a cell.
    np.testing.assert_allclose(field.read(slice(None)), expected, rtol=0, atol=0.25 * spacing)


def test_an_unstructured_mesh_without_corners_is_interpolated(
    tmp_path: Path, tiny_prior: Prior
) -> None:
    fine = Grid.regular(38.0, 45.0, -6.0, 2.0, 0.5)
    field = read_mesh(tmp_path / "tas.nc", unstructured(as_mesh(fine)), tiny_prior, corners=False)
    expected = truth(field.grid, range(3), smooth) - 273.15
    # Linear on the sphere's chords: near to linear in degrees.
    np.testing.assert_allclose(field.read(slice(None)), expected, rtol=0, atol=0.02)


def test_a_mesh_coarser_than_the_prior_keeps_its_own_spacing(
    tmp_path: Path, tiny_prior: Prior
) -> None:
    field = read_mesh(tmp_path / "tas.nc", rotated(3.0), tiny_prior)
    assert field.grid.spacing == pytest.approx(3.0, rel=0.01)


def test_blocks_of_a_regridded_field_equal_the_whole(tmp_path: Path, tiny_prior: Prior) -> None:
    field = read_mesh(tmp_path / "tas.nc", rotated(0.5), tiny_prior)
    whole = field.read(slice(None))
    np.testing.assert_array_equal(field.read(slice(1, 2)), whole[1:2])
    np.testing.assert_array_equal(field.isel(slice(2, 3)).read(slice(None)), whole[2:3])
    cropped = field.crop(Grid.regular(41.0, 42.0, -3.0, -1.0, 0.5))
    assert cropped.grid.shape == (2, 4)
    np.testing.assert_array_equal(cropped.read(slice(None)), whole[:, 2:4, 2:6])


@pytest.mark.parametrize("corners", [True, False])
def test_a_mesh_over_half_the_region_is_refused(
    tmp_path: Path, tiny_prior: Prior, corners: bool
) -> None:
    # The rectilinear cells in between cover the region whatever the mesh does.
    mesh = rotated(0.5, nx=5.0)
    with pytest.raises(
        GridError, match=r"tas\.nc: the grid \(curvilinear.*\) covers \d\d% .*; need at least 90%"
    ):
        read_mesh(tmp_path / "tas.nc", mesh, tiny_prior, corners=corners)


def test_a_mesh_elsewhere_is_refused(tmp_path: Path, tiny_prior: Prior) -> None:
    with pytest.raises(GridError, match=r"tas\.nc: the grid \(curvilinear.*does not touch"):
        read_mesh(tmp_path / "tas.nc", rotated(1.0, west=40.0), tiny_prior)


def test_a_grid_elsewhere_is_refused_with_the_priors_name(
    tmp_path: Path, tiny_prior: Prior
) -> None:
    path = write_tas(tmp_path / "tas.nc", lon=(100.5, 101.5, 102.5, 103.5))
    with pytest.raises(GridError, match=r"does not touch the region .*; that of prior tiny$"):
        match(tiny_prior, [path], None)


def test_cells_that_cannot_be_regridded_are_refused_with_their_file(tmp_path: Path) -> None:
    path = tmp_path / "tas.nc"
    line = as_mesh(Grid.regular(40.0, 41.0, -4.0, 0.0, 1.0))
    write_mesh(path, unstructured(line), corners=False)
    with pytest.raises(GridError, match=r"tas\.nc: "):
        onto(open_field(path, TAS), FINE)


def test_a_field_on_the_grid_wanted_is_left_alone(tmp_path: Path) -> None:
    field = open_field(write_tas(tmp_path / "tas.nc"), TAS)
    assert onto(field, field.grid) is field


def test_a_mesh_has_no_grid_before_it_is_regridded(tmp_path: Path) -> None:
    path = tmp_path / "tas.nc"
    write_mesh(path, rotated(2.0))
    field = open_field(path, TAS)
    with pytest.raises(GridError, match=r"tas\.nc: variable 'tas' lies on a mesh \(curvilinear"):
        _ = field.grid
    assert onto(field, COARSE).grid is COARSE


# --- values


def check(path: Path, quantity: Quantity = TAS) -> None:
    check_values(open_field(path, quantity))


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_plausible_values_pass_whatever_the_blocks(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checks, "_CHECK_BYTES", block)
    check(write_tas(tmp_path / "tas.nc"))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e36, "has 1e[+]36 values"),
        (-1e20, "has -1e[+]20 values"),
        (np.inf, "has infinite values"),
        (-np.inf, "has infinite values"),
    ],
)
def test_fill_values_that_are_not_declared_are_refused(
    tmp_path: Path, value: float, text: str
) -> None:
    def filled(lat: Floats, lon: Floats, step: int) -> Floats:
        return np.where((lat > 42) & (step == 1), value, warmth(lat, lon, step))

    path = write_tas(tmp_path / "tas.nc", values=filled)
    with xr.open_dataset(path, mask_and_scale=False) as dataset:
        bare = dataset.load()
    del bare["tas"].attrs["_FillValue"]
    path.unlink()
    bare.to_netcdf(path, encoding={"tas": {"_FillValue": None}})
    with pytest.raises(
        InputError, match=rf"tas\.nc: variable 'tas' {text}, first at 2001-01-02T12.*_FillValue"
    ):
        check(path)


@pytest.mark.parametrize(
    ("values", "units"),
    [
        (lambda lat, lon, step: warmth(lat, lon, step) - 273.15, "K"),
        (warmth, "degC"),
        (lambda lat, lon, step: 100.0 * warmth(lat, lon, step), "K"),
    ],
    ids=["degC labelled K", "K labelled degC", "a hundredfold"],
)
def test_values_in_other_units_than_they_say_are_refused(
    tmp_path: Path, values: Wave, units: str
) -> None:
    path = write_tas(tmp_path / "tas.nc", values=values, units=units)
    with pytest.raises(
        InputError,
        match=rf"tas\.nc: variable 'tas' has 100\.00% of its values outside 170 to 335 K, .*for "
        rf"tas: they run from .*, its units are '{units}'; correct them",
    ):
        check(path)


def test_a_few_impossible_values_are_said_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def odd(lat: Floats, lon: Floats, step: int) -> Floats:
        spot = (lat == lat.max()) & (lon == lon.max()) & (step == 1)
        return np.where(spot, 20.0, warmth(lat, lon, step))

    lat, lon = np.arange(40.0, 50.0), np.arange(0.0, 10.0)
    with caplog.at_level(logging.WARNING):
        check(write_tas(tmp_path / "tas.nc", lat=lat, lon=lon, values=odd))
    assert "0.33% of its values outside 170 to 335 K" in caplog.text
    assert "they run from 20 to" in caplog.text


def test_what_has_no_family_may_have_any_value(tmp_path: Path) -> None:
    path = tmp_path / "lai.nc"
    make_dataset(path=path, name="lai", standard_name="leaf_area_index", units="1")
    check(path, Quantity("lai", ("leaf_area_index",), ("lai",), "1"))


@pytest.mark.parametrize(
    ("gaps", "message"),
    [
        ((0, 1, 2), "is missing everywhere in the region and period; choose others, or"),
        ((1, 2), "no value at all in the region at 2 of 3 steps, first at 2001-01-02T12:00:00"),
    ],
)
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_steps_without_values_are_refused(
    tmp_path: Path,
    gaps: tuple[int, ...],
    message: str,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "_CHECK_BYTES", block)

    def gappy(lat: Floats, lon: Floats, step: int) -> Floats:
        return np.where(step in gaps, np.nan, warmth(lat, lon, step))

    with pytest.raises(InputError, match=message):
        check(write_tas(tmp_path / "tas.nc", values=gappy))


@pytest.mark.data
def test_a_real_rotated_pole_feeds_the_bundled_prior() -> None:
    (path,) = cf.expand_paths([shared_data() / "cmip" / "small_rotPole_precipitation.nc"])
    prior, fields = choose_prior(("diffusion",), [path], None)
    field = fields["pr"]
    check_values(field)
    # HIRHAM at 0.2 degree: six cells along each side of the prior's coarse ones.
    assert field.grid.spacing == pytest.approx(prior.card.coarse_grid.spacing / 6)
    original = open_field(path, field.quantity)
    assert isinstance(original.cells, Mesh)
    box = Grid.regular(38.0, 43.0, -7.0, 4.0, 1.0)
    inner = field.crop(box)
    (south, north), (west, east) = inner.grid.lat_edges[[0, -1]], inner.grid.lon_edges[[0, -1]]
    cells = original.cells
    inside = (cells.lat > south) & (cells.lat < north) & (cells.lon > west) & (cells.lon < east)
    mean = original.read(slice(None))[:, inside].mean(axis=1)
    weighted = inner.read(slice(None)) * (inner.grid.areas / inner.grid.areas.sum())
    # The mean over some thousand cells moves by its rim alone.
    np.testing.assert_allclose(weighted.sum(axis=(1, 2)), mean, rtol=0.03)


def test_every_error_of_matching_is_expected(tmp_path: Path, tiny_prior: Prior) -> None:
    """One line each, whatever is wrong with a file."""
    path = tmp_path / "tas.nc"
    for options in (
        {"lat": (40.0, 40.0, 41.0)},
        {"lat": (91.0, 92.0, 93.0)},
        {"time_units": "years since 2000-01-01"},
        {"standard_name": None, "name": "x"},
    ):
        path.unlink(missing_ok=True)
        write_tas(path, **options)
        with pytest.raises(ClimdownError, match=r"^\S*tas\.nc: [^\n]+$"):
            match(tiny_prior, [path], None)
