"""What the test problems share: time stepping, flux limiting, and sampling of trajectories."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from climdown.errors import ConfigError, ConvergenceError

# On a circle of radius one around the eigenvalue, so many points give the ETD coefficients to
# about 1e-15.
_CONTOUR = 64


class Solver(Protocol):
    """An equation, its discretisation and its step."""

    @property
    def time_step(self) -> float:
        """In the equation's unit of time."""
        ...

    def initial(self, trajectories: int, generator: torch.Generator) -> Tensor:
        """Random fields (trajectories, *grid) to start from: float64, on the CPU."""
        ...

    def advance(self, fields: Tensor, steps: int) -> Tensor:
        """Fields (..., *grid) so many steps later, in their own type and on their own device."""
        ...


@dataclass(frozen=True)
class Sampling:
    """When to look at a trajectory: at burn_in + i spacing, i from 1 to samples.

    The defaults are those of the Kuramoto-Sivashinsky problem: up to time 4025.

    Attributes:
        burn_in: time dropped at the beginning.
        spacing: time between samples.
        samples: how many of each trajectory.
    """

    burn_in: float = 25.0
    spacing: float = 12.5
    samples: int = 320


def simulate(
    solver: Solver,
    sampling: Sampling,
    *,
    trajectories: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
    initial: Tensor | None = None,
) -> Tensor:
    """Fields sampled from many trajectories.

    A trajectory depends on the generator's seed and on its own place among the trajectories,
    not on how many there are, the batch, type or device: these change it by rounding alone
    (which chaos amplifies, so that only the statistics agree after a long time).

    Args:
        solver: the equation to solve.
        sampling: when to look.
        trajectories: how many, each from its own initial fields.
        generator: of the initial fields, on the CPU.
        dtype, device: to compute in and on.
        batch_size: trajectories at once, all of them by default.
        initial: fields (trajectories, *grid) to start from instead of random ones.

    Returns:
        Fields (trajectories, samples, *grid), on the device.

    Raises:
        ConfigError: the times are not whole multiples of the solver's step.
        ConvergenceError: a trajectory became infinite.
    """
    burn_in = whole_steps(sampling.burn_in, solver.time_step, "burn_in")
    spacing = whole_steps(sampling.spacing, solver.time_step, "spacing")
    start = solver.initial(trajectories, generator) if initial is None else initial
    sampled = []
    size = batch_size or len(start)
    for first in range(0, len(start), size):
        fields = solver.advance(start[first : first + size].to(device, dtype), burn_in)
        seen = []
        for _ in range(sampling.samples):
            fields = solver.advance(fields, spacing)
            seen.append(_finite(fields, solver))
        sampled.append(torch.stack(seen, dim=1))
    return torch.cat(sampled)


def whole_steps(duration: float, time_step: float, name: str) -> int:
    """How many steps a duration takes.

    Raises:
        ConfigError: it is no whole number.
    """
    steps = round(duration / time_step)
    if not math.isclose(steps * time_step, duration, rel_tol=1e-9, abs_tol=1e-12):
        raise ConfigError(
            f"{name} {duration:g} is no whole multiple of the solver's time step {time_step:g}"
        )
    return steps


def keep_every(fields: Tensor, factor: int, dimensions: int) -> Tensor:
    """The coarsening C' of the paper: every factor-th point of the last so many dimensions.

    Raises:
        ConfigError: the factor does not divide the grid.
    """
    sizes = fields.shape[-dimensions:]
    if any(size % factor for size in sizes):
        raise ConfigError(f"factor {factor} does not divide the grid {tuple(sizes)}")
    for dim in range(-dimensions, 0):
        index = torch.arange(0, fields.shape[dim], factor, device=fields.device)
        fields = fields.index_select(dim, index)
    return fields


def shift_randomly(fields: Tensor, generator: torch.Generator) -> Tensor:
    """Fields (n, ..., points), each rolled by a random number of points in the last dimension.

    The test problems look the same from everywhere in x, so this is as good a sample; and a
    better one where the fields of a trajectory resemble each other.
    """
    points = fields.shape[-1]
    by = (torch.rand(len(fields), generator=generator) * points).long()
    place = (torch.arange(points) + by[:, None]) % points
    place = place.reshape(len(fields), *[1] * (fields.ndim - 2), points).to(fields.device)
    return fields.gather(-1, place.expand(fields.shape))


def draw_uniform(trajectories: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1), (trajectories, *shape), float64, on the CPU.

    Drawn one trajectory after the other, so that more of them leave the first as they were.
    """
    rows = [
        torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(trajectories)
    ]
    return torch.stack(rows)


@dataclass(frozen=True, eq=False)
class ExponentialRungeKutta:
    """ETDRK4 for v' = L v + N(v) with diagonal, real L (Cox & Matthews 2002).

    The linear part is exact however stiff; the coefficients, differences of nearly equal
    numbers, are means over a circle in the complex plane (Kassam & Trefethen 2005,
    doi:10.1137/S1064827502410633).

    Attributes:
        full, half: exp(h L) and exp(h L / 2), shape of L.
        stage: weight of N within the stages.
        weights: of N at the beginning, at each of the middle stages, and at the end.
    """

    full: Tensor
    half: Tensor
    stage: Tensor
    weights: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def build(cls, linear: Tensor, time_step: float, dtype: torch.dtype) -> ExponentialRungeKutta:
        """Coefficients for L (float64), rounded to `dtype` at the end alone."""
        z = time_step * linear
        angles = (torch.arange(_CONTOUR, dtype=z.dtype, device=z.device) + 0.5) / _CONTOUR
        # L is real: half the circle is enough, and the real part of the mean.
        r = z[..., None] + torch.exp(1j * math.pi * angles)
        e = torch.exp(r)

        def mean(values: Tensor) -> Tensor:
            return (time_step * values.real.mean(-1)).to(dtype)

        return cls(
            full=torch.exp(z).to(dtype),
            half=torch.exp(z / 2).to(dtype),
            stage=mean((torch.exp(r / 2) - 1) / r),
            weights=(
                mean((-4 - r + e * (4 - 3 * r + r**2)) / r**3),
                mean(2 * (2 + r + e * (r - 2)) / r**3),
                mean((-4 - 3 * r - r**2 + e * (4 - r)) / r**3),
            ),
        )

    def step(self, v: Tensor, nonlinear: Callable[[Tensor], Tensor]) -> Tensor:
        """One step of v (..., *shape of L)."""
        first, middle, last = self.weights
        n_v = nonlinear(v)
        half_v = self.half * v
        a = half_v + self.stage * n_v
        n_a = nonlinear(a)
        n_b = nonlinear(half_v + self.stage * n_a)
        n_c = nonlinear(self.half * a + self.stage * (2 * n_b - n_v))
        return self.full * v + first * n_v + middle * (n_a + n_b) + last * n_c


def van_leer_flux(values: Tensor, speed: Tensor, step_over_width: float, dim: int) -> Tensor:
    """Flux of c carried by a through faces: upwind, corrected where c is smooth.

    a (c_i + c_(i+1)) / 2 - |a| / 2 (D - (1 - |a| dt / h) phi(r) D), with D = c_(i+1) - c_i the
    jump across the face, r the jump upwind of it over D, and phi(r) = (r + |r|) / (1 + |r|):
    upwind at extrema, else near Lax-Wendroff (van Leer 1974, doi:10.1016/0021-9991(74)90019-9;
    LeVeque 2002, doi:10.1017/CBO9780511791253, chapter 6).

    Args:
        values: c (..., cells), periodic in `dim`.
        speed: a at the face between each cell and the next one in `dim`.
        step_over_width: dt / h.
        dim: the dimension across whose faces to go.

    Returns:
        Shape of `values`, at the same faces as `speed`.
    """
    following = values.roll(-1, dim)
    jump = following - values
    upwind = torch.where(speed > 0, jump.roll(1, dim), jump.roll(-1, dim))
    product = jump * upwind
    # phi(r) D is the harmonic mean of both jumps where they agree in sign.
    limited = torch.where(product > 0, 2 * product / (jump + upwind), 0.0)
    magnitude = speed.abs()
    spread = magnitude * (jump - (1 - magnitude * step_over_width) * limited)
    return (speed * (values + following) - spread) / 2


def _finite(fields: Tensor, solver: Solver) -> Tensor:
    if not fields.isfinite().all():
        raise ConvergenceError(
            f"{type(solver).__name__} became infinite with time step {solver.time_step:g}: "
            "take a smaller one"
        )
    return fields
