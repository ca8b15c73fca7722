"""Quantile maps kept in files, to be applied later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import numpy.typing as npt

from climdown.errors import InputError
from climdown.grid import Grid

FORMAT = 1
REF, HIST = "ref_quantile", "hist_quantile"


@dataclass(frozen=True, eq=False)
class StoredMap:
    """A map in a file, read a block of cells at a time.

    Attributes:
        grid: on which it was trained.
        nodes: probabilities of the quantiles, shape (nodes,).
        settings: everything else that decides the result, as JSON values.
    """

    path: Path
    grid: Grid
    nodes: npt.NDArray[np.float64]
    settings: dict[str, Any]

    def read(self, cells: slice) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Reference and historical quantiles of flat cells, shape (groups, nodes, width) each."""
        with netCDF4.Dataset(self.path) as file:
            return self._quantiles(file, REF, cells), self._quantiles(file, HIST, cells)

    def _quantiles(self, file: netCDF4.Dataset, name: str, cells: slice) -> npt.NDArray[np.float32]:
        parts = []
        width, start = self.grid.lon.size, cells.start
        while start < cells.stop:
            y, x = divmod(start, width)
            stop = min(cells.stop, (y + 1) * width)
            values = np.ma.filled(file[name][y, x : x + stop - start].astype("f4"), np.nan)
            parts.append(np.moveaxis(values, 0, -1))
            start = stop
        return np.concatenate(parts, axis=-1)


def map_attributes(settings: dict[str, Any]) -> dict[str, Any]:
    """Global attributes by which `read_map` knows a map."""
    return {"climdown_map_format": np.int32(FORMAT), "climdown_map": json.dumps(settings)}


def read_map(path: Path) -> StoredMap:
    """Open a map.

    Raises:
        InputError: the file is no map, or of a newer format.
    """
    try:
        with netCDF4.Dataset(path) as file:
            version = int(file.getncattr("climdown_map_format"))
            settings = json.loads(file.getncattr("climdown_map"))
            axes = {name: np.asarray(file[name][:], np.float64) for name in ("lat", "lon")}
            edges = {
                name: np.append(file[f"{name}_bnds"][:, 0], file[f"{name}_bnds"][-1, 1])
                for name in ("lat", "lon")
            }
            nodes = np.asarray(file["quantile"][:], np.float64)
            complete = {REF, HIST} <= set(file.variables)
    except (OSError, AttributeError, IndexError, ValueError):
        raise InputError(
            f"{path} is no quantile map, as `climdown qdm --save-map` writes it"
        ) from None
    if version > FORMAT:
        raise InputError(
            f"{path} is a quantile map of format {version}; this climdown reads up to {FORMAT}: "
            "upgrade it"
        )
    if not complete:
        raise InputError(f"{path} lacks the variables {REF} and {HIST} of a quantile map")
    grid = Grid(axes["lat"], axes["lon"], edges["lat"], edges["lon"])
    return StoredMap(path, grid, nodes, settings)
