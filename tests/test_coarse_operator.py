"""The coarse operator against plain numpy, and its adjoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from climdown.diffusion.observation import latitude_weights
from tests.operators import (
    COARSE,
    FINE,
    NOTHING_SEEN,
    STRADDLING,
    log_decode,
    make_operator,
    ones,
    random,
    some_mask,
)


def block_means(physical: Tensor, mask: Tensor) -> Tensor:
    """Area-weighted means over the valid cells of 4 x 4 blocks, by loops; 0 where none is."""
    means = np.zeros((len(physical), *COARSE.shape))
    for j, i in np.ndindex(*COARSE.shape):
        block = (slice(4 * j, 4 * j + 4), slice(4 * i, 4 * i + 4))
        weights = FINE.areas[block] * mask[block].numpy()
        if weights.sum() > 0:
            values = np.nan_to_num(physical.numpy()[:, *block])
            means[:, j, i] = (values * weights).sum(axis=(1, 2)) / weights.sum()
    return torch.from_numpy(means)


@pytest.mark.parametrize("log", [False, True], ids=["linear", "log"])
@pytest.mark.parametrize("masked", [False, True])
def test_lower_is_the_area_weighted_physical_mean_over_valid_cells(log: bool, masked: bool) -> None:
    mask = some_mask() if masked else torch.ones(FINE.shape, dtype=torch.float64)
    x = random(3, *FINE.shape)
    expected = block_means(log_decode(x) if log else x, mask)
    torch.testing.assert_close(make_operator(mask, log=log).lower(x), expected)


def test_nan_in_masked_cells_does_not_reach_the_gradient() -> None:
    mask = some_mask()
    x = torch.where(mask > 0, random(1, *FINE.shape), torch.nan).requires_grad_(True)
    (gradient,) = torch.autograd.grad(make_operator(mask, log=True).lower(x).sum(), x)
    assert (gradient[:, mask == 0] == 0).all()
    assert (gradient[:, mask > 0] > 0).all()


def test_covered_is_the_valid_share_of_each_coarse_cell() -> None:
    mask = torch.ones(FINE.shape, dtype=torch.float64)
    mask[NOTHING_SEEN] = 0.0
    mask[:, 4:6] = 0.0
    expected = torch.ones(COARSE.shape, dtype=torch.float64)
    expected[:, 1] = 0.5
    expected[0, 0] = 0.0
    torch.testing.assert_close(make_operator(mask).covered, expected)


def test_lower_keeps_constants_where_cells_are_valid() -> None:
    lowered = make_operator(some_mask()).lower(torch.full((1, *FINE.shape), 7.5).double())
    expected = torch.full((1, *COARSE.shape), 7.5).double()
    expected[:, 0, 0] = 0.0  # without a valid cell
    torch.testing.assert_close(lowered, expected)


def test_raise_keeps_constants_where_cells_are_seen() -> None:
    operator = make_operator()
    observed = ones(1)
    observed[:, 0, 0] = 0.0
    constant = torch.full((1, *COARSE.shape), 7.5, dtype=torch.float64)
    constant[:, 0, 0] = 1e6
    seen = operator.seen(observed)
    raised = operator.raise_(constant, observed)
    # The outer half of the missing cell sees nothing else: interpolation ends at centres.
    assert (seen[:, :2, :2] == 0).all()
    torch.testing.assert_close(raised, torch.where(seen > 0, 7.5, 0.0).double())


def test_raise_after_lower_keeps_a_linear_field_between_coarse_centres() -> None:
    slope = torch.from_numpy(np.broadcast_to(FINE.lon, (1, *FINE.shape)).copy())
    operator = make_operator()
    raised = operator.raise_(operator.lower(slope), ones(1))
    torch.testing.assert_close(raised[..., 2:-2], slope[..., 2:-2])


@pytest.mark.parametrize("masked", [False, True])
def test_autograd_gives_the_adjoint_of_the_linear_operator(masked: bool) -> None:
    operator = make_operator(some_mask() if masked else None)
    observed = ones(1)

    def apply(x: Tensor) -> Tensor:
        return operator.raise_(operator.lower(x), observed)

    x, y = random(1, *FINE.shape, seed=1), random(1, *FINE.shape, seed=2)
    elsewhere = random(1, *FINE.shape, seed=3).requires_grad_(True)
    (transposed,) = torch.autograd.grad((apply(elsewhere) * y).sum(), elsewhere)
    left, right = (apply(x) * y).sum(), (x * transposed).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_latitude_weights_are_roots_of_area_with_mean_square_one() -> None:
    weights = latitude_weights(torch.from_numpy(FINE.areas))
    assert weights.square().mean().item() == pytest.approx(1.0)
    ratio = (weights[-1, 0] / weights[0, 0]).item() ** 2
    assert ratio == pytest.approx(FINE.areas[-1, 0] / FINE.areas[0, 0])


@pytest.mark.parametrize("masked", [False, True])
def test_the_sensitivity_of_a_linear_operator_is_one(masked: bool) -> None:
    operator = make_operator(some_mask() if masked else None)
    x = random(2, *FINE.shape)
    sensitivity = operator.sensitivity(x, operator.lower(x))
    torch.testing.assert_close(sensitivity, torch.ones_like(sensitivity))


def test_the_sensitivity_of_even_rain_is_one_and_of_a_single_wet_cell_the_number_of_cells() -> None:
    operator = make_operator(log=True)
    even = torch.full((1, *FINE.shape), 2.0, dtype=torch.float64)
    torch.testing.assert_close(operator.sensitivity(even, operator.lower(even)), ones(1))
    single = torch.zeros_like(even)
    single[0, 1, 1] = 20.0  # expm1(20) outweighs the fifteen dry cells by far
    found = operator.sensitivity(single, operator.lower(single))[0, 0, 0]
    weights = FINE.areas[:4, :4] / FINE.areas[:4, :4].sum()
    # The derivative to this cell is 1: the whole mean is this cell.
    assert found.item() == pytest.approx(1.0 / (weights**2).sum(), rel=1e-5)


def test_sensitivity_is_the_norm_of_the_gradient_of_an_encoded_mean() -> None:
    operator = make_operator(log=True)
    x = random(1, *FINE.shape).requires_grad_(True)
    lowered = operator.lower(x)
    (gradient,) = torch.autograd.grad(operator.encode(lowered)[0, 1, 2], x)
    block = FINE.areas[4:8, 8:12]
    plain = ((block / block.sum()) ** 2).sum()
    expected = gradient.square().sum().item() / plain
    found = operator.sensitivity(x, lowered)[0, 1, 2].item()
    assert found == pytest.approx(max(expected, 1.0), rel=1e-9)


@pytest.mark.parametrize("log", [False, True], ids=["linear", "log"])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("straddling", [False, True], ids=["nested", "straddling"])
def test_fitted_fields_have_the_observed_means(log: bool, masked: bool, straddling: bool) -> None:
    coarse = STRADDLING if straddling else COARSE
    mask = some_mask() if masked else None
    operator = make_operator(mask, log=log, coarse=coarse)
    x = random(3, *FINE.shape)
    target = operator.lower(random(3, *FINE.shape, seed=5).abs())
    observed = torch.ones_like(target)
    observed[:, 1, 1] = 0.0
    seen = (observed > 0) & (operator.covered > 0.0)
    fitted = operator.fit(x, target, observed)
    # Where cells are shared between means, a logarithm's Newton steps have 1 % left in a few.
    rtol = 2e-2 if log and straddling else 1e-5
    torch.testing.assert_close(operator.lower(fitted)[seen], target[seen], rtol=rtol, atol=1e-4)
    blind = (operator.lower_lat.T @ observed @ operator.lower_lon == 0) | (operator.mask == 0)
    assert torch.equal(fitted[blind], x[blind])


def test_a_linear_fit_is_the_nearest_field() -> None:
    mask = some_mask()
    operator = make_operator(mask)
    x, y = random(1, *FINE.shape), random(1, *COARSE.shape, seed=1)
    matrix = torch.stack(
        [
            operator.lower(e.reshape(1, *FINE.shape)).flatten()
            for e in torch.eye(FINE.areas.size, dtype=torch.float64)
        ],
        dim=1,
    )
    expected = x.flatten() + torch.linalg.pinv(matrix) @ (y.flatten() - matrix @ x.flatten())
    seen = torch.isfinite(expected)
    found = operator.fit(x, y, ones(1)).flatten()
    covered = operator.covered.flatten() > 0
    torch.testing.assert_close((matrix @ found)[covered], y.flatten()[covered], rtol=0, atol=1e-6)
    torch.testing.assert_close(found[seen], expected[seen], rtol=0, atol=1e-6)


def test_fitted_fields_are_finite_where_a_dry_draw_meets_rain() -> None:
    operator = make_operator(log=True)
    dry = torch.full((1, *FINE.shape), -3.0, dtype=torch.float64)
    wet = 50.0 * ones(1)
    fitted = operator.fit(dry, wet, ones(1))
    assert fitted.isfinite().all()
    assert (operator.lower(fitted) > 1.0).all()


def test_means_that_contradict_each_other_do_not_run_away() -> None:
    mask = torch.zeros(FINE.shape, dtype=torch.float64)
    mask[3, 3] = 1.0  # one fine cell, a part of two coarse ones
    operator = make_operator(mask, log=True, coarse=STRADDLING)
    target = torch.full((1, *STRADDLING.shape), 1e-6, dtype=torch.float64)
    target[0, :, 1] = 100.0
    fitted = operator.fit(torch.zeros(1, *FINE.shape).double(), target, torch.ones_like(target))
    assert fitted.abs().max() <= 10.0
