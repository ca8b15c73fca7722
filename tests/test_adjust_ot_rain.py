"""`climdown ot` and amounts: their distribution, changes and dry days; draws; nearly dry cells.

The right values are the reference's own numbers and the simulation's own changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.commands import Shell, read_members
from tests.factories import Floats
from tests.series import LAT, LON, PER_DAY, PR, WINTER, daily, noise, write_days

FAST = ("--epsilon", "0.05")
FILES = ("ref", "hist", "sim")
WINTERS = daily(2001, 6, months=WINTER)
SUMMERS = daily(2001, 8, months=(6, 7, 8))
WIND: dict[str, Any] = {"name": "sfcWind", "standard_name": "wind_speed", "units": "m s-1"}


def showers(dates: Any, seed: int, *, wet: Any, mean: Any) -> Floats:
    """Rain (mm/day) on a share of the days, the same weather in all cells but for some noise.

    Args:
        wet, mean: share of wet days and their mean, single numbers or for each day.
    """
    rng = np.random.default_rng(seed)
    weather = rng.normal(size=(len(dates), 1, 1)) + 0.3 * noise(dates, seed + 1)
    share = np.argsort(np.argsort(weather, axis=0), axis=0) / len(dates)
    amounts = 0.2 + rng.gamma(0.8, 1.0 / 0.8, size=share.shape)
    by_day = [np.reshape(np.broadcast_to(v, len(dates)), (-1, 1, 1)) for v in (wet, mean)]
    return np.where(share > 1.0 - by_day[0], by_day[1] * amounts, 0.0)


def adjusted(shell: Shell, *arguments: str, out: str = "out.nc") -> Path:
    result = shell("ot", "--ref", "ref.nc", "--hist", "hist.nc", "sim.nc", out, *arguments)
    assert result.code == 0, result.err
    return Path(out)


def rain_of(path: Path | str) -> Floats:
    return PER_DAY * read_members(str(path), "pr")


def write_rain(dates: Any, **samples: Floats) -> None:
    for name, rain in samples.items():
        write_days(f"{name}.nc", dates, rain / PER_DAY, **PR)


def dry(rain: Floats) -> float:
    return float((rain < 0.05).mean())


@pytest.mark.parametrize(
    ("wet", "mean", "options"),
    [
        (0.7, 3.0, ()),
        (0.25, 9.0, ()),
        (0.7, 3.0, ("--map", "sampled")),
        (0.7, 3.0, ("--no-keep-change",)),
        (0.25, 9.0, ("--no-keep-change",)),
        (0.7, 3.0, ("--eofs", "0.8")),
    ],
)
def test_a_history_adjusted_by_itself_has_the_references_rain(
    shell: Shell, wet: float, mean: float, options: tuple[str, ...]
) -> None:
    ref = showers(WINTERS, 1, wet=0.4, mean=6.0)
    hist = showers(WINTERS, 2, wet=wet, mean=mean)
    write_rain(WINTERS, ref=ref, hist=hist, sim=hist)
    found = rain_of(adjusted(shell, *FAST, *options))
    np.testing.assert_allclose(found.mean(axis=0), ref.mean(axis=0), rtol=0.05)
    assert found.mean() == pytest.approx(ref.mean(), rel=0.02)
    for probability in (0.95, 0.99):
        expected = np.quantile(ref, probability)
        assert np.quantile(found, probability) == pytest.approx(expected, rel=0.03)
    assert dry(found) == pytest.approx(dry(ref), abs=0.01)


def test_neighbours_go_together_as_observed(shell: Shell) -> None:
    ref = showers(WINTERS, 1, wet=0.4, mean=6.0)
    hist = np.stack(
        [showers(WINTERS, 10 + i, wet=0.6, mean=3.0).reshape(-1, 12)[:, i] for i in range(12)], 1
    ).reshape(ref.shape)
    write_rain(WINTERS, ref=ref, hist=hist, sim=hist)
    found = rain_of(adjusted(shell, *FAST))
    raw, wanted, after = (
        np.corrcoef(np.log1p(v.reshape(-1, 12) / 0.1).T)[np.triu_indices(12, 1)].mean()
        for v in (hist, ref, found)
    )
    assert raw < 0.1
    assert after > wanted - 0.1


@pytest.mark.parametrize(("wet", "mean"), [(0.7, 6.0), (0.2, 6.0), (0.4, 9.0), (0.6, 3.0)])
def test_a_changed_climate_keeps_its_dry_days_and_the_change_of_its_mean(
    shell: Shell, wet: float, mean: float
) -> None:
    ref, hist = (showers(WINTERS, seed, wet=0.4, mean=6.0) for seed in (1, 2))
    sim = showers(WINTERS, 3, wet=wet, mean=mean)
    write_rain(WINTERS, ref=ref, hist=hist, sim=sim)
    found = rain_of(adjusted(shell, *FAST))
    assert dry(found) == pytest.approx(1.0 - wet, abs=0.04)
    expected = (ref.mean(axis=0) * sim.mean(axis=0) / hist.mean(axis=0)).mean()
    assert found.mean() == pytest.approx(expected, rel=0.03)


def test_a_dry_july_stays_near_its_reference(shell: Shell) -> None:
    july = np.array([date.month == 7 for date in SUMMERS])
    ref = showers(SUMMERS, 1, wet=np.where(july, 0.05, 0.5), mean=np.where(july, 1.0, 5.0))
    hist = showers(SUMMERS, 2, wet=np.where(july, 0.4, 0.6), mean=4.0)
    write_rain(SUMMERS, ref=ref, hist=hist, sim=hist)
    found = rain_of(adjusted(shell, *FAST))
    assert found[july].mean() == pytest.approx(ref[july].mean(), rel=0.1)
    assert dry(found[july]) == pytest.approx(dry(ref[july]), abs=0.02)
    assert found[~july].mean() == pytest.approx(ref[~july].mean(), rel=0.02)


def test_winds_change_by_factors_and_never_turn_negative(shell: Shell) -> None:
    ref, hist = (np.exp(0.6 * noise(WINTERS, seed)) * m for seed, m in ((1, 2.0), (2, 5.0)))
    for name, wind in (("ref", ref), ("hist", hist), ("sim", 0.5 * hist)):
        write_days(f"{name}.nc", WINTERS, wind, **WIND)
    found = read_members(str(adjusted(shell, *FAST)), "sfcWind")
    assert found.min() > 0.0
    np.testing.assert_allclose(found.mean(axis=0), 0.5 * ref.mean(axis=0), rtol=0.01)
    assert np.quantile(found, 0.99) == pytest.approx(0.5 * np.quantile(ref, 0.99), rel=0.03)


def test_a_bounded_change_of_the_mean_is_counted(shell: Shell) -> None:
    """Ratios of 50 are cut to 10, and the factor that is missing, 5, to 2."""
    wind = np.exp(0.1 * noise(WINTERS, 1))
    wind *= 10.0 / wind.mean(axis=0)
    weak = np.ones((3, 4), dtype=bool)
    weak[:, 2:] = False
    hist = wind * np.where(weak, 0.02, 0.5)
    for name, values in (("ref", wind), ("hist", hist), ("sim", hist)):
        write_days(f"{name}.nc", WINTERS, values, **WIND)
    mean = read_members(str(adjusted(shell, *FAST)), "sfcWind").mean(axis=0)
    np.testing.assert_allclose(mean[~weak], 10.0, rtol=0.01)
    np.testing.assert_allclose(mean[weak], 10.0 * 0.02 * 10.0 * 2.0, rtol=0.01)
    report = xr.load_dataset("out.nc").attrs["bias_adjustment_report"]
    assert (
        ", the factor of the mean of sfcWind bounded to 0.5 to 2 for 18 of 36 cells and months"
    ) in report


def test_where_no_change_is_bounded_nothing_is_said(shell: Shell) -> None:
    write_rain(WINTERS, **{name: showers(WINTERS, 1, wet=0.4, mean=6.0) for name in FILES})
    report = xr.load_dataset(adjusted(shell, *FAST)).attrs["bias_adjustment_report"]
    assert "bounded" not in report


def test_a_few_days_get_the_ratio_of_their_place_in_the_history(shell: Shell) -> None:
    ref = showers(WINTERS, 1, wet=0.4, mean=6.0)
    write_rain(WINTERS, ref=ref, hist=2.0 * ref)
    write_rain(WINTERS[:5], sim=2.0 * ref[:5])
    found = rain_of(adjusted(shell, *FAST))
    # The transport may change the order of the five, not their amounts.
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(ref[:5], axis=0), atol=1e-3)


def test_rain_of_each_decade_has_its_own_change(shell: Shell) -> None:
    ref, hist = (showers(WINTERS, seed, wet=0.4, mean=6.0) for seed in (1, 2))
    write_rain(WINTERS, ref=ref, hist=hist)
    years = daily(2031, 20, calendar="noleap", months=WINTER)
    factor = np.where([date.year < 2041 for date in years], 1.0, 2.0)
    sim = showers(years, 3, wet=0.4, mean=6.0 * factor)
    write_days("sim.nc", years, sim / PER_DAY, **PR)
    found = rain_of(adjusted(shell, *FAST, "--years", "10"))
    for part in (factor == 1.0, factor == 2.0):
        expected = (ref.mean(axis=0) * sim[part].mean(axis=0) / hist.mean(axis=0)).mean()
        assert found[part].mean() == pytest.approx(expected, rel=0.03)


# --- Draws ---


def write_temperatures() -> Floats:
    ref = 280.0 + 3.0 * noise(WINTERS, 1)
    write_days("ref.nc", WINTERS, ref)
    for name in ("hist", "sim"):
        write_days(f"{name}.nc", WINTERS, 284.0 + 2.0 * noise(WINTERS, 2))
    return ref


def test_drawn_days_are_observed_ones_and_keep_their_variance(shell: Shell) -> None:
    ref = write_temperatures().reshape(-1, 12)
    drawn = read_members(str(adjusted(shell, "--map", "sampled", *FAST))).reshape(-1, 12)
    nearest = np.abs(drawn[:, None] - ref).max(axis=-1).min(axis=1)
    assert nearest.max() < 1e-3
    assert drawn.std(axis=0).mean() == pytest.approx(ref.std(axis=0).mean(), rel=0.03)
    mean = read_members(str(adjusted(shell, *FAST, out="mean.nc"))).reshape(-1, 12)
    assert mean.std(axis=0).mean() < 0.9 * ref.std(axis=0).mean()


def test_draws_depend_on_the_seed_alone(shell: Shell) -> None:
    write_temperatures()
    sampled = ("--map", "sampled", *FAST)
    first = read_members(str(adjusted(shell, *sampled)))
    np.testing.assert_array_equal(first, read_members(str(adjusted(shell, *sampled, out="b.nc"))))
    other = read_members(str(adjusted(shell, *sampled, "--seed", "1", out="c.nc")))
    assert (first != other).any()
    january = read_members(str(adjusted(shell, *sampled, "--time", "2003-01/2003-01", out="d.nc")))
    inside = [(date.year, date.month) == (2003, 1) for date in WINTERS]
    np.testing.assert_array_equal(january, first[inside])
    with xr.open_dataset("out.nc") as file:
        assert "observed days drawn" in file["tas"].attrs["bias_adjustment"]


def test_blocks_of_columns_do_not_change_rain(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = {n: showers(WINTERS, i, wet=0.5, mean=5.0) for i, n in enumerate(("ref", "hist"))}
    write_rain(WINTERS, **samples, sim=showers(WINTERS, 9, wet=0.6, mean=4.0))
    once = rain_of(adjusted(shell, *FAST))
    monkeypatch.setattr("climdown.adjust.amounts._BLOCK_BYTES", 8 * len(WINTERS) * 5)
    np.testing.assert_array_equal(once, rain_of(adjusted(shell, *FAST, out="blocks.nc")))


# --- Cells that hardly vary ---


def one_day(rain: Floats) -> None:
    rain[:, 1, 1] = 0.0
    rain[5, 1, 1] = 0.06


def one_storm(rain: Floats) -> None:
    rain[:, 2, 3] = 0.0
    rain[40, 2, 3] = 30.0


def two_cells(rain: Floats) -> None:
    rain[:, 0, :2] = 0.0
    rain[[7, 300], 0, :2] = 1.0


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("spoil", [one_day, one_storm, two_cells])
def test_a_nearly_dry_cell_does_not_outweigh_the_others(
    shell: Shell, spoil: Any, both: bool
) -> None:
    names = ("ref", "hist", "sim")
    rain = {n: showers(SUMMERS, 10 * i, wet=0.5, mean=4.0) for i, n in enumerate(names)}
    for name in names if both else ("ref",):
        spoil(rain[name])
    for i, name in enumerate(names):
        write_days(f"{name}.nc", SUMMERS, rain[name] / PER_DAY, **PR)
        warmth = 298.0 + 2.0 * i + 3.0 * noise(SUMMERS, 50 + i)
        write_days(f"{name}_tas.nc", SUMMERS, warmth)
    reference = np.std(298.0 + 3.0 * noise(SUMMERS, 50), axis=0)
    result = shell(
        *("ot", "--ref", "ref*.nc", "--hist", "hist*.nc", "sim*.nc", "out.nc"),
        *("--epsilon", "0.005"),
    )
    assert result.code == 0, result.err
    deviation = read_members("out.nc").std(axis=0)
    assert (deviation > 0.8 * reference).all()
    intact = np.ones((LAT.size, LON.size), dtype=bool)
    intact[[1, 2, 0, 0], [1, 3, 0, 1]] = False
    found = rain_of("out.nc")
    assert dry(found[:, intact]) == pytest.approx(0.5, abs=0.05)
