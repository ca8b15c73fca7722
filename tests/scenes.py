"""Scenes, steps and fields of an evaluation, for tests of statistics and measures."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from typing import Any

import cftime
import numpy as np

from climdown import cf, regrid
from climdown.arrays import AnyArray, Float32, Float64, Mask
from climdown.evaluation.bins import bin_edges
from climdown.evaluation.scene import Coarse, Scene
from climdown.evaluation.segments import Segments, segments
from climdown.grid import Grid

FINE = Grid.regular(40.0, 43.0, -5.0, -1.0, 0.25)
"""12 x 16 cells."""
COARSE = Grid.regular(40.0, 43.0, -5.0, -1.0, 1.0)
"""3 x 4 cells."""


def days(count: int, *, start: tuple[int, int, int] = (2001, 1, 1)) -> Segments:
    """Consecutive days of the calendar without leap years."""
    first = cftime.datetime(*start, calendar="noleap")
    dates = [first + dt.timedelta(days=i) for i in range(count)]
    axis = cf.time_axis(dates, units="days since 2000-01-01")
    return segments(axis, np.arange(count))


def scene_of(
    values: Float32,
    part: Segments,
    *,
    name: str = "tas",
    amounts: bool = False,
    grid: Grid = FINE,
    mask: Mask | None = None,
) -> Scene:
    """The scene of a reference of shape (time, ny, nx), with the cells of an input."""
    mask = np.ones(grid.shape, dtype=np.bool_) if mask is None else mask
    values = np.where(mask, values, np.float32(np.nan))
    climatology = np.full((12, *grid.shape), np.nan)
    for month in np.unique(part.month):
        climatology[month] = values[part.month == month].astype(np.float64).mean(axis=0)
    cells = np.flatnonzero(mask)
    series = values.reshape(len(values), -1)
    away = values - climatology[part.month]
    return Scene(
        name=name,
        units="mm day-1" if amounts else "K",
        amounts=amounts,
        grid=grid,
        mask=mask,
        climatology=climatology,
        deviation=float(np.sqrt(np.nanmean(away**2))),
        tail=np.full(grid.shape, np.nan),
        cells=cells,
        edges=bin_edges(series[:, cells]),
        pooled=bin_edges(values[:, mask].reshape(-1, 1))[0].astype(np.float64),
        thresholds={},
        coarse=_coarse(grid, values, mask) if grid is FINE else None,
    )


def _coarse(grid: Grid, values: Float32, mask: Mask) -> Coarse:
    weights = regrid.weights(grid, COARSE, "conservative")
    covered = weights.apply(mask.astype(np.float64)) > 0.6
    areas = np.where(covered, COARSE.areas, 0.0)
    means = np.where(covered, weights.apply(values), np.nan)
    edges = bin_edges(means.reshape(len(values), -1))
    return Coarse(COARSE, weights, areas / areas.sum(), edges)


def weather(part: Segments, *, members: int = 1, seed: int = 0, grid: Grid = FINE) -> Float32:
    """Temperatures in K with a season and means of their own, shape (time, member, ny, nx)."""
    random = np.random.default_rng(seed)
    shape = (len(part.steps), members, *grid.shape)
    season = 8.0 * np.cos(2 * np.pi * part.years)[:, None, None, None]
    hills = 3.0 * np.random.default_rng(99).normal(size=grid.shape)
    smooth = random.normal(size=(*shape[:2], 1, 1))
    return np.asarray(280.0 - season + hills + 2.0 * smooth + random.normal(size=shape), np.float32)


def rain(part: Segments, *, members: int = 1, seed: int = 0, grid: Grid = FINE) -> Float32:
    """Amounts in mm day-1, about half of them 0, shape (time, member, ny, nx)."""
    random = np.random.default_rng(seed)
    shape = (len(part.steps), members, *grid.shape)
    amounts = random.gamma(0.7, 4.0, size=shape) * (random.random(shape[:2]) > 0.4)[..., None, None]
    return np.asarray(np.where(amounts > 0.05, amounts, 0.0), dtype=np.float32)


def with_gaps(values: Float32, mask: Mask, *, share: float = 0.0, seed: int = 5) -> Float32:
    """NaN outside of a mask, and in a share of what is inside."""
    gaps = np.random.default_rng(seed).random(values.shape) < share
    return np.where(mask & ~gaps, values, np.float32(np.nan))


def some_mask(seed: int = 3, grid: Grid = FINE) -> Mask:
    """Three cells in four, and none in the first of the coarse cells."""
    mask = np.random.default_rng(seed).random(grid.shape) < 0.75
    if grid is FINE:
        mask[:4, :4] = False
    return np.asarray(mask)


def resampled(sums: dict[str, AnyArray]) -> dict[str, Float64]:
    """Sums of steps added up, or those of a stretch, as one resample."""
    return {name: np.asarray(values, np.float64)[None] for name, values in sums.items()}


def of_steps(sums: dict[str, AnyArray]) -> dict[str, Float64]:
    """Sums of single steps, added up, as one resample."""
    return {name: np.asarray(values, np.float64).sum(axis=0)[None] for name, values in sums.items()}


Cut = Callable[[slice], dict[str, AnyArray]]


def assert_adds(cut: Cut, count: int, *, step: bool = False, **how: Any) -> None:
    """The sums of stretches, cut anywhere, are those of the whole."""
    whole, places = cut(slice(0, count)), [0, 1, count // 3, count - 2, count]
    parts = [cut(slice(a, b)) for a, b in itertools.pairwise(places)]
    for name in {name for part in parts for name in part} | set(whole):
        found = [np.asarray(part[name]) for part in parts if name in part]
        added = np.concatenate(found) if step else np.sum(found, axis=0)
        scale = max(float(np.abs(whole[name]).max()), 1e-300)
        np.testing.assert_allclose(added, whole[name], rtol=1e-12, atol=1e-12 * scale, err_msg=name)
