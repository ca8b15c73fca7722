"""Dry days: equal zeros, which quantile mapping can rank only after they are made distinct.

Models drizzle on days that are dry in reality. Each dry day gets a different value below the
threshold and so a rank of its own, and the share of dry days is adjusted like any other quantile
(Cannon, Sobie & Murdock 2015, section 3b). Adjusted values below the threshold are dry again.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from climdown.arrays import Float32, Float64

# Values processed at once: they fit into the second-level cache.
_CHUNK = 1 << 16
_BITS = 23  # an integer of so many bits plus one half is exact in float32


def jitter_dry(
    values: Float32, threshold: float, *, seed: int, stream: str, first_cell: int = 0
) -> Float32:
    """Replace values below the threshold by independent uniform ones between 0 and the threshold.

    Each is a hash of (seed, stream, time step, cell): the result does not depend on how the cells
    are cut into blocks, or on the process that computes them.

    Args:
        values: shape (time, cells); NaN stays.
        stream: "ref", "hist" or "sim".
        first_cell: number of the first column among all cells.
    """
    limit = np.float32(threshold)
    key = int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:8], "little")
    steps, width = values.shape
    cells = np.arange(first_cell, first_cell + width, dtype=np.uint64)
    below = np.nextafter(limit, np.float32(0.0))
    result = values.copy()
    rows = max(1, _CHUNK // max(width, 1))
    for start in range(0, steps, rows):
        part = result[start : start + rows]
        dry = part < limit
        if dry.any():
            times = np.arange(start, start + len(part), dtype=np.uint64)
            hashed = _splitmix64((times[:, None] << np.uint64(32)) | cells, key)
            even = (hashed >> np.uint64(64 - _BITS)).astype(np.float32) + np.float32(0.5)
            even *= np.float32(limit * 2.0**-_BITS)
            np.copyto(part, np.minimum(even, below), where=dry)
    return result


def dry_below(values: Float32, threshold: float) -> Float32:
    """Values below the threshold as zero; NaN stays."""
    return np.where(values < np.float32(threshold), np.float32(0.0), values)


def spread_dry_quantiles(quantiles: Float32, nodes: Float64, threshold: float) -> Float32:
    """Quantiles below the threshold, spaced evenly between 0 and the threshold.

    These are the quantiles of a series whose dry days went through `jitter_dry`.

    Args:
        quantiles: shape (groups, nodes, cells), ascending along nodes; NaN stays.
        nodes: their probabilities, shape (nodes,).
    """
    dry = quantiles < np.float32(threshold)
    share = np.maximum(dry.mean(axis=1, keepdims=True), nodes[0])
    spread = (threshold * nodes[None, :, None] / share).astype(np.float32)
    return np.where(dry, spread, quantiles)


def _splitmix64(counter: npt.NDArray[np.uint64], key: int) -> npt.NDArray[np.uint64]:
    """Steele, Lea & Flood 2014 (doi:10.1145/2660193.2660195), started from a key."""
    with np.errstate(over="ignore"):
        z = np.uint64(key) + counter * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
