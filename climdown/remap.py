"""`regrid_file()`: a file on another grid; and what people may call a grid."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

import climdown
from climdown import cf, regrid, stream
from climdown.errors import ClimdownError, ConfigError, GridError, InputError, PriorError
from climdown.grid import Grid
from climdown.mesh import Mesh
from climdown.priors.card import read_card
from climdown.priors.store import find_prior

log = logging.getLogger(__name__)

_NUMBER = r"[-+]?\d+(?:\.\d*)?|[-+]?\.\d+"
_STORAGE_ATTRIBUTES = ("_FillValue", "missing_value", "scale_factor", "add_offset")
SPECIFICATIONS = (
    "a spacing in degrees (1.0), a box WEST,EAST,SOUTH,NORTH,SPACING, a global grid rNXxNY, a "
    "NetCDF file, or a prior's name with :fine or :coarse"
)


@dataclass(frozen=True)
class RegriddedVariable:
    """What regridding did to a variable, for the log."""

    name: str
    source: str
    covered: float


def regrid_file(
    source: Path,
    output: Path,
    *,
    grid: str,
    method: regrid.Method = "conservative",
    backend: regrid.Backend = "auto",
    min_coverage: float = 1e-6,
    overwrite: bool = False,
    command: str = "climdown.regrid_file()",
) -> list[RegriddedVariable]:
    """Regrid every gridded variable of a file; all its other dimensions and variables are kept.

    Args:
        grid: see `target_grid`.
        min_coverage: target cells of which less is covered by valid source cells are missing.

    Returns:
        one entry per variable; `covered` is the share of target cells that got values.

    Raises:
        InputError: no file, or no gridded variable.
        GridError: grids that the method cannot take, or that do not meet.
        ConfigError: an unknown grid, method or backend.
        OutputError: the output exists or cannot be written.
    """
    stream.check_output(output, overwrite=overwrite)
    if not 0 < min_coverage <= 1:
        raise ConfigError(f"min coverage is {min_coverage:g}; need 0 < coverage <= 1")
    source = cf.expand_paths([source])[0]
    if output.exists() and source.samefile(output):
        raise ConfigError(f"{output} is both input and output; choose another output")
    with cf.open_dataset(source) as dataset:
        plan = _FilePlan(source, dataset, grid, method, backend)
        stream.write_on_grid(
            output,
            source,
            grid=plan.grid,
            variables=plan.outputs(),
            copied=plan.copied(),
            attributes=_attributes(dataset, plan, command),
            read=lambda name, block: plan.read(name, block, min_coverage),
        )
        return plan.reports(min_coverage)


def target_grid(spec: str, cells: regrid.Cells | None = None) -> Grid:
    """The grid that a specification names.

    Args:
        spec: a spacing in degrees (over the extent of `cells`, in multiples of it), a box
            "WEST,EAST,SOUTH,NORTH,SPACING", "rNXxNY" (global, first longitude centred on 0, as
            CDO has it), a NetCDF file (the grid of its first gridded variable), or a prior's name
            or folder, followed by ":fine" (the default) or ":coarse".

    Raises:
        ConfigError: it names none of these.
        GridError: the file's grid is not rectilinear.
    """
    if re.fullmatch(_NUMBER, spec):
        return _spaced(float(spec), cells)
    if match := re.fullmatch(r"r(\d+)x(\d+)", spec):
        return _global_grid(int(match[1]), int(match[2]))
    if re.fullmatch(rf"(?:({_NUMBER}),){{4}}({_NUMBER})", spec):
        west, east, south, north, spacing = map(float, spec.split(","))
        return Grid.regular(south, north, west, east, spacing)
    if Path(spec).is_file():
        return _grid_of_file(Path(spec))
    name, _, which = spec.partition(":")
    try:
        card = read_card(find_prior(name))
    except PriorError as error:
        raise ConfigError(
            f"cannot read the grid '{spec}'; expected {SPECIFICATIONS} ({error})"
        ) from None
    if which not in ("", "fine", "coarse"):
        raise ConfigError(f"prior '{name}' has no grid '{which}'; expected fine or coarse")
    return card.coarse_grid if which == "coarse" else card.grid


class _FilePlan:
    """The variables of a file, their weights, and how blocks of them are read."""

    def __init__(
        self,
        source: Path,
        dataset: xr.Dataset,
        grid: str,
        method: regrid.Method,
        backend: regrid.Backend,
    ) -> None:
        self.source, self.dataset, self.method = source, dataset, method
        names = [n for n in cf.gridded_variables(dataset) if _is_numeric(dataset[n])]
        if not names:
            found = ", ".join(map(str, dataset.data_vars)) or "no variables"
            raise InputError(
                f"{source}: no variable with latitude and longitude coordinates; found {found}"
            )
        self.arrays: dict[str, xr.DataArray] = {}
        self.weights: dict[str, regrid.Weights] = {}
        try:
            cells = {n: cf.horizontal_cells(dataset[n], dataset) for n in names}
            self.grid = target_grid(grid, cells[names[0]][0])
            for name, (found_cells, array) in cells.items():
                self.arrays[name] = array
                self.weights[name] = regrid.weights(found_cells, self.grid, method, backend=backend)
                if not self.weights[name].coverage.any():
                    raise GridError(
                        f"the grid of '{name}' ({found_cells.describe()}) does not touch the "
                        f"target ({self.grid.describe()})"
                    )
        except ConfigError:
            raise
        except ClimdownError as error:
            raise type(error)(f"{source}: {error}") from None

    def leading(self, name: str) -> tuple[str, ...]:
        """Dimensions other than the horizontal ones."""
        array = self.arrays[name]
        return tuple(str(d) for d in array.dims[: array.ndim - len(self._shape(name))])

    def outputs(self) -> list[stream.GriddedVariable]:
        kept = set(self.copied())
        return [
            stream.GriddedVariable(
                name=name,
                dims=self.leading(name),
                shape=tuple(self.arrays[name].sizes[d] for d in self.leading(name)),
                attributes=_variable_attributes(self.dataset[name], kept),
            )
            for name in self.arrays
        ]

    def copied(self) -> list[str]:
        """Variables without horizontal dimensions, less those that describe the old cells."""
        dropped: set[str] = set()
        horizontal: set[str] = set()
        for name in self.arrays:
            dropped |= {name} | cf.horizontal_names(self.dataset[name], self.dataset)
            horizontal |= set(cf.horizontal_dims(self.dataset[name]))
        return [
            str(name)
            for name, variable in self.dataset.variables.items()
            if name not in dropped
            and not horizontal & set(map(str, variable.dims))
            and name not in ("lat", "lon", "lat_bnds", "lon_bnds")
        ]

    def read(
        self, name: str, block: tuple[slice, ...], min_coverage: float
    ) -> npt.NDArray[np.floating]:
        part = self.arrays[name].isel(dict(zip(self.leading(name), block, strict=True)))
        values = np.asarray(part.values, dtype=np.float64)
        values = np.where(np.isfinite(values), values, np.nan)
        return self.weights[name].apply(values, min_coverage=min_coverage)

    def reports(self, min_coverage: float) -> list[RegriddedVariable]:
        return [
            RegriddedVariable(
                name,
                weights.source.describe(),
                float((weights.coverage >= min_coverage).mean()),
            )
            for name, weights in self.weights.items()
        ]

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.weights[name].source.shape


def _attributes(dataset: xr.Dataset, plan: _FilePlan, command: str) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cells = next(iter(plan.weights.values())).source
    provenance = {
        "climdown_version": climdown.__version__,
        "regridding_method": plan.method,
        "regridded_from": cells.describe(),
    }
    title = str(dataset.attrs.get("title", "regridded"))
    return cf.global_attributes(
        dict(dataset.attrs), title=title, command=command, provenance=provenance, now=now
    )


def _variable_attributes(array: xr.DataArray, kept: set[str]) -> dict[str, Any]:
    """CF attributes less those of storage, and less references to the old cells."""
    gone = (*_STORAGE_ATTRIBUTES, "grid_mapping", "cell_measures", "coordinates", "_ChunkSizes")
    attributes = {k: v for k, v in array.attrs.items() if k not in gone}
    named = str(array.encoding.get("coordinates", array.attrs.get("coordinates", ""))).split()
    if coordinates := [name for name in named if name in kept]:
        attributes["coordinates"] = " ".join(coordinates)
    if "units" not in attributes and "units" in array.encoding:  # a duration, left undecoded
        attributes["units"] = array.encoding["units"]
    return attributes


def _is_numeric(array: xr.DataArray) -> bool:
    return np.issubdtype(array.dtype, np.number) or array.dtype == bool


def _spaced(spacing: float, cells: regrid.Cells | None) -> Grid:
    if not spacing > 0:
        raise ConfigError(f"grid spacing is {spacing:g}; need degrees > 0")
    if cells is None:
        return Grid.regular(-90.0, 90.0, -180.0, 180.0, spacing)
    south, north, west, east = _extent(cells)

    def snapped(low: float, high: float) -> tuple[float, float]:
        first = math.floor(low / spacing + 1e-6) * spacing
        return first, max(math.ceil(high / spacing - 1e-6) * spacing, first + spacing)

    south, north = snapped(south, north)
    if east - west >= 360.0 - 1e-6:
        west = -180.0 if west < -1.0 - spacing else 0.0
        east = west + 360.0
    else:
        west, east = snapped(west, east)
    return Grid.regular(max(south, -90.0), min(north, 90.0), west, min(east, west + 360.0), spacing)


def _extent(cells: regrid.Cells) -> tuple[float, float, float, float]:
    """(south, north, west, east) of the cells' outer edges."""
    if isinstance(cells, Mesh):
        south, north, west, east = cells.box
        half = 0.5 * cells.spacing
        wide = half / max(math.cos(math.radians(0.5 * (south + north))), 0.2)
        if east - west < 360.0:
            west, east = west - wide, east + wide
        return max(south - half, -90.0), min(north + half, 90.0), west, east
    lat, lon = cells.lat_edges, cells.lon_edges
    return float(lat[0]), float(lat[-1]), float(lon[0]), float(lon[-1])


def _global_grid(nx: int, ny: int) -> Grid:
    if nx < 1 or ny < 1:
        raise ConfigError(f"a global grid of {nx} x {ny} cells is empty")
    lat_edges = np.linspace(-90.0, 90.0, ny + 1)
    lon_edges = np.linspace(-180.0 / nx, 360.0 - 180.0 / nx, nx + 1)
    lat, lon = (0.5 * (e[:-1] + e[1:]) for e in (lat_edges, lon_edges))
    return Grid.from_centres(lat, lon, lat_edges=lat_edges, lon_edges=lon_edges)


def _grid_of_file(path: Path) -> Grid:
    with cf.open_dataset(path) as dataset:
        for name in cf.gridded_variables(dataset):
            cells, _ = cf.horizontal_cells(dataset[name], dataset)
            if isinstance(cells, Grid):
                return cells
            raise GridError(
                f"{path}: '{name}' lies on a mesh ({cells.describe()}); the target must be "
                "rectilinear (one latitude and one longitude axis)"
            )
    raise InputError(f"{path}: no variable with latitude and longitude to take a grid from")
