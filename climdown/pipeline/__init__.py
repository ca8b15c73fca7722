"""`downscale()`: a plan, then what it says. Light to import; the rooms behind it are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from climdown.config import RunConfig
    from climdown.pipeline.execution import Progress, Summary
    from climdown.priors.prior import Prior


def downscale(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    prior: Prior | None = None,
    config: RunConfig | None = None,
    command: str = "climdown.downscale()",
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Summary:
    """Downscale CMIP files to an ensemble on a prior's fine grid.

    Args:
        inputs: NetCDF files or patterns that hold the prior's variables, or some of them.
        output: NetCDF file to write.
        prior: None chooses the bundled one that fits.
        config: method, members, seed and the rest.
        command: for the history attribute.
        progress: called after every batch of fields.
        should_stop: asked between batches; true ends the run with `Requeue`.

    Raises:
        ClimdownError: one of its kinds, with one line that says what to do.
    """
    from climdown.config import RunConfig
    from climdown.pipeline.execution import execute, never
    from climdown.pipeline.planning import make_plan

    plan = make_plan(inputs, output, prior=prior, config=config or RunConfig())
    stopping = never if should_stop is None else (lambda: nullcontext(should_stop))
    return execute(plan, command=command, progress=progress, stopping=stopping)
