"""`climdown train`: fit a prior to data, or go on where an earlier call was stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from climdown.config import PriorConfig
from climdown.errors import ConfigError, InputError, OutputError, Requeue
from climdown.files import remove_leftovers
from climdown.priors.card import CARD_FILE, Card
from climdown.priors.prior import Prior, read_prior, write_prior
from climdown.priors.store import load_prior
from climdown.training.data import prepare
from climdown.training.parallel import Team, joined
from climdown.training.record import Log, draw_samples
from climdown.training.samples import Dataset
from climdown.training.trainer import Step, Trainer

log = logging.getLogger(__name__)

CHECKPOINT = Path("training", "checkpoint.pt")
LOG = Path("training", "log.csv")

Progress = Callable[[Step], None]
"""Called after each step by the process that leads."""


def train_diffusion(
    config: PriorConfig,
    *,
    data: Path,
    output: Path,
    device: str = "cpu",
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Prior:
    """Train a diffusion prior, or go on where an earlier call was stopped.

    Under `torchrun` each process takes its share of every batch.

    Args:
        data: folder of the training files.
        output: folder of the prior; `training/` in it holds the checkpoint until training ends,
            a log, and pictures of samples.
        progress: called after every step.
        should_stop: asked before every step; true ends the run with `Requeue` after a checkpoint.

    Returns:
        The finished prior, with the average of the weights that validates best.

    Raises:
        ConfigError: the configuration is one of a consistency prior.
        ResumeError: a checkpoint lies there that belongs to another configuration.
        OutputError: a finished prior lies there.
        Requeue: it was asked to stop; the same call goes on.
    """
    if config.consistency is not None:
        raise ConfigError(
            f"the configuration of {config.name} has a section [consistency]; train it with "
            "`climdown train consistency`, or leave the section out"
        )
    return _train(config, data, output, device, progress, should_stop)


def train_consistency(
    config: PriorConfig,
    *,
    data: Path,
    output: Path,
    device: str = "cpu",
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Prior:
    """Train a consistency prior, from a diffusion prior or from scratch; see `train_diffusion`.

    Raises:
        ConfigError: the configuration has no consistency section, or names a prior to tune that is
            none of diffusion, or has another network, grid or variables.
        ResumeError, OutputError, Requeue: as of `train_diffusion`.
    """
    if config.consistency is None:
        raise ConfigError(
            f"the configuration of {config.name} has no section [consistency]; train it with "
            "`climdown train diffusion`, or add one"
        )
    return _train(config, data, output, device, progress, should_stop)


def _train(
    config: PriorConfig,
    data: Path,
    output: Path,
    device: str,
    progress: Progress | None,
    should_stop: Callable[[], bool] | None,
) -> Prior:
    checkpoint = output / CHECKPOINT
    if (output / CARD_FILE).exists() and not checkpoint.is_file():
        raise OutputError(f"{output} holds a finished prior; train into another folder")
    with joined(torch.device(device)) as (team, own_device):
        dataset = prepare(config, data)
        _check_validation(config, dataset)
        trainer = Trainer(
            config, dataset, own_device, team=team, initial=_initial(config, dataset, data)
        )
        if team.leads:
            _announce(config, dataset, team)
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(checkpoint)
        if checkpoint.is_file():
            trainer.restore(checkpoint)
            log.info("resuming at step %d", trainer.step)
        team.wait()
        _run(trainer, output, progress, should_stop)
        if team.leads:
            _finish(trainer, output)
            checkpoint.unlink()
        team.wait()
    return read_prior(output)


def _run(
    trainer: Trainer,
    output: Path,
    progress: Progress | None,
    should_stop: Callable[[], bool] | None,
) -> None:
    settings, leads = trainer.config.training, trainer.team.leads
    record = Log(output / LOG, trainer.step) if leads else None
    done = trainer.step
    begun = time.monotonic()
    for step in trainer.run(should_stop):
        done = step.number
        if record is None:
            continue
        record.add(step, time.monotonic() - begun)
        begun = time.monotonic()
        if done % settings.checkpoint_every == 0 or done == settings.steps:
            trainer.save(output / CHECKPOINT)
        if settings.sample_every and done % settings.sample_every == 0:
            picture = output / CHECKPOINT.parent / f"samples-{done:07d}.png"
            draw_samples(trainer.dataset, trainer.averages[0], trainer.device, picture)
        if progress is not None:
            progress(step)
    if done < settings.steps:
        if leads:
            trainer.save(output / CHECKPOINT)
        raise Requeue(
            f"stopped by a signal after {done} of {settings.steps} steps; "
            "the same command goes on from there"
        )


def _announce(config: PriorConfig, dataset: Dataset, team: Team) -> None:
    log.info(
        "training on %d fields, validating on %d, grid %s%s",
        len(dataset.train),
        len(dataset.validation),
        dataset.card.grid.describe(),
        f", {team.size} processes" if team.size > 1 else "",
    )
    if config.training.batch_size < team.size:
        log.warning("%d processes share batches of %d", team.size, config.training.batch_size)


def _check_validation(config: PriorConfig, dataset: Dataset) -> None:
    if config.consistency is not None and len(dataset.validation) < 2:
        raise InputError(
            "a consistency prior is judged by distances between validation fields; found "
            f"{len(dataset.validation)} in {config.data.validation}, need at least 2"
        )


def _initial(config: PriorConfig, dataset: Dataset, data: Path) -> dict[str, Tensor] | None:
    """The weights to tune, checked to belong to the same variables, grid and network."""
    settings = config.consistency
    if settings is None or settings.initial is None or settings.recipe != "tuned":
        return None
    beside = data / settings.initial
    prior = load_prior(str(beside) if (beside / CARD_FILE).is_file() else settings.initial)
    where = f"consistency.initial {settings.initial}"
    if prior.card.kind != "diffusion":
        raise ConfigError(f"{where} is a {prior.card.kind} prior; expected one of diffusion")
    for name in ("variables", "grid", "network", "statics", "sigma_data"):
        if _comparable(prior.card, name) != _comparable(dataset.card, name):
            raise ConfigError(
                f"{where} has other {name} than this configuration and its data; the two must be "
                "trained on the same"
            )
    return dict(prior.denoiser().state_dict())


def _comparable(card: Card, name: str) -> object:
    if name == "grid":
        return card.grid.digest
    if name == "variables":
        return [(v.name, v.units, [s["kind"] for s in v.transform]) for v in card.variables]
    return getattr(card, name)


def _finish(trainer: Trainer, output: Path) -> None:
    model = trainer.averages[0]
    model.load_state_dict(trainer.best)
    scores = trainer.scores(model)
    card = trainer.dataset.card
    training = {
        **card.training,
        "ema": trainer.best_ema,
        "device": trainer.device.type,
        "torch": torch.__version__,
        "validation_loss": round(trainer.best_loss, 5),
        "validation_loss_by_sigma": {k: round(v, 5) for k, v in scores.items()},
    }
    card = replace(card, training=training)
    # Half precision rounds at 5e-4, far below what training leaves uncertain, and halves the file.
    weights = {name: tensor.half() for name, tensor in trainer.best.items()}
    write_prior(output, card, weights, trainer.dataset.fields, model_card(card))


_MEASURES = {
    "diffusion": """Validation loss of the averaged weights by noise level (1 is the loss of knowing
the data's variance alone):""",
    "consistency": """Energy distance of one-step samples to validation days by noise level (0 is
the mean for two samples of one distribution):""",
}


def model_card(card: Card) -> str:
    """The README.md of a prior, in the Hub's model card form."""
    names = ", ".join(f"{v.name} ({v.units})" for v in card.variables)
    train = card.training
    losses = train["validation_loss_by_sigma"]
    table = "\n".join(f"| {sigma} | {loss} |" for sigma, loss in losses.items())
    kind = card.kind.capitalize()
    measure = _MEASURES[card.kind]
    return f"""---
license: other
library_name: climdown
tags: [climate, downscaling, {card.kind}]
---
# {card.name}

{card.title}.

- {kind} prior of {names}, jointly
- Grid: {card.grid.describe()}; coarsening factor {card.coarse_factor} for paired tests
- Months: {", ".join(map(str, card.months))}
- Trained on {train["train"]} ({train["fields"]} fields), on {train["device"]}
- Validation, never trained on: {train["validation"]}
- Data: {train["attribution"]}
- Licence of the training data, which binds these weights: {card.licence}

{measure}

| sigma | loss |
|---|---|
{table}
"""
