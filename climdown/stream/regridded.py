"""A file on another grid, the rest of it as it was stored."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from climdown.arrays import Floats
from climdown.files import placed
from climdown.grid import Grid
from climdown.stream.writing import (
    CHUNK_BYTES,
    OutputVariable,
    add_compressed,
    add_horizontal,
    classic_type,
)

log = logging.getLogger(__name__)

_BLOCK_BYTES = 64 << 20


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
    read: Callable[[str, tuple[slice, ...]], Floats],
    check: Callable[[], None],
) -> None:
    """Write variables of a file on another grid, and the rest of the file as it was stored.

    Args:
        source: the file they come from; its other dimensions are kept, unlimited ones too.
        copied: names of variables without horizontal dimensions, copied bit by bit.
        read: called with a variable's name and a block of its leading dimensions; gives values
            of shape (*block, ny, nx).
        check: called when all values have been read; the file is placed if it raises nothing.
    """
    with netCDF4.Dataset(source) as parent, placed(path) as temporary:
        parent.set_auto_maskandscale(False)
        parent.set_auto_chartostring(False)
        copied = [name for name in copied if _is_plain(parent[name])]
        with netCDF4.Dataset(temporary, "w", format="NETCDF4") as file:
            file.setncatts(dict(attributes))
            dimensions = {d for v in variables for d in v.dims}
            dimensions |= {d for name in copied for d in parent[name].dimensions}
            for name, dimension in parent.dimensions.items():
                if name in dimensions:
                    file.createDimension(name, None if dimension.isunlimited() else dimension.size)
            for name in copied:
                _copy_variable(file, parent[name], copied)
            add_horizontal(file, grid)
            for variable in variables:
                _write_blocks(file, variable, grid, read)
        check()


def _is_plain(stored: netCDF4.Variable[Any]) -> bool:
    """Whether a variable is of a type that every file knows; others are left out."""
    user_defined = isinstance(stored.datatype, netCDF4.VLType | netCDF4.CompoundType)
    plain = stored.dtype is str or not user_defined
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
        _copied_type(stored),
        stored.dimensions,
        fill_value=fill,
        chunksizes=_copied_chunks(file, stored),
    )
    target.set_auto_maskandscale(False)
    target.set_auto_chartostring(False)
    target.setncatts(attributes)
    if 0 not in stored.shape:
        target[...] = stored[...]


def _copied_type(stored: netCDF4.Variable[Any]) -> Any:
    """As stored, but for times, and their bounds, of types that CF-1.8 does not know."""
    if stored.dtype is str:
        return str
    kind = stored.dtype.newbyteorder("=")
    axes = stored.group().variables.values()
    times = [axis for axis in axes if " since " in str(getattr(axis, "units", ""))]
    names = {axis.name for axis in times} | {getattr(axis, "bounds", "") for axis in times}
    return classic_type(kind) if stored.name in names and kind.kind in "iu" else kind


def _copied_chunks(file: netCDF4.Dataset, stored: netCDF4.Variable[Any]) -> tuple[int, ...] | None:
    """Along an unlimited dimension the default is one value per chunk."""
    unlimited = any(file.dimensions[name].isunlimited() for name in stored.dimensions)
    if not unlimited or 0 in stored.shape:
        return None
    entry = 8 * math.prod(stored.shape[1:])
    return (max(1, min(stored.shape[0], CHUNK_BYTES // entry)), *stored.shape[1:])


def _write_blocks(
    file: netCDF4.Dataset,
    variable: GriddedVariable,
    grid: Grid,
    read: Callable[[str, tuple[slice, ...]], Floats],
) -> None:
    size = (8 if variable.double else 4) * grid.lat.size * grid.lon.size
    chunks = [1] * len(variable.dims)
    if chunks:
        chunks[0] = max(1, min(variable.shape[0], CHUNK_BYTES // size))
    target = add_compressed(
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
