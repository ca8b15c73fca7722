"""A method is one file: what it declares reaches the command line, the plan and the sampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from torch import Tensor

from climdown.config import RunConfig
from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.sampler import Noise, Observation
from climdown.errors import ConfigError
from climdown.methods import registry
from climdown.methods.method import Method, Problem
from climdown.options import from_mapping, option, options_of, require
from climdown.pipeline.choices import choose
from climdown.priors.prior import Prior
from climdown.stream import parts, parts_folder
from tests.commands import Shell, read_members, run_config, write_pr, write_tas

# --- a method of somebody else: this is all that it takes


@dataclass(frozen=True)
class ToyOptions:
    """The options of the toy."""

    strength: float = option(1.0, "Noise that is added, in normalised units.")
    colour: Literal["white", "none"] = option("white", "Of the noise.")

    def __post_init__(self) -> None:
        require(self.strength >= 0, f"strength is {self.strength:g}; need at least 0")


class Toy(Method):
    """Noise on the interpolated input."""

    name = "toy"
    summary = "Adds noise to the interpolated input."
    source = "none"
    members = 3
    Options = ToyOptions

    def decide(self, options: ToyOptions, problem: Problem) -> dict[str, Any]:
        return {"strength": options.strength if options.colour == "white" else 0.0}

    def sampler(self, decided: Mapping[str, Any], problem: Problem) -> ToySampler:
        return ToySampler(decided["strength"])


@dataclass(frozen=True)
class ToySampler:
    """A sampler that asks no network."""

    strength: float

    def sample(self, denoise: Denoise, observation: Observation, noise: Noise) -> Tensor:
        first = noise(0)
        return observation.project(observation.interpolate(first) + self.strength * first)


# ---


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Method:
    """The toy, registered for one test."""
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    registry.register(Toy())
    return registry.find_method("toy")


def test_a_method_of_ones_own_runs_through_the_real_command_line(
    shell: Shell, toy: Method, tiny_prior: Prior
) -> None:
    write_tas(Path("tas.nc"))
    words = ("run", "--method", "toy", "tas.nc", "--prior", tiny_prior.folder)
    result = shell(*words, "out.nc", "--strength", "0.5")
    assert result.code == 0, result.err
    assert "sampler: toy, strength 0.5" in result.err
    members = read_members("out.nc")
    assert members.shape[1] == 3  # its own default
    assert np.nanmax(np.abs(members[:, 0] - members[:, 1])) > 0.1
    assert shell(*words, "plain.nc", "--colour", "none", "--members", 2).code == 0
    plain = read_members("plain.nc")
    np.testing.assert_array_equal(plain[:, 0], plain[:, 1])


def test_its_options_stand_in_the_help_and_are_checked(
    shell: Shell, toy: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    text = " ".join(shell("run", "--help").out.split())
    assert "toy: Adds noise to the interpolated input." in text
    assert "Of toy. Noise that is added, in normalised units. [default: 1.0]" in text
    assert "--colour white|none" in text
    assert "1 of bilinear, delta and bcsd" in text
    write_tas(Path("tas.nc"))
    for words, message in (
        (("--method", "toy", "--strength", "-1"), "strength is -1; need at least 0"),
        (("--method", "toy", "--strength", "much"), "--strength is 'much'"),
        (("--method", "toy", "--colour", "red"), "--colour is 'red'; expected white or none"),
        (("--method", "toy", "--steps", "3"), "--steps is an option of zssd, cm, bridge and ot-d"),
        (("--strength", "2"), "--strength is an option of toy, not of zssd; leave it out"),
    ):
        result = shell("run", "tas.nc", "out.nc", *words)
        assert (result.code, message in result.message) == (2, True), result.err


def test_it_resumes_and_knows_a_run_with_other_options(
    shell: Shell, toy: Method, tiny_prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tas(Path("tas.nc"), days=[day + 0.5 for day in range(6)])
    words = ("run", "--method", "toy", "tas.nc", "--prior", tiny_prior.folder, "--batch-size", 3)
    monkeypatch.setattr(parts, "UNIT_BYTES", 1)
    drawn: list[int] = []
    sample = ToySampler.sample

    def interrupted(self: ToySampler, *arguments: Any) -> Tensor:
        drawn.append(1)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return sample(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(ToySampler, "sample", interrupted)
        assert shell(*words, "out.nc").code == 130
    assert len(list(parts_folder(Path("out.nc")).glob("unit-*.npy"))) == 3
    other = shell(*words, "out.nc", "--strength", 2)
    assert other.code == 7
    assert "strength: 1.0 then, 2.0 now" in other.message
    result = shell(*words, "out.nc")
    assert result.code == 0, result.err
    assert "resuming: 9 of 18 fields are done" in result.err
    assert shell(*words, "whole.nc").code == 0
    np.testing.assert_array_equal(read_members("out.nc"), read_members("whole.nc"))


# --- the declarations


METHODS = registry.methods()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_declares_itself(method: Method) -> None:
    assert registry.find_method(method.name) is method
    assert method.summary.endswith(".")
    assert method.source.startswith(("doi:", "arXiv:"))
    assert set(method.prior_kinds) <= {"diffusion", "consistency"}
    for declared in options_of(method.Options):
        assert declared.help.endswith("."), declared
        assert declared.default is not None or declared.default_text, declared
    assert method.Options() == from_mapping(method.Options, {})


def test_an_option_of_several_methods_is_shown_once_with_its_owners() -> None:
    options = {option.name: option for option in registry.all_options()}
    assert len(options) == len(registry.all_options())
    assert options["noise_scale"].help.startswith("Of cm and bridge. Scales drawn anew")
    assert options["guidance_scale"].help.startswith("Of zssd: Pull")
    assert options["guidance_scale"].default_text == "zssd: the prior's; ot-diffusion: 1.0"
    assert registry.owners_of("steps") == ["zssd", "cm", "bridge", "ot-diffusion"]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_an_option_of_another_method_is_refused_with_its_owners(method: Method) -> None:
    own = {option.name for option in options_of(method.Options)}
    for declared in registry.all_options():
        if declared.name not in own:
            owners = registry.listed(registry.owners_of(declared.name), "and")
            message = f"{declared.flag} is an option of {owners}, not of {method.name}; leave it"
            with pytest.raises(ConfigError, match=message):
                registry.build_options(method, {declared.name: declared.default})


def test_a_method_registered_under_a_name_takes_its_place(toy: Method) -> None:
    again = Toy()
    registry.register(again)
    assert registry.find_method("toy") is again
    assert [method.name for method in registry.methods()].count("toy") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "toi"}, "unknown method 'toi'; expected zssd, cm, bridge, ot-diffusion, bil"),
        ({"bias_options": {"window": 5}}, "are for bias adjustment; give --bias qdm or ot"),
        (
            {"bias": "qdm", "historical": ("h.nc",), "bias_options": {"window": 4}},
            "window is 4 days; need an odd number",
        ),
        (
            {"bias": "qdm", "historical": ("h.nc",), "bias_options": {"epsilon": 4}},
            "unknown entry 'epsilon'",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(run_config(**changes))


def test_choices_are_resolved_without_any_file() -> None:
    chosen = choose(RunConfig(method="cm", options={"steps": 4}, members=2))
    assert (chosen.method.name, chosen.options.steps, chosen.members) == ("cm", 4, 2)
    assert (chosen.adjustment, chosen.adjustment_options) == (None, None)


def test_the_noise_of_a_new_method_can_be_autocorrelated(
    shell: Shell, toy: Method, tiny_prior: Prior
) -> None:
    write_tas(Path("tas.nc"))
    write_pr(Path("pr.nc"))
    words = ("tas.nc", "pr.nc", "out.nc", "--prior", tiny_prior.folder, "--coherence", "0.5")
    result = shell("run", "--method", "toy", *words, "--dry-run")
    assert result.code == 0, result.err
    assert "coherent in time: tas 0.50, pr 0.50" in result.out
