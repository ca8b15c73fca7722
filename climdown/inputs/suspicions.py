"""What looks wrong in a file though it can be read: axes, bounds, stamps and accumulations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import xarray as xr

from climdown import cf
from climdown.arrays import Float64

# A step of an axis that is so many times as long as the usual one and as both its neighbours.
_HOLE = 1.5
# Cells of an evenly spaced axis differ from its step by no more than this share.
_UNEVEN, _OTHER_WIDTH = 0.01, 0.1


def suspicions_of_axes(array: xr.DataArray, dataset: xr.Dataset) -> Iterator[str]:
    """Holes in latitudes and longitudes, and bounds that contradict them."""
    for name in map(str, array.coords):
        coordinate = array[name]
        if coordinate.dims != (name,) or name not in cf.horizontal_names(array, dataset):
            continue
        values = np.asarray(coordinate.values, dtype=np.float64)
        turns = "lon" in str(coordinate.attrs.get("standard_name", name)).lower()
        yield from _hole(name, values, turns=turns)
        bounds = dataset.variables.get(coordinate.attrs.get("bounds"))
        if bounds is not None and bounds.shape == (values.size, 2):
            yield from _contradiction(name, values, np.asarray(bounds.values, np.float64))


def suspicions_of_time(axis: cf.TimeAxis, dataset: xr.Dataset) -> Iterator[str]:
    """Stamps at the end of their bounds, and bounds in units of their own."""
    if axis.bounds is None or axis.bounds.shape != (len(axis), 2):
        return
    bounds = dataset.variables[axis.bounds_name]
    units = bounds.encoding.get("units", bounds.attrs.get("units", axis.units))
    if units != axis.units:
        yield f"bounds of time are in '{units}', their axis in '{axis.units}'"
        return
    low, high = axis.bounds.min(axis=1), axis.bounds.max(axis=1)
    if (axis.values >= high).all() and (low < high).all():
        yield (
            f"stamps of time lie at the end of their bounds: the step of {axis.dates[0]} ends then"
        )


def suspicions_of_amounts(array: xr.DataArray) -> Iterator[str]:
    """What may be summed up over longer than a step."""
    if str(array.attrs.get("GRIB_stepType", "")) == "accum":
        yield (
            "GRIB_stepType is accum: values may be sums since the start of a forecast; make them "
            "sums of each step, for example with `cdo deltat`"
        )
    for name, coordinate in array.coords.items():
        forecast = str(coordinate.attrs.get("standard_name", "")) == "forecast_period"
        if (forecast or name == "step") and coordinate.size > 1:
            yield f"it runs along '{name}', the hours of a forecast: choose with --select"


def _hole(name: str, values: Float64, *, turns: bool) -> Iterator[str]:
    steps = np.abs(np.diff(values))
    if turns:
        steps = np.minimum(steps, np.abs(360.0 - steps))
    if steps.size < 3 or not np.isfinite(steps).all():
        return
    longest = int(steps.argmax())
    near = steps[max(0, longest - 1) : longest + 2]
    usual = max(float(np.median(steps)), *np.delete(near, np.argmax(near)))
    if steps[longest] > _HOLE * usual:
        yield (
            f"{name} jumps from {values[longest]:g} to {values[longest + 1]:g} where its other "
            f"steps are {np.median(steps):.4g}: a hole, or sorted across the seam"
        )


def _contradiction(name: str, values: Float64, bounds: npt.NDArray[np.float64]) -> Iterator[str]:
    steps = np.abs(np.diff(values))
    if steps.size < 3 or np.ptp(steps) > _UNEVEN * steps.mean():
        return
    step, widths = float(steps.mean()), np.abs(np.diff(bounds, axis=1))[:, 0]
    widths = np.minimum(widths, np.abs(360.0 - widths))
    # Cells at a pole are cut there.
    polar = (np.abs(bounds) >= 90.0 - 1e-6).any(axis=1) & (np.abs(values).max() <= 90.0)
    wrong = np.flatnonzero(~polar & ~(np.abs(widths - step) <= _OTHER_WIDTH * step))
    if wrong.size:
        yield (
            f"bounds of {name} contradict its even steps of {step:.4g}: {wrong.size} of "
            f"{values.size} cells are not as wide, like that at {values[wrong[0]]:g}, "
            f"{widths[wrong[0]]:.4g} wide"
        )
