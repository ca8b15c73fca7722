"""Fitting a diffusion prior to observations or reanalysis, with checkpoints and exact resume."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from climdown import cf, regrid
from climdown.bias import quantile
from climdown.config import PriorConfig, VariableConfig
from climdown.diffusion.losses import edm_loss, lognormal_sigmas
from climdown.errors import ConfigError, InputError, OutputError, ResumeError
from climdown.grid import Grid
from climdown.priors.card import (
    CARD_FILE,
    Card,
    Prior,
    Variable,
    build_denoiser,
    quantiles_field,
    to_device,
    write_prior,
)
from climdown.transforms import Anomaly, Chain, Log, Standardise

log = logging.getLogger(__name__)

GRAVITY = 9.80665  # m s-2, the constant of CF and ECMWF
_SIGMA_DATA = 1.0
_VALIDATION_SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_VALIDATION_DAYS = 30
# Reference quantiles per coarse cell that a prior carries; skewed variables need more.
_QUANTILES, _LOG_QUANTILES = 100, 500
# Coarse cells of which the observations fill less have no reference.
_MIN_COVER = 0.1

Progress = Callable[[int, float, float | None], None]
"""Called after each step with (step, training loss, validation loss where just computed)."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Normalised fields with their conditions.

    Attributes:
        x: zero where missing, shape (n, variables, ny, nx).
        valid: 1 where observed, same shape.
        calendar: (month, day, hour), shape (n, 3).
    """

    x: Tensor
    valid: Tensor
    calendar: Tensor

    def __len__(self) -> int:
        return self.x.shape[0]

    def take(self, index: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """A batch on a device."""
        return (
            self.x[index].to(device),
            self.valid[index].to(device),
            self.calendar[index].to(device),
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything a prior is made of, but for its weights."""

    card: Card
    fields: dict[str, npt.NDArray[np.float32]]
    train: Samples
    validation: Samples


def prepare(config: PriorConfig, data: Path) -> Dataset:
    """Read, mask, split and normalise the training data.

    Args:
        data: folder below which the configuration's files lie.

    Raises:
        InputError: a file or variable is missing, grids or times differ between variables.
        ConfigError: training and validation periods overlap.
    """
    entries = config.data.variables
    opened = [_open(entry, data) for entry in entries]
    first = opened[0]
    for field in opened[1:]:
        if field.grid.digest != first.grid.digest:
            raise InputError(
                f"{cf.describe_paths(field.paths)}: the grid differs from that of {first.paths[0]}"
            )
    dates = _common_dates(opened)
    train_days, validation_days = _split(config, first, dates)
    values = np.stack([_at_dates(field, dates) for field in opened], axis=1)
    observed = np.isfinite(values)
    mask = observed[train_days].mean(axis=0) >= config.data.min_valid
    observed &= mask
    fields = _static_fields(data / config.data.orography, first.grid)
    fields["mask"] = mask.astype(np.float32)
    chains = []
    for i, entry in enumerate(entries):
        climatology = _climatology(values[train_days, i], mask[i])
        chain = _fit_transform(entry, values[train_days, i], observed[train_days, i], climatology)
        chains.append(chain)
        fields[f"climatology_{entry.name}"] = climatology.astype(np.float32)
        fields[f"pattern_{entry.name}"] = _normalised_pattern(climatology, mask[i], chain)
        fields[quantiles_field(entry.name)] = _coarse_quantiles(
            values[train_days, i], [dates[j].month for j in train_days], config, first.grid, entry
        )
    x = np.stack([c.forward(values[:, i].astype(np.float64)) for i, c in enumerate(chains)], axis=1)
    x = np.where(observed, x, 0.0).astype(np.float32)
    calendar = cf.calendar_conditions(dates, first.time.step_days)
    everything = Samples(
        torch.from_numpy(x),
        torch.from_numpy(observed.astype(np.float32)),
        torch.from_numpy(calendar),
    )
    card = _card(config, first, [dates[i] for i in train_days], chains)
    return Dataset(
        card, fields, _subset(everything, train_days), _subset(everything, validation_days)
    )


def train_diffusion(
    config: PriorConfig,
    *,
    data: Path,
    output: Path,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Prior:
    """Train a diffusion prior, or go on where an earlier call was stopped.

    Args:
        data: folder of the training files.
        output: folder of the prior; the checkpoint lies in it until training ends.
        progress: called after every step.

    Returns:
        The finished prior, with the weights of the best validation loss.

    Raises:
        ResumeError: a checkpoint lies there that belongs to another configuration.
        OutputError: a finished prior lies there.
    """
    dataset = prepare(config, data)
    log.info(
        "training on %d fields, validating on %d, grid %s",
        len(dataset.train),
        len(dataset.validation),
        dataset.card.grid.describe(),
    )
    trainer = Trainer(config, dataset, torch.device(device))
    checkpoint = output / "checkpoint.pt"
    if (output / CARD_FILE).exists() and not checkpoint.is_file():
        raise OutputError(f"{output} holds a finished prior; train into another folder")
    if checkpoint.is_file():
        trainer.restore(checkpoint)
        log.info("resuming at step %d", trainer.step)
    output.mkdir(parents=True, exist_ok=True)
    for step, loss, validation in trainer.run():
        if step % config.training.checkpoint_every == 0 or step == config.training.steps:
            trainer.save(checkpoint)
        if progress is not None:
            progress(step, loss, validation)
    prior = _finish(trainer, output)
    checkpoint.unlink()
    return prior


class Trainer:
    """The state of a training run: weights, their average, optimiser and step."""

    def __init__(self, config: PriorConfig, dataset: Dataset, device: torch.device) -> None:
        self.config = config
        self.dataset = dataset
        self.device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.training.seed)
            self.model = to_device(build_denoiser(dataset.card, dataset.fields), device)
            self.average = to_device(build_denoiser(dataset.card, dataset.fields), device)
        self.average.load_state_dict(self.model.state_dict())
        self.average.requires_grad_(False).eval()
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.training.learning_rate,
            weight_decay=config.training.weight_decay,
            betas=(0.9, 0.99),
        )
        self.step = 0
        self.best_loss = math.inf
        self.best: dict[str, Tensor] = {}

    @cached_property
    def identity(self) -> str:
        """What a checkpoint must agree with: the configuration and the data."""
        data = hashlib.sha256(self.dataset.train.x.numpy().tobytes()).hexdigest()
        return f"{self.config!r} {data}"

    def run(self) -> Iterator[tuple[int, float, float | None]]:
        """Yield (step, training loss, validation loss or None) until all steps are done."""
        settings = self.config.training
        while self.step < settings.steps:
            loss = self._advance()
            self.step += 1
            validation = None
            if self.step % settings.validate_every == 0 or self.step == settings.steps:
                validation = float(np.mean(self.validation_losses()))
                if not math.isfinite(validation):
                    raise ConfigError(
                        f"training diverged before step {self.step}: the validation loss is "
                        f"{validation}; lower training.learning_rate"
                    )
                if validation < self.best_loss:
                    self.best_loss = validation
                    self.best = {k: v.clone() for k, v in self.average.state_dict().items()}
            yield self.step, loss, validation

    def _advance(self) -> float:
        settings = self.config.training
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * self._schedule()
        # Every step draws from its own generator, so that a resumed run repeats it exactly.
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.step)
        index = torch.randint(len(self.dataset.train), (settings.batch_size,), generator=generator)
        x0, valid, calendar = self.dataset.train.take(index, self.device)
        sigma = lognormal_sigmas(
            settings.batch_size,
            mean=settings.sigma_mean,
            std=settings.sigma_std,
            generator=generator,
        ).to(self.device)
        noise = torch.randn(x0.shape, generator=generator).to(self.device)
        self.model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed * 1_000_003 + self.step)
            with self._autocast():
                loss = edm_loss(self.model, x0, valid, calendar, sigma, noise).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimiser.step()
        self._update_average()
        return float(loss.detach())

    def _schedule(self) -> float:
        settings = self.config.training
        warm = min(1.0, (self.step + 1) / max(settings.warmup, 1))
        return warm * 0.5 * (1 + math.cos(math.pi * self.step / settings.steps))

    def _autocast(self) -> Any:
        if self.config.training.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.training.ema, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    @torch.no_grad()
    def validation_losses(self) -> list[float]:
        """Loss of the averaged weights at fixed noise levels, on days spread over validation."""
        samples = self.dataset.validation
        count = min(_VALIDATION_DAYS, len(samples))
        index = torch.linspace(0, len(samples) - 1, count).round().long()
        x0, valid, calendar = samples.take(index, self.device)
        losses = []
        for level in _VALIDATION_SIGMAS:
            generator = torch.Generator().manual_seed(round(level * 1000))
            noise = torch.randn(x0.shape, generator=generator).to(self.device)
            sigma = torch.full((count,), level, device=self.device)
            with self._autocast():
                loss = edm_loss(self.average, x0, valid, calendar, sigma, noise)
            losses.append(float(loss.mean()))
        return losses

    def save(self, path: Path) -> None:
        """Write the whole state, atomically."""
        state = {
            "identity": self.identity,
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best_loss": self.best_loss,
            "best": self.best,
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    def restore(self, path: Path) -> None:
        """Take up a state that `save` wrote.

        Raises:
            ResumeError: it is damaged, or belongs to another configuration or other data.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            identity = state["identity"]
        except Exception:  # a damaged file makes torch raise any of a dozen kinds
            raise ResumeError(f"{path} is damaged; remove it to train from the start") from None
        if identity != self.identity:
            raise ResumeError(
                f"{path} belongs to another training configuration or other data; remove it, or "
                "train into another folder"
            )
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best_loss, self.best = state["best_loss"], state["best"]


def _open(entry: VariableConfig, data: Path) -> cf.Field:
    quantity = cf.Quantity(entry.name, entry.standard_names, entry.names, entry.units, entry.level)
    return cf.open_field([data / name for name in entry.files], quantity)


def _common_dates(fields: Sequence[cf.Field]) -> list[Any]:
    common = set(fields[0].time.dates)
    for field in fields[1:]:
        common &= set(field.time.dates)
    if not common:
        raise InputError("the training variables share no time step")
    return sorted(common)


def _at_dates(field: cf.Field, dates: Sequence[Any]) -> npt.NDArray[np.float32]:
    position = {date: i for i, date in enumerate(field.time.dates)}
    values = field.read(slice(0, len(field.time)))
    return values[[position[date] for date in dates]]


def _split(
    config: PriorConfig, field: cf.Field, dates: Sequence[Any]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    index = {date: i for i, date in enumerate(dates)}

    def days(period: str) -> set[int]:
        chosen = field.time.dates[field.time.select(period)]
        return {index[date] for date in chosen if date in index}

    train, validation = days(config.data.train), days(config.data.validation)
    if shared := train & validation:
        raise ConfigError(f"training and validation share {len(shared)} time steps")
    for name, chosen in (("training", train), ("validation", validation)):
        if not chosen:
            raise InputError(f"no time step that all variables share lies in the {name} period")
    return np.array(sorted(train), dtype=np.intp), np.array(sorted(validation), dtype=np.intp)


def _climatology(values: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> Any:
    """Mean of each cell, zero outside the mask, shape (ny, nx)."""
    count = np.isfinite(values).sum(axis=0)
    total = np.nansum(values.astype(np.float64), axis=0)
    return np.where(mask, total / np.maximum(count, 1), 0.0)


def _fit_transform(
    entry: VariableConfig,
    values: npt.NDArray[np.float32],
    observed: npt.NDArray[np.bool_],
    climatology: npt.NDArray[np.float64],
) -> Chain:
    first: Anomaly | Log
    if entry.transform == "anomaly":
        # The card stores float32; fit with what will be read back.
        first = Anomaly(climatology.astype(np.float32).astype(float), f"climatology_{entry.name}")
    else:
        first = Log(entry.offset)
    transformed = first.forward(values.astype(np.float64))[observed]
    mean = 0.0 if entry.transform == "anomaly" else float(transformed.mean())
    return Chain((first, Standardise(mean, float(transformed.std()))))


def _normalised_pattern(
    climatology: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_], chain: Chain
) -> npt.NDArray[np.float32]:
    """The climatology as a conditioning channel of zero mean and unit variance."""
    z = chain.without_fields().forward(climatology)
    z = (z - z[mask].mean()) / z[mask].std()
    return np.asarray(np.where(mask, z, 0.0), dtype=np.float32)


def _static_fields(path: Path, grid: Grid) -> dict[str, npt.NDArray[np.float32]]:
    """Orography (km) and land fraction on a grid, from surface geopotential or altitude."""
    dataset = cf.open_dataset(path)
    fields = {}
    wanted = {
        "surface_geopotential": ("orography", 1e-3 / GRAVITY),
        "surface_altitude": ("orography", 1e-3),
        "land_area_fraction": ("land_fraction", 1.0),
    }
    for name in cf.gridded_variables(dataset):
        standard_name = str(dataset[name].attrs.get("standard_name"))
        if standard_name in wanted:
            source, array = cf.horizontal_cells(dataset[name], dataset)
            target, scale = wanted[standard_name]
            values = np.asarray(array.squeeze().values, dtype=np.float64) * scale
            regridded = regrid.weights(source, grid, "conservative").apply(values)
            fields[target] = regridded.astype(np.float32)
    if missing := {"orography", "land_fraction"} - set(fields):
        raise InputError(
            f"{path}: no variable for {' and '.join(sorted(missing))}; expected standard_name "
            "surface_geopotential or surface_altitude, and land_area_fraction"
        )
    for name, static in fields.items():
        if not np.isfinite(static).all():
            raise InputError(f"{path}: {name} does not cover the grid ({grid.describe()})")
    return fields


def _coarse_quantiles(
    values: npt.NDArray[np.floating],
    months: Sequence[int],
    config: PriorConfig,
    grid: Grid,
    entry: VariableConfig,
) -> npt.NDArray[np.float32]:
    """Quantiles per coarse cell, shape (months + 1, nodes, ny, nx), the last over all months."""
    coarse = grid.coarsen(config.data.coarse_factor)
    lowered = regrid.weights(grid, coarse, "conservative").apply(values, min_coverage=_MIN_COVER)
    flat = lowered.reshape(len(lowered), -1).astype(np.float32)
    nodes = quantile.nodes(_LOG_QUANTILES if entry.transform == "log" else _QUANTILES)
    names = np.asarray(months)
    members = [np.flatnonzero(names == month) for month in sorted(set(months))]
    longest = len(names)
    padded = np.full((len(members) + 1, longest), -1)
    for row, index in zip(padded, [*members, np.arange(longest)], strict=True):
        row[: len(index)] = index
    found = quantile.group_quantiles(flat, padded, nodes)
    return np.asarray(found.reshape(*found.shape[:2], *coarse.shape), dtype=np.float32)


def _subset(samples: Samples, index: npt.NDArray[np.intp]) -> Samples:
    chosen = torch.from_numpy(index)
    return Samples(samples.x[chosen], samples.valid[chosen], samples.calendar[chosen])


def _card(
    config: PriorConfig,
    field: cf.Field,
    train_dates: Sequence[Any],
    chains: Sequence[Chain],
) -> Card:
    variables = tuple(
        Variable(
            name=entry.name,
            standard_names=entry.standard_names,
            names=entry.names,
            long_name=entry.long_name,
            units=entry.units,
            cell_methods=entry.cell_methods,
            transform=tuple(chain.to_list()),
            minimum=entry.minimum,
            trace=entry.trace,
            level=entry.level,
        )
        for entry, chain in zip(config.data.variables, chains, strict=True)
    )
    patterns = tuple(f"pattern_{entry.name}" for entry in config.data.variables)
    return Card(
        name=config.name,
        title=config.title,
        kind="diffusion",
        variables=variables,
        months=tuple(sorted({int(date.month) for date in train_dates})),
        step_days=field.time.step_days,
        coarse_factor=config.data.coarse_factor,
        statics=("orography", "land_fraction", *patterns),
        sigma_data=_SIGMA_DATA,
        grid=field.grid,
        network=config.network,
        sampling=config.sampling,
        licence=config.data.licence,
        training={
            "attribution": config.data.attribution,
            "train": config.data.train,
            "validation": config.data.validation,
            "fields": len(train_dates),
            **asdict(config.training),
        },
        files={},
    )


def _finish(trainer: Trainer, output: Path) -> Prior:
    from dataclasses import replace

    trainer.average.load_state_dict(trainer.best)
    losses = dict(zip(map(str, _VALIDATION_SIGMAS), trainer.validation_losses(), strict=True))
    card = trainer.dataset.card
    training = {
        **card.training,
        "device": trainer.device.type,
        "torch": torch.__version__,
        "validation_loss": round(trainer.best_loss, 5),
        "validation_loss_by_sigma": {k: round(v, 5) for k, v in losses.items()},
    }
    card = replace(card, training=training)
    # Half precision rounds at 5e-4, far below what training leaves uncertain, and halves the file.
    weights = {name: tensor.half() for name, tensor in trainer.best.items()}
    return write_prior(output, card, weights, trainer.dataset.fields, model_card(card))


def model_card(card: Card) -> str:
    """The README.md of a prior, in the Hub's model card form."""
    names = ", ".join(f"{v.name} ({v.units})" for v in card.variables)
    train = card.training
    losses = train["validation_loss_by_sigma"]
    table = "\n".join(f"| {sigma} | {loss} |" for sigma, loss in losses.items())
    return f"""---
license: other
library_name: climdown
tags: [climate, downscaling, diffusion]
---
# {card.name}

{card.title}.

- Variables: {names}, jointly
- Grid: {card.grid.describe()}; coarsening factor {card.coarse_factor} for paired tests
- Months: {", ".join(map(str, card.months))}
- Trained on {train["train"]} ({train["fields"]} fields), on {train["device"]}
- Validation, never trained on: {train["validation"]}
- Data: {train["attribution"]}
- Licence of the training data, which binds these weights: {card.licence}

Validation loss of the averaged weights by noise level (1 is the loss of knowing the data's
variance alone):

| sigma | loss |
|---|---|
{table}

Used by `climdown run --method zssd --prior {card.name} INPUT OUTPUT`.
"""
