"""Ranks: what a launcher says of this process."""

from __future__ import annotations

import pytest

from climdown.compute.ranks import Rank, own_rank


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_a_process_is_the_only_one_and_leads() -> None:
    assert own_rank() == Rank(number=0, size=1, local=0)
    assert own_rank().leads


def test_the_rank_is_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert own_rank() == Rank(number=5, size=8, local=1)
    assert not own_rank().leads
