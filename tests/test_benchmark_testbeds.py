"""The benchmark of the test problems runs end to end, small, and uses what it kept."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

testbeds: Any = importlib.import_module("benchmarks.testbeds")

KS = ["--trajectories", "8", "--time", "75", "--every", "2", "--shifts"]
NS = ["--problem", "ns", "--trajectories", "4", "--time", "48", "--points", "16"]
SMALL = ["--epsilon", "0.1", "--steps", "2", "--draws", "3", "--levels", "3"]


def test_symmetries_are_used_and_judged_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tables.json"
    words = [*KS, "--epsilon", "0.1", "--steps", "0", "--symmetries", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["testbeds.py", *words])
    fit = Mock(wraps=testbeds.invariant.fit)
    monkeypatch.setattr(testbeds.invariant, "fit", fit)
    testbeds.main()
    fit.assert_called_once()
    assert "the same, with all images of each" in capsys.readouterr().out
    found = json.loads(file.read_text(encoding="utf-8"))
    images = found["coarse, all images"]
    assert set(images) == set(found["coarse"])
    # Energies are those of the same fields; covariances lose what the places made of them.
    assert images["OT"]["MELR"] == pytest.approx(found["coarse"]["OT"]["MELR"])
    assert images["OT"]["covRMSE"] < found["coarse"]["OT"]["covRMSE"]


@pytest.mark.parametrize("words", [KS, NS], ids=["ks", "ns"])
def test_tables_are_printed_stored_and_the_same_from_the_cache(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = []
    for _ in range(2):
        file = tmp_path / "tables.json"
        kept = ["--cache", str(tmp_path / "kept"), "--json", str(file)]
        monkeypatch.setattr(sys, "argv", ["testbeds.py", *words, *SMALL, *kept])
        testbeds.main()
        found.append(json.loads(file.read_text(encoding="utf-8")))
    text = capsys.readouterr().out
    assert text.count("truth: ") == 2
    assert text.count(" from ") == 3
    assert text.count("|C' x - y'| <= 0\n") == 12
    assert found[0] == found[1]
    assert set(found[0]["coarse"]) == {"raw", "raw, paper", "OT", "OT, paper", "half of truth"}
    assert {"OT, kriging", "C' x, Eq. 7 6", "raw, smooth"} < set(found[0]["fine"])
    assert list(found[0]["coarse"]["OT"]) == list(testbeds.DISTANCES)
