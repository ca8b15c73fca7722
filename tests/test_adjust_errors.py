"""`climdown qdm` and `climdown ot` refuse in one line, with their exit code, and leave nothing."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from climdown.errors import InputError
from tests.commands import Shell
from tests.factories import along, make_dataset
from tests.series import LAT, PR, WINTER, daily, noise, write_days

DAYS = daily(2001, 2, months=WINTER)
FILES = ("--ref", "ref.nc", "--hist", "hist.nc", "sim.nc", "out.nc")
Prepare = Callable[[], tuple[str, ...]]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    for seed, name in enumerate(("ref", "hist", "sim")):
        write_days(folder / f"{name}.nc", DAYS, 280.0 + noise(DAYS, seed))
    return folder


@pytest.fixture(autouse=True)
def files(shell: Shell, originals: Path) -> None:
    """ref.nc, hist.nc and sim.nc that fit, for a test to damage."""
    shutil.copytree(originals, ".", dirs_exist_ok=True)


def good() -> tuple[str, ...]:
    return FILES


def no_reference() -> tuple[str, ...]:
    return FILES[2:]


def no_historical() -> tuple[str, ...]:
    return (*FILES[:2], *FILES[4:])


def only_one_file() -> tuple[str, ...]:
    return FILES[:-1]


def no_such_file() -> tuple[str, ...]:
    return (*FILES[:3], "nowhere.nc", *FILES[4:])


def no_such_reference() -> tuple[str, ...]:
    return (FILES[0], "nowhere.nc", *FILES[2:])


def no_match() -> tuple[str, ...]:
    return (FILES[0], "obs_*.nc", *FILES[2:])


def no_variable() -> tuple[str, ...]:
    make_dataset(path=Path("sim.nc"), units=None)
    return FILES


def other_variable() -> tuple[str, ...]:
    write_days("hist.nc", DAYS, noise(DAYS, 1), **PR)
    return FILES


def other_units() -> tuple[str, ...]:
    write_days("ref.nc", DAYS, noise(DAYS, 1), units="m s-1")
    return FILES


def other_region() -> tuple[str, ...]:
    write_days("ref.nc", DAYS, noise(DAYS, 1), lat=LAT - 60.0)
    return FILES


def other_region_of_the_model() -> tuple[str, ...]:
    write_days("hist.nc", DAYS, noise(DAYS, 1), lat=LAT - 60.0)
    return FILES


def other_months() -> tuple[str, ...]:
    summer = daily(2001, 2, months=(6, 7, 8))
    write_days("ref.nc", summer, 280.0 + noise(summer, 1))
    return FILES


def no_common_month() -> tuple[str, ...]:
    other_months()
    summer = daily(2001, 2, months=(6, 7, 8))
    write_days("sim.nc", summer, 280.0 + noise(summer, 1))
    return FILES


def other_period() -> tuple[str, ...]:
    return (*FILES, "--hist-period", "1850/1860")


def other_time() -> tuple[str, ...]:
    return (*FILES, "--time", "1850/1860")


def bad_period() -> tuple[str, ...]:
    return (*FILES, "--ref-period", "long ago")


def infinite() -> tuple[str, ...]:
    values = 280.0 + noise(DAYS, 1)
    values[40, 1, 1] = np.inf
    write_days("hist.nc", DAYS, values)
    return FILES


def members() -> tuple[str, ...]:
    def two(dataset: xr.Dataset) -> xr.Dataset:
        return along(dataset, "realization", [1, 2])

    write_days("sim.nc", DAYS, 280.0 + noise(DAYS, 1), change=two)
    return FILES


def no_such_member() -> tuple[str, ...]:
    members()
    return (*FILES, "--select", "realization=7")


def no_such_dimension() -> tuple[str, ...]:
    return (*FILES, "--select", "realization=7")


def bad_selection() -> tuple[str, ...]:
    return (*FILES, "--select", "realization")


def selected_twice() -> tuple[str, ...]:
    return (*FILES, "--select", "realization=1", "--select", "realization=2")


def bad_grid() -> tuple[str, ...]:
    return (*FILES, "--grid", "fine")


def output_exists() -> tuple[str, ...]:
    Path("out.nc").write_text("precious")
    return FILES


def output_is_input() -> tuple[str, ...]:
    return (*FILES[:-1], "ref.nc", "--overwrite")


def output_is_one_of_a_pattern() -> tuple[str, ...]:
    return (*FILES[:3], "his*.nc", "sim.nc", "hist.nc", "--overwrite")


def folder_missing() -> tuple[str, ...]:
    return (*FILES[:-1], "nowhere/out.nc")


CASES: list[tuple[Prepare, int, str]] = [
    (only_one_file, 2, "expected at least one SIM and then OUT"),
    (no_such_file, 3, "no such file: nowhere.nc"),
    (no_such_reference, 3, "the reference 'nowhere.nc' is neither a file nor a prior"),
    (no_match, 3, "no file matches obs_*.nc"),
    (no_variable, 3, "sim.nc: no variable with units, time, latitude and longitude"),
    (other_variable, 3, "hist.nc: no variable with standard_name air_temperature"),
    (other_units, 3, "found 'tas' (units 'm s-1')"),
    (other_region, 4, "sim.nc: the grid (3 x 4 cells of 1 deg, 40N..43N, 4W..0E) does not touch"),
    (other_region_of_the_model, 4, "hist.nc: the grid (3 x 4 cells of 1 deg, 20S..17S, 4W..0E)"),
    (other_months, 3, "has months 1, 2, 12; the reference and the historical simulation share mo"),
    (no_common_month, 3, "has months 6, 7, 8; the reference and the historical simulation"),
    (other_period, 3, "hist.nc: no time step lies in 1850/1860; the input has 180 steps"),
    (other_time, 3, "sim.nc: no time step lies in 1850/1860"),
    (bad_period, 2, "cannot read the period 'long ago'"),
    (infinite, 3, "hist.nc: variable 'tas' has infinite values, first at 2001-02-10T12:00:00; set"),
    (members, 3, "sim.nc: variable 'tas' has further dimensions (realization=2)"),
    (no_such_member, 3, "variable 'tas' has no realization '7'; it has 1, 2"),
    (no_such_dimension, 3, "variable 'tas' has no dimension 'realization'"),
    (bad_selection, 2, "--select is 'realization'; expected DIM=LABEL"),
    (selected_twice, 2, "--select names a dimension twice"),
    (bad_grid, 2, "cannot read the grid 'fine'"),
    (output_exists, 6, "out.nc exists already; give --overwrite"),
    (output_is_input, 2, "ref.nc is both input and output; choose another output"),
    (output_is_one_of_a_pattern, 2, "hist.nc is both input and output"),
    (folder_missing, 6, "nowhere of the output does not exist"),
]
QDM_CASES: list[tuple[Prepare, int, str]] = [
    (no_reference, 2, "--ref is missing; give both --ref and --hist, or --map"),
    (no_historical, 2, "--hist is missing; give both --ref and --hist, or --map"),
    (lambda: (*FILES, "--quantiles", "1"), 2, "quantiles is 1; need at least 2"),
    (lambda: (*FILES, "--group", "season"), 2, "--group is 'season'; expected none, month or"),
    (lambda: (*FILES, "--window", "4"), 2, "window is 4 days; need an odd number"),
    (lambda: (*FILES, "--group", "dayofyear", "--window", "367"), 2, "window is 367 days; need"),
    (lambda: (*FILES, "--tails", "long"), 2, "--tails is 'long'"),
    (lambda: (*FILES, "--kind", "sum"), 2, "--kind is 'sum'"),
    (lambda: (*FILES, "--interpolation", "cubic"), 2, "--interpolation is 'cubic'"),
    (lambda: (*FILES, "--max-ratio", "1"), 2, "max ratio is 1; need more than 1"),
    (lambda: (*FILES, "--dry-threshold=-1"), 2, "dry threshold is -1.0 mm day-1; need at least"),
    (lambda: (*FILES, "--years", "5"), 2, "years is 5; need 0 or at least 10"),
    (lambda: (*FILES[4:], "--map", "sim.nc"), 3, "sim.nc is no quantile map; expected one that"),
    (lambda: (*FILES[4:], "--map", "no.nc"), 3, "no such file: no.nc"),
    (lambda: (*FILES, "--device", "tpu"), 2, "--device is 'tpu'; expected cpu or cuda"),
    (lambda: (*FILES, "--seed=-1"), 2, "seed is -1; need 0 to 2147483647"),
]


def name_of(value: Any) -> str | None:
    return value.__name__ if callable(value) else None


def check(shell: Shell, command: str, prepare: Prepare, code: int, words: str) -> None:
    arguments = prepare()
    before = {path: path.read_bytes() for path in Path().iterdir()}
    result = shell(command, *arguments)
    assert result.code == code, result.err
    assert words in result.message
    assert result.out == ""
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize(("prepare", "code", "words"), [*CASES, *QDM_CASES], ids=name_of)
def test_qdm_refuses_in_one_line(shell: Shell, prepare: Prepare, code: int, words: str) -> None:
    check(shell, "qdm", prepare, code, words)


@pytest.mark.parametrize(("prepare", "code", "words"), CASES, ids=name_of)
def test_ot_refuses_in_one_line(shell: Shell, prepare: Prepare, code: int, words: str) -> None:
    check(shell, "ot", prepare, code, words)


def test_what_leaves_nothing_adjusted_is_an_error(shell: Shell) -> None:
    few = DAYS[:9]
    write_days("sim.nc", few, 280.0 + noise(few, 1))
    words = "sim.nc: no value of tas could be adjusted; each cell and group of days needs at least"
    check(shell, "qdm", good, 3, words)


def test_a_full_disk_ends_in_code_6(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    check(shell, "qdm", good, 6, "(No space left on device); write the output where there is room")


def test_a_disk_that_is_too_small_is_refused_before_the_work(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")
    # Three series and the result.
    wanted = 4 * 4 * 12 * len(DAYS)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=wanted - 1))
    check(shell, "qdm", good, 6, "scratch files of 0.0 GiB do not fit in /")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=wanted))
    assert shell("qdm", *FILES).code == 0


@pytest.mark.parametrize("block", [0, 5])
def test_an_error_on_the_way_leaves_neither_output_nor_map(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    from climdown.adjust import blocks

    def failing(task: Any) -> Any:
        if task.first_cell == block:
            raise InputError("it broke")
        return adjust(task)

    adjust = blocks._adjust_task
    monkeypatch.setattr(blocks, "_adjust_task", failing)
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 1)
    check(shell, "qdm", lambda: (*FILES, "--save-map", "map.nc"), 3, "it broke")


def test_overwrite_replaces(shell: Shell) -> None:
    for command in ("qdm", "ot"):
        Path("out.nc").write_text("worthless")
        result = shell(command, *FILES, "--overwrite")
        assert result.code == 0, result.err
        with xr.open_dataset("out.nc") as found:
            assert found["tas"].shape == (len(DAYS), 3, 4)
