"""Latitudes and longitudes of cells that a file describes by a grid mapping alone (CF, appendix F).

Rotated poles, Lambert conformal, polar stereographic and the others are left to PROJ.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from climdown.arrays import Float64
from climdown.cf.axes import checked_axis, ordered
from climdown.cf.units import convert_units
from climdown.errors import ClimdownError, InputError
from climdown.grid import Grid

if TYPE_CHECKING:
    from pyproj import CRS

log = logging.getLogger(__name__)

_STANDARD_NAMES = {
    "X": ("projection_x_coordinate", "grid_longitude", "projection_x_angular_coordinate"),
    "Y": ("projection_y_coordinate", "grid_latitude", "projection_y_angular_coordinate"),
}
_NAMES = {"X": ("x", "rlon", "xc", "easting"), "Y": ("y", "rlat", "yc", "northing")}


def with_projected_cells(dataset: xr.Dataset, arrays: list[xr.DataArray]) -> xr.Dataset:
    """The dataset with centres and corners of the cells of variables that have a grid mapping.

    Centres are two-dimensional coordinates with bounds, as CF has them for curvilinear cells. A
    mapping that cannot be read is named in the log, and its variables stay without.

    Args:
        arrays: variables of the dataset without latitude and longitude.
    """
    seen: set[tuple[str, str, str]] = set()
    for array in arrays:
        for mapping in _mappings(array):
            y, x = _axis(array, "Y"), _axis(array, "X")
            if y is None or x is None or (mapping, str(y.name), str(x.name)) in seen:
                continue
            seen.add((mapping, str(y.name), str(x.name)))
            try:
                dataset = _assigned(dataset, mapping, y, x)
            except ClimdownError as error:
                where = dataset.encoding.get("source", "input")
                log.warning("%s: variable '%s': %s", where, array.name, error)
            break
    return dataset


def _mappings(array: xr.DataArray) -> Iterator[str]:
    """Names of grid mappings: "crs", or "crs: x y others: lat lon" in the extended form."""
    stated = str(array.attrs.get("grid_mapping") or array.encoding.get("grid_mapping") or "")
    words = stated.split()
    yield from (w.rstrip(":") for w in words if w.endswith(":") or ":" not in stated)


def _axis(array: xr.DataArray, letter: str) -> xr.DataArray | None:
    """The projected coordinate along one of the dimensions, by standard_name, axis or name."""
    axes = [array[d] for d in array.dims if d in array.coords and array[d].ndim == 1]
    numeric = [c for c in axes if np.issubdtype(c.dtype, np.number)]
    for fits in (
        [c for c in numeric if c.attrs.get("standard_name") in _STANDARD_NAMES[letter]],
        [c for c in numeric if c.attrs.get("axis") == letter],
        [c for c in numeric if str(c.name).lower() in _NAMES[letter]],
    ):
        if fits:
            return fits[0]
    return None


def _assigned(dataset: xr.Dataset, mapping: str, y: xr.DataArray, x: xr.DataArray) -> xr.Dataset:
    crs = _read_mapping(dataset, mapping)
    y_values, y_bounds = _projected(dataset, y, crs, mapping)
    x_values, x_bounds = _projected(dataset, x, crs, mapping)
    dims = (str(y.dims[0]), str(x.dims[0]))
    centres = _located(crs, *np.meshgrid(x_values, y_values))
    corners = None if x_bounds is None or y_bounds is None else _corners(crs, x_bounds, y_bounds)
    for name, units, place in (("lat", "degrees_north", 0), ("lon", "degrees_east", 1)):
        standard = {"lat": "latitude", "lon": "longitude"}[name]
        name = name if name not in dataset.variables else f"{name}_of_{mapping}"
        attributes = {"standard_name": standard, "units": units}
        if corners is not None:
            attributes["bounds"] = f"{name}_corners_of_{mapping}"
            corner_dims = (*dims, f"corners_of_{mapping}")
            dataset = dataset.assign({attributes["bounds"]: (corner_dims, corners[place])})
        dataset = dataset.assign_coords({name: (dims, centres[place], attributes)})
    return dataset


def _read_mapping(dataset: xr.Dataset, mapping: str) -> CRS:
    from pyproj import CRS
    from pyproj.exceptions import ProjError

    if mapping not in dataset.variables:
        raise InputError(f"its grid_mapping '{mapping}' is not in the file; add that variable")
    parameters = {str(k): _plain(v) for k, v in dataset[mapping].attrs.items()}
    try:
        return CRS.from_cf(parameters)
    except (ProjError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"its grid mapping '{mapping}' cannot be read ({reason}); expected the attributes "
            "that CF's appendix F asks for, or coordinates of latitude and longitude"
        ) from None


def _plain(value: Any) -> Any:
    """Attributes as plain numbers and lists."""
    return np.asarray(value).squeeze().tolist() if isinstance(value, np.ndarray) else value


def _projected(
    dataset: xr.Dataset, axis: xr.DataArray, crs: CRS, mapping: str
) -> tuple[Float64, Float64 | None]:
    """Centres, shape (n,), and bounds, shape (n, 2), in the units of the projection.

    Bounds are None for a single cell without any.
    """
    factor = _factor(axis, crs, dataset[mapping].attrs)
    name = axis.attrs.get("bounds") or axis.encoding.get("bounds") or f"{axis.name}_bnds"
    centres, index = ordered(factor * axis.values.astype(np.float64), circular=False)
    bounds = None
    if name in dataset.variables and dataset[name].shape == (axis.size, 2):
        bounds = factor * dataset[name].transpose(axis.dims[0], ...).values.astype(np.float64)
        bounds = bounds[index]
    elif axis.size == 1:
        return centres, None
    scale = float(np.median(np.diff(centres))) if axis.size > 1 else 1.0
    checked = checked_axis(str(axis.name), centres, bounds, scale=scale)
    if checked.problem is not None:
        log.warning("%s: %s", dataset.encoding.get("source", "input"), checked.problem)
    low_high = checked.bounds
    if low_high is None:
        edges = Grid.from_centres([0.0, 1.0], centres / scale / axis.size).lon_edges
        low_high = scale * axis.size * np.stack([edges[:-1], edges[1:]], axis=1)
    back = np.argsort(index)
    return centres[back], low_high[back]


def _factor(axis: xr.DataArray, crs: CRS, parameters: dict[str, Any]) -> float:
    """What turns values of an axis into metres, or degrees for a rotated pole."""
    units = str(axis.attrs.get("units", "")).strip()
    wanted = "degree" if crs.is_geographic else "m"
    height = parameters.get("perspective_point_height")
    if height is not None and units.lower().startswith("rad"):
        return float(height)  # angles of a geostationary view
    if not units or units.lower().startswith("degree"):
        units = wanted if not units else "degree"
    try:
        return float(convert_units(np.ones(1), units, wanted)[0])
    except ValueError:
        raise InputError(
            f"its axis '{axis.name}' is in '{units}'; expected units convertible to {wanted}, as "
            "its grid mapping has them"
        ) from None


def _corners(crs: CRS, x_bounds: Float64, y_bounds: Float64) -> tuple[Float64, Float64]:
    """Latitudes and longitudes of corners in order around each cell, shape (ny, nx, 4)."""
    # Corners that neighbours share are projected once.
    x, columns = np.unique(x_bounds, return_inverse=True)
    y, rows = np.unique(y_bounds, return_inverse=True)
    lat, lon = _located(crs, *np.meshgrid(x, y))
    columns, rows = columns.reshape(x_bounds.shape), rows.reshape(y_bounds.shape)
    around = rows[:, None, [0, 0, 1, 1]], columns[None, :, [0, 1, 1, 0]]
    return lat[around], lon[around]


def _located(crs: CRS, x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """Latitudes and longitudes on the projection's own ellipsoid; NaN off the Earth."""
    from pyproj import Transformer

    # A rotated pole is geographic itself, and derived from another.
    geographic = (crs.source_crs if crs.is_geographic else None) or crs.geodetic_crs
    place = Transformer.from_crs(crs, geographic, always_xy=True)
    lon, lat = (np.asarray(v, dtype=np.float64) for v in place.transform(x, y))
    off = ~(np.isfinite(lat) & np.isfinite(lon))
    lat[off] = lon[off] = np.nan
    return lat, lon
