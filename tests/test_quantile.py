"""Quantile delta mapping against xsdba on real data, closed forms and its own symmetries."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import cftime
import numpy as np
import numpy.typing as npt
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from climdown.bias import quantile
from climdown.bias.dry import jitter_dry
from climdown.bias.grouping import Grouping
from climdown.bias.quantile import QuantileMap, adjust, group_quantiles, nodes, train
from climdown.errors import ConfigError, InputError
from tests.factories import Floats, shared_data

Dates = npt.NDArray[np.object_]

GROUPINGS = [Grouping("none"), Grouping("month"), Grouping("dayofyear", 31)]
names = pytest.mark.parametrize("grouping", GROUPINGS, ids=lambda grouping: grouping.kind)


def days(count: int, calendar: str = "noleap", start: str = "2001-01-01") -> Dates:
    numbers = np.arange(count) + 0.5
    return np.asarray(cftime.num2date(numbers, f"days since {start}", calendar))


def weather(
    dates: Dates, cells: int = 3, *, seed: int = 0, mean: float = 280.0, dtype: str = "f8"
) -> Floats:
    """A seasonal cycle with noise, in K, shape (time, cells)."""
    turn = np.array([2.0 * np.pi * (d.month + d.day / 31.0) / 12.0 for d in dates])
    noise = np.random.default_rng(seed).normal(size=(len(dates), cells))
    return np.asarray(mean - 10.0 * np.cos(turn)[:, None] + 4.0 * noise, dtype=dtype)


def rain(dates: Dates, cells: int = 3, *, seed: int = 0, scale: float = 3.0) -> Floats:
    """Amounts from zero up, none of them equal, in mm day-1."""
    return np.random.default_rng(seed).gamma(0.4, scale, size=(len(dates), cells))


def with_gaps(values: Floats, share: float = 0.1, seed: int = 9) -> Floats:
    return np.where(np.random.default_rng(seed).random(values.shape) < share, np.nan, values)


# Quantiles and ranks, by definition.


@names
def test_quantiles_are_numpys_for_each_group_and_cell(grouping: Grouping) -> None:
    dates = days(900, "standard")
    values = with_gaps(weather(dates))
    values[:, 1] = np.nan
    members = grouping.members(dates)
    found = group_quantiles(values, members, nodes(7))
    assert found.shape == (grouping.count, 7, 3)
    for group in range(0, grouping.count, 5):
        own = values[members[group][members[group] >= 0]]
        for cell in (0, 2):
            expected = np.nanquantile(own[:, cell], nodes(7))
            np.testing.assert_allclose(found[group, :, cell], expected, rtol=1e-14)
    assert np.isnan(found[:, :, 1]).all()


def test_a_group_of_few_values_has_no_quantiles() -> None:
    values = np.arange(20.0)[:, None] + np.zeros(2)
    values[: 20 - quantile.FEWEST, 0] = np.nan
    values[: 21 - quantile.FEWEST, 1] = np.nan
    found = group_quantiles(values, np.arange(20)[None], nodes(3))
    assert np.isfinite(found[..., 0]).all()
    assert np.isnan(found[..., 1]).all()


def test_nodes_are_middles_and_two_at_least() -> None:
    np.testing.assert_allclose(nodes(4), [0.125, 0.375, 0.625, 0.875])
    with pytest.raises(ConfigError, match="1 quantiles asked for; expected at least 2"):
        nodes(1)


def tau_of(sim: Floats, dates: Dates, grouping: Grouping, **options: Any) -> Floats:
    """The tau `adjust` gives each value, by a map whose correction is tau itself."""
    both = np.broadcast_to(np.array([0.0, 1.0])[:, None], (grouping.count, 2, sim.shape[1]))
    trained = QuantileMap("additive", grouping, np.array([0.0, 1.0]), both, 0.0 * both)
    return np.asarray(adjust(trained, sim, dates, **options).values - sim)


def ranked(sim: Floats, dates: Dates, grouping: Grouping) -> Floats:
    """tau by definition: average rank in the group's members, scaled to end at 0 and 1."""
    expected = np.full(sim.shape, np.nan)
    group, members = grouping.group_of(dates), grouping.members(dates)
    for step, cell in np.ndindex(sim.shape):
        row = members[group[step]]
        pool = sim[row[row >= 0], cell]
        if np.isfinite(sim[step, cell]):
            pool = pool[np.isfinite(pool)]
            rank = rankdata(pool)[np.flatnonzero(pool == sim[step, cell])[0]]
            expected[step, cell] = (rank - 1.0) / (len(pool) - 1.0)
    return expected


@names
@pytest.mark.parametrize("step", [0.0, 0.5, 8.0], ids=["no ties", "ties", "many ties"])
def test_tau_is_the_scaled_average_rank(grouping: Grouping, step: float) -> None:
    dates = days(800, "standard", "2003-11-20")
    sim = with_gaps(weather(dates, 2))
    sim = np.round(sim / step) * step if step else sim
    found = tau_of(sim, dates, grouping)
    np.testing.assert_allclose(found, ranked(sim, dates, grouping), atol=1e-12 * 280)


def test_ranks_of_series_too_long_for_short_integers() -> None:
    dates = days(33000)
    grouping = Grouping("dayofyear", 3)
    sim = weather(dates, 1)
    some = np.arange(0, 33000, 997)
    found = tau_of(sim, dates, grouping)[some, 0]
    group, members = grouping.group_of(dates), grouping.members(dates)
    pools = [sim[members[group[step]][members[group[step]] >= 0], 0] for step in some]
    below = [
        np.mean(np.delete(p, np.argmax(p == v)) < v)
        for p, v in zip(pools, sim[some, 0], strict=True)
    ]
    np.testing.assert_allclose(found, below, atol=1e-10)


# Closed forms.


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_shifted_and_scaled_gaussians_have_known_quantiles(kind: Any) -> None:
    """hist N(0, 1), ref N(m, s), sim N(d, 1): scen has the quantiles m + d + s z, or their
    exponentials. Values are exact quantiles, so that only the interpolation errs."""
    m, s, d = 1.0, 1.5, 0.7
    dates = days(4000)
    z = np.random.default_rng(0).permutation(norm.ppf((np.arange(4000) + 0.5) / 4000))[:, None]
    hist, ref, sim, expected = z, m + s * z, d + z, m + d + s * z
    if kind == "multiplicative":
        hist, ref, sim, expected = (np.exp(x) for x in (hist, ref, sim, expected))
    trained = train(
        ref,
        hist,
        ref_dates=dates,
        hist_dates=dates,
        kind=kind,
        grouping=Grouping("none"),
        quantiles=1000,
    )
    scen = adjust(trained, sim, dates, max_ratio=1e6).values
    inner = np.abs(z) < norm.ppf(0.99)
    np.testing.assert_allclose(scen[inner], expected[inner], rtol=3e-4, atol=3e-4)


def test_tails_keep_the_outermost_correction_or_change_out_to_the_extremes() -> None:
    dates = days(401)
    hist = np.linspace(-1.0, 1.0, 401)[:, None]
    options: Any = {
        "ref_dates": dates,
        "hist_dates": dates,
        "kind": "additive",
        "grouping": Grouping("none"),
        "quantiles": 10,
    }
    constant = adjust(train(2.0 * hist, hist, **options), hist, dates).values
    extremes = train(2.0 * hist, hist, tails="extremes", **options)
    np.testing.assert_allclose(extremes.nodes, [0.0, *nodes(10), 1.0])
    np.testing.assert_allclose(adjust(extremes, hist, dates).values, 2.0 * hist, atol=1e-12)
    # The outermost of ten nodes lie at -0.9 and 0.9, where the correction is as large.
    np.testing.assert_allclose(constant, hist + np.clip(hist, -0.9, 0.9), atol=1e-12)


def test_ratios_are_bounded_and_counted() -> None:
    """hist rains at 20 of 40 nodes, ref at all: x/0 gets the bound, 0/0 is 1."""
    dates = days(400)
    order = np.random.default_rng(0).permutation(400)[:, None]
    sim = 1.0 + np.hstack([order, order, order, order]) / 400.0
    wet = order >= 200
    ref = np.hstack([sim[:, 0], sim[:, 0], np.zeros(400), 3.0 * sim[:, 0]]).reshape(4, 400).T
    hist = np.hstack([np.where(wet, sim[:, :1], 0.0)] * 2 + [0.0 * wet, sim[:, :1]])
    trained = train(
        ref,
        hist,
        ref_dates=dates,
        hist_dates=dates,
        kind="multiplicative",
        grouping=Grouping("none"),
        quantiles=40,
    )
    adjusted = adjust(trained, sim, dates, max_ratio=4.0, interpolation="nearest")
    ratio = adjusted.values / sim
    np.testing.assert_allclose(ratio[:, :2], np.where(wet, 1.0, 4.0) * np.ones(2), rtol=1e-12)
    np.testing.assert_allclose(ratio[:, 2], 1.0, rtol=1e-12)
    np.testing.assert_allclose(ratio[:, 3], 3.0, rtol=1e-12)
    assert (adjusted.bounded, adjusted.unmapped) == (400, 0)


def test_negative_quantiles_of_a_multiplicative_map_count_as_zero() -> None:
    quantiles = np.array([[[-1e-9], [2.0]]])
    trained = QuantileMap(
        "multiplicative", Grouping("none"), nodes(2), quantiles, np.array([[[-1e-12], [1.0]]])
    )
    ratio, bounded = trained.corrections(10.0)
    np.testing.assert_array_equal(ratio, [[[1.0, 2.0]]])
    assert not bounded.any()


@pytest.mark.parametrize("zero", [0.0, -1e-12])
def test_a_missing_reference_has_no_ratio_whatever_the_history(zero: float) -> None:
    """0/0 is 1, but what is unknown over nothing is unknown."""
    ref = np.array([[[np.nan], [np.nan], [np.nan], [0.0]]])
    hist = np.array([[[zero], [2.0], [np.nan], [zero]]])
    trained = QuantileMap("multiplicative", Grouping("none"), nodes(4), ref, hist)
    ratio, bounded = trained.corrections(10.0)
    np.testing.assert_array_equal(ratio, [[[np.nan, np.nan, np.nan, 1.0]]])
    assert not bounded.any()


def test_a_dry_history_without_a_reference_is_left_missing() -> None:
    dates = days(40)
    trained = train(
        np.full((40, 1), np.nan),
        np.zeros((40, 1)),
        ref_dates=dates,
        hist_dates=dates,
        kind="multiplicative",
        grouping=Grouping("none"),
    )
    adjusted = adjust(trained, np.zeros((40, 1)), dates)
    assert np.isnan(adjusted.values).all()
    assert adjusted.unmapped == 40


def test_a_seasonal_bias_goes_whatever_the_calendars() -> None:
    """Three calendars with one climate: the model is 3 K too warm and will warm by 2 K."""
    made = {
        name: days(count, calendar)
        for name, count, calendar in (
            ("ref", 7305, "standard"),
            ("hist", 7300, "noleap"),
            ("sim", 7200, "360_day"),
        )
    }
    ref, hist, sim = (
        weather(dates, 1, seed=seed, mean=mean)
        for seed, (dates, mean) in enumerate(zip(made.values(), (280.0, 283.0, 285.0), strict=True))
    )
    trained = train(
        ref,
        hist,
        ref_dates=made["ref"],
        hist_dates=made["hist"],
        kind="additive",
        grouping=Grouping("dayofyear", 31),
        quantiles=20,
    )
    change = adjust(trained, sim, made["sim"]).values - sim
    season = Grouping("month").group_of(made["sim"])
    monthly = [change[season == month].mean() for month in range(12)]
    # 600 values of spread 4 K on either side leave about 0.23 K of noise.
    np.testing.assert_allclose(monthly, -3.0, atol=0.7)


# Symmetries.

shapes = settings(max_examples=15)
seeds = st.integers(0, 1000)
groupings = st.sampled_from(GROUPINGS)
kinds = st.sampled_from(["additive", "multiplicative"])
interpolations = st.sampled_from(["linear", "nearest"])


def trained_on(kind: Any, grouping: Grouping, seed: int, **options: Any) -> tuple[Any, Floats]:
    """A map and a series to adjust, with gaps; four cells."""
    dates = days(500, "standard")
    make = weather if kind == "additive" else rain
    ref, hist, sim = (with_gaps(make(dates, 4, seed=seed + i), 0.02, seed + i) for i in range(3))
    options = {"quantiles": 9, **options}
    common: Any = {"ref_dates": dates, "hist_dates": dates, "kind": kind, "grouping": grouping}
    return train(ref, hist, **common, **options), sim


@shapes
@given(kind=kinds, grouping=groupings, interpolation=interpolations, seed=seeds)
def test_cells_know_nothing_of_each_other(
    kind: Any, grouping: Grouping, interpolation: Any, seed: int
) -> None:
    """Neither order, blocks and threads nor a neighbour that misses everything change a bit."""
    dates = days(500, "standard")
    trained, sim = trained_on(kind, grouping, seed)
    alone, _ = trained_on(kind, grouping, seed, block_bytes=1, threads=2)
    np.testing.assert_array_equal(alone.ref, trained.ref)
    np.testing.assert_array_equal(alone.hist, trained.hist)
    expected = adjust(trained, sim, dates, interpolation=interpolation).values
    blocks = adjust(trained, sim, dates, interpolation=interpolation, threads=2, block_bytes=1)
    np.testing.assert_array_equal(blocks.values, expected)
    turned = QuantileMap(
        kind, grouping, trained.nodes, trained.ref[..., ::-1], trained.hist[..., ::-1]
    )
    turned_sim = np.ascontiguousarray(sim[:, ::-1])
    found = adjust(turned, turned_sim, dates, interpolation=interpolation).values
    np.testing.assert_array_equal(found[:, ::-1], expected)
    sim[:, 2] = np.nan
    found = adjust(trained, sim, dates, interpolation=interpolation).values
    np.testing.assert_array_equal(found[:, [0, 1, 3]], expected[:, [0, 1, 3]])
    assert np.isnan(found[:, 2]).all()


@shapes
@given(kind=kinds, seed=seeds, count=st.integers(10, 300))
def test_the_models_own_past_becomes_the_reference(kind: Any, seed: int, count: int) -> None:
    """With a node at every rank, sim = hist maps onto the sorted reference."""
    dates = days(count)
    ref, hist = rain(dates, 2, seed=seed), rain(dates, 2, seed=seed + 1)
    trained = train(
        ref,
        hist,
        ref_dates=dates,
        hist_dates=dates,
        kind=kind,
        grouping=Grouping("none"),
        quantiles=np.linspace(0.0, 1.0, count),
    )
    scen = adjust(trained, hist, dates, max_ratio=1e300).values
    np.testing.assert_allclose(np.sort(scen, axis=0), np.sort(ref, axis=0), rtol=1e-8, atol=1e-12)


@shapes
@given(kind=kinds, seed=seeds)
def test_the_models_change_in_every_quantile_is_kept(kind: Any, seed: int) -> None:
    dates = days(200)
    ref, hist, sim = (np.sort(rain(dates, 2, seed=seed + i), axis=0) for i in range(3))
    trained = train(
        ref,
        hist,
        ref_dates=dates,
        hist_dates=dates,
        kind=kind,
        grouping=Grouping("none"),
        quantiles=np.linspace(0.0, 1.0, 200),
    )
    scen = adjust(trained, sim, dates, max_ratio=1e300).values
    if kind == "additive":
        np.testing.assert_allclose(scen - ref, sim - hist, atol=1e-9)
    else:
        np.testing.assert_allclose(scen / ref, sim / hist, rtol=1e-7)


@shapes
@given(grouping=groupings, interpolation=interpolations, seed=seeds, bias=st.floats(-30.0, 30.0))
def test_a_constant_bias_is_taken_off(
    grouping: Grouping, interpolation: Any, seed: int, bias: float
) -> None:
    dates = days(500)
    ref, sim = weather(dates, seed=seed), weather(dates, seed=seed + 1)
    trained = train(
        ref, ref + bias, ref_dates=dates, hist_dates=dates, kind="additive", grouping=grouping
    )
    scen = adjust(trained, sim, dates, interpolation=interpolation).values
    np.testing.assert_allclose(scen, sim - bias, rtol=1e-14)


@shapes
@given(grouping=groupings, interpolation=interpolations, seed=seeds, bound=st.floats(0.5, 20.0))
def test_amounts_stay_positive_and_ratios_below_the_bound(
    grouping: Grouping, interpolation: Any, seed: int, bound: float
) -> None:
    dates = days(500, "standard")
    trained, sim = trained_on("multiplicative", grouping, seed, tails="extremes")
    adjusted = adjust(trained, sim, dates, interpolation=interpolation, max_ratio=bound)
    valid = np.isfinite(sim)
    np.testing.assert_array_equal(np.isfinite(adjusted.values), valid)
    assert (adjusted.values[valid] > 0).all()
    ratio = adjusted.values[valid] / sim[valid]
    assert ratio.max() <= bound * (1 + 1e-12)
    assert adjusted.bounded >= (ratio > bound * (1 - 1e-12)).sum()


@shapes
@given(kind=kinds, grouping=groupings, interpolation=interpolations, seed=seeds)
def test_single_precision_is_enough(
    kind: Any, grouping: Grouping, interpolation: Any, seed: int
) -> None:
    dates = days(500, "standard")
    trained, sim = trained_on(kind, grouping, seed)
    # Values that both precisions can hold, so that ties and gaps are the same.
    ref, hist, sim = (x.astype("f4") for x in (trained.ref, trained.hist, sim))
    single = QuantileMap(kind, grouping, trained.nodes, ref, hist)
    double = QuantileMap(kind, grouping, trained.nodes, ref.astype("f8"), hist.astype("f8"))
    found = adjust(single, sim, dates, interpolation=interpolation).values
    expected = adjust(double, sim.astype("f8"), dates, interpolation=interpolation).values
    assert found.dtype == np.float32
    # A ratio of two interpolated quantiles: some ten roundings of 6e-8 each.
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@shapes
@given(kind=kinds, grouping=groupings, seed=seeds, first=st.integers(0, 400))
def test_a_pool_ranks_a_period_among_all_its_years(
    kind: Any, grouping: Grouping, seed: int, first: int
) -> None:
    dates = days(500, "standard")
    trained, sim = trained_on(kind, grouping, seed)
    part = slice(first, first + 100)
    whole = adjust(trained, sim, dates)
    found = adjust(trained, sim[part], dates[part], pool=sim, pool_dates=dates)
    np.testing.assert_array_equal(found.values, whole.values[part])


def test_values_without_a_map_stay_missing_and_are_counted() -> None:
    winter = np.array([d for d in days(1500) if d.month in (12, 1, 2)])
    trained = train(
        weather(winter),
        weather(winter, seed=1),
        ref_dates=winter,
        hist_dates=winter,
        kind="additive",
        grouping=Grouping("month"),
    )
    dates = days(365)
    adjusted = adjust(trained, with_gaps(weather(dates, seed=2)), dates)
    cold = np.array([d.month in (12, 1, 2) for d in dates])
    valid = np.isfinite(with_gaps(weather(dates, seed=2)))
    np.testing.assert_array_equal(np.isfinite(adjusted.values), valid & cold[:, None])
    assert adjusted.unmapped == (valid & ~cold[:, None]).sum()


def test_values_with_too_few_to_rank_them_among_stay_missing() -> None:
    dates = days(500)
    trained, _ = trained_on("additive", Grouping("none"), 0)
    few = np.full((500, 4), np.nan)
    few[: quantile.FEWEST] = 280.0 + np.arange(quantile.FEWEST)[:, None]
    few[0, 0] = np.nan
    adjusted = adjust(trained, few, dates)
    np.testing.assert_array_equal(np.isfinite(adjusted.values).sum(axis=0), [0, 10, 10, 10])
    assert adjusted.unmapped == 9


@names
@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize("step", [0.0, 0.5])
def test_torch_gives_the_same_numbers(grouping: Grouping, kind: Any, step: float) -> None:
    dates = days(700, "standard")
    ref, hist, sim = (with_gaps(rain(dates, seed=seed)).astype("f4") for seed in range(3))
    sim = np.round(sim / step).astype("f4") * np.float32(step) if step else sim
    options: Any = {
        "ref_dates": dates,
        "hist_dates": dates,
        "kind": kind,
        "grouping": grouping,
        "quantiles": 11,
    }
    expected = adjust(train(ref, hist, **options), sim, dates, max_ratio=3.0)
    tensors = [torch.from_numpy(values) for values in (ref, hist, sim)]
    found = adjust(train(tensors[0], tensors[1], **options), tensors[2], dates, max_ratio=3.0)
    assert isinstance(found.values, torch.Tensor)
    np.testing.assert_array_equal(found.values.numpy(), expected.values)
    assert (found.bounded, found.unmapped) == (expected.bounded, expected.unmapped)


# What is refused.


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "ratio"}, ConfigError, "unknown kind of map 'ratio'; expected additive or"),
        ({"tails": "nan"}, ConfigError, "unknown tails 'nan'; expected constant or extremes"),
        ({"quantiles": 1}, ConfigError, "1 quantiles asked for"),
        ({"quantiles": [0.5]}, ConfigError, "at least two probabilities that ascend from 0 to 1"),
        ({"quantiles": [0.5, 0.2]}, ConfigError, "that ascend from 0 to 1"),
        ({"quantiles": [0.5, 1.2]}, ConfigError, "that ascend from 0 to 1"),
        ({"ref_dates": days(39)}, InputError, r"ref has shape \(40, 3\) for 39 dates"),
        ({"hist_dates": days(39)}, InputError, r"hist has shape \(40, 3\) for 39 dates"),
        ({"ref": np.zeros((0, 3)), "ref_dates": []}, InputError, r"ref has shape \(0, 3\) for 0"),
        ({"hist": np.zeros((40, 2))}, InputError, r"quantiles of ref have shape \(1, 50, 3\)"),
        ({"ref": np.zeros((40, 3), int)}, InputError, "ref has values of type int64"),
    ],
)
def test_training_is_checked(change: Any, error: type[Exception], message: str) -> None:
    dates = days(40)
    options: Any = {
        "ref": np.zeros((40, 3)),
        "hist": np.zeros((40, 3)),
        "ref_dates": dates,
        "hist_dates": dates,
        "kind": "additive",
        "grouping": Grouping("none"),
    }
    options |= change
    with pytest.raises(error, match=message):
        train(options.pop("ref"), options.pop("hist"), **options)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"interpolation": "cubic"}, ConfigError, "unknown interpolation 'cubic'; expected linear"),
        ({"max_ratio": 0.0}, ConfigError, "the bound on the ratio is 0.0; expected a number"),
        ({"sim": np.zeros((40, 4))}, InputError, r"sim has shape \(40, 4\) for 500 dates"),
        ({"sim": np.zeros((500, 3))}, InputError, "sim has 3 cells, its pool 3 and the map 4"),
        ({"pool": np.zeros((500, 4))}, InputError, r"pool has shape \(500, 4\) for 0 dates"),
        (
            {"pool": np.zeros((40, 4)), "pool_dates": days(40, "standard")},
            InputError,
            "the pool to rank among lacks 2001-02-10 12:00:00, a step of sim",
        ),
    ],
)
def test_adjusting_is_checked(change: Any, error: type[Exception], message: str) -> None:
    trained, sim = trained_on("additive", Grouping("none"), 0)
    options: Any = {"sim": sim} | change
    with pytest.raises(error, match=message):
        adjust(trained, options.pop("sim"), days(500, "standard"), **options)


# Against xsdba.

INTERPOLATIONS: tuple[quantile.Interpolation, ...] = ("nearest", "linear")


def by_xsdba(
    ref: Floats, hist: Floats, sim: Floats, *, dates: tuple[Dates, Dates], **options: Any
) -> dict[str, Floats]:
    """scen by xsdba 0.7 for each interpolation; ref and hist have the first dates, sim others."""
    xsdba = pytest.importorskip("xsdba")
    units = "K" if options["kind"] == "+" else "mm/d"
    arrays = [
        xr.DataArray(values, {"time": time}, ("time", "cell"), attrs={"units": units})
        for values, time in zip((ref, hist, sim), (dates[0], dates[0], dates[1]), strict=True)
    ]
    if options["group"] == "time.month":
        arrays = [with_other_months(array) for array in arrays]
    window = options.pop("window", 1)
    group = xsdba.Grouper(options.pop("group"), window)
    ranking = {"rank_window": True} if window > 1 else {}
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = xsdba.QuantileDeltaMapping.train(*arrays[:2], group=group, **options)
        for interpolation in INTERPOLATIONS:
            scen = trained.adjust(arrays[2], interp=interpolation, **ranking)
            scen = scen.transpose("time", "cell").sel(time=dates[1])
            found[str(interpolation)] = np.asarray(scen.values)
    return found


def with_other_months(winters: xr.DataArray) -> xr.DataArray:
    """Winters with a few days of every other month, which xsdba cannot do without."""
    kind = type(winters.time.values[0])
    years = sorted({date.year for date in winters.time.values})[:3]
    added = np.array([kind(year, month, 15) for year in years for month in range(3, 12)])
    others = winters[: len(added)].assign_coords(time=added)
    return xr.concat([winters, others], "time").sortby("time").assign_attrs(winters.attrs)


@lru_cache
def iberian_winters(name: str) -> tuple[Dates, Floats, Floats, Dates, Floats]:
    """Dates, ref and hist; dates and sim: six cells of CNRM-CM5, and E-OBS averaged to them."""
    folder = shared_data() / "iberia"
    decoder = xr.coders.CFDatetimeCoder(use_cftime=True)
    observed, hist, sim = (
        xr.open_dataset(folder / f"{name}_day_{rest}.nc", decode_times=decoder)[name].load()
        for rest in (
            "E-OBS_025deg_19901201-19970228",
            "CNRM-CM5_historical_r1i1p1_19821201-20020228",
            "CNRM-CM5_rcp85_r1i1p1_20801201-21000228",
        )
    )
    hist = hist.sel(time=slice("1990-12", "1997-02"))
    if name == "pr":
        hist, sim = hist * 86400.0, sim * 86400.0
    series = []
    for j, i in np.ndindex(hist.shape[1:]):
        near = abs(observed.lat - hist.lat[j]) < 0.7, abs(observed.lon - hist.lon[i]) < 0.7
        box = observed.isel(lat=np.flatnonzero(near[0]), lon=np.flatnonzero(near[1]))
        if box.size and float(box.isnull().mean()) < 0.1:
            series.append((box.mean(("lat", "lon")), hist[:, j, i], sim[:, j, i]))
    # In single precision xsdba's own rounding shows.
    ref, past, future = (
        np.stack(found[:6], axis=1).astype("f8") for found in zip(*series, strict=True)
    )
    if name == "tas":
        ref += 273.15
    assert ref.shape == past.shape == (len(observed.time), 6)
    return observed.time.values, ref, past, sim.time.values, future


def dry_told_apart(values: Floats, stream: str) -> Floats:
    """Values none of which are equal: equal ones the two rank by different rules."""
    found = jitter_dry(values.astype("f4"), 0.05, seed=1, stream=stream)
    return np.asarray(found, dtype="f8")


def assert_as_good_as_equal(found: Floats, expected: Floats, sim: Floats) -> None:
    """All values agree to 1e-5 of their cell's standard deviation."""
    assert found.size > 0
    np.testing.assert_array_less(np.abs(found - expected) / sim.std(axis=0), 1e-5)


@pytest.mark.data
@pytest.mark.parametrize("name", ["tas", "pr"])
@pytest.mark.parametrize("group", ["none", "month"])
def test_winters_are_adjusted_as_by_xsdba(name: str, group: Any) -> None:
    """CNRM-CM5 against E-OBS, the end of the century by RCP8.5.

    Where the rules differ, what agrees is compared. Interpolating linearly, xsdba does so between
    months as well (here each month has its own map; days of the year change smoothly): only 14
    February is compared, the middle of its month there. Where the smallest or largest value
    occurs several times, xsdba stretches the ranks to begin at 0 (here equal values keep their
    average rank): dry days are told apart beforehand. And xsdba has no bound on ratios.
    """
    past, ref, hist, future, sim = iberian_winters(name)
    kind: quantile.Kind = "additive"
    if name == "pr":
        kind = "multiplicative"
        ref, hist, sim = map(dry_told_apart, (ref, hist, sim), ("ref", "hist", "sim"))
    # 53 shares no factor with the sizes of samples less 1: no tau is half-way between nodes.
    by_peer = by_xsdba(
        ref,
        hist,
        sim,
        dates=(past, future),
        kind={"additive": "+", "multiplicative": "*"}[kind],
        group={"none": "time", "month": "time.month"}[group],
        nquantiles=53,
    )
    trained = train(
        ref,
        hist,
        ref_dates=past,
        hist_dates=past,
        kind=kind,
        grouping=Grouping(group),
        quantiles=53,
    )
    for interpolation in INTERPOLATIONS:
        scen = adjust(trained, sim, future, interpolation=interpolation, max_ratio=1e9).values
        compared = np.ones(len(future), dtype=bool)
        if (group, interpolation) == ("month", "linear"):
            compared = np.array([d.month == 2 and d.day == 14 and d.year % 4 > 0 for d in future])
            assert compared.sum() >= 14
        assert_as_good_as_equal(scen[compared], by_peer[interpolation][compared], sim)


def test_days_of_the_year_are_adjusted_as_by_xsdba() -> None:
    """Ten synthetic years of full length, windows of 31 days, tau among the window.

    xsdba's window runs over consecutive time steps: it is the same as days of the year for whole
    years alone, and it ends where the series ends, while here the window of 1 January holds the
    last December of the series too. So days whose windows reach the ends are not compared.
    """
    dates = days(3650)
    ref, hist, sim = (
        weather(dates, 2, seed=seed, mean=mean) for seed, mean in enumerate((280.0, 283.0, 285.0))
    )
    by_peer = by_xsdba(
        ref,
        hist,
        sim,
        dates=(dates, dates),
        kind="+",
        group="time.dayofyear",
        window=31,
        nquantiles=11,
    )
    grouping = Grouping("dayofyear", 31)
    trained = train(
        ref,
        hist,
        ref_dates=dates,
        hist_dates=dates,
        kind="additive",
        grouping=grouping,
        quantiles=11,
    )
    day = grouping.group_of(dates)
    compared = (day >= 15) & (day < 350)
    for interpolation in INTERPOLATIONS:
        scen = adjust(trained, sim, dates, interpolation=interpolation).values
        assert_as_good_as_equal(scen[compared], by_peer[interpolation][compared], sim)
