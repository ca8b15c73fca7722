"""The consistency method: exact for Gaussian data, and its noise found from spectra."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from climdown.config import RunConfig
from climdown.errors import ConfigError, PriorError
from climdown.methods.cm import ScaleAdaptiveCM
from climdown.metrics.spectra import tapered_spectrum, white_noise_power
from climdown.pipeline.choices import choose
from climdown.pipeline.planning import make_plan
from climdown.priors.card import FIELDS_FILE
from climdown.priors.prior import Prior, read_prior, write_prior
from climdown.priors.tensors import spectrum_field
from tests.commands import Shell, read_members, run_config, write_tas
from tests.denoisers import random_noise
from tests.posterior import SHAPE, observe

DEVIATION = 1.5


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """The exact consistency function of independent normal cells: the flow's start."""
    low = 0.002
    return x * math.sqrt((DEVIATION**2 + low**2) / (DEVIATION**2 + sigma**2))


@pytest.fixture
def cm_prior(tiny_prior: Prior, tmp_path: Path) -> Prior:
    """A consistency prior whose fields have white spectra of variance 4."""
    card = replace(tiny_prior.card, name="tiny-cm", kind="consistency", sigma_min=0.002)
    card = replace(card, sampling=replace(card.sampling, steps=1))
    fields = dict(tiny_prior.fields)
    for variable, mask in zip(card.variables, tiny_prior.mask, strict=True):
        fields[spectrum_field(variable.name)] = 4.0 * white_noise_power(mask.shape).astype(
            np.float32
        )
    weights = tiny_prior.denoiser().state_dict()
    return write_prior(tmp_path / "tiny-cm", card, weights, fields, "# tiny\n")


def test_the_expected_spectrum_of_white_noise_is_that_of_white_noise() -> None:
    known = np.ones((12, 16), dtype=bool)
    known[:4, :5] = False
    noise = np.random.default_rng(0).normal(size=(4000, *known.shape))
    _, power = tapered_spectrum(noise, known)
    # The mean taken off each field costs the first ring some of its power.
    np.testing.assert_allclose(power[1:], white_noise_power(known.shape)[1:], rtol=0.05)


@pytest.mark.parametrize("steps", [1, 3])
def test_strong_noise_replaces_the_input_and_fields_have_the_priors_variance(steps: int) -> None:
    count, sigma = 4000, 30.0
    method = ScaleAdaptiveCM(noise_scale=sigma, steps=steps)
    x = method.sample(gaussian, observe(count), random_noise(count, *SHAPE))
    independent = x[:, 2].flatten()
    bound = 5.0 * DEVIATION / math.sqrt(2 * independent.numel())
    # Of several steps the noise of each adds to what is kept, exactly for the last one alone.
    assert independent.std().item() == pytest.approx(DEVIATION, abs=bound + 0.01 * steps)


def test_little_noise_keeps_the_input() -> None:
    method = ScaleAdaptiveCM(noise_scale=0.01)
    x = method.sample(gaussian, observe(3), random_noise(3, *SHAPE))
    expected = observe(3).interpolate(x)
    torch.testing.assert_close(x, expected, rtol=0, atol=0.06)


@pytest.mark.parametrize(("keep", "largest"), [(True, 1e-6), (False, 10.0)])
def test_drawn_fields_have_the_observed_means_unless_told_otherwise(
    keep: bool, largest: float
) -> None:
    method = ScaleAdaptiveCM(noise_scale=3.0, steps=2, keep_means=keep)
    x = method.sample(gaussian, observe(5), random_noise(5, *SHAPE))
    means = torch.nn.functional.avg_pool2d(x[:, 0], 2)
    error = float((means - observe(5).coarse[0]).abs().max())
    assert (error > 0.1) != keep
    assert error < largest


def test_the_first_guess_has_the_observed_means() -> None:
    guess = observe(2).interpolate(torch.zeros(2, *SHAPE, dtype=torch.float64))
    means = torch.nn.functional.avg_pool2d(guess[:, 0], 2)
    torch.testing.assert_close(means, observe(2).coarse[0], rtol=0, atol=1e-9)
    assert torch.equal(guess[:, 1:], torch.zeros_like(guess[:, 1:]))


def test_cm_runs_in_one_evaluation_and_says_its_noise(shell: Shell, cm_prior: Prior) -> None:
    write_tas(Path("tas.nc"))
    words = ("run", "--method", "cm", "tas.nc", "out.nc", "--prior", cm_prior.folder)
    result = shell(*words, "--members", 2)
    assert result.code == 0, result.err
    assert "cm, 1 step, noise scale" in result.err
    members = read_members("out.nc")
    assert np.isfinite(members).any()
    assert np.nanmax(np.abs(members[:, 0] - members[:, 1])) > 0.1
    shell(*words, "--members", 2, "--overwrite", "--batch-size", 1)
    np.testing.assert_allclose(read_members("out.nc"), members, atol=1e-3)


@pytest.mark.parametrize(("scale", "expected"), [(0.3, 0.3), ("40km", 2.0)])
def test_the_noise_scale_is_as_asked_or_as_strong_as_the_priors_fields(
    scale: float | str, expected: float, cm_prior: Prior, tmp_path: Path
) -> None:
    # Fields of white spectrum and variance 4: at every wavelength noise of 2.
    source = write_tas(tmp_path / "tas.nc")
    config = run_config(method="cm", noise_scale=scale)
    plan = make_plan([source], tmp_path / "out.nc", prior=cm_prior, config=config)
    assert plan.decided["noise_scale"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("wavelength", [60.0, 90.0, 200.0])
def test_a_wavelength_finds_its_own_noise(
    wavelength: float, cm_prior: Prior, tmp_path: Path
) -> None:
    # Cells of 27.8 by 20.8 km are about 24 km wide; 16 of them make rings of 1/16 per cell.
    rings = np.ceil(16 * np.sqrt(27.8 * 20.8) / wavelength)
    white = white_noise_power(cm_prior.card.grid.shape)
    red = (white / np.arange(1, len(white) + 1) ** 4).astype(np.float32)
    named = {spectrum_field(v.name): red for v in cm_prior.card.variables}
    fields = {**cm_prior.fields, **named}
    weights = cm_prior.denoiser().state_dict()
    prior = write_prior(tmp_path / "red", cm_prior.card, weights, fields, "# tiny\n")
    source = write_tas(tmp_path / "tas.nc")
    config = run_config(method="cm", noise_scale=f"{wavelength}km")
    plan = make_plan([source], tmp_path / "out.nc", prior=prior, config=config)
    assert plan.decided["noise_scale"] == pytest.approx(rings**-2.0, rel=1e-2)


def test_a_prior_without_spectra_needs_a_number(cm_prior: Prior, tmp_path: Path) -> None:
    fields = {k: v for k, v in cm_prior.fields.items() if not k.startswith("spectrum_")}
    weights = cm_prior.denoiser().state_dict()
    bare = write_prior(tmp_path / "bare", cm_prior.card, weights, fields, "# tiny\n")
    source, config = write_tas(tmp_path / "tas.nc"), RunConfig(method="cm")
    with pytest.raises(PriorError, match="carries no spectrum of tas; give --noise-scale"):
        make_plan([source], tmp_path / "out.nc", prior=bare, config=config)


def test_a_method_refuses_a_prior_of_the_other_kind(
    cm_prior: Prior, tiny_prior: Prior, tmp_path: Path
) -> None:
    source = write_tas(tmp_path / "tas.nc")
    for prior, method, text in (
        (cm_prior, "zssd", "tiny-cm is a consistency model; the method needs one of diffusion"),
        (tiny_prior, "cm", "tiny is a diffusion model; the method needs one of consistency"),
    ):
        config = RunConfig(method=method)
        with pytest.raises(PriorError, match=text):
            make_plan([source], tmp_path / "out.nc", prior=prior, config=config)


def test_spectra_that_are_no_row_of_numbers_are_refused(cm_prior: Prior, tmp_path: Path) -> None:
    broken = {**cm_prior.fields, "spectrum_tas": np.ones((2, 2), np.float32)}
    weights = cm_prior.denoiser().state_dict()
    with pytest.raises(PriorError, match=r"'spectrum_tas' has shape \(2, 2\); expected one"):
        write_prior(tmp_path / "broken", cm_prior.card, weights, broken, "# tiny\n")
    assert (tmp_path / "broken" / FIELDS_FILE).is_file()
    with pytest.raises(PriorError, match="spectrum_tas"):
        read_prior(tmp_path / "broken")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_scale": 0.5}, "--noise-scale is an option of cm and bridge, not of zssd; leave"),
        (
            {"keep_means": False},
            "--keep-means is an option of cm and bridge, not of zssd; leave it",
        ),
        ({"method": "cm", "noise_scale": -1.0}, "noise scale is -1.0; expected a number > 0"),
        ({"method": "cm", "noise_scale": "0km"}, "noise scale is 0km; expected a number > 0"),
        ({"method": "cm", "noise_scale": "1.2.3km"}, "noise scale is 1.2.3km; expected"),
        (
            {"method": "cm", "sampler": "reference"},
            "--sampler is an option of zssd, bridge and ot-diffusion, not of cm",
        ),
    ],
)
def test_options_of_cm_are_checked(options: dict[str, float | str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(run_config(**options))
