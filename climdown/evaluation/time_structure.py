"""What follows what in the series of each cell: persistence, spells, sums over some days.

Only steps that follow each other within a unit are used, and only of daily files. A spell that
meets the ends of the unit, or a missing value, is counted as it is cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from climdown import cf
from climdown.arrays import Float32, Float64, Index, Mask
from climdown.evaluation.measure import Measure, Resampled
from climdown.evaluation.quantiles import FEWEST_VALUES, over_cells
from climdown.evaluation.scene import WET, Scene
from climdown.evaluation.segments import Segments, runs
from climdown.evaluation.statistics import Sums

LONGEST = 100  # days; longer spells are counted as this long in distributions
_WINDOWS = {"five_day": 5, "thirty_day": 30}
# Fewer windows of the reference, or pairs of days, tell nothing.
_FEWEST_WINDOWS, _FEWEST_PAIRS = 10, 30
# Variances are those within members, whose sums are kept apart: of so many at most.
_MOST_MEMBERS = 10


def is_daily(part: Segments) -> bool:
    """Whether steps are days: spells and sums over days are of no other steps."""
    return abs(part.step_days - 1.0) < 0.1


def stretches(part: Segments) -> list[slice]:
    """Steps that follow each other."""
    cuts = np.flatnonzero(np.diff(part.number) != 1) + 1
    edges = [0, *cuts.tolist(), len(part.number)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def persistence(scene: Scene, values: Float32, whole: Segments) -> Sums:
    """Products of neighbouring departures by cell, and the mean squares of the same pairs.

    Departures are those of each member from its own mean over the month of the unit, so that
    neither the season nor a bias nor a trend counts as persistence.
    """
    if not is_daily(whole):
        return {}
    product, square = (np.zeros(values.shape[-1]) for _ in range(2))
    for member, part in itertools.product(range(values.shape[1]), stretches(whole)):
        away, known = _departures(values[part, member], whole.month[part])
        product += _dot(away[1:], away[:-1])
        neighbours = np.zeros(away.shape, dtype=np.float32)
        neighbours[1:] += known[:-1]
        neighbours[:-1] += known[1:]
        neighbours *= away
        square += 0.5 * _dot(neighbours, away)
    pairs = len(whole.steps) - len(stretches(whole))
    return {"lag_product": product, "lag_square": square, "lag_pairs": np.array(float(pairs))}


def _departures(values: Float32, month: Index) -> tuple[Float32, Mask]:
    """From the mean of each month, 0 where missing; shape (time, cells)."""
    known = np.isfinite(values)
    away = np.where(known, values, np.float32(0.0))
    for part in runs(month):
        count = known[part].sum(axis=0, dtype=np.int32)
        # About the first value: sums of kelvins in single precision would lose digits.
        first = away[part.start].copy()
        rest = away[part]
        rest -= first
        rest *= known[part]
        rest -= rest.sum(axis=0) / np.maximum(count, 1).astype(np.float32)
        rest *= known[part]
    return away, known


def _dot(a: Float32, b: Float32) -> Float32:
    return np.asarray(np.einsum("tc,tc->c", a, b))


def some_members(values: Float32) -> Index:
    """The members of whose series variances are taken."""
    return cf.evenly(np.arange(values.shape[1]), _MOST_MEMBERS)


def climatology(scene: Scene, whole: Segments) -> Float32:
    """Means of the reference by month at each step, shape (time, cells)."""
    by_month = scene.climatology.reshape(12, -1)[:, scene.cells].astype(np.float32)
    return np.asarray(by_month[whole.month])


def windows(scene: Scene, values: Float32, whole: Segments) -> Sums:
    """Means over 5 and 30 days, less the climatology: number and sum of each member, and squares.

    Windows follow each other from the start of the unit, or after a gap, without overlap; those
    with a missing value are left out.
    """
    if not is_daily(whole):
        return {}
    chosen, usual = some_members(values), climatology(scene, whole)
    sums: Sums = {}
    for name, length in _WINDOWS.items():
        series = []
        for member in chosen:
            away = values[:, member] - usual
            series.append(np.concatenate([_means(away[p], length) for p in stretches(whole)]))
        sums.update(moments(name, np.stack(series, axis=1)))
    return sums


def _means(away: Float32, length: int) -> Float64:
    """Means over windows without overlap, shape (windows, cells)."""
    count = len(away) // length
    cut = away[: count * length].reshape(count, length, *away.shape[1:])
    return np.asarray(cut.mean(axis=1, dtype=np.float32), dtype=np.float64)


def moments(name: str, values: Float64) -> Sums:
    """Number and sum by member and cell, squares by cell; values (time, members, cells)."""
    known = np.isfinite(values)
    there = np.where(known, values, 0.0)
    return {
        f"{name}_count": known.sum(axis=0).astype(np.uint32),
        f"{name}_departure": there.sum(axis=0),
        f"{name}_square": np.einsum("tmc,tmc->c", there, there),
    }


def deviations(sums: Resampled, name: str, fewest: int) -> Float64:
    """Standard deviation within members by cell, shape (R, cells); NaN of fewer values.

    s^2 = sum_m sum_t (x_mt - mean_m)^2 / sum_m (n_m - 1), which members that go together and
    members that do not have alike.
    """
    count = sums[f"{name}_count"]
    about = sums[f"{name}_departure"] ** 2 / np.maximum(count, 1.0)
    square = np.maximum(sums[f"{name}_square"] - about.sum(axis=1), 0.0)
    freedom = np.maximum(count - 1.0, 0.0).sum(axis=1)
    enough = count.max(axis=1) >= fewest
    return np.asarray(np.sqrt(square / np.where(enough, freedom, np.nan)))


def deviation_ratio(
    scene: Scene, ours: Resampled, theirs: Resampled, *, name: str, fewest: int
) -> Float64:
    """Standard deviations of an output over those of the reference, both averaged over cells."""
    one, two = (over_cells(scene, deviations(x, name, fewest)) for x in (ours, theirs))
    return np.where(two > 0, one / np.where(two > 0, two, 1.0), np.nan)


def spells(scene: Scene, values: Float32, whole: Segments) -> Sums:
    """Numbers of spells by length, shares of the area, and how many days they hold in all.

    Of precipitation wet and dry spells, with the numbers of wet days and of all by cell; of other
    variables spells above the reference's 95th percentile of each cell.
    """
    if not is_daily(whole):
        return {}
    if not scene.amounts:
        return _spells_of("high", scene, values > scene.tail.reshape(-1)[scene.cells], whole)
    wet = values >= WET
    dry = values < WET
    return {
        "wet_days": _count(wet),
        "known_days": _count(wet | dry),
        **_spells_of("wet", scene, wet, whole),
        **_spells_of("dry", scene, dry, whole),
    }


def _count(state: Mask) -> Float64:
    """Steps and members in a state by cell."""
    steps = np.add.reduce(state.view(np.uint8), axis=1, dtype=np.uint16)
    return np.asarray(np.add.reduce(steps, axis=0, dtype=np.float64))


def _spells_of(name: str, scene: Scene, state: Mask, whole: Segments) -> Sums:
    counts, days = np.zeros(LONGEST), 0.0
    for part in stretches(whole):
        for length, cell in _lengths(state[part]):
            areas = scene.cell_areas[cell]
            counts += np.bincount(np.minimum(length, LONGEST) - 1, weights=areas, minlength=LONGEST)
            days += float(length @ areas)
    return {f"spells_{name}": counts, f"spells_{name}_days": np.array(days)}


def _lengths(state: Mask) -> Iterator[tuple[Index, Index]]:
    """Lengths and cells of all spells of each member."""
    time, members, cells = state.shape
    for member in range(members):
        # Each column between two false steps, so that spells do not run from cell to cell.
        columns = np.zeros((cells, time + 1), dtype=np.bool_)
        columns[:, 1:] = state[:, member].T
        flat = np.append(columns.reshape(-1), False)
        edges = np.flatnonzero(flat[1:] != flat[:-1])
        starts, ends = edges[::2], edges[1::2]
        yield ends - starts, starts // (time + 1)


UNITS = (persistence, windows, spells)


def lag_correlations(sums: Resampled) -> Float64:
    """Lag-1 autocorrelation of each cell, shape (R, cells); NaN where nothing varies, or
    of few pairs of days.
    """
    enough = sums["lag_pairs"][:, None] >= _FEWEST_PAIRS
    square = np.where(enough & (sums["lag_square"] > 0), sums["lag_square"], np.nan)
    return np.asarray(sums["lag_product"] / square)


def lag_error(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Mean over cells of the absolute difference of lag-1 autocorrelations."""
    return over_cells(scene, np.abs(lag_correlations(ours) - lag_correlations(theirs)))


def lag_mean(scene: Scene, sums: Resampled) -> Float64:
    """Mean over cells of the lag-1 autocorrelation."""
    return over_cells(scene, lag_correlations(sums))


def mean_length(scene: Scene, sums: Resampled, *, name: str) -> Float64:
    """Days of all spells over their number."""
    number = sums[f"spells_{name}"].sum(axis=-1)
    days = sums[f"spells_{name}_days"]
    return np.where(number > 0, days / np.where(number > 0, number, 1.0), np.nan)


def wet_day_error(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
    """Mean over cells of the absolute difference of the shares of wet days."""
    return over_cells(scene, np.abs(_wet_share(ours) - _wet_share(theirs)))


def _wet_share(sums: Resampled) -> Float64:
    days = sums["known_days"]
    return np.asarray(sums["wet_days"] / np.where(days >= FEWEST_VALUES, days, np.nan))


def _spell_measure(name: str, *, title: str, sentence: str, amounts: bool) -> Measure:
    value: Callable[..., Float64] = partial(mean_length, name=name)
    return Measure(
        name=f"{name}_spell_length",
        title=title,
        theme="time",
        kind="source",
        along="spans",
        sums=(f"spells_{name}", f"spells_{name}_days"),
        value=value,
        best="reference",
        units="days",
        formula="days in spells / number of spells, all cells (by area), members and units",
        source="doi:10.1002/wcc.147",
        sentence=sentence,
        amounts=amounts,
    )


def _window_measure(name: str, days: int) -> Measure:
    value: Callable[..., Float64] = partial(deviation_ratio, name=name, fewest=_FEWEST_WINDOWS)
    return Measure(
        name=f"{name}_variability",
        title=f"Variability over {days} days",
        theme="time",
        kind="against",
        along="spans",
        sums=tuple(f"{name}_{what}" for what in ("count", "departure", "square")),
        value=value,
        best="one",
        units="1",
        formula=(
            f"sum_i a_i s_i / sum_i a_i s_ref,i, s the standard deviation of means over {days} "
            "days of a member, less the reference's climatology by month; the same for sums"
        ),
        source="doi:10.1017/CBO9780511612336",
        sentence=(
            f"Whether means, or sums, over {days} days vary as much as observed: days that know "
            "nothing of each other give less, 1 is right; only with "
            f"{_FEWEST_WINDOWS * days} days or more."
        ),
    )


MEASURES = (
    Measure(
        name="wet_day_frequency_error",
        title="Error of wet-day frequency",
        theme="distribution",
        kind="against",
        along="spans",
        sums=("wet_days", "known_days"),
        value=wet_day_error,
        best="low",
        units="1",
        formula=f"sum_i a_i |P(x_i >= {WET:g} mm) - P(x_ref,i >= {WET:g} mm)|, members pooled",
        source="doi:10.1002/wcc.147",
        sentence=f"How far the share of days with {WET:g} mm and more is off, cell by cell.",
        amounts=True,
        tells=True,
    ),
    Measure(
        name="lag1_error",
        title="Error of lag-1 autocorrelation",
        theme="time",
        kind="against",
        along="spans",
        sums=("lag_product", "lag_square", "lag_pairs"),
        value=lag_error,
        best="low",
        units="1",
        formula=(
            "sum_i a_i |r_i - r_ref,i|, r = 2 sum x_t x_t+1 / sum (x_t^2 + x_t+1^2), x less the "
            "mean of the month in the unit, of each member"
        ),
        source="doi:10.1017/CBO9780511612336",
        sentence="How far the likeness of a day to the day before is from that observed.",
        tells=True,
    ),
    Measure(
        name="lag1",
        title="Lag-1 autocorrelation",
        theme="time",
        kind="source",
        along="spans",
        sums=("lag_product", "lag_square", "lag_pairs"),
        value=lag_mean,
        best="reference",
        units="1",
        formula=(
            "sum_i a_i r_i, r = 2 sum x_t x_t+1 / sum (x_t^2 + x_t+1^2), x less the mean of the "
            "month in the unit, of each member"
        ),
        source="doi:10.1017/CBO9780511612336",
        sentence="How alike a day is to the day before, less the season: 0 is not at all.",
    ),
    _spell_measure(
        "wet",
        title="Length of wet spells",
        sentence="For how many days rain lasts, on average.",
        amounts=True,
    ),
    _spell_measure(
        "dry",
        title="Length of dry spells",
        sentence="For how many days it stays dry, on average.",
        amounts=True,
    ),
    _spell_measure(
        "high",
        title="Length of spells above P95",
        sentence="For how many days values stay above the reference's P95, on average.",
        amounts=False,
    ),
    *(_window_measure(name, days) for name, days in _WINDOWS.items()),
)
