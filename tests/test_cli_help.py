"""The help of every command: sentences, defaults, panels, and examples that can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from climdown.cli import make_app
from climdown.cli.parameters import BIAS, COMPUTING, ENSEMBLE, INPUT, METHOD, OUTPUT
from tests.commands import Shell

Words = tuple[str, ...]
# What Typer adds by itself stands under its own title.
PANELS = {INPUT, METHOD, ENSEMBLE, BIAS, COMPUTING, OUTPUT, "Options"}


def walk(command: Any, words: Words = ()) -> Iterator[tuple[Words, Any]]:
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*words, name))


APP: Any = typer.main.get_command(make_app())
EVERYTHING = dict(walk(APP))
COMMANDS = {words: c for words, c in EVERYTHING.items() if not hasattr(c, "commands")}


def named(words: Words) -> str:
    return " ".join(words) or "climdown"


def examples_of(command: Any) -> list[list[str]]:
    _, _, lines = (command.epilog or "").partition("Examples:\n")
    return [shlex.split(line.split("|")[0]) for line in lines.splitlines() if line.strip()]


def lines(shell: Shell, words: Words, *, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    result = shell(*words, "--help")
    assert (result.code, result.err) == (0, "")
    return [line.rstrip() for line in result.out.splitlines()]


@pytest.mark.parametrize("words", EVERYTHING, ids=named)
@pytest.mark.parametrize("width", [80, 120])
def test_help_fits_the_terminal(
    words: Words, width: int, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = lines(shell, words, width=width, monkeypatch=monkeypatch)
    assert max(map(len, shown)) <= width
    assert shown[1].startswith(f" Usage: {' '.join(['climdown', *words])} ")
    assert "<" not in "\n".join(shown), "types are told in words of ours"


@pytest.mark.parametrize("words", COMMANDS, ids=named)
def test_every_command_says_what_it_does(words: Words) -> None:
    assert re.fullmatch(r"[A-Z].+\.", COMMANDS[words].help.split("\n\n")[0].replace("\n", " "))


@pytest.mark.parametrize("words", EVERYTHING, ids=named)
def test_every_option_has_a_sentence_and_a_panel(words: Words) -> None:
    for parameter in EVERYTHING[words].params:
        assert re.fullmatch(r"[A-Zaz].*\.", parameter.help), parameter.name
        assert (parameter.rich_help_panel or "Options") in PANELS
        by_hand = re.search(r"\(default|\[default|<bool>", parameter.help)
        assert not by_hand, f"{parameter.name}: Typer shows the default"


@pytest.mark.parametrize("words", COMMANDS, ids=named)
def test_every_command_has_examples_that_can_be_typed(words: Words) -> None:
    command = COMMANDS[words]
    examples = examples_of(command)
    assert len(examples) >= 2
    for example in examples:
        start = ["climdown", *words]
        assert example[: len(start)] == start
        command.make_context(named(words), example[len(start) :])  # parsed, and not run


@pytest.mark.parametrize("words", COMMANDS, ids=named)
def test_examples_are_not_folded(
    words: Words, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = lines(shell, words, width=80, monkeypatch=monkeypatch)
    folded = shown[shown.index(" Examples:") + 1 :]
    assert [line for line in folded if line and not line.startswith("   climdown ")] == []


def test_panels_stand_in_order(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = "\n".join(lines(shell, ("run",), width=80, monkeypatch=monkeypatch))
    titles = re.findall(r"╭─ ([\w ]+?) ─", shown)
    assert titles == [INPUT, METHOD, ENSEMBLE, BIAS, COMPUTING, OUTPUT, "Options"]
    shown = "\n".join(lines(shell, ("regrid",), width=80, monkeypatch=monkeypatch))
    assert re.findall(r"╭─ (\w+) ─", shown) == [INPUT, METHOD, OUTPUT, "Options"]


def test_defaults_and_values_are_told_alike(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = lines(shell, ("qdm",), width=120, monkeypatch=monkeypatch)
    text = re.sub(r"[\s│]+", " ", " ".join(shown))
    for words in (
        "--group none|month|dayofyear",
        "[default: month]",
        "[default: 500 for precipitation, else 100]",
        "--quantiles N ",
        "--max-ratio NUMBER ",
        "--overwrite Replace",
    ):
        assert words in text


def test_values_of_options_are_completed(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CLIMDOWN_COMPLETE", "complete_bash")
    for typed, offered in {
        "climdown run --bias ": {"none", "qdm", "ot"},
        "climdown run --method bi": {"bilinear"},
        "climdown run --coherence ": {"auto", "none"},
        "climdown qdm --group d": {"dayofyear"},
        "climdown regrid --backend x": {"xesmf"},
    }.items():
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
        assert set(shell().out.split()) == offered


def test_without_a_command_the_help_is_shown(shell: Shell) -> None:
    for words in ((), ("priors",), ("train",)):
        result = shell(*words)
        assert (result.code, result.out) == (2, "")
        assert "Usage: climdown" in result.err
