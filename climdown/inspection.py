"""What climdown understands of a file, for `climdown inspect`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from climdown import cf
from climdown.errors import ClimdownError

_BLOCK_BYTES = 64 << 20

Report = list[tuple[str, str]]


def describe_file(path: Path) -> list[Report]:
    """One report of (label, text) pairs for each gridded variable of a file.

    Raises:
        InputError: the file cannot be read.
    """
    with cf.open_dataset(path) as dataset:
        names = cf.gridded_variables(dataset)
        if not names:
            found = ", ".join(map(str, dataset.data_vars)) or "no variables"
            return [[("variables", f"none with latitude and longitude; found {found}")]]
        return [_describe(dataset, name) for name in names]


def _describe(dataset: xr.Dataset, name: str) -> Report:
    array = dataset[name]
    attributes = array.attrs
    report = [
        ("variable", f"{name} ({attributes.get('long_name', 'no long_name')})"),
        ("standard_name", str(attributes.get("standard_name", "none"))),
        ("units", str(attributes.get("units", "none"))),
        ("dimensions", ", ".join(f"{d}={n}" for d, n in array.sizes.items())),
    ]
    if "cell_methods" in attributes:
        report.append(("cell_methods", str(attributes["cell_methods"])))
    for label, describe in (("grid", _grid), ("time", _time)):
        try:
            report.append((label, describe(array, dataset)))
        except ClimdownError as error:
            report.append((label, f"not readable: {error}"))
    report.append(("values", _values(array)))
    return report


def _grid(array: xr.DataArray, dataset: xr.Dataset) -> str:
    grid, _ = cf.horizontal_cells(array, dataset)
    return grid.describe()


def _time(array: xr.DataArray, dataset: xr.Dataset) -> str:
    axis = cf.read_time_axis(array, dataset)
    step = f", every {axis.step_days:.3g} days" if len(axis) > 1 else ""
    gaps = f", {axis.gaps} gaps" if axis.gaps else ""
    months = ", ".join(map(str, axis.months))
    return f"{axis.describe()}{step}{gaps}, months {months}; {axis.units}"


def _values(array: xr.DataArray) -> str:
    """Range and share of missing values, read in blocks along the first dimension."""
    if not np.issubdtype(array.dtype, np.number) or array.size == 0:
        return f"{array.dtype}, {array.size} values"
    first = array.dims[0]
    rows = max(1, _BLOCK_BYTES // max(1, array.nbytes // array.sizes[first]))
    low, high, total, count, infinite = np.inf, -np.inf, 0.0, 0, 0
    for start in range(0, array.sizes[first], rows):
        block = np.asarray(array.isel({first: slice(start, start + rows)}).values, np.float64)
        finite = block[np.isfinite(block)]
        infinite += int(np.isinf(block).sum())
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            total, count = total + float(finite.sum()), count + finite.size
    if count == 0:
        return "all missing"
    missing = 1 - (count + infinite) / array.size
    suspicious = f", {infinite} INFINITE" if infinite else ""
    return f"{low:.4g} to {high:.4g}, mean {total / count:.4g}, {missing:.1%} missing{suspicious}"
