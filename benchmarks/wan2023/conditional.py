"""Fine fields given coarse ones, p(x | C' x = y'), without pairs of both.

A denoiser learns the fine fields alone; when sampling, what it says is moved onto C' x = y', as
in Wan et al. 2023 (arXiv 2305.15618, section 3.3). Fields are (n, channels, ny, nx); in one
dimension ny is 1.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.wan2023.stepping import keep_every, shift_randomly
from climdown.diffusion.denoiser import Denoise, Denoiser
from climdown.diffusion.guidance import projection, unified_coordinate_guidance
from climdown.diffusion.losses import edm_loss
from climdown.diffusion.noise import KeyedNoise
from climdown.diffusion.schedule import karras_sigmas, lognormal_sigmas
from climdown.diffusion.solvers import sample_fast
from climdown.training import averages


@dataclass(frozen=True)
class Recipe:
    """How a test problem's denoiser is trained.

    Attributes:
        steps: of training.
        batch: fields of each.
        rate: of Adam after `warm_up` steps, from where it falls to zero along a cosine.
        warm_up: steps.
        noise: mean and standard deviation of ln sigma, sigma in the fields' own deviations.
        decay: of the average of the weights.
    """

    steps: int = 2500
    batch: int = 64
    rate: float = 2e-3
    warm_up: int = 100
    noise: tuple[float, float] = (-1.0, 1.6)
    decay: float = 0.999


@dataclass(frozen=True, eq=False)
class FinePrior:
    """What was learnt of the fine fields.

    Attributes:
        denoiser: of fields less `mean`, over `scale`.
        mean, scale: of all values.
        power: mean |FFT|^2 over the number of points, of such normalised fields: the eigenvalues
            of their covariance, were it the same everywhere, (channels, ny, nx).
    """

    denoiser: Denoiser
    mean: float
    scale: float
    power: Tensor

    @torch.no_grad()
    def sample(
        self,
        coarse: Tensor,
        *,
        factor: int,
        guidance: float | None = None,
        levels: int = 64,
        sigmas: tuple[float, float] = (1e-3, 80.0),
        batch_size: int = 256,
        seed: int = 0,
    ) -> Tensor:
        """One draw from p(x | C' x = y') for each y', by the fast solver with fresh noise.

        C' x = y' holds to the last bit.

        Args:
            coarse: y', every factor-th point of x, (n, channels, *coarse grid).
            factor: of the coarsening C'.
            guidance: alpha of the paper's Eq. 7, 0 to leave out the gradient through the
                network; without a number `kriging` takes its place, three times cheaper.
            levels: of noise, at a network evaluation each.
            sigmas: the lowest of them but zero, and the highest, in units of `scale`.
            batch_size: fields at once; changes draws by rounding alone.
            seed: of the noise.
        """
        drawn = []
        ladder = karras_sigmas(levels, sigma_min=sigmas[0], sigma_max=sigmas[1])
        for first in range(0, len(coarse), batch_size):
            part = coarse[first : first + batch_size]
            observed = KeptPoints((part - self.mean) / self.scale, factor)
            denoise = self.denoiser.bind(torch.zeros(len(part), 3, device=part.device))
            keys = tuple((0, str(first + i)) for i in range(len(part)))
            noise = KeyedNoise(seed, keys, tuple(self.power.shape), part.device)
            conditional = (
                kriging(denoise, observed, self.power)
                if guidance is None
                else eq7(denoise, observed, guidance)
            )
            x = self.mean + self.scale * sample_fast(conditional, noise, ladder)
            drawn.append(KeptPoints(part, factor).project(x))
        return torch.cat(drawn)


@dataclass(frozen=True, eq=False)
class KeptPoints:
    """An observation of every factor-th point along x, and along y unless ny is 1.

    Attributes:
        values: y', (n, channels, *coarse grid).
        factor: of the coarsening C'.
    """

    values: Tensor
    factor: int

    def residual(self, x: Tensor) -> Tensor:
        """C' x - y'."""
        return keep_every(x, self.factor, _dimensions(x)) - self.values

    def project(self, x: Tensor, sigma: float | None = None) -> Tensor:  # noqa: ARG002
        """(C')^+ y' + (I - V V^T) x: the known points put in their places."""
        return self._placed(self.values, x)

    def interpolate(self, like: Tensor) -> Tensor:
        """The field through y' without wavenumbers that the coarse grid cannot hold."""
        fields = self.values
        for dim in range(-_dimensions(like), 0):
            fields = _finer(fields, like.shape[dim], dim)
        return fields

    def spread(self, values: Tensor, like: Tensor) -> Tensor:
        """(C')^T of values on the coarse grid: zero between the points."""
        return self._placed(values, torch.zeros_like(like))

    def _placed(self, values: Tensor, x: Tensor) -> Tensor:
        f, placed = self.factor, x.clone()
        if _dimensions(x) == 1:
            placed[..., ::f] = values
        else:
            placed[..., ::f, ::f] = values
        return placed


def eq7(denoise: Denoise, observed: KeptPoints, alpha: float) -> Denoise:
    """Wan et al. 2023 (arXiv 2305.15618, Eq. 7).

    D~ = (C')^+ y' + (I - V V^T) [D - alpha grad_x || C' D - y' ||^2]
    """
    if alpha == 0.0:
        return projection(denoise, observed)
    return projection(unified_coordinate_guidance(denoise, observed, scale=2.0 * alpha), observed)


def kriging(denoise: Denoise, observed: KeptPoints, power: Tensor) -> Denoise:
    """Move what a denoiser says onto C' x = y' together with its surroundings.

    D~ = D + S C'^T (C' S C'^T)^-1 (y' - C' D)

    with S the covariance that the clean field still has given the noisy one, lambda sigma^2 /
    (lambda + sigma^2) per wavenumber for a Gaussian field with powers lambda. For such fields
    this is E[x0 | x, C' x0 = y'], so solvers draw from p(x | C' x = y') itself. Eq. 7 without
    its gradient moves the known points alone: what lies between settles at high noise levels,
    when the known points are hardly felt, and then no longer fits them.

    Args:
        denoise: D.
        observed: y', in the denoiser's units.
        power: lambda, shape of a field.
    """
    grid = tuple(range(-_dimensions(power), 0))

    def filtered(values: Tensor, gain: Tensor) -> Tensor:
        result: Tensor = torch.fft.ifftn(torch.fft.fftn(values, dim=grid) * gain, dim=grid).real
        return result

    def conditional(x: Tensor, sigma: float) -> Tensor:
        denoised = denoise(x, sigma)
        left = power * sigma**2 / (power + sigma**2)
        # Every factor-th value of a stationary covariance is a stationary covariance.
        covariance = torch.fft.ifftn(left, dim=grid).real
        coarse = keep_every(covariance, observed.factor, len(grid))
        coarse_power = torch.fft.fftn(coarse, dim=grid).real
        weights = filtered(-observed.residual(denoised), 1.0 / coarse_power)
        return observed.project(denoised + filtered(observed.spread(weights, denoised), left))

    return conditional


class Training:
    """Training of a denoiser that can stop at any step and go on from its state.

    What a step draws depends on the seed and on its own number alone.

    Args:
        network: as of `Denoiser`.
        fields: to learn, on the device to train on, (n, channels, ny, nx). They are shifted at
            random along x (`shift_randomly`) whenever they are used.
        recipe: how.
        seed: of all but the network's first weights.
    """

    def __init__(
        self, network: nn.Module, fields: Tensor, recipe: Recipe, *, seed: int = 0
    ) -> None:
        self.fields = fields
        self.recipe = recipe
        self.seed = seed
        self.done = 0
        self.mean, self.scale = float(fields.mean()), float(fields.std())
        static, mask = torch.zeros(0, *fields.shape[2:]), torch.ones(fields.shape[1:])
        self.denoiser = Denoiser(network, static=static, mask=mask).to(fields.device)
        self.average = deepcopy(self.denoiser).requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.denoiser.parameters())

    def step(self) -> float:
        """One step; its loss, 1 for a denoiser that knows the variance alone."""
        x0, sigma, noise = self._draw()
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        self.optimiser.zero_grad()
        calendar = torch.zeros(len(x0), 3, device=x0.device)
        loss = edm_loss(self.denoiser, x0, torch.ones_like(x0), calendar, sigma, noise).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.denoiser.parameters(), 1.0)
        self.optimiser.step()
        decay = averages.decay(self.recipe.decay, "exponential", self.done)
        averages.update(self.average, self.denoiser, decay)
        self.done += 1
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """All that `resume` needs."""
        parts = {name: getattr(self, name).state_dict() for name in _STATEFUL}
        return {"done": self.done, **parts}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same training."""
        self.done = state["done"]
        for name in _STATEFUL:
            getattr(self, name).load_state_dict(state[name])

    def prior(self) -> FinePrior:
        """What was learnt so far, by the average of the weights."""
        x = (self.fields - self.mean) / self.scale
        grid = tuple(range(-_dimensions(x), 0))
        power = torch.fft.fftn(x, dim=grid, norm="ortho").abs().square().mean(0)
        power = power.clamp(min=_LEAST_POWER)
        return FinePrior(self.average.eval(), self.mean, self.scale, power)

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Clean fields, noise levels and noise of the next step."""
        recipe, device = self.recipe, self.fields.device
        generator = torch.Generator().manual_seed(self.seed * 2**32 + self.done)
        chosen = torch.randint(len(self.fields), (recipe.batch,), generator=generator)
        x0 = shift_randomly(self.fields[chosen.to(device)], generator)
        mean, std = recipe.noise
        uniform = torch.rand(recipe.batch, generator=generator)
        sigma = lognormal_sigmas(uniform, mean=mean, std=std)
        noise = torch.randn(x0.shape, generator=generator)
        return (x0 - self.mean) / self.scale, sigma.to(device), noise.to(device)

    def _rate(self) -> float:
        recipe = self.recipe
        rising = min(1.0, (self.done + 1) / recipe.warm_up)
        falling = 0.5 * (1.0 + math.cos(math.pi * min(1.0, self.done / recipe.steps)))
        return recipe.rate * rising * falling


# Coarse fields of a biased model may need waves that the truth never has.
_LEAST_POWER = 1e-6
_STATEFUL = ("denoiser", "average", "optimiser")


def _dimensions(x: Tensor) -> int:
    return 1 if x.shape[-2] == 1 else 2


def _finer(fields: Tensor, points: int, dim: int) -> Tensor:
    """Trigonometric interpolation to so many points of one dimension."""
    modes = torch.fft.rfft(fields.movedim(dim, -1), norm="forward")
    # An even grid's shortest wave is one mode there, and one of a pair on a finer grid.
    if fields.shape[dim] % 2 == 0 and points > fields.shape[dim]:
        modes[..., -1] /= 2
    result: Tensor = torch.fft.irfft(modes, points, norm="forward").movedim(-1, dim)
    return result
