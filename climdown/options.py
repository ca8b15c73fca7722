"""Options: frozen dataclasses that check themselves, each field declared once with its help.

The command line, messages and tables are made from these declarations; values from files and
mappings are checked by name and type.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union

from climdown.errors import ConfigError

T = TypeVar("T")


def require(condition: bool, message: str) -> None:
    """Refuse a value.

    Raises:
        ConfigError: the condition does not hold.
    """
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class Option:
    """One option of a dataclass, for the command line, messages and tables.

    Attributes:
        hint: its type; a Literal lists the values it may have.
        help: a sentence, with units.
        metavar: what stands for a value in the help; None says what the type does.
        default_text: what the default stands for, where it is no plain value.
    """

    name: str
    hint: Any
    default: Any
    help: str
    metavar: str | None = None
    default_text: str | None = None

    @property
    def flag(self) -> str:
        """What a user types."""
        return f"--{self.name.replace('_', '-')}"


def option(
    default: Any, text: str, *, metavar: str | None = None, default_text: str | None = None
) -> Any:
    """A field of a dataclass of options; see `Option`."""
    entries = {"help": text, "metavar": metavar, "default_text": default_text}
    return dataclasses.field(default=default, metadata=entries)


def options_of(kind: type) -> tuple[Option, ...]:
    """The options that a dataclass declares, in order."""
    hints = typing.get_type_hints(kind)
    return tuple(
        Option(entry.name, hints[entry.name], entry.default, **entry.metadata)
        for entry in dataclasses.fields(typing.cast(Any, kind))
        if "help" in entry.metadata
    )


def from_mapping(kind: type[T], entries: Mapping[str, Any], *, where: str = "") -> T:
    """Build a dataclass from a mapping, checking names and types all the way down.

    Raises:
        ConfigError: names the entry, what was found and what was expected.
    """
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    if unknown := sorted(set(entries) - set(known)):
        raise ConfigError(
            f"unknown entry '{where}{unknown[0]}'; expected one of {', '.join(sorted(known))}"
        )
    values = {}
    for name, entry in known.items():
        if name in entries:
            values[name] = _convert(hints[name], entries[name], f"{where}{name}")
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            raise ConfigError(f"missing entry '{where}{name}'")
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, typing.cast(type, hint)):
        return value
    if origin is dict and isinstance(value, Mapping):
        return {
            _convert(arguments[0], k, where): _convert(arguments[1], v, f"{where}.{k}")
            for k, v in value.items()
        }
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_mapping(typing.cast(type[Any], hint), value, where=f"{where}.")
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is Literal and value in arguments:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is bool and isinstance(value, bool):
        return value
    if hint in (int, str) and isinstance(value, hint) and not isinstance(value, bool):
        return value
    expected = " or ".join(map(repr, arguments)) if origin is Literal else _name(hint)
    raise ConfigError(f"entry '{where}' is {value!r}; expected {expected}")


def _convert_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    alternatives = [argument for argument in arguments if argument is not type(None)]
    for alternative in alternatives[:-1]:
        try:
            return _convert(alternative, value, where)
        except ConfigError:
            continue
    return _convert(alternatives[-1], value, where)


def _name(hint: Any) -> str:
    named = {tuple: "a list", dict: "a table"}
    return named.get(typing.get_origin(hint), getattr(hint, "__name__", str(hint)))
