"""Training throughput by network and device, in one table.

    python benchmarks/training.py [--only NAME,...] [--batch N] [--repeats N]

Each row times whole steps (loss, gradients, clipping, optimiser, average of the weights) on
random fields after a warm-up. The operations of a step are counted on its forward and backward
passes; "of ceiling" holds them against the larger rate of a big product of matrices and a big
convolution on this device, in the same precision, measured in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.losses import edm_loss
from climdown.diffusion.unet import UNet
from climdown.training import averages


@dataclass(frozen=True)
class Case:
    """A network and the fields it learns."""

    name: str
    variables: int
    ny: int
    nx: int
    channels: tuple[int, ...]
    blocks: int
    attention: int
    batch: int
    cuda_batch: int
    periodic: bool = False


CASES = (
    Case("eobs-iberia", 2, 41, 61, (32, 64, 96), 1, 0, 16, 256),
    Case("erai-europe", 3, 21, 24, (48, 96, 128), 1, 0, 32, 512),
    Case("era5-cm (240 x 384)", 1, 240, 384, (128, 128, 256, 256), 2, 1, 1, 16, periodic=True),
)

TITLES = ("case", "precision", "batch", "images/s", "GFLOP/image", "TFLOP/s", "of ceiling", "GB")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="Training throughput.")
    parser.add_argument("--only", default="", help="cases whose names begin so, by commas")
    parser.add_argument("--batch", type=int, help="fields per step, for all cases")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    wanted = tuple(arguments.only.split(","))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = f"{torch.get_num_threads()} CPU threads"
    name = torch.cuda.get_device_name() if device.type == "cuda" else threads
    print(f"{name}, torch {torch.__version__}\n")
    print(f"| {' | '.join(TITLES)} |")
    print(f"|{'---|' * len(TITLES)}")
    for precision in (torch.float32, torch.bfloat16):
        ceiling = measure_ceiling(device, precision)
        for case in (c for c in CASES if c.name.startswith(wanted)):
            batch = arguments.batch or (case.batch if device.type == "cpu" else case.cuda_batch)
            row = measure(case, device, precision, batch, arguments.repeats, ceiling)
            print(f"| {case.name} | {_short(precision)} | {row} |", flush=True)


def measure_ceiling(device: torch.device, precision: torch.dtype) -> float:
    """Operations per second of a large product of matrices or convolution, whichever is faster."""
    cuda = device.type == "cuda"
    n, width, side, batch = (8192, 256, 128, 32) if cuda else (1536, 128, 64, 8)
    a, b = (torch.randn(n, n, device=device, dtype=precision) for _ in range(2))
    layer = torch.nn.Conv2d(width, width, 3, padding=1, device=device, dtype=precision)
    x = torch.randn(batch, width, side, side, device=device, dtype=precision)
    x = x.to(memory_format=torch.channels_last)
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        product = min([_timed(device, lambda: a @ b) for _ in range(8)][2:])
        convolution = min([_timed(device, lambda: layer(x)) for _ in range(8)][2:])
    return max(2 * n**3 / product, 18 * batch * (width * side) ** 2 / convolution)


def measure(
    case: Case,
    device: torch.device,
    precision: torch.dtype,
    batch: int,
    repeats: int,
    ceiling: float,
) -> str:
    """The figures of a row."""
    model, average = (_build(case, device) for _ in range(2))
    average.requires_grad_(False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    x0 = torch.randn(batch, case.variables, case.ny, case.nx, device=device)
    valid, noise = torch.ones_like(x0), torch.randn_like(x0)
    calendar = torch.tensor([1.0, 15.0, 12.0], device=device).expand(batch, 3)
    sigma = torch.rand(batch, device=device) + 0.1

    def passes() -> None:
        enabled = precision == torch.bfloat16
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            loss = edm_loss(model, x0, valid, calendar, sigma, noise).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]

    def step() -> None:
        passes()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        averages.update(average, model, 0.999)

    with FlopCounterMode(display=False) as counter:
        passes()
    operations = counter.get_total_flops()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step()
    seconds = statistics.median(_timed(device, step) for _ in range(repeats))
    rate = operations / seconds
    peak = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if device.type == "cuda" else ""
    return (
        f"{batch} | {batch / seconds:.2f} | {operations / batch / 1e9:.1f} | {rate / 1e12:.3f} | "
        f"{rate / ceiling:.0%} | {peak}"
    )


def _build(case: Case, device: torch.device) -> Denoiser:
    network = UNet(
        variables=case.variables,
        statics=2 + case.variables,
        channels=case.channels,
        blocks=case.blocks,
        attention=case.attention,
        dropout=0.1,
        periodic=case.periodic,
    )
    shape = (case.ny, case.nx)
    model = Denoiser(
        network,
        static=torch.randn(2 + case.variables, *shape),
        mask=torch.ones(case.variables, *shape),
    ).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _timed(device: torch.device, work: Callable[[], object]) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _short(precision: torch.dtype) -> str:
    return "bf16" if precision == torch.bfloat16 else "fp32"


if __name__ == "__main__":
    main()
