"""The same fields on a CUDA device as on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from climdown import pipeline
from climdown.config import RunConfig
from tests.commands import read_members, write_pr, write_tas
from tests.priors import write_tiny_prior

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
