"""Declared options as parameters of a command: an option is written once, in its dataclass.

A command takes the built dataclass in a parameter called `options`; Typer is shown one parameter
for each declared option in its place.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, Union

import typer

from climdown.options import Option, options_of

Command = Callable[..., Any]

_PLACE = "options"
_ANNOTATED: Any = Annotated  # with types that are known when a command is made
_NUMBERS: dict[Any, str] = {int: "a whole number", float: "a number"}


def with_options(kind: type, *, panel: str) -> Callable[[Command], Command]:
    """Give a command the options that a dataclass declares.

    The command receives them as one object, in its keyword `options`:

        @with_options(QDMOptions, panel="Method")
        def qdm(sim: SimAndOut, *, options: QDMOptions) -> None: ...
    """

    def decorate(function: Command) -> Command:
        return with_parameters(function, parameters(options_of(kind), panel=panel), build=kind)

    return decorate


def parameters(
    options: Iterable[Option], *, panel: str, unset: bool = False
) -> list[inspect.Parameter]:
    """One parameter for each option, as Typer reads them.

    Args:
        panel: of the help.
        unset: every option may be left out and is None then; the help alone tells its default.
    """
    return [_parameter(option, panel, unset=unset) for option in options]


def with_parameters(
    function: Command,
    added: Sequence[inspect.Parameter],
    *,
    build: Callable[..., Any] = dict,
) -> Command:
    """The command with more parameters, where its keyword `options` stands.

    Args:
        build: makes the value of `options` from the added parameters' values, passed by name.
    """

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        options = build(**{parameter.name: values.pop(parameter.name) for parameter in added})
        return function(**values, **{_PLACE: options})

    shown = tuple(_replaced(inspect.signature(function, eval_str=True), added))
    # Typer asks for both; `wraps` has copied those of the function.
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    setattr(command, "__signature__", inspect.Signature(shown))  # noqa: B010 - unknown to mypy
    return command


def number_or(*words: str, integer: bool = False) -> dict[str, Any]:
    """Settings of Typer for an option that takes a number, or one of some words.

    Without words, any text will do that is no number.
    """
    return {
        "parser": _number_parser(*words, integer=integer),
        "metavar": "|".join(["N" if integer else "NUMBER", *(words or ["TEXT"])]),
        "autocompletion": (lambda: list(words)) if words else None,
    }


def _number_parser(*words: str, integer: bool) -> Callable[[Any], Any]:
    number = int if integer else float
    *most, last = _NUMBERS[number], *words
    expected = f"{', '.join(most)} or {last}" if most else last

    def parse(text: Any) -> Any:
        if not isinstance(text, str) or text in words:  # a default is a value already
            return text
        try:
            return number(text)
        except ValueError:
            if words:
                raise typer.BadParameter(f"'{text}'; expected {expected}") from None
        return text

    return parse


def _replaced(
    signature: inspect.Signature, added: Sequence[inspect.Parameter]
) -> Iterable[inspect.Parameter]:
    for parameter in signature.parameters.values():
        if parameter.name == _PLACE:
            yield from added
        else:
            # Keywords alone may have defaults in any order, and Typer calls by keyword.
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _parameter(option: Option, panel: str, *, unset: bool) -> inspect.Parameter:
    default = None if unset else option.default
    kind, settings = _kind(option.hint)
    entries = {
        "help": option.help,
        "show_default": _shown_default(option, unset=unset),
        "rich_help_panel": panel,
        **settings,
        **({} if option.metavar is None else {"metavar": option.metavar}),
    }
    declared = kind | None if default is None else kind
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=_ANNOTATED[declared, typer.Option(_flags(option, kind), **entries)],
    )


def _kind(hint: Any) -> tuple[Any, dict[str, Any]]:
    """The type that Typer reads for a hint, and its settings.

    Typer knows no unions: a number or a word comes as text and is parsed here.
    """
    union = typing.get_origin(hint) in (Union, types.UnionType)
    kinds = [k for k in (typing.get_args(hint) if union else (hint,)) if k is not type(None)]
    if len(kinds) == 1:
        return kinds[0], {}
    words = [w for k in kinds if typing.get_origin(k) is Literal for w in typing.get_args(k)]
    return str, number_or(*words, integer=float not in kinds)


def _flags(option: Option, kind: Any) -> str:
    # What is off by itself needs no way to turn it off.
    pair = kind is bool and option.default is not False
    return f"{option.flag}/--no-{option.flag[2:]}" if pair else option.flag


def _shown_default(option: Option, *, unset: bool) -> str | bool:
    if option.default_text is not None:
        return option.default_text
    if not unset:
        return True
    if isinstance(option.default, bool):
        return f"{'' if option.default else 'no-'}{option.flag[2:]}"
    return False if option.default is None else str(option.default)
