"""Spectra of the fields of one source, and measures of how they vary in space."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import scipy.fft

from climdown.arrays import Float32, Float64, Floats
from climdown.evaluation.measure import Measure, Resampled, divided
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums
from climdown.metrics import spectra

# Sides up to which products with the waves are faster than an FFT, which is slow for primes.
_BY_PRODUCTS = 96
Formula = Callable[[Floats, Floats, Floats], Floats]
"""From wavenumbers, shape (rings,), and two spectra, shape (R, rings), to shape (R,)."""


def power(scene: Scene, values: Float32, part: Segments) -> Sums:
    """Radially averaged power of members' fields that are complete, and their number, by step.

    As `metrics.spectra.rapsd` with `Scene.window`: the field's mean over the mask removed.
    """
    whole = (np.isfinite(values) & scene.mask).sum(axis=(2, 3)) == scene.mask.sum()
    _, rings = _rings(scene.grid.shape)
    return {"fields": whole.sum(axis=1), "power": _power(scene, values, whole) @ rings}


def _power(scene: Scene, values: Float32, whole: np.typing.NDArray[np.bool_]) -> Float64:
    """Sum over the members of each step of |rfft2 / cells|^2, shape (time, coefficients)."""
    judged = np.where(scene.mask & whole[..., None, None], values, np.float32(0))
    means = judged.sum(axis=(2, 3), dtype=np.float64) / scene.mask.sum()
    # By its root mean square, since power goes with the window's square.
    window = scene.window / np.sqrt(np.mean(scene.window**2))
    judged -= means[..., None, None].astype(np.float32)
    judged *= np.where(scene.mask, window, 0.0).astype(np.float32)
    squares = _squares(judged)
    return np.asarray(squares.sum(axis=1, dtype=np.float64).reshape(len(values), -1))


def _squares(fields: Float32) -> Float32:
    """|rfft2 / cells|^2 of fields (time, member, ny, nx), single precision."""
    steps, members, ny, nx = fields.shape
    if max(ny, nx) > _BY_PRODUCTS:
        found = scipy.fft.rfft2(fields, norm="forward", workers=1)
        return np.asarray(found.real**2 + found.imag**2, dtype=np.float32)
    along_y, along_x = _waves(ny, nx)
    # Products of one shape for each step and field, so that how time is cut changes no bit.
    rows = fields.reshape(steps, members * ny, nx) @ along_x
    real, imaginary = (part.reshape(steps * members, ny, -1) for part in np.split(rows, 2, axis=-1))
    both = along_y @ np.concatenate([real, imaginary], axis=1)
    squares = both[:, :ny] ** 2 + both[:, ny:] ** 2
    return np.asarray(squares.reshape(steps, members, ny, -1))


@lru_cache(maxsize=8)
def _waves(ny: int, nx: int) -> tuple[Float32, Float32]:
    """The transform as matrices: from rows to real and imaginary parts, and from those of columns.

    Returns:
        shapes (2 ny, 2 ny) and (nx, 2 (nx // 2 + 1)).
    """
    x = np.exp(-2j * np.pi * np.outer(np.arange(nx), np.arange(nx // 2 + 1)) / nx) / nx
    y = np.exp(-2j * np.pi * np.outer(np.arange(ny), np.arange(ny)) / ny) / ny
    along_y = np.block([[y.real, -y.imag], [y.imag, y.real]])
    return along_y.astype(np.float32), np.hstack([x.real, x.imag]).astype(np.float32)


@lru_cache(maxsize=8)
def _rings(shape: tuple[int, int]) -> tuple[Floats, Float64]:
    return spectra.half_plane_rings(shape)


STEPS = (power,)


def spectrum(scene: Scene, sums: Resampled) -> tuple[Floats, Float64]:
    """Wavenumbers in cycles per cell, shape (rings,), and mean power, shape (R, rings).

    Rings of waves shorter than two cells, which are incomplete, are left out.
    """
    ny, nx = scene.mask.shape
    wavenumbers, _ = _rings((ny, nx))
    resolved = 1.0 / wavenumbers > 2.0 - 1e-6
    return wavenumbers[resolved], divided(sums["power"], sums["fields"][:, None])[:, resolved]


def _compared(formula: Formula) -> Callable[[Scene, Resampled, Resampled], Float64]:
    """A measure of two spectra; NaN where one has no power, as of constant fields, or no waves."""

    def value(scene: Scene, ours: Resampled, theirs: Resampled) -> Float64:
        (waves, one), (_, two) = spectrum(scene, ours), spectrum(scene, theirs)
        told = (one > 0).all(axis=1) & (two > 0).all(axis=1) & (waves.size > 0)
        result = np.full(len(one), np.nan)
        if told.any():
            result[told] = formula(waves, one[told], two[told])
        return result

    return value


def correlation_length(scene: Scene, sums: Resampled) -> Float64:
    """Integral scale of the tapered fields, in cells."""
    return np.asarray(spectra.correlation_length(*spectrum(scene, sums)), dtype=np.float64)


def _against(
    name: str, title: str, formula: Formula, text: str, sentence: str, **how: object
) -> Measure:
    declared = {"best": "low", "units": "1", "source": "arXiv 2305.15618", **how}
    return Measure(
        name=name,
        title=title,
        theme="space",
        kind="against",
        along="blocks",
        sums=("power", "fields"),
        value=_compared(formula),
        formula=text,
        sentence=sentence,
        **declared,  # type: ignore[arg-type]
    )


def _band(low: float, high: float) -> Measure:
    cells = f"over {low:g} cells" if math.isinf(high) else f"{low:g} to {high:g} cells"
    name = f"power_over_{low:g}" if math.isinf(high) else f"power_{low:g}_to_{high:g}"
    return _against(
        name,
        f"Relative power, {cells}",
        partial(_band_power, low=low, high=high),
        f"sum_k E_k / sum_k E_ref,k over wavelengths of {cells}",
        f"Below 1 waves of {cells} are too weak (blur), above 1 too strong (noise).",
        best="one",
        source="doi:10.1175/1520-0493(2004)132<3019:EMKESU>2.0.CO;2",
    )


def _band_power(waves: Floats, one: Floats, two: Floats, *, low: float, high: float) -> Floats:
    return spectra.band_power(waves, one, two, low, high)


MEASURES = (
    _against(
        "log_spectral_distance",
        "Log spectral distance",
        lambda _, one, two: spectra.log_spectral_distance(one, two),
        (
            "sqrt(mean_k (10 log10 (E_k / E_ref,k))^2), E_k the radially averaged power of tapered "
            "fields, waves of two cells and more"
        ),
        "How far the power of long and short waves lies from the reference's: sharpness and noise.",
        units="dB",
        source="Rabiner and Juang 1993, Fundamentals of Speech Recognition, 4.5.1",
        tells=True,
    ),
    _against(
        "melr",
        "Mean energy log ratio",
        lambda _, one, two: spectra.melr(one, two),
        "mean_k |ln (E_k / E_ref,k)|",
        "By which factor, as a logarithm, the power of a wave is wrong.",
    ),
    _against(
        "melr_weighted",
        "Mean energy log ratio, weighted",
        lambda _, one, two: spectra.melr(one, two, weighted=True),
        "sum_k E_ref,k |ln (E_k / E_ref,k)| / sum_k E_ref,k",
        "The same, weighted by the reference's power: mostly of long waves.",
    ),
    _band(2.0, 4.0),
    _band(4.0, 8.0),
    _band(8.0, math.inf),
    _against(
        "worst_ring",
        "Power, worst ring",
        lambda waves, one, two: spectra.largest_deviation(waves, one, two)[0],
        "E_k / E_ref,k - 1 of the ring k where it is farthest from 0",
        "The wavelength whose power is most wrong, as a share of what it should be.",
        best="zero",
        source="doi:10.1175/1520-0493(2004)132<3019:EMKESU>2.0.CO;2",
    ),
    Measure(
        name="correlation_length",
        title="Correlation length",
        theme="space",
        kind="source",
        along="blocks",
        sums=("power", "fields"),
        value=correlation_length,
        best="reference",
        units="cells",
        formula="sum_k E_k / (2 pi k) / sum_k E_k: the integral of the correlation over distance",
        source="doi:10.1142/5807",
        sentence="How far apart cells still go together; in tapered fields, so on one domain only.",
    ),
)
