"""Numbers that are none: what a sampler makes of a batch, and what a prior holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from climdown import pipeline
from climdown.arrays import Float32
from climdown.config import RunConfig
from climdown.errors import ConvergenceError, PriorError
from climdown.files import file_digest
from climdown.pipeline.execution import Worker
from climdown.priors.card import CARD_FILE, FIELDS_FILE, MODEL_FILE
from climdown.priors.prior import Prior, read_prior
from climdown.stream import parts_folder
from tests.commands import read_members, write_tas

CONFIG = RunConfig(members=2, batch_size=2)


def spoil(
    monkeypatch: pytest.MonkeyPatch, value: float, *, batches: Callable[[int], bool]
) -> list[int]:
    """Put a value into one cell of some of the batches that are drawn; their starts, as drawn."""
    drawn: list[int] = []
    draw = Worker._draw

    def spoiled(worker: Worker, batch: slice) -> Float32:
        fields = draw(worker, batch)
        drawn.append(batch.start)
        if batches(len(drawn)):
            fields[1, 0, -1, -1] = value
        return fields

    monkeypatch.setattr(Worker, "_draw", spoiled)
    return drawn


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_batch_is_drawn_once_more_where_that_helps(
    value: float,
    tmp_path: Path,
    tiny_prior: Prior,
    monkeypatch: pytest.MonkeyPatch,
    warned: pytest.LogCaptureFixture,
) -> None:
    source = write_tas(tmp_path / "tas.nc")
    whole, out = tmp_path / "whole.nc", tmp_path / "out.nc"
    pipeline.downscale([source], whole, prior=tiny_prior, config=CONFIG)
    drawn = spoil(monkeypatch, value, batches=lambda count: count == 2)
    pipeline.downscale([source], out, prior=tiny_prior, config=CONFIG)
    assert drawn == [0, 2, 2, 4]
    assert "tas of member 2 at 2001-01-02T12:00:00 (fields 2 to 3 of the run)" in warned.text
    assert "came out as no number; drawn once more" in warned.text
    np.testing.assert_array_equal(read_members(out), read_members(whole))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_run_ends_where_a_batch_stays_broken_and_keeps_its_parts(
    value: float, tmp_path: Path, tiny_prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_tas(tmp_path / "tas.nc")
    out = tmp_path / "out.nc"
    with monkeypatch.context() as patch:
        spoil(patch, value, batches=lambda count: count > 1)
        match = r"tas of member 2 at 2001-01-02T12.*the fields before it are kept: try other opt"
        with pytest.raises(ConvergenceError, match=match):
            pipeline.downscale([source], out, prior=tiny_prior, config=CONFIG)
    assert not out.exists()
    assert [path.name for path in parts_folder(out).glob("unit-*")] == [
        "unit-000000000-000000002.npy"
    ]
    assert pipeline.downscale([source], out, prior=tiny_prior, config=CONFIG).resumed == 2


def rewritten(folder: Path, prior: Prior, name: str, content: bytes) -> Path:
    """A prior with another file, for which its card vouches."""
    shutil.copytree(prior.folder, folder)
    (folder / name).write_bytes(content)
    card = json.loads((folder / CARD_FILE).read_text())
    card["files"][name] = file_digest(folder / name)
    (folder / CARD_FILE).write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_any_field_of_a_prior_must_be_finite(
    value: float, tmp_path: Path, tiny_prior: Prior
) -> None:
    from safetensors.numpy import save

    for name, field in tiny_prior.fields.items():
        broken = np.array(field)
        broken.flat[-1] = value
        content = save({**tiny_prior.fields, name: broken})
        folder = rewritten(tmp_path / name, tiny_prior, FIELDS_FILE, content)
        with pytest.raises(PriorError, match=rf"field '{name}' holds 1 numbers that are not fin"):
            read_prior(folder)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_any_weight_of_a_prior_must_be_finite(
    value: float, tmp_path: Path, tiny_prior: Prior
) -> None:
    from safetensors.torch import load_file, save

    weights = load_file(tiny_prior.folder / MODEL_FILE)
    for name in (min(weights), max(weights)):
        broken = weights[name].clone()
        broken.view(-1)[0] = value
        content = save({**weights, name: broken})
        folder = rewritten(tmp_path / name, tiny_prior, MODEL_FILE, content)
        with pytest.raises(PriorError, match=rf"the weights do not load \('{name}' holds no fini"):
            read_prior(folder).denoiser()
    assert all(torch.isfinite(one).all() for one in weights.values())
