"""Kuramoto-Sivashinsky: both solvers against the equation itself, and what the testbeds share."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from benchmarks.wan2023 import Sampling, Solver, keep_every, simulate
from benchmarks.wan2023.kuramoto_sivashinsky import FiniteVolume, Spectral, random_sines
from benchmarks.wan2023.sample_distances import (
    covariance_rmse,
    energy_spectrum,
    kld_of_marginals,
    mean_energy_log_ratio,
)
from benchmarks.wan2023.stepping import ExponentialRungeKutta, van_leer_flux
from climdown.errors import ConfigError, ConvergenceError, InputError

LENGTH = 64.0
SOLVERS: list[Solver] = [Spectral(), FiniteVolume()]
both = pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def developed() -> Tensor:
    """Four chaotic fields, (4, 192)."""
    return Spectral().advance(random_sines(4, 192, seeded()), 1000)


def derivative(u: Tensor, order: int) -> Tensor:
    k = 2 * math.pi * torch.fft.rfftfreq(u.shape[-1], LENGTH / u.shape[-1], dtype=u.dtype)
    result: Tensor = torch.fft.irfft((1j * k) ** order * torch.fft.rfft(u), u.shape[-1])
    return result


def shifted(u: Tensor, distance: float) -> Tensor:
    """u(x - distance), exact for what the grid resolves."""
    k = 2 * math.pi * torch.fft.rfftfreq(u.shape[-1], LENGTH / u.shape[-1], dtype=u.dtype)
    moved = torch.exp(-1j * k * distance) * torch.fft.rfft(u)
    result: Tensor = torch.fft.irfft(moved, u.shape[-1])
    return result


def orders(errors: list[float]) -> list[float]:
    """Of convergence, from errors at steps that halve."""
    return [math.log2(a / b) for a, b in pairwise(errors)]


@pytest.mark.parametrize("mode", [1, 5, 7, 10, 12])
def test_small_waves_grow_at_the_rate_of_the_linear_equation(mode: int) -> None:
    k = 2 * math.pi * mode / LENGTH
    start = 1e-9 * torch.sin(2 * math.pi * mode * torch.arange(192, dtype=torch.float64) / 192)
    grown = Spectral().advance(start, 60)
    assert float(grown.norm() / start.norm()) == pytest.approx(math.exp(3 * (k**2 - k**4)))


@pytest.mark.parametrize("mode", [2, 6, 10])
def test_coarse_waves_grow_at_the_rate_of_the_three_point_laplacian(mode: int) -> None:
    solver = FiniteVolume(time_step=1e-3)
    s = (2 * math.sin(math.pi * mode / 48) * 48 / LENGTH) ** 2
    start = 1e-9 * torch.sin(2 * math.pi * mode * torch.arange(48, dtype=torch.float64) / 48)
    grown = solver.advance(start, 1000)
    expected = math.exp(s - s**2)
    assert float(grown.norm() / start.norm()) == pytest.approx(expected, rel=5e-4)


def test_the_energy_changes_by_what_is_produced_and_dissipated(developed: Tensor) -> None:
    h = 0.01
    solver = Spectral(time_step=h)
    path = [developed]
    for _ in range(4):
        path.append(solver.advance(path[-1], 1))
    energy = [(u**2).mean(-1) / 2 for u in path]
    change = (energy[0] - 8 * energy[1] + 8 * energy[3] - energy[4]) / (12 * h)
    u = path[2]
    budget = (derivative(u, 1) ** 2).mean(-1) - (derivative(u, 2) ** 2).mean(-1)
    assert budget.abs().min() > 1e-3
    torch.testing.assert_close(change, budget, rtol=0, atol=1e-6)


@both
def test_the_mean_is_conserved(solver: Solver) -> None:
    start = solver.initial(3, seeded()) + torch.tensor([[0.5], [0.0], [-1.0]])
    later = solver.advance(start, 500)
    assert (later - start).abs().max() > 1
    torch.testing.assert_close(later.mean(-1), start.mean(-1), rtol=0, atol=1e-12)


def test_a_uniform_wind_carries_the_pattern_along(developed: Tensor) -> None:
    wind, solver = 0.7, Spectral(time_step=0.01)
    still = solver.advance(developed, 200)
    carried = solver.advance(developed + wind, 200)
    torch.testing.assert_close(carried, shifted(still, 2 * wind) + wind, rtol=0, atol=1e-6)


@both
def test_translations_and_reflections_commute_with_the_flow(solver: Solver) -> None:
    start = solver.initial(2, seeded())
    later = solver.advance(start, 200)
    torch.testing.assert_close(solver.advance(start.roll(5, -1), 200), later.roll(5, -1))
    # x -> -x with u -> -u leaves the equation as it is.
    torch.testing.assert_close(solver.advance(-start.flip(-1), 200), -later.flip(-1))


def test_eight_equal_cells_come_to_rest() -> None:
    # Their wavelength is the one that grows fastest, or nearly: where chaos finds it by chance, it
    # ends. Some trajectories of the truth do.
    x = torch.arange(192, dtype=torch.float64) / 192
    disturbance = 1e-2 * torch.randn(1, 192, generator=seeded(), dtype=torch.float64)
    start = torch.sin(2 * math.pi * 8 * x)[None] + disturbance - disturbance.mean()
    late = Spectral().advance(start, 12000)
    later = Spectral().advance(late, 200)
    assert float(late.abs().max()) > 1
    torch.testing.assert_close(later, late, rtol=0, atol=1e-4)


def test_the_spectral_solver_is_of_fourth_order_in_time(developed: Tensor) -> None:
    start = developed[:, ::3]
    fine = Spectral(64, time_step=1 / 640).advance(start, 640)
    errors = [
        float((Spectral(64, time_step=1 / n).advance(start, n) - fine).norm())
        for n in (10, 20, 40, 80)
    ]
    assert orders(errors) == pytest.approx([4, 4, 4], abs=0.3)


def test_the_default_time_step_is_fine_enough(developed: Tensor) -> None:
    exact = Spectral(time_step=0.005).advance(developed, 200)
    error = Spectral().advance(developed, 20) - exact
    assert float(error.norm() / exact.norm()) < 2e-6


def test_the_coarse_solver_converges_to_the_truth_in_second_order() -> None:
    """In space, that is: the time step shrinks as the square of the width."""
    modes = torch.arange(1, 4, dtype=torch.float64)
    x = torch.arange(384, dtype=torch.float64) / 384
    start = torch.sin(2 * math.pi * modes * x[:, None] + modes).sum(-1)
    exact = Spectral(384, time_step=0.025).advance(start, 80)
    errors = []
    for points in (48, 96, 192):
        steps = 100 * (points // 48) ** 2
        solver = FiniteVolume(points, time_step=2 / steps)
        error = solver.advance(start[:: 384 // points], steps) - exact[:: 384 // points]
        errors.append(float(error.abs().mean()))
    # The limiter costs some accuracy at extrema.
    assert all(1.6 < order < 2.6 for order in orders(errors))


def test_the_coarse_model_has_too_much_energy_at_its_smallest_scales() -> None:
    """At the paper's resolution, that is: else there would be nothing to debias."""
    sampling = Sampling(burn_in=50, spacing=5, samples=40)
    truth, model = (
        simulate(s, sampling, trajectories=16, generator=seeded(), dtype=torch.float32)
        for s in SOLVERS
    )
    theirs = energy_spectrum(keep_every(truth, 8, 1).flatten(0, 1))
    ratio = energy_spectrum(keep_every(model, 2, 1).flatten(0, 1)) / theirs
    assert (ratio[9:] > 1.15).all()
    assert (ratio < 2).all()


def test_exponential_steps_are_exact_for_constant_forcing() -> None:
    linear = torch.tensor([-1e6, -300.0, -1.0, -1e-9, 0.0, 2.0], dtype=torch.float64)
    scheme = ExponentialRungeKutta.build(linear, 0.1, torch.float64)
    found = scheme.step(torch.ones(6, dtype=torch.float64), lambda v: torch.full_like(v, 3.0))
    growth = torch.where(linear == 0, 0.1, torch.expm1(0.1 * linear) / linear)
    torch.testing.assert_close(found, torch.exp(0.1 * linear) + 3 * growth, rtol=1e-13, atol=0)


@pytest.mark.parametrize("speed", [0.6, -0.6])
def test_the_limited_flux_makes_no_new_extrema(speed: float) -> None:
    values = torch.zeros(40, dtype=torch.float64)
    values[10:20] = 1.0
    carrier = torch.full_like(values, speed)
    for _ in range(50):
        flux = van_leer_flux(values, carrier, 1.0, -1)
        values = values - (flux - flux.roll(1, -1))
    assert values.min() > -1e-12
    assert values.max() < 1 + 1e-12
    centre = torch.angle((values * torch.exp(2j * math.pi * torch.arange(40) / 40)).sum())
    # The middle at 14.5 has moved by 50 steps of 0.6 cells.
    expected = 2 * math.pi * (14.5 + 50 * speed) / 40
    assert math.cos(float(centre) - expected) > math.cos(0.05)


@both
def test_a_trajectory_does_not_depend_on_its_batch(solver: Solver) -> None:
    sampling = Sampling(burn_in=5, spacing=1, samples=2)
    few = simulate(solver, sampling, trajectories=2, generator=seeded())
    many = simulate(solver, sampling, trajectories=5, generator=seeded(), batch_size=3)
    assert many.shape[:2] == (5, 2)
    torch.testing.assert_close(many[:2], few, rtol=0, atol=1e-9)
    assert (many[2] - many[0]).abs().max() > 0.1


def test_seeds_are_reproducible_and_differ() -> None:
    sampling = Sampling(burn_in=1, spacing=1, samples=1)
    first, again, other = (
        simulate(Spectral(), sampling, trajectories=2, generator=seeded(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.1


def test_samples_come_at_the_times_asked_for(developed: Tensor) -> None:
    solver = Spectral()
    sampling = Sampling(burn_in=1, spacing=0.5, samples=3)
    seen = simulate(solver, sampling, trajectories=4, generator=seeded(), initial=developed)
    times = torch.stack([solver.advance(developed, n) for n in (30, 40, 50)], dim=1)
    torch.testing.assert_close(seen, times, rtol=0, atol=1e-10)


def test_single_precision_stays_close(developed: Tensor) -> None:
    exact = Spectral().advance(developed, 20)
    single = Spectral().advance(developed.float(), 20)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@both
def test_a_gpu_computes_the_same(solver: Solver) -> None:
    sampling = Sampling(burn_in=5, spacing=1, samples=2)
    here, there = (
        simulate(solver, sampling, trajectories=3, generator=seeded(), device=device)
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-9)


def test_initial_fields_are_sums_of_the_three_longest_waves() -> None:
    start = random_sines(200, 192, seeded())
    spectrum = torch.fft.rfft(start).abs().mean(0)
    assert spectrum[[0, *range(4, 97)]].max() < 1e-10 < spectrum[1:4].min()
    # Thirty amplitudes of variance 1/12, of sines of mean square 1/2.
    assert float(start.var()) == pytest.approx(30 / 24, rel=0.1)


def test_times_have_to_be_whole_steps() -> None:
    with pytest.raises(ConfigError, match=r"spacing 12.51 is no whole multiple"):
        simulate(Spectral(), Sampling(spacing=12.51), trajectories=1, generator=seeded())


@pytest.mark.parametrize("kind", [Spectral, FiniteVolume])
def test_grids_have_to_be_even(kind: type[Spectral] | type[FiniteVolume]) -> None:
    with pytest.raises(ConfigError, match="points is 47"):
        kind(points=47)


def test_an_unstable_step_is_told() -> None:
    sampling = Sampling(burn_in=0, spacing=200, samples=1)
    with pytest.raises(ConvergenceError, match="FiniteVolume became infinite with time step 2"):
        simulate(FiniteVolume(time_step=2.0), sampling, trajectories=2, generator=seeded())


def test_coarsening_keeps_every_so_many_points() -> None:
    fields = torch.arange(2 * 4 * 6).reshape(2, 4, 6)
    assert keep_every(fields, 3, 1).tolist() == fields[:, :, [0, 3]].tolist()
    assert keep_every(fields, 2, 2).tolist() == fields[:, ::2, ::2].tolist()
    with pytest.raises(ConfigError, match="factor 4 does not divide"):
        keep_every(fields, 4, 2)


def test_covariances_differ_by_the_square_of_a_factor() -> None:
    x = torch.randn(100, 6, generator=seeded())
    assert covariance_rmse(1.1 * x + 5, x) == pytest.approx(0.21)
    with pytest.raises(InputError, match="same grid"):
        covariance_rmse(x[:, :3], x)


@pytest.mark.parametrize("shape", [(16,), (16, 16)])
def test_a_wave_has_its_energy_at_its_wavenumber(shape: tuple[int, ...]) -> None:
    angle = 2 * math.pi * torch.arange(16, dtype=torch.float64) / 16
    wave = 2 * torch.sin(3 * angle) + 7
    if len(shape) == 2:
        wave = wave[:, None] + torch.cos(2 * angle[:, None] + 2 * angle)
    spectrum = energy_spectrum(wave.expand(5, *shape))
    expected = torch.zeros(8, dtype=torch.float64)
    expected[2] = 2.0
    # The oblique wave's |k| is the root of 8, nearest to 3.
    expected[2] += 0.5 * (len(shape) == 2)
    torch.testing.assert_close(spectrum, expected, rtol=0, atol=1e-12)


def test_log_ratios_of_energy_are_weighted_by_the_reference() -> None:
    angle = 2 * math.pi * torch.arange(4, dtype=torch.float64) / 4
    first, second = torch.sin(angle)[None], torch.cos(2 * angle)[None] / math.sqrt(2)
    reference = first + second
    predicted = math.sqrt(2) * first + 2 * second
    # Energies 1/2 and 1/2, doubled and times four.
    expected = (math.log(2) + math.log(4)) / 2
    assert mean_energy_log_ratio(predicted, reference) == pytest.approx(expected)
    reference = 3 * first + second
    predicted = 3 * math.sqrt(2) * first + 2 * second
    expected = (9 * math.log(2) + math.log(4)) / 10
    assert mean_energy_log_ratio(predicted, reference, weighted=True) == pytest.approx(expected)


def test_wavenumbers_without_energy_can_be_left_out_of_the_log_ratios() -> None:
    k = 2 * math.pi * torch.arange(32, dtype=torch.float64) / 32
    waves = torch.stack((torch.sin(k), 1e-3 * torch.sin(5 * k)))
    faint = torch.stack((torch.sin(k), 2e-3 * torch.sin(5 * k)))
    noise = 1e-9 * torch.randn(2, 32, generator=seeded(), dtype=torch.float64)
    # Of sixteen wavenumbers two have energy, and one of those more than a thousandth.
    some = mean_energy_log_ratio(faint + noise, waves + noise, least=1e-7)
    assert some == pytest.approx(math.log(4) / 2, rel=1e-4)
    assert mean_energy_log_ratio(faint + noise, waves + noise, least=1e-3) < 1e-4


def test_divergence_of_marginals_is_that_of_normals() -> None:
    n = 40_000
    probabilities = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    normal = math.sqrt(2) * torch.erfinv(2 * probabilities - 1)
    reference = torch.stack((normal, normal), dim=1)
    predicted = torch.stack((normal + 0.5, 1.3 * normal), dim=1)
    # The kernel widens both densities, by a variance of n^(-2/5).
    wide = 1 + n**-0.4
    expected = 0.125 / wide + math.log(1.3) + 1 / (2 * 1.3**2) - 0.5
    assert kld_of_marginals(predicted, reference) == pytest.approx(expected, rel=3e-3)
    assert kld_of_marginals(reference, reference) == pytest.approx(0, abs=1e-12)
