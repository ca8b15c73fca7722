"""Judge a prior: unguided samples against days that it was not trained on.

    python benchmarks/priors.py PRIOR --data DIR [--config TOML] [--montage PNG] [--json FILE]

DIR holds the files that the training configuration TOML names. Prints Markdown for the prior's
card: loss by noise level on every validation day (diffusion); climate, spectra and correlation
of samples beside validation days, with the training days' distance from these as the floor that
weather sets; and nearest neighbours, which tell whether samples repeat training days.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from climdown import cf, training
from climdown.arrays import Floats
from climdown.config import load_config
from climdown.diffusion import consistency
from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.losses import edm_loss
from climdown.diffusion.noise import KeyedNoise
from climdown.diffusion.schedule import karras_sigmas
from climdown.diffusion.solvers import sample_fast
from climdown.evaluation.unpaired import (
    Comparison,
    Neighbours,
    Row,
    climate_rows,
    correlation_row,
    neighbour_rows,
    spectral_rows,
)
from climdown.plots import maps
from climdown.priors.card import Card
from climdown.priors.prior import Prior
from climdown.priors.store import load_prior
from climdown.transforms import Chain

LEVELS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
BATCH = 16
RAIN = {"precipitation_flux", "lwe_precipitation_rate", "rainfall_flux"}


def main(words: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    options = arguments(words)
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    prior = load_prior(options.prior)
    card = prior.card
    config = load_config(options.config or Path("examples") / f"{card.name}.toml")
    dataset = training.prepare(config, options.data)
    check_match(card, dataset.card)
    train, _ = physical(prior, dataset, dataset.train)
    validation, calendar = physical(prior, dataset, dataset.validation)

    count = options.samples or len(validation)
    steps = options.steps or (1 if is_consistency(card) else 20)
    least = card.sigma_min if is_consistency(card) else card.sampling.sigma_min
    low, high = options.sigma_min or least, options.sigma_max or card.sampling.sigma_max
    # Evenly over the validation days, so that its months weigh alike.
    day = np.arange(count) * len(validation) // count
    keys = [(i, f"day {d}") for i, d in enumerate(day.tolist())]
    drawn = draw(prior, calendar[day], keys, steps, device, eta=options.eta, sigmas=(low, high))
    samples = to_output(prior, drawn)

    losses = {} if is_consistency(card) else loss_by_level(prior, validation, calendar, device)
    rows = compare(prior, validation, samples, train)
    neighbours = neighbour_rows(*(normalise(prior, x) for x in (validation, samples, train)))
    solver = "" if is_consistency(card) else f", eta {options.eta:g}"
    heading = (
        f"{card.name} {prior.digest[:12]}: {count} samples ({steps} steps from sigma {high:g} to "
        f"{low:g}{solver}), {len(validation)} validation days ({config.data.validation}), "
        f"{len(train)} training days"
    )
    print_tables(heading, losses, rows, neighbours)
    if options.json:
        store(options.json, heading, losses, rows, neighbours)
    if options.montage:
        montage(card, samples, validation, options.montage, options.blind)


def store(
    path: Path,
    heading: str,
    losses: dict[float, float],
    rows: Sequence[Row],
    neighbours: Sequence[Neighbours],
) -> None:
    """The tables as JSON."""
    results = {
        "heading": heading,
        "loss": losses,
        "rows": [asdict(row) for row in rows],
        "neighbours": [asdict(entry) for entry in neighbours],
    }
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("prior")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="[default: examples/NAME.toml]")
    parser.add_argument("--samples", type=int, help="[default: as many as validation days]")
    parser.add_argument("--steps", type=int, help="[default: 20; 1 for a consistency prior]")
    parser.add_argument("--eta", type=float, default=1.0, help="1 SDE, 0 ODE")
    parser.add_argument("--sigma-min", type=float, help="[default: the card's]")
    parser.add_argument("--sigma-max", type=float, help="[default: the card's]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="also store the numbers here")
    parser.add_argument("--montage", type=Path, help="draw samples beside real days")
    parser.add_argument("--blind", type=int, help="seed that shuffles the montage, unlabelled")
    return parser.parse_args(words)


def is_consistency(card: Card) -> bool:
    """Whether one evaluation of the network gives a sample."""
    return card.kind == "consistency"


def check_match(ours: Card, theirs: Card) -> None:
    """Raise ValueError unless the data have the prior's variables and grid."""
    trained, configured = (
        f"{', '.join(v.name for v in card.variables)} on {card.grid.describe()}"
        for card in (ours, theirs)
    )
    if trained != configured:
        raise ValueError(f"the configuration has {configured}; the prior has {trained}")


def physical(
    prior: Prior, dataset: training.Dataset, part: training.Samples
) -> tuple[Floats, Tensor]:
    """Values in the card's units, (n, variables, ny, nx), NaN where missing; the calendar."""
    z, valid, calendar = part.take(torch.arange(len(part)), torch.device("cpu"))
    fields = {name: np.asarray(values, np.float64) for name, values in dataset.fields.items()}
    chains = [Chain.from_list(v.transform, fields) for v in dataset.card.variables]
    values = np.stack([c.inverse(z[:, i].double().numpy()) for i, c in enumerate(chains)], axis=1)
    return np.where((valid.numpy() > 0) & prior.mask, values, np.nan), calendar


def to_output(prior: Prior, z: Tensor) -> Floats:
    """Drawn fields as `climdown run` would write them, NaN outside the mask."""
    parts = []
    for i, variable in enumerate(prior.card.variables):
        values = prior.transforms[variable.name].inverse(z[:, i].double().cpu().numpy())
        if variable.minimum is not None:
            values = np.maximum(values, variable.minimum)
            values = np.where(values < (variable.trace or -np.inf), variable.minimum, values)
        parts.append(np.where(prior.mask[i], values, np.nan))
    return np.stack(parts, axis=1)


def normalise(prior: Prior, values: Floats) -> Floats:
    """Physical to the prior's normalised units."""
    chains = [prior.transforms[v.name] for v in prior.card.variables]
    return np.stack([c.forward(values[:, i]) for i, c in enumerate(chains)], axis=1)


def draw(
    prior: Prior,
    calendar: Tensor,
    keys: Sequence[tuple[int, str]],
    steps: int,
    device: torch.device,
    *,
    eta: float,
    sigmas: tuple[float, float],
) -> Tensor:
    """Samples in normalised units, shape (n, variables, ny, nx).

    Args:
        calendar: conditions of each sample, shape (n, 3).
        keys: of each sample's noise.
        eta: of the diffusion solver.
        sigmas: smallest and largest noise level.
    """
    denoiser = prior.denoiser(device)
    drawn = []
    for start in range(0, len(keys), BATCH):
        part = slice(start, start + BATCH)
        noise = KeyedNoise(0, tuple(keys[part]), prior.mask.shape, device)
        denoise = denoiser.bind(calendar[part].to(device))
        with torch.inference_mode():
            if is_consistency(prior.card):
                drawn.append(draw_consistently(denoise, noise, steps, *sigmas))
            else:
                ladder = karras_sigmas(steps, sigma_min=sigmas[0], sigma_max=sigmas[1])
                drawn.append(sample_fast(denoise, noise, ladder, eta=eta))
    return torch.cat(drawn).cpu()


def draw_consistently(
    denoise: Denoise, noise: KeyedNoise, steps: int, low: float, high: float
) -> Tensor:
    """Consistency sampling in evenly chosen steps."""
    # At the lowest level the function is the identity: a step there would change nothing.
    levels = karras_sigmas(steps + 1, sigma_min=low, sigma_max=high)[:steps]
    return consistency.sample(denoise, noise, levels, sigma_min=low)


@torch.inference_mode()
def loss_by_level(
    prior: Prior, days: Floats, calendar: Tensor, device: torch.device
) -> dict[float, float]:
    """Mean training loss over all days by noise level, one draw of noise for each."""
    denoiser = prior.denoiser(device)
    z = torch.from_numpy(normalise(prior, days)).float()
    x0, valid = z.nan_to_num().to(device), torch.isfinite(z).float().to(device)
    calendar = calendar.to(device)
    losses = {}
    for level in LEVELS:
        total = 0.0
        for start in range(0, len(z), BATCH):
            part = slice(start, min(start + BATCH, len(z)))
            keys = tuple((0, f"loss {i}") for i in range(part.start, part.stop))
            noise = KeyedNoise(0, keys, prior.mask.shape, device)(round(1000 * level))
            sigma = torch.full((len(keys),), level, device=device)
            loss = edm_loss(denoiser, x0[part], valid[part], calendar[part], sigma, noise)
            total += float(loss.sum())
        losses[level] = total / len(z)
    return losses


def compare(prior: Prior, validation: Floats, samples: Floats, train: Floats) -> list[Row]:
    """Climate and spectra of each variable, correlation of each pair."""
    grid, variables = prior.card.grid, prior.card.variables

    def of_variable(i: int, *parts: Floats) -> Comparison:
        return Comparison(*(part[:, i] for part in parts))

    rows: list[Row] = []
    for i, variable in enumerate(variables):
        days = of_variable(i, validation, samples, train)
        rain = bool(set(variable.standard_names) & RAIN)
        wet = cf.convert_units(np.array(1.0), "mm day-1", variable.units) if rain else None
        label = f"{variable.name} ({variable.units})"
        rows += climate_rows(label, days, grid, wet=None if wet is None else float(wet))
        rows += spectral_rows(variable.name, days, grid)
    scaled = [normalise(prior, x) for x in (validation, samples, train)]
    for i, j in itertools.combinations(range(len(variables)), 2):
        label = f"{variables[i].name}, {variables[j].name}"
        rows.append(correlation_row(label, of_variable(i, *scaled), of_variable(j, *scaled), grid))
    return rows


def print_tables(
    heading: str,
    losses: dict[float, float],
    rows: Sequence[Row],
    neighbours: Sequence[Neighbours],
) -> None:
    """Markdown."""
    print(heading + "\n")
    if losses:
        print("| sigma |" + "".join(f" {level:g} |" for level in losses))
        print("|---|" + "---|" * len(losses))
        print("| loss |" + "".join(f" {loss:.4f} |" for loss in losses.values()) + "\n")
    print("| | | validation | samples | training | error of samples | of training days |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        field, measure, *numbers = astuple(row)
        cells = "".join(" |" if x is None else f" {x:.3f} |" for x in numbers)
        print(f"| {field} | {measure} |{cells}")
    print("\n| nearest neighbour, RMS in normalised units | least | 5th percentile | median |")
    print("|---|---|---|---|")
    for entry in neighbours:
        print(f"| {entry.title} | {entry.least:.3f} | {entry.low:.3f} | {entry.median:.3f} |")
    ratio = neighbours[0].median / neighbours[1].median
    print(f"\nSamples lie {ratio:.2f} times as far from training days as validation days do")
    print("(medians); a prior that repeats training days has far less than 1.")


def montage(card: Card, samples: Floats, validation: Floats, path: Path, blind: int | None) -> None:
    """Up to 16 samples beside 16 real days, both evenly from the season."""
    side = min(4, math.isqrt(min(len(samples), len(validation))))
    samples, validation = (x[np.arange(side**2) * len(x) // side**2] for x in (samples, validation))
    names = [v.name for v in card.variables]
    rain = {v.name: "YlGnBu" for v in card.variables if set(v.standard_names) & RAIN}
    key = maps.draw_montage(
        {name: samples[:, i] for i, name in enumerate(names)},
        {name: validation[:, i] for i, name in enumerate(names)},
        path,
        grid=card.grid,
        title=card.title,
        colours=dict.fromkeys(names, "RdYlBu_r") | rain,
        side=side,
        blind=blind,
    )
    if blind is not None:
        print("Samples in the montage:", " ".join(str(i) for i in np.flatnonzero(key)))


if __name__ == "__main__":
    main()
