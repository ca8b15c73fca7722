"""Periods of a long simulation that are adjusted together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from climdown.arrays import Dates

_DECADE = 10  # years adjusted together where a moving window of years is asked for
# A longer simulation changes so much that its years are not of one climate: by default it is
# then judged within the usual length of a climatological period (WMO).
_LONG, _USUAL = 45, 30


def window_of_years(dates: Dates, years: int | None) -> int | None:
    """The years around each decade that it is judged within; None takes all as one period.

    Args:
        years: as asked for; None leaves it to the length of the simulation, 0 asks for one period.
    """
    if years is not None:
        return years or None
    return _USUAL if dates[-1].year - dates[0].year + 1 > _LONG else None


def moving_periods(dates: Dates, years: int | None) -> Iterator[tuple[slice, slice]]:
    """Decades, each with the window of years that it is judged within.

    At either end of the series the window keeps its length and leans inwards.
    """
    numbers = np.array([date.year for date in dates])
    first, last = int(numbers[0]), int(numbers[-1])
    if years is None or last - first + 1 <= years:
        yield slice(0, len(dates)), slice(0, len(dates))
        return
    for start in range(first, last + 1, _DECADE):
        stop = min(start + _DECADE, last + 1)
        middle = (start + stop) // 2
        low = min(max(middle - years // 2, first), last + 1 - years)
        part = np.searchsorted(numbers, [start, stop])
        pool = np.searchsorted(numbers, [low, low + years])
        if part[0] < part[1]:
            yield slice(*map(int, part)), slice(*map(int, pool))
