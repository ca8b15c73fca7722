"""Do the metrics of `climdown evaluate` equal those of other implementations, on real data?

    python benchmarks/evaluation_oracles.py --data DIR [--variable NAME] [--json FILE]

The last observed winter is the reference, the other six are an ensemble of what the days might have
been. Both are written to files and judged by the real command's code; the other implementations
read the same files by xarray. Prints a Markdown table: metric, variable, implementation, largest
difference, and the largest value for scale. Packages that are not installed are left out, by name.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

if __package__ in (None, ""):  # called as a script: the other modules lie beside it
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from climdown.arrays import AnyArray
from climdown.evaluation.comparison import Comparison, compare
from climdown.evaluation.evaluate import Evaluation, evaluate
from climdown.evaluation.request import Request
from climdown.evaluation.scene import Scene

VARIABLES = ("tas", "pr")
_FILE = "iberia/{}_day_E-OBS_025deg_19901201-19970228.nc"
_DAYS = 90


@dataclass(frozen=True, eq=False)
class Case:
    """One variable, as climdown judged it and as xarray reads it.

    Attributes:
        members, truth: in float64, dimensions (time, member, lat, lon) and (time, lat, lon).
        evaluation: with all sums and scores of the output "winters".
    """

    variable: str
    members: xr.DataArray
    truth: xr.DataArray
    evaluation: Evaluation

    @property
    def scene(self) -> Scene:
        """Grid, mask and thresholds."""
        return self.evaluation.plan.scenes[self.variable]

    @property
    def areas(self) -> xr.DataArray:
        """Shares of cells."""
        return xr.DataArray(self.scene.areas, dims=("lat", "lon"))

    @property
    def tail(self) -> xr.DataArray:
        """The threshold of the upper tail by cell."""
        return xr.DataArray(self.scene.tail, dims=("lat", "lon"))

    def compared(self) -> Comparison:
        """Value by value of the reference."""
        members, truth = (x.values.astype(np.float32) for x in (self.members, self.truth))
        return compare(self.scene, members, truth)

    def score(self, measure: str) -> float:
        """What climdown says."""
        (found,) = (
            one.value
            for one in self.evaluation.scores
            if (one.output, one.variable, one.measure) == ("winters", self.variable, measure)
        )
        return float("nan") if found is None else found

    def total(self, name: str) -> AnyArray:
        """A sum of pairs over all groups of blocks."""
        return self.evaluation.states.total("groups", "winters/pairs", self.variable)[name]

    def row(self, metric: str, by: str, ours: object, theirs: object) -> Row:
        """The largest difference where both have a value; infinite where one alone has."""
        a, b = (np.atleast_1d(np.asarray(x, dtype=np.float64)).reshape(-1) for x in (ours, theirs))
        if (np.isfinite(a) != np.isfinite(b)).any() or not np.isfinite(a).any():
            return Row(metric, self.variable, by, float("inf"), float("nan"))
        return Row(
            metric, self.variable, by, float(np.nanmax(np.abs(a - b))), float(np.nanmax(np.abs(b)))
        )


@dataclass(frozen=True)
class Row:
    """A metric against another implementation."""

    metric: str
    variable: str
    implementation: str
    largest_difference: float
    largest_value: float


Oracle = Callable[[Case], Iterator[Row]]
"""Rows of some metrics by one package, which it imports itself."""


def pairs_by_scores(case: Case) -> Iterator[Row]:
    """https://scores.readthedocs.io."""
    from scores import continuous
    from scores import probability as prob

    x, y, areas, compared = case.members, case.truth, case.areas, case.compared()
    every: dict[str, Any] = {"preserve_dims": "all"}
    fair = prob.crps_for_ensemble(x, y, "member", method="fair", **every)
    tail = prob.tail_tw_crps_for_ensemble(x, y, "member", case.tail, method="fair", **every)
    ours = compared.member_error - 0.5 * compared.member_difference
    above = compared.tail_error - 0.5 * compared.tail_difference
    yield case.row("fair CRPS of each value", "scores", _known(ours, compared), fair)
    yield case.row("fair CRPS", "scores", case.score("crps"), fair.weighted(areas).mean())
    yield case.row("tail CRPS of each value", "scores", _known(above, compared), tail)
    yield case.row("tail CRPS", "scores", case.score("tail_crps"), tail.weighted(areas).mean())
    mean = x.mean("member", skipna=False)
    for name, function, forecast in (
        ("mae", continuous.mae, mean),
        ("member_mae", continuous.mae, x),
        ("rmse", continuous.rmse, mean),
    ):
        yield case.row(name, "scores", case.score(name), function(forecast, y, weights=areas))
    for level, threshold in zip(("low", "high"), case.scene.thresholds.values(), strict=True):
        brier = prob.brier_score_for_ensemble(x, y, "member", threshold, **every)
        theirs = brier.squeeze("threshold").weighted(areas).mean()
        yield case.row(f"fair Brier, {level}", "scores", case.score(f"brier_{level}"), theirs)
    yield _ranks(case, compared, "scores", prob.rank_histogram)


def pairs_by_properscoring(case: Case) -> Iterator[Row]:
    """https://github.com/properscoring/properscoring; plain scores of M members."""
    import properscoring

    x, y = case.members.transpose(..., "member").values, case.truth.values
    known, areas = np.isfinite(y), np.broadcast_to(case.scene.areas, y.shape)
    compared, members = case.compared(), x.shape[-1]
    plain = compared.member_error - 0.5 * (1 - 1 / members) * compared.member_difference
    theirs = np.where(known, properscoring.crps_ensemble(y, x), np.nan)
    yield case.row("CRPS of each value", "properscoring", _known(plain, compared), theirs)
    for i, (label, threshold) in enumerate(case.scene.thresholds.items()):
        brier = properscoring.threshold_brier_score(y, x, threshold=np.nextafter(threshold, 0))
        counts = case.total("reliability")[i]
        p = np.linspace(0, 1, members + 1)
        ours = (counts[:, 0] * p**2 + counts[:, 1] * (1 - 2 * p)).sum() / counts[:, 0].sum()
        expected = np.average(brier[known], weights=areas[known])
        yield case.row(f"Brier, {label}", "properscoring", ours, expected)


def pairs_by_xskillscore(case: Case) -> Iterator[Row]:
    """https://xskillscore.readthedocs.io."""
    import xskillscore

    x, y, compared = case.members, case.truth, case.compared()
    weights = case.areas.broadcast_like(y)
    mean = x.mean("member", skipna=False)
    everything: dict[str, Any] = {"dim": list(y.dims), "weights": weights, "skipna": True}
    for name, function in (
        ("mae", xskillscore.mae),
        ("rmse", xskillscore.rmse),
        ("bias", xskillscore.me),
    ):
        yield case.row(name, "xskillscore", case.score(name), function(mean, y, **everything))
    yield _ranks(case, compared, "xskillscore", _rank_histogram)


def pairs_by_numpy(case: Case) -> Iterator[Row]:
    """The formulas on whole arrays."""
    x, y, areas = case.members, case.truth, case.areas
    mean, variance = x.mean("member", skipna=False), x.var("member", ddof=1, skipna=False)
    month = y["time"].dt.month
    f, o = (one.groupby(month) - y.groupby(month).mean() for one in (mean, y))

    def summed(values: xr.DataArray) -> float:
        return float((values * areas).sum())

    ratio = np.sqrt((1 + 1 / x.sizes["member"]) * summed(variance) / summed((mean - y) ** 2))
    yield case.row("spread_skill", "NumPy", case.score("spread_skill"), ratio)
    acc = summed(f * o) / np.sqrt(summed(f**2) * summed(o**2))
    yield case.row("acc", "NumPy", case.score("acc"), acc)
    inside = case.scene.mask
    for name, values in (("error_map", mean - y), ("variance_map", variance)):
        yield case.row(name, "NumPy", case.total(name)[inside], values.sum("time").values[inside])


ORACLES: tuple[Oracle, ...] = (
    pairs_by_scores,
    pairs_by_properscoring,
    pairs_by_xskillscore,
    pairs_by_numpy,
)


def _known(values: AnyArray, compared: Comparison) -> AnyArray:
    return np.where(compared.valid, values, np.nan)


def _rank_histogram(members: xr.DataArray, truth: xr.DataArray, dim: str) -> xr.DataArray:
    import xskillscore

    counts = xskillscore.rank_histogram(truth, members, member_dim=dim)
    return xr.DataArray(counts / counts.sum())


def _ranks(
    case: Case, compared: Comparison, by: str, histogram: Callable[..., xr.DataArray]
) -> Row:
    """Of values without ties, which others break in other ways; not weighted."""
    alone = compared.valid & (compared.equal == 0)
    order = ("time", "lat", "lon")
    x = case.members.transpose(*order, "member").values.reshape(*alone.shape, -1)[alone]
    y = case.truth.values.reshape(alone.shape)[alone]
    ours = np.bincount(compared.below[alone], minlength=x.shape[1] + 1) / alone.sum()
    theirs = histogram(xr.DataArray(x, dims=("n", "member")), xr.DataArray(y, dims="n"), "member")
    return case.row(f"ranks of {alone.sum()} values without ties", by, ours, theirs)


def cases(data: Path, variables: tuple[str, ...], folder: Path) -> Iterator[Case]:
    """Each variable, judged."""
    for name in variables:
        truth, members = _winters(data / _FILE.format(name), name)
        truth.to_netcdf(folder / f"truth_{name}.nc")
        members.to_netcdf(folder / f"winters_{name}.nc")
        request = Request(
            outputs={"winters": (str(folder / f"winters_{name}.nc"),)},
            reference=(str(folder / f"truth_{name}.nc"),),
            pairing="paired",
            resamples=0,
        )
        evaluation = evaluate(request, folder / f"states_{name}")
        assert evaluation is not None
        with_names = members[name].rename(realization="member").astype(np.float64)
        yield Case(name, with_names, truth[name].astype(np.float64), evaluation)


def _winters(path: Path, name: str) -> tuple[xr.Dataset, xr.Dataset]:
    """The last winter, and the others on its dates; cells without gaps."""
    with xr.open_dataset(path) as found:
        dataset = found.load()
    year = dataset["time"].dt.year + (dataset["time"].dt.month == 12)
    winters = [dataset.isel(time=(year == y).values) for y in np.unique(year)]
    winters = [winter.isel(time=slice(0, _DAYS)) for winter in winters]
    complete = dataset[name].notnull().all("time")
    *others, last = (
        winter.assign_coords(time=winters[-1]["time"]).where(complete) for winter in winters
    )
    members = xr.concat(others, dim="realization").transpose("time", "realization", ...)
    members[name].attrs = last[name].attrs = dataset[name].attrs
    return last, members


def rows_of(case: Case) -> Iterator[Row]:
    """All oracles' rows; those whose package is missing are named."""
    for oracle in ORACLES:
        try:
            yield from oracle(case)
        except ModuleNotFoundError as error:
            print(f"{oracle.__name__}: {error}", file=sys.stderr)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--variable", choices=VARIABLES, help="only this one")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    variables = (options.variable,) if options.variable else VARIABLES
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row for case in cases(options.data, variables, Path(folder)) for row in rows_of(case)
        ]
    print("| metric | variable | other implementation | largest difference | largest value |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.metric} | {row.variable} | {row.implementation} | "
            f"{row.largest_difference:.1e} | {row.largest_value:.4g} |"
        )
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
