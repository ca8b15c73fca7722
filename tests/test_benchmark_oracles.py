"""The table of other implementations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import evaluation_oracles as oracles
from tests.factories import shared_data


@pytest.mark.data
@pytest.mark.parametrize("variable", oracles.VARIABLES)
def test_metrics_of_observed_winters_equal_other_implementations(
    variable: str, tmp_path: Path
) -> None:
    (case,) = oracles.cases(shared_data(), (variable,), tmp_path)
    rows = [*oracles.pairs_by_scores(case), *oracles.pairs_by_numpy(case)]
    assert len(rows) == 14
    for row in rows:
        assert row.largest_difference <= 1e-12 * max(1.0, row.largest_value), row


def test_differences_are_infinite_where_one_alone_has_a_value() -> None:
    case = oracles.Case("tas", None, None, None)  # type: ignore[arg-type]
    some, less = np.array([1.0, 2.0, np.nan]), np.array([1.5, np.nan, np.nan])
    assert math.isinf(case.row("x", "y", some, less).largest_difference)
    assert math.isinf(case.row("x", "y", np.nan, np.nan).largest_difference)
    row = case.row("x", "y", some, [1.5, 1.0, np.nan])
    assert (row.largest_difference, row.largest_value) == (1.0, 1.5)
