"""Part a of the scoreboard: observed fields averaged over blocks of cells, and downscaled again."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import competitors, running
from benchmarks.competitors import Competitor
from benchmarks.judging import COST, PAIRED, Row, Written, judged
from climdown import cf
from climdown.arrays import Floats, Index, Mask
from climdown.config import PriorConfig, VariableConfig, load_config
from climdown.grid import Grid
from climdown.priors.store import load_prior


@dataclass(frozen=True)
class Case:
    """Fields of priors' own kind, so many times coarser.

    Attributes:
        priors: names by kind; methods of another kind are left out.
    """

    name: str
    priors: Mapping[str, str]
    factor: int

    def config(self, examples: Path) -> PriorConfig:
        """How the first of the priors was trained."""
        return load_config(examples / f"{next(iter(self.priors.values()))}.toml")


IBERIA = {"diffusion": "eobs-iberia-zssd", "consistency": "eobs-iberia-cm"}
EUROPE = {"diffusion": "erai-europe-zssd"}
CASES = (
    Case("iberia-x4", IBERIA, 4),
    Case("iberia-x5", IBERIA, 5),
    Case("iberia-x10", IBERIA, 10),
    Case("europe-x4", EUROPE, 4),
)


def run(options: argparse.Namespace, methods: list[Competitor]) -> dict[str, list[Row]]:
    """Rows by case, printed as they come."""
    wanted = options.only.split(",") if options.only else [case.name for case in CASES]
    results = {}
    for case in (case for case in CASES if case.name in wanted):
        dates, results[case.name] = judge(case, options, methods)
        running.print_table(
            f"{case.name}, {options.members} members, {dates}",
            results[case.name],
            ("variable", "method", *PAIRED, *COST),
        )
    return results


def judge(
    case: Case, options: argparse.Namespace, methods: list[Competitor]
) -> tuple[str, list[Row]]:
    """The days, and rows of the methods by variable."""
    config = case.config(options.examples)
    variables = config.data.variables
    priors = {kind: load_prior(name) for kind, name in case.priors.items()}
    fine = next(iter(priors.values())).card.grid
    axis, truth = truth_days(config, options.data, options.period, options.days)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, target = write_case(folder, axis, variables, truth, fine, case.factor)
        # The input is the truth averaged: it has no bias.
        entries = {"filter_scale": "native", "members": options.members, "bias": "none"}
        drawn = competitors.draw_all(methods, priors, [source], entries, folder / "drawn")
        outputs = {label: one.written for label, one in drawn.items()}
        if options.supervised:
            outputs |= supervised_output(options.supervised, case, variables, axis)
        rows = judged(outputs, target, given=[source])
    return f"{axis.describe()}, {_trained(axis, config.data.train)}", rows


def write_case(
    folder: Path,
    axis: cf.TimeAxis,
    variables: tuple[VariableConfig, ...],
    truth: Mapping[str, Floats],
    fine: Grid,
    factor: int,
) -> tuple[Path, Path]:
    """Write the input and the truth to judge by, which has the cells that the input covers."""
    grid = fine.coarsen(factor)
    inside = _inside(fine, grid, factor)
    source, target = folder / "coarse.nc", folder / "truth.nc"
    means = {name: running.coarsened(values, fine, grid) for name, values in truth.items()}
    running.write_fields(source, grid, axis, variables, means, {})
    known = {name: np.where(inside, values, np.nan) for name, values in truth.items()}
    running.write_fields(target, fine, axis, variables, known, {})
    return source, target


def _inside(fine: Grid, coarse: Grid, factor: int) -> Mask:
    """Fine cells in coarse ones: odd last rows and columns lie outside the coarse grid."""
    inside = np.zeros(fine.shape, dtype=bool)
    inside[tuple(slice(0, n * factor) for n in coarse.shape)] = True
    return inside


def _trained(axis: cf.TimeAxis, train: str) -> str:
    count = int(running.inside(axis, train).sum())
    return f"{count} of them TRAINING days" if count else "none of them trained on"


def truth_days(
    config: PriorConfig, data: Path, period: str | None, days: int | None
) -> tuple[cf.TimeAxis, dict[str, Floats]]:
    """Observed fields of days that were not trained on, and their time axis."""
    fields = {v.name: running.open_truth(v, data) for v in config.data.variables}
    time = next(iter(fields.values())).time
    index = cf.evenly(running.held_out(time, config.data, period), days)
    axis = cf.time_axis(list(time.dates[index]), units="days since 1900-01-01")
    return axis, {n: read_days(field, index) for n, field in fields.items()}


def read_days(field: cf.Field, index: Index) -> Floats:
    """Values of some steps, shape (len(index), ny, nx)."""
    first, last = int(index.min()), int(index.max())
    return field.read(slice(first, last + 1)).astype(np.float64)[index - first]


def supervised_file(folder: Path, case: str) -> Path:
    """Where `benchmarks/supervised.py` keeps its fields of a case."""
    return folder / f"{case}.nc"


def supervised_output(
    folder: Path, case: Case, variables: tuple[VariableConfig, ...], axis: cf.TimeAxis
) -> dict[str, Written]:
    """The supervised network's file; a case without one has no such row.

    Raises:
        ValueError: it was not run on one of the days.
    """
    path = supervised_file(folder, case.name)
    if not path.exists():
        return {}
    v = variables[0]
    wanted = cf.Quantity(v.name, (running.written_name(v),), v.names, v.units, v.level)
    field = cf.open_field([path], wanted)
    known = {(d.year, d.month, d.day) for d in field.time.dates}
    days = [(d.year, d.month, d.day) for d in axis.dates]
    if missing := [day for day in days if day not in known]:
        raise ValueError(f"{path} lacks {missing[0]}; run benchmarks.supervised on that period")
    seconds = float(field.global_attributes["seconds_per_field"])
    return {"supervised": Written((path,), seconds, 1)}
