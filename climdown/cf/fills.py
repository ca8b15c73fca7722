"""Fill values that a file does not declare: numbers that stand for "missing", far from all others.

Nothing in a file says that -999 is no temperature. What tells a fill value is that it is one of
the numbers that the field uses for it, and that no other value is near: -999 among depths from
-2000 to 5000 m is a depth.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from climdown.cf.missing import is_packed, packing
from climdown.cf.valid_range import WATCHED, RangeWatch
from climdown.errors import InputError

log = logging.getLogger(__name__)

# 999, -9999.9, -88888: repeated digits, as seven of them are written.
_REPEATED = re.compile(r"-?(9{3,7}|9{3,5}\.9{1,2})|-(7{3,7}|8{3,7}|8{3,5}\.8{1,2}|99(\.9{1,2})?)")
# netCDF's own default, and the ends of single and double precision.
_DEFAULTS = ("9.96921e+36", "3.402823e+38", "1.797693e+308")
# Powers of ten and the like, of at most three digits.
_ROUND = re.compile(r"-?\d(\.\d{1,2})?e\+\d+")
_LARGE = 1e8
_INTEGERS = (32766.0, 32767.0, 32768.0, 2147483647.0, 2147483648.0)
# Distance to the nearest other value, in ranges of all others: a fill value for certain, or likely.
_CERTAIN, _LIKELY = 1.0, 0.1


@dataclass(frozen=True)
class UndeclaredFill:
    """A value that stands apart; `low` and `high` bound all others, NaN where there are none."""

    value: float
    low: float
    high: float
    certain: bool

    def describe(self) -> str:
        """One line for people, to follow a variable's name."""
        if np.isnan(self.low):
            return f"has no other value than {self.value:.7g}"
        return (
            f"has values of {self.value:.7g} where all others lie between {self.low:.4g} and "
            f"{self.high:.4g}"
        )


@dataclass(eq=False)
class FillWatch:
    """Looks at values as they are read, in any order and also twice, before units are converted.

    Attributes:
        candidates: extreme values that look like fills, and whether they are plain integers.
        low, high: of all other values.
        ranges: what watches over the valid ranges of the values, one for each file.
        said: limits of the ranges that were warned of.
    """

    candidates: dict[float, bool] = field(default_factory=dict)
    low: float = np.inf
    high: float = -np.inf
    ranges: list[RangeWatch] = field(default_factory=list)
    said: set[tuple[float, float]] = field(default_factory=set)

    def add(self, values: npt.NDArray[Any], encoding: Mapping[Any, Any]) -> None:
        """Look at unpacked values.

        Args:
            encoding: of the variable: the type it is stored in, and how it is packed.
        """
        if (watch := encoding.get(WATCHED)) is not None and watch not in self.ranges:
            self.ranges.append(watch)
        if values.size == 0 or {"flag_values", "flag_masks"} & set(encoding):
            return
        low, high = (float(f.reduce(values, axis=None)) for f in (np.fmin, np.fmax))
        ends = {end for end in (low, high) if np.isfinite(end)}
        suspects = {end for end in ends if _looks_like_fill(end, encoding)}
        if not suspects and np.isfinite([low, high]).all():
            self.low, self.high = min(self.low, low), max(self.high, high)
        elif not (np.isnan(low) and np.isnan(high)):
            kind = np.dtype(encoding.get("dtype", values.dtype)).kind
            self.candidates |= dict.fromkeys(suspects, kind in "iu" and not is_packed(encoding))
            keep = np.isfinite(values) & ~np.isin(values, list(suspects))
            self.add(values[keep], encoding)

    def undeclared(self) -> UndeclaredFill | None:
        """The value that is most likely a fill, after all that was looked at; None if none is."""
        judged = (self._judge(*candidate) for candidate in self.candidates.items())
        suspected = [fill for fill in judged if fill is not None]
        return max(suspected, key=lambda fill: (fill.certain, abs(fill.value)), default=None)

    def valid_ranges(self) -> list[RangeWatch]:
        """What each valid range left out, of all files that state it."""
        merged: dict[str, RangeWatch] = {}
        for watch in self.ranges:
            key = f"{watch.stated} {watch.limits}"
            merged[key] = merged[key] + watch if key in merged else watch
        return list(merged.values())

    def _judge(self, value: float, integer: bool) -> UndeclaredFill | None:
        if self.low > self.high:
            alone = value < 0 or value >= _LARGE
            return UndeclaredFill(value, np.nan, np.nan, certain=True) if alone else None
        distance = max(self.low - value, value - self.high)
        span = self.high - self.low
        # Large fills are farther away than that.
        if not distance > (_CERTAIN if abs(value) >= _LARGE else _LIKELY) * span:
            return None
        # 999 may be a count.
        certain = distance > _CERTAIN * span and not (integer and 0 < value < _LARGE)
        return UndeclaredFill(value, self.low, self.high, certain=certain)


def refuse_misread(watch: FillWatch, where: str, name: str) -> None:
    """Refuse fill values that the file does not declare, and valid ranges in other units.

    What may be a fill value, and what a valid range leaves out, is warned of.

    Args:
        where: the file, for people.
        name: of the variable.

    Raises:
        InputError: values are there or missing that should not be.
    """
    refuse_misread_range(watch, where, name)
    if (fill := watch.undeclared()) is None:
        return
    text = f"{where}: variable '{name}' {fill.describe()}"
    remedy = f"`ncatted -a missing_value,{name},o,d,{fill.value:.7g}`"
    if fill.certain:
        raise InputError(
            f"{text}: a fill value that the file does not declare; declare it: {remedy}"
        )
    log.warning("%s: taken for a value; if it is a fill value, declare it: %s", text, remedy)


def refuse_misread_range(watch: FillWatch, where: str, name: str) -> None:
    """Refuse valid ranges that are in other units than CF has them in; say what others leave out.

    Raises:
        InputError: most values would be missing.
    """
    for valid_range in watch.valid_ranges():
        if (text := valid_range.describe(name)) is None:
            continue
        line = f"{where}: variable '{name}' {text}"
        if valid_range.misread:
            raise InputError(line)
        # Shares change while blocks are read; one is enough.
        if valid_range.limits not in watch.said:
            watch.said.add(valid_range.limits)
            log.warning("%s", line)


def _looks_like_fill(value: float, encoding: Mapping[Any, Any]) -> bool:
    """Whether a number is one of those that stand for "missing"."""
    text = f"{value:.7g}"
    if _REPEATED.fullmatch(text) or text.removeprefix("-") in _DEFAULTS:
        return True
    if abs(value) >= _LARGE and (_ROUND.fullmatch(text) or abs(value) in _INTEGERS):
        return True
    return abs(value) in _INTEGERS or _is_extreme_code(value, encoding)


def _is_extreme_code(value: float, encoding: Mapping[Any, Any]) -> bool:
    """Whether a packed value is the lowest or highest number of its stored type, or -999."""
    stored = np.dtype(encoding.get("dtype", np.float64))
    scale, offset = packing(encoding)
    if stored.kind not in "iu" or not is_packed(encoding) or not scale:
        return False
    info, code = np.iinfo(stored), round((value - offset) / scale)
    ends = {info.min, info.min + 1, info.max - 1, info.max}
    return code in ends or _REPEATED.fullmatch(str(code)) is not None
