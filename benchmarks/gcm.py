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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import competitors, paired, running
from benchmarks.competitors import Competitor, Drawn
from climdown import cf
from climdown.arrays import Floats, Mask
from climdown.config import PriorConfig, VariableConfig, load_config
from climdown.evaluation.paired import SPECTRAL, Forecast, Row, single, spectral
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

CLIMATE = (
    *("mean_error", "mean_vs_raw_%", "p95_error", "p95_vs_raw_%", "p99_error", "p99_vs_raw_%"),
    *("wet_days", "wet_days_observed", "wet_days_error", *SPECTRAL),
    *("corr_guide", "corr_raw", "evaluations", "seconds"),
)
CHANGE = (
    *("raw", "guide", "members", "members_vs_guide_%", "members_vs_raw_%"),
    *("ratio_vs_guide_%", "ratio_vs_raw_%", "cell_error_guide", "cell_error_raw"),
)


@dataclass(frozen=True, eq=False)
class Observed:
    """Observed winters by variable, and which days of them are judged.

    Attributes:
        fields: all days, by variable, shape (time, ny, nx).
        judged, fitted: days that are judged, and those that the adjustment knows.
    """

    label: str
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
    plans = {
        "prior": [
            Observed("held out", fields, ~trained, trained),
            Observed("in sample", fields, trained, trained),
        ],
        "files": [Observed("held out of the adjustment", fields, late, early)],
    }
    results: dict[str, Any] = {}
    for adjustment, judged in plans.items():
        if adjustment == "files" and not early.any():
            print(f"\nadjustment 'files': left out, no observed day lies in {REFERENCE_PERIOD}")
            continue
        historical = downscale(adjustment, HISTORICAL, options, methods, priors)
        if not historical:
            continue
        for observed in judged:
            if not observed.judged.any():
                continue
            title = f"gcm, bias from {adjustment}, {observed.label}"
            results[title] = climate_table(
                title, config, observed, historical, priors, options.members
            )
        if adjustment == "prior":
            future = downscale(adjustment, SCENARIO, options, methods, priors)
            results["change"] = change_table(config, historical, future, priors)
            results |= speeds(historical)
    return results


def climate_table(
    title: str,
    config: PriorConfig,
    observed: Observed,
    drawn: Mapping[str, Drawn],
    priors: Mapping[str, Prior],
    members: int,
) -> list[Row]:
    """Rows of the climate of a period, printed."""
    rows = [row for v in config.data.variables for row in climate(v, observed, drawn, priors)]
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
    return competitors.draw_all(methods, priors, inputs, settings, periods)


def climate(
    variable: VariableConfig,
    observed: Observed,
    drawn: Mapping[str, Drawn],
    priors: Mapping[str, Prior],
) -> list[Row]:
    """Rows of a variable: the raw input, the adjusted one, the methods, and the floor."""
    prior, name = priors["diffusion"], variable.name
    fine, first = prior.card.grid, next(iter(drawn.values()))
    mean = running.climatology(name, list(priors.values()))
    truth = observed.fields[name][observed.judged]
    forecasts = {
        "raw bilinear": single(running.bilinear(first.raw[name], first.grid, fine)),
        "bilinear": single(running.bilinear(first.guide[name], first.grid, fine)),
        "delta": single(running.delta(variable, first.guide[name], first.grid, fine, mean)),
    }
    for method, one in drawn.items():
        forecasts[method] = Forecast(one.members[name], one.seconds, one.evaluations)
    valid = np.isfinite(truth).mean(axis=0) >= _OBSERVED
    for forecast in forecasts.values():
        valid &= np.isfinite(forecast.values).all(axis=(0, 1))
    if not (observed.judged & observed.fitted).any():
        forecasts["observed"] = single(observed.fields[name][observed.fitted])
    wet = 1.0 if variable.transform == "log" else None
    rows: list[Row] = []
    for method, forecast in forecasts.items():
        row: Row = {"variable": f"{name} ({variable.units})", "method": method}
        row |= climate_scores(forecast.values, truth, fine.areas, valid, mean, wet=wet)
        if method != "observed":
            row |= correlations(forecast.values, drawn.get(method, first), name, fine, valid)
        rows.append(row | {"evaluations": forecast.evaluations, "seconds": forecast.seconds})
    _compare_with_raw(rows)
    return rows


def _compare_with_raw(rows: list[Row]) -> None:
    """Add to each row by how many percent its errors differ from those of the first row."""
    for row in rows[1:]:
        for measure in ("mean", "p95", "p99"):
            ours, raw = row[f"{measure}_error"], rows[0][f"{measure}_error"]
            row[f"{measure}_vs_raw_%"] = 100.0 * (float(str(ours)) / float(str(raw)) - 1.0)


def climate_scores(
    ensemble: Floats,
    truth: Floats,
    areas: Floats,
    valid: Mask,
    climatology: Floats,
    *,
    wet: float | None,
) -> Row:
    """Errors of each cell's statistics over days, all members as one sample, and of spectra.

    Args:
        ensemble, truth: shapes (n, member, ny, nx) and (m, ny, nx), of any days.
        valid: cells to judge.
        wet: least precipitation of a wet day, or None where there are none.
    """
    target = np.where(valid, truth, np.nan)
    pooled = np.where(valid, ensemble.reshape(-1, *ensemble.shape[2:]), np.nan)
    row: Row = {
        "mean_error": scores.mean_absolute_error(
            cells.mean_by_cell(pooled), cells.mean_by_cell(target), areas
        )
    }
    for name, quantile in (("p95_error", 0.95), ("p99_error", 0.99)):
        ours, theirs = (cells.quantile_by_cell(x, quantile) for x in (pooled, target))
        row[name] = scores.mean_absolute_error(ours, theirs, areas)
    if wet is not None:
        ours, theirs = (cells.wet_day_frequency(x, wet) for x in (pooled, target))
        row["wet_days"] = scores.weighted_mean(ours, areas)
        row["wet_days_observed"] = scores.weighted_mean(theirs, areas)
        row["wet_days_error"] = scores.mean_absolute_error(ours, theirs, areas)
    complete = np.isfinite(target).any(axis=(1, 2))
    days = np.isfinite(np.where(valid, ensemble, np.nan)).any(axis=(1, 2, 3))
    return row | spectral(ensemble[days], target[complete], valid, climatology)


def correlations(ensemble: Floats, drawn: Drawn, name: str, fine: Grid, valid: Mask) -> Row:
    """With what guided, and with the raw input, after averaging over the coarse cells."""
    ours = running.coarsened(np.where(valid, ensemble, np.nan), fine, drawn.grid)
    guide, areas = drawn.guide[name], drawn.grid.areas
    raw = np.where(np.isfinite(guide), drawn.raw[name], np.nan)
    return {
        "corr_guide": scores.coarse_correlation(ours, guide, areas),
        "corr_raw": scores.coarse_correlation(ours, raw, areas),
    }


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
            values = running.coarsened(one.members[name], fine, one.grid)
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
