"""Steering a denoiser by what was observed: functions from denoiser to denoiser.

No solver knows of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.sampler import Observation


def unified_coordinate_guidance(
    denoise: Denoise, observation: Observation, *, scale: float
) -> Denoise:
    """Steer a denoiser by the gradient of the misfit through the network.

    D~(x, sigma) = D(x, sigma) - scale * grad_x 1/2 || w (A(D(x, sigma)) - y) ||^2

    with the misfit in the fine space, where A has singular values near 1 for smooth fields
    whatever the factor; on the coarse grid they would shrink with the number of cells
    averaged (ZSSD, arXiv 2601.21760, Fig. 5b). In the paper the gradient is taken off
    x_{t-1}; taking it off the denoised field instead lets any solver use it, and scales it by
    the solver's own step.
    """

    def guided(x: Tensor, sigma: float) -> Tensor:
        with torch.enable_grad():
            x_in = x.detach().requires_grad_(True)
            denoised = denoise(x_in, sigma)
            misfit = 0.5 * observation.residual(denoised).square().sum()
            (gradient,) = torch.autograd.grad(misfit, x_in)
        return denoised.detach() - scale * gradient

    return guided


def projection(denoise: Denoise, observation: Observation) -> Denoise:
    """Steer a denoiser by moving what it says to the nearest fields that fit the observation.

    D~(x, sigma) = (C')^+ y + (I - V V^T) D(x, sigma), without differentiating the network: the
    first two terms of Wan et al. 2023 (arXiv 2305.15618, Eq. 7), for nonlinear means as well.
    """

    def guided(x: Tensor, sigma: float) -> Tensor:
        with torch.no_grad():
            return observation.project(denoise(x, sigma))

    return guided
