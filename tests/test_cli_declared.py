"""Options that a dataclass declares, as a command's: help, choices, flags, defaults."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from climdown.adjust.options import OTOptions, QDMOptions
from climdown.cli.declared import number_or, parameters, with_options, with_parameters
from climdown.options import option, options_of


@dataclass(frozen=True)
class Kitchen:
    dish: Literal["soup", "stew"] = option("soup", "What is cooked.")
    guests: int | None = option(None, "Mouths.", default_text="those at table")
    heat: float | Literal["auto", "none"] = option("auto", "Degrees.")
    batch: int | Literal["auto"] = option("auto", "Pots.")
    cut: float | str = option("auto", "Size.", metavar="auto|MMmm")
    lid: bool | None = option(None, "Cover the pot.")
    stir: bool = option(True, "Stir.")
    salt: bool = option(False, "Salt.")
    max_hours: float = option(1.5, "Hours.")


SET = ["--dish", "stew", "--guests", "3", "--heat", "80", "--batch", "2", "--cut", "5mm"]
FLAGS = ["--no-lid", "--no-stir", "--salt", "--max-hours", "2"]


class Kept:
    """Takes down what a command was called with."""

    def __init__(self) -> None:
        self.options: Any = None
        self.table = ""

    def whole(self) -> typer.Typer:
        @with_options(Kitchen, panel="Method")
        def cook(*, table: str = "round", options: Kitchen) -> None:
            self.table, self.options = table, options

        return self._app(cook)

    def unset(self) -> typer.Typer:
        def cook(*, options: dict[str, Any], table: str = "round") -> None:
            self.table, self.options = table, options

        added = parameters(options_of(Kitchen), panel="Method", unset=True)
        return self._app(with_parameters(cook, added))

    @staticmethod
    def _app(command: Any) -> typer.Typer:
        app = typer.Typer()
        app.command()(command)
        return app


@pytest.fixture
def kept() -> Kept:
    return Kept()


def run(app: typer.Typer, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, words, env={"COLUMNS": "120"})
    return result.exit_code, result.output


def test_a_command_gets_the_dataclass_with_its_defaults(kept: Kept) -> None:
    assert run(kept.whole())[0] == 0
    assert kept.options == Kitchen()


def test_values_have_the_types_that_were_declared(kept: Kept) -> None:
    assert run(kept.whole(), *SET, *FLAGS, "--table", "long")[0] == 0
    assert kept.table == "long"
    assert kept.options == Kitchen("stew", 3, 80.0, 2, "5mm", False, False, True, 2.0)
    assert isinstance(kept.options.heat, float)
    assert isinstance(kept.options.batch, int)


def test_what_is_not_given_is_none_where_a_list_of_options_is_merged(kept: Kept) -> None:
    assert run(kept.unset())[0] == 0
    assert kept.options == dict.fromkeys(vars(Kitchen()))
    assert run(kept.unset(), "--no-stir", "--cut", "3")[0] == 0
    given = {name: value for name, value in kept.options.items() if value is not None}
    assert given == {"stir": False, "cut": 3.0}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--dish", "cake"), "'cake' is not one of 'soup', 'stew'"),
        (("--heat", "hot"), "'hot'; expected a number, auto or none"),
        (("--batch", "1.5"), "'1.5'; expected a whole number or auto"),
        (("--guests", "many"), "--guests"),
        (("--no-salt",), "No such option: --no-salt"),
    ],
)
def test_values_are_checked_by_the_parser(
    kept: Kept, words: tuple[str, ...], complaint: str
) -> None:
    for app in (kept.whole(), kept.unset()):
        code, output = run(app, *words)
        assert code == 2
        assert complaint in output
    assert kept.options is None


@pytest.mark.parametrize("unset", [False, True])
def test_the_help_tells_sentences_choices_and_defaults(kept: Kept, unset: bool) -> None:
    code, output = run(kept.unset() if unset else kept.whole(), "--help")
    assert code == 0
    text = re.sub(r"[\s│]+", " ", output)
    assert "Method" in text
    for entry in options_of(Kitchen):
        assert f"{entry.flag} " in text
        assert entry.help in text
    for words in ("soup|stew", "NUMBER|auto|none", "N|auto", "auto|MMmm", "--no-lid", "--no-stir"):
        assert words in text
    shown = re.findall(r"\[default: \(?([^\])]*)\)?\]", text)
    common = ["soup", "those at table", "auto", "auto", "auto", "stir"]
    expected = [*common, "no-salt", "1.5"] if unset else [*common, "1.5"]
    assert [word for word in shown if word != "round"] == expected


@pytest.mark.parametrize("kind", [QDMOptions, OTOptions])
def test_the_adjustments_options_are_parameters_each(kind: type) -> None:
    declared = options_of(kind)
    made = parameters(declared, panel="Method")
    assert [(p.name, p.default) for p in made] == [(o.name, o.default) for o in declared]


def test_an_option_declared_twice_is_refused() -> None:
    def cook(*, options: dict[str, Any]) -> None: ...

    twice = parameters([*options_of(Kitchen), *options_of(Kitchen)], panel="Method")
    with pytest.raises(ValueError, match="duplicate parameter name"):
        with_parameters(cook, twice)


def test_options_stand_where_the_command_has_them() -> None:
    @with_options(Kitchen, panel="Method")
    def cook(first: int, *, options: Kitchen, last: int = 0) -> None: ...

    names = list(inspect.signature(cook).parameters)
    assert names == ["first", *vars(Kitchen()), "last"]


def test_numbers_and_words_are_told_apart() -> None:
    any_word, auto = number_or()["parser"], number_or("auto", integer=True)["parser"]
    assert any_word("0.5") == 0.5
    assert any_word("200km") == "200km"
    assert any_word(None) is None
    assert auto("auto") == "auto"
    assert auto("3") == 3
    assert number_or("auto")["autocompletion"]() == ["auto"]
