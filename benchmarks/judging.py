"""Scores of the scoreboard: what `climdown evaluate` says of files, as rows of its tables."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from climdown.evaluation.evaluate import evaluate
from climdown.evaluation.request import INTERPOLATED, Request

Row = dict[str, float | str | None]

SPECTRAL = (
    *("log_spectral_distance", "power_2_to_4", "power_4_to_8", "power_over_8", "worst_ring"),
)
PAIRED = (
    *("crps", "mae", "p99_error", "spread_skill", "rank_bias", "rank_dispersion"),
    *(*SPECTRAL, "coarse_rmse"),
)
COST = ("evaluations", "seconds")


@dataclass(frozen=True)
class Written:
    """Files of a method, which follow one another in time, and the cost of a field.

    Attributes:
        seconds: per field, once the network is loaded and the bias adjusted.
        evaluations: of the network, per field; None for methods without steps.
    """

    files: tuple[Path, ...]
    seconds: float | None = None
    evaluations: int | None = None


def judged(
    outputs: Mapping[str, Written],
    reference: Path,
    *,
    given: Sequence[Path] = (),
    pairing: Literal["paired", "unpaired"] = "paired",
    interpolated: str | None = None,
) -> list[Row]:
    """A row for each variable and output, in this order: every measure, and the cost.

    Args:
        outputs: by label.
        given: what they were made from.
        pairing: whether days are compared with the same days.
        interpolated: label of a row of the input itself, interpolated; by default there is none.

    Raises:
        ConfigError, InputError, GridError: files that cannot be compared.
    """
    # A label such as "cm:steps=4" is no name of an output.
    labels = {f"output {place}": label for place, label in enumerate(outputs)}
    request = Request(
        outputs={name: tuple(map(str, outputs[label].files)) for name, label in labels.items()},
        reference=(str(reference),),
        input=tuple(map(str, given)),
        pairing=pairing,
        resamples=0,
    )
    if interpolated is not None:
        labels[INTERPOLATED] = interpolated
    with tempfile.TemporaryDirectory() as folder:
        found = evaluate(request, Path(folder) / "sums")
    assert found is not None, "there are no other shards"
    rows: dict[tuple[str, str], Row] = {}
    for scene in found.plan.scenes.values():
        for name, label in labels.items():
            named: Row = {"variable": f"{scene.name} ({scene.units})", "method": label}
            rows[scene.name, name] = named
    for score in found.scores:
        if (row := rows.get((score.variable, score.output))) is not None:
            row[score.measure] = score.value
            if score.reference is not None:
                row[f"{score.measure}_observed"] = score.reference
    for (_, name), row in rows.items():
        if (one := outputs.get(labels[name])) is not None:
            row |= {"evaluations": one.evaluations, "seconds": one.seconds}
    return list(rows.values())
