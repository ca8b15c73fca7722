"""The output file: what is in it, how it is stored, and that it is whole or not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cftime
import netCDF4
import numpy as np
import numpy.typing as npt
import pytest

from climdown import cf
from climdown.errors import OutputError, ResumeError
from climdown.grid import Grid
from climdown.stream import (
    FILL_VALUE,
    OutputVariable,
    PartStore,
    Template,
    join,
    write_fields,
    writing,
)
from tests.factories import TAS

GRID = Grid.regular(40.0, 42.0, -3.0, 0.0, 0.5)  # 4 x 6 cells
TIMES, MEMBERS = 7, 3
VARIABLES = (
    OutputVariable(
        "tas",
        {
            "standard_name": "air_temperature",
            "long_name": "Temperature",
            "units": "K",
            "cell_methods": "time: mean",
        },
    ),
    OutputVariable("pr", {"standard_name": "precipitation_flux", "units": "kg m-2 s-1"}),
)


def axis(times: int = TIMES) -> cf.TimeAxis:
    dates = [cftime.DatetimeNoLeap(2001, 2, 25 + i) for i in range(times) if i < 4]
    dates += [cftime.DatetimeNoLeap(2001, 3, 1 + i) for i in range(times - len(dates))]
    return cf.time_axis(dates, units="days since 1850-01-01", bounded=True)


def make_template(members: int = MEMBERS, times: int = TIMES, grid: Grid = GRID) -> Template:
    return Template(grid, axis(times), VARIABLES, members, {"title": "A test", "seed": np.int32(3)})


def make_values(template: Template) -> npt.NDArray[np.float32]:
    """Random temperatures, shape (time, member, variable, ny, nx); one corner is missing."""
    shape = (len(template.time), template.members, 2, *template.grid.shape)
    values = np.random.default_rng(0).normal(280.0, 5.0, shape).astype(np.float32)
    values[..., 0, 0] = np.nan
    return values


def fill(
    output: Path, template: Template, values: npt.NDArray[np.float32], size: int = 4
) -> PartStore:
    store = PartStore.open(
        output,
        times=len(template.time),
        members=template.members,
        identity={},
        discard=False,
    )
    fields = values.reshape(-1, *values.shape[2:])
    for start in range(0, len(fields), size):
        store.write(start, fields[start : start + size])
    return store


@pytest.fixture(scope="module")
def values() -> npt.NDArray[np.float32]:
    return make_values(make_template())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.nc"


@pytest.fixture(scope="module")
def file(
    tmp_path_factory: pytest.TempPathFactory, values: npt.NDArray[np.float32]
) -> Iterator[netCDF4.Dataset]:
    output = tmp_path_factory.mktemp("join") / "out.nc"
    join(fill(output, make_template(), values), make_template(), output)
    with netCDF4.Dataset(output) as dataset:
        yield dataset


@pytest.mark.parametrize("size", [1, 2, 4, 21])
def test_members_and_their_statistics_do_not_depend_on_the_units(
    size: int, output: Path, values: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Chunks of three steps, so that blocks of the file and units overlap.
    monkeypatch.setattr(writing, "CHUNK_BYTES", 3 * 4 * 24)
    join(fill(output, make_template(), values, size), make_template(), output)
    with netCDF4.Dataset(output) as file:
        assert file["tas"].chunking() == [3, 1, 4, 6]
        for index, name in enumerate(("tas", "pr")):
            members = values[:, :, index].astype(np.float64)
            np.testing.assert_array_equal(file[name][:].filled(np.nan), values[:, :, index])
            mean, spread = (file[f"{name}_{s}"][:].filled(np.nan) for s in ("mean", "spread"))
            np.testing.assert_allclose(mean, members.mean(axis=1), rtol=1e-6)
            np.testing.assert_allclose(spread, members.std(axis=1, ddof=1), rtol=1e-6)


def test_a_small_spread_about_a_large_mean_is_not_lost(output: Path) -> None:
    template = make_template(members=2)
    values = make_values(template)
    values[:, 0], values[:, 1] = 101325.0, 101325.0625  # exact in float32
    join(fill(output, template, values), template, output)
    with netCDF4.Dataset(output) as file:
        np.testing.assert_allclose(file["tas_spread"][:], 0.0625 / np.sqrt(2.0), rtol=1e-6)


def test_the_spread_of_one_member_is_missing(output: Path) -> None:
    template = make_template(members=1)
    values = make_values(template)
    join(fill(output, template, values), template, output)
    with netCDF4.Dataset(output) as file:
        assert file["tas_spread"][:].mask.all()
        np.testing.assert_array_equal(file["tas_mean"][:].filled(np.nan), values[:, 0, 0])
        np.testing.assert_array_equal(file["realization"][:], [1])


def test_missing_values_are_stored_as_the_fill_value(file: netCDF4.Dataset) -> None:
    for name in ("tas", "tas_mean", "tas_spread", "pr", "pr_mean", "pr_spread"):
        variable = file[name]
        variable.set_auto_mask(False)
        stored = variable[:]
        variable.set_auto_mask(True)
        assert (stored[..., 0, 0] == FILL_VALUE).all()
        assert (stored == FILL_VALUE).sum() == stored[..., 0, 0].size
        assert np.isfinite(stored).all()
        assert variable._FillValue == variable.missing_value == FILL_VALUE


def test_dimensions_stand_in_the_order_other_tools_read(file: netCDF4.Dataset) -> None:
    assert file["tas"].dimensions == ("time", "realization", "lat", "lon")
    assert file["tas_mean"].dimensions == file["tas_spread"].dimensions == ("time", "lat", "lon")
    assert file.dimensions["time"].isunlimited()
    assert file["realization"].standard_name == "realization"
    assert file["realization"].dtype == np.int32
    assert "axis" not in file["realization"].ncattrs()
    np.testing.assert_array_equal(file["realization"][:], [1, 2, 3])


def test_attributes_follow_cf(file: netCDF4.Dataset) -> None:
    tas, mean, spread = (file[name] for name in ("tas", "tas_mean", "tas_spread"))
    assert tas.ancillary_variables == "tas_mean tas_spread"
    assert tas.cell_methods == "time: mean"
    assert mean.cell_methods == "time: mean realization: mean"
    assert spread.cell_methods == "time: mean realization: standard_deviation"
    assert mean.long_name == "Temperature, ensemble mean"
    assert {v.standard_name for v in (tas, mean, spread)} == {"air_temperature"}
    assert {v.units for v in (tas, mean, spread)} == {"K"}
    assert tas.units_metadata == mean.units_metadata == "temperature: on_scale"
    assert spread.units_metadata == "temperature: difference"
    assert "units_metadata" not in file["pr_spread"].ncattrs()
    assert file["pr_mean"].cell_methods == "realization: mean"
    assert (file.title, file.seed) == ("A test", 3)


def test_values_are_compressed_in_chunks_that_cmip_asks_for(file: netCDF4.Dataset) -> None:
    filters = file["tas"].filters()
    assert (filters["zlib"], filters["shuffle"], filters["complevel"]) == (True, True, 4)
    assert file["tas"].dtype == np.float32
    assert file["tas"].chunking() == [TIMES, 1, 4, 6]  # one chunk holds it all
    assert file["tas_mean"].chunking() == [TIMES, 4, 6]
    assert file["time"].chunking() == [TIMES]
    assert file["time_bnds"].chunking() == [TIMES, 2]


@pytest.mark.parametrize("shape", [(2, 3), (100, 200), (720, 1440), (2000, 3000)])
def test_chunks_hold_four_mebibytes_or_the_whole_series(shape: tuple[int, int]) -> None:
    lat, lon = np.linspace(-80.0, 80.0, shape[0]), np.linspace(0.0, 200.0, shape[1])
    grid, long = Grid.from_centres(lat, lon), axis(28)
    long = dataclasses.replace(long, dates=np.tile(long.dates, 100))
    steps = writing.chunk_steps(grid, long)
    size = 4 * shape[0] * shape[1]
    assert 1 <= steps <= len(long)
    assert steps == len(long) or steps * size >= 4 << 20
    assert steps == 1 or (steps - 1) * size < 4 << 20


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_the_time_axis_is_that_of_the_input_bit_for_bit(dtype: Any, output: Path) -> None:
    time = axis()
    time = dataclasses.replace(time, values=np.floor(time.values * 3.7).astype(dtype))
    template = dataclasses.replace(make_template(), time=time)
    join(fill(output, template, make_values(template)), template, output)
    with netCDF4.Dataset(output) as file:
        stored = file["time"]
        assert stored.dtype == dtype
        assert stored[:].filled().tobytes() == time.values.tobytes()
        assert (stored.units, stored.calendar) == ("days since 1850-01-01", "noleap")
        assert stored.bounds == "time_bnds"
        assert time.bounds is not None
        assert file["time_bnds"][:].filled().tobytes() == time.bounds.tobytes()


def test_a_time_axis_without_bounds_stays_without(output: Path) -> None:
    time = dataclasses.replace(axis(), bounds=None)
    template = dataclasses.replace(make_template(), time=time)
    join(fill(output, template, make_values(template)), template, output)
    with netCDF4.Dataset(output) as file:
        assert "time_bnds" not in file.variables
        assert "bounds" not in file["time"].ncattrs()


def test_axes_come_with_their_bounds(file: netCDF4.Dataset) -> None:
    for name, centres, edges in (
        ("lat", GRID.lat, GRID.lat_edges),
        ("lon", GRID.lon, GRID.lon_edges),
    ):
        np.testing.assert_array_equal(file[name][:], centres)
        bounds = file[file[name].bounds][:]
        np.testing.assert_array_equal(bounds, np.stack([edges[:-1], edges[1:]], axis=1))
        assert "_FillValue" not in file[name].ncattrs()
    assert (file["lat"].units, file["lon"].units) == ("degrees_north", "degrees_east")


def test_the_output_reads_back_as_a_field(output: Path, values: npt.NDArray[np.float32]) -> None:
    template = make_template(members=1)
    join(fill(output, template, values[:, :1]), template, output)
    quantity = dataclasses.replace(TAS, standard_names=("air_temperature",))
    field = cf.open_field(output, quantity)
    assert field.source_name == "tas"  # not its mean
    assert field.grid.digest == GRID.digest
    np.testing.assert_array_equal(field.read(slice(None)), values[:, 0, 0])


@pytest.mark.parametrize("before", [None, b"the output of an earlier run"])
def test_an_interrupted_join_leaves_no_trace(
    before: bytes | None, output: Path, values: npt.NDArray[np.float32]
) -> None:
    if before is not None:
        output.write_bytes(before)
    store = fill(output, make_template(), values)
    (store.folder / "unit-000000012-000000016.npy").write_bytes(b"damaged")
    with pytest.raises(ResumeError, match=r"unit-000000012-000000016\.npy is damaged"):
        join(store, make_template(), output)
    found = {path.name: path for path in output.parent.iterdir()}
    assert set(found) == {".out.nc.parts"} | ({"out.nc"} if before else set())
    if before is not None:
        assert output.read_bytes() == before


def test_an_output_that_cannot_be_placed_is_an_output_error(
    output: Path, values: npt.NDArray[np.float32]
) -> None:
    store = fill(output, make_template(), values)
    output.mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*out\.nc: Is a directory"):
        join(store, make_template(), output)
    assert sorted(path.name for path in output.parent.iterdir()) == [".out.nc.parts", "out.nc"]


def test_plain_fields_come_back_through_the_reader(output: Path) -> None:
    values = make_values(make_template())[:, 0, 0]
    attributes = {"Conventions": "CF-1.8"}
    variables = [(VARIABLES[0], values)]
    write_fields(output, grid=GRID, time=axis(), variables=variables, attributes=attributes)
    field = cf.open_field(output, TAS)
    assert field.grid.digest == GRID.digest
    assert list(field.time.dates) == list(axis().dates)
    assert field.time.values.tobytes() == axis().values.tobytes()
    assert field.global_attributes == attributes
    np.testing.assert_array_equal(field.read(slice(None)), values)
    assert [path.name for path in output.parent.iterdir()] == ["out.nc"]


def test_plain_fields_of_a_wrong_shape_leave_no_file(output: Path) -> None:
    values = np.zeros((TIMES, 3, 3), dtype=np.float32)
    with pytest.raises((ValueError, IndexError)):
        write_fields(
            output, grid=GRID, time=axis(), variables=[(VARIABLES[0], values)], attributes={}
        )
    assert list(output.parent.iterdir()) == []
