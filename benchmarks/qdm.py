"""Quantile delta mapping by xsdba and by this package, on the same data, in one table.

    python benchmarks/qdm.py [--cells N] [--years N] [--quantiles N] [--threads N]
    python benchmarks/qdm.py --cells 64800 --only climdown --device cuda

Daily temperatures of so many years without leap days, training and adjusting together. xsdba runs
each case twice: the first call compiles and is reported apart. It uses one thread, as it does of
itself; climdown uses `--threads`. Corrections are those of the nearest node, xsdba's default and
by far its quickest; `--interpolation linear` takes it minutes to hours. By day of the year xsdba
ranks values among the days of the window if asked (the method, and what climdown does), and by
default among the same day of all years alone: both are shown. MB are the peak of the process.
The last column is the share of values, away from New Year, that agree to 1e-4 of their standard
deviation; linearly by month they do not, because xsdba then interpolates between months as well.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cftime
import numpy as np

from climdown.arrays import Dates, Float32
from climdown.bias.grouping import Grouping
from climdown.bias.quantile import adjust, train

# Cells that are in memory at a time; what a larger number takes is summed.
BLOCK = 4096


@dataclass(frozen=True)
class Case:
    """A grouping of both packages."""

    name: str
    grouping: Grouping
    group: str
    window: int = 1
    ranks_in_window: bool | None = None


CASES = (
    Case("none", Grouping("none"), "time"),
    Case("month", Grouping("month"), "time.month"),
    Case("dayofyear 31", Grouping("dayofyear", 31), "time.dayofyear", 31, True),
    Case("dayofyear 31, ranks by day", Grouping("dayofyear", 31), "time.dayofyear", 31, False),
)


@dataclass
class Measured:
    """Wall seconds, the peak of memory in MB and what came out."""

    seconds: float
    peak: float
    scen: Float32


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="QDM by xsdba and by climdown.")
    parser.add_argument("--cells", type=int, default=400)
    parser.add_argument("--years", type=int, default=30)
    parser.add_argument("--quantiles", type=int, default=50)
    parser.add_argument("--interpolation", choices=("nearest", "linear"), default="nearest")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=5, help="of climdown; the best counts")
    parser.add_argument("--only", choices=("xsdba", "climdown"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    print(
        f"{options.years} years daily, {options.cells} cells, {options.quantiles} quantiles, "
        f"{options.interpolation}; climdown on {options.device}, {options.threads} threads"
    )
    columns = ("xsdba first", "xsdba", "climdown", "ratio", "xsdba MB", "climdown MB", "equal")
    print(f"{'grouping':<26}" + "".join(f"{name:>13}" for name in columns))
    for case in CASES:
        print(f"{case.name:<26}" + "".join(f"{cell:>13}" for cell in row(case, options)))


def row(case: Case, options: argparse.Namespace) -> Iterator[str]:
    """The cells of a line of the table."""
    dates = calendar_days(365 * options.years)
    peer = first = ours = None
    if options.only != "climdown":
        data = series(dates, options.cells)
        first = measure(partial(by_xsdba, case, data, dates, options))
        peer = measure(partial(by_xsdba, case, data, dates, options))
        peer.seconds = min(peer.seconds, first.seconds)
    if options.only != "xsdba":
        ours = measure_blocks(case, dates, options)
    yield "" if first is None else f"{first.seconds:.2f} s"
    yield "" if peer is None else f"{peer.seconds:.2f} s"
    yield "" if ours is None else f"{ours.seconds:.3f} s"
    yield "" if peer is None or ours is None else f"{peer.seconds / ours.seconds:.0f} x"
    yield "" if peer is None else f"{peer.peak:.0f}"
    yield "" if ours is None else f"{ours.peak:.0f}"
    if peer is not None and ours is not None and case.ranks_in_window is not False:
        # Where no window reaches the ends of the series: xsdba's do not go round the year.
        day = np.array([date.dayofyr for date in dates])
        inner = (day > 15) & (day <= 350)
        close = np.abs(peer.scen - ours.scen)[inner] < 1e-4 * ours.scen[inner].std()
        yield f"{100.0 * close.mean():.2f} %"


def measure_blocks(case: Case, dates: Dates, options: argparse.Namespace) -> Measured:
    """Time climdown on blocks of cells, made one after the other; the last block's scen."""
    seconds = peak = 0.0
    for start in range(0, options.cells, BLOCK):
        arrays = series(dates, min(BLOCK, options.cells - start), seed=start)
        block = measure(partial(by_climdown, case, arrays, dates, options), options.repeats)
        seconds, peak = seconds + block.seconds, max(peak, block.peak)
    return Measured(seconds, peak, block.scen)


def measure(run: Callable[[], Float32], repeats: int = 1) -> Measured:
    """The best of some runs."""
    forget_peak()
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        scen = run()
        best = min(best, time.perf_counter() - begun)
    return Measured(best, peak_memory(), scen)


def by_climdown(
    case: Case, data: tuple[Float32, ...], dates: Dates, options: argparse.Namespace
) -> Float32:
    """Train and adjust; on a GPU with the way there and back."""
    ref, hist, sim = data if options.device == "cpu" else on_gpu(data)
    trained = train(
        ref,
        hist,
        ref_dates=dates,
        hist_dates=dates,
        kind="additive",
        grouping=case.grouping,
        quantiles=options.quantiles,
        threads=options.threads if options.device == "cpu" else 1,
    )
    adjusted = adjust(
        trained,
        sim,
        dates,
        interpolation=options.interpolation,
        threads=options.threads if options.device == "cpu" else 1,
    )
    scen = adjusted.values
    return np.asarray(scen if options.device == "cpu" else scen.cpu())


def on_gpu(data: tuple[Float32, ...]) -> tuple[Any, ...]:
    """The arrays as tensors on a GPU."""
    import torch

    return tuple(torch.from_numpy(values).cuda() for values in data)


def by_xsdba(
    case: Case, data: tuple[Float32, ...], dates: Dates, options: argparse.Namespace
) -> Float32:
    """Train and adjust with its own defaults otherwise."""
    import xarray as xr
    import xsdba

    ref, hist, sim = (
        xr.DataArray(values, {"time": dates}, ("time", "cell"), attrs={"units": "K"})
        for values in data
    )
    ranks = {} if case.ranks_in_window is None else {"rank_window": case.ranks_in_window}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = xsdba.QuantileDeltaMapping.train(
            ref,
            hist,
            nquantiles=options.quantiles,
            group=xsdba.Grouper(case.group, case.window),
            kind="+",
        )
        scen = trained.adjust(sim, interp=options.interpolation, **ranks)
    return np.asarray(scen.transpose("time", "cell").values)


def calendar_days(count: int) -> Dates:
    """Days of a calendar without leap days."""
    return np.asarray(cftime.num2date(np.arange(count) + 0.5, "days since 1981-01-01", "noleap"))


def series(dates: Dates, cells: int, *, seed: int = 0) -> tuple[Float32, ...]:
    """ref, hist and sim in K: a seasonal cycle with noise, the model warmer, and warming."""
    rng = np.random.default_rng(seed)
    cycle = -10.0 * np.cos(2.0 * np.pi * np.arange(len(dates)) / 365.0)[:, None]
    return tuple(
        (mean + cycle + spread * rng.standard_normal((len(dates), cells), "f4")).astype("f4")
        for mean, spread in ((280.0, 4.0), (282.0, 5.0), (285.0, 5.5))
    )


def forget_peak() -> None:
    """Start anew the high-water mark of memory, where the system can."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def peak_memory() -> float:
    """The high-water mark of this process's memory, in MB."""
    path = Path("/proc/self/status")
    if not path.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    line = next(line for line in path.read_text().splitlines() if line.startswith("VmHWM"))
    return float(line.split()[1]) / 1024.0


if __name__ == "__main__":
    main()
