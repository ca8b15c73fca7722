"""Spectra against Parseval, single waves, scipy's periodogram and white noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import get_window, periodogram

from climdown.metrics.spectra import (
    band_power,
    largest_deviation,
    log_spectral_distance,
    melr,
    rapsd,
    spectral_ratio,
    taper,
)
from tests.factories import Floats


def noise(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


@given(
    st.integers(1, 4),
    st.integers(2, 17),
    st.integers(2, 17),
    st.floats(0.2, 5.0),
    st.floats(0.2, 5.0),
    st.integers(0, 1000),
)
def test_the_sum_over_wavenumbers_is_the_spatial_variance(
    times: int, ny: int, nx: int, dy: float, dx: float, seed: int
) -> None:
    fields = noise(times, ny, nx, seed=seed) + 7.0
    wavenumbers, power = rapsd(fields, (dy, dx))
    assert power.sum() == pytest.approx(fields.var(axis=(1, 2)).mean(), rel=1e-9)
    assert (np.diff(wavenumbers) > 0).all()
    assert (power > 0).all()
    assert wavenumbers[-1] <= math.hypot(0.5 / dy, 0.5 / dx) + 0.5 / max(ny * dy, nx * dx)


@pytest.mark.parametrize(("ky", "kx"), [(2, 0), (0, 5), (3, 1), (7, 2)])
def test_a_wave_has_its_power_at_its_own_wavenumber(ky: int, kx: int) -> None:
    ny, nx, dy, dx, amplitude = 24, 40, 2.0, 3.0, 1.5
    y, x = np.meshgrid(np.arange(ny), np.arange(nx), indexing="ij")
    field = amplitude * np.sin(2 * np.pi * (ky * y / ny + kx * x / nx) + 0.3)
    wavenumbers, power = rapsd(field[None], (dy, dx))
    length = math.hypot(ky / (ny * dy), kx / (nx * dx))
    ring = np.abs(wavenumbers - length).argmin()
    assert power[ring] == pytest.approx(amplitude**2 / 2)
    assert power.sum() - power[ring] == pytest.approx(0.0, abs=1e-12)


def test_fields_that_vary_along_one_axis_have_the_periodogram_of_scipy() -> None:
    series, spacing = noise(3, 32), 0.25
    frequencies, expected = periodogram(series, fs=1 / spacing, scaling="spectrum")
    for fields in (
        np.repeat(series[:, None, :], 20, axis=1),
        np.repeat(series[:, :, None], 20, axis=2),
    ):
        wavenumbers, power = rapsd(fields, (spacing, spacing))
        inside = slice(0, len(frequencies) - 1)
        np.testing.assert_allclose(wavenumbers[inside], frequencies[1:])
        np.testing.assert_allclose(power[inside], expected[:, 1:].mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(power[len(frequencies) - 1 :], 0.0, atol=1e-12)


def test_a_window_along_one_axis_gives_the_windowed_periodogram_of_scipy() -> None:
    series, spacing = noise(3, 32), 0.25
    hann = get_window("hann", 32)
    centred = series - series.mean(axis=1, keepdims=True)
    frequencies, density = periodogram(
        centred, fs=1 / spacing, window=hann, detrend=False, scaling="density"
    )
    expected = density.mean(axis=0) / (32 * spacing)
    fields = np.repeat(series[:, None, :], 20, axis=1)
    _, power = rapsd(fields, (spacing, spacing), window=np.tile(hann, (20, 1)))
    count = len(frequencies) - 1
    np.testing.assert_allclose(power[:count], expected[1:], rtol=1e-9)


def test_a_taper_fades_towards_missing_cells_and_the_edges() -> None:
    known = np.ones((21, 31), dtype=bool)
    known[10, 15] = False
    window = taper(known, 4.0)
    steps = np.sin(np.pi * np.array([1, 2, 3, 4]) / 8) ** 2
    np.testing.assert_allclose(window[:4, 8], steps)
    np.testing.assert_allclose(window[8, -4:], steps[::-1])
    np.testing.assert_allclose(window[10, 15:20], [0.0, *steps])
    np.testing.assert_allclose(window[11, 16], np.sin(np.pi * math.sqrt(2) / 8) ** 2)
    assert window[5, 7] == pytest.approx(1.0)


def test_a_taper_keeps_the_steps_of_a_coast_out_of_the_small_scales() -> None:
    # Long waves of no small scale of their own, cut by an irregular coast.
    y, x = np.meshgrid(np.arange(40), np.arange(60), indexing="ij")
    phases = 2 * np.pi * np.random.default_rng(0).random((8, 1, 1))
    fields = np.sin(2 * np.pi * (y / 55 + x / 70) + phases)
    known = np.hypot(y - 20, 0.7 * (x - 30)) < 17 + 2 * np.sin(x)
    fields[:, ~known] = np.nan
    shares = []
    for window in (None, taper(known)):
        wavenumbers, power = rapsd(fields, window=window)
        shares.append(power[wavenumbers > 0.25].sum() / power.sum())
    assert shares[0] > 0.01
    assert shares[1] < shares[0] / 20


def test_a_window_keeps_the_variance_of_white_noise() -> None:
    fields = noise(400, 20, 30)
    _, power = rapsd(fields, window=taper(np.ones((20, 30), dtype=bool)))
    # The relative error of a variance of n values is sqrt(2 / n); the window halves their number.
    assert power.sum() == pytest.approx(1.0, abs=4.5 * math.sqrt(2 / (fields.size / 2)) + 1 / 150)


def test_white_noise_has_power_in_proportion_to_the_modes_of_a_ring() -> None:
    # With these sides no mode lies halfway between two rings.
    ny, nx, times = 21, 30, 4000
    wavenumbers, power = rapsd(noise(times, ny, nx))
    length = np.hypot(np.fft.fftfreq(ny)[:, None], np.fft.fftfreq(nx)[None, :])
    modes = np.array([(np.abs(length - k) <= 0.5 / nx).sum() for k in wavenumbers])
    # A mode's power is exponential with half of its partners mirrored: error 1 / sqrt(modes / 2).
    error = 4.5 / np.sqrt(times * modes / 2)
    assert error.max() < 0.11
    assert (np.abs(power / (modes / (ny * nx)) - 1.0) < error).all()


def test_swapping_the_axes_changes_nothing() -> None:
    fields = noise(2, 9, 14)
    one = rapsd(fields, (1.0, 2.0))
    other = rapsd(fields.transpose(0, 2, 1), (2.0, 1.0))
    np.testing.assert_allclose(one[0], other[0])
    np.testing.assert_allclose(one[1], other[1])


def test_missing_cells_count_as_the_mean_of_the_known_ones() -> None:
    fields = noise(2, 8, 10) + 5.0
    fields[0, :3, :4] = np.nan
    fields[1, 5] = np.nan
    filled = np.stack([np.where(np.isnan(f), np.nanmean(f), f) for f in fields])
    np.testing.assert_allclose(rapsd(fields)[1], rapsd(filled)[1], rtol=1e-9)


def test_rings_without_a_wavenumber_are_left_out() -> None:
    wavenumbers, power = rapsd(noise(1, 2, 10), (0.01, 1.0))
    assert len(wavenumbers) == len(power) == 6
    assert wavenumbers[-1] == pytest.approx(50.0)
    assert (power > 0).all()


def test_spectra_need_a_stack_of_fields() -> None:
    with pytest.raises(ValueError, match=r"shape \(time, ny, nx\), found \(3, 4\)"):
        rapsd(np.zeros((3, 4)))


def test_spectra_need_a_value_in_each_field() -> None:
    fields = noise(3, 4, 4)
    fields[1] = np.nan
    with pytest.raises(ValueError, match="a field holds no finite value"):
        rapsd(fields)


@pytest.mark.parametrize("factor", [0.1, 2.0])
def test_distances_of_a_scaled_spectrum_have_closed_forms(factor: float) -> None:
    reference = np.exp(noise(20))
    expected = abs(10 * math.log10(factor))
    np.testing.assert_allclose(spectral_ratio(factor * reference, reference), factor)
    assert log_spectral_distance(factor * reference, reference) == pytest.approx(expected)
    assert melr(factor * reference, reference) == pytest.approx(abs(math.log(factor)))
    weighted = melr(factor * reference, reference, weighted=True)
    assert weighted == pytest.approx(abs(math.log(factor)))


def test_distances_are_mean_squares_and_means_over_wavenumbers() -> None:
    reference = np.array([3.0, 1.0])
    spectrum = reference * [10.0, 0.01]
    expected = math.sqrt((10.0**2 + 20.0**2) / 2)
    assert log_spectral_distance(spectrum, reference) == pytest.approx(expected)
    assert melr(spectrum, reference) == pytest.approx(1.5 * math.log(10))
    assert melr(spectrum, reference, weighted=True) == pytest.approx(1.25 * math.log(10))


@given(st.integers(0, 1000))
def test_unweighted_distances_are_symmetric_and_ordered(seed: int) -> None:
    a, b = np.exp(noise(2, 12, seed=seed))
    assert log_spectral_distance(a, b) == pytest.approx(log_spectral_distance(b, a))
    assert melr(a, b) == pytest.approx(melr(b, a))
    # A mean of absolute values is at most the root of the mean square.
    assert melr(a, b) * 10 / math.log(10) <= log_spectral_distance(a, b) + 1e-12
    assert log_spectral_distance(a, a) == 0.0


def test_spectra_of_different_lengths_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"different shapes: \(3,\) and \(4,\)"):
        spectral_ratio(np.ones(3), np.ones(4))


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
@pytest.mark.parametrize("side", [0, 1])
def test_a_power_that_is_not_above_zero_is_an_error(bad: float, side: int) -> None:
    pair = [np.ones(3), np.ones(3)]
    pair[side][1] = bad
    with pytest.raises(ValueError, match="power that is not above zero"):
        log_spectral_distance(*pair)


def test_the_largest_deviation_is_found_with_its_sign_and_wavelength() -> None:
    wavenumbers = np.array([0.1, 0.2, 0.4, 0.5, 0.6])
    reference = np.array([8.0, 4.0, 2.0, 1.0, 1.0])
    spectrum = reference * [1.1, 0.7, 1.2, 1.25, 9.0]  # the last ring is incomplete
    assert largest_deviation(wavenumbers, spectrum, reference) == pytest.approx((-0.3, 5.0))
    near = largest_deviation(0.5 * wavenumbers, spectrum, reference, shortest=5.0)
    assert near == pytest.approx((-0.3, 10.0))


def test_a_deviation_needs_a_wave_of_the_shortest_length() -> None:
    with pytest.raises(ValueError, match="no wave is as long as 2"):
        largest_deviation(np.array([0.6, 0.7]), np.ones(2), np.ones(2))


def test_the_power_of_a_band_is_that_of_its_rings_together() -> None:
    wavenumbers = np.array([0.05, 0.125, 0.2, 0.25, 0.5])
    reference, spectrum = np.array([4.0, 3.0, 2.0, 1.0, 1.0]), np.array([4.0, 3.0, 1.0, 2.0, 3.0])
    # From four cells (0.25 is in) to below eight (0.125 is not).
    assert band_power(wavenumbers, spectrum, reference, 4.0, 8.0) == pytest.approx(3.0 / 3.0)
    assert band_power(wavenumbers, spectrum, reference, 2.0, 4.0) == pytest.approx(3.0)
    assert band_power(wavenumbers, spectrum, reference, 8.0, math.inf) == pytest.approx(1.0)
    assert math.isnan(band_power(wavenumbers, spectrum, reference, 2.1, 2.2))
