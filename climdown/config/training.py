"""How a prior is trained: what a configuration file may say."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from climdown.errors import ConfigError
from climdown.options import from_mapping, require


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
        require(len(self.standard_names) > 0, f"variable '{self.name}' names no standard_names")
        require(self.offset > 0, f"variable '{self.name}' needs offset > 0, found {self.offset}")
        level = self.level
        require(
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
        require(len(self.variables) > 0, "the configuration names no variables")
        for variable in self.variables:
            require(
                bool(variable.files or self.files), f"variable '{variable.name}' names no files"
            )
        for name, values, least, most in (
            ("months", self.months, 1, 12),
            ("hours", self.hours, 0, 23),
        ):
            require(
                all(least <= value <= most for value in values),
                f"data.{name} is {list(values)}; need numbers from {least} to {most}",
            )
        count = self.statistics_fields
        require(count is None or count > 1, f"data.statistics_fields is {count}; need at least 2")
        require(self.cache_gib >= 0, f"data.cache_gib is {self.cache_gib}; need at least 0")
        require(self.coarse_factor >= 2, f"coarse_factor is {self.coarse_factor}; need at least 2")
        require(0 < self.min_valid <= 1, f"min_valid is {self.min_valid}; need 0 < min_valid <= 1")


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the U-Net, see `diffusion.unet.UNet`, and of the linear part beside it.

    Attributes:
        patterns: leading patterns of each variable in a Gaussian part of the denoiser, see
            `diffusion.gaussian`; 0 leaves all to the network. For domains of up to some 10,000
            cells, and few training fields.
        tile: cells along each side of the windows that the network is trained on, drawn anew at
            each step, and of the overlapping tiles it is applied to; 0 takes the whole domain.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    attention: int = 0
    heads: int = 4
    embedding: int = 128
    dropout: float = 0.1
    patterns: int = 0
    tile: int = 0

    def __post_init__(self) -> None:
        require(
            len(self.channels) > 0 and min(self.channels) > 0,
            f"network.channels is {list(self.channels)}; need one or more numbers > 0",
        )
        for name in ("blocks", "embedding"):
            value = getattr(self, name)
            require(value > 0, f"network.{name} is {value}; need at least 1")
        for name in ("attention", "patterns", "tile"):
            value = getattr(self, name)
            require(value >= 0, f"network.{name} is {value}; need at least 0")
        require(self.heads > 0, f"network.heads is {self.heads}; need at least 1")
        require(
            self.channels[-1] % self.heads == 0,
            f"network.channels ends in {self.channels[-1]}, not divisible by {self.heads} heads",
        )
        least = 2 ** (len(self.channels) + 1)
        require(
            self.tile == 0 or self.tile >= least,
            f"network.tile is {self.tile}; {len(self.channels)} levels need at least {least}, or 0 "
            "for the whole domain",
        )
        require(0 <= self.dropout < 1, f"network.dropout is {self.dropout}; need 0 <= dropout < 1")


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
            require(getattr(self, name) > 0, f"training.{name} must be positive")
        size = self.micro_batch
        require(size is None or size > 0, f"training.micro_batch is {size}; need at least 1")
        require(
            self.sample_every >= 0, f"training.sample_every is {self.sample_every}; need at least 0"
        )
        require(0 <= self.seed < 2**31, f"training.seed is {self.seed}; need 0 to {2**31 - 1}")
        most = 1.0 if self.ema_profile == "exponential" else 0.28  # widths of a power end at 0.289
        require(
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
        require(
            0 < self.sigma_min < self.sigma_max,
            f"consistency.sigma_min is {self.sigma_min} and sigma_max {self.sigma_max}; "
            "need 0 < sigma_min < sigma_max",
        )
        require(self.std > 0, f"consistency.std is {self.std}; need more than 0")
        require(self.stages > 0, f"consistency.stages is {self.stages}; need at least 1")
        require(
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
    require(
        bool(equals and all(tables) and last), f"cannot set '{change}'; expected table.name=value"
    )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = entries
    for part in tables:
        table = table.setdefault(part, {})
        require(isinstance(table, dict), f"cannot set '{name.strip()}': '{part}' is no table")
    table[last] = value
