"""The denoiser's preconditioning and mask, and the network inside it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.unet import CalendarEmbedding, PaddedConv2d, UNet

CALENDAR = torch.tensor([[1.0, 15.0, 12.0], [7.0, 3.0, 0.0]])


class Recorder(nn.Module):
    """A network that remembers what it was given and answers with its input."""

    x: Tensor
    noise: Tensor

    def forward(self, x: Tensor, noise: Tensor, *_: Tensor) -> Tensor:
        self.x, self.noise = x, noise
        return x


def make_unet(*, periodic: bool = False, dropout: float = 0.0, levels: int = 3) -> UNet:
    """A small network whose zero-initialised layers have something to say."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet(
            variables=2,
            statics=1,
            channels=(8, 8, 16)[:levels],
            heads=2,
            embedding=16,
            dropout=dropout,
            periodic=periodic,
        )
        for layer in network.modules():
            if isinstance(layer, PaddedConv2d):
                nn.init.normal_(layer.conv.weight, std=0.1)
    return network.eval()


def inputs(ny: int, nx: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """x, c_noise and static fields."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 2, ny, nx, generator=generator)
    return x, torch.linspace(-0.5, 0.5, batch), torch.randn(1, ny, nx, generator=generator)


def wrap(network: nn.Module, mask: Tensor | None = None, sigma_data: float = 0.5) -> Denoiser:
    mask = torch.ones(2, 8, 8) if mask is None else mask
    return Denoiser(network, static=torch.zeros(1, 8, 8), mask=mask, sigma_data=sigma_data)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 3.0, 80.0])
def test_the_network_sees_unit_variance_and_a_quarter_of_the_log_level(sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 300, 2, 8, 8, generator=generator)
    network = Recorder()
    levels = torch.full((300,), sigma)
    wrap(network)(0.5 * x0 + sigma * noise, levels, CALENDAR[:1].expand(300, 3))
    bound = 4.5 / math.sqrt(2 * x0.numel())
    assert network.x.std().item() == pytest.approx(1.0, rel=bound)
    torch.testing.assert_close(network.noise, torch.full((300,), math.log(sigma) / 4))


@pytest.mark.parametrize("sigma", [0.01, 0.5, 3.0, 80.0])
def test_a_fresh_network_gives_the_best_guess_from_the_variance_alone(sigma: float) -> None:
    network = UNet(variables=2, statics=1, channels=(8, 8), heads=2, embedding=16)
    x = inputs(8, 8)[0]
    denoised = wrap(network).bind(CALENDAR)(x, sigma)
    torch.testing.assert_close(denoised, x * 0.25 / (0.25 + sigma**2))


def test_little_noise_leaves_the_field_as_it_is_whatever_the_network() -> None:
    x = inputs(8, 8)[0]
    denoised = wrap(make_unet()).bind(CALENDAR)(x, 1e-5)
    torch.testing.assert_close(denoised, x, rtol=1e-3, atol=1e-3)


def test_each_field_is_denoised_at_its_own_level() -> None:
    x, model = inputs(8, 8)[0], wrap(make_unet())
    together = model(x, torch.tensor([0.1, 5.0]), CALENDAR)
    for i, sigma in enumerate([0.1, 5.0]):
        alone = model.bind(CALENDAR[i : i + 1])(x[i : i + 1], sigma)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_cells_outside_the_mask_neither_speak_nor_are_heard() -> None:
    mask = torch.ones(2, 8, 8)
    mask[0, :3, :4] = 0.0
    denoise = wrap(make_unet(), mask).bind(CALENDAR)
    x = inputs(8, 8)[0]
    denoised = denoise(x, 1.0)
    assert (denoised[:, mask == 0] == 0).all()
    assert (denoised[:, mask == 1] != 0).all()
    torch.testing.assert_close(denoise(x + 9.0 * (1 - mask), 1.0), denoised, rtol=0, atol=0)


def test_the_weights_file_holds_the_network_alone() -> None:
    assert {name.split(".")[0] for name in wrap(make_unet()).state_dict()} == {"network"}


@pytest.mark.parametrize(("ny", "nx"), [(8, 8), (5, 7), (13, 9), (1, 3), (4, 10)])
def test_regional_networks_take_any_size(ny: int, nx: int) -> None:
    x, noise, static = inputs(ny, nx)
    output = make_unet()(x, noise, static, CALENDAR)
    assert output.shape == x.shape
    assert output.isfinite().all()
    # All cells, up to the cropped edges, answer to their own input.
    bumped = make_unet()(x + 1.0, noise, static, CALENDAR)
    assert ((output - bumped).abs() > 0).all()


def test_odd_sizes_are_those_of_a_field_with_zeros_to_the_north_and_east() -> None:
    x, noise, static = inputs(5, 7)
    wider = [torch.nn.functional.pad(field, (0, 1, 0, 3)) for field in (x, static)]
    network = make_unet()
    expected = network(wider[0], noise, wider[1], CALENDAR)[..., :5, :7]
    torch.testing.assert_close(network(x, noise, static, CALENDAR), expected)


@pytest.mark.parametrize(("levels", "nx", "stride"), [(3, 10, 4), (2, 9, 2)])
def test_periodic_networks_refuse_longitudes_they_cannot_halve(
    levels: int, nx: int, stride: int
) -> None:
    x, noise, static = inputs(8, nx)
    with pytest.raises(ValueError, match=f"longitudes divisible by {stride}, found {nx}"):
        make_unet(periodic=True, levels=levels)(x, noise, static, CALENDAR)


def test_periodic_networks_pad_odd_latitudes() -> None:
    x, noise, static = inputs(7, 8)
    assert make_unet(periodic=True)(x, noise, static, CALENDAR).shape == x.shape


@pytest.mark.parametrize(("periodic", "follows"), [(True, True), (False, False)])
@pytest.mark.parametrize("shift", [4, -8])
def test_only_periodic_networks_follow_a_turn_of_the_globe(
    periodic: bool, follows: bool, shift: int
) -> None:
    # Turns by multiples of the deepest stride: halving breaks the symmetry under others.
    x, noise, static = inputs(6, 16)
    network = make_unet(periodic=periodic)
    turned = network(x.roll(shift, -1), noise, static.roll(shift, -1), CALENDAR)
    expected = network(x, noise, static, CALENDAR).roll(shift, -1)
    assert torch.allclose(turned, expected, rtol=1e-5, atol=1e-5) == follows


@pytest.mark.parametrize("periodic", [True, False])
def test_convolutions_wrap_in_longitude_alone(periodic: bool) -> None:
    conv = PaddedConv2d(1, 1, periodic=periodic)
    nn.init.ones_(conv.conv.weight)
    nn.init.zeros_(conv.conv.bias)  # type: ignore[arg-type]
    corner = torch.zeros(1, 1, 5, 6)
    corner[..., 0, 0] = 1.0
    reached = conv(corner)[0, 0]
    expected = torch.zeros(5, 6)
    expected[:2, [0, 1, 5] if periodic else [0, 1]] = 1.0
    assert torch.equal(reached, expected)


@pytest.mark.parametrize("condition", ["month", "day", "hour", "static", "noise level"])
def test_every_condition_matters(condition: str) -> None:
    x, noise, static = inputs(8, 8)
    network, calendar = make_unet(), CALENDAR.clone()
    before = network(x, noise, static, calendar)
    if condition == "static":
        static = static + 1.0
    elif condition == "noise level":
        noise = noise + 0.3
    else:
        calendar[:, ["month", "day", "hour"].index(condition)] += 5.0
    after = network(x, noise, static, calendar)
    assert (after - before).abs().max() > 1e-4


def test_the_calendar_runs_in_cycles() -> None:
    embed = CalendarEmbedding(16)
    now = torch.tensor([[12.0, 31.0, 24.0]])
    cycles = torch.tensor([[0.0, 0.0, 0.0]])
    torch.testing.assert_close(embed(now), embed(cycles), rtol=1e-4, atol=1e-5)
    # The same phase of different cycles is told apart.
    assert not torch.allclose(embed(now)[0, 0], embed(now)[0, 1], atol=1e-3)


def test_dropout_is_off_in_evaluation_only() -> None:
    x, noise, static = inputs(8, 8)
    network = make_unet(dropout=0.5)
    assert torch.equal(network(x, noise, static, CALENDAR), network(x, noise, static, CALENDAR))
    network.train()
    assert not torch.equal(network(x, noise, static, CALENDAR), network(x, noise, static, CALENDAR))


def test_a_field_does_not_depend_on_its_batch() -> None:
    x, noise, static = inputs(7, 9, batch=5)
    calendar = torch.cat([CALENDAR, CALENDAR.flip(0), CALENDAR[:1]])
    network = make_unet()
    together = network(x, noise, static, calendar)
    for i in range(5):
        alone = network(x[i : i + 1], noise[i : i + 1], static, calendar[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_every_weight_learns() -> None:
    x, noise, static = inputs(8, 8)
    network = make_unet()
    network(x, noise, static, CALENDAR).square().sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
