"""The scale at and above which an input is believed, found in its spectrum."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.fft import next_fast_len

from climdown import cf, regrid
from climdown.arrays import Floats as Values
from climdown.errors import ConfigError
from climdown.grid import Grid
from climdown.inputs import matching
from climdown.metrics.spectra import rapsd, taper, white_noise_power
from climdown.priors.card import Prior, Variable

log = logging.getLogger(__name__)

# Spectra are taken over so many of the input's steps, spread over all of them, and over no fewer:
# a few days of weather have spectra of their own.
_MOST_STEPS, _FEWEST_STEPS = 64, 28
# Waves are believed while they have this share of the power that they should have. Averages of
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
# Fields drawn from the prior's spectrum, and rounds to find their colours.
_DRAWN_CELLS, _FEWEST_DRAWS, _ROUNDS = 1 << 20, 4, 6
# Cells that they are drawn on beyond the domain.
_MARGIN = 256


def choose_scale(prior: Prior, fields: Mapping[str, cf.Field], grid: Grid) -> Grid:
    """Cells of A_low, at least as large as a grid's, that hold only waves the input draws well.

    Where the spectrum of a variable departs from the prior's in waves shorter than W, whole cells
    are put together until W / 2 is their size. Of several variables the one that departs in the
    longest waves decides: one grid serves all, guidance believes whatever is on it, and what it
    leaves out the prior draws itself.

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
        factors[variable.name] = first_believed(ratios)
    worst = max(factors, key=lambda name: factors[name])
    factor = factors[worst]
    length = 2.0 * factor * grid.kilometres
    if factor == 1:
        log.info("filter scale %.3g deg: waves from %.0f km on are believed", grid.spacing, length)
        return grid
    log.info(
        "filter scale %.3g deg: the spectrum of %s departs from the prior's below %.0f km",
        factor * grid.spacing,
        worst,
        length,
    )
    return grouped(grid, factor)


def first_believed(ratios: Values) -> int:
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
    return grouped(coarse, round(factor))


def grouped(grid: Grid, factor: int) -> Grid:
    """Cells of `factor` x `factor` cells; last ones of half as many stay, of fewer are dropped."""
    lat = _every(grid.lat_edges, factor, closed=False)
    lon = _every(grid.lon_edges, factor, closed=grid.periodic)
    return Grid(0.5 * (lat[:-1] + lat[1:]), 0.5 * (lon[:-1] + lon[1:]), lat, lon)


def _every(edges: npt.NDArray[np.float64], factor: int, *, closed: bool) -> npt.NDArray[np.float64]:
    kept, rest = edges[::factor], (edges.size - 1) % factor
    if rest and (closed or 2 * rest >= factor or kept.size == 1):
        kept = np.append(kept, edges[-1])
    return kept


def spectral_ratios(prior: Prior, channel: int, field: cf.Field, grid: Grid) -> Values | str:
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
    weights = matching.weights_onto(field, grid)
    values, repeats = _read(field, weights, variable, prior.card.months)
    if len(values) < _FEWEST_STEPS:
        return (
            f"the input has {len(values)} steps of {variable.name} in the prior's months; need at "
            f"least {_FEWEST_STEPS}"
        )
    down = regrid.weights(fine, field.grid, "conservative")
    drawn = _lowered(weights, down.apply(_draw_physical(prior, variable, mask, spectrum)))
    down = regrid.weights(fine, grid, "conservative")
    covered = np.nan_to_num(down.apply(mask.astype(np.float64)))
    seen = (covered >= _MIN_CELL) & (np.isfinite(values).mean(axis=0) >= 0.5)
    # As the prior's spectrum counts the fine cells.
    counted = np.where(seen, np.nan_to_num(down.apply(taper(mask) ** 2 * mask)), 0.0)
    encode = prior.transforms[variable.name].without_fields().forward
    ratios: list[float] = []
    level = np.nan
    # Longer waves are too few in the domain.
    for n in range(1, min(_LARGEST, max(grid.shape) // 4) + 1):
        weight = _means(counted[None], np.ones(grid.shape), n)[0]
        ours, theirs = (
            encode(_means(np.where(seen, x, np.nan), grid.areas, n)) for x in (values, drawn)
        )
        # The first of the drawn fields is the prior's mean.
        ours, theirs = _anomalies(ours), theirs[1:] - theirs[0]
        expected = _shortest_waves(theirs, weight, n)
        if not expected > 0:
            break
        ratios.append(_shortest_waves(ours, weight, n) / expected)
        level = np.sqrt(ratios[-1] * _variance(ours, weight) / _variance(theirs, weight))
    # Rounding leaves something of fields that never change.
    if not level > _LEAST:
        return f"{variable.name} is on too few cells, or the same at all steps"
    found = np.array(ratios) / level
    # The edges of repeated cells have power, but hold no waves.
    found[: max(0, round(repeats * field.grid.spacing / grid.spacing) - 1)] = 0.0
    return found


def _read(
    field: cf.Field, weights: regrid.Weights, variable: Variable, months: tuple[int, ...]
) -> tuple[Values, int]:
    """Some of the field's steps on a grid, shape (steps, ny, nx), those without values left out.

    Beside them, over how many of its cells the field repeats its values; 1 where it does not.
    """
    known = np.flatnonzero([date.month in months for date in field.time.dates])
    lowest = -np.inf if variable.minimum is None else variable.minimum
    rows: list[Values] = [np.empty((0, *weights.target.shape))]
    same, pairs = np.zeros(2), np.full(2, 1e-12)
    for i in cf.evenly(known, _MOST_STEPS).tolist():
        values = field.read(slice(i, i + 1))
        # Steps that a run leaves out may hold anything.
        values = np.where(np.abs(values) < matching.FILL, values, np.float32(np.nan))
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


def _lowered(weights: regrid.Weights, values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return weights.apply(values.astype(np.float64), min_coverage=0.5)


def _means(values: Values, areas: Values, n: int) -> Values:
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


def _window_sums(values: Values, n: int) -> Values:
    for axis in (1, 2):
        size = min(n, values.shape[axis])
        windows = np.lib.stride_tricks.sliding_window_view(values, size, axis=axis)
        values = np.asarray(windows.sum(axis=-1))
    return values


def _anomalies(z: Values) -> Values:
    """Departures of each cell from its mean over the steps."""
    known = np.isfinite(z)
    count = np.maximum(known.sum(axis=0), 1)
    return np.asarray(z - np.where(known, z, 0.0).sum(axis=0) / count)


def _variance(z: Values, weight: Values) -> float:
    """Within each field, on average."""
    weights = np.where(np.isfinite(z), weight, 0.0)
    filled, total = np.nan_to_num(z), weights.sum(axis=(1, 2), keepdims=True)
    means = (weights * filled).sum(axis=(1, 2), keepdims=True) / np.maximum(total, 1e-12)
    return float((weights * (filled - means) ** 2).sum() / max(weights.sum(), 1e-12))


def _shortest_waves(z: Values, weight: Values, n: int) -> float:
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


def _draw_physical(
    prior: Prior, variable: Variable, mask: npt.NDArray[np.bool_], spectrum: Values
) -> Values:
    """The prior's mean, then fields with its spectrum, shape (1 + draws, ny, nx), in its units."""
    chain, minimum = prior.transforms[variable.name], -np.inf
    if variable.minimum is not None and not any("field" in step for step in variable.transform):
        minimum = float(chain.forward(np.array(variable.minimum)))
    drawn = draw(spectrum.astype(np.float64), mask, minimum)
    z = np.concatenate([np.zeros((1, *mask.shape)), drawn])
    return np.where(mask, chain.inverse(z), np.nan)


def draw(spectrum: Values, mask: npt.NDArray[np.bool_], minimum: float = -np.inf) -> Values:
    """Random fields of mean zero with a spectrum, shape (draws, ny, nx), always the same ones.

    White noise, coloured on a larger domain, since fields do not close at its edges. What window,
    mask and minimum do to the spectrum is taken back from the colours, round by round.

    Args:
        spectrum: as of `evaluation.spectra.tapered_spectrum` over the mask.
        minimum: smaller values are raised to it.
    """
    ny, nx = shape = mask.shape
    draws = max(_FEWEST_DRAWS, min(_MOST_STEPS, _DRAWN_CELLS // mask.size))
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
        fields: Values = np.maximum(drawn, minimum)
        _, power = rapsd(np.where(mask, fields, np.nan), window=window)
        colour += np.log(target / power)
        shift -= float(fields[:, mask].mean())
    return fields
