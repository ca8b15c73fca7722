"""Lag-one autocorrelation of fine detail against processes whose value is known."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.autocorrelation import fine_detail
from climdown.config import PriorConfig
from climdown.grid import Grid
from climdown.metrics.autocorrelation import lag_one_autocorrelation
from climdown.training import lags as module
from climdown.training import prepare
from tests.factories import Floats, make_dataset
from tests.training import with_data
from tests.training_data import write_statics

FINE = Grid.regular(40.0, 43.0, -4.0, 0.0, 0.25)  # 12 x 16 cells
COARSE = FINE.coarsen(4)
LAT: Floats = 40.125 + 0.25 * np.arange(6, dtype=np.float64)
LON: Floats = -2.875 + 0.25 * np.arange(8, dtype=np.float64)


def red_noise(days: int, rho: float, *, seed: int = 0, shape: tuple[int, int] = (12, 16)) -> Floats:
    """White in space, correlation rho^k at k days."""
    fields = np.random.default_rng(seed).normal(size=(days, *shape))
    for before, now in itertools.pairwise(fields):
        now *= np.sqrt(1.0 - rho**2)
        now += rho * before
    return fields


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_red_noise_has_its_own_correlation_on_any_pattern_that_stands_still(rho: float) -> None:
    fields = red_noise(400, rho) + 50.0 * np.random.default_rng(9).normal(size=FINE.shape)
    detail = fine_detail(fields, FINE, COARSE)
    # Some 170 free cells of 400 days: 4.5 standard errors, Bartlett's sqrt((1 - rho^2) / n), and
    # the bias of means over 400 days.
    bound = 4.5 * np.sqrt((1.0 - rho**2) / (170 * 400)) + (1.0 + 3.0 * rho) / 400
    found = lag_one_autocorrelation(detail[:-1], detail[1:], FINE.areas)
    assert found == pytest.approx(rho, abs=bound)


def test_detail_knows_nothing_of_a_field_that_is_the_same_everywhere() -> None:
    fields = red_noise(3, 0.0)
    shifted = fields + np.array([5.0, -80.0, 300.0])[:, None, None]
    detail = fine_detail(fields, FINE, COARSE)
    np.testing.assert_allclose(fine_detail(shifted, FINE, COARSE), detail, atol=1e-10)
    assert np.abs(detail).max() > 1.0


def test_detail_lacks_the_mean_of_a_coarse_cell_amid_equal_ones() -> None:
    pattern = np.tile(np.random.default_rng(0).normal(size=(4, 4)), (3, 4))
    weights, blocks = FINE.areas.reshape(3, 4, 4, 4), pattern.reshape(3, 4, 4, 4)
    means = (blocks * weights).sum(axis=(1, 3)) / weights.sum(axis=(1, 3))
    detail = fine_detail(pattern, FINE, COARSE)
    # Means of equal blocks differ by the latitude's areas alone.
    np.testing.assert_allclose(detail, pattern - means.mean(), atol=1e-3)


def test_pairs_that_lack_a_value_do_not_count() -> None:
    rng = np.random.default_rng(1)
    fields = 280.0 + red_noise(31, 0.6)
    fields[rng.random(fields.shape) < 0.3] = np.nan
    first, second = fields[:-1], fields[1:]
    both = np.isfinite(first) & np.isfinite(second)
    a, b = (np.where(both, x, np.nan) for x in (first, second))
    a, b = a - np.nanmean(a, axis=0), b - np.nanmean(b, axis=0)
    cov, one, two = (np.nansum(FINE.areas * x) for x in (a * b, a * a, b * b))
    found = lag_one_autocorrelation(first, second, FINE.areas)
    assert found == pytest.approx(cov / np.sqrt(one * two), rel=1e-9)


def test_cells_count_by_their_area() -> None:
    fields = red_noise(50, 0.0)
    fields[:, :, :8] = red_noise(1, 0.0)[:, :, :8] * (-1.0) ** np.arange(50)[:, None, None]
    west = np.where(np.arange(16) < 8, 1.0, 0.0) * np.ones(FINE.shape)
    # Over 49 pairs the two means of an alternating series are not quite the same.
    assert lag_one_autocorrelation(fields[:-1], fields[1:], west) == pytest.approx(-1.0, abs=1e-9)
    assert abs(lag_one_autocorrelation(fields[:-1], fields[1:], 1.0 - west)) < 0.2


def test_what_does_not_vary_has_no_correlation() -> None:
    still = np.ones((5, *FINE.shape))
    assert lag_one_autocorrelation(still, still, FINE.areas) == 0.0


# January and February of six years: means of a month are then over nearly two hundred days, and
# hardly shorten its memory.
YEARS = (0, 365, 730, 1095, 1461, 1826)
DAYS = tuple(year + day for year in YEARS for day in range(59))
MONTH = np.array([day >= 31 for _ in YEARS for day in range(59)])[:, None, None]


def told(
    config: PriorConfig,
    folder: Path,
    values: Floats,
    days: Sequence[int] = DAYS,
    train: str = "2001-01-01/2006-12-31",
) -> dict[str, float]:
    """What the card of a prior of tas says, from values of days since 2001-01-01."""
    folder = Path(tempfile.mkdtemp(dir=folder))  # files that are open are not written anew
    write_statics(folder / "static.nc")
    times = [day + 0.5 for day in (*days, 2400)]
    fields = [*values, values[0]]
    make_dataset(
        path=folder / "tas.nc", lat=LAT, lon=LON, times=times, values=lambda y, x, i: fields[i]
    )
    config = with_data(
        config,
        variables=config.data.variables[:1],
        train=train,
        validation="2007-01-01/2008-12-31",
        coarse_factor=2,
    )
    return prepare(config, folder).card.lag_correlation


def detail(rho: float) -> Floats:
    return 280.0 + red_noise(len(DAYS), rho, shape=(6, 8))


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_the_card_tells_the_correlation_of_what_coarse_cells_leave_open(
    rho: float, training_config: PriorConfig, tmp_path: Path
) -> None:
    # The whole field, and how much each cell of a block departs from it, follow one slow number:
    # no detail that noise should draw.
    slow = red_noise(len(DAYS), 0.99, seed=1, shape=(1, 1))
    still = np.random.default_rng(2).normal(size=(2, 6, 8))
    values = detail(rho) + 3.0 * slow * (1.0 + still[0])
    found = told(training_config, tmp_path, values)
    assert found == {"tas": pytest.approx(rho, abs=0.06)}
    # Nor is a pattern that comes and goes with the seasons.
    seasonal = told(training_config, tmp_path, values + 9.0 * MONTH * still[1])
    assert seasonal == {"tas": pytest.approx(found["tas"], abs=1e-3)}


@pytest.mark.parametrize(("kept", "expected"), [((0, 1), 1.0), ((1, 2), 0.0), ((0, 1, 2, 3), 0.5)])
def test_gaps_are_no_pairs(
    kept: tuple[int, ...], expected: float, training_config: PriorConfig, tmp_path: Path
) -> None:
    # Detail is the same on days 0 and 1, 2 and 3, ..., and new on every other: of four days, some
    # are kept.
    chosen = np.array([i for i in range(len(DAYS)) if i % 59 % 4 in kept])
    drawn = np.random.default_rng(5).normal(size=(6, 30, 6, 8))
    values = 280.0 + drawn[chosen // 59, chosen % 59 // 2]
    found = told(training_config, tmp_path, values, [DAYS[i] for i in chosen])
    assert found == {"tas": pytest.approx(expected, abs=0.07 if expected < 1.0 else 1e-3)}


def test_a_sample_of_pairs_and_cells_tells_about_the_same(
    training_config: PriorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = told(training_config, tmp_path, detail(0.7))
    monkeypatch.setattr(module, "_PAIRS", 200)
    monkeypatch.setattr(module, "_CELLS", 16)
    fewer = told(training_config, tmp_path, detail(0.7))
    assert fewer != whole
    assert fewer["tas"] == pytest.approx(whole["tas"], abs=0.06)


def test_days_on_which_a_cell_is_missing_do_not_count(
    training_config: PriorConfig, tmp_path: Path
) -> None:
    values = detail(0.7)
    values[np.random.default_rng(3).random(values.shape) < 0.05] = np.nan
    # Coarse means lose cells, too, and tell a little less of the others.
    assert told(training_config, tmp_path, values) == {"tas": pytest.approx(0.7, abs=0.1)}


def test_too_few_days_tell_nothing(training_config: PriorConfig, tmp_path: Path) -> None:
    assert told(training_config, tmp_path, detail(0.7), train="2001-01-01/2002-01-30") == {}
    enough = told(training_config, tmp_path, detail(0.7), train="2001-01-01/2002-01-31")
    assert set(enough) == {"tas"}
