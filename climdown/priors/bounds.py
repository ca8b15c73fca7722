"""Bounds of what a prior's files may ask for, checked before anything of that size is made.

A prior comes from anywhere; a card of a few bytes must not be able to name a network, a grid or a
text that fills the memory of whoever reads it. The bounds lie far above any prior in use.
"""

from __future__ import annotations

from typing import Any

from climdown.errors import ConfigError

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
_FLOATING = {"F16", "F32", "F64"}


def max_bytes(name: str) -> int:
    """The largest size a file of a prior may have."""
    return MAX_TENSOR_BYTES if name.endswith(".safetensors") else MAX_TEXT_BYTES


def check_json(entries: Any) -> None:
    """Refuse nesting that exhausts the stack of whoever walks it, and texts no terminal should see.

    Raises:
        ConfigError: names what was found.
    """
    pending: list[tuple[Any, int]] = [(entries, 0)]
    while pending:
        value, depth = pending.pop()
        require(depth <= _MAX_DEPTH, f"entries are nested more than {_MAX_DEPTH} deep")
        if isinstance(value, dict):
            pending += [(key, depth + 1) for key in value]
            pending += [(entry, depth + 1) for entry in value.values()]
        elif isinstance(value, list):
            pending += [(entry, depth + 1) for entry in value]
        elif isinstance(value, str):
            require(_is_clean(value), f"{value[:40]!a} holds characters that are no text")


def _is_clean(text: str) -> bool:
    """No control characters, which steer terminals, and no halves of surrogate pairs."""
    return not any(
        (c < " " and c not in "\n\t") or "\x7f" <= c < "\xa0" or "\ud800" <= c < "\ue000"
        for c in text
    )


def within(what: str, value: int, least: int, most: int) -> None:
    """Refuse a number out of bounds.

    Raises:
        ConfigError: names the number and the bounds.
    """
    require(least <= value <= most, f"{what} is {value:.4g}; expected {least} to {most}")


def require(condition: bool, message: str) -> None:
    """Refuse what does not hold.

    Raises:
        ConfigError: with the message.
    """
    if not condition:
        raise ConfigError(message)


def check_tensor(file: Any, name: str) -> None:
    """Refuse a tensor that NumPy cannot hold, before it is read.

    Raises:
        ConfigError: not floating point numbers, or of more dimensions than fields have.
    """
    part = file.get_slice(name)
    kind, shape = part.get_dtype(), part.get_shape()
    require(kind in _FLOATING, f"'{name}' holds {kind}; expected F32")
    require(len(shape) <= 8, f"'{name}' has {len(shape)} dimensions; expected at most 8")
