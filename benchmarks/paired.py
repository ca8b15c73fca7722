"""Paired check of a prior on days it was not trained on, beside bilinear and the delta method.

Observed fields are averaged over blocks of cells (valid cells only; odd last rows and columns
dropped), written as a CF file, and downscaled by the real pipeline. Prints one table.

    python benchmarks/paired.py --data DIR [--factor 5] [--members 8] [--period START/END]

DIR holds the files that the prior's training configuration names.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from netCDF4 import Dataset

from climdown import cf, pipeline, regrid, stream
from climdown.config import PriorConfig, RunConfig, VariableConfig, load_config
from climdown.evaluation import metrics
from climdown.grid import Grid
from climdown.priors.card import Prior
from climdown.priors.store import load_prior

Values = npt.NDArray[np.floating]
Scores = dict[str, str | float | None]


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("examples/eobs-iberia-zssd.toml"))
    parser.add_argument("--prior", default="eobs-iberia-zssd")
    parser.add_argument("--factor", type=int, default=5)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--sampler", default="fast", choices=("fast", "reference"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--period", help="[default: the configuration's validation period]")
    parser.add_argument("--json", type=Path, help="also store the table here")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    prior = load_prior(arguments.prior)
    period = arguments.period or config.data.validation
    fields = {v.name: open_truth(v, arguments.data) for v in config.data.variables}
    part = {name: field.time.select(period) for name, field in fields.items()}
    truth = {n: f.read(part[n]).astype(np.float64) for n, f in fields.items()}
    options = RunConfig(
        members=arguments.members,
        sampler=arguments.sampler,
        steps=arguments.steps,
        guidance_scale=arguments.guidance_scale,
        filter_scale="native",
    )
    first = next(iter(fields.values()))
    axis = first.time.isel(part[first.quantity.name])
    coarse_grid = prior.card.grid.coarsen(arguments.factor)
    coarse = {n: block_mean(values, prior.card.grid, coarse_grid) for n, values in truth.items()}
    begun = time.monotonic()
    ensembles = run(prior, config, axis, coarse_grid, coarse, options)
    seconds = (time.monotonic() - begun) / (len(axis) * arguments.members)
    rows = []
    for variable in config.data.variables:
        name = variable.name
        patterns = climatology(fields[name], config.data.train)
        rows += score(
            variable, truth[name], coarse[name], ensembles[name], patterns, prior, coarse_grid
        )
    print(f"{prior.card.name} {prior.digest[:12]}, {period}, factor {arguments.factor}, ", end="")
    print(f"{arguments.members} members, {seconds:.3f} s per field")
    print("p99: mean error of the local 99th percentile, of the ensemble mean, of all members")
    print("pooled, and of single members averaged")
    print_table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def print_table(rows: Sequence[Scores]) -> None:
    """One line per variable and method."""
    columns = ("mae", "p99_mean", "p99_pooled", "p99_member", "crps", "spread_skill")
    print("".join([f"{'variable':<16}{'method':<10}", *(f"{name:>14}" for name in columns)]))
    for row in rows:
        numbers = ["" if row[name] is None else f"{row[name]:.3f}" for name in columns]
        cells = "".join(f"{text:>14}" for text in numbers)
        print(f"{row['variable']:<16}{row['method']:<10}{cells}")


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
    ensemble: Values,
    pattern: Values,
    prior: Prior,
    coarse_grid: Grid,
) -> list[Scores]:
    """Rows of the table: bilinear, delta, climdown; scored where all have values."""
    fine = prior.card.grid
    interpolate = regrid.weights(coarse_grid, fine, "bilinear").apply
    bilinear = interpolate(coarse)
    smooth = interpolate(block_mean(pattern, fine, coarse_grid))
    if variable.transform == "log":
        delta = bilinear * np.where(smooth > 0, pattern / smooth, 1.0)
    else:
        delta = bilinear + pattern - smooth
    # Scored inside the coarse grid alone, on cells where every method has a value.
    ny, nx = (n * (fine.shape[0] // coarse_grid.shape[0]) for n in coarse_grid.shape)
    known = np.isfinite(truth) & np.isfinite(delta) & np.isfinite(ensemble).all(axis=1)
    known[:, ny:], known[:, :, nx:] = False, False
    target = np.where(known, truth, np.nan)
    label = f"{variable.name} ({variable.units})"
    rows: list[Scores] = []
    for method, forecast in (("bilinear", bilinear), ("delta", delta), ("climdown", None)):
        row: Scores = {"variable": label, "method": method}
        if forecast is None:
            rows.append(row | score_ensemble(ensemble, target, fine.areas))
        else:
            rows.append(row | score_single(forecast, target, fine.areas))
    return rows


def score_single(forecast: Values, target: Values, areas: Values) -> Scores:
    """Scores of one forecast; its CRPS is its absolute error."""
    mae = metrics.mean_absolute_error(forecast, target, areas)
    p99 = metrics.quantile_error(forecast, target, areas, quantile=0.99)
    empty: Scores = dict.fromkeys(("p99_pooled", "p99_member", "spread_skill"))
    return {"mae": mae, "p99_mean": p99, "crps": mae, **empty}


def score_ensemble(ensemble: Values, target: Values, areas: Values) -> Scores:
    """Scores of an ensemble."""
    mean, members = ensemble.mean(axis=1), ensemble.shape[1]

    def p99(forecast: Values, truth: Values) -> float:
        return metrics.quantile_error(forecast, truth, areas, quantile=0.99)

    pooled = np.concatenate([ensemble[:, m] for m in range(members)])
    return {
        "mae": metrics.mean_absolute_error(mean, target, areas),
        "p99_mean": p99(mean, target),
        "p99_pooled": p99(pooled, np.concatenate([target] * members)),
        "p99_member": float(np.mean([p99(ensemble[:, m], target) for m in range(members)])),
        "crps": metrics.fair_crps(ensemble, target, areas),
        "spread_skill": metrics.spread_skill_ratio(ensemble, target, areas),
    }


if __name__ == "__main__":
    main()
