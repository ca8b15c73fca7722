"""The baselines: exact where interpolation is, neutral where nothing changes, asking no network."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from climdown import pipeline, regrid
from climdown.config import RunConfig
from climdown.diffusion.denoiser import no_network
from climdown.errors import ConfigError, PriorError
from climdown.methods.baselines import Delta
from climdown.pipeline.choices import choose
from climdown.pipeline.planning import make_plan
from climdown.priors.prior import Prior, read_prior, write_prior
from climdown.priors.tensors import climatology_field
from tests.commands import (
    LAT,
    LON,
    Shell,
    rain,
    read_members,
    run_config,
    warmth,
    write_pr,
    write_tas,
)
from tests.denoisers import random_noise
from tests.factories import Floats
from tests.operators import (
    COARSE,
    FINE,
    NOTHING_SEEN,
    make_operator,
    observe,
    ones,
    random,
    some_mask,
)
from tests.priors import FINE as PRIOR_FINE
from tests.priors import write_tiny_prior
from tests.series import PER_DAY, PR, WINTER, daily, noise, write_days


def sampled(method: Delta, coarse: Tensor, observed: Tensor, **options: Any) -> Tensor:
    operator = make_operator(**options)
    field = method.sample(
        no_network, observe(operator, coarse, observed), random_noise(1, *FINE.shape)
    )
    assert field.shape == (len(coarse), 1, *FINE.shape)
    return field[:, 0]


def flat() -> Tensor:
    return torch.zeros(1, *FINE.shape, dtype=torch.float64)


@pytest.mark.parametrize("log", [False, True], ids=["linear", "log"])
def test_a_pattern_of_zeros_makes_bilinear_interpolation_of_physical_values(log: bool) -> None:
    coarse = random(2, *COARSE.shape).exp()
    expected = regrid.weights(COARSE, FINE, "bilinear").apply(coarse.numpy())
    found = sampled(Delta(flat(), (False,)), coarse, ones(2), log=log)
    physical = 0.1 * torch.expm1(found) if log else found
    np.testing.assert_allclose(physical.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("log", [False, True], ids=["linear", "log"])
@pytest.mark.parametrize("ratio", [False, True])
@settings(max_examples=15)
@given(amount=st.floats(0.2, 5.0), seed=st.integers(0, 1000))
def test_the_same_change_of_all_means_is_that_of_every_cell(
    log: bool, ratio: bool, amount: float, seed: int
) -> None:
    pattern, mask = random(1, *FINE.shape, seed=seed).exp(), some_mask()
    operator = make_operator(mask, log=log)
    own = operator.lower(operator.normalise(pattern))
    observed = (operator.covered > 0).double()[None]
    coarse = amount * own if ratio else own + amount
    found = sampled(Delta(pattern, (ratio,)), coarse, observed, mask=mask, log=log)
    changed = pattern * amount if ratio else pattern + amount
    physical = 0.1 * torch.expm1(found) if log else found
    known = (mask > 0) & (operator.seen(observed)[0] > 1e-6)
    torch.testing.assert_close(physical[0][known], changed[0][known])


def test_factors_are_interpolated_and_not_their_logarithms() -> None:
    pattern, coarse = random(1, *FINE.shape).exp(), random(1, *COARSE.shape, seed=1).exp()
    blocks = regrid.weights(FINE, COARSE, "conservative").apply(pattern.numpy())
    raised = regrid.weights(COARSE, FINE, "bilinear").apply(coarse.numpy() / blocks)
    for log in (False, True):
        found = sampled(Delta(pattern, (True,)), coarse, ones(1), log=log)
        physical = 0.1 * torch.expm1(found) if log else found
        np.testing.assert_allclose(physical.numpy(), raised * pattern.numpy(), rtol=1e-5)


def test_where_the_climatology_is_dry_a_factor_changes_nothing() -> None:
    pattern = random(1, *FINE.shape).exp()
    pattern[:, :4, :4] = 0.0
    found = sampled(Delta(pattern, (True,)), ones(1), ones(1))
    assert found.isfinite().all()
    assert (found[:, :4, :4] == 0).all()


def test_cells_that_see_no_observed_mean_are_missing_and_others_know_nothing_of_them() -> None:
    observed, coarse = ones(1), random(1, *COARSE.shape)
    observed[:, :2, :2] = 0.0
    found = sampled(Delta(flat(), (False,)), coarse, observed)
    assert found[0][NOTHING_SEEN].isnan().all()
    assert found[0, 8:, 8:].isfinite().all()
    coarse[:, :2, :2] = torch.nan
    again = sampled(Delta(flat(), (False,)), coarse, observed)
    assert torch.equal(found.nan_to_num(9.0), again.nan_to_num(9.0))


def test_nobody_may_ask_the_network_of_a_baseline() -> None:
    with pytest.raises(RuntimeError, match="a baseline asks no network, yet it was asked at noise"):
        no_network(flat()[None], 2.0)


# --- as a user meets them


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Prior:
    """The tiny prior with quantiles and a climatology of pr: 2 mm/day, and 4 in the north."""
    folder = tmp_path_factory.mktemp("baselines")
    plain = write_tiny_prior(folder / "plain", quantiles=True)
    wet = np.full(PRIOR_FINE.shape, 2.0, np.float32)
    wet[6:] = 4.0
    fields = {**plain.fields, climatology_field("pr"): wet * plain.mask[1]}
    weights = plain.denoiser().state_dict()
    return write_prior(folder / "tiny", plain.card, weights, fields, "# tiny\n")


@pytest.fixture
def no_weights(prior: Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("a baseline loaded the network")

    monkeypatch.setattr(Prior, "denoiser", fail)


def downscaled(shell: Shell, prior: Prior, method: str, *options: str) -> dict[str, Floats]:
    if not Path("tas.nc").exists():  # which a run before this one may have open
        write_tas(Path("tas.nc"))
        write_pr(Path("pr.nc"))
    words = ("tas.nc", "pr.nc", "out.nc", "--prior", str(prior.folder), "--overwrite", *options)
    result = shell("run", "--method", method, *words)
    assert result.code == 0, result.err
    assert f"sampler: {method}" in result.err
    return {name: read_members("out.nc", name) for name in ("tas", "pr")}


@pytest.mark.usefixtures("no_weights")
def test_bilinear_gives_the_input_at_its_centres_and_between(shell: Shell, prior: Prior) -> None:
    found = downscaled(shell, prior, "bilinear")
    assert found["tas"].shape == (3, 1, *PRIOR_FINE.shape)
    coarse = warmth(np.array(LAT)[:, None], np.array(LON)[None], 1)
    expected = raised(prior, coarse)
    known = np.isfinite(found["tas"][1, 0])
    # Nothing of the sea's coarse cell is used along its shore.
    known[:6, :6] = False
    np.testing.assert_allclose(found["tas"][1, 0][known], expected[known], atol=1e-3)
    coarse = rain(np.array(LAT)[:, None], np.array(LON)[None], 1)
    expected = raised(prior, coarse)
    np.testing.assert_allclose(found["pr"][1, 0][known], expected[known], rtol=1e-4)
    with netCDF4.Dataset("out.nc") as file:
        assert file.climdown_method == "bilinear"
        assert file["tas"].units == "K"


@dataclass(frozen=True)
class Averaged:
    fine: Floats
    coarse: Floats


def averaged(prior: Prior, name: str) -> Averaged:
    """The climatology, and its means over what is land of the coarse cells."""
    pattern = prior.climatology(name)
    assert pattern is not None
    fine = np.where(prior.mask[0], pattern, np.nan).astype(np.float64)
    lower = regrid.weights(PRIOR_FINE, prior.card.coarse_grid, "conservative")
    return Averaged(fine, lower.apply(fine[None], min_coverage=0.0)[0])


def raised(prior: Prior, coarse: Floats) -> Floats:
    raised = regrid.weights(prior.card.coarse_grid, PRIOR_FINE, "bilinear").apply(coarse[None])
    return np.asarray(raised[0], np.float64)


@pytest.mark.usefixtures("no_weights")
def test_delta_has_the_fine_pattern_of_the_climatology(shell: Shell, prior: Prior) -> None:
    found = downscaled(shell, prior, "delta")
    smooth = downscaled(shell, prior, "bilinear")
    inside = (slice(6, None), slice(6, None))  # of what the sea's coarse cell has a part in
    warm, wet = (averaged(prior, name) for name in ("tas", "pr"))
    expected = smooth["tas"][0, 0] + warm.fine - raised(prior, warm.coarse)
    np.testing.assert_allclose(found["tas"][0, 0][inside], expected[inside], atol=1e-3)
    factor = rain(np.array(LAT)[:, None], np.array(LON)[None], 0) * PER_DAY / wet.coarse
    expected = wet.fine * raised(prior, factor)
    np.testing.assert_allclose(
        found["pr"][0, 0][inside] * PER_DAY, expected[inside], rtol=1e-4, atol=1e-4
    )


def test_delta_follows_the_kind_of_change_of_each_variable(prior: Prior, tmp_path: Path) -> None:
    sources = [write_tas(tmp_path / "tas.nc"), write_pr(tmp_path / "pr.nc")]
    plan = make_plan(sources, tmp_path / "out.nc", prior=prior, config=RunConfig(method="delta"))
    method = plan.method.sampler(plan.decided, plan.problem)
    assert isinstance(method, Delta)
    assert method.ratios == (False, True)


@pytest.mark.usefixtures("no_weights")
def test_bcsd_is_delta_of_the_input_after_quantile_mapping(shell: Shell, prior: Prior) -> None:
    shutil.copytree(prior.folder, "tiny")
    dates = {"hist": daily(1991, 2, months=WINTER), "sim": daily(2051, 2, months=WINTER)}
    for seed, (name, days) in enumerate(dates.items()):
        write_days(f"{name}_tas.nc", days, 280.0 + 3.0 * noise(days, seed))
        rainy = np.maximum(3.0 * noise(days, 10 + seed), 0.0) / PER_DAY
        write_days(f"{name}_pr.nc", days, rainy, **PR)
    common = ("--prior", "tiny", "--time", "2051-12-30/2052-01-02")
    result = shell(
        "run", "--method", "bcsd", "--historical", "hist_*.nc", "sim_*.nc", "out.nc", *common
    )
    assert result.code == 0, result.err
    assert "bias: tas: quantile delta mapping" in result.err
    for name in ("tas", "pr"):
        files = ("--hist", f"hist_{name}.nc", f"sim_{name}.nc", f"adjusted_{name}.nc")
        assert shell("qdm", "--ref", "tiny", *files).code == 0
    # The adjusted file is rounded to its own precision; --bias qdm hands on what was computed.
    result = shell("run", "--method", "delta", "adjusted_*.nc", "two.nc", *common)
    assert result.code == 0, result.err
    for name, scale in (("tas", 1.0), ("pr", PER_DAY)):
        one, two = (scale * read_members(file, name) for file in ("out.nc", "two.nc"))
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3)


def test_a_prior_without_the_climatology_is_refused_before_anything_is_computed(
    tiny_prior: Prior, tmp_path: Path
) -> None:
    rainy, warm = write_pr(tmp_path / "pr.nc"), write_tas(tmp_path / "tas.nc")
    config, out = RunConfig(method="delta"), tmp_path / "out.nc"
    message = "prior tiny carries no climatology of pr on its fine grid, from which delta starts"
    with pytest.raises(PriorError, match=message):
        make_plan([rainy, warm], out, prior=tiny_prior, config=config)
    # What the input lacks needs none, and interpolation none at all.
    assert make_plan([warm], out, prior=tiny_prior, config=config).total == 3
    config = RunConfig(method="bilinear")
    assert make_plan([rainy], out, prior=tiny_prior, config=config).total == 3


def test_a_consistency_prior_serves_as_well(prior: Prior, tmp_path: Path) -> None:
    card = replace(prior.card, kind="consistency", sigma_min=0.002)
    weights = prior.denoiser().state_dict()
    other = write_prior(tmp_path / "cm", card, weights, prior.fields, "# tiny\n")
    source = write_tas(tmp_path / "tas.nc")
    outs = []
    for chosen in (prior, other):
        out = tmp_path / f"{chosen.card.kind}.nc"
        pipeline.downscale([source], out, prior=chosen, config=RunConfig(method="delta"))
        outs.append(read_members(out))
    np.testing.assert_array_equal(outs[0], outs[1])


def test_a_bundled_prior_serves_without_being_named(shell: Shell) -> None:
    lat, lon = np.arange(33.5, 48.0), np.arange(-13.5, 8.0)
    for write, name in ((write_tas, "tas"), (write_pr, "pr")):
        write(Path(f"{name}.nc"), lat=lat, lon=lon)
    result = shell("run", "--method", "delta", "tas.nc", "pr.nc", "out.nc")
    assert result.code == 0, result.err
    for name in ("tas", "pr"):
        assert np.isfinite(read_members("out.nc", name)).any()


def test_members_default_to_what_the_method_has() -> None:
    assert (choose(RunConfig()).members, choose(RunConfig(members=2)).members) == (4, 2)
    bcsd = choose(RunConfig(method="bcsd", historical=("hist.nc",)))
    delta = choose(RunConfig(method="delta"))
    assert {one.members for one in (choose(RunConfig(method="bilinear")), delta, bcsd)} == {1}
    assert choose(RunConfig(method="delta", members=1)).members == 1
    assert (delta.adjustment, bcsd.adjustment) == (None, "qdm")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "delta", "members": 3}, "--method delta draws nothing, so that it has one mem"),
        (
            {"method": "bilinear", "steps": 4},
            "--steps is an option of zssd, cm, bridge and ot-diffusion",
        ),
        (
            {"method": "delta", "sampler": "reference"},
            "--sampler is an option of zssd.*not of del",
        ),
        (
            {"method": "cm", "guidance_scale": 1.0},
            "--guidance-scale is an option of zssd.*not of ",
        ),
        ({"method": "bcsd"}, "--method bcsd needs the same model in the reference's period; give"),
        (
            {"method": "bcsd", "bias": "none"},
            "--method bcsd is one with --bias qdm, not with none; leave --bias out",
        ),
        (
            {"method": "bcsd", "bias": "ot"},
            "bcsd is one with --bias qdm, not with ot; leave --bias",
        ),
    ],
)
def test_options_that_a_baseline_has_not_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(run_config(**options))


def test_every_climatology_of_the_training_is_stored_and_read(prior: Prior) -> None:
    again = read_prior(prior.folder)
    wet = again.climatology("pr")
    assert wet is not None
    assert set(np.unique(wet)) == {0.0, 2.0, 4.0}
    assert again.climatology("psl") is None
