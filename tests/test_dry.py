"""Dry days: told apart before the mapping, put together after it."""

from __future__ import annotations

from typing import Any

import netCDF4
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from climdown.bias import dry
from climdown.bias.dry import dry_below, jitter_dry, spread_dry_quantiles
from climdown.bias.quantile import nodes
from tests.commands import Result, Shell, read_members
from tests.factories import Floats
from tests.series import PER_DAY, PR, daily, noise, write_days

DAYS = daily(2001, 3)
LATER = daily(2061, 3, calendar="noleap")


def amounts(seed: int, *, share: float, scale: float = 5.0, dates: Any = DAYS) -> Floats:
    """Rain in mm/day on all but a share of the days, cell by cell."""
    rng = np.random.default_rng(seed)
    shape = noise(dates, 0).shape
    wet = 0.1 + rng.gamma(0.8, scale, size=shape)
    return np.where(rng.uniform(size=shape) < share, 0.0, wet)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31 - 1),
    first=st.integers(0, 10**6),
    cut=st.integers(1, 6),
    threshold=st.sampled_from([0.05, 1.0, 0.05 / 86400.0, 3e-7]),
)
def test_jitter_is_below_the_threshold_and_knows_its_cell(
    seed: int, first: int, cut: int, threshold: float
) -> None:
    values = np.random.default_rng(seed).choice([0.0, threshold, -1e-9, np.nan, 7.0], (50, 7))
    values = values.astype(np.float32)
    options: Any = {"threshold": threshold, "seed": seed, "stream": "sim"}
    found = jitter_dry(values, first_cell=first, **options)
    low = values < np.float32(threshold)
    np.testing.assert_array_equal(found[~low], values[~low])
    assert (found[low] > 0.0).all()
    assert (found[low] < np.float32(threshold)).all()
    parts = [
        jitter_dry(part, first_cell=first + start, **options)
        for start, part in ((0, values[:, :cut]), (cut, values[:, cut:]))
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), found)
    assert not np.array_equal(jitter_dry(values, first_cell=first + 99, **options)[low], found[low])


def test_jitter_is_even_and_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = np.zeros((400, 500), dtype=np.float32)
    found = jitter_dry(zeros, 2.0, seed=3, stream="ref")
    assert np.unique(found).size > 0.98 * found.size
    assert kstest(found.ravel()[::7], "uniform", (0.0, 2.0)).pvalue > 0.01
    # Neighbours in time and space, other seeds and other series have nothing to do with it.
    pairs = [(found[:-1], found[1:]), (found[:, :-1], found[:, 1:])]
    for seed, stream in ((4, "ref"), (3, "sim")):
        pairs.append((found, jitter_dry(zeros, 2.0, seed=seed, stream=stream)))
    for one, other in pairs:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4.0 / one.size**0.5
    monkeypatch.setattr(dry, "_CHUNK", 1)
    np.testing.assert_array_equal(jitter_dry(zeros, 2.0, seed=3, stream="ref"), found)


def test_below_the_threshold_is_dry() -> None:
    values = np.array([0.0, 0.04, 0.05, np.nan, -1.0], dtype=np.float32)
    expected = np.array([0.0, 0.0, 0.05, np.nan, 0.0], dtype=np.float32)
    np.testing.assert_array_equal(dry_below(values, 0.05), expected)


def test_known_quantiles_are_those_of_jittered_days() -> None:
    series = np.maximum(np.linspace(-30.0, 30.0, 20_001), 0.0)[:, None].astype(np.float32)
    p = nodes(100)
    jittered = np.quantile(jitter_dry(series, 0.5, seed=0, stream="ref"), p, axis=0)
    known = np.quantile(series, p, axis=0)[None]
    known = np.concatenate([known, np.full_like(known, np.nan), known + 1.0]).astype(np.float32)
    found = spread_dry_quantiles(known, p, 0.5)
    # Dry days are a little more than half; the node at their end may lie on either side.
    np.testing.assert_allclose(found[0], jittered, atol=0.015)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[2], known[2])
    assert (np.diff(found[0], axis=0) > 0).all()


def adjust(shell: Shell, *options: str) -> tuple[Result, Floats]:
    """The command's result and the adjusted values in mm/day."""
    result = shell("qdm", "--ref", "ref.nc", "--hist", "hist.nc", "sim.nc", "out.nc", *options)
    assert result.code == 0, result.err
    return result, PER_DAY * read_members("out.nc", "pr")


def write_rain(path: str, dates: Any, values: Floats) -> None:
    write_days(path, dates, values / PER_DAY, **PR)


@pytest.mark.parametrize(("ref", "hist"), [(0.6, 0.2), (0.3, 0.7)], ids=["drier", "wetter"])
@pytest.mark.parametrize("group", ["none", "month"])
def test_the_share_of_dry_days_becomes_the_references(
    shell: Shell, ref: float, hist: float, group: str
) -> None:
    write_rain("ref.nc", DAYS, amounts(1, share=ref))
    write_rain("hist.nc", DAYS, amounts(2, share=hist))
    write_rain("sim.nc", DAYS, amounts(2, share=hist))
    result, found = adjust(shell, "--group", group)
    # Within a month chance decides a little which days fall below the threshold.
    assert (found == 0.0).mean() == pytest.approx(ref, abs=0.02 if group == "none" else 0.04)
    assert found.min() == 0.0
    assert found[found > 0.0].min() >= 0.0499, "the threshold is 0.05 mm/day"
    if ref > hist:  # else the bound of the ratio keeps days that must become wet small
        wanted = amounts(1, share=ref)
        mean = wanted[wanted > 0.0].mean()
        assert found[found > 0.0].mean() == pytest.approx(mean, rel=0.05)
    expected = (amounts(1, share=ref) == 0.0).mean()
    assert f"dry days (below 5.79e-07 kg m-2 s-1): reference {expected:.1%}" in result.err
    with netCDF4.Dataset("out.nc") as file:
        assert f"adjusted {(found == 0.0).mean():.1%}" in file.bias_adjustment_report
        assert "ratio bounded at 10 for" in file.bias_adjustment_report
        assert "500 quantiles" in file["pr"].bias_adjustment


def test_only_adjusted_cells_count_in_the_report(shell: Shell) -> None:
    ref = amounts(1, share=0.5)
    hist = amounts(2, share=0.5)
    ref[:, 0], hist[:, 0] = np.nan, 0.0  # a dry sea
    write_rain("ref.nc", DAYS, ref)
    write_rain("hist.nc", DAYS, hist)
    write_rain("sim.nc", DAYS, hist)
    result, _ = adjust(shell)
    shares = [
        float(part.split()[1][:-1])
        for part in result.err.split("s-1): ")[1].split("\n")[0].split(", ")
    ]
    np.testing.assert_allclose(shares, 50.0, atol=2.0)


def test_negative_rain_is_none(shell: Shell) -> None:
    write_rain("ref.nc", DAYS, amounts(1, share=0.5))
    hist = amounts(2, share=0.5)
    hist = np.where(hist == 0.0, -1e-4, hist)  # spectral models do that
    write_rain("hist.nc", DAYS, hist)
    write_rain("sim.nc", DAYS, hist)
    for threshold in ("0.05", "0"):
        result, found = adjust(shell, "--dry-threshold", threshold, "--overwrite")
        assert found.min() == 0.0
        assert ("dry days" in result.err) == (threshold != "0")


def test_the_threshold_is_given_in_mm_per_day(shell: Shell) -> None:
    for name in ("ref", "hist", "sim"):
        write_rain(f"{name}.nc", DAYS, amounts(4, share=0.2))
    result, found = adjust(shell, "--dry-threshold", "2")
    assert found[found > 0.0].min() >= 1.999
    assert f"dry days (below {2 / PER_DAY:.3g} kg m-2 s-1)" in result.err
    additive, found = adjust(shell, "--kind", "additive", "--overwrite")
    assert "dry days" not in additive.err
    np.testing.assert_allclose(found, amounts(4, share=0.2), atol=1e-4)


@pytest.mark.parametrize("bound", [3.0, 10.0])
def test_the_ratio_is_bounded_and_the_report_counts(shell: Shell, bound: float) -> None:
    write_rain("ref.nc", DAYS, amounts(1, share=0.0, scale=50.0))
    write_rain("hist.nc", DAYS, amounts(2, share=0.0, scale=0.5))
    sim = amounts(3, share=0.0, dates=LATER)
    write_rain("sim.nc", LATER, sim)
    result, found = adjust(shell, "--max-ratio", str(bound))
    ratio = found / sim
    assert ratio.max() <= bound * 1.00001
    at = (ratio > 0.9999 * bound).sum()
    assert at > 0.5 * ratio.size
    counted = int(result.err.split(f"ratio bounded at {bound:g} for ")[1].split()[0])
    # Values between a bounded and a free quantile are counted too.
    assert at <= counted <= 1.1 * at
    assert f"highest {found.max() / PER_DAY:.5g} kg m-2 s-1" in result.err


def test_the_seed_tells_dry_days_apart_and_little_else(shell: Shell) -> None:
    for seed, name in enumerate(("ref", "hist", "sim")):
        write_rain(f"{name}.nc", DAYS, amounts(seed, share=0.2 + 0.2 * seed))
    _, first = adjust(shell)
    _, again = adjust(shell, "--overwrite")
    _, other = adjust(shell, "--seed", "1", "--overwrite")
    np.testing.assert_array_equal(again, first)
    assert not np.array_equal(other, first)
    assert np.abs(other - first).mean() < 0.05 * first.mean()
    assert (other > 0.0).mean() == pytest.approx((first > 0.0).mean(), abs=0.01)


def test_a_month_that_was_always_dry_passes_on_what_the_model_has(shell: Shell) -> None:
    ref = amounts(1, share=0.5)
    summer = np.array([date.month == 7 for date in DAYS])
    ref[summer] = 0.0
    write_rain("ref.nc", DAYS, ref)
    write_rain("hist.nc", DAYS, ref)
    sim = amounts(3, share=0.5)
    write_rain("sim.nc", DAYS, sim)
    _, found = adjust(shell)
    assert np.isfinite(found).all()
    assert (found[summer] <= 10.0001 * np.maximum(sim[summer], 0.05)).all()
    assert found[summer].mean() == pytest.approx(sim[summer].mean(), rel=0.1)
