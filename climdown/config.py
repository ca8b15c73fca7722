"""Training configurations: frozen dataclasses read from TOML, checked when built."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
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
        files: paths or patterns below the data folder.
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
    files: tuple[str, ...]
    standard_names: tuple[str, ...]
    units: str
    names: tuple[str, ...] = ()
    long_name: str = ""
    cell_methods: str = "time: mean"
    transform: Literal["anomaly", "log"] = "anomaly"
    offset: float = 1.0
    minimum: float | None = None
    trace: float | None = None
    level: float | None = None

    def __post_init__(self) -> None:
        _require(len(self.files) > 0, f"variable '{self.name}' names no files")
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
        min_valid: a cell is kept where at least this fraction of training days is observed.
        licence, attribution: of the training data, for the card.
    """

    variables: tuple[VariableConfig, ...]
    train: str
    validation: str
    orography: str
    coarse_factor: int
    min_valid: float = 0.5
    licence: str = ""
    attribution: str = ""

    def __post_init__(self) -> None:
        _require(len(self.variables) > 0, "the configuration names no variables")
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
        sigma_mean, sigma_std: of the logarithm of the training noise levels.
        ema: decay of the exponential moving average of the weights.
        precision: "bf16" runs the network under autocast.
        validate_every, checkpoint_every: in steps.
    """

    steps: int
    batch_size: int = 16
    learning_rate: float = 6e-4
    weight_decay: float = 0.01
    warmup: int = 200
    clip: float = 1.0
    ema: float = 0.999
    sigma_mean: float = 0.0
    sigma_std: float = 1.5
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    validate_every: int = 500
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "checkpoint_every"):
            _require(getattr(self, name) > 0, f"training.{name} must be positive")
        _require(0 < self.ema < 1, f"training.ema is {self.ema}; need 0 < ema < 1")


@dataclass(frozen=True)
class SamplingConfig:
    """Defaults a prior carries for the ZSSD sampler."""

    steps: int = 40
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
        steps, guidance_scale: of the sampler; None takes the prior's own.
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

    method: Literal["zssd"] = "zssd"
    members: int = 4
    seed: int = 0
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
        _require(self.method == "zssd", f"unknown method '{self.method}'; expected zssd")
        _require(self.members >= 1, f"members is {self.members}; need at least 1")
        _require(0 <= self.seed < 2**31, f"seed is {self.seed}; need 0 to {2**31 - 1}")
        _require(self.steps is None or self.steps >= 1, f"steps is {self.steps}; need at least 1")
        scale = self.guidance_scale
        _require(scale is None or scale >= 0, f"guidance scale is {scale}; need at least 0")
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


def load_config(path: Path) -> PriorConfig:
    """Read a training configuration.

    Raises:
        ConfigError: no such file, not TOML, an unknown or missing entry, a wrong type or value.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    try:
        return from_mapping(PriorConfig, entries)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


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
