"""Navier-Stokes with Kolmogorov forcing: both solvers against closed forms and balances."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from benchmarks.wan2023 import Sampling, Solver, simulate
from benchmarks.wan2023.navier_stokes import (
    FiniteVolume,
    Flow,
    Spectral,
    face_velocities,
    random_vorticity,
)
from climdown.errors import ConfigError, ConvergenceError

POINTS = 32
FORCED = Flow(viscosity=0.01)
DECAYING = Flow(viscosity=0.01, drag=0.0, forcing_amplitude=0.0)
INVISCID = Flow(viscosity=0.0, drag=0.0, forcing_amplitude=0.0)
SOLVERS: list[Solver] = [
    Spectral(POINTS, time_step=0.01, flow=FORCED),
    FiniteVolume(POINTS, time_step=0.01, flow=FORCED),
]
both = pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mesh(points: int) -> tuple[Tensor, Tensor]:
    """x and y, (points, points) each."""
    axis = 2 * math.pi / points * torch.arange(points, dtype=torch.float64)
    return axis.expand(points, points), axis[:, None].expand(points, points)


def velocity(w: Tensor) -> tuple[Tensor, Tensor]:
    """u and v by another way than the solvers': a Fourier transform of complex fields."""
    k = torch.fft.fftfreq(w.shape[-1], 1 / w.shape[-1], dtype=w.dtype)
    square = k**2 + k[:, None] ** 2
    psi = torch.fft.fft2(w) / torch.where(square > 0, square, 1.0)
    u, v = torch.fft.ifft2(1j * k[:, None] * psi), torch.fft.ifft2(-1j * k * psi)
    return u.real, v.real


def energy(w: Tensor) -> Tensor:
    u, v = velocity(w)
    return (u**2 + v**2).mean((-2, -1)) / 2


def orders(errors: list[float]) -> list[float]:
    """Of convergence, from errors at steps or widths that halve."""
    return [math.log2(a / b) for a, b in pairwise(errors)]


@pytest.fixture(scope="module")
def developed() -> Tensor:
    """Two turbulent fields, (2, 32, 32), with none of the modes a solver would cut off."""
    return SOLVERS[0].advance(random_vorticity(2, POINTS, seeded()), 300)


@pytest.mark.parametrize("mode", [1, 3])
def test_taylor_green_vortices_decay_as_they_should(mode: int) -> None:
    flow = Flow(viscosity=0.05, drag=0.1, forcing_amplitude=0.0)
    x, y = mesh(POINTS)
    start = torch.cos(mode * x) * torch.cos(mode * y)
    later = Spectral(POINTS, time_step=0.02, flow=flow).advance(start, 50)
    rate = 2 * mode**2 * flow.viscosity + flow.drag
    torch.testing.assert_close(later, math.exp(-rate) * start, rtol=0, atol=1e-12)


def test_coarse_taylor_green_vortices_decay_at_second_order_in_width() -> None:
    flow = Flow(viscosity=0.05, drag=0.1, forcing_amplitude=0.0)
    errors = []
    for points in (16, 32, 64):
        steps = 20 * (points // 16) ** 2
        x, y = mesh(points)
        start = torch.cos(x) * torch.cos(y)
        later = FiniteVolume(points, time_step=1 / steps, flow=flow).advance(start, steps)
        errors.append(float((later - math.exp(-0.2) * start).abs().mean()))
    # The limiter costs some accuracy at extrema.
    assert all(1.6 < order < 2.6 for order in orders(errors))
    assert errors[-1] < 2e-3


def test_two_waves_interact_by_the_advection_of_one_by_the_other() -> None:
    """w = a cos x + b cos 2y: - u w_x - v w_y = 3/2 a b sin x sin 2y, worked out by hand."""
    a, b, step = 1.3, 0.7, 1e-4
    x, y = mesh(POINTS)
    start = a * torch.cos(x) + b * torch.cos(2 * y)
    later = Spectral(POINTS, time_step=step, flow=INVISCID).advance(start, 1)
    expected = 1.5 * a * b * torch.sin(x) * torch.sin(2 * y)
    torch.testing.assert_close((later - start) / step, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", [Spectral, FiniteVolume])
def test_a_flow_at_rest_approaches_the_laminar_one(
    kind: type[Spectral] | type[FiniteVolume],
) -> None:
    """w = - k cos(k y) (1 - exp(-r t)) / r with r = nu k^2 + drag: viscous enough to be stable."""
    flow = Flow(viscosity=0.1)
    solver = kind(64, time_step=0.005, flow=flow)
    later = solver.advance(torch.zeros(64, 64, dtype=torch.float64), 200)
    rate = 16 * flow.viscosity + flow.drag
    expected = -4 * torch.cos(4 * mesh(64)[1]) * (1 - math.exp(-rate)) / rate
    tolerance = 1e-10 if kind is Spectral else 0.02
    torch.testing.assert_close(later, expected, rtol=0, atol=tolerance)


def test_energy_and_enstrophy_are_conserved_without_friction() -> None:
    start = random_vorticity(2, POINTS, seeded())
    later = Spectral(POINTS, time_step=0.005, flow=INVISCID).advance(start, 100)
    assert (later - start).abs().max() > 1
    torch.testing.assert_close(energy(later), energy(start), rtol=1e-6, atol=0)
    enstrophies = [(w**2).mean((-2, -1)) for w in (later, start)]
    torch.testing.assert_close(*enstrophies, rtol=1e-5, atol=0)


def test_the_energy_changes_by_forcing_viscosity_and_drag(developed: Tensor) -> None:
    h = 0.005
    solver = Spectral(POINTS, time_step=h, flow=FORCED)
    path = [developed]
    for _ in range(4):
        path.append(solver.advance(path[-1], 1))
    e = [energy(w) for w in path]
    change = (e[0] - 8 * e[1] + 8 * e[3] - e[4]) / (12 * h)
    w = path[2]
    work = (velocity(w)[0] * torch.sin(4 * mesh(POINTS)[1])).mean((-2, -1))
    budget = work - FORCED.viscosity * (w**2).mean((-2, -1)) - 2 * FORCED.drag * e[2]
    assert work.abs().min() > 1e-3
    torch.testing.assert_close(change, budget, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [Spectral, FiniteVolume])
def test_the_mean_is_conserved_without_drag(kind: type[Spectral] | type[FiniteVolume]) -> None:
    solver = kind(POINTS, time_step=0.01, flow=replace(FORCED, drag=0.0))
    start = solver.initial(2, seeded()) + torch.tensor([0.5, -1.0])[:, None, None]
    later = solver.advance(start, 100)
    assert (later - start).abs().max() > 1
    means = [w.mean((-2, -1)) for w in (later, start)]
    torch.testing.assert_close(*means, rtol=0, atol=1e-12)


def test_face_velocities_are_free_of_divergence_and_right() -> None:
    x, y = mesh(256)
    h = 2 * math.pi / 256
    u, v = face_velocities(torch.sin(x) * torch.cos(2 * y) / h)
    divergence = u - u.roll(1, -1) + v - v.roll(1, -2)
    assert divergence.abs().max() < 1e-12
    right, upper = x + h / 2, y + h / 2
    expected = -2 * torch.sin(right) * torch.sin(2 * y), -torch.cos(x) * torch.cos(2 * upper)
    torch.testing.assert_close((u, v), expected, rtol=0, atol=1e-3)


@both
def test_translations_that_leave_the_force_in_place_commute_with_the_flow(solver: Solver) -> None:
    start = solver.initial(2, seeded())
    # A quarter of the side in y is one wavelength of the force.
    moved = start.roll((POINTS // 4, 5), (-2, -1))
    later = solver.advance(start, 50)
    expected = later.roll((POINTS // 4, 5), (-2, -1))
    torch.testing.assert_close(solver.advance(moved, 50), expected, rtol=0, atol=1e-9)


def test_the_spectral_solver_is_of_fourth_order_in_time(developed: Tensor) -> None:
    def after_one(steps: int) -> Tensor:
        return Spectral(POINTS, time_step=1 / steps, flow=FORCED).advance(developed, steps)

    fine = after_one(640)
    errors = [float((after_one(steps) - fine).norm()) for steps in (40, 80, 160)]
    assert orders(errors) == pytest.approx([4, 4], abs=0.3)


def test_the_coarse_solver_converges_to_the_truth() -> None:
    """From random flows, with time steps in proportion to the widths: between both orders."""
    start = random_vorticity(1, 128, seeded())
    exact = Spectral(128, time_step=0.01, flow=DECAYING).advance(start, 50)
    errors = []
    for points in (32, 64, 128):
        every = 128 // points
        solver = FiniteVolume(points, time_step=0.32 / points, flow=DECAYING)
        later = solver.advance(start[:, ::every, ::every], round(0.5 / solver.time_step))
        errors.append(float((later - exact[:, ::every, ::every]).abs().mean()))
    assert all(1.0 < order < 2.6 for order in orders(errors))
    assert errors[-1] < 0.05 * float(exact.abs().mean())


@both
def test_a_trajectory_does_not_depend_on_its_batch(solver: Solver) -> None:
    sampling = Sampling(burn_in=0.5, spacing=0.2, samples=2)
    few = simulate(solver, sampling, trajectories=2, generator=seeded())
    many = simulate(solver, sampling, trajectories=4, generator=seeded(), batch_size=3)
    assert many.shape == (4, 2, POINTS, POINTS)
    torch.testing.assert_close(many[:2], few, rtol=0, atol=1e-9)
    assert (many[2] - many[0]).abs().max() > 0.1


def test_seeds_are_reproducible_and_differ() -> None:
    first, again, other = (random_vorticity(2, POINTS, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.1


def test_initial_flows_are_real_smooth_and_the_same_on_any_grid() -> None:
    fine = random_vorticity(3, 64, seeded())
    torch.testing.assert_close(fine[:, ::2, ::2], random_vorticity(3, 32, seeded()))
    torch.testing.assert_close(2 * energy(fine), torch.ones(3, dtype=torch.float64))
    assert torch.fft.rfft2(fine)[:, :, 9:].abs().max() < 1e-9


def test_single_precision_stays_close(developed: Tensor) -> None:
    exact = SOLVERS[0].advance(developed, 50)
    single = SOLVERS[0].advance(developed.float(), 50)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@both
def test_a_gpu_computes_the_same(solver: Solver) -> None:
    sampling = Sampling(burn_in=0.5, spacing=0.2, samples=2)
    here, there = (
        simulate(solver, sampling, trajectories=3, generator=seeded(), device=device)
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", [Spectral, FiniteVolume])
def test_grids_have_to_be_even(kind: type[Spectral] | type[FiniteVolume]) -> None:
    with pytest.raises(ConfigError, match="points is 33"):
        kind(points=33)


def test_an_unstable_step_is_told() -> None:
    sampling = Sampling(burn_in=0, spacing=50, samples=1)
    with pytest.raises(ConvergenceError, match="Spectral became infinite with time step"):
        simulate(Spectral(64, time_step=0.5), sampling, trajectories=1, generator=seeded())
