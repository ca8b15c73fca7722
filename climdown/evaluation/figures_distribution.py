"""Figures of distributions and of space: histograms, quantiles, spectra, zonal means."""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float64
from climdown.evaluation import maps
from climdown.evaluation.measure import divided
from climdown.evaluation.request import REFERENCE
from climdown.evaluation.view import Illustration, View, with_units
from climdown.metrics.spectra import rapsd
from climdown.plots.charts import Chart, Line

_LEVELS = np.concatenate([np.linspace(0.01, 0.99, 99), [0.995, 0.999, 0.9995, 0.9999]])
_BARS = 60  # of a histogram, at most


def distribution(view: View) -> Illustration | None:
    """Histograms with log tails, and quantiles against those of the reference."""
    sums = view.of_all("groups", ["pooled"])
    edges = view.scene.pooled
    quantity = with_units(view.variable, view.units)
    shares = {source: _cumulated(one["pooled"]) for source, one in sums.items()}
    densities = [view.line(s, *_density(edges, share)) for s, share in shares.items()]
    charts = {
        "density": Chart(
            "density", quantity, "density", densities, log_y=True, y_limits=_seen(densities)
        )
    }
    if REFERENCE in shares:
        truth = _quantiles(edges, shares[REFERENCE])
        lines = [
            view.line(source, truth, _quantiles(edges, share), marks=True)
            for source, share in shares.items()
            if source != REFERENCE
        ]
        charts["quantiles"] = Chart(
            "quantiles", f"reference {quantity}", "output", lines, ideal="diagonal"
        )
    caption = (
        "All days and cells together. Densities have a logarithmic axis, so that tails are seen: "
        "an output whose tail falls below that of the reference misses extremes, one above it "
        "makes too many. Quantiles (1 to 99.99 %) are drawn against those of the reference; points "
        "above the thin line are too high."
    )
    return view.illustration("distribution", "Distribution and quantiles", caption, charts)


def _cumulated(counts: Float64) -> Float64:
    """Share of values below each edge, shape (edges,)."""
    return np.asarray(np.cumsum(counts)[:-1] / counts.sum())


def _density(edges: Float64, share: Float64) -> tuple[Float64, Float64]:
    """Density in bins that are not too narrow, at their middles; NaN where there is nothing."""
    chosen = _apart(edges, (edges[-1] - edges[0]) / _BARS)
    ends = edges[chosen]
    inside = np.diff(share[chosen]) / np.diff(ends)
    return 0.5 * (ends[1:] + ends[:-1]), np.where(inside > 0, inside, np.nan)


def _apart(edges: Float64, least: float) -> list[int]:
    """Positions of the first edge and of each that lies so far beyond the last one taken."""
    chosen = [0]
    for i, edge in enumerate(edges):
        if edge >= edges[chosen[-1]] + least:
            chosen.append(i)
    return chosen


def _seen(lines: list[Line]) -> tuple[float, float] | None:
    """From the least density of a few values in a million to the highest."""
    values = np.concatenate([line.y[np.isfinite(line.y)] for line in lines] or [np.empty(0)])
    if not values.size:
        return None
    return max(0.7 * float(values.min()), 1e-7 * float(values.max())), 2.0 * float(values.max())


def _quantiles(edges: Float64, share: Float64) -> Float64:
    """Values at `_LEVELS`, NaN beyond the outermost edges."""
    rising = np.maximum.accumulate(share) + 1e-15 * np.arange(share.size)
    return np.asarray(np.interp(_LEVELS, rising, edges, left=np.nan, right=np.nan))


def spectrum(view: View) -> Illustration | None:
    """Power by wavelength, and over that of the reference."""
    sums = view.of_all("blocks", ["power", "fields"])
    cycles, _ = rapsd(np.zeros((1, *view.scene.grid.shape)))
    whole = cycles <= 0.5 + 1e-9
    length = view.scene.grid.kilometres / cycles[whole]
    power = {
        source: one["power"][whole] / one["fields"]
        for source, one in sums.items()
        if len(one["power"]) == len(cycles) and one["fields"] > 0
    }
    across = with_units("wavelength", "km")
    charts = {
        "power": Chart(
            "spectrum",
            across,
            with_units("power", f"({view.units})²"),
            [view.line(source, length, _positive(one)) for source, one in power.items()],
            log_x=True,
            log_y=True,
            falling_x=True,
        )
    }
    if REFERENCE in power:
        ratios = [
            view.line(source, length, _positive(one / _positive(power[REFERENCE])))
            for source, one in power.items()
            if source != REFERENCE
        ]
        charts["ratio"] = Chart(
            "power over the reference's", across, "ratio of power", ratios, log_x=True, log_y=True,
            falling_x=True, ideal=1.0,
        )  # fmt: skip
    caption = (
        "Variance by wavelength (radially averaged power spectral density of single members), long "
        "waves left, down to two cells, and the same over that of the reference. Below 1 the "
        "fields are too smooth at that scale, above 1 too rough; noise bends the right end upwards."
    )
    return view.illustration("space", "Spectrum in space", caption, charts)


def _positive(values: Float64) -> Float64:
    return np.where(values > 0, values, np.nan)


def zonal_mean(view: View) -> Illustration | None:
    """Means of each latitude, and their difference from the reference's."""
    means = {
        source: _by_latitude(view, one["sum"], one["count"])
        for source, one in view.of_all("groups", ["sum", "count"]).items()
    }
    quantity = with_units(f"mean {view.variable}", view.units)
    lat = view.scene.grid.lat
    charts = {
        "zonal": Chart(
            "zonal mean",
            quantity,
            "latitude (°N)",
            [view.line(s, m, lat) for s, m in means.items()],
        )
    }
    if REFERENCE in means:
        lines = [
            view.line(s, m - means[REFERENCE], lat) for s, m in means.items() if s != REFERENCE
        ]
        charts["zonal-bias"] = Chart(
            "output less reference", with_units("difference", view.units), "latitude (°N)", lines
        )
    caption = (
        "Means over the period of all judged cells of each latitude, and output less reference: a "
        "line away from 0 is a bias that depends on latitude."
    )
    return view.illustration("space", "Zonal means", caption, charts)


def _by_latitude(view: View, total: Float64, count: Float64) -> Float64:
    return np.asarray(maps.zonal_mean(view.scene, divided(total, count)[None])[0])
