"""Distributions of single columns and the order of days within them, kept apart.

A sample's values can be put into the order of another sample: the result has the distribution of
the first in every column and the rank correlations of the second. That is the last step of
multivariate quantile mapping (Cannon 2018, doi:10.1007/s00382-017-3580-6, section 2), after the
Schaake shuffle (Clark et al. 2004, doi:10.1175/1525-7541(2004)005<0243:TSSAMF>2.0.CO;2).
"""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float32, Float64, Floats, Index


def ranks(values: Floats, ties: Floats) -> Index:
    """Rank of each value in its column, from 0, all different; shape (n, d).

    Args:
        values: shape (n, d).
        ties: the order of equal values, shape (n, d) or (n, 1).
    """
    ascending = np.lexsort((np.broadcast_to(ties, values.shape), values), axis=0)
    places = np.empty_like(ascending)
    np.put_along_axis(places, ascending, np.arange(len(values))[:, None], axis=0)
    return places


def quantiles_at(sample: Float32, probabilities: Floats) -> Float32:
    """Quantiles of each column at probabilities of its own, type 7 of Hyndman & Fan (1996).

    Args:
        sample: shape (m, d).
        probabilities: from 0 to 1, shape (n, d).

    Returns:
        shape (n, d).
    """
    ascending, last = np.sort(sample, axis=0), len(sample) - 1
    position = np.asarray(probabilities, dtype=np.float64) * last
    # The place of a sample's own value is a whole number but for rounding.
    nearest = np.rint(position)
    position = np.where(abs(position - nearest) < 1e-9 * last, nearest, position)
    low = np.floor(position).astype(np.intp)
    below = np.take_along_axis(ascending, low, axis=0)
    above = np.take_along_axis(ascending, np.minimum(low + 1, last), axis=0)
    return np.asarray(below + (above - below) * (position - low), dtype=np.float32)


def in_order_of(values: Float32, order: Floats) -> Float32:
    """The values of each column in the order of another sample; equal ones stay in their own.

    Args:
        values, order: shape (n, d).
    """
    return np.take_along_axis(np.sort(values, axis=0), ranks(order, values), axis=0)


def probabilities_within(sample: Floats, new: Floats, uniforms: Float64) -> Float64:
    """Where new values lie in the distribution of a sample, column by column, from 0 to 1.

    The k-th value of n lies at (k - 1) / (n - 1), so that the quantile there is itself.
    A value equal to several, such as a dry day, gets a random place among them.

    Args:
        sample: shape (m, d).
        new: shape (n, d).
        uniforms: that place, from 0 to 1, shape (n,).
    """
    result, last = np.empty(new.shape), len(sample) - 1
    for column in range(new.shape[1]):
        ascending = np.sort(sample[:, column])
        below, up_to = (np.searchsorted(ascending, new[:, column], s) for s in ("left", "right"))
        equal = up_to - below
        between = below - 0.5
        result[:, column] = np.where(equal, below + uniforms * (equal - 1), between)
    return np.clip(result, 0, last) / max(1, last)
