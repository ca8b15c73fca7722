"""Entries along dimensions beside time, latitude and longitude: members, levels and the like."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from climdown.cf.recognition import axis_levels, describe_levels, nearest_level, pressure_axis
from climdown.errors import InputError


def labels(array: xr.DataArray, dimension: str) -> list[str]:
    """Labels along a dimension as text; positions from 0 where it has none, or not unique ones."""
    coordinate = _labelling(array, dimension)
    texts = [] if coordinate is None else [_text(v) for v in np.atleast_1d(coordinate.values)]
    if texts and len(set(texts)) == len(texts):
        return texts
    return [str(i) for i in range(array.sizes[dimension])]


def select_entries(
    array: xr.DataArray,
    entries: Mapping[str, str],
    *,
    level: float | None,
    others: Sequence[str],
) -> xr.DataArray:
    """Take the entries asked for by label, and a pressure level.

    Args:
        entries: labels by dimension, or by the name of a coordinate along it.
        level: pressure level in Pa, or None.
        others: the dimensions to choose along; time, latitude and longitude are not.

    Raises:
        InputError: an unknown dimension or label, or entries that exclude the level.
    """
    for name, label in entries.items():
        array = _take(array, name, label, others)
    axis = pressure_axis(array)
    if level is None or axis is None:
        return array
    levels = axis_levels(axis)
    index = nearest_level(levels, level)
    if index is None:
        raise InputError(
            f"variable '{array.name}' has, as selected, {describe_levels(levels, level)}"
        )
    return array.isel({axis.dims[0]: index}) if axis.ndim else array


def refuse_open_dimensions(array: xr.DataArray, others: Sequence[str]) -> None:
    """Check that nothing is left to choose.

    Raises:
        InputError: a further dimension has several entries.
    """
    if remaining := [d for d in others if d in array.dims and array.sizes[d] > 1]:
        sizes = ", ".join(f"{d}={array.sizes[d]}" for d in remaining)
        entries = [shlex.quote(f"{d}={labels(array, d)[0]}") for d in remaining]
        examples = " ".join(f"--select {entry}" for entry in entries)
        raise InputError(
            f"variable '{array.name}' has further dimensions ({sizes}); choose one entry of "
            f"each, like {examples}"
        )


def _take(array: xr.DataArray, name: str, label: str, others: Sequence[str]) -> xr.DataArray:
    coordinate = _labelling(array, name)
    along = name if coordinate is None or not coordinate.dims else str(coordinate.dims[0])
    scalar = coordinate is not None and not coordinate.dims
    if not scalar and along not in others:
        listed = ", ".join(d for d in others if d in array.dims) or "none"
        raise InputError(
            f"variable '{array.name}' has no dimension '{name}' to select from; dimensions beside "
            f"time, latitude and longitude: {listed}"
        )
    available = labels(array, name)
    same = [entry for entry in available if entry == label or _same_number(entry, label)]
    wanted = label if label in same else next(iter(same), None)
    if wanted is None:
        more = f", ... ({len(available)})" if len(available) > 20 else ""
        shown = f"{', '.join(available[:20])}{more}"
        raise InputError(f"variable '{array.name}' has no {name} '{label}'; it has {shown}")
    return array if scalar else array.isel({along: available.index(wanted)})


def _labelling(array: xr.DataArray, name: str) -> xr.DataArray | None:
    """The coordinate that names entries: of that name, or the one along that dimension."""
    if name in array.coords:
        coordinate = array[name]
        return coordinate if coordinate.ndim <= 1 else None
    # Names of members often lie in a text variable beside a dimension without numbers.
    along: list[xr.DataArray] = [c for c in array.coords.values() if c.dims == (name,)]
    return min(along, key=lambda c: c.dtype.kind not in "SUO", default=None)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    if np.issubdtype(type(value), np.number):
        # The shortest text that is this number in its own precision: 0.1, not 0.10000000149.
        return f"{float(str(value)):.10g}"
    return str(value).strip()


def _same_number(label: str, wanted: str) -> bool:
    try:
        return float(label) == float(wanted)
    except ValueError:
        return False
