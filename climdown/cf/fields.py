"""Fields: variables found in files, and their values in blocks of time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from climdown.arrays import Float64
from climdown.cf.coordinates import cells_as_stored, gridded_variables, horizontal_dims
from climdown.cf.files import (
    Location,
    Url,
    describe_paths,
    expand_paths,
    first_line,
    open_dataset,
)
from climdown.cf.recognition import Mismatch, Quantity, mismatch, rate_units
from climdown.cf.selection import refuse_open_dimensions, select_entries
from climdown.cf.time import TimeAxis, join_time_axes, read_time_axis
from climdown.cf.units import convert_units, readable_units
from climdown.errors import ClimdownError, GridError, InputError
from climdown.grid import Grid
from climdown.mesh import Mesh

# Source values held at once while they are read.
_READ_BYTES = 64 << 20
# The order in which values are handed out; files have them in any.
_ORDER = ("time", "lat", "lon", "y", "x", "cell")
# "total_precipitation_24hr": an amount over hours of its own, whatever the time step is.
_HOURS_IN_NAME = re.compile(r"_(\d+)_?(?:h|hrs?|hours?)", re.IGNORECASE)
# Variables of a file that a message lists.
_MOST_LISTED = 8


class VariableNotFoundError(InputError):
    """No file has the quantity; `near` if a variable could be it but for units, level and such."""

    def __init__(self, message: str, *, near: bool = False) -> None:
        super().__init__(message)
        self.near = near


@dataclass(frozen=True, eq=False)
class Field:
    """One variable, lazily read, on a rectilinear grid with ascending axes or on a mesh.

    Attributes:
        quantity: what was asked for; values come in its units.
        cells: the grid, latitudes and longitudes ascending whatever the file has, or the mesh.
        time: the whole time axis, over all files.
        source_name: of the variable in the file.
        source_units: of the variable, as UDUNITS reads them; per day for an amount over a step.
        attributes: of the variable, describing it as it is read.
        global_attributes: of the first file.
        scalars: scalar coordinates (height and the like) with their attributes.
        paths: the files, stores and addresses the field comes from, in time order.
        step_days: days by which amounts over a step are divided, shape (time,); None for rates.
    """

    quantity: Quantity
    cells: Grid | Mesh
    time: TimeAxis
    source_name: str
    source_units: str
    attributes: dict[str, Any]
    global_attributes: dict[str, Any]
    scalars: dict[str, xr.DataArray]
    paths: tuple[Location, ...]
    _segments: tuple[xr.DataArray, ...]
    step_days: Float64 | None = None
    _maps: tuple[Callable[[npt.NDArray[Any]], npt.NDArray[Any]], ...] = ()

    @property
    def grid(self) -> Grid:
        """The rectilinear grid.

        Raises:
            GridError: the field lies on a mesh.
        """
        if isinstance(self.cells, Grid):
            return self.cells
        raise GridError(
            f"{self._where()}: variable '{self.source_name}' lies on a mesh "
            f"({self.cells.describe()}); regrid it first, with `climdown regrid` or --grid"
        )

    def read(self, part: slice) -> npt.NDArray[np.float32]:
        """Values of a block of time steps in the quantity's units, shape (time, *cells.shape).

        Raises:
            InputError: the file is damaged.
        """
        start, stop, _ = part.indices(len(self.time))
        result = np.empty((max(stop - start, 0), *self.cells.shape), dtype=np.float32)
        done = 0
        for block in self._blocks(part):
            rows = slice(done, done + block.sizes["time"])
            values = self._values(block)
            if self.step_days is not None:
                days = self.step_days[start:stop][rows]
                values = values / days.reshape(-1, *(1 for _ in values.shape[1:]))
            values = convert_units(values, self.source_units, self.quantity.units)
            for apply in self._maps:
                values = apply(values)
            with np.errstate(over="ignore"):  # undeclared fill values become infinite
                result[rows] = values
            done = rows.stop
        return result

    def regridded(self, grid: Grid, apply: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Field:
        """The field on another grid: `apply` maps values as they are read, still lazily."""
        return replace(self, cells=grid, _maps=(*self._maps, apply))

    def crop(self, target: Grid) -> Field:
        """The part of the field whose cells touch the extent of `target`.

        Raises:
            GridError: nothing is left, or what is left has a gap.
        """
        rows = _touching(self.grid.lat_edges, target.lat_edges[0], target.lat_edges[-1])
        columns, turned = _touching_longitudes(self.grid, target)
        if rows is None or columns is None:
            raise GridError(
                f"{self._where()}: the grid ({self.grid.describe()}) does not touch the region "
                f"({target.describe()}), or leaves a gap in it"
            )
        grid = turned.isel(slice(rows[0], rows[-1] + 1), slice(0, columns.size))
        if self._maps:
            return self.regridded(grid, lambda values: values[..., rows, :][..., columns])
        index = {"lat": _as_slice(rows), "lon": _as_slice(columns)}
        segments = tuple(segment.isel(index) for segment in self._segments)
        return replace(self, cells=grid, _segments=segments)

    def isel(self, part: slice) -> Field:
        """The field of a contiguous block of time steps."""
        days = None if self.step_days is None else self.step_days[part]
        segments = tuple(self._cut(part))
        return replace(self, time=self.time.isel(part), step_days=days, _segments=segments)

    def _blocks(self, part: slice) -> Iterator[xr.DataArray]:
        """A block of time steps in pieces small enough to read, still lazy."""
        for segment in self._cut(part):
            steps = max(1, _READ_BYTES * segment.sizes["time"] // (8 * segment.size))
            for first in range(0, segment.sizes["time"], steps):
                yield segment.isel(time=slice(first, first + steps))

    def _values(self, block: xr.DataArray) -> Float64:
        """Values of a piece, shape (time, *cells)."""
        axes = [block.get_axis_num(name) for name in _ORDER if name in block.dims]
        try:
            return np.asarray(block.values, dtype=np.float64).transpose(axes)
        except Exception as error:
            # The libraries behind the protocols raise errors that have no base in common.
            remote = isinstance(self.paths[0], Url)
            if not remote and not isinstance(error, OSError | RuntimeError | ValueError):
                raise
            where = block.encoding.get("source", self._where())
            raise InputError(
                f"{where}: variable '{self.source_name}' cannot be read "
                f"({first_line(error)}); "
                + ("check the network" if remote else "the file may be damaged, fetch it again")
            ) from None

    def _cut(self, part: slice) -> Iterator[xr.DataArray]:
        """The pieces of the segments that lie in a block of time steps, still lazy."""
        start, stop, _ = part.indices(len(self.time))
        offset = 0
        for segment in self._segments:
            first, last = max(start - offset, 0), min(stop - offset, segment.sizes["time"])
            if first < last:
                yield segment.isel(time=slice(first, last))
            offset += segment.sizes["time"]

    def _where(self) -> str:
        return describe_paths(self.paths)


def open_field(
    inputs: Sequence[str | Path] | str | Path,
    quantity: Quantity,
    *,
    select: Mapping[str, str] | None = None,
) -> Field:
    """Find a quantity in one or several files, joined along time.

    Amounts over a time step ("mm") come as rates where rates are wanted ("mm day-1").

    Args:
        inputs: paths of NetCDF files and Zarr stores, glob patterns or URLs; those without the
            quantity are passed over.
        quantity: what to look for.
        select: the entry to take along further dimensions, by label: {"realization": "3"}.

    Raises:
        VariableNotFoundError: no file has such a variable.
        InputError: no file, several candidates, no time axis, times that do not ascend, files on
            different grids, or a further dimension to choose from.
        GridError: the coordinates do not form a grid.
    """
    patterns = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    paths = expand_paths(patterns)
    pieces: list[Field] = []
    others: dict[str, bool] = {}
    for path in paths:
        dataset = open_dataset(path)
        found, rejected = _find(dataset, quantity, path)
        prefix = f"{path.name}: " if len(paths) > 1 else ""
        for name, why in rejected.items():
            others[f"{prefix}'{name}' ({why.reason})"] = why.near
        if found is not None:
            pieces.append(_read_structure(dataset, found, quantity, path, select or {}))
        else:
            dataset.close()
    if not pieces:
        raise _not_found(paths, quantity, others)
    return _join(pieces)


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
    chosen = {along_time, *horizontal_dims(array)}
    others = [str(d) for d in array.dims if d not in chosen]
    array = select_entries(array, select, level=quantity.level, others=others)
    refuse_open_dimensions(array, others)
    array = array.squeeze([d for d in others if d in array.dims])
    cells, array = cells_as_stored(array, dataset)
    # A forecast's files name a scalar "time" beside the axis "valid_time".
    taken = "time" in array.coords and along_time != "time"
    array = (array.drop_vars("time") if taken else array).rename({along_time: "time"})
    scalars = {
        str(key): coordinate
        for key, coordinate in array.coords.items()
        if coordinate.ndim == 0 and np.issubdtype(coordinate.dtype, np.number)
    }
    units, attributes = _as_read(array, quantity)
    return Field(
        quantity=quantity,
        cells=cells,
        time=time,
        source_name=name,
        source_units=units,
        attributes=attributes,
        global_attributes=dict(dataset.attrs),
        scalars=scalars,
        paths=(path,),
        _segments=(array,),
    )


def _as_read(array: xr.DataArray, quantity: Quantity) -> tuple[str, dict[str, Any]]:
    """Units and attributes of a variable, those of a rate where it is an amount over a step."""
    written = readable_units(str(array.attrs["units"]))
    units = rate_units(written, quantity.units) or written
    attributes = dict(array.attrs)
    if units != written:
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
        _segments=tuple(field._segments[0] for field in fields),
    )
    return _with_step_days(joined)


def _with_step_days(field: Field) -> Field:
    """The lengths of the steps for a field of amounts; one of rates as it is."""
    written = str(field._segments[0].attrs["units"])
    if readable_units(written) == field.source_units:
        return field
    if (named := _HOURS_IN_NAME.search(field.source_name)) is not None:
        return replace(field, step_days=np.full(len(field.time), float(named[1]) / 24.0))
    try:
        return replace(field, step_days=field.time.lengths)
    except InputError as error:
        raise InputError(
            f"{describe_paths(field.paths)}: variable '{field.source_name}' holds amounts per step "
            f"('{written}'), and {error}; add bounds of time"
        ) from None


def _check_alike(field: Field, first: Field) -> None:
    """Check that a file continues the first one's grid, calendar and units."""
    path = field.paths[0]
    if field.cells.digest != first.cells.digest:
        raise InputError(
            f"{path}: its grid ({field.cells.describe()}) differs from that of "
            f"{first.paths[0]} ({first.cells.describe()})"
        )
    # The dates know that noleap and 365_day are one calendar.
    if field.time.dates[0].calendar != first.time.dates[0].calendar:
        raise InputError(
            f"{path}: its calendar {field.time.calendar} differs from "
            f"{first.time.calendar} of {first.paths[0]}"
        )
    if field.source_units != first.source_units:
        raise InputError(
            f"{path}: its units '{field.source_units}' differ from "
            f"'{first.source_units}' of {first.paths[0]}"
        )


def _join_times(fields: Sequence[Field]) -> TimeAxis:
    try:
        return join_time_axes([field.time for field in fields])
    except InputError as error:
        where = " and ".join(str(field.paths[0]) for field in fields)
        raise InputError(f"{where}: {error}") from None


def _touching(edges: Float64, low: float, high: float) -> npt.NDArray[np.intp] | None:
    inside = np.flatnonzero((edges[1:] > low + 1e-6) & (edges[:-1] < high - 1e-6))
    return inside if inside.size else None


def _touching_longitudes(grid: Grid, target: Grid) -> tuple[npt.NDArray[np.intp] | None, Grid]:
    """Columns that touch the target, eastward from its west edge, and a grid of just them."""
    west = target.lon_edges[0]
    span = target.lon_edges[-1] - west
    # Every column's two edges, moved by whole circles to begin within one circle of the west.
    low = west + np.mod(grid.lon_edges[:-1] - west, 360.0)
    width = np.diff(grid.lon_edges)
    low = np.where(low + width > west + 360.0 + 1e-6, low - 360.0, low)
    touching = np.flatnonzero((low < west + span - 1e-6) & (low + width > west + 1e-6))
    if touching.size == 0:
        return None, grid
    columns = touching[np.argsort(low[touching])]
    low, width = low[columns], width[columns]
    if not np.allclose(low[1:], (low + width)[:-1], rtol=0.0, atol=1e-3):
        return None, grid
    centres = low + (grid.lon - grid.lon_edges[:-1])[columns]
    edges = np.append(low, low[-1] + width[-1])
    return columns, Grid(grid.lat, centres, grid.lat_edges, edges)


def _as_slice(index: npt.NDArray[np.intp]) -> slice | npt.NDArray[np.intp]:
    """Contiguous positions as a slice: files are read many times faster."""
    contiguous = bool((np.diff(index) == 1).all())
    return slice(int(index[0]), int(index[-1]) + 1) if contiguous else index
