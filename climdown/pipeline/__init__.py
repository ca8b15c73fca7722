"""`downscale()`: where the steps meet, and labelled data meet tensors."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from climdown import cf, files, stream
from climdown.config import BASELINES, RunConfig
from climdown.diffusion.denoiser import Denoiser
from climdown.errors import ConfigError, Requeue
from climdown.grid import Grid
from climdown.inputs import matching
from climdown.methods.baselines import no_network
from climdown.methods.registry import (
    DROWNING,
    KINDS,
    find_noise_scale,
    make_sampler,
    sampler_options,
)
from climdown.pipeline import adjustment as guide
from climdown.pipeline import effective_resolution
from climdown.pipeline.coherence import choose_coherence, describe_coherence, make_noise
from climdown.pipeline.observer import Observer
from climdown.priors.build import make_tiles
from climdown.priors.card import Variable
from climdown.priors.prior import Prior
from climdown.version import __version__

log = logging.getLogger(__name__)

_CPU_BATCH = 16
_CUDA_BATCH = 256

Progress = Callable[[int, int], None]
"""Called with (fields done, fields in all)."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A run, checked and decided in every detail; nothing has been written yet.

    Attributes:
        fields: the input by variable, in the prior's units, cut to period and region.
        filter_grid: the grid on which the input guides.
        identity: everything that decides the result, for resume and provenance.
        adjustment: of the input's bias, or None.
    """

    prior: Prior
    fields: dict[str, cf.Field]
    filter_grid: Grid
    config: RunConfig
    device: torch.device
    batch_size: int
    output: Path
    identity: dict[str, Any]
    adjustment: guide.Adjustment | None = None

    @property
    def time(self) -> cf.TimeAxis:
        return next(iter(self.fields.values())).time

    @property
    def variables(self) -> list[Variable]:
        """The prior's variables that the input has, in channel order."""
        return [v for v in self.prior.card.variables if v.name in self.fields]

    @property
    def total(self) -> int:
        """Fields to sample."""
        return len(self.time) * self.config.size

    @property
    def _drawn(self) -> str:
        if self.config.method in BASELINES:
            return "1, nothing is drawn"
        return f"{self.config.size}, seed {self.config.seed}, {describe_coherence(self)}"

    @property
    def _tiled(self) -> str:
        size = self.config.tile or self.prior.card.network.tile
        return f", in tiles of {size} x {size} cells" if size else ""

    def describe(self) -> list[tuple[str, str]]:
        """What will be done, for people: (label, text) pairs."""
        given = ", ".join(f"{name} from '{f.source_name}'" for name, f in self.fields.items())
        missing = [v.name for v in self.prior.card.variables if v.name not in self.fields]
        size = 4 * self.total * math.prod(self.prior.card.grid.shape) * len(self.fields)
        options = self.identity
        return [
            ("prior", f"{self.prior.card.name} ({self.prior.digest[:12]})"),
            ("variables", given + (f"; unguided: {', '.join(missing)}" if missing else "")),
            ("time", self.time.describe()),
            ("input grid", next(iter(self.fields.values())).grid.describe()),
            *([("bias", self.adjustment.describe())] if self.adjustment is not None else []),
            ("guided at", self.filter_grid.describe()),
            ("output grid", self.prior.card.grid.describe()),
            ("members", self._drawn),
            (
                "sampler",
                ", ".join([self.config.method, *_told(options)]),
            ),
            ("device", f"{self.device}, {self.batch_size} fields at once{self._tiled}"),
            ("fields", f"{self.total}, {size / 1e6:.0f} MB uncompressed"),
            ("output", str(self.output)),
        ]


def _told(options: Mapping[str, Any]) -> list[str]:
    """The sampler's options in words."""
    steps = options.get("steps")
    scales = [name for name in ("guidance_scale", "noise_scale") if name in options]
    return [
        *([f"{options['sampler']} sampler"] if "sampler" in options else []),
        *([] if steps is None else [f"{steps} steps" if steps > 1 else "1 step"]),
        *(f"{name.replace('_', ' ')} {options[name]:g}" for name in scales),
    ]


@dataclass(frozen=True)
class Summary:
    """What a finished run did."""

    output: Path
    fields: int
    resumed: int
    seconds: float


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
        config: members, seed and the rest.
        command: for the history attribute.
        progress: called after every unit of work.
        should_stop: asked between units; true ends the run with `Requeue`.

    Raises:
        ClimdownError: one of its kinds, with one line that says what to do.
    """
    plan = make_plan(inputs, output, prior=prior, config=config or RunConfig())
    return execute(plan, command=command, progress=progress, should_stop=should_stop)


def make_plan(
    inputs: Sequence[str | Path], output: str | Path, *, prior: Prior | None, config: RunConfig
) -> Plan:
    """Open and check everything, and decide what is to be done; writes nothing."""
    output = Path(output)
    files.check_output(output, overwrite=config.overwrite)
    paths = cf.expand_paths(inputs)
    files.refuse_inputs(output, [*paths, *config.historical, *config.reference])
    for path in paths:  # a file that cannot be read is no matter of priors
        cf.open_dataset(path).close()
    device = choose_device(config.device)
    chosen, fields = _matched(prior, paths, config)
    if config.tile is not None:
        make_tiles(chosen.card, config.tile)  # refuses those that are too small
    for field in fields.values():
        matching.check_values(field)
    filter_grid = _filter_grid(chosen, paths, fields, config)
    options = sampler_options(chosen, config)
    identity = _identity(chosen, paths, list(fields), filter_grid, options, config)
    axis = next(iter(fields.values())).time
    if config.method not in BASELINES:
        identity["coherence"] = choose_coherence(chosen, axis, config)
    adjustment = None
    if config.adjustment != "none":
        adjustment = guide.plan_adjustment(chosen, paths, fields, filter_grid, config)
        identity |= guide.identity(adjustment)
    plan = Plan(
        adjustment=adjustment,
        prior=chosen,
        fields=fields,
        filter_grid=filter_grid,
        config=config,
        device=device,
        batch_size=choose_batch_size(config.batch_size, chosen, device),
        output=output,
        identity=identity,
    )
    if config.method in DROWNING:
        identity["noise_scale"] = round(find_noise_scale(plan), 4)
    make_sampler(plan)  # what it lacks is said before anything is computed
    return plan


def _matched(
    prior: Prior | None, paths: Sequence[cf.Location], config: RunConfig
) -> tuple[Prior, dict[str, cf.Field]]:
    """The prior, given or chosen, and its variables in the input."""
    kinds, select = KINDS[config.method], dict(config.select)
    if prior is None:
        return matching.choose_prior(kinds, paths, config.period, select)
    matching.require_kind(prior, kinds)
    return prior, matching.match(prior, paths, config.period, select)


def _identity(
    prior: Prior,
    paths: Sequence[cf.Location],
    variables: list[str],
    filter_grid: Grid,
    options: dict[str, Any],
    config: RunConfig,
) -> dict[str, Any]:
    """Everything that decides the result, but for bias adjustment, as JSON values."""
    return {
        "climdown": __version__,
        "prior": prior.card.name,
        "prior_sha256": prior.digest,
        "inputs": [[path.name, files.file_fingerprint(path)] for path in paths],
        "variables": variables,
        "period": config.period,
        "select": dict(config.select),
        "method": config.method,
        "members": config.size,
        "seed": config.seed,
        **options,
        **({} if config.tile is None else {"tile": config.tile}),
        "filter_grid": filter_grid.describe(),
        "filter_grid_sha256": filter_grid.digest,
    }


def _filter_grid(
    prior: Prior, paths: Sequence[cf.Location], fields: dict[str, cf.Field], config: RunConfig
) -> Grid:
    """The grid of A_low, as asked for or as the spectra of all of the input have it."""
    if config.adjustment == "qdm" and not config.reference:
        grid = effective_resolution.quantile_grid(prior, config.filter_scale)
    else:
        grid = matching.choose_filter_grid(prior, fields, config.filter_scale)
    if config.filter_scale != "auto":
        return grid
    if config.period is not None:
        # Runs over parts of an input must not differ in what they believe.
        fields = matching.whole(prior, fields, paths, dict(config.select))
    return effective_resolution.choose_scale(prior, fields, grid)


def execute(
    plan: Plan,
    *,
    command: str,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Summary:
    """Sample what is not done yet, unit by unit, then join the parts into the output."""
    with ExitStack() as stack:
        return _execute(plan, command, progress, should_stop, stack)


def _execute(
    plan: Plan,
    command: str,
    progress: Progress | None,
    should_stop: Callable[[], bool] | None,
    stack: ExitStack,
) -> Summary:
    begun = time.monotonic()
    store = stream.PartStore.open(
        plan.output,
        times=len(plan.time),
        members=plan.config.size,
        fields_per_unit=plan.batch_size,
        identity=plan.identity,
        discard=plan.config.overwrite,
    )
    todo = [unit for unit in store.units if not store.done(unit)]
    resumed = plan.total - sum(unit.fields for unit in todo)
    if resumed:
        log.info("resuming: %d of %d fields are done", resumed, plan.total)
    if todo:
        asked = plan.config.method not in BASELINES
        model = plan.prior.denoiser(plan.device, tile=plan.config.tile) if asked else None
        observer = Observer(plan, _adjusted(plan, store.folder, stack))
    done = resumed
    if progress is not None:
        progress(done, plan.total)
    for unit in todo:
        if should_stop is not None and should_stop():
            raise Requeue(
                f"stopped by a signal after {done} of {plan.total} fields; "
                "the same command goes on from there"
            )
        store.write(unit, sample_unit(plan, unit, model, observer))
        done += unit.fields
        if progress is not None:
            progress(done, plan.total)
    stream.join(store, output_template(plan, command), plan.output)
    store.remove()
    return Summary(plan.output, plan.total, resumed, time.monotonic() - begun)


def _adjusted(plan: Plan, scratch: Path, stack: ExitStack) -> dict[str, guide.Reader]:
    """Adjusted input by variable; a resumed run computes it again, the same to the last bit."""
    if plan.adjustment is None:
        return {}
    return plan.adjustment.readers(stack, scratch, plan.device.type)


def sample_unit(
    plan: Plan, unit: stream.Unit, model: Denoiser | None, observer: Observer
) -> npt.NDArray[np.float32]:
    """Sample a unit in batches; shape (time, member, input variables, ny, nx), input's units."""
    shape = plan.prior.card.grid.shape
    axis = plan.time.isel(unit.times)
    coarse = observer.coarse_values(unit.times)
    sampler = make_sampler(plan)
    pairs = [(t, member + 1) for t in range(len(axis)) for member in unit.members]
    result = np.empty((len(pairs), len(plan.variables), *shape), dtype=np.float32)
    for start in range(0, len(pairs), plan.batch_size):
        batch = pairs[start : start + plan.batch_size]
        steps = [t for t, _ in batch]
        noise = make_noise(plan, [(member, axis.dates[t]) for t, member in batch])
        dates = [axis.dates[t] for t in steps]
        calendar = torch.from_numpy(cf.calendar_conditions(dates, plan.time.step_days))
        drawn = sampler.sample(
            no_network if model is None else model.bind(calendar.to(plan.device)),
            observer.observation([values[steps] for values in coarse], model),
            noise,
        )
        result[start : start + len(batch)] = _physical(plan, drawn)
    return result.reshape(len(axis), len(unit.members), len(plan.variables), *shape)


def choose_device(name: str) -> torch.device:
    """The device asked for; "auto" takes CUDA where there is one.

    Raises:
        ConfigError: CUDA was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("no CUDA device is available; use --device cpu or auto")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")


def choose_batch_size(wanted: int | str, prior: Prior, device: torch.device) -> int:
    """Fields denoised at once: as asked, or by the memory that a guided step takes."""
    if isinstance(wanted, int):
        return wanted
    if device.type == "cpu":
        return _CPU_BATCH
    # Some 64 activations of the finest level's width are alive in a guided step.
    card = prior.card
    field_bytes = 64 * 4 * card.network.channels[0] * math.prod(card.grid.shape)
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(_CUDA_BATCH, int(0.5 * free) // field_bytes))


def output_template(plan: Plan, command: str) -> stream.Template:
    """Axes and attributes of the output."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    first = next(iter(plan.fields.values()))
    variables = []
    for variable in plan.variables:
        field = plan.fields[variable.name]
        attributes = cf.output_attributes(field)
        if "height" in field.scalars:
            # CDO drops variables that have a scalar height beside a realization axis.
            height = field.scalars["height"]
            attributes["comment"] = f"height: {float(height)} {height.attrs.get('units', 'm')}"
        variables.append(stream.OutputVariable(variable.name, attributes))
    label = "time series" if len(plan.time) > 1 else "field"
    attributes = cf.global_attributes(
        first.global_attributes,
        title=f"Downscaled ensemble ({label}) by climdown, prior {plan.prior.card.name}",
        command=command,
        now=now,
        provenance={
            "source": _join_source(first.global_attributes, plan),
            "climdown_version": __version__,
            "climdown_method": plan.config.method,
            "climdown_prior": plan.prior.card.name,
            "climdown_prior_sha256": plan.prior.digest,
            "climdown_prior_licence": plan.prior.card.licence,
            "climdown_seed": np.int32(plan.config.seed),
            "climdown_options": json.dumps(plan.identity),
            **_adjusted_by(plan),
        },
    )
    return stream.Template(
        grid=plan.prior.card.grid,
        time=plan.time,
        variables=tuple(variables),
        members=plan.config.size,
        attributes=attributes,
    )


def _physical(plan: Plan, drawn: Tensor) -> npt.NDArray[np.float32]:
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
        field = plan.fields[variable.name]
        values = cf.convert_units(values, variable.units, field.source_units)
        parts.append(np.where(plan.prior.mask[channel], values, np.nan))
    return np.stack(parts, axis=1).astype(np.float32)


def _adjusted_by(plan: Plan) -> dict[str, str]:
    return {} if plan.adjustment is None else {"bias_adjustment": plan.adjustment.describe()}


def _join_source(parent: dict[str, Any], plan: Plan) -> str:
    described = f"climdown {__version__} ({plan.config.method})"
    return f"{parent['source']}; {described}" if "source" in parent else described
