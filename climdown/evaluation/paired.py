"""Scores of ensembles against fields of the same days, and of spectra of any days."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from climdown import regrid
from climdown.arrays import Floats, Mask
from climdown.grid import Grid
from climdown.metrics import scores, spectra

Row = dict[str, float | str | None]

# Wavelengths in cells: from the first to below the second.
_BANDS = {"power_2_4": (2.0, 4.0), "power_4_8": (4.0, 8.0), "power_8": (8.0, math.inf)}
SPECTRAL = ("spectral_dB", *_BANDS, "ring", "ring_cells", "weather_ring", "weather_ring_cells")
PAIRED = ("mae", "p99_mean", "p99_member", "crps", "spread_skill", *SPECTRAL)


@dataclass(frozen=True, eq=False)
class Forecast:
    """Fields of a method, shape (time, member, ny, nx), and the cost of each."""

    values: Floats
    seconds: float | None = None
    evaluations: int | None = None


def single(values: Floats) -> Forecast:
    """An ensemble of one member per day, without cost."""
    return Forecast(values[:, None])


def paired_rows(
    label: str,
    truth: Floats,
    forecasts: Mapping[str, Forecast],
    areas: Floats,
    climatology: Floats,
    inside: Mask,
) -> list[Row]:
    """A row for each method, scored on the cells and days that all methods have.

    Args:
        truth: shape (time, ny, nx).
        climatology: of the training days, for spectra of departures from it, shape (ny, nx).
        inside: cells to score, shape (ny, nx).
    """
    valid = np.isfinite(truth) & inside
    for forecast in forecasts.values():
        valid &= np.isfinite(forecast.values).all(axis=1)
    target = np.where(valid, truth, np.nan)
    rows: list[Row] = []
    for method, forecast in forecasts.items():
        named: Row = {"variable": label, "method": method}
        cost: Row = {"evaluations": forecast.evaluations, "seconds": forecast.seconds}
        rows.append(named | paired(forecast.values, target, areas, climatology) | cost)
    return rows


def paired(ensemble: Floats, target: Floats, areas: Floats, climatology: Floats) -> Row:
    """Scores of an ensemble; the CRPS of a single field is its absolute error."""
    mean, members = ensemble.mean(axis=1), ensemble.shape[1]

    def p99(forecast: Floats) -> float:
        return scores.quantile_error(forecast, target, areas, quantile=0.99)

    mae = scores.mean_absolute_error(mean, target, areas)
    row: Row = {
        "mae": mae,
        "p99_mean": p99(mean),
        "p99_member": float(np.mean([p99(ensemble[:, m]) for m in range(members)])),
        "crps": scores.fair_crps(ensemble, target, areas) if members > 1 else mae,
        "spread_skill": None,
    }
    if members > 1:
        row["spread_skill"] = scores.spread_skill_ratio(ensemble, target, areas)
    complete = np.isfinite(target).any(axis=(1, 2))
    valid = np.asarray(np.isfinite(target[complete]).all(axis=0))
    return row | spectral(ensemble[complete], target[complete], valid, climatology)


def spectral(ensemble: Floats, target: Floats, valid: Mask, climatology: Floats) -> Row:
    """Power of members relative to the truth's, whose days may be others.

    Args:
        ensemble, target: shapes (n, member, ny, nx) and (m, ny, nx).
        valid: cells that have a value in all fields, shape (ny, nx).

    Returns:
        The log spectral distance (dB), relative power by band of wavelengths in cells, and the
        ring that departs most from truth ("ring", as E / E_ref - 1) with its wavelength; the
        latter also for departures from the climatology ("weather_ring"), which excludes the
        pattern that all days share.
    """
    row: Row = {}
    for name, mean in (("ring", np.zeros_like(climatology)), ("weather_ring", climatology)):
        wavenumbers, theirs = spectra.tapered_spectrum(target - mean, valid)
        ours = np.mean(
            [
                spectra.tapered_spectrum(ensemble[:, m] - mean, valid)[1]
                for m in range(ensemble.shape[1])
            ],
            axis=0,
        )
        if name == "ring":
            row["spectral_dB"] = float(spectra.log_spectral_distance(ours, theirs))
            for band, (low, high) in _BANDS.items():
                row[band] = float(spectra.band_power(wavenumbers, ours, theirs, low, high))
        worst, length = spectra.largest_deviation(wavenumbers, ours, theirs)
        row |= {name: float(worst), f"{name}_cells": float(length)}
    return row


def fine_detail(fields: Floats, fine: Grid, coarse: Grid) -> Floats:
    """Fields minus their coarse means, which are interpolated bilinearly to the fine grid.

    Args:
        fields: on the fine grid, shape (..., ny, nx), NaN where missing.

    Returns:
        shape as given; NaN where a field is missing, or all coarse cells around.
    """
    means = regrid.weights(fine, coarse, "conservative").apply(fields)
    return fields - regrid.weights(coarse, fine, "bilinear").apply(means)
