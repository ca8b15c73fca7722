"""Groups of time steps with one map each: all, those of a month, or those around a day of the year.

Membership follows the date and not the position in the series, so that a series of winters alone,
one with gaps, and reference and model in different calendars are all grouped correctly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import array_api_compat
import cftime
import numpy as np

from climdown.arrays import Dates, Index
from climdown.errors import ConfigError

Kind = Literal["none", "month", "dayofyear"]
# Calendar-aware dates in any CF calendar, as a list or an array.
DateSequence = Sequence[cftime.datetime] | Dates
# An array of NumPy or of torch: what the two share has no common static type.
Array = Any

DAYS = 365
# Days before each month in a year without leap day.
_FIRST_OF_MONTH = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334])


@dataclass(frozen=True)
class Grouping:
    """A partition of the dates of a year into groups, each with a map of its own.

    Attributes:
        kind: "none" has one group, "month" twelve, "dayofyear" one for each of 365 days.
        window: width in days, odd, of the window around a day of the year whose steps belong to
            its group; of no effect on the other kinds.

    Raises:
        ConfigError: the kind is unknown, or the window is even, below 1 or above 365.
    """

    kind: Kind
    window: int = 31

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(
                f"unknown grouping '{self.kind}'; expected {', '.join(get_args(Kind))}"
            )
        if self.window % 2 != 1 or not 1 <= self.window <= DAYS:
            raise ConfigError(
                f"the window of a grouping is {self.window} days; expected an odd number of days "
                f"from 1 to {DAYS}"
            )

    @property
    def count(self) -> int:
        """Number of groups."""
        return {"none": 1, "month": 12, "dayofyear": DAYS}[self.kind]

    def group_of(self, dates: DateSequence) -> Index:
        """The group whose map each date uses, shape (time,), from 0 to `count` - 1.

        Dates may be in any CF calendar. For days of the year see `day_of_year`; months are taken
        from the dates as they are, also in a 360-day calendar.
        """
        if self.kind == "dayofyear":
            return day_of_year(dates)
        if self.kind == "month":
            return np.fromiter((date.month for date in dates), np.int64, len(dates)) - 1
        return np.zeros(len(dates), dtype=np.int64)

    def members(self, dates: DateSequence) -> Index:
        """Indices of the time steps that belong to each group, shape (groups, longest).

        Rows are padded with -1 up to the length of the longest group. Those of a day of the year
        lie within half a window of it, around the turn of the year too. A group may be empty.
        """
        return self.windows(self.group_of(dates)).members()

    def windows(self, groups: Index) -> Windows:
        """The members as runs, for time steps whose groups `group_of` gave."""
        reach = self.window // 2 if self.kind == "dayofyear" else 0
        # Steps sorted by group; the stable sort leaves those of one group in the order of time.
        order = np.argsort(groups, kind="stable")
        # Laid out by day, once more before and behind: windows around New Year are runs as well.
        starts = np.searchsorted(groups[order], np.arange(self.count))
        turns = np.arange(-reach, self.count + reach + 1)
        edges = starts[turns % self.count] + len(order) * (turns // self.count)
        # edges[i] is where day i - reach begins, so the window of day g runs from edges[g], the
        # start of day g - reach, to edges[g + 2 reach + 1], the start of day g + reach + 1.
        first, last = edges[: self.count], edges[-self.count :]
        # Of the copies before and behind only what some window reaches is stored.
        laid = np.concatenate([order] * 3)[len(order) + edges[0] : len(order) + edges[-1]]
        return Windows(laid, first - edges[0], last - first)


@dataclass(frozen=True, eq=False)
class Windows:
    """Time steps of each group as runs of one list, in which overlapping windows share steps.

    Attributes:
        order: time steps, some of them more than once.
        first, length: of the run of each group in `order`, shape (groups,).
    """

    order: Index
    first: Index
    length: Index

    @property
    def longest(self) -> int:
        """Length of the longest run."""
        return int(self.length.max(initial=0))

    def members(self, padding: int = -1) -> Index:
        """The runs as rows, shape (groups, longest), padded at their ends."""
        slots = np.arange(self.longest)
        padded = np.append(self.order, padding)
        # Slots past the end of a short run would read the next group's steps: they are padded. The
        # minimum keeps the index of the last runs in range.
        index = np.minimum(self.first[:, None] + slots, len(self.order))
        return np.where(slots < self.length[:, None], padded[index], padding)

    @classmethod
    def of_members(cls, members: Index) -> Windows:
        """Windows whose `members` are these, padded with -1 at the ends of rows."""
        length = (members >= 0).sum(axis=1)
        return cls(members[members >= 0], np.cumsum(length) - length, length)

    def runs(self, rows: Array) -> Array:
        """A view of all runs of the longest length in rows (cells, time), for `cut`.

        Runs lie in one piece in memory, which makes copying them quick. Shape (starts, cells,
        longest).
        """
        xp, device = home(rows)
        # Step 0 stands behind the end, so that the last runs have the full length too; `cut`
        # replaces it by the padding.
        order = np.pad(self.order, (0, self.longest))
        laid = xp.take(rows, xp.asarray(order, device=device), axis=1)
        if array_api_compat.is_torch_array(laid):
            return xp.moveaxis(laid.unfold(1, self.longest, 1), 1, 0)
        view = np.lib.stride_tricks.sliding_window_view(laid, self.longest, axis=1)
        return np.moveaxis(view, 1, 0)

    def cut(self, runs: Array, part: slice, padding: float) -> Array:
        """Values of some of the groups, shape (groups, cells, longest), padded at their ends."""
        xp, device = home(runs)
        # Indexing by an array copies, so that the padding below does not spoil the shared runs.
        values = runs[xp.asarray(self.first[part], device=device)]
        length, longest = self.length[part], self.longest
        # Slots below the shortest length are valid in every group and need no mask.
        shortest = int(length.min(initial=longest))
        if shortest < longest:
            beyond = xp.asarray(np.arange(shortest, longest) >= length[:, None], device=device)
            tail = values[..., shortest:]
            tail[...] = xp.where(beyond[:, None], xp.full_like(tail, padding), tail)
        return values

    def valid(self, rows: Array) -> Index:
        """Values of rows (cells, time) in each group that are not missing, shape (cells, groups).

        Or (1, groups), where none is missing.
        """
        xp, _ = home(rows)
        missing = xp.isnan(rows)
        if not bool(xp.any(missing)):
            return self.length[None]
        # A difference of cumulative counts per window: the cost does not grow with the window's
        # width.
        present = ~np.asarray(array_api_compat.to_device(missing, "cpu"))
        before = np.pad(np.cumsum(present[:, self.order], axis=1), ((0, 0), (1, 0)))
        return np.asarray(before[:, self.first + self.length] - before[:, self.first])


def home(array: Array) -> tuple[Any, Any]:
    """Namespace and device of an array of NumPy or torch."""
    return array_api_compat.array_namespace(array), array_api_compat.device(array)


def day_of_year(dates: DateSequence) -> Index:
    """Position of each date in a year of 365 days, shape (time,), from 0 to 364.

    In calendars with months of the usual lengths, month and day decide, so that a date is the same
    day in all of them; 29 February counts as the 28th. The 360 days of a year of equal months are
    spread evenly: the middle of each falls in day floor((n - 0.5) * 365 / 360), n from 1.
    """
    if len(dates) == 0:
        return np.zeros(0, dtype=np.int64)
    # Month and day packed into one number: a single pass over Python's date objects.
    parts = np.fromiter((32 * date.month + date.day for date in dates), np.int64, len(dates))
    month, day = parts // 32 - 1, parts % 32
    if calendar_of(dates) == "360_day":
        return np.asarray(np.floor((30 * month + day - 0.5) * DAYS / 360.0), dtype=np.int64)
    leap_day = (month == 1) & (day == 29)
    return np.asarray(_FIRST_OF_MONTH[month] + day - 1 - leap_day, dtype=np.int64)


def calendar_of(dates: DateSequence) -> str:
    """The CF calendar of dates; plain datetimes have the standard one."""
    first: Any = dates[0]
    return str(getattr(first, "calendar", "standard"))
