"""An ensemble whose members are exchangeable with the truth: what a perfect method would draw.

Truth and members share their coarse means and differ in the detail within coarse cells, which is
drawn alike for all of them, goes on from day to day, and is smooth in space.
"""

from __future__ import annotations

from pathlib import Path

import cftime
import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter

from climdown.arrays import Floats

_COARSE = 4  # fine cells along each side of a coarse one
_PERSISTENCE = 0.6  # of a day's weather in the next
_TOGETHER = -0.5  # correlation of temperature and rain
_CELL = 0.25  # degrees


def write_exchangeable(
    folder: Path, *, winters: int = 6, members: int = 8, side: int = 6, seed: int = 0
) -> tuple[Path, list[Path], list[Path]]:
    """Files of an ensemble of tas and pr, of the truth, and of its coarse means.

    Args:
        side: coarse cells along each side of the region.
    """
    dates = _winter_days(winters)
    tas, pr = _weather(np.random.default_rng(seed), winters, members + 1, side)
    fine = {"tas": tas, "pr": pr}
    _write(folder / "members.nc", dates, {n: x[:, 1:] for n, x in fine.items()})
    _write(folder / "truth.nc", dates, {n: x[:, 0] for n, x in fine.items()})
    coarse = {n: _block_means(x[:, 0]) for n, x in fine.items()}
    _write(folder / "coarse.nc", dates, coarse, cell=_COARSE * _CELL)
    return folder / "members.nc", [folder / "truth.nc"], [folder / "coarse.nc"]


def _winter_days(winters: int) -> list[cftime.datetime]:
    days = cftime.num2date(np.arange(365 * (winters + 1)), "days since 1991-01-01", "noleap")
    inside = [d for d in days if d.month in (12, 1, 2)]
    first = next(i for i, d in enumerate(inside) if d.month == 12)
    return inside[first : first + 90 * winters]


def _weather(
    random: np.random.Generator, winters: int, count: int, side: int
) -> tuple[Floats, Floats]:
    """Temperature in K and rain in mm day-1 of truth and members, shape (time, count, ny, nx)."""
    days = 90 * winters
    # Of large scales, which all have in common: temperature, and what makes rain.
    warm, wet = _pair(random, (days, 1, side, side), smooth=1.5, winters=winters)
    # Of the detail, which each has of its own.
    shape = (days, count, side * _COARSE, side * _COARSE)
    detail, showers = _pair(random, shape, smooth=1.0, winters=winters)
    detail -= _spread(_block_means(detail))
    tas = 283.0 + _spread(3.0 * warm) + 1.0 * detail
    coarse_rain = 5.0 * np.maximum(wet - 0.2, 0.0) ** 1.5
    share = np.maximum(showers + 0.6, 0.0) ** 1.5 + 1e-3
    pr = _spread(coarse_rain) * share / _spread(_block_means(share))
    return tas, pr


def _pair(
    random: np.random.Generator, shape: tuple[int, int, int, int], *, smooth: float, winters: int
) -> tuple[Floats, Floats]:
    """Two correlated fields of deviation 1."""
    one, other = (_red(random, shape, smooth, winters) for _ in range(2))
    return one, _TOGETHER * one + np.sqrt(1.0 - _TOGETHER**2) * other


def _red(
    random: np.random.Generator, shape: tuple[int, int, int, int], smooth: float, winters: int
) -> Floats:
    """Smooth in space; each day goes on from the one before, winters do not."""
    noise = gaussian_filter(random.standard_normal(shape), (0, 0, smooth, smooth), mode="wrap")
    noise /= noise.std()
    by_winter = noise.reshape(winters, -1, *shape[1:])
    for day in range(1, by_winter.shape[1]):
        fresh = np.sqrt(1.0 - _PERSISTENCE**2) * by_winter[:, day]
        by_winter[:, day] = _PERSISTENCE * by_winter[:, day - 1] + fresh
    return np.asarray(by_winter.reshape(shape))


def _block_means(fine: Floats) -> Floats:
    ny, nx = (size // _COARSE for size in fine.shape[-2:])
    blocks = fine.reshape(*fine.shape[:-2], ny, _COARSE, nx, _COARSE)
    return np.asarray(blocks.mean(axis=(-3, -1)))


def _spread(coarse: Floats) -> Floats:
    return np.repeat(np.repeat(coarse, _COARSE, axis=-2), _COARSE, axis=-1)


def _write(
    path: Path, dates: list[cftime.datetime], fields: dict[str, Floats], *, cell: float = _CELL
) -> None:
    ny, nx = fields["tas"].shape[-2:]
    said = {
        "tas": {"standard_name": "air_temperature", "units": "K"},
        "pr": {"standard_name": "lwe_precipitation_rate", "units": "mm day-1"},
    }
    names = ("time", "realization", "lat", "lon")
    axes = {
        "time": ("time", dates, {"standard_name": "time"}),
        "lat": ("lat", 40.0 + cell * (np.arange(ny) + 0.5), _axis("latitude", "degrees_north")),
        "lon": ("lon", cell * (np.arange(nx) + 0.5), _axis("longitude", "degrees_east")),
    }
    dataset = xr.Dataset(coords=axes)
    for name, values in fields.items():
        dims = names if values.ndim == 4 else ("time", "lat", "lon")
        dataset[name] = (dims, values.astype(np.float32), said[name])
    dataset.to_netcdf(path)


def _axis(name: str, units: str) -> dict[str, str]:
    return {"standard_name": name, "units": units}
