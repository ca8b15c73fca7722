"""`climdown run`, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from climdown import pipeline, regrid
from climdown.config import RunConfig
from climdown.errors import ConfigError, Requeue
from climdown.grid import Grid
from climdown.mesh import Mesh
from climdown.pipeline.choices import choose
from climdown.pipeline.observer import Observer
from climdown.pipeline.planning import make_plan
from climdown.priors.prior import Prior
from tests.commands import LAT, LON, Shell, rain, read_members, run_config, write_pr, write_tas
from tests.factories import Floats, along, make_dataset, shared_data
from tests.meshes import as_mesh, mesh_dataset, rotated_pole
from tests.priors import FINE


def test_run_writes_an_ensemble_with_mean_and_spread(shell: Shell, tiny_prior: Prior) -> None:
    write_tas(Path("tas.nc"))
    result = shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--members", 3)
    assert result.code == 0, result.err
    assert result.out.strip() == "out.nc"
    values = read_members("out.nc")
    assert values.shape == (3, 3, *FINE.shape)
    np.testing.assert_allclose(read_members("out.nc", "tas_mean"), values.mean(axis=1), rtol=1e-6)
    spread = values.std(axis=1, ddof=1)
    np.testing.assert_allclose(read_members("out.nc", "tas_spread"), spread, atol=2e-5)
    assert (spread[np.isfinite(spread)] > 0).all()


def test_output_keeps_units_time_and_attributes_of_the_input(
    shell: Shell, tiny_prior: Prior
) -> None:
    write_tas(
        Path("tas.nc"), calendar="360_day", bounds=True, attributes={"cell_methods": "time: mean"}
    )
    shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--members", 2)
    with netCDF4.Dataset("tas.nc") as source, netCDF4.Dataset("out.nc") as output:
        for name in ("time", "time_bnds"):
            np.testing.assert_array_equal(output[name][:], source[name][:])
        assert output["time"].units == source["time"].units
        assert output["time"].calendar == "360_day"
        assert output["time"].dtype == source["time"].dtype
        assert output["tas"].units == "K"
        assert output["tas"].cell_methods == "time: mean"
        assert output["tas"].dimensions == ("time", "realization", "lat", "lon")
        assert output["tas_spread"].cell_methods == "time: mean realization: standard_deviation"
        assert output["tas_spread"].units_metadata == "temperature: difference"
        assert output["tas"].ancillary_variables == "tas_mean tas_spread"
        assert "height" not in output.variables
        assert output["tas"].comment == "height: 2.0 m"
        assert output.history.split("\n")[0].endswith("--members 2")
        assert output.climdown_prior_sha256 == tiny_prior.digest
        assert output.climdown_seed == 0
        assert json.loads(output.climdown_options)["members"] == 2


def test_sea_is_missing_in_every_member(shell: Shell, tiny_prior: Prior) -> None:
    write_tas(Path("tas.nc"))
    shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--members", 2)
    expected = np.broadcast_to(tiny_prior.mask[0], (3, 2, *FINE.shape))
    np.testing.assert_array_equal(np.isfinite(read_members("out.nc")), expected)


def test_both_variables_are_written_in_their_own_units(shell: Shell, tiny_prior: Prior) -> None:
    write_tas(Path("tas.nc"))
    write_pr(Path("pr.nc"))
    result = shell("run", "tas.nc", "pr.nc", "out.nc", "--prior", tiny_prior.folder, "--members", 2)
    assert result.code == 0, result.err
    rain = read_members("out.nc", "pr")
    assert np.nanmin(rain) >= 0
    with netCDF4.Dataset("out.nc") as output:
        assert output["pr"].units == "kg m-2 s-1"
        assert output["pr"].standard_name == "precipitation_flux"
    assert np.nanmax(rain) < 0.05, "mm/day taken for kg m-2 s-1"


def test_a_missing_variable_is_left_unguided_and_unwritten(shell: Shell, tiny_prior: Prior) -> None:
    write_tas(Path("tas.nc"))
    result = shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--members", 1)
    assert "unguided: pr" in result.err
    with netCDF4.Dataset("out.nc") as output:
        assert "pr" not in output.variables


def test_guidance_brings_the_coarse_means_to_the_input(shell: Shell, tiny_prior: Prior) -> None:
    write_tas(Path("tas.nc"), lat=(40.5, 41.5, 42.5), lon=(-3.5, -2.5, -1.5, -0.5))
    coarse = regrid.weights(FINE, tiny_prior.card.coarse_grid, "conservative")
    wanted = xr.open_dataset("tas.nc").tas.values.astype(np.float64)
    errors = {}
    for scale in (0, 1):
        options = ("--sampler", "reference", "--steps", 30, "--guidance-scale", scale)
        words = ("--members", 2, "--overwrite", *options)
        shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, *words)
        means = coarse.apply(read_members("out.nc"))
        errors[scale] = np.nanmean(np.abs(means - wanted[:, None]))
    assert errors[1] < 0.3 * errors[0]


def test_the_fast_sampler_gives_the_coarse_means_exactly(shell: Shell, tiny_prior: Prior) -> None:
    write_tas(Path("tas.nc"), lat=(40.5, 41.5, 42.5), lon=(-3.5, -2.5, -1.5, -0.5))
    shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--members", 2)
    coarse = regrid.weights(FINE, tiny_prior.card.coarse_grid, "conservative")
    wanted = xr.open_dataset("tas.nc").tas.values.astype(np.float64)[:, None]
    means = coarse.apply(read_members("out.nc"))
    guided = np.isfinite(means)  # the corner is sea
    assert guided.mean() > 0.9
    np.testing.assert_allclose(
        means[guided], np.broadcast_to(wanted, means.shape)[guided], atol=1e-3
    )


def test_same_seed_same_bits_and_another_seed_another_field(
    shell: Shell, tiny_prior: Prior
) -> None:
    write_tas(Path("tas.nc"))
    for name, seed in (("a.nc", 1), ("b.nc", 1), ("c.nc", 2)):
        shell("run", "tas.nc", name, "--prior", tiny_prior.folder, "--members", 2, "--seed", seed)
    np.testing.assert_array_equal(read_members("a.nc"), read_members("b.nc"))
    assert np.nanmax(np.abs(read_members("a.nc") - read_members("c.nc"))) > 0.1


@pytest.mark.parametrize(
    ("words", "coherence"),
    [((), {}), (("--coherence", "0.8"), {"tas": 0.8, "pr": 0.8})],
    ids=["each step for itself", "coherent"],
)
def test_batch_size_period_and_ensemble_size_do_not_change_a_member(
    words: tuple[str, ...], coherence: dict[str, float], shell: Shell, tiny_prior: Prior
) -> None:
    write_tas(Path("tas.nc"))
    common: tuple[str | Path | int, ...] = ("--prior", tiny_prior.folder, "--seed", 3, *words)
    shell("run", "tas.nc", "a.nc", *common, "--members", 4)
    shell("run", "tas.nc", "b.nc", *common, "--members", 4, "--batch-size", 1)
    shell("run", "tas.nc", "c.nc", *common, "--members", 2, "--time", "2001-01-02/2001-01-02")
    reference = read_members("a.nc")
    tolerance = 1e-5 * float(np.nanstd(reference))
    np.testing.assert_allclose(read_members("b.nc"), reference, rtol=0, atol=tolerance)
    np.testing.assert_allclose(read_members("c.nc")[0], reference[1, :2], rtol=0, atol=tolerance)
    with netCDF4.Dataset("a.nc") as file:
        options = json.loads(file.climdown_options)
    assert options["coherence"] == coherence


def test_stopped_run_resumes_to_the_same_bits(tmp_path: Path, tiny_prior: Prior) -> None:
    source = write_tas(tmp_path / "tas.nc")
    config = RunConfig(members=2, batch_size=2)
    whole, stopped = tmp_path / "whole.nc", tmp_path / "stopped.nc"
    pipeline.downscale([source], whole, prior=tiny_prior, config=config)
    answers = iter([False, True])
    with pytest.raises(Requeue, match="after 2 of 6 fields"):
        pipeline.downscale(
            [source], stopped, prior=tiny_prior, config=config, should_stop=lambda: next(answers)
        )
    assert not stopped.exists()
    summary = pipeline.downscale([source], stopped, prior=tiny_prior, config=config)
    assert summary.resumed == 2
    np.testing.assert_array_equal(read_members(whole), read_members(stopped))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stopped.nc", "tas.nc", "whole.nc"]


def test_parts_of_another_run_are_refused_then_discarded(shell: Shell, tiny_prior: Prior) -> None:
    source = write_tas(Path("tas.nc"))
    with pytest.raises(Requeue):
        pipeline.downscale([source], "out.nc", prior=tiny_prior, should_stop=lambda: True)
    result = shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--seed", 9)
    assert result.code == 7
    assert "seed: 0 then, 9 now" in result.message
    result = shell(
        "run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--seed", 9, "--overwrite"
    )
    assert result.code == 0, result.err


def test_dry_run_prints_the_plan_and_writes_nothing(shell: Shell, tiny_prior: Prior) -> None:
    write_tas(Path("tas.nc"))
    result = shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--dry-run")
    assert result.code == 0, result.err
    for text in ("tas from 'tas'", "unguided: pr", "3 steps from 2001-01-01", "4 steps", "cpu"):
        assert text in result.out
    assert [p.name for p in Path().iterdir()] == ["tas.nc"]


@pytest.mark.parametrize(
    ("scale", "cells"),
    [
        ("native", "3 x 4 cells of 1 deg"),
        ("auto", "3 x 4 cells of 1 deg"),
        ("2", "2 x 2 cells of 2 deg"),
    ],
)
def test_filter_scale_sets_the_grid_of_guidance(
    shell: Shell, tiny_prior: Prior, scale: str, cells: str
) -> None:
    write_tas(Path("tas.nc"))
    options = ("--prior", tiny_prior.folder, "--filter-scale", scale, "--dry-run")
    result = shell("run", "tas.nc", "out.nc", *options)
    assert f"guided at:   {cells}" in result.out


def test_auto_filter_scale_is_never_finer_than_the_priors_coarse_grid(
    shell: Shell, tiny_prior: Prior
) -> None:
    write_tas(Path("tas.nc"), lat=np.arange(40.25, 43, 0.5), lon=np.arange(-3.75, 0, 0.5))
    result = shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--dry-run")
    assert "guided at:   3 x 4 cells of 1 deg" in result.out


def test_a_global_file_is_cut_to_the_region(shell: Shell, tiny_prior: Prior) -> None:
    lat, lon = np.arange(-87.5, 90, 5.0)[::-1], np.arange(0.0, 360.0, 5.0)
    write_tas(Path("tas.nc"), lat=lat, lon=lon)
    result = shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--dry-run")
    assert result.code == 0, result.err
    assert "input grid:  1 x 2 cells of 5 deg" in result.out


def test_without_a_prior_the_fitting_bundled_one_is_named(
    shell: Shell, tiny_prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("climdown.priors.store.bundled_folder", lambda: tiny_prior.folder.parent)
    write_tas(Path("tas.nc"))
    result = shell("run", "tas.nc", "out.nc", "--members", 1)
    assert result.code == 0, result.err
    assert "prior tiny fits the input" in result.err


def test_without_a_fitting_prior_the_reason_is_given_for_each(
    shell: Shell, tiny_prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("climdown.priors.store.bundled_folder", lambda: tiny_prior.folder.parent)
    write_tas(Path("tas.nc"), time_units="days since 2001-07-01")
    result = shell("run", "tas.nc", "out.nc")
    assert result.code == 5
    assert "tiny: tas.nc: has months 7" in result.message


def test_an_unreadable_file_is_an_input_error_without_a_prior_too(shell: Shell) -> None:
    Path("tas.nc").write_text("no NetCDF", encoding="utf-8")
    result = shell("run", "tas.nc", "out.nc")
    assert result.code == 3
    assert "cannot be read as NetCDF" in result.message


def test_command_line_options_are_checked() -> None:
    for options, text in (
        ({"members": 0}, "members is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"guidance_scale": -1.0, "sampler": "reference"}, "guidance scale is -1"),
        ({"filter_scale": 0.0}, "filter scale is 0"),
        ({"filter_scale": "coarse"}, "filter scale is coarse"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"method": "magic"}, "unknown method 'magic'"),
    ):
        with pytest.raises(ConfigError, match=text):
            choose(run_config(**options))


@pytest.mark.data
def test_real_gcm_file_runs_with_the_bundled_prior(shell: Shell) -> None:
    source = shared_data() / "iberia" / "tas_day_CNRM-CM5_historical_r1i1p1_19821201-20020228.nc"
    options = ("--members", 2, "--steps", 2, "--time", "1990-12-01/1990-12-02")
    result = shell("run", source, "out.nc", *options)
    assert result.code == 0, result.err
    values = read_members("out.nc")
    assert values.shape == (2, 2, 41, 61)
    assert 255 < np.nanmean(values) < 300


# --- other shapes of input


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of meshes are kept apart from the user's."""
    monkeypatch.setenv("CLIMDOWN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def slope(lat: Floats, lon: Floats, step: int) -> Floats:
    """A temperature whose mean over a cell is the one at its centre; a degree warmer each day."""
    return np.asarray(280.0 - 2.0 * (lat - 41.5) + 1.5 * (lon + 2.0) + step)


def write_mesh(path: Path, mesh: Mesh) -> None:
    mesh_dataset(cells=mesh, path=path, steps=3, values=slope(mesh.lat, mesh.lon, 0))


def downscaled(shell: Shell, prior: Prior, name: str, *options: str) -> Floats:
    common = ("--prior", prior.folder, "--members", 2, "--steps", 8, "--overwrite")
    result = shell("run", name, "out.nc", *common, *options)
    assert result.code == 0, result.err
    return read_members("out.nc")


@pytest.mark.usefixtures("own_cache")
def test_an_unstructured_copy_of_a_file_gives_its_results(shell: Shell, tiny_prior: Prior) -> None:
    around = Grid.regular(38.0, 45.0, -6.0, 2.0, 1.0)
    write_tas(Path("plain.nc"), lat=around.lat, lon=around.lon, values=slope)
    cells = as_mesh(around)
    assert cells.lat_vertices is not None
    assert cells.lon_vertices is not None
    corners = (cells.lat_vertices.reshape(-1, 4), cells.lon_vertices.reshape(-1, 4))
    write_mesh(Path("icon.nc"), Mesh(cells.lat.ravel(), cells.lon.ravel(), *corners))
    plain = downscaled(shell, tiny_prior, "plain.nc")
    # The same noise, guided by values that great circles for parallels move by some mK.
    np.testing.assert_allclose(downscaled(shell, tiny_prior, "icon.nc"), plain, rtol=0, atol=0.01)
    other = downscaled(shell, tiny_prior, "plain.nc", "--seed", "1")
    assert np.nanmax(np.abs(other - plain)) > 0.5, "the tolerance would let anything pass"


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("spacing", [0.5, 1.0])
def test_a_rotated_file_gives_nearly_the_results_of_a_rectilinear_one(
    shell: Shell, tiny_prior: Prior, spacing: float
) -> None:
    write_tas(Path("plain.nc"), values=slope)
    ny, nx = round(10 / spacing), round(12 / spacing)
    cells = rotated_pole(ny=ny, nx=nx, spacing=spacing, south_west=(-12.0, -20.5))
    write_mesh(Path("regional.nc"), cells)
    plain = downscaled(shell, tiny_prior, "plain.nc")
    regional = downscaled(shell, tiny_prior, "regional.nc")
    np.testing.assert_array_equal(np.isnan(regional), np.isnan(plain))
    # Cells that overlap one of the prior's lean out of it on all sides, by some tenths of
    # themselves more on one than on the other; the temperature changes by 2.5 K a degree.
    assert np.nanmax(np.abs(regional - plain)) < 0.3 * spacing


@pytest.mark.usefixtures("own_cache")
def test_the_plan_for_a_mesh_says_what_it_becomes(shell: Shell, tiny_prior: Prior) -> None:
    cells = rotated_pole(ny=40, nx=48, spacing=0.25, south_west=(-12.0, -20.5))
    write_mesh(Path("tas.nc"), cells)
    result = shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--dry-run")
    assert result.code == 0, result.err
    assert "input grid:  12 x 16 cells of 0.25 deg, 40N..43N, 4W..0E" in result.out
    assert "guided at:   3 x 4 cells of 1 deg" in result.out
    assert "tas is regridded from curvilinear, 40 x 48 cells" in result.err


@pytest.mark.parametrize("labels", [[1, 2, 3], ["r1i1p1f1", "r2i1p1f1", "r3i1p1f1"]])
def test_a_member_of_a_file_is_downscaled_as_if_alone(
    shell: Shell, tiny_prior: Prior, labels: list[int] | list[str]
) -> None:
    dataset = make_dataset(lat=LAT, lon=LON, values=slope)
    along(dataset, "realization", np.array(labels, dtype=object), shift=2.0).to_netcdf("all.nc")
    make_dataset(
        path=Path("second.nc"), lat=LAT, lon=LON, values=lambda y, x, t: slope(y, x, t) + 2.0
    )
    alone = downscaled(shell, tiny_prior, "second.nc")
    chosen = downscaled(shell, tiny_prior, "all.nc", "--select", f"realization={labels[1]}")
    np.testing.assert_array_equal(chosen, alone)
    with netCDF4.Dataset("out.nc") as output:
        assert json.loads(output.climdown_options)["select"] == {"realization": str(labels[1])}


def test_several_dimensions_are_chosen_by_repeating_select(shell: Shell, tiny_prior: Prior) -> None:
    dataset = make_dataset(lat=LAT, lon=LON, values=slope)
    levelled = along(dataset, "height", [2.0, 10.0], attributes={"units": "m"}, shift=1.0)
    members = xr.concat([levelled["tas"], levelled["tas"] + 2.0], dim="realization")
    members = members.assign_attrs(dataset["tas"].attrs).assign_coords(realization=[1, 2])
    levelled.assign(tas=members).to_netcdf("all.nc")
    dataset.to_netcdf("one.nc")
    chosen = ("--select", "height=2", "--select", "realization=1")
    values = downscaled(shell, tiny_prior, "all.nc", *chosen)
    np.testing.assert_array_equal(values, downscaled(shell, tiny_prior, "one.nc"))


def test_files_of_a_split_series_give_the_results_of_the_whole(
    shell: Shell, tiny_prior: Prior
) -> None:
    write_tas(Path("whole.nc"), days=(0.5, 1.5, 2.5))
    write_tas(Path("tas_b.nc"), days=(0.5, 1.5))
    write_tas(Path("tas_a.nc"), days=(2.5,), first_step=2)
    whole = downscaled(shell, tiny_prior, "whole.nc")
    np.testing.assert_array_equal(downscaled(shell, tiny_prior, "tas_*.nc"), whole)


@pytest.mark.parametrize(
    ("units", "offset", "factor"),
    [("degC", 273.15, 1.0), ("deg C", 273.15, 1.0), ("degF", 459.67, 1.8)],
)
def test_units_of_the_input_change_nothing_but_the_units(
    shell: Shell, tiny_prior: Prior, units: str, offset: float, factor: float
) -> None:
    write_tas(Path("kelvin.nc"), values=slope)
    write_tas(
        Path("other.nc"), units=units, values=lambda y, x, t: factor * slope(y, x, t) - offset
    )
    kelvin = downscaled(shell, tiny_prior, "kelvin.nc")
    other = downscaled(shell, tiny_prior, "other.nc")
    np.testing.assert_allclose((other + offset) / factor, kelvin, rtol=0, atol=1e-3)
    with netCDF4.Dataset("out.nc") as output:
        assert output["tas"].units == units.replace(" ", "")


def test_daily_sums_come_out_as_rates(shell: Shell, tiny_prior: Prior) -> None:
    settings: dict[str, Any] = {
        "name": "rr",
        "standard_name": "thickness_of_rainfall_amount",
        "units": "mm",
        "attributes": {"cell_methods": "time: sum"},
        "values": lambda lat, lon, step: 86400.0 * rain(lat, lon, step),
    }
    write_pr(Path("rr.nc"), **settings)
    result = shell("run", "rr.nc", "out.nc", "--prior", tiny_prior.folder, "--members", 1)
    assert result.code == 0, result.err
    with netCDF4.Dataset("out.nc") as output:
        found = [output["pr"].getncattr(n) for n in ("units", "standard_name", "cell_methods")]
    assert found == ["mm day-1", "lwe_precipitation_rate", "time: mean"]


@pytest.mark.parametrize("masked", [False, True])
def test_cells_that_are_mostly_sea_guide_only_where_the_input_is_land_alone(
    tiny_prior: Prior, tmp_path: Path, masked: bool
) -> None:
    # The prior's sea is its south-west corner, 0.75 by 1 degree; of the input's cells there some
    # are wholly in it and some in part.
    lat, lon = (40.125, 40.375, 40.75, 41.5, 42.5), (-3.875, -3.625, -3.25, -2.5, -1.5, -0.5)
    missing = np.zeros((5, 6), dtype=bool)
    missing[:2, :3] = masked
    source = write_tas(tmp_path / "tas.nc", lat=lat, lon=lon, missing=missing)
    plan = make_plan(
        [source], tmp_path / "out.nc", prior=tiny_prior, config=RunConfig(filter_scale="native")
    )
    observer = Observer(plan.prior, plan.fields, plan.filter_grid, plan.device)
    share = observer.operators[0].covered.numpy()
    threshold = 0.1 if masked else 0.5
    values = observer.coarse_values(slice(0, 1))[0][0].numpy()
    np.testing.assert_array_equal(np.isfinite(values), (share >= threshold) & ~missing)
    assert ((share > 0.1) & (share < 0.5)).any(), "the thresholds cannot be told apart"
