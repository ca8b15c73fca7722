"""Small outputs, references and inputs of an evaluation, with weather of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import xarray as xr

from tests.factories import Floats, make_dataset
from tests.series import PER_DAY, PR, Dates, write_days

LAT: Floats = np.arange(40.125, 42.0, 0.25)
LON: Floats = np.arange(-4.875, -2.5, 0.25)
COARSE = 4  # fine cells along each side of a coarse one


def weather(dates: Dates, *, seed: int = 0, lat: Floats = LAT, lon: Floats = LON) -> Floats:
    """Temperatures in K: days that follow one another, seasons, and fine detail, (time, ny, nx)."""
    rng = np.random.default_rng(seed)
    days = np.zeros(len(dates))
    shocks = rng.normal(size=len(dates))
    for i in range(1, len(dates)):
        days[i] = 0.7 * days[i - 1] + shocks[i]
    season = -8.0 * np.cos(2.0 * np.pi * np.array([d.timetuple().tm_yday for d in dates]) / 365.0)
    detail = rng.normal(size=(len(dates), lat.size, lon.size))
    return np.asarray(285.0 + (season + 2.0 * days)[:, None, None] + detail)


def members_of(truth: Floats, count: int, *, seed: int = 1, spread: float = 0.5) -> Floats:
    """Members around a truth, shape (time, count, ny, nx)."""
    noise = np.random.default_rng(seed).normal(size=(len(truth), count, *truth.shape[1:]))
    return np.asarray(truth[:, None] + spread * noise)


def rain_of(temperatures: Floats) -> Floats:
    """Rain in mm day-1 that goes with some temperatures: dry on warm days."""
    return np.maximum(288.0 - temperatures, 0.0)


def write_members(
    path: Path | str,
    dates: Dates,
    members: Floats,
    *,
    dimension: str = "realization",
    lat: Floats = LAT,
    lon: Floats = LON,
    rain: bool = False,
    attributes: Mapping[str, Any] | None = None,
    change: Callable[[xr.Dataset], xr.Dataset] | None = None,
    **options: Any,
) -> Path:
    """A file of an ensemble: tas of shape (time, member, ny, nx), and pr that goes with it."""
    units = f"days since {dates[0].year}-01-01"
    dataset = make_dataset(
        values=lambda _y, _x, step: members[step, 0],
        times=[float(number) for number in cftime.date2num(dates, units)],
        time_units=units,
        calendar=str(dates[0].calendar),
        lat=lat,
        lon=lon,
        **options,
    )
    name = options.get("name", "tas")
    dimensions = ("time", dimension, *dataset[name].dims[1:])
    dataset[name] = (dimensions, members.astype(np.float32), dataset[name].attrs)
    if rain:
        said = {"standard_name": PR["standard_name"], "units": PR["units"]}
        fields = (rain_of(members) / PER_DAY).astype(np.float32)
        dataset["pr"] = (dimensions, fields, said)
    dataset = dataset.assign_attrs(dict(attributes or {}))
    path = Path(path)
    path.unlink(missing_ok=True)  # an earlier test of it may still have it open
    (dataset if change is None else change(dataset)).to_netcdf(path)
    return path


def write_coarse(path: Path | str, dates: Dates, truth: Floats, **options: Any) -> Path:
    """Means of a truth over blocks of cells, as a model's output."""
    ny, nx = (size // COARSE * COARSE for size in truth.shape[1:])
    blocks = truth[:, :ny, :nx].reshape(len(truth), ny // COARSE, COARSE, nx // COARSE, COARSE)
    lat, lon = (axis.reshape(-1, COARSE).mean(axis=1) for axis in (LAT[:ny], LON[:nx]))
    return write_days(path, dates, blocks.mean(axis=(2, 4)), lat=lat, lon=lon, **options)


def write_case(dates: Dates, *, members: int = 3, rain: bool = True) -> Floats:
    """`out.nc`, `ref.nc` and `gcm.nc` of the same days in the current folder; the truth."""
    truth = weather(dates)
    write_members(
        "ref.nc", dates, truth[:, None], rain=rain, change=lambda d: d.isel(realization=0)
    )
    write_members("out.nc", dates, members_of(truth, members), rain=rain)
    write_coarse("gcm.nc", dates, truth)
    return truth


def scores_in(path: Path | str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The scores of a JSON file by output, variable and measure."""
    entries = json.loads(Path(path).read_text(encoding="utf-8"))["scores"]
    return {(e["output"], e["variable"], e["measure"]): e for e in entries}


def assert_same_scores(one: Path | str, other: Path | str, *, within: float = 1e-10) -> None:
    """Both files have the same scores, every number of them."""
    ours, theirs = scores_in(one), scores_in(other)
    assert ours.keys() == theirs.keys()
    assert ours
    for place, score in ours.items():
        for name, value in score.items():
            found = theirs[place][name]
            if isinstance(value, float):
                assert np.isclose(value, found, rtol=within, atol=within), (place, name)
            else:
                assert value == found, (place, name)
