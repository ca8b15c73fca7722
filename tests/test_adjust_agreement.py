"""What reference, historical simulation and simulation must have in common, and what is said."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr

from tests.commands import Result, Shell, read_members
from tests.factories import Floats
from tests.priors import write_tiny_prior
from tests.series import PER_DAY, PR, WINTER, Dates, daily, everywhere, noise, write_days

DAYS = daily(2001, 3)


def seasonal(dates: Dates) -> Floats:
    """A climate of 20 K between January and July, the same in every year."""
    turn = np.array([2.0 * np.pi * date.dayofyr / 365.0 for date in dates])
    return np.asarray(285.0 - 10.0 * np.cos(turn))


def adjusted(shell: Shell, *options: Any, command: str = "qdm") -> Result:
    return shell(command, "--ref", "ref.nc", "--hist", "hist.nc", "sim.nc", "out.nc", *options)


def some(first: int, keep: Any, years: int = 3) -> Dates:
    dates = daily(first, years)
    return dates[[bool(keep(date)) for date in dates]]


SEASONS = {
    "winter": lambda d: d.month in (12, 1, 2),
    "summer": lambda d: d.month in (6, 7, 8),
    "from the middle of a month": lambda d: (d.month, d.day) >= (11, 15) or d.month <= 2,
}


@pytest.mark.parametrize("lacking", ["hist and sim", "ref", "sim"])
@pytest.mark.parametrize("season", list(SEASONS))
@pytest.mark.parametrize("group", ["none", "dayofyear", "month"])
def test_only_days_that_all_share_count(
    shell: Shell, group: str, season: str, lacking: str
) -> None:
    """The model has no bias, so that the correction is 0 K on every day that it has."""
    for name, first in (("ref", 2001), ("hist", 2001), ("sim", 2051)):
        dates = some(first, SEASONS[season]) if name in lacking.split() else daily(first, 3)
        write_days(f"{name}.nc", dates, everywhere(seasonal(dates)))
    result = adjusted(shell, "--group", group)
    assert result.code == 0, result.err
    sim, found = read_members("sim.nc"), read_members("out.nc")
    judged = np.isfinite(found).all(axis=(1, 2))
    expected = len(sim) if "sim" in lacking.split() else len(some(2051, SEASONS[season]))
    assert abs(int(judged.sum()) - expected) <= 6, "days near either end of the season"
    # One day more or less at the end of a season, by leap years: 0.2 K a day at most.
    np.testing.assert_allclose(found[judged], sim[judged], rtol=0, atol=0.25)


def test_transport_counts_shared_days_alone(shell: Shell) -> None:
    winter, later = daily(2001, 3, months=WINTER), daily(2051, 3, months=WINTER)
    write_days("ref.nc", DAYS, everywhere(seasonal(DAYS)) + noise(DAYS, 1))
    write_days("hist.nc", winter, everywhere(seasonal(winter)) + noise(winter, 2))
    write_days("sim.nc", later, everywhere(seasonal(later)) + noise(later, 3))
    result = adjusted(shell, "--group", "none", "--epsilon", "0.05", command="ot")
    assert result.code == 0, result.err
    assert f"{len(winter)} historical and {len(winter)} reference days" in result.err
    change = read_members("out.nc").mean() - read_members("sim.nc").mean()
    # Two means of 271 days in 12 cells: 0.025 K of chance.
    assert abs(change) < 0.1


def test_days_that_are_not_shared_come_out_missing(shell: Shell) -> None:
    half = [date for date in DAYS if date.month != 1 or date.day > 15]
    write_days("ref.nc", np.array(half), everywhere(seasonal(np.array(half))))
    for name in ("hist", "sim"):
        write_days(f"{name}.nc", DAYS, everywhere(seasonal(DAYS)))
    result = adjusted(shell)
    assert "33 days of the simulation, the first 2001-01-03, are on days of the year" in result.err
    # Two days before the 16th and two after the turn of the year are near those that are there.
    missing = [date.month == 1 and 2 < date.day < 14 for date in DAYS]
    np.testing.assert_array_equal(np.isnan(read_members("out.nc")).all(axis=(1, 2)), missing)


def stepped(first: int, days: float, count: int) -> Dates:
    units = f"days since {first}-01-01"
    return np.asarray(cftime.num2date(days * (np.arange(count) + 0.5), units, "standard"))


def monthly(first: int, years: int) -> Dates:
    pairs = [(first + y, m) for y in range(years) for m in range(1, 13)]
    return np.array([cftime.datetime(y, m, 15, 12, calendar="standard") for y, m in pairs])


@pytest.mark.parametrize("command", ["qdm", "ot"])
@pytest.mark.parametrize(
    ("sample", "dates", "words"),
    [
        ("hist", monthly(1961, 30), "hist.nc: variable 'tas' has a time step of 31 days, ref.nc"),
        ("ref", monthly(2001, 3), "ref.nc: variable 'tas' one of 31 days"),
        ("sim", stepped(2001, 0.25, 3000), "sim.nc: variable 'tas' one of 6 hours"),
        ("hist", stepped(2001, 5.0, 200), "hist.nc: variable 'tas' has a time step of 5 days"),
    ],
)
def test_steps_that_differ_are_refused(
    shell: Shell, command: str, sample: str, dates: Dates, words: str
) -> None:
    for name in ("ref", "hist", "sim"):
        own = dates if name == sample else DAYS
        write_days(f"{name}.nc", own, 280.0 + noise(own, 1))
    result = adjusted(shell, command=command)
    assert result.code == 3
    assert words in result.message
    assert not Path("out.nc").exists()


def write_three(change: str, values: Any, **options: Any) -> None:
    """Three good files, of which one is another."""
    for seed, name in enumerate(("ref", "hist", "sim")):
        own = {**options, **(values if name == change and isinstance(values, dict) else {})}
        data = own.pop("data", lambda dates, seed: 285.0 + noise(dates, seed))
        write_days(f"{name}.nc", DAYS, data(DAYS, seed), **own)


def wet(dates: Dates, seed: int) -> Floats:
    return np.exp(noise(dates, seed))


@pytest.mark.parametrize("sample", ["ref", "hist", "sim"])
@pytest.mark.parametrize(
    ("good", "factor", "shift", "words"),
    [
        ({}, 1.0, -273.15, "unbelievable for tas"),
        ({}, 0.0, -999.0, "has no other value than -999"),
        ({}, 1.0, 1e20, "has 1e+20 values"),
        ({**PR, "units": "mm day-1", "data": wet}, 86400.0, 0.0, "unbelievable for pr"),
        ({**PR, "units": "mm day-1", "data": wet}, 1.0 / 86400.0, 0.0, "units of one must be"),
        (
            {"name": "hurs", "standard_name": "relative_humidity", "units": "%"}
            | {"data": lambda dates, seed: 60.0 + noise(dates, seed)},
            0.01,
            0.0,
            "units of one must be wrong",
        ),
    ],
    ids=["degC", "-999", "1e20", "kg as mm", "mm as kg", "share as %"],
)
def test_values_of_each_file_are_looked_at(
    shell: Shell, sample: str, good: dict[str, Any], factor: float, shift: float, words: str
) -> None:
    usual = good.get("data", lambda dates, seed: 285.0 + noise(dates, seed))
    wrong = {"data": lambda dates, seed: factor * usual(dates, seed) + shift}
    write_three(sample, wrong, **good)
    result = adjusted(shell)
    assert result.code == 3, result.err
    assert f"{sample}.nc" in result.message
    assert words in result.message


def test_periods_without_a_common_year_are_warned_of(shell: Shell) -> None:
    write_three("", None)
    past = daily(1850, 3)
    write_days("hist.nc", past, 285.0 + noise(past, 1))
    result = adjusted(shell, "--ref-period", "1991/2010")
    assert "ref.nc (2001 to 2003) and hist.nc (1850 to 1852) share no year" in result.err
    assert "ref.nc: the period 1991/2010 reaches beyond the file, which has 2001" in result.err
    with xr.open_dataset("out.nc") as file:
        report = file.attrs["bias_adjustment_report"]
    assert "reference: ref.nc, 1095 steps, 2001 to 2003; historical simulation: hist" in report


def test_most_years_apart_are_warned_of_and_common_ones_are_not(shell: Shell) -> None:
    write_three("", None)
    assert "share" not in adjusted(shell).err
    longer = daily(1994, 10)
    write_days("hist.nc", longer, 285.0 + noise(longer, 1))
    result = adjusted(shell, "--overwrite")
    assert "(1994 to 2003) share 3 of their years" in result.err


@pytest.mark.parametrize(
    ("hist", "sim", "words"),
    [
        (
            {"source_id": "A"},
            {"source_id": "B"},
            "has source_id A, sim.nc has B: the bias of one mo",
        ),
        ({"model_id": "A"}, {"model_id": "B"}, "hist.nc has model_id A, sim.nc has B"),
        ({"variant_label": "r1"}, {"variant_label": "r2"}, "the bias of one member is not that of"),
        (
            {"realization": 1, "initialization_method": 1, "physics_version": 1},
            {"realization": 1, "initialization_method": 1, "physics_version": 3},
            "1/1/1, sim.nc has 1/1/3",
        ),
        ({"variant_label": "r1"}, {"variant_label": "r2", "parent_variant_label": "r1"}, ""),
        ({"source_id": "A"}, {}, ""),
    ],
)
def test_another_model_or_member_is_warned_of(
    shell: Shell, hist: dict[str, Any], sim: dict[str, Any], words: str
) -> None:
    write_three("", None)
    for name, labels in (("hist", hist), ("sim", sim)):
        values = 285.0 + noise(DAYS, 1)
        write_days(f"{name}.nc", DAYS, values, change=partial(xr.Dataset.assign_attrs, **labels))
    result = adjusted(shell)
    assert result.code == 0, result.err
    assert words in result.err
    assert ("the bias of one" in result.err) == bool(words)


def test_a_short_simulation_may_be_ranked_among_the_historical_days(shell: Shell) -> None:
    """Quantile mapping of N(285, 2) onto N(282, 1), whose quantiles are linear in each other."""
    days, one = daily(1991, 12, months=(1,)), daily(2051, 1, months=(1,))
    ref = 282.0 + noise(days, 1)
    write_days("ref.nc", days, ref)
    write_days("hist.nc", days, 285.0 + 2.0 * (ref - 282.0))
    sim = 286.0 + 0.5 * noise(one, 2)
    write_days("sim.nc", one, sim)
    warned = adjusted(shell)
    assert "sim.nc has 1 years, hist.nc 12: its values are ranked among so few" in warned.err
    result = adjusted(shell, "--ranks", "hist", "--overwrite")
    assert "ranked among so few" not in result.err
    expected = 282.0 + (sim - 285.0) / 2.0
    np.testing.assert_allclose(read_members("out.nc"), expected, rtol=0, atol=1e-3)
    nearest = adjusted(shell, "--ranks", "hist", "--interpolation", "nearest", "--overwrite")
    assert nearest.code == 0, nearest.err
    # To the next of 100 quantiles, of which the inner ones lie 0.1 K apart at most.
    np.testing.assert_allclose(read_members("out.nc"), expected, rtol=0, atol=0.1)


def test_ratios_are_mapped_among_historical_days_too(shell: Shell) -> None:
    wind: Any = {"name": "sfcWind", "standard_name": "wind_speed", "units": "m s-1"}
    days, one = daily(1991, 12, months=(1,)), daily(2051, 1, months=(1,))
    ref, sim = wet(days, 1), wet(one, 2)
    write_days("ref.nc", days, ref, **wind)
    write_days("hist.nc", days, 2.0 * ref, **wind)
    write_days("sim.nc", one, sim, **wind)
    assert adjusted(shell, "--ranks", "hist").code == 0
    np.testing.assert_allclose(read_members("out.nc", "sfcWind"), sim / 2.0, rtol=1e-5)


def test_a_report_of_rain_counts_the_months_of_the_simulation(shell: Shell) -> None:
    """Half of the days are dry in January, all in July; the simulation has January alone."""
    day = np.array([date.month == 1 and date.day % 2 == 0 for date in DAYS])
    amounts = np.where(day, 5.0, 0.0)
    write_days("ref.nc", DAYS, everywhere(amounts) / PER_DAY, **PR)
    write_days("hist.nc", DAYS, everywhere(amounts) / PER_DAY, **PR)
    january = np.array([date.month == 1 for date in DAYS])
    write_days("sim.nc", DAYS[january], everywhere(amounts[january]) / PER_DAY, **PR)
    result = adjusted(shell)
    share = 1.0 - day[january].mean()
    assert f"reference {share:.1%}, historical {share:.1%}, simulation {share:.1%}" in result.err


def test_parts_of_months_that_do_not_meet_are_refused(shell: Shell) -> None:
    for name, days in (("ref", range(1, 11)), ("hist", range(20, 31)), ("sim", range(1, 31))):
        dates = np.array([d for d in daily(2001, 4) if d.month == 1 and d.day in days])
        write_days(f"{name}.nc", dates, 280.0 + noise(dates, 1))
    result = adjusted(shell)
    assert result.code == 3
    assert "sim.nc: no step of tas is on a day of the year that the reference" in result.message


def test_quantiles_of_other_months_together_are_refused(shell: Shell) -> None:
    write_tiny_prior(Path("tiny"), quantiles=True)
    january = daily(2001, 4, months=(1,))
    write_days("hist.nc", january, 280.0 + noise(january, 1))
    files = ("--ref", "tiny", "--hist", "hist.nc", "hist.nc", "out.nc")
    result = shell("qdm", *files, "--group", "none")
    assert result.code == 2
    assert "prior tiny carries quantiles of months" in result.message
    assert "choose --group month" in result.message
    assert shell("qdm", *files).code == 0
