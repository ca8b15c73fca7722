"""Doing what a plan says: units are sampled, placed as parts, and joined."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from climdown import cf, files, stream
from climdown.arrays import Float32
from climdown.diffusion.denoiser import Denoiser, no_network
from climdown.diffusion.sampler import Sampler
from climdown.errors import ClimdownError, ConvergenceError, Requeue
from climdown.pipeline.observer import Observer
from climdown.pipeline.output import is_output_of, output_template
from climdown.pipeline.plan import Plan, identity

log = logging.getLogger(__name__)

# A part is placed after so long at the latest: a killed run loses no more.
PART_SECONDS = 120.0

Progress = Callable[[int, int], None]
"""Called with (fields done, fields in all)."""

Stopping = Callable[[], AbstractContextManager[Callable[[], bool]]]
"""Entered around the sampling: gives what is asked between batches, whether to stop."""


def never() -> AbstractContextManager[Callable[[], bool]]:
    """Nothing stops the sampling."""
    return nullcontext(lambda: False)


@dataclass(frozen=True)
class Summary:
    """What a finished run did."""

    output: Path
    fields: int
    resumed: int
    seconds: float


def execute(
    plan: Plan,
    *,
    command: str,
    progress: Progress | None = None,
    stopping: Stopping = never,
) -> Summary:
    """Sample what is not done yet, unit by unit, then join the parts into the output.

    Args:
        command: for the history attribute.
        progress: called after every batch.
        stopping: asks between batches; true keeps what is done and ends the run.

    Raises:
        Requeue: it was asked to stop; the same call goes on.
        ClimdownError: one of its other kinds.
    """
    begun = time.monotonic()
    with files.claimed(plan.output, wait=plan.wait):
        if plan.output.exists() and not plan.overwrite:
            return _finished(plan, begun)
        resumed = _draw_all(plan, command, progress, stopping)
    return Summary(plan.output, plan.total, resumed, time.monotonic() - begun)


def _finished(plan: Plan, begun: float) -> Summary:
    """What a run that was killed after its output was placed left to do."""
    if not is_output_of(plan, plan.output):
        files.check_output(plan.output, overwrite=False)
    log.info("%s is finished", plan.output)
    if (parts := files.parts_folder(plan.output)).is_dir():
        files.remove_folder(parts)
    return Summary(plan.output, plan.total, plan.total, time.monotonic() - begun)


def _draw_all(
    plan: Plan,
    command: str,
    progress: Progress | None,
    stopping: Stopping,
) -> int:
    """Draw what is missing, then join; how many fields an earlier run had drawn."""
    store = stream.PartStore.open(
        plan.output,
        times=len(plan.time),
        members=plan.members,
        identity=identity(plan),
        discard=plan.overwrite,
    )
    missing = store.missing()
    resumed = plan.total - sum(int(part.stop - part.start) for part in missing)
    if resumed:
        log.info("resuming: %d of %d fields are done", resumed, plan.total)
    if progress is not None:
        progress(resumed, plan.total)
    if missing:
        worker = Worker.of(plan, store)
        units = stream.plan_units(missing, plan.members, plan.batch_size, plan.field_bytes)
        try:
            with stopping() as should_stop:
                _sample(units, worker, store, _counting(plan, resumed, progress), should_stop)
        finally:
            worker.report()
    stream.join(store, output_template(plan, command), plan.output)
    store.remove()
    return resumed


def _counting(plan: Plan, done: int, progress: Progress | None) -> Callable[[int], str]:
    """A function that counts fields in, and says how far the run is."""

    def count(fields: int) -> str:
        nonlocal done
        done += fields
        if progress is not None and fields:
            progress(done, plan.total)
        return f"{done} of {plan.total} fields"

    return count


def _sample(
    units: Iterable[stream.Unit],
    worker: Worker,
    store: stream.PartStore,
    count: Callable[[int], str],
    should_stop: Callable[[], bool],
) -> None:
    """Sample units batch by batch; what is done is placed when a unit or the time is full."""
    for unit in units:
        part = _Part(store, unit.batches[0].start)
        for batch in unit.batches:
            if should_stop():
                part.place()
                raise Requeue(
                    f"stopped by a signal after {count(0)}; the same command goes on from there"
                )
            part.add(_kept_on_interrupt(worker, batch, part))
            count(batch.stop - batch.start)
        part.place()


def _kept_on_interrupt(worker: Worker, batch: slice, part: _Part) -> Float32:
    """A batch of fields; whatever ends the run, what was drawn before is placed."""
    try:
        return worker.sample(batch)
    except (KeyboardInterrupt, ClimdownError):
        part.place()
        raise


class _Part:
    """Fields that have been sampled and not been placed yet."""

    def __init__(self, store: stream.PartStore, start: int) -> None:
        self.store, self.start = store, start
        self.batches: list[Float32] = []
        self.begun = time.monotonic()

    def add(self, fields: Float32) -> None:
        """Take in a batch, shape (fields, variables, ny, nx); places all when time is up."""
        self.batches.append(fields)
        if time.monotonic() - self.begun > PART_SECONDS:
            self.place()

    def place(self) -> None:
        """Write what has been sampled since the last time as one part."""
        if self.batches:
            values = np.concatenate(self.batches)
            self.store.write(self.start, values)
            self.start += len(values)
        self.batches, self.begun = [], time.monotonic()


@dataclass(frozen=True, eq=False)
class Worker:
    """What samples fields of a plan: its network, its sampler, and the input as it guides.

    Attributes:
        model: None for methods that ask no network.
        order: of the temperatures of a day, in the output's units; None where there is none.
        changed: how many values were out of it, by "values".
    """

    plan: Plan
    model: Denoiser | None
    sampler: Sampler
    observer: Observer
    order: cf.DailyOrder | None
    changed: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, plan: Plan, store: stream.PartStore) -> Worker:
        """Load the network, and adjust the input where that has not been done."""
        drawn = plan.method.members > 1
        model = plan.prior.denoiser(plan.device, tile=plan.tile) if drawn else None
        adjusted = plan.adjusted
        readers = (
            {} if adjusted is None else adjusted.readers(store.folder, plan.device.type, store.key)
        )
        observer = Observer(plan.prior, plan.fields, plan.filter_grid, plan.device, readers)
        units = {name: field.source_units for name, field in plan.fields.items()}
        order = cf.daily_order(plan.fields, units)
        return cls(plan, model, plan.method.sampler(plan.decided, plan.problem), observer, order)

    def sample(self, batch: slice) -> Float32:
        """A batch of fields in the input's units, shape (fields, input variables, ny, nx).

        Raises:
            ConvergenceError: a field holds values that are no numbers.
        """
        fields = self._draw_numbers(batch)
        if self.order is None:
            return fields
        names = [variable.name for variable in self.plan.variables]
        values, changed = self.order.restore(dict(zip(names, fields.swapaxes(0, 1), strict=True)))
        self.changed["values"] += changed
        return np.stack([values[name] for name in names], axis=1)

    def report(self) -> None:
        """Say how many of the values drawn so far were out of order."""
        for line in [] if self.order is None else self.order.line(self.changed["values"]):
            log.info("fields drawn: %s", line)

    def _draw_numbers(self, batch: slice) -> Float32:
        """A batch in which every value is a number; what is not is drawn once more."""
        fields = self._draw(batch)
        if (broken := self._first_broken(fields)) is None:
            return fields
        # Where a device made the error, drawing once more mends it; a sampler makes it again.
        log.warning("%s; drawn once more", self._describe(broken, batch))
        fields = self._draw(batch)
        if (broken := self._first_broken(fields)) is None:
            return fields
        raise ConvergenceError(
            f"{self._describe(broken, batch)}; the fields before it are kept: try other options of "
            f"{self.plan.method.name}, another seed or another prior"
        )

    def _draw(self, batch: slice) -> Float32:
        plan, model = self.plan, self.model
        steps, members = np.divmod(np.arange(batch.start, batch.stop), plan.members)
        coarse = self.observer.coarse_values(slice(int(steps[0]), int(steps[-1]) + 1))
        calendar = torch.from_numpy(
            cf.calendar_conditions(plan.time.centres[steps], plan.time.step_days)
        )
        drawn = self.sampler.sample(
            no_network if model is None else model.bind(calendar.to(plan.device)),
            self.observer.observation([values[steps - steps[0]] for values in coarse], model),
            plan.noise(list(zip((members + 1).tolist(), plan.time.keyed[steps], strict=True))),
        )
        return _physical(plan, drawn)

    def _first_broken(self, fields: Float32) -> tuple[int, int] | None:
        """The first field and variable with a value that is no number where the prior has one.

        A method that draws nothing has none either in cells that no observed mean is near.
        """
        if self.model is None:
            return None
        valid = self.plan.prior.mask[list(self.observer.channels)]
        broken = (~np.isfinite(fields) & valid).any(axis=(2, 3))
        return None if not broken.any() else tuple(np.argwhere(broken)[0].tolist())

    def _describe(self, broken: tuple[int, int], batch: slice) -> str:
        field, variable = broken
        step, member = divmod(batch.start + field, self.plan.members)
        return (
            f"{self.plan.output}: {self.plan.variables[variable].name} of member {member + 1} at "
            f"{self.plan.time.dates[step].isoformat()} (fields {batch.start} to "
            f"{batch.stop - 1} of the run) came out as no number"
        )


def _physical(plan: Plan, drawn: Tensor) -> Float32:
    """Normalised samples to the input's units, shape (batch, input variables, ny, nx)."""
    names = [v.name for v in plan.prior.card.variables]
    parts = []
    for variable in plan.variables:
        channel = names.index(variable.name)
        z = drawn[:, channel].cpu().numpy().astype(np.float64)
        values = plan.prior.transforms[variable.name].inverse(z)
        if variable.minimum is not None:
            values = np.maximum(values, variable.minimum)
            if variable.trace is not None:
                values = np.where(values < variable.trace, variable.minimum, values)
        units = plan.fields[variable.name].source_units
        values = cf.convert_units(values, variable.units, units)
        parts.append(np.where(plan.prior.mask[channel], values, np.nan))
    return np.stack(parts, axis=1).astype(np.float32)
