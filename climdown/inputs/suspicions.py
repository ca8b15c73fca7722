"""What looks wrong in a file though it can be read: stamps, bounds of time and accumulations."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import xarray as xr

from climdown import cf
from climdown.errors import ClimdownError
from climdown.inputs.checks import running_sums

# Steps that are looked at for sums since midnight, where commands look at more: two days of hours.
_FEW_STEPS = 50
_ROUNDING = timedelta(seconds=1)


def suspicions_of_time(axis: cf.TimeAxis, dataset: xr.Dataset) -> Iterator[str]:
    """Stamps beside the minute, stamps at the end of their bounds, bounds in units of their own."""
    yield from _rounded(axis)
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


def suspicions_of_reading(
    path: cf.Location, dataset: xr.Dataset, name: str, *, full: bool
) -> Iterator[str]:
    """What commands would doubt or refuse in a variable that they can find.

    Along further dimensions the first entry is looked at.

    Args:
        full: look at all steps that commands look at.
    """
    array = dataset[name]
    quantity = cf.quantity_like(array)
    ahead = list(_dimensions_ahead(array))
    for dimension in ahead:
        yield f"it runs along '{dimension}', the hours of a forecast: choose with --select"
    if ahead and cf.is_amount(array, quantity):
        yield "amounts of later forecast steps may be sums since the start of the forecast"
        return
    known = {*map(str, cf.horizontal_dims(array)), *cf.time_dims(array)}
    others = (str(d) for d in array.dims if str(d) not in known)
    select = {other: cf.labels(array, other)[0] for other in others}
    try:
        field = cf.read_field(path, dataset, name, quantity, select)
        yield from field.doubts
        sums = running_sums(field) if full else running_sums(field, _FEW_STEPS)
    except ClimdownError as error:
        yield str(error).removeprefix(f"{path}: ").removeprefix(f"variable '{name}' ")
        return
    if sums is not None:
        yield sums


def _rounded(axis: cf.TimeAxis) -> Iterator[str]:
    """Stamps that are taken for the minute beside them, as 23:59:59.991 for midnight."""
    for stamp, centre in zip(axis.dates, axis.centres, strict=True):
        if stamp != centre and abs(stamp - centre) < _ROUNDING:
            yield (
                f"stamps of time lie a rounding error beside the minute: {stamp} is taken for "
                f"{centre}"
            )
            return


def _dimensions_ahead(array: xr.DataArray) -> Iterator[str]:
    """Dimensions beside time along which a forecast has several steps ahead."""
    for coordinate in cf.lead_coordinates(array):
        along = set(map(str, coordinate.dims)) - set(cf.time_dims(array))
        if along and coordinate.size > 1:
            yield str(coordinate.name)
