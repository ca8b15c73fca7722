"""Training configurations: frozen dataclasses read from TOML, checked when built."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from climdown.errors import ConfigError

T = TypeVar("T")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class VariableConfig:
    """One variable of a prior: where it comes from and how it is normalised.

    Attributes:
        name: its name in the output, a CMIP name where there is one.
        files: paths, patterns or addresses (`gs://...`); paths lie below the data folder. Empty
            takes those of the data section.
        standard_names: CF standard names accepted on input; the first is written out.
        names: usual variable names, see `cf.Quantity`.
        units: units of training, of the operator and of the output.
        long_name, cell_methods: CF attributes of the output.
        transform: "anomaly" (subtract the mean of each cell, divide by one number) or "log"
            (logarithm with `offset`, then standardise).
        offset: of the logarithm, in `units`.
        minimum: physical lower bound of the output, if any.
        trace: output below this is set to the minimum (drizzle no gauge would report).
        level: pressure level in Pa, taken out of files that have several.
    """

    name: str
    standard_names: tuple[str, ...]
    units: str
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    long_name: str = ""
    cell_methods: str = "time: mean"
    transform: Literal["anomaly", "log"] = "anomaly"
    offset: float = 1.0
    minimum: float | None = None
    trace: float | None = None
    level: float | None = None

    def __post_init__(self) -> None:
        _require(len(self.standard_names) > 0, f"variable '{self.name}' names no standard_names")
        _require(self.offset > 0, f"variable '{self.name}' needs offset > 0, found {self.offset}")
        level = self.level
        _require(
            level is None or level > 0,
            f"variable '{self.name}': level is {level} Pa; need more than 0",
        )


@dataclass(frozen=True)
class DataConfig:
    """What a prior learns from.

    Attributes:
        train, validation: periods "START/END"; they must not share a day.
        orography: file with the surface geopotential or altitude and the land fraction.
        files: of the variables that name none, as there.
        grid: to average onto, as of `climdown regrid`; None keeps the files' own.
        months, hours: of the time steps to take; empty takes all.
        min_valid: a cell is kept where at least this fraction of training days is observed.
        statistics_fields: means, deviations and quantiles come from so many fields, evenly
            spread; None takes all.
        cache_gib: memory in which fields that were read are kept.
        licence, attribution: of the training data, for the card.
    """

    variables: tuple[VariableConfig, ...]
    train: str
    validation: str
    orography: str
    coarse_factor: int
    files: tuple[str, ...] = ()
    grid: str | None = None
    months: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    min_valid: float = 0.5
    statistics_fields: int | None = None
    cache_gib: float = 2.0
    licence: str = ""
    attribution: str = ""

    def __post_init__(self) -> None:
        _require(len(self.variables) > 0, "the configuration names no variables")
        for variable in self.variables:
            _require(
                bool(variable.files or self.files), f"variable '{variable.name}' names no files"
            )
        for name, values, least, most in (
            ("months", self.months, 1, 12),
            ("hours", self.hours, 0, 23),
        ):
            _require(
                all(least <= value <= most for value in values),
                f"data.{name} is {list(values)}; need numbers from {least} to {most}",
            )
        count = self.statistics_fields
        _require(count is None or count > 1, f"data.statistics_fields is {count}; need at least 2")
        _require(self.cache_gib >= 0, f"data.cache_gib is {self.cache_gib}; need at least 0")
        _require(self.coarse_factor >= 2, f"coarse_factor is {self.coarse_factor}; need at least 2")
        _require(0 < self.min_valid <= 1, f"min_valid is {self.min_valid}; need 0 < min_valid <= 1")


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the U-Net, see `diffusion.unet.UNet`."""

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    attention: int = 0
    heads: int = 4
    embedding: int = 128
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _require(
            len(self.channels) > 0 and min(self.channels) > 0,
            f"network.channels is {list(self.channels)}; need one or more numbers > 0",
        )
        for name in ("blocks", "embedding"):
            value = getattr(self, name)
            _require(value > 0, f"network.{name} is {value}; need at least 1")
        _require(self.attention >= 0, f"network.attention is {self.attention}; need at least 0")
        _require(self.heads > 0, f"network.heads is {self.heads}; need at least 1")
        _require(
            self.channels[-1] % self.heads == 0,
            f"network.channels ends in {self.channels[-1]}, not divisible by {self.heads} heads",
        )
        _require(0 <= self.dropout < 1, f"network.dropout is {self.dropout}; need 0 <= dropout < 1")


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how a prior is trained.

    Attributes:
        steps: optimiser steps in all; the learning rate falls to zero over them.
        batch_size: fields per step, over all processes.
        micro_batch: fields per pass through the network; gradients add up. None takes a process's
            whole share. Halved when memory ends.
        optimiser: "adamw" or "radam".
        noise: distribution of the noise levels: "edm" is lognormal with `sigma_mean` and
            `sigma_std`; "ddpm" and "vp" are those of their schedules, with the loss of the noise.
        ema: decays of the averages of the weights; the average that validates best is kept.
        ema_profile: "exponential", or "power" of relative widths `ema` (Karras et al. 2024, arXiv
            2312.02696, Sec. 3.1).
        precision: "bf16" runs the network under autocast.
        validate_every, checkpoint_every: in steps.
        sample_every: steps between pictures of samples; 0 draws none.
    """

    steps: int
    batch_size: int = 16
    micro_batch: int | None = None
    optimiser: Literal["adamw", "radam"] = "adamw"
    learning_rate: float = 6e-4
    weight_decay: float = 0.01
    warmup: int = 200
    clip: float = 1.0
    ema: tuple[float, ...] = (0.999,)
    ema_profile: Literal["exponential", "power"] = "exponential"
    noise: Literal["edm", "ddpm", "vp"] = "edm"
    sigma_mean: float = 0.0
    sigma_std: float = 1.5
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    validate_every: int = 500
    checkpoint_every: int = 250
    sample_every: int = 2000

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "checkpoint_every"):
            _require(getattr(self, name) > 0, f"training.{name} must be positive")
        size = self.micro_batch
        _require(size is None or size > 0, f"training.micro_batch is {size}; need at least 1")
        _require(
            self.sample_every >= 0, f"training.sample_every is {self.sample_every}; need at least 0"
        )
        _require(0 <= self.seed < 2**31, f"training.seed is {self.seed}; need 0 to {2**31 - 1}")
        most = 1.0 if self.ema_profile == "exponential" else 0.28  # widths of a power end at 0.289
        _require(
            len(self.ema) > 0 and all(0 < value < most for value in self.ema),
            f"training.ema is {list(self.ema)}; need one or more numbers between 0 and {most:g}",
        )


@dataclass(frozen=True)
class ConsistencyConfig:
    """How a consistency prior is trained, see `diffusion.consistency`.

    Attributes:
        recipe: "tuned" from a diffusion prior, "improved" from scratch, or "original".
        initial: bundled or fetched prior, or folder of one, whose weights are tuned; below the
            data folder if it is no name.
        sigma_min, sigma_max: range of noise levels; one evaluation at `sigma_max` draws a field.
        mean, std: of the logarithm of the training noise levels.
        stages: of "tuned", in which the two noise levels of a pair close up.
    """

    recipe: Literal["tuned", "improved", "original"] = "tuned"
    initial: str | None = None
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    mean: float = -1.1
    std: float = 2.0
    stages: int = 8

    def __post_init__(self) -> None:
        _require(
            0 < self.sigma_min < self.sigma_max,
            f"consistency.sigma_min is {self.sigma_min} and sigma_max {self.sigma_max}; "
            "need 0 < sigma_min < sigma_max",
        )
        _require(self.std > 0, f"consistency.std is {self.std}; need more than 0")
        _require(self.stages > 0, f"consistency.stages is {self.stages}; need at least 1")
        _require(
            self.recipe != "tuned" or self.initial is not None,
            'consistency.recipe "tuned" needs a diffusion prior to start from; name it as '
            'consistency.initial, or choose "improved"',
        )


@dataclass(frozen=True)
class SamplingConfig:
    """Defaults a prior carries for the samplers.

    Attributes:
        steps: network evaluations of a draw.
        guidance_scale: of the reference sampler of ZSSD.
        sigma_min, sigma_max: range of noise levels.
    """

    steps: int = 16
    guidance_scale: float = 2.0
    sigma_min: float = 0.02
    sigma_max: float = 80.0


@dataclass(frozen=True)
class PriorConfig:
    """The whole of a training configuration file."""

    name: str
    title: str
    data: DataConfig
    training: TrainingConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    consistency: ConsistencyConfig | None = None


@dataclass(frozen=True)
class QDMConfig:
    """The options of quantile delta mapping, see `bias.quantile`.

    Attributes:
        kind: "auto" takes ratios for precipitation, wind speed and their like, else differences.
        quantiles: None takes 500 for precipitation, else 100.
        group, window: quantiles for the whole series, for each calendar month, or for each day of
            the year from the days around it.
        interpolation: of the correction between quantiles.
        tails: beyond the outermost quantile, "constant" keeps its correction; "extremes" lets it
            go on changing out to the smallest and largest value.
        max_ratio: bound of the ratio for multiplicative variables.
        dry_threshold: in mm day-1; smaller precipitation is none. None: 0.05 for precipitation.
        years: each decade's quantiles are taken from so many years around it; None takes all of
            the simulation as one period.
        seed: of the values that dry days are given to tell them apart.
    """

    kind: Literal["auto", "additive", "multiplicative"] = "auto"
    quantiles: int | None = None
    group: Literal["none", "month", "dayofyear"] = "month"
    window: int = 31
    interpolation: Literal["linear", "nearest"] = "linear"
    tails: Literal["constant", "extremes"] = "constant"
    max_ratio: float = 10.0
    dry_threshold: float | None = None
    years: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, words in (
            ("kind", ("auto", "additive", "multiplicative")),
            ("group", ("none", "month", "dayofyear")),
            ("interpolation", ("linear", "nearest")),
            ("tails", ("constant", "extremes")),
        ):
            value = getattr(self, name)
            _require(value in words, f"unknown {name} '{value}'; expected {' or '.join(words)}")
        n = self.quantiles
        _require(n is None or n >= 2, f"quantiles is {n}; need at least 2")
        _require(
            1 <= self.window <= 365 and self.window % 2 == 1,
            f"window is {self.window} days; need an odd number from 1 to 365",
        )
        _require(self.max_ratio > 1, f"max ratio is {self.max_ratio:g}; need more than 1")
        dry = self.dry_threshold
        _require(dry is None or dry >= 0, f"dry threshold is {dry} mm day-1; need at least 0")
        _require(0 <= self.seed < 2**31, f"seed is {self.seed}; need 0 to {2**31 - 1}")
        years = self.years
        _require(years is None or years >= 10, f"years is {years}; need at least 10")


@dataclass(frozen=True)
class OTConfig:
    """The options of bias adjustment by optimal transport, see `bias.transport`.

    Attributes:
        epsilon: regularisation as a fraction of the mean squared distance; None chooses it on
            years held out.
        eofs: share of the variance, or number, of leading EOFs to transport in; None takes all
            columns.
        group: days that are transported together.
        keep_change: carry the simulation's mean change around the transport.
        years: take that change for each decade from so many years around it; None takes all of
            the simulation as one period.
        tolerance, max_iterations: of Sinkhorn's iteration.
    """

    epsilon: float | None = None
    eofs: float | None = None
    group: Literal["none", "season", "month"] = "season"
    keep_change: bool = True
    years: int | None = None
    tolerance: float = 1e-3
    max_iterations: int = 5000

    def __post_init__(self) -> None:
        _require(
            self.group in ("none", "season", "month"),
            f"unknown group '{self.group}'; expected none, season or month",
        )
        epsilon, eofs = self.epsilon, self.eofs
        _require(epsilon is None or epsilon > 0, f"epsilon is {epsilon}; need more than 0")
        _require(
            eofs is None or 0 < eofs <= 1 or (eofs > 1 and eofs == round(eofs)),
            f"eofs is {eofs}; need a share of the variance up to 1, or a whole number",
        )
        _require(self.tolerance > 0, f"tolerance is {self.tolerance}; need more than 0")
        _require(
            self.max_iterations > 0, f"max iterations is {self.max_iterations}; need at least 1"
        )
        years = self.years
        _require(years is None or years >= 10, f"years is {years}; need at least 10")


@dataclass(frozen=True)
class RunConfig:
    """The options of `climdown run`.

    Attributes:
        members: size of the ensemble.
        seed: of the noise; the same seed gives the same members.
        method: "zssd" guides a diffusion prior by the input; "cm" adds noise to the interpolated
            input and lets a consistency prior draw what the noise drowned.
        noise_scale: of "cm": a noise level in normalised units; "200km" drowns what is shorter than
            this wavelength, "auto" what the input's spectrum lacks beside the prior's.
        sampler: of ZSSD: "fast" projects onto the observed means in a second-order solver;
            "reference" is the paper's, which differentiates the network at every step.
        steps: network evaluations; None takes the prior's own, 1000 for the reference.
        guidance_scale: of the reference; None takes the prior's own.
        filter_scale: degrees to which the input is averaged before it guides: a number,
            "native" (the input's own grid), or "auto" (native, but never finer than the
            coarse grid that the prior names).
        device: "auto" takes a CUDA device where there is one.
        batch_size: fields denoised together, or "auto".
        period: "START/END", or None for all of the input.
        select: the entry to take along further dimensions of the input, as (dimension, label).
        bias: adjustment of the input before it guides.
        historical: files of the input's model in the reference's period.
        reference: files of observations; empty takes the quantiles that the prior carries.
        historical_period, reference_period: as `period`.
        qdm, ot: options of the two adjustments.
        overwrite: replace an output that exists, discard parts of another run.
    """

    method: Literal["zssd", "cm"] = "zssd"
    members: int = 4
    seed: int = 0
    noise_scale: float | str = "auto"
    sampler: Literal["fast", "reference"] = "fast"
    steps: int | None = None
    guidance_scale: float | None = None
    filter_scale: float | Literal["auto", "native"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    period: str | None = None
    select: tuple[tuple[str, str], ...] = ()
    bias: Literal["none", "qdm", "ot"] = "none"
    historical: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    historical_period: str | None = None
    reference_period: str | None = None
    qdm: QDMConfig = field(default_factory=QDMConfig)
    ot: OTConfig = field(default_factory=OTConfig)
    overwrite: bool = False

    def __post_init__(self) -> None:
        _require(
            self.method in ("zssd", "cm"), f"unknown method '{self.method}'; expected zssd or cm"
        )
        scale = self.noise_scale
        _require(
            scale == "auto" or self.wavelength is not None or _positive(scale),
            f"noise scale is {scale}; expected a number > 0, a wavelength like 200km, or auto",
        )
        _require(
            self.method == "cm" or self.noise_scale == "auto",
            "the noise scale is one of the method cm; leave it out, or give --method cm",
        )
        _require(
            self.method == "zssd" or self.sampler == "fast",
            "the reference sampler is one of the method zssd; leave --sampler out",
        )
        _require(self.members >= 1, f"members is {self.members}; need at least 1")
        _require(0 <= self.seed < 2**31, f"seed is {self.seed}; need 0 to {2**31 - 1}")
        _require(self.steps is None or self.steps >= 1, f"steps is {self.steps}; need at least 1")
        _require(
            self.sampler in ("fast", "reference"),
            f"unknown sampler '{self.sampler}'; expected fast or reference",
        )
        pull = self.guidance_scale
        _require(pull is None or pull >= 0, f"guidance scale is {pull}; need at least 0")
        _require(
            pull is None or self.sampler == "reference",
            "the guidance scale is one of the reference sampler; the fast one has no such number: "
            "leave it out, or give --sampler reference",
        )
        _require(
            self.filter_scale in ("auto", "native") or _positive(self.filter_scale),
            f"filter scale is {self.filter_scale}; expected degrees > 0, auto or native",
        )
        _require(
            self.device in ("auto", "cpu", "cuda"),
            f"unknown device '{self.device}'; expected auto, cpu or cuda",
        )
        self._check_bias()
        _require(
            self.batch_size == "auto" or _positive(self.batch_size),
            f"batch size is {self.batch_size}; expected a number > 0, or auto",
        )

    @property
    def wavelength(self) -> float | None:
        """The wavelength in km that `noise_scale` names, or None."""
        match = re.fullmatch(r"([\d.]+)\s*km", str(self.noise_scale).lower())
        try:
            value = float(match[1]) if match else 0.0
        except ValueError:
            return None
        return value if value > 0 else None

    def _check_bias(self) -> None:
        _require(
            self.bias in ("none", "qdm", "ot"),
            f"unknown bias adjustment '{self.bias}'; expected none, qdm or ot",
        )
        given = self.historical or self.reference
        periods = self.historical_period or self.reference_period
        _require(
            self.bias != "none" or not (given or periods),
            "--historical, --reference and their periods are for bias adjustment; give --bias qdm "
            "or ot",
        )
        _require(
            self.bias == "none" or bool(self.historical),
            f"--bias {self.bias} needs the same model in the reference's period; give --historical",
        )
        _require(
            self.bias != "ot" or bool(self.reference),
            "--bias ot needs whole days of observations, and a prior carries quantiles only (the "
            "licence of its data may not allow more); give --reference",
        )
        _require(
            self.reference_period is None or bool(self.reference),
            "the prior's quantiles have no dates; leave --ref-period out, or give --reference",
        )


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def load_config(path: Path, changes: Sequence[str] = ()) -> PriorConfig:
    """Read a training configuration.

    Args:
        changes: entries to set instead of the file's, as "training.steps=100", values as in TOML.

    Raises:
        ConfigError: no such file, not TOML, an unknown or missing entry, a wrong type or value.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for change in changes:
        _set(entries, change)
    try:
        return from_mapping(PriorConfig, entries)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _set(entries: dict[str, Any], change: str) -> None:
    """Set one entry, "table.name=value"; a value that is no TOML is taken as text."""
    name, equals, text = change.partition("=")
    *tables, last = name.strip().split(".")
    _require(
        bool(equals and all(tables) and last), f"cannot set '{change}'; expected table.name=value"
    )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = entries
    for part in tables:
        table = table.setdefault(part, {})
        _require(isinstance(table, dict), f"cannot set '{name.strip()}': '{part}' is no table")
    table[last] = value


def from_mapping(kind: type[T], entries: Mapping[str, Any], *, where: str = "") -> T:
    """Build a dataclass from a mapping, checking names and types all the way down.

    Raises:
        ConfigError: names the entry, what was found and what was expected.
    """
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    if unknown := sorted(set(entries) - set(known)):
        raise ConfigError(
            f"unknown entry '{where}{unknown[0]}'; expected one of {', '.join(sorted(known))}"
        )
    values = {}
    for name, entry in known.items():
        if name in entries:
            values[name] = _convert(hints[name], entries[name], f"{where}{name}")
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            raise ConfigError(f"missing entry '{where}{name}'")
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, typing.cast(type, hint)):
        return value
    if origin is dict and isinstance(value, Mapping):
        return {
            _convert(arguments[0], k, where): _convert(arguments[1], v, f"{where}.{k}")
            for k, v in value.items()
        }
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_mapping(typing.cast(type[Any], hint), value, where=f"{where}.")
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is Literal and value in arguments:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str) and isinstance(value, hint) and not isinstance(value, bool):
        return value
    expected = " or ".join(map(repr, arguments)) if origin is Literal else _name(hint)
    raise ConfigError(f"entry '{where}' is {value!r}; expected {expected}")


def _name(hint: Any) -> str:
    named = {tuple: "a list", dict: "a table"}
    return named.get(typing.get_origin(hint), getattr(hint, "__name__", str(hint)))
