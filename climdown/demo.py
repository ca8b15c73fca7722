"""The demonstration: a pseudo-GCM from the bundled prior, downscaled as a user would.

The hidden truth is a draw from the prior; its coarse, biased copy is written with CMIP
metadata in a 360-day calendar, and goes through the same `downscale()` as any file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cftime
import numpy as np
import torch
from netCDF4 import Dataset

from climdown import cf, pipeline, regrid, stream
from climdown.arrays import Float64
from climdown.config import RunConfig
from climdown.diffusion import schedule, solvers
from climdown.diffusion.noise import KeyedNoise
from climdown.grid import Grid
from climdown.metrics import scores
from climdown.plots.maps import Panel, draw_panels
from climdown.priors.prior import Prior
from climdown.priors.store import load_prior

PRIOR = "eobs-iberia-zssd"
_SPACING = 1.4  # degrees, that of a CMIP5 model
_TAS_BIAS = 0.3  # K
_PR_BIAS = 0.95  # factor
_STEPS = 24
_CMIP = {
    "tas": {"standard_name": "air_temperature", "units": "K"},
    "pr": {"standard_name": "precipitation_flux", "units": "kg m-2 s-1"},
}
_ATTRIBUTES = {
    "Conventions": "CF-1.8",
    "title": "Pseudo-GCM of the climdown demonstration",
    "source": "climdown demo: a draw from a prior, coarsened and biased",
    "source_id": "PSEUDO-1",
    "experiment_id": "demo",
    "frequency": "day",
}


@dataclass(frozen=True)
class Score:
    """An error against the hidden truth, of bilinear interpolation and of climdown."""

    variable: str
    measure: str
    bilinear: float
    climdown: float


@dataclass(frozen=True)
class DemoResult:
    """Files and scores of the demonstration."""

    input: Path
    output: Path
    picture: Path
    bias: str
    scores: tuple[Score, ...]


def run_demo(
    folder: Path,
    *,
    days: int,
    members: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> DemoResult:
    """Write `demo_input.nc`, `demo_output.nc` and `demo.png` into a folder.

    Raises:
        PriorError: the bundled prior is not there or damaged.
        OutputError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prior, time = load_prior(PRIOR), _days(days)
    truth = draw_truth(prior, time, seed=seed)
    source, output = folder / "demo_input.nc", folder / "demo_output.nc"
    grid, coarse = write_pseudo_gcm(source, prior, time, truth)
    config = RunConfig(members=members, seed=seed + 1, options={"steps": _STEPS}, overwrite=True)
    pipeline.downscale(
        [source],
        output,
        prior=prior,
        config=config,
        command=_command(source, output, config),
        progress=progress,
    )
    ensembles = _read_members(output, prior)
    picture = folder / "demo.png"
    _draw(picture, prior, grid, coarse, ensembles, truth)
    return DemoResult(
        input=source,
        output=output,
        picture=picture,
        bias=f"the truth averaged to {_SPACING} degrees, {_TAS_BIAS:+.1f} K, "
        f"precipitation x {_PR_BIAS}",
        scores=_score(prior, grid, coarse, ensembles, truth),
    )


def _days(count: int) -> cf.TimeAxis:
    """The first days of a winter."""
    dates = [cftime.datetime(2050, 1, 1 + day, calendar="360_day") for day in range(count)]
    return cf.time_axis(dates, units="days since 1850-01-01", bounded=True)


def _command(source: Path, output: Path, config: RunConfig) -> str:
    """The same run as a user would type it."""
    return (
        f"climdown run --method zssd {source.name} {output.name} --prior {PRIOR} "
        f"--members {config.members} --seed {config.seed} --steps {_STEPS} --overwrite"
    )


def draw_truth(prior: Prior, time: cf.TimeAxis, *, seed: int) -> dict[str, Float64]:
    """Draw fields from the prior alone, in its units; shape (time, ny, nx), NaN off the mask."""
    card = prior.card
    keys = tuple((0, date.isoformat()) for date in time.dates)
    shape = (len(card.variables), *card.grid.shape)
    noise = KeyedNoise(seed, keys, shape, torch.device("cpu"))
    calendar = torch.from_numpy(cf.calendar_conditions(time.dates, card.step_days))
    sigmas = schedule.karras_sigmas(
        2 * _STEPS, sigma_min=card.sampling.sigma_min, sigma_max=card.sampling.sigma_max
    )
    with torch.no_grad():
        z = solvers.sample(prior.denoiser().bind(calendar), noise, sigmas, eta=1.0)
    fields = {}
    for i, variable in enumerate(card.variables):
        values = prior.transforms[variable.name].inverse(z[:, i].numpy().astype(np.float64))
        if variable.minimum is not None:
            values = np.maximum(values, variable.minimum)
        fields[variable.name] = np.where(prior.mask[i], values, np.nan)
    return fields


def write_pseudo_gcm(
    path: Path, prior: Prior, time: cf.TimeAxis, truth: dict[str, Float64]
) -> tuple[Grid, dict[str, Float64]]:
    """Coarsen and bias the truth, and write it as a CMIP model would: K and kg m-2 s-1.

    Returns:
        the coarse grid and the fields in the prior's units, shape (time, ny, nx).
    """
    grid, coarse = _biased_copy(prior, truth)
    variables = []
    for variable in prior.card.variables:
        named = {**_CMIP[variable.name], "long_name": variable.long_name}
        values = cf.convert_units(coarse[variable.name], variable.units, named["units"])
        output = stream.OutputVariable(variable.name, {**named, "cell_methods": "time: mean"})
        variables.append((output, values.astype(np.float32)))
    stream.write_fields(path, grid=grid, time=time, variables=variables, attributes=_ATTRIBUTES)
    return grid, coarse


def _biased_copy(prior: Prior, truth: dict[str, Float64]) -> tuple[Grid, dict[str, Float64]]:
    """The truth averaged over cells of a climate model, and biased."""
    fine = prior.card.grid
    south, west = fine.lat_edges[0] - 0.3, fine.lon_edges[0] - 0.5
    north, east = fine.lat_edges[-1] + 0.3, fine.lon_edges[-1] + 0.5
    grid = Grid.regular(south, north, west, east, _SPACING)
    weights = regrid.weights(fine, grid, "conservative")
    coarse = {name: weights.apply(values).astype(np.float64) for name, values in truth.items()}
    coarse["tas"] = coarse["tas"] + _TAS_BIAS
    coarse["pr"] = coarse["pr"] * _PR_BIAS
    return grid, coarse


def _read_members(path: Path, prior: Prior) -> dict[str, Float64]:
    """The ensemble in the prior's units, shape (time, member, ny, nx)."""
    ensembles = {}
    with Dataset(path) as file:
        for variable in prior.card.variables:
            stored = file[variable.name]
            values = np.ma.filled(stored[:].astype(np.float64), np.nan)
            ensembles[variable.name] = cf.convert_units(values, stored.units, variable.units)
    return ensembles


def _bilinear(prior: Prior, grid: Grid, coarse: dict[str, Float64], name: str) -> Float64:
    weights = regrid.weights(grid, prior.card.grid, "bilinear")
    return np.asarray(weights.apply(coarse[name]), dtype=np.float64)


def _score(
    prior: Prior,
    grid: Grid,
    coarse: dict[str, Float64],
    ensembles: dict[str, Float64],
    truth: dict[str, Float64],
) -> tuple[Score, ...]:
    areas = prior.card.grid.areas
    rows = []
    for variable in prior.card.variables:
        name = variable.name
        target, ensemble = truth[name], ensembles[name]
        plain = _bilinear(prior, grid, coarse, name)
        label = f"{name} ({variable.units})"
        plain_error = scores.mean_absolute_error(plain, target, areas)
        mean_error = scores.mean_absolute_error(ensemble.mean(axis=1), target, areas)
        crps = scores.fair_crps(ensemble, target, areas)
        rows.append(Score(label, "mean absolute error", plain_error, mean_error))
        # For a single forecast the CRPS is the absolute error.
        rows.append(Score(label, "CRPS (fair)", plain_error, crps))
    return tuple(rows)


def _draw(
    path: Path,
    prior: Prior,
    grid: Grid,
    coarse: dict[str, Float64],
    ensembles: dict[str, Float64],
    truth: dict[str, Float64],
) -> None:
    fine = prior.card.grid
    rows = []
    day = int(np.nanargmax([np.nanmean(field) for field in truth["pr"]]))
    for variable, colours in zip(prior.card.variables, ("RdYlBu_r", "YlGnBu"), strict=True):
        name, unit = variable.name, variable.units
        ensemble = ensembles[name][day]
        rows.append(
            [
                Panel(f"input {name} ({unit})", grid, coarse[name][day], "values", colours),
                Panel("member 1", fine, ensemble[0], "values", colours),
                Panel("ensemble mean", fine, ensemble.mean(axis=0), "values", colours),
                Panel("spread", fine, ensemble.std(axis=0, ddof=1), "spread", "magma"),
                Panel("hidden truth", fine, truth[name][day], "values", colours),
            ]
        )
    draw_panels(rows, path, title="climdown demo: one winter day over Iberia")
