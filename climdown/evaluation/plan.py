"""What is judged, decided before any sum is made: sources, steps, cells, pairs of days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from climdown.arrays import Index
from climdown.evaluation.ensembles import Ensemble
from climdown.evaluation.pairing import Pairing
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that decides the sums; frozen, and the same for all shards.

    Attributes:
        scenes: by variable.
        outputs: ensembles by name, baselines among them, on the grid of the scenes.
        reference: one field of each variable, on that grid.
        input: on its own cells, or None.
        baselines: names of outputs.
        pairing: whether days are the same, and why.
        segments: by source; those of pairs are alike but for their steps.
        input_steps: by output, the step of the input for each of its judged steps, -1 for none;
            of pairs those of the reference, too.
        repeated: outputs whose members are all one and the same.
        notes: what was decided, one line each, for reports.
        identity: what tells this evaluation from others; JSON values.
    """

    scenes: Mapping[str, Scene]
    outputs: Mapping[str, Ensemble]
    reference: Ensemble
    input: Ensemble | None
    baselines: tuple[str, ...]
    pairing: Pairing
    segments: Mapping[str, Segments]
    input_steps: Mapping[str, Index]
    repeated: tuple[str, ...]
    notes: tuple[str, ...]
    identity: Mapping[str, Any]

    @property
    def paired(self) -> bool:
        """Whether days of outputs and reference are the same days."""
        return self.pairing.paired

    @property
    def judged(self) -> tuple[str, ...]:
        """Names of the outputs that are no baselines."""
        return tuple(name for name in self.outputs if name not in self.baselines)

    def refuse_misread(self) -> None:
        """To be called when values have been read, before sums of them are kept.

        Raises:
            InputError: among the values is a fill that a file does not declare, or the like.
        """
        given = () if self.input is None else (self.input,)
        for ensemble in (self.reference, *self.outputs.values(), *given):
            for member in ensemble.members:
                for field in member.values():
                    field.refuse_misread()

    def variables(self, output: str) -> tuple[str, ...]:
        """Those judged that an output has."""
        return tuple(name for name in self.scenes if name in self.outputs[output].members[0])

    def period(self, source: str) -> str:
        """The steps of a source that are judged, for people."""
        ensemble = self.reference if source == "reference" else self.outputs[source]
        return ensemble.time.isel(self.segments[source].steps).describe()
