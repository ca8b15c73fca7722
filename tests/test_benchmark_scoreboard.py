"""The scoreboard runs end to end on real days, and its methods beat the baselines there."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.factories import shared_data

scoreboard: Any = importlib.import_module("benchmarks.scoreboard")
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.data
def test_every_method_beats_interpolation_on_days_never_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(shared_data()), "--examples", str(EXAMPLES), "--members", "2"]
    words += ["--days", "6", "--only", "iberia-x5,europe-x4", "--json", str(tmp_path / "s.json")]
    monkeypatch.setattr(sys, "argv", ["scoreboard.py", *words])
    scoreboard.main()
    text = capsys.readouterr().out
    assert "iberia-x5, 2 members" in text
    assert "| zg500 (m) | zssd |" in text
    found = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    for rows in found.values():
        crps = {(row["variable"], row["method"]): row["crps"] for row in rows}
        for (variable, method), score in crps.items():
            if method not in ("bilinear", "delta"):
                assert score < crps[variable, "delta"], (variable, method)
                assert score < 0.8 * crps[variable, "bilinear"], (variable, method)
