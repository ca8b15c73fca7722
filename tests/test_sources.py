"""Files are opened once, however many fields are taken from them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from climdown import cf
from climdown.adjust.blocks import adjust_series
from climdown.cf import open_field
from climdown.config import RunConfig
from climdown.errors import InputError
from climdown.pipeline.execution import execute
from climdown.pipeline.planning import make_plan
from climdown.priors.prior import Prior, read_prior
from tests.commands import Shell, run_config, write_pr, write_tas
from tests.factories import PR, TAS, Floats, make_dataset, truth
from tests.priors import write_tiny_prior
from tests.series import PER_DAY, WINTER, daily, noise, write_days
from tests.series import PR as RAIN

AREA = {"lat": np.arange(33.5, 48.0), "lon": np.arange(-13.5, 8.0)}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each NetCDF file has been opened to be read, by its name."""
    counted: Counter[str] = Counter()
    real = netCDF4.Dataset

    class Counting(type):
        """Stands for the class of files: xarray asks what is an instance of it."""

        def __call__(cls, path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            if mode == "r":
                counted[Path(str(path)).name] += 1
            return real(path, mode, *rest, **named)  # type: ignore[arg-type]

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

    monkeypatch.setattr(netCDF4, "Dataset", Counting("Dataset", (), {}))
    return counted


def test_the_counter_sees_every_way_to_open_a_file(opened: Counter[str], tmp_path: Path) -> None:
    path = write_tas(tmp_path / "tas.nc")
    opened.clear()
    netCDF4.Dataset(path).close()
    cf.open_dataset(path).close()
    assert opened == {"tas.nc": 2}


def test_fields_of_several_quantities_share_one_opening(
    opened: Counter[str], tmp_path: Path
) -> None:
    paths = [write_tas(tmp_path / "tas.nc"), write_pr(tmp_path / "pr.nc")]
    opened.clear()
    sources = cf.Sources.open(paths)
    fields = [sources.field(quantity) for quantity in (TAS, PR, TAS)]
    values = [field.read(slice(None)) for field in fields]
    np.testing.assert_array_equal(values[0], values[2])
    assert opened == {"tas.nc": 1, "pr.nc": 1}
    assert sources.dimensions() >= {"time", "lat", "lon"}
    assert sources.describe() == f"{paths[0]} and 1 more"
    sources.close()


def test_what_opened_sources_give_is_what_open_field_gives(tmp_path: Path) -> None:
    path = write_tas(tmp_path / "tas.nc")
    one, other = cf.open_field(path, TAS), cf.Sources.open(path).field(TAS)
    np.testing.assert_array_equal(one.read(slice(None)), other.read(slice(None)))
    assert one.time.values.tobytes() == other.time.values.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_times_are_the_numbers_of_the_file_packed_or_not(packed: bool, tmp_path: Path) -> None:
    path = write_tas(tmp_path / "tas.nc", days=(0.5, 1.5, 2.5))
    if packed:
        with netCDF4.Dataset(path, "a") as file:
            file.set_auto_scale(False)
            values = file["time"][:]
            file["time"].setncatts({"scale_factor": 0.5, "add_offset": -1.0})
            file["time"][:] = (values + 1.0) / 0.5
    axis = cf.open_field(path, TAS).time
    with netCDF4.Dataset(path) as file:
        np.testing.assert_array_equal(axis.values, file["time"][:])


def split(folder: Path, name: str, files: int) -> None:
    """A series of tas over the region of the bundled priors of Iberia, in so many files."""
    for i in range(files):
        days = [2.0 * i + day + 0.5 for day in range(2)]
        write_tas(folder / f"{name}_{i:02d}.nc", days=days, first_step=2 * i, **AREA)


@pytest.mark.parametrize("files", [1, 20])
@pytest.mark.parametrize("options", [{}, {"method": "cm"}, {"period": "2001-01-02/2001-01-02"}])
def test_a_run_without_a_prior_opens_each_input_at_most_twice(
    files: int, options: dict[str, Any], opened: Counter[str], tmp_path: Path
) -> None:
    split(tmp_path, "tas", files)
    opened.clear()
    plan = make_plan(
        [tmp_path / "tas_*.nc"], tmp_path / "out.nc", prior=None, config=RunConfig(**options)
    )
    assert plan.total > 0
    assert len(opened) == files
    assert max(opened.values()) <= 2


@pytest.mark.parametrize("bias", ["qdm", "ot"])
@pytest.mark.parametrize("reference", [(), ("obs_*.nc",)], ids=["prior", "files"])
def test_a_run_with_bias_adjustment_opens_each_file_at_most_twice(
    bias: str,
    reference: tuple[str, ...],
    opened: Counter[str],
    adjusting: Prior,
) -> None:
    if bias == "ot" and not reference:
        pytest.skip("transport needs observations")
    opened.clear()
    config = run_config(
        bias=bias, historical=("hist_*.nc",), reference=reference, members=1, steps=2
    )
    plan = make_plan(["sim_*.nc"], "out.nc", prior=adjusting, config=config)
    assert set(opened) >= {"sim_tas.nc", "sim_pr.nc", "hist_tas.nc", "hist_pr.nc"}
    assert max(opened.values()) <= 2
    # Nor are they opened again while fields are drawn.
    execute(plan, command="test")
    assert max(count for name, count in opened.items() if name != "out.nc") <= 2


@pytest.fixture
def adjusting(shell: Shell) -> Prior:
    """A prior with quantiles, and hist_*.nc, sim_*.nc and obs_*.nc of tas and pr."""
    hist = daily(1991, 2, months=WINTER)
    sim = daily(2051, 2, calendar="noleap", months=WINTER)
    for seed, (name, dates) in enumerate((("hist", hist), ("sim", sim), ("obs", hist))):
        write_days(f"{name}_tas.nc", dates, 278.0 + seed + 3.0 * noise(dates, seed))
        wet = np.maximum(3.0 * noise(dates, 10 + seed), 0.0) / PER_DAY
        write_days(f"{name}_pr.nc", dates, wet, **RAIN)
    return read_prior(write_tiny_prior(Path("tiny"), quantiles=True).folder)


@pytest.mark.parametrize(
    "command",
    [
        ("qdm", "--ref", "obs_tas.nc", "--hist", "hist_*.nc", "sim_tas.nc", "o.nc"),
        ("ot", "--ref", "obs_*.nc", "--hist", "hist_*.nc", "sim_*.nc", "o.nc"),
        ("regrid", "sim_tas.nc", "o.nc", "--grid", "1"),
        ("inspect", "sim_tas.nc"),
    ],
    ids=lambda words: words[0],
)
def test_commands_open_each_file_at_most_twice(
    command: tuple[str, ...], shell: Shell, opened: Counter[str], adjusting: Prior
) -> None:
    opened.clear()
    result = shell(*command)
    assert result.code == 0, result.err
    assert opened
    assert max(opened.values()) <= 2, opened


# --- the adjusted input is computed once


def test_the_adjusted_input_is_computed_once_and_not_again_on_resume(
    shell: Shell, adjusting: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", "sim_*.nc", "--prior", "tiny", "--members", "1", "--steps", "2")
    bias = ("--bias", "qdm", "--historical", "hist_*.nc", "--time", "2051-12-20/2051-12-25")

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("the input is adjusted again")

    with monkeypatch.context() as patched:
        patched.setattr("climdown.pipeline.execution.Worker.sample", stop)
        assert shell(*words, "out.nc", *bias).code == 130
    stage = Path(".out.nc.parts/adjusted")
    assert sorted(path.name for path in stage.iterdir()) == ["pr.npy", "tas.npy"]
    assert np.load(stage / "tas.npy").shape[0] == 6  # the run's steps alone
    with monkeypatch.context() as patched:
        patched.setattr("climdown.adjust.registry.adjust_series", fail)
        result = shell(*words, "out.nc", *bias)
    assert result.code == 0, result.err
    assert shell(*words, "whole.nc", *bias).code == 0
    with netCDF4.Dataset("out.nc") as one, netCDF4.Dataset("whole.nc") as other:
        for name in ("tas", "pr"):
            np.testing.assert_array_equal(one[name][:], other[name][:])
    assert not Path(".out.nc.parts").exists()


def test_a_variable_that_was_adjusted_before_a_kill_is_not_adjusted_again(
    shell: Shell, adjusting: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", "sim_*.nc", "out.nc", "--prior", "tiny", "--members", "1", "--steps", "2")
    bias = ("--bias", "qdm", "--historical", "hist_*.nc", "--time", "2051-12-20/2051-12-25")
    seen: list[str] = []

    def counted(one: Any, *rest: Any, **named: Any) -> Any:
        seen.append(one.sim.source_name)
        if seen == ["tas", "pr"]:
            raise KeyboardInterrupt
        return adjust_series(one, *rest, **named)

    monkeypatch.setattr("climdown.adjust.registry.adjust_series", counted)
    assert shell(*words, *bias).code == 130
    assert [path.name for path in Path(".out.nc.parts/adjusted").iterdir()] == ["tas.npy"]
    assert shell(*words, *bias).code == 0
    assert seen == ["tas", "pr", "pr"]


def test_a_damaged_part_of_the_adjusted_input_is_named(
    shell: Shell, adjusting: Prior, warned: pytest.LogCaptureFixture
) -> None:
    words = ("run", "sim_*.nc", "out.nc", "--prior", "tiny", "--members", "1", "--steps", "2")
    bias = ("--bias", "qdm", "--historical", "hist_*.nc", "--time", "2051-12-20/2051-12-25")
    plan = make_plan(
        ["sim_*.nc"],
        "other.nc",
        prior=adjusting,
        config=run_config(bias="qdm", historical=("hist_*.nc",), members=1, steps=2),
    )
    assert plan.adjusted is not None
    Path("parts").mkdir()
    plan.adjusted.readers(Path("parts"), "cpu")
    damaged = Path("parts/adjusted/tas.npy")
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:50])
    plan.adjusted.readers(Path("parts"), "cpu")
    assert "tas.npy is damaged, or no part of this run: it is adjusted anew" in warned.text
    assert damaged.read_bytes() == whole
    assert shell(*words, *bias).code == 0


THIRDS = np.arange(32.0, 46.0, 1.4) + 1.0 / 30.0


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        (np.round(THIRDS, 5), np.arange(350.0, 366.0, 1.4)),
        (THIRDS.astype(np.float32), np.arange(350.0, 366.0, 1.4).astype(np.float32)),
        (THIRDS, np.arange(-10.0, 6.0, 1.4)),
        (THIRDS[::-1], np.arange(350.0, 366.0, 1.4) % 360.0),
    ],
    ids=["five decimals", "float32", "a circle apart", "descending, wrapped"],
)
def test_files_whose_grids_differ_by_rounding_are_one_series(
    tmp_path: Path, lat: Floats, lon: Floats
) -> None:
    make_dataset(path=tmp_path / "a.nc", lat=THIRDS, lon=np.arange(350.0, 366.0, 1.4))
    make_dataset(path=tmp_path / "b.nc", lat=lat, lon=lon, times=[3.5, 4.5], first_step=3)
    field = open_field([tmp_path / "a.nc", tmp_path / "b.nc"], TAS)
    np.testing.assert_array_equal(field.grid.lat, THIRDS)
    assert len(field.time) == 5
    np.testing.assert_allclose(
        field.read(slice(None)), truth(field.grid, range(5)), rtol=0.0, atol=1e-4
    )


def test_meshes_that_differ_by_rounding_are_one_series_and_others_are_not(tmp_path: Path) -> None:
    lat, lon = np.meshgrid(np.arange(40.0, 44.0), np.arange(5.0), indexing="ij")
    lat, lon = lat + 0.1 * lon + 1.0 / 30.0, lon - 0.1 * lat
    for name, shift, first in (("a", 0.0, 0), ("b", 1e-5, 3), ("c", 0.1, 6)):
        dataset = make_dataset(
            lat=lat[:, 0], lon=lon[0], times=[first + 0.5, first + 1.5], lat_name="y", lon_name="x"
        ).drop_vars(["y", "x"])
        at = {"lat": (("y", "x"), lat + shift, {"units": "degrees_north"})}
        at |= {"lon": (("y", "x"), lon - 360.0 * (shift > 0), {"units": "degrees_east"})}
        dataset.assign_coords(at).to_netcdf(tmp_path / f"{name}.nc")
    assert len(open_field([tmp_path / "a.nc", tmp_path / "b.nc"], TAS).time) == 4
    with pytest.raises(InputError, match=r"c\.nc: its grid .* differs from that of .*a\.nc"):
        open_field(sorted(tmp_path.glob("*.nc")), TAS)


def test_grids_that_differ_by_more_are_refused_by_how_much(tmp_path: Path) -> None:
    make_dataset(path=tmp_path / "a.nc", lat=THIRDS)
    make_dataset(path=tmp_path / "b.nc", lat=THIRDS + 0.01, times=[3.5])
    with pytest.raises(InputError, match=r"by up to 0\.01 degrees in latitude and 0 in longitude"):
        open_field([tmp_path / "a.nc", tmp_path / "b.nc"], TAS)
