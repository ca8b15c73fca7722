"""What could mislead an evaluation: each is made right, told, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr

from tests.commands import Result, Shell
from tests.factories import Floats
from tests.judging import (
    LAT,
    LON,
    assert_same_scores,
    members_of,
    rain_of,
    scores_in,
    weather,
    write_case,
    write_coarse,
    write_members,
)
from tests.series import PR, Dates, daily, write_days

DAYS = daily(2001, 1)
REFERENCE = ("--reference", "ref.nc")


def judged(shell: Shell, *words: object, to: str = "scores.json") -> dict[str, float]:
    """Values of the measures of tas of `out`."""
    result = shell("evaluate", *map(str, words), "--json", to, "--overwrite")
    assert result.code == 0, result.err
    return {m: s["value"] for (o, v, m), s in scores_in(to).items() if (o, v) == ("out", "tas")}


def refused(shell: Shell, code: int, *words: object) -> str:
    result: Result = shell("evaluate", *map(str, words), "--json", "refused.json")
    assert result.code == code, result.err
    assert not Path("refused.json").exists()
    return result.message


def write_truth(truth: Floats, dates: Dates = DAYS, **options: Any) -> None:
    write_days("ref.nc", dates, truth, lat=LAT, lon=LON, **options)


@pytest.fixture
def truth(shell: Shell) -> Floats:
    """`out.nc` of three members around it, and `ref.nc`, of the days of a year."""
    values = weather(DAYS)
    write_members("out.nc", DAYS, members_of(values, 3))
    write_truth(values)
    return values


def test_other_units_are_converted(shell: Shell, truth: Floats) -> None:
    kelvin = judged(shell, "out.nc", *REFERENCE)
    Path("ref.nc").unlink()
    write_truth(truth - 273.15, units="degC")
    celsius = judged(shell, "out.nc", *REFERENCE)
    assert np.isclose(celsius["crps"], kelvin["crps"], rtol=1e-4)
    assert np.isclose(celsius["mean"], kelvin["mean"] - 273.15, atol=1e-3)


def test_units_that_are_wrong_are_refused(shell: Shell, truth: Floats) -> None:
    write_members("out.nc", DAYS, members_of(truth - 273.15, 3))
    message = refused(shell, 3, "out.nc", *REFERENCE)
    assert "out.nc: variable 'tas' has 100.00% of its values outside" in message


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "proleptic_gregorian"])
def test_other_calendars_share_the_dates_that_both_have(
    shell: Shell, truth: Floats, calendar: str
) -> None:
    theirs = daily(2001, 1, calendar=calendar)
    places = {(d.month, d.day): i for i, d in enumerate(DAYS)}
    values = np.stack([truth[places.get((d.month, d.day), 0)] for d in theirs])
    write_truth(values, theirs)
    shared = sum((d.month, d.day) in places for d in theirs)
    result = shell("evaluate", "out.nc", *REFERENCE, "--json", "s.json")
    assert result.code == 0, result.err
    assert f"{shared} shared dates whose weather corresponds" in Path("s.json").read_text("utf-8")
    assert scores_in("s.json")["out", "tas", "crps"]["value"] < 0.4


def test_only_cells_that_all_have_are_judged(shell: Shell, truth: Floats) -> None:
    alone = judged(shell, "out.nc", *REFERENCE, "--region", f"-4.5,-2.5,{LAT[0] - 0.1},{LAT[-1]}")
    masked = truth.copy()
    masked[:, :, LON < -4.5] = np.nan
    write_truth(masked)
    for pairing in ("--paired", "--unpaired"):
        assert np.isclose(judged(shell, "out.nc", *REFERENCE, pairing)["mean"], alone["mean"])
    write_truth(truth)
    members = members_of(truth, 3)
    members[..., LON < -4.5] = np.nan
    write_members("out.nc", DAYS, members)
    for pairing in ("--paired", "--unpaired"):
        result = shell("evaluate", "out.nc", *REFERENCE, pairing, "--json", "m.json", "--overwrite")
        assert "of its 80 cells are left out, since an output has no values there" in result.err
        score = scores_in("m.json")["out", "tas", "mean"]
        assert np.isclose(score["value"], alone["mean"])
        rows = truth[..., LON >= -4.5].mean(axis=(0, 2))
        expected = np.average(rows, weights=np.cos(np.radians(LAT)))
        assert np.isclose(score["reference"], expected, rtol=1e-6)


def test_masks_that_have_no_cell_in_common_are_refused(shell: Shell, truth: Floats) -> None:
    east = np.where(LON > -3.5, truth, np.nan)
    west = np.where(LON < -3.5, truth, np.nan)
    write_truth(east)
    write_members("out.nc", DAYS, west[:, None])
    message = refused(shell, 3, "out.nc", *REFERENCE)
    assert "has values in no cell in which all outputs have some" in message


@pytest.mark.parametrize("turn", [360.0, -360.0])
def test_longitudes_have_two_conventions(shell: Shell, truth: Floats, turn: float) -> None:
    expected = judged(shell, "out.nc", *REFERENCE)
    write_days("ref.nc", DAYS, truth, lat=LAT, lon=LON + turn)
    assert judged(shell, "out.nc", *REFERENCE) == pytest.approx(expected, rel=1e-9)


def test_regions_may_lie_across_the_seam_of_a_globe(shell: Shell) -> None:
    lon = np.arange(0.0, 360.0, 10.0)
    values = weather(DAYS, lon=lon)
    write_members("out.nc", DAYS, members_of(values, 2), lon=lon)
    write_days("ref.nc", DAYS, values, lat=LAT, lon=lon)
    across = judged(shell, "out.nc", *REFERENCE, "--region", "-25,25,40,42")
    turned = np.roll(values, 18, axis=2)
    write_days("ref.nc", DAYS, turned, lat=LAT, lon=lon - 180.0)
    # Of a globe on one side and the part that it shares on the other, in another convention.
    assert judged(shell, "out.nc", *REFERENCE, "--region", "-25,25,40,42") == across
    part = (lon <= 20) | (lon >= 340)
    shifted = np.sort((lon[part] + 180) % 360 - 180)
    order = np.argsort((lon[part] + 180) % 360)
    write_days("ref.nc", DAYS, values[:, :, part][:, :, order], lat=LAT, lon=shifted)
    assert judged(shell, "out.nc", *REFERENCE) == pytest.approx(across)


def test_monthly_means_are_not_days(shell: Shell, truth: Floats) -> None:
    months = np.array([cftime.datetime(2001, m, 16, calendar="standard") for m in range(1, 13)])
    write_truth(weather(months), months)
    message = refused(shell, 3, "out.nc", *REFERENCE)
    assert "has steps of" in message
    assert "cdo daymean" in message


def test_an_input_of_other_steps_is_refused(shell: Shell, truth: Floats) -> None:
    months = np.array([cftime.datetime(2001, m, 16, calendar="standard") for m in range(1, 13)])
    write_coarse("gcm.nc", months, weather(months))
    write_members("base.nc", DAYS, members_of(truth, 1))
    words = ("out.nc", *REFERENCE, "--input", "gcm.nc", "--baseline", "base.nc")
    assert "expected the same: average the finer one" in refused(shell, 3, *words)


def test_one_member_is_judged_by_its_absolute_error(shell: Shell, truth: Floats) -> None:
    member = members_of(truth, 1)
    write_members("out.nc", DAYS, member)
    found = judged(shell, "out.nc", *REFERENCE)
    expected = np.abs(member[:, 0] - truth).mean(axis=(0, 2)) @ np.cos(np.radians(LAT))
    assert np.isclose(found["crps"], expected / np.cos(np.radians(LAT)).sum(), rtol=1e-3)


def test_no_member_dimension_is_one_member(shell: Shell, truth: Floats) -> None:
    write_members("one.nc", DAYS, members_of(truth, 1))
    write_days("flat.nc", DAYS, members_of(truth, 1)[:, 0], lat=LAT, lon=LON)
    expected = judged(shell, "out=one.nc", *REFERENCE)
    assert judged(shell, "out=flat.nc", *REFERENCE) == expected


@pytest.mark.parametrize("dimension", ["member", "number", "ensemble"])
def test_members_lie_along_dimensions_of_any_name(
    shell: Shell, truth: Floats, dimension: str
) -> None:
    judged(shell, "out.nc", *REFERENCE, to="one.json")
    write_members("out.nc", DAYS, members_of(truth, 3), dimension=dimension, bounds=True)
    judged(shell, "out.nc", *REFERENCE, to="two.json")
    assert_same_scores("two.json", "one.json")


def test_members_and_years_may_be_files(shell: Shell, truth: Floats) -> None:
    judged(shell, "out.nc", *REFERENCE, to="one.json")
    members = members_of(truth, 3)
    for i in range(3):
        for half, part in enumerate((slice(0, 200), slice(200, None))):
            write_days(f"m{i}_{half}.nc", DAYS[part], members[part, i], lat=LAT, lon=LON)
    judged(shell, "out=m*.nc", *REFERENCE, to="two.json")
    judged(shell, *(f"out=m{i}_{h}.nc" for i in range(3) for h in (1, 0)), *REFERENCE, to="3.json")
    assert_same_scores("two.json", "one.json")
    assert_same_scores("3.json", "one.json")
    Path("m2_1.nc").unlink()
    message = refused(shell, 3, "out=m*.nc", *REFERENCE)
    assert "files of the same times are taken as members, and there are 2, 3" in message


def test_descending_latitudes_are_turned(shell: Shell, truth: Floats) -> None:
    judged(shell, "out.nc", *REFERENCE, to="one.json")
    write_members("out.nc", DAYS, members_of(truth, 3)[:, :, ::-1], lat=LAT[::-1])
    judged(shell, "out.nc", *REFERENCE, to="two.json")
    assert_same_scores("two.json", "one.json")


@pytest.mark.parametrize("value", [0.0, 285.0])
def test_constant_fields_give_numbers(shell: Shell, truth: Floats, value: float) -> None:
    name: dict[str, Any] = (
        {"name": "hurs", "standard_name": "relative_humidity", "units": "%"} if not value else {}
    )
    constant = np.full_like(truth, value)
    write_truth(constant, **name)
    write_members("out.nc", DAYS, constant[:, None].repeat(2, axis=1), **name)
    result = shell("evaluate", "out.nc", *REFERENCE, "--json", "scores.json")
    assert result.code == 0, result.err
    assert "Warning" not in result.err
    found = {m: s["value"] for (_, _, m), s in scores_in("scores.json").items()}
    assert found["crps"] == 0.0
    assert "all 2 members are one and the same field" in result.out


def test_a_single_day_has_scores_and_no_interval(shell: Shell, truth: Floats) -> None:
    write_truth(truth[:1], DAYS[:1])
    result = shell("evaluate", "out.nc", *REFERENCE, "--json", "scores.json")
    assert result.code == 0, result.err
    score = scores_in("scores.json")["out", "tas", "crps"]
    assert score["value"] > 0
    assert score["low"] is None
    assert "cannot be told" in result.out
    assert "\tgood\t" not in result.out


def test_single_days_may_be_stamped_at_any_hour(shell: Shell, truth: Floats) -> None:
    midnight = np.array([cftime.datetime(2001, 1, 1, calendar="standard")])
    write_truth(truth[:1], midnight)
    write_members("out.nc", DAYS[:1], members_of(truth[:1], 3))
    result = shell("evaluate", "out.nc", *REFERENCE, "--json", "scores.json")
    assert result.code == 0, result.err
    assert "1 shared dates" in Path("scores.json").read_text("utf-8")


def test_rain_may_never_fall(shell: Shell, truth: Floats) -> None:
    dry = np.zeros_like(truth)
    write_truth(dry, **PR)
    write_members("out.nc", DAYS, dry[:, None].repeat(3, axis=1), **PR)
    result = shell("evaluate", "out.nc", *REFERENCE, "--json", "scores.json")
    assert result.code == 0, result.err
    assert "Warning" not in result.err
    assert scores_in("scores.json")["out", "pr", "crps"]["value"] == 0.0


def test_no_shared_date_compares_distributions(shell: Shell, truth: Floats) -> None:
    later = daily(2051, 1)
    write_truth(weather(later, seed=9), later)
    result = shell("evaluate", "out.nc", *REFERENCE, "--json", "scores.json")
    assert result.code == 0, result.err
    assert "no date is shared: distributions are compared, not days" in result.out
    assert ("out", "tas", "crps") not in scores_in("scores.json")
    message = refused_paired = shell("evaluate", "out.nc", *REFERENCE, "--paired").message
    assert "no date of ref.nc" in refused_paired
    assert "give a reference of the same days, or --unpaired" in message


def test_the_same_dates_of_other_weather_are_no_pairs(shell: Shell, truth: Floats) -> None:
    write_truth(weather(DAYS, seed=5))
    result = shell("evaluate", "out.nc", *REFERENCE)
    assert result.code == 0, result.err
    assert "their weather does not correspond" in result.out


def test_seasons_are_not_judged_against_years(shell: Shell, truth: Floats) -> None:
    winters = daily(1991, 3, months=(1, 2))
    write_truth(weather(winters, seed=3), winters)
    score = judged(shell, "out.nc", *REFERENCE, "--unpaired")
    early = members_of(truth, 3)[:59].mean(axis=(0, 1, 3)) @ np.cos(np.radians(LAT))
    assert np.isclose(score["mean"], early / np.cos(np.radians(LAT)).sum(), rtol=1e-5)
    summers = daily(1991, 1, months=(7,))
    write_truth(weather(summers), summers)
    write_members("out.nc", DAYS[:30], members_of(truth, 3)[:30])
    assert "no month in common" in refused(shell, 3, "out.nc", *REFERENCE)


def test_a_period_without_days_is_refused(shell: Shell, truth: Floats) -> None:
    message = refused(shell, 3, "out.nc", *REFERENCE, "--time", "1950/1960")
    assert "ref.nc" in message
    assert "no time step lies in 1950/1960" in message


def test_no_overlap_in_space_is_refused(shell: Shell, truth: Floats) -> None:
    write_days("ref.nc", DAYS, truth, lat=LAT + 10, lon=LON)
    assert "does not touch the region" in refused(shell, 4, "out.nc", *REFERENCE)
    assert "does not touch" in refused(shell, 4, "out.nc", *REFERENCE, "--grid", "output")


def test_a_region_without_cells_is_refused(shell: Shell, truth: Floats) -> None:
    words = ("out.nc", *REFERENCE, "--region", "20,30,40,42")
    assert "has no cells in the region 20,30,40,42" in refused(shell, 4, *words)


def test_other_grids_are_made_one_only_where_asked(shell: Shell, truth: Floats) -> None:
    fine_lat, fine_lon = np.arange(40.05, 42, 0.1), np.arange(-4.95, -2.5, 0.1)
    fine = np.repeat(truth[:, :1, :1], fine_lat.size, axis=1).repeat(fine_lon.size, axis=2)
    write_days("ref.nc", DAYS, fine, lat=fine_lat, lon=fine_lon)
    message = refused(shell, 4, "out.nc", *REFERENCE)
    assert "ref.nc has other cells" in message or "ref.nc: variable 'tas' has other" in message
    assert "give --grid reference, --grid output or another grid" in message
    for grid in ("reference", "output", "0.5"):
        found = judged(shell, "out.nc", *REFERENCE, "--grid", grid)
        assert np.isfinite(found["mean"])
    assert "all regridded to it (--grid 0.5)" in Path("scores.json").read_text("utf-8")


def test_curvilinear_references_are_regridded_where_asked(shell: Shell, truth: Floats) -> None:
    def curved(dataset: xr.Dataset) -> xr.Dataset:
        lat, lon = np.meshgrid(LAT, LON, indexing="ij")
        turned = dataset.rename(lat="y", lon="x").drop_vars(["y", "x"])
        said = (
            {"standard_name": "latitude", "units": "degrees_north"},
            {"standard_name": "longitude", "units": "degrees_east"},
        )
        turned = turned.assign_coords(
            lat2=(("y", "x"), lat + 0.01 * (lon + 4), said[0]), lon2=(("y", "x"), lon, said[1])
        )
        turned["tas"].attrs["coordinates"] = "lat2 lon2"
        return turned

    write_truth(truth, change=curved)
    assert "lies on a mesh" in refused(shell, 4, "out.nc", *REFERENCE)
    assert judged(shell, "out.nc", *REFERENCE, "--grid", "output")["crps"] < 1.0


@pytest.mark.parametrize("broken", ["ref.nc", "out.nc"])
def test_fill_values_that_files_do_not_declare_are_refused(
    shell: Shell, truth: Floats, broken: str
) -> None:
    values = truth.copy()
    values[200, 3, 3] = -9999.0
    if broken == "ref.nc":
        write_truth(values)
    else:
        write_members("out.nc", DAYS, values[:, None])
    message = refused(shell, 3, "out.nc", *REFERENCE)
    assert f"{broken}: variable 'tas' has values of -9999" in message
    assert "a fill value that the file does not declare" in message


def test_a_variable_that_is_nowhere_is_refused(shell: Shell, truth: Floats) -> None:
    message = refused(shell, 2, "out.nc", *REFERENCE, "--variable", "psl")
    assert "ref.nc has no variable 'psl'; it has tas" in message
    write_days("rain.nc", DAYS, rain_of(truth), lat=LAT, lon=LON, **PR)
    assert "air_temperature" in refused(shell, 3, "rain.nc", *REFERENCE)


def test_outputs_may_have_other_variables(shell: Shell) -> None:
    truth = write_case(DAYS)
    write_members("dry.nc", DAYS, members_of(truth, 2))
    result = shell("evaluate", "out.nc", "dry.nc", *REFERENCE, "--json", "scores.json")
    assert result.code == 0, result.err
    found = scores_in("scores.json")
    assert ("dry", "tas", "crps") in found
    assert ("dry", "pr", "crps") not in found
    assert ("out", "pr", "crps") in found


def test_of_a_reference_of_many_members_the_first_is_taken(shell: Shell, truth: Floats) -> None:
    expected = judged(shell, "out.nc", *REFERENCE)
    write_members("ref.nc", DAYS, np.stack([truth, truth + 5], axis=1))
    result = shell("evaluate", "out.nc", *REFERENCE, "--json", "scores.json", "--overwrite")
    assert "the first of its 2 members is taken as the reference" in result.err
    assert scores_in("scores.json")["out", "tas", "crps"]["value"] == expected["crps"]


def test_fewer_members_than_asked_for_are_refused(shell: Shell, truth: Floats) -> None:
    message = refused(shell, 2, "out.nc", *REFERENCE, "--members", 4)
    assert "out.nc has 3 members; --members asks 4" in message


def test_an_input_without_the_dates_is_refused(shell: Shell, truth: Floats) -> None:
    later = daily(2051, 1)
    write_coarse("gcm.nc", later, weather(later))
    write_members("base.nc", DAYS, members_of(truth, 1))
    words = ("out.nc", *REFERENCE, "--baseline", "base.nc", "--input", "gcm.nc")
    assert "expected what it was made from" in refused(shell, 3, *words)
