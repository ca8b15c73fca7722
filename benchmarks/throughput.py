"""Sampling throughput of a prior by device and batch size, in one table.

    python benchmarks/throughput.py [--prior NAME] [--steps N] [--batches 1,4,16]

Each row is a guided draw of one batch, timed after a warm-up: seconds per field, network
evaluations per second (a guided evaluation is one forward and one backward pass).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from climdown import regrid
from climdown.diffusion.noise import KeyedNoise
from climdown.diffusion.observation import CoarseObservation, CoarseOperator, latitude_weights
from climdown.methods.zssd import ZSSD
from climdown.priors.prior import Prior
from climdown.priors.store import load_prior


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="Sampling throughput of a prior.")
    parser.add_argument("--prior", default="eobs-iberia-zssd")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batches", default="1,4,16,64")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    prior = load_prior(arguments.prior)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    print(f"{prior.card.name}, {arguments.steps} steps, median of {arguments.repeats}")
    print(f"{'device':<8}{'batch':>6}{'s/field':>10}{'evaluations/s':>15}{'peak GB':>9}")
    for device in devices:
        for batch in map(int, arguments.batches.split(",")):
            seconds, peak = measure(prior, device, batch, arguments.steps, arguments.repeats)
            shown = f"{peak:.2f}" if device == "cuda" else ""
            rate = batch * arguments.steps / seconds
            print(f"{device:<8}{batch:>6}{seconds / batch:>10.4f}{rate:>15.1f}{shown:>9}")


def measure(prior: Prior, device: str, batch: int, steps: int, repeats: int) -> tuple[float, float]:
    """Median seconds of a guided draw, and the peak of the device's memory in GB."""
    place = torch.device(device)
    model = prior.denoiser(place)
    observation = make_observation(prior, place, batch)
    shape = (len(prior.card.variables), *prior.card.grid.shape)
    calendar = torch.tensor([[1.0, 15.0, 12.0]], device=place).expand(batch, 3)
    sampler = ZSSD(steps=steps)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = []
    for repeat in range(repeats + 1):
        keys = tuple((member, f"repeat {repeat}") for member in range(batch))
        begun = time.perf_counter()
        drawn = sampler.sample(model.bind(calendar), observation, KeyedNoise(0, keys, shape, place))
        float(drawn.sum())  # waits for the device
        times.append(time.perf_counter() - begun)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
    return float(np.median(times[1:])), peak


def make_observation(prior: Prior, device: torch.device, batch: int) -> CoarseObservation:
    """The prior's own coarse grid, observed at normalised zero by every variable."""
    fine, coarse = prior.card.grid, prior.card.coarse_grid

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)

    lower_lat, lower_lon = map(tensor, regrid.axis_weights(fine, coarse, "conservative"))
    raise_lat, raise_lon = map(tensor, regrid.axis_weights(coarse, fine, "bilinear"))
    operators = tuple(
        CoarseOperator(
            lower_lat=lower_lat,
            lower_lon=lower_lon,
            raise_lat=raise_lat,
            raise_lon=raise_lon,
            mask=tensor(mask),
            decode=lambda z: z,
            encode=lambda z: z,
        )
        for mask in prior.mask
    )
    shape = (batch, *coarse.shape)
    return CoarseObservation(
        operators=operators,
        channels=tuple(range(len(operators))),
        coarse=tuple(torch.zeros(shape, device=device) for _ in operators),
        observed=tuple(torch.ones(shape, device=device) for _ in operators),
        weights=latitude_weights(tensor(fine.areas)),
    )


if __name__ == "__main__":
    main()
