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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import climdown
from climdown import cf, matching, regrid, stream
from climdown.adjust import guide
from climdown.adjust.outputs import refuse_inputs
from climdown.config import RunConfig
from climdown.diffusion.cm import ScaleAdaptiveCM
from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.noise import KeyedNoise
from climdown.diffusion.observation import CoarseObservation, CoarseOperator, latitude_weights
from climdown.diffusion.sampler import Sampler
from climdown.diffusion.zssd import ZSSD, ReferenceZSSD
from climdown.errors import ConfigError, PriorError, Requeue
from climdown.evaluation.spectra import tapered_spectrum, white_noise_power
from climdown.grid import Grid
from climdown.priors.card import Prior, Variable
from climdown.transforms import Chain

log = logging.getLogger(__name__)

# A coarse cell guides where valid fine cells fill at least this share of it. A climate model's
# coastal cell that is mostly sea would draw warm rims along the coast of a land-only prior; the
# mean of an input that is itself missing over sea speaks of its land alone.
_MIN_CELL = 0.5
_MIN_CELL_OF_MASKED_INPUT = 0.1
# The kind of prior that each method samples from.
_KINDS = {"zssd": "diffusion", "cm": "consistency"}
# The input's spectrum is taken over so many steps, spread over the period.
_SPECTRUM_STEPS = 64
# A scale is resolved while the input has this share of the reference's power; crossings above
# it are chance.
_RESOLVED = 0.75
_KM_PER_DEGREE = 111.195
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
        return len(self.time) * self.config.members

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
            ("members", f"{self.config.members}, seed {self.config.seed}"),
            (
                "sampler",
                ", ".join([self.config.method, *_told(options)]),
            ),
            ("device", f"{self.device}, {self.batch_size} fields at once"),
            ("fields", f"{self.total}, {size / 1e6:.0f} MB uncompressed"),
            ("output", str(self.output)),
        ]


def _told(options: Mapping[str, Any]) -> list[str]:
    names = ("sampler", "steps", "guidance_scale", "noise_scale")
    return [f"{name.replace('_', ' ')} {options[name]}" for name in names if name in options]


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
    stream.check_output(output, overwrite=config.overwrite)
    paths = cf.expand_paths(inputs)
    refuse_inputs(output, [*paths, *config.historical, *config.reference])
    for path in paths:  # a file that cannot be read is no matter of priors
        cf.open_dataset(path).close()
    device = choose_device(config.device)
    chosen, fields = _matched(prior, paths, config)
    filter_grid = _filter_grid(chosen, fields, config)
    for field in fields.values():
        matching.check_values(field)
    options = _sampler_options(chosen, config)
    identity = _identity(chosen, paths, list(fields), filter_grid, options, config)
    adjustment = None
    if config.bias != "none":
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
    if config.method == "cm":
        identity["noise_scale"] = round(find_noise_scale(plan), 4)
    return plan


def _matched(
    prior: Prior | None, paths: Sequence[cf.Location], config: RunConfig
) -> tuple[Prior, dict[str, cf.Field]]:
    """The prior, given or chosen, and its variables in the input."""
    kind, select = _KINDS[config.method], dict(config.select)
    if prior is None:
        return matching.choose_prior(kind, paths, config.period, select)
    matching.require_kind(prior, kind)
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
        "climdown": climdown.__version__,
        "prior": prior.card.name,
        "prior_sha256": prior.digest,
        "inputs": [[path.name, stream.file_fingerprint(path)] for path in paths],
        "variables": variables,
        "period": config.period,
        "select": dict(config.select),
        "method": config.method,
        "members": config.members,
        "seed": config.seed,
        **options,
        "filter_grid": filter_grid.describe(),
        "filter_grid_sha256": filter_grid.digest,
    }


def _filter_grid(prior: Prior, fields: dict[str, cf.Field], config: RunConfig) -> Grid:
    if config.bias == "qdm" and not config.reference:
        if config.filter_scale != "auto":
            raise ConfigError(
                f"the quantiles of prior {prior.card.name} are on its coarse grid "
                f"({prior.card.coarse_grid.describe()}); leave --filter-scale out, or give "
                "observations as --reference"
            )
        return prior.card.coarse_grid
    return matching.choose_filter_grid(prior, fields, config.filter_scale)


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
        members=plan.config.members,
        fields_per_unit=plan.batch_size,
        identity=plan.identity,
        discard=plan.config.overwrite,
    )
    todo = [unit for unit in store.units if not store.done(unit)]
    resumed = plan.total - sum(unit.fields for unit in todo)
    if resumed:
        log.info("resuming: %d of %d fields are done", resumed, plan.total)
    if todo:
        model = plan.prior.denoiser(plan.device)
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
    plan: Plan, unit: stream.Unit, model: Denoiser, observer: Observer
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
        keys = tuple((member, axis.dates[t].isoformat()) for t, member in batch)
        noise = KeyedNoise(
            plan.config.seed, keys, (len(plan.prior.card.variables), *shape), plan.device
        )
        dates = [axis.dates[t] for t in steps]
        calendar = torch.from_numpy(cf.calendar_conditions(dates, plan.time.step_days))
        drawn = sampler.sample(
            model.bind(calendar.to(plan.device)),
            observer.observation([values[steps] for values in coarse]),
            noise,
        )
        result[start : start + len(batch)] = _physical(plan, drawn)
    return result.reshape(len(axis), len(unit.members), len(plan.variables), *shape)


def make_sampler(plan: Plan) -> Sampler:
    """The sampler that a plan's options describe."""
    options, sampling = plan.identity, plan.prior.card.sampling
    if plan.config.method == "cm":
        return ScaleAdaptiveCM(options["noise_scale"], options["steps"], plan.prior.card.sigma_min)
    if plan.config.sampler == "reference":
        return ReferenceZSSD(options["steps"], options["guidance_scale"])
    return ZSSD(options["steps"], sampling.sigma_min, sampling.sigma_max)


def _sampler_options(prior: Prior, config: RunConfig) -> dict[str, Any]:
    """The sampler's options as JSON values, but for a noise scale that the input decides."""
    sampling = prior.card.sampling
    if config.method == "zssd" and config.sampler == "reference":
        scale = config.guidance_scale
        return {
            "sampler": config.sampler,
            "steps": config.steps or ReferenceZSSD.steps,
            "guidance_scale": sampling.guidance_scale if scale is None else scale,
        }
    if config.method == "zssd":
        return {"sampler": config.sampler, "steps": config.steps or sampling.steps}
    return {"steps": config.steps or sampling.steps}


def find_noise_scale(plan: Plan) -> float:
    """sigma(t*) of the method cm: white noise as strong as the prior's fields at a wavenumber k*.

    k* is a wavelength asked for, or the smallest from which on the interpolated input has less
    power than the prior's training fields (Hess et al., arXiv 2403.02774, Eq. 8 and Fig. 2); of
    several variables the one that is resolved worst decides.

    Raises:
        PriorError: the prior carries no spectra.
    """
    if not isinstance(plan.config.noise_scale, str):
        return float(plan.config.noise_scale)
    prior, grid = plan.prior, plan.prior.card.grid
    steps = np.linspace(0, len(plan.time) - 1, min(len(plan.time), _SPECTRUM_STEPS)).round()
    observer = Observer(plan)
    rows = [observer.coarse_values(slice(i, i + 1)) for i in steps.astype(int).tolist()]
    coarse = [torch.cat(values) for values in zip(*rows, strict=True)]
    like = torch.zeros(len(steps), *prior.mask.shape, device=plan.device)
    guess = observer.observation(coarse).interpolate(like).double().cpu().numpy()
    spacing = (
        _KM_PER_DEGREE * float(np.diff(grid.lat_edges).mean()),
        _KM_PER_DEGREE
        * float(np.diff(grid.lon_edges).mean() * np.cos(np.radians(grid.lat.mean()))),
    )
    found = []
    for channel, variable in zip(observer.channels, plan.variables, strict=True):
        reference = prior.spectrum(variable.name)
        if reference is None:
            raise PriorError(
                f"prior {prior.card.name} carries no spectrum of {variable.name}; give "
                "--noise-scale as a number"
            )
        mask = prior.mask[channel]
        _, power = tapered_spectrum(guess[:, channel], mask)
        wavenumbers, _ = tapered_spectrum(guess[:, channel], mask, spacing)
        ring = _first_unresolved(power / reference[: len(power)])
        if plan.config.wavelength is not None:
            ring = int(np.searchsorted(wavenumbers, 1.0 / plan.config.wavelength))
        ring = min(ring, len(power) - 1)
        found.append(float(np.sqrt(reference[ring] / white_noise_power(grid.shape)[ring])))
        log.info(
            "%s: noise %.2f drowns wavelengths below %.0f km",
            variable.name,
            found[-1],
            1.0 / wavenumbers[ring],
        )
    return max(found)


def _first_unresolved(ratio: npt.NDArray[np.floating]) -> int:
    """The first ring from which on all have less than the resolved share."""
    resolved = np.flatnonzero(ratio >= _RESOLVED)
    return int(resolved[-1]) + 1 if resolved.size else 0


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
            "climdown_version": climdown.__version__,
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
        members=plan.config.members,
        attributes=attributes,
    )


class Observer:
    """Turns blocks of the input into observations on the device.

    Args:
        adjusted: functions that read bias-adjusted values on the filter grid, by variable.
    """

    def __init__(self, plan: Plan, adjusted: Mapping[str, guide.Reader] | None = None) -> None:
        self.plan = plan
        self.adjusted = adjusted or {}
        prior, fine, coarse = plan.prior, plan.prior.card.grid, plan.filter_grid
        names = [v.name for v in prior.card.variables]
        self.channels = tuple(names.index(v.name) for v in plan.variables)
        lower = regrid.axis_weights(fine, coarse, "conservative")
        raised = regrid.axis_weights(coarse, fine, "bilinear")
        lower_lat, lower_lon = (_tensor(matrix, plan.device) for matrix in lower)
        raise_lat, raise_lon = (_tensor(matrix, plan.device) for matrix in raised)
        self.operators = tuple(
            CoarseOperator(
                lower_lat=lower_lat,
                lower_lon=lower_lon,
                raise_lat=raise_lat,
                raise_lon=raise_lon,
                mask=_tensor(prior.mask[channel], plan.device),
                decode=partial(prior.transforms[names[channel]].inverse, xp=torch),
                encode=partial(_encode, prior.transforms[names[channel]].without_fields()),
            )
            for channel in self.channels
        )
        self.weights = latitude_weights(_tensor(fine.areas, plan.device))
        self.guiding = tuple(
            self._guiding(variable, operator)
            for variable, operator in zip(plan.variables, self.operators, strict=True)
        )

    def coarse_values(self, part: slice) -> list[Tensor]:
        """A_low of the input, in the prior's units, NaN where it does not guide."""
        return [
            torch.where(guiding, self._lowered(variable, part), torch.nan)
            for variable, guiding in zip(self.plan.variables, self.guiding, strict=True)
        ]

    def _lowered(self, variable: Variable, part: slice) -> Tensor:
        field = self.plan.fields[variable.name]
        if variable.name in self.adjusted:
            adjusted = self.adjusted[variable.name](part)
            return torch.from_numpy(np.ascontiguousarray(adjusted)).to(self.plan.device)
        values = field.read(part)
        if field.grid.digest != self.plan.filter_grid.digest:
            weights = regrid.weights(field.grid, self.plan.filter_grid, "conservative")
            values = weights.apply(values, min_coverage=0.5)
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.plan.device)

    def _guiding(self, variable: Variable, operator: CoarseOperator) -> Tensor:
        """Which coarse cells guide, by their share of valid fine cells; shape (ny, nx)."""
        first = self._lowered(variable, slice(0, 1))[0]
        # Observations differ by a cell or two in what they call land: the majority tells.
        sea = torch.isfinite(first)[operator.covered < 1e-6]
        masked = int(sea.sum()) <= sea.numel() / 2
        threshold = _MIN_CELL_OF_MASKED_INPUT if masked else _MIN_CELL
        guiding = operator.covered >= threshold
        log.debug("%s: %d coarse cells guide", variable.name, int(guiding.sum()))
        return guiding

    def observation(self, coarse: Sequence[Tensor]) -> CoarseObservation:
        """The observation of a batch from its coarse values, shape (batch, ny, nx) each."""
        return CoarseObservation(
            operators=self.operators,
            channels=self.channels,
            coarse=tuple(coarse),
            observed=tuple(torch.isfinite(values).float() for values in coarse),
            weights=self.weights,
        )


def _encode(chain: Chain, values: Tensor) -> Tensor:
    encoded: Tensor = chain.forward(values, torch)
    return encoded


def _tensor(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)


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
    described = f"climdown {climdown.__version__} ({plan.config.method})"
    return f"{parent['source']}; {described}" if "source" in parent else described
