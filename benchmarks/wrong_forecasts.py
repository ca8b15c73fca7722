"""Does `climdown evaluate` call a wrong forecast wrong?

    python benchmarks/wrong_forecasts.py
    python benchmarks/wrong_forecasts.py OUT.nc --reference FILE... --input FILE... [--json FILE]

Takes an ensemble that is good, spoils it in many ways, and judges all of them by the reference of
the same days. Without files the good one is drawn: its members and the reference are exchangeable.
Prints a Markdown table: what was done, what the verdict calls poor, fair and unknown, and how many
scores are worse than the good one's, their intervals apart; --json names them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import xarray as xr
from scipy.ndimage import uniform_filter

if __package__ in (None, ""):  # called as a script: the other modules lie beside it
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.exchangeable import write_exchangeable
from climdown.arrays import Floats
from climdown.evaluation.bootstrap import Score
from climdown.evaluation.evaluate import Evaluation, evaluate
from climdown.evaluation.finding import Finding
from climdown.evaluation.measure import Measure
from climdown.evaluation.registry import MEASURES
from climdown.evaluation.request import Request
from climdown.evaluation.verdict import findings

GOOD = "good"
_TEMPERATURE, _RAIN = "tas", "pr"
_DRIZZLE = 0.3  # mm day-1

Fields: TypeAlias = Mapping[str, Floats]
"""Members in K (or degC) and mm day-1 by variable, shape (time, member, ny, nx)."""


@dataclass(frozen=True)
class Wrong:
    """What is done to a good ensemble.

    Attributes:
        what: for people.
        change: of all variables.
    """

    what: str
    change: Callable[[Fields], Fields]


def shuffled(fields: Fields) -> Fields:
    """Days in another order, the same for all members and variables."""
    order = np.random.default_rng(0).permutation(len(fields[_TEMPERATURE]))
    return {name: x[order] for name, x in fields.items()}


def shifted(fields: Fields) -> Fields:
    """Each day is the one two days before."""
    return {name: np.roll(x, 2, axis=0) for name, x in fields.items()}


def decoupled(fields: Fields) -> Fields:
    """Rain of another day."""
    rain = np.roll(fields[_RAIN], len(fields[_RAIN]) // 2, axis=0)
    return {**fields, _RAIN: rain}


def biased(fields: Fields) -> Fields:
    """1 K too warm."""
    return {**fields, _TEMPERATURE: fields[_TEMPERATURE] + 1.0}


def blurred(fields: Fields) -> Fields:
    """Means of 3 x 3 cells."""
    return {name: _box_mean(x) for name, x in fields.items()}


def _box_mean(x: Floats) -> Floats:
    """Of the cells that have values, which stay the only ones."""
    size = (1, 1, 3, 3)
    known = uniform_filter(np.isfinite(x).astype(np.float64), size, mode="nearest")
    total = uniform_filter(np.nan_to_num(x).astype(np.float64), size, mode="nearest")
    return np.where(np.isfinite(x), total / np.maximum(known, 1e-9), np.nan)


def noised(fields: Fields) -> Fields:
    """White noise of 30 % of the deviation of each cell; rain stays positive."""
    random = np.random.default_rng(1)

    def noise(x: Floats) -> Floats:
        return np.asarray(0.3 * x.std(axis=(0, 1)) * random.standard_normal(x.shape))

    rain = fields[_RAIN]
    return {
        _TEMPERATURE: fields[_TEMPERATURE] + noise(fields[_TEMPERATURE]),
        _RAIN: np.maximum(rain + noise(rain), 0.0),
    }


def repeated(fields: Fields) -> Fields:
    """The first member instead of all."""
    return {name: np.repeat(x[:, :1], x.shape[1], axis=1) for name, x in fields.items()}


def scaled(fields: Fields) -> Fields:
    """A fifth less rain."""
    return {**fields, _RAIN: 0.8 * fields[_RAIN]}


def drizzled(fields: Fields) -> Fields:
    """Rain of at least 0.3 mm everywhere."""
    return {**fields, _RAIN: np.maximum(fields[_RAIN], _DRIZZLE)}


def spread_by(factor: float) -> Callable[[Fields], Fields]:
    """Departures from the ensemble mean are multiplied; rain stays positive."""

    def change(fields: Fields) -> Fields:
        means = {name: x.mean(axis=1, keepdims=True) for name, x in fields.items()}
        spread = {name: means[name] + factor * (x - means[name]) for name, x in fields.items()}
        return {**spread, _RAIN: np.maximum(spread[_RAIN], 0.0)}

    return change


def clipped(fields: Fields) -> Fields:
    """No value of a cell lies above the 98th percentile of its members."""
    return {
        name: np.minimum(x, np.quantile(x.reshape(-1, *x.shape[2:]), 0.98, axis=0))
        for name, x in fields.items()
    }


WRONG: Mapping[str, Wrong] = {
    GOOD: Wrong("nothing: the good ensemble", lambda fields: fields),
    "shuffled": Wrong("days shuffled", shuffled),
    "shifted": Wrong("two days late", shifted),
    "decoupled": Wrong("rain of another day", decoupled),
    "biased": Wrong("1 K too warm", biased),
    "blurred": Wrong("means of 3 x 3 cells", blurred),
    "noised": Wrong("white noise, 30 % of the deviation", noised),
    "repeated": Wrong("one member repeated", repeated),
    "doubled": Wrong("spread doubled", spread_by(2.0)),
    "halved": Wrong("spread halved", spread_by(0.5)),
    "scaled": Wrong("rain times 0.8", scaled),
    "drizzled": Wrong("0.3 mm of rain where it is dry", drizzled),
    "clipped": Wrong("no value above P98", clipped),
}


@dataclass(frozen=True)
class Caught:
    """What the evaluation says of one ensemble.

    Attributes:
        name, what: as in `WRONG`.
        poor, fair, unknown: what findings of the level are about.
        scores: measures that are worse than those of the good one beyond doubt.
    """

    name: str
    what: str
    poor: tuple[str, ...]
    fair: tuple[str, ...]
    unknown: tuple[str, ...]
    scores: tuple[str, ...]


def judge_wrong(
    good: Path,
    folder: Path,
    *,
    reference: Sequence[Path],
    given: Sequence[Path] = (),
    resamples: int = 200,
) -> list[Caught]:
    """Spoil an ensemble in all ways, and judge all of them together.

    Args:
        good: tas and pr of several members.
        folder: for the files.
        reference, given: observations, and the input, of the same days.
        resamples: of the bootstrap.
    """
    files = write_wrong(good, folder)
    request = Request(
        outputs={name: (str(path),) for name, path in files.items()},
        reference=tuple(map(str, reference)),
        input=tuple(map(str, given)),
        pairing="paired",
        resamples=resamples,
    )
    evaluation = evaluate(request, folder / "states")
    assert evaluation is not None
    found = findings(evaluation)
    return [_caught(name, evaluation, found) for name in WRONG]


def write_wrong(good: Path, folder: Path) -> dict[str, Path]:
    """A file of each ensemble."""
    files = {name: folder / f"{name}.nc" for name in WRONG}
    with xr.open_dataset(good, decode_times=False) as dataset:
        fields, factors = _read(dataset)
        for name, wrong in WRONG.items():
            _write(files[name], dataset, wrong.change(fields), factors)
    return files


def _read(dataset: xr.Dataset) -> tuple[dict[str, Floats], dict[str, float]]:
    """Members, and the factors from mm day-1 and kelvins to the file's units."""
    factors = {_TEMPERATURE: 1.0, _RAIN: 1.0}
    if dataset[_RAIN].attrs["units"] == "kg m-2 s-1":
        factors[_RAIN] = 1.0 / 86400.0
    return {n: dataset[n].values.astype(np.float64) / f for n, f in factors.items()}, factors


def _write(path: Path, like: xr.Dataset, fields: Fields, factors: Mapping[str, float]) -> None:
    kept = [str(n) for n in like.variables if str(n) in like.coords or "bnds" in str(n)]
    dataset = like[kept]
    for name, values in fields.items():
        array = like[name].copy(data=(values * factors[name]).astype(np.float32))
        dataset[name] = array.drop_encoding()
    dataset.to_netcdf(path)


def _caught(name: str, evaluation: Evaluation, found: Sequence[Finding]) -> Caught:
    def about(level: str) -> tuple[str, ...]:
        chosen = [one for one in found if (one.output, one.level) == (name, level)]
        return tuple(
            _joined((one.measure or _without_a_score(one), one.variable) for one in chosen)
        )

    by_place = {(s.output, s.variable, s.measure): s for s in evaluation.scores}
    worse = [
        (measure.name, variable)
        for measure in MEASURES
        for variable in (_TEMPERATURE, _RAIN, f"{_TEMPERATURE}+{_RAIN}")
        if _is_worse(
            measure,
            by_place.get((name, variable, measure.name)),
            by_place.get((GOOD, variable, measure.name)),
        )
    ]
    told = about("poor"), about("fair"), about("unknown")
    return Caught(name, WRONG[name].what, *told, tuple(_joined(worse)))


def _without_a_score(finding: Finding) -> str:
    return "repeated members" if "one and the same" in finding.text else "the prior's days"


def _joined(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Measure (variables), in the order met."""
    by_measure: dict[str, list[str]] = {}
    for measure, variable in pairs:
        by_measure.setdefault(measure, []).append(variable)
    return [
        f"{measure} ({', '.join(names)})" if any(names) else measure
        for measure, names in by_measure.items()
    ]


def _is_worse(measure: Measure, ours: Score | None, good: Score | None) -> bool:
    """Whether the intervals are apart, and ours is the farther from what is best."""
    if ours is None or good is None or measure.best == "none":
        return False
    one, other = (_distances(measure, score) for score in (ours, good))
    return one is not None and other is not None and one[0] > other[1]


def _distances(measure: Measure, score: Score) -> tuple[float, float] | None:
    """How near to what is best the interval comes, and how far from it."""
    if score.low is None or score.high is None:
        return None
    if measure.best == "high":
        return -score.high, -score.low
    best = {"one": 1.0, "reference": score.reference or 0.0}.get(measure.best, 0.0)
    low, high = score.low - best, score.high - best
    near = 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))
    return near, max(abs(low), abs(high))


def print_table(rows: Sequence[Caught]) -> None:
    """Markdown."""
    print("| what was done | poor | fair | cannot be told | scores that are worse |")
    print("|---|---|---|---|---|")
    for row in rows:
        told = (row.poor, row.fair, row.unknown)
        cells = [", ".join(part) or "-" for part in told]
        print(f"| {row.what} | {' | '.join(cells)} | {len(row.scores)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("output", type=Path, nargs="?")
    parser.add_argument("--reference", type=Path, action="append", default=[])
    parser.add_argument("--input", type=Path, action="append", default=[])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = arguments.output, arguments.reference, arguments.input
        if arguments.output is None:
            given = write_exchangeable(Path(folder))
        rows = judge_wrong(given[0], Path(folder), reference=given[1], given=given[2])
    print_table(rows)
    if arguments.json is not None:
        text = json.dumps([asdict(row) for row in rows], indent=1)
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
