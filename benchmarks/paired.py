"""Part a of the scoreboard: observed fields averaged over blocks of cells, and downscaled again."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import competitors, running
from benchmarks.competitors import Competitor
from climdown import cf
from climdown.arrays import Floats, Index, Mask
from climdown.config import PriorConfig, VariableConfig, load_config
from climdown.evaluation.paired import PAIRED, Forecast, Row, paired_rows, single
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
            ("variable", "method", *PAIRED, "evaluations", "seconds"),
        )
    return results


def judge(
    case: Case, options: argparse.Namespace, methods: list[Competitor]
) -> tuple[str, list[Row]]:
    """The days, and rows of baselines and methods by variable."""
    config = case.config(options.examples)
    variables = config.data.variables
    priors = {kind: load_prior(name) for kind, name in case.priors.items()}
    prior = next(iter(priors.values()))
    fine, coarse_grid = prior.card.grid, prior.card.grid.coarsen(case.factor)
    axis, truth = truth_days(config, options.data, options.period, options.days)
    coarse = {n: running.coarsened(values, fine, coarse_grid) for n, values in truth.items()}
    means = {v.name: running.climatology(v.name, list(priors.values())) for v in variables}
    # The scoreboard's own baselines give way to those of `climdown run`.
    named = {method.settings["method"] for method in methods}
    forecasts = {
        v.name: _baselines(v, coarse[v.name], coarse_grid, fine, means[v.name], named)
        for v in variables
    }
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "coarse.nc"
        running.write_fields(source, coarse_grid, axis, variables, coarse, {})
        # The input is the truth averaged: it has no bias.
        entries = {"filter_scale": "native", "members": options.members, "bias": "none"}
        drawn = competitors.draw_all(methods, priors, [source], entries)
    for label, one in drawn.items():
        for name, values in one.members.items():
            forecasts[name][label] = Forecast(values, one.seconds, one.evaluations)
    if options.supervised:
        for name, forecast in read_supervised(options.supervised, case, variables, axis).items():
            forecasts[name]["supervised"] = forecast
    inside = _inside(fine, coarse_grid, case.factor)
    rows: list[Row] = []
    for v in variables:
        label = f"{v.name} ({v.units})"
        mean = means[v.name]
        rows += paired_rows(label, truth[v.name], forecasts[v.name], fine.areas, mean, inside)
    return f"{axis.describe()}, {_trained(axis, config.data.train)}", rows


def _baselines(
    variable: VariableConfig,
    values: Floats,
    coarse: Grid,
    fine: Grid,
    mean: Floats,
    without: Collection[str],
) -> dict[str, Forecast]:
    """Interpolation and the delta method, but for those that are named."""
    baselines = {}
    if "bilinear" not in without:
        baselines["bilinear"] = single(running.bilinear(values, coarse, fine))
    if "delta" not in without:
        baselines["delta"] = single(running.delta(variable, values, coarse, fine, mean))
    return baselines


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


def read_supervised(
    folder: Path, case: Case, variables: tuple[VariableConfig, ...], axis: cf.TimeAxis
) -> dict[str, Forecast]:
    """The supervised network's fields of some days; a case without them has no such row.

    Raises:
        ValueError: it was not run on one of the days.
    """
    path = supervised_file(folder, case.name)
    if not path.exists():
        return {}
    forecasts = {}
    for v in variables:
        wanted = cf.Quantity(v.name, (running.written_name(v),), v.names, v.units, v.level)
        field = cf.open_field([path], wanted)
        place = {(d.year, d.month, d.day): i for i, d in enumerate(field.time.dates)}
        days = [(d.year, d.month, d.day) for d in axis.dates]
        if missing := [day for day in days if day not in place]:
            raise ValueError(f"{path} lacks {missing[0]}; run benchmarks.supervised on that period")
        values = read_days(field, np.array([place[day] for day in days]))
        seconds = float(field.global_attributes["seconds_per_field"])
        forecasts[v.name] = Forecast(values[:, None], seconds, 1)
    return forecasts
