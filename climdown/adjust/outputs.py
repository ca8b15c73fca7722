"""What adjusted files say of themselves."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import climdown
from climdown import cf, stream
from climdown.errors import ConfigError


@dataclass(frozen=True)
class Summary:
    """What a finished command did: the file, and sentences for people."""

    output: Path
    lines: tuple[str, ...]


def refuse_inputs(output: Path, inputs: Iterable[str | Path]) -> None:
    """Check that an output is none of the files it is made from, given as paths and patterns.

    Raises:
        ConfigError: it is.
    """
    if not output.exists():
        return
    for pattern in inputs:
        files = [str(pattern)] if Path(pattern).is_file() else glob.glob(str(pattern))  # noqa: PTH207
        if any(output.samefile(path) for path in files):
            raise ConfigError(f"{output} is both input and output; choose another output")


def output_variable(sim: cf.Field, description: str) -> stream.OutputVariable:
    """An adjusted variable, with the attributes of the simulation's."""
    attributes = {**cf.output_attributes(sim), "bias_adjustment": description}
    return stream.OutputVariable(
        sim.source_name, cf.with_units_metadata(attributes, difference=False)
    )


def global_attributes(sim: cf.Field, command: str, lines: Sequence[str]) -> dict[str, Any]:
    """Global attributes of an adjusted file."""
    return cf.global_attributes(
        sim.global_attributes,
        title=str(sim.global_attributes.get("title", "bias-adjusted")),
        command=command,
        now=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        provenance={
            "climdown_version": climdown.__version__,
            "bias_adjustment_report": "; ".join(lines),
        },
    )
