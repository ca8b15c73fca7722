"""The ablation of A_high repeats the paper's finding on a few steps of real days."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.factories import shared_data

ablation: Any = importlib.import_module("benchmarks.ablation")
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.data
def test_without_a_high_the_gradient_vanishes_with_the_factor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "a.png"
    words = ["--data", str(shared_data()), "--examples", str(EXAMPLES), "--output", str(picture)]
    monkeypatch.setattr(sys, "argv", ["ablation.py", *words, "--fields", "1", "--steps", "4"])
    ablation.main()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["5", "10", "20"]
    ratios = [float(row[3]) for row in rows]
    # A mean over n cells has a gradient of 1/n in each; raised, n of them add up.
    assert ratios[0] > 5.0
    assert ratios[0] < ratios[1] < ratios[2]
    assert picture.stat().st_size > 5000
