"""Declared missing values, whatever type they are declared in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

# "-999.f", "1e20", "-32767s": numbers in text, with the letter that CDL gives their type.
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)[a-zA-Z]{0,3}")
_DECLARING = ("_FillValue", "missing_value")
# Fills that files declare in a few digits, and hold in all of them.
_ROUNDED_OFTEN = (9.969209968386869e36,)


def with_typed_missing_values(stored: xr.Dataset) -> xr.Dataset:
    """The undecoded dataset with each `_FillValue` and `missing_value` in the data's own type.

    A double -999.9 equals no single -999.9; and text equals no number.
    """
    typed = stored.copy()
    for name, variable in stored.variables.items():
        if variable.dtype.kind in "iuf" and set(_DECLARING) & set(variable.attrs):
            typed[name].attrs = _typed_attributes(variable)
    return typed


def declared_numbers(attribute: object) -> list[float]:
    """The numbers of an attribute: one or several, as numbers or as text; others are left out."""
    entries = np.ravel(np.asarray(attribute)).tolist()
    texts = [e.decode(errors="replace") if isinstance(e, bytes) else e for e in entries]
    return [number for entry in texts for number in _numbers(entry)]


def is_packed(attributes: Mapping[Any, Any]) -> bool:
    """Whether values are stored as scaled numbers."""
    return bool({"scale_factor", "add_offset"} & set(attributes))


def packing(attributes: Mapping[Any, Any]) -> tuple[float, float]:
    """(scale_factor, add_offset), 1 and 0 where they are not given."""
    scale, offset = attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)
    return float(np.ravel(scale)[0]), float(np.ravel(offset)[0])


def _numbers(entry: object) -> Iterator[float]:
    if isinstance(entry, str):
        parts = (_NUMBER.fullmatch(part) for part in re.split(r"[\s,;]+", entry.strip()))
        yield from (float(part[1]) for part in parts if part is not None)
    elif isinstance(entry, int | float):
        yield entry


def _typed_attributes(variable: xr.Variable) -> dict[Any, Any]:
    attributes = dict(variable.attrs)
    logical = logical_type(variable)
    values: list[Any] = []
    for name in _DECLARING:
        for number in declared_numbers(attributes.get(name, ())):
            if not np.isnan(number):
                values += _as_stored(number, variable, logical)
        # Unsigned numbers in a signed type have a _FillValue that is signed.
        if name == "missing_value" or np.asarray(attributes.get(name)).dtype != variable.dtype:
            attributes.pop(name, None)
    if values:
        attributes["missing_value"] = np.unique(np.array(values, dtype=logical))
    return attributes


def logical_type(variable: xr.Variable) -> np.dtype[Any]:
    """The type that values have once `_Unsigned` is heeded."""
    stated = str(variable.attrs.get("_Unsigned", "")).lower()
    kind = {"true": "u", "false": "i"}.get(stated, variable.dtype.kind)
    if variable.dtype.kind == "f":
        kind = "f"
    return np.dtype(f"{kind}{variable.dtype.itemsize}")


def _as_stored(number: float, variable: xr.Variable, logical: np.dtype[Any]) -> list[Any]:
    """A declared number in the type of stored values, in each way that it may have been rounded."""
    if logical.kind == "f":
        with np.errstate(over="ignore"):
            return [logical.type(value) for value in roundings(number)]
    code, (scale, offset) = wrapped(number, logical), packing(variable.attrs)
    if code is None and is_packed(variable.attrs) and scale and np.isfinite(number):
        code = wrapped(float(np.round((number - offset) / scale)), logical)
    return [] if code is None else [logical.type(code)]


def roundings(number: float) -> set[float]:
    """A number as it is, as it is in single precision, and as that is written."""
    with np.errstate(over="ignore"):
        single = np.float32(number)
    near = [f for f in _ROUNDED_OFTEN if abs(number - f) <= 1e-4 * f]
    singles = [float(np.float32(f)) for f in near]
    return {float(number), float(single), float(str(single)), *near, *singles}


def wrapped(number: float, logical: np.dtype[Any]) -> int | None:
    """A number as an integer type holds it, -1 as 255 in an unsigned byte; None where it cannot."""
    if not np.isfinite(number) or number != int(number):
        return None
    info, code = np.iinfo(logical), int(number)
    circle = 1 << info.bits
    if not info.min <= code <= info.max and -circle // 2 <= code < circle:
        signs_differ = (logical.kind == "u") == (code < 0)
        code = (code + circle) % circle if signs_differ and logical.kind == "u" else code
    return code if info.min <= code <= info.max else None
