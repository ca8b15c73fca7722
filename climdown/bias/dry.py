"""Dry days: many equal zeros, which quantile mapping needs told apart.

A model drizzles on days that are dry in reality. Given some value each below the threshold, dry
days have ranks of their own, so that the share of dry days is adjusted like any other quantile
(Cannon, Sobie & Murdock 2015, section 3b); what comes out below the threshold is dry again.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def jitter_dry(
    values: Floats, threshold: float, *, seed: int, stream: str, first_cell: int = 0
) -> Floats:
    """Give values below the threshold one between 0 and it, even and independent.

    Each is a hash of (seed, stream, time step, cell): the result does not depend on how the cells
    are cut into blocks, or on who computes them.

    Args:
        values: shape (time, cells); NaN stays.
        stream: "ref", "hist" or "sim".
        first_cell: number of the first column among all cells.
    """
    dry = values < threshold
    if not dry.any():
        return values
    key = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    times, cells = np.nonzero(dry)
    counter = times.astype(np.uint64) << np.uint64(32) | (cells + first_cell).astype(np.uint64)
    uniform = (_splitmix64(counter, key) >> np.uint64(40)).astype(np.float32) + np.float32(0.5)
    result = values.copy()
    result[dry] = uniform * np.float32(threshold * 2.0**-24)
    return result


def dry_below(values: Floats, threshold: float) -> Floats:
    """Values below the threshold as zero; NaN stays."""
    return np.where(values < threshold, np.float32(0.0), values)


def spread_dry_quantiles(
    quantiles: Floats, nodes: npt.NDArray[np.float64], threshold: float
) -> Floats:
    """Quantiles below the threshold, laid out evenly between 0 and it.

    What the quantiles of a series would be whose dry days went through `jitter_dry`.

    Args:
        quantiles: shape (groups, nodes, cells), ascending along nodes.
        nodes: their probabilities, shape (nodes,).
    """
    dry = quantiles < threshold
    share = dry.mean(axis=1, keepdims=True)
    spread = threshold * nodes[None, :, None] / np.where(share > 0, share, 1.0)
    return np.where(dry, np.minimum(spread, threshold), quantiles).astype(np.float32)


def _splitmix64(counter: npt.NDArray[np.uint64], key: bytes) -> npt.NDArray[np.uint64]:
    """Steele, Lea & Flood 2014 (doi:10.1145/2660193.2660195), started from a key."""
    start = np.uint64(int.from_bytes(key[:8], "little"))
    with np.errstate(over="ignore"):
        z = start + counter * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
