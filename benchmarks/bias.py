"""Bias of a climate model against observations, before and after adjustment; changes kept.

    python benchmarks/bias.py --data DIR

DIR holds CNRM-CM5 and E-OBS over Iberia, see `FILES`. Prints three tables: bias of mean and 95th
percentile in sample and on winters that were not fitted; the change between historical and RCP8.5
by quantile, raw and adjusted; how far (tas, pr) together are from observed days that were not
fitted, raw, after quantile delta mapping of each, and after optimal transport of both.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from climdown import cf
from climdown.adjust.options import OTOptions, QDMOptions
from climdown.adjust.ot import ot_file
from climdown.adjust.qdm import qdm_file
from climdown.arrays import Float64
from climdown.inputs.onto import onto
from climdown.metrics.scores import maximum_mean_discrepancy, sliced_wasserstein

FILES = {
    "ref": "{v}_day_E-OBS_025deg_*.nc",
    "hist": "{v}_day_CNRM-CM5_historical_*.nc",
    "sim": "{v}_day_CNRM-CM5_rcp85_*.nc",
}
# Longer observations of precipitation, on 0.5 degrees.
LONG = "{v}_day_E-OBS_050deg_*.nc"
UNITS = {"tas": "degC", "pr": "mm day-1"}
QUANTILES = np.arange(0.05, 0.96, 0.05)
WET = 0.5  # mm day-1: ratios of smaller quantiles say nothing


def read(path: str | Path, variable: str, like: cf.Field | None = None) -> tuple[Float64, cf.Field]:
    """Values in usual units, on the grid of `like`, shape (time, cells)."""
    path = cf.expand_paths([path])[0]
    with cf.open_dataset(path) as dataset:
        wanted = cf.quantity_like(dataset[variable])
    quantity = cf.Quantity(wanted.name, wanted.standard_names, wanted.names, UNITS[variable])
    field = cf.open_field(path, quantity)
    if like is not None:
        field = onto(field, like.grid, min_coverage=0.1)
    values = field.read(slice(0, len(field.time))).astype(np.float64)
    return values.reshape(len(values), -1), field


def winters(folder: Path, pattern: Path, parity: int) -> str:
    """A file with every other winter of another, from the first (0) or the second (1) on."""
    (source,) = cf.expand_paths([pattern])
    output = folder / f"winters{parity}-{source.name}"
    if not output.exists():
        with xr.open_dataset(source) as dataset:
            time = dataset["time"].dt
            number = time.year + (time.month == 12)
            dataset.isel(time=(number - number[0]) % 2 == parity).to_netcdf(output)
    return str(output)


def bias_table(folder: Path, data: Path) -> None:
    """Mean over cells of the absolute bias of mean and 95th percentile."""
    print("\nBias against E-OBS on the model's grid: mean over cells of |bias|, DJF")
    print("held out: every other observed winter fitted, judged on the others; hist all winters")
    names = ("raw", "adjusted", "fitted obs.")
    head = "".join(f"{f'{s} {n}':>18}" for s in ("mean", "P95") for n in names)
    print(f"{'variable':<10}{'days':<24}{head}")
    for variable, pattern, held in (
        ("tas", FILES["ref"], False),
        ("tas", FILES["ref"], True),
        ("pr", FILES["ref"], False),
        ("pr", FILES["ref"], True),
        ("pr", LONG, False),
        ("pr", LONG, True),
    ):
        path = data / "iberia" / pattern.format(v=variable)
        fitted, judged = (winters(folder, path, i) if held else str(path) for i in (0, 1))
        hist = str(data / "iberia" / FILES["hist"].format(v=variable))
        output = folder / "adjusted.nc"
        qdm_file([hist], output, ref=[fitted], hist=[hist], overwrite=True)
        after, field = read(output, variable)
        before, target, first = (read(f, variable, field)[0] for f in (hist, judged, fitted))
        valid = np.isfinite(after).all(axis=0) & (np.isfinite(target).mean(axis=0) > 0.9)
        row: list[float] = []
        for statistic in (_mean, _p95):
            wanted = statistic(target[:, valid])
            biases = (statistic(v[:, valid]) - wanted for v in (before, after, first))
            row.extend(float(np.abs(bias).mean()) for bias in biases)
        label = f"{'held out' if held else 'in sample'}, {len(target)} days"
        print(f"{variable:<10}{label:<24}" + "".join(f"{value:>18.3f}" for value in row))


def _mean(values: Float64) -> Float64:
    return np.asarray(np.nanmean(values, axis=0))


def _p95(values: Float64) -> Float64:
    return np.asarray(np.nanquantile(values, 0.95, axis=0))


def change_table(folder: Path, data: Path) -> None:
    """The change of each quantile from historical to RCP8.5, raw and adjusted.

    Deviations are relative, to the raw ratio or the mean raw change: of each quantile's mean over
    cells and months, the worst; of every quantile, cell and month.
    """
    print("\nChange RCP8.5 minus historical (pr: ratio) of quantiles 0.05..0.95, each cell")
    print(
        f"{'variable':<10}{'group':<8}{'raw':>10}{'adjusted':>10}{'worst quantile':>18}"
        f"{'95 % of all':>18}{'worst of all':>18}{'highest':>12}"
    )
    groups: tuple[Literal["none", "month"], ...] = ("none", "month")
    for variable in ("tas", "pr"):
        names = {k: str(data / "iberia" / v.format(v=variable)) for k, v in FILES.items()}
        for group in groups:
            raw, adjusted, highest = _changes_of_groups(folder, names, variable, group)
            scale = raw if variable == "pr" else np.nanmean(raw)
            deviation = np.abs(adjusted - raw) / np.abs(scale)
            means = [np.nanmean(v[np.isfinite(raw).any(axis=1)], axis=1) for v in (raw, adjusted)]
            by_quantile = np.abs(means[1] - means[0]) / np.abs(means[0])
            print(
                f"{variable:<10}{group:<8}{np.nanmean(raw):>10.3f}{np.nanmean(adjusted):>10.3f}"
                f"{np.nanmax(by_quantile):>18.2%}{np.nanquantile(deviation, 0.95):>18.2%}"
                f"{np.nanmax(deviation):>18.2%}{highest:>12.4g}"
            )


def _changes_of_groups(
    folder: Path, names: Mapping[str, str], variable: str, group: Literal["none", "month"]
) -> tuple[Float64, Float64, float]:
    """Raw and adjusted changes, shape (quantiles, cells and months), and the highest value."""
    output, options = folder / "change.nc", QDMOptions(group=group)
    qdm_file(
        [names["sim"]],
        output,
        ref=[names["ref"]],
        hist=[names["hist"]],
        options=options,
        overwrite=True,
    )
    scen, field = read(output, variable)
    series = [read(names[k], variable, field) for k in ("ref", "hist", "sim")]
    series.append((scen, field))
    changes = []
    for month in (12, 1, 2) if group == "month" else (0,):
        parts = [
            values[[month in (0, date.month) for date in field.time.dates]]
            for values, field in series
        ]
        changes.append(_changes(variable, parts))
    raw, adjusted = (np.concatenate(v, axis=1) for v in zip(*changes, strict=True))
    return raw, adjusted, float(np.nanmax(scen))


def _changes(variable: str, parts: Sequence[Float64]) -> tuple[Float64, Float64]:
    """Raw and adjusted change of each quantile in cells that have a reference."""
    ref, _, _, scen = parts
    valid = np.isfinite(scen).all(axis=0) & (np.isfinite(ref).mean(axis=0) > 0.9)
    quantiles = [np.nanquantile(values[:, valid], QUANTILES, axis=0) for values in parts]
    q_ref, q_hist, q_sim, q_scen = quantiles
    if variable == "tas":
        return q_sim - q_hist, q_scen - q_ref
    wet = np.minimum.reduce(quantiles) > WET
    raw, adjusted = (
        np.where(wet, above / np.where(wet, below, 1.0), np.nan)
        for above, below in ((q_sim, q_hist), (q_scen, q_ref))
    )
    return raw, adjusted


def transport_table(folder: Path, data: Path) -> None:
    """How far (tas, pr) together are from observed days that were not fitted."""
    samples = _samples(folder, data)
    valid = np.logical_and.reduce([np.isfinite(v).mean(axis=0) > 0.95 for v in samples.values()])
    valid &= np.tile(valid.reshape(2, -1).all(axis=0), 2)
    complete = {k: v[:, valid][np.isfinite(v[:, valid]).all(axis=1)] for k, v in samples.items()}
    mean, std = complete["judged obs."].mean(axis=0), complete["judged obs."].std(axis=0)
    scaled = {k: (v - mean) / std for k, v in complete.items()}
    expected = np.corrcoef(np.concatenate([scaled["judged obs."], scaled["fitted obs."]]).T)
    cells = len(expected) // 2
    tied = expected[np.arange(cells), np.arange(cells) + cells]
    print("\nDays of (tas, pr) together: every other winter fitted, judged on the others")
    print(f"over {cells} cells; corr(tas, pr) is {tied.mean():.3f} in all observed winters")
    print("error: mean absolute error against these, over cells; over all pairs of columns")
    print(
        f"{'sample':<14}{'days':>6}{'sliced W2':>12}{'MMD':>10}{'corr(tas, pr)':>16}{'error':>8}"
        f"{'all pairs':>12}{'std/obs':>9}"
    )
    target = scaled["judged obs."]
    for name, points in scaled.items():
        correlations = np.corrcoef(points.T)
        pairs = correlations[np.arange(cells), np.arange(cells) + cells]
        same = name == "judged obs."
        distances = (
            0.0 if same else sliced_wasserstein(points, target),
            0.0 if same else maximum_mean_discrepancy(points, target),
        )
        print(
            f"{name:<14}{len(points):>6}{distances[0]:>12.3f}{distances[1]:>10.4f}"
            f"{pairs.mean():>16.3f}{np.abs(pairs - tied).mean():>8.3f}"
            f"{np.abs(correlations - expected).mean():>12.3f}{points.std(axis=0).mean():>9.3f}"
        )


def _samples(folder: Path, data: Path) -> dict[str, Float64]:
    """Observed days that were judged and fitted, and the model's, raw and adjusted."""
    names = ("tas", "pr")
    even, odd = (
        {
            k: [winters(folder, data / "iberia" / v.format(v=name), parity) for name in names]
            for k, v in FILES.items()
        }
        for parity in (0, 1)
    )
    mapped = [str(folder / f"qdm-{name}.nc") for name in names]
    for i, output in enumerate(mapped):
        qdm_file([odd["hist"][i]], output, ref=[even["ref"][i]], hist=[even["hist"][i]])
    moved, options = folder / "ot.nc", OTOptions(keep_change=False)
    ot_file(
        odd["hist"], moved, ref=even["ref"], hist=even["hist"], variables=names, options=options
    )
    like = read(moved, "tas")[1]
    sources = {
        "judged obs.": odd["ref"],
        "fitted obs.": even["ref"],
        "raw": odd["hist"],
        "qdm": mapped,
        "ot": [str(moved)] * 2,
    }
    return {name: _together(files, like) for name, files in sources.items()}


def _together(files: list[str], like: cf.Field) -> Float64:
    """tas and log(1 + pr / 0.1) side by side on the days they share."""
    columns, days = [], []
    for variable, file in zip(("tas", "pr"), files, strict=True):
        values, field = read(file, variable, like)
        columns.append(np.log1p(values / 0.1) if variable == "pr" else values)
        days.append([(d.year, d.month, d.day) for d in field.time.dates])
    common = sorted(set(days[0]) & set(days[1]))
    aligned = [c[[d.index(x) for x in common]] for c, d in zip(columns, days, strict=True)]
    return np.concatenate(aligned, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    logging.getLogger("climdown").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        bias_table(Path(folder), arguments.data)
        change_table(Path(folder), arguments.data)
        transport_table(Path(folder), arguments.data)


if __name__ == "__main__":
    main()
