"""What is minimised and by what a prior is judged: distributions and distances known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from climdown.config import ConsistencyConfig, PriorConfig, TrainingConfig
from climdown.diffusion.consistency import Improved, Original, Pairs, Tuned
from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.schedule import ddpm_sigmas
from climdown.training import Dataset, prepare
from climdown.training.objectives import (
    VALIDATION_SIGMAS,
    Batch,
    Consistency,
    Diffusion,
    energy_distance,
    make_objective,
)
from tests.training import with_consistency, with_training

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(training_config: PriorConfig, training_data: Path) -> Dataset:
    return prepare(training_config, training_data)


def diffusion(**changes: Any) -> Diffusion:
    return Diffusion(TrainingConfig(steps=1, **changes))


def uniform(count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(0))


def test_levels_of_edm_are_lognormal() -> None:
    levels = diffusion(sigma_mean=-0.6, sigma_std=1.4).sigmas(uniform(20_000))
    fit = scipy.stats.kstest(levels.log().numpy(), scipy.stats.norm(-0.6, 1.4).cdf)
    assert fit.pvalue > 1e-4


def test_levels_of_ddpm_are_its_thousand_equally_often() -> None:
    even = (torch.arange(3000) + 0.5) / 3000
    levels = diffusion(noise="ddpm").sigmas(even)
    assert levels.dtype == torch.float32
    every = ddpm_sigmas(1000)[:-1].float()
    assert torch.equal(levels.sort().values, every.sort().values.repeat_interleave(3))
    ends = diffusion(noise="ddpm").sigmas(torch.tensor([0.0, 1.0]))
    assert ends.tolist() == [every[0].item(), every[-1].item()]


def test_levels_of_the_variance_preserving_sde_come_from_times_drawn_evenly() -> None:
    levels = diffusion(noise="vp").sigmas(uniform(20_000)).double()
    # sigma^2 = exp(B) - 1 with B = 0.1 t + 9.95 t^2, solved for t.
    integral = torch.log1p(levels**2)
    times = (-0.1 + torch.sqrt(0.01 + 4.0 * 9.95 * integral)) / (2.0 * 9.95)
    assert scipy.stats.kstest(times.numpy(), scipy.stats.uniform(1e-5, 1.0).cdf).pvalue > 1e-4
    assert times.max() <= 1.0 + 1e-6
    first = diffusion(noise="vp").sigmas(torch.zeros(1)).item()
    assert first == pytest.approx(math.sqrt(math.expm1(1e-6 + 9.95e-10)), rel=1e-4)


class Answer(nn.Module):
    """A network that says one number, with dropout if wanted."""

    def __init__(self, value: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.value, self.dropout = value, nn.Dropout(dropout)

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        said: Tensor = self.dropout(torch.full_like(x, self.value))
        return said


def model(value: float = 0.3, *, dropout: float = 0.0, sigma_min: float = 0.0) -> Denoiser:
    return Denoiser(
        Answer(value, dropout),
        static=torch.zeros(1, 4, 4),
        mask=torch.ones(2, 4, 4),
        sigma_min=sigma_min,
    )


def batch(count: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    shape = (count, 2, 4, 4)
    x0, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    level = torch.rand(count, generator=generator)
    group = torch.zeros(count, dtype=torch.long)
    return Batch(x0, torch.ones(shape), torch.ones(count, 3), level, noise, group)


@pytest.mark.parametrize("kind", ["edm", "ddpm", "vp"])
def test_the_loss_of_ddpm_and_vp_is_that_of_the_noise(kind: str) -> None:
    objective, given, denoiser = diffusion(noise=kind), batch(), model()
    losses = objective.loss(denoiser, None, given, 0.5)
    sigma = objective.sigmas(given.uniform).reshape(-1, 1, 1, 1)
    x = given.x0 + sigma * given.noise
    denoised = denoiser(x, sigma.flatten(), given.calendar)
    error = ((denoised - given.x0) ** 2).mean(dim=(1, 2, 3)) / sigma.flatten() ** 2
    noise_error = (((x - denoised) / sigma - given.noise) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(noise_error, error, rtol=2e-3, atol=1e-6)
    gain = 1.0 + sigma.flatten() ** 2 if kind == "edm" else 1.0
    torch.testing.assert_close(losses, gain * error, rtol=1e-5, atol=0)
    assert not objective.needs_teacher
    assert objective.teacher_decay(0.5) == 0.0


def test_a_part_of_a_batch_is_its_rows() -> None:
    given = batch(5).part(slice(1, 4))
    assert len(given) == 3
    assert torch.equal(given.x0, batch(5).x0[1:4])
    assert torch.equal(given.uniform, batch(5).uniform[1:4])
    assert torch.equal(given.to(CPU).noise, batch(5).noise[1:4])


@dataclass(frozen=True)
class Same:
    """A recipe whose two levels are one."""

    level: float = 1.0

    def pairs(self, uniform: Tensor, progress: float) -> Pairs:
        levels = torch.full_like(uniform, self.level)
        return Pairs(levels, levels, torch.ones_like(levels))

    def distance(self, one: Tensor, other: Tensor, valid: Tensor) -> Tensor:
        return ((one - other).abs() * valid).mean(dim=(1, 2, 3))

    def teacher_decay(self, progress: float) -> float:
        return 0.0


def test_both_answers_have_the_same_units_dropped() -> None:
    objective = Consistency(Same(), 80.0)
    dropping = model(dropout=0.5, sigma_min=0.002).train()
    for _ in range(3):
        losses = objective.loss(dropping, None, batch(), 0.0)
        assert (losses == 0).all()
    # Dropout differs from call to call all the same.
    one, other = (dropping(torch.ones(1, 2, 4, 4), torch.ones(1), torch.ones(1, 3)) for _ in "ab")
    assert not torch.equal(one, other)


def test_the_teacher_answers_for_the_lower_level_where_there_is_one() -> None:
    objective = Consistency(Same(), 80.0)
    student, teacher = model(0.3, sigma_min=0.002), model(0.5, sigma_min=0.002)
    losses = objective.loss(student, teacher, batch(), 0.0)
    # c_out at sigma 1: (1 - 0.002) / sqrt(2).
    expected = torch.full((3,), 0.2 * 0.998 / math.sqrt(2.0))
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=0)
    assert (objective.loss(student, None, batch(), 0.0) == 0).all()


def test_no_gradient_flows_through_the_lower_level() -> None:
    denoiser = Denoiser(
        nn.Identity(), static=torch.zeros(1, 4, 4), mask=torch.ones(2, 4, 4), sigma_min=0.002
    )
    factor = nn.Parameter(torch.ones(()))

    class Scaled(nn.Module):
        def forward(self, x: Tensor, *_: Tensor) -> Tensor:
            return factor * x

    denoiser.network = Scaled()
    Consistency(Improved(), 80.0).loss(denoiser, None, batch(), 0.0).sum().backward()  # type: ignore[no-untyped-call]
    through = factor.grad
    assert through is not None
    given, recipe = batch(), Improved()
    pairs = recipe.pairs(given.uniform, 0.0)
    x0, noise = given.x0, given.noise
    with torch.no_grad():
        low = denoiser(x0 + pairs.low.reshape(-1, 1, 1, 1) * noise, pairs.low, given.calendar)
    high = denoiser(x0 + pairs.high.reshape(-1, 1, 1, 1) * noise, pairs.high, given.calendar)
    total = (pairs.weight * recipe.distance(high, low, given.valid)).sum()
    (expected,) = torch.autograd.grad(total, factor)
    torch.testing.assert_close(through, expected)


def test_a_configuration_chooses_its_objective(training_config: PriorConfig) -> None:
    assert make_objective(training_config) == Diffusion(training_config.training)
    settings = {"sigma_min": 0.01, "sigma_max": 50.0, "mean": -0.5, "std": 1.5}
    for recipe, expected in (
        ("improved", Improved(0.01, 50.0, -0.5, 1.5)),
        ("original", Original(0.01, 50.0)),
    ):
        chosen = make_objective(with_consistency(training_config, recipe=recipe, **settings))
        assert chosen == Consistency(expected, 50.0)
        assert chosen.needs_teacher == (recipe == "original")
    tuned = with_consistency(training_config, recipe="tuned", initial="x", stages=5, **settings)
    assert make_objective(tuned) == Consistency(Tuned(0.01, -0.5, 1.5, 5), 50.0)
    assert ConsistencyConfig(initial="x").sigma_max == 80.0


def gaussian(count: int, seed: int, *, std: float = 1.0) -> Tensor:
    """Fields of correlated cells: a smooth part and a rough one."""
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.randn(count, 1, 2, 2, generator=generator)
    rough = torch.randn(count, 1, 8, 8, generator=generator)
    wide = smooth.repeat_interleave(4, -1).repeat_interleave(4, -2)
    return std * (wide + 0.5 * rough)


def test_samples_of_one_distribution_have_no_distance_in_the_mean() -> None:
    found = np.array(
        [energy_distance(gaussian(30, 2 * i), gaussian(30, 2 * i + 1)) for i in range(200)]
    )
    error = found.std(ddof=1) / math.sqrt(len(found))
    # The mean is divided by one that is estimated: a bias of the second order is left.
    assert abs(found.mean()) < 4.0 * error
    assert error < 0.005
    assert (found < 0).any()


def test_fields_are_not_compared_with_the_one_they_come_from() -> None:
    real = gaussian(20, 0)
    assert energy_distance(real, real) == pytest.approx(0.0, abs=1e-12)
    assert energy_distance(real[torch.arange(19, -1, -1)], real) < -0.01


def test_always_answering_the_mean_costs_the_square_root_of_two_less_one() -> None:
    # E|Y - Y'| = sqrt(2) E|Y| for Gaussian Y, whatever its covariance.
    real = gaussian(600, 0)
    found = energy_distance(torch.zeros_like(real), real)
    assert found == pytest.approx(math.sqrt(2.0) - 1.0, abs=0.02)


def test_too_little_spread_costs_more_the_less_it_is() -> None:
    real = gaussian(200, 0)
    found = [energy_distance(gaussian(200, 1, std=std), real) for std in (1.0, 0.7, 0.5, 0.25, 0.0)]
    assert found == sorted(found)
    assert abs(found[0]) < 0.02 < found[2]
    assert energy_distance(gaussian(200, 1, std=1.5), real) > 0.02


def test_a_shift_costs_too() -> None:
    real = gaussian(100, 0)
    found = [energy_distance(gaussian(100, 1) + shift, real) for shift in (0.0, 0.3, 1.0, 3.0)]
    assert found == sorted(found)
    assert found[-1] > 1.0


def test_fine_parts_count_for_themselves() -> None:
    """Fields without what is rougher than four cells differ, though little of the whole does."""
    real, drawn = gaussian(200, 0), gaussian(200, 1)
    pooled = nn.functional.avg_pool2d(drawn, 4)
    blurred = pooled.repeat_interleave(4, -1).repeat_interleave(4, -2)
    assert energy_distance(blurred, real) > 0.5 * (math.sqrt(2.0) - 1.0) - 0.02


def test_odd_sizes_have_fine_parts_too() -> None:
    real, drawn = (gaussian(60, seed)[..., :7, :5] for seed in (0, 1))
    assert abs(energy_distance(drawn, real)) < 0.06
    assert energy_distance(0.0 * drawn, real) == pytest.approx(math.sqrt(2.0) - 1.0, abs=0.08)


def test_scores_of_a_consistency_model_are_distances_by_noise_level(
    training_config: PriorConfig, dataset: Dataset
) -> None:
    objective = make_objective(with_consistency(training_config))
    denoiser = model_like(dataset, sigma_min=0.002)
    scores = objective.validate(denoiser, dataset.validation, CPU, 2)
    assert list(scores) == ["0.5", "2", "80"]
    # A network that says zero leaves c_skip x.
    x0, valid, _ = dataset.validation.take(torch.arange(6))
    for level in (0.5, 2.0, 80.0):
        generator = torch.Generator().manual_seed(round(1000 * level))
        noise = torch.randn(x0.shape, generator=generator)
        skip = 1.0 / ((level - 0.002) ** 2 + 1.0)
        expected = energy_distance(skip * (x0 + level * noise) * valid, x0)
        assert scores[f"{level:g}"] == pytest.approx(expected, rel=1e-4)
    for chunk in (1, 4, 100):
        again = objective.validate(denoiser, dataset.validation, CPU, chunk)
        assert again == pytest.approx(scores, rel=1e-5)


def model_like(dataset: Dataset, *, sigma_min: float) -> Denoiser:
    mask = torch.from_numpy(dataset.fields["mask"].copy())
    return Denoiser(Answer(0.0), static=torch.zeros(1, 6, 8), mask=mask, sigma_min=sigma_min)


def test_scores_of_a_diffusion_model_do_not_depend_on_how_they_are_divided(
    training_config: PriorConfig, dataset: Dataset
) -> None:
    objective = make_objective(with_training(training_config))
    denoiser = model_like(dataset, sigma_min=0.0)
    whole = objective.validate(denoiser, dataset.validation, CPU, 100)
    assert list(whole) == [f"{level:g}" for level in VALIDATION_SIGMAS]
    parts = objective.validate(denoiser, dataset.validation, CPU, 4)
    assert parts == pytest.approx(whole, rel=1e-5)
