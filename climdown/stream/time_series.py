"""Fields in time as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from climdown import cf
from climdown.arrays import Floats
from climdown.files import placed
from climdown.grid import Grid
from climdown.stream.writing import (
    OutputVariable,
    add_variable,
    chunk_steps,
    classic_type,
    create,
)


def write_fields(
    path: Path,
    *,
    grid: Grid,
    time: cf.TimeAxis,
    variables: Sequence[tuple[OutputVariable, Floats]],
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
    read: Callable[[str, slice], Floats],
    scalars: Mapping[str, xr.DataArray] | None = None,
) -> None:
    """Write fields as a CF file, atomically, block by block of time.

    Args:
        read: called with a variable's name and a block of time steps; gives (time, ny, nx).
        scalars: scalar coordinates (height and the like) of every variable.
    """
    steps = chunk_steps(grid, time)
    with placed(path) as temporary, create(temporary, grid, time) as file:
        file.setncatts(dict(attributes))
        for name, scalar in (scalars or {}).items():
            _add_scalar(file, name, scalar)
        located = {"coordinates": " ".join(scalars)} if scalars else {}
        for variable in variables:
            named = OutputVariable(variable.name, {**variable.attributes, **located})
            target = add_variable(file, named, ("time", "lat", "lon"), steps)
            for start in range(0, len(time), steps):
                part = slice(start, min(start + steps, len(time)))
                target[part] = np.ma.masked_invalid(read(variable.name, part))


def _add_scalar(file: netCDF4.Dataset, name: str, scalar: xr.DataArray) -> None:
    kind = scalar.dtype if scalar.dtype.kind not in "iuf" else classic_type(scalar.dtype)
    variable = file.createVariable(name, kind, ())
    variable.setncatts({k: v for k, v in scalar.attrs.items() if k != "bounds"})
    variable[...] = scalar.values
