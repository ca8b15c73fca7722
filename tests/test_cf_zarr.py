"""Zarr stores and addresses: found, opened lazily, and read as the archives of ERA5 are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray as xr

from climdown import cf, files
from climdown.cf import Quantity, Url, open_field
from climdown.errors import InputError
from climdown.inputs import inspection
from climdown.inputs.targets import named_grid
from climdown.priors.prior import Prior
from climdown.regrid import file
from tests.archives import GRAVITY, archive_grid, write_arco_era5, write_weatherbench
from tests.commands import Shell, read_members, write_tas
from tests.factories import PSL, TAS, assert_holds_truth, make_dataset

UAS = Quantity("uas", ("eastward_wind",), ("uas", "10m_u_component_of_wind"), "m s-1")
Z500 = Quantity("zg500", ("geopotential", "geopotential_height"), ("zg500",), "m", 50_000.0)
Z250 = Quantity("zg250", ("geopotential", "geopotential_height"), ("zg250",), "m", 25_000.0)
PR = Quantity("pr", ("precipitation_flux",), ("total_precipitation",), "mm day-1")
PR_24 = Quantity("pr", ("precipitation_flux",), ("total_precipitation_24hr",), "mm day-1")
MASK = Quantity("sftlf", ("land_binary_mask",), ("land_sea_mask",), "1")
FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])
RTOL = 4e-7  # one rounding to float32 in the store, one on reading


def expected(dataset: xr.Dataset, name: str, **index: int) -> Any:
    """What a store holds, as (time, lat, lon) on ascending axes."""
    array = dataset[name].sel(index)
    return array.sortby("latitude").transpose("time", "latitude", "longitude").values


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address within this process, of which nothing is left afterwards."""
    fsspec = pytest.importorskip("fsspec")
    yield f"memory://{request.node.name}"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the test's folder."""
    pytest.importorskip("aiohttp")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@FORMATS
def test_arco_era5_is_read_as_it_lies(tmp_path: Path, zarr_format: Literal[2, 3]) -> None:
    path = tmp_path / "full_37-1h-0p25deg-chunk-1.zarr-v3"
    written = write_arco_era5(path, zarr_format=zarr_format)
    psl, uas, high, pr = (open_field(path, q) for q in (PSL, UAS, Z250, PR))
    assert psl.grid.digest == archive_grid(written).digest
    assert psl.grid.lat_edges[[0, -1]].tolist() == [-90.0, 90.0]
    assert psl.source_name == "mean_sea_level_pressure"
    np.testing.assert_allclose(
        psl.read(slice(None)), expected(written, "mean_sea_level_pressure"), rtol=RTOL
    )
    wind = expected(written, "10m_u_component_of_wind")
    np.testing.assert_allclose(uas.read(slice(3, 9)), wind[3:9], rtol=RTOL, atol=1e-6)
    height = expected(written, "geopotential", level=250) / GRAVITY
    np.testing.assert_allclose(high.read(slice(None)), height, rtol=RTOL)
    assert 9_000.0 < height.mean() < 11_000.0
    # Metres an hour to millimetres a day.
    rain = expected(written, "total_precipitation") * 24_000.0
    np.testing.assert_allclose(pr.read(slice(None)), rain, rtol=2 * RTOL)
    assert 0.0 < rain.mean() < 20.0


@FORMATS
@pytest.mark.parametrize("longitude_first", [True, False])
def test_weatherbench_is_read_as_it_lies(
    tmp_path: Path, zarr_format: Literal[2, 3], longitude_first: bool
) -> None:
    path = tmp_path / "240x121.zarr"
    written = write_weatherbench(path, zarr_format=zarr_format, longitude_first=longitude_first)
    psl, z500, pr = (open_field(path, q) for q in (PSL, Z500, PR_24))
    assert psl.grid.digest == archive_grid(written).digest
    np.testing.assert_allclose(
        psl.read(slice(None)), expected(written, "mean_sea_level_pressure"), rtol=RTOL
    )
    height = expected(written, "geopotential", level=500) / GRAVITY
    np.testing.assert_allclose(z500.read(slice(1, 6)), height[1:6], rtol=RTOL)
    assert 5_000.0 < height.mean() < 6_000.0
    # A day's amount at each step, though steps are six hours apart.
    rain = expected(written, "total_precipitation_24hr") * 1_000.0
    np.testing.assert_allclose(pr.read(slice(None)), rain, rtol=2 * RTOL)


def test_amounts_over_hours_that_a_name_states_make_one_rate(tmp_path: Path) -> None:
    write_weatherbench(tmp_path / "wb.zarr", days=30)
    name = "total_precipitation_6hr"
    six = Quantity("pr", ("precipitation_flux",), (name,), "mm day-1")
    means = [open_field(tmp_path / "wb.zarr", q).read(slice(None)).mean() for q in (six, PR_24)]
    assert means[0] == pytest.approx(means[1], rel=0.05)


def test_the_time_axis_is_kept_as_it_was_written(tmp_path: Path) -> None:
    write_arco_era5(tmp_path / "era5.zarr", start="2020-02-28", days=3, hours=6)
    time = open_field(tmp_path / "era5.zarr", PSL).time
    assert (time.units, time.calendar) == ("hours since 1900-01-01", "proleptic_gregorian")
    assert time.values.dtype == np.int64
    assert np.diff(time.values).tolist() == [6] * 11
    assert [(d.month, d.day) for d in time.dates[[0, 4, 8]]] == [(2, 28), (2, 29), (3, 1)]


def test_crops_and_blocks_of_a_store_are_those_of_the_whole(tmp_path: Path) -> None:
    written = write_weatherbench(tmp_path / "wb.zarr", days=4)
    whole = open_field(tmp_path / "wb.zarr", PSL)
    # A region over the seam: columns of both ends.
    lon = np.arange(-60.0, 61.0, 30.0)
    target = archive_grid(written).from_centres(np.arange(0.0, 61.0, 30.0), lon)
    part = whole.crop(target).isel(slice(5, 11))
    values = whole.read(slice(5, 11))[:, 3:6][..., [10, 11, 0, 1, 2]]
    np.testing.assert_array_equal(part.read(slice(None)), values)


def test_nothing_is_loaded_at_opening(tmp_path: Path) -> None:
    write_arco_era5(tmp_path / "era5.zarr")
    for chunk in (tmp_path / "era5.zarr" / "mean_sea_level_pressure").glob("[0-9]*"):
        chunk.write_bytes(b"damaged")
    field = open_field(tmp_path / "era5.zarr", PSL)
    with pytest.raises(
        InputError, match=r"era5.zarr: variable 'mean_sea.* cannot be read .*may be d"
    ):
        field.read(slice(0, 1))


def test_static_fields_have_plausible_units(tmp_path: Path) -> None:
    write_arco_era5(tmp_path / "era5.zarr")
    mask = open_field(tmp_path / "era5.zarr", MASK).read(slice(0, 1))
    assert set(np.unique(mask)) == {0.0, 1.0}


@pytest.mark.parametrize("name", ["level", "isobaricInhPa"])
@pytest.mark.parametrize(
    ("values", "attributes"),
    [
        (np.arange(1, 138), {}),  # model levels
        ([50_000, 85_000], {}),
        ([500, 850], {"units": "1"}),
        ([500, 850], {"standard_name": "height"}),
        ([0.5, 1.0], {}),
    ],
)
def test_axes_that_may_be_no_pressure_are_not_taken_for_one(
    name: str, values: Any, attributes: dict[str, str], tmp_path: Path
) -> None:
    data = np.zeros((1, len(values), 2, 3), np.float32)
    xr.Dataset(
        {"z": (("time", name, "lat", "lon"), data, {"units": "m2 s-2"})},
        {
            "time": ("time", [0], {"units": "days since 2000-01-01"}),
            name: (name, values, attributes),
            "lat": [0.0, 1.0],
            "lon": [0.0, 1.0, 2.0],
        },
    ).to_netcdf(tmp_path / "z.nc")
    z = Quantity("zg", ("geopotential",), ("z",), "m", 50_000.0)
    with pytest.raises(InputError, match=r"further dimensions .*choose one entry"):
        open_field(tmp_path / "z.nc", z)


def test_one_level_of_an_axis_without_units_is_selected_by_its_value(tmp_path: Path) -> None:
    written = write_weatherbench(tmp_path / "wb.zarr", levels=(500,))
    z500 = open_field(tmp_path / "wb.zarr", Z500).read(slice(None))
    np.testing.assert_allclose(
        z500, expected(written, "geopotential", level=500) / GRAVITY, rtol=RTOL
    )
    with pytest.raises(InputError, match="levels 500 hPa, not 250"):
        open_field(tmp_path / "wb.zarr", Z250)


@FORMATS
@pytest.mark.parametrize("write", [write_arco_era5, write_weatherbench])
def test_stores_are_read_by_address(
    memory: str, write: Callable[..., xr.Dataset], zarr_format: int
) -> None:
    written = write(f"{memory}/era5.zarr", zarr_format=zarr_format)
    field = open_field(f"{memory}/era5.zarr", PSL)
    assert field.paths == (Url(f"{memory}/era5.zarr"),)
    np.testing.assert_allclose(
        field.read(slice(None)), expected(written, "mean_sea_level_pressure"), rtol=RTOL
    )


def test_stores_behind_addresses_are_joined_along_time(memory: str) -> None:
    for year in ("2019", "2020"):
        write_arco_era5(f"{memory}/{year}.zarr", start=f"{year}-01-01", days=1)
    field = open_field([f"{memory}/2020.zarr", f"{memory}/2019.zarr"], PSL)
    assert [Url(path).name for path in map(str, field.paths)] == ["2019.zarr", "2020.zarr"]
    assert len(field.time) == 48


@pytest.mark.parametrize("file", ["era5.zarr", "tas.nc"])
def test_stores_and_netcdf_files_are_read_over_http(tmp_path: Path, served: str, file: str) -> None:
    if file == "tas.nc":
        pytest.importorskip("h5py")
        make_dataset(path=tmp_path / file)
        assert_holds_truth(open_field(f"{served}/{file}", TAS))
    else:
        written = write_weatherbench(tmp_path / file)
        values = open_field(f"{served}/{file}", PSL).read(slice(2, 4))
        truth = expected(written, "mean_sea_level_pressure")[2:4]
        np.testing.assert_allclose(values, truth, rtol=RTOL)


def test_a_connection_lost_while_reading_ends_in_one_line(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_arco_era5(f"{memory}/era5.zarr")
    field = open_field(f"{memory}/era5.zarr", PSL)

    class LostError(Exception):
        pass

    async def lose(*arguments: Any, **options: Any) -> None:
        raise LostError("429 too many requests")

    monkeypatch.setattr("zarr.storage.FsspecStore.get", lose)
    with pytest.raises(InputError, match=r"\(429 too many requests\); check the network"):
        field.read(slice(None))


def test_local_stores_are_found_beside_files(tmp_path: Path) -> None:
    write_weatherbench(tmp_path / "a.zarr", zarr_format=2)
    write_weatherbench(tmp_path / "b.zarr", zarr_format=3)
    make_dataset(path=tmp_path / "c.nc")
    (tmp_path / "d").mkdir()
    found = cf.expand_paths(
        [tmp_path / "*", f"{tmp_path}/a.zarr", "gs://b/c.zarr", "gs://b/c.zarr"]
    )
    assert found == [*(tmp_path / n for n in ("a.zarr", "b.zarr", "c.nc")), Url("gs://b/c.zarr")]
    assert [cf.is_zarr(path) for path in found] == [True, True, False, True]
    assert cf.describe_paths(found[3:]) == "gs://b/c.zarr"
    assert found[3].name == "c.zarr"


def test_patterns_in_addresses_are_refused() -> None:
    with pytest.raises(InputError, match=r"gs://b/\*\.zarr: patterns work for local files only"):
        cf.expand_paths(["gs://b/*.zarr"])


def test_an_empty_address_says_what_was_expected(memory: str) -> None:
    with pytest.raises(InputError, match=r"nope.zarr: nothing there .*Zarr store \(zarr.json"):
        cf.open_dataset(Url(f"{memory}/nope.zarr"))


@pytest.mark.parametrize(("file", "kind"), [("no.zarr", "Zarr store"), ("no.nc", "NetCDF file")])
def test_a_page_that_is_not_there_says_what_was_expected(served: str, file: str, kind: str) -> None:
    pytest.importorskip("h5py")
    with pytest.raises(InputError, match=f"nothing there .*expected a {kind}"):
        cf.open_dataset(Url(f"{served}/{file}"))


def test_a_host_that_does_not_answer_is_named() -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(InputError, match=r"cannot be reached .*check the address and the network"):
        cf.open_dataset(Url("http://127.0.0.1:9/era5.zarr"))


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(InputError, match="no protocol gopher:// is known; expected gs://, s3://"):
        cf.open_dataset(Url("gopher://b/era5.zarr"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("Please install gcsfs"), r"missing \(Please install gcsfs\).*climdown\[cloud"),
        (ValueError("unrecognized engine 'h5netcdf'"), r"missing .*install 'climdown\[cloud\]'"),
        (PermissionError("Forbidden"), r"refused \(Forbidden\).*credentials in .* FSSPEC_GS"),
        (TimeoutError(), r"cannot be reached \(TimeoutError\)"),
        (ValueError("bad shape"), r"cannot be decoded \(bad shape\)"),
        (ValueError("unable to decode time units 'x'"), r"time axis cannot be decoded"),
    ],
)
def test_what_goes_wrong_behind_an_address_is_explained(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(xr, "open_dataset", fail)
    with pytest.raises(InputError, match=f"^gs://b/era5.zarr: .*{words}"):
        cf.open_dataset(Url("gs://b/era5.zarr"))


def test_bugs_in_opening_local_files_stay_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(xr, "open_dataset", fail)
    with pytest.raises(TypeError, match="a bug"):
        cf.open_dataset(tmp_path / "x.nc")


def test_bugs_in_reading_local_files_stay_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(path=tmp_path / "tas.nc")
    field = open_field(tmp_path / "tas.nc", TAS)

    def fail(*arguments: Any, **options: Any) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(np, "asarray", fail)
    with pytest.raises(TypeError, match="a bug"):
        field.read(slice(None))


def test_a_damaged_store_ends_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "era5.zarr"
    path.mkdir()
    (path / "zarr.json").write_text("{")
    with pytest.raises(InputError, match=r"era5.zarr: cannot be (read as Zarr|decoded)"):
        cf.open_dataset(path)


def test_the_fingerprint_of_a_store_tells_versions_apart(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.zarr" for i in range(3)]
    for path, days in zip(paths, (2, 2, 3), strict=True):
        write_weatherbench(path, days=days)
        for part in path.rglob("*"):
            os.utime(part, ns=(0, 0))
    first, same, longer = (files.file_fingerprint(path) for path in paths)
    assert first == same != longer


def test_the_fingerprint_of_an_address_is_refused() -> None:
    with pytest.raises(InputError, match=r"gs://b/era5.zarr: is a remote address; expected a loc"):
        files.file_fingerprint(Url("gs://b/era5.zarr"))


def test_a_store_is_inspected_and_an_address_is_not(tmp_path: Path) -> None:
    write_weatherbench(tmp_path / "wb.zarr")
    reports = {
        r.name: r for r in inspection.inspect_sources(inspection.open_local(tmp_path / "wb.zarr"))
    }
    assert reports["mean_sea_level_pressure"].quantity == "psl"
    assert reports["total_precipitation_24hr"].quantity == "pr"
    assert reports["mean_sea_level_pressure"].problems == ()
    with pytest.raises(InputError, match="every value is read to inspect it, too much over"):
        inspection.open_local(Url("gs://b/era5.zarr"))


def test_regridding_wants_a_file(tmp_path: Path) -> None:
    write_weatherbench(tmp_path / "wb.zarr")
    with pytest.raises(InputError, match=r"wb.zarr: is a Zarr store; expected a NetCDF file"):
        file.regrid_file(tmp_path / "wb.zarr", tmp_path / "out.nc", target=named_grid("30"))


def test_a_run_from_a_store_is_that_from_its_file(shell: Shell, tiny_prior: Prior) -> None:
    write_tas(Path("tas.nc"))
    with xr.open_dataset("tas.nc", decode_cf=False) as dataset:
        dataset.to_zarr("tas.zarr", zarr_format=2)
    for source in ("tas.nc", "tas.zarr"):
        result = shell("run", source, f"{source}.nc", "--prior", tiny_prior.folder, "--members", 2)
        assert result.code == 0, result.err
    np.testing.assert_array_equal(read_members("tas.zarr.nc"), read_members("tas.nc.nc"))


def test_a_run_from_an_address_is_refused_in_one_line(
    shell: Shell, tiny_prior: Prior, memory: str
) -> None:
    write_tas(Path("tas.nc"))
    with xr.open_dataset("tas.nc", decode_cf=False) as dataset:
        dataset.to_zarr(f"{memory}/tas.zarr", zarr_format=2)
    result = shell("run", f"{memory}/tas.zarr", "out.nc", "--prior", tiny_prior.folder)
    assert result.code == InputError.exit_code
    assert "tas.zarr: is a remote address; expected a local file" in " ".join(result.err.split())
