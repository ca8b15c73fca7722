"""Declared missing values, whatever type they are declared in, and values out of a valid range."""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

log = logging.getLogger(__name__)

# "-999.f", "1e20", "-32767s": numbers in text, with the letter that CDL gives their type.
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)[a-zA-Z]{0,3}")
_DECLARING = ("_FillValue", "missing_value")
_LIMITING = ("valid_range", "valid_min", "valid_max")
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


def masked_outside_valid_range(dataset: xr.Dataset, stored: xr.Dataset) -> xr.Dataset:
    """The decoded dataset whose fields are missing outside `valid_range`, `valid_min`, `valid_max`.

    Limits are in packed units, unless they have a wider type than packed values (NetCDF User's
    Guide, appendix A). `actual_range` describes and masks nothing. Values stay lazy.

    Args:
        stored: the same, undecoded.
    """
    bounds = {variable.attrs.get("bounds") for variable in dataset.variables.values()}
    masked: dict[Hashable, xr.Variable] = {}
    for name, array in dataset.data_vars.items():
        numeric = array.dtype.kind in "iuf" and name not in bounds
        if numeric and set(_LIMITING) & set(stored[name].attrs):
            low, high = _valid_limits(stored.variables[name])
            if low <= high:
                masked[name] = _masked(array.variable, low, high)
            else:
                log.warning(
                    "'%s': its valid range is empty (%.6g to %.6g) and not used", name, low, high
                )
    return dataset.assign(masked)


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
    logical = _logical_type(variable)
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


def _logical_type(variable: xr.Variable) -> np.dtype[Any]:
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
            return [logical.type(value) for value in _roundings(number)]
    code, (scale, offset) = _wrapped(number, logical), packing(variable.attrs)
    if code is None and is_packed(variable.attrs) and scale and np.isfinite(number):
        code = _wrapped(float(np.round((number - offset) / scale)), logical)
    return [] if code is None else [logical.type(code)]


def _roundings(number: float) -> set[float]:
    """A number as it is, as it is in single precision, and as that is written."""
    with np.errstate(over="ignore"):
        single = np.float32(number)
    near = [f for f in _ROUNDED_OFTEN if abs(number - f) <= 1e-4 * f]
    singles = [float(np.float32(f)) for f in near]
    return {float(number), float(single), float(str(single)), *near, *singles}


def _wrapped(number: float, logical: np.dtype[Any]) -> int | None:
    """A number as an integer type holds it, -1 as 255 in an unsigned byte; None where it cannot."""
    if not np.isfinite(number) or number != int(number):
        return None
    info, code = np.iinfo(logical), int(number)
    circle = 1 << info.bits
    if not info.min <= code <= info.max and -circle // 2 <= code < circle:
        signs_differ = (logical.kind == "u") == (code < 0)
        code = (code + circle) % circle if signs_differ and logical.kind == "u" else code
    return code if info.min <= code <= info.max else None


def _valid_limits(stored: xr.Variable) -> tuple[float, float]:
    """The lowest and highest valid value, in unpacked units, with room for roundings."""
    low, high = -np.inf, np.inf
    for name in _LIMITING:
        for number, lower in _stated_limits(stored.attrs, name):
            least, most, turned = _limit(number, stored, name)
            if lower != turned:
                low = max(low, least)
            else:
                high = min(high, most)
    return low, high


def _stated_limits(attributes: Mapping[Any, Any], name: str) -> list[tuple[float, bool]]:
    """Limits as an attribute states them, and whether each is the lower one."""
    numbers = declared_numbers(attributes.get(name, ()))
    lower = {"valid_range": (True, False), "valid_min": (True,), "valid_max": (False,)}[name]
    return list(zip(numbers, lower, strict=True)) if len(numbers) == len(lower) else []


def _limit(number: float, stored: xr.Variable, name: str) -> tuple[float, float, bool]:
    """The least and the most that a limit may stand for, and whether packing turned it round."""
    if stored.dtype.kind == "f" or not is_packed(stored.attrs):
        values = _roundings(number) if stored.dtype.kind == "f" else {number}
        return min(values), max(values), False
    scale, offset = packing(stored.attrs)
    half = 0.5 * abs(scale)
    # A wider type than that of the packed values says that the limit is unpacked.
    if np.asarray(stored.attrs[name]).dtype.kind == "f":
        return number - half, number + half, False
    code = _wrapped(number, _logical_type(stored))
    value = (number if code is None else code) * scale + offset
    return value - half, value + half, scale < 0


def _masked(variable: xr.Variable, low: float, high: float) -> xr.Variable:
    array = indexing.LazilyIndexedArray(_ValidRange(variable, low, high))
    return xr.Variable(variable.dims, array, variable.attrs, variable.encoding)


class _ValidRange(BackendArray):
    """Values of a variable, missing where they are outside of a range; read when indexed."""

    def __init__(self, variable: xr.Variable, low: float, high: float) -> None:
        self.variable, self.low, self.high = variable, low, high
        self.shape = variable.shape
        self.dtype = np.result_type(variable.dtype, np.float16)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        outer = indexing.IndexingSupport.OUTER
        values: npt.NDArray[Any] = indexing.explicit_indexing_adapter(
            key, self.shape, outer, self._read
        )
        return values

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        values = np.asarray(self.variable[key].values).astype(self.dtype)
        return np.where((values < self.low) | (values > self.high), self.dtype.type(np.nan), values)
