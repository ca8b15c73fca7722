"""Entropic optimal transport between samples of several sizes, in one table.

    python benchmarks/transport.py [--sizes 5000,20000] [--columns 192] [--epsilon 0.01]
        [--device cpu] [--precision float32]

Gaussian points whose columns fall off in variance as those of coarse fields do. Seconds are of
the fit alone; memory is the process's peak, or the device's.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import torch

from climdown.bias import transport


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="Fits of entropic optimal transport.")
    parser.add_argument("--sizes", default="5000,20000")
    parser.add_argument("--columns", type=int, default=192)
    parser.add_argument("--epsilon", type=float, default=transport.EPSILON)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "float64"], default="float32")
    arguments = parser.parse_args()
    columns, epsilon, device = arguments.columns, arguments.epsilon, arguments.device
    print(f"{columns} columns, epsilon {epsilon:g}, {arguments.precision} on {device}")
    print(f"{'n = m':>8}{'seconds':>10}{'iterations':>12}{'marginal error':>16}{'peak GB':>9}")
    kind = getattr(torch, arguments.precision)
    # Ascending, since the process's peak only grows.
    for size in sorted(map(int, arguments.sizes.split(","))):
        source, target = (sample(size, columns, seed).to(device, kind) for seed in (0, 1))
        begun = time.perf_counter()
        fitted = transport.fit(
            source, 1.2 * target + 0.5, epsilon=epsilon, tolerance=arguments.tolerance
        )
        seconds = time.perf_counter() - begun
        print(
            f"{size:>8}{seconds:>10.1f}{fitted.iterations:>12}{fitted.marginal_error:>16.1e}"
            f"{peak_memory(device):>9.2f}",
            flush=True,
        )


def sample(size: int, columns: int, seed: int) -> torch.Tensor:
    """Independent Gaussian columns with variances 1, 1/2, 1/3, ..., (size, columns)."""
    drawn = torch.randn(size, columns, generator=torch.Generator().manual_seed(seed))
    return drawn / torch.arange(1, columns + 1) ** 0.5


def peak_memory(device: str) -> float:
    """In GB, of the process or of its CUDA device."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e9
    # Kilobytes, but for bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    main()
