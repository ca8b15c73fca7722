"""Options that several commands share."""

from __future__ import annotations

from climdown.errors import ConfigError


def parse_selection(entries: list[str] | None) -> tuple[tuple[str, str], ...]:
    """("DIM=LABEL", ...) as pairs.

    Raises:
        ConfigError: an entry has no "=", or a dimension occurs twice.
    """
    pairs = []
    for entry in entries or []:
        dimension, equals, label = entry.partition("=")
        if not (dimension and equals and label):
            raise ConfigError(f"--select is '{entry}'; expected DIM=LABEL, like realization=3")
        pairs.append((dimension, label))
    if len({dimension for dimension, _ in pairs}) < len(pairs):
        raise ConfigError("--select names a dimension twice")
    return tuple(pairs)
