"""What a downscaling method declares, and what it may ask about the run it is for.

Adding a method takes its file in this folder and one line in `registry`. Torch is imported inside
functions, so that the command line can read the declarations quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from climdown.options import option, require

if TYPE_CHECKING:
    import torch

    from climdown.arrays import Float32, Float64, Mask
    from climdown.diffusion.sampler import Sampler
    from climdown.priors.card import Card


@dataclass(frozen=True)
class GuidedVariable:
    """A variable of the prior that the input has.

    Attributes:
        channel: its place among the prior's variables.
        ratio: whether changes of it are ratios; else they are differences.
    """

    name: str
    channel: int
    ratio: bool


@dataclass(frozen=True, eq=False)
class Problem:
    """What a method may know of a run: the prior, and the input as it guides.

    Attributes:
        card: of the prior, with its defaults for sampling.
        variables: those that are guided, in the order of the channels.
        mask: cells that each variable of the prior has, shape (channels, ny, nx).
        device: where fields are drawn.
        climatology: mean of each cell by a variable's name, shape (ny, nx), or None.
        spectrum: power of the normalised training fields by wavenumber, shape (rings,), or None.
        first_guess: interpolated, normalised observations of so many steps, evenly spread over the
            run, shape (steps, channels, ny, nx).
    """

    card: Card
    variables: tuple[GuidedVariable, ...]
    mask: Mask
    device: torch.device
    climatology: Callable[[str], Float32 | None]
    spectrum: Callable[[str], Float32 | None]
    first_guess: Callable[[int], Float64]


class Method(Protocol):
    """A downscaling method.

    Attributes:
        name: on the command line.
        summary: one sentence, for the help and the guide.
        source: DOI or arXiv number of its paper.
        prior_kinds: kinds of prior that it can use.
        bias: adjustments of the input's bias that it is one with, "none" among them, the first
            implied; None fits any, and implies none.
        members: of the ensemble by default; 1 means that nothing is drawn, and no network asked.
        Options: a frozen dataclass of declared options that checks itself, see `climdown.options`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    prior_kinds: ClassVar[tuple[str, ...]] = ("diffusion",)
    bias: ClassVar[tuple[str, ...] | None] = None
    members: ClassVar[int] = 4
    Options: ClassVar[type]

    def decide(self, options: Any, problem: Problem) -> dict[str, Any]:
        """Every number that the sampler needs, as JSON values.

        Raises:
            ConfigError, PriorError: options or a prior with which the method cannot work.
        """

    def sampler(self, decided: Mapping[str, Any], problem: Problem) -> Sampler:
        """The sampler of what was decided; a resumed or shared run builds the same one.

        Raises:
            PriorError: the prior lacks what the method needs.
        """


@dataclass(frozen=True)
class NoOptions:
    """Of methods that have none."""


def sampler_option(reference: str) -> Any:
    """`--sampler`, for methods with a fast sampler and that of their paper.

    Args:
        reference: what the paper's does.
    """
    return option("fast", f"Fast, or as in the paper: {reference}.")


def steps_option(default_text: str = "the prior's") -> Any:
    """`--steps`."""
    return option(None, "Network evaluations per field.", default_text=default_text)


def check_steps(steps: int | None) -> None:
    """Refuse a number of network evaluations that draws nothing.

    Raises:
        ConfigError: it is not above zero.
    """
    require(steps is None or steps >= 1, f"steps is {steps}; need at least 1")


def keep_means_option(default_text: str = "keep") -> Any:
    """`--keep-means`, for methods that start from the interpolated input."""
    return option(
        None,
        "Move each answer of the network to the nearest field with the input's coarse means, which "
        "the papers do not.",
        default_text=default_text,
    )
