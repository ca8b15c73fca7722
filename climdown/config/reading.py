"""Dataclasses from mappings, every name and type checked."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

from climdown.errors import ConfigError

T = TypeVar("T")


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


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
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str) and isinstance(value, hint) and not isinstance(value, bool):
        return value
    expected = " or ".join(map(repr, arguments)) if origin is Literal else _name(hint)
    raise ConfigError(f"entry '{where}' is {value!r}; expected {expected}")


def _name(hint: Any) -> str:
    named = {tuple: "a list", dict: "a table"}
    return named.get(typing.get_origin(hint), getattr(hint, "__name__", str(hint)))
