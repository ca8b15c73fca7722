"""What `climdown inspect` says of files as they are in the wild."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from climdown import inspection
from climdown.errors import InputError
from climdown.inspection import describe_file
from tests.factories import make_dataset


def report_of(path: Path) -> dict[str, str]:
    """The report of the file's only gridded variable."""
    (report,) = describe_file(path)
    labels = [label for label, _ in report]
    assert len(labels) == len(set(labels))
    return dict(report)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.nc"


def test_a_variable_is_described_line_by_line(path: Path) -> None:
    make_dataset(
        path=path,
        attributes={"long_name": "Air Temperature", "cell_methods": "time: mean"},
        values=lambda lat, lon, step: lat + 0.0 * lon + step,
        bounds=True,
    )
    report = report_of(path)
    assert list(report) == [
        "variable",
        "standard_name",
        "units",
        "dimensions",
        "cell_methods",
        "grid",
        "time",
        "values",
    ]
    assert report["variable"] == "tas (Air Temperature)"
    assert report["standard_name"] == "air_temperature"
    assert report["units"] == "K"
    assert report["dimensions"] == "time=3, lat=4, lon=5"
    assert report["cell_methods"] == "time: mean"
    assert report["grid"].startswith("4 x 5 cells of 2.5 deg, 38.75N..48.75N")
    assert report["time"] == (
        "3 steps from 2001-01-01 to 2001-01-03 (standard), every 1 days, months 1; "
        "days since 2001-01-01"
    )
    assert report["values"] == "40 to 49.5, mean 44.75, 0.0% missing"


def test_what_a_variable_lacks_is_said(path: Path) -> None:
    make_dataset(path=path, standard_name=None, units=None)
    report = report_of(path)
    assert report["variable"] == "tas (no long_name)"
    assert (report["standard_name"], report["units"]) == ("none", "none")
    assert "cell_methods" not in report


def test_each_gridded_variable_gets_its_report(path: Path) -> None:
    make_dataset(path=path, others={"pr": {"units": "mm day-1"}, "psl": {}}, bounds=True)
    variables = [dict(report)["variable"].split()[0] for report in describe_file(path)]
    assert sorted(variables) == ["pr", "psl", "tas"]


@pytest.mark.parametrize("block", [1, 200, 1 << 20])
def test_missing_and_infinite_values_are_counted_whatever_the_blocks(
    block: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_BLOCK_BYTES", block)
    missing = np.zeros((4, 5), dtype=bool)
    missing[0] = True
    make_dataset(
        path=path,
        values=lambda lat, lon, step: np.where(
            (lat == 47.5) & (lon == 0.0) & (step == 1), np.inf, step + 1.0 + 0.0 * (lat + lon)
        ),
        missing=missing,
    )
    # 15 of 20 cells, three steps of 1, 2 and 3, less the infinite one of the second.
    mean = (15 * 1 + 14 * 2 + 15 * 3) / 44
    assert report_of(path)["values"] == f"1 to 3, mean {mean:.4g}, 25.0% missing, 1 INFINITE"


def test_a_variable_without_any_value_is_all_missing(path: Path) -> None:
    make_dataset(path=path, missing=np.ones((4, 5), dtype=bool))
    assert report_of(path)["values"] == "all missing"


def test_gaps_and_months_of_a_season_are_counted(path: Path) -> None:
    winter = [float(day) for day in (*range(59), *range(334, 365))]
    make_dataset(path=path, times=winter, calendar="noleap")
    time = report_of(path)["time"]
    assert time.startswith("90 steps from 2001-01-01 to 2001-12-31 (noleap), every 1 days, 1 gaps")
    assert "months 1, 2, 12" in time


def test_a_single_step_has_no_interval(path: Path) -> None:
    make_dataset(path=path, times=[0.5])
    assert "every" not in report_of(path)["time"]


def test_an_axis_that_cannot_be_read_does_not_hide_the_rest(path: Path) -> None:
    make_dataset(lat=[40.0, 40.0, 41.0, 42.0]).drop_vars("time").to_netcdf(path)
    report = report_of(path)
    assert report["grid"] == "not readable: latitude is not strictly ascending"
    assert report["time"] == "not readable: variable 'tas' has no time axis"
    assert "missing" in report["values"]


def test_numbers_are_not_made_of_text_or_of_nothing(path: Path) -> None:
    dataset = make_dataset()
    dataset["flag"] = (("lat", "lon"), np.full((4, 5), "a", dtype=object))
    dataset.to_netcdf(path)
    reports = {dict(r)["variable"].split()[0]: dict(r) for r in describe_file(path)}
    assert reports["flag"]["values"].endswith(", 20 values")
    assert "mean" in reports["tas"]["values"]


@pytest.mark.parametrize(
    ("dataset", "found"),
    [(xr.Dataset(), "no variables"), (xr.Dataset({"a": ("x", [1.0]), "b": 2}), "a, b")],
    ids=["empty", "ungridded"],
)
def test_a_file_without_a_gridded_variable_lists_what_it_has(
    dataset: xr.Dataset, found: str, path: Path
) -> None:
    dataset.to_netcdf(path)
    expected = [[("variables", f"none with latitude and longitude; found {found}")]]
    assert describe_file(path) == expected


def test_a_file_that_is_not_netcdf_is_an_input_error(path: Path) -> None:
    path.write_text("no NetCDF", encoding="utf-8")
    with pytest.raises(InputError, match=r"file\.nc: cannot be read as NetCDF"):
        describe_file(path)


def test_a_file_that_does_not_exist_is_an_input_error(path: Path) -> None:
    with pytest.raises(InputError, match=r"file\.nc: cannot be read as NetCDF \(.*No such file"):
        describe_file(path)
