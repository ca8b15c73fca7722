"""Bounds of what a prior's files may ask for, checked before anything of that size is made.

A prior comes from anywhere; a card of a few bytes must not be able to name a network, a grid or a
text that fills the memory of whoever reads it. The bounds lie far above any prior in use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from climdown.errors import ConfigError

if TYPE_CHECKING:
    from climdown.config import NetworkConfig
    from climdown.priors.card import Card

MAX_TEXT_BYTES = 1 << 20
MAX_TENSOR_BYTES = 16 << 30
MAX_CELLS = 1 << 26
MAX_VARIABLES = 64
MAX_TRANSFORMS = 8
MAX_LEVELS = 8
MAX_WIDTH = 8192
MAX_BLOCKS = 16
MAX_STEPS = 10_000
MAX_PATTERNS = 100_000
_MAX_DEPTH = 32
_MAX_NAME = 100
_PLAIN = {"F16", "F32", "F64"}


def max_bytes(name: str) -> int:
    """The largest size a file of a prior may have."""
    return MAX_TENSOR_BYTES if name.endswith(".safetensors") else MAX_TEXT_BYTES


def check_json(entries: Any) -> None:
    """Refuse nesting that exhausts the stack of whoever walks it, and texts no terminal should see.

    Raises:
        ConfigError: names what was found.
    """
    left: list[tuple[Any, int]] = [(entries, 0)]
    while left:
        value, depth = left.pop()
        _require(depth <= _MAX_DEPTH, f"entries are nested more than {_MAX_DEPTH} deep")
        if isinstance(value, dict):
            left += [(key, depth + 1) for key in value]
            left += [(entry, depth + 1) for entry in value.values()]
        elif isinstance(value, list):
            left += [(entry, depth + 1) for entry in value]
        elif isinstance(value, str):
            _require(_is_clean(value), f"{value[:40]!a} holds characters that are no text")


def _is_clean(text: str) -> bool:
    """No control characters, which steer terminals, and no halves of surrogate pairs."""
    return not any(
        (c < " " and c not in "\n\t") or "\x7f" <= c < "\xa0" or "\ud800" <= c < "\ue000"
        for c in text
    )


def check_card(card: Card) -> None:
    """Refuse a card with numbers that are not finite, out of bounds or without meaning.

    Raises:
        ConfigError: names the entry, what was found and what was expected.
        GridError: the grid cannot be coarsened by the card's factor.
    """
    _check_name("name", card.name)
    _within("the number of variables", len(card.variables), 1, MAX_VARIABLES)
    _within("the number of statics", len(card.statics), 0, MAX_VARIABLES)
    names = [variable.name for variable in card.variables]
    _require(len(set(names)) == len(names), f"variables {names} are not all different")
    for i, variable in enumerate(card.variables):
        _check_name(f"variables[{i}].name", variable.name)
        _require(len(variable.standard_names) > 0, f"variables[{i}].standard_names is empty")
        _check_finite(f"variables[{i}].", asdict(variable))
        _check_transform(f"variables[{i}].transform", variable.transform)
    months = card.months
    _require(
        len(months) == len(set(months)) and set(months) <= set(range(1, 13)) and len(months) > 0,
        f"months is {list(months)[:20]}; expected different numbers from 1 to 12",
    )
    for name in ("step_days", "sigma_data"):
        value = getattr(card, name)
        _require(0 < value < 1e6, f"{name} is {value}; expected a number > 0, within reason")
    _require(
        0 <= card.sigma_min < 1e6 and (card.sigma_min > 0) == (card.kind == "consistency"),
        f"sigma_min is {card.sigma_min}; expected a number > 0 for consistency, 0 for diffusion",
    )
    _check_lags(card.lag_correlation, names)
    _check_finite("sampling.", asdict(card.sampling))
    _within("sampling.steps", card.sampling.steps, 1, MAX_STEPS)
    _check_network(card)
    ny, nx = card.grid.shape
    _within("the number of cells of the grid", ny * nx, 1, MAX_CELLS)
    _ = card.coarse_grid  # raises where the factor does not fit


def _check_name(where: str, name: str) -> None:
    """Names become parts of messages, of variable and of file names."""
    good = 0 < len(name) <= _MAX_NAME and not name.startswith(".") and name == name.strip()
    _require(
        good and not any(c in name for c in "/\\\n\t"),
        f"{where} is {name[:_MAX_NAME]!r}; expected 1 to {_MAX_NAME} characters without slashes",
    )


def _check_transform(where: str, steps: tuple[dict[str, Any], ...]) -> None:
    _within(f"the length of {where}", len(steps), 0, MAX_TRANSFORMS)
    for step in steps:
        for key, value in step.items():
            if key in ("kind", "field"):
                _require(isinstance(value, str), f"{where}: '{key}' is not a text")
            else:
                number = isinstance(value, int | float) and not isinstance(value, bool)
                _require(number and math.isfinite(value), f"{where}: '{key}' is no finite number")


def _check_lags(lags: Mapping[str, float], names: list[str]) -> None:
    for name, value in lags.items():
        _require(name in names, f"lag_correlation names {name[:40]!r}; expected of {names}")
        _require(-1 <= value <= 1, f"lag_correlation.{name} is {value}; expected -1 to 1")


def _check_network(card: Card) -> None:
    network = card.network
    _within("the number of network.channels", len(network.channels), 1, MAX_LEVELS)
    _within("network.channels", max(network.channels), 1, MAX_WIDTH)
    _within("network.embedding", network.embedding, 1, MAX_WIDTH)
    _within("network.heads", network.heads, 1, MAX_WIDTH)
    _within("network.blocks", network.blocks, 1, MAX_BLOCKS)
    _within("network.attention", network.attention, 0, MAX_LEVELS)
    _within("network.patterns", network.patterns, 0, MAX_PATTERNS)


def _check_finite(where: str, entries: Mapping[str, Any]) -> None:
    for name, value in entries.items():
        if isinstance(value, float):
            _require(math.isfinite(value), f"{where}{name} is {value}; expected a finite number")


def _within(what: str, value: int, least: int, most: int) -> None:
    _require(least <= value <= most, f"{what} is {value:.4g}; expected {least} to {most}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def check_tensor(file: Any, name: str) -> None:
    """Refuse a tensor that NumPy cannot hold, before it is read.

    Raises:
        ConfigError: not floating point numbers, or of more dimensions than fields have.
    """
    part = file.get_slice(name)
    kind, shape = part.get_dtype(), part.get_shape()
    _require(kind in _PLAIN, f"'{name}' holds {kind}; expected F32")
    _require(len(shape) <= 8, f"'{name}' has {len(shape)} dimensions; expected at most 8")


def check_weights(path: Path, card: Card) -> None:
    """Refuse weights too few for the card's network, before a network of that size is made.

    Raises:
        ConfigError: says how many numbers were found and how many are needed.
        SafetensorError: the file is no safetensors.
    """
    with safe_open(path, framework="np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    found, least = sum(map(math.prod, shapes)), _least_weights(card.network)
    _require(found >= least, f"found {found} numbers, the card's network has more than {least}")


def _least_weights(network: NetworkConfig) -> int:
    """Fewer numbers than the U-Net has, and more than a tenth of them.

    Counted are the square 3 x 3 convolutions and the modulation of each residual block.
    """
    blocks = 2 * network.blocks + 1
    per_level = (9 * width**2 + 2 * width * network.embedding for width in network.channels)
    return blocks * sum(per_level) + network.embedding**2
