"""The bridge against closed forms: for Gaussian fields it is affine in its noise, step by step.

So a run with no noise gives the mean over all draws, and runs with noise in a single step give
what that step adds to their variance: both exact, free of sampling error.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from climdown.diffusion import solvers
from climdown.diffusion.sampler import Noise, Sampler
from climdown.diffusion.schedule import geometric_sigmas, karras_sigmas
from climdown.errors import ConfigError
from climdown.methods.bridge import Bridge, ReferenceBridge
from climdown.metrics.spectra import white_noise_power
from climdown.pipeline.planning import make_plan
from climdown.priors.prior import Prior, write_prior
from climdown.priors.tensors import spectrum_field
from tests.commands import Shell, read_members, run_config, write_tas
from tests.denoisers import random_noise
from tests.posterior import SHAPE, observe

VARIANCE, CENTRE, NOISE = 1.7, 0.4, 1.3


def denoise(x: Tensor, sigma: float) -> Tensor:
    """E[x0 | x] of independent cells N(CENTRE, VARIANCE)."""
    return CENTRE + VARIANCE / (VARIANCE + sigma**2) * (x - CENTRE)


def noise_in(step: int | None) -> Noise:
    """Ones in a single step, or nothing at all."""
    return lambda asked: torch.full((1, *SHAPE), float(asked == step), dtype=torch.float64)


def moments(method: Sampler, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of each cell over all draws, for cells that do not mix."""
    mean = method.sample(denoise, observe(1), noise_in(None))
    parts = [method.sample(denoise, observe(1), noise_in(s)) - mean for s in range(steps + 1)]
    return mean, torch.stack(parts).square().sum(dim=0)


def guess() -> Tensor:
    return observe(1).interpolate(torch.zeros(1, *SHAPE, dtype=torch.float64))


def by_recursion(sigmas: Tensor) -> tuple[Tensor, float]:
    """Mean and variance that Euler and Maruyama's steps have, one after the other."""
    mean, variance = guess(), float(sigmas[0]) ** 2
    for i in range(len(sigmas) - 1):
        sigma = float(sigmas[i])
        away = 2.0 * math.log(sigma / float(sigmas[i + 1]))
        kept = 1.0 - away * sigma**2 / (VARIANCE + sigma**2)
        mean = CENTRE + kept * (mean - CENTRE)
        fresh = 0.0 if i == len(sigmas) - 2 else away * sigma**2
        variance = kept**2 * variance + fresh
    return mean, variance


def exact() -> tuple[Tensor, float]:
    """Of x0 given x = guess + NOISE n, n drawn too."""
    share = VARIANCE / (VARIANCE + NOISE**2)
    mean = CENTRE + share * (guess() - CENTRE)
    return mean, share * NOISE**2 + share**2 * NOISE**2


@pytest.mark.parametrize("steps", [1, 4, 30])
def test_every_step_of_the_reference_is_that_of_euler_and_maruyama(steps: int) -> None:
    method = ReferenceBridge(NOISE, steps)
    mean, variance = moments(method, steps)
    ladder = geometric_sigmas(steps, sigma_min=0.01, sigma_max=NOISE)
    expected = by_recursion(ladder)
    torch.testing.assert_close(mean, expected[0], rtol=0, atol=1e-12)
    assert (variance - expected[1]).abs().max() < 1e-12


def test_five_hundred_steps_are_close_to_the_continuous_way_and_more_are_closer() -> None:
    errors = []
    for steps in (250, 500, 1000):
        mean, variance = by_recursion(geometric_sigmas(steps, sigma_min=0.01, sigma_max=NOISE))
        errors.append((float((mean - exact()[0]).abs().max()), abs(variance - exact()[1])))
    # Of first order in the step; the largest mean is 2.
    ratios = [a / b for a, b in zip(errors[0], errors[2], strict=True)]
    assert ratios == pytest.approx([4.0, 4.0], rel=0.15)
    assert errors[1][0] < 0.01
    assert errors[1][1] < 0.01 * exact()[1]


def test_the_fast_way_ends_at_the_same_mean_and_variance() -> None:
    steps = 32
    mean, variance = moments(Bridge(NOISE, steps, keep_means=False), steps)
    assert float((mean - exact()[0]).abs().max()) < 0.01
    # The last step draws nothing: sigma_min^2 is lost, and little to the 32 steps.
    assert float((variance / exact()[1] - 1.0).abs().max()) < 0.02


def test_noise_of_a_step_is_drawn_once_and_none_by_the_last_one() -> None:
    asked: list[int] = []
    draw = random_noise(1, *SHAPE)

    def noise(step: int) -> Tensor:
        asked.append(step)
        return draw(step)

    ReferenceBridge(NOISE, 5).sample(denoise, observe(1), noise)
    assert [step for step in asked if step] == [1, 2, 3, 4]


@pytest.mark.parametrize("make", [Bridge, ReferenceBridge])
@pytest.mark.parametrize("keep", [True, False])
def test_draws_have_the_observed_means_if_they_are_kept(make: Any, keep: bool) -> None:
    method = make(NOISE, 8, keep_means=keep)
    x = method.sample(denoise, observe(20), random_noise(20, *SHAPE))
    error = float((torch.nn.functional.avg_pool2d(x[:, 0], 2) - observe(20).coarse[0]).abs().max())
    assert (error < 1e-6) == keep
    assert keep or error > 0.5


@pytest.mark.parametrize("make", [Bridge, ReferenceBridge])
def test_kept_means_are_those_of_every_answer_not_of_the_last_alone(make: Any) -> None:
    # Linear ones of independent cells would let differences within a block go their own way.
    def bent(x: Tensor, sigma: float) -> Tensor:
        return torch.sin(denoise(x, sigma))

    kept, left = (
        make(NOISE, 8, keep_means=keep).sample(bent, observe(3), random_noise(3, *SHAPE))
        for keep in (True, False)
    )
    assert float((kept - observe(3).project(left)).abs().max()) > 0.05


def test_the_papers_defaults_are_the_references() -> None:
    method = ReferenceBridge(NOISE)
    assert (method.steps, method.sigma_min, method.keep_means) == (500, 0.01, False)
    # From 500 the whole ladder has the levels of sigma(t) = 0.01 50000^t.
    levels = geometric_sigmas(4)
    np.testing.assert_allclose(levels, 0.01 * 50000.0 ** np.array([1, 0.75, 0.5, 0.25, 0]))


def test_the_fast_solver_starts_anywhere_and_from_nothing_as_before() -> None:
    ladder = karras_sigmas(6, sigma_min=0.02, sigma_max=NOISE)
    nothing = torch.zeros(1, *SHAPE, dtype=torch.float64)
    one = solvers.sample_fast(denoise, random_noise(1, *SHAPE), ladder)
    other = solvers.sample_fast(denoise, random_noise(1, *SHAPE), ladder, start=nothing)
    assert torch.equal(one, other)


@pytest.mark.parametrize(("steps", "low"), [(0, 0.01), (3, 500.0), (3, 0.0)])
def test_a_geometric_ladder_descends_in_at_least_a_step(steps: int, low: float) -> None:
    with pytest.raises(ValueError, match="need "):
        geometric_sigmas(steps, sigma_min=low)


# --- as a user meets it


@pytest.fixture
def prior(tiny_prior: Prior, tmp_path: Path) -> Prior:
    """The tiny prior with white spectra of variance 4."""
    fields = dict(tiny_prior.fields)
    for variable, mask in zip(tiny_prior.card.variables, tiny_prior.mask, strict=True):
        power = 4.0 * white_noise_power(mask.shape)
        fields[spectrum_field(variable.name)] = power.astype(np.float32)
    weights = tiny_prior.denoiser().state_dict()
    card = replace(tiny_prior.card, name="white")
    return write_prior(tmp_path / "white", card, weights, fields, "# white\n")


def test_the_bridge_runs_and_says_its_noise(shell: Shell, prior: Prior) -> None:
    write_tas(Path("tas.nc"))
    words = ("run", "--method", "bridge", "tas.nc", "--prior", prior.folder, "--members", 2)
    result = shell(*words, "out.nc")
    assert result.code == 0, result.err
    assert "bridge, fast sampler, 4 steps, noise scale 2" in result.err
    members = read_members("out.nc")
    assert np.nanmax(np.abs(members[:, 0] - members[:, 1])) > 0.1
    result = shell(*words, "--sampler", "reference", "--steps", 3, "--noise-scale", "0.5", "two.nc")
    assert result.code == 0, result.err
    assert "bridge, reference sampler, 3 steps, noise scale 0.5" in result.err
    assert np.isfinite(read_members("two.nc")).any()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Bridge(2.0, 4, 0.02, keep_means=True)),
        ({"keep_means": False, "steps": 7}, Bridge(2.0, 7, 0.02, keep_means=False)),
        ({"sampler": "reference", "noise_scale": 1.5}, ReferenceBridge(1.5)),
        (
            {"sampler": "reference", "keep_means": True, "steps": 9},
            ReferenceBridge(2.0, 9, keep_means=True),
        ),
    ],
)
def test_options_reach_the_sampler(
    options: Any, expected: Bridge | ReferenceBridge, prior: Prior, tmp_path: Path
) -> None:
    source, config = write_tas(tmp_path / "tas.nc"), run_config(method="bridge", **options)
    plan = make_plan([source], tmp_path / "out.nc", prior=prior, config=config)
    method = plan.method.sampler(plan.decided, plan.problem)
    assert isinstance(method, Bridge | ReferenceBridge)
    assert method.noise_scale == pytest.approx(expected.noise_scale, rel=1e-3)
    assert replace(method, noise_scale=expected.noise_scale) == expected


@pytest.mark.parametrize("sampler", ["fast", "reference"])
def test_noise_at_which_the_bridge_ends_is_refused(
    sampler: Any, prior: Prior, tmp_path: Path
) -> None:
    source = write_tas(tmp_path / "tas.nc")
    config = run_config(method="bridge", sampler=sampler, noise_scale=0.01)
    message = (
        r"the noise scale is 0\.01, and the bridge ends at noise of 0\.0.*larger --noise-scale"
    )
    with pytest.raises(ConfigError, match=message):
        make_plan([source], tmp_path / "out.nc", prior=prior, config=config)
