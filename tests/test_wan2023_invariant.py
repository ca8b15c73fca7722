"""Transport that knows the symmetries of the test problems."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.wan2023 import Solver, invariant, kuramoto_sivashinsky, navier_stokes
from climdown.bias import transport
from climdown.errors import ConfigError, ConvergenceError, InputError

ks, ns = kuramoto_sivashinsky, navier_stokes
FLOW = ns.Flow(viscosity=0.02)
SOLVERS: dict[str, tuple[Solver, invariant.Images, int]] = {
    "ks spectral": (ks.Spectral(24, length=16.0), ks.images, 40),
    "ks finite volume": (ks.FiniteVolume(24, length=16.0), ks.images, 100),
    "ns spectral": (ns.Spectral(16, time_step=0.02, flow=FLOW), ns.images, 40),
    "ns finite volume": (ns.FiniteVolume(16, time_step=0.02, flow=FLOW), ns.images, 40),
}


def sample(n: int, points: int, seed: int) -> Tensor:
    """Rough fields of unequal waves, (n, points), their mean not zero."""
    generator = torch.Generator().manual_seed(seed)
    modes = torch.randn(n, points // 2 + 1, 2, generator=generator, dtype=torch.float64)
    fall = 1.0 / (1.0 + torch.arange(points // 2 + 1)) ** (1 + seed % 2)
    fields: Tensor = torch.fft.irfft(torch.view_as_complex(modes) * fall, points, norm="forward")
    return fields


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_carry_images_to_images(name: str) -> None:
    solver, images, steps = SOLVERS[name]
    fields = solver.initial(2, torch.Generator().manual_seed(0))
    later = solver.advance(fields, steps)
    assert float((later - fields).norm()) > 0.1 * float(fields.norm())
    turned = images(fields)
    assert torch.equal(turned[0], fields)
    torch.testing.assert_close(solver.advance(turned, steps), images(later), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("images", "shape", "count"),
    [
        (ks.images, (24,), 48),
        # Whole waves of the force are 2 points of 8, half waves 1: all shifts, and two of each.
        (ns.images, (8, 8), 8 * 4 * 2 + 8 * 4 * 2),
        # No half wave is a whole number of points.
        (ns.images, (4, 4), 4 * 4 * 2),
        # Two waves of the force are one point.
        (ns.images, (2, 2), 2 * 2 * 2),
        # A wave of the force is no whole number of points unless it is repeated: 4 of 6 make 4.
        (ns.images, (6, 6), 6 * 2 * 2),
    ],
)
def test_images_are_a_group_of_isometries(
    images: invariant.Images, shape: tuple[int, ...], count: int
) -> None:
    field = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    turned = images(field)
    assert turned.shape == (count, 1, *shape)
    torch.testing.assert_close(
        turned.flatten(2).norm(dim=-1), field.norm().expand(count, 1), rtol=1e-6, atol=0
    )
    # The images of any image are the same ones.
    chosen = images(turned[count // 2 + 1])
    apart = (chosen - turned.transpose(0, 1)).flatten(2).norm(dim=-1)
    assert float(apart.min(1).values.max()) < 1e-6


def test_is_the_transport_between_all_images() -> None:
    source, target, new = sample(9, 8, 0), sample(7, 8, 1), sample(5, 8, 2)
    fitted = invariant.fit(source, target, ks.images, epsilon=0.02, tolerance=1e-9)
    everything = [ks.images(x).flatten(0, 1) for x in (source, target)]
    known = transport.fit(*everything, epsilon=0.02, tolerance=1e-9)
    torch.testing.assert_close(fitted(new), known(new), rtol=0, atol=1e-6)
    assert fitted.regularisation == pytest.approx(known.regularisation)
    assert float((fitted(new) - new).norm()) > 0.1 * float(new.norm())


def test_means_are_carried_over_and_count_for_nothing() -> None:
    source, target, new = sample(9, 8, 0), sample(7, 8, 1), sample(5, 8, 2)

    def shifts(fields: Tensor) -> Tensor:
        return torch.stack([fields.roll(s, -1) for s in range(8)])

    plain = invariant.fit(source, target, shifts, epsilon=0.02, tolerance=1e-6)
    moved = invariant.fit(source + 30.0, target - 20.0, shifts, epsilon=0.02, tolerance=1e-6)
    assert moved.regularisation == pytest.approx(plain.regularisation)
    torch.testing.assert_close(moved(new + 30.0), plain(new) - 20.0, rtol=0, atol=1e-9)


def test_maps_images_to_images_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, new = sample(9, 8, 0), sample(7, 8, 1), sample(5, 8, 2)
    fitted = invariant.fit(source, target, ks.images, epsilon=0.05)
    moved = fitted(new)
    turned = fitted(ks.images(new).flatten(0, 1)).reshape(16, 5, 8)
    torch.testing.assert_close(turned, ks.images(moved), rtol=0, atol=1e-12)
    monkeypatch.setattr(invariant, "_BLOCK", 2 * 16 * 7)
    again = invariant.fit(source, target, ks.images, epsilon=0.05)
    torch.testing.assert_close(again(new), moved, rtol=0, atol=1e-12)


def test_takes_fields_of_two_dimensions() -> None:
    generator = torch.Generator().manual_seed(3)
    source, target, new = (torch.randn(n, 4, 4, generator=generator) for n in (6, 8, 3))
    fitted = invariant.fit(source, target, ns.images, epsilon=0.05, tolerance=1e-4)
    assert fitted(new).shape == new.shape
    assert fitted.marginal_error <= 1e-4


def test_a_target_that_is_an_image_is_reached() -> None:
    source = sample(6, 16, 0)
    turned = ks.images(source)
    target = torch.stack([turned[(5 * i) % 32, i] for i in range(6)])
    fitted = invariant.fit(source, target, ks.images, epsilon=1e-3)
    torch.testing.assert_close(fitted(source), source, rtol=0, atol=1e-3)


def test_refusals() -> None:
    x, y = sample(4, 8, 0), sample(5, 8, 1)
    with pytest.raises(ConfigError, match="epsilon > 0, found -1"):
        invariant.fit(x, y, ks.images, epsilon=-1)
    with pytest.raises(InputError, match="target has 6 columns; expected 8"):
        invariant.fit(x, sample(5, 6, 1), ks.images, epsilon=0.1)
    with pytest.raises(InputError, match="source"):
        invariant.fit(x * torch.nan, y, ks.images, epsilon=0.1)
    with pytest.raises(ConvergenceError, match=r"in 2 iterations; asked for were 1\.0e-12"):
        invariant.fit(x, y, ks.images, epsilon=0.01, tolerance=1e-12, max_iterations=2)


def test_a_flow_forced_otherwise_has_other_images() -> None:
    flow = replace(FLOW, forcing_wavenumber=2)
    solver = ns.Spectral(16, time_step=0.02, flow=flow)
    fields = solver.initial(1, torch.Generator().manual_seed(0))
    found = solver.advance(ns.images(fields, 2), 40)
    expected = ns.images(solver.advance(fields, 40), 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert len(found) == 16 * 2 * 2 * 2
