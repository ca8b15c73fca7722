"""How long do scores take by `climdown evaluate`, and by scores and xarray?

    python benchmarks/evaluation_speed.py OUT.nc REF.nc [--variable NAME]

All read the same files, each in a process of its own, one after the other. scores and xarray give
fair CRPS, errors of the ensemble mean, spread and skill, ranks, the mean, and P99 by cell, year by
year where they can. climdown gives the same without intervals, then all of its scores with them.
Prints seconds, seconds of the processors and peak memory of each, and the scores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import xarray as xr

from climdown.arrays import Floats
from climdown.evaluation import evaluate, fields, pairs, quantiles, ranks
from climdown.evaluation.request import Request
from climdown.evaluation.statistics import Statistics

_ROWS = 8  # of the grid, whose quantiles are taken at once


def by_xarray(output: Path, reference: Path, variable: str) -> dict[str, float]:
    """The scores of pairs, by scores and xarray."""
    with xr.open_dataset(output) as fine, xr.open_dataset(reference) as truth:
        members, observed = fine[variable], truth[variable]
        years = np.unique(members["time"].dt.year)
        parts = [
            _of_year(members.sel(time=str(y)).load(), observed.sel(time=str(y)).load())
            for y in years
        ]
        sums = np.sum(parts, axis=0)
        weight, crps, error, square, variance, total, own = sums[:7]
        ranks = sums[7:] / sums[7:].sum()
        return {
            "crps": crps / weight,
            "mae": error / weight,
            "rmse": float(np.sqrt(square / weight)),
            "spread_skill": float(np.sqrt((1 + 1 / members.shape[1]) * variance / square)),
            "outliers": float((ranks[0] + ranks[-1]) * len(ranks) / 2),
            "bias": (total - own) / weight,
            "p99_error": _quantile_error(members, observed),
        }


def _of_year(members: xr.DataArray, truth: xr.DataArray) -> Floats:
    """Area-weighted sums of one year, then counts of ranks."""
    from scores.probability import crps_for_ensemble

    known = truth.notnull()
    areas = _areas(truth) * known
    mean, dim = members.mean("realization"), "realization"
    crps = crps_for_ensemble(members, truth, dim, method="fair", preserve_dims="all")
    error = mean - truth
    fields = (1.0, crps, abs(error), error**2, members.var(dim, ddof=1), mean, truth)
    sums = [float((areas * one).sum()) for one in fields]
    rank = (members < truth).sum(dim)
    weights = areas.transpose(*rank.dims).values
    counts = np.bincount(rank.values.ravel(), weights.ravel(), members.sizes[dim] + 1)
    return np.concatenate([sums, counts])


def _areas(truth: xr.DataArray) -> xr.DataArray:
    half = np.radians(np.gradient(truth["lat"].values)) / 2
    centre = np.radians(truth["lat"])
    areas: xr.DataArray = np.sin(centre + half) - np.sin(centre - half)
    return areas


def _quantile_error(members: xr.DataArray, truth: xr.DataArray) -> float:
    """Of P99 by cell, rows of the grid at a time."""
    parts = []
    for start in range(0, truth.sizes["lat"], _ROWS):
        rows = {"lat": slice(start, start + _ROWS)}
        ours = members.isel(rows).load().quantile(0.99, ("time", "realization"))
        parts.append(abs(ours - truth.isel(rows).load().quantile(0.99, "time")))
    error = xr.concat(parts, "lat")
    areas = (_areas(truth) * error.notnull()).transpose(*error.dims)
    return float((areas * error).sum() / areas.sum())


def all_by_climdown(output: Path, reference: Path, variable: str) -> dict[str, float]:
    """All scores of the output, with intervals."""
    return _by_climdown(output, reference, variable, resamples=200)


def same_by_climdown(output: Path, reference: Path, variable: str) -> dict[str, float]:
    """The scores that xarray gives."""
    statistics = Statistics(
        step_of_source=(fields.means,),
        stretch_of_series=quantiles.STRETCHES,
        step_of_pairs=pairs.STEPS,
        stretch_of_pairs=ranks.STRETCHES,
    )
    with mock.patch.object(evaluate, "STATISTICS", statistics):
        return _by_climdown(output, reference, variable, resamples=0)


def _by_climdown(
    output: Path, reference: Path, variable: str, *, resamples: int
) -> dict[str, float]:
    request = Request(
        {"output": (str(output),)},
        (str(reference),),
        pairing="paired",
        variables=(variable,),
        resamples=resamples,
    )
    with tempfile.TemporaryDirectory() as folder:
        found = evaluate.evaluate(request, Path(folder))
    assert found is not None
    return {one.measure: one.value for one in found.scores if one.value is not None}


_WAYS = {
    "scores and xarray": by_xarray,
    "climdown, the same": same_by_climdown,
    "climdown, all": all_by_climdown,
}


def _in_a_process(way: str, words: list[str]) -> tuple[dict[str, float], float]:
    """The scores and seconds of one way, which is printed."""
    start = time.perf_counter()
    command = [sys.executable, __file__, *words, "--way", way]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{way} failed")
    seconds, scores = time.perf_counter() - start, json.loads(text)
    busy, memory = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(
        f"{way}: {len(scores)} scores, {seconds:.0f} s, {busy:.0f} s of processors, "
        f"{memory:.0f} MB, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return scores, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("output", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--variable", default="tas")
    parser.add_argument("--way", choices=_WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way is not None:
        given = arguments.output, arguments.reference, arguments.variable
        print(json.dumps(_WAYS[arguments.way](*given)))
        return
    words = [str(arguments.output), str(arguments.reference), "--variable", arguments.variable]
    (theirs, slow), (ours, fast), (_, whole) = (_in_a_process(way, words) for way in _WAYS)
    for name, value in theirs.items():
        print(f"{name}: {ours[name]:.6g} and {value:.6g}")
    print(f"scores and xarray take {slow / fast:.1f} times as long for the same scores, and")
    print(f"{slow / whole:.1f} times as long as climdown takes for all of its scores")


if __name__ == "__main__":
    main()
