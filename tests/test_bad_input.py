"""Bad input: one clear line, the documented exit code, no traceback, nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from climdown.priors.card import MODEL_FILE
from tests.commands import Shell, warmth, write_pr, write_tas
from tests.factories import Floats, make_dataset
from tests.priors import write_tiny_prior

Prepare = Callable[[], tuple[str, ...]]


@pytest.fixture(autouse=True)
def tiny(shell: Shell) -> None:
    """Every test finds the prior `tiny` in its folder."""
    write_tiny_prior(Path("tiny"))


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


def curvilinear() -> tuple[str, ...]:
    y, x = np.meshgrid([40.5, 41.5, 42.5], [-3.5, -2.5, -1.5, -0.5], indexing="ij")
    attributes = {"standard_name": "air_temperature", "units": "K"}
    dataset = xr.Dataset(
        {"tas": (("time", "j", "i"), np.full((1, 3, 4), 280.0), attributes)},
        {
            "time": ("time", [0.5], {"units": "days since 2001-01-01", "standard_name": "time"}),
            "lat": (("j", "i"), y, {"standard_name": "latitude", "units": "degrees_north"}),
            "lon": (("j", "i"), x, {"standard_name": "longitude", "units": "degrees_east"}),
        },
    )
    dataset.to_netcdf("tas.nc")
    return ("tas.nc", "out.nc")


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
        (curvilinear, 3, ["curvilinear", "cdo remapcon"]),
        (only_one_file, 2, ["at least one INPUT and then OUTPUT"]),
        (bad_period, 2, ["cannot read the period 'yesterday'"]),
        (bad_batch_size, 2, ["batch size is 'many'"]),
        (bad_filter_scale, 2, ["filter scale is 'coarse'"]),
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
    assert shell("run", "a.nc", "b.nc", "--frobnicate").code == 2
    assert shell("frobnicate").code == 2
