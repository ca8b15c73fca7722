"""The methods by name, and what they declare together: options, owners, defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from climdown.errors import ConfigError
from climdown.methods.baselines import BCSD, Bilinear, DeltaChange
from climdown.methods.bridge import BridgeMethod
from climdown.methods.cm import CMMethod
from climdown.methods.method import Method
from climdown.methods.ot_diffusion import OTDiffusionMethod
from climdown.methods.zssd import ZSSDMethod
from climdown.options import Option, from_mapping, options_of

_METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        ZSSDMethod(),
        CMMethod(),
        BridgeMethod(),
        OTDiffusionMethod(),
        Bilinear(),
        DeltaChange(),
        BCSD(),
    )
}


def register(method: Method) -> None:
    """Add a method under its name, or put another one in its place."""
    _METHODS[method.name] = method


def methods() -> tuple[Method, ...]:
    """All methods, in the order in which they are listed."""
    return tuple(_METHODS.values())


def plain_baselines() -> tuple[str, ...]:
    """Names of the methods that draw nothing and need no more than the input."""
    return tuple(one.name for one in methods() if one.members == 1 and not one.bias)


def find_method(name: str) -> Method:
    """The method of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _METHODS:
        raise ConfigError(f"unknown method '{name}'; expected {listed(list(_METHODS), 'or')}")
    return _METHODS[name]


def build_options(method: Method, entries: Mapping[str, Any]) -> Any:
    """A method's options from those that were given.

    Raises:
        ConfigError: one belongs to other methods, has a wrong value, or is unknown.
    """
    names = {option.name for option in options_of(method.Options)}
    for name in entries:
        owners = owners_of(name)
        if name not in names and owners:
            raise ConfigError(
                f"--{name.replace('_', '-')} is an option of {listed(owners, 'and')}, not of "
                f"{method.name}; leave it out"
            )
    return from_mapping(method.Options, entries)


def owners_of(name: str) -> list[str]:
    """Names of the methods that have an option."""
    return [m.name for m in methods() if name in {o.name for o in options_of(m.Options)}]


def all_options() -> tuple[Option, ...]:
    """The options of all methods, each once, its help naming the methods it belongs to."""
    declared: dict[str, dict[str, Option]] = {}
    for method in methods():
        for option in options_of(method.Options):
            declared.setdefault(option.name, {})[method.name] = option
    return tuple(_merged(by_method) for by_method in declared.values())


def _merged(by_method: Mapping[str, Option]) -> Option:
    """One option of several methods, for the command line."""
    first, owners = next(iter(by_method.values())), list(by_method)
    texts = dict.fromkeys(option.help for option in by_method.values())
    if len(texts) == 1:
        text = f"Of {listed(owners, 'and')}. {first.help}"
    else:
        text = " ".join(f"Of {name}: {option.help}" for name, option in by_method.items())
    return replace(first, help=text, default=None, default_text=_default(by_method))


def _default(by_method: Mapping[str, Option]) -> str:
    """The default of an option in words, by method where they differ."""
    texts = {name: one.default_text or str(one.default) for name, one in by_method.items()}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{name}: {text}" for name, text in texts.items())


def listed(words: Sequence[str], last: str) -> str:
    """Words as people list them: "a, b or c"."""
    head = ", ".join(words[:-1])
    return f"{head} {last} {words[-1]}" if head else words[-1]
