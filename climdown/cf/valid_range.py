"""Valid ranges: values outside of them are missing, and what ranges in other units would say."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from climdown.cf.missing import (
    declared_numbers,
    is_packed,
    logical_type,
    packing,
    roundings,
    wrapped,
)

log = logging.getLogger(__name__)

_LIMITING = ("valid_range", "valid_min", "valid_max")
# Where a variable keeps the watch over its valid range.
WATCHED = "valid_range_watch"
# A range that leaves out most values is another one where that leaves out but a part of these.
_MOST, _PART = 0.5, 0.1


@dataclass(eq=False)
class RangeWatch:
    """Counts what a valid range leaves out of the values that are read.

    Attributes:
        stated: the attributes of the file, by name.
        packed: whether they are read in packed units.
        limits: the lowest and highest valid value, in unpacked units.
        others: the same, if read in the other units; None where there are no other ones.
        seen, outside, otherwise: values that were there, and those out of `limits` and `others`.
        below, above: the lowest and highest value on either side of `limits`.
    """

    stated: dict[str, list[float]]
    packed: bool
    limits: tuple[float, float]
    others: tuple[float, float] | None
    seen: int = 0
    outside: int = 0
    otherwise: int = 0
    below: list[float] = field(default_factory=list)
    above: list[float] = field(default_factory=list)

    def masked(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The values, missing where they are outside of the range; they are counted."""
        low, high = values < self.limits[0], values > self.limits[1]
        finite = np.isfinite(values)
        self.seen += int(finite.sum())
        self.outside += int(((low | high) & finite).sum())
        if self.others is not None:
            others = (values < self.others[0]) | (values > self.others[1])
            self.otherwise += int((others & finite).sum())
        self.below = _extremes(np.append(self.below, values[low & finite]))
        self.above = _extremes(np.append(self.above, values[high & finite]))
        return np.where(low | high, values.dtype.type(np.nan), values)

    def __add__(self, other: RangeWatch) -> RangeWatch:
        """What the same range leaves out of two files."""
        return replace(
            self,
            seen=self.seen + other.seen,
            outside=self.outside + other.outside,
            otherwise=self.otherwise + other.otherwise,
            below=_extremes(np.array([*self.below, *other.below])),
            above=_extremes(np.array([*self.above, *other.above])),
        )

    @property
    def misread(self) -> bool:
        """Whether the range can but be meant in the other units."""
        most = self._varied and self.outside > _MOST * self.seen
        return most and self.others is not None and self.otherwise <= _PART * self.outside

    @property
    def _varied(self) -> bool:
        """Whether it leaves out more than one number on a side, which would be a fill value."""
        return len(self.below) > 1 or len(self.above) > 1

    def describe(self, name: str) -> str | None:
        """What it leaves out, to follow a variable's name; None for nothing, or one fill value."""
        stated = ", ".join(
            f"{attribute} {' to '.join(f'{number:.6g}' for number in numbers)}"
            for attribute, numbers in self.stated.items()
        )
        if self.misread and self.others is not None:
            remove = " ".join(f"-a {attribute},{name},d,," for attribute in self.stated)
            units = ("packed", "unpacked") if self.packed else ("unpacked", "packed")
            return (
                f"has {stated}: read in {units[0]} units, as {_text(self.limits)}, "
                f"{self.outside / self.seen:.1%} of its values are missing; in {units[1]} units, "
                f"as {_text(self.others)}, {self.otherwise / self.seen:.1%}; correct it, or remove "
                f"it: `ncatted {remove}`"
            )
        if not self._varied:
            return None
        return (
            f"has {stated}: {self.outside / self.seen:.2%} of its values are outside of "
            f"{_text(self.limits)}, and missing"
        )


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
            watch = _watch(stored.variables[name])
            low, high = watch.limits
            if low <= high:
                masked[name] = _masked(array.variable, watch)
            else:
                log.warning(
                    "'%s': its valid range is empty (%.6g to %.6g) and not used", name, low, high
                )
    return dataset.assign(masked)


def _watch(stored: xr.Variable) -> RangeWatch:
    stated = {
        name: declared_numbers(stored.attrs[name]) for name in _LIMITING if name in stored.attrs
    }
    packed = any(_is_packed_limit(stored, name) for name in stated)
    others = None
    if is_packed(stored.attrs) and stored.dtype.kind != "f":
        others = _valid_limits(stored, turned_over=True)
        others = others if others[0] <= others[1] else None
    return RangeWatch(stated, packed, _valid_limits(stored), others)


def _extremes(values: npt.NDArray[Any]) -> list[float]:
    """The lowest and the highest of some values, each once."""
    return sorted({float(values.min()), float(values.max())}) if values.size else []


def _text(limits: tuple[float, float]) -> str:
    return f"{limits[0]:.6g} to {limits[1]:.6g}"


def _is_packed_limit(stored: xr.Variable, name: str) -> bool:
    """Whether a limit is in packed units: a wider type than that of the values says it is not."""
    packed = is_packed(stored.attrs) and stored.dtype.kind != "f"
    return packed and np.asarray(stored.attrs[name]).dtype.kind != "f"


def _valid_limits(stored: xr.Variable, *, turned_over: bool = False) -> tuple[float, float]:
    """The lowest and highest valid value, in unpacked units, with room for roundings.

    Args:
        turned_over: take packed limits for unpacked ones, and the reverse.
    """
    low, high = -np.inf, np.inf
    for name in _LIMITING:
        for number, lower in _stated_limits(stored.attrs, name):
            packed = _is_packed_limit(stored, name) != turned_over
            least, most, turned = _limit(number, stored, packed=packed)
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


def _limit(number: float, stored: xr.Variable, *, packed: bool) -> tuple[float, float, bool]:
    """The least and the most that a limit may stand for, and whether packing turned it round."""
    if stored.dtype.kind == "f" or not is_packed(stored.attrs):
        values = roundings(number) if stored.dtype.kind == "f" else {number}
        return min(values), max(values), False
    scale, offset = packing(stored.attrs)
    half = 0.5 * abs(scale)
    if not packed:
        return number - half, number + half, False
    code = wrapped(number, logical_type(stored))
    value = (number if code is None else code) * scale + offset
    return value - half, value + half, scale < 0


def _masked(variable: xr.Variable, watch: RangeWatch) -> xr.Variable:
    array = indexing.LazilyIndexedArray(_ValidRange(variable, watch))
    encoding = {**variable.encoding, WATCHED: watch}
    return xr.Variable(variable.dims, array, variable.attrs, encoding)


class _ValidRange(BackendArray):
    """Values of a variable, missing where they are outside of a range; read when indexed."""

    def __init__(self, variable: xr.Variable, watch: RangeWatch) -> None:
        self.variable, self.watch = variable, watch
        self.shape = variable.shape
        self.dtype = np.result_type(variable.dtype, np.float16)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        outer = indexing.IndexingSupport.OUTER
        values: npt.NDArray[Any] = indexing.explicit_indexing_adapter(
            key, self.shape, outer, self._read
        )
        return values

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        return self.watch.masked(np.asarray(self.variable[key].values).astype(self.dtype))
