"""Quantile maps kept in files: applied as they were trained, refused where they do not fit."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from climdown.bias.stored_map import HIST, REF, read_map
from climdown.errors import InputError
from tests.commands import Result, Shell, read_members
from tests.factories import Floats
from tests.series import LAT, LON, PER_DAY, PR, WINTER, daily, noise, write_days

DAYS = daily(2001, 2, months=WINTER)
TRAINING = ("--ref", "ref.nc", "--hist", "hist.nc")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    for name, values in (
        ("ref", 280.0 + noise(DAYS, 1)),
        ("hist", 283.0 + 2.0 * noise(DAYS, 2)),
        ("sim", 284.0 + 1.5 * noise(DAYS, 3)),
    ):
        write_days(folder / f"{name}.nc", DAYS, values)
    return folder


@pytest.fixture
def files(shell: Shell, originals: Path) -> Floats:
    """ref.nc, hist.nc and sim.nc of temperatures; the simulated values."""
    shutil.copytree(originals, ".", dirs_exist_ok=True)
    return 284.0 + 1.5 * noise(DAYS, 3)


def train(shell: Shell, *options: str) -> Result:
    result = shell("qdm", *TRAINING, "sim.nc", "out.nc", "--save-map", "map.nc", *options)
    assert result.code == 0, result.err
    return result


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--group", "none", "--tails", "extremes", "--quantiles", "20"),
        ("--group", "dayofyear", "--window", "9", "--interpolation", "nearest"),
    ],
    ids=lambda options: "-".join(options[1:2]) or "month",
)
@pytest.mark.parametrize("variable", ["tas", "pr"])
def test_a_kept_map_gives_the_same_bits(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], variable: str
) -> None:
    entries: Any = PR if variable == "pr" else {}
    for seed, name in enumerate(("ref", "hist", "sim")):
        values = noise(DAYS, seed)
        values = np.maximum(values, 0.0) / PER_DAY if variable == "pr" else 280.0 + seed * values
        values[:, 1, 2] = np.nan if name == "ref" else values[:, 1, 2]
        write_days(f"{name}.nc", DAYS, values, **entries)
    train(shell, *options)
    # Other blocks than those it was written in.
    monkeypatch.setattr("climdown.adjust.blocks._BLOCK_BYTES", 1)
    kept = [o for o in options if o not in ("--group", "none", "month", "dayofyear")]
    result = shell("qdm", "--map", "map.nc", "sim.nc", "again.nc", *kept)
    assert result.code == 0, result.err
    np.testing.assert_array_equal(
        read_members("again.nc", variable), read_members("out.nc", variable)
    )
    with netCDF4.Dataset("out.nc") as one, netCDF4.Dataset("again.nc") as other:
        assert one[variable].bias_adjustment == other[variable].bias_adjustment
        report = other.bias_adjustment_report
    years = f"{DAYS[0].year} to {DAYS[-1].year}"
    assert f"; map: map.nc; simulation: sim.nc, {len(DAYS)} steps, {years}" in report


def test_a_map_says_what_it_holds(shell: Shell, files: Floats) -> None:
    train(shell, "--quantiles", "10", "--tails", "extremes")
    stored = read_map(Path("map.nc"))
    np.testing.assert_array_equal(stored.grid.lat, LAT)
    np.testing.assert_array_equal(stored.grid.lon, LON)
    np.testing.assert_allclose(stored.nodes, [0.0, *(np.arange(10) + 0.5) / 10, 1.0])
    assert (stored.settings.variable, stored.settings.units) == ("tas", "K")
    assert stored.settings.months == (1, 2, 12)
    ref, hist = stored.read(slice(2, 9))
    assert ref.shape == hist.shape == (12, 12, 7)
    january = [date.month == 1 for date in DAYS]
    values = (280.0 + noise(DAYS, 1)).astype(np.float32).reshape(-1, 12)[january, 2:9]
    np.testing.assert_allclose(ref[0], np.quantile(values, stored.nodes, axis=0), rtol=1e-6)
    assert np.isnan(ref[5]).all(), "there is no June"


def test_a_map_serves_other_units_and_other_periods(shell: Shell, files: Floats) -> None:
    train(shell)
    write_days("other.nc", DAYS, files - 273.15, units="degC")
    result = shell("qdm", "--map", "map.nc", "other.nc", "celsius.nc")
    assert result.code == 0, result.err
    with netCDF4.Dataset("celsius.nc") as file:
        assert file["tas"].units == "degC"
    expected = read_members("out.nc") - 273.15
    np.testing.assert_allclose(read_members("celsius.nc"), expected, rtol=0, atol=2e-4)
    later = daily(2060, 1, calendar="360_day")
    write_days("later.nc", later, 285.0 + noise(later, 4))
    result = shell("qdm", "--map", "map.nc", "later.nc", "later_out.nc")
    assert result.code == 0, result.err
    assert "months 3, 4, 5, 6, 7, 8, 9, 10, 11 of the simulation are not in both" in result.err
    summer = [date.month not in WINTER for date in later]
    np.testing.assert_array_equal(np.isnan(read_members("later_out.nc")).all(axis=(1, 2)), summer)


def test_a_map_brings_the_simulation_to_its_grid(shell: Shell, files: Floats) -> None:
    train(shell)
    fine = np.repeat(np.repeat(noise(DAYS, 5), 2, axis=1), 2, axis=2)
    lat, lon = np.arange(40.25, 43.0, 0.5), np.arange(-3.75, 0.0, 0.5)
    write_days("fine.nc", DAYS, 284.0 + fine, lat=lat, lon=lon)
    write_days("coarse.nc", DAYS, 284.0 + noise(DAYS, 5))
    for name in ("fine", "coarse"):
        result = shell("qdm", "--map", "map.nc", f"{name}.nc", f"{name}_out.nc")
        assert result.code == 0, result.err
    np.testing.assert_allclose(
        read_members("fine_out.nc"), read_members("coarse_out.nc"), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (TRAINING, "--map holds what was trained"),
        (("--grid", "2"), "leave these, --grid, their periods and --save-map out"),
        (("--ref-period", "2001/2002"), "--map holds what was trained"),
        (("--save-map", "b.nc"), "--map holds what was trained"),
        (("--group", "none"), "map.nc was trained with group month; leave --group out"),
        (("--kind", "multiplicative"), "was trained with kind additive; leave --kind out"),
        (("--tails", "extremes"), "was trained with tails constant; leave --tails out"),
        (("--window", "9"), "was trained with window 31; leave --window out"),
        (("--quantiles", "9"), "was trained with quantiles 100; leave --quantiles out"),
        (("--dry-threshold", "1"), "with dry threshold None; leave --dry-threshold out"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_options_of_another_training_are_refused(
    shell: Shell, files: Floats, options: tuple[str, ...], words: str
) -> None:
    train(shell)
    result = shell("qdm", "--map", "map.nc", "sim.nc", "again.nc", *options)
    assert result.code == 2
    assert words in result.message
    assert not Path("again.nc").exists()


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        (PR, "pr [kg m-2 s-1]"),
        ({"units": "m s-1"}, "tas [m s-1]"),
        ({"name": "tasmax"}, "tasmax [K]"),
        ({"name": "ta850"}, "ta850 [K]"),
        ({"name": "x", "standard_name": None}, "x [K]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_map_of_another_variable_is_refused(
    shell: Shell, files: Floats, entries: dict[str, Any], found: str
) -> None:
    train(shell)
    write_days("other.nc", DAYS, files, **entries)
    result = shell("qdm", "--map", "map.nc", "other.nc", "again.nc")
    assert result.code == 3
    assert f"map.nc maps tas [K]; other.nc has {found}: choose another map" in result.message


def rewrite(change: Callable[[dict[str, Any]], Any]) -> Callable[[netCDF4.Dataset], None]:
    """A change of the settings in a map."""

    def applied(file: netCDF4.Dataset) -> None:
        settings = json.loads(file.climdown_map)
        change(settings)
        file.climdown_map = json.dumps(settings)

    return applied


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: f.setncattr("climdown_map_format", 2), "of format 2; this climdown reads up to"),
        (lambda f: f.delncattr("climdown_map_format"), "map.nc is no quantile map; expected one"),
        (lambda f: f.setncattr("climdown_map_format", "x"), "map.nc is no quantile map"),
        (lambda f: f.delncattr("climdown_map"), "map.nc is a damaged quantile map"),
        (lambda f: f.setncattr("climdown_map", "{"), "map.nc is a damaged quantile map"),
        (lambda f: f.setncattr("climdown_map", "[]"), "map.nc is a damaged quantile map"),
        (rewrite(lambda s: s.pop("units")), "a damaged quantile map ("),
        (rewrite(lambda s: s.update(group="week")), "(unknown grouping 'week'"),
        (rewrite(lambda s: s.update(kind="sum")), "(settings {'variable': 'tas'"),
        (rewrite(lambda s: s.update(group="none")), f"({REF} has shape (3, 4, 12, 100); expected"),
        (lambda f: f.renameVariable(HIST, "other"), f"{HIST} not found"),
        (lambda f: f.renameVariable("quantile", "other"), "quantile not found"),
        (lambda f: f["lat_bnds"].__setitem__(slice(None), 0.0), "latitude is not strictly asc"),
    ],
)
def test_a_damaged_map_is_refused(
    shell: Shell, files: Floats, damage: Callable[[netCDF4.Dataset], None], words: str
) -> None:
    train(shell)
    with netCDF4.Dataset("map.nc", "a") as file:
        damage(file)
    result = shell("qdm", "--map", "map.nc", "sim.nc", "again.nc")
    assert result.code == 3
    assert words in result.message
    with pytest.raises(InputError, match=re.escape(words)):
        read_map(Path("map.nc"))
    assert not Path("again.nc").exists()


def test_a_map_that_is_cut_short_is_refused(shell: Shell, files: Floats) -> None:
    train(shell)
    content = Path("map.nc").read_bytes()
    Path("map.nc").write_bytes(content[: len(content) // 2])
    result = shell("qdm", "--map", "map.nc", "sim.nc", "again.nc")
    assert result.code == 3
    assert "map.nc is no quantile map" in result.message
    shutil.copy("sim.nc", "map.nc")
    assert shell("qdm", "--map", "map.nc", "sim.nc", "again.nc").code == 3


def test_broken_values_in_a_map_are_an_input_error(shell: Shell, files: Floats) -> None:
    train(shell)
    path = Path("map.nc")
    with netCDF4.Dataset(path) as file:
        values = file[HIST][:]
    content = bytearray(path.read_bytes())
    # The compressed chunks are all but the beginning and the end of the file.
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    path.write_bytes(content)
    assert values.shape == (3, 4, 12, 100)
    with pytest.raises(InputError, match=r"map\.nc: the quantile map cannot be read \(.*\); make"):
        read_map(path).read(slice(0, 12))


def test_the_map_is_checked_before_the_work(shell: Shell, files: Floats) -> None:
    arguments = ("qdm", *TRAINING, "sim.nc", "out.nc", "--save-map")
    Path("map.nc").write_text("precious")
    result = shell(*arguments, "map.nc")
    assert result.code == 6
    assert "map.nc exists already" in result.message
    result = shell(*arguments, "out.nc")
    assert result.code == 2
    assert "out.nc is both output and map; choose another --save-map" in result.message
    result = shell(*arguments, "hist.nc", "--overwrite")
    assert result.code == 2
    assert "hist.nc is both input and output" in result.message
    assert not Path("out.nc").exists()
