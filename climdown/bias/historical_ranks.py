"""Quantile mapping: each value ranked among the historical ones, not among its own simulation.

For simulations of few years, whose own quantiles say little (Panofsky & Brier 1968; Gudmundsson
et al. 2012, doi:10.5194/hess-16-3383-2012). Changes in the quantiles are mapped with the values.
"""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float32, Float64, Mask
from climdown.bias.grouping import DateSequence
from climdown.bias.quantile import Adjusted, Interpolation, QuantileMap


def adjust_by_historical_ranks(
    trained: QuantileMap,
    sim: Float32,
    dates: DateSequence,
    *,
    interpolation: Interpolation = "linear",
    max_ratio: float = 10.0,
) -> Adjusted:
    """Adjust a simulation by the corrections at its values' quantiles in the historical one.

    Beyond the outermost quantile its correction is kept.

    Args:
        trained: the map, its quantiles NumPy arrays.
        sim: shape (time, cells).
        dates: calendar-aware dates of sim, in any CF calendar.
        interpolation, max_ratio: as of `quantile.adjust`.
    """
    corrections, at_bound = trained.corrections(max_ratio)
    groups = trained.grouping.group_of(dates)
    correction = np.full(sim.shape, np.nan)
    bounded = 0
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        for cell in range(sim.shape[1]):
            quantiles = trained.hist[group, :, cell]
            if np.isnan(quantiles).any():
                continue
            place = _place(sim[rows, cell], quantiles, interpolation)
            values, flags = corrections[cell, group], at_bound[cell, group]
            correction[rows, cell] = np.interp(place, np.arange(quantiles.size), values)
            bounded += int(_touches(place, flags).sum())
    values = sim + correction if trained.kind == "additive" else sim * correction
    unmapped = int(np.isnan(values).sum() - np.isnan(sim).sum())
    return Adjusted(values.astype(sim.dtype), bounded, unmapped)


def _place(values: Float32, quantiles: Float32, interpolation: str) -> Float64:
    """Where values lie among quantiles, from 0 to their number less 1; NaN stays."""
    place = np.interp(values, quantiles, np.arange(quantiles.size))
    place = np.where(np.isnan(values), np.nan, place)
    return np.ceil(place - 0.5) if interpolation == "nearest" else np.asarray(place)


def _touches(place: Float64, flags: Mask) -> Mask:
    """Whether a correction is made of one that the bound set."""
    valid = place[np.isfinite(place)]
    low, high = np.floor(valid).astype(np.intp), np.ceil(valid).astype(np.intp)
    return np.asarray(flags[low] | flags[high], dtype=np.bool_)
