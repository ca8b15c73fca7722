"""Training losses."""

from __future__ import annotations

from torch import Tensor

from climdown.diffusion.denoiser import Denoiser


def edm_loss(
    denoiser: Denoiser,
    x0: Tensor,
    valid: Tensor,
    calendar: Tensor,
    sigma: Tensor,
    noise: Tensor,
    *,
    of_noise: bool = False,
) -> Tensor:
    """Weighted denoising error of each field (arXiv 2206.00364, Eq. 8), over valid cells alone.

    Args:
        x0: clean normalised fields, zero where missing, shape (batch, channels, ny, nx).
        valid: 1 where x0 was observed, same shape; zero outside the denoiser's mask.
        calendar: (month, day, hour), shape (batch, 3).
        sigma: noise levels, shape (batch,).
        noise: standard normal, same shape as x0.
        of_noise: weigh as the error of the predicted noise (DDPM, arXiv 2006.11239, Eq. 14),
            |noise - (x - D) / sigma|^2 = |D - x0|^2 / sigma^2.

    Returns:
        shape (batch,): without `of_noise`, 1 for a denoiser that knows the data's variance alone.
    """
    level = sigma.reshape(-1, 1, 1, 1)
    gain = 1.0 if of_noise else (level**2 + denoiser.sigma_data**2) / denoiser.sigma_data**2
    weight = gain / level**2
    denoised = denoiser((x0 + level * noise) * denoiser.mask, sigma, calendar)
    error: Tensor = weight * (denoised - x0) ** 2 * valid
    return error.sum(dim=(1, 2, 3)) / valid.sum(dim=(1, 2, 3)).clamp(min=1)
