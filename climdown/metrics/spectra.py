"""Spectra of fields by wavenumber, and distances between two of them."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from climdown.arrays import Float64, Floats, Index, Mask


def rapsd(
    fields: Floats, spacing: tuple[float, float] = (1.0, 1.0), *, window: Floats | None = None
) -> tuple[Floats, Floats]:
    """Radially averaged power spectral density, mean over the fields.

    Each field loses the mean over its valid cells, and missing cells become zero: compare only
    fields with the same cells missing, since the mask's own spectrum is folded in. The power
    |FFT|^2 / (ny nx)^2 is added up in rings of the wavenumber's length |k|, each as wide as
    the smallest wavenumber of the longer side: their sum is the spatial variance of the filled
    field (Parseval). With a window the power is divided by the window's mean square, which
    keeps the variance on average.

    Args:
        fields: shape (time, ny, nx), NaN where missing.
        spacing: size of a cell along y and x, in any unit of length.
        window: multiplies the filled fields, shape (ny, nx); see `taper`.

    Returns:
        The rings' wavenumbers in cycles per unit of length, and the power in each in the fields'
        units squared, both of shape (rings,). Rings beyond 0.5 / max(spacing) are incomplete.

    Raises:
        ValueError: not a stack of fields, or one of them is all missing.
    """
    if fields.ndim != 3:
        raise ValueError(f"spectra need fields of shape (time, ny, nx), found {fields.shape}")
    valid = np.isfinite(fields)
    if not valid.any(axis=(1, 2)).all():
        raise ValueError("a field holds no finite value")
    # The mean over valid cells only, so that the zeros put in for missing cells add no step of the
    # mean's height.
    means = np.where(valid, fields, 0.0).sum(axis=(1, 2)) / valid.sum(axis=(1, 2))
    filled = np.where(valid, fields - means[:, None, None], 0.0)
    if window is not None:
        # Divided by its root mean square, since power goes with the window's square.
        filled = filled * (window / np.sqrt(np.mean(window**2)))
    ny, nx = fields.shape[1:]
    # With norm="forward" the sum of |FFT|^2 over all wavenumbers is the mean square of the field.
    power = np.mean(np.abs(np.fft.fft2(filled, norm="forward")) ** 2, axis=0)
    ring, width = _rings((ny, nx), spacing)
    # Sums over rings and not means: they add up to the variance, and their slope is one less steep
    # than that of a mean density in two dimensions.
    count, total = np.bincount(ring.ravel()), np.bincount(ring.ravel(), weights=power.ravel())
    # Ring 0 is the mean alone; a very narrow domain leaves some others empty.
    rings = np.flatnonzero(count[1:]) + 1
    return rings * width, np.asarray(total[rings], dtype=np.float64)


def _rings(shape: tuple[int, int], spacing: tuple[float, float]) -> tuple[Index, float]:
    """The ring of each Fourier coefficient, (ny, nx), 0 of the mean; and how wide rings are."""
    (ny, nx), (dy, dx) = shape, spacing
    # |k| of each Fourier coefficient, in cycles per unit of length, (ny, nx).
    length = np.hypot(np.fft.fftfreq(ny, dy)[:, None], np.fft.fftfreq(nx, dx)[None, :])
    # The smallest wavenumber that the longer side holds: one wave over its length.
    width = 1.0 / max(ny * dy, nx * dx)
    # Lengths midway between two rings go to the outer one, whatever their last bit is.
    return np.floor(length / width + 0.5 + 1e-9).astype(np.intp), width


def half_plane_rings(shape: tuple[int, int]) -> tuple[Floats, Float64]:
    """The rings of `rapsd` for the coefficients of a real transform (`rfft2`).

    Returns:
        Wavenumbers in cycles per cell, shape (rings,), and the matrix that sums the power of the
        coefficients up by rings, shape (ny (nx // 2 + 1), rings).
    """
    ring, width = _rings(shape, (1.0, 1.0))
    rings = np.unique(ring[ring > 0])
    half = ring[:, : shape[1] // 2 + 1]
    # What the other half plane mirrors counts twice: all but the mean along x and the shortest
    # wave of an even number of cells.
    twice = np.full(half.shape[1], 2.0)
    twice[0] = 1.0
    if shape[1] % 2 == 0:
        twice[-1] = 1.0
    return rings * width, ((half[..., None] == rings) * twice[:, None]).reshape(
        half.size, rings.size
    )


def taper(valid: Mask, width: float = 5.0) -> Floats:
    """A window that fades to zero towards the edges of the domain and of the valid cells.

    sin^2(pi d / (2 width)) with d the distance, in cells, to the nearest cell that is missing or
    outside; 1 from `width` on. Steps at coasts and edges leak power proportional to k^-2 that
    hides the small scales: daily winter temperature over Iberia has a slope of -2.0 without and
    -3.0 with this window, and a blur that takes nine tenths of the power at two cells moves the
    log spectral distance by 0.8 dB without and 3.5 dB with it.

    Args:
        valid: cells that have values, shape (ny, nx).

    Returns:
        shape (ny, nx).
    """
    # One cell of padding: beyond the domain counts as missing.
    distance = distance_transform_edt(np.pad(valid, 1))[1:-1, 1:-1]
    return np.asarray(np.sin(0.5 * np.pi * np.minimum(distance / width, 1.0)) ** 2)


def tapered_spectrum(fields: Floats, valid: Mask) -> tuple[Floats, Floats]:
    """`rapsd` of fields over their valid cells, tapered towards the edges of these.

    Args:
        fields: shape (time, ny, nx); cells outside `valid` are left out.
        valid: shape (ny, nx).

    Returns:
        Wavenumbers in cycles per cell and power, shape (rings,) each.
    """
    return rapsd(np.where(valid, fields, np.nan), window=taper(valid))


def white_noise_power(shape: tuple[int, int]) -> Floats:
    """Expected `rapsd` of independent standard normal cells, whatever the window; shape (rings,).

    That `rapsd` subtracts each field's mean is neglected.
    """
    # Power 1 / (ny nx) of each coefficient, times the coefficients in a ring.
    ring, _ = _rings(shape, (1.0, 1.0))
    count = np.bincount(ring.ravel())[1:]
    return np.asarray(count[count > 0] / ring.size)


def spectral_ratio(spectrum: Floats, reference: Floats) -> Floats:
    """Power over the reference's power, by wavenumber, shape (..., rings).

    Raises:
        ValueError: the spectra have different shapes, or hold a power that is not above zero.
    """
    if spectrum.shape != reference.shape:
        raise ValueError(
            f"the spectra have different shapes: {spectrum.shape} and {reference.shape}"
        )
    if not ((spectrum > 0).all() and (reference > 0).all()):
        raise ValueError("a spectrum holds a power that is not above zero")
    return spectrum / reference


def largest_deviation(
    wavenumbers: Floats, spectrum: Floats, reference: Floats, *, shortest: float = 2.0
) -> tuple[Floats, Floats]:
    """The ring whose power departs most from the reference's: E / E_ref - 1 and its wavelength.

    Args:
        wavenumbers: in cycles per unit of length, shape (rings,).
        spectrum, reference: shape (..., rings).
        shortest: rings of shorter waves are left out; below two cells they are incomplete.

    Returns:
        The departure with its sign, and 1 / wavenumber, shape (...).

    Raises:
        ValueError: as for `spectral_ratio`, or no wave is as long as `shortest`.
    """
    # Rounding must not drop the shortest wave.
    resolved = 1.0 / wavenumbers > shortest - 1e-6
    if not resolved.any():
        raise ValueError(f"no wave is as long as {shortest:g}")
    departure = spectral_ratio(spectrum, reference)[..., resolved] - 1.0
    worst = np.argmax(np.abs(departure), axis=-1, keepdims=True)
    most = np.take_along_axis(departure, worst, axis=-1)[..., 0]
    return most, 1.0 / wavenumbers[resolved][worst[..., 0]]


def band_power(
    wavenumbers: Floats, spectrum: Floats, reference: Floats, low: float, high: float
) -> Floats:
    """Power over the reference's of wavelengths from `low` to below `high`; NaN if none.

    Args:
        wavenumbers: shape (rings,).
        spectrum, reference: shape (..., rings).
    """
    length = 1.0 / wavenumbers
    # Both ends shifted by the same bit, so that a wavelength on a limit falls into one band, the
    # upper.
    band = (low - 1e-6 < length) & (length <= high - 1e-6)
    if not band.any():
        return np.full(spectrum.shape[:-1], np.nan)
    return np.asarray(spectrum[..., band].sum(axis=-1) / reference[..., band].sum(axis=-1))


def log_spectral_distance(spectrum: Floats, reference: Floats) -> Floats:
    """Distance of two spectra in dB, symmetric: sqrt(mean_k (10 log10 (E / E_ref))^2).

    The log spectral distance of Rabiner and Juang (1993, Fundamentals of Speech Recognition,
    section 4.5.1), over wavenumbers in place of frequencies.

    Args:
        spectrum, reference: shape (..., rings).

    Raises:
        ValueError: as for `spectral_ratio`.
    """
    # A ratio of powers: ten times the decimal logarithm.
    decibels = 10.0 * np.log10(spectral_ratio(spectrum, reference))
    return np.asarray(np.sqrt(np.mean(decibels**2, axis=-1)))


def melr(spectrum: Floats, reference: Floats, *, weighted: bool = False) -> Floats:
    """Mean energy log ratio: sum_k w_k |ln (E_k / E_ref,k)| (Wan et al. 2023, arXiv 2305.15618).

    Args:
        spectrum, reference: shape (..., rings).
        weighted: w_k is the reference's share of power, E_ref,k / sum E_ref; otherwise 1 / rings.

    Raises:
        ValueError: as for `spectral_ratio`.
    """
    # Natural logarithm, as in the paper.
    distance = np.abs(np.log(spectral_ratio(spectrum, reference)))
    return np.asarray(np.average(distance, weights=reference if weighted else None, axis=-1))


def correlation_length(wavenumbers: Floats, spectrum: Floats) -> Floats:
    """Integral of the correlation over distance, of isotropic fields of a spectrum.

    C(r) = sum_k E_k J0(2 pi k r) / sum_k E_k (Wiener-Khinchin in two dimensions; Vanmarcke 2010,
    Random Fields, doi:10.1142/5807), and J0(2 pi k r) has the integral 1 / (2 pi k)
    over r from 0. For C(r) = exp(-r^2 / (2 l^2)) it is 1.25 l.

    Args:
        wavenumbers: in cycles per unit of length, shape (rings,).
        spectrum: shape (..., rings).

    Returns:
        in units of length, shape (...); NaN of fields without power.
    """
    total = spectrum.sum(axis=-1)
    weighted = (spectrum / (2.0 * np.pi * wavenumbers)).sum(axis=-1)
    return np.asarray(np.where(total > 0, weighted / np.where(total > 0, total, 1.0), np.nan))
