"""Bins of histograms: fine where quantiles are read, and wide enough for what no one has seen."""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float32, Float64, Floats, Int64

# Levels of edges at quantiles of the values above the lowest one.
_LEVELS = np.linspace(0.0, 1.0, 49)
# Edges at equal distances within the lowest and the highest tenth, where few values lie.
_TAIL = 0.1
_IN_LOWER, _IN_UPPER = 20, 40
# Edges beyond the lowest and the highest value, each so much further from the last one.
_BEYOND, _GROWTH = 22, 1.25
# Edges just above the lowest value, as shares of the way to the next: drizzle of an output where
# the reference is dry.
_GAP = (1 / 32, 1 / 8, 1 / 2)


def bin_edges(series: Floats) -> Float32:
    """Edges between the bins of each column, ascending.

    At its quantiles, at equal distances in both tails, and in growing steps beyond its lowest and
    its highest value. Values equal to the lowest, as of dry days, have a bin of their own. Equal
    edges are set apart by the smallest step of the number format.

    Args:
        series: shape (time, cells), NaN where missing.

    Returns:
        shape (cells, edges).
    """
    filled = np.where(np.isfinite(series), series, np.nan).astype(np.float32)
    ordered = np.sort(filled, axis=0)  # NaN comes last
    count = np.isfinite(filled).sum(axis=0)
    tied = (ordered == ordered[0]).sum(axis=0)
    tied = np.where(tied < count, tied, 0)
    quantiles = np.nan_to_num(_between(ordered, tied, count, _LEVELS))
    lowest = np.nan_to_num(ordered[0].astype(np.float64))[:, None]
    least, highest = quantiles[:, :1], quantiles[:, -1:]
    low, high = np.nan_to_num(_between(ordered, tied, count, np.array([_TAIL, 1 - _TAIL]))).T
    width = _width(highest[:, 0] - high, highest[:, 0], _IN_UPPER, quantiles)
    lower_width = _width(low - least[:, 0], least[:, 0], _IN_LOWER, quantiles)
    steps = np.cumsum(_GROWTH ** np.arange(_BEYOND))
    edges = [
        lowest,
        np.nextafter(lowest.astype(np.float32), np.float32(np.inf)).astype(np.float64),
        lowest + (least - lowest) * np.array(_GAP),
        quantiles,
        least + lower_width[:, None] * np.arange(1, _IN_LOWER),
        highest - width[:, None] * np.arange(1, _IN_UPPER),
        highest + width[:, None] * steps,
        lowest - lower_width[:, None] * steps,
    ]
    return _ascending(np.sort(np.concatenate(edges, axis=1), axis=1).astype(np.float32))


def quantile(values: Float32, level: float) -> Float64:
    """A quantile of each cell along the first axis; NaN where there is no value."""
    flat = np.sort(values.reshape(len(values), -1), axis=0)
    count = np.isfinite(flat).sum(axis=0)
    found = _between(flat, np.zeros_like(count), count, np.array([level]))
    return np.asarray(found.reshape(values.shape[1:]))


def _between(ordered: Float32, first: Int64, count: Int64, levels: Float64) -> Float64:
    """Quantiles of the values of each column from place `first` on, shape (cells, levels)."""
    last = np.maximum(count - 1, 0)[:, None]
    place = first[:, None] + levels * np.maximum(last - first[:, None], 0)
    low = np.floor(place).astype(np.intp)
    columns = ordered.T
    at_low = np.take_along_axis(columns, low, axis=1).astype(np.float64)
    at_high = np.take_along_axis(columns, np.minimum(low + 1, last), axis=1)
    return np.asarray(at_low + (place - low) * (at_high - at_low))


def _width(tail: Float64, end: Float64, bins: int, quantiles: Float64) -> Float64:
    """Distance of edges in a tail; not nothing where a cell, or the whole field, is constant."""
    typical = float(np.mean(quantiles[:, -1] - quantiles[:, 0]))
    return np.maximum(tail / bins, 1e-3 * typical + 1e-4 * np.abs(end) + 1e-6)


def _ascending(edges: Float32) -> Float32:
    for i in range(1, edges.shape[1]):
        least = np.nextafter(edges[:, i - 1], np.float32(np.inf))
        edges[:, i] = np.maximum(edges[:, i], least)
    return edges
