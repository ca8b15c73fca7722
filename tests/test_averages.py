"""Averages of weights: the shape of what they remember, against its closed forms."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from climdown.config import PriorConfig
from climdown.diffusion.denoiser import Denoiser
from climdown.training import Dataset, Trainer, prepare, train_diffusion
from climdown.training.averages import decay, power_exponent, update
from tests.training import advance, with_training


@pytest.fixture(scope="module")
def dataset(training_config: PriorConfig, training_data: Path) -> Dataset:
    return prepare(training_config, training_data)


def shares(value: float, profile: str, steps: int) -> npt.NDArray[np.float64]:
    """How much of the weights after each step is in the average at the end, shape (steps + 1,).

    The first entry is that of the weights before the first step.
    """
    parts = np.zeros(steps + 1)
    parts[0] = 1.0
    for step in range(steps):
        kept = decay(value, profile, step)
        parts[: step + 1] *= kept
        parts[step + 1] = 1.0 - kept
    return parts


@pytest.mark.parametrize("width", [0.03, 0.05, 0.1, 0.2, 0.25])
def test_a_power_average_has_the_relative_width_it_is_named_by(width: float) -> None:
    steps = 4000
    parts = shares(width, "power", steps)
    assert parts.sum() == pytest.approx(1.0)
    assert parts[0] == 0.0, "nothing is left of the random weights"
    times = np.arange(steps + 1) / steps
    mean = (parts * times).sum()
    std = np.sqrt((parts * (times - mean) ** 2).sum())
    assert std == pytest.approx(width, rel=0.005)
    gamma = power_exponent(width)
    assert mean == pytest.approx((gamma + 1.0) / (gamma + 2.0), abs=1e-3)
    # The profile is a power of the time itself.
    late = slice(steps // 2, steps)
    slope = np.polyfit(np.log(times[late]), np.log(parts[late]), 1)[0]
    assert slope == pytest.approx(gamma, rel=0.01, abs=0.01)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 6.94, 16.97])
def test_the_exponent_inverts_the_formula_of_the_width(gamma: float) -> None:
    width = np.sqrt((gamma + 1.0) / ((gamma + 2.0) ** 2 * (gamma + 3.0)))
    assert power_exponent(float(width)) == pytest.approx(gamma, rel=1e-9)


def test_the_exponents_of_the_paper() -> None:
    # Karras et al. 2024, Sec. 3.1: widths of 0.05 and 0.10 are exponents of 16.97 and 6.94.
    assert power_exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert power_exponent(0.10) == pytest.approx(6.94, abs=0.005)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.2887, 1.0, float("nan")])
def test_a_width_that_no_average_has_is_refused(width: float) -> None:
    message = re.escape(f"no power function's average has relative width {width}")
    with pytest.raises(ValueError, match=message):
        power_exponent(width)


def test_an_exponential_average_forgets_at_its_rate_once_it_is_old() -> None:
    parts = shares(0.9, "exponential", 400)
    assert parts.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(parts[300:400] / parts[301:], 0.9, rtol=1e-12)
    # Young, it is shorter: the random weights leave soon.
    assert parts[0] < 1e-12
    assert [decay(0.999, "exponential", step) for step in (0, 1, 90)] == [0.1, 2 / 11, 0.91]
    assert decay(0.999, "exponential", 10**6) == 0.999


def test_an_update_moves_each_parameter_towards_the_model() -> None:
    average, model = nn.Linear(3, 2), nn.Linear(3, 2)
    before = [p.clone() for p in average.parameters()]
    update(average, model, 0.75)
    for old, new, target in zip(before, average.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * target)
    update(average, model, 0.0)
    for new, target in zip(average.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(new, target, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("profile", "values"), [("exponential", (0.5, 0.99)), ("power", (0.1, 0.2))]
)
def test_averages_are_the_sums_their_profiles_say(
    profile: str, values: tuple[float, float], training_config: PriorConfig, dataset: Dataset
) -> None:
    config = with_training(training_config, ema=values, ema_profile=profile, validate_every=99)
    trainer = Trainer(config, dataset, torch.device("cpu"))
    name = "network.conv_in.conv.weight"
    seen = [trainer.model.state_dict()[name].clone()]
    run = trainer.run()
    for _ in range(5):
        next(run)
        seen.append(trainer.model.state_dict()[name].clone())
    for average, value in zip(trainer.averages, values, strict=True):
        parts = shares(value, profile, 5)
        expected = sum(float(part) * weights for part, weights in zip(parts, seen, strict=True))
        torch.testing.assert_close(average.state_dict()[name], expected, check_dtype=False)


def test_the_average_that_validates_best_is_kept_and_named_on_the_card(
    training_config: PriorConfig,
    training_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    widths = (0.05, 0.1, 0.2)
    config = with_training(training_config, ema=widths, ema_profile="power", validate_every=3)
    scores = iter([0.9, 0.7, 0.8, 0.75, 0.71, 0.72, 0.7])  # twice three, and of the best once more
    seen: list[torch.Tensor] = []

    def score(trainer: Trainer, model: Denoiser) -> dict[str, float]:
        seen.append(model.state_dict()["network.conv_in.conv.weight"].clone())
        return {"1": next(scores)}

    monkeypatch.setattr(Trainer, "scores", score)
    prior = train_diffusion(config, data=training_data, output=tmp_path)
    assert (prior.card.training["ema"], prior.card.training["validation_loss"]) == (0.1, 0.7)
    weights = prior.denoiser().state_dict()["network.conv_in.conv.weight"]
    assert torch.equal(weights, seen[1].half().float())
    assert not torch.equal(weights, seen[0].half().float())


def test_a_step_tells_the_scores_of_the_best_average(
    training_config: PriorConfig, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_training(training_config, ema=(0.5, 0.9), validate_every=1)
    scores = iter([0.9, 0.7, 0.6, 0.8])
    monkeypatch.setattr(Trainer, "scores", lambda *_: {"1": next(scores)})
    told = advance(Trainer(config, dataset, torch.device("cpu")), 2)
    assert [step.score for step in told] == [0.7, 0.6]
    assert dataclasses.replace(told[0], validation={}).score is None
