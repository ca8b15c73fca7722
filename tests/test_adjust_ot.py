"""`climdown ot`: days of all variables moved together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from climdown import cf
from climdown.adjust.options import OTOptions
from climdown.adjust.ot import describe, with_years
from tests.commands import Result, Shell, read_members
from tests.factories import Floats
from tests.priors import write_tiny_prior
from tests.series import LAT, LON, PER_DAY, PR, WINTER, daily, noise, write_days

DAYS = daily(2001, 4, months=WINTER)
# Enough for what is tested here, and quick.
FAST = ("--epsilon", "0.05")


def climate(seed: int, dates: Any, *, tie: float, warmth: float, wet: float) -> tuple[Floats, ...]:
    """Temperature (K) and rain (mm/day) that go together by a correlation of about `tie`."""
    common, own = (noise(dates, seed + i)[:, :1, :1] for i in (0, 50))
    cells = 0.3 * noise(dates, seed + 100)
    tas = warmth + 2.0 * (common + cells)
    rain = tie * common + (1.0 - tie**2) ** 0.5 * own + cells
    return tas, np.maximum(wet * np.exp(rain) - 0.5, 0.0)


def write_climate(name: str, dates: Any, tas: Floats, pr: Floats) -> None:
    write_days(f"{name}_tas.nc", dates, tas)
    write_days(f"{name}_pr.nc", dates, pr / PER_DAY, **PR)


REF = climate(1, DAYS, tie=0.9, warmth=280.0, wet=3.0)
HIST = climate(2, DAYS, tie=-0.5, warmth=284.0, wet=6.0)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    write_climate(f"{folder}/ref", DAYS, *REF)
    write_climate(f"{folder}/hist", DAYS, *HIST)
    return folder


@pytest.fixture
def files(shell: Shell, originals: Path) -> None:
    """ref_*.nc, whose warm days are wet, and hist_*.nc, whose warm days are dry."""
    shutil.copytree(originals, ".", dirs_exist_ok=True)


def ot(shell: Shell, *arguments: Any, sim: str = "hist_*.nc", out: str = "out.nc") -> Result:
    result = shell("ot", "--ref", "ref_*.nc", "--hist", "hist_*.nc", sim, out, *arguments)
    assert result.code == 0, result.err
    assert result.out == f"{out}\n"
    return result


def tie(tas: Floats, pr: Floats) -> float:
    return float(np.corrcoef(tas.mean(axis=(1, 2)), np.log1p(pr.mean(axis=(1, 2))))[0, 1])


def test_variables_go_together_as_observed(shell: Shell, files: None) -> None:
    result = ot(shell, *FAST)
    tas, pr = read_members("out.nc"), PER_DAY * read_members("out.nc", "pr")
    assert tie(*HIST) < -0.4
    assert tie(*REF) > 0.8
    assert tie(tas, pr) > 0.7
    np.testing.assert_allclose(tas.mean(axis=0), REF[0].mean(axis=0), atol=0.05)
    np.testing.assert_allclose(tas.std(axis=0), REF[0].std(axis=0), rtol=0.15)
    assert pr.mean() == pytest.approx(REF[1].mean(), rel=0.15)
    assert pr.min() == 0.0
    assert pr[pr > 0.0].min() >= 0.05, "less is none"
    with netCDF4.Dataset("out.nc") as file, netCDF4.Dataset("hist_tas.nc") as source:
        assert (file["tas"].units, file["pr"].units) == ("K", "kg m-2 s-1")
        np.testing.assert_array_equal(file["time"][:], source["time"][:])
        report = file.bias_adjustment_report
        assert file["pr"].bias_adjustment.startswith("multivariate entropic optimal transport")
    assert report.startswith(f"DJF: {len(DAYS)} historical and {len(DAYS)} reference days, eps")
    for sentence in report.split("; "):
        assert sentence in result.err


def test_the_output_is_the_simulations_part_of_the_reference(shell: Shell, files: None) -> None:
    for name, values in (("hist", HIST), ("sim", HIST)):
        wide = [np.pad(v, ((0, 0), (1, 1), (1, 1)), mode="edge") for v in values]
        place: dict[str, Any] = {
            "lat": np.append(LAT, [43.5, 39.5])[[4, 0, 1, 2, 3]],
            "lon": np.arange(-4.5, 1),
        }
        write_days(f"{name}_tas.nc", DAYS, wide[0], **place)
        write_days(f"{name}_pr.nc", DAYS, wide[1] / PER_DAY, **place, **PR)
    ot(shell, *FAST, sim="sim_*.nc")
    with xr.open_dataset("out.nc") as found:
        np.testing.assert_array_equal(found["lat"], LAT)
        np.testing.assert_array_equal(found["lon"], LON)
    write_climate("hist", DAYS, *HIST)
    ot(shell, *FAST, out="cut.nc")
    for name in ("tas", "pr"):
        np.testing.assert_array_equal(read_members("out.nc", name), read_members("cut.nc", name))


def test_a_day_that_one_variable_lacks_counts_in_none(shell: Shell, files: None) -> None:
    kept = np.arange(len(DAYS)) != 100
    write_climate("ref", DAYS[kept], *(values[kept] for values in REF))
    ot(shell, *FAST, out="both.nc")
    write_days("ref_tas.nc", DAYS, REF[0])
    result = ot(shell, *FAST, out="one.nc")
    assert f"{len(DAYS) - 1} reference days" in result.err
    holed = REF[0].copy()
    holed[100, 1, 1] = np.nan
    write_climate("ref", DAYS, holed, REF[1])
    ot(shell, *FAST, out="hole.nc")
    for name in ("tas", "pr"):
        expected = read_members("both.nc", name)
        np.testing.assert_array_equal(read_members("one.nc", name), expected)
        np.testing.assert_array_equal(read_members("hole.nc", name), expected)


def test_the_mean_change_is_kept_or_not(shell: Shell, files: None) -> None:
    ot(shell, *FAST, "--variable", "tas", out="before.nc")
    before = read_members("before.nc")
    write_days("sim_tas.nc", DAYS, HIST[0] + 3.0)
    ot(shell, *FAST, sim="sim_tas.nc", out="kept.nc")
    # A simulation that is the historical one and a constant keeps that constant exactly.
    np.testing.assert_allclose(read_members("kept.nc"), before + 3.0, rtol=0, atol=2e-3)
    ot(shell, *FAST, "--no-keep-change", sim="sim_tas.nc", out="lost.nc")
    lost = read_members("lost.nc")
    assert lost.max() <= REF[0].max() + 1e-3, "no mean of observed days is beyond them"
    assert (lost - before).mean() < 2.8
    with netCDF4.Dataset("kept.nc") as kept, netCDF4.Dataset("lost.nc") as file:
        assert kept["tas"].bias_adjustment.endswith("by season, mean change kept")
        assert file["tas"].bias_adjustment.endswith("by season")


def test_the_change_of_each_decade_is_its_own(shell: Shell, files: None) -> None:
    ot(shell, *FAST, "--variable", "tas", out="before.nc")
    hist = daily(2001, 10, calendar="noleap", months=WINTER)
    series = 284.0 + 2.0 * noise(hist, 7)
    write_days("hist_tas.nc", hist, series)
    future = daily(2031, 30, calendar="noleap", months=WINTER)
    change = np.repeat([1.0, 3.0, 6.0], len(hist))[:, None, None]
    write_days("sim_tas.nc", future, np.concatenate([series] * 3) + change)
    ot(shell, *FAST, "--years", "10", sim="sim_tas.nc")
    with netCDF4.Dataset("out.nc") as file:
        assert file["tas"].bias_adjustment.endswith("mean change kept, within 10 years")
    found = read_members("out.nc").reshape(3, -1, 3, 4)
    np.testing.assert_allclose(found[1] - 3.0, found[0] - 1.0, rtol=0, atol=2e-3)
    np.testing.assert_allclose(found[2] - 6.0, found[0] - 1.0, rtol=0, atol=2e-3)
    assert found[0].mean() == pytest.approx(REF[0].mean() + 1.0, abs=0.1)


@pytest.mark.parametrize(
    ("years", "asked", "said"),
    [
        (50, None, ", within 30 years"),
        (50, 0, ""),
        (40, None, ""),
        (50, 20, ", within 20 years"),
    ],
)
def test_the_description_names_the_years_of_the_change(
    tmp_path: Path, years: int, asked: int | None, said: str
) -> None:
    dates = daily(2001, years, months=(1,))
    path = write_days(tmp_path / "sim.nc", dates, 280.0 + noise(dates, 1))
    sim = cf.open_field(path, cf.Quantity("tas", ("air_temperature",), ("tas",), "K"))
    options = OTOptions(years=asked)
    assert describe(with_years(options, sim)).endswith(f"mean change kept{said}")
    without = with_years(replace(options, keep_change=False), sim)
    assert describe(without).endswith("by season")


@pytest.mark.parametrize(
    ("group", "labels"),
    [
        ("season", ["DJF:"]),
        ("month", ["month 1:", "month 2:", "month 12:"]),
        ("none", ["all days:"]),
    ],
)
def test_days_are_transported_in_groups(
    shell: Shell, files: None, group: str, labels: list[str]
) -> None:
    ot(shell, *FAST, "--group", group)
    with netCDF4.Dataset("out.nc") as file:
        report = str(file.bias_adjustment_report)
    parts = report.split("; ")
    starts = [part.split(":")[0] + ":" for part in parts]
    assert starts[: len(labels)] == labels
    samples = ("reference:", "historical simulation:", "simulation:")
    assert starts[len(labels) :] == ["pr:", "tas:", *2 * samples], "each of tas and pr"
    for name, units in (("tas", "K"), ("pr", "kg m-2 s-1")):
        values = read_members("out.nc", name)
        assert np.isfinite(values).all()
        line = f"{name}: {values.size} values adjusted, highest {values.max():.5g} {units}"
        assert line in parts


def test_a_season_without_a_reference_comes_out_missing(shell: Shell, files: None) -> None:
    dates = daily(2051, 2)
    write_climate("sim", dates, *climate(5, dates, tie=0.0, warmth=284.0, wet=6.0))
    january = np.array([date.month != 2 for date in DAYS])
    write_climate("ref", DAYS[january], REF[0][january], REF[1][january])
    result = ot(shell, *FAST, sim="sim_*.nc")
    assert "months 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 of the simulation are not in both" in result.err
    winter = [date.month in (12, 1) for date in dates]
    np.testing.assert_array_equal(np.isfinite(read_members("out.nc")).all(axis=(1, 2)), winter)


@pytest.mark.parametrize(("eofs", "words"), [("0.9", "EOFs (9"), ("5", "5 EOFs (")])
def test_transport_may_work_within_eofs(shell: Shell, files: None, eofs: str, words: str) -> None:
    result = ot(shell, *FAST, "--eofs", eofs)
    assert words in result.err
    assert tie(read_members("out.nc"), PER_DAY * read_members("out.nc", "pr")) > 0.6
    np.testing.assert_allclose(
        read_members("out.nc").mean(axis=0), REF[0].mean(axis=0), rtol=0, atol=0.1
    )


def test_epsilon_is_chosen_on_years_held_out(shell: Shell, files: None) -> None:
    result = ot(shell)
    chosen = float(result.err.split("reference days, epsilon ")[1].split(",")[0])
    assert chosen in (0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
    tried = [line for line in result.err.splitlines() if ": distance" in line]
    assert len(tried) >= 3
    given = ot(shell, "--epsilon", str(chosen), out="given.nc")
    assert "distance" not in given.err
    np.testing.assert_array_equal(read_members("given.nc"), read_members("out.nc"))


def test_too_few_years_to_choose_epsilon_by_take_the_default(shell: Shell, files: None) -> None:
    one = np.array([(date.year, date.month) in ((2001, 1), (2001, 2)) for date in DAYS])
    write_climate("ref", DAYS[one], REF[0][one], REF[1][one])
    result = ot(shell)
    assert "WARNING | too few years to choose epsilon by; taking 0.01" in result.err
    assert "reference days, epsilon 0.01," in result.err


def test_time_writes_a_part_of_what_is_adjusted_as_a_whole(shell: Shell, files: None) -> None:
    ot(shell, *FAST)
    ot(shell, *FAST, "--time", "2003-01/2003-02", out="part.nc")
    part = [(d.year, d.month) in ((2003, 1), (2003, 2)) for d in DAYS]
    for name in ("tas", "pr"):
        expected = read_members("out.nc", name)[part]
        np.testing.assert_array_equal(read_members("part.nc", name), expected)


def test_missing_cells_and_days_stay_missing(shell: Shell, files: None) -> None:
    tas, pr = (values.copy() for values in HIST)
    tas[:, 0, 0] = np.nan  # sea
    pr[77, 2, 3] = np.nan
    write_climate("sim", DAYS, tas, pr)
    ot(shell, *FAST, sim="sim_*.nc")
    found, rain = read_members("out.nc"), read_members("out.nc", "pr")
    assert np.isnan(found[:, 0, 0]).all()
    assert np.isfinite(rain[:76, 0, 0]).all(), "rain was there"
    assert np.isnan(found[77]).all()
    assert np.isnan(rain[77]).all()
    assert np.isfinite(np.delete(found[:, 1:], 77, axis=0)).all()


def refused(shell: Shell, *arguments: Any, sim: str = "hist_*.nc") -> Result:
    result = shell("ot", "--ref", "ref_*.nc", "--hist", "hist_*.nc", sim, "no.nc", *arguments)
    assert not Path("no.nc").exists()
    return result


def test_iterations_that_do_not_converge_end_in_code_8(shell: Shell, files: None) -> None:
    options = ("--epsilon", "0.001", "--max-iterations", "3", "--tolerance", "1e-6")
    result = refused(shell, *options)
    assert result.code == 8
    assert "DJF: Sinkhorn at epsilon 0.001 reached a marginal error of" in result.message
    assert "raise epsilon, or allow more iterations" in result.message
    result = refused(shell, "--max-iterations", "1", "--tolerance", "1e-9")
    assert result.code == 8
    assert "none of the epsilons" in result.message


def test_too_few_days_are_refused(shell: Shell, files: None) -> None:
    few = slice(0, 19)
    write_climate("ref", DAYS[few], REF[0][few], REF[1][few])
    result = refused(shell)
    assert result.code == 3
    assert "the reference has 19 complete days of DJF; transport needs at least" in result.message


def test_days_that_are_never_complete_are_refused(shell: Shell, files: None) -> None:
    # Every value is there on 46 of 48 days, but never all of them.
    values = np.stack([v[:48] for v in HIST], axis=1).reshape(48, 24)
    values[np.arange(48), np.arange(48) % 24] = np.nan
    tas, pr = np.moveaxis(values.reshape(48, 2, 3, 4), 1, 0)
    write_climate("sim", DAYS[:48], tas, pr)
    result = refused(shell, *FAST, sim="sim_*.nc")
    assert result.code == 3
    assert "no complete day could be adjusted; reference, historical and" in result.message


def test_cells_without_values_in_one_of_the_files_are_refused(shell: Shell, files: None) -> None:
    west, east = np.arange(4) < 2, np.arange(4) >= 2
    write_climate("ref", DAYS, *(np.where(west, v, np.nan) for v in REF))
    write_climate("hist", DAYS, *(np.where(east, v, np.nan) for v in HIST))
    result = refused(shell)
    assert result.code == 3
    assert (
        "no cell has pr on nearly all days of the reference (ref_pr.nc), the histori"
        in result.message
    )
    assert "the historical simulation (hist_pr.nc)" in result.message


def test_a_prior_cannot_be_the_reference(shell: Shell, files: None) -> None:
    write_tiny_prior(Path("tiny"), quantiles=True)
    result = shell("ot", "--ref", "tiny", "--hist", "hist_tas.nc", "hist_tas.nc", "no.nc")
    assert result.code == 2
    assert "prior tiny carries quantiles, which say nothing of how cells and" in result.message
    assert "(its data's licence may not allow more); give files of observ" in result.message


def test_variables_of_a_simulation_need_the_same_days(shell: Shell, files: None) -> None:
    write_days("hist_pr.nc", DAYS[5:], HIST[1][5:] / PER_DAY, **PR)
    result = refused(shell)
    assert result.code == 3
    words = "hist_tas.nc: of the 361 days of tas the variables of the simulation share 356; give"
    assert f"{words} them the same days" in result.message


def test_variables_of_a_reference_need_common_days(shell: Shell, files: None) -> None:
    later = daily(2011, 4, months=WINTER)
    write_days("ref_pr.nc", later, REF[1] / PER_DAY, **PR)
    result = refused(shell)
    assert result.code == 3
    assert "the variables of the reference share 0; give them days in common" in result.message


def test_more_than_memory_holds_is_refused(
    shell: Shell, files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("climdown.adjust.columns._MOST_BYTES", 3 * len(DAYS) * 24 * 4 - 1)
    result = refused(shell)
    assert result.code == 3
    assert "transport would hold 0.0 GiB of days in memory, and takes at most" in result.message
    monkeypatch.setattr("climdown.adjust.columns._MOST_BYTES", 3 * len(DAYS) * 24 * 4)
    monkeypatch.setattr("climdown.adjust.columns._READ_BYTES", 1000)
    ot(shell, *FAST, out="small.nc")
    monkeypatch.undo()


def test_variables_on_different_grids_need_a_grid(shell: Shell, files: None) -> None:
    write_days("hist_pr.nc", DAYS, HIST[1][:, :2, :2] / PER_DAY, **PR, lat=LAT[:2], lon=LON[:2])
    result = refused(shell)
    assert result.code == 3
    assert "lies on another grid than" in result.message
    result = ot(shell, *FAST, "--grid=-4,-2,40,42,1")
    assert read_members("out.nc").shape == (len(DAYS), 2, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--eofs", "40"), "of 24 columns there are 1 to 24 EOFs, found 40"),
        (("--eofs", "2.5"), "eofs is 2.5; need a share of the variance up to 1, or a whole"),
        (("--eofs", "0"), "eofs is 0.0; need a share"),
        (("--eofs=-3",), "eofs is -3.0; need a share"),
        (("--epsilon", "0"), "epsilon is 0.0; need more than 0"),
        (("--group", "day"), "--group is 'day'; expected none, season or month"),
        (("--tolerance", "0"), "tolerance is 0.0; need more than 0"),
        (("--max-iterations", "0"), "iterations is 0; need at least 1"),
        (("--years", "9"), "years is 9; need 0 or at least 10"),
        (("--device", "tpu"), "--device is 'tpu'"),
    ],
)
def test_wrong_options_end_in_code_2(
    shell: Shell, files: None, options: tuple[str, ...], words: str
) -> None:
    result = refused(shell, *options)
    assert result.code == 2
    assert words in result.message


def test_six_hourly_steps_are_not_taken_for_days(shell: Shell) -> None:
    days = daily(2001, 1, months=(1,))
    for name, shift in (("ref", 0.0), ("hist", 4.0)):
        for variable, seed, above in (("tas", 1, 0.0), ("tasmax", 2, 20.0)):
            write_days(
                f"{name}_{variable}.nc",
                days,
                280.0 + above + shift + noise(days, seed),
                name=variable,
                change=lambda d: d.assign_coords(
                    time=("time", 0.25 * np.arange(31), d["time"].attrs)
                ),
                attributes={"cell_methods": "time: maximum"} if variable == "tasmax" else {},
            )
    ot(shell, *FAST)
    found = read_members("out.nc")
    assert len(np.unique(found[:, 0, 0].round(3))) == 31
    np.testing.assert_allclose(found.mean(), 280.0 + noise(days, 1).mean(), atol=0.1)
