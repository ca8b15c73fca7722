"""`regrid_file()`: a file on another grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from climdown import cf, files, regrid, stream
from climdown.arrays import Floats
from climdown.errors import ConfigError, GridError, InputError, naming
from climdown.grid import Grid
from climdown.version import __version__

log = logging.getLogger(__name__)

_STORAGE_ATTRIBUTES = {"_FillValue", "missing_value", "scale_factor", "add_offset", "_ChunkSizes"}
# What says where the old cells lie; CDO, ICON and UGRID tools would read it as true.
_CELL_ATTRIBUTES = {
    *("grid_mapping", "cell_measures", "coordinates", "mesh", "location", "actual_range"),
    *("CDI_grid_type", "CDI_grid_num_LPE", "grid_type", "number_of_grid_in_reference"),
}
# In the type of the stored values; the last ones number categories, which have no means.
_TYPED_ATTRIBUTES = ("valid_min", "valid_max", "valid_range", "flag_values", "flag_masks")
_GLOBAL_CELL_ATTRIBUTES = {
    *("CDI_grid_type", "grid_file_uri", "number_of_grid_used", "uuidOfHGrid"),
    *("external_variables", "nominal_resolution"),
}


@dataclass(frozen=True)
class RegriddedVariable:
    """What regridding did to a variable, for the log.

    Attributes:
        source: the cells it lay on.
        backend: what made the weights.
        covered: share of the target's cells that the source covers.
    """

    name: str
    source: str
    backend: str
    covered: float


def regrid_file(
    source: Path,
    output: Path,
    *,
    target: Callable[[regrid.Cells], Grid],
    method: regrid.Method = "conservative",
    backend: regrid.Backend = "auto",
    min_coverage: float = 1e-6,
    overwrite: bool = False,
    command: str = "climdown.regrid_file()",
) -> list[RegriddedVariable]:
    """Regrid every gridded variable of a file; all its other dimensions and variables are kept.

    Args:
        target: the grid to write on, for the cells of the file's first variable.
        min_coverage: target cells of which less is covered by valid source cells are missing.

    Returns:
        one entry per variable.

    Raises:
        InputError: no file, no gridded variable, values that cannot be read, or fill values that
            the file does not declare.
        GridError: grids that the method cannot take, or that do not meet.
        ConfigError: an unknown method or backend, or the output is the input.
        OutputError: the output exists or cannot be written.
    """
    if not 0 < min_coverage <= 1:
        raise ConfigError(f"min coverage is {min_coverage:g}; need 0 < coverage <= 1")
    first, *more = cf.expand_paths([source])
    if more:
        raise ConfigError(f"one file is regridded at a time; {1 + len(more)} match, like {more[0]}")
    source = Path(first)
    if not source.is_file():
        raise InputError(f"{first}: is a Zarr store; expected a NetCDF file to regrid")
    with (
        files.owned(output, [source], overwrite=overwrite),
        cf.open_dataset(source) as dataset,
    ):
        plan = _FilePlan(source, dataset, target, method, backend)
        plan.warn_of_losses()
        stream.write_on_grid(
            output,
            source,
            grid=plan.grid,
            variables=plan.outputs(),
            copied=plan.copied(),
            attributes=_attributes(dataset, plan, command),
            read=lambda name, block: plan.read(name, block, min_coverage),
            check=plan.refuse_misread,
        )
        return plan.reports(min_coverage)


class _FilePlan:
    """The variables of a file, their weights, and how blocks of them are read."""

    def __init__(
        self,
        source: Path,
        dataset: xr.Dataset,
        target: Callable[[regrid.Cells], Grid],
        method: regrid.Method,
        backend: regrid.Backend,
    ) -> None:
        self.source, self.dataset, self.method = source, dataset, method
        names = [n for n in cf.gridded_variables(dataset) if _is_field(dataset[n])]
        if not names:
            others = ", ".join(map(str, dataset.data_vars)) or "no variables"
            raise InputError(
                f"{source}: no variable with latitude and longitude coordinates; found {others}"
            )
        self.arrays: dict[str, xr.DataArray] = {}
        self.weights: dict[str, regrid.Weights] = {}
        self.watches = {name: cf.FillWatch() for name in names}
        with naming(source):
            cells, self.arrays[names[0]] = cf.horizontal_cells(dataset[names[0]], dataset)
        self.grid = target(cells)
        with naming(source):
            self._weigh(names, method, backend)

    def _weigh(self, names: list[str], method: regrid.Method, backend: regrid.Backend) -> None:
        for name in names:
            cells, self.arrays[name] = cf.horizontal_cells(self.dataset[name], self.dataset)
            weights = regrid.weights(cells, self.grid, method, backend=backend)
            if not weights.coverage.any():
                raise GridError(
                    f"the grid of '{name}' ({cells.describe()}) does not touch the target "
                    f"({self.grid.describe()})"
                )
            self.weights[name] = weights
        self.backends = {
            n: regrid.choose_backend(w.source, method, backend) for n, w in self.weights.items()
        }

    def leading(self, name: str) -> tuple[str, ...]:
        """Dimensions other than the horizontal ones."""
        array = self.arrays[name]
        return tuple(str(d) for d in array.dims[: array.ndim - len(self._shape(name))])

    def outputs(self) -> list[stream.GriddedVariable]:
        """The variables that are written on the new grid."""
        written = {*self.copied(), *self.arrays}
        return [
            stream.GriddedVariable(
                name=name,
                dims=self.leading(name),
                shape=tuple(self.arrays[name].sizes[d] for d in self.leading(name)),
                attributes=_variable_attributes(self.dataset[name], written, self.method),
                double=_needs_double(self.dataset[name]),
                cells=math.prod(self._shape(name)),
            )
            for name in self.arrays
        ]

    def copied(self) -> list[str]:
        """Variables without horizontal dimensions, less those that describe the old cells."""
        described, horizontal = self._described(), self._horizontal()
        return [
            str(name)
            for name, variable in self.dataset.variables.items()
            if name not in described and not horizontal & {str(name), *map(str, variable.dims)}
        ]

    def warn_of_losses(self) -> None:
        """Say which variables are in the input and not in the output."""
        handled = {*self.copied(), *self._described(), *self._horizontal()}
        coordinates = set(map(str, self.dataset.coords))
        omitted = [str(n) for n in self.dataset.variables if n not in handled | coordinates]
        bounds = {str(v.attrs.get("bounds")) for v in self.dataset.variables.values()}
        if omitted := [name for name in omitted if name not in bounds]:
            log.warning(
                "%s: left out, since no means over cells can be taken: %s",
                self.source,
                ", ".join(omitted),
            )

    def read(self, name: str, block: tuple[slice, ...], min_coverage: float) -> Floats:
        """Regridded values of a block of a variable's leading dimensions, shape (*block, ny, nx).

        Raises:
            InputError: the file is damaged.
        """
        part = self.arrays[name].isel(dict(zip(self.leading(name), block, strict=True)))
        try:
            values = np.asarray(part.values, dtype=np.float64)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{self.source}: '{name}' cannot be read ({error})") from None
        self.watches[name].add(values, part.attrs | part.encoding)
        values = np.where(np.isfinite(values), values, np.nan)
        return self.weights[name].apply(values, min_coverage=min_coverage)

    def refuse_misread(self) -> None:
        """Say where a fill value was taken for a value, or values for missing.

        Raises:
            InputError: means were made of it.
        """
        # Nearest cells are taken as they are, fill values too.
        refuse = cf.refuse_misread_range if self.method == "nearest" else cf.refuse_misread
        for name, watch in self.watches.items():
            refuse(watch, str(self.source), name)

    def reports(self, min_coverage: float) -> list[RegriddedVariable]:
        """What was done to each variable."""
        return [
            RegriddedVariable(
                name,
                weights.source.describe(),
                self.backends[name],
                float((weights.coverage >= min_coverage).mean()),
            )
            for name, weights in self.weights.items()
        ]

    def _described(self) -> set[str]:
        names = (cf.horizontal_names(self.dataset[name], self.dataset) for name in self.arrays)
        return set(self.arrays).union(*names)

    def _horizontal(self) -> set[str]:
        """Names that the old cells have, or the new ones take."""
        dims = (cf.horizontal_dims(self.dataset[name]) for name in self.arrays)
        return {"lat", "lon", "lat_bnds", "lon_bnds", "crs"}.union(*dims)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.weights[name].source.shape


def _attributes(dataset: xr.Dataset, plan: _FilePlan, command: str) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cells = next(iter(plan.weights.values())).source
    provenance = {
        "climdown_version": __version__,
        "regridding_method": plan.method,
        "regridding_backend": ", ".join(sorted(set(plan.backends.values()))),
        "regridded_from": cells.describe(),
    }
    parent = {k: v for k, v in dataset.attrs.items() if k not in _GLOBAL_CELL_ATTRIBUTES}
    if not isinstance(parent.get("history", ""), str):  # several strings
        parent["history"] = "\n".join(map(str, parent["history"]))
    for name, value in (("grid", plan.grid.describe()), ("grid_label", "gr")):
        if name in parent:
            parent[name] = value
    title = str(parent.get("title", "regridded"))
    return cf.global_attributes(
        parent, title=title, command=command, provenance=provenance, now=now
    )


def _variable_attributes(
    array: xr.DataArray, written: set[str], method: regrid.Method
) -> dict[str, Any]:
    """CF attributes less those of storage, and less references to the old cells."""
    dropped = _STORAGE_ATTRIBUTES | _CELL_ATTRIBUTES
    attributes = {k: v for k, v in array.attrs.items() if k not in dropped}
    typed = {n: np.asarray(attributes.pop(n)) for n in _TYPED_ATTRIBUTES if n in attributes}
    if not cf.is_packed(array.encoding):
        kind = "f8" if _needs_double(array) else "f4"
        converted = _TYPED_ATTRIBUTES if method == "nearest" else _TYPED_ATTRIBUTES[:3]
        attributes |= {n: value.astype(kind) for n, value in typed.items() if n in converted}
    if not {"flag_values", "flag_masks"} & set(attributes):
        attributes.pop("flag_meanings", None)
    references = {
        "coordinates": array.encoding.get("coordinates", array.attrs.get("coordinates", "")),
        "ancillary_variables": attributes.pop("ancillary_variables", ""),
    }
    for name, stated in references.items():
        if names := [n for n in str(stated).split() if n in written]:
            attributes[name] = " ".join(names)
    if "units" not in attributes and "units" in array.encoding:  # a duration, left undecoded
        attributes["units"] = array.encoding["units"]
    return attributes


def _is_field(array: xr.DataArray) -> bool:
    """Whether means over cells say something: of numbers, but not of the old cells' areas."""
    numeric = np.issubdtype(array.dtype, np.number) or array.dtype == bool
    dates = cf.is_undecoded_time(array)
    return numeric and not dates and array.attrs.get("standard_name") != "cell_area"


def _needs_double(array: xr.DataArray) -> bool:
    """Whether single precision would lose digits that the file has."""
    stored = np.dtype(array.encoding.get("dtype", array.dtype))
    digits = stored.itemsize > (4 if stored.kind == "f" else 2)
    return digits and not cf.is_packed(array.encoding)
