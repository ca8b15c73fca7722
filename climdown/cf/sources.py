"""Files opened once, and the fields found in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from climdown.cf.amounts import Lead, amount_lengths, forecast_lead, lead_by_valid_time
from climdown.cf.coordinates import cells_as_stored, gridded_variables, horizontal_dims
from climdown.cf.fields import Field
from climdown.cf.opening import Location, describe_paths, expand_paths, open_dataset
from climdown.cf.recognition import Mismatch, Quantity, is_amount, mismatch, rate_units
from climdown.cf.selection import refuse_open_dimensions, select_entries
from climdown.cf.time import TimeAxis, join_time_axes
from climdown.cf.time_reading import read_time_axis
from climdown.cf.units import readable_units
from climdown.errors import ClimdownError, InputError
from climdown.grid import Grid
from climdown.mesh import Mesh

# Variables of a file that a message lists.
_MOST_LISTED = 8


class VariableNotFoundError(InputError):
    """No file has the quantity; `near` if a variable could be it but for units, level and such."""

    def __init__(self, message: str, *, near: bool = False) -> None:
        super().__init__(message)
        self.near = near


@dataclass(frozen=True, eq=False)
class Sources:
    """Files, stores and addresses, each opened once however many fields are taken from them.

    Attributes:
        paths: in the order they were named.
        datasets: of each, decoded, values still to be read.
    """

    paths: tuple[Location, ...]
    datasets: tuple[xr.Dataset, ...]

    @classmethod
    def open(cls, inputs: Iterable[str | Path] | str | Path) -> Sources:
        """Open paths of NetCDF files and Zarr stores, glob patterns or URLs.

        Raises:
            InputError: one does not exist, cannot be read or cannot be decoded.
        """
        paths = expand_paths([inputs] if isinstance(inputs, str | Path) else inputs)
        return cls(tuple(paths), tuple(map(open_dataset, paths)))

    def close(self) -> None:
        """Close the files; fields taken from them cannot be read any more."""
        for dataset in self.datasets:
            dataset.close()

    def describe(self) -> str:
        """The first path, and how many more."""
        return describe_paths(self.paths)

    def dimensions(self) -> set[str]:
        """Names along which entries can be selected in one of the files."""
        names: set[str] = set()
        for dataset in self.datasets:
            along = (name for name, array in dataset.coords.items() if array.ndim)
            names.update(map(str, (*dataset.dims, *along)))
        return names

    def field(self, quantity: Quantity, *, select: Mapping[str, str] | None = None) -> Field:
        """Find a quantity in one or several of the files, joined along time.

        Amounts over a time step ("mm") come as rates where rates are wanted ("mm day-1").

        Args:
            quantity: what to look for; files without it are passed over.
            select: the entry to take along further dimensions, by label: {"realization": "3"}.

        Raises:
            VariableNotFoundError: no file has such a variable.
            InputError: several candidates, no time axis, times that do not ascend, files on
                different grids, or a further dimension to choose from.
            GridError: the coordinates do not form a grid.
        """
        pieces: list[Field] = []
        others: dict[str, bool] = {}
        for path, dataset in zip(self.paths, self.datasets, strict=True):
            name, rejected = _find(dataset, quantity, path)
            prefix = f"{path.name}: " if len(self.paths) > 1 else ""
            for other, why in rejected.items():
                others[f"{prefix}'{other}' ({why.reason})"] = why.near
            if name is not None:
                pieces.append(_read_structure(dataset, name, quantity, path, select or {}))
        if not pieces:
            raise _not_found(self.paths, quantity, others)
        return _join(pieces)


def open_field(
    inputs: Sequence[str | Path] | str | Path,
    quantity: Quantity,
    *,
    select: Mapping[str, str] | None = None,
) -> Field:
    """Find a quantity in one or several files, joined along time; see `Sources`.

    Raises:
        InputError, GridError: as `Sources.open` and `Sources.field`.
    """
    return Sources.open(inputs).field(quantity, select=select)


def read_field(
    path: Location, dataset: xr.Dataset, name: str, quantity: Quantity, select: Mapping[str, str]
) -> Field:
    """A variable of one file, as `Sources.field` reads it.

    Raises:
        InputError, GridError: as `Sources.field`.
    """
    return _join([_read_structure(dataset, name, quantity, path, select)])


def _not_found(
    paths: Sequence[Location], quantity: Quantity, others: Mapping[str, bool]
) -> VariableNotFoundError:
    wanted = (
        f"with standard_name {' or '.join(quantity.standard_names)}"
        if quantity.standard_names
        else f"named {' or '.join(quantity.names)}"
    )
    near_first = sorted(others, key=lambda text: not others[text])
    listed = "; ".join(near_first[:_MOST_LISTED]) or "no gridded variables"
    if len(near_first) > _MOST_LISTED:
        listed += f"; and {len(near_first) - _MOST_LISTED} more"
    level = "" if quantity.level is None else f" at {quantity.level / 100:g} hPa"
    return VariableNotFoundError(
        f"{describe_paths(paths)}: no variable {wanted} in units convertible to {quantity.units} "
        f"(for {quantity.name}{level}); found {listed}",
        near=any(others.values()),
    )


def _find(
    dataset: xr.Dataset, quantity: Quantity, path: Location
) -> tuple[str | None, dict[str, Mismatch]]:
    """The name of the variable that is the quantity, and why the others are not."""
    matches: list[str] = []
    others: dict[str, Mismatch] = {}
    for name in gridded_variables(dataset):
        problem = mismatch(dataset[name], quantity)
        if problem is None:
            matches.append(name)
        else:
            others[name] = problem
    for narrowed in (
        [name for name in matches if quantity.named(name)],
        [name for name in matches if name.lower() == quantity.name.lower()],
    ):
        if len(matches) > 1 and narrowed:
            matches = narrowed
    if len(matches) > 1:
        raise InputError(
            f"{path}: several variables could be {quantity.name}: {', '.join(matches)}; "
            "keep one of them in the file, for example with `cdo selname`"
        )
    return (matches[0] if matches else None), others


def _read_structure(
    dataset: xr.Dataset, name: str, quantity: Quantity, path: Location, select: Mapping[str, str]
) -> Field:
    try:
        return _structure(dataset, name, quantity, path, select)
    except ClimdownError as error:
        raise type(error)(f"{path}: {error}") from None


def _structure(
    dataset: xr.Dataset, name: str, quantity: Quantity, path: Location, select: Mapping[str, str]
) -> Field:
    array = dataset[name]
    time = read_time_axis(array, dataset)
    along_time = str(array[time.name].dims[0])
    array = _selected(array, quantity, along_time, select)
    cells, array = cells_as_stored(array, dataset)
    array = _with_time_dimension(array, along_time)
    lead = forecast_lead(dataset[name], array, time.step_days)
    if lead is None:
        lead = lead_by_valid_time(array, time)
    from_start = lead is not None and _is_start(time, lead, array)
    if lead is not None and from_start:
        time = time.later(lead.days)
    units, attributes = _as_read(array, quantity)
    return Field(
        quantity=quantity,
        cells=cells,
        time=time,
        source_name=name,
        source_units=units,
        attributes=attributes,
        global_attributes=dict(dataset.attrs),
        scalars=_scalars(array),
        paths=(path,),
        segments=(array,),
        lead=lead,
        from_start=from_start,
    )


def _selected(
    array: xr.DataArray, quantity: Quantity, along_time: str, select: Mapping[str, str]
) -> xr.DataArray:
    """The variable with no dimensions but those of time and its cells.

    Raises:
        InputError: an entry that is not there, or one that is left to choose.
    """
    chosen = {along_time, *horizontal_dims(array)}
    others = [str(d) for d in array.dims if d not in chosen]
    array = select_entries(array, select, level=quantity.level, others=others)
    refuse_open_dimensions(array, others)
    return array.squeeze([d for d in others if d in array.dims])


def _with_time_dimension(array: xr.DataArray, along_time: str) -> xr.DataArray:
    """The variable with its dimension of time called "time"."""
    # A forecast's files name a scalar "time" beside the axis "valid_time".
    taken = "time" in array.coords and along_time != "time"
    return (array.drop_vars("time") if taken else array).rename({along_time: "time"})


def _scalars(array: xr.DataArray) -> dict[str, xr.DataArray]:
    """Scalar coordinates that are numbers, like a height."""
    return {
        str(key): coordinate
        for key, coordinate in array.coords.items()
        if coordinate.ndim == 0 and np.issubdtype(coordinate.dtype, np.number)
    }


def _is_start(time: TimeAxis, lead: Lead, array: xr.DataArray) -> bool:
    """Whether an axis has the starts of forecasts, not the times that they are for."""
    if lead.along_time or time.bounded:
        return False
    described = array.coords.get("time", array).attrs
    named = described.get("standard_name") == "forecast_reference_time"
    # As cfgrib has it.
    named |= "initial time" in str(described.get("long_name", ""))
    return named or ("valid_time" in array.coords and time.name != "valid_time")


def _as_read(array: xr.DataArray, quantity: Quantity) -> tuple[str, dict[str, Any]]:
    """Units and attributes of a variable, those of a rate where it is an amount over a step."""
    written = readable_units(str(array.attrs["units"]))
    units = rate_units(written, quantity.units) or written
    attributes = dict(array.attrs)
    if is_amount(array, quantity):
        methods = str(attributes.get("cell_methods", "")).replace("time: sum", "time: mean")
        attributes |= {"units": units, "cell_methods": methods or "time: mean"}
        if quantity.standard_names:
            attributes["standard_name"] = quantity.standard_names[0]
    return units, attributes


def _join(pieces: Sequence[Field]) -> Field:
    """One field from pieces of a time series."""
    fields = sorted(pieces, key=lambda field: field.time.start)
    first = fields[0]
    for field in fields[1:]:
        _check_alike(field, first)
    for before, after in itertools.pairwise(fields):
        _join_times([before, after])
    time = _join_times(fields)
    joined = replace(
        first,
        time=time,
        paths=tuple(field.paths[0] for field in fields),
        segments=tuple(field.segments[0] for field in fields),
    )
    return _with_step_days(joined)


def _with_step_days(field: Field) -> Field:
    """The lengths of the steps for a field of amounts; one of rates as it is."""
    written = str(field.segments[0].attrs["units"])
    if not _is_amount(field):
        return _with_doubts(field)
    try:
        lengths = amount_lengths(field.segments[0], field.time, field.lead)
    except InputError as error:
        raise InputError(
            f"{field.where} holds amounts per step ('{written}'), and {error}"
        ) from None
    time = field.time
    if field.from_start:
        time = time.ending(float(lengths.days[0]))
    return _with_doubts(replace(field, time=time, step_days=lengths.days), lengths.doubt)


def _with_doubts(field: Field, *others: str | None) -> Field:
    methods = str(field.segments[0].attrs.get("cell_methods", ""))
    doubts = (*others, field.time.doubt, field.time.month_doubt(methods))
    return replace(field, doubts=tuple(doubt for doubt in doubts if doubt))


def _check_alike(field: Field, first: Field) -> None:
    """Check that a file continues the first one's grid, calendar and units."""
    path = field.paths[0]
    if not _same_cells(field.cells, first.cells):
        raise InputError(
            f"{path}: its grid ({field.cells.describe()}) differs from that of "
            f"{first.paths[0]} ({first.cells.describe()}){_largest_shift(field, first)}"
        )
    if field.time.shared_calendar != first.time.shared_calendar:
        raise InputError(
            f"{path}: its calendar {field.time.calendar} differs from "
            f"{first.time.calendar} of {first.paths[0]}"
        )
    if field.source_units != first.source_units:
        raise InputError(
            f"{path}: its units '{field.source_units}' differ from "
            f"'{first.source_units}' of {first.paths[0]}"
        )
    _check_leads(field, first)


def _check_leads(field: Field, first: Field) -> None:
    """Check that amounts of forecasts are those of steps as far ahead as in the first file."""
    if not _is_amount(field) or field.lead == first.lead:
        return
    hours = ("none" if f.lead is None else f"{24 * f.lead.days:g} hours" for f in (field, first))
    own, other = hours
    raise InputError(
        f"{field.paths[0]}: its forecast step ({own}) differs from that of {first.paths[0]} "
        f"({other}), and so may the lengths of its amounts; expected one step"
    )


def _is_amount(field: Field) -> bool:
    return is_amount(field.segments[0], field.quantity)


def _same_cells(cells: Grid | Mesh, others: Grid | Mesh) -> bool:
    if isinstance(cells, Grid):
        return isinstance(others, Grid) and cells.matches(others)
    return isinstance(others, Mesh) and cells.matches(others)


def _largest_shift(field: Field, first: Field) -> str:
    """By how much edges of grids differ that have as many cells, for people."""
    one, two = field.cells, first.cells
    if not (isinstance(one, Grid) and isinstance(two, Grid) and one.shape == two.shape):
        return ""
    turn = 360.0 * np.round((one.lon[0] - two.lon[0]) / 360.0)
    lat = np.abs(one.lat_edges - two.lat_edges).max()
    lon = np.abs(one.lon_edges - two.lon_edges - turn).max()
    return f", by up to {lat:.4g} degrees in latitude and {lon:.4g} in longitude"


def _join_times(fields: Sequence[Field]) -> TimeAxis:
    try:
        return join_time_axes([field.time for field in fields])
    except InputError as error:
        where = " and ".join(str(field.paths[0]) for field in fields)
        raise InputError(f"{where}: {error}") from None
