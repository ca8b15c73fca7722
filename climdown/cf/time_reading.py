"""Time axes as files have them: found, decoded and told apart from what is none."""

from __future__ import annotations

from collections.abc import Hashable

import cf_xarray  # noqa: F401  (registers the .cf accessor)
import cftime
import xarray as xr

from climdown.arrays import AnyArray
from climdown.cf import dating
from climdown.cf.decoding import is_undecoded_time, why_undecoded
from climdown.cf.opening import stored_values
from climdown.cf.time import TimeAxis
from climdown.errors import InputError


def read_time_axis(array: xr.DataArray, dataset: xr.Dataset) -> TimeAxis:
    """The time axis of a variable, its numbers as they are stored in the dataset's file.

    Raises:
        InputError: there is none, it is empty or has no units, or it cannot be decoded.
    """
    name = _time_name(array)
    axis = dataset[name]
    if problem := why_undecoded(dataset, name):
        raise InputError(problem)
    if axis.size == 0 or not isinstance(axis.values[0], cftime.datetime):
        raise InputError(
            f"variable '{array.name}' has a time axis that is empty or has no units; expected "
            "units like 'days since 1850-01-01'"
        )
    units, calendar = str(axis.encoding["units"]), str(axis.encoding.get("calendar", "standard"))
    bounds_name = str(axis.attrs.get("bounds", ""))
    bounded = bounds_name in dataset.variables
    return TimeAxis(
        dates=axis.values,
        # Dates and back again would lose the last bits of thirds of a day.
        values=stored_values(dataset, name),
        units=units,
        calendar=calendar,
        bounds=_bounds(dataset, bounds_name, units, calendar) if bounded else None,
        name=name,
        bounds_name=bounds_name or "time_bnds",
        climatological="climatology" in axis.attrs,
    )


def _time_name(array: xr.DataArray) -> str:
    """The name of a variable's time axis.

    Raises:
        InputError: it has none.
    """
    names = _time_names(array)
    if not names:
        _refuse_times_along_two(array)
        dimensions = ", ".join(map(str, array.dims)) or "none"
        raise InputError(
            f"variable '{array.name}' has no time axis, only dimensions {dimensions}; expected a "
            "dimension with dates"
        )
    return names[0]


def _refuse_times_along_two(array: xr.DataArray) -> None:
    """Refuse forecasts that say for what times they are, but of no dimension what it is."""
    for name, coordinate in array.coords.items():
        if coordinate.ndim == 2 and isinstance(coordinate.values.flat[0], cftime.datetime):
            one, two = map(str, coordinate.dims)
            raise InputError(
                f"variable '{array.name}' has its times in '{name}' along {one} and {two}; "
                "expected dates along one dimension: keep one entry of the other, for example "
                f"with `ncwa -a {two} -d {two},0`"
            )


def _bounds(dataset: xr.Dataset, name: str, units: str, calendar: str) -> AnyArray:
    """Bounds in the units of their axis, whatever units they state; CF lets them state none."""
    stated = {**dataset[name].attrs, **dataset[name].encoding}
    own = str(stated.get("units", units)), str(stated.get("calendar", calendar))
    return dating.bounds_in_units(stored_values(dataset, name), *own, (units, calendar))


def has_time(array: xr.DataArray) -> bool:
    """Whether a variable runs along time."""
    return bool(_time_names(array))


def time_dims(array: xr.DataArray) -> tuple[str, ...]:
    """Names of the dimensions that a variable's time axis runs along, decoded or not."""
    return tuple(str(d) for name in _time_names(array)[:1] for d in array[name].dims)


def _time_names(array: xr.DataArray) -> list[str]:
    """Coordinates that may be the time axis, those that name their dimension first."""
    declared = array.cf.coordinates.get("time", [])
    axes = [str(name) for name in declared if name in array.dims]
    # ECMWF's files name neither standard_name nor axis: units of time are enough for CF.
    dated = [str(name) for name in array.coords if _dates(array, name)]
    undecoded = [str(n) for n in array.coords if n in array.dims and _is_undecoded(array, n)]
    named = sorted(dated, key=lambda name: name not in array.dims) or undecoded
    starts = [str(n) for n in array.dims if n in array.coords and _has_dates(array.coords[n])]
    return axes or named or starts


def _dates(array: xr.DataArray, name: Hashable) -> bool:
    coordinate = array.coords[name]
    starts = coordinate.attrs.get("standard_name") == "forecast_reference_time"
    return _has_dates(coordinate) and not starts


def _has_dates(coordinate: xr.DataArray) -> bool:
    if coordinate.ndim != 1 or coordinate.size == 0 or coordinate.dtype != object:
        return False
    return isinstance(coordinate.values[0], cftime.datetime)


def _is_undecoded(array: xr.DataArray, name: Hashable) -> bool:
    return is_undecoded_time(array.coords[name])
