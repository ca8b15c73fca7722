"""Fields: variables found in files, and their values in blocks of time."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cf_xarray  # noqa: F401  (registers the .cf accessor)
import numpy as np
import numpy.typing as npt
import xarray as xr

from climdown.cf.coordinates import gridded_variables, horizontal_cells
from climdown.cf.time import TimeAxis, join_time_axes, read_time_axis
from climdown.cf.units import convert_units, units_convertible
from climdown.errors import ClimdownError, GridError, InputError
from climdown.grid import FloatArray, Grid
from climdown.mesh import Mesh

_PRESSURE_LEVEL = re.compile(r"\b\d{2,4}\s*(hpa|mb|mbar|millibars?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Quantity:
    """What is looked for in a file.

    Attributes:
        name: what it is called in the output, for example "tas".
        standard_names: CF standard names that mean it (precipitation has several).
        names: usual variable names, to choose among several with the standard name, or to
            accept one that has none.
        units: units the values are wanted in.
        level: pressure level in Pa, taken out of a file that has several.
    """

    name: str
    standard_names: tuple[str, ...]
    names: tuple[str, ...]
    units: str
    level: float | None = None


@dataclass(frozen=True, eq=False)
class Field:
    """One variable, lazily read, on a rectilinear grid with ascending axes or on a mesh.

    Attributes:
        quantity: what was asked for; values come in its units.
        cells: the grid, latitudes and longitudes ascending whatever the file has, or the mesh.
        time: the whole time axis, over all files.
        source_name, source_units, attributes: of the variable in the file.
        global_attributes: of the first file.
        scalars: scalar coordinates (height and the like) with their attributes.
        paths: the files the field comes from, in time order.
    """

    quantity: Quantity
    cells: Grid | Mesh
    time: TimeAxis
    source_name: str
    source_units: str
    attributes: dict[str, Any]
    global_attributes: dict[str, Any]
    scalars: dict[str, xr.DataArray]
    paths: tuple[Path, ...]
    _segments: tuple[xr.DataArray, ...]
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
        """Values of a block of time steps in the quantity's units, shape (time, *cells.shape)."""
        blocks = [np.asarray(segment.values, np.float64) for segment in self._cut(part)]
        values = convert_units(np.concatenate(blocks), self.source_units, self.quantity.units)
        for apply in self._maps:
            values = apply(values)
        return values.astype(np.float32)

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
        segments = tuple(s.isel(lat=rows, lon=columns) for s in self._segments)
        return replace(self, cells=grid, _segments=segments)

    def isel(self, part: slice) -> Field:
        """The field of a contiguous block of time steps."""
        return replace(self, time=self.time.isel(part), _segments=tuple(self._cut(part)))

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


def describe_paths(paths: Sequence[Path]) -> str:
    """The first path, and how many more."""
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def expand_paths(patterns: Iterable[str | Path]) -> list[Path]:
    """Files named by paths and quoted glob patterns, in sorted order within a pattern.

    Raises:
        InputError: a path does not exist or a pattern matches nothing.
    """
    paths: list[Path] = []
    for pattern in patterns:
        # A file's own name wins over its reading as a pattern.
        named = Path(pattern).is_file()
        found = [str(pattern)] if named else sorted(glob.glob(str(pattern)))  # noqa: PTH207
        files = [Path(name) for name in found if Path(name).is_file()]
        if not files:
            kind = "no file matches" if glob.has_magic(str(pattern)) else "no such file:"
            raise InputError(f"{kind} {pattern}")
        paths.extend(files)
    return paths


def open_dataset(path: Path) -> xr.Dataset:
    """Open a NetCDF file lazily, with calendar-aware dates for every calendar.

    Raises:
        InputError: the file is not NetCDF, or its time axis cannot be decoded.
    """
    coder = xr.coders.CFDatetimeCoder(use_cftime=True)
    try:
        return xr.open_dataset(path, engine="netcdf4", decode_times=coder, decode_timedelta=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read as NetCDF ({_first_line(error)})") from None
    except ValueError as error:
        raise InputError(
            f"{path}: the time axis cannot be decoded ({_first_line(error)})"
        ) from None


def open_field(
    inputs: Sequence[str | Path] | str | Path,
    quantity: Quantity,
    *,
    select: Mapping[str, str] | None = None,
) -> Field:
    """Find a quantity in one or several files, joined along time.

    Args:
        inputs: paths or glob patterns; files without the quantity are passed over.
        quantity: what to look for.
        select: the entry to take along further dimensions, by label: {"realization": "3"}.

    Raises:
        InputError: no file, no such variable, several candidates, no time axis, times that
            do not ascend, files on different grids, or a further dimension to choose from.
        GridError: the coordinates do not form a grid.
    """
    patterns = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    paths = expand_paths(patterns)
    pieces: list[Field] = []
    seen: list[str] = []
    for path in paths:
        dataset = open_dataset(path)
        found, others = _find(dataset, quantity, path)
        seen.extend(f"{path.name}: {other}" for other in others)
        if found is not None:
            pieces.append(_read_structure(dataset, found, quantity, path, select or {}))
        else:
            dataset.close()
    if not pieces:
        listed = "; ".join(seen) or "no gridded variables"
        raise InputError(
            f"{describe_paths(paths)}: no variable with standard_name "
            f"{' or '.join(quantity.standard_names)} in units convertible to {quantity.units} "
            f"(for {quantity.name}); found {listed}"
        )
    return _join(pieces)


def _find(dataset: xr.Dataset, quantity: Quantity, path: Path) -> tuple[str | None, list[str]]:
    """The name of the variable that is the quantity, and descriptions of the others."""
    matches, others = [], []
    for name in gridded_variables(dataset):
        array = dataset[name]
        problem = _mismatch(array, quantity)
        if problem is None:
            matches.append(name)
        else:
            others.append(f"'{name}' ({problem})")
    usual = [name for name in matches if name.lower() in quantity.names]
    matches = usual if len(matches) > 1 and usual else matches
    if len(matches) > 1:
        raise InputError(
            f"{path}: several variables could be {quantity.name}: {', '.join(matches)}; "
            "keep one of them in the file, for example with `cdo selname`"
        )
    return (matches[0] if matches else None), others


def _mismatch(array: xr.DataArray, quantity: Quantity) -> str | None:
    """Why a variable is not the quantity; None if it is."""
    standard_name = array.attrs.get("standard_name")
    usual_name = str(array.name).lower() in quantity.names
    if standard_name is None and not usual_name:
        return "no standard_name"
    if standard_name is not None and standard_name not in quantity.standard_names:
        return str(standard_name)
    units = array.attrs.get("units")
    if units is None:
        return "no units"
    if not units_convertible(str(units), quantity.units):
        return f"units '{units}'"
    methods = str(array.attrs.get("cell_methods", ""))
    extreme = re.search(r"time: (maximum|minimum)", methods)
    if extreme and not usual_name:
        return f"time: {extreme.group(1)}"
    # Files of tasmax and tasmin without cell_methods exist; nothing else tells them from tas.
    if not usual_name and re.search(r"(max|min)(imum)?$", str(array.name).lower()):
        return "an extreme, by its name"
    return _level_mismatch(array, quantity, usual_name=usual_name)


def _level_mismatch(array: xr.DataArray, quantity: Quantity, *, usual_name: bool) -> str | None:
    axis = _pressure_axis(array)
    if quantity.level is None:
        on_level = axis is not None or _PRESSURE_LEVEL.search(str(array.attrs.get("long_name", "")))
        return "on a pressure level" if on_level and not usual_name else None
    if axis is None:
        # A file of one level often says so in its name alone.
        return None if usual_name else "no pressure level"
    levels = _levels(axis)
    if _nearest_level(levels, quantity.level) is None:
        listed = ", ".join(f"{level / 100:g}" for level in levels)
        return f"levels {listed} hPa, not {quantity.level / 100:g}"
    return None


def _pressure_axis(array: xr.DataArray) -> xr.DataArray | None:
    """The coordinate of pressure along a dimension of its own, or the scalar one."""
    for name in array.coords:
        coordinate: xr.DataArray = array[name]
        if coordinate.ndim <= 1 and units_convertible(str(coordinate.attrs.get("units", "")), "Pa"):
            return coordinate
    return None


def _levels(axis: xr.DataArray) -> npt.NDArray[np.float64]:
    """Levels in Pa."""
    return convert_units(np.atleast_1d(axis.values).astype(float), str(axis.attrs["units"]), "Pa")


def _nearest_level(levels: npt.NDArray[np.float64], wanted: float) -> int | None:
    """Which level is meant; one off by more than 1 % is another."""
    index = int(np.abs(levels - wanted).argmin())
    return index if abs(levels[index] - wanted) <= 0.01 * wanted else None


def _read_structure(
    dataset: xr.Dataset, name: str, quantity: Quantity, path: Path, select: Mapping[str, str]
) -> Field:
    try:
        return _structure(dataset, name, quantity, path, select)
    except ClimdownError as error:
        raise type(error)(f"{path}: {error}") from None


def _structure(
    dataset: xr.Dataset, name: str, quantity: Quantity, path: Path, select: Mapping[str, str]
) -> Field:
    array = _select(dataset[name], quantity, select)
    time = read_time_axis(array, dataset)
    cells, array = horizontal_cells(array, dataset)
    array = array.rename({array[time.name].dims[0]: "time"})
    horizontal = [str(d) for d in array.dims[-len(cells.shape) :]]
    extra = [str(d) for d in array.dims if d not in ("time", *horizontal)]
    if long := [d for d in extra if array.sizes[d] > 1]:
        sizes = ", ".join(f"{d}={array.sizes[d]}" for d in long)
        raise InputError(
            f"variable '{name}' has further dimensions ({sizes}); choose one entry of each, "
            f"with --select {long[0]}={labels(array, long[0])[0]}"
        )
    array = array.squeeze(extra).transpose("time", *horizontal)
    scalars = {
        str(key): coordinate
        for key, coordinate in array.coords.items()
        if coordinate.ndim == 0 and np.issubdtype(coordinate.dtype, np.number)
    }
    return Field(
        quantity=quantity,
        cells=cells,
        time=time,
        source_name=name,
        source_units=str(array.attrs["units"]),
        attributes=dict(array.attrs),
        global_attributes=dict(dataset.attrs),
        scalars=scalars,
        paths=(path,),
        _segments=(array,),
    )


def _select(array: xr.DataArray, quantity: Quantity, select: Mapping[str, str]) -> xr.DataArray:
    """The entries asked for along further dimensions, and the level of the quantity."""
    for dimension, label in select.items():
        if dimension in array.dims:
            known = labels(array, dimension)
            if label not in known:
                shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
                raise InputError(
                    f"variable '{array.name}' has no {dimension} '{label}'; it has {shown}"
                )
            array = array.isel({dimension: known.index(label)})
        elif dimension not in array.coords:
            listed = ", ".join(map(str, array.dims))
            raise InputError(
                f"variable '{array.name}' has no dimension '{dimension}' to select from; "
                f"it has {listed}"
            )
    axis = _pressure_axis(array)
    if quantity.level is not None and axis is not None and axis.ndim == 1:
        index = _nearest_level(_levels(axis), quantity.level)
        array = array.isel({axis.dims[0]: index})
    return array


def labels(array: xr.DataArray, dimension: str) -> list[str]:
    """Labels along a dimension as text; positions from 0 where it has no coordinate."""
    if dimension not in array.coords:
        return [str(i) for i in range(array.sizes[dimension])]
    values = array[dimension].values
    if values.dtype.kind == "S":
        return [value.decode().strip() for value in values]
    return [f"{v:.10g}" if np.issubdtype(values.dtype, np.number) else str(v) for v in values]


def _join(pieces: Sequence[Field]) -> Field:
    """One field from pieces of a time series."""
    fields = sorted(pieces, key=lambda field: field.time.start)
    first = fields[0]
    for field in fields[1:]:
        if field.cells.digest != first.cells.digest:
            raise InputError(
                f"{field.paths[0]}: its grid ({field.cells.describe()}) differs from that of "
                f"{first.paths[0]} ({first.cells.describe()})"
            )
        # The dates know that noleap and 365_day are one calendar.
        if field.time.dates[0].calendar != first.time.dates[0].calendar:
            raise InputError(
                f"{field.paths[0]}: its calendar {field.time.calendar} differs from "
                f"{first.time.calendar} of {first.paths[0]}"
            )
        if field.source_units != first.source_units:
            raise InputError(
                f"{field.paths[0]}: its units '{field.source_units}' differ from "
                f"'{first.source_units}' of {first.paths[0]}"
            )
    try:
        time = join_time_axes([field.time for field in fields])
    except InputError as error:
        raise InputError(f"{describe_paths(first.paths)}: {error}") from None
    return replace(
        first,
        time=time,
        paths=tuple(field.paths[0] for field in fields),
        _segments=tuple(field._segments[0] for field in fields),
    )


def _touching(edges: FloatArray, low: float, high: float) -> npt.NDArray[np.intp] | None:
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


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
