"""Bad input: one clear line, the documented exit code, no traceback, nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from climdown.priors.card import MODEL_FILE
from tests.commands import LAT, LON, Shell, warmth, write_pr, write_tas
from tests.factories import Floats, along, make_dataset
from tests.meshes import mesh_dataset, rotated_pole
from tests.priors import write_tiny_prior

Prepare = Callable[[], tuple[str, ...]]


@pytest.fixture(autouse=True)
def tiny(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every test finds the prior `tiny` in its folder, and keeps weights out of the user's."""
    write_tiny_prior(Path("tiny"))
    monkeypatch.setenv("CLIMDOWN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def no_such_file() -> tuple[str, ...]:
    return ("nowhere.nc", "out.nc")


def no_match() -> tuple[str, ...]:
    return ("tas_*.nc", "out.nc")


def not_netcdf() -> tuple[str, ...]:
    Path("tas.nc").write_text("time,lat,lon,tas\n")
    return ("tas.nc", "out.nc")


def truncated() -> tuple[str, ...]:
    content = write_tas(Path("tas.nc")).read_bytes()
    Path("tas.nc").write_bytes(content[: len(content) // 3])
    return ("tas.nc", "out.nc")


def no_time_axis() -> tuple[str, ...]:
    write_tas(Path("all.nc"))
    with xr.open_dataset("all.nc") as dataset:
        dataset.isel(time=0, drop=True).to_netcdf("tas.nc")
    return ("tas.nc", "out.nc")


def unknown_variable() -> tuple[str, ...]:
    make_dataset(path=Path("hus.nc"), name="hus", standard_name="specific_humidity", units="1")
    return ("hus.nc", "out.nc")


def wrong_units() -> tuple[str, ...]:
    write_tas(Path("tas.nc"), units="m s-1")
    return ("tas.nc", "out.nc")


def wrong_region() -> tuple[str, ...]:
    write_tas(Path("tas.nc"), lon=(100.5, 101.5, 102.5, 103.5))
    return ("tas.nc", "out.nc")


def half_the_region() -> tuple[str, ...]:
    write_tas(Path("tas.nc"), lon=(-3.5, -2.5))
    return ("tas.nc", "out.nc")


def summer() -> tuple[str, ...]:
    write_tas(Path("tas.nc"), time_units="days since 2001-07-01")
    return ("tas.nc", "out.nc")


def other_period() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    return ("tas.nc", "out.nc", "--time", "1850/1860")


def all_missing() -> tuple[str, ...]:
    write_tas(Path("tas.nc"), missing=np.ones((3, 4), dtype=bool))
    return ("tas.nc", "out.nc")


def one_day_missing() -> tuple[str, ...]:
    def gap(lat: Floats, lon: Floats, step: int) -> Floats:
        return warmth(lat, lon, step) if step != 1 else np.full_like(lat + lon, np.nan)

    write_tas(Path("tas.nc"), values=gap)
    return ("tas.nc", "out.nc")


def infinite() -> tuple[str, ...]:
    def broken(lat: Floats, lon: Floats, step: int) -> Floats:
        return np.where((lat > 42) & (lon > -1) & (step == 1), np.inf, warmth(lat, lon, step))

    write_tas(Path("tas.nc"), values=broken)
    return ("tas.nc", "out.nc")


def output_exists() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    Path("old.nc").write_text("precious")
    return ("tas.nc", "old.nc")


def output_folder_missing() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    return ("tas.nc", "nowhere/out.nc")


def output_is_input() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    return ("tas.nc", "tas.nc", "--overwrite")


def corrupt_prior() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    weights = Path("tiny") / MODEL_FILE
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return ("tas.nc", "out.nc")


def missing_prior() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    shutil.rmtree("tiny")
    return ("tas.nc", "out.nc")


def different_times() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    write_pr(Path("pr.nc"), days=(3.5, 4.5, 5.5))
    return ("tas.nc", "pr.nc", "out.nc")


def mesh_of_half_the_region() -> tuple[str, ...]:
    cells = rotated_pole(ny=20, nx=10, spacing=0.5, south_west=(-12.0, -20.0))
    mesh_dataset(cells=cells, path=Path("tas.nc"))
    return ("tas.nc", "out.nc")


def mesh_elsewhere() -> tuple[str, ...]:
    mesh_dataset(cells=rotated_pole(south_west=(-10.0, 40.0)), path=Path("tas.nc"))
    return ("tas.nc", "out.nc")


def members_left_open() -> tuple[str, ...]:
    along(_coarse(), "realization", [3, 4]).to_netcdf("tas.nc")
    return ("tas.nc", "out.nc")


def unknown_member() -> tuple[str, ...]:
    along(_coarse(), "realization", [3, 4]).to_netcdf("tas.nc")
    return ("tas.nc", "out.nc", "--select", "realization=5")


def unknown_dimension() -> tuple[str, ...]:
    along(_coarse(), "realization", [3, 4]).to_netcdf("tas.nc")
    return ("tas.nc", "out.nc", "--select", "member=3")


def dimension_of_one_file_only() -> tuple[str, ...]:
    along(_coarse(), "realization", [3, 4]).to_netcdf("tas.nc")
    write_pr(Path("pr.nc"))
    return ("tas.nc", "pr.nc", "out.nc", "--select", "realization=3")


def selection_without_label() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    return ("tas.nc", "out.nc", "--select", "realization")


def selection_without_dimension() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    return ("tas.nc", "out.nc", "--select", "=3")


def selection_twice() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    return ("tas.nc", "out.nc", "--select", "m=3", "--select", "m=4")


def upper_air() -> tuple[str, ...]:
    write_tas(Path("ta.nc"), name="ta", height=None)
    return ("ta.nc", "out.nc")


def an_extreme() -> tuple[str, ...]:
    write_tas(Path("tasmax.nc"), name="tasmax")
    return ("tasmax.nc", "out.nc")


def two_candidates() -> tuple[str, ...]:
    twin = {"standard_name": "air_temperature", "units": "K"}
    write_tas(Path("tas.nc"), name="a", others={"b": twin})
    return ("tas.nc", "out.nc")


def overlapping_files() -> tuple[str, ...]:
    write_tas(Path("tas_1.nc"))
    write_tas(Path("tas_2.nc"), days=(2.5, 3.5))
    return ("tas_*.nc", "out.nc")


def mixed_calendars() -> tuple[str, ...]:
    write_tas(Path("tas_1.nc"))
    write_tas(Path("tas_2.nc"), days=(3.5, 4.5), calendar="360_day")
    return ("tas_*.nc", "out.nc")


def mixed_grids() -> tuple[str, ...]:
    write_tas(Path("tas_1.nc"))
    write_tas(Path("tas_2.nc"), days=(3.5, 4.5), lat=(40.5, 41.5))
    return ("tas_*.nc", "out.nc")


def mixed_units() -> tuple[str, ...]:
    write_tas(Path("tas_1.nc"))
    write_tas(Path("tas_2.nc"), days=(3.5, 4.5), units="degC")
    return ("tas_*.nc", "out.nc")


def unknown_units() -> tuple[str, ...]:
    write_tas(Path("tas.nc"), units="degrees of frost")
    return ("tas.nc", "out.nc")


def no_units() -> tuple[str, ...]:
    write_tas(Path("tas.nc"), units=None)
    return ("tas.nc", "out.nc")


def rain_of_unknown_length() -> tuple[str, ...]:
    write_pr(Path("pr.nc"), units="mm", days=(0.5,))
    return ("pr.nc", "out.nc")


def celsius_labelled_kelvin() -> tuple[str, ...]:
    write_tas(Path("tas.nc"), values=lambda lat, lon, t: warmth(lat, lon, t) - 273.15)
    return ("tas.nc", "out.nc")


def undeclared_fill() -> tuple[str, ...]:
    dataset = _coarse()
    dataset["tas"][1, 2] = 1e36
    dataset.to_netcdf("tas.nc", encoding={"tas": {"_FillValue": None}})
    return ("tas.nc", "out.nc")


def undecodable_times() -> tuple[str, ...]:
    write_tas(Path("tas.nc"), time_units="months since 2000-01-01")
    return ("tas.nc", "out.nc")


def descending_times() -> tuple[str, ...]:
    write_tas(Path("tas.nc"), days=(2.5, 1.5, 0.5))
    return ("tas.nc", "out.nc")


def a_folder() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    return (".", "out.nc")


def damaged_values() -> tuple[str, ...]:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 60, 80))
    dataset = _coarse(
        lat=np.linspace(39.0, 44.0, 60),
        lon=np.linspace(-5.0, 1.0, 80),
        values=lambda lat, lon, step: 280.0 + noise[step],
    )
    dataset.to_netcdf("tas.nc", encoding={"tas": {"zlib": True, "chunksizes": (1, 60, 80)}})
    content = bytearray(Path("tas.nc").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    Path("tas.nc").write_bytes(bytes(content))
    return ("tas.nc", "out.nc")


def _coarse(**options: Any) -> xr.Dataset:
    settings = {"lat": LAT, "lon": LON, "values": warmth, **options}
    return make_dataset(**settings)


def only_one_file() -> tuple[str, ...]:
    return ("tas.nc",)


def bad_period() -> tuple[str, ...]:
    write_tas(Path("tas.nc"))
    return ("tas.nc", "out.nc", "--time", "yesterday")


def bad_batch_size() -> tuple[str, ...]:
    return ("tas.nc", "out.nc", "--batch-size", "many")


def bad_filter_scale() -> tuple[str, ...]:
    return ("tas.nc", "out.nc", "--filter-scale", "coarse")


@pytest.mark.parametrize(
    ("prepare", "code", "words"),
    [
        (no_such_file, 3, ["no such file", "nowhere.nc"]),
        (no_match, 3, ["no file matches", "tas_*.nc"]),
        (not_netcdf, 3, ["tas.nc", "cannot be read as NetCDF"]),
        (truncated, 3, ["tas.nc", "cannot be read as NetCDF"]),
        (no_time_axis, 3, ["tas.nc", "has no time axis"]),
        (unknown_variable, 3, ["air_temperature", "'hus' (specific_humidity)"]),
        (wrong_units, 3, ["air_temperature", "units 'm s-1'"]),
        (wrong_region, 4, ["does not touch the region", "tiny"]),
        (half_the_region, 4, ["covers", "need at least 90%"]),
        (summer, 3, ["has months 7", "knows months 1, 2, 12"]),
        (other_period, 3, ["no time step lies in 1850/1860", "2001-01-01"]),
        (all_missing, 3, ["is missing everywhere"]),
        (one_day_missing, 3, ["no value at all", "at 1 of 3 steps", "2001-01-02"]),
        (infinite, 3, ["has infinite values", "2001-01-02"]),
        (output_exists, 6, ["old.nc exists already", "--overwrite"]),
        (output_folder_missing, 6, ["nowhere", "does not exist"]),
        (output_is_input, 2, ["both input and output"]),
        (corrupt_prior, 5, ["model.safetensors has SHA-256", "damaged"]),
        (missing_prior, 5, ["no prior 'tiny'"]),
        (different_times, 3, ["time axis of pr", "differs from"]),
        (mesh_of_half_the_region, 4, ["tas.nc: the grid (curvilinear", "need at least 90%"]),
        (mesh_elsewhere, 4, ["tas.nc: the grid (curvilinear", "does not touch"]),
        (members_left_open, 3, ["(realization=2)", "--select realization=3"]),
        (unknown_member, 3, ["tas.nc", "no realization '5'; it has 3, 4"]),
        (unknown_dimension, 3, ["tas.nc", "no dimension 'member'", "longitude: realization"]),
        (dimension_of_one_file_only, 3, ["pr.nc", "no dimension 'realization'", "none"]),
        (selection_without_label, 2, ["--select is 'realization'", "expected DIM=LABEL"]),
        (selection_without_dimension, 2, ["--select is '=3'", "expected DIM=LABEL"]),
        (selection_twice, 2, ["--select names a dimension twice"]),
        (upper_air, 3, ["'ta' (on a pressure level, by its name)"]),
        (an_extreme, 3, ["'tasmax' (an extreme, by its name)"]),
        (two_candidates, 3, ["tas.nc: several variables could be tas: a, b", "cdo selname"]),
        (overlapping_files, 3, ["tas_1.nc and tas_2.nc: times do not ascend"]),
        (mixed_calendars, 3, ["tas_2.nc: its calendar 360_day differs from standard of tas_1.nc"]),
        (mixed_grids, 3, ["tas_2.nc: its grid", "differs from that of tas_1.nc"]),
        (mixed_units, 3, ["tas_2.nc: its units 'degC' differ from 'K' of tas_1.nc"]),
        (unknown_units, 3, ["tas.nc", "'tas' (units 'degrees of frost')"]),
        (no_units, 3, ["tas.nc", "'tas' (no units)"]),
        (rain_of_unknown_length, 3, ["pr.nc: variable 'pr' holds amounts", "add bounds of time"]),
        (celsius_labelled_kelvin, 3, ["tas.nc", "100.00% of its values", "its units are 'K'"]),
        (undeclared_fill, 3, ["tas.nc", "1e+36 values, first at 2001-01-02", "_FillValue"]),
        (undecodable_times, 3, ["tas.nc: the time axis cannot be decoded", "months since"]),
        (descending_times, 3, ["tas.nc: times do not ascend"]),
        (a_folder, 3, [". is a folder; name its files"]),
        (damaged_values, 3, ["tas.nc: variable 'tas' cannot be read", "may be damaged"]),
        (only_one_file, 2, ["at least one INPUT and then OUTPUT"]),
        (bad_period, 2, ["cannot read the period 'yesterday'"]),
        (bad_batch_size, 2, ["--batch-size is 'many'; expected a whole number or auto"]),
        (bad_filter_scale, 2, ["--filter-scale is 'coarse'; expected a number, auto or native"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_bad_input_ends_in_one_line_and_writes_nothing(
    shell: Shell, prepare: Prepare, code: int, words: list[str]
) -> None:
    arguments = prepare()
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = shell("run", *arguments, "--prior", "tiny")
    assert result.code == code, result.err
    for word in words:
        assert word in result.message
    assert result.out == ""
    after = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_refused(shell: Shell) -> None:
    write_tas(Path("tas.nc"))
    result = shell("run", "tas.nc", "out.nc", "--prior", "tiny", "--device", "cuda")
    assert result.code == 2
    assert "no CUDA device" in result.message


def test_unknown_options_and_commands_end_with_code_2(shell: Shell) -> None:
    for words in (("run", "a.nc", "b.nc", "--frobnicate"), ("frobnicate",)):
        result = shell(*words)
        assert result.code == 2
        assert "frobnicate" in result.message
