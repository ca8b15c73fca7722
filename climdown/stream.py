"""Units of work, their part files, and the one writer of results.

A run is cut into units (a block of time steps times a block of members). Each finished unit
is a part file, placed atomically in a folder beside the output, under a plan that says what
run it belongs to. A killed run finds its parts again; the last step streams them into the
output file, which appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import netCDF4
import numpy as np
import numpy.typing as npt
import xarray as xr

from climdown import cf
from climdown.errors import OutputError, ResumeError
from climdown.grid import Grid

log = logging.getLogger(__name__)

FILL_VALUE = np.float32(1e20)
_BLOCK_BYTES = 64 << 20
_CHUNK_BYTES = 4 << 20  # what CMIP data requests ask for, uncompressed
_HASHED_BYTES = 1 << 20


@dataclass(frozen=True)
class Unit:
    """A block of time steps times a block of members, both half-open."""

    index: int
    time_start: int
    time_stop: int
    member_start: int
    member_stop: int

    @property
    def times(self) -> slice:
        return slice(self.time_start, self.time_stop)

    @property
    def members(self) -> range:
        return range(self.member_start, self.member_stop)

    @property
    def fields(self) -> int:
        """Number of fields in the unit."""
        return (self.time_stop - self.time_start) * len(self.members)


def plan_units(times: int, members: int, fields_per_unit: int) -> tuple[Unit, ...]:
    """Cut a run into units of at most `fields_per_unit` fields, members kept together first."""
    member_block = min(members, fields_per_unit)
    time_block = max(1, fields_per_unit // member_block)
    units: list[Unit] = []
    for t in range(0, times, time_block):
        for m in range(0, members, member_block):
            stop_t, stop_m = min(t + time_block, times), min(m + member_block, members)
            units.append(Unit(len(units), t, stop_t, m, stop_m))
    return tuple(units)


def file_fingerprint(path: Path) -> str:
    """Hash of a file's size, beginning and end: tells versions apart without reading it all."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        digest.update(stream.read(_HASHED_BYTES))
        stream.seek(max(0, size - _HASHED_BYTES))
        digest.update(stream.read())
    return digest.hexdigest()


class PartStore:
    """The part files of one run, in a hidden folder beside its output."""

    def __init__(self, folder: Path, units: tuple[Unit, ...]) -> None:
        self.folder = folder
        self.units = units

    @classmethod
    def open(
        cls,
        output: Path,
        *,
        times: int,
        members: int,
        fields_per_unit: int,
        identity: Mapping[str, Any],
        discard: bool,
    ) -> PartStore:
        """Begin a run, or take up the one whose parts lie there.

        An interrupted run keeps the units it was cut into, whatever `fields_per_unit` says now.

        Args:
            identity: everything that decides the result; JSON values.
            discard: throw away parts of another run instead of refusing.

        Raises:
            ResumeError: parts of another run lie there.
            OutputError: the folder cannot be made.
        """
        folder = parts_folder(output)
        plan = folder / "plan.json"
        identity = json.loads(json.dumps(identity))
        if plan.is_file():
            stored = _read_plan(plan)
            if stored is not None and stored[0] == identity:
                return cls(folder, plan_units(times, members, stored[1]))
            if stored is None and not discard:
                raise ResumeError(f"{plan} is damaged; remove the folder {folder}")
            if stored is not None and not discard:
                raise ResumeError(
                    f"{folder} holds parts of another run "
                    f"({_difference(stored[0], identity)}); repeat its command to "
                    "finish it, or give --overwrite to discard them"
                )
        try:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            entries = {"identity": identity, "fields_per_unit": fields_per_unit}
            _write_atomically(plan, json.dumps(entries, indent=1).encode())
        except OSError as error:
            raise OutputError(f"cannot write beside {output}: {error.strerror}") from None
        return cls(folder, plan_units(times, members, fields_per_unit))

    def done(self, unit: Unit) -> bool:
        """Whether the unit's part is there."""
        return self._path(unit).is_file()

    def write(self, unit: Unit, values: npt.NDArray[np.float32]) -> None:
        """Place a part, shape (time, member, variable, ny, nx), atomically.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        path = self._path(unit)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as stream:
                np.save(stream, values)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from None
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, unit: Unit) -> npt.NDArray[np.float32]:
        """A part, mapped into memory.

        Raises:
            ResumeError: its file is damaged.
        """
        path = self._path(unit)
        try:
            values: npt.NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            raise ResumeError(f"{path} is damaged; remove it and run again") from None
        return values

    def member(self, member: int, variable: int, part: slice) -> npt.NDArray[np.float32]:
        """A member's fields of one variable over a block of times, shape (time, ny, nx)."""
        blocks = []
        for unit in self.units:
            first, last = max(part.start, unit.time_start), min(part.stop, unit.time_stop)
            if member in unit.members and first < last:
                steps = slice(first - unit.time_start, last - unit.time_start)
                blocks.append(self.read(unit)[steps, member - unit.member_start, variable])
        return np.concatenate(blocks)

    def remove(self) -> None:
        """Delete the parts, after they have been joined."""
        shutil.rmtree(self.folder)

    def _path(self, unit: Unit) -> Path:
        return self.folder / f"unit-{unit.index:06d}.npy"


def parts_folder(output: Path) -> Path:
    """Where the parts of an output lie."""
    return output.with_name(f".{output.name}.parts")


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists or whose folder does not.

    Raises:
        OutputError: says which, and the remedy.
    """
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists already; give --overwrite to replace it")
    if output.is_dir():
        raise OutputError(f"{output} is a folder; expected the name of a NetCDF file")
    if not output.resolve().parent.is_dir():
        raise OutputError(f"the folder {output.resolve().parent} of the output does not exist")


@dataclass(frozen=True)
class OutputVariable:
    """A variable of an output file and its CF attributes."""

    name: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Template:
    """Everything about an output file but its values."""

    grid: Grid
    time: cf.TimeAxis
    variables: tuple[OutputVariable, ...]
    members: int
    attributes: Mapping[str, Any]


def join(store: PartStore, template: Template, output: Path) -> None:
    """Stream the parts into the output: members, their mean and their spread.

    Memory holds a few chunks, whatever the length of the input. The file appears under its
    name when it is whole.
    """
    with _placed(output) as temporary, _create(temporary, template.grid, template.time) as file:
        file.setncatts(dict(template.attributes))
        _add_realizations(file, template.members)
        for i, variable in enumerate(template.variables):
            _join_variable(file, store, template, i, variable)


def write_fields(
    path: Path,
    *,
    grid: Grid,
    time: cf.TimeAxis,
    variables: Sequence[tuple[OutputVariable, npt.NDArray[np.floating]]],
    attributes: Mapping[str, Any],
) -> None:
    """Write plain fields of shape (time, ny, nx) as a CF file, atomically."""
    arrays = {variable.name: values for variable, values in variables}
    write_series(
        path,
        grid=grid,
        time=time,
        variables=[variable for variable, _ in variables],
        attributes=attributes,
        read=lambda name, part: arrays[name][part],
    )


def write_series(
    path: Path,
    *,
    grid: Grid,
    time: cf.TimeAxis,
    variables: Sequence[OutputVariable],
    attributes: Mapping[str, Any],
    read: Callable[[str, slice], npt.NDArray[np.floating]],
    scalars: Mapping[str, xr.DataArray] | None = None,
) -> None:
    """Write fields as a CF file, atomically, block by block of time.

    Args:
        read: called with a variable's name and a block of time steps; gives (time, ny, nx).
        scalars: scalar coordinates (height and the like) of every variable.
    """
    steps = _chunk_steps(grid, time)
    with _placed(path) as temporary, _create(temporary, grid, time) as file:
        file.setncatts(dict(attributes))
        for name, scalar in (scalars or {}).items():
            _add_scalar(file, name, scalar)
        located = {"coordinates": " ".join(scalars)} if scalars else {}
        for variable in variables:
            named = OutputVariable(variable.name, {**variable.attributes, **located})
            target = _add_variable(file, named, ("time", "lat", "lon"), steps)
            for start in range(0, len(time), steps):
                part = slice(start, min(start + steps, len(time)))
                target[part] = np.ma.masked_invalid(read(variable.name, part))


def _add_scalar(file: netCDF4.Dataset, name: str, scalar: xr.DataArray) -> None:
    variable = file.createVariable(name, scalar.dtype, ())
    variable.setncatts({k: v for k, v in scalar.attrs.items() if k != "bounds"})
    variable[...] = scalar.values


@contextmanager
def map_writer(
    path: Path,
    *,
    grid: Grid,
    nodes: npt.NDArray[np.float64],
    groups: int,
    variables: Mapping[str, Mapping[str, Any]],
    attributes: Mapping[str, Any],
) -> Iterator[Callable[[slice, Mapping[str, npt.NDArray[np.floating]]], None]]:
    """Write quantiles of each group and cell, atomically, a block of cells at a time.

    Args:
        nodes: probabilities of the quantiles.
        variables: names with their attributes, of dimensions (lat, lon, group, quantile).

    Yields:
        a function of a slice of flat cells and, by name, arrays of (groups, nodes, width).
    """
    with _placed(path) as temporary, netCDF4.Dataset(temporary, "w", format="NETCDF4") as file:
        file.setncatts(dict(attributes))
        _add_horizontal(file, grid)
        file.createDimension("group", groups)
        file.createDimension("quantile", nodes.size)
        probability = file.createVariable("quantile", "f8", ("quantile",))
        probability.setncatts({"long_name": "probability of the quantile", "units": "1"})
        probability[:] = nodes
        dimensions = ("lat", "lon", "group", "quantile")
        chunks = (1, min(grid.lon.size, 16), groups, nodes.size)
        targets = {
            name: _add_compressed(file, OutputVariable(name, entries), dimensions, chunks)
            for name, entries in variables.items()
        }

        def write(cells: slice, arrays: Mapping[str, npt.NDArray[np.floating]]) -> None:
            for y, columns, part in rows_of(cells, grid.lon.size):
                for name, values in arrays.items():
                    moved = np.moveaxis(values[..., part], -1, 0)
                    targets[name][y, columns] = np.ma.masked_invalid(moved)

        yield write


def rows_of(cells: slice, width: int) -> Iterator[tuple[int, slice, slice]]:
    """A run of flat cells, row by row: the row, its columns, and their place in the run."""
    start = cells.start
    while start < cells.stop:
        y, x = divmod(start, width)
        stop = min(cells.stop, (y + 1) * width)
        yield y, slice(x, x + stop - start), slice(start - cells.start, stop - cells.start)
        start = stop


@dataclass(frozen=True)
class GriddedVariable:
    """A variable to be written on a new grid.

    Attributes:
        dims, shape: of its leading dimensions, in the source's names.
        double: whether it is written in double precision.
        cells: how many it has in the source, which bounds how much is read at once.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: Mapping[str, Any]
    double: bool = False
    cells: int = 1


def write_on_grid(
    path: Path,
    source: Path,
    *,
    grid: Grid,
    variables: Sequence[GriddedVariable],
    copied: Sequence[str],
    attributes: Mapping[str, Any],
    read: Callable[[str, tuple[slice, ...]], npt.NDArray[np.floating]],
) -> None:
    """Write variables of a file on another grid, and the rest of the file as it was stored.

    Args:
        source: the file they come from; its other dimensions are kept, unlimited ones too.
        copied: names of variables without horizontal dimensions, copied bit by bit.
        read: called with a variable's name and a block of its leading dimensions; gives values
            of shape (*block, ny, nx).
    """
    with netCDF4.Dataset(source) as parent, _placed(path) as temporary:
        parent.set_auto_maskandscale(False)
        parent.set_auto_chartostring(False)
        copied = [name for name in copied if _is_plain(parent[name])]
        with netCDF4.Dataset(temporary, "w", format="NETCDF4") as file:
            file.setncatts(dict(attributes))
            kept = {d for v in variables for d in v.dims}
            kept |= {d for name in copied for d in parent[name].dimensions}
            for name, dimension in parent.dimensions.items():
                if name in kept:
                    file.createDimension(name, None if dimension.isunlimited() else dimension.size)
            for name in copied:
                _copy_variable(file, parent[name], copied)
            _add_horizontal(file, grid)
            for variable in variables:
                _write_blocks(file, variable, grid, read)


def _is_plain(stored: netCDF4.Variable[Any]) -> bool:
    """Whether a variable is of a type that every file knows; others are left out."""
    own = isinstance(stored.datatype, netCDF4.VLType | netCDF4.CompoundType)
    plain = stored.dtype is str or not own
    if not plain:
        log.warning("'%s' is left out: it is of a type of its own", stored.name)
    return plain


def _copy_variable(
    file: netCDF4.Dataset, stored: netCDF4.Variable[Any], copied: Sequence[str]
) -> None:
    attributes = {name: stored.getncattr(name) for name in stored.ncattrs()}
    fill = attributes.pop("_FillValue", None)
    if stored.dimensions == (stored.name,):  # coordinates have no missing values, says CF
        attributes.pop("missing_value", None)
        fill = None
    if "coordinates" in attributes:  # less those of the old cells
        names = [name for name in str(attributes.pop("coordinates")).split() if name in copied]
        attributes |= {"coordinates": " ".join(names)} if names else {}
    target = file.createVariable(
        stored.name,
        stored.dtype if stored.dtype is str else stored.dtype.newbyteorder("="),
        stored.dimensions,
        fill_value=fill,
        chunksizes=_copied_chunks(file, stored),
    )
    target.set_auto_maskandscale(False)
    target.set_auto_chartostring(False)
    target.setncatts(attributes)
    if 0 not in stored.shape:
        target[...] = stored[...]


def _copied_chunks(file: netCDF4.Dataset, stored: netCDF4.Variable[Any]) -> tuple[int, ...] | None:
    """Along an unlimited dimension the default is one value per chunk."""
    unlimited = any(file.dimensions[name].isunlimited() for name in stored.dimensions)
    if not unlimited or 0 in stored.shape:
        return None
    entry = 8 * math.prod(stored.shape[1:])
    return (max(1, min(stored.shape[0], _CHUNK_BYTES // entry)), *stored.shape[1:])


def _write_blocks(
    file: netCDF4.Dataset,
    variable: GriddedVariable,
    grid: Grid,
    read: Callable[[str, tuple[slice, ...]], npt.NDArray[np.floating]],
) -> None:
    size = (8 if variable.double else 4) * grid.lat.size * grid.lon.size
    chunks = [1] * len(variable.dims)
    if chunks:
        chunks[0] = max(1, min(variable.shape[0], _CHUNK_BYTES // size))
    target = _add_compressed(
        file,
        OutputVariable(variable.name, variable.attributes),
        (*variable.dims, "lat", "lon"),
        (*chunks, grid.lat.size, grid.lon.size),
        kind="f8" if variable.double else "f4",
    )
    largest = _BLOCK_BYTES // (8 * max(variable.cells, grid.lat.size * grid.lon.size))
    for block in _blocks(variable.shape, largest):
        target[block] = np.ma.masked_invalid(read(variable.name, block))


def _blocks(shape: tuple[int, ...], largest: int) -> Iterator[tuple[slice, ...]]:
    """Blocks of at most `largest` entries (at least one), in C order."""
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    rows = max(1, largest // max(1, inner))
    for start in range(0, shape[0], rows):
        part = slice(start, min(start + rows, shape[0]))
        if rows > 1 or inner <= largest:
            yield (part, *(slice(0, n) for n in shape[1:]))
        else:
            yield from ((part, *rest) for rest in _blocks(shape[1:], largest))


@contextmanager
def _placed(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder, renamed when all went well, else removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # The netCDF library reports a full disk as a RuntimeError.
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot write {path}: {reason}") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _create(path: Path, grid: Grid, time: cf.TimeAxis) -> Iterator[netCDF4.Dataset]:
    """A new file with its axes and their bounds."""
    file = netCDF4.Dataset(path, "w", format="NETCDF4")
    try:
        file.createDimension("time", None)
        file.createDimension("bnds", 2)
        _add_time(file, time)
        _add_horizontal(file, grid)
        yield file
    finally:
        file.close()


def _add_time(file: netCDF4.Dataset, time: cf.TimeAxis) -> None:
    # An unlimited axis would be chunked one value at a time.
    steps = max(len(time), 1)
    variable = file.createVariable("time", time.values.dtype, ("time",), chunksizes=(steps,))
    attributes = {"standard_name": "time", "long_name": "time", "axis": "T"}
    variable.setncatts({**attributes, "units": time.units, "calendar": time.calendar})
    variable[:] = time.values
    if time.bounds is not None:
        variable.bounds = "time_bnds"
        kind = time.bounds.dtype
        bounds = file.createVariable("time_bnds", kind, ("time", "bnds"), chunksizes=(steps, 2))
        bounds[:] = time.bounds


def _add_horizontal(file: netCDF4.Dataset, grid: Grid) -> None:
    pair = "bnds"
    if pair not in file.dimensions:
        file.createDimension(pair, 2)
    elif file.dimensions[pair].size != 2:
        pair = "bnds_horizontal"
        file.createDimension(pair, 2)
    for name, centres, edges, words in (
        ("lat", grid.lat, grid.lat_edges, ("latitude", "degrees_north", "Y")),
        ("lon", grid.lon, grid.lon_edges, ("longitude", "degrees_east", "X")),
    ):
        file.createDimension(name, centres.size)
        _add_axis(file, name, centres, edges, *words, pair)


def _add_axis(
    file: netCDF4.Dataset,
    name: str,
    centres: npt.NDArray[np.float64],
    edges: npt.NDArray[np.float64],
    standard_name: str,
    units: str,
    axis: str,
    pair: str,
) -> None:
    variable = file.createVariable(name, "f8", (name,))
    attributes = {"standard_name": standard_name, "long_name": standard_name, "units": units}
    variable.setncatts({**attributes, "axis": axis, "bounds": f"{name}_bnds"})
    variable[:] = centres
    bounds = file.createVariable(f"{name}_bnds", "f8", (name, pair))
    bounds[:] = np.stack([edges[:-1], edges[1:]], axis=1)


def _add_realizations(file: netCDF4.Dataset, members: int) -> None:
    file.createDimension("realization", members)
    variable = file.createVariable("realization", "i4", ("realization",))
    variable.setncatts(
        {"standard_name": "realization", "long_name": "ensemble member", "units": "1"}
    )
    variable[:] = np.arange(1, members + 1)


def _add_variable(
    file: netCDF4.Dataset, variable: OutputVariable, dimensions: tuple[str, ...], steps: int
) -> netCDF4.Variable[Any]:
    sizes = {"time": steps, "realization": 1}
    chunks = tuple(sizes.get(name, file.dimensions[name].size) for name in dimensions)
    return _add_compressed(file, variable, dimensions, chunks)


def _add_compressed(
    file: netCDF4.Dataset,
    variable: OutputVariable,
    dimensions: tuple[str, ...],
    chunks: tuple[int, ...],
    kind: Literal["f4", "f8"] = "f4",
) -> netCDF4.Variable[Any]:
    target = file.createVariable(
        variable.name,
        kind,
        dimensions,
        compression="zlib",
        complevel=4,
        shuffle=True,
        fill_value=np.dtype(kind).type(FILL_VALUE),
        chunksizes=chunks,
    )
    fill = np.dtype(kind).type(FILL_VALUE)
    target.setncatts({**variable.attributes, "missing_value": fill})
    return target


def _join_variable(
    file: netCDF4.Dataset,
    store: PartStore,
    template: Template,
    index: int,
    variable: OutputVariable,
) -> None:
    name, steps = variable.name, _chunk_steps(template.grid, template.time)
    statistics = {"mean": f"{name}_mean", "standard_deviation": f"{name}_spread"}
    linked = {"ancillary_variables": " ".join(statistics.values())}
    members = _add_variable(
        file,
        OutputVariable(
            name,
            {**cf.with_units_metadata(dict(variable.attributes), difference=False), **linked},
        ),
        ("time", "realization", "lat", "lon"),
        steps,
    )
    targets = {
        statistic: _add_variable(
            file,
            OutputVariable(
                target_name,
                cf.with_units_metadata(
                    cf.statistic_attributes(dict(variable.attributes), statistic),
                    difference=statistic == "standard_deviation",
                ),
            ),
            ("time", "lat", "lon"),
            steps,
        )
        for statistic, target_name in statistics.items()
    }
    for start in range(0, len(template.time), steps):
        block = slice(start, min(start + steps, len(template.time)))
        moments = _Moments()
        for member in range(template.members):
            values = store.member(member, index, block)
            members[block, member] = np.ma.masked_invalid(values)
            moments.add(values.astype(np.float64))
        targets["mean"][block] = np.ma.masked_invalid(moments.mean)
        targets["standard_deviation"][block] = np.ma.masked_invalid(moments.deviation())


class _Moments:
    """Running mean and sum of squared deviations (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def add(self, values: npt.NDArray[np.float64]) -> None:
        self.count += 1
        difference = values - self.mean
        self.mean = self.mean + difference / self.count
        self.squares = self.squares + difference * (values - self.mean)

    def deviation(self) -> Any:
        """Sample standard deviation (divisor members - 1); NaN for a single member."""
        if self.count < 2:
            return np.full_like(self.mean, np.nan)
        return np.sqrt(self.squares / (self.count - 1))


def _chunk_steps(grid: Grid, time: cf.TimeAxis) -> int:
    """Time steps per chunk: at least 4 MiB, or all there are."""
    field_bytes = 4 * grid.lat.size * grid.lon.size
    return max(1, min(len(time), -(-_CHUNK_BYTES // field_bytes)))


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _read_plan(path: Path) -> tuple[dict[str, Any], int] | None:
    """The identity and fields per unit of a plan; None if it is damaged."""
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        identity, fields = plan["identity"], plan["fields_per_unit"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    valid = isinstance(identity, dict) and isinstance(fields, int) and fields > 0
    return (identity, fields) if valid else None


def _difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Which entries differ, for the message."""
    names = [k for k in wanted if stored.get(k) != wanted[k]]

    def show(name: str) -> str:
        old, new = str(stored.get(name)), str(wanted[name])
        return f"{name}: {old} then, {new} now" if len(old) + len(new) < 60 else f"other {name}"

    return "; ".join(show(name) for name in names) or "other options"
