"""How far two samples of periodic fields are apart in distribution, as Wan et al. measure it.

Samples are (n, *grid) with one or two grid dimensions, the fields of each in no order; all
distances are of a prediction from a reference, 0 at best (arXiv 2305.15618, section 4.2 and
its appendix).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from climdown.errors import InputError
from climdown.metrics.spectra import melr

# Points of the grid on which densities are estimated, and how many bandwidths it goes beyond
# the data.
_BINS = 1024
_MARGIN = 4.0
# Of a marginal's standard deviations: a density below this, per one of them, counts as this.
_FLOOR = 1e-12


def covariance_rmse(predicted: Tensor, reference: Tensor) -> float:
    """|| C_pred - C_ref || / || C_ref ||, Frobenius, of the covariance between all points."""
    _check(predicted, reference)
    ours, theirs = (torch.cov(x.flatten(1).T.double()) for x in (predicted, reference))
    return float(torch.linalg.norm(ours - theirs) / torch.linalg.norm(theirs))


def energy_spectrum(fields: Tensor) -> Tensor:
    """Mean over fields of sum |u_k|^2, over modes with |k| within 1/2 of 1, 2, ... points / 2.

    Modes are normalised so that all of them sum to the mean square (Parseval); the mean over the
    grid, k = 0, is left out: the test problems conserve it.

    Args:
        fields: (n, points) or (n, points, points).

    Returns:
        (points / 2,), float64.
    """
    points = fields.shape[-1]
    dims = tuple(range(1, fields.ndim))
    power = torch.fft.fftn(fields.double(), dim=dims, norm="forward").abs().square().mean(0)
    k = torch.fft.fftfreq(points, 1 / points, dtype=torch.float64, device=fields.device)
    square = k**2 if len(dims) == 1 else k**2 + k[:, None] ** 2
    shell = torch.sqrt(square).round().long()
    sums = torch.zeros(int(shell.max()) + 1, dtype=torch.float64, device=fields.device)
    return sums.index_add(0, shell.flatten(), power.flatten())[1 : points // 2 + 1]


def mean_energy_log_ratio(
    predicted: Tensor, reference: Tensor, *, weighted: bool = False, least: float = 0.0
) -> float:
    """MELR: sum_k w_k |log(E_pred(k) / E_ref(k))|; w_k equal, or in proportion to E_ref(k).

    Args:
        predicted, reference: samples.
        weighted: by E_ref(k).
        least: share of all energy below which a wavenumber is left out. Spectra of smooth
            fields fall to what single precision leaves of them, which is no flow.
    """
    _check(predicted, reference)
    ours, theirs = (energy_spectrum(x).cpu().numpy() for x in (predicted, reference))
    counted = theirs >= least * theirs.sum()
    return float(melr(ours[counted], theirs[counted], weighted=weighted))


def kld_of_marginals(predicted: Tensor, reference: Tensor) -> float:
    """Sum over points of KL(ref || pred) = int p_ref log(p_ref / p_pred), nats.

    Densities are Gaussian kernel estimates with Scott's bandwidth, std n^(-1/5), made from
    linearly binned values.
    """
    _check(predicted, reference)
    pairs = zip(predicted.flatten(1).T, reference.flatten(1).T, strict=True)
    return sum(_kld(ours.double(), theirs.double()) for ours, theirs in pairs)


def _kld(predicted: Tensor, reference: Tensor) -> float:
    scale = float(reference.std())
    widths = [float(x.std()) * len(x) ** -0.2 for x in (predicted, reference)]
    margin = _MARGIN * max(widths)
    both = torch.cat((predicted, reference))
    low, high = float(both.min()) - margin, float(both.max()) + margin
    step = (high - low) / (_BINS - 1)
    p, q = (
        _density((x - low) / step, width / step) / step
        for x, width in zip((reference, predicted), reversed(widths), strict=True)
    )
    floor = _FLOOR / scale
    return float((p * torch.log(p.clamp(min=floor) / q.clamp(min=floor))).sum() * step)


def _density(positions: Tensor, width: float) -> Tensor:
    """Kernel estimate at the integers 0, ..., `_BINS` - 1, width in their units, (_BINS,)."""
    left = positions.floor()
    share = positions - left
    counts = torch.zeros(_BINS, dtype=torch.float64, device=positions.device)
    counts.index_add_(0, left.long(), 1 - share)
    counts.index_add_(0, left.long() + 1, share)
    # Circular convolution would carry what leaves at one end to the other: hence the padding.
    k = torch.fft.rfftfreq(2 * _BINS, dtype=torch.float64, device=positions.device)
    kernel = torch.exp(-((2 * math.pi * k * width) ** 2) / 2)
    smooth: Tensor = torch.fft.irfft(torch.fft.rfft(counts, 2 * _BINS) * kernel, 2 * _BINS)
    return smooth[:_BINS].clamp(min=0) / len(positions)


def _check(predicted: Tensor, reference: Tensor) -> None:
    if predicted.shape[1:] != reference.shape[1:] or reference.ndim not in (2, 3):
        raise InputError(
            f"samples of {tuple(predicted.shape[1:])} and {tuple(reference.shape[1:])} points; "
            "both need the same grid of one or two dimensions"
        )
