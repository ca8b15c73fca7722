"""Training losses."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from climdown.diffusion.denoiser import Denoiser
from climdown.diffusion.tiles import Window


def edm_loss(
    denoiser: Denoiser,
    x0: Tensor,
    valid: Tensor,
    calendar: Tensor,
    sigma: Tensor,
    noise: Tensor,
    *,
    weighting: Literal["data", "network", "noise"] = "data",
    group: Tensor | None = None,
    window: Window | None = None,
) -> Tensor:
    """Weighted denoising error of each field (arXiv 2206.00364, Eq. 8), over valid cells alone.

    Args:
        x0: clean normalised fields, zero where missing, shape (batch, channels, ny, nx).
        valid: 1 where x0 was observed, same shape; zero outside the denoiser's mask.
        calendar: (month, day, hour), shape (batch, 3).
        sigma: noise levels, shape (batch,).
        noise: standard normal, same shape as x0.
        weighting: "data" gives a loss of 1 to the linear denoiser of white data, "network" to the
            denoiser's linear part, which is the same one unless that part is Gaussian; "noise" is
            the error of the predicted noise (DDPM, arXiv 2006.11239, Eq. 14),
            |noise - (x - D) / sigma|^2 = |D - x0|^2 / sigma^2.
        group: of the Gaussian part's patterns for each field, shape (batch,).
        window: cells to predict; None takes all.

    Returns:
        shape (batch,).
    """
    level = sigma.reshape(-1, 1, 1, 1)
    # 1 / (expected squared error of a linear denoiser), which makes a first guess as bad at every
    # level: for white data (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 (Table 1 there), as
    # "data" has it; "network" takes the error of the Gaussian part.
    if weighting == "network":
        weight = 1.0 / denoiser.output_variance(sigma)
    else:
        weight = 1.0 / level**2 + (1.0 / denoiser.sigma_data**2 if weighting == "data" else 0.0)
    denoised = denoiser((x0 + level * noise) * denoiser.mask, sigma, calendar, group, window)
    # After denoising: the Gaussian part needs all of the domain, the network the window alone.
    if window is not None:
        x0, valid = x0[(..., *window)], valid[(..., *window)]
    error: Tensor = weight * (denoised - x0) ** 2 * valid
    # By the number of valid cells, so that fields with gaps and small domains weigh alike.
    return error.sum(dim=(1, 2, 3)) / valid.sum(dim=(1, 2, 3)).clamp(min=1)
