"""Are members as autocorrelated in time as the weather? Lag-one autocorrelation of fine detail.

    python benchmarks/autocorrelation.py --data DIR [--prior NAME] [--factor N] [--members N]
        [--coherence none,auto] [--period START/END] [--json FILE]

Observed fields of days that the prior was not trained on are averaged over blocks of cells and
downscaled by the real pipeline. DIR holds the files that the prior's training configuration names.
Detail is a field minus its interpolated block means, in normalised units; every pair of consecutive
days counts, gaps do not. Prints a Markdown table: the coherence of the noise; the autocorrelation
of detail, observed and of members; that of departures from what the input tells, which is the mean
of the other members; the fair CRPS; seconds per field.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from netCDF4 import Dataset

if __package__ in (None, ""):  # called as a script: the other modules lie beside it
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import running
from climdown import cf, regrid, stream
from climdown.arrays import Floats, Index
from climdown.config import RunConfig, load_config
from climdown.grid import Grid
from climdown.methods.registry import methods
from climdown.metrics import scores
from climdown.metrics.autocorrelation import lag_one_autocorrelation
from climdown.pipeline.execution import execute
from climdown.pipeline.planning import make_plan
from climdown.priors.prior import Prior
from climdown.priors.store import load_prior


@dataclass(frozen=True)
class Row:
    """A variable with a choice of coherence; lag-one autocorrelations but for the last two."""

    variable: str
    coherence: str
    noise: float
    detail_observed: float
    detail_members: float
    departure_observed: float
    departure_members: float
    crps: float
    seconds: float


def main(words: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--examples", type=Path, default=Path("examples"))
    parser.add_argument("--prior", default="eobs-iberia-zssd")
    parser.add_argument("--factor", type=int, help="[default: the prior's]")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--coherence", default="none,auto", help="choices, by commas")
    parser.add_argument("--period", help="[default: the configuration's validation period]")
    parser.add_argument("--json", type=Path, help="also store the numbers here")
    options = parser.parse_args(words)
    rows = judge(options)
    titles = [field.name.replace("_", " ") for field in fields(Row)]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for row in rows:
        cells = [x if isinstance(x, str) else f"{x:.3f}" for x in asdict(row).values()]
        print(f"| {' | '.join(cells)} |")
    if options.json:
        text = json.dumps([asdict(row) for row in rows], indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


def judge(options: argparse.Namespace) -> list[Row]:
    """Rows of all variables and choices."""
    prior = load_prior(options.prior)
    config = load_config(options.examples / f"{prior.card.name}.toml")
    fine = prior.card.grid
    coarse = fine.coarsen(options.factor or prior.card.coarse_factor)
    opened = {v.name: running.open_truth(v, options.data) for v in config.data.variables}
    first = next(iter(opened.values()))
    days = first.time.select(options.period or config.data.validation)
    axis = first.time.isel(days)
    truth = {name: field.read(days).astype(np.float64) for name, field in opened.items()}
    lower = regrid.weights(fine, coarse, "conservative")
    means = {name: lower.apply(values) for name, values in truth.items()}
    rows = []
    for choice in options.coherence.split(","):
        settings = run_config(prior, choice, options.members)
        begun = time.monotonic()
        drawn, noise = run(prior, axis, coarse, means, settings)
        seconds = (time.monotonic() - begun) / (len(axis) * options.members)
        for name, values in truth.items():
            scored = compare(prior, name, values, drawn[name], coarse, axis)
            row = Row(name, choice, noise.get(name, 0.0), *scored, seconds)
            rows.append(row)
    return sorted(rows, key=lambda row: list(truth).index(row.variable))


def run_config(prior: Prior, coherence: str, members: int) -> RunConfig:
    """The options of `climdown run`."""
    method = next(one.name for one in methods() if prior.card.kind in one.prior_kinds)
    chosen: Any = coherence if coherence in ("none", "auto") else float(coherence)
    return RunConfig(method=method, members=members, filter_scale="native", coherence=chosen)


def run(
    prior: Prior, axis: cf.TimeAxis, grid: Grid, means: dict[str, Floats], settings: RunConfig
) -> tuple[dict[str, Floats], dict[str, float]]:
    """Downscale a file of the coarse fields; members by variable, and the noise's coherence."""
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name) / "coarse.nc", Path(name) / "fine.nc"
        variables = []
        for v in prior.card.variables:
            attributes = {"standard_name": _standard_name(v), "units": v.units}
            described = stream.OutputVariable(v.name, attributes)
            variables.append((described, means[v.name].astype(np.float32)))
        stream.write_fields(source, grid=grid, time=axis, variables=variables, attributes={})
        plan = make_plan([source], output, prior=prior, config=settings)
        execute(plan, command="benchmark")
        with Dataset(output) as file:
            drawn = {
                v.name: np.ma.filled(file[v.name][:].astype(np.float64), np.nan)
                for v in prior.card.variables
            }
        return drawn, dict(plan.autocorrelation.by_variable if plan.autocorrelation else {})


def _standard_name(variable: Any) -> str:
    """The one that fits the card's units."""
    names: tuple[str, ...] = variable.standard_names
    rate = "lwe_precipitation_rate"
    return rate if rate in names and variable.units.startswith("mm") else names[0]


def compare(
    prior: Prior,
    name: str,
    truth: Floats,
    members: Floats,
    coarse: Grid,
    axis: cf.TimeAxis,
) -> tuple[float, float, float, float, float]:
    """Autocorrelations of detail and departures, observed and of members, and the CRPS."""
    fine = prior.card.grid
    forward = prior.transforms[name].forward
    observed = fine_detail(forward(truth), fine, coarse)
    ours = fine_detail(forward(members), fine, coarse)
    finite = np.isfinite(observed).all(axis=0) & np.isfinite(ours).all(axis=(0, 1))
    counted = np.asarray(finite)
    factor = fine.shape[0] // coarse.shape[0]
    ny, nx = (n * factor for n in coarse.shape)
    counted[ny:], counted[:, nx:] = False, False
    areas = fine.areas[counted]
    observed, ours = observed[:, counted], ours[:, :, counted]
    # A member and the truth depart alike from the mean of the other members, of a good ensemble.
    others = (ours.sum(axis=1, keepdims=True) - ours) / (ours.shape[1] - 1)
    crps = scores.fair_crps(members[:, :, counted], truth[:, counted], areas)
    first = consecutive(axis)

    def correlation(values: Floats) -> float:
        weights = np.broadcast_to(areas, values.shape[1:])
        return lag_one_autocorrelation(values[first], values[first + 1], weights)

    return (
        correlation(observed),
        correlation(ours),
        correlation(observed[:, None] - others),
        correlation(ours - others),
        crps,
    )


def consecutive(axis: cf.TimeAxis) -> Index:
    """The first of each pair of consecutive steps."""
    return np.flatnonzero(np.diff(cf.step_numbers(axis.dates, axis.step_days)) == 1)


def fine_detail(fields: Floats, fine: Grid, coarse: Grid) -> Floats:
    """Fields minus their coarse means, which are interpolated bilinearly to the fine grid.

    Args:
        fields: on the fine grid, shape (..., ny, nx), NaN where missing.

    Returns:
        shape as given; NaN where a field is missing, or all coarse cells around.
    """
    means = regrid.weights(fine, coarse, "conservative").apply(fields)
    return fields - regrid.weights(coarse, fine, "bilinear").apply(means)


if __name__ == "__main__":
    main()
