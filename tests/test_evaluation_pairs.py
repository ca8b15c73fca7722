"""Scores of members against the reference of the same days: oracles, closed forms, properties."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from scores.continuous import mae, rmse
from scores.probability import crps_for_ensemble, tail_tw_crps_for_ensemble

from climdown import cf
from climdown.arrays import Float32
from climdown.evaluation import comparison, exceedance, pairs, ranks, spread
from climdown.evaluation.comparison import compare, pieces, ranked
from climdown.evaluation.ensembles import quantities_of
from climdown.evaluation.measure import Measure
from climdown.evaluation.registry import MEASURES
from climdown.evaluation.registry import STATISTICS as ALL
from climdown.evaluation.registry import measure as named
from climdown.grid import Grid
from climdown.metrics.scores import spread_skill_ratio
from tests.factories import shared_data
from tests.pairs import Case, exchanged, make_case, make_part, make_scene

OURS = (*pairs.MEASURES, *spread.MEASURES, *ranks.MEASURES, *exceedance.MEASURES)


def value(name: str, case: Case) -> float:
    (result,) = named(name).value(case.scene, case.resampled())
    return float(result)


def arrays(case: Case) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Members and reference in float64, and areas."""
    return (
        xr.DataArray(case.members.astype(np.float64), dims=("time", "member", "lat", "lon")),
        xr.DataArray(case.truth.astype(np.float64), dims=("time", "lat", "lon")),
        xr.DataArray(case.scene.areas, dims=("lat", "lon")),
    )


@pytest.mark.parametrize("count", range(1, 10))
def test_rows_of_zeros_and_ones_are_sorted_whatever_they_are(count: int) -> None:
    # What sorts all columns of zeros and ones sorts everything (Knuth, 5.3.4, theorem Z).
    columns = np.array(list(itertools.product([0.0, 1.0], repeat=count))).T
    np.testing.assert_array_equal(ranked(columns.copy()), np.sort(columns, axis=0))


@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_rows_are_sorted_in_any_number(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-9, 9, size=(count, 13)).astype(np.float64)
    np.testing.assert_array_equal(ranked(values.copy()), np.sort(values, axis=0))


@pytest.mark.parametrize("members", [2, 3, 10])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("amounts", [False, True])
def test_crps_agree_with_the_scores_package(members: int, gaps: bool, amounts: bool) -> None:
    case = make_case(members=members, gaps=gaps, amounts=amounts)
    x, y, areas = arrays(case)
    tail = xr.DataArray(case.scene.tail, dims=("lat", "lon"))
    common = {"method": "fair", "preserve_dims": "all"}
    fair = crps_for_ensemble(x, y, "member", **common).weighted(areas).mean().item()
    above = tail_tw_crps_for_ensemble(x, y, "member", tail, tail="upper", **common)
    assert value("crps", case) == pytest.approx(fair, rel=1e-12)
    assert value("tail_crps", case) == pytest.approx(above.weighted(areas).mean().item(), rel=1e-12)


def test_errors_agree_with_the_scores_package() -> None:
    case = make_case(gaps=True)
    x, y, areas = arrays(case)
    mean = x.mean("member", skipna=False)
    assert value("mae", case) == pytest.approx(mae(mean, y, weights=areas).item(), rel=1e-12)
    assert value("rmse", case) == pytest.approx(rmse(mean, y, weights=areas).item(), rel=1e-12)
    assert value("member_mae", case) == pytest.approx(mae(x, y, weights=areas).item(), rel=1e-12)


def test_crps_by_number_of_members_is_the_mean_over_all_such_ensembles() -> None:
    case = make_case(members=5, gaps=True)
    x, y, areas = arrays(case)
    counts = np.arange(1, 6)

    def of(*chosen: int) -> float:
        some = x.isel(member=list(chosen))
        each = crps_for_ensemble(some, y, "member", method="ecdf", preserve_dims="all")
        return float(each.weighted(areas).mean())

    expected = [
        float(np.mean([of(*chosen) for chosen in itertools.combinations(range(5), int(m))]))
        for m in counts
    ]
    result = pairs.crps_of_members(case.resampled(), counts)[0]
    np.testing.assert_allclose(result, np.array(expected), 1e-12)


def test_crps_of_normal_members_has_the_closed_form() -> None:
    quantiles = norm.ppf((np.arange(2000) + 0.5) / 2000).astype(np.float32)
    case = make_case(steps=1, grid=Grid.regular(0.0, 10.0, 0.0, 10.0, 10.0))
    for y in (0.0, 0.8, -2.0):
        one = Case(
            replace(case.scene, tail=np.array([[0.5]])),
            quantiles[None, :, None, None],
            np.full((1, 1, 1), y, dtype=np.float32),
            case.part,
        )
        expected = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / math.sqrt(math.pi)
        result = pairs.crps_of_members(one.resampled(), np.array([2000.0]))[0, 0]
        assert result == pytest.approx(expected, rel=2e-3)
        # Threshold-weighted: the integral of (F - 1(y <= z))^2 above t.
        z = np.linspace(0.5, 8.0, 200001)
        above = np.trapezoid((norm.cdf(z) - (y <= z)) ** 2, z)
        assert value("tail_crps", one) == pytest.approx(above, rel=5e-3)


def test_a_single_member_has_its_absolute_error() -> None:
    case = make_case(members=1, gaps=True)
    assert value("crps", case) == value("mae", case) == value("member_mae", case)
    assert "spread_skill" not in case.sums()


def test_spread_skill_agrees_with_the_formula_on_whole_arrays() -> None:
    case = make_case(gaps=True)
    members, truth = case.members.astype(np.float64), case.truth.astype(np.float64)
    expected = spread_skill_ratio(members, truth, case.scene.areas)
    assert value("spread_skill", case) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("members", [2, 3, 9])
def test_spread_is_as_large_as_the_error_of_exchangeable_members(members: int) -> None:
    cases = exchanged(make_case(members=members, gaps=True))
    told, made = (
        sum(case.sums()[name] for case in cases)
        for name in ("expected_squared_error", "squared_error")
    )
    assert told == pytest.approx(made, rel=1e-12)


@pytest.mark.parametrize("amounts", [False, True])
def test_bins_of_spread_are_quarters_of_octaves_and_hold_everything(amounts: bool) -> None:
    case = make_case(members=4, amounts=amounts, gaps=True)
    sums, compared = case.sums(), case.compared
    for i, name in enumerate(("weight", "variance", "squared_error")):
        assert sums["spread_skill"][:, i].sum() == pytest.approx(sums[name], rel=1e-12)
    edges = case.scene.deviation * 2.0 ** np.arange(-6, 2.01, 0.25)
    expected, _ = np.histogram(
        np.sqrt(compared.variance), [-1, *edges, 1e9], weights=compared.weights
    )
    np.testing.assert_allclose(sums["spread_skill"][:, 0], expected, atol=1e-12)


def test_anomaly_correlation_is_about_the_climatology_of_the_month() -> None:
    case = make_case(gaps=True)
    x, y, areas = arrays(case)
    climatology = xr.DataArray(case.scene.climatology[case.part.month], dims=y.dims)
    f = x.mean("member", skipna=False) - climatology
    o = y - climatology
    expected = (f * o * areas).sum() / np.sqrt((f**2 * areas).sum() * (o**2 * areas).sum())
    assert value("acc", case) == pytest.approx(expected.item(), rel=1e-11)
    assert 0.4 < value("acc", case) < 0.9


def test_months_without_climatology_do_not_count_in_the_anomaly_correlation() -> None:
    case = make_case(steps=60)
    climatology = case.scene.climatology.copy()
    climatology[case.part.month[0]] = np.nan
    known = case.part.month != case.part.month[0]
    rest = slice(int(np.argmax(known)), None)
    assert 0 < known.sum() < 60
    without = Case(case.scene, case.members[rest], case.truth[rest], case.part.take(rest))
    found = value("acc", replace(case, scene=replace(case.scene, climatology=climatology)))
    assert found == pytest.approx(value("acc", without), rel=1e-12)


def test_maps_are_sums_over_steps_of_each_cell() -> None:
    case = make_case(gaps=True)
    x, y, _ = arrays(case)
    sums = case.sums()
    fair = crps_for_ensemble(x, y, "member", method="fair", preserve_dims="all")
    expected = {
        "weight_map": y.notnull().sum("time"),
        "crps_map": fair.sum("time"),
        "error_map": (x.mean("member", skipna=False) - y).sum("time"),
        "variance_map": x.var("member", ddof=1, skipna=False).sum("time"),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(sums[name], values, rtol=1e-11, atol=1e-11, err_msg=name)


def test_a_value_missing_anywhere_counts_nowhere() -> None:
    case = make_case(steps=20)
    members, truth = case.members.copy(), case.truth.copy()
    members[3, 2, 1, 1] = truth[5, 2, 0] = np.nan
    members[7] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sums = replace(case, members=members, truth=truth).sums()
    known = np.ones(truth.shape, dtype=bool)
    known[3, 1, 1] = known[5, 2, 0] = False
    known[7] = False
    members[:, :], truth[:] = case.members, case.truth
    members[~known[:, None].repeat(5, axis=1)] = np.nan
    truth[~known] = np.nan
    expected = replace(case, members=members, truth=truth).sums()
    assert sums["weight"] == pytest.approx((known * case.scene.areas).sum())
    for name, values in expected.items():
        np.testing.assert_allclose(sums[name], values, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("amounts", [False, True])
@given(cuts=st.sets(st.integers(1, 59), max_size=6), piece=st.integers(1, 100))
@settings(max_examples=15, deadline=None)
def test_sums_do_not_depend_on_how_time_is_cut(amounts: bool, cuts: set[int], piece: int) -> None:
    case = make_case(steps=60, amounts=amounts, gaps=True)
    whole = case.worked()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(comparison, "_PIECE", piece)
        patched.setattr(comparison, "_BLOCK", 1 + piece // 3)
        cut = case.worked(*cuts)
    for along, sums in whole.items():
        assert sums.keys() == cut[along].keys()
        for name, values in sums.items():
            np.testing.assert_allclose(
                cut[along][name],
                values,
                rtol=1e-12,
                atol=1e-13 * np.abs(values).max(),
                err_msg=name,
            )


def test_pieces_cover_all_steps_and_none_lies_across_groups() -> None:
    part = make_part(70)
    found = list(pieces(part, comparison._PIECE // 7))
    assert np.concatenate([np.arange(70)[piece] for piece in found]).tolist() == list(range(70))
    assert max(piece.stop - piece.start for piece in found) == 7
    assert all(len(set(part.group[piece])) == 1 for piece in found)


@pytest.mark.parametrize("amounts", [False, True])
def test_the_order_of_members_does_not_matter(amounts: bool) -> None:
    case = make_case(members=7, amounts=amounts, gaps=True)
    shuffled = replace(case, members=case.members[:, [3, 1, 6, 0, 5, 2, 4]])
    expected = case.sums()
    for name, values in shuffled.sums().items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-11, atol=1e-11, err_msg=name)


def test_a_shift_of_all_changes_nothing_and_one_of_members_their_ranks() -> None:
    case = make_case()
    # Of such fractions sums are exact.
    members = (np.rint((case.members - 280) * 64) / 64).astype(np.float32)
    truth = (np.rint((case.truth - 280) * 64) / 64).astype(np.float32)
    low = Case(make_scene(truth, case.part, amounts=False), members, truth, case.part)
    scene = replace(low.scene, tail=low.scene.tail + 256, climatology=low.scene.climatology + 256)
    high = Case(scene, members + np.float32(256), truth + np.float32(256), case.part)
    for name in ("crps", "tail_crps", "mae", "rmse", "acc", "spread_skill", "rank_bias"):
        assert value(name, high) == pytest.approx(value(name, low), rel=1e-9, abs=1e-12), name
    shifted = replace(low, members=members + np.float32(2))
    assert value("rank_bias", shifted) < value("rank_bias", low)


@pytest.mark.parametrize("amounts", [False, True])
@pytest.mark.parametrize("one", OURS, ids=lambda one: one.name)
def test_measures_read_sums_that_are_there_and_take_resamples(one: Measure, amounts: bool) -> None:
    case = make_case(amounts=amounts)
    found = case.worked()[one.along]
    assert set(one.sums) <= found.keys()
    twice = {name: np.stack([v.sum(axis=0), 2 * v.sum(axis=0)]) for name, v in found.items()}
    values = one.value(case.scene, twice)
    assert values.shape == (2,)
    np.testing.assert_allclose(values, values[0])
    assert np.isfinite(values).all()


@pytest.mark.parametrize("one", OURS, ids=lambda one: one.name)
def test_measures_of_nothing_are_nan(one: Measure) -> None:
    case = make_case()
    nothing = {name: np.zeros_like(values) for name, values in case.resampled().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(one.value(case.scene, nothing)).all()


def test_all_of_them_are_registered() -> None:
    assert {one.name for one in OURS} <= {one.name for one in MEASURES}
    assert [one.name for one in OURS if one.tells] == ["crps", "mae", "acc", "spread_skill"]
    ours = (*pairs.STRETCHES, *spread.STRETCHES, *ranks.STRETCHES, *exceedance.STRETCHES)
    assert set(ours) <= set(ALL.stretch_of_pairs)


def winters(variable: str, units: str) -> tuple[Float32, Grid]:
    """90 days of each of seven winters, shape (winter, day, ny, nx)."""
    path = shared_data() / "iberia" / f"{variable}_day_E-OBS_025deg_19901201-19970228.nc"
    field = cf.Sources.open([path]).field(quantities_of([path], [])[variable])
    assert field.quantity.units == units
    years = np.array([d.year + (d.month == 12) for d in field.time.centres])
    values = field.read(slice(None))
    return np.stack([values[years == y][:90] for y in range(1991, 1998)]), field.grid


@pytest.mark.data
@pytest.mark.parametrize(("variable", "units"), [("tas", "degC"), ("pr", "mm day-1")])
def test_observed_winters_agree_with_the_scores_package(variable: str, units: str) -> None:
    values, grid = winters(variable, units)
    values[:, ~np.isfinite(values).all(axis=0)] = np.nan
    truth, members = values[-1], np.ascontiguousarray(values[:-1].swapaxes(0, 1))
    part = make_part(len(truth))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(Mean of empty|All-NaN) slice")
        scene = make_scene(truth, part, amounts=variable == "pr", grid=grid)
    case = Case(scene, members, truth, part)
    x, y, _ = arrays(case)
    tail = xr.DataArray(scene.tail, dims=("lat", "lon"))
    common = {"method": "fair", "preserve_dims": "all"}
    compared = compare(scene, members, truth)
    fair = compared.member_error - 0.5 * compared.member_difference
    above = compared.tail_error - 0.5 * compared.tail_difference
    for ours, theirs in (
        (fair, crps_for_ensemble(x, y, "member", **common)),
        (above, tail_tw_crps_for_ensemble(x, y, "member", tail, **common)),
    ):
        expected = theirs.values.reshape(ours.shape)
        np.testing.assert_array_equal(compared.valid, np.isfinite(expected))
        np.testing.assert_allclose(ours[compared.valid], expected[compared.valid], atol=1e-12)
