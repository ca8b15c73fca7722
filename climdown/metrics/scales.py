"""Power by scale on masked fields: a wavelet spectrum, and random fields of a known spectrum.

Fields have shape (steps, ny, nx), NaN where missing.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import next_fast_len

from climdown.arrays import Floats, Mask
from climdown.metrics.spectra import rapsd, taper, white_noise_power

# Fields drawn from a spectrum, at most and at least, and rounds to find their colours.
_DRAWN_CELLS, _MOST_DRAWS, _FEWEST_DRAWS, _ROUNDS = 1 << 20, 64, 4, 6
# Cells that they are drawn on beyond the domain.
_MARGIN = 256


def block_means(values: Floats, areas: Floats, n: int) -> Floats:
    """Means over n x n cells of those known, wherever they begin; NaN where under half is known.

    Args:
        values: shape (steps, ny, nx).

    Returns:
        shape (steps, ny - n + 1, nx - n + 1); a side shorter than n becomes one cell.
    """
    known = np.isfinite(values)
    total, weight = (
        _window_sums(x, n) for x in (np.where(known, values * areas, 0.0), known * areas)
    )
    enough = weight >= 0.5 * _window_sums(areas[None], n)
    return np.where(enough, total / np.where(enough, weight, 1.0), np.nan)


def _window_sums(values: Floats, n: int) -> Floats:
    for axis in (1, 2):
        size = min(n, values.shape[axis])
        windows = np.lib.stride_tricks.sliding_window_view(values, size, axis=axis)
        values = np.asarray(windows.sum(axis=-1))
    return values


def anomalies(z: Floats) -> Floats:
    """Departures of each cell from its mean over the steps."""
    known = np.isfinite(z)
    count = np.maximum(known.sum(axis=0), 1)
    return np.asarray(z - np.where(known, z, 0.0).sum(axis=0) / count)


def variance_within(z: Floats, weight: Floats) -> float:
    """Within each field, on average."""
    weights = np.where(np.isfinite(z), weight, 0.0)
    filled, total = np.nan_to_num(z), weights.sum(axis=(1, 2), keepdims=True)
    means = (weights * filled).sum(axis=(1, 2), keepdims=True) / np.maximum(total, 1e-12)
    return float((weights * (filled - means) ** 2).sum() / max(weights.sum(), 1e-12))


def shortest_wave_power(z: Floats, weight: Floats, n: int) -> float:
    """Mean square of z_i - (z_i-n + z_i+n) / 2 along both axes, 0 where there is none."""
    power = total = 0.0
    for axis in (1, 2):
        along = np.moveaxis(z, axis, -1)
        centre = along[..., n:-n]
        difference = centre - 0.5 * (along[..., : -2 * n] + along[..., 2 * n :])
        known = np.isfinite(difference)
        weights = np.moveaxis(np.broadcast_to(weight, z.shape), axis, -1)[..., n:-n] * known
        power += float((weights * np.nan_to_num(difference) ** 2).sum())
        total += float(weights.sum())
    return power / total if total > 0 else 0.0


def draw_fields(spectrum: Floats, mask: Mask, minimum: float = -np.inf) -> Floats:
    """Random fields of mean zero with a spectrum, shape (draws, ny, nx), always the same ones.

    White noise, coloured on a larger domain, since fields do not close at its edges. What window,
    mask and minimum do to the spectrum is taken back from the colours, round by round.

    Args:
        spectrum: as of `metrics.spectra.tapered_spectrum` over the mask.
        minimum: smaller values are raised to it.
    """
    ny, nx = shape = mask.shape
    draws = max(_FEWEST_DRAWS, min(_MOST_DRAWS, _DRAWN_CELLS // mask.size))
    padded = tuple(next_fast_len(size + min(size, _MARGIN), real=True) for size in shape)
    noise = np.random.default_rng(0).normal(size=(draws, *padded))
    white, window = np.fft.rfft2(noise), taper(mask)
    wavenumbers, _ = rapsd(np.where(mask, 0.0, np.nan)[None], window=window)
    length = np.hypot(np.fft.fftfreq(padded[0])[:, None], np.fft.rfftfreq(padded[1])[None, :])
    # The spectrum knows no waves longer than the domain.
    place = np.log(np.maximum(length, 0.5 * wavenumbers[0]))
    target = np.maximum(spectrum, 1e-12)
    colour, shift = np.log(target / white_noise_power(shape)), 0.0
    for _ in range(_ROUNDS):
        filtered = white * np.exp(0.5 * np.interp(place, np.log(wavenumbers), colour))
        drawn = np.fft.irfft2(filtered, s=padded)[:, :ny, :nx] + shift
        fields: Floats = np.maximum(drawn, minimum)
        _, power = rapsd(np.where(mask, fields, np.nan), window=window)
        colour += np.log(target / power)
        shift -= float(fields[:, mask].mean())
    return fields
