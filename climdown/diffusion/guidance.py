"""Guidance: functions from a denoiser to one that is steered by observations.

Solvers take either and do not depend on this module.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from climdown.diffusion.denoiser import Denoise
from climdown.diffusion.sampler import Measures, Projects


def unified_coordinate_guidance(
    denoise: Denoise, observation: Measures, *, scale: float
) -> Denoise:
    """Steer a denoiser by the gradient of the misfit through the network.

    D~(x, sigma) = D(x, sigma) - scale * grad_x 1/2 || w (A(D(x, sigma)) - y) ||^2

    with the misfit in the fine space, where A has singular values near 1 for smooth fields
    whatever the factor; on the coarse grid they would shrink with the number of cells
    averaged (ZSSD, arXiv 2601.21760, Fig. 5b). In the paper the gradient is subtracted from
    x_{t-1}; subtracted from the denoised field instead, it works with any solver and scales with
    the solver's step.
    """
    return misfit_guidance(denoise, observation.residual, scale)


def misfit_guidance(
    denoise: Denoise, residual: Callable[[Tensor], Tensor], scale: float
) -> Denoise:
    """Steer a denoiser down the gradient of half a squared residual, through the network."""

    def guided(x: Tensor, sigma: float) -> Tensor:
        denoised, gradient = misfit_gradient(denoise, residual, x, sigma)
        return denoised - scale * gradient

    return guided


def misfit_gradient(
    denoise: Denoise, residual: Callable[[Tensor], Tensor], x: Tensor, sigma: float
) -> tuple[Tensor, Tensor]:
    """D(x, sigma), and the gradient of half its squared residual by x, through the network."""
    with torch.enable_grad():
        x_in = x.detach().requires_grad_(True)
        denoised = denoise(x_in, sigma)
        misfit = 0.5 * residual(denoised).square().sum()
        (gradient,) = torch.autograd.grad(misfit, x_in)
    return denoised.detach(), gradient


def projection(denoise: Denoise, observation: Projects) -> Denoise:
    """Steer a denoiser by moving its output to the nearest fields that fit the observation.

    D~(x, sigma) = (C')^+ y + (I - V V^T) D(x, sigma), without differentiating the network: the
    first two terms of Wan et al. 2023 (arXiv 2305.15618, Eq. 7), for nonlinear means as well.
    These terms alone carry no information from a mean to the cells of its neighbours, and the draws
    spread too widely. Where the covariance of the denoiser's errors is known, distance is measured
    by it: for Gaussian data the result is E[x0 | x, y], which the gradient through the network
    approximates.
    """

    def guided(x: Tensor, sigma: float) -> Tensor:
        with torch.no_grad():
            return observation.project(denoise(x, sigma), sigma)

    return guided


def projected_gradient(denoise: Denoise, observation: Projects, *, scale: float) -> Denoise:
    """Steer by the gradient through the network where the observation does not reach.

    All terms of Wan et al. 2023 (arXiv 2305.15618, Eq. 7), with C' the means and V its row space:

        D~ = (C')^+ y' + (I - V V^T) [D - scale * grad_x 1/2 || (C')^+ (C' D - y') ||^2]

    Where C' picks points, as in the paper, the norm is that of C' D - y', and scale is 2 alpha.
    For means of n cells (C')^+ undoes the factor 1/n that their gradient would have, so that one
    scale is good for all. (C')^+ (C' D - y') is what `project` subtracts, and the gradient by D of
    half the squared distance to a set is the vector from its nearest point; so masks, areas and
    logarithms need no special treatment. With scale 0 it is `projection`.
    """

    def guided(x: Tensor, sigma: float) -> Tensor:
        with torch.enable_grad():
            x_in = x.detach().requires_grad_(True)
            answer = denoise(x_in, sigma)
            denoised = answer.detach()
            away = denoised - observation.project(denoised)
            (gradient,) = torch.autograd.grad(answer, x_in, grad_outputs=away)
        with torch.no_grad():
            return observation.project(denoised - scale * gradient)

    return guided
