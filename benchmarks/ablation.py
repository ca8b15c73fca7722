"""Why the misfit is measured on the fine grid: gradients with and without A_high.

    python benchmarks/ablation.py --data DIR [--fields 4] [--steps 100] [--output ablation.png]

Repeats Fig. 5b of ZSSD (arXiv 2601.21760) on the bundled prior of Iberia: validation days averaged
over blocks of 5, 10 and 20 cells guide the reference sampler, and at each of its steps the norm of
the gradient is taken by x of half the squared misfit, through the network, once with A_high and
once on the coarse grid. Both are taken at the same x, on the way of the guided sampler. DIR holds
the files that its training configuration names. Prints a Markdown table and draws the norms.

The scoreboard draws fields by the coarse misfit as `--methods zssd-coarse-loss:steps=100`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if __package__ in (None, ""):  # called as a script: the other modules lie beside it
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import running
from climdown import cf, regrid
from climdown.config import load_config
from climdown.diffusion import schedule, solvers
from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.guidance import misfit_gradient, misfit_guidance
from climdown.diffusion.noise import KeyedNoise
from climdown.diffusion.observation import CoarseObservation, latitude_weights
from climdown.diffusion.sampler import Noise, Observation
from climdown.methods.method import Method, Problem
from climdown.options import option
from climdown.pipeline.observer import make_operators
from climdown.priors.prior import Prior
from climdown.priors.store import load_prior

PRIOR = "eobs-iberia-zssd"
FACTORS = (5, 10, 20)
_COVERED = 0.5


@dataclass(frozen=True)
class CoarseLossOptions:
    """The options of the ablation, those of the reference of ZSSD."""

    steps: int | None = option(None, "Network evaluations per field.", default_text="1000")
    guidance_scale: float | None = option(None, "Pull to the input.", default_text="the prior's")


@dataclass(frozen=True)
class CoarseLoss:
    """The reference sampler of ZSSD with the misfit on the coarse grid, without A_high.

    Plain diffusion posterior sampling (Chung et al. 2023, arXiv 2209.14687), which the unified
    coordinates of ZSSD are compared with: the gradient vanishes at large factors.
    """

    steps: int
    guidance_scale: float

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        """Draw normalised fields, shape (batch, channels, ny, nx)."""
        guided = misfit_guidance(denoise, observation.coarse_residual, self.guidance_scale)
        return solvers.sample(guided, noise, schedule.ddpm_sigmas(self.steps), eta=1.0)


class CoarseLossMethod(Method):
    """`zssd-coarse-loss`, a method of the scoreboard alone."""

    name = "zssd-coarse-loss"
    summary = "Ablation of zssd: the misfit on the coarse grid."
    source = "arXiv:2209.14687"
    Options = CoarseLossOptions

    def decide(self, options: CoarseLossOptions, problem: Problem) -> dict[str, Any]:
        """See `Method`."""
        scale = options.guidance_scale
        default = problem.card.sampling.guidance_scale
        return {
            "steps": options.steps or 1000,
            "guidance_scale": default if scale is None else scale,
        }

    def sampler(self, decided: Mapping[str, Any], problem: Problem) -> CoarseLoss:
        """See `Method`."""
        del problem
        return CoarseLoss(decided["steps"], decided["guidance_scale"])


@dataclass(frozen=True)
class Norms:
    """Root mean squares of the gradients of a factor over cells and fields, by step."""

    factor: int
    sigmas: npt.NDArray[np.float64]
    fine: npt.NDArray[np.float64]
    coarse: npt.NDArray[np.float64]


def main() -> None:
    """Parse, run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--examples", type=Path, default=Path("examples"))
    parser.add_argument("--fields", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100, help="of the ladder of 1000")
    parser.add_argument("--output", type=Path, default=Path("ablation.png"))
    options = parser.parse_args()
    prior = load_prior(PRIOR)
    truth, dates = validation_fields(options.data, options.examples, options.fields)
    found = []
    for factor in FACTORS:
        observation = observe(prior, truth, factor)
        found.append(norms(prior, observation, dates, factor, options.steps))
    print_table(found)
    draw(found, options.output)


def validation_fields(
    data: Path, examples: Path, count: int
) -> tuple[dict[str, npt.NDArray[np.float64]], list[Any]]:
    """Days evenly spread over the validation period, by variable, and their dates."""
    config = load_config(examples / f"{PRIOR}.toml")
    truth = {}
    dates: list[Any] = []
    for variable in config.data.variables:
        field = running.open_truth(variable, data)
        part = field.time.select(config.data.validation)
        all_dates = field.time.dates[part]
        days = cf.evenly(np.arange(len(all_dates)), count)
        truth[variable.name] = field.read(part).astype(np.float64)[days]
        dates = list(all_dates[days])
    return truth, dates


def observe(
    prior: Prior, truth: dict[str, npt.NDArray[np.float64]], factor: int
) -> CoarseObservation:
    """Block means of all variables of the prior."""
    fine = prior.card.grid
    coarse_grid = fine.coarsen(factor)
    lower = regrid.weights(fine, coarse_grid, "conservative").apply
    channels = tuple(range(len(prior.card.variables)))
    operators = make_operators(prior, channels, coarse_grid, torch.device("cpu"))
    coarse, observed = [], []
    for variable, operator in zip(prior.card.variables, operators, strict=True):
        values = tensor(lower(truth[variable.name]))
        guiding = torch.isfinite(values) & (operator.covered >= _COVERED)
        coarse.append(values)
        observed.append(guiding.float())
    weights = latitude_weights(tensor(fine.areas))
    return CoarseObservation(operators, channels, tuple(coarse), tuple(observed), weights)


def norms(
    prior: Prior, observation: CoarseObservation, dates: list[Any], factor: int, steps: int
) -> Norms:
    """Walk down the ladder, guided on the fine grid, and take both gradients at each step."""
    scale = prior.card.sampling.guidance_scale
    calendar = torch.from_numpy(cf.calendar_conditions(dates, prior.card.step_days))
    denoise: Denoise = prior.denoiser().bind(calendar)
    shape = prior.mask.shape
    keys = tuple((1, date.isoformat()) for date in dates)
    found: list[tuple[float, float, float]] = []

    def guided(x: Tensor, sigma: float) -> Tensor:
        denoised, fine = misfit_gradient(denoise, observation.residual, x, sigma)
        _, coarse = misfit_gradient(denoise, observation.coarse_residual, x, sigma)
        found.append((sigma, rms(fine), rms(coarse)))
        return denoised - scale * fine

    noise = KeyedNoise(0, keys, shape, torch.device("cpu"))
    solvers.sample(guided, noise, schedule.ddpm_sigmas(steps))
    columns = np.array(found)
    return Norms(factor, columns[:, 0], columns[:, 1], columns[:, 2])


def rms(gradient: Tensor) -> float:
    """Root mean square over cells, variables and fields."""
    return float(gradient.square().mean().sqrt())


def print_table(found: list[Norms]) -> None:
    """Markdown: medians over the steps below sigma 1, where fields take shape."""
    print("| factor | with A_high | without | ratio |")
    print("|---|---|---|---|")
    for one in found:
        late = one.sigmas < 1.0
        fine, coarse = np.median(one.fine[late]), np.median(one.coarse[late])
        print(f"| {one.factor} | {fine:.3g} | {coarse:.3g} | {fine / coarse:.1f} |")


def draw(found: list[Norms], path: Path) -> None:
    """Norms by step of the reverse process."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for index, one in enumerate(found):
        colour = f"C{index}"
        axes.semilogy(one.fine, color=colour, label=f"x{one.factor}, with A_high")
        axes.semilogy(one.coarse, color=colour, linestyle="--", label=f"x{one.factor}, without")
    axes.set_xlabel("step of the reverse process")
    axes.set_ylabel("gradient of the misfit, root mean square")
    figure.legend(loc="outside lower center", fontsize="small", ncols=len(found))
    figure.savefig(path, dpi=120)


def tensor(values: npt.NDArray[np.generic]) -> Tensor:
    """float32."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


if __name__ == "__main__":
    main()
