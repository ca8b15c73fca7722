"""The same fields on a CUDA device as on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from climdown import pipeline
from climdown.config import PriorConfig, RunConfig
from climdown.training import Trainer, prepare
from tests.commands import read_members, write_pr, write_tas
from tests.priors import write_tiny_prior

CUDA = torch.device("cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_cuda_draws_the_same_members_as_the_cpu(tmp_path: Path) -> None:
    prior = write_tiny_prior(tmp_path / "tiny")
    sources = [write_tas(tmp_path / "tas.nc"), write_pr(tmp_path / "pr.nc")]
    values = {}
    for device in ("cpu", "cuda"):
        output = tmp_path / f"{device}.nc"
        config = RunConfig(members=3, device=device)
        pipeline.downscale(sources, output, prior=prior, config=config)
        values[device] = read_members(output)
    # TF32 convolutions, where the device uses them, round at 1e-3.
    tolerance = 0.01 * float(np.nanstd(values["cpu"]))
    np.testing.assert_allclose(values["cuda"], values["cpu"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_on_cuda_follows_training_on_the_cpu(
    precision: Literal["fp32", "bf16"], training_config: PriorConfig, training_data: Path
) -> None:
    settings = replace(training_config.training, precision=precision)
    network = replace(training_config.network, dropout=0.0)
    config = replace(training_config, training=settings, network=network)
    dataset = prepare(config, training_data)
    # Random numbers are drawn on the CPU, so that both learn from the same noise.
    cpu, cuda = (
        [step.loss for step in Trainer(config, dataset, torch.device(name)).run()]
        for name in ("cpu", "cuda")
    )
    np.testing.assert_allclose(cuda, cpu, rtol=0.05)


def test_memory_that_ends_on_cuda_halves_the_fields_at_once(
    training_config: PriorConfig, training_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(training_config, prepare(training_config, training_data), CUDA)
    loss = trainer.objective.loss

    def greedy(model: Any, teacher: Any, batch: Any, progress: float) -> torch.Tensor:
        if len(batch) > 1:
            torch.empty(1 << 50, device=CUDA)
        return loss(model, teacher, batch, progress)

    monkeypatch.setattr(type(trainer.objective), "loss", lambda _, *a: greedy(*a))
    next(trainer.run())
    assert trainer.micro_batch == 1
