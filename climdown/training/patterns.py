"""The Gaussian part of a denoiser: leading patterns of the training fields, and their variances.

Patterns follow the very fields they were computed from: these have more variance along the leading
ones than new fields have, and too little along all others. So the fields are cut into blocks of
neighbouring days; each block is measured along the patterns of the others, and the variance of
the k-th pattern is the mean over blocks of what was measured along the k-th (cross-validated
shrinkage of eigenvalues, Bartz 2016, arXiv 1611.00798).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from climdown.arrays import Floats, Index
from climdown.errors import ConfigError
from climdown.priors.gaussian import Patterns

BLOCKS = 6
_MOST_BYTES = 4 << 30


def find_patterns(x: Floats, blocks: Sequence[Index], count: int) -> Patterns:
    """Patterns of fields (empirical orthogonal functions), all and without each block.

    Args:
        x: normalised fields, shape (n, cells); blocks: rows of each block.

    Raises:
        ConfigError: fewer fields than patterns, or too many to hold in memory.
    """
    n, cells = x.shape
    largest = max(len(block) for block in blocks)
    if n - largest <= count or cells <= count:
        raise ConfigError(
            f"network.patterns is {count}; {n} training fields of {cells} cells, less a block of "
            f"{largest}, allow at most {min(n - largest, cells) - 1}"
        )
    if x.nbytes > _MOST_BYTES:
        raise ConfigError(
            f"network.patterns needs {n} fields of {cells} cells in memory "
            f"({x.nbytes / 2**30:.1f} GiB); lower data.statistics_fields, or set network.patterns "
            "to 0"
        )
    mean, patterns = _leading(x, count)
    means, groups = [mean], [patterns]
    along, across = np.zeros(count), 0.0
    for block in blocks:
        mean, patterns = _leading(np.delete(x, block, axis=0), count)
        anomalies = x[block] - mean
        squares = (anomalies @ patterns.T) ** 2
        along += squares.sum(axis=0)
        across += float((anomalies**2).sum() - squares.sum())
        means.append(mean)
        groups.append(patterns)
    return Patterns(np.stack(means), np.stack(groups), along / n, across / n / (cells - count))


def _leading(x: Floats, count: int) -> tuple[Floats, Floats]:
    """The mean, and the patterns of largest variance, shape (count, cells)."""
    mean = x.mean(axis=0)
    anomalies = x - mean
    # From the smaller of the two matrices of products: fields with fields, or cells with cells.
    if len(x) <= x.shape[1]:
        _, vectors = np.linalg.eigh((anomalies @ anomalies.T).astype(np.float64))
        rows = vectors[:, ::-1][:, :count].T @ anomalies
        # Orthonormal to rounding, which dividing by small singular values would not leave.
        patterns = np.linalg.qr(rows.T)[0].T
    else:
        _, vectors = np.linalg.eigh((anomalies.T @ anomalies).astype(np.float64))
        patterns = vectors[:, ::-1][:, :count].T
    return mean.astype(np.float32), np.ascontiguousarray(patterns, dtype=np.float32)
