"""Members as sequences: which noise a run takes, and that its members follow from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from climdown import pipeline
from climdown.config import RunConfig
from climdown.diffusion.noise import AutocorrelatedNoise, KeyedNoise, keyed_normal
from climdown.errors import ConfigError, Requeue
from climdown.metrics.autocorrelation import lag_one_autocorrelation
from climdown.pipeline.plan import Plan, describe
from climdown.pipeline.planning import make_plan
from climdown.priors.prior import Prior, write_prior
from tests.commands import Shell, read_members, write_tas
from tests.priors import FINE

SHAPE = (2, *FINE.shape)
TOLD = {"tas": 0.4, "pr": 0.1}


@pytest.fixture(scope="module")
def told_prior(tiny_prior: Prior, tmp_path_factory: pytest.TempPathFactory) -> Prior:
    """The tiny prior with coherence on its card."""
    return retold(tiny_prior, tmp_path_factory.mktemp("told"), TOLD)


def retold(prior: Prior, folder: Path, lags: dict[str, float], **changes: Any) -> Prior:
    card = dataclasses.replace(prior.card, lag_correlation=lags, **changes)
    return write_prior(folder, card, prior.denoiser().state_dict(), prior.fields, "# told\n")


def plan_of(
    prior: Prior, folder: Path, days: Sequence[float], coherence: Any, **options: Any
) -> Plan:
    source = write_tas(folder / f"tas{len(list(folder.iterdir()))}.nc", days=days, **options)
    config = RunConfig(coherence=coherence, members=2)
    return make_plan([source], folder / "out.nc", prior=prior, config=config)


def words(plan: Plan) -> str:
    return dict(describe(plan))["members"]


DAILY = (0.5, 1.5, 2.5)


@pytest.mark.parametrize(
    ("coherence", "days", "expected", "told"),
    [
        ("auto", DAILY, TOLD, "coherent in time: tas 0.40, pr 0.10"),
        ("auto", (0.5,), TOLD, "coherent in time: tas 0.40, pr 0.10"),
        ("auto", (0.0, 1.0, 5.0, 6.0), TOLD, "coherent in time: tas 0.40, pr 0.10"),
        ("auto", (0.0, 0.25, 0.5), {}, "itself (the prior tells coherence of steps of 1 days)"),
        ("auto", (0.5, 7.5, 38.5), TOLD, "coherent in time: tas 0.40, pr 0.10"),
        ("auto", (0.05, 0.95, 1.95, 2.95), {}, "itself (some dates share a time step)"),
        ("none", DAILY, {}, "each step drawn for itself"),
        (0, DAILY, {}, "each step drawn for itself"),
        (0.75, DAILY, {"tas": 0.75, "pr": 0.75}, "coherent in time: tas 0.75, pr 0.75"),
        (0.75, (0.0, 0.25, 0.5), {"tas": 0.75, "pr": 0.75}, "coherent in time: tas 0.75"),
    ],
)
def test_a_run_takes_the_coherence_asked_for_or_the_priors_own(
    coherence: Any,
    days: Sequence[float],
    expected: dict[str, float],
    told: str,
    told_prior: Prior,
    tmp_path: Path,
) -> None:
    plan = plan_of(told_prior, tmp_path, days, coherence)
    assert plan.autocorrelation is not None
    assert plan.autocorrelation.by_variable == expected
    assert told in words(plan)


@pytest.mark.parametrize(
    ("lags", "expected", "told"),
    [
        ({}, {}, "each step drawn for itself (the prior tells no coherence)"),
        ({"tas": 0.0, "pr": -0.1}, {}, "each step drawn for itself"),
        ({"tas": 0.99}, {"tas": 0.95, "pr": 0.0}, "coherent in time: tas 0.95, pr 0.00"),
    ],
)
def test_what_a_card_tells_is_taken_within_bounds(
    lags: dict[str, float],
    expected: dict[str, float],
    told: str,
    tiny_prior: Prior,
    tmp_path: Path,
) -> None:
    plan = plan_of(retold(tiny_prior, tmp_path / "prior", lags), tmp_path, DAILY, "auto")
    assert plan.autocorrelation is not None
    assert plan.autocorrelation.by_variable == expected
    assert words(plan).endswith(told)


def test_a_number_needs_steps_that_can_be_told_apart(told_prior: Prior, tmp_path: Path) -> None:
    message = (
        r"some dates share a time step of 1 days \(4 steps from .*\); .* leave --coherence out"
    )
    with pytest.raises(ConfigError, match=message):
        plan_of(told_prior, tmp_path, (0.05, 0.95, 1.95, 2.95), 0.5)


def test_none_draws_the_numbers_it_always_drew(told_prior: Prior, tmp_path: Path) -> None:
    plan = plan_of(told_prior, tmp_path, DAILY, "none")
    noise = plan.noise([(2, plan.time.dates[1])])
    assert isinstance(noise, KeyedNoise)
    assert torch.equal(noise(3)[0], keyed_normal("0/2/2001-01-02T12:00:00/3", SHAPE))


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_a_date_has_the_same_noise_in_every_file(
    calendar: str, told_prior: Prior, tmp_path: Path
) -> None:
    # From 30 December on, with and without gaps, at noon or midnight, one day alone.
    options: dict[str, Any] = {"calendar": calendar, "time_units": "days since 2003-12-30"}
    plans = {
        label: plan_of(told_prior, tmp_path, days, "auto", **options)
        for label, days in {
            "all": (0.5, 1.5, 2.5, 3.5, 4.5),
            "gaps": (0.5, 3.5, 4.5),
            "midnight": (0.0, 1.0, 2.0, 3.0, 4.0),
            "alone": (3.5,),
        }.items()
    }

    def drawn(label: str, index: int) -> torch.Tensor:
        plan = plans[label]
        noise = plan.noise([(1, plan.time.dates[index])])
        assert isinstance(noise, AutocorrelatedNoise)
        assert noise.correlations == (0.4, 0.1)
        return noise(2)[0]

    for label, index in (("gaps", 1), ("midnight", 3), ("alone", 0)):
        assert torch.equal(drawn(label, index), drawn("all", 3)), label
    assert not torch.equal(drawn("all", 2), drawn("all", 3))


def test_a_number_is_of_the_inputs_own_steps(tiny_prior: Prior, tmp_path: Path) -> None:
    for number, days in enumerate(((0.0, 0.25, 0.5, 1.0), (0.5, 1.5, 4.5), (14.0, 45.0))):
        folder = tmp_path / str(number)
        folder.mkdir()
        plan = plan_of(tiny_prior, folder, days, 0.5)
        noise = plan.noise([(1, date) for date in plan.time.dates])
        assert isinstance(noise, AutocorrelatedNoise)
        numbers = np.diff([step for _, step in noise.keys])
        assert numbers.tolist() == [[1, 1, 2], [1, 3], [1]][number]


def test_members_of_coherent_noise_are_sequences(tiny_prior: Prior, tmp_path: Path) -> None:
    source = write_tas(tmp_path / "tas.nc", days=[day + 0.5 for day in range(12)])
    found = []
    choices: tuple[Any, ...] = ("none", 0.8)
    for coherence in choices:
        output = tmp_path / f"{coherence}.nc"
        config = RunConfig(members=3, coherence=coherence)
        pipeline.downscale([source], output, prior=tiny_prior, config=config)
        members = read_members(output)
        departure = members - members.mean(axis=1, keepdims=True)
        areas = np.broadcast_to(FINE.areas, departure.shape[1:])
        found.append(lag_one_autocorrelation(departure[:-1], departure[1:], areas))
    # About each cell's mean over eleven pairs, white noise has -1/11.
    assert found[0] == pytest.approx(-1 / 11, abs=0.1)
    assert found[1] > found[0] + 0.3


def test_parts_of_another_coherence_are_refused(shell: Shell, told_prior: Prior) -> None:
    source = write_tas(Path("tas.nc"))
    with pytest.raises(Requeue):
        pipeline.downscale([source], "out.nc", prior=told_prior, should_stop=lambda: True)
    result = shell("run", "tas.nc", "out.nc", "--prior", told_prior.folder, "--coherence", "none")
    assert result.code == 7
    assert "coherence: {'tas': 0.4, 'pr': 0.1} then, {} now" in result.message


@pytest.mark.parametrize("value", [-0.1, 1.0, 1, float("nan"), "some"])
def test_a_coherence_out_of_bounds_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"coherence is {value}; expected 0 to below 1, auto or"):
        RunConfig(coherence=value)


def test_a_coherence_that_is_no_number_is_refused(shell: Shell) -> None:
    result = shell("run", "tas.nc", "out.nc", "--coherence", "much")
    assert result.code != 0
    assert "--coherence is 'much'; expected a number, auto or none" in result.message
