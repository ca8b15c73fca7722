"""A run, checked and decided in every detail; nobody looks back at the configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from climdown import cf
from climdown.diffusion.sampler import Noise
from climdown.grid import Grid
from climdown.methods.method import Method, Problem
from climdown.pipeline.adjustment import AdjustedInput
from climdown.pipeline.autocorrelation import Autocorrelation
from climdown.priors.card import Variable
from climdown.priors.prior import Prior
from climdown.version import __version__


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done; nothing has been written yet.

    Attributes:
        inputs: name and fingerprint of each input file.
        period, select: the part of the input that was asked for.
        fields: the input by variable, in the prior's units, cut to period and region.
        filter_grid: the grid on which the input guides.
        decided: what the method decided, all numbers that its sampler needs.
        problem: what the method knows of the run.
        members, seed: of the ensemble.
        autocorrelation: of the noise in time; None where nothing is drawn.
        adjusted: the input with its bias adjusted, or None.
        batch_size: fields denoised together.
        tile: cells along each side of the tiles of the network, or None for the card's own.
        overwrite: whether the output and parts of another run may be replaced.
        wait: for another process that writes the output.
    """

    inputs: tuple[tuple[str, str], ...]
    period: str | None
    select: Mapping[str, str]
    prior: Prior
    fields: Mapping[str, cf.Field]
    filter_grid: Grid
    method: Method
    decided: Mapping[str, Any]
    problem: Problem
    members: int
    seed: int
    autocorrelation: Autocorrelation | None
    adjusted: AdjustedInput | None
    device: torch.device
    batch_size: int
    tile: int | None
    output: Path
    overwrite: bool
    wait: bool

    @property
    def time(self) -> cf.TimeAxis:
        """The steps that are sampled."""
        return next(iter(self.fields.values())).time

    @property
    def variables(self) -> list[Variable]:
        """The prior's variables that the input has, in channel order."""
        return [v for v in self.prior.card.variables if v.name in self.fields]

    @property
    def total(self) -> int:
        """Fields to sample."""
        return len(self.time) * self.members

    @property
    def field_bytes(self) -> int:
        """Of one field with all its variables."""
        return 4 * len(self.fields) * math.prod(self.prior.card.grid.shape)

    def noise(self, keys: Sequence[tuple[int, Any]]) -> Noise:
        """The noise of a batch, by (member, date) of each field."""
        shape = (len(self.prior.card.variables), *self.prior.card.grid.shape)
        autocorrelation = self.autocorrelation or Autocorrelation({}, self.prior.card.step_days)
        return autocorrelation.noise(self.seed, keys, shape, self.device)


def identity(plan: Plan) -> dict[str, Any]:
    """Everything that decides the result, as JSON values: for resume and provenance."""
    entries = {
        "climdown": __version__,
        "prior": plan.prior.card.name,
        "prior_sha256": plan.prior.digest,
        "inputs": [list(entry) for entry in plan.inputs],
        "variables": list(plan.fields),
        "period": plan.period,
        "select": dict(plan.select),
        "method": plan.method.name,
        "members": plan.members,
        "seed": plan.seed,
        **plan.decided,
    }
    if plan.tile is not None:
        entries["tile"] = plan.tile
    entries |= {
        "filter_grid": plan.filter_grid.describe(),
        "filter_grid_sha256": plan.filter_grid.digest,
    }
    if plan.autocorrelation is not None:
        entries["coherence"] = dict(plan.autocorrelation.by_variable)
    return entries | (plan.adjusted.identity() if plan.adjusted is not None else {})


def describe(plan: Plan) -> list[tuple[str, str]]:
    """What will be done, for people: (label, text) pairs."""
    card = plan.prior.card
    bias = [] if plan.adjusted is None else [("bias", plan.adjusted.describe())]
    size = plan.total * plan.field_bytes
    return [
        ("prior", f"{card.name} ({plan.prior.digest[:12]})"),
        ("variables", _variables(plan)),
        ("time", plan.time.describe()),
        ("input grid", next(iter(plan.fields.values())).grid.describe()),
        *bias,
        ("guided at", plan.filter_grid.describe()),
        ("output grid", card.grid.describe()),
        ("members", _members(plan)),
        ("sampler", ", ".join([plan.method.name, *_decided(plan.decided)])),
        ("device", f"{plan.device}, {plan.batch_size} fields at once{_tiles(plan)}"),
        ("fields", f"{plan.total}, {size / 1e6:.0f} MB uncompressed"),
        ("output", str(plan.output)),
    ]


def _variables(plan: Plan) -> str:
    guided = ", ".join(f"{name} from '{f.source_name}'" for name, f in plan.fields.items())
    names = [v.name for v in plan.prior.card.variables if v.name not in plan.fields]
    return guided + (f"; unguided: {', '.join(names)}" if names else "")


def _members(plan: Plan) -> str:
    if plan.autocorrelation is None:
        return "1, nothing is drawn"
    return f"{plan.members}, seed {plan.seed}, {plan.autocorrelation.describe()}"


def _decided(decided: Mapping[str, Any]) -> list[str]:
    """What a method decided, in words; a plain yes or no is left to the log and the output."""
    words = []
    for name, value in decided.items():
        if name == "steps":
            words.append(f"{value} steps" if value > 1 else "1 step")
        elif isinstance(value, str):
            words.append(f"{value} {name}")
        elif not isinstance(value, bool):
            words.append(f"{name.replace('_', ' ')} {value:g}")
    return words


def _tiles(plan: Plan) -> str:
    size = plan.tile or plan.prior.card.network.tile
    return f", in tiles of {size} x {size} cells" if size else ""
