"""Sums by segment of time, which add, merge and are stored by unit of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from climdown.arrays import AnyArray, Float64
from climdown.evaluation.segments import Along

COUNTS = np.dtype(np.uint32)


class Key(NamedTuple):
    """Whose sums they are.

    Attributes:
        along: the segments of the leading axis.
        source: name of an output, "reference", "input", or "NAME/pairs", "NAME/input".
        variable: or two, joined by "+".
        name: of the sum.
    """

    along: Along
    source: str
    variable: str
    name: str

    def text(self) -> str:
        """As a name in a file of states."""
        return "|".join(self)

    @classmethod
    def parse(cls, text: str) -> Key:
        """The inverse of `text`."""
        along, source, variable, name = text.split("|")
        return cls(along, source, variable, name)  # type: ignore[arg-type]


@dataclass
class States:
    """Sums by key, each with segments as its leading axis, from the first that has any.

    Attributes:
        first: of each sum, the segment of its first row.
        sums: of each key, shape (segments, ...), float64; or uint32, which is half as large, for
            counts in many bins.
    """

    first: dict[Key, int] = field(default_factory=dict)
    sums: dict[Key, AnyArray] = field(default_factory=dict)

    def add(self, key: Key, first: int, values: AnyArray) -> None:
        """Add sums of consecutive segments: counts stay `COUNTS`, all else is float64."""
        values = np.asarray(values, dtype=values.dtype if values.dtype == COUNTS else np.float64)
        if key not in self.sums:
            self.first[key], self.sums[key] = first, values.copy()
            return
        start = min(first, self.first[key])
        stop = max(first + len(values), self.first[key] + len(self.sums[key]))
        if (start, stop) != (self.first[key], self.first[key] + len(self.sums[key])):
            self._grow(key, start, stop)
        self.sums[key][first - start : first - start + len(values)] += values

    def merge(self, other: States) -> None:
        """Add all of another's sums, of the same segments or of others."""
        for key, values in other.sums.items():
            self.add(key, other.first[key], values)

    def of(self, along: Along, source: str, variable: str, segments: int) -> dict[str, AnyArray]:
        """The sums of a source by name, shape (segments, ...), zero where there are none."""
        return {
            key.name: self._whole(key, segments)
            for key in self.sums
            if (key.along, key.source, key.variable) == (along, source, variable)
        }

    def total(self, along: Along, source: str, variable: str) -> dict[str, Float64]:
        """Sums over all segments, by name."""
        return {
            key.name: values.sum(axis=0, dtype=np.float64)
            for key, values in self.sums.items()
            if (key.along, key.source, key.variable) == (along, source, variable)
        }

    def arrays(self) -> dict[str, AnyArray]:
        """Everything, for a file; the inverse is `from_arrays`."""
        return {f"{self.first[key]}|{key.text()}": values for key, values in self.sums.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> States:
        """The inverse of `arrays`."""
        states = cls()
        for text, values in arrays.items():
            first, _, name = text.partition("|")
            states.add(Key.parse(name), int(first), values)
        return states

    def _grow(self, key: Key, start: int, stop: int) -> None:
        old, offset = self.sums[key], self.first[key] - start
        grown = np.zeros((stop - start, *old.shape[1:]), dtype=old.dtype)
        grown[offset : offset + len(old)] = old
        self.first[key], self.sums[key] = start, grown

    def _whole(self, key: Key, segments: int) -> AnyArray:
        values = self.sums[key]
        if len(values) == segments:
            return values
        whole = np.zeros((segments, *values.shape[1:]), dtype=values.dtype)
        whole[self.first[key] : self.first[key] + len(values)] = values
        return whole
