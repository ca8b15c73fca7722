"""Sums by segment: they add and keep their kind of number; segments of units."""

from __future__ import annotations

import numpy as np
import pytest

from climdown.evaluation.measure import Measure
from climdown.evaluation.registry import MEASURES, STATISTICS
from climdown.evaluation.states import States
from tests.cells import days, key, scene_of


def test_counts_stay_integers_and_all_else_is_double() -> None:
    states = States()
    counts = np.arange(6, dtype=np.uint32).reshape(2, 3)
    for first in (3, 4, 1):
        states.add(key("counts"), first, counts)
        states.add(key("sums"), first, counts.astype(np.float32))
    for name, kind in (("counts", np.uint32), ("sums", np.float64)):
        again = States.from_arrays(states.arrays())
        for found in (states, again):
            assert found.sums[key(name)].dtype == kind
            whole = found.of("groups", "a", "b", 7)[name]
            assert whole.dtype == kind
            expected = [[0, 0, 0], [0, 1, 2], [3, 4, 5], [0, 1, 2], [3, 5, 7], [3, 4, 5], [0, 0, 0]]
            np.testing.assert_array_equal(whole, expected)
            assert found.total("groups", "a", "b")[name].dtype == np.float64


def test_sums_do_not_change_what_was_added() -> None:
    states, counts = States(), np.ones((1, 2), dtype=np.uint32)
    states.add(key("counts"), 0, counts)
    states.add(key("counts"), 0, counts)
    np.testing.assert_array_equal(counts, 1)


def test_spans_are_at_most_ten_runs_of_whole_years() -> None:
    few, many = days(5 * 365), days(25 * 365)
    np.testing.assert_array_equal(few.span, few.unit)
    assert many.count("units") == 25
    assert many.count("spans") == 10
    years = np.bincount(many.span) / 365
    assert set(years.tolist()) == {2.0, 3.0}
    for unit in range(25):
        assert len(set(many.span[many.unit == unit].tolist())) == 1


def test_tenths_are_at_most_ten_runs_of_whole_groups() -> None:
    for labels in (days(90), days(40 * 365)):
        assert labels.count("tenths") == min(10, labels.count("groups"))
        pairs = set(zip(labels.group.tolist(), labels.tenth.tolist(), strict=True))
        assert len(pairs) == labels.count("groups")
        assert (np.diff(labels.tenth) >= 0).all()


def test_a_unit_is_whole_if_it_is_as_long_as_others() -> None:
    labels = days(3 * 365 + 300, gaps=tuple(range(740, 750)))
    lengths = np.bincount(labels.unit)
    told = [bool(labels.whole[labels.unit == u].all()) for u in range(len(lengths))]
    assert lengths.tolist() == [365, 365, 355, 300]
    assert told == [True, True, True, False]
    part = labels.take(slice(10, 20))
    np.testing.assert_array_equal(part.whole, labels.whole[10:20])
    np.testing.assert_array_equal(part.span, labels.span[10:20])


def _of_series() -> list[Measure]:
    return [m for m in MEASURES if m.along == "spans" or "histogram" in m.sums]


@pytest.mark.parametrize("measure", _of_series(), ids=lambda one: one.name)
def test_measures_of_series_read_sums_that_statistics_give(measure: Measure) -> None:
    given: set[str] = set()
    for amounts in (False, True):
        values = np.random.default_rng(0).gamma(1.0, 4.0, (365, 2, 3)).astype(np.float32)
        scene = scene_of(values[:, 0], amounts=amounts)
        for statistic in (*STATISTICS.stretch_of_series, *STATISTICS.unit_of_series):
            given |= set(statistic(scene, values, days(365)))
    assert set(measure.sums) <= given


def test_no_two_statistics_of_series_give_sums_of_one_name() -> None:
    values = np.random.default_rng(0).gamma(1.0, 4.0, (365, 2, 3)).astype(np.float32)
    scene = scene_of(values[:, 0], amounts=True)
    names: list[str] = []
    for statistic in STATISTICS.unit_of_series:
        names += statistic(scene, values, days(365))
    assert len(names) == len(set(names))


def test_names_of_measures_differ() -> None:
    names = [one.name for one in MEASURES]
    assert len(names) == len(set(names))
