"""Rain after optimal transport: its distribution, and how it goes with temperature and neighbours.

    python -m benchmarks.rain --data DIR [--before CHECKOUT] [--maps barycentre sampled]

DIR holds CNRM-CM5 and E-OBS over Iberia in winter, see `bias.FILES`. The historical run is
adjusted and compared with observations on the model's cells: in sample, and fitted on every other
winter and judged on the others. Rain alone, against 14 winters of observations on 0.5 degrees, and
rain and temperature together, against 7 on 0.25. `--before` adds a column for `climdown ot` of
another checkout of this repository.

The fitted winters themselves are a column too: what the weather of so few winters allows.
Correlations are of tas and log(1 + pr / 0.1 mm). Errors of correlations are mean absolute
differences to the observed ones: of tas with pr over cells, of pr with pr over pairs of cells. With
`--before` a second table says whether they differ from those of the other checkout by more than
the weather of so few winters: winters are drawn with replacement, those of the model the same for
all columns (paired), and 95 % of the differences of the errors lie between the two numbers.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.bias import FILES, LONG, read, winters
from climdown import cf
from climdown.adjust.options import OTOptions
from climdown.adjust.ot import ot_file
from climdown.adjust.qdm import qdm_file
from climdown.arrays import Float64, Index, Mask
from climdown.metrics.scores import sliced_wasserstein


class Files(NamedTuple):
    """What an adjustment reads, one file per variable, and the days it is judged on."""

    sim: Sequence[str]
    ref: Sequence[str]
    hist: Sequence[str]
    judged: Sequence[str]


class Days(NamedTuple):
    """Values of shape (days, variables, cells), and the winter of each day, by its January."""

    values: Float64
    winters: Index


def files_of(folder: Path, data: Path, variables: Sequence[str], ref: str, *, held: bool) -> Files:
    """In sample, or with every other winter held out."""

    def named(pattern: str, parity: int) -> list[str]:
        paths = [data / "iberia" / pattern.format(v=name) for name in variables]
        if held:
            return [winters(folder, path, parity) for path in paths]
        return [str(cf.expand_paths([path])[0]) for path in paths]

    hist = FILES["hist"]
    return Files(named(hist, 1), named(ref, 0), named(hist, 0), named(ref, 1))


def adjusted_files(
    folder: Path,
    files: Files,
    variables: Sequence[str],
    maps: Iterable[str],
    before: Path | None,
    epsilon: float | None,
) -> dict[str, list[str]]:
    """Files of each column of the table, one per variable."""
    columns = {"raw": list(files.sim)}
    if before is not None:
        columns["OT before"] = [str(folder / "before.nc")] * len(variables)
        _run_other(before, files, folder / "before.nc", variables)
    for name in maps:
        output = folder / f"{name}.nc"
        columns[f"OT {name}"] = [str(output)] * len(variables)
        options = OTOptions(map="sampled" if name == "sampled" else "barycentre", epsilon=epsilon)
        started = time.perf_counter()
        ot_file(
            files.sim,
            output,
            ref=files.ref,
            hist=files.hist,
            variables=variables,
            options=options,
            overwrite=True,
        )
        print(f"OT {name}: {time.perf_counter() - started:.1f} s")
    columns["QDM"] = [str(folder / f"qdm-{name}.nc") for name in variables]
    for sim, ref, hist, mapped in zip(*files[:3], columns["QDM"], strict=True):
        qdm_file([sim], mapped, ref=[ref], hist=[hist], overwrite=True)
    if files.ref != files.judged:
        columns["fitted winters"] = list(files.ref)
    return {**columns, "observed": list(files.judged)}


def _run_other(checkout: Path, files: Files, output: Path, variables: Sequence[str]) -> None:
    command = [sys.executable, "-m", "climdown", "ot", *files.sim, str(output), "--overwrite"]
    for name, paths in (("--ref", files.ref), ("--hist", files.hist), ("--variable", variables)):
        command += [word for path in paths for word in (name, path)]
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    print(f"OT before: {time.perf_counter() - started:.1f} s with its start")


def samples_of(columns: Mapping[str, Sequence[str]], variables: Sequence[str]) -> dict[str, Days]:
    """Days of each column, in cells that all have."""
    like = read(columns["QDM"][0], variables[0])[1]
    samples = {
        name: _together([read(f, v, like) for f, v in zip(paths, variables, strict=True)])
        for name, paths in columns.items()
    }
    valid = np.logical_and.reduce(
        [(np.isfinite(v.values).mean(axis=0) > 0.95).all(axis=0) for v in samples.values()]
    )
    return {name: _complete(days, valid) for name, days in samples.items()}


def _together(series: Sequence[tuple[Float64, cf.Field]]) -> Days:
    days = [[(d.year, d.month, d.day) for d in field.time.dates] for _, field in series]
    common = sorted(set(days[0]).intersection(*days[1:]))
    rows = [[own.index(day) for day in common] for own in days]
    values = np.stack([v[r] for (v, _), r in zip(series, rows, strict=True)], axis=1)
    return Days(values, np.array([year + (month == 12) for year, month, _ in common]))


def _complete(days: Days, cells: Mask) -> Days:
    values = days.values[..., cells]
    complete = np.isfinite(values).all(axis=(1, 2))
    return Days(values[complete], days.winters[complete])


def statistics(days: Float64, observed: Float64) -> dict[str, float]:
    """Statistics of days (days, variables, cells), precipitation last."""
    rain, other = days[:, -1], observed[:, -1]
    points, target = _points(days), _points(observed)
    mean, std = target.mean(axis=0), target.std(axis=0)
    points, target = (points - mean) / std, (target - mean) / std
    ratio = rain.mean(axis=0) / other.mean(axis=0)
    result = {
        "mean (mm/day)": rain.mean(),
        "worst cell, mean / observed": ratio[np.argmax(abs(ratio - 1.0))],
        "P95": np.quantile(rain, 0.95),
        "P99": np.quantile(rain, 0.99),
        "days below 0.1 mm": (rain < 0.1).mean(),
        "days below 1 mm": (rain < 1.0).mean(),
        **correlation_errors(days, observed),
        "sliced Wasserstein": 0.0 if days is observed else sliced_wasserstein(points, target),
        "std of columns / observed": points.std(axis=0).mean(),
    }
    if days.shape[1] == 2:
        result["tas with pr"] = correlations(days)["tas with pr"].mean()
    return {name: float(value) for name, value in result.items()}


def correlations(days: Float64) -> dict[str, Float64]:
    """Of pr with pr, (cells, cells), and of tas with pr where both are there, (cells,)."""
    cells, matrix = days.shape[-1], np.asarray(np.corrcoef(_points(days).T), dtype=np.float64)
    found = {"pr with pr": matrix[-cells:, -cells:]}
    if days.shape[1] == 2:
        found["tas with pr"] = np.diagonal(matrix, offset=cells)
    return found


def correlation_errors(days: Float64, observed: Float64) -> dict[str, float]:
    """Mean absolute errors of correlations, see above."""
    found, wanted = correlations(days), correlations(observed)
    return {f"{key}, error": float(abs(found[key] - wanted[key]).mean()) for key in found}


def resampled_errors(
    samples: Mapping[str, Days], names: Sequence[str], truth: str, resamples: int
) -> dict[str, dict[str, Float64]]:
    """Errors of correlations, by column and correlation, of winters drawn with replacement.

    All columns are of one simulation, and its winters are drawn once for all of them.
    """
    rng = np.random.default_rng(0)
    result: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(resamples):
        own, observed = (_drawn(samples[name].winters, rng) for name in (names[0], truth))
        for name in names:
            errors = correlation_errors(samples[name].values[own], samples[truth].values[observed])
            result[name].append(errors)
    return {
        name: {key: np.array([one[key] for one in errors]) for key in errors[0]}
        for name, errors in result.items()
    }


def _drawn(winters: Index, rng: np.random.Generator) -> Index:
    """Days of as many winters, drawn with replacement."""
    years = np.unique(winters)
    return np.concatenate([np.flatnonzero(winters == y) for y in rng.choice(years, years.size)])


def print_differences(samples: Mapping[str, Days], resamples: int) -> None:
    """How errors of correlations differ from those before, with 95 % of what winters drawn give."""
    names = ["OT before", *(n for n in samples if n.startswith("OT ") and n != "OT before"), "QDM"]
    for truth in ("observed", "fitted winters"):
        if truth not in samples:
            continue
        resampled = resampled_errors(samples, names, truth, resamples)
        print(f"errors against {truth}; less those of OT before, 95 % of {resamples} resamples")
        for name in names:
            errors = correlation_errors(samples[name].values, samples[truth].values)
            print(f"{name:<28}" + "".join(_interval(errors, resampled, name, k) for k in errors))


def _interval(
    errors: Mapping[str, float], resampled: Mapping[str, Mapping[str, Float64]], name: str, key: str
) -> str:
    low, high = np.quantile(resampled[name][key] - resampled["OT before"][key], (0.025, 0.975))
    return f"{key:>22} {errors[key]:.4f} ({low:+.4f} to {high:+.4f})"


def _points(days: Float64) -> Float64:
    normalised = days.copy()
    normalised[:, -1] = np.log1p(normalised[:, -1] / 0.1)
    return normalised.reshape(len(days), -1)


def print_table(samples: Mapping[str, Days]) -> None:
    observed = samples["observed"].values
    rows = {name: statistics(days.values, observed) for name, days in samples.items()}
    print(f"{'':<28}" + "".join(f"{name:>15}" for name in rows))
    print(f"{'days':<28}" + "".join(f"{len(days.winters):>15}" for days in samples.values()))
    for statistic in rows["observed"]:
        print(f"{statistic:<28}" + "".join(f"{row[statistic]:>15.3f}" for row in rows.values()))


def main() -> None:
    """The four tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="another checkout of climdown")
    parser.add_argument("--maps", nargs="*", default=["barycentre", "sampled"])
    parser.add_argument("--epsilon", type=float)
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    logging.getLogger("climdown").setLevel(logging.WARNING)
    for variables, ref in ((("pr",), LONG), (("tas", "pr"), FILES["ref"])):
        for held in (False, True):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                files = files_of(folder, arguments.data, variables, ref, held=held)
                print(f"\n{' and '.join(variables)}, {'held out' if held else 'in sample'}")
                columns = adjusted_files(
                    folder,
                    files,
                    variables,
                    arguments.maps,
                    arguments.before,
                    arguments.epsilon,
                )
                samples = samples_of(columns, variables)
                print_table(samples)
                if arguments.before is not None:
                    print_differences(samples, arguments.resamples)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nmost memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
