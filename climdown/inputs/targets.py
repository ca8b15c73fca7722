"""What people may call a grid."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from climdown import cf, regrid
from climdown.arrays import Float64
from climdown.errors import ConfigError, GridError, InputError, PriorError, naming
from climdown.grid import Grid
from climdown.mesh import Mesh
from climdown.priors.card import read_card
from climdown.priors.store import find_prior

_NUMBER = r"[-+]?\d+(?:\.\d*)?|[-+]?\.\d+"
# A field of more cells than this does not fit the memory of what reads it.
_MOST_CELLS = 200_000_000
SPECIFICATIONS = (
    "a spacing in degrees (1.0), a box WEST,EAST,SOUTH,NORTH,SPACING, a global grid rNXxNY, a "
    "NetCDF file, or a prior's name with :fine or :coarse"
)


def named_grid(spec: str) -> Callable[[regrid.Cells], Grid]:
    """What gives the grid that a specification names over some cells, see `target_grid`."""
    return lambda cells: target_grid(spec, cells)


def target_grid(spec: str, cells: regrid.Cells | None = None) -> Grid:
    """The grid that a specification names.

    Args:
        spec: a spacing in degrees (over the extent of `cells`, in multiples of it), a box
            "WEST,EAST,SOUTH,NORTH,SPACING", "rNXxNY" (global, first longitude centred on 0, as
            CDO has it: odd NY put rows at the poles), a NetCDF file (the grid of its first
            rectilinear variable), or a prior's name or folder, followed by ":fine" (the default)
            or ":coarse". A box whose east is less than its west lies across the seam.

    Raises:
        ConfigError: it names none of these, or more cells than fit.
        InputError: the file has no gridded variable.
        GridError: the file's grids are not rectilinear.
    """
    if re.fullmatch(_NUMBER, spec):
        return _spaced(float(spec), cells)
    if match := re.fullmatch(r"r(\d+)x(\d+)", spec):
        return _global_grid(int(match[1]), int(match[2]))
    if re.fullmatch(rf"(?:({_NUMBER}),){{4}}({_NUMBER})", spec):
        return _box(*map(float, spec.split(",")))
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


def _spaced(spacing: float, cells: regrid.Cells | None) -> Grid:
    if not spacing > 0:
        raise ConfigError(f"grid spacing is {spacing:g}; need degrees > 0")
    south, north, west, east = (-90.0, 90.0, -180.0, 180.0) if cells is None else _extent(cells)

    def snapped(low: float, high: float) -> tuple[float, float]:
        first = math.floor(low / spacing + 1e-6) * spacing
        return first, max(math.ceil(high / spacing - 1e-6) * spacing, first + spacing)

    south, north = snapped(south, north)
    if east - west >= 360.0 - 1e-6:
        west = -180.0 if west < -1.0 - spacing else 0.0
        east = west + 360.0
    else:
        west, east = snapped(west, east)
    return _box(west, min(east, west + 360.0), max(south, -90.0), min(north, 90.0), spacing)


def _box(west: float, east: float, south: float, north: float, spacing: float) -> Grid:
    east = east if east > west else east + 360.0
    if not (spacing > 0 and -90.0 <= south < north <= 90.0 and west < east <= west + 360.0):
        raise ConfigError(
            f"no grid of {spacing:g} degrees fits the box {west:g},{east:g},{south:g},{north:g} "
            "(west, east, south, north); need spacing > 0 and -90 <= south < north <= 90, and at "
            "most 360 degrees from west to east"
        )
    _check_size((east - west) / spacing, (north - south) / spacing)
    return Grid.regular(south, north, west, east, spacing)


def _check_size(nx: float, ny: float) -> None:
    if not nx * ny <= _MOST_CELLS:
        raise ConfigError(
            f"a grid of {nx:.4g} x {ny:.4g} cells is too large; at most {_MOST_CELLS:.0e} cells "
            "can be written: choose a larger spacing or a smaller box"
        )


def _extent(cells: regrid.Cells) -> tuple[float, float, float, float]:
    """(south, north, west, east) of the cells' outer edges."""
    if isinstance(cells, Mesh):
        return cells.extent
    lat, lon = cells.lat_edges, cells.lon_edges
    return float(lat[0]), float(lat[-1]), float(lon[0]), float(lon[-1])


def _global_grid(nx: int, ny: int) -> Grid:
    if nx < 1 or ny < 1:
        raise ConfigError(f"a global grid of {nx} x {ny} cells is empty")
    _check_size(nx, ny)
    lat, lat_edges = _global_latitudes(ny)
    lon_edges = np.linspace(-180.0 / nx, 360.0 - 180.0 / nx, nx + 1)
    lon = 0.5 * (lon_edges[:-1] + lon_edges[1:])
    return Grid.from_centres(lat, lon, lat_edges=lat_edges, lon_edges=lon_edges)


def _global_latitudes(ny: int) -> tuple[Float64, Float64]:
    """Centres and edges as CDO's rNXxNY has them.

    An even number of rows lies between the poles; of an odd number (but one) the first and the
    last have their centres at the poles, and half the height.
    """
    if ny % 2 == 0 or ny == 1:
        edges = np.linspace(-90.0, 90.0, ny + 1)
        return 0.5 * (edges[:-1] + edges[1:]), edges
    lat = np.linspace(-90.0, 90.0, ny)
    return lat, np.concatenate([[-90.0], 0.5 * (lat[:-1] + lat[1:]), [90.0]])


def _grid_of_file(path: Path) -> Grid:
    mesh = None
    with cf.open_dataset(path) as dataset, naming(path):
        for name in cf.gridded_variables(dataset):
            cells, _ = cf.horizontal_cells(dataset[name], dataset)
            if isinstance(cells, Grid):
                return cells
            mesh = mesh or (name, cells)
        if mesh is not None:
            raise GridError(
                f"'{mesh[0]}' lies on a mesh ({mesh[1].describe()}); the target must be "
                "rectilinear (one latitude and one longitude axis)"
            )
        raise InputError("no variable with latitude and longitude to take a grid from")
