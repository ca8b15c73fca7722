"""Part c of the scoreboard: a real climate model, whose days are no day's weather.

CNRM-CM5 (1.4 degrees) over Iberia in winter against E-OBS (0.25 degree): bias of the climate of
each cell, against the raw input interpolated; correlation with the input after averaging over its
cells; and the change to RCP8.5, which no step should alter. Two adjustments of the input's bias:

prior   quantiles that the prior carries, of its training winters. Judged against the winters that
        it was not trained on (held out), and, apart, against those that it was (in sample).
files   E-OBS of `REFERENCE_PERIOD` (pr from the longer record on 0.5 degree). Judged against the
        winters after it, which the adjustment has not seen, though the prior has been trained on
        some of them.

The rows "observed" hold the observed winters of the reference against those judged: what the
weather of so few winters allows.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import competitors, paired, running
from benchmarks.competitors import Competitor, Drawn
from benchmarks.judging import COST, SPECTRAL, Row, Written, judged
from climdown import cf
from climdown.arrays import Floats, Mask
from climdown.config import PriorConfig, VariableConfig, load_config
from climdown.grid import Grid
from climdown.metrics import cells, scores
from climdown.priors.prior import Prior
from climdown.priors.store import load_prior

PRIORS = paired.IBERIA
HISTORICAL = "iberia/{name}_day_CNRM-CM5_historical_*.nc"
SCENARIO = "iberia/{name}_day_CNRM-CM5_rcp85_*.nc"
REFERENCE = {
    "tas": "iberia/tas_day_E-OBS_025deg_*.nc",
    "pr": "iberia/pr_day_E-OBS_050deg_*.nc",
}
REFERENCE_PERIOD = "1982-12-01/1994-02-28"
# A cell is judged where so many of the observed days have a value.
_OBSERVED = 0.9

RAW = "raw input, interpolated"
CLIMATE = (
    *("mean_error", "mean_vs_raw_%", "p95_error", "p95_vs_raw_%", "p99_error", "p99_vs_raw_%"),
    *("wet_share", "wet_share_observed", "wet_day_frequency_error", *SPECTRAL),
    *("coarse_correlation", "raw_correlation", *COST),
)
CHANGE = (
    *("raw", "guide", "members", "members_vs_guide_%", "members_vs_raw_%"),
    *("ratio_vs_guide_%", "ratio_vs_raw_%", "cell_error_guide", "cell_error_raw"),
)


@dataclass(frozen=True, eq=False)
class Observed:
    """Observed winters by variable, and which days of them are judged.

    Attributes:
        grid: of the fields.
        fields: all days, by variable, shape (time, ny, nx).
        judged, fitted: days that are judged, and those that the adjustment knows.
    """

    label: str
    grid: Grid
    fields: Mapping[str, Floats]
    judged: Mask
    fitted: Mask


def run(options: argparse.Namespace, methods: list[Competitor]) -> dict[str, Any]:
    """Tables of climate and of change, printed as they come."""
    priors = {kind: load_prior(name) for kind, name in PRIORS.items()}
    config = load_config(options.examples / f"{PRIORS['diffusion']}.toml")
    axis, fields = observations(config, options.data)
    trained, late = running.inside(axis, config.data.train), after(axis, REFERENCE_PERIOD)
    early = running.inside(axis, REFERENCE_PERIOD)
    fine = priors["diffusion"].card.grid
    plans = {
        "prior": [
            Observed("held out", fine, fields, ~trained, trained),
            Observed("in sample", fine, fields, trained, trained),
        ],
        "files": [Observed("held out of the adjustment", fine, fields, late, early)],
    }
    with tempfile.TemporaryDirectory() as name:
        return _tables(options, methods, priors, config, axis, plans, Path(name))


def _tables(
    options: argparse.Namespace,
    methods: list[Competitor],
    priors: Mapping[str, Prior],
    config: PriorConfig,
    axis: cf.TimeAxis,
    plans: Mapping[str, list[Observed]],
    folder: Path,
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    early = running.inside(axis, REFERENCE_PERIOD)
    for adjustment, winters in plans.items():
        if adjustment == "files" and not early.any():
            print(f"\nadjustment 'files': left out, no observed day lies in {REFERENCE_PERIOD}")
            continue
        here = folder / adjustment
        historical = downscale(adjustment, HISTORICAL, options, methods, priors, here / "past")
        if not historical:
            continue
        for place, observed in enumerate(winters):
            if not observed.judged.any():
                continue
            title = f"gcm, bias from {adjustment}, {observed.label}"
            files = write_winters(here / f"winters {place}", config, observed, axis, historical)
            results[title] = climate_table(title, observed, historical, files, options.members)
        if adjustment == "prior":
            future = downscale(adjustment, SCENARIO, options, methods, priors, here / "future")
            results["change"] = change_table(config, historical, future, priors)
            results |= speeds(historical)
    return results


@dataclass(frozen=True)
class Winters:
    """Files of a table: the winters judged, those fitted unless judged, and the input.

    Attributes:
        guide, raw: the input where it guides, adjusted and as it is.
    """

    judged: Path
    fitted: Path | None
    guide: Path
    raw: Path


def write_winters(
    folder: Path,
    config: PriorConfig,
    observed: Observed,
    axis: cf.TimeAxis,
    drawn: Mapping[str, Drawn],
) -> Winters:
    """Write what the methods are judged by."""
    folder.mkdir(parents=True)
    variables, first = config.data.variables, next(iter(drawn.values()))

    def write_days(name: str, days: Mask) -> Path:
        chosen = cf.time_axis(list(axis.dates[days]), units="days since 1900-01-01")
        values = {n: fields[days] for n, fields in observed.fields.items()}
        running.write_fields(folder / name, observed.grid, chosen, variables, values, {})
        return folder / name

    def write_input(name: str, values: Mapping[str, Floats]) -> Path:
        known = {n: np.where(np.isfinite(first.guide[n]), x, np.nan) for n, x in values.items()}
        running.write_fields(folder / name, first.grid, first.axis, variables, known, {})
        return folder / name

    overlap = (observed.judged & observed.fitted).any()
    return Winters(
        judged=write_days("judged.nc", observed.judged),
        fitted=None if overlap else write_days("fitted.nc", observed.fitted),
        guide=write_input("guide.nc", first.guide),
        raw=write_input("raw.nc", first.raw),
    )


def climate_table(
    title: str, observed: Observed, drawn: Mapping[str, Drawn], files: Winters, members: int
) -> list[Row]:
    """Rows of the climate of a period, printed."""
    rows = climate(drawn, files)
    first = next(iter(drawn.values()))
    running.print_table(
        f"{title}: {int(observed.judged.sum())} observed days, {len(first.dates)} days of the "
        f"model, {members} members",
        rows,
        ("variable", "method", *CLIMATE),
    )
    return rows


def change_table(
    config: PriorConfig,
    historical: Mapping[str, Drawn],
    future: Mapping[str, Drawn],
    priors: Mapping[str, Prior],
) -> list[Row]:
    """Rows of the change between two periods, printed."""
    fine = priors["diffusion"].card.grid
    rows = [row for v in config.data.variables for row in changes(v, historical, future, fine)]
    running.print_table(
        "gcm, change from historical to RCP8.5", rows, ("variable", "method", *CHANGE)
    )
    return rows


def speeds(drawn: Mapping[str, Drawn]) -> dict[str, Any]:
    """Seconds per field of each method, and how much longer the bridge takes than cm, printed."""
    seconds = {label: one.seconds for label, one in drawn.items()}
    if not {"bridge", "cm"} <= set(seconds):
        return {"seconds": seconds}
    ratio = seconds["bridge"] / seconds["cm"]
    print(f"\nbridge takes {ratio:.1f} times as long as cm")
    return {"seconds": seconds, "bridge_over_cm": ratio}


def observations(config: PriorConfig, data: Path) -> tuple[cf.TimeAxis, dict[str, Floats]]:
    """All observed days."""
    fields = {v.name: running.open_truth(v, data) for v in config.data.variables}
    axis = next(iter(fields.values())).time
    return axis, {n: f.read(slice(0, len(axis))).astype(np.float64) for n, f in fields.items()}


def after(axis: cf.TimeAxis, period: str) -> Mask:
    """Steps after the end of a period."""
    end = tuple(map(int, period.split("/")[1].split("-")))
    return np.array([(d.year, d.month, d.day) > end for d in axis.dates])


def downscale(
    adjustment: str,
    pattern: str,
    options: argparse.Namespace,
    methods: list[Competitor],
    priors: Mapping[str, Prior],
    folder: Path,
) -> dict[str, Drawn]:
    """What each method makes of the model, its bias adjusted."""
    names = [v.name for v in priors["diffusion"].card.variables]
    settings: dict[str, Any] = {
        "members": options.members,
        "bias": "qdm",
        "historical": tuple(str(options.data / HISTORICAL.format(name=n)) for n in names),
    }
    if adjustment == "files":
        settings["reference"] = tuple(str(options.data / REFERENCE[n]) for n in names)
        settings["reference_period"] = REFERENCE_PERIOD
    inputs = [options.data / pattern.format(name=name) for name in names]
    wanted = cf.Quantity("tas", ("air_temperature",), ("tas",), "K")
    periods = competitors.stretches(cf.open_field(inputs, wanted).time, None, options.days)
    return competitors.draw_all(methods, priors, inputs, settings, folder, periods)


def climate(drawn: Mapping[str, Drawn], files: Winters) -> list[Row]:
    """Rows of all variables: the raw input, the methods, and the floor."""
    outputs = {label: one.written for label, one in drawn.items()}
    against_raw = judged(
        outputs, files.judged, given=[files.raw], pairing="unpaired", interpolated=RAW
    )
    against_guide = judged(outputs, files.judged, given=[files.guide], pairing="unpaired")
    guided = {(row["variable"], row["method"]): row for row in against_guide}
    rows: list[Row] = []
    for row in against_raw:
        ours = guided.get((row["variable"], row["method"]), row)
        rows.append({**ours, "raw_correlation": row.get("coarse_correlation")})
    if files.fitted is not None:
        fitted = {"observed": Written((files.fitted,))}
        rows += judged(fitted, files.judged, pairing="unpaired")
    _compare_with_raw(rows)
    return sorted(rows, key=lambda row: str(row["variable"]), reverse=True)


def _compare_with_raw(rows: list[Row]) -> None:
    """Add to each row by how many percent its errors differ from those of the raw input."""
    raw = {row["variable"]: row for row in rows if row["method"] == RAW}
    for row in (row for row in rows if row["method"] != RAW):
        for measure in ("mean", "p95", "p99"):
            ours, theirs = (x.get(f"{measure}_error") for x in (row, raw[row["variable"]]))
            if isinstance(ours, float) and isinstance(theirs, float):
                row[f"{measure}_vs_raw_%"] = 100.0 * (ours / theirs - 1.0)


def changes(
    variable: VariableConfig,
    historical: Mapping[str, Drawn],
    future: Mapping[str, Drawn],
    fine: Grid,
) -> list[Row]:
    """Change of the domain's mean and of each coarse cell's: the input's and the members'.

    All on the coarse cells that guided in both. For precipitation the ratio of the two periods'
    means is compared too, since that is what adjustment keeps.
    """
    name, ratio = variable.name, variable.transform == "log"
    rows: list[Row] = []
    for method, before in historical.items():
        pair = before, future[method]
        guides = [one.guide[name] for one in pair]
        valid = np.logical_and.reduce([np.isfinite(x).any(axis=0) for x in guides])
        raws = [np.where(valid, one.raw[name], np.nan) for one in pair]
        members = []
        for one in pair:
            values = running.coarsened(one.members(variable), fine, one.grid)
            members.append(np.where(valid, values.reshape(-1, *before.grid.shape), np.nan))
        row: Row = {"variable": f"{name} ({variable.units})", "method": method}
        rows.append(row | change_scores(members, guides, raws, before.grid.areas, ratio=ratio))
    return rows


def change_scores(
    members: list[Floats], guides: list[Floats], raws: list[Floats], areas: Floats, *, ratio: bool
) -> Row:
    """Numbers of `CHANGE`; each list holds the historical fields and the future ones."""
    change = {
        name: scores.mean_change(pair[0], pair[1], areas)
        for name, pair in (("raw", raws), ("guide", guides), ("members", members))
    }
    row: Row = dict(change)
    for other, pair in (("guide", guides), ("raw", raws)):
        difference = change["members"] - change[other]
        row[f"members_vs_{other}_%"] = 100.0 * difference / abs(change[other])
        row[f"cell_error_{other}"] = scores.change_error(
            members[0], members[1], pair[0], pair[1], areas
        )
        if ratio:
            quotient = _mean_ratio(members, areas) / _mean_ratio(pair, areas)
            row[f"ratio_vs_{other}_%"] = 100.0 * (quotient - 1.0)
    return row


def _mean_ratio(pair: list[Floats], areas: Floats) -> float:
    """Domain mean of the future over that of the past."""
    before, future = (scores.weighted_mean(cells.mean_by_cell(x), areas) for x in pair)
    return future / before
