"""Forecasts that are wrong are called wrong, and one that is as good as can be is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from benchmarks.exchangeable import write_exchangeable
from benchmarks.wrong_forecasts import GOOD, WRONG, Caught, judge_wrong, print_table


@pytest.fixture(scope="module")
def caught(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Caught]:
    folder = tmp_path_factory.mktemp("wrong")
    good, reference, given = write_exchangeable(folder, winters=5, members=4, side=3)
    rows = judge_wrong(good, folder, reference=reference, given=given, resamples=40)
    return {row.name: row for row in rows}


def test_what_is_exchangeable_with_the_truth_has_no_red(caught: Mapping[str, Caught]) -> None:
    assert caught[GOOD].poor == ()
    assert caught[GOOD].unknown == ()
    assert caught[GOOD].scores == ()


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("shuffled", ["crps (tas, pr)", "lag1_error (tas, pr)"]),
        ("shifted", ["crps (tas)", "coarse_rmse (tas, pr)"]),
        ("decoupled", ["crps (pr)", "correlation_error (tas+pr)"]),
        ("biased", ["mean (tas)", "coarse_rmse (tas)"]),
        ("blurred", ["log_spectral_distance (tas, pr)"]),
        ("noised", ["log_spectral_distance (tas)", "damp_share (pr)"]),
        ("repeated", ["repeated members", "spread_skill (tas, pr)"]),
        ("doubled", ["spread_skill (tas)"]),
        ("halved", ["spread_skill (tas)"]),
        ("scaled", ["mean (pr)"]),
        ("drizzled", ["damp_share (pr)", "coarse_drizzle (pr)"]),
    ],
)
def test_what_is_wrong_is_red(caught: Mapping[str, Caught], name: str, about: list[str]) -> None:
    words = [word for one in about for word in _places(one)]
    red = [word for one in caught[name].poor for word in _places(one)]
    assert sorted(set(words) - set(red)) == []


def test_cut_extremes_are_amber_at_least(caught: Mapping[str, Caught]) -> None:
    row = caught["clipped"]
    told = [word for one in (*row.poor, *row.fair) for word in _places(one)]
    assert "p99_error tas" in told
    assert "p99_error pr" in told


def test_all_that_is_wrong_has_worse_scores(caught: Mapping[str, Caught]) -> None:
    assert caught.keys() == WRONG.keys()
    assert [name for name, row in caught.items() if name != GOOD and len(row.scores) < 5] == []


def test_the_table_has_a_row_for_each(
    caught: Mapping[str, Caught], capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(list(caught.values()))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(WRONG)
    assert all(line.count("|") == 6 for line in lines)


def test_members_and_truth_are_exchangeable_and_share_their_coarse_means(tmp_path: Path) -> None:
    good, reference, given = write_exchangeable(tmp_path, winters=4, members=3, side=3)
    with xr.open_dataset(good) as fine, xr.open_dataset(reference[0]) as truth:
        assert len(fine["time"]) == 360
        for name in ("tas", "pr"):
            members = fine[name].coarsen(lat=4, lon=4).mean()
            with xr.open_dataset(given[0]) as coarse:
                alike = coarse[name].expand_dims(r=3, axis=1)
                np.testing.assert_allclose(members, alike, atol=2e-4)
            deviations = fine[name].std(("time", "lat", "lon")).values
            own = float(truth[name].std())
            assert np.all(np.abs(deviations / own - 1.0) < (0.05 if name == "tas" else 0.2))


def _places(text: str) -> list[str]:
    """ "crps (tas, pr)" as "crps tas" and "crps pr"."""
    measure, _, names = text.rstrip(")").partition(" (")
    return [f"{measure} {name}" for name in names.split(", ")]
