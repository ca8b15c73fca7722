"""Consistency functions against the closed form for Gaussian data, and the papers' schedules."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from climdown.diffusion import consistency
from climdown.diffusion.consistency import (
    Improved,
    Original,
    Pairs,
    Tuned,
    consistency_loss,
    noisy_answer,
    pseudo_huber,
)
from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.schedule import karras_sigmas
from climdown.diffusion.unet import UNet

STD, LOWEST = 0.7, 0.05
SHAPE = (3, 1, 64, 64)
CALENDAR = torch.tensor([[1.0, 15.0, 12.0]])
RECIPES = [Tuned(), Improved(), Original()]


class Exact(Denoiser):
    """The consistency function of N(0, STD^2) in every cell, times a number above LOWEST.

    The probability flow is dx/dsigma = (x - D) / sigma = sigma x / (STD^2 + sigma^2), so
    x / sqrt(STD^2 + sigma^2) stays the same along a trajectory.
    """

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__(
            nn.Identity(),
            static=torch.zeros(1, *SHAPE[-2:]),
            mask=torch.ones(SHAPE[1:]),
            sigma_min=LOWEST,
        )
        self.factor = factor

    def forward(self, x: Tensor, sigma: Tensor, calendar: Tensor, *_: object) -> Tensor:
        level = sigma.reshape(-1, 1, 1, 1)
        share = torch.sqrt((STD**2 + LOWEST**2) / (STD**2 + level**2))
        return x * share * torch.where(level > LOWEST, self.factor, 1.0)


def data(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Clean fields, noise and where they are observed, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    x0 = STD * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    noise = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return x0, noise, torch.ones_like(x0)


def pair(high: float, gap: float, *, weighted: bool = False) -> Pairs:
    levels = torch.full((SHAPE[0],), high, dtype=torch.float64)
    low = levels - gap
    return Pairs(levels, low, 1.0 / (levels - low) if weighted else torch.ones_like(levels))


def loss(student: Denoiser, teacher: Denoiser, recipe: Any, pairs: Pairs) -> Tensor:
    x0, noise, valid = data()
    calendar = CALENDAR.expand(SHAPE[0], 3)
    target = noisy_answer(teacher, x0, calendar, pairs.low, noise)
    return consistency_loss(student, target, recipe, pairs, x0, valid, calendar, noise)


@pytest.mark.parametrize("level", [0.3, 2.0, 80.0])
def test_the_oracle_is_the_start_of_the_probability_flow(level: float) -> None:
    def flow(sigma: float, x: Any) -> Any:
        denoised = x * STD**2 / (STD**2 + sigma**2)
        return (x - denoised) / sigma

    start = np.array([1.3])
    path = scipy.integrate.solve_ivp(flow, (LOWEST, level), start, rtol=1e-9, atol=1e-12)
    x = torch.full((1, 1, 1, 1), float(path.y[0, -1]), dtype=torch.float64)
    found = Exact()(x, torch.tensor([level], dtype=torch.float64), CALENDAR)
    assert found.item() == pytest.approx(1.3, rel=1e-6)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("high", [0.2, 1.0, 10.0])
def test_the_loss_of_the_exact_function_vanishes_as_levels_close_up(
    recipe: Any, high: float
) -> None:
    losses = [loss(Exact(), Exact(), recipe, pair(high, gap)) for gap in (0.1, 0.01, 0.001)]
    for wide, close in itertools.pairwise(losses):
        assert (close < 0.2 * wide).all()
    wrong = [loss(Exact(1.1), Exact(), recipe, pair(high, gap)) for gap in (0.1, 0.01, 0.001)]
    # A tenth of E|x| or of the root mean square, whichever distance it is.
    least = 0.9 * 0.1 * STD * (math.sqrt(2.0 / math.pi) if isinstance(recipe, Original) else 1.0)
    assert all((each > least).all() for each in wrong)


@pytest.mark.parametrize("high", [0.2, 1.0, 10.0])
def test_close_levels_differ_by_what_the_line_leaves_the_flow(high: float) -> None:
    # x0 + sigma n moves by n, the flow by E[n | x]; the rest has variance STD^2 / (STD^2 + s^2).
    gap = 1e-3 * high
    x0, noise, valid = data()
    model, calendar = Exact(), CALENDAR.expand(SHAPE[0], 3)
    pairs = pair(high, gap)
    one = noisy_answer(model, x0, calendar, pairs.high, noise)
    other = noisy_answer(model, x0, calendar, pairs.low, noise)
    share = (STD**2 + LOWEST**2) / (STD**2 + high**2)
    expected = gap * math.sqrt(share * STD**2 / (STD**2 + high**2))
    count = SHAPE[-1] * SHAPE[-2]
    found = ((one - other) ** 2).mean(dim=(1, 2, 3)).sqrt()
    np.testing.assert_allclose(found, expected, rtol=4.5 / math.sqrt(2 * count) + 2e-3)
    # The weighted loss of that distance: pseudo-Huber with its constant.
    told = consistency_loss(
        model, other, Improved(), pair(high, gap, weighted=True), x0, valid, calendar, noise
    )
    huber = torch.sqrt(found**2 + 0.00054**2) - 0.00054
    torch.testing.assert_close(told, huber / gap)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("high", [0.2, 1.0, 10.0])
def test_the_best_answer_to_the_exact_teacher_is_the_exact_function(
    recipe: Any, high: float
) -> None:
    factors = (0.8, 0.9, 0.97, 1.0, 1.03, 1.1, 1.2)
    pairs = pair(high, 0.02 * high)
    losses = [loss(Exact(factor), Exact(), recipe, pairs).mean().item() for factor in factors]
    assert losses.index(min(losses)) == factors.index(1.0)
    assert losses[:4] == sorted(losses[:4], reverse=True)
    assert losses[3:] == sorted(losses[3:])


@pytest.mark.parametrize("lowest", [0.002, 0.1, 1.0])
def test_a_consistency_function_gives_back_its_input_at_the_lowest_level(lowest: float) -> None:
    torch.manual_seed(0)
    network = UNet(variables=2, statics=1, channels=(4, 8), heads=2, embedding=8)
    nn.init.normal_(network.conv_out.conv.weight)
    mask = torch.ones(2, 8, 8)
    mask[0, :2] = 0.0
    model = Denoiser(network, static=torch.zeros(1, 8, 8), mask=mask, sigma_min=lowest)
    x = torch.randn(2, 2, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(x, torch.full((2,), lowest), CALENDAR.expand(2, 3)), x * mask)
        assert torch.equal(model.bind(CALENDAR.expand(2, 3))(x, lowest), x * mask)
        above = model(x, torch.full((2,), 1.5 * lowest), CALENDAR.expand(2, 3))
    assert not torch.allclose(above, x * mask, rtol=1e-3, atol=1e-4)


def noise_of(count: int) -> Any:
    def draw(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(100 + step)
        return torch.randn(1, 1, 1, count, generator=generator, dtype=torch.float64)

    return draw


@pytest.mark.parametrize(
    "levels", [[80.0], [2.0], [80.0, 1.0], [80.0, 5.0, 1.0, 0.3], [0.5, 0.4]], ids=str
)
def test_samples_of_the_oracle_have_the_variance_they_must(levels: list[float]) -> None:
    count = 200_000
    model = Exact()

    def function(x: Tensor, sigma: float) -> Tensor:
        return model.forward(x, torch.tensor([sigma], dtype=torch.float64), CALENDAR)

    drawn = consistency.sample(
        function, noise_of(count), torch.tensor(levels, dtype=torch.float64), sigma_min=LOWEST
    )
    least = STD**2 + LOWEST**2
    variance = levels[0] ** 2 * least / (STD**2 + levels[0] ** 2)
    for level in levels[1:]:
        variance = (variance + level**2 - LOWEST**2) * least / (STD**2 + level**2)
    assert drawn.var().item() == pytest.approx(variance, rel=4.5 * math.sqrt(2.0 / count))
    if levels[0] == 80.0:
        assert variance == pytest.approx(least, rel=1e-3)


def test_one_evaluation_is_made_for_each_level_above_nothing() -> None:
    asked: list[float] = []

    def function(x: Tensor, sigma: float) -> Tensor:
        asked.append(sigma)
        return x / sigma

    sigmas = karras_sigmas(3, sigma_min=0.1, sigma_max=10.0)  # its last level is nothing
    noise = noise_of(4)
    drawn = consistency.sample(function, noise, sigmas, sigma_min=0.05)
    assert asked == [float(sigma) for sigma in sigmas[:3]]
    x = noise(0)
    for step in (1, 2):
        level = asked[step]
        x = (x + math.sqrt(level**2 - 0.05**2) * noise(step)) / level
    torch.testing.assert_close(drawn, x)


def original_levels(step: int, steps: int, first: int = 2, last: int = 150) -> int:
    """N(k) of Song et al. 2023, Appendix C, written out once more."""
    inside = step / steps * ((last + 1) ** 2 - first**2) + first**2
    return math.ceil(math.sqrt(inside) - 1) + 1


@pytest.mark.parametrize("step", [0, 1, 7, 100, 250, 500, 777, 999, 1000])
def test_the_original_number_of_levels_and_decay_of_the_teacher(step: int) -> None:
    recipe = Original()
    count = recipe.levels(step / 1000)
    assert count == original_levels(step, 1000)
    assert recipe.teacher_decay(step / 1000) == pytest.approx(0.9 ** (2 / count))


def test_the_original_schedule_begins_and_ends_where_the_paper_has_it() -> None:
    recipe = Original()
    assert (recipe.levels(0.0), recipe.levels(1.0)) == (2, 151)
    assert recipe.teacher_decay(0.0) == pytest.approx(0.9)
    assert recipe.teacher_decay(1.0) == pytest.approx(0.9 ** (2 / 151))
    counts = [recipe.levels(step / 100) for step in range(101)]
    assert counts == sorted(counts)


def test_the_improved_number_of_levels_doubles_in_eight_equal_parts() -> None:
    recipe = Improved()
    for part in range(8):
        for progress in (part / 8, (part + 0.99) / 8):
            assert recipe.levels(progress) == 10 * 2**part
    assert recipe.levels(1.0) == 1280


def karras(count: int, low: float, high: float) -> np.ndarray[Any, Any]:
    """Ascending levels of arXiv 2206.00364, Eq. 5."""
    place = np.arange(count) / (count - 1)
    return np.asarray(
        (low ** (1 / 7) + place * (high ** (1 / 7) - low ** (1 / 7))) ** 7, dtype=np.float64
    )


EVEN = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.6])
def test_improved_levels_have_lognormal_density(progress: float) -> None:
    recipe = Improved(sigma_min=0.01, sigma_max=50.0, mean=-0.8, std=1.6)
    grid = karras(recipe.levels(progress) + 1, 0.01, 50.0)
    pairs = recipe.pairs(EVEN, progress)
    index = np.searchsorted(grid, pairs.low.numpy() * (1 + 1e-9), side="right") - 1
    np.testing.assert_allclose(pairs.low, grid[index], rtol=1e-9)
    np.testing.assert_allclose(pairs.high, grid[index + 1], rtol=1e-9)
    np.testing.assert_allclose(pairs.weight, 1.0 / (grid[index + 1] - grid[index]), rtol=1e-6)
    # arXiv 2310.14189, Eq. 10: differences of the error function at the logarithms.
    bounds = [math.erf((math.log(level) + 0.8) / (math.sqrt(2.0) * 1.6)) for level in grid]
    expected = np.diff(bounds) / (bounds[-1] - bounds[0])
    shares = np.bincount(index, minlength=len(grid) - 1) / len(EVEN)
    np.testing.assert_allclose(shares, expected, atol=1.1e-5)  # one number at each end


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.9])
def test_original_levels_are_drawn_evenly_and_weigh_the_same(progress: float) -> None:
    recipe = Original(sigma_min=0.01, sigma_max=50.0)
    grid = karras(recipe.levels(progress), 0.01, 50.0)
    pairs = recipe.pairs(EVEN, progress)
    index = np.searchsorted(grid, pairs.low.numpy() * (1 + 1e-9), side="right") - 1
    np.testing.assert_allclose(pairs.high, grid[index + 1], rtol=1e-9)
    shares = np.bincount(index, minlength=len(grid) - 1) / len(EVEN)
    np.testing.assert_allclose(shares, 1.0 / (len(grid) - 1), atol=1.1e-5)
    assert (pairs.weight == 1).all()


@pytest.mark.parametrize("stage", range(8))
def test_tuned_pairs_close_up_by_the_ratio_of_the_paper(stage: int) -> None:
    recipe = Tuned(sigma_min=1e-4, mean=-0.4, std=1.2)
    uniform = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    for progress in (stage / 8, (stage + 0.9) / 8):
        pairs = recipe.pairs(uniform, progress)
        for share, high, low, weight in zip(
            uniform.tolist(),
            pairs.high.tolist(),
            pairs.low.tolist(),
            pairs.weight.tolist(),
            strict=True,
        ):
            normal = math.sqrt(2.0) * torch.erfinv(torch.tensor(2.0 * share - 1.0)).item()
            assert high == pytest.approx(math.exp(-0.4 + 1.2 * normal), rel=1e-5)
            # arXiv 2406.14548, Sec. 3: r / t = 1 - n(t) / q^a, n(t) = 1 + k sigmoid(-b t), with
            # k = 8, b = 1, q = 2, a counted from 1.
            ratio = 1.0 - (1.0 + 8.0 / (1.0 + math.exp(high))) / 2.0 ** (stage + 1)
            assert low == pytest.approx(max(ratio * high, 1e-4), rel=1e-5)
            assert weight == pytest.approx(math.hypot(1.0, high) / (high - low), rel=1e-4)


def test_tuning_begins_with_the_loss_of_diffusion_where_noise_is_small() -> None:
    pairs = Tuned().pairs(torch.linspace(0.01, 0.6, 50), 0.0)
    assert (pairs.high < 1.0).any()
    small = pairs.high < 1.0
    np.testing.assert_allclose(pairs.low[small], 0.002, rtol=1e-6)


@settings(max_examples=60)
@given(
    recipe=st.sampled_from([Tuned(), Tuned(stages=1), Improved(), Original()]),
    progress=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**31),
    ends=st.booleans(),
)
def test_pairs_lie_in_order_within_the_range(
    recipe: Any, progress: float, seed: int, ends: bool
) -> None:
    uniform = torch.rand(64, generator=torch.Generator().manual_seed(seed))
    if ends:
        uniform[:2] = torch.tensor([0.0, 1.0])
    pairs = recipe.pairs(uniform, progress)
    assert pairs.high.shape == pairs.low.shape == pairs.weight.shape == (64,)
    assert pairs.high.dtype == pairs.low.dtype == torch.float32
    assert (pairs.low >= np.float32(0.002) * (1 - 1e-6)).all()
    assert (pairs.low < pairs.high).all()
    assert torch.isfinite(pairs.weight).all()
    assert (pairs.weight > 0).all()
    if not isinstance(recipe, Tuned):
        assert (pairs.high <= 80.0 * (1 + 1e-6)).all()


def test_only_the_original_recipe_has_an_average_as_teacher() -> None:
    assert Tuned().teacher_decay(0.5) == Improved().teacher_decay(0.5) == 0.0
    assert Original().teacher_decay(0.5) > 0.9


def test_distances_look_at_valid_cells_alone() -> None:
    one = torch.zeros(2, 1, 2, 2)
    other = torch.tensor([[[[3.0, -4.0], [0.0, 99.0]]], [[[7.0, 7.0], [7.0, 7.0]]]])
    valid = torch.ones(2, 1, 2, 2)
    valid[0, 0, 1, 1] = 0.0
    valid[1] = 0.0
    rms = math.sqrt(25.0 / 3.0)
    huber = math.sqrt(rms**2 + 0.00054**2) - 0.00054
    assert pseudo_huber(one, other, valid).tolist() == pytest.approx(
        [huber, 0.0], rel=1e-6, abs=1e-7
    )
    for recipe in (Tuned(), Improved()):
        assert torch.equal(recipe.distance(one, other, valid), pseudo_huber(one, other, valid))
    assert Original().distance(one, other, valid).tolist() == pytest.approx([7.0 / 3.0, 0.0])


def test_a_small_distance_costs_its_square_and_a_large_one_itself() -> None:
    valid = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    small, large = 1e-5 * valid, 100.0 * valid
    assert pseudo_huber(small, 0 * valid, valid).item() == pytest.approx(
        1e-10 / (2 * 0.00054), rel=1e-3
    )
    assert pseudo_huber(large, 0 * valid, valid).item() == pytest.approx(100.0, rel=1e-5)
