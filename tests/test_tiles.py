"""Tiles: weights that add up, no seams, the circle closed; windows for training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from netCDF4 import Dataset
from torch import Tensor, nn

from climdown.config import PriorConfig
from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.tiles import Tiles
from climdown.errors import ConfigError
from climdown.priors.build import build_denoiser
from climdown.priors.prior import Prior
from climdown.training import prepare, train_diffusion
from climdown.training.trainer import Trainer
from tests.commands import Shell, read_members, write_tas
from tests.training import advance, with_training

NOISE, CALENDAR = torch.zeros(2), torch.tensor([[1.0, 15.0, 12.0]]).expand(2, 3)


class Same(nn.Module):
    """Answers with what it sees, and counts cells."""

    largest = 0

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        self.largest = max(self.largest, x.shape[-2] * x.shape[-1])
        return x


class Smoothing(nn.Module):
    """A mean over 3 x 3 cells, missing ones taken as zero: what a tile cannot know at its edge."""

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 3, stride=1, padding=1)


class Biased(nn.Module):
    """Adds to each tile the mean of it: neighbours disagree."""

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return x + x.mean(dim=(-2, -1), keepdim=True)


def field(ny: int, nx: int) -> Tensor:
    return torch.randn(2, 1, ny, nx, generator=torch.Generator().manual_seed(0))


def apply(tiles: Tiles, network: nn.Module, x: Tensor) -> Tensor:
    return tiles.apply(network, x, NOISE, torch.zeros(0, *x.shape[-2:]), CALENDAR)


@settings(max_examples=60)
@given(
    ny=st.integers(3, 40),
    nx=st.integers(3, 40),
    size=st.integers(4, 20),
    overlap=st.integers(0, 6),
    stride=st.sampled_from([1, 2, 4]),
    periodic=st.booleans(),
)
def test_the_blend_of_equal_answers_is_the_answer(
    ny: int, nx: int, size: int, overlap: int, stride: int, periodic: bool
) -> None:
    overlap = min(overlap, size - stride)
    x, network = field(ny, nx), Same()
    tiles = Tiles(size, overlap, periodic=periodic, stride=stride)
    torch.testing.assert_close(apply(tiles, network, x), x)
    assert network.largest <= size**2


def test_neighbours_share_as_many_cells_as_asked_and_begin_at_the_stride() -> None:
    spans = Tiles(16, 5, stride=4)._spans(45)
    starts = [int(span[0]) for span in spans]
    assert starts == [0, 8, 16, 24, 29]
    assert int(spans[-1][-1]) == 44
    circle = Tiles(16, 5, periodic=True, stride=4)._spans(44, circular=True)
    assert [int(span[0]) for span in circle] == [0, 8, 16, 24, 32, 40]
    assert circle[-1].tolist()[-5:] == [7, 8, 9, 10, 11]


def test_inside_all_edges_a_local_network_is_the_same_in_tiles() -> None:
    x = torch.ones(2, 1, 30, 30)
    whole = Smoothing()(x)
    tiled = apply(Tiles(12, 4), Smoothing(), x)
    # A tile's outermost cells lack a third of their mean along an axis, or along both; the blend
    # gives them a fifth of the weight.
    worst = 1.0 - (1.0 - 0.2 / 3.0) ** 2
    assert float((tiled - whole).abs().max()) == pytest.approx(worst, abs=1e-5)
    assert float((tiled - whole)[..., 3:8, 3:8].abs().max()) < 1e-6
    wide = apply(Tiles(24, 18), Smoothing(), x)
    assert float((wide - whole).abs().max()) < float((tiled - whole).abs().max())


def test_a_smooth_field_has_no_seams_where_tiles_disagree() -> None:
    """Tiles that differ by a constant join in a ramp, not in a step."""
    ny, nx = 40, 64
    lat, lon = torch.meshgrid(torch.arange(ny), torch.arange(nx), indexing="ij")
    smooth = torch.sin(2 * torch.pi * lon / nx) * torch.cos(torch.pi * lat / ny)
    x = smooth.expand(2, 1, ny, nx)
    whole = x.diff(dim=-1).abs().max()
    blended = apply(Tiles(16, 8, periodic=True), Biased(), x)
    cut = apply(Tiles(16, 0, periodic=True), Biased(), x)
    across = torch.cat([blended, blended[..., :1]], dim=-1).diff(dim=-1).abs().max()
    assert float(across) < 2.5 * float(whole)
    assert float(cut.diff(dim=-1).abs().max()) > 5.0 * float(whole)


def test_the_circle_has_no_first_longitude() -> None:
    x = field(12, 32)
    tiles = Tiles(16, 8, periodic=True)
    turned = apply(tiles, Smoothing(), x.roll(8, dims=-1))
    torch.testing.assert_close(turned, apply(tiles, Smoothing(), x).roll(8, dims=-1))


def test_an_overlap_larger_than_the_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="an overlap of 8 cells does not fit into tiles of 8"):
        Tiles(8, 8)


@settings(max_examples=30)
@given(
    ny=st.integers(4, 30),
    nx=st.integers(4, 30),
    size=st.integers(4, 30),
    periodic=st.booleans(),
    seed=st.integers(0, 100),
)
def test_a_window_is_a_tile_of_the_domain(
    ny: int, nx: int, size: int, periodic: bool, seed: int
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rows, columns = Tiles(size, 1, periodic=periodic).draw((ny, nx), torch.device("cpu"))
    assert rows.shape == (min(size, ny), 1)
    assert columns.shape == (min(size, nx),)
    assert int(rows.max()) < ny
    assert int(columns.max()) < nx
    steps = columns.diff()
    assert set(steps.tolist()) <= ({1, 1 - nx} if periodic else {1})


def test_windows_reach_every_cell() -> None:
    tiles, seen = Tiles(8, 2), torch.zeros(12, 14)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(200):
            seen[tiles.draw((12, 14), torch.device("cpu"))] += 1
    assert (seen > 0).all()


def test_a_denoiser_answers_for_a_window_alone() -> None:
    ny, nx = 12, 16
    mask = torch.ones(1, ny, nx)
    mask[:, 3, 5] = 0.0
    static = field(ny, nx)[0]
    model = Denoiser(Smoothing(), static=static, mask=mask)
    x, sigma = field(ny, nx), torch.tensor([0.5, 2.0])
    window = torch.arange(2, 10)[:, None], torch.arange(4, 12)
    part = model(x, sigma, CALENDAR, window=window)
    assert part.shape == (2, 1, 8, 8)
    whole = model(x, sigma, CALENDAR)[(..., *window)]
    torch.testing.assert_close(part[..., 1:-1, 1:-1], whole[..., 1:-1, 1:-1])


def test_a_prior_denoises_in_tiles_nearly_as_in_one_piece(tiny_prior: Prior) -> None:
    ny, nx = tiny_prior.card.grid.shape
    x = torch.randn(1, 2, ny, nx, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([1.0])
    whole = tiny_prior.denoiser()(x, sigma, CALENDAR[:1])
    one = tiny_prior.denoiser(tile=max(ny, nx))(x, sigma, CALENDAR[:1])
    torch.testing.assert_close(one, whole)
    tiled = tiny_prior.denoiser(tile=8)(x, sigma, CALENDAR[:1])
    assert 0.0 < float((tiled - whole).std()) < 0.5 * float(whole.std())


def test_tiles_too_small_for_the_network_are_refused(tiny_prior: Prior) -> None:
    with pytest.raises(ConfigError, match="tiles of 4 cells are too small for the 2 levels of pr"):
        tiny_prior.denoiser(tile=4)


def test_training_on_tiles_sees_windows_and_validates_on_the_whole(
    training_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    network = replace(training_config.network, channels=(4,), tile=4)
    config = replace(with_training(training_config, steps=2, validate_every=2), network=network)
    dataset = prepare(config, training_data)
    trainer = Trainer(config, dataset, torch.device("cpu"))
    seen: list[tuple[int, ...]] = []
    trainer.model.network.register_forward_pre_hook(
        lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:]))
    )
    step = advance(trainer, 2)[-1]
    assert set(seen) == {(4, 4)}
    assert step.score is not None
    prior = train_diffusion(config, data=training_data, output=tmp_path / "prior")
    model = prior.denoiser()
    assert model.tiles is not None
    assert model.tiles.size == 4
    x = dataset.validation.take(np.arange(1))[0]
    assert model(x, torch.tensor([0.5]), CALENDAR[:1]).shape == x.shape
    fresh = build_denoiser(prior.card, prior.fields)
    assert fresh.tiles == model.tiles


def test_run_in_tiles_says_so_and_is_another_run(shell: Shell, tiny_prior: Prior) -> None:
    write_tas(Path("tas.nc"), days=(0.5,))
    given = ("--prior", tiny_prior.folder, "--members", 1)
    assert shell("run", "tas.nc", "whole.nc", *given).code == 0
    tiled = shell("run", "tas.nc", "tiled.nc", *given, "--tile", 8)
    assert tiled.code == 0, tiled.err
    assert "in tiles of 8 x 8 cells" in tiled.err
    with Dataset("tiled.nc") as file:
        assert json.loads(file.climdown_options)["tile"] == 8
    whole, parts = read_members("whole.nc"), read_members("tiled.nc")
    assert 0.0 < float(np.nanstd(parts - whole)) < float(np.nanstd(whole))


@pytest.mark.parametrize(
    ("tile", "message"),
    [(4, "tiles of 4 cells are too small for the 2 levels"), (0, "tile is 0; need at least 1")],
)
def test_run_refuses_tiles_without_sense(
    tile: int, message: str, shell: Shell, tiny_prior: Prior
) -> None:
    write_tas(Path("tas.nc"), days=(0.5,))
    result = shell("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--tile", tile)
    assert result.code != 0
    assert message in result.message
    assert not Path("out.nc").exists()
