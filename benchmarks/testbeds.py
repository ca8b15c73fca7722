"""The test problems of Wan et al. 2023 (arXiv 2305.15618), beside the numbers of their paper.

    python benchmarks/testbeds.py [--problem ks|ns] [--size small|paper] [--cache DIR]
        [--json FILE] [--device cpu] [--shifts] [options that replace those of the size]

Two tables, of four distances from the truth each. On the coarse grid: the biased model before
and after optimal transport. On the fine grid: fields drawn given the coarse ones, p(x | C' x),
by a denoiser trained here. Transport and denoiser learn from the first half of the trajectories;
judged is the second half, on truth that neither has seen. "Half of truth" is the distance
between both halves of the truth: what sampling alone makes of it. The paper names 512
trajectories to time 4025 for `ks`; for `ns` a truth of 256 points a side, with Reynolds number
1000. A coarser truth is given a viscosity that its grid resolves, 0.256 / points.

With `--symmetries` the transport knows what the equations cannot tell apart, shifts and mirror
images; and a third table compares samples with all such images on both sides, so that the
place where a field was caught is no source of error.

Simulations, and the denoiser while it trains, are kept in `--cache` and used again.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.wan2023 import (
    Sampling,
    Solver,
    invariant,
    keep_every,
    kuramoto_sivashinsky,
    navier_stokes,
    shift_randomly,
)
from benchmarks.wan2023 import simulate as simulated
from benchmarks.wan2023.conditional import FinePrior, KeptPoints, Recipe, Training
from benchmarks.wan2023.network import PeriodicNetwork
from benchmarks.wan2023.sample_distances import (
    covariance_rmse,
    kld_of_marginals,
    mean_energy_log_ratio,
)
from climdown.bias import transport
from climdown.diffusion.unet import UNet

# Fine spectra of `ks` fall by sixteen orders of magnitude: compared are the wavenumbers with
# more than a millionth of the energy each.
LEAST = 1e-6
# Covariances and marginals of larger grids are those of every so many-th point.
MOST_POINTS = 4096
Distance = Callable[[Tensor, Tensor], float]
DISTANCES: dict[str, Distance] = {
    "covRMSE": lambda a, b: covariance_rmse(_thinned(a), _thinned(b)),
    "MELR": lambda a, b: mean_energy_log_ratio(a, b, least=LEAST),
    "MELR weighted": lambda a, b: mean_energy_log_ratio(a, b, weighted=True),
    "KLD": lambda a, b: kld_of_marginals(_thinned(a), _thinned(b)),
}
PAPER = {
    ("ks", 8): {"raw": (0.343, 0.201, 0.144, 1.464), "OT": (0.081, 0.020, 0.020, 0.018)},
    ("ns", 8): {"raw": (0.458, 1.254, 0.196, 29.30), "OT": (0.083, 0.013, 0.026, 0.033)},
    ("ns", 16): {"raw": (0.477, 0.600, 0.200, 12.26), "OT": (0.079, 0.016, 0.025, 0.017)},
}
# A fraction of the mean squared distance. The 0.01 good for climate fields averages too many
# fields of chaos: MELR 0.14 instead of 0.02 after transport.
EPSILON = 1e-3
TOLERANCE = 1e-2
SAVE_EVERY = 100


@dataclass(frozen=True)
class Size:
    """How much of everything; the options of the same names replace single ones."""

    trajectories: int
    time: float
    points: int
    max_points: int
    steps: int
    draws: int


SIZES = {
    ("ks", "small"): Size(128, 1025.0, 192, 3000, 1000, 512),
    ("ks", "paper"): Size(512, 4025.0, 192, 10000, 20000, 4096),
    ("ns", "small"): Size(64, 104.0, 32, 3000, 300, 64),
    ("ns", "paper"): Size(128, 1040.0, 256, 10000, 20000, 1024),
}


@dataclass(frozen=True)
class Problem:
    """Truth and model, how often to keep a point of either, and when to look."""

    truth: Solver
    model: Solver
    truth_factor: int
    model_factor: int
    dimensions: int
    sampling: Sampling
    images: invariant.Images


@dataclass(frozen=True)
class Halves:
    """Fine truth and coarse model (n, *grid): to learn from, and to judge."""

    truth: tuple[Tensor, Tensor]
    model: tuple[Tensor, Tensor]


Table = dict[str, dict[str, float]]


def main() -> None:
    """Parse, run, print, and store."""
    options = parsed()
    factor = options.factor if options.problem == "ns" else 8
    problem = problem_of(options.problem, options.time, options.points, factor)
    machine = device_name(options.device)
    print(f"{options.problem} {factor}x, size {options.size}, on {machine}", flush=True)
    fields = halves(problem, options)
    truth = [keep_every(x, factor, problem.dimensions) for x in fields.truth]
    raw = fields.model[1]
    images = problem.images if options.symmetries else None
    moved = transported(fields.model[0], truth[0], raw, options, images)
    print(f"\ncoarse, {tuple(raw.shape[1:])}: {len(raw)} fields against {len(truth[1])}")
    rows = {"raw": raw, "OT": moved, "half of truth": truth[0]}
    paper = PAPER.get((options.problem, factor), {})
    coarse = table(rows, truth[1], paper)
    turned: Table = {}
    if images is not None:
        print("\nthe same, with all images of each")
        every = {name: images(x).flatten(0, 1) for name, x in rows.items()}
        turned = table(every, images(truth[1]).flatten(0, 1), paper)
    fine: Table = {}
    if options.steps:
        coarse_fields = {"raw": raw, "OT": moved, "C' x": truth[1]}
        fine = fine_table(fields.truth, coarse_fields, problem, options, factor)
    if options.json:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
        results = {"settings": settings, "machine": machine, "coarse": coarse, "fine": fine}
        results |= {"coarse, all images": turned} if turned else {}
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def fine_table(
    truth: tuple[Tensor, Tensor],
    coarse: dict[str, Tensor],
    problem: Problem,
    options: argparse.Namespace,
    factor: int,
) -> Table:
    """Fine fields drawn under coarse ones, against the second half of the truth; printed.

    Args:
        truth: its two halves; the denoiser learns from the first.
        coarse: samples to draw under, of one length.
        factor: from the fine grid to the coarse one.
    """
    prior = learnt(truth[0], problem, options)
    count = len(coarse["raw"])
    chosen = torch.linspace(0, count - 1, min(options.draws, count)).long()
    drawn = downscaled(prior, coarse, chosen, options, factor)
    drawn["half of truth"] = truth[0]
    print(
        f"\nfine, {tuple(truth[1].shape[1:])}: {len(chosen)} draws against {len(truth[1])} fields"
    )
    return table(drawn, truth[1], {})


def parsed() -> argparse.Namespace:
    """The command line, what it leaves open taken from the size."""
    parser = argparse.ArgumentParser(description="Wan et al.'s test problems.")
    parser.add_argument("--problem", choices=["ks", "ns"], default="ks")
    parser.add_argument("--size", choices=["small", "paper"], default="small")
    parser.add_argument("--factor", type=int, default=8, help="of downscaling, ns alone")
    parser.add_argument("--trajectories", type=int)
    parser.add_argument("--time", type=float, help="of a trajectory, burn-in too")
    parser.add_argument("--points", type=int, help="of the truth's side, ns alone")
    parser.add_argument("--max-points", type=int, help="fields of each side to transport")
    parser.add_argument("--every", type=int, default=1, help="sample of a trajectory to take")
    parser.add_argument("--epsilon", type=float, default=EPSILON)
    parser.add_argument("--shifts", action="store_true", help="shift all fields at random in x")
    parser.add_argument(
        "--symmetries", action="store_true", help="transport to any image of a field"
    )
    parser.add_argument("--steps", type=int, help="of the denoiser's training; 0: coarse alone")
    parser.add_argument("--draws", type=int, help="fine fields of each row")
    parser.add_argument("--levels", type=int, default=64, help="of noise, to draw")
    parser.add_argument("--guidance", type=float, nargs="*", default=[6.0], help="alphas of Eq. 7")
    parser.add_argument("--cache", type=Path, help="folder of simulations and denoisers")
    parser.add_argument("--json", type=Path, help="where to store the tables")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, value in vars(SIZES[options.problem, options.size]).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def problem_of(name: str, until: float, points: int, factor: int) -> Problem:
    """The solvers and times of one of the test problems."""
    if name == "ks":
        truth, model = kuramoto_sivashinsky.Spectral(), kuramoto_sivashinsky.FiniteVolume()
        sampling = Sampling(25.0, 12.5, round((until - 25) / 12.5))
        return Problem(truth, model, 8, 2, 1, sampling, kuramoto_sivashinsky.images)
    # The stable step shrinks with the width; both divide the times below.
    truth_step = 1 / round(points * 250 / 256)
    flow = navier_stokes.Flow(viscosity=0.256 / points)
    fine = navier_stokes.Spectral(points, truth_step, flow)
    coarse = navier_stokes.FiniteVolume(points // 4, flow=flow)
    sampling = Sampling(40.0, 4.0, round((until - 40) / 4))
    return Problem(fine, coarse, factor, factor // 4, 2, sampling, navier_stokes.images)


def halves(problem: Problem, options: argparse.Namespace) -> Halves:
    """Fine truth and coarse model of the first and of the second half of the trajectories."""
    generator = torch.Generator().manual_seed(options.seed)
    half = options.trajectories // 2
    pairs = []
    for which in ("truth", "model"):
        fields = samples(problem, which, options)[:, :: options.every]
        parts = [x.flatten(0, 1) for x in (fields[:half], fields[half:])]
        if options.shifts:
            parts = [shift_randomly(x, generator) for x in parts]
        if which == "model":
            parts = [keep_every(x, problem.model_factor, problem.dimensions) for x in parts]
        pairs.append((parts[0], parts[1]))
    return Halves(*pairs)


def samples(problem: Problem, which: str, options: argparse.Namespace) -> Tensor:
    """Fields (trajectories, samples, *grid), from the cache or simulated."""
    solver, sampling = (problem.truth if which == "truth" else problem.model), problem.sampling
    name = f"{options.problem}-{which}-{options.points}-{options.trajectories}x{sampling.samples}"
    cache_file = options.cache / f"{name}-{options.seed}.npz" if options.cache else None
    begun = time.perf_counter()
    if cache_file and cache_file.exists():
        with np.load(cache_file) as stored:
            fields = torch.from_numpy(stored["fields"])
        print(f"{which}: {tuple(fields.shape)} from {cache_file}", flush=True)
        return fields.to(options.device)
    fields = simulated(
        solver,
        sampling,
        trajectories=options.trajectories,
        # Truth and model start apart: no day of the one belongs to a day of the other.
        generator=torch.Generator().manual_seed(2 * options.seed + (which == "model")),
        dtype=torch.float32,
        device=options.device,
    )
    print(f"{which}: {tuple(fields.shape)} in {time.perf_counter() - begun:.1f} s", flush=True)
    if cache_file:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache_file, fields=fields.cpu().numpy())
    return fields


def transported(
    source: Tensor,
    target: Tensor,
    new: Tensor,
    options: argparse.Namespace,
    images: invariant.Images | None,
) -> Tensor:
    """New fields moved by the entropic map between two samples, thinned to so many fields."""
    begun = time.perf_counter()
    thin = max(1, -(-len(source) // options.max_points))
    origin, aim = source[::thin], target[::thin]
    limits = {"epsilon": options.epsilon, "tolerance": TOLERANCE}
    fitted: transport.Transport | invariant.InvariantTransport
    if images is None:
        fitted = transport.fit(origin.flatten(1), aim.flatten(1), **limits)
        moved: Tensor = fitted(new.flatten(1)).reshape(new.shape)
    else:
        fitted = invariant.fit(origin, aim, images, **limits)
        moved = fitted(new)
    print(
        f"transport between {len(origin)} fields, epsilon {options.epsilon:g}: "
        f"{fitted.iterations} iterations, {time.perf_counter() - begun:.1f} s",
        flush=True,
    )
    return moved


def learnt(fine: Tensor, problem: Problem, options: argparse.Namespace) -> FinePrior:
    """A denoiser of the fine fields, trained here or as far as the cache has it."""
    torch.manual_seed(options.seed)
    network: nn.Module = PeriodicNetwork()
    if problem.dimensions == 2:
        network = UNet(variables=1, statics=0, channels=(32, 64, 64), periodic=True)
    training = Training(network, _channelled(fine), Recipe(steps=options.steps), seed=options.seed)
    name = f"{options.problem}-denoiser-{options.points}-{options.trajectories}x"
    # Whatever --shifts and --every: training shifts its fields itself, and takes some at a time.
    name += f"{problem.sampling.samples}-{options.steps}-{options.seed}.pt"
    cache_file = options.cache / name if options.cache else None
    if cache_file and cache_file.exists():
        training.resume(torch.load(cache_file, map_location=options.device, weights_only=True))
        print(f"denoiser: {training.done} steps from {cache_file}", flush=True)
    begun, loss = time.perf_counter(), 0.0
    while training.done < options.steps:
        loss += training.step()
        if training.done % SAVE_EVERY and training.done < options.steps:
            continue
        seconds = time.perf_counter() - begun
        mean = loss / ((training.done - 1) % SAVE_EVERY + 1)
        print(f"denoiser: step {training.done}, loss {mean:.4f}, {seconds:.0f} s", flush=True)
        loss = 0.0
        if cache_file:
            partial = cache_file.with_suffix(".part")
            torch.save(training.state(), partial)
            partial.replace(cache_file)
    return training.prior()


def downscaled(
    prior: FinePrior,
    coarse: dict[str, Tensor],
    chosen: Tensor,
    options: argparse.Namespace,
    factor: int,
) -> dict[str, Tensor]:
    """Fine fields given some of the coarse ones: interpolated, by Eq. 7, and by kriging."""
    drawn = {}
    for name, values in coarse.items():
        y = _channelled(values[chosen])
        like = y.new_empty(len(y), *prior.power.shape)
        drawn[f"{name}, smooth"] = KeptPoints(y, factor).interpolate(like)
        for way, guidance in (*((f"Eq. 7 {a:g}", a) for a in options.guidance), ("kriging", None)):
            begun = time.perf_counter()
            x = prior.sample(
                y, factor=factor, guidance=guidance, levels=options.levels, seed=options.seed
            )
            off = float(KeptPoints(y, factor).residual(x).abs().max())
            seconds = time.perf_counter() - begun
            print(f"{name}, {way}: {seconds:.1f} s, |C' x - y'| <= {off:g}", flush=True)
            drawn[f"{name}, {way}"] = x
    return {name: x[:, 0, 0] if x.shape[-2] == 1 else x[:, 0] for name, x in drawn.items()}


def table(rows: dict[str, Tensor], judged: Tensor, paper: Mapping[str, tuple[float, ...]]) -> Table:
    """Distances of each sample from the truth, printed with the paper's below."""
    entries: Table = {}
    print(f"{'':<18}" + "".join(f"{name:>15}" for name in DISTANCES))
    for name, sample in rows.items():
        entries[name] = {key: distance(sample, judged) for key, distance in DISTANCES.items()}
        show(name, tuple(entries[name].values()))
        if name in paper:
            show(f"{name}, paper", paper[name])
            entries[f"{name}, paper"] = dict(zip(DISTANCES, paper[name], strict=True))
    return entries


def show(name: str, values: tuple[float, ...]) -> None:
    """One row of the table."""
    print(f"{name:<18}" + "".join(f"{value:>15.3f}" for value in values), flush=True)


def device_name(device: str) -> str:
    """The device, in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{device}, {platform.machine()}, {torch.get_num_threads()} thread(s)"


def _channelled(fields: Tensor) -> Tensor:
    """(n, points) or (n, ny, nx) as (n, 1, ny, nx)."""
    return fields[:, None, None] if fields.ndim == 2 else fields[:, None]


def _thinned(fields: Tensor) -> Tensor:
    dimensions, side = fields.ndim - 1, fields.shape[-1]
    return keep_every(fields, max(1, side // round(MOST_POINTS ** (1 / dimensions))), dimensions)


if __name__ == "__main__":
    main()
