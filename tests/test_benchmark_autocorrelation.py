"""The autocorrelation benchmark runs end to end, and coherent noise is seen in it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climdown import cf
from tests.factories import TAS, make_dataset, shared_data

autocorrelation: Any = importlib.import_module("benchmarks.autocorrelation")
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.data
def test_members_depart_from_their_mean_as_long_as_their_noise_lasts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(shared_data()), "--examples", str(EXAMPLES), "--members", "2"]
    words += ["--prior", "eobs-iberia-cm", "--coherence", "none,0.9"]
    words += ["--period", "1996-12-01/1996-12-12", "--json", str(tmp_path / "p.json")]
    autocorrelation.main(words)
    assert "| tas | none | 0.000 |" in capsys.readouterr().out
    rows = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert [(row["variable"], row["coherence"]) for row in rows] == [
        ("tas", "none"),
        ("tas", "0.9"),
        ("pr", "none"),
        ("pr", "0.9"),
    ]
    for none, coherent in (rows[:2], rows[2:]):
        assert none["detail_observed"] == coherent["detail_observed"]
        # About means over eleven pairs, white noise has -1/11.
        assert none["departure_members"] == pytest.approx(-1 / 11, abs=0.1)
        assert coherent["departure_members"] > none["departure_members"] + 0.15
        assert coherent["crps"] == pytest.approx(none["crps"], rel=0.15)


def test_gaps_are_no_pairs(tmp_path: Path) -> None:
    path = tmp_path / "tas.nc"
    make_dataset(path=path, times=[0.5, 1.5, 5.5, 6.5, 7.5, 40.5])
    axis = cf.open_field(path, TAS).time
    np.testing.assert_array_equal(autocorrelation.consecutive(axis), [0, 2, 3])
