"""The configuration of `climdown run`; what single methods can do is theirs to declare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from climdown.options import require

DEFAULT_METHOD = "zssd"


@dataclass(frozen=True)
class RunConfig:
    """What `climdown run` is asked for.

    Attributes:
        method: name of a downscaling method, see `methods.registry`.
        options: of the method, by name; what is left out has its default.
        members: of the ensemble; None takes the method's default.
        seed: of the noise; the same seed gives the same members.
        filter_scale: degrees to which the input is averaged before it guides: a number,
            "native" (the input's own grid), or "auto" (native, but never finer than the
            coarse grid that the prior names, and coarser where the spectrum of the input departs
            from the prior's).
        coherence: correlation of the noise from one time step to the next, 0 to below 1; "auto" is
            the prior's own, by variable; "none", like 0, draws each step for itself.
        device: "auto" takes a CUDA device where there is one.
        batch_size: fields denoised together, or "auto".
        tile: cells along each side of the overlapping tiles in which the network is applied; None
            does as the prior's card says, which is the whole domain unless it was trained on tiles.
        period: "START/END", or None for all of the input.
        select: the entry to take along further dimensions of the input, as (dimension, label).
        bias: name of an adjustment of the input before it guides, see `adjust.registry`, or
            "none"; None takes the one that the method implies.
        bias_options: of the adjustment, by name.
        historical: files of the input's model in the reference's period.
        reference: files of observations; empty takes the quantiles that the prior carries.
        historical_period, reference_period: as `period`.
        overwrite: replace an output that exists, discard parts of another run.
        wait: until another process has written the output, instead of refusing to share it.
        verify: tell versions of input files apart by every byte, not by samples.
    """

    method: str = DEFAULT_METHOD
    options: Mapping[str, Any] = field(default_factory=dict)
    members: int | None = None
    seed: int = 0
    filter_scale: float | Literal["auto", "native"] = "auto"
    coherence: float | Literal["auto", "none"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    tile: int | None = None
    period: str | None = None
    select: tuple[tuple[str, str], ...] = ()
    bias: str | None = None
    bias_options: Mapping[str, Any] = field(default_factory=dict)
    historical: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    historical_period: str | None = None
    reference_period: str | None = None
    overwrite: bool = False
    wait: bool = False
    verify: bool = False

    def __post_init__(self) -> None:
        members = self.members
        require(members is None or members >= 1, f"members is {members}; need at least 1")
        require(0 <= self.seed < 2**31, f"seed is {self.seed}; need 0 to {2**31 - 1}")
        require(
            self.filter_scale in ("auto", "native") or _positive(self.filter_scale),
            f"filter scale is {self.filter_scale}; expected degrees > 0, auto or native",
        )
        coherence = self.coherence
        require(
            coherence in ("auto", "none")
            or (isinstance(coherence, int | float) and 0 <= coherence < 1),
            f"coherence is {coherence}; expected 0 to below 1, auto or none",
        )
        require(
            self.device in ("auto", "cpu", "cuda"),
            f"unknown device '{self.device}'; expected auto, cpu or cuda",
        )
        require(self.tile is None or self.tile > 0, f"tile is {self.tile}; need at least 1 cell")
        require(
            self.batch_size == "auto" or _positive(self.batch_size),
            f"batch size is {self.batch_size}; expected a number > 0, or auto",
        )


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0
