"""Part b of the scoreboard: a coarse analysis that no prior has seen, with the truth known.

NCEP-R1 (2.5 degrees) is the input, ERA-Interim (1.5 degrees) of the same days the truth. NCEP's
fields are daily means, the truth is of 12 UTC: that difference counts as an error here. The files
cover three quarters of the prior's region (2000-2002) or a little less than `climdown run` asks for
(2008, 89 of 90 %), so that they are padded with missing cells; scored are the fine cells that NCEP
covers. ERA-Interim itself, averaged to the same cells, is the input with nothing foreign in it.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import competitors, paired, running
from benchmarks.competitors import Competitor, Drawn
from benchmarks.judging import COST, PAIRED, Row, Written, judged
from climdown import cf, regrid
from climdown.arrays import Floats, Mask
from climdown.config import VariableConfig, load_config
from climdown.errors import InputError
from climdown.grid import Grid
from climdown.priors.prior import Prior
from climdown.priors.store import load_prior

PRIORS = paired.EUROPE
HISTORICAL = "europe/{name}_day_NCEP-R1_25deg_2*.nc"
# Of an input: its bias adjustment, and the scale at which it guides.
SETTINGS = {
    "own": ("none", "native"),
    "raw": ("none", "native"),
    "raw, auto scale": ("none", "auto"),
    "qdm": ("qdm", "native"),
    "qdm, auto scale": ("qdm", "auto"),
}


@dataclass(frozen=True)
class Experiment:
    """Days of an input, and the days before them on which its bias is known.

    Attributes:
        files: pattern of the input; the bias is known from `HISTORICAL`.
    """

    name: str
    files: str
    variables: tuple[str, ...]
    period: str
    reference_period: str


EXPERIMENTS = (
    Experiment(
        "ncep-2008 (validation days of the prior)",
        "europe/{name}_day_NCEP-R1_25deg_natl_*.nc",
        ("psl",),
        "2008-01-01/2008-12-31",
        "2000-01-01/2002-12-31",
    ),
    Experiment(
        "ncep-2002 (TRAINING days of the prior)",
        HISTORICAL,
        ("psl", "zg500"),
        "2002-01-01/2002-12-31",
        "2000-01-01/2001-12-31",
    ),
)


def run(options: argparse.Namespace, methods: list[Competitor]) -> dict[str, list[Row]]:
    """Rows by experiment, printed as they come; one without files is reported and left out."""
    results = {}
    for experiment in EXPERIMENTS:
        try:
            results[experiment.name] = judge(experiment, options, methods)
        except InputError as error:
            print(f"\n{experiment.name}: left out, {error}")
            continue
        running.print_table(
            f"{experiment.name}, {options.members} members; NCEP-R1 daily means against "
            f"ERA-Interim at 12 UTC; bias known from {experiment.reference_period}",
            results[experiment.name],
            ("variable", "input", "input_mae", "method", *PAIRED, *COST),
        )
    return results


@dataclass(frozen=True, eq=False)
class Files:
    """The input and its kin as files, padded to the prior's region.

    Attributes:
        sources: "input", "own" (the truth averaged to the same cells) and "historical".
        covered: by variable, fine cells that input and historical files both cover.
    """

    prior: Prior
    variables: tuple[VariableConfig, ...]
    sources: dict[str, Path]
    axis: cf.TimeAxis
    covered: dict[str, Mask]


def judge(
    experiment: Experiment, options: argparse.Namespace, methods: list[Competitor]
) -> list[Row]:
    """Rows by variable, input and method."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = prepare(experiment, options, folder)
        periods = competitors.stretches(files.axis, None, options.days)
        for place, setting in enumerate(SETTINGS):
            config = settings(setting, experiment, options, files)
            source = files.sources["own" if setting == "own" else "input"]
            priors = {"diffusion": files.prior}
            here = folder / str(place)
            drawn = competitors.draw_all(methods, priors, [source], config, here, periods)
            if drawn:
                rows += score(files, options.data, setting, drawn, here)
    return sorted(rows, key=lambda row: str(row["variable"]))


def settings(
    setting: str, experiment: Experiment, options: argparse.Namespace, files: Files
) -> dict[str, Any]:
    """Entries of `RunConfig`, but for the method's own."""
    bias, scale = SETTINGS[setting]
    entries: dict[str, Any] = {"filter_scale": scale, "members": options.members, "bias": bias}
    if bias != "none":
        observed = (options.data / name for v in files.variables for name in v.files)
        entries |= {
            "historical": (str(files.sources["historical"]),),
            "reference": tuple(map(str, observed)),
            "reference_period": experiment.reference_period,
        }
    return entries


def prepare(experiment: Experiment, options: argparse.Namespace, folder: Path) -> Files:
    """Write the input, the historical files and the truth's means, on padded cells.

    Raises:
        InputError: a file is missing, or has no step in its period.
    """
    prior = load_prior(PRIORS["diffusion"])
    fine = prior.card.grid
    config = load_config(options.examples / f"{prior.card.name}.toml")
    variables = tuple(v for v in config.data.variables if v.name in experiment.variables)
    sources = {name: folder / f"{name}.nc" for name in ("historical", "input", "own")}
    covered = {v.name: np.ones(fine.shape, dtype=bool) for v in variables}
    for source, pattern, period in (
        ("historical", HISTORICAL, experiment.reference_period),
        ("input", experiment.files, experiment.period),
    ):
        values = {}
        for v in variables:
            field = _open(v, options.data / pattern.format(name=v.name))
            chosen = field.time.select(period)
            axis = field.time.isel(chosen)
            grid, values[v.name] = padded(field.read(chosen).astype(np.float64), field.grid, fine)
            observed = np.asarray(np.isfinite(values[v.name]).any(axis=0), dtype=np.float64)
            share = regrid.weights(grid, fine, "conservative").apply(observed)
            covered[v.name] &= np.nan_to_num(share) > 1.0 - 1e-6
        running.write_fields(sources[source], grid, axis, variables, values, {})
    means = {}
    for v in variables:
        truth = truth_of(v, options.data, list(axis.dates))
        mean = running.coarsened(truth, fine, grid)
        means[v.name] = np.where(np.isfinite(values[v.name]), mean, np.nan)
    running.write_fields(sources["own"], grid, axis, variables, means, {})
    return Files(prior, variables, sources, axis, covered)


def _open(variable: VariableConfig, path: Path) -> cf.Field:
    wanted = cf.Quantity(
        variable.name, variable.standard_names, variable.names, variable.units, variable.level
    )
    return cf.open_field([path], wanted)


def padded(values: Floats, grid: Grid, region: Grid) -> tuple[Grid, Floats]:
    """Fields with missing cells around them, so that the grid covers a region."""
    axes, widths = [], [(0, 0)]
    for centres, edges, wanted in (
        (grid.lat, grid.lat_edges, region.lat_edges),
        (grid.lon, grid.lon_edges, region.lon_edges),
    ):
        step = float(np.median(np.diff(centres)))
        before, after = (
            max(0, math.ceil(gap / step - 1e-6))
            for gap in (edges[0] - wanted[0], wanted[-1] - edges[-1])
        )
        low, high = (step * np.arange(1, n + 1) for n in (before, after))
        axes.append(np.concatenate([centres[0] - low[::-1], centres, centres[-1] + high]))
        widths.append((before, after))
    return Grid.from_centres(*axes), np.pad(values, widths, constant_values=np.nan)


def truth_of(variable: VariableConfig, data: Path, dates: list[Any]) -> Floats:
    """The observed fields of the same days, at whatever hour, shape (time, ny, nx)."""
    field = running.open_truth(variable, data)
    place = {(d.year, d.month, d.day): i for i, d in enumerate(field.time.dates)}
    return paired.read_days(field, np.array([place[d.year, d.month, d.day] for d in dates]))


def score(
    files: Files, data: Path, setting: str, drawn: Mapping[str, Drawn], folder: Path
) -> list[Row]:
    """Rows of an input: the methods by variable, and how far the input itself is from the truth."""
    fine, first = files.prior.card.grid, next(iter(drawn.values()))
    truth, means, guide = {}, {}, {}
    for v in files.variables:
        covered = files.covered[v.name]
        values = truth_of(v, data, first.dates)
        share = running.coarsened(covered.astype(np.float64), fine, first.grid)
        truth[v.name] = np.where(covered, values, np.nan)
        means[v.name] = running.coarsened(values, fine, first.grid)
        guide[v.name] = np.where(share > 1.0 - 1e-6, first.guide[v.name], np.nan)
    paths = [folder / f"{name}.nc" for name in ("truth", "means", "guide")]
    for path, grid, fields in zip(
        paths, (fine, first.grid, first.grid), (truth, means, guide), strict=True
    ):
        running.write_fields(path, grid, first.axis, files.variables, fields, {})
    outputs = {label: one.written for label, one in drawn.items()}
    rows = judged(outputs, paths[0], given=[paths[2]])
    own = {row["variable"]: row["mae"] for row in judged({"input": Written((paths[2],))}, paths[1])}
    return [{"input": setting, "input_mae": own[row["variable"]]} | row for row in rows]
