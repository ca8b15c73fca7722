"""The state of a training run, and a step of it."""

from __future__ import annotations

import gc
import hashlib
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from climdown.compute.ahead import read_ahead
from climdown.config import PriorConfig
from climdown.diffusion.denoiser import Denoiser
from climdown.errors import ConfigError, ResumeError
from climdown.files import placed
from climdown.priors.build import build_denoiser, to_device
from climdown.training import averages
from climdown.training.objectives import Batch, make_objective
from climdown.training.parallel import Team
from climdown.training.reader import Order
from climdown.training.samples import Dataset

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """What a step did.

    Attributes:
        number: of steps done.
        loss: mean over the batch.
        rate: learning rate.
        gradient: norm before clipping.
        validation: scores by noise level, empty where not computed.
    """

    number: int
    loss: float
    rate: float
    gradient: float
    validation: dict[str, float]

    @property
    def score(self) -> float | None:
        """Mean validation score, where computed."""
        return float(np.mean(list(self.validation.values()))) if self.validation else None


class Trainer:
    """Weights, their averages, optimiser and step.

    Args:
        team: the processes that share each batch.
        initial: weights to start from instead of random ones.
    """

    def __init__(
        self,
        config: PriorConfig,
        dataset: Dataset,
        device: torch.device,
        *,
        team: Team | None = None,
        initial: dict[str, Tensor] | None = None,
    ) -> None:
        self.config, self.dataset, self.device = config, dataset, device
        self.team = team or Team()
        self.objective = make_objective(config)
        self.model = self._build()
        if initial is not None:
            self.model.load_state_dict(initial)
        self.averages = [self._copy() for _ in config.training.ema]
        self.teacher = self._copy() if self.objective.needs_teacher else None
        self.optimiser = _optimiser(config, self.model)
        share = math.ceil(config.training.batch_size / self.team.size)
        self.micro_batch = min(config.training.micro_batch or share, share)
        train = dataset.train
        self.order = Order(
            len(train),
            seed=config.training.seed,
            block=train.reader.block,
            window=max(1, train.reader.kept_blocks // 2),
        )
        self.step = 0
        self.best_loss = math.inf
        self.best_ema = config.training.ema[0]
        self.best: dict[str, Tensor] = {}

    def _build(self) -> Denoiser:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.training.seed)
            card, fields, patterns = self.dataset.card, self.dataset.fields, self.dataset.patterns
            return to_device(build_denoiser(card, fields, patterns), self.device)

    def _copy(self) -> Denoiser:
        copy = self._build()
        copy.load_state_dict(self.model.state_dict())
        return copy.requires_grad_(False).eval()

    @cached_property
    def identity(self) -> str:
        """What a checkpoint must agree with: the configuration and the data."""
        text = f"{self.config!r} {self.dataset.digest}"
        return hashlib.sha256(text.encode()).hexdigest()

    def run(self, should_stop: Callable[[], bool] | None = None) -> Iterator[Step]:
        """Do steps, one after each `next`, until all are done or a process was asked to stop."""
        settings = self.config.training
        batches = read_ahead(self._read, range(self.step, settings.steps))
        for batch in batches:
            stop = should_stop is not None and should_stop()
            loss, gradient, stopping = self._advance(batch, stop)
            rate = self.optimiser.param_groups[0]["lr"]
            self.step += 1
            validation: dict[str, float] = {}
            if self.step % settings.validate_every == 0 or self.step == settings.steps:
                validation = self._validate()
            yield Step(self.step, loss, rate, gradient, validation)
            if stopping:
                return

    def _read(self, step: int) -> Batch:
        """This process's share of a step's batch, in main memory.

        Random numbers are keyed by step and place in the batch: a run that resumes repeats them,
        and a batch is the same whoever shares it.
        """
        size = self.config.training.batch_size
        places = self.team.share(size)
        chosen = self.order.batch(step, size)[places]
        x0, valid, calendar = self.dataset.train.take(chosen)
        uniform, noise = torch.empty(len(places)), torch.empty_like(x0)
        for row, place in enumerate(places):
            generator = torch.Generator().manual_seed(self._key(step, place))
            torch.rand((), generator=generator, out=uniform[row])
            torch.randn(x0.shape[1:], generator=generator, out=noise[row])
        return Batch(x0, valid, calendar, uniform, noise, self.dataset.train.group[chosen])

    def _advance(self, batch: Batch, stop: bool) -> tuple[float, float, bool]:
        settings = self.config.training
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * self._schedule()
        loss = self._accumulate(batch.to(self.device))
        # Summed together with the gradients: losses, and how many processes must stop.
        sums = torch.stack([loss, loss.new_tensor(float(stop))])
        self.team.add_up([*self._gradients(), sums])
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimiser.step()
        self._update_averages()
        total, stopping = sums.tolist()
        return total, float(norm), stopping > 0

    def _key(self, step: int, place: int) -> int:
        words = f"{self.config.training.seed}/{step}/{place}"
        return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=7).digest(), "little")

    def _accumulate(self, batch: Batch) -> Tensor:
        """Gradients of this process's share of the batch's mean loss; gives that share.

        Where the memory of the device ends, the parts that pass through the network at once are
        halved, for good.

        Raises:
            ConfigError: not even a single field fits.
        """
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            try:
                return self._passes(batch)
            except torch.OutOfMemoryError:
                if self.micro_batch == 1:
                    raise ConfigError(
                        f"a single field of {tuple(batch.x0.shape[1:])} values does not fit into "
                        f"the memory of {self.device}; make network.channels smaller, or set "
                        'training.precision = "bf16"'
                    ) from None
            # Outside of the handler, whose traceback keeps the activations alive.
            self.micro_batch = max(1, self.micro_batch // 2)
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning(
                "memory of %s ended; going on with %d fields at once, gradients add up to the "
                "same batch",
                self.device,
                self.micro_batch,
            )

    def _passes(self, batch: Batch) -> Tensor:
        settings = self.config.training
        progress = self.step / settings.steps
        self.model.train()
        total = torch.zeros((), device=self.device)
        with self._seeded():
            for start in range(0, len(batch), self.micro_batch):
                part = batch.part(slice(start, start + self.micro_batch))
                with self.autocast():
                    losses = self.objective.loss(self.model, self.teacher, part, progress)
                loss = losses.sum() / settings.batch_size
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
        return total

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Dropout from a generator of this step and process, the global one left as it was."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self._key(self.step, -1 - self.team.rank))
            yield

    def _gradients(self) -> list[Tensor]:
        for parameter in self.model.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [p.grad for p in self.model.parameters() if p.grad is not None]

    def _schedule(self) -> float:
        settings = self.config.training
        warm = min(1.0, (self.step + 1) / max(settings.warmup, 1))
        return warm * 0.5 * (1 + math.cos(math.pi * self.step / settings.steps))

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the network."""
        if self.config.training.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _update_averages(self) -> None:
        settings = self.config.training
        for average, value in zip(self.averages, settings.ema, strict=True):
            kept = averages.decay(value, settings.ema_profile, self.step)
            averages.update(average, self.model, kept)
        if self.teacher is not None:
            kept = self.objective.teacher_decay(self.step / settings.steps)
            averages.update(self.teacher, self.model, kept)

    def _validate(self) -> dict[str, float]:
        """Scores of the best average; the leading process keeps its weights if best yet."""
        if not self.team.leads:
            return {}
        candidates: list[dict[str, float]] = []
        for average, value in zip(self.averages, self.config.training.ema, strict=True):
            scores = self.scores(average)
            candidates.append(scores)
            score = float(np.mean(list(scores.values())))
            if not math.isfinite(score):
                raise ConfigError(
                    f"training diverged before step {self.step}: the validation score is "
                    f"{score}; lower training.learning_rate"
                )
            if score < self.best_loss:
                self.best_loss, self.best_ema = score, value
                self.best = {k: v.clone() for k, v in average.state_dict().items()}
        return min(candidates, key=lambda scores: float(np.mean(list(scores.values()))))

    @torch.no_grad()
    def scores(self, model: Denoiser) -> dict[str, float]:
        """Validation scores of a model, by noise level."""
        with self.autocast():
            return self.objective.validate(
                model, self.dataset.validation, self.device, max(self.micro_batch, 16)
            )

    def save(self, path: Path) -> None:
        """Place a file with all that `restore` needs.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        state = {
            "identity": self.identity,
            "step": self.step,
            "model": self.model.state_dict(),
            "averages": [average.state_dict() for average in self.averages],
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best_loss": self.best_loss,
            "best_ema": self.best_ema,
            "best": self.best,
        }
        # Given a path, torch would write its name into the file.
        with placed(path) as temporary, temporary.open("wb") as stream:
            torch.save(state, stream)

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
        for average, entries in zip(self.averages, state["averages"], strict=True):
            average.load_state_dict(entries)
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best_loss, self.best_ema = state["best_loss"], state["best_ema"]
        self.best = state["best"]


def _optimiser(config: PriorConfig, model: Denoiser) -> torch.optim.Optimizer:
    settings = config.training
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.RAdam
    extra = {} if settings.optimiser == "adamw" else {"decoupled_weight_decay": True}
    return kind(
        model.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        betas=(0.9, 0.99),
        **extra,
    )
