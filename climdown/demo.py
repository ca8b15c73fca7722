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

from climdown import cf, pipeline, regrid, stream
from climdown.arrays import Float64
from climdown.config import RunConfig
from climdown.diffusion import schedule, solvers
from climdown.diffusion.noise import KeyedNoise
from climdown.evaluation.deliver import Wanted, evaluate_files
from climdown.evaluation.evaluate import Evaluation
from climdown.evaluation.request import Request
from climdown.grid import Grid
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
_TRUTH_ATTRIBUTES = {
    "Conventions": "CF-1.8",
    "title": "Hidden truth of the climdown demonstration",
    "source": "climdown demo: a draw from a prior",
    "frequency": "day",
}


@dataclass(frozen=True, eq=False)
class DemoResult:
    """Files of the demonstration, and what the evaluation says."""

    input: Path
    output: Path
    truth: Path
    report: Path
    bias: str
    evaluation: Evaluation


def run_demo(
    folder: Path,
    *,
    days: int,
    members: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> DemoResult:
    """Write the pseudo-GCM, the ensemble, the hidden truth and the report into a folder.

    Raises:
        PriorError: the bundled prior is not there or damaged.
        OutputError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prior, time = load_prior(PRIOR), _days(days)
    truth = draw_truth(prior, time, seed=seed)
    source, output = folder / "demo_input.nc", folder / "demo_output.nc"
    hidden, report = folder / "demo_truth.nc", folder / "demo_report.html"
    write_pseudo_gcm(source, prior, time, truth)
    _write(hidden, prior.card.grid, prior, time, truth, _TRUTH_ATTRIBUTES)
    config = RunConfig(members=members, seed=seed + 1, options={"steps": _STEPS}, overwrite=True)
    pipeline.downscale(
        [source],
        output,
        prior=prior,
        config=config,
        command=_command(source, output, config),
        progress=progress,
    )
    return DemoResult(
        input=source,
        output=output,
        truth=hidden,
        report=report,
        bias=f"the truth averaged to {_SPACING} degrees, {_TAS_BIAS:+.1f} K, "
        f"precipitation x {_PR_BIAS}",
        evaluation=_judge(source, output, hidden, report),
    )


def _judge(source: Path, output: Path, truth: Path, report: Path) -> Evaluation:
    """Evaluate as a user would; interpolation of the input is what there is to beat."""
    request = Request(
        outputs={"climdown": (str(output),)},
        reference=(str(truth),),
        input=(str(source),),
        pairing="paired",
        overwrite=True,
    )
    command = (
        f"climdown evaluate climdown={output.name} --reference {truth.name} --input {source.name} "
        f"--paired --report {report.name}"
    )
    result = evaluate_files(request, Wanted(report=report), command=command)
    assert result is not None  # no other process shares the work
    return result[0]


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
    calendar = torch.from_numpy(cf.calendar_conditions(time.centres, card.step_days))
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
) -> None:
    """Coarsen and bias the truth, and write it as a CMIP model would: K and kg m-2 s-1."""
    grid, coarse = _biased_copy(prior, truth)
    _write(path, grid, prior, time, coarse, _ATTRIBUTES)


def _write(
    path: Path,
    grid: Grid,
    prior: Prior,
    time: cf.TimeAxis,
    fields: dict[str, Float64],
    attributes: dict[str, str],
) -> None:
    """Fields in the prior's units as a file with the names and units of CMIP."""
    variables = []
    for variable in prior.card.variables:
        named = {**_CMIP[variable.name], "long_name": variable.long_name}
        values = cf.convert_units(fields[variable.name], variable.units, named["units"])
        output = stream.OutputVariable(variable.name, {**named, "cell_methods": "time: mean"})
        variables.append((output, values.astype(np.float32)))
    stream.write_fields(path, grid=grid, time=time, variables=variables, attributes=attributes)


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
