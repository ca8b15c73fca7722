"""The effective resolution of an input, found in its spectrum: the scale at which it guides."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

import numpy as np

from climdown import cf, regrid
from climdown.arrays import Floats, Mask
from climdown.errors import ConfigError
from climdown.grid import Grid
from climdown.inputs.checks import FILL
from climdown.inputs.onto import weights_onto
from climdown.metrics.scales import (
    anomalies,
    block_means,
    draw_fields,
    shortest_wave_power,
    variance_within,
)
from climdown.metrics.spectra import taper, white_noise_power
from climdown.priors.card import Variable
from climdown.priors.prior import Prior

log = logging.getLogger(__name__)

# Spectra are taken over so many of the input's steps, spread over all of them, and over no fewer:
# a few days of weather have spectra of their own.
_MOST_STEPS, _FEWEST_STEPS = 64, 28
# Waves are resolved while they have this share of the power that they should have. Averages of
# observed fields have 0.53 to 1.75 over any 64 days in a row, but for pressure in summer with 2.3
# of what the prior has over the year, and 0.45 to 2 (3.6) over 28 days. A blur of half a cell
# leaves 0.3 to 0.5, of one cell 0.1; noise of a quarter of temperature's deviation makes it 4.6.
_WEAKEST, _STRONGEST = 0.45, 3.0
_LEAST = 1e-9
# Neighbours are the same if they differ by less than this share of a field's deviation.
_SAME = 1e-4
# More cells than this along the side of one are never put together.
_LARGEST = 8
# A cell counts where valid fine cells fill at least this share, as in guidance.
_MIN_CELL = 0.5


def choose_effective_grid(prior: Prior, fields: Mapping[str, cf.Field], grid: Grid) -> Grid:
    """Cells of A_low, at least as large as a grid's, that hold only waves the input draws well.

    Where the spectrum of a variable departs from the prior's in waves shorter than W, whole cells
    are put together until W / 2 is their size. Of several variables the one that departs in the
    longest waves decides: one grid serves all, guidance takes whatever is on it for true, and what
    it leaves out the prior draws itself.

    Args:
        fields: all steps of the input, whichever a run samples, so that all parts of an input have
            one scale.
        grid: the finest that may be.
    """
    factors: dict[str, int] = {}
    for channel, variable in enumerate(prior.card.variables):
        if variable.name not in fields:
            continue
        ratios = spectral_ratios(prior, channel, fields[variable.name], grid)
        if isinstance(ratios, str):
            log.info("filter scale %.3g deg, not judged by spectra: %s", grid.spacing, ratios)
            return grid
        log.debug("%s: power beside the prior's: %s", variable.name, ratios.round(2))
        factors[variable.name] = first_resolved(ratios)
    worst = max(factors, key=lambda name: factors[name])
    factor = factors[worst]
    length = 2.0 * factor * grid.kilometres
    if factor == 1:
        log.info("filter scale %.3g deg: waves from %.0f km on are resolved", grid.spacing, length)
        return grid
    log.info(
        "filter scale %.3g deg: the spectrum of %s departs from the prior's below %.0f km",
        factor * grid.spacing,
        worst,
        length,
    )
    return grid.grouped(factor)


def choose_filter_grid(prior: Prior, fields: dict[str, cf.Field], scale: float | str) -> Grid:
    """The grid of A_low, on which the input guides.

    "auto" is the finest that its cells allow; its spectrum may want a coarser one.
    """
    native = max((field.grid for field in fields.values()), key=lambda grid: grid.spacing)
    if len({field.grid.digest for field in fields.values()}) == 1:
        native = next(iter(fields.values())).grid
    fine, coarse = prior.card.grid, prior.card.coarse_grid
    if scale == "native" or (scale == "auto" and native.spacing > 0.99 * coarse.spacing):
        return native
    if scale == "auto":
        return coarse
    spacing = float(scale)
    # Multiples of the spacing, so that every region sees the same cells.
    south, west = (math.floor(e[0] / spacing) * spacing for e in (fine.lat_edges, fine.lon_edges))
    north, east = float(fine.lat_edges[-1]), float(fine.lon_edges[-1])
    return Grid.regular(max(south, -90.0), north, west, min(east, west + 360.0), spacing)


def first_resolved(ratios: Floats) -> int:
    """From which number of cells on all waves are drawn well, by their `spectral_ratios`."""
    departing = np.flatnonzero((ratios < _WEAKEST) | (ratios > _STRONGEST))
    return int(departing[-1]) + 2 if departing.size else 1


def quantile_grid(prior: Prior, scale: float | str) -> Grid:
    """The coarse grid on which a prior's quantiles are, or cells made of whole ones of it.

    Args:
        scale: "auto" or degrees.

    Raises:
        ConfigError: no whole number of these cells is as large.
    """
    coarse = prior.card.coarse_grid
    if scale == "auto":
        return coarse
    factor = 0.0 if isinstance(scale, str) else scale / coarse.spacing
    if round(factor) < 1 or abs(factor - round(factor)) > 1e-6:
        raise ConfigError(
            f"the quantiles of prior {prior.card.name} are on its coarse grid "
            f"({coarse.describe()}); leave --filter-scale out, give a multiple of "
            f"{coarse.spacing:.6g}, or give observations as --reference"
        )
    return coarse.grouped(round(factor))


def spectral_ratios(prior: Prior, channel: int, field: cf.Field, grid: Grid) -> Floats | str:
    """Power of waves of 2, 4, ... cells over what it should be, shape (factors,), or why not known.

    The power of waves of 2 n cells is that of second differences between neighbouring means of
    n x n cells, wherever these may begin, in normalised units: a wavelet spectrum. It needs no
    window at coasts. In the spectra of fields that are interpolated, masked and tapered the long
    waves leak into all others, and hide a blur of two cells.

    Averaging takes power from fields that are right in every wave: random fields with the prior's
    spectrum go the same way as the input, and tell what is left. Ratios are relative to a level,
    since a calm winter, or a model that varies too little, lacks power at all scales, which no
    filter mends: the geometric mean of the ratios of the longest waves and of the variance of
    means as large. What stands still is bias, for bias adjustment to take off, and would hide
    weather that is too smooth: each cell's mean is left out.
    """
    variable, fine, mask = prior.card.variables[channel], prior.card.grid, prior.mask[channel]
    spectrum = prior.spectrum(variable.name)
    if spectrum is None or spectrum.shape != white_noise_power(fine.shape).shape:
        return f"prior {prior.card.name} carries no spectrum of {variable.name}"
    weights = weights_onto(field, grid)
    values, repeats = _read(field, weights, variable, prior.card.months)
    if len(values) < _FEWEST_STEPS:
        return (
            f"the input has {len(values)} steps of {variable.name} in the prior's months; need at "
            f"least {_FEWEST_STEPS}"
        )
    to_input = regrid.weights(fine, field.grid, "conservative")
    drawn = _lowered(weights, to_input.apply(_draw_physical(prior, variable, mask, spectrum)))
    cells = _judged_cells(regrid.weights(fine, grid, "conservative"), mask, values)
    encode = prior.transforms[variable.name].without_fields().forward
    ratios, level = _power_ratios(values, drawn, cells, encode, grid)
    # Rounding leaves something of fields that never change.
    if not level > _LEAST:
        return f"{variable.name} is on too few cells, or the same at all steps"
    relative = np.array(ratios) / level
    # The edges of repeated cells have power, but hold no waves.
    relative[: max(0, round(repeats * field.grid.spacing / grid.spacing) - 1)] = 0.0
    return relative


def _judged_cells(to_grid: regrid.Weights, mask: Mask, values: Floats) -> Floats:
    """Weights of a grid's cells in its spectra, NaN where one side is mostly missing, (ny, nx).

    Args:
        to_grid: from the fine cells, of which `mask` says which are valid.
        values: of the input on the grid, shape (steps, ny, nx).
    """
    covered = np.nan_to_num(to_grid.apply(mask.astype(np.float64)))
    seen = (covered >= _MIN_CELL) & (np.isfinite(values).mean(axis=0) >= 0.5)
    # The prior's spectrum is that of fields tapered towards their rim: cells count as much here.
    tapered = np.nan_to_num(to_grid.apply(taper(mask) ** 2 * mask))
    return np.where(seen, tapered, np.nan)


def _power_ratios(
    values: Floats,
    drawn: Floats,
    cells: Floats,
    encode: Callable[[Floats], Floats],
    grid: Grid,
) -> tuple[list[float], float]:
    """Power of the input's waves of 2, 4, ... cells over that of drawn fields, and their level.

    Args:
        values, drawn: in physical units, shape (steps, ny, nx); the first of `drawn` is the
            prior's mean.
        cells: see `_judged_cells`.
        encode: to normalised units.

    Returns:
        the ratios, and their level, NaN where there are none: see `spectral_ratios`.
    """
    seen, counted = np.isfinite(cells), np.nan_to_num(cells)
    ratios: list[float] = []
    level = np.nan
    # Longer waves are too few in the domain.
    for n in range(1, min(_LARGEST, max(grid.shape) // 4) + 1):
        weight = block_means(counted[None], np.ones(grid.shape), n)[0]
        ours, theirs = (
            encode(block_means(np.where(seen, x, np.nan), grid.areas, n)) for x in (values, drawn)
        )
        ours, theirs = anomalies(ours), theirs[1:] - theirs[0]
        expected = shortest_wave_power(theirs, weight, n)
        if not expected > 0:
            break
        ratios.append(shortest_wave_power(ours, weight, n) / expected)
        level = np.sqrt(
            ratios[-1] * variance_within(ours, weight) / variance_within(theirs, weight)
        )
    return ratios, level


def _read(
    field: cf.Field, weights: regrid.Weights, variable: Variable, months: tuple[int, ...]
) -> tuple[Floats, int]:
    """Some of the field's steps on a grid, shape (steps, ny, nx), those without values left out.

    Beside them, over how many of its cells the field repeats its values; 1 where it does not.
    """
    trained = np.flatnonzero([date.month in months for date in field.time.dates])
    lowest = -np.inf if variable.minimum is None else variable.minimum
    rows: list[Floats] = [np.empty((0, *weights.target.shape))]
    same, pairs = np.zeros(2), np.full(2, 1e-12)
    for i in cf.evenly(trained, _MOST_STEPS).tolist():
        values = field.read(slice(i, i + 1))
        # Steps that a run leaves out may hold anything.
        values = np.where(np.abs(values) < FILL, values, np.float32(np.nan))
        if not np.isfinite(values).any():
            continue
        rows.append(_lowered(weights, values))
        least = _SAME * np.nanstd(values)
        for axis in (0, 1):
            cells = np.moveaxis(values[0], axis, 0)
            # Many neighbours are dry, and alike in that.
            counted = np.maximum(cells[1:], cells[:-1]) > lowest
            same[axis] += (counted & (np.abs(cells[1:] - cells[:-1]) <= least)).sum()
            pairs[axis] += counted.sum()
    size = np.array(field.grid.shape)
    distinct = (size - 1) * (1.0 - same / pairs) + 1.0
    return np.concatenate(rows), round(float((size / distinct).min()))


def _lowered(weights: regrid.Weights, values: Floats) -> Floats:
    return weights.apply(values.astype(np.float64), min_coverage=0.5)


def _draw_physical(prior: Prior, variable: Variable, mask: Mask, spectrum: Floats) -> Floats:
    """The prior's mean, then fields with its spectrum, shape (1 + draws, ny, nx), in its units."""
    chain, minimum = prior.transforms[variable.name], -np.inf
    if variable.minimum is not None and not any("field" in step for step in variable.transform):
        minimum = float(chain.forward(np.array(variable.minimum)))
    drawn = draw_fields(spectrum.astype(np.float64), mask, minimum)
    z = np.concatenate([np.zeros((1, *mask.shape)), drawn])
    return np.where(mask, chain.inverse(z), np.nan)
