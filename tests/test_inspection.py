"""What `climdown inspect` says of files as they are in the wild."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
from rich.console import Console

from climdown.cf import Location
from climdown.errors import InputError
from climdown.inputs import inspection, sampling
from climdown.inputs.inspection import VariableReport, inspect_sources, open_local
from climdown.priors import store
from climdown.priors.prior import Prior
from tests.commands import Shell, write_pr, write_tas
from tests.factories import Floats, along, make_dataset, shared_data, wave, write_damaged
from tests.meshes import as_mesh, mesh_dataset, rotated_pole
from tests.priors import FINE

# The names of the JSON output, which scripts rely on.
FILE_KEYS = ["file", "variables", "priors"]
VARIABLE_KEYS = [
    "file",
    "name",
    "long_name",
    "standard_name",
    "units",
    "cell_methods",
    "quantity",
    "dimensions",
    "other_dimensions",
    "grid",
    "time",
    "values",
    "problems",
    "suspicious",
]
GRID_KEYS = ["kind", "shape", "spacing", "text", "corners"]
TIME_KEYS = [
    "start",
    "end",
    "steps",
    "calendar",
    "step_days",
    "frequency",
    "gaps",
    "months",
    "units",
]
VALUE_KEYS = ["low", "high", "mean", "missing", "infinite", "unbelievable", "read", "fill"]


def inspect_file(path: Location) -> list[VariableReport]:
    """The reports of one file."""
    return inspect_sources(open_local(path))


def report_of(path: Path) -> VariableReport:
    """The report of the file's only gridded variable."""
    (report,) = inspect_file(path)
    return report


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.nc"


def flat(value: float) -> Callable[[Floats, Floats, int], Floats]:
    return lambda lat, lon, step: value + 0.0 * (lat + lon)


def test_a_variable_is_described_line_by_line(path: Path) -> None:
    make_dataset(
        path=path,
        attributes={"long_name": "Air Temperature", "cell_methods": "time: mean"},
        values=lambda lat, lon, step: 239.0 + lat + 0.1 * lon + step,
        bounds=True,
    )
    assert report_of(path).rows() == [
        ("variable", "tas (Air Temperature)"),
        ("standard_name", "air_temperature"),
        ("units", "K"),
        ("taken for", "tas"),
        ("dimensions", "time=3, lat=4, lon=5"),
        ("cell_methods", "time: mean"),
        ("grid", "4 x 5 cells of 2.5 deg, 38.75N..48.75N, 1.25W..11.25E"),
        (
            "time",
            "3 steps from 2001-01-01 to 2001-01-03 (standard), daily, month 1; "
            "days since 2001-01-01",
        ),
        ("values", "279 to 289.5, mean 284.2, 0.0% missing"),
    ]


def test_what_a_variable_lacks_is_said(path: Path) -> None:
    make_dataset(path=path, name="x", standard_name=None, units=None)
    report = report_of(path)
    rows = dict(report.rows())
    assert rows["variable"] == "x (no long_name)"
    assert (rows["standard_name"], rows["units"]) == ("none", "none")
    assert rows["taken for"] == "no quantity climdown knows"
    assert "cell_methods" not in rows
    assert report.suspicious == (
        "no units: climdown cannot convert it, and will not guess",
        "no standard_name: it is recognised by its name alone",
    )


def test_each_gridded_variable_gets_its_report(path: Path) -> None:
    make_dataset(path=path, others={"pr": {"units": "mm day-1"}, "psl": {}}, bounds=True)
    assert sorted(report.name for report in inspect_file(path)) == ["pr", "psl", "tas"]


@pytest.mark.parametrize("block", [1, 100, 200, 500, 1 << 20])
def test_missing_and_infinite_values_are_counted_whatever_the_blocks(
    block: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_BLOCK_BYTES", block)
    missing = np.zeros((4, 5), dtype=bool)
    missing[0] = True
    make_dataset(
        path=path,
        values=lambda lat, lon, step: np.where(
            (lat == 47.5) & (lon == 0.0) & (step == 1), np.inf, step + 271.0 + 0.0 * (lat + lon)
        ),
        missing=missing,
    )
    values = report_of(path).values
    assert values is not None
    # 15 of 20 cells, three steps of 271, 272 and 273, less the infinite one of the second.
    assert (values.low, values.high, values.infinite) == (271.0, 273.0, 1)
    assert values.mean == pytest.approx((15 * 271 + 14 * 272 + 15 * 273) / 44, rel=1e-12)
    assert values.missing == pytest.approx(0.25)
    assert dict(report_of(path).rows())["values"].endswith("25.0% missing, 1 INFINITE")
    assert "1 infinite value" in report_of(path).suspicious


def test_blocks_are_small_whatever_the_leading_dimension(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    along(make_dataset(), "realization", [1]).transpose("realization", ...).to_netcdf(path)
    with xr.open_dataset(path, decode_times=False) as dataset:
        monkeypatch.setattr(sampling, "_BLOCK_BYTES", 8 * 20)
        shapes = [block.shape for block in sampling.blocks(dataset["tas"])]
    assert shapes == [(1, 4, 5)] * 3 or shapes == [(4, 5)] * 3


def test_a_variable_without_any_value_is_all_missing(path: Path) -> None:
    make_dataset(path=path, missing=np.ones((4, 5), dtype=bool))
    report = report_of(path)
    assert dict(report.rows())["values"] == "all missing"
    assert report.values == inspection.ValueReport(None, None, None, 1.0, 0, 0.0)


def test_values_near_the_largest_number_do_not_overflow(path: Path) -> None:
    dataset = make_dataset()
    huge = np.where(np.arange(60).reshape(3, 4, 5) % 2, 1.5e308, -1.0e308)
    dataset["tas"] = (("time", "lat", "lon"), huge, dataset["tas"].attrs)
    dataset.to_netcdf(path)
    values = report_of(path).values
    assert values is not None
    assert values.mean == pytest.approx(0.25e308)
    json.dumps(report_of(path).to_dict(), allow_nan=False)


# --- times


@pytest.mark.parametrize(
    ("times", "units", "calendar", "frequency"),
    [
        ([0.5, 1.5, 2.5], "days since 2001-01-01", "standard", "daily"),
        ([0, 1, 2, 3], "hours since 2001-01-01", "standard", "hourly"),
        ([0, 3, 6], "hours since 2001-01-01", "standard", "every 3 hours"),
        ([0, 0.25, 0.5], "days since 2001-01-01", "noleap", "every 6 hours"),
        ([0, 30, 60], "minutes since 2001-01-01", "standard", "every 0.0208 days"),
        ([15.5, 45, 74.5, 105], "days since 2001-01-01", "standard", "monthly"),
        ([0, 31, 59, 90], "days since 2001-01-01", "noleap", "monthly"),
        ([15, 45, 75], "days since 2001-01-01", "360_day", "monthly"),
        ([180, 540, 900], "days since 2001-01-01", "360_day", "yearly"),
        ([0, 365, 731], "days since 2003-01-01", "julian", "yearly"),
        ([2.5, 7.5, 12.5], "days since 2001-01-01", "standard", "every 5 days"),
        ([0.5], "days since 2001-01-01", "proleptic_gregorian", "one step"),
    ],
)
def test_the_frequency_has_a_name(
    path: Path, times: list[float], units: str, calendar: str, frequency: str
) -> None:
    make_dataset(path=path, times=times, time_units=units, calendar=calendar)
    time = report_of(path).time
    assert time is not None
    assert (time.frequency, time.calendar, time.gaps) == (frequency, calendar, 0)
    assert (time.step_days is None) == (len(times) == 1)


def test_gaps_and_months_of_a_season_are_counted_and_not_suspicious(path: Path) -> None:
    winter = [float(day) for day in (*range(59), *range(334, 365))]
    make_dataset(path=path, times=winter, calendar="noleap")
    report = report_of(path)
    assert dict(report.rows())["time"] == (
        "90 steps from 2001-01-01 to 2001-12-31 (noleap), daily, 1 gap, months 1, 2, 12; "
        "days since 2001-01-01"
    )
    assert report.suspicious == ()


def test_gaps_in_a_whole_year_are_suspicious(path: Path) -> None:
    days = [float(day) for day in range(365) if day not in (100, 200, 201)]
    make_dataset(path=path, times=days, calendar="noleap")
    report = report_of(path)
    assert "daily, 2 gaps, all months;" in dict(report.rows())["time"]
    assert report.suspicious == ("2 gaps in a series that has every month: steps are missing",)


def test_times_that_do_not_ascend_are_a_problem(path: Path) -> None:
    make_dataset(path=path, times=[0.5, 2.5, 1.5])
    (problem,) = report_of(path).problems
    assert problem.startswith("time: times do not ascend: 2001-01-02 12:00:00 follows")


def test_a_time_axis_is_known_by_its_units_alone_and_is_nothing_to_choose(path: Path) -> None:
    dataset = make_dataset().rename(time="t")
    del dataset["t"].attrs["standard_name"], dataset["t"].attrs["axis"]
    dataset.to_netcdf(path)
    report = report_of(path)
    assert report.time is not None
    assert report.other_dimensions == {}


# --- grids and dimensions


def test_an_axis_that_cannot_be_read_does_not_hide_the_rest(path: Path) -> None:
    make_dataset(lat=[40.0, 40.0, 41.0, 42.0]).drop_vars("time").to_netcdf(path)
    report = report_of(path)
    assert (report.grid, report.time) == (None, None)
    assert len(report.problems) == 2
    assert report.problems[0].startswith("grid: latitude is not strictly ascending")
    assert report.problems[1].startswith("time: variable 'tas' has no time axis")
    assert [label for label, _ in report.rows()].count("not readable") == 2
    assert report.values is not None


def test_a_curvilinear_file_is_described(path: Path) -> None:
    mesh_dataset(cells=rotated_pole(ny=6, nx=8), path=path)
    report = report_of(path)
    assert report.grid is not None
    assert (report.grid.kind, report.grid.shape, report.grid.corners) == (
        "curvilinear",
        (6, 8),
        True,
    )
    assert report.grid.spacing == pytest.approx(1.0, rel=0.02)
    assert dict(report.rows())["grid"].startswith("curvilinear, 6 x 8 cells of about")
    assert (report.other_dimensions, report.problems) == ({}, ())


@pytest.mark.parametrize("corners", [True, False])
def test_an_unstructured_file_is_described(path: Path, corners: bool) -> None:
    mesh = as_mesh(FINE)
    dataset = mesh_dataset(cells=mesh, corners=("lat_v", "lon_v") if corners else None)
    dataset.stack(cell=("y", "x"), create_index=False).transpose("time", "cell", ...).to_netcdf(
        path
    )
    report = report_of(path)
    assert report.grid is not None
    assert (report.grid.kind, report.grid.shape, report.grid.corners) == (
        "unstructured",
        (FINE.lat.size * FINE.lon.size,),
        corners,
    )
    assert report.grid.text.endswith("corners unknown") == (not corners)


def test_levels_and_members_are_listed(path: Path) -> None:
    dataset = along(
        make_dataset(name="ta"), "plev", [85_000.0, 50_000.0], attributes={"units": "Pa"}
    )
    members = xr.concat([dataset["ta"]] * 2, dim="realization").assign_attrs(dataset["ta"].attrs)
    names = np.array([b"r1i1p1f1", b"r2i1p1f1"])
    dataset.assign(ta=members).assign_coords(realization=names).to_netcdf(path)
    report = report_of(path)
    assert report.quantity == "ta"
    assert report.other_dimensions == {
        "realization": ["r1i1p1f1", "r2i1p1f1"],
        "plev": ["85000", "50000"],
    }
    rows = dict(report.rows())
    assert rows["choose plev"] == "85000, 50000"
    assert rows["choose realization"] == "r1i1p1f1, r2i1p1f1"


def test_many_members_are_shortened_and_one_is_no_choice(path: Path) -> None:
    along(make_dataset(), "realization", np.arange(30)).to_netcdf(path)
    row = dict(report_of(path).rows())["choose realization"]
    assert row == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... (30)"
    assert len(report_of(path).other_dimensions["realization"]) == 30
    path.unlink()
    along(make_dataset(), "realization", [4]).to_netcdf(path)
    assert not any("choose" in label for label, _ in report_of(path).rows())


# --- suspicious values


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"values": flat(15.0), "units": "K"},
            "100.00% of the values lie outside 170 to 335 K, unbelievable for tas: "
            "are the units right?",
        ),
        (
            {"values": flat(280.0), "units": "degC"},
            "100.00% of the values lie outside -103.1 to 61.85 degC, unbelievable for tas: "
            "are the units right?",
        ),
        ({"units": "warm"}, "units 'warm' are unknown to UDUNITS: climdown cannot convert them"),
        ({"values": flat(280.0)}, "all values are equal"),
        (
            {
                "values": flat(5.0),
                "name": "pr",
                "standard_name": "precipitation_flux",
                "units": "kg m-2 s-1",
            },
            "100.00% of the values lie outside -1.157e-08 to 0.02199 kg m-2 s-1, unbelievable "
            "for pr: are the units right?",
        ),
        (
            {"values": flat(1013.0), "name": "psl", "standard_name": None, "units": "Pa"},
            "100.00% of the values lie outside 8.6e+04 to 1.095e+05 Pa, unbelievable for psl: "
            "are the units right?",
        ),
    ],
)
def test_values_that_cannot_be_right_are_suspicious(
    path: Path, options: dict[str, Any], message: str
) -> None:
    make_dataset(path=path, **options)
    assert message in report_of(path).suspicious
    assert ("suspicious", message) in report_of(path).rows()


def test_a_few_impossible_values_may_be_a_fill(path: Path) -> None:
    make_dataset(
        path=path,
        lat=np.arange(30, 60, 2.0),
        lon=np.arange(0, 30, 2.0),
        values=lambda lat, lon, step: np.where(
            (lat == 30) & (lon == 0), 50.0, wave(lat, lon, step)
        ),
    )
    (message,) = report_of(path).suspicious
    assert message.startswith("0.44% of the values lie outside 170 to 335 K")
    assert message.endswith("a fill value?")


@pytest.mark.parametrize("name", ["tas", "lai"])
@pytest.mark.parametrize("share", [0.01, 0.4])
def test_a_fill_value_that_is_not_declared_is_suspicious(
    path: Path, name: str, share: float
) -> None:
    dataset = make_dataset(
        name=name,
        lat=np.arange(10.0),
        lon=np.arange(10.0),
        values=lambda lat, lon, step: np.where(lat / 10.0 < share, 1e36, 280.0 + lon),
    )
    dataset.to_netcdf(path, encoding={name: {"_FillValue": None}})
    assert report_of(path).suspicious == (
        "values of 1e+36: a fill value that the file does not declare?",
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"units": "degC", "values": lambda lat, lon, step: wave(lat, lon, step) - 273.15},
        {"name": "lai", "standard_name": "leaf_area_index", "units": "1"},
        {"name": "rr", "standard_name": "thickness_of_rainfall_amount", "units": "mm"},
    ],
)
def test_sound_values_are_not_suspicious(path: Path, options: dict[str, Any]) -> None:
    make_dataset(path=path, **options)
    assert report_of(path).suspicious == ()
    assert report_of(path).problems == ()


def test_numbers_are_not_made_of_text_or_of_nothing(path: Path) -> None:
    dataset = make_dataset()
    dataset["flag"] = (("lat", "lon"), np.full((4, 5), "a", dtype=object))
    dataset.to_netcdf(path)
    reports = {report.name: report for report in inspect_file(path)}
    assert reports["flag"].values is None
    assert "values" not in dict(reports["flag"].rows())
    assert reports["tas"].values is not None
    path.unlink()
    make_dataset().isel(time=slice(0, 0)).to_netcdf(path)
    assert report_of(path).values is None


def test_values_that_cannot_be_read_are_a_problem(path: Path) -> None:
    write_damaged(path)
    (problem,) = report_of(path).problems
    assert problem.startswith("values: ")
    assert "may be damaged" in problem


@pytest.mark.parametrize(
    "dataset", [xr.Dataset(), xr.Dataset({"a": ("x", [1.0]), "b": 2})], ids=["empty", "ungridded"]
)
def test_a_file_without_a_gridded_variable_has_no_reports(dataset: xr.Dataset, path: Path) -> None:
    dataset.to_netcdf(path)
    assert inspect_file(path) == []


def test_a_file_that_is_not_netcdf_is_an_input_error(path: Path) -> None:
    path.write_text("no NetCDF", encoding="utf-8")
    with pytest.raises(InputError, match=r"file\.nc: cannot be read as NetCDF"):
        inspect_file(path)


def test_the_keys_of_a_report_are_those_of_its_dictionary(path: Path) -> None:
    assert [field.name for field in fields(VariableReport)] == VARIABLE_KEYS
    make_dataset(path=path)
    entry = report_of(path).to_dict()
    assert list(entry) == VARIABLE_KEYS
    assert list(entry["grid"]) == GRID_KEYS
    assert list(entry["time"]) == TIME_KEYS
    assert list(entry["values"]) == VALUE_KEYS


# --- the command


@pytest.fixture
def tiny(
    tiny_prior: Prior, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The bundled priors are one, named tiny; weights of meshes are kept apart."""
    monkeypatch.setattr("climdown.priors.store.bundled_folder", lambda: tiny_prior.folder.parent)
    monkeypatch.setenv("CLIMDOWN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    return tiny_prior.folder.name


def test_the_table_says_what_was_understood_and_what_priors_make_of_it(
    shell: Shell, tiny: str
) -> None:
    write_tas(Path("tas.nc"))
    result = shell("inspect", "tas.nc")
    assert result.code == 0, result.err
    lines = [line.strip("│ ") for line in result.out.splitlines()]
    assert lines[0] == "tas.nc"
    for label, text in (
        ("variable", "tas (no long_name)"),
        ("taken for", "tas"),
        ("grid", "3 x 4 cells of 1 deg, 40N..43N, 4W..0E"),
        ("prior tiny", "fits: guided by tas; free: pr"),
    ):
        assert any(line.startswith(label) and line.endswith(text) for line in lines), label
    assert result.err == ""


def test_nothing_is_folded_or_cut_off_a_terminal(shell: Shell, tiny: str) -> None:
    name = "_".join(["a_long_name"] * 12) + ".nc"
    write_tas(Path(name), standard_name="soil_temperature", attributes={"long_name": "[x] " * 60})
    out = shell("inspect", name).out
    assert name in out
    assert "tas (" + "[x] " * 60 + ")" in out
    assert "found 'tas' (soil_temperature)" in out


def test_on_a_terminal_long_lines_are_folded_and_nothing_is_lost(
    shell: Shell, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=60, color_system=None)
    monkeypatch.setattr("climdown.cli.inspect.out", console)
    word = "".join(f"{i:03d}" for i in range(60))
    write_tas(Path("tas.nc"), attributes={"long_name": word})
    assert shell("inspect", "tas.nc", "--no-priors").code == 0
    lines = screen.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 60
    cells = "".join(line.strip("│ ").split("│")[-1].strip() for line in lines)
    assert word in cells
    assert "…" not in cells


def test_output_can_be_piped(path: Path) -> None:
    make_dataset(path=path)
    command = f"{sys.executable} -m climdown inspect --json --no-priors '{path}' | head -n 1"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    assert json.loads(ran.stdout)["variables"][0]["name"] == "tas"


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({}, "fits: guided by tas; free: pr"),
        (
            {"standard_name": "soil_temperature"},
            "does not fit: no variable with standard_name air_",
        ),
        ({"time_units": "days since 2001-07-01"}, "does not fit: has months 7; prior tiny knows"),
        ({"lon": (100.5, 101.5, 102.5, 103.5)}, "does not fit: the grid (3 x 4 cells of 1 deg"),
        ({"lat": (40.5, 41.5), "lon": (-3.5, -2.5)}, "does not fit: the grid (2 x 2 cells"),
        ({"units": "m"}, "found 'tas' (units 'm')"),
        (
            {"values": lambda y, x, step: 10.0 + 0.0 * y * x},
            "does not fit: variable 'tas' has a mean of -263.1 degC over the region",
        ),
        (
            {"values": lambda y, x, step: np.where(y > 42.0, -999.0, 280.0 + 0.1 * x)},
            "does not fit: variable 'tas' has values of -999 where all others lie",
        ),
    ],
)
def test_a_priors_verdict_gives_its_reason(
    shell: Shell, tiny: str, options: dict[str, Any], verdict: str
) -> None:
    write_tas(Path("tas.nc"), **options)
    result = shell("inspect", "tas.nc")
    assert result.code == 0, result.err
    (line,) = [line for line in result.out.splitlines() if "prior tiny" in line]
    assert verdict in line
    assert line.count("tas.nc") == 0


def test_a_file_of_members_is_told_how_to_choose_one(shell: Shell, tiny: str) -> None:
    along(write_and_load("plain.nc"), "realization", [3, 4]).to_netcdf("tas.nc")
    out = shell("inspect", "tas.nc").out
    assert "choose realization" in out
    assert "does not fit: variable 'tas' has further dimensions (realization=2)" in out
    assert "--select realization=3" in out


def test_a_mesh_fits_where_it_covers_the_region(shell: Shell, tiny: str) -> None:
    for name, west in (("over.nc", -20.0), ("beside.nc", 20.0)):
        cells = rotated_pole(ny=20, nx=24, spacing=0.5, south_west=(-12.0, west))
        mesh_dataset(cells=cells, path=Path(name))
    result = shell("inspect", "--json", "over.nc", "beside.nc")
    over, beside = (json.loads(line) for line in result.out.splitlines())
    assert over["variables"][0]["grid"]["kind"] == "curvilinear"
    assert over["priors"]["tiny"] == "fits: guided by tas; free: pr"
    assert beside["priors"]["tiny"].startswith("does not fit: the grid (curvilinear, 20 x 24 cells")


def test_both_variables_in_a_file_leave_none_free(shell: Shell, tiny: str) -> None:
    xr.merge([write_and_load("a.nc"), write_and_load("b.nc", write_pr)]).to_netcdf("both.nc")
    assert "fits: guided by tas, pr " in shell("inspect", "both.nc").out


def test_a_damaged_prior_does_not_hide_the_file(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "priors" / "broken").mkdir(parents=True)
    (tmp_path / "priors" / "broken" / "card.json").write_text("{")
    monkeypatch.setattr("climdown.priors.store.bundled_folder", lambda: tmp_path / "priors")
    write_tas(Path("tas.nc"))
    result = shell("inspect", "tas.nc")
    assert result.code == 0, result.err
    assert "prior broken" in result.out
    assert "cannot be read: prior " in result.out
    assert "not valid JSON" in result.out


def test_priors_can_be_left_out(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise AssertionError("priors were looked for")

    monkeypatch.setattr("climdown.priors.store.bundled_names", none)
    write_tas(Path("tas.nc"))
    out = shell("inspect", "tas.nc", "--no-priors").out
    assert "taken for" in out
    assert "prior" not in out
    assert json.loads(shell("inspect", "--json", "--no-priors", "tas.nc").out)["priors"] == {}


def test_json_is_one_object_per_line_with_stable_keys(shell: Shell, tiny: str) -> None:
    write_tas(Path("tas.nc"))
    make_dataset(path=Path("odd.nc"), units=None, missing=np.ones((4, 5), dtype=bool))
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf("none.nc")
    result = shell("inspect", "--json", "tas.nc", "odd.nc", "none.nc")
    assert result.code == 0, result.err
    entries = [json.loads(line) for line in result.out.splitlines()]
    assert [entry["file"] for entry in entries] == ["tas.nc", "odd.nc", "none.nc"]
    for entry in entries:
        assert list(entry) == FILE_KEYS
        assert list(entry["priors"]) == ["tiny"]
        for variable in entry["variables"]:
            assert list(variable) == VARIABLE_KEYS
    tas, odd, none = entries
    assert tas["variables"][0]["dimensions"] == {"time": 3, "lat": 3, "lon": 4}
    assert tas["variables"][0]["grid"]["shape"] == [3, 4]
    assert tas["variables"][0]["time"]["months"] == [1]
    assert odd["variables"][0]["values"]["mean"] is None
    assert none["variables"] == []


def test_a_file_without_grids_says_so_in_the_table(shell: Shell, tiny: str) -> None:
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf("none.nc")
    out = shell("inspect", "none.nc").out
    assert "none with latitude and longitude" in out
    assert "found no gridded variables" in out


def test_patterns_and_several_files_are_inspected_in_order(shell: Shell, tiny: str) -> None:
    for year in (2002, 2001):
        write_tas(Path(f"tas_{year}.nc"), time_units=f"days since {year}-01-01")
    write_pr(Path("pr.nc"))
    result = shell("inspect", "--json", "pr.nc", "tas_*.nc")
    assert [json.loads(line)["file"] for line in result.out.splitlines()] == [
        "pr.nc",
        "tas_2001.nc",
        "tas_2002.nc",
    ]


def test_bad_files_end_with_code_3_after_what_could_be_said(shell: Shell, tiny: str) -> None:
    write_tas(Path("tas.nc"))
    Path("bad.nc").write_text("no NetCDF", encoding="utf-8")
    result = shell("inspect", "--json", "tas.nc", "bad.nc")
    assert result.code == 3
    assert "bad.nc: cannot be read as NetCDF" in result.message
    good, bad = map(json.loads, result.out.splitlines())
    assert good["file"] == "tas.nc"
    assert list(bad) == ["file", "error"]
    assert bad["error"].startswith("bad.nc: cannot be read as NetCDF")
    result = shell("inspect", "absent.nc", "tas.nc", "--no-priors")
    assert result.code == 3
    assert "air_temperature" in result.out
    assert "no such file: absent.nc" in result.message


def write_and_load(name: str, write: Callable[..., Path] = write_tas, **options: Any) -> xr.Dataset:
    """A coarse dataset, undecoded."""
    path = write(Path(name), height=None, **options)
    with xr.open_dataset(path, decode_times=False) as dataset:
        return dataset.load()


@pytest.mark.data
def test_real_files_are_understood() -> None:
    folder = shared_data()
    for name, quantity, frequency, kind in (
        ("cmip/small_rotPole_precipitation.nc", "pr", "daily", "curvilinear"),
        ("cmip/tos_ocean_bipolar_grid.nc", "tos", "one step", "curvilinear"),
        ("europe/z500_day_ERA-Interim_15deg_20000101-20081231.nc", "zg", "daily", "rectilinear"),
        ("cmip/tas_Amon_HadCM3_rcp45_r1i1p1_203101-203512.nc", "tas", "monthly", "rectilinear"),
    ):
        report = report_of(folder / name)
        assert report.grid is not None
        assert report.time is not None
        found = (report.quantity, report.time.frequency, report.grid.kind)
        assert found == (quantity, frequency, kind)
        assert (report.suspicious, report.problems) == ((), ())


def test_the_numbers_of_the_file_are_not_changed_by_packing(path: Path) -> None:
    packing: dict[str, Any] = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 273.0}
    make_dataset().to_netcdf(path, encoding={"tas": {**packing, "_FillValue": -32768}})
    values = report_of(path).values
    with netCDF4.Dataset(path) as file:
        expected: npt.NDArray[np.float64] = np.asarray(file["tas"][:])
    assert values is not None
    assert values.mean == pytest.approx(expected.mean(), rel=1e-6)


def test_fills_are_named_as_fills(path: Path) -> None:
    make_dataset(
        path=path, values=lambda lat, lon, step: np.where(lat == 40.0, -999.0, 280.0 + lon + lat)
    )
    report = report_of(path)
    assert report.values is not None
    assert report.values.fill == -999.0
    assert report.suspicious == ("values of -999: a fill value that the file does not declare?",)


def test_a_sample_is_spread_over_all_values_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_SAMPLED", 500)
    make_dataset(
        path=path,
        lat=np.arange(10.0),
        lon=np.arange(10.0),
        times=[day + 0.5 for day in range(100)],
        values=lambda lat, lon, step: 250.0 + 0.5 * step + 0.0 * (lat + lon),
    )
    (sampled,) = inspect_sources(open_local(path))
    (complete,) = inspect_sources(open_local(path), full=True)
    assert sampled.values is not None
    assert complete.values is not None
    # 16 pieces of 31 values are too few for a step of 100: rows of 10 from each of 16 steps.
    assert sampled.values.read <= 0.05
    assert (sampled.values.low, sampled.values.high) == (250.0, 299.5)
    assert sampled.values.mean == pytest.approx(complete.values.mean, abs=0.5)
    assert dict(sampled.rows())["values"].endswith(
        f"of a sample of {sampled.values.read:.2g} of all values"
    )
    assert complete.values.read == 1.0
    assert "sample" not in dict(complete.rows())["values"]


def declare(path: Path, shape: tuple[int, int, int], chunks: tuple[int, int, int]) -> None:
    """A file of a size that nobody wrote."""
    with netCDF4.Dataset(path, "w") as file:
        for name, size, units in zip(
            ("time", "lat", "lon"),
            shape,
            ("days since 1850-01-01", "degrees_north", "degrees_east"),
            strict=True,
        ):
            file.createDimension(name, size)
            axis = file.createVariable(name, "f8", (name,))
            axis.units = units
            axis[:] = np.linspace(0.0, 89.0, size) if name != "time" else np.arange(size)
        dims = ("time", "lat", "lon")
        variable = file.createVariable("tas", "f4", dims, chunksizes=chunks, fill_value=1e20)
        variable.setncatts({"units": "K", "standard_name": "air_temperature"})
        variable[0, 0] = 280.0


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [((20_000, 900, 1800), (1, 900, 1800)), ((3, 20_000, 40_000), (1, 500, 500))],
)
def test_a_file_of_any_declared_size_is_inspected_in_seconds(
    path: Path, shape: tuple[int, int, int], chunks: tuple[int, int, int]
) -> None:
    declare(path, shape, chunks)
    begun = time.monotonic()
    values = report_of(path).values
    assert time.monotonic() - begun < 20.0
    assert values is not None
    assert 0.0 < values.read < 0.01
    assert (values.low, values.high) == (280.0, 280.0)


def test_escape_sequences_of_a_file_reach_no_terminal(path: Path, shell: Shell) -> None:
    make_dataset(
        path=path,
        attributes={"long_name": "\x1b[31mred\x1b]0;title\x07\u202e\x9b2J", "cell_methods": "a\nb"},
    ).close()
    result = shell("inspect", path, "--no-priors")
    assert result.code == 0
    assert "tas (?[31mred?]0;title???2J)" in result.out
    assert "a b" in result.out
    assert not set("\x1b\x07\x9b\u202e") & set(result.out)


def test_escape_sequences_in_errors_reach_no_terminal(shell: Shell) -> None:
    result = shell("regrid", "no\x1b[2Jsuch.nc", "out.nc", "--grid", "1")
    assert result.code == 3
    assert result.message.endswith("no file matches no?[2Jsuch.nc")


def test_one_reason_is_said_once_for_all_priors(
    shell: Shell, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("climdown.priors.store.bundled_names", lambda: [tiny, "second"])
    load = store.load_prior
    monkeypatch.setattr("climdown.priors.store.load_prior", lambda name: load(tiny))
    make_dataset(path=Path("ta.nc"), standard_name="sea_water_salinity", name="so").close()
    out = shell("inspect", "ta.nc").out
    assert out.count("does not fit") == 1
    assert f"priors {tiny}, second" in out


def test_a_reason_that_the_variable_gives_is_not_given_again(shell: Shell, tiny: str) -> None:
    write_tas(Path("tas.nc"), time_units="months since 2001-01-01")
    out = shell("inspect", "tas.nc").out
    assert out.count("cannot be decoded") == 1
    assert "does not fit: it is not readable" in out


def test_every_file_is_shown_and_the_worst_gives_the_code(shell: Shell) -> None:
    for name in ("a.nc", "c.nc"):
        write_tas(Path(name))
    Path("b.nc").write_text("no NetCDF", encoding="utf-8")
    result = shell("inspect", "--no-priors", "a.nc", "b.nc", "no_*.nc", "c.nc")
    assert result.code == 3
    assert result.out.count("air_temperature") == 2
    errors = [line for line in result.err.splitlines() if "error:" in line]
    assert len(errors) == 2
    assert "b.nc: cannot be read as NetCDF" in errors[0]
    assert "no file matches no_*.nc" in errors[1]
