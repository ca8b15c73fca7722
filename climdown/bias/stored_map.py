"""Quantile maps stored in files, to be applied later."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import netCDF4
import numpy as np

from climdown.arrays import Float32, Float64
from climdown.bias import grouping, quantile
from climdown.errors import ClimdownError, InputError
from climdown.grid import Grid
from climdown.stream import rows_of

FORMAT = 1
# Raised on reading a file in which something is missing or of another kind.
_DAMAGE = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
REF, HIST = "ref_quantile", "hist_quantile"


@dataclass(frozen=True)
class MapSettings:
    """What determines the result of a map, besides its quantiles.

    Attributes:
        variable, standard_names, names, units, level: of the simulation it was trained for, as
            of a `cf.Quantity`; the quantiles are in its units.
        kind, tails: of the map, see `quantile.train`.
        group, window: see `Grouping`.
        months: that reference and historical simulation share.
        dry: precipitation below this is none; None if it does not apply.

    Raises:
        InputError: an entry has another type or value.
    """

    variable: str
    standard_names: tuple[str, ...]
    names: tuple[str, ...]
    units: str
    level: float | None
    kind: quantile.Kind
    tails: quantile.Tails
    group: grouping.Kind
    window: int
    months: tuple[int, ...]
    dry: float | None

    def __post_init__(self) -> None:
        texts = (self.variable, self.units, *self.standard_names, *self.names)
        words = ((self.kind, quantile.Kind), (self.tails, quantile.Tails))
        numbers = (self.level, self.dry)
        if not (
            all(isinstance(text, str) for text in texts)
            and all(word in get_args(options) for word, options in words)
            and all(value is None or isinstance(value, float | int) for value in numbers)
            and all(month in range(1, 13) for month in self.months)
        ):
            raise InputError(f"settings {asdict(self)}")
        grouping.Grouping(self.group, self.window)

    @classmethod
    def from_json(cls, text: str) -> MapSettings:
        """The inverse of `json.dumps(asdict(settings))`."""
        entries = json.loads(text)
        lists = {name: tuple(entries[name]) for name in ("standard_names", "names", "months")}
        return cls(**{**entries, **lists})


@dataclass(frozen=True, eq=False)
class StoredMap:
    """A map in a file, read a block of cells at a time.

    Attributes:
        grid: on which it was trained.
        nodes: probabilities of the quantiles, shape (nodes,).
    """

    path: Path
    grid: Grid
    nodes: Float64
    settings: MapSettings

    def read(self, cells: slice) -> tuple[Float32, Float32]:
        """Reference and historical quantiles of flat cells, shape (groups, nodes, width) each.

        Raises:
            InputError: the file is damaged.
        """
        try:
            with netCDF4.Dataset(self.path) as file:
                return self._quantiles(file[REF], cells), self._quantiles(file[HIST], cells)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{self.path}: the quantile map cannot be read ({error}); make it again"
            ) from None

    def _quantiles(self, variable: netCDF4.Variable[Any], cells: slice) -> Float32:
        rows = (variable[y, columns] for y, columns, _ in rows_of(cells, self.grid.lon.size))
        filled = [np.ma.filled(row.astype(np.float32), np.nan) for row in rows]
        return np.moveaxis(np.concatenate(filled), 0, -1)


def map_attributes(settings: MapSettings) -> dict[str, Any]:
    """Global attributes by which `read_map` recognises a map."""
    return {"climdown_map_format": np.int32(FORMAT), "climdown_map": json.dumps(asdict(settings))}


def read_map(path: Path) -> StoredMap:
    """Open a map.

    Raises:
        InputError: the file is no map, of a newer format, or damaged.
    """
    version = _format(path)
    if version > FORMAT:
        raise InputError(
            f"{path} is a quantile map of format {version}; this climdown reads up to {FORMAT}: "
            "upgrade it"
        )
    try:
        with netCDF4.Dataset(path) as file:
            return _read(path, file)
    except (
        ClimdownError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is a damaged quantile map ({reason}); make it again") from None


def _format(path: Path) -> int:
    try:
        with netCDF4.Dataset(path) as file:
            return int(file.getncattr("climdown_map_format"))
    except (OSError, AttributeError, ValueError):
        raise InputError(
            f"{path} is no quantile map; expected one that `climdown qdm --save-map` wrote"
        ) from None


def _read(path: Path, file: netCDF4.Dataset) -> StoredMap:
    settings = MapSettings.from_json(file.getncattr("climdown_map"))
    grid = _read_grid(file)
    nodes = np.asarray(file["quantile"][:], np.float64)
    groups = grouping.Grouping(settings.group, settings.window).count
    expected = (*grid.shape, groups, nodes.size)
    for name in (REF, HIST):
        if file[name].shape != expected:
            raise InputError(f"{name} has shape {file[name].shape}; expected {expected}")
    return StoredMap(path, grid, nodes, settings)


def _read_grid(file: netCDF4.Dataset) -> Grid:
    lat, lon = (np.asarray(file[name][:], np.float64) for name in ("lat", "lon"))
    if lat.size == lon.size == 1 and "lat_bnds" not in file.variables:
        return Grid.at(float(lat[0]), float(lon[0]))
    bounds = (np.asarray(file[f"{name}_bnds"][:], np.float64) for name in ("lat", "lon"))
    y_edges, x_edges = (np.append(pairs[:, 0], pairs[-1:, 1]) for pairs in bounds)
    return Grid(lat, lon, y_edges, x_edges)
