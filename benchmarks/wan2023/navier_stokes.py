"""Two-dimensional Navier-Stokes with Kolmogorov forcing: a spectral truth, a low-order model.

In vorticity w, on a doubly periodic square of side 2 pi,

    w_t + u w_x + v w_y = nu (w_xx + w_yy) - drag w - k cos(k y),
    u = psi_y,  v = - psi_x,  psi_xx + psi_yy = - w,

the last term being the curl of the force sin(k y) in x. Viscosity 1/1000, drag 0.1 and k = 4 as
in Kochkov et al. 2021 (doi:10.1073/pnas.2101784118), which the second test problem of Wan et al.
2023 (arXiv 2305.15618) follows. Fields are the vorticity (..., y, x), points at 2 pi i / points;
units those of the equation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.wan2023.kuramoto_sivashinsky import check_even
from benchmarks.wan2023.stepping import ExponentialRungeKutta, draw_uniform, van_leer_flux

# The initial flows: wavenumbers up to the largest, most energy near the peak, speed 1 (rms).
LARGEST_WAVENUMBER = 8
PEAK_WAVENUMBER = 4.0


@dataclass(frozen=True)
class Flow:
    """What drives and brakes the flow.

    Attributes:
        viscosity: nu, one over the Reynolds number.
        drag: linear, per unit of time.
        forcing_wavenumber: k.
        forcing_amplitude: of the force sin(k y); 0 for a flow that decays.
    """

    viscosity: float = 1e-3
    drag: float = 0.1
    forcing_wavenumber: int = 4
    forcing_amplitude: float = 1.0


@dataclass(frozen=True)
class Spectral:
    """Pseudo-spectral in space, dealiased by the 2/3 rule, ETDRK4 in time.

    Attributes:
        points: per side, even.
        time_step: of 4th order; stable while it is below 8 / (points max |velocity|) or so.
        flow: its constants.

    Raises:
        ConfigError: an odd number of points.
    """

    points: int = 256
    time_step: float = 0.004
    flow: Flow = Flow()

    def __post_init__(self) -> None:
        check_even(self.points)

    def initial(self, trajectories: int, generator: torch.Generator) -> Tensor:
        """Random smooth flows, (trajectories, points, points)."""
        return random_vorticity(trajectories, self.points, generator)

    def advance(self, fields: Tensor, steps: int) -> Tensor:
        """Vorticity (..., points, points) so many steps later."""
        parts = _spectral_parts(self, fields.dtype, fields.device)
        shape = (self.points, self.points)

        def nonlinear(w: Tensor) -> Tensor:
            velocity = torch.fft.irfft2(parts.velocity * w.unsqueeze(-3), shape)
            u, v = velocity.unbind(-3)
            # Four transforms instead of the five of u w_x + v w_y (Basdevant 1983,
            # doi:10.1016/0021-9991(83)90035-9).
            products: Tensor = torch.fft.rfft2(torch.stack((u * v, v**2 - u**2), -3))
            return (parts.advection * products).sum(-3) + parts.forcing

        w: Tensor = torch.fft.rfft2(fields) * parts.resolved
        for _ in range(steps):
            w = parts.scheme.step(w, nonlinear)
        result: Tensor = torch.fft.irfft2(w, shape)
        return result


@dataclass(frozen=True)
class FiniteVolume:
    """Finite volumes: van-Leer-limited advection and forcing explicit; diffusion backward Euler.

    Velocities on faces, from a stream function of the five-point Laplacian, so free of
    divergence. Second order in space, first in time; coarse, so biased: that is its purpose.

    Attributes:
        points: per side, even.
        time_step: stable below half of 2 pi / (points max |velocity|).
        flow: its constants.

    Raises:
        ConfigError: an odd number of points.
    """

    points: int = 64
    time_step: float = 0.01
    flow: Flow = Flow()

    def __post_init__(self) -> None:
        check_even(self.points)

    def initial(self, trajectories: int, generator: torch.Generator) -> Tensor:
        """Random smooth flows, (trajectories, points, points); the same on any grid."""
        return random_vorticity(trajectories, self.points, generator)

    def advance(self, fields: Tensor, steps: int) -> Tensor:
        """Vorticity (..., points, points) so many steps later."""
        parts = _volume_parts(self, fields.dtype, fields.device)
        ratio = self.time_step * self.points / (2 * math.pi)
        transformed = torch.fft.rfft2(fields)
        for _ in range(steps):
            psi = torch.fft.irfft2(transformed * parts.stream, fields.shape[-2:])
            moved = fields - ratio * flux_divergence(fields, *face_velocities(psi), ratio)
            transformed = torch.fft.rfft2(moved + parts.source) * parts.solve
            fields = torch.fft.irfft2(transformed, fields.shape[-2:])
        return fields


def random_vorticity(trajectories: int, points: int, generator: torch.Generator) -> Tensor:
    """Vorticity of flows with random phases and rms speed 1: (trajectories, points, points).

    The spectrum of speed is k exp(-(k / peak)^2) per mode, up to `LARGEST_WAVENUMBER`: the same
    flows on any grid that resolves it. float64, on the CPU.
    """
    largest = LARGEST_WAVENUMBER
    ky = torch.arange(-largest, largest + 1, dtype=torch.float64)[:, None]
    kx = torch.arange(largest + 1, dtype=torch.float64)
    k = torch.sqrt(kx**2 + ky**2)
    # A real wave once: of the pairs at kx = 0 the one with positive ky.
    counted = (k <= largest) & ((kx > 0) | (ky > 0))
    speed = torch.where(counted, k * torch.exp(-((k / PEAK_WAVENUMBER) ** 2)), 0.0)
    speed = speed / torch.sqrt((speed**2).sum() / 2)
    phase = draw_uniform(trajectories, (2 * largest + 1, largest + 1), generator)
    waves = k * speed * torch.exp(2j * math.pi * phase)
    x = 2 * math.pi / points * torch.arange(points, dtype=torch.float64)
    along_y, along_x = torch.exp(1j * x[:, None] * ky[:, 0]), torch.exp(1j * x[:, None] * kx)
    return (along_y @ waves @ along_x.T).real


def images(fields: Tensor, wavenumber: int = Flow.forcing_wavenumber) -> Tensor:
    """What the forced flow cannot tell from the fields: shifts, mirror images, half turns.

    Vorticity may be shifted by any distance in x and by whole waves of the force in y; turned
    by pi; or mirrored in x with its sign changed if it is shifted by half a wave in y as well.
    Of these, all that map the grid onto itself.

    Args:
        fields: vorticity, (n, points, points).
        wavenumber: of the force.

    Returns:
        (g, n, points, points), the fields themselves first.
    """
    points = fields.shape[-1]
    turned = fields.flip((-2, -1)).roll((1, 1), (-2, -1))
    mirrored = -fields.flip(-1).roll(1, -1)
    upside_down = -fields.flip(-2).roll(1, -2)
    # Half waves of the force, in points of the grid times the wavenumber's double.
    steps = [(y, y * 2 * wavenumber / points) for y in range(points)]
    even = [y for y, halves in steps if halves % 2 == 0]
    odd = [y for y, halves in steps if halves % 2 == 1]
    pairs = [(x, y) for y in even for x in (fields, turned)]
    pairs += [(x, y) for y in odd for x in (mirrored, upside_down)]
    return torch.stack([x.roll((y, s), (-2, -1)) for x, y in pairs for s in range(points)])


def face_velocities(psi: Tensor) -> tuple[Tensor, Tensor]:
    """u on each cell's right face and v on its upper one, from psi over the cells' width.

    psi is at the centres (..., y, x). Differences between the corners, means of four cells
    each: what flows into a cell flows out of it.
    """
    corner = (psi + psi.roll(-1, -1) + psi.roll(-1, -2) + psi.roll((-1, -1), (-2, -1))) / 4
    return corner - corner.roll(1, -2), corner.roll(1, -1) - corner


def flux_divergence(w: Tensor, u: Tensor, v: Tensor, step_over_width: float) -> Tensor:
    """Limited fluxes of w out of each cell, times the cell's width, (..., y, x)."""
    total = torch.zeros_like(w)
    for speed, dim in ((u, -1), (v, -2)):
        flux = van_leer_flux(w, speed, step_over_width, dim)
        total += flux - flux.roll(1, dim)
    return total


class _SpectralParts(NamedTuple):
    """Resolved modes; velocity from vorticity; advection from products; forcing; the scheme."""

    resolved: Tensor
    velocity: Tensor
    advection: Tensor
    forcing: Tensor
    scheme: ExponentialRungeKutta


class _VolumeParts(NamedTuple):
    """Stream function over the width from vorticity, source per step, the implicit factor."""

    stream: Tensor
    source: Tensor
    solve: Tensor


@lru_cache(maxsize=8)
def _spectral_parts(solver: Spectral, dtype: torch.dtype, device: torch.device) -> _SpectralParts:
    kx, ky = _wavenumbers(solver.points, device)
    square = kx**2 + ky**2
    resolved = (kx.abs() < solver.points / 3) & (ky.abs() < solver.points / 3)
    stream = torch.where(square > 0, 1 / square, 0.0) * resolved
    flow = solver.flow
    complex_type = dtype.to_complex()
    return _SpectralParts(
        resolved,
        torch.stack((1j * ky * stream, -1j * kx * stream)).to(complex_type),
        (torch.stack((kx**2 - ky**2, kx * ky)) * resolved).to(dtype),
        torch.fft.rfft2(_forcing(flow, solver.points, device)).to(complex_type),
        ExponentialRungeKutta.build(-flow.viscosity * square - flow.drag, solver.time_step, dtype),
    )


@lru_cache(maxsize=8)
def _volume_parts(solver: FiniteVolume, dtype: torch.dtype, device: torch.device) -> _VolumeParts:
    width = 2 * math.pi / solver.points
    kx, ky = _wavenumbers(solver.points, device)
    square = (2 / width * torch.sin(kx * width / 2)) ** 2
    square = square + (2 / width * torch.sin(ky * width / 2)) ** 2
    flow = solver.flow
    decay = flow.viscosity * square + flow.drag
    return _VolumeParts(
        torch.where(square > 0, 1 / (square * width), 0.0).to(dtype),
        (solver.time_step * _forcing(flow, solver.points, device)).to(dtype),
        (1 / (1 + solver.time_step * decay)).to(dtype),
    )


def _wavenumbers(points: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """kx (points / 2 + 1,) and ky (points, 1)."""
    ky = torch.fft.fftfreq(points, 1 / points, dtype=torch.float64, device=device)
    kx = torch.fft.rfftfreq(points, 1 / points, dtype=torch.float64, device=device)
    return kx, ky[:, None]


def _forcing(flow: Flow, points: int, device: torch.device) -> Tensor:
    """Curl of the force, (points, points)."""
    y = 2 * math.pi / points * torch.arange(points, dtype=torch.float64, device=device)
    k = flow.forcing_wavenumber
    curl = -flow.forcing_amplitude * k * torch.cos(k * y)
    return curl[:, None].expand(points, points)
