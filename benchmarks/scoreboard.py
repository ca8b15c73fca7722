"""Scoreboard: every method on days that the bundled priors were not trained on.

    python benchmarks/scoreboard.py --data DIR [--only iberia-x5,...] [--members 8] [--json FILE]

Observed fields are averaged over blocks of cells (valid cells only; odd last rows and columns
dropped), written as a CF file, and downscaled by the real pipeline. DIR holds the files that the
priors' training configurations name; other years in the same layout are scored with --period.
Prints a Markdown table for each case: error of the ensemble mean, mean error of the local 99th
percentile (of the mean, and of single members averaged), fair CRPS, spread over skill, the log
spectral distance of members from truth, network evaluations and seconds per field.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from netCDF4 import Dataset

from climdown import cf, pipeline, regrid, stream
from climdown.config import PriorConfig, RunConfig, VariableConfig, load_config
from climdown.evaluation import metrics
from climdown.evaluation.spectra import log_spectral_distance, tapered_spectrum
from climdown.grid import Grid
from climdown.priors.card import Prior
from climdown.priors.store import load_prior

Values = npt.NDArray[np.floating]
Scores = dict[str, str | float | None]

COLUMNS = ("mae", "p99_mean", "p99_member", "crps", "spread_skill", "spectral_dB")


@dataclass(frozen=True)
class Case:
    """A prior's own validation fields, so many times coarser."""

    name: str
    prior: str
    consistency: str | None
    factor: int


CASES = (
    Case("iberia-x4", "eobs-iberia-zssd", "eobs-iberia-cm", 4),
    Case("iberia-x5", "eobs-iberia-zssd", "eobs-iberia-cm", 5),
    Case("iberia-x10", "eobs-iberia-zssd", "eobs-iberia-cm", 10),
    Case("europe-x4", "erai-europe-zssd", None, 4),
)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--examples", type=Path, default=Path("examples"))
    parser.add_argument("--only", help="cases, by commas [default: all]")
    parser.add_argument(
        "--methods", default="zssd,cm,cm4", help="beside the baselines; cm4 takes 4 steps"
    )
    parser.add_argument("--sampler", default="fast", choices=("fast", "reference"))
    parser.add_argument("--steps", type=int, help="of zssd [default: the prior's]")
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--period", help="[default: the configuration's validation period]")
    parser.add_argument("--days", type=int, help="so many, evenly spread [default: all]")
    parser.add_argument("--json", type=Path, help="also store the numbers here")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [case.name for case in CASES]
    found = {}
    for case in (case for case in CASES if case.name in wanted):
        found[case.name] = judge(case, options)
        print_table(case, options.members, found[case.name])
        if options.json:  # a long run keeps what it has
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def judge(case: Case, options: argparse.Namespace) -> list[Scores]:
    """Rows of a case: baselines and methods by variable."""
    config = load_config(options.examples / f"{case.prior}.toml")
    prior = load_prior(case.prior)
    period = options.period or config.data.validation
    fields = {v.name: open_truth(v, options.data) for v in config.data.variables}
    fine, coarse_grid = prior.card.grid, prior.card.grid.coarsen(case.factor)
    first = next(iter(fields.values()))
    dates = first.time.dates[first.time.select(period)]
    spread = np.linspace(0, len(dates) - 1, min(options.days or len(dates), len(dates)))
    days = spread.round().astype(np.intp)
    truth = {n: f.read(f.time.select(period)).astype(np.float64)[days] for n, f in fields.items()}
    axis = cf.time_axis(list(dates[days]), units="days since 1900-01-01")
    coarse = {n: block_mean(values, fine, coarse_grid) for n, values in truth.items()}
    rows: list[Scores] = []
    patterns = {n: climatology(field, config.data.train) for n, field in fields.items()}
    ensembles: dict[str, tuple[dict[str, Values], float, int]] = {}
    for method in options.methods.split(","):
        owner = case.prior if method == "zssd" else case.consistency
        if owner is None:
            continue
        chosen = load_prior(owner)
        settings = run_config(method, options)
        begun = time.monotonic()
        drawn = run(chosen, config, axis, coarse_grid, coarse, settings)
        seconds = (time.monotonic() - begun) / (len(axis.dates) * options.members)
        evaluations = settings.steps or chosen.card.sampling.steps
        ensembles[method] = (drawn, seconds, evaluations)
    for variable in config.data.variables:
        name = variable.name
        rows += score(
            variable,
            truth[name],
            coarse[name],
            {m: (drawn[name], s, n) for m, (drawn, s, n) in ensembles.items()},
            patterns[name],
            prior,
            coarse_grid,
        )
    return rows


def run_config(method: str, options: argparse.Namespace) -> RunConfig:
    """The options of `climdown run` for a method."""
    kind: Literal["zssd", "cm"] = "cm" if method.startswith("cm") else "zssd"
    own: dict[str, Any] = {"steps": int(method[2:])} if method[2:].isdigit() else {}
    if kind == "zssd":
        steps = options.steps or (1000 if options.sampler == "reference" else None)
        own = {
            "sampler": options.sampler,
            "steps": steps,
            "guidance_scale": options.guidance_scale,
        }
    return RunConfig(method=kind, members=options.members, filter_scale="native", **own)


def print_table(case: Case, members: int, rows: Sequence[Scores]) -> None:
    """Markdown."""
    print(f"\n{case.name}, {members} members\n")
    titles = ("variable", "method", *COLUMNS, "evaluations", "s/field")
    print(f"| {' | '.join(titles)} |")
    print(f"|{'---|' * len(titles)}")
    for row in rows:
        numbers = ["" if row[name] is None else f"{row[name]:.3f}" for name in COLUMNS]
        cost = ["" if row[name] is None else f"{row[name]:.3g}" for name in ("evaluations", "s")]
        print(f"| {' | '.join([str(row['variable']), str(row['method']), *numbers, *cost])} |")


def open_truth(variable: VariableConfig, data: Path) -> cf.Field:
    """The observed field of a variable."""
    names = [data / name for name in variable.files]
    wanted = cf.Quantity(variable.name, variable.standard_names, variable.names, variable.units)
    return cf.open_field(names, wanted)


def block_mean(values: Values, fine: Grid, coarse: Grid) -> Values:
    """Area-weighted mean over the valid cells of each coarse cell."""
    return np.asarray(regrid.weights(fine, coarse, "conservative").apply(values), np.float64)


def climatology(field: cf.Field, period: str) -> Values:
    """Mean of each cell over the training period."""
    with np.errstate(invalid="ignore"):
        values = field.read(field.time.select(period)).astype(np.float64)
        count = np.isfinite(values).sum(axis=0)
        return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)


def run(
    prior: Prior,
    config: PriorConfig,
    axis: cf.TimeAxis,
    grid: Grid,
    coarse: dict[str, Values],
    options: RunConfig,
) -> dict[str, Values]:
    """Write the coarse fields, downscale the file, read the members back."""
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name) / "coarse.nc", Path(name) / "fine.nc"
        variables = []
        for variable in config.data.variables:
            attributes = {"standard_name": variable.standard_names[0], "units": variable.units}
            if variable.standard_names[0] == "precipitation_flux":
                attributes["standard_name"] = "lwe_precipitation_rate"
            described = stream.OutputVariable(variable.name, attributes)
            variables.append((described, coarse[variable.name].astype(np.float32)))
        stream.write_fields(source, grid=grid, time=axis, variables=variables, attributes={})
        pipeline.downscale([source], output, prior=prior, config=options)
        with Dataset(output) as file:
            return {
                v.name: np.ma.filled(file[v.name][:].astype(np.float64), np.nan)
                for v in config.data.variables
            }


def score(
    variable: VariableConfig,
    truth: Values,
    coarse: Values,
    ensembles: dict[str, tuple[Values, float, int]],
    pattern: Values,
    prior: Prior,
    coarse_grid: Grid,
) -> list[Scores]:
    """Rows of a variable: bilinear, delta, and the methods; scored where all have values."""
    fine = prior.card.grid
    interpolate = regrid.weights(coarse_grid, fine, "bilinear").apply
    bilinear = interpolate(coarse)
    smooth = interpolate(block_mean(pattern, fine, coarse_grid))
    if variable.transform == "log":
        delta = bilinear * np.where(smooth > 0, pattern / smooth, 1.0)
    else:
        delta = bilinear + pattern - smooth
    # Scored inside the coarse grid alone, on cells where every method has a value.
    factor = fine.shape[0] // coarse_grid.shape[0]
    ny, nx = (n * factor for n in coarse_grid.shape)
    known = np.isfinite(truth) & np.isfinite(delta)
    for ensemble, _, _ in ensembles.values():
        known &= np.isfinite(ensemble).all(axis=1)
    known[:, ny:], known[:, :, nx:] = False, False
    target = np.where(known, truth, np.nan)
    label = f"{variable.name} ({variable.units})"
    rows: list[Scores] = []
    for method, forecast in (("bilinear", bilinear), ("delta", delta)):
        free: Scores = {"variable": label, "method": method, "evaluations": None, "s": None}
        rows.append(free | score_single(forecast, target, fine.areas))
    for method, (ensemble, seconds, evaluations) in ensembles.items():
        cost: Scores = {"evaluations": evaluations, "s": seconds}
        named: Scores = {"variable": label, "method": method}
        rows.append(named | cost | score_ensemble(ensemble, target, fine.areas))
    return rows


def score_single(forecast: Values, target: Values, areas: Values) -> Scores:
    """Scores of one forecast; its CRPS is its absolute error."""
    mae = metrics.mean_absolute_error(forecast, target, areas)
    p99 = metrics.quantile_error(forecast, target, areas, quantile=0.99)
    distance = spectral_distance(forecast[:, None], target)
    return {
        "mae": mae,
        "p99_mean": p99,
        "p99_member": p99,
        "crps": mae,
        "spread_skill": None,
        "spectral_dB": distance,
    }


def score_ensemble(ensemble: Values, target: Values, areas: Values) -> Scores:
    """Scores of an ensemble."""
    mean, members = ensemble.mean(axis=1), ensemble.shape[1]

    def p99(forecast: Values) -> float:
        return metrics.quantile_error(forecast, target, areas, quantile=0.99)

    return {
        "mae": metrics.mean_absolute_error(mean, target, areas),
        "p99_mean": p99(mean),
        "p99_member": float(np.mean([p99(ensemble[:, m]) for m in range(members)])),
        "crps": metrics.fair_crps(ensemble, target, areas),
        "spread_skill": metrics.spread_skill_ratio(ensemble, target, areas),
        "spectral_dB": spectral_distance(ensemble, target),
    }


def spectral_distance(ensemble: Values, target: Values) -> float:
    """Log spectral distance (dB) of members from the truth, over cells that are always known."""
    known = np.asarray(np.isfinite(target).all(axis=0))
    complete = np.isfinite(target).mean(axis=(1, 2)) > 0
    _, theirs = tapered_spectrum(target[complete], known)
    ours = np.mean(
        [tapered_spectrum(ensemble[complete, m], known)[1] for m in range(ensemble.shape[1])],
        axis=0,
    )
    return log_spectral_distance(ours, theirs)


if __name__ == "__main__":
    main()
