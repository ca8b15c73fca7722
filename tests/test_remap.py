"""`climdown regrid`, as a user meets it: what is kept, what is refused, what grids are called."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from climdown.errors import ClimdownError, ConfigError, GridError, InputError
from climdown.grid import Grid
from climdown.inputs.targets import named_grid, target_grid
from climdown.mesh import Mesh
from climdown.regrid import build, esmf, file
from tests.commands import Shell
from tests.factories import make_dataset
from tests.meshes import hexagons, mesh_dataset, rotated_pole, smooth, triangles, tripolar
from tests.priors import FINE, write_tiny_prior

LAT = np.arange(31.0, 60.0, 2.0)
LON = np.arange(-9.0, 30.0, 2.0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights are kept in an empty folder."""
    monkeypatch.setenv("CLIMDOWN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(logging.getLogger("climdown"), "propagate", True)
    build._cached.cache_clear()
    yield
    build._cached.cache_clear()


def write_input(path: str = "in.nc", **options: Any) -> xr.Dataset:
    """Daily tas over Europe, with everything that is to be kept."""
    settings: dict[str, Any] = {
        "lat": LAT,
        "lon": LON,
        "bounds": True,
        "height": 2.0,
        "calendar": "360_day",
        "time_units": "hours since 1949-12-01 00:00:00",
        "times": [12.0, 36.0, 60.0],
        "attributes": {
            "cell_methods": "area: time: mean",
            "cell_measures": "area: areacella",
            "long_name": "Near-Surface Air Temperature",
        },
    }
    dataset = make_dataset(**{**settings, **options})
    dataset.attrs |= {"history": "yesterday cdo remap", "tracking_id": "hdl:1", "grid_label": "gn"}
    dataset.attrs |= {"external_variables": "areacella"}
    dataset["tas"].encoding = {"_FillValue": np.float32(1e20), "coordinates": "height"}
    for name in ("time", "time_bnds", "height"):
        dataset[name].encoding = {"_FillValue": None}
    dataset.to_netcdf(path, unlimited_dims=["time"])
    return dataset


def test_time_bounds_scalars_and_attributes_are_kept_bit_by_bit(shell: Shell) -> None:
    write_input()
    result = shell("regrid", "in.nc", "out.nc", "--grid", 4)
    assert result.code == 0, result.err
    assert result.out.strip() == "out.nc"
    with netCDF4.Dataset("in.nc") as source, netCDF4.Dataset("out.nc") as output:
        for name in ("time", "time_bnds", "height"):
            one, other = source[name], output[name]
            assert (one.dtype, one.dimensions) == (other.dtype, other.dimensions)
            assert one.__dict__.keys() == other.__dict__.keys()
            assert all(
                np.array_equal(v, other.__dict__[k], equal_nan=v != v)
                for k, v in one.__dict__.items()
            )
            assert one[...].tobytes() == other[...].tobytes()
        assert output.dimensions["time"].isunlimited()
        tas = output["tas"]
        assert tas.dimensions == ("time", "lat", "lon")
        assert tas.cell_methods == "area: time: mean"
        assert tas.long_name == "Near-Surface Air Temperature"
        assert tas.coordinates == "height"
        assert "cell_measures" not in tas.ncattrs()
        assert (tas._FillValue, tas.missing_value) == (np.float32(1e20), np.float32(1e20))
        assert tas.chunking()[0] == 3
        assert output["time"].chunking() == [3]


def test_coordinates_lose_the_fill_value_that_xarray_gives_them(shell: Shell) -> None:
    dataset = write_input()
    dataset["time"].encoding = {"_FillValue": np.nan}
    dataset["time_bnds"].encoding = {"_FillValue": np.nan}
    dataset.to_netcdf("in.nc")
    shell("regrid", "in.nc", "out.nc", "--grid", 4)
    with netCDF4.Dataset("in.nc") as source, netCDF4.Dataset("out.nc") as output:
        assert "_FillValue" in source["time"].ncattrs()
        assert "_FillValue" not in output["time"].ncattrs()
        assert "_FillValue" in output["time_bnds"].ncattrs()
        np.testing.assert_array_equal(output["time"][:], source["time"][:])


def test_history_is_prepended_and_provenance_added(shell: Shell) -> None:
    write_input()
    shell("regrid", "in.nc", "out.nc", "--grid", "4")
    with netCDF4.Dataset("out.nc") as output:
        first, second = output.history.split("\n")
        assert first.endswith("climdown regrid in.nc out.nc --grid 4")
        assert second == "yesterday cdo remap"
        assert output.parent_tracking_id == "hdl:1"
        assert output.regridding_method == "conservative"
        assert output.regridding_backend == "native"
        assert output.regridded_from.startswith("15 x 20 cells of 2 deg, 30N..60N")
        assert output.Conventions == "CF-1.8 CF-1.11"
        assert output.grid_label == "gr"
        assert "external_variables" not in output.ncattrs()
        assert "tracking_id" not in output.ncattrs()


def test_output_has_axes_with_bounds_that_xarray_reads(shell: Shell) -> None:
    write_input()
    shell("regrid", "in.nc", "out.nc", "--grid", "-8,28,32,60,4")
    with xr.open_dataset("out.nc") as output:
        assert output["lat"].values.tolist() == list(range(34, 60, 4))
        assert output["lon"].values.tolist() == list(range(-6, 28, 4))
        assert output["lat"].attrs["bounds"] == "lat_bnds"
        assert output["lat_bnds"].values.tolist() == [[v - 2, v + 2] for v in range(34, 60, 4)]
        assert (output["lat"].standard_name, output["lon"].units) == ("latitude", "degrees_east")
        assert output["time"].dt.calendar == "360_day"
        assert output["tas"].shape == (3, 7, 9)
        assert float(output["tas"].height) == 2.0


@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest"])
def test_the_log_says_what_was_done(shell: Shell, method: str) -> None:
    mesh_dataset(path=Path("in.nc"), cells=triangles(level=3))
    result = shell("regrid", "in.nc", "out.nc", "--grid", "r36x18", "--method", method)
    assert result.code == 0, result.err
    assert "tas: unstructured, 1280 cells of about 4.55 deg" in result.err
    assert "weights native, 100.0 % of the target's cells covered" in result.err
    with xr.open_dataset("out.nc") as output:
        assert output.attrs["regridding_method"] == method


def test_another_region_of_missing_values_for_a_higher_coverage(shell: Shell) -> None:
    missing = np.zeros((LAT.size, LON.size), dtype=bool)
    missing[1::2] = True
    write_input(missing=missing)
    for coverage, known in ((0.4, True), (0.6, False)):
        options = ("--grid", "4", "--min-coverage", str(coverage), "--overwrite")
        assert shell("regrid", "in.nc", "out.nc", *options).code == 0
        with xr.open_dataset("out.nc") as output:
            assert bool(np.isfinite(output["tas"][0, 2:-2, 1:-1]).all()) is known
            assert bool(np.isnan(output["tas"]).all()) is not known


def no_such_file() -> tuple[str, ...]:
    return ("nowhere.nc", "out.nc", "--grid", "1")


def several_files() -> tuple[str, ...]:
    write_input("in1.nc")
    write_input("in2.nc")
    return ("in?.nc", "out.nc", "--grid", "1")


def no_coordinates() -> tuple[str, ...]:
    xr.Dataset({"pr": ("time", [1.0])}).to_netcdf("in.nc")
    return ("in.nc", "out.nc", "--grid", "1")


def words_alone() -> tuple[str, ...]:
    dataset = write_input()
    dataset["tas"] = dataset["tas"].astype("S4")
    dataset["tas"].encoding = {}
    dataset.to_netcdf("in.nc")
    return ("in.nc", "out.nc", "--grid", "1")


def existing_output() -> tuple[str, ...]:
    write_input()
    Path("out.nc").write_text("mine")
    return ("in.nc", "out.nc", "--grid", "1")


def no_output_folder() -> tuple[str, ...]:
    write_input()
    return ("in.nc", "nowhere/out.nc", "--grid", "1")


def onto_itself() -> tuple[str, ...]:
    write_input()
    return ("in.nc", "in.nc", "--grid", "1")


def onto_itself_by_a_link() -> tuple[str, ...]:
    write_input()
    Path("link.nc").symlink_to("in.nc")
    return ("in.nc", "link.nc", "--grid", "1", "--overwrite")


def elsewhere() -> tuple[str, ...]:
    write_input()
    return ("in.nc", "out.nc", "--grid", "100,120,-40,-30,1")


def mesh_elsewhere() -> tuple[str, ...]:
    mesh_dataset(path=Path("in.nc"), cells=rotated_pole())
    return ("in.nc", "out.nc", "--grid", "100,120,-40,-30,1")


def no_corners() -> tuple[str, ...]:
    mesh_dataset(path=Path("in.nc"), cells=triangles(level=1), corners=None)
    return ("in.nc", "out.nc", "--grid", "10")


def spec(text: str) -> Callable[[], tuple[str, ...]]:
    def prepare() -> tuple[str, ...]:
        write_input()
        return ("in.nc", "out.nc", "--grid", text)

    return prepare


def option(*words: str) -> Callable[[], tuple[str, ...]]:
    def prepare() -> tuple[str, ...]:
        write_input()
        return ("in.nc", "out.nc", "--grid", "4", *words)

    return prepare


def target_file(dataset: Callable[[], Any]) -> Callable[[], tuple[str, ...]]:
    def prepare() -> tuple[str, ...]:
        write_input()
        dataset()
        return ("in.nc", "out.nc", "--grid", "grid.nc")

    return prepare


@pytest.mark.parametrize(
    ("prepare", "code", "message"),
    [
        (no_such_file, 3, "no such file: nowhere.nc"),
        (several_files, 2, "one file is regridded at a time; 2 match, like in2.nc"),
        (no_coordinates, 3, "in.nc: no variable with latitude and longitude coordinates; found pr"),
        (words_alone, 3, "in.nc: no variable with latitude and longitude coordinates; found"),
        (existing_output, 6, "out.nc exists already; give --overwrite to replace it"),
        (no_output_folder, 6, "nowhere of the output does not exist"),
        (onto_itself, 2, "in.nc is both input and output; choose another output"),
        (onto_itself_by_a_link, 2, "link.nc is both input and output"),
        (elsewhere, 4, "in.nc: the grid of 'tas' (15 x 20 cells"),
        (mesh_elsewhere, 4, "does not touch the target (10 x 20 cells of 1 deg, 40S..30S"),
        (no_corners, 4, "in.nc: the cells' corners are unknown"),
        (spec("fine"), 2, "cannot read the grid 'fine'; expected a spacing in degrees"),
        (spec("nowhere/grid.nc"), 2, "cannot read the grid 'nowhere/grid.nc'; expected"),
        (spec("0"), 2, "grid spacing is 0; need degrees > 0"),
        (spec("-1"), 2, "grid spacing is -1; need degrees > 0"),
        (spec("r0x10"), 2, "a global grid of 0 x 10 cells is empty"),
        (spec("r90000x45000"), 2, "a grid of 9e+04 x 4.5e+04 cells is too large"),
        (spec("0.0001"), 2, "cells is too large; at most 2e+08 cells can be written"),
        (spec("0,10,40,30,1"), 2, "no grid of 1 degrees fits the box 0,10,40,30"),
        (spec("0,10,-95,30,1"), 2, "need spacing > 0 and -90 <= south < north <= 90"),
        (spec("0,400,0,30,1"), 2, "at most 360 degrees from west to east"),
        (spec("0,10,0,10,0"), 2, "no grid of 0 degrees fits the box"),
        (spec("0,10,0,10"), 2, "cannot read the grid '0,10,0,10'"),
        (spec("eobs-iberia-zssd:medium"), 2, "has no grid 'medium'; expected fine or coarse"),
        (option("--method", "cubic"), 2, "--method is 'cubic'; expected conservative, bilinear"),
        (option("--backend", "cdo"), 2, "--backend is 'cdo'; expected auto, native or xesmf"),
        (option("--backend", "xesmf"), 2, "the xesmf backend needs esmpy, which pip cannot"),
        (option("--min-coverage", "0"), 2, "min coverage is 0; need 0 < coverage <= 1"),
        (option("--min-coverage", "1.5"), 2, "min coverage is 1.5; need 0 < coverage <= 1"),
        (
            target_file(lambda: mesh_dataset(path=Path("grid.nc"), cells=rotated_pole())),
            4,
            "grid.nc: 'tas' lies on a mesh (curvilinear, 20 x 24 cells",
        ),
        (
            target_file(lambda: xr.Dataset({"a": 1.0}).to_netcdf("grid.nc")),
            3,
            "grid.nc: no variable with latitude and longitude to take a grid from",
        ),
        (
            target_file(lambda: Path("grid.nc").write_text("gridtype = lonlat\n")),
            3,
            "grid.nc: cannot be read as NetCDF",
        ),
        (
            target_file(lambda: make_dataset(path=Path("grid.nc"), lat=[1.0, 1.0, 2.0])),
            4,
            "grid.nc: latitude is not strictly ascending",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_nothing_is_written(
    shell: Shell,
    prepare: Callable[[], tuple[str, ...]],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(esmf, "_problem", lambda: "No module named 'esmpy'")
    arguments = prepare()
    before = {path.name: path.stat().st_mtime_ns for path in Path().iterdir()}
    result = shell("regrid", *arguments)
    assert result.code == code, result.err
    assert message in result.message
    after = {path.name: path.stat().st_mtime_ns for path in Path().iterdir()}
    assert {k: v for k, v in after.items() if k != "cache"} == before


def test_overwrite_replaces_the_output(shell: Shell) -> None:
    write_input()
    Path("out.nc").write_text("old")
    assert shell("regrid", "in.nc", "out.nc", "--grid", 4, "--overwrite").code == 0
    with xr.open_dataset("out.nc") as output:
        assert output["tas"].shape == (3, 8, 11)


def test_values_that_cannot_be_read_leave_the_old_output(shell: Shell) -> None:
    """A file cut short in transit opens well; it fails in the middle of its values."""
    dataset = write_input(times=[12.0 + 24 * day for day in range(300)])
    encoding = {"tas": {"zlib": True, "chunksizes": (10, LAT.size, LON.size)}}
    dataset.to_netcdf("in.nc", encoding=encoding)
    with netCDF4.Dataset("in.nc") as file:
        good = file["tas"][:].tobytes()
    content = bytearray(Path("in.nc").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    Path("in.nc").write_bytes(content)
    assert good
    Path("out.nc").write_text("old")
    result = shell("regrid", "in.nc", "out.nc", "--grid", 4, "--overwrite")
    assert result.code == 3
    assert "in.nc: 'tas' cannot be read (" in result.message
    assert Path("out.nc").read_text() == "old"
    assert {path.name for path in Path().iterdir()} == {"in.nc", "out.nc"}


def test_a_full_disk_leaves_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write_input()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("climdown.stream.regridded._write_blocks", full)
    result = shell("regrid", "in.nc", "out.nc", "--grid", 4)
    assert result.code == 6
    assert "cannot write out.nc: No space left on device" in result.message
    assert {path.name for path in Path().iterdir()} == {"in.nc"}


def test_references_to_what_is_gone_go_too(shell: Shell) -> None:
    dataset = mesh_dataset(cells=triangles(level=2))
    dataset["tas_count"] = dataset["tas"].copy()
    dataset["level"] = ((), 2.0, {"units": "m", "standard_name": "height"})
    dataset["time_bnds"] = (
        ("time", "bnds"),
        [[0.0, 1.0], [1.0, 2.0]],
        {"coordinates": "level lat"},
    )
    dataset["time"].attrs["bounds"] = "time_bnds"
    dataset["tas"].attrs |= {
        "ancillary_variables": "tas_count tas_gone",
        "CDI_grid_type": "unstructured",
        "mesh": "mesh2d",
        "location": "face",
        "actual_range": [0.0, 1.0],
    }
    dataset["mesh2d"] = ((), 0, {"cf_role": "mesh_topology"})
    dataset.attrs["uuidOfHGrid"] = "0f1e7d66"
    dataset["tas"].encoding["coordinates"] = "level lat lon"
    dataset.set_coords("level").to_netcdf("in.nc")
    assert shell("regrid", "in.nc", "out.nc", "--grid", "20").code == 0
    with netCDF4.Dataset("out.nc") as output:
        assert output["tas"].ancillary_variables == "tas_count"
        assert output["tas"].coordinates == "level"
        assert output["time_bnds"].coordinates == "level"
        gone = {"CDI_grid_type", "mesh", "location", "actual_range"}
        assert not gone & set(output["tas"].ncattrs())
        assert output["tas"].grid_mapping == "crs"
        assert "mesh2d" not in output.variables
        assert "uuidOfHGrid" not in output.ncattrs()
        assert output.regridded_from.startswith("unstructured, 320 cells")


@pytest.mark.parametrize("method", ["conservative", "nearest"])
def test_flags_and_ranges_follow_the_type(shell: Shell, method: str) -> None:
    dataset = write_input()
    typed = {"flag_values": np.array([1, 2], np.int16), "flag_meanings": "land sea"}
    dataset["tas"].attrs |= typed | {"valid_range": np.array([0, 400], np.int16)}
    dataset["tas"] = dataset["tas"].round().astype(np.int16)
    dataset["tas"].encoding = {}
    dataset["packed"] = dataset["tas"].astype(np.float64)
    dataset["packed"].attrs = {"valid_range": np.array([0, 4], np.int16)}
    dataset["packed"].encoding = {"dtype": "i2", "scale_factor": 100.0, "_FillValue": -1}
    dataset.to_netcdf("in.nc")
    assert shell("regrid", "in.nc", "out.nc", "--grid", 4, "--method", method).code == 0
    with netCDF4.Dataset("out.nc") as output:
        tas = output["tas"]
        assert tas.dtype == np.float32
        assert tas.valid_range.dtype == np.float32
        assert ("flag_values" in tas.ncattrs()) is (method == "nearest")
        assert ("flag_meanings" in tas.ncattrs()) is (method == "nearest")
        assert "valid_range" not in output["packed"].ncattrs()
        assert np.ma.count(output["packed"][:]) == output["packed"].size


def test_text_coordinates_and_odd_dimensions_are_copied(shell: Shell) -> None:
    dataset = write_input()
    dataset["experiment"] = ("member", np.array(["ctl", "warm"], dtype="S4"))
    dataset["name"] = ("member", np.array(["control", "+2 K"], dtype=object))
    dataset["tas"] = xr.concat([dataset["tas"], dataset["tas"] + 2], "member")
    dataset["zonal"] = ("lat", LAT)
    dataset.to_netcdf("in.nc")
    result = shell("regrid", "in.nc", "out.nc", "--grid", 4)
    assert result.code == 0, result.err
    assert "left out, since no means over cells can be taken: zonal" in result.err
    with xr.open_dataset("in.nc") as source, xr.open_dataset("out.nc") as output:
        for name in ("experiment", "name"):
            np.testing.assert_array_equal(output[name].values, source[name].values)
        assert output["tas"].dims == ("member", "time", "lat", "lon")


def test_variables_of_every_type_are_copied_but_those_of_their_own(shell: Shell) -> None:
    dataset = write_input()
    dataset["run"] = ((), "r1i1p1")
    dataset["flag"] = ("time", [True, False, True])
    dataset["count"] = ("time", np.array([1, 2**63, 3], np.uint64))
    dataset.to_netcdf("in.nc")
    with netCDF4.Dataset("in.nc", "a") as file:
        file.createVariable("big", ">f8", ("time",), endian="big")[:] = [1.0, 2.0, 3.0]
        switch = file.createEnumType(np.int8, "switch", {"off": 0, "on": 1})
        file.createVariable("lamp", switch, ("time",))[:] = np.array([0, 1, 0], np.int8)
        ragged = file.createVLType(np.int32, "ragged")
        file.createVariable("list", ragged, ("time",))[0] = np.array([1, 2], np.int32)
    result = shell("regrid", "in.nc", "out.nc", "--grid", 4)
    assert result.code == 0, result.err
    assert "'list' is left out: it is of a type of its own" in result.err
    with netCDF4.Dataset("in.nc") as source, netCDF4.Dataset("out.nc") as output:
        assert output["run"][...] == "r1i1p1"
        for name in ("flag", "count", "big", "lamp"):
            np.testing.assert_array_equal(output[name][:], source[name][:])
        assert "list" not in output.variables


def test_a_history_of_several_strings_is_joined(shell: Shell) -> None:
    dataset = write_input()
    dataset.attrs["history"] = ["one", "two"]
    dataset.to_netcdf("in.nc")
    shell("regrid", "in.nc", "out.nc", "--grid", 4)
    with netCDF4.Dataset("out.nc") as output:
        assert output.history.split("\n")[1:] == ["one", "two"]


def test_blocks_of_time_give_what_the_whole_gives(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_input(times=[12.0 + 24 * day for day in range(20)])
    shell("regrid", "in.nc", "whole.nc", "--grid", 4)
    monkeypatch.setattr("climdown.stream.regridded._BLOCK_BYTES", 8 * LAT.size * LON.size * 3)
    shell("regrid", "in.nc", "blocks.nc", "--grid", 4)
    with xr.open_dataset("whole.nc") as whole, xr.open_dataset("blocks.nc") as blocks:
        np.testing.assert_array_equal(blocks["tas"].values, whole["tas"].values)


def test_a_run_without_time_steps_is_regridded_to_none(shell: Shell) -> None:
    dataset = write_input().isel(time=slice(0, 0))
    dataset.to_netcdf("in.nc", unlimited_dims=["time"])
    result = shell("regrid", "in.nc", "out.nc", "--grid", 4)
    assert result.code == 0, result.err
    with xr.open_dataset("out.nc", decode_times=False) as output:
        assert output["tas"].shape == (0, 8, 11)


def test_help_names_every_option(shell: Shell) -> None:
    result = shell("regrid", "--help")
    assert result.code == 0
    for word in ("--grid", "--method", "--backend", "--min-coverage", "--overwrite"):
        assert word in result.out


def edges(grid: Grid) -> list[float]:
    return [*grid.lat_edges[[0, -1]].tolist(), *grid.lon_edges[[0, -1]].tolist()]


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        ("10", (18, 36), [-90, 90, -180, 180]),
        (".5", (360, 720), [-90, 90, -180, 180]),
        ("r360x180", (180, 360), [-90, 90, -0.5, 359.5]),
        ("-10,5,34,44,0.25", (40, 60), [34, 44, -10, 5]),
        ("350,5,34,44,1", (10, 15), [34, 44, 350, 365]),
        ("170,-170,0,10,2", (5, 10), [0, 10, 170, 190]),
        ("0,360,-90,90,1.", (180, 360), [-90, 90, 0, 360]),
        ("-180,180,-90,90,1", (180, 360), [-90, 90, -180, 180]),
    ],
)
def test_grids_by_name(text: str, shape: tuple[int, int], expected: list[float]) -> None:
    grid = target_grid(text)
    assert grid.shape == shape
    assert edges(grid) == pytest.approx(expected, abs=1e-9)


# As `cdo griddes -random,rNXxNY` prints them (2.1.1): first latitude and its increment.
@pytest.mark.parametrize(
    ("text", "first", "step"),
    [
        ("r360x181", -90.0, 1.0),
        ("r72x37", -90.0, 5.0),
        ("r90x45", -90.0, 4.09090909090909),
        ("r10x5", -90.0, 45.0),
        ("r4x3", -90.0, 90.0),
        ("r8x4", -67.5, 45.0),
        ("r180x90", -89.0, 2.0),
    ],
)
def test_global_grids_have_the_latitudes_of_cdo(text: str, first: float, step: float) -> None:
    grid = target_grid(text)
    expected = first + step * np.arange(grid.lat.size)
    np.testing.assert_allclose(grid.lat, expected, atol=1e-9)
    np.testing.assert_allclose(grid.lon, 360.0 / grid.lon.size * np.arange(grid.lon.size))
    assert grid.areas.sum() == pytest.approx(4 * np.pi, rel=1e-12)


def test_a_global_grid_of_one_row_lies_at_the_equator() -> None:
    grid = target_grid("r4x1")
    assert (grid.lat.tolist(), grid.lat_edges.tolist()) == ([0.0], [-90.0, 90.0])


@pytest.mark.parametrize(
    ("lat", "lon", "expected"),
    [
        ([35.3, 36.3, 37.3], [2.2, 3.2, 4.2], [34, 38, 1, 5]),
        ([-89.5, 0.0, 89.5], np.arange(0.0, 360.0, 2.0), [-90, 90, -180, 180]),
        ([-89.5, 0.0, 89.5], np.arange(1.0, 360.0, 2.0), [-90, 90, 0, 360]),
        ([-89.5, 0.0, 89.5], np.arange(-179.0, 180.0, 2.0), [-90, 90, -180, 180]),
    ],
)
def test_a_spacing_covers_the_input(lat: Any, lon: Any, expected: list[float]) -> None:
    cells = Grid.from_centres(lat, lon)
    if cells.periodic and cells.lon_edges[0] == -1.0:
        expected = [-90, 90, 0, 360]
    assert edges(target_grid("1", cells)) == pytest.approx(expected)


@pytest.mark.parametrize("corners", [True, False])
def test_a_spacing_covers_a_mesh(corners: bool) -> None:
    mesh = rotated_pole()
    assert mesh.lat_vertices is not None
    assert mesh.lon_vertices is not None
    cells = mesh if corners else Mesh(mesh.lat.ravel(), mesh.lon.ravel(), None, None)
    south, north, west, east = edges(target_grid("1", cells))
    # What lies farther out than half a spacing is guessed.
    slack = 0.0 if corners else 0.4
    assert mesh.lat_vertices.min() - 1 < south <= mesh.lat_vertices.min() + slack
    assert mesh.lat_vertices.max() - slack <= north < mesh.lat_vertices.max() + 1
    assert mesh.lon_vertices.min() - 1 < west <= mesh.lon_vertices.min() + slack
    assert mesh.lon_vertices.max() - slack <= east < mesh.lon_vertices.max() + 1


def test_a_spacing_covers_the_poles_of_a_mesh() -> None:
    hexagonal = hexagons()
    for cells in (triangles(), hexagonal, replace(hexagonal, lat_vertices=None, lon_vertices=None)):
        assert edges(target_grid("5", cells)) == pytest.approx([-90, 90, -180, 180])
    ocean = edges(target_grid("5", tripolar(ny=60, nx=72, cap=20)))
    assert ocean == pytest.approx([-80, 90, -180, 180])


def test_grids_of_files_and_priors(tmp_path: Path) -> None:
    path = tmp_path / "grid.nc"
    make_dataset(path=path, lat=[47, 43, 40], lon=[350, 355, 0])
    grid = target_grid(str(path))
    assert (grid.lat.tolist(), grid.lon.tolist()) == ([40, 43, 47], [350, 355, 360])
    write_tiny_prior(tmp_path / "tiny")
    for text, expected in (("", FINE), (":fine", FINE), (":coarse", FINE.coarsen(4))):
        found = target_grid(f"{tmp_path / 'tiny'}{text}")
        np.testing.assert_allclose(found.lat_edges, expected.lat_edges, atol=1e-9)
    assert target_grid("eobs-iberia-zssd").shape == target_grid("eobs-iberia-zssd:fine").shape


def test_the_first_rectilinear_variable_of_a_file_is_its_grid(tmp_path: Path) -> None:
    dataset = mesh_dataset(cells=rotated_pole(), names=("nav_lat", "nav_lon"))
    plain = make_dataset(name="uas", times=(0.5, 1.5)).drop_vars("time")
    dataset = dataset.merge(plain[["uas"]])
    dataset.to_netcdf(tmp_path / "grid.nc")
    assert target_grid(str(tmp_path / "grid.nc")).shape == (4, 5)


def test_the_library_raises_what_the_command_line_says(tmp_path: Path) -> None:
    source = tmp_path / "in.nc"
    mesh_dataset(path=source, cells=rotated_pole())

    def attempt(**options: Any) -> None:
        file.regrid_file(source, tmp_path / "out.nc", **{"target": named_grid("5"), **options})

    wrong: list[tuple[type[ClimdownError], str, dict[str, Any]]] = [
        (
            GridError,
            r"in\.nc: the grid of 'tas' .* does not touch",
            {"target": named_grid("100,120,0,10,1")},
        ),
        (ConfigError, "unknown regridding method 'cubic'", {"method": "cubic"}),
        (ConfigError, re.escape("min coverage is 2"), {"min_coverage": 2.0}),
    ]
    for kind, message, options in wrong:
        with pytest.raises(kind, match=message):
            attempt(**options)
    assert not (tmp_path / "out.nc").exists()
    (report,) = file.regrid_file(source, tmp_path / "out.nc", target=named_grid("10,24,45,55,1"))
    assert (report.name, report.backend, report.covered) == ("tas", "native", 1.0)
    with xr.open_dataset(tmp_path / "out.nc") as output:
        lat, lon = np.meshgrid(output.lat, output.lon, indexing="ij")
        assert np.abs(output["tas"][0] - smooth(lat, lon)).max() < 0.3
    with pytest.raises(InputError, match="no such file"):
        file.regrid_file(tmp_path / "gone.nc", tmp_path / "other.nc", target=named_grid("5"))
