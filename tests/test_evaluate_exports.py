"""What an evaluation writes and prints: JSON, CSV, Markdown, CORDEX ML-Bench, names of outputs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from climdown.cli.evaluate import named_files, parse_region, parse_shard
from climdown.errors import ConfigError
from climdown.evaluation.exports import SCHEMA
from climdown.version import __version__
from tests.commands import Shell
from tests.factories import Floats
from tests.judging import (
    LAT,
    LON,
    members_of,
    rain_of,
    weather,
    write_case,
    write_members,
)
from tests.series import WINTER, daily, write_days

DAYS = daily(2001, 2, months=WINTER)
WORDS = ("evaluate", "out.nc", "--reference", "ref.nc", "--input", "gcm.nc")
MAXIMUM: dict[str, Any] = {
    "name": "tasmax",
    "attributes": {"cell_methods": "time: maximum"},
}
EXPORT = ("--format", "cordex-ml-bench", "--export", "bench.nc")


def numbers(value: Any) -> Iterator[float]:
    """All numbers in a document."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from numbers(one)
    elif isinstance(value, float):
        yield value


def test_the_document_says_what_was_judged_and_how(shell: Shell) -> None:
    write_case(DAYS)
    assert shell(*WORDS, "--json", "s.json", "--time", "2001/2001").code == 0
    found = json.loads(Path("s.json").read_text("utf-8"))
    assert found["schema"] == SCHEMA
    assert found["climdown_version"] == __version__
    assert found["command"].startswith("climdown evaluate out.nc")
    plan = found["plan"]
    assert plan["paired"] is True
    assert plan["correlation"] > 0.9
    assert plan["reference"]["files"] == ["ref.nc"]
    assert plan["reference"]["first"] == "2001-01-01T12:00:00"
    assert plan["reference"]["steps"] == 90
    assert plan["outputs"]["out"]["members"] == 3
    assert plan["outputs"]["bilinear"]["baseline"] is True
    assert plan["options"]["period"] == "2001/2001"
    np.testing.assert_allclose(plan["grid"]["lat"], LAT)
    assert plan["variables"]["pr"]["units"] == "mm day-1"
    assert {score["measure"] for score in found["scores"]} == set(found["measures"])
    assert all(map(math.isfinite, numbers(found)))
    assert {
        "schema",
        "climdown_version",
        "command",
        "plan",
        "findings",
        "scores",
        "skills",
        "measures",
    } == set(found)


def test_the_guide_describes_every_entry_of_the_document(shell: Shell) -> None:
    write_case(DAYS)
    assert shell(*WORDS, "--json", "s.json").code == 0
    found = json.loads(Path("s.json").read_text("utf-8"))
    guide = Path(__file__).parents[1].joinpath("docs", "guide.md").read_text("utf-8")
    names = {*found, *found["plan"], *found["scores"][0], *found["skills"][0]}
    names |= {*found["findings"][0], *next(iter(found["measures"].values()))}
    names |= {*found["plan"]["reference"], *found["plan"]["outputs"]["out"]}
    assert sorted(name for name in names if f"`{name}`" not in guide) == []


def test_rows_and_tables_hold_the_same_numbers(shell: Shell) -> None:
    write_case(DAYS)
    result = shell(*WORDS, "--json", "s.json", "--csv", "s.csv", "--markdown", "s.md")
    assert result.code == 0, result.err
    entries = json.loads(Path("s.json").read_text("utf-8"))["scores"]
    with Path("s.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(entries)
    for row, entry in zip(rows, entries, strict=True):
        assert row.keys() == entry.keys()
        assert all(row[k] == ("" if v is None else str(v)) for k, v in entry.items())
    table = Path("s.md").read_text("utf-8").splitlines()
    assert table[0] == "| Measure | Variable | out | bilinear | Reference |"
    (crps,) = [line for line in table if "Fair CRPS" in line and "| tas |" in line]
    entry = next(e for e in entries if e["output"] == "out" and e["measure"] == "crps")
    assert f"{entry['value']:.3g} [{entry['low']:.3g}, {entry['high']:.3g}]" in crps
    printed = [line.split("\t") for line in result.out.splitlines()]
    assert [row[0] for row in printed if row[0] == "verdict"]
    assert ["measure", "variable", "out", "bilinear", "reference"] in printed


def test_two_files_of_one_name_are_refused(shell: Shell) -> None:
    write_case(DAYS)
    result = shell(*WORDS, "--json", "s.txt", "--csv", "./s.txt")
    assert result.code == 2
    assert "two of the files to write have one name" in result.message


def test_shards_need_a_place_to_meet(shell: Shell) -> None:
    write_case(DAYS)
    result = shell(*WORDS, "--shard", "1/2")
    assert result.code == 2
    assert "--shard needs a place where shards meet" in result.message


# --- names


def test_outputs_are_named_by_word_or_by_file() -> None:
    assert named_files(["a.nc", "x=b.nc", "runs/c.nc"]) == {
        "a": ("a.nc",), "x": ("b.nc",), "c": ("runs/c.nc",)
    }  # fmt: skip
    assert named_files(["x=a.nc", "x=b.nc"]) == {"x": ("a.nc", "b.nc")}
    assert named_files(["out_*.nc"]) == {"out": ("out_*.nc",)}
    assert named_files(["*.nc"]) == {"output": ("*.nc",)}


def test_equals_signs_may_be_part_of_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.nc").touch()
    assert named_files(["a=b.nc"]) == {"ab": ("a=b.nc",)}
    assert named_files(["runs/exp=1/c.nc"]) == {"c": ("runs/exp=1/c.nc",)}
    assert named_files(["z=runs/exp=1/c.nc"]) == {"z": ("runs/exp=1/c.nc",)}


@pytest.mark.parametrize("words", [["a.nc", "b/a.nc"], ["a.nc", "a=b.nc"], ["a=b.nc", "a.nc"]])
def test_two_outputs_of_one_name_are_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="two outputs would be called 'a'; name them"):
        named_files(words)


def test_baselines_have_names_of_their_own(shell: Shell) -> None:
    result = shell(*WORDS, "--baseline", "out=base.nc")
    assert result.code == 2
    assert "'out' is an output and a baseline" in result.message


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", ""])
def test_regions_are_four_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match="expected WEST,EAST,SOUTH,NORTH"):
        parse_region(text)


def test_shards_are_counted_from_one() -> None:
    assert parse_shard("2/4") == (1, 4)
    with pytest.raises(ConfigError, match="--shard is '2'; expected I/N"):
        parse_shard("2")


# --- CORDEX ML-Bench


def write_bench(members: int = 10, *, steps: int = 90, rain: bool = True) -> Floats:
    """tasmax and pr of an ensemble, and the reference of tasmax; the members of tasmax."""
    truth = weather(DAYS[:steps])
    values = members_of(truth, members)
    write_members("out.nc", DAYS[:steps], values, rain=rain, **MAXIMUM)
    write_days("ref.nc", DAYS[:steps], truth, lat=LAT, lon=LON, **MAXIMUM)
    return values


def test_ten_members_of_both_variables_are_in_one_file(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("climdown.stream.writing.CHUNK_BYTES", 5000)
    values = write_bench(12)
    result = shell(
        "evaluate", "out.nc", "--reference", "ref.nc", "--region", "-4,-3,40,41", *EXPORT
    )
    assert result.code == 0, result.err
    with xr.open_dataset("bench.nc") as found:
        assert dict(found.sizes) | {"bnds": 2} == {
            "time": 90, "member": 10, "lat": LAT.size, "lon": LON.size, "bnds": 2,
        }  # fmt: skip
        tasmax = found["tasmax"].transpose("time", "member", "lat", "lon")
        np.testing.assert_allclose(tasmax, values[:, :10], rtol=1e-6)
        pr = found["pr"].transpose("time", "member", "lat", "lon")
        np.testing.assert_allclose(pr, rain_of(values[:, :10]), rtol=1e-4, atol=1e-4)
        assert found["pr"].attrs["units"] == "mm/day"
        assert found["tasmax"].attrs["units"] == "K"
        assert found.attrs["project_id"] == "CORDEX"
        assert found.attrs["activity_id"] == "ML-Benchmark"
        assert "climdown evaluate" in found.attrs["history"]
    with netCDF4.Dataset("bench.nc") as file:
        assert file["pr"].dimensions == ("member", "time", "lat", "lon")


def export_refused(shell: Shell, code: int, *words: str) -> str:
    result = shell("evaluate", *words, "--reference", "ref.nc", *EXPORT)
    assert result.code == code, result.err
    assert not Path("bench.nc").exists()
    return result.message


def test_what_the_benchmark_asks_for_and_is_not_there_is_refused(shell: Shell) -> None:
    write_bench(9)
    assert "out.nc has 9 members; CORDEX ML-Bench takes 10" in " ".join(
        export_refused(shell, 3, "out.nc").replace(": variable 'pr'", "").split()
    )
    write_bench(rain=False)
    assert "has no pr; CORDEX ML-Bench takes pr and tasmax" in export_refused(shell, 3, "out.nc")
    write_bench()
    message = export_refused(shell, 2, "a=out.nc", "b=out.nc")
    assert "--export writes one output, and there are 2 (a, b)" in message


def test_mean_temperatures_are_no_maxima(shell: Shell) -> None:
    write_case(DAYS, members=10)
    assert "tasmax" in export_refused(shell, 3, "out.nc")


def test_monthly_values_are_no_days(shell: Shell) -> None:
    import cftime

    months = np.array([cftime.datetime(2001, m, 15) for m in range(1, 13)])
    truth = weather(months)
    write_members("out.nc", months, members_of(truth, 10), rain=True, **MAXIMUM)
    write_days("ref.nc", months, truth, lat=LAT, lon=LON, **MAXIMUM)
    assert "CORDEX ML-Bench takes daily values" in export_refused(shell, 3, "out.nc")


@pytest.mark.parametrize("words", [EXPORT[:2], EXPORT[2:]])
def test_export_and_format_go_together(shell: Shell, words: tuple[str, ...]) -> None:
    write_bench()
    result = shell("evaluate", "out.nc", "--reference", "ref.nc", *words)
    assert result.code == 2
    assert "--export and --format go together" in result.message
