"""What `climdown evaluate` is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from climdown.options import require

REFERENCE = "reference"
INPUT = "input"
INTERPOLATED = "bilinear"
"""The baseline that is made of the input where none is given."""


@dataclass(frozen=True)
class Request:
    """Files and choices.

    Attributes:
        outputs: files of each output, by the name under which it is reported.
        reference: files of observations or reanalysis.
        input: files that the outputs were made from; empty if there are none to compare with.
        baselines: names among the outputs of what the others have to beat.
        pairing: whether days of output and reference are the same days; "auto" finds out.
        variables: names in the reference; empty takes all.
        region: west, east, south, north in degrees; None takes all.
        period: "START/END"; None takes all.
        members: the first so many of each output; None takes all.
        grid: on which all are judged: "reference", "output" or what `climdown regrid --grid`
            takes; None expects both on one grid.
        select: entries along further dimensions of the files.
        seed: of random ties and resamples.
        resamples: of the bootstrap.
        scheduler: address of a Dask cluster.
        shard: (i, n): only every n-th unit of work, from the i-th, counted from 0.
        overwrite: discard sums of another evaluation that lie where these are kept.
    """

    outputs: Mapping[str, tuple[str, ...]]
    reference: tuple[str, ...]
    input: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    pairing: Literal["auto", "paired", "unpaired"] = "auto"
    variables: tuple[str, ...] = ()
    region: tuple[float, float, float, float] | None = None
    period: str | None = None
    members: int | None = None
    grid: str | None = None
    select: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    resamples: int = 200
    scheduler: str | None = None
    shard: tuple[int, int] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        require(bool(self.outputs), "no output to evaluate")
        require(bool(self.reference), "no reference; give --reference FILE")
        for name in self.outputs:
            require(
                name not in (REFERENCE, INPUT) and not set(name) & set("|/+=") and bool(name),
                f"an output cannot be called '{name}'; expected a name without | / + =, and "
                f"neither {REFERENCE} nor {INPUT}",
            )
        for name in self.baselines:
            require(name in self.outputs, f"the baseline '{name}' is none of the outputs")
        require(
            set(self.outputs) != set(self.baselines),
            "all outputs are baselines; name one that is judged by them",
        )
        require(self.members is None or self.members >= 1, "--members needs at least 1")
        require(self.resamples >= 0, "--resamples needs at least 0")
        if self.shard is not None:
            i, n = self.shard
            require(0 <= i < n, f"--shard is {i + 1}/{n}; expected I/N with 1 <= I <= N")
        if self.region is not None:
            _check_region(self.region)


def _check_region(region: tuple[float, float, float, float]) -> None:
    west, east, south, north = region
    require(
        -90.0 <= south < north <= 90.0 and west != east and abs(east - west) <= 360.0,
        f"--region is {west:g},{east:g},{south:g},{north:g}; expected WEST,EAST,SOUTH,NORTH in "
        "degrees, south less than north",
    )
