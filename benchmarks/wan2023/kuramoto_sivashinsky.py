"""The Kuramoto-Sivashinsky equation: a spectral truth, and a biased finite-volume model.

    u_t = - u u_x - u_xx - u_xxxx,  periodic on [0, length]

Both as in the first test problem of Wan et al. 2023 (arXiv 2305.15618), units those of the
equation. Fields are (..., points), their points at i length / points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.wan2023.stepping import ExponentialRungeKutta, draw_uniform, van_leer_flux
from climdown.errors import ConfigError

# The initial fields: a sum of so many sines, amplitudes within +-1/2, wavenumbers 1 to 3.
SINES = 30
LARGEST_WAVENUMBER = 3


@dataclass(frozen=True)
class Spectral:
    """Pseudo-spectral in space, dealiased by the 2/3 rule, ETDRK4 in time.

    The paper's Crank-Nicolson Runge-Kutta takes 50 times as many steps (0.0025).

    Attributes:
        points: even.
        length: of the domain.
        time_step: of 4th order; at 0.05 the error after a unit of time is 6e-7 of the field.

    Raises:
        ConfigError: an odd number of points.
    """

    points: int = 192
    length: float = 64.0
    time_step: float = 0.05

    def __post_init__(self) -> None:
        check_even(self.points)

    def initial(self, trajectories: int, generator: torch.Generator) -> Tensor:
        """Random sums of sines, (trajectories, points)."""
        return random_sines(trajectories, self.points, generator)

    def advance(self, fields: Tensor, steps: int) -> Tensor:
        """Fields (..., points) so many steps later."""
        parts = _spectral_parts(self, fields.dtype, fields.device)

        def nonlinear(v: Tensor) -> Tensor:
            square: Tensor = torch.fft.rfft(torch.fft.irfft(v, self.points) ** 2)
            return parts.advection * square

        v: Tensor = torch.fft.rfft(fields) * parts.resolved
        for _ in range(steps):
            v = parts.scheme.step(v, nonlinear)
        result: Tensor = torch.fft.irfft(v, self.points)
        return result


@dataclass(frozen=True)
class FiniteVolume:
    """Finite volumes: van-Leer-limited advection, explicit; the linear part backward Euler.

    Advection is that of u by the velocity u / 2. Upwinding by u, as for shocks, takes twice as
    much energy out: the bias is then larger than the paper's. Second order in space, first in
    time; coarse, so biased: that is its purpose.

    Attributes:
        points: even.
        length: of the domain.
        time_step: below length / points / max |u|.

    Raises:
        ConfigError: an odd number of points.
    """

    points: int = 48
    length: float = 64.0
    time_step: float = 0.02

    def __post_init__(self) -> None:
        check_even(self.points)

    def initial(self, trajectories: int, generator: torch.Generator) -> Tensor:
        """Random sums of sines, (trajectories, points); of the same functions on any grid."""
        return random_sines(trajectories, self.points, generator)

    def advance(self, fields: Tensor, steps: int) -> Tensor:
        """Fields (..., points) so many steps later."""
        solve = _implicit_factor(self, fields.dtype, fields.device)
        ratio = self.time_step * self.points / self.length
        for _ in range(steps):
            speed = (fields + fields.roll(-1, -1)) / 4
            flux = van_leer_flux(fields, speed, ratio, -1)
            moved = fields - ratio * (flux - flux.roll(1, -1))
            fields = torch.fft.irfft(torch.fft.rfft(moved) * solve, self.points)
        return fields


def images(fields: Tensor) -> Tensor:
    """What the equation cannot tell from the fields: shifts by points, and mirror images.

    u(x) -> u(x - s) and u(x) -> -u(-x) map solutions onto solutions, of both solvers.

    Args:
        fields: (n, points).

    Returns:
        (2 points, n, points), the fields themselves first.
    """
    points = fields.shape[-1]
    mirrored = -fields.flip(-1).roll(1, -1)
    return torch.stack([x.roll(s, -1) for x in (fields, mirrored) for s in range(points)])


def random_sines(trajectories: int, points: int, generator: torch.Generator) -> Tensor:
    """sum_j a_j sin(2 pi m_j x / length + phi_j): (trajectories, points), float64, on the CPU."""
    amplitude, wavenumber, phase = draw_uniform(trajectories, (3, SINES), generator).unbind(1)
    m = 1 + torch.floor(LARGEST_WAVENUMBER * wavenumber)
    x = torch.arange(points, dtype=torch.float64) / points
    angle = 2 * math.pi * (m[..., None] * x + phase[..., None])
    return ((amplitude - 0.5)[..., None] * torch.sin(angle)).sum(1)


def check_even(points: int) -> None:
    """Refuse odd grids, whose Fourier modes do not come in pairs.

    Raises:
        ConfigError: odd, or not positive.
    """
    if points < 2 or points % 2:
        raise ConfigError(f"points is {points}; the grid needs a positive even number of them")


def _wavenumbers(points: int, length: float, device: torch.device) -> Tensor:
    modes = torch.arange(points // 2 + 1, dtype=torch.float64, device=device)
    return 2 * math.pi / length * modes


class _SpectralParts(NamedTuple):
    """Which modes are resolved (points / 2 + 1,), - i k / 2 on those, and the scheme."""

    resolved: Tensor
    advection: Tensor
    scheme: ExponentialRungeKutta


@lru_cache(maxsize=8)
def _spectral_parts(solver: Spectral, dtype: torch.dtype, device: torch.device) -> _SpectralParts:
    k = _wavenumbers(solver.points, solver.length, device)
    resolved = torch.arange(len(k), device=device) < solver.points / 3
    return _SpectralParts(
        resolved,
        (-0.5j * k * resolved).to(dtype.to_complex()),
        ExponentialRungeKutta.build(k**2 - k**4, solver.time_step, dtype),
    )


@lru_cache(maxsize=8)
def _implicit_factor(solver: FiniteVolume, dtype: torch.dtype, device: torch.device) -> Tensor:
    """1 / (1 - dt (s - s^2)), with s the symbol of minus the three-point Laplacian."""
    width = solver.length / solver.points
    k = _wavenumbers(solver.points, solver.length, device)
    s = (2 / width * torch.sin(k * width / 2)) ** 2
    return (1 / (1 - solver.time_step * (s - s**2))).to(dtype)
