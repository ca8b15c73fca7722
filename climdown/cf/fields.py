"""Fields: variables of files, and their values in blocks of time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from climdown.arrays import AnyArray, Float32, Float64, Index
from climdown.cf.amounts import Lead
from climdown.cf.axes import as_slice
from climdown.cf.fills import FillWatch, refuse_misread
from climdown.cf.opening import (
    Location,
    Url,
    describe_paths,
    first_line,
)
from climdown.cf.recognition import Quantity
from climdown.cf.time import TimeAxis
from climdown.cf.units import convert_units
from climdown.errors import GridError, InputError
from climdown.grid import Grid
from climdown.mesh import Mesh

# Source values held at once while they are read.
_READ_BYTES = 64 << 20
# The order in which values are handed out; files have them in any.
_ORDER = ("time", "lat", "lon", "y", "x", "cell")


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
        segments: the variable in each of these, still to be read, latitudes and longitudes as
            stored.
        step_days: days by which amounts over a step are divided, shape (time,); None for rates.
        lead: of a forecast that is so far ahead, or None.
        from_start: whether the file's stamps are starts of forecasts; `time` is what these are for.
        doubts: what may be meant otherwise than it is read, one line each.
        watch: has seen all values that were read of this field, and of parts and copies of it.
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
    segments: tuple[xr.DataArray, ...]
    step_days: Float64 | None = None
    doubts: tuple[str, ...] = ()
    lead: Lead | None = None
    from_start: bool = False
    watch: FillWatch = field(default_factory=FillWatch)
    _maps: tuple[Callable[[AnyArray], AnyArray], ...] = ()

    @property
    def grid(self) -> Grid:
        """The rectilinear grid.

        Raises:
            GridError: the field lies on a mesh.
        """
        if isinstance(self.cells, Grid):
            return self.cells
        raise GridError(
            f"{self.where} lies on a mesh "
            f"({self.cells.describe()}); regrid it first, with `climdown regrid` or --grid"
        )

    @property
    def where(self) -> str:
        """Its files and its name there, for people."""
        return f"{describe_paths(self.paths)}: variable '{self.source_name}'"

    def read(self, part: slice) -> Float32:
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

    def first_steps(self, steps: int, most: int) -> Float64:
        """The first steps in the file's own units, of cells spread evenly over the field.

        Args:
            most: how many values to read, about.

        Returns:
            shape (steps, cells).

        Raises:
            InputError: the file is damaged.
        """
        parts = self._cut(slice(steps))
        blocks = [self._values(part.isel(_thinned(part, steps, most))) for part in parts]
        return np.concatenate([block.reshape(len(block), -1) for block in blocks])

    def read_steps(self, steps: Index) -> Float32:
        """Values of some time steps, ascending, as `read` gives those of a block."""
        return self.take(steps).read(slice(0, len(steps)))

    def refuse_misread(self) -> None:
        """To be called when values have been read, before anything is made of them.

        Raises:
            InputError: among the values is a fill that the file does not declare, or a valid range
                leaves out nearly all of them.
        """
        refuse_misread(self.watch, self._where(), self.source_name)

    def regridded(self, grid: Grid, apply: Callable[[AnyArray], AnyArray]) -> Field:
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
        index = {"lat": as_slice(rows), "lon": as_slice(columns)}
        segments = tuple(segment.isel(index) for segment in self.segments)
        return replace(self, cells=grid, segments=segments)

    def isel(self, part: slice) -> Field:
        """The field of a contiguous block of time steps."""
        days = None if self.step_days is None else self.step_days[part]
        segments = tuple(self._cut(part))
        return replace(self, time=self.time.isel(part), step_days=days, segments=segments)

    def take(self, steps: Index) -> Field:
        """The field of some time steps, ascending; runs of steps are read as blocks.

        Args:
            steps: at least one.
        """
        runs = np.split(steps, np.flatnonzero(np.diff(steps) > 1) + 1)
        segments = tuple(
            piece for run in runs for piece in self._cut(slice(int(run[0]), int(run[-1]) + 1))
        )
        days = None if self.step_days is None else self.step_days[steps]
        return replace(self, time=self.time.isel(steps), step_days=days, segments=segments)

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
            values = np.asarray(block.values, dtype=np.float64).transpose(axes)
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
        self.watch.add(values, block.attrs | block.encoding)
        return values

    def _cut(self, part: slice) -> Iterator[xr.DataArray]:
        """The pieces of the segments that lie in a block of time steps, still lazy."""
        start, stop, _ = part.indices(len(self.time))
        offset = 0
        for segment in self.segments:
            first, last = max(start - offset, 0), min(stop - offset, segment.sizes["time"])
            if first < last:
                yield segment.isel(time=slice(first, last))
            offset += segment.sizes["time"]

    def _where(self) -> str:
        return describe_paths(self.paths)


def _thinned(segment: xr.DataArray, steps: int, most: int) -> dict[Hashable, slice]:
    """Every so many rows of a segment, that so many steps hold about so many values.

    Rows are read as one, so that no chunk of a file is read twice.
    """
    along = next(name for name in segment.dims if name != "time")
    in_row = segment.size // (segment.sizes["time"] * segment.sizes[along])
    rows = max(1, most // max(1, steps * in_row))
    every = -(-segment.sizes[along] // rows)
    return {along: slice((every - 1) // 2, None, every)}


def _touching(edges: Float64, low: float, high: float) -> Index | None:
    inside = np.flatnonzero((edges[1:] > low + 1e-6) & (edges[:-1] < high - 1e-6))
    return inside if inside.size else None


def _touching_longitudes(grid: Grid, target: Grid) -> tuple[Index | None, Grid]:
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
    return columns, Grid(grid.lat, centres, grid.lat_edges, edges, point=grid.point)
