"""Means and checks of samples of points, rows of (n, d), in NumPy or torch."""

from __future__ import annotations

from ot.backend import get_backend

from climdown.errors import ConfigError, InputError
from climdown.transforms import Array


def centred(points: Array) -> Array:
    return points - get_backend(points).mean(points, axis=0)


def mean_square(centred: Array) -> float:
    nx = get_backend(centred)
    return float(nx.mean(nx.sum(centred**2, axis=1)))


def check_positive(**options: float) -> None:
    for name, value in options.items():
        if not value > 0:
            raise ConfigError(f"transport needs {name} > 0, found {value}")


def check_points(points: Array, name: str, *, like: Array | None = None) -> None:
    """Points are finite rows of one floating type, with as many columns as the others."""
    if points.ndim != 2 or 0 in points.shape:
        raise InputError(f"{name} has shape {tuple(points.shape)}; expected points as rows, (n, d)")
    # By name, since types of NumPy and of torch cannot be compared.
    kind = str(points.dtype)
    expected = str(like.dtype) if like is not None else "a floating type"
    if (like is not None and kind != expected) or "float" not in kind:
        raise InputError(f"{name} is of type {kind}; expected {expected}")
    if like is not None and points.shape[1] != like.shape[1]:
        raise InputError(f"{name} has {points.shape[1]} columns; expected {like.shape[1]}")
    nx = get_backend(points)
    bad = int(nx.sum(~nx.isfinite(nx.sum(points, axis=1))))
    if bad:
        raise InputError(
            f"{name} has {bad} of {len(points)} points with values that are not finite; "
            "leave these points or columns out"
        )
