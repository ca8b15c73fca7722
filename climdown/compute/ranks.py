"""Which process of how many this is, where a launcher (`torchrun`) started several.

No other module reads the variables of a launcher.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """The place of a process among those that were started together; alone, the only one.

    Attributes:
        number: from 0 among all of them.
        size: of them all.
        local: from 0 among those on its machine.
    """

    number: int = 0
    size: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports for all."""
        return self.number == 0


def own_rank() -> Rank:
    """The rank of this process, from the variables that `torchrun` sets."""

    def number(name: str, default: int) -> int:
        return int(os.environ.get(name, default))

    return Rank(number("RANK", 0), number("WORLD_SIZE", 1), number("LOCAL_RANK", 0))
