"""The training loss against what it must be for denoisers that are known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.losses import edm_loss

SIGMA_DATA = 0.7
CHANNELS, NY, NX = 2, 8, 8
CALENDAR = torch.tensor([1.0, 15.0, 12.0])


class Stub(nn.Module):
    """A network whose output is told in advance."""

    def __init__(self, output: Tensor | float) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return torch.zeros_like(x) + self.output


def denoiser(output: Tensor | float = 0.0, mask: Tensor | None = None) -> Denoiser:
    everywhere = torch.ones(CHANNELS, NY, NX)
    return Denoiser(
        Stub(output),
        static=torch.zeros(1, NY, NX),
        mask=everywhere if mask is None else mask,
        sigma_data=SIGMA_DATA,
    )


def data(batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, CHANNELS, NY, NX)
    x0 = SIGMA_DATA * torch.randn(shape, generator=generator)
    return x0, torch.randn(shape, generator=generator)


def loss_of(
    model: Denoiser, x0: Tensor, noise: Tensor, sigma: Tensor, valid: Tensor | None = None
) -> Tensor:
    valid = torch.ones_like(x0) if valid is None else valid
    return edm_loss(model, x0, valid, CALENDAR.expand(len(x0), 3), sigma, noise)


@pytest.mark.parametrize("sigma", [0.02, 0.7, 5.0, 80.0])
def test_knowing_the_variance_alone_costs_one_at_every_noise_level(sigma: float) -> None:
    batch = 200
    x0, noise = data(batch)
    losses = loss_of(denoiser(), x0, noise, torch.full((batch,), sigma))
    # A mean of squares of normals has a relative standard error of sqrt(2 / count).
    assert losses.mean().item() == pytest.approx(1.0, abs=4.5 * math.sqrt(2 / x0.numel()))


@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_the_loss_is_the_plain_error_of_the_network_against_its_target(sigma: float) -> None:
    x0, noise = data(3)
    total = sigma**2 + SIGMA_DATA**2
    c_skip, c_out = SIGMA_DATA**2 / total, sigma * SIGMA_DATA / math.sqrt(total)
    target = (x0 - c_skip * (x0 + sigma * noise)) / c_out
    levels = torch.full((3,), sigma)
    # c_skip x and x0 nearly cancel at low noise: float32 leaves 1e-4 of the target there.
    perfect = loss_of(denoiser(target), x0, noise, levels)
    assert (perfect < 1e-6).all()
    off = loss_of(denoiser(target + 0.5), x0, noise, levels)
    torch.testing.assert_close(off, torch.full((3,), 0.25), rtol=1e-3, atol=0)


@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_the_loss_of_the_noise_is_that_of_the_noise_a_denoiser_predicts(sigma: float) -> None:
    x0, noise = data(3)
    model, levels = denoiser(0.3), torch.full((3,), sigma)
    calendar = CALENDAR.expand(3, 3)
    x = x0 + sigma * noise
    predicted = (x - model(x, levels, calendar)) / sigma
    expected = ((noise - predicted) ** 2).mean(dim=(1, 2, 3))
    found = edm_loss(model, x0, torch.ones_like(x0), calendar, levels, noise, weighting="noise")
    # At low noise x and D nearly cancel.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    plain = loss_of(model, x0, noise, levels)
    gain = (sigma**2 + SIGMA_DATA**2) / SIGMA_DATA**2
    torch.testing.assert_close(plain, gain * found, rtol=1e-5, atol=0)


def test_each_field_has_its_own_loss_at_its_own_level() -> None:
    x0, noise = data(3)
    levels = torch.tensor([0.1, 1.0, 10.0])
    together = loss_of(denoiser(0.3), x0, noise, levels)
    assert together.shape == (3,)
    for i in range(3):
        part = slice(i, i + 1)
        alone = loss_of(denoiser(0.3), x0[part], noise[part], levels[part])
        torch.testing.assert_close(together[part], alone)


def test_missing_cells_do_not_count() -> None:
    x0, noise = data(2)
    valid = torch.ones_like(x0)
    valid[:, 1, 2:5, :] = 0.0
    levels = torch.tensor([0.5, 2.0])
    before = loss_of(denoiser(0.3), x0, noise, levels, valid)
    after = loss_of(denoiser(0.3), x0 + 100.0 * (1 - valid), noise, levels, valid)
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    # The mean is over what is left, not over all cells.
    everywhere = loss_of(denoiser(0.3), x0, noise, levels)
    assert not torch.allclose(before, everywhere)
    assert (before > 0.8 * everywhere).all()


def test_a_field_without_a_valid_cell_costs_nothing() -> None:
    x0, noise = data(2)
    valid = torch.ones_like(x0)
    valid[1] = 0.0
    losses = loss_of(denoiser(0.3), x0, noise, torch.tensor([0.5, 2.0]), valid)
    assert losses[0].item() > 0
    assert losses[1].item() == 0.0


def test_the_loss_does_not_read_noise_outside_the_mask() -> None:
    mask = torch.ones(CHANNELS, NY, NX)
    mask[:, :3, :3] = 0.0
    x0, noise = data(2)
    levels, valid = torch.tensor([0.5, 2.0]), mask.expand_as(x0)
    before = loss_of(denoiser(0.3, mask), x0 * mask, noise, levels, valid)
    after = loss_of(denoiser(0.3, mask), x0 * mask, noise + 50 * (1 - mask), levels, valid)
    torch.testing.assert_close(before, after, rtol=0, atol=0)
