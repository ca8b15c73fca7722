"""Distances between single fields: does a generative model reproduce its training data?"""

from __future__ import annotations

import numpy as np

from climdown.arrays import Floats

_ROWS = 256


def nearest_neighbour_distances(a: Floats, b: Floats, *, exclude: int | None = None) -> Floats:
    """Distance of each field of `a` to its nearest in `b`, root mean square over cells.

    sqrt(sum_c (a_c - b_c)^2 / n) over the n cells (of all variables) that both fields have;
    variables should be in normalised units. Samples that lie nearer to training data than new data
    do are the sign of memorisation in Carlini et al. (2023, arXiv 2301.13188).

    Args:
        a, b: shapes (n, ...) and (m, ...), the same after the first axis; NaN where missing.
        exclude: where a and b are one series, leave out neighbours up to so many steps away; 0
            leaves out only the field itself.

    Returns:
        shape (n,). Memory beyond the arguments does not grow with n or m.

    Raises:
        ValueError: fields of different shapes, or a field that has no neighbour.
    """
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(f"the fields have different shapes: {a.shape[1:]} and {b.shape[1:]}")
    nearest = np.full(len(a), np.inf)
    for i in range(0, len(a), _ROWS):
        rows = slice(i, i + _ROWS)
        for j in range(0, len(b), _ROWS):
            squares = _mean_squares(a[rows], b[j : j + _ROWS])
            if exclude is not None:
                apart = np.arange(len(squares))[:, None] + i - j - np.arange(squares.shape[1])
                squares[np.abs(apart) <= exclude] = np.inf
            nearest[rows] = np.minimum(nearest[rows], squares.min(axis=1))
    if not np.isfinite(nearest).all():
        raise ValueError("a field has no neighbour: none is left, or none shares a cell with it")
    return np.asarray(np.sqrt(nearest))


def _mean_squares(a: Floats, b: Floats) -> Floats:
    """Mean squared difference of each pair over shared cells, infinite if none, (n, m)."""
    valid_a, valid_b = (np.isfinite(x).reshape(len(x), -1) for x in (a, b))
    x, y = (
        np.where(valid, fields.reshape(len(fields), -1), 0.0).astype(np.float64)
        for fields, valid in ((a, valid_a), (b, valid_b))
    )
    u, v = valid_a.astype(np.float64), valid_b.astype(np.float64)
    # The expanded square by matrix products; double precision leaves errors of 1e-8 of the units.
    total = (x**2) @ v.T - 2.0 * x @ y.T + u @ (y**2).T
    shared = u @ v.T
    return np.where(shared > 0, np.maximum(total, 0.0) / np.maximum(shared, 1.0), np.inf)
