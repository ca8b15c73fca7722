"""Parts of an evaluation: segments of time, sums that add, files of sums, resamples, pairs."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import cftime
import numpy as np
import pytest

from climdown import cf
from climdown.errors import ConfigError, GridError, OutputError, ResumeError
from climdown.evaluation.bootstrap import Score, Skill, judge
from climdown.evaluation.cells import common_grid, onto
from climdown.evaluation.ensembles import open_ensemble
from climdown.evaluation.evaluate import compute, evaluate, gather
from climdown.evaluation.measure import Measure
from climdown.evaluation.pairing import CORRESPONDS, exactness, known_step, shared_steps
from climdown.evaluation.planning import make_plan
from climdown.evaluation.registry import MEASURES, STATISTICS
from climdown.evaluation.request import Request
from climdown.evaluation.segments import segments
from climdown.evaluation.states import Key, States
from climdown.evaluation.storage import StateStore
from climdown.evaluation.work import Work, tasks
from tests.commands import Shell
from tests.factories import TAS, Floats
from tests.judging import LAT, LON, members_of, weather, write_case, write_members
from tests.series import WINTER, Dates, daily, write_days

Judged = Callable[..., tuple[list[Score], list[Skill]]]
KEY = Key("blocks", "out", "tas", "total")


def axis(dates: Dates) -> cf.TimeAxis:
    return cf.time_axis(list(dates), units="days since 1990-01-01")


# --- segments


def test_a_winter_is_one_unit() -> None:
    days = daily(1990, 3, months=WINTER)
    cut = segments(axis(days), np.arange(len(days)))
    # January and February of the first year, two winters, and December of the last.
    assert cut.count("units") == 4
    for unit in cut.units:
        months = {days[i].month for i in range(unit.start, unit.stop)}
        assert months <= {12, 1, 2}
        span = days[unit.stop - 1] - days[unit.start]
        assert span.days < 92


@pytest.mark.parametrize("months", [(6, 7, 8), (1,), (12, 1), tuple(range(1, 13)), (3, 9)])
@pytest.mark.parametrize("calendar", ["standard", "360_day"])
def test_blocks_lie_in_groups_and_in_units(months: tuple[int, ...], calendar: str) -> None:
    days = daily(1990, 5, months=months, calendar=calendar)
    cut = segments(axis(days), np.arange(len(days)))
    assert cut.count("groups") <= 24
    for inner, outer in ((cut.block, cut.unit), (cut.block, cut.group)):
        owners = {(int(i), int(o)) for i, o in zip(inner, outer, strict=True)}
        assert len(owners) == len(set(inner.tolist()))
    lengths = np.bincount(cut.block)
    assert lengths.max() <= 10
    assert (np.diff(cut.block) >= 0).all()
    assert set(np.diff(cut.block).tolist()) <= {0, 1}


def test_blocks_of_other_steps_last_ten_days_too() -> None:
    six_hourly = cftime.num2date(np.arange(200) / 4, "days since 2001-01-01")
    assert np.bincount(segments(axis(six_hourly), np.arange(200)).block).tolist() == [40] * 5
    months = np.array([cftime.datetime(2001 + i // 12, i % 12 + 1, 15) for i in range(30)])
    cut = segments(axis(months), np.arange(30))
    assert np.bincount(cut.block).max() == 1
    assert np.diff(cut.number).tolist() == [1] * 29


def test_a_single_step_is_one_segment_of_each_kind() -> None:
    cut = segments(axis(daily(2001, 1)[:1]), np.arange(1))
    assert [cut.count(along) for along in ("blocks", "groups", "units")] == [1, 1, 1]


def test_gaps_do_not_make_blocks_longer() -> None:
    days = daily(2001, 1)
    kept = np.array([i for i in range(365) if not 15 <= i < 45])
    cut = segments(axis(days), kept)
    for block in range(cut.count("blocks")):
        inside = kept[cut.block == block]
        assert inside[-1] - inside[0] < 10


# --- dates of pairs


def test_steps_are_shared_by_date_whatever_the_hour() -> None:
    noon, midnight = daily(2001, 1), daily(2001, 1) - np.timedelta64(12, "h").astype(object)
    shared = shared_steps({"a": axis(noon[5:20]), "b": axis(midnight[:10])})
    assert shared["a"].tolist() == list(range(5))
    assert shared["b"].tolist() == list(range(5, 10))


def test_hours_tell_steps_of_hours_apart() -> None:
    hours = cftime.num2date(np.arange(8) / 4, "days since 2001-01-01")
    shared = shared_steps({"a": axis(hours), "b": axis(hours[2:])})
    assert shared["a"].tolist() == list(range(2, 8))


def test_a_single_step_takes_the_length_of_others() -> None:
    days = daily(2001, 1)
    assert known_step(axis(days[:1])) is None
    assert (
        known_step(cf.time_axis(list(days[:1]), units="days since 2001-01-01", bounded=True)) == 1
    )
    assert exactness([axis(days[:1])]) == 3
    hours = cftime.num2date(np.arange(8) / 4, "days since 2001-01-01")
    assert exactness([axis(hours[:1]), axis(hours)]) == 5


def test_unrelated_weather_seldom_corresponds() -> None:
    """One in forty seasons, as the rule says; most have less than half of it."""
    days = daily(2001, 1, months=(6, 7, 8))

    def one(seed: int) -> Floats:
        series: Floats = weather(days, seed=seed, lat=LAT[:1], lon=LON[:1]).mean(axis=(1, 2))
        month = np.array([d.month for d in days])
        for m in np.unique(month):
            series[month == m] -= series[month == m].mean()
        return series

    pairs = [(one(2 * i), one(2 * i + 1)) for i in range(300)]
    found = np.array([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    assert (found > CORRESPONDS).mean() < 0.025


# --- sums


def test_sums_add_in_any_order() -> None:
    rng = np.random.default_rng(0)
    pieces = [
        (int(rng.integers(0, 20)), rng.normal(size=(rng.integers(1, 5), 2))) for _ in range(9)
    ]
    expected = np.zeros((30, 2))
    for first, values in pieces:
        expected[first : first + len(values)] += values
    for order in itertools.islice(itertools.permutations(pieces), 0, 5000, 977):
        states = States()
        for first, values in order:
            states.add(KEY, first, values)
        np.testing.assert_allclose(states.of("blocks", "out", "tas", 30)["total"], expected)
    halves = States(), States()
    for i, (first, values) in enumerate(pieces):
        halves[i % 2].add(KEY, first, values)
    halves[0].merge(States.from_arrays(halves[1].arrays()))
    np.testing.assert_allclose(halves[0].total("blocks", "out", "tas")["total"], expected.sum(0))


def test_what_is_added_is_not_changed_later() -> None:
    states, values = States(), np.ones((2, 1))
    states.add(KEY, 0, values)
    states.add(KEY, 0, values)
    assert values.tolist() == [[1.0], [1.0]]
    assert states.sums[KEY].tolist() == [[2.0], [2.0]]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file/sums"):
        StateStore.open(tmp_path / "file" / "sums", {}, discard=False)


def test_sums_of_another_evaluation_are_kept_apart(tmp_path: Path) -> None:
    store = StateStore.open(tmp_path, {"a": 1}, discard=False)
    states = States()
    states.add(KEY, 3, np.arange(6.0).reshape(2, 3))
    store.write("1", states)
    assert StateStore.open(tmp_path, {"a": 1}, discard=True).has("1"), "the same goes on"
    np.testing.assert_array_equal(store.read("1").sums[KEY], states.sums[KEY])
    assert store.read("1").first[KEY] == 3
    with pytest.raises(ResumeError, match="holds states of another evaluation"):
        StateStore.open(tmp_path, {"a": 2}, discard=False)
    assert not StateStore.open(tmp_path, {"a": 2}, discard=True).has("1")


def test_who_comes_late_does_not_remove_what_others_have_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shards begin at once: the other writes a unit before this one has placed the plan."""
    own = Path.mkdir

    def slow(self: Path, **options: bool) -> None:
        own(self, **options)
        monkeypatch.undo()
        other = StateStore.open(tmp_path / "sums", {"a": 1}, discard=False)
        other.write("1", States({KEY: 0}, {KEY: np.ones((1, 1))}))

    monkeypatch.setattr(Path, "mkdir", slow)
    assert StateStore.open(tmp_path / "sums", {"a": 1}, discard=False).has("1")


# --- cells


def test_what_all_have_is_judged(shell: Shell) -> None:
    days = daily(2001, 1)[:30]
    truth = weather(days)
    write_days("ref.nc", days, truth[:, 1:], lat=LAT[1:], lon=LON)
    write_members("a.nc", days, members_of(truth, 2))
    write_members("b.nc", days, members_of(truth, 2)[..., :-2], lon=LON[:-2])
    outputs = {n: open_ensemble(n, [f"{n}.nc"], {"tas": TAS}) for n in ("a", "b")}
    reference = open_ensemble("reference", ["ref.nc"], {"tas": TAS})
    request = Request(outputs={"a": ("a.nc",), "b": ("b.nc",)}, reference=("ref.nc",))
    grid = common_grid(request, outputs, reference)
    np.testing.assert_allclose(grid.lat, LAT[1:])
    np.testing.assert_allclose(grid.lon, LON[:-2])
    for one in (*outputs.values(), reference):
        assert onto(one, grid, regridded=False).first.grid.matches(grid)


def test_other_cells_are_refused(shell: Shell) -> None:
    days = daily(2001, 1)[:30]
    write_days("ref.nc", days, weather(days), lat=LAT + 0.1, lon=LON)
    write_members("a.nc", days, members_of(weather(days), 2))
    with pytest.raises(GridError, match=r"ref\.nc.* has other cells .* give --grid reference"):
        make_plan(Request(outputs={"a": ("a.nc",)}, reference=("ref.nc",)))


def test_members_of_a_dimension_and_the_first_of_them(shell: Shell) -> None:
    days = daily(2001, 1)[:10]
    write_members("a.nc", days, members_of(weather(days), 3))
    assert len(open_ensemble("a", ["a.nc"], {"tas": TAS}).members) == 3
    assert len(open_ensemble("a", ["a.nc"], {"tas": TAS}, members=2).members) == 2
    chosen = open_ensemble("a", ["a.nc"], {"tas": TAS}, select={"realization": "1"})
    assert len(chosen.members) == 1


# --- work and resamples


@pytest.fixture
def request_of_case(shell: Shell) -> Request:
    write_case(daily(2001, 2, months=WINTER))
    return Request(outputs={"out": ("out.nc",)}, reference=("ref.nc",), input=("gcm.nc",))


def test_work_travels(request_of_case: Request) -> None:
    plan = make_plan(request_of_case)
    work = Work(plan.scenes, STATISTICS, plan.paired)
    task = next(tasks(plan, ["reference", *plan.outputs], 0))
    near, far = work(task), pickle.loads(pickle.dumps(work))(pickle.loads(pickle.dumps(task)))
    assert near.sums.keys() == far.sums.keys()
    for key, values in near.sums.items():
        np.testing.assert_array_equal(values, far.sums[key])


def test_fewer_cells_are_kept_of_longer_series(
    request_of_case: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("climdown.evaluation.planning._SERIES_BYTES", 1)
    plan = make_plan(request_of_case)
    assert len(plan.scenes["tas"].cells) == 64


@pytest.fixture
def judged(request_of_case: Request) -> Judged:
    plan = make_plan(request_of_case)
    store = StateStore.open(Path("sums"), plan.identity, discard=False)
    assert compute(request_of_case, plan, store) == 0
    states = gather(request_of_case, plan, store).states

    def again(**options: int) -> tuple[list[Score], list[Skill]]:
        return judge(plan, states, MEASURES, **options)

    return again


def test_the_same_seed_gives_the_same_intervals(
    judged: Judged,
) -> None:
    assert judged(resamples=50, seed=1) == judged(resamples=50, seed=1)
    first, other = (judged(resamples=50, seed=seed)[0] for seed in (1, 2))
    assert [s.value for s in first] == [s.value for s in other]
    assert [s.low for s in first] != [s.low for s in other]
    assert all(s.low is None and s.value is not None for s in judged(resamples=0, seed=1)[0])


def test_skill_is_resampled_on_the_same_days(judged: Judged) -> None:
    scores, skills = judged(resamples=100, seed=0)
    values = {(s.output, s.variable): s.value or np.nan for s in scores if s.measure == "crps"}
    (skill,) = [s for s in skills if (s.variable, s.measure) == ("tas", "crps")]
    assert skill.baseline == "bilinear"
    assert np.isclose(skill.value, 1 - values["out", "tas"] / values["bilinear", "tas"])
    low, high = known(skill.low, skill.high)
    assert low < skill.value < high < 1
    assert not [s for s in skills if s.output == "bilinear"]


def test_differences_from_the_reference_are_resampled_together(
    judged: Judged,
) -> None:
    (mean,) = [
        s
        for s in judged(resamples=100, seed=0)[0]
        if (s.output, s.variable, s.measure) == ("out", "tas", "mean")
    ]
    value, own, low, high = known(mean.value, mean.reference, mean.low, mean.high)
    near, far = known(mean.difference_low, mean.difference_high)
    assert near < value - own < far
    # The weather of the days is in both: what is left varies far less.
    assert far - near < 0.1 * (high - low)


def known(*numbers: float | None) -> list[float]:
    """Numbers that are all there."""
    found = [number for number in numbers if number is not None]
    assert len(found) == len(numbers)
    return found


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of block means of an autocorrelated series; some fewer than 95 % is the bootstrap's own."""
    from climdown.evaluation import bootstrap

    rng, hits = np.random.default_rng(0), 0
    for trial in range(200):
        sums = rng.normal(size=(40, 1))
        weights = bootstrap._weights(40, 200, trial, salt=1)
        low, high = bootstrap._interval((weights @ sums)[:, 0] / 40)
        assert low is not None
        assert high is not None
        hits += low <= 0.0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_measures_need_their_sums(request_of_case: Request) -> None:
    plan = make_plan(request_of_case)
    nothing: Measure = MEASURES[0]
    assert judge(plan, States(), (nothing,), resamples=0) == ([], [])


def test_everything_at_once(request_of_case: Request) -> None:
    found = evaluate(request_of_case, Path("sums"))
    assert found is not None
    assert found.scores
    assert found.skills
    entries = json.loads(Path("sums/evaluation.json").read_text("utf-8"))
    assert entries["outputs"]["out"][0][0] == "out.nc"


# --- requests


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": {}}, "no output to evaluate"),
        ({"reference": ()}, "no reference; give --reference FILE"),
        ({"outputs": {"a|b": ("x",)}}, r"an output cannot be called 'a\|b'"),
        ({"outputs": {"reference": ("x",)}}, "an output cannot be called 'reference'"),
        ({"baselines": ("c",)}, "the baseline 'c' is none of the outputs"),
        ({"baselines": ("a",)}, "all outputs are baselines"),
        ({"members": 0}, "--members needs at least 1"),
        ({"resamples": -1}, "--resamples needs at least 0"),
        ({"shard": (3, 3)}, "--shard is 4/3; expected I/N with 1 <= I <= N"),
        ({"region": (0.0, 10.0, 50.0, 40.0)}, "--region is 0,10,50,40; expected WEST,EAST"),
        ({"region": (5.0, 5.0, 40.0, 50.0)}, "--region is 5,5,40,50; expected WEST,EAST"),
    ],
)
def test_requests_that_cannot_be_meant_are_refused(change: dict[str, object], message: str) -> None:
    plain: dict[str, object] = {"outputs": {"a": ("x",)}, "reference": ("y",)}
    with pytest.raises(ConfigError, match=message):
        Request(**{**plain, **change})  # type: ignore[arg-type]
