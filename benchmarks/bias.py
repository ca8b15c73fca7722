"""Bias of a climate model against observations, before and after adjustment; changes kept.

    python benchmarks/bias.py --data DIR

DIR holds CNRM-CM5 and E-OBS over Iberia, see `FILES`. Prints three tables: bias of mean and 95th
percentile in sample and on winters that were not fitted; the change between historical and RCP8.5
by quantile, raw and adjusted; distance of (tas, pr) to observed days, raw and after transport.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr

from climdown import cf, matching
from climdown.adjust.ot import ot_file
from climdown.adjust.qdm import qdm_file
from climdown.config import OTConfig, QDMConfig
from climdown.evaluation.metrics import maximum_mean_discrepancy, sliced_wasserstein

Array = npt.NDArray[np.float64]

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


def read(path: str | Path, variable: str, like: cf.Field | None = None) -> tuple[Array, cf.Field]:
    """Values in usual units, on the grid of `like`, shape (time, cells)."""
    path = cf.expand_paths([path])[0]
    with cf.open_dataset(path) as dataset:
        wanted = cf.quantity_like(dataset[variable])
    quantity = cf.Quantity(wanted.name, wanted.standard_names, wanted.names, UNITS[variable])
    field = cf.open_field(path, quantity)
    if like is not None:
        field = matching.onto(field, like.grid, min_coverage=0.1)
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


def _mean(values: Array) -> Array:
    return np.asarray(np.nanmean(values, axis=0))


def _p95(values: Array) -> Array:
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
    for variable in ("tas", "pr"):
        for group in ("none", "month"):
            options = QDMConfig(group=group)  # type: ignore[arg-type]
            names = {k: str(data / "iberia" / v.format(v=variable)) for k, v in FILES.items()}
            output = folder / "change.nc"
            qdm_file(
                [names["sim"]],
                output,
                ref=[names["ref"]],
                hist=[names["hist"]],
                options=options,
                overwrite=True,
            )
            scen, field = read(output, variable)
            ref, hist, sim = (read(names[k], variable, field)[0] for k in ("ref", "hist", "sim"))
            axes = [read(names[k], variable, field)[1].time for k in ("ref", "hist", "sim")]
            changes = []
            for month in (12, 1, 2) if group == "month" else (0,):
                parts = [
                    values[[month in (0, date.month) for date in axis.dates]]
                    for values, axis in zip((ref, hist, sim), axes, strict=True)
                ]
                inside = [month in (0, date.month) for date in axes[2].dates]
                changes.append(_changes(variable, *parts, scen[inside]))
            raw, kept = (np.concatenate(v, axis=1) for v in zip(*changes, strict=True))
            scale = raw if variable == "pr" else np.nanmean(raw)
            deviation = np.abs(kept - raw) / np.abs(scale)
            means = [np.nanmean(v[np.isfinite(raw).any(axis=1)], axis=1) for v in (raw, kept)]
            by_quantile = np.abs(means[1] - means[0]) / np.abs(means[0])
            print(
                f"{variable:<10}{group:<8}{np.nanmean(raw):>10.3f}{np.nanmean(kept):>10.3f}"
                f"{np.nanmax(by_quantile):>18.2%}{np.nanquantile(deviation, 0.95):>18.2%}"
                f"{np.nanmax(deviation):>18.2%}{np.nanmax(scen):>12.4g}"
            )


def _changes(
    variable: str, ref: Array, hist: Array, sim: Array, scen: Array
) -> tuple[Array, Array]:
    valid = np.isfinite(scen).all(axis=0) & (np.isfinite(ref).mean(axis=0) > 0.9)
    quantiles = [
        np.nanquantile(values[:, valid], QUANTILES, axis=0) for values in (ref, hist, sim, scen)
    ]
    q_ref, q_hist, q_sim, q_scen = quantiles
    if variable == "tas":
        return q_sim - q_hist, q_scen - q_ref
    wet = np.minimum.reduce(quantiles) > WET
    return tuple(  # type: ignore[return-value]
        np.where(wet, above / np.where(wet, below, 1.0), np.nan)
        for above, below in ((q_sim, q_hist), (q_scen, q_ref))
    )


def transport_table(folder: Path, data: Path) -> None:
    """Two-sample distances of (tas, pr) to held-out observed days, raw and after transport."""
    output = folder / "ot.nc"
    even, odd = (
        {
            k: [
                winters(folder, data / "iberia" / v.format(v=name), parity)
                for name in ("tas", "pr")
            ]
            for k, v in FILES.items()
        }
        for parity in (0, 1)
    )
    ot_file(
        odd["hist"],
        output,
        ref=even["ref"],
        hist=even["hist"],
        variables=("tas", "pr"),
        options=OTConfig(keep_change=False),
    )
    first = read(output, "tas")[1]
    sources = {
        "observed": odd["ref"],
        "fitted obs.": even["ref"],
        "raw": odd["hist"],
        "adjusted": [str(output)] * 2,
    }
    samples = {name: _together(files, first) for name, files in sources.items()}
    valid = np.logical_and.reduce([np.isfinite(v).mean(axis=0) > 0.95 for v in samples.values()])
    valid &= np.tile(valid.reshape(2, -1).all(axis=0), 2)
    kept = {k: v[:, valid][np.isfinite(v[:, valid]).all(axis=1)] for k, v in samples.items()}
    mean, std = kept["observed"].mean(axis=0), kept["observed"].std(axis=0)
    scaled = {k: (v - mean) / std for k, v in kept.items()}
    print("\nTransport of (tas, pr): every other winter fitted, judged on the others")
    print(
        f"{'sample':<12}{'days':>6}{'sliced W2':>12}{'MMD':>10}{'corr(tas, pr)':>16}{'std/obs':>9}"
    )
    for name, points in scaled.items():
        n = points.shape[1] // 2
        pairs = [np.corrcoef(points[:, i], points[:, n + i])[0, 1] for i in range(n)]
        target = scaled["observed"]
        row = (
            (0.0, 0.0)
            if name == "observed"
            else (sliced_wasserstein(points, target), maximum_mean_discrepancy(points, target))
        )
        print(
            f"{name:<12}{len(points):>6}{row[0]:>12.3f}{row[1]:>10.4f}"
            f"{np.mean(pairs):>16.3f}{points.std(axis=0).mean():>9.3f}"
        )


def _together(files: list[str], like: cf.Field) -> Array:
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
