"""The order of a day's temperatures near the surface: minimum, mean and maximum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from climdown.arrays import Float32
from climdown.cf.fields import Field
from climdown.cf.quantities import family_of_field, like_array
from climdown.cf.recognition import extreme, extreme_by_name
from climdown.cf.units import convert_units

_FAMILIES = ("tasmin", "tas", "tasmax")
_RANKS = {"minimum": 0, None: 1, "maximum": 2}
_ROUNDING = 1e-4  # of float32 between kelvins and degrees Celsius


@dataclass(frozen=True)
class DailyOrder:
    """Variables of which each is never above the next.

    Attributes:
        names: of two or three variables, the lowest first.
        units: of their values.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]

    def restore(self, values: Mapping[str, Float32]) -> tuple[dict[str, Float32], int]:
        """Values out of order changed for one another; those in order and NaN stay as they are.

        What is known to ascend is nearer to the truth once sorted, whatever the truth is
        (Chernozhukov, Fernández-Val & Galichon 2009, doi:10.1093/biomet/asp030), and its sum stays.

        Args:
            values: of all variables, of one shape each.

        Returns:
            values of all variables, and in how many places some were changed.
        """
        common = self.units[0]
        before = [
            np.asarray(convert_units(values[name], units, common), dtype=np.float64)
            for name, units in zip(self.names, self.units, strict=True)
        ]
        after, slack = list(before), 0.0 if len(set(self.units)) == 1 else _ROUNDING
        for low, high in combinations(range(len(after)), 2):
            lower, upper = after[low], after[high]
            wrong = lower > upper + slack
            after[low], after[high] = np.where(wrong, upper, lower), np.where(wrong, lower, upper)
        result, changed = dict(values), np.zeros(before[0].shape, dtype=np.bool_)
        for name, units, old, new in zip(self.names, self.units, before, after, strict=True):
            moved = (old != new) & ~np.isnan(old)
            turned = convert_units(new, common, units).astype(np.float32)
            result[name] = np.where(moved, turned, values[name])
            changed |= moved
        return result, int(changed.sum())

    def line(self, count: int) -> list[str]:
        """A sentence on the values that were changed, where there are any."""
        if not count:
            return []
        return [f"{count} values of {self.listed} out of order, changed for one another"]

    @property
    def listed(self) -> str:
        """Names for a message."""
        return f"{', '.join(self.names[:-1])} and {self.names[-1]}"


def daily_order(
    fields: Mapping[str, Field], units: Mapping[str, str] | None = None
) -> DailyOrder | None:
    """The order among variables; None where fewer than two have one.

    Of two that would have the same place, such as means at two heights, neither has one.

    Args:
        units: of the values, by variable; None takes those of the fields.
    """
    places: dict[int, list[str]] = {}
    for name, field in fields.items():
        if (rank := _rank(field)) is not None:
            places.setdefault(rank, []).append(name)
    names = tuple(places[rank][0] for rank in sorted(places) if len(places[rank]) == 1)
    if len(names) < 2:
        return None
    own = {name: fields[name].quantity.units for name in names} if units is None else units
    return DailyOrder(names, tuple(own[name] for name in names))


def _rank(field: Field) -> int | None:
    """0 for a minimum, 1 for a mean, 2 for a maximum of near-surface air temperature."""
    family = family_of_field(field)
    if family is None or family.quantity.name not in _FAMILIES or field.quantity.level is not None:
        return None
    return _RANKS[extreme_by_name(field.quantity.name) or extreme(like_array(field))]
