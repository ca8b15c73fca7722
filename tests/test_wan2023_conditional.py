"""Fine fields given coarse ones: the coarse points hold, and Gaussian fields have closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from benchmarks.wan2023 import keep_every, shift_randomly
from benchmarks.wan2023.conditional import KeptPoints, Recipe, Training, eq7, kriging
from benchmarks.wan2023.network import PeriodicNetwork
from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.noise import keyed_normal
from climdown.diffusion.schedule import karras_sigmas
from climdown.diffusion.solvers import sample_fast
from climdown.diffusion.unet import UNet
from climdown.errors import ConfigError

POINTS, FACTOR = 32, 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


@pytest.fixture
def power() -> Tensor:
    """Powers of a smooth Gaussian field of variance 1, (1, 1, 32)."""
    k = torch.fft.fftfreq(POINTS, 1 / POINTS, dtype=torch.float64)
    power = torch.exp(-((k / 3) ** 2)) + 1e-4
    return (power / power.mean())[None, None]


def matrix(values: Tensor) -> Tensor:
    """The stationary covariance with these powers, (32, 32)."""
    row = torch.fft.ifft(values[0, 0]).real
    i = torch.arange(POINTS)
    full: Tensor = row[(i[:, None] - i) % POINTS]
    return full


def wiener(power: Tensor) -> Denoise:
    """E[x0 | x] of the Gaussian field."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        gain = power / (power + sigma**2)
        denoised: Tensor = torch.fft.ifft(torch.fft.fft(x) * gain).real
        return denoised

    return denoise


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 20.0])
def test_kriging_is_the_expectation_given_the_noisy_field_and_the_points(
    power: Tensor, sigma: float
) -> None:
    x, y = normal(3, 1, 1, POINTS), normal(3, 1, 1, POINTS // FACTOR, seed=1)
    ours = kriging(wiener(power), KeptPoints(y, FACTOR), power)(x, sigma)
    # Conditioning on both at once, by dense matrices.
    covariance = matrix(power)
    seen = torch.cat((torch.eye(POINTS), torch.eye(POINTS)[::FACTOR])).double()
    noise = torch.cat((sigma**2 * torch.ones(POINTS), torch.zeros(POINTS // FACTOR))).double()
    of_seen = seen @ covariance @ seen.T + torch.diag(noise)
    both = torch.cat((x, y), dim=-1)[:, 0, 0]
    expected = (covariance @ seen.T @ torch.linalg.solve(of_seen, both.T)).T
    torch.testing.assert_close(ours[:, 0, 0], expected, rtol=1e-6, atol=1e-7)


def drawn(power: Tensor, way: str, y: Tensor) -> Tensor:
    """Many fine fields given one coarse one, (n, points)."""
    kept = KeptPoints(y, FACTOR)
    given = (
        kriging(wiener(power), kept, power) if way == "kriging" else eq7(wiener(power), kept, 0.0)
    )

    def noise(step: int) -> Tensor:
        return keyed_normal(str(step), (len(y), 1, 1, POINTS)).double()

    return sample_fast(given, noise, karras_sigmas(48, sigma_min=1e-3))[:, 0, 0]


def test_draws_by_kriging_have_the_mean_and_covariance_of_the_gaussian_posterior(
    power: Tensor,
) -> None:
    y = normal(1, 1, 1, POINTS // FACTOR).expand(4000, -1, -1, -1)
    covariance = matrix(power)
    kept, free = torch.arange(0, POINTS, FACTOR), torch.arange(POINTS) % FACTOR != 0
    gain = torch.linalg.solve(covariance[kept][:, kept], covariance[kept][:, free]).T
    left = covariance[free][:, free] - gain @ covariance[kept][:, free]
    x = drawn(power, "kriging", y)[:, free]
    error = (x.mean(0) - gain @ y[0, 0, 0]) / left.diagonal().sqrt()
    # 4000 draws tell a mean to 1/63 of a deviation.
    assert float(error.abs().max()) < 4.5 / math.sqrt(len(y))
    assert float((torch.cov(x.T) - left).norm() / left.norm()) < 0.1
    # Without what kriging adds, the points between do not fit the known ones.
    loose = drawn(power, "Eq. 7", y)[:, free]
    assert float(torch.cov(loose.T).trace() / left.trace()) > 2


def test_eq7_is_the_printed_formula(power: Tensor) -> None:
    x, y, sigma, alpha = normal(2, 1, 1, POINTS), normal(2, 1, 1, POINTS // FACTOR), 0.7, 0.4
    ours = eq7(wiener(power), KeptPoints(y, FACTOR), alpha)(x, sigma)[:, 0, 0]
    D = matrix(power / (power + sigma**2))
    C = torch.eye(POINTS, dtype=torch.float64)[::FACTOR]
    V = C.T
    denoised = x[:, 0, 0] @ D.T
    gradient = 2 * (denoised @ C.T - y[:, 0, 0]) @ C @ D
    outside = torch.eye(POINTS, dtype=torch.float64) - V @ V.T
    expected = y[:, 0, 0] @ torch.linalg.pinv(C).T + (denoised - alpha * gradient) @ outside
    torch.testing.assert_close(ours, expected)


GRIDS = {"1-D": (1, 1, 32), "2-D": (1, 16, 32)}
grids = pytest.mark.parametrize("shape", GRIDS.values(), ids=GRIDS)


def coarse_of(x: Tensor) -> Tensor:
    return keep_every(x, FACTOR, 1 if x.shape[-2] == 1 else 2)


@grids
def test_known_points_are_put_in_place_and_the_others_left(shape: tuple[int, ...]) -> None:
    x, other = normal(2, *shape), normal(2, *shape, seed=1)
    kept = KeptPoints(coarse_of(x), FACTOR)
    projected = kept.project(other)
    assert torch.equal(coarse_of(projected), kept.values)
    assert (kept.residual(projected) == 0).all()
    assert torch.equal(kept.residual(other), coarse_of(other) - kept.values)
    assert int((projected != other).sum()) == kept.values.numel()


@grids
def test_interpolation_goes_through_the_points_and_returns_what_the_grid_can_hold(
    shape: tuple[int, ...],
) -> None:
    y = normal(2, *coarse_of(torch.zeros(1, *shape)).shape[1:])
    like = torch.empty(2, *shape)
    through = KeptPoints(y, FACTOR).interpolate(like)
    torch.testing.assert_close(coarse_of(through), y)
    wave = torch.cos(2 * math.pi * 3 * (torch.arange(32, dtype=torch.float64) / 32) + 1)
    smooth = wave.expand(2, *shape)
    torch.testing.assert_close(KeptPoints(coarse_of(smooth), FACTOR).interpolate(like), smooth)


def make_training(shape: tuple[int, ...], *, steps: int = 4, seed: int = 0) -> Training:
    """On smooth waves at random places, with a small network."""
    x = torch.arange(shape[-1]) / shape[-1]
    phase = torch.rand(64, 1, 1, 1, generator=seeded())
    fields = (3 + 2 * torch.sin(2 * math.pi * (2 * x + phase))).expand(64, *shape).contiguous()
    torch.manual_seed(seed)
    network: torch.nn.Module = PeriodicNetwork(patch=4, width=16, blocks=1)
    if shape[1] > 1:
        network = UNet(variables=1, statics=0, channels=(8, 8), attention=0, periodic=True)
    return Training(network, fields, Recipe(steps=steps, batch=16, rate=1e-2, warm_up=5), seed=seed)


@grids
@pytest.mark.parametrize("guidance", [None, 0.0, 0.5], ids=["kriging", "projection", "gradient"])
def test_coarse_points_hold_to_the_last_bit(shape: tuple[int, ...], guidance: float | None) -> None:
    prior = make_training(shape).prior()
    y = coarse_of(normal(3, *shape).float())
    x = prior.sample(y, factor=FACTOR, guidance=guidance, levels=4, batch_size=2)
    assert x.shape == (3, *shape)
    assert torch.equal(coarse_of(x), y)
    assert x.isfinite().all()
    again = prior.sample(y, factor=FACTOR, guidance=guidance, levels=4, batch_size=3)
    torch.testing.assert_close(x, again, rtol=1e-4, atol=1e-4)


def test_training_brings_the_loss_down_and_draws_waves() -> None:
    training = make_training((1, 1, 32), steps=150)
    losses = [training.step() for _ in range(150)]
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])
    prior = training.prior()
    assert (prior.mean, prior.scale) == pytest.approx((3, math.sqrt(2)), rel=0.05)
    assert float(prior.power.mean()) == pytest.approx(1, rel=0.01)


def test_an_interrupted_training_ends_as_one_that_was_not() -> None:
    whole, first = make_training((1, 1, 32)), make_training((1, 1, 32))
    for _ in range(4):
        whole.step()
    for _ in range(2):
        first.step()
    second = make_training((1, 1, 32), seed=0)
    second.resume(first.state())
    for _ in range(2):
        second.step()
    assert second.done == 4
    theirs = whole.average.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in second.average.state_dict().items())


def test_the_network_knows_no_place_but_within_a_patch() -> None:
    torch.manual_seed(0)
    network = PeriodicNetwork(patch=4, width=16, blocks=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, level, none = normal(2, 1, 1, 32).float(), torch.tensor([0.1, -1.0]), torch.empty(0)
    here = network(x, level, none, none)
    torch.testing.assert_close(network(x.roll(8, -1), level, none, none), here.roll(8, -1))
    assert not torch.allclose(network(x, level + 1, none, none), here)


def test_bad_sizes_of_the_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="width is 20; the network needs a multiple of 8"):
        PeriodicNetwork(width=20)
    network, none = PeriodicNetwork(patch=8, width=8, blocks=1), torch.empty(0)
    with pytest.raises(ConfigError, match="20 points do not fill patches of 8"):
        network(torch.zeros(1, 1, 1, 20), torch.zeros(1), none, none)


@pytest.mark.parametrize("shape", [(5, 8), (5, 4, 8), (5, 1, 4, 8)])
def test_each_field_is_rolled_by_its_own_number_of_points(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    moved = shift_randomly(x, seeded(3))
    by = [
        next(s for s in range(8) if torch.equal(a.roll(s, -1), b))
        for a, b in zip(x, moved, strict=True)
    ]
    assert len(set(by)) > 1
    assert torch.equal(moved, shift_randomly(x, seeded(3)))
