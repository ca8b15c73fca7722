"""Small evaluations, with the sums that figures are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr

from climdown.evaluation.evaluate import Evaluation, evaluate
from climdown.evaluation.finding import Finding
from climdown.evaluation.plan import Plan
from climdown.evaluation.request import REFERENCE, Request
from climdown.evaluation.states import Key, States
from climdown.evaluation.statistics import Sums
from climdown.metrics.spectra import rapsd, tapered_spectrum
from tests.factories import Floats, make_dataset

LAT, LON = np.arange(40.25, 46, 0.5), np.arange(-4.75, 3, 0.5)
COARSE_LAT, COARSE_LON = np.arange(41.0, 46, 2.0), np.arange(-4.0, 3, 2.0)
DAYS = 60
SEA = np.zeros((LAT.size, LON.size), dtype=bool)
SEA[:4, :6] = True
FINE, FLAT = "fine", "flat"
"""Outputs: of five members, and of one."""
FINDINGS = (
    Finding(FINE, "tas", "good", "Members are as sharp as the reference.", "ratio within 0.1"),
    Finding(FINE, "pr", "poor", "It rains too often, by <5 points>.", "more than 5 points"),
    Finding(FINE, "tas+pr", "unknown", "Too few days.", "fewer than 10"),
    Finding(FLAT, "", "fair", "A single member.", "one member"),
)


def write_files(folder: Path, *, still: bool = False) -> None:
    """Reference, input and two outputs of tas and pr, with sea, of sixty winter days.

    Args:
        still: all values are the same: 285 K, and no rain.
    """
    rng = np.random.default_rng(3)
    for name, more in (
        ("tas", {"standard_name": "air_temperature", "units": "K"}),
        ("pr", {"standard_name": "precipitation_flux", "units": "mm day-1"}),
    ):
        truth = _weather(rng, name)
        if still:
            truth = np.full_like(truth, 285.0 if name == "tas" else 0.0)
        coarse = truth.reshape(DAYS, 3, 4, 4, 4).mean((2, 4))
        members = [truth if still else _noisy(truth, rng, name) for _ in range(5)]
        settings: dict[str, object] = {"name": name, **more, "lat": LAT, "lon": LON, "missing": SEA}
        _write(folder / f"obs_{name}.nc", truth, settings)
        _write(folder / f"flat_{name}.nc", truth + 0.5, settings)
        settings |= {"lat": COARSE_LAT, "lon": COARSE_LON, "missing": None}
        _write(folder / f"coarse_{name}.nc", coarse, settings)
        settings |= {"lat": LAT, "lon": LON, "missing": SEA}
        parts = [_write(None, one, settings) for one in members]
        joined = parts[0].copy()
        joined[name] = xr.concat([p[name] for p in parts], dim="realization")
        joined = joined.transpose("time", "realization", ...)
        joined["realization"] = ("realization", np.arange(1, 6), {"standard_name": "realization"})
        joined.to_netcdf(folder / f"fine_{name}.nc")


def _weather(rng: np.random.Generator, name: str) -> Floats:
    noise = rng.normal(size=(DAYS, LAT.size, LON.size))
    smooth = 4 * sum(np.roll(noise, (i, j), (1, 2)) for i in range(3) for j in range(3)) / 9
    swing = 3 * np.sin(np.arange(DAYS) / 5)[:, None, None]
    return 285.0 + smooth + swing if name == "tas" else np.maximum(2 * (smooth + swing), 0.0)


def _noisy(truth: Floats, rng: np.random.Generator, name: str) -> Floats:
    noisy = truth + rng.normal(size=truth.shape)
    return noisy if name == "tas" else np.maximum(noisy, 0.0)


def _write(path: Path | None, fields: Floats, settings: Mapping[str, object]) -> xr.Dataset:
    days = [day + 0.5 for day in range(DAYS)]
    return make_dataset(
        path=path,
        times=days,
        time_units="days since 2000-12-01",
        values=lambda lat, lon, step: fields[step],
        **settings,  # type: ignore[arg-type]
    )


def request(folder: Path, **settings: object) -> Request:
    """To judge all that `write_files` wrote."""
    both = ("tas", "pr")
    outputs = {n: tuple(str(folder / f"{n}_{v}.nc") for v in both) for n in (FINE, FLAT)}
    return Request(
        outputs=outputs,
        reference=tuple(str(folder / f"obs_{v}.nc") for v in both),
        input=tuple(str(folder / f"coarse_{v}.nc") for v in both),
        **settings,  # type: ignore[arg-type]
    )


def small_evaluation(folder: Path, *, still: bool = False, **settings: object) -> Evaluation:
    """Sums and scores of small files that are written into a folder."""
    write_files(folder, still=still)
    result = evaluate(request(folder, **settings), folder / "states")
    assert result is not None
    return result


def complete(evaluation: Evaluation) -> Evaluation:
    """An evaluation with every sum that a figure may ask for; those that are there stay.

    The sums are computed plainly, from all values at once.
    """
    states = States()
    states.merge(evaluation.states)
    added = States()
    for variable in evaluation.plan.scenes:
        for source in (REFERENCE, *evaluation.plan.outputs):
            _add(added, evaluation.plan, source, variable)
    for key, values in added.sums.items():
        if key not in states.sums:
            states.add(key, added.first[key], values)
    return replace(evaluation, states=states)


def values_of(plan: Plan, source: str, variable: str) -> Floats:
    """Judged values, shape (time, member, ny, nx), NaN outside the mask."""
    ensemble = plan.reference if source == REFERENCE else plan.outputs[source]
    read = ensemble.read(variable, slice(None))[plan.segments[source].steps]
    values: Floats = read.astype(np.float64)
    values[..., ~plan.scenes[variable].mask] = np.nan
    return values


def _add(states: States, plan: Plan, source: str, variable: str) -> None:
    values, labels = values_of(plan, source, variable), plan.segments[source]
    truth = values_of(plan, REFERENCE, variable)[:, 0]
    for block in range(labels.count("blocks")):
        part = values[labels.block == block]
        sums = _spectra(part, plan.scenes[variable].mask)
        _place(states, ("blocks", source, variable), block, sums)
    for group in range(labels.count("groups")):
        inside = labels.group == group
        sums = _moments(values[inside], plan, variable)
        _place(states, ("groups", source, variable), group, sums)
        if source != REFERENCE and plan.paired:
            sums = _pairs(values[inside], truth[inside], plan, variable)
            _place(states, ("groups", f"{source}/pairs", variable), group, sums)


def _place(states: States, key: tuple[str, str, str], segment: int, sums: Sums) -> None:
    along, source, variable = key
    for name, one in sums.items():
        states.add(Key(along, source, variable, name), segment, np.asarray(one, float)[None])  # type: ignore[arg-type]


def _spectra(values: Floats, mask: npt.NDArray[np.bool_]) -> Sums:
    fields = values.reshape(-1, *values.shape[2:])
    _, power = tapered_spectrum(fields, mask)
    assert power.shape == rapsd(np.zeros((1, *mask.shape)))[1].shape
    return {"power": len(fields) * power, "fields": np.array(float(len(fields)))}


def _moments(values: Floats, plan: Plan, variable: str) -> Sums:
    scene = plan.scenes[variable]
    known = np.isfinite(values)
    bins = np.searchsorted(scene.pooled, values[known], side="right")
    areas = np.broadcast_to(scene.areas, values.shape)[known]
    return {
        "sum": np.nansum(values, axis=(0, 1)),
        "count": known.sum(axis=(0, 1)).astype(float),
        "pooled": np.bincount(bins, weights=areas, minlength=len(scene.pooled) + 1),
    }


def _pairs(members: Floats, truth: Floats, plan: Plan, variable: str) -> Sums:
    scene, count = plan.scenes[variable], members.shape[1]
    known = np.isfinite(truth)
    areas = np.broadcast_to(scene.areas, truth.shape)[known]
    flat, happened = np.moveaxis(members, 1, -1)[known], truth[known]
    mean, error = flat.mean(-1), flat.mean(-1) - happened
    variance = flat.var(-1, ddof=1) if count > 1 else np.zeros(len(flat))
    rank = (flat < happened[:, None]).sum(-1)
    third = np.searchsorted(np.quantile(mean, (1 / 3, 2 / 3)), mean)
    bins = np.searchsorted(np.quantile(variance, np.linspace(0, 1, 11)[1:-1]), variance)
    ranks, spread = np.zeros((3, count + 1)), np.zeros((10, 3))
    np.add.at(ranks, (third, rank), areas)
    np.add.at(
        spread, bins, areas[:, None] * np.stack([np.ones_like(error), variance, error**2], -1)
    )
    reliability = np.zeros((len(scene.thresholds), count + 1, 2))
    for i, threshold in enumerate(scene.thresholds.values()):
        forecast = (flat > threshold).sum(-1)
        cases = np.stack([areas, areas * (happened > threshold)], -1)
        np.add.at(reliability[i], forecast, cases)
    apart = np.abs(members[:, :, None] - members[:, None]).mean((1, 2)) * count / max(count - 1, 1)
    crps = np.abs(members - truth[:, None]).mean(1) - 0.5 * apart
    return {
        "ranks": ranks,
        "spread_skill": spread,
        "reliability": reliability,
        "weight_map": known.sum(0).astype(float),
        "crps_map": np.nansum(crps, 0),
        "variance_map": np.nansum(members.var(1, ddof=1) if count > 1 else 0 * truth, 0),
    }
