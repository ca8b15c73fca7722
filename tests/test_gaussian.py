"""The Gaussian part of a denoiser: closed forms, groups, and honest variances of patterns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from climdown.config import PriorConfig
from climdown.diffusion import schedule, solvers
from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.gaussian import GaussianPart
from climdown.diffusion.losses import edm_loss
from climdown.diffusion.observation import CoarseObservation, CoarseOperator
from climdown.errors import ConfigError, PriorError
from climdown.files import file_digest
from climdown.methods.zssd import ZSSD
from climdown.priors import gaussian
from climdown.priors.card import CARD_FILE, FIELDS_FILE
from climdown.priors.prior import read_prior
from climdown.training import patterns as training_patterns
from climdown.training import prepare, train_diffusion
from climdown.training.patterns import find_patterns
from tests.training import with_consistency, with_training

NY, NX = 3, 4
CELLS = NY * NX - 2
COUNT = 4
FLOOR = 0.04
CALENDAR = torch.tensor([[1.0, 15.0, 12.0]])


def mask() -> Tensor:
    """Two variables; the first two cells have no values."""
    valid = torch.ones(2, NY, NX)
    valid[:, 0, :2] = 0.0
    return valid


def ingredients(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, orthonormal patterns and their variances, of one variable."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(CELLS, COUNT, generator=generator))
    variances = torch.tensor([9.0, 4.0, 1.0, 0.25])
    return torch.randn(CELLS, generator=generator), basis.T.contiguous(), variances


def covariance(seed: int = 0) -> Tensor:
    _, patterns, variances = ingredients(seed)
    outside = torch.eye(CELLS) - patterns.T @ patterns
    return patterns.T @ torch.diag(variances) @ patterns + FLOOR * outside


def part(*, sigma_min: float = 0.0, seeds: tuple[int, ...] = (0,)) -> GaussianPart:
    """Both variables are of the same Gaussian; a group for each seed."""
    found = [ingredients(seed) for seed in seeds]
    return GaussianPart(
        mask=mask(),
        mean=[torch.stack([m for m, _, _ in found])] * 2,
        patterns=[torch.stack([p for _, p, _ in found])] * 2,
        variances=[found[0][2]] * 2,
        floor=torch.full((2,), FLOOR),
        sigma_min=sigma_min,
    )


def fields(count: int, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randn(count, 2, NY, NX, generator=generator) * mask()


@pytest.mark.parametrize("sigma", [0.05, 0.7, 6.0])
def test_it_is_the_conditional_mean_of_a_gaussian(sigma: float) -> None:
    x = fields(3)
    mean, _, _ = ingredients()
    gain = covariance() @ torch.linalg.inv(covariance() + sigma**2 * torch.eye(CELLS))
    found = part()(x, torch.full((3,), sigma))
    valid = mask().bool()
    for channel in range(2):
        values = x[:, channel][:, valid[channel]]
        expected = mean + (values - mean) @ gain.T
        torch.testing.assert_close(
            found[:, channel][:, valid[channel]], expected, atol=1e-4, rtol=1e-4
        )
    assert (found[:, ~valid] == 0).all()


def test_each_field_has_its_own_noise_level() -> None:
    x, sigma = fields(2), torch.tensor([0.1, 3.0])
    both = part()(x, sigma)
    for row in range(2):
        torch.testing.assert_close(both[row : row + 1], part()(x[row : row + 1], sigma[[row]]))
    assert not torch.allclose(both[0], part()(x, sigma.flip(0))[0])


@pytest.mark.parametrize("sigma", [0.05, 0.7, 6.0])
def test_the_error_is_the_trace_of_the_posterior_covariance(sigma: float) -> None:
    prior = covariance()
    noisy = torch.linalg.inv(prior + sigma**2 * torch.eye(CELLS))
    expected = torch.trace(prior - prior @ noisy @ prior) / CELLS
    found = part().error_variance(torch.tensor([sigma, 1.0]))
    torch.testing.assert_close(found[0], expected.expand(2))


def test_a_consistency_part_maps_noisy_fields_to_fields_of_the_least_level() -> None:
    """The probability flow of a Gaussian is linear, and takes one normal law to another."""
    sigma_min, sigma = 0.1, 4.0
    function = part(sigma_min=sigma_min)
    levels = torch.full((CELLS,), sigma)
    mean, _, _ = ingredients()
    # The linear map itself, row by row.
    units = torch.zeros(CELLS, 2, NY, NX)
    units[:, 0][:, mask()[0].bool()] = mean + torch.eye(CELLS)
    map_ = (function(units, levels)[:, 0][:, mask()[0].bool()] - mean).T
    noisy = covariance() + sigma**2 * torch.eye(CELLS)
    expected = covariance() + sigma_min**2 * torch.eye(CELLS)
    torch.testing.assert_close(map_ @ noisy @ map_.T, expected, atol=1e-5, rtol=1e-5)
    x = fields(2)
    torch.testing.assert_close(function(x, torch.full((2,), sigma_min)), x, atol=1e-5, rtol=1e-5)


def test_groups_have_their_own_patterns_and_none_has_the_first() -> None:
    x, sigma = fields(4), torch.full((4,), 0.8)
    grouped = part(seeds=(0, 1, 2))
    found = grouped(x, sigma, torch.tensor([2, 0, 1, 2]))
    for row, seed in enumerate((2, 0, 1, 2)):
        alone = part(seeds=(seed,))(x[row : row + 1], sigma[:1])
        torch.testing.assert_close(found[row : row + 1], alone)
    torch.testing.assert_close(grouped(x, sigma), part()(x, sigma))


class Silent(nn.Module):
    """A network that has nothing to add; remembers what it was given."""

    x: Tensor

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        self.x = x
        return torch.zeros_like(x[:, :2])


class One(nn.Module):
    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return torch.ones_like(x[:, :2])


def wrap(network: nn.Module, *, sigma_min: float = 0.0) -> Denoiser:
    return Denoiser(
        network,
        static=torch.zeros(0, NY, NX),
        mask=mask(),
        sigma_min=sigma_min,
        gaussian=part(sigma_min=sigma_min),
    )


def test_a_denoiser_corrects_the_part_in_units_of_its_error() -> None:
    x, sigma = fields(2), torch.tensor([0.3, 2.0])
    network = Silent()
    linear = wrap(network)(x, sigma, CALENDAR)
    torch.testing.assert_close(linear, part()(x, sigma))
    torch.testing.assert_close(network.x[:, 2:], linear)
    step = part().error_variance(sigma).sqrt()[..., None, None] * mask()
    torch.testing.assert_close(wrap(One())(x, sigma, CALENDAR) - linear, step.expand_as(x))


def test_a_consistency_function_is_the_identity_at_its_least_level() -> None:
    x, least = fields(2), torch.full((2,), 0.1)
    torch.testing.assert_close(
        wrap(One(), sigma_min=0.1)(x, least, CALENDAR), x, atol=1e-5, rtol=1e-5
    )


def test_half_precision_is_for_the_network_alone() -> None:
    x, sigma = fields(2), torch.full((2,), 0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = part()(x, sigma)
    assert torch.equal(found, part()(x, sigma))


def test_the_loss_of_the_part_alone_is_one_for_fields_of_its_gaussian() -> None:
    n = 4000
    generator = torch.Generator().manual_seed(3)
    root = torch.linalg.cholesky(covariance())
    mean, _, _ = ingredients()
    x0 = torch.zeros(n, 2, NY, NX)
    for channel in range(2):
        drawn = mean + torch.randn(n, CELLS, generator=generator) @ root.T
        x0[:, channel][:, mask()[channel].bool()] = drawn
    noise = torch.randn(x0.shape, generator=generator)
    losses = edm_loss(
        wrap(Silent()),
        x0,
        mask().expand_as(x0),
        CALENDAR.expand(n, 3),
        torch.full((n,), 0.6),
        noise,
        weighting="network",
    )
    # The mean of n losses with the standard error that they themselves show.
    assert abs(float(losses.mean()) - 1.0) < 4.0 * float(losses.std()) / math.sqrt(n)


def test_samples_have_the_covariance_of_the_patterns() -> None:
    n = 6000
    generator = torch.Generator().manual_seed(1)

    def noise(_: int) -> Tensor:
        return torch.randn(n, 2, NY, NX, generator=generator)

    denoise = wrap(Silent()).bind(CALENDAR.expand(n, 3))
    sigmas = schedule.karras_sigmas(40, sigma_min=0.02, sigma_max=60.0)
    drawn = solvers.sample_fast(denoise, noise, sigmas, eta=0.0)[:, 0][:, mask()[0].bool()]
    _, patterns, variances = ingredients()
    found = ((drawn - drawn.mean(dim=0)) @ patterns.T).var(dim=0)
    # A variance of n normal numbers has a relative standard error of sqrt(2 / n), 1.8 %; the
    # solver's own error at 40 steps is below 2 %.
    torch.testing.assert_close(found, variances, rtol=0.09, atol=0.0)


def coarse_operator(*, log: bool = False) -> CoarseOperator:
    """Means over 2 columns of all rows: cells of unequal cover, since two are missing."""
    lower_lon = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])

    def decode(x: Tensor) -> Tensor:
        return x.exp() if log else 3.0 * x + 1.0

    def encode(x: Tensor) -> Tensor:
        return x.clamp(min=1e-6).log() if log else (x - 1.0) / 3.0

    return CoarseOperator(
        lower_lat=torch.ones(1, NY),
        lower_lon=lower_lon,
        raise_lat=torch.ones(NY, 1),
        raise_lon=lower_lon.T,
        mask=mask()[0],
        decode=decode,
        encode=encode,
    )


def observed_means(values: Tensor, *, errors: bool) -> CoarseObservation:
    return CoarseObservation(
        operators=(coarse_operator(),),
        channels=(0,),
        coarse=(values,),
        observed=(torch.ones_like(values),),
        weights=torch.ones(NY, NX),
        errors=part().error_covariance if errors else None,
    )


def test_the_covariance_of_errors_is_the_posterior_one() -> None:
    error = part().error_covariance(1, 0.7)
    found = error.patterns.T @ torch.diag(error.gains) @ error.patterns
    found = found + error.rest * torch.eye(CELLS)
    prior = covariance()
    expected = prior - prior @ torch.linalg.inv(prior + 0.49 * torch.eye(CELLS)) @ prior
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_kriging_is_the_mean_of_a_gaussian_given_its_coarse_means() -> None:
    operator, sigma = coarse_operator(), 0.7
    x, target = fields(2)[:, 0], torch.tensor([[[2.0, -1.0]], [[0.5, 4.0]]])
    found = operator.krige(x, target, torch.ones(2, 1, 2), part().error_covariance(0, sigma))
    prior, valid = covariance().double(), mask()[0].bool()
    error = prior - prior @ torch.linalg.inv(prior + sigma**2 * torch.eye(CELLS)) @ prior
    units = torch.eye(NY * NX).reshape(-1, NY, NX)
    zero = operator.lower(torch.zeros(1, NY, NX))
    means = (operator.lower(units) - zero).flatten(1).T[:, valid.flatten()].double()
    gain = error @ means.T @ torch.linalg.inv(means @ error @ means.T)
    lacking = (target - operator.lower(x)).flatten(1).double()
    expected = x[:, valid].double() + lacking @ gain.T
    torch.testing.assert_close(found[:, valid].double(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(operator.lower(found), target, atol=1e-4, rtol=1e-5)
    assert torch.equal(found[:, ~valid], x[:, ~valid])


def test_kriging_leaves_what_was_not_observed_to_the_covariance() -> None:
    operator = coarse_operator()
    x, observed = fields(1)[:, 0], torch.tensor([[[1.0, 0.0]]])
    target = torch.tensor([[[2.0, torch.nan]]])
    found = operator.krige(x, target, observed, part().error_covariance(0, 0.7))
    assert torch.isfinite(found).all()
    assert float(operator.lower(found)[0, 0, 0]) == pytest.approx(2.0, abs=1e-4)
    assert (found[..., 2:] != x[..., 2:]).any()  # neighbours move with it


def test_kriging_under_a_logarithm_goes_most_of_the_way() -> None:
    operator = coarse_operator(log=True)
    x, target = 0.3 * fields(3)[:, 0], torch.tensor([[[1.5, 0.6]]]).expand(3, 1, 2)
    found = operator.krige(x, target, torch.ones(3, 1, 2), part().error_covariance(0, 0.7))
    before = (operator.lower(x).log() - target.log()).abs()
    after = (operator.lower(found).log() - target.log()).abs()
    assert float(after.max()) < 0.5 * float(before.max())


def test_samples_given_means_are_those_of_the_gaussian() -> None:
    """Mean and spread of draws against the exact posterior; the nearest fields alone miss both."""
    n, target = 3000, torch.tensor([[2.0, -1.0]])
    prior, valid = covariance().double(), mask()[0].bool()
    operator = coarse_operator()
    units = torch.eye(NY * NX).reshape(-1, NY, NX)
    zero = operator.lower(torch.zeros(1, NY, NX))
    means = (operator.lower(units) - zero).flatten(1).T[:, valid.flatten()].double()
    gain = prior @ means.T @ torch.linalg.inv(means @ prior @ means.T)
    normal, _, _ = ingredients()
    expected = normal.double() + gain @ (
        (target - zero[0]).flatten().double() - means @ normal.double()
    )
    spread = torch.diagonal(prior - gain @ means @ prior).clamp(min=0.0).sqrt()

    def noise(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        return torch.randn(n, 2, NY, NX, generator=generator)

    def draw(*, errors: bool) -> Tensor:
        denoise = wrap(Silent()).bind(CALENDAR.expand(n, 3))
        sampler = ZSSD(steps=32, sigma_min=0.02, sigma_max=60.0)
        seen = observed_means(target.expand(n, 1, 2), errors=errors)
        return sampler.sample(denoise, seen, noise)[:, 0][:, valid].double()

    drawn = draw(errors=True)
    # The standard error of a mean is 1/55 of the spread, of a spread 1/77.
    assert float(((drawn.mean(dim=0) - expected).abs() / spread).max()) < 4.0 / math.sqrt(n) + 0.03
    assert float((drawn.std(dim=0) / spread - 1.0).abs().max()) < 4.0 / math.sqrt(2 * n) + 0.03
    nearest = draw(errors=False)
    assert float(((nearest.mean(dim=0) - expected).abs() / spread).max()) > 0.2


def drawn_fields(n: int, seed: int, cells: int = 120) -> np.ndarray:
    """Fields whose variances along fixed directions fall off by a power."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(cells, cells)))[0]
    scale = np.arange(1, cells + 1) ** -1.0
    amplitudes: np.ndarray = np.random.default_rng(seed).normal(size=(n, cells)) * scale
    return np.asarray(amplitudes @ basis.T)


def blocks_of(n: int, count: int = 6) -> list[np.ndarray]:
    return [np.flatnonzero(np.arange(n) * count // n == block) for block in range(count)]


def test_variances_are_those_of_new_fields_along_the_patterns() -> None:
    n, count = 90, 40
    x, new = drawn_fields(n, 1), drawn_fields(20_000, 2)
    found = find_patterns(x, blocks_of(n), count)

    def along(fields_: np.ndarray) -> Any:
        return (((fields_ - found.mean[0]) @ found.patterns[0].T) ** 2).mean(axis=0)

    honest, own = along(new), along(x)
    # Sums over ten patterns each: single ones scatter with only 90 fields.
    tens = honest.reshape(4, 10).sum(axis=1)
    np.testing.assert_allclose(found.variances.reshape(4, 10).sum(axis=1), tens, rtol=0.2)
    assert own[-10:].sum() < 0.8 * tens[-1]  # what naive variances would be
    total = ((new - found.mean[0]) ** 2).sum(axis=1).mean()
    expected = (total - honest.sum()) / (120 - count)
    assert found.floor == pytest.approx(expected, rel=0.2)
    rest = x - found.mean[0]
    rest = rest - (rest @ found.patterns[0].T) @ found.patterns[0]
    assert (rest**2).sum() / n / (120 - count) < 0.7 * found.floor  # what a naive floor would be


@pytest.mark.parametrize("n", [90, 400], ids=["fewer fields than cells", "more"])
def test_patterns_are_the_leading_ones_and_orthonormal(n: int) -> None:
    x = drawn_fields(n, 1)
    found = find_patterns(x, blocks_of(n), 8)
    expected = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:8]
    overlap = np.abs(np.sum(found.patterns[0] * expected, axis=1))
    np.testing.assert_allclose(overlap, 1.0, atol=1e-4)
    for patterns in found.patterns:
        np.testing.assert_allclose(patterns @ patterns.T, np.eye(8), atol=1e-5)


def test_a_group_knows_nothing_of_its_block() -> None:
    x = drawn_fields(60, 1)
    blocks = blocks_of(60)
    changed = x.copy()
    changed[blocks[2]] += 5.0
    one, other = find_patterns(x, blocks, 5), find_patterns(changed, blocks, 5)
    np.testing.assert_array_equal(one.mean[3], other.mean[3])
    np.testing.assert_array_equal(one.patterns[3], other.patterns[3])
    assert np.abs(one.mean[2] - other.mean[2]).max() > 0.1


def test_more_patterns_than_the_fields_allow_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"network\.patterns is 50; 60 training fields of 120 cel"
    ):
        find_patterns(drawn_fields(60, 1), blocks_of(60), 50)


def test_fields_that_memory_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_patterns, "_MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"60 fields of 120 cells in memory .*statistics_fields"):
        find_patterns(drawn_fields(60, 1), blocks_of(60), 5)


def with_patterns(config: PriorConfig, count: int = 3) -> PriorConfig:
    return replace(config, network=replace(config.network, patterns=count))


def test_training_fields_never_meet_patterns_of_their_own(
    training_config: PriorConfig, training_data: Path
) -> None:
    dataset = prepare(with_patterns(training_config), training_data)
    groups = dataset.train.group.numpy()
    assert sorted(set(groups)) == [1, 2, 3, 4, 5, 6]
    assert (np.diff(groups) >= 0).all()
    x = dataset.train.take(np.arange(len(dataset.train)))[0].numpy()
    for variable, found in enumerate(dataset.patterns):
        values = x[:, variable][:, dataset.train.mask[variable]]
        for group in range(1, 7):
            np.testing.assert_allclose(
                found.mean[group], values[groups != group].mean(axis=0), atol=1e-5
            )
        np.testing.assert_allclose(found.mean[0], values.mean(axis=0), atol=1e-5)
    assert (dataset.validation.group == 0).all()


@pytest.mark.parametrize("change", [lambda c: c, with_consistency], ids=["diffusion", "cm"])
def test_a_trained_prior_carries_its_part(
    change: Callable[[PriorConfig], PriorConfig],
    training_config: PriorConfig,
    training_data: Path,
    tmp_path: Path,
) -> None:
    from climdown.training import train_consistency

    config = with_patterns(change(with_training(training_config, steps=2, validate_every=2)))
    train = train_diffusion if config.consistency is None else train_consistency
    prior = train(config, data=training_data, output=tmp_path / "prior")
    dataset = prepare(config, training_data)
    assert prior.fields["patterns_tas"].dtype == np.float16
    model = prior.denoiser()
    assert model.gaussian is not None
    x = dataset.validation.take(np.arange(2))[0]
    sigma = torch.full((2,), 0.5)
    expected = gaussian.gaussian_part(prior.card, prior.fields["mask"], dataset.patterns)
    # What is stored is in half precision.
    torch.testing.assert_close(model.gaussian(x, sigma), expected(x, sigma), atol=5e-3, rtol=5e-3)
    assert model.gaussian.sigma_min == prior.card.sigma_min


@pytest.fixture
def folder(training_config: PriorConfig, training_data: Path, tmp_path: Path) -> Path:
    """A prior with a Gaussian part."""
    config = with_patterns(with_training(training_config, steps=1, validate_every=1))
    train_diffusion(config, data=training_data, output=tmp_path / "prior")
    return tmp_path / "prior"


def _nan(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flat[0] = np.nan
    return values


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("patterns_pr", None, "lacks the field 'patterns_pr'"),
        ("patterns_tas", lambda v: v[:2], r"field 'patterns_tas' has shape \(2, \d+\); exp.*\(3, "),
        ("mean_pr", lambda v: v[1:], r"field 'mean_pr' has shape"),
        ("variances_tas", _nan, "field 'variances_tas' holds 1 numbers that are not finite"),
        ("variances_pr", lambda v: -v, "field 'variances_pr' holds variances that are not above 0"),
    ],
)
def test_a_damaged_part_is_refused(
    name: str, change: Callable[[np.ndarray], np.ndarray] | None, message: str, folder: Path
) -> None:
    stored = load_file(folder / FIELDS_FILE)
    values = stored.pop(name)
    if change is not None:
        stored[name] = np.ascontiguousarray(change(values))
    save_file(stored, folder / FIELDS_FILE)
    text = (folder / CARD_FILE).read_text(encoding="utf-8")
    old = read_digest(text)
    text = text.replace(old, file_digest(folder / FIELDS_FILE))
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(PriorError, match=message):
        read_prior(folder)


def read_digest(text: str) -> str:
    """The hash of the fields on a card."""
    import json

    return str(json.loads(text)["files"][FIELDS_FILE])
