"""A supervised reference: a U-Net that learns from pairs what the priors' methods do without them.

    python benchmarks/supervised.py --data DIR --output FOLDER [--only iberia-x5] [--minutes 10]

For each case of part a a network of the prior's size is trained with an L1 loss on the prior's
training days: from fields averaged over blocks of cells and interpolated back (with the
climatology's fine pattern, the baseline "delta"), orography, land and climatology to the observed
field, in the prior's normalised units. As of the priors, the weights kept are those that did best
on the validation days. FOLDER gets its fields of these days, for `scoreboard --supervised FOLDER`.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

if __package__ in (None, ""):  # called as a script: the other modules lie beside it
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import paired, running
from benchmarks.paired import CASES, Case
from climdown import cf
from climdown.arrays import Floats
from climdown.config import VariableConfig
from climdown.diffusion.unet import UNet
from climdown.priors.build import build_network
from climdown.priors.prior import Prior
from climdown.priors.store import load_prior

BATCH = 16
RATE = 1e-3
# Of the length of training.
WARMUP, CHECKS = 0.05, 40


@dataclass(frozen=True, eq=False)
class Pairs:
    """Days in normalised units, shape (n, variables, ny, nx), zero where missing.

    Attributes:
        baseline: what the network corrects.
        valid: 1 where truth and baseline have values.
        calendar: shape (n, 3).
    """

    baseline: Tensor
    truth: Tensor
    valid: Tensor
    calendar: Tensor

    def take(self, index: Tensor) -> Pairs:
        return Pairs(
            self.baseline[index], self.truth[index], self.valid[index], self.calendar[index]
        )


def main(words: Sequence[str] | None = None) -> None:
    """Parse, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--examples", type=Path, default=Path("examples"))
    parser.add_argument("--only", help="cases, by commas [default: all]")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each case")
    parser.add_argument("--steps", type=int, help="at most so many")
    parser.add_argument("--judged", type=Path, help="data of the days to write [default: --data]")
    parser.add_argument("--period", help="of these days [default: validation]")
    options = parser.parse_args(words)
    options.output.mkdir(parents=True, exist_ok=True)
    wanted = options.only.split(",") if options.only else [case.name for case in CASES]
    for case in (case for case in CASES if case.name in wanted):
        run(case, options)


def run(case: Case, options: argparse.Namespace) -> None:
    """Train on the case's training days, and write the fields of the days held out."""
    config = case.config(options.examples)
    priors = [load_prior(name) for name in case.priors.values()]
    prior, variables = priors[0], config.data.variables

    def days(data: Path, period: str | None) -> tuple[cf.TimeAxis, Pairs]:
        axis, truth = paired.truth_days(config, data, period, None)
        return axis, pairs(prior, axis, baseline(case, priors, variables, truth), truth)

    _, learned = days(options.data, config.data.train)
    _, chosen = days(options.data, config.data.validation)
    axis, judged = days(options.judged or options.data, options.period)
    static = torch.from_numpy(np.stack([prior.fields[name] for name in prior.card.statics]))
    torch.manual_seed(0)
    network = build_network(prior.card, inputs=len(variables), periodic=prior.card.grid.periodic)
    steps = 0
    begun = time.monotonic()
    for steps, score in fit(network, static, learned, chosen, options.minutes, options.steps):
        print(f"{case.name}: step {steps}, validation loss {score:.4f}", flush=True)
    trained = time.monotonic() - begun
    begun = time.monotonic()
    predicted = predict(network, static, judged)
    seconds = (time.monotonic() - begun) / len(axis)
    values = predicted.double().numpy()
    fields = {v.name: decoded(prior, i, values[:, i]) for i, v in enumerate(variables)}
    running.write_fields(
        paired.supervised_file(options.output, case.name),
        prior.card.grid,
        axis,
        variables,
        fields,
        attributes={"seconds_per_field": seconds, "training_seconds": trained, "steps": steps},
    )
    print(f"{case.name}: {steps} steps in {trained:.0f} s, {seconds:.4f} s per field")


def baseline(
    case: Case,
    priors: Sequence[Prior],
    variables: Sequence[VariableConfig],
    truth: dict[str, Floats],
) -> dict[str, Floats]:
    """What is known of each day at the coarse scale, brought to the fine grid."""
    fine = priors[0].card.grid
    grid = fine.coarsen(case.factor)
    fields = {}
    for v in variables:
        coarse = running.coarsened(truth[v.name], fine, grid)
        mean = running.climatology(v.name, priors)
        fields[v.name] = running.delta(v, coarse, grid, fine, mean)
    return fields


def pairs(
    prior: Prior, axis: cf.TimeAxis, baseline: dict[str, Floats], truth: dict[str, Floats]
) -> Pairs:
    """Days as tensors."""

    def normalised(fields: dict[str, Floats]) -> Floats:
        names = [v.name for v in prior.card.variables]
        z = np.stack([prior.transforms[n].forward(fields[n]) for n in names], axis=1)
        return np.where(prior.mask, z, np.nan)

    x, y = normalised(baseline), normalised(truth)
    valid = np.isfinite(x) & np.isfinite(y)
    calendar = cf.calendar_conditions(axis.dates, prior.card.step_days)
    return Pairs(
        baseline=torch.from_numpy(np.nan_to_num(x)).float(),
        truth=torch.from_numpy(np.nan_to_num(y)).float(),
        valid=torch.from_numpy(valid).float(),
        calendar=torch.from_numpy(calendar),
    )


def decoded(prior: Prior, channel: int, z: Floats) -> Floats:
    """Fields in the prior's units, as `climdown run` would write them."""
    variable = prior.card.variables[channel]
    values = prior.transforms[variable.name].inverse(z)
    if variable.minimum is not None:
        values = np.maximum(values, variable.minimum)
        values = np.where(values < (variable.trace or -np.inf), variable.minimum, values)
    return np.where(prior.mask[channel], values, np.nan)


def corrected(network: UNet, static: Tensor, days: Pairs) -> Tensor:
    """The baseline with the network's correction; its noise level has no meaning here."""
    level = torch.zeros(len(days.baseline))
    correction: Tensor = network(days.baseline, level, static, days.calendar)
    return days.baseline + correction


def loss_of(network: UNet, static: Tensor, days: Pairs) -> Tensor:
    """Mean absolute error over the known cells of all variables, normalised."""
    error = (corrected(network, static, days) - days.truth).abs() * days.valid
    return error.sum() / days.valid.sum()


def fit(
    network: UNet,
    static: Tensor,
    learned: Pairs,
    chosen: Pairs,
    minutes: float,
    most: int | None,
) -> Iterator[tuple[int, float]]:
    """Train with Adam and a cosine schedule, and end with the weights that were best.

    Yields:
        the step and the validation loss, `CHECKS` times in all.
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(0)
    begun, step, done, checked = time.monotonic(), 0, 0.0, 0
    best, best_weights = math.inf, {k: v.clone() for k, v in network.state_dict().items()}
    while done < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(
                1.0, done / WARMUP + 0.01, 0.5 * (1 + math.cos(math.pi * done))
            )
        index = torch.randint(len(learned.baseline), (BATCH,), generator=generator)
        network.train()
        loss = loss_of(network, static, learned.take(index))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        done = max((time.monotonic() - begun) / (60.0 * minutes), step / most if most else 0.0)
        if done >= (checked + 1) / CHECKS:
            checked = int(done * CHECKS)
            score = validate(network, static, chosen)
            if score < best:
                best, best_weights = score, {k: v.clone() for k, v in network.state_dict().items()}
            yield step, score
    network.load_state_dict(best_weights)


@torch.inference_mode()
def validate(network: UNet, static: Tensor, days: Pairs) -> float:
    """The loss over all days."""
    network.eval()
    total = sum(float(loss_of(network, static, part) * part.valid.sum()) for part in batches(days))
    return total / float(days.valid.sum())


@torch.inference_mode()
def predict(network: UNet, static: Tensor, days: Pairs) -> Tensor:
    """Fields of all days, normalised, shape (n, variables, ny, nx)."""
    network.eval()
    return torch.cat([corrected(network, static, part) for part in batches(days)])


def batches(days: Pairs) -> Iterator[Pairs]:
    """All days in order."""
    for start in range(0, len(days.baseline), BATCH):
        yield days.take(torch.arange(start, min(start + BATCH, len(days.baseline))))


if __name__ == "__main__":
    main()
