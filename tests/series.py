"""Daily series whose quantiles are known, for tests of bias adjustment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import numpy.typing as npt
import xarray as xr

from tests.factories import Floats, make_dataset

Dates = npt.NDArray[np.object_]
YEAR = tuple(range(1, 13))
WINTER = (12, 1, 2)
LAT: Floats = np.array([40.5, 41.5, 42.5])
LON: Floats = np.array([-3.5, -2.5, -1.5, -0.5])
PR: dict[str, Any] = {"name": "pr", "standard_name": "precipitation_flux", "units": "kg m-2 s-1"}
PER_DAY = 86400.0  # kg m-2 s-1 in mm day-1


def daily(
    first: int, years: int, *, calendar: str = "standard", months: Sequence[int] = YEAR
) -> Dates:
    """Noon of every day of some months in some years."""
    units = f"days since {first}-01-01"
    end = cftime.date2num(cftime.datetime(first + years, 1, 1, calendar=calendar), units)
    dates = cftime.num2date(np.arange(end) + 0.5, units, calendar)
    return np.asarray(dates[[date.month in months for date in dates]])


def ranks(dates: Dates, seed: int, *, by_month: bool = True) -> Floats:
    """Evenly spread numbers from 0 to 1 in random order, for each month or all days.

    Their quantile at p is p exactly, whatever their number: linear interpolation between order
    statistics sees to that.
    """
    rng = np.random.default_rng(seed)
    months = np.array([date.month if by_month else 0 for date in dates])
    result = np.empty(len(dates))
    for month in set(months):
        inside = np.flatnonzero(months == month)
        result[rng.permutation(inside)] = np.linspace(0.0, 1.0, inside.size)
    return result


def everywhere(series: Floats, *, lat: Floats = LAT, lon: Floats = LON) -> Floats:
    """A series in every cell, shape (time, ny, nx)."""
    return np.broadcast_to(series[:, None, None], (series.size, lat.size, lon.size))


def noise(dates: Dates, seed: int, *, lat: Floats = LAT, lon: Floats = LON) -> Floats:
    """Independent standard normal numbers, shape (time, ny, nx)."""
    return np.random.default_rng(seed).normal(size=(len(dates), lat.size, lon.size))


def write_days(
    path: Path | str,
    dates: Dates,
    values: Floats,
    *,
    change: Callable[[xr.Dataset], xr.Dataset] | None = None,
    lat: Floats = LAT,
    lon: Floats = LON,
    **options: Any,
) -> Path:
    """A file of daily values of shape (time, ny, nx), NaN where missing.

    Args:
        change: made to the dataset before it is written.
        options: of `make_dataset`.
    """
    units = f"days since {dates[0].year}-01-01"
    dataset = make_dataset(
        values=lambda _y, _x, step: values[step],
        times=[float(number) for number in cftime.date2num(dates, units)],
        time_units=units,
        calendar=str(dates[0].calendar),
        lat=lat,
        lon=lon,
        **options,
    )
    path = Path(path)
    path.unlink(missing_ok=True)  # an earlier test of it may still have it open
    (dataset if change is None else change(dataset)).to_netcdf(path)
    return path
