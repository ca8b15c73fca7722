"""What adjusted files say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from climdown import cf, stream
from climdown.version import __version__


@dataclass(frozen=True)
class Summary:
    """What a finished command did: the file, and sentences for people."""

    output: Path
    lines: tuple[str, ...]


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
            "climdown_version": __version__,
            "bias_adjustment_report": "; ".join(lines),
        },
    )
