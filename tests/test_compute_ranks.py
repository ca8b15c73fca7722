"""Ranks: what a launcher says of this process."""

from __future__ import annotations

import pytest

from climdown.compute.ranks import Rank, own_rank
from climdown.errors import ConfigError


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


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK"])
@pytest.mark.parametrize("value", ["one", "1.0", "-1", "0x1"])
def test_what_is_no_rank_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"environment variable {name} is '{value}'; expected"):
        own_rank()


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "")
    assert own_rank() == Rank(number=0, size=1, local=0)


@pytest.mark.parametrize(("name", "value"), [("RANK", "4"), ("LOCAL_RANK", "5")])
def test_a_rank_beyond_the_team_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"{name} {value} .*of WORLD_SIZE 4; expected ranks"):
        own_rank()
