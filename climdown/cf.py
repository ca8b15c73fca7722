"""Reading CF NetCDF: variables, axes, units and calendars as they are in the wild.

Variables are found by standard_name and units; the name alone only breaks ties. A `Field`
is lazy: values are read by blocks of time, in the units asked for, on a grid with ascending
axes, and the input's time axis is kept as it was written.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import cf_xarray  # noqa: F401  (registers the .cf accessor)
import cf_units
import cftime
import numpy as np
import numpy.typing as npt
import xarray as xr

from climdown.errors import ClimdownError, ConfigError, GridError, InputError
from climdown.grid import FloatArray, Grid

_WATER_DENSITY = 1000.0  # kg m-3: mass of precipitation to depth
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
    """

    name: str
    standard_names: tuple[str, ...]
    names: tuple[str, ...]
    units: str


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """A time axis as written: nothing is re-encoded between input and output.

    Attributes:
        dates: calendar-aware dates, shape (n,).
        values: encoded values, shape (n,), in `units` of `calendar`.
        bounds: encoded bounds, shape (n, 2), or None.
        name, bounds_name: of the variables in the file.
    """

    dates: npt.NDArray[np.object_]
    values: npt.NDArray[Any]
    units: str
    calendar: str
    bounds: npt.NDArray[Any] | None
    name: str = "time"
    bounds_name: str = "time_bnds"

    def __len__(self) -> int:
        return len(self.dates)

    def isel(self, part: slice) -> TimeAxis:
        """The axis of a block of time steps."""
        bounds = None if self.bounds is None else self.bounds[part]
        return replace(self, dates=self.dates[part], values=self.values[part], bounds=bounds)

    def select(self, period: str | None) -> slice:
        """The steps of a period "START/END", both included, each a year, month or day.

        Raises:
            ConfigError: the period cannot be parsed.
            InputError: no step lies in it.
        """
        if period is None:
            return slice(0, len(self))
        start, end = _parse_period(period)
        days = [(d.year, d.month, d.day) for d in self.dates]
        inside = [i for i, day in enumerate(days) if day[: len(start)] >= start]
        inside = [i for i in inside if days[i][: len(end)] <= end]
        if not inside:
            raise InputError(f"no time step lies in {period}; the input has {self.describe()}")
        return slice(inside[0], inside[-1] + 1)

    @property
    def months(self) -> tuple[int, ...]:
        """The months that occur, ascending."""
        return tuple(sorted({int(date.month) for date in self.dates}))

    @property
    def step_days(self) -> float:
        """Median time step in days; NaN for a single step. Gaps between seasons do not count."""
        if len(self) < 2:
            return float("nan")
        steps = [
            (b - a).total_seconds() for a, b in zip(self.dates[:-1], self.dates[1:], strict=True)
        ]
        return float(np.median(steps)) / 86400.0

    @property
    def gaps(self) -> int:
        """Number of places where the axis jumps by more than one and a half median steps."""
        if len(self) < 3:
            return 0
        hours = np.array(
            [(b - a).total_seconds() for a, b in zip(self.dates[:-1], self.dates[1:], strict=True)]
        )
        # Calendar months differ by up to three days; that is no gap.
        return int((hours > 1.5 * np.median(hours)).sum())

    def describe(self) -> str:
        """One line for people."""
        first, last = self.dates[0].strftime("%Y-%m-%d"), self.dates[-1].strftime("%Y-%m-%d")
        return f"{len(self)} steps from {first} to {last} ({self.calendar})"


@dataclass(frozen=True, eq=False)
class Field:
    """One variable, lazily read, on a rectilinear grid with ascending axes.

    Attributes:
        quantity: what was asked for; values come in its units.
        grid: latitudes and longitudes ascending, whatever the file has.
        time: the whole time axis, over all files.
        source_name, source_units, attributes: of the variable in the file.
        global_attributes: of the first file.
        scalars: scalar coordinates (height and the like) with their attributes.
        paths: the files the field comes from, in time order.
    """

    quantity: Quantity
    grid: Grid
    time: TimeAxis
    source_name: str
    source_units: str
    attributes: dict[str, Any]
    global_attributes: dict[str, Any]
    scalars: dict[str, xr.DataArray]
    paths: tuple[Path, ...]
    _segments: tuple[xr.DataArray, ...]

    def read(self, part: slice) -> npt.NDArray[np.float32]:
        """Values of a block of time steps in the quantity's units, shape (time, ny, nx)."""
        start, stop, _ = part.indices(len(self.time))
        blocks, offset = [], 0
        for segment in self._segments:
            first, last = max(start - offset, 0), min(stop - offset, segment.sizes["time"])
            if first < last:
                blocks.append(np.asarray(segment.isel(time=slice(first, last)).values, np.float64))
            offset += segment.sizes["time"]
        values = convert_units(np.concatenate(blocks), self.source_units, self.quantity.units)
        return values.astype(np.float32)

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
        segments = tuple(s.isel(lat=rows, lon=columns) for s in self._segments)
        return replace(self, grid=grid, _segments=segments)

    def isel(self, part: slice) -> Field:
        """The field of a contiguous block of time steps."""
        start, stop, _ = part.indices(len(self.time))
        segments, offset = [], 0
        for segment in self._segments:
            first, last = max(start - offset, 0), min(stop - offset, segment.sizes["time"])
            if first < last:
                segments.append(segment.isel(time=slice(first, last)))
            offset += segment.sizes["time"]
        return replace(self, time=self.time.isel(part), _segments=tuple(segments))

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
        if Path(pattern).is_file():
            found = [str(pattern)]
        else:
            found = sorted(glob.glob(str(pattern)))
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


def open_field(inputs: Sequence[str | Path] | str | Path, quantity: Quantity) -> Field:
    """Find a quantity in one or several files, joined along time.

    Args:
        inputs: paths or glob patterns; files without the quantity are passed over.
        quantity: what to look for.

    Raises:
        InputError: no file, no such variable, several candidates, no time axis, times that
            do not ascend, or files on different grids.
        GridError: the coordinates do not form a rectilinear grid.
    """
    patterns = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    paths = expand_paths(patterns)
    pieces: list[_Piece] = []
    seen: list[str] = []
    for path in paths:
        dataset = open_dataset(path)
        found, others = _find(dataset, quantity, path)
        seen.extend(f"{path.name}: {other}" for other in others)
        if found is not None:
            pieces.append(_read_structure(dataset, found, quantity, path))
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


def calendar_conditions(
    dates: Sequence[Any] | npt.NDArray[np.object_], step_days: float
) -> npt.NDArray[np.float32]:
    """(month, day, hour) of each date, shape (n, 3).

    Daily and longer means belong to no hour; 12 stands for them all, whatever the stamp says.
    """
    daily = not step_days < 0.99
    return np.array(
        [(d.month, d.day, 12.0 if daily else d.hour + d.minute / 60.0) for d in dates],
        dtype=np.float32,
    )


def time_axis(dates: Sequence[Any], *, units: str, bounded: bool = False) -> TimeAxis:
    """A time axis of equally long steps that begin at `dates` (calendar-aware), for new files.

    With `bounded`, stamps lie in the middle of steps as long as the first one, with bounds.
    """
    calendar = str(dates[0].calendar)
    starts = np.asarray(cftime.date2num(list(dates), units, calendar), dtype=np.float64)
    if not bounded:
        return TimeAxis(np.array(dates, dtype=object), starts, units, calendar, None)
    width = starts[1] - starts[0] if len(starts) > 1 else 1.0
    values = starts + 0.5 * width
    bounds = np.stack([starts, starts + width], axis=1)
    return TimeAxis(cftime.num2date(values, units, calendar), values, units, calendar, bounds)


def output_attributes(field: Field) -> dict[str, Any]:
    """CF attributes of an adjusted variable: the input's, less those of its storage."""
    kept = ("standard_name", "long_name", "cell_methods", "cell_measures", "original_name")
    attributes = {k: v for k, v in field.attributes.items() if k in kept and k != "cell_measures"}
    attributes.setdefault("standard_name", field.quantity.standard_names[0])
    attributes["units"] = output_units(field)
    return attributes


def output_units(field: Field) -> str:
    """The input's units, in the form UDUNITS reads."""
    return field.source_units.replace("**", "")


def statistic_attributes(attributes: dict[str, Any], statistic: str) -> dict[str, Any]:
    """Attributes of the ensemble "mean" or "standard_deviation" of a variable."""
    methods = " ".join(filter(None, [attributes.get("cell_methods"), f"realization: {statistic}"]))
    label = {"mean": "ensemble mean", "standard_deviation": "ensemble standard deviation"}
    long_name = attributes.get("long_name") or attributes["standard_name"]
    result = {
        **attributes,
        "cell_methods": methods,
        "long_name": f"{long_name}, {label[statistic]}",
    }
    result.pop("original_name", None)
    return result


def with_units_metadata(attributes: dict[str, Any], *, difference: bool) -> dict[str, Any]:
    """Say whether a temperature is on a scale or a difference (CF 1.11, section 3.1.2)."""
    if not units_convertible(str(attributes["units"]), "K"):
        return attributes
    kind = "difference" if difference else "on_scale"
    return {**attributes, "units_metadata": f"temperature: {kind}"}


def global_attributes(
    parent: dict[str, Any], *, title: str, command: str, provenance: dict[str, Any], now: str
) -> dict[str, Any]:
    """Global attributes of an output: the parent's, with history prepended.

    Args:
        parent: of the input; its tracking_id becomes parent_tracking_id.
        provenance: climdown's own attributes.
        now: time of the command, ISO 8601.
    """
    kept = {k: v for k, v in parent.items() if k not in ("history", "tracking_id", "creation_date")}
    if "tracking_id" in parent:
        kept["parent_tracking_id"] = parent["tracking_id"]
    if "title" in parent:
        kept["parent_title"] = parent["title"]
    history = "\n".join(filter(None, [f"{now} {command}", str(parent.get("history", ""))]))
    return {
        **kept,
        "Conventions": "CF-1.8",
        "title": title,
        "history": history,
        "creation_date": now,
        **provenance,
    }


def gridded_variables(dataset: xr.Dataset) -> list[str]:
    """Names of variables that have latitude and longitude, bounds left out."""
    bounds = {dataset[name].attrs.get("bounds") for name in dataset.variables}
    names = []
    for name, array in dataset.data_vars.items():
        coordinates = array.cf.coordinates
        if "latitude" in coordinates and "longitude" in coordinates and name not in bounds:
            names.append(str(name))
    return names


def rectilinear_grid(array: xr.DataArray, dataset: xr.Dataset) -> tuple[Grid, xr.DataArray]:
    """The grid of a variable and the variable as (..., lat, lon) on ascending axes.

    Descending latitudes are flipped; a longitude axis with a jump is unwrapped.

    Raises:
        InputError: the coordinates are missing or two-dimensional.
        GridError: they do not form a grid.
    """
    lat, lon = _coordinate(array, "latitude"), _coordinate(array, "longitude")
    if lat.ndim != 1 or lon.ndim != 1 or lat.dims == lon.dims:
        raise InputError(
            f"variable '{array.name}' lies on a curvilinear or unstructured grid; climdown reads "
            "rectilinear ones (one latitude and one longitude axis): regrid it first, "
            "for example with `cdo remapcon,r360x180 in.nc out.nc`"
        )
    lat_edges, lon_edges = _edges(lat, dataset), _edges(lon, dataset)
    lat_values = np.asarray(lat.values, dtype=np.float64)
    lon_values = np.asarray(lon.values, dtype=np.float64)
    array = array.rename({lat.dims[0]: "lat", lon.dims[0]: "lon"})
    if lat_values.size > 1 and lat_values[0] > lat_values[-1]:
        lat_values, array = lat_values[::-1], array.isel(lat=slice(None, None, -1))
        lat_edges = None if lat_edges is None else lat_edges[::-1]
    if lon_values.size > 1 and (np.diff(lon_values) < 0).sum() > 1:
        lon_values, array = lon_values[::-1], array.isel(lon=slice(None, None, -1))
        lon_edges = None if lon_edges is None else lon_edges[::-1]
    lon_values = _unwrap(lon_values)
    if lon_edges is not None:
        lon_edges = _unwrap(lon_edges)
        lon_edges = lon_edges + 360.0 * np.round((lon_values[0] - lon_edges[0]) / 360.0)
    grid = Grid.from_centres(lat_values, lon_values, lat_edges=lat_edges, lon_edges=lon_edges)
    return grid, array.transpose(..., "lat", "lon")


def units_convertible(source: str, target: str) -> bool:
    """Whether `convert_units` knows the way, water mass to depth included."""
    try:
        convert_units(np.zeros(1), source, target)
    except ValueError:
        return False
    return True


def convert_units(values: npt.NDArray[Any], source: str, target: str) -> npt.NDArray[Any]:
    """Convert by UDUNITS; a mass of water per area becomes a depth where that is asked for.

    Raises:
        ValueError: a unit is unknown, or the two are not convertible.
    """
    try:
        known_source, known_target = _unit(source), _unit(target)
        for factor in (1.0, 1.0 / _WATER_DENSITY, _WATER_DENSITY):
            depth = cf_units.Unit("m3 kg-1") if factor < 1 else cf_units.Unit("kg m-3")
            unit = known_source if factor == 1.0 else known_source * depth
            if unit.is_convertible(known_target):
                return np.asarray(unit.convert(values * factor, known_target))
    except ValueError:
        pass
    raise ValueError(f"units '{source}' are not convertible to '{target}'")


@lru_cache(maxsize=64)
def _unit(text: str) -> cf_units.Unit:
    # ECMWF writes m**2 s**-2; UDUNITS wants m2 s-2.
    return cf_units.Unit(text.replace("**", "^"))


@dataclass(frozen=True, eq=False)
class _Piece:
    path: Path
    field: Field


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
    if not usual_name and _on_pressure_level(array):
        return "on a pressure level"
    return None


def _on_pressure_level(array: xr.DataArray) -> bool:
    vertical = [array[name] for name in array.cf.coordinates.get("vertical", [])]
    if any(level.attrs.get("standard_name") == "air_pressure" for level in vertical):
        return True
    return bool(_PRESSURE_LEVEL.search(str(array.attrs.get("long_name", ""))))


def _coordinate(array: xr.DataArray, kind: str) -> xr.DataArray:
    names = array.cf.coordinates.get(kind, [])
    on_axis = [name for name in names if name in array.dims] or names
    if not on_axis:
        raise InputError(f"variable '{array.name}' has no {kind} coordinate")
    return array[on_axis[0]]


def _edges(axis: xr.DataArray, dataset: xr.Dataset) -> FloatArray | None:
    """Contiguous edges from an axis's bounds variable, or None to infer them."""
    name = axis.attrs.get("bounds")
    if name not in dataset.variables or dataset[name].ndim != 2:
        return None
    bounds = np.sort(np.asarray(dataset[name].values, dtype=np.float64), axis=1)
    if bounds.shape != (axis.size, 2) or not np.isfinite(bounds).all():
        return None
    if axis.size > 1 and axis.values[0] > axis.values[-1]:
        edges = np.append(bounds[:, 1], bounds[-1, 0])
        contiguous = np.allclose(bounds[:-1, 0], bounds[1:, 1], atol=1e-3)
    else:
        edges = np.append(bounds[:, 0], bounds[-1, 1])
        contiguous = np.allclose(bounds[:-1, 1], bounds[1:, 0], atol=1e-3)
    return edges if contiguous else None


def _unwrap(lon: FloatArray) -> FloatArray:
    """Make an ascending axis continuous across its seam: 170, -170 becomes 170, 190."""
    turns = np.concatenate([[0.0], np.cumsum(np.diff(lon) < 0)])
    return np.asarray(lon + 360.0 * turns, dtype=np.float64)


def _read_structure(dataset: xr.Dataset, name: str, quantity: Quantity, path: Path) -> _Piece:
    try:
        return _Piece(path, _structure(dataset, name, quantity, path))
    except ClimdownError as error:
        raise type(error)(f"{path}: {error}") from None


def _structure(dataset: xr.Dataset, name: str, quantity: Quantity, path: Path) -> Field:
    array = dataset[name]
    time = read_time_axis(array, dataset)
    grid, array = rectilinear_grid(array, dataset)
    array = array.rename({array[time.name].dims[0]: "time"})
    extra = [str(d) for d in array.dims if d not in ("time", "lat", "lon")]
    if long := [d for d in extra if array.sizes[d] > 1]:
        sizes = ", ".join(f"{d}={array.sizes[d]}" for d in long)
        raise InputError(f"variable '{name}' has further dimensions ({sizes}); select one of each")
    array = array.squeeze(extra).transpose("time", "lat", "lon")
    scalars = {
        str(key): coordinate
        for key, coordinate in array.coords.items()
        if coordinate.ndim == 0 and np.issubdtype(coordinate.dtype, np.number)
    }
    return Field(
        quantity=quantity,
        grid=grid,
        time=time,
        source_name=name,
        source_units=str(array.attrs["units"]),
        attributes=dict(array.attrs),
        global_attributes=dict(dataset.attrs),
        scalars=scalars,
        paths=(path,),
        _segments=(array,),
    )


def read_time_axis(array: xr.DataArray, dataset: xr.Dataset) -> TimeAxis:
    names = [n for n in array.cf.coordinates.get("time", []) if n in array.dims]
    if not names:
        raise InputError(f"variable '{array.name}' has no time axis")
    axis = dataset[names[0]]
    if axis.size == 0 or not isinstance(axis.values[0], cftime.datetime):
        raise InputError(f"variable '{array.name}' has a time axis that is empty or has no units")
    units, calendar = str(axis.encoding["units"]), str(axis.encoding.get("calendar", "standard"))
    stored = np.dtype(axis.encoding.get("dtype", np.float64))
    bounds_name = str(axis.attrs.get("bounds", ""))
    bounds = None
    if bounds_name in dataset.variables:
        bounds = _encode(dataset[bounds_name].values, units, calendar, np.dtype(np.float64))
    return TimeAxis(
        dates=axis.values,
        values=_encode(axis.values, units, calendar, stored),
        units=units,
        calendar=calendar,
        bounds=bounds,
        name=str(names[0]),
        bounds_name=bounds_name or "time_bnds",
    )


def _encode(
    dates: npt.NDArray[Any], units: str, calendar: str, dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    if dates.dtype != object:
        return np.asarray(dates, dtype=dtype)
    values = np.asarray(cftime.date2num(dates, units, calendar))
    stored = values.astype(dtype)
    # Days of one file may be whole and those of the next begin at noon.
    if np.issubdtype(dtype, np.integer) and (stored != values).any():
        return values
    return stored


def _join(pieces: Sequence[_Piece]) -> Field:
    """One field from pieces of a time series."""
    fields = sorted((piece.field for piece in pieces), key=lambda f: _sort_key(f.time.dates[0]))
    first = fields[0]
    for field in fields[1:]:
        if field.grid.digest != first.grid.digest:
            raise InputError(
                f"{field.paths[0]}: its grid ({field.grid.describe()}) differs from that of "
                f"{first.paths[0]} ({first.grid.describe()})"
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
    dates = np.concatenate([field.time.dates for field in fields])
    keys = [_sort_key(date) for date in dates]
    if any(b <= a for a, b in zip(keys[:-1], keys[1:], strict=True)):
        at = next(i for i in range(1, len(keys)) if keys[i] <= keys[i - 1])
        raise InputError(
            f"{describe_paths(first.paths)}: times do not ascend: {dates[at]} follows "
            f"{dates[at - 1]}; do two files overlap?"
        )
    units, calendar = first.time.units, first.time.calendar
    bounds = None
    if all(field.time.bounds is not None for field in fields):
        bounds = np.concatenate([_rebase(f.time, cast(Any, f.time.bounds), units) for f in fields])
    time = replace(
        first.time,
        dates=dates,
        values=_encode(dates, units, calendar, first.time.values.dtype)
        if len(fields) > 1
        else first.time.values,
        bounds=bounds,
    )
    return replace(
        first,
        time=time,
        paths=tuple(field.paths[0] for field in fields),
        _segments=tuple(field._segments[0] for field in fields),
    )


def _rebase(time: TimeAxis, values: npt.NDArray[Any], units: str) -> npt.NDArray[Any]:
    if time.units == units:
        return values
    dates = cftime.num2date(values, time.units, time.calendar)
    return np.asarray(cftime.date2num(dates, units, time.calendar), dtype=values.dtype)


def _sort_key(date: Any) -> tuple[int, ...]:
    return (date.year, date.month, date.day, date.hour, date.minute, date.second)


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


def _parse_period(period: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    match = re.fullmatch(r"(\d{4}(?:-\d{2}){0,2})/(\d{4}(?:-\d{2}){0,2})", period.strip())
    if match is None:
        raise ConfigError(
            f"cannot read the period '{period}'; expected START/END, for example "
            "1990-12-01/1991-02-28 or 1990/1999"
        )
    start, end = (tuple(int(part) for part in text.split("-")) for text in match.groups())
    return start, end


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
