"""Rows of the table that judges generated fields against days that were not trained on.

Training days give the floor: their distance from the held-out days is that of another period of
the same climate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from climdown.arrays import Floats
from climdown.grid import Grid
from climdown.metrics import cells, scores, spectra
from climdown.metrics.distances import nearest_neighbour_distances

# Wavelengths in cells: from the first to below the second.
_BANDS = ((2.0, 4.0), (4.0, 8.0), (8.0, math.inf))


class Comparison(NamedTuple):
    """Three samples of one variable in the same units, NaN where missing.

    Attributes:
        held_out, generated, training: days, fields and days of shape (time, ny, nx); or a
            statistic of each by cell, shape (ny, nx).
    """

    held_out: Floats
    generated: Floats
    training: Floats


@dataclass(frozen=True)
class Row:
    """A measure: its mean over the domain, and its error against the held-out days.

    Attributes:
        held_out, generated, training: area-weighted means.
        error, floor: of the generated fields and of the training days; None where the measure
            has none.
    """

    field: str
    measure: str
    held_out: float | None
    generated: float | None
    training: float | None
    error: float | None
    floor: float | None


@dataclass(frozen=True)
class Neighbours:
    """Distances of some fields to their nearest neighbours among others."""

    title: str
    least: float
    low: float
    median: float


def climate_rows(
    field: str, days: Comparison, grid: Grid, *, wet: float | None = None
) -> Iterator[Row]:
    """Mean, standard deviation and 99th percentile by cell, and wet days from `wet` up."""
    statistics: dict[str, Callable[[Floats], Floats]] = {
        "mean": cells.mean_by_cell,
        "standard deviation": cells.deviation_by_cell,
        "99th percentile": partial(cells.quantile_by_cell, quantile=0.99),
    }
    if wet is not None:
        statistics["wet-day frequency"] = partial(cells.wet_day_frequency, threshold=wet)
    for name, statistic in statistics.items():
        yield _row(field, name, Comparison(*map(statistic, days)), grid)


def correlation_row(field: str, one: Comparison, other: Comparison, grid: Grid) -> Row:
    """Correlation of two variables by cell."""
    correlations = Comparison(*map(cells.correlation_by_cell, one, other))
    return _row(field, "correlation", correlations, grid)


def spectral_rows(field: str, days: Comparison, grid: Grid) -> Iterator[Row]:
    """Log spectral distance (dB), and power relative to the held-out days by wavelength.

    Spectra are of departures from the training days' mean in each cell, whose own spectrum would
    hide that of the weather; they are tapered at coasts and edges (`spectra.taper`) and compared
    at the wavenumbers that both axes resolve.
    """
    spacing = (
        float(np.diff(grid.lat_edges).mean()),
        float(np.diff(grid.lon_edges).mean() * np.cos(np.radians(grid.lat.mean()))),
    )
    climatology = cells.mean_by_cell(days.training)
    window = spectra.taper(np.all([np.isfinite(x).any(axis=0) for x in days], axis=0))
    rings = [spectra.rapsd(x - climatology, spacing, window=window) for x in days]
    length = 1.0 / (rings[0][0] * max(spacing))
    # Rounding must not drop the shortest wave.
    resolved = length > 2.0 - 1e-6
    length = length[resolved]
    reference, *others = (power[resolved] for _, power in rings)
    error, floor = (float(spectra.log_spectral_distance(x, reference)) for x in others)
    yield Row(field, "log spectral distance (dB)", None, None, None, error, floor)
    for low, high in _BANDS:
        waves = 1.0 / length
        power, usual = (float(spectra.band_power(waves, x, reference, low, high)) for x in others)
        if np.isfinite(power):
            name = f"{low:g} to {high:g} cells" if high < math.inf else f"over {low:g} cells"
            yield Row(field, f"relative power at {name}", 1.0, power, usual, None, None)


def neighbour_rows(
    held_out: Floats, generated: Floats, training: Floats, *, episode: int = 7
) -> list[Neighbours]:
    """Nearest-neighbour distances of fields (time, variables, ny, nx) in normalised units.

    Args:
        episode: training days fewer steps apart are one weather situation, and no neighbours.
    """
    distances = {
        "samples to training days": nearest_neighbour_distances(generated, training),
        "validation days to training days": nearest_neighbour_distances(held_out, training),
        "samples to validation days": nearest_neighbour_distances(generated, held_out),
        "samples to other samples": nearest_neighbour_distances(generated, generated, exclude=0),
    }
    if len(training) >= 2 * episode:
        distances[f"training days to others, at least {episode} days apart"] = (
            nearest_neighbour_distances(training, training, exclude=episode - 1)
        )
    return [
        Neighbours(
            title,
            least=float(values.min()),
            low=float(np.quantile(values, 0.05)),
            median=float(np.median(values)),
        )
        for title, values in distances.items()
    ]


def _row(field: str, measure: str, maps: Comparison, grid: Grid) -> Row:
    held_out, generated, training = (scores.weighted_mean(x, grid.areas) for x in maps)
    error, floor = (
        scores.mean_absolute_error(x, maps.held_out, grid.areas)
        for x in (maps.generated, maps.training)
    )
    return Row(field, measure, held_out, generated, training, error, floor)
