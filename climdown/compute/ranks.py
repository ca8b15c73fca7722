"""Which process of how many this is, where a launcher (`torchrun`) started several.

No other module reads the variables of a launcher.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from climdown.errors import ConfigError


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
    """The rank of this process, from the variables that `torchrun` sets.

    Raises:
        ConfigError: a variable holds no whole number, or a rank is none of the team's.
    """
    rank = Rank(number("RANK", 0), number("WORLD_SIZE", 1), number("LOCAL_RANK", 0))
    if max(rank.number, rank.local) >= rank.size:
        raise ConfigError(
            f"the environment has RANK {rank.number} and LOCAL_RANK {rank.local} of WORLD_SIZE "
            f"{rank.size}; expected ranks from 0 below the size: start with torchrun, or unset them"
        )
    return rank


def number(name: str, default: int) -> int:
    """A whole number from a variable of the launcher; what is unset or empty is the default.

    Raises:
        ConfigError: it is something else.
    """
    text = os.environ.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(
            f"the environment variable {name} is '{text}'; expected a whole number from 0: start "
            "with torchrun, or unset it"
        )
    return int(text)
