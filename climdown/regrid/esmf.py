"""Weights by ESMF, through xESMF, where esmpy is installed (from conda; pip cannot install it)."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import scipy.sparse as sp
import xarray as xr
from cf_xarray.helpers import bounds_to_vertices

from climdown.arrays import Float64
from climdown.errors import ConfigError, GridError
from climdown.grid import Grid
from climdown.mesh import Mesh
from climdown.regrid.weights import Cells, Method

_ESMF_METHODS: dict[Method, str] = {
    # Normalisation by the covered area is ours, in `Weights.apply`: it counts missing values.
    "conservative": "conservative",
    "bilinear": "bilinear",
    "nearest": "nearest_s2d",
}


def esmf_available() -> bool:
    """Whether xESMF and esmpy can be imported."""
    return _problem() is None


@lru_cache(maxsize=1)
def _problem() -> str | None:
    """Why xESMF cannot be imported; None if it can."""
    try:
        # A broken ESMF shows only here: its library missing, or ESMFMKFILE unset.
        import xesmf  # noqa: F401
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def esmf_knows(source: Cells, method: Method) -> bool:
    """Whether ESMF, as xESMF drives it, takes these cells."""
    if isinstance(source, Grid):
        return True
    if not np.isfinite(source.lat).all():
        return False
    if source.lat.ndim == 1:
        return method == "nearest"
    return method != "conservative" or _corner_nodes(source) is not None


def esmf_weights(source: Cells, target: Grid, method: Method) -> sp.csr_array:
    """ESMF's weights, shape (target cells, source cells).

    Cell corners are always given, clipped at the poles: those that xESMF infers lie beyond
    them and corrupt polar rows without an error.

    Raises:
        ConfigError: esmpy is not installed, or broken.
        GridError: cells that ESMF cannot take.
    """
    problem = _problem()
    if problem is not None:
        raise ConfigError(
            f"the xesmf backend needs esmpy, which pip cannot install ({problem}): take it from "
            "conda-forge (environment.yml), or use --backend native"
        )
    if not esmf_knows(source, method):
        raise GridError(
            f"ESMF cannot take these cells for the method {method} ({source.describe()}): it "
            "needs curvilinear cells that share their corners, without holes and repeated "
            "columns; use --backend native"
        )
    import xesmf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the latitudes' shape and the like, all set by us
        regridder = xesmf.Regridder(
            _dataset(source, method),
            _dataset(target, method),
            _ESMF_METHODS[method],
            periodic=_closes_circle(source) and method != "conservative",
            ignore_degenerate=True,
            locstream_in=source.lat.ndim == 1 and isinstance(source, Mesh),
        )
    matrix = regridder.weights.data
    return sp.csr_array((matrix.data, matrix.coords), shape=matrix.shape)


def _dataset(cells: Cells, method: Method) -> xr.Dataset:
    """Coordinates under the names xESMF looks for."""
    if isinstance(cells, Grid):
        axes: dict[str, tuple[tuple[str, ...], Float64]] = {
            "lat": (("lat",), cells.lat),
            "lon": (("lon",), cells.lon),
            "lat_b": (("lat_b",), np.clip(cells.lat_edges, -90.0, 90.0)),
            "lon_b": (("lon_b",), cells.lon_edges),
        }
        return xr.Dataset(coords=axes)
    if cells.lat.ndim == 1:
        return xr.Dataset(coords={"lat": (("loc",), cells.lat), "lon": (("loc",), cells.lon)})
    data = {"lat": (("y", "x"), cells.lat), "lon": (("y", "x"), cells.lon)}
    nodes = _corner_nodes(cells) if method == "conservative" else None
    if nodes is not None:
        data["lat_b"] = (("y_b", "x_b"), np.clip(nodes[0], -90.0, 90.0))
        data["lon_b"] = (("y_b", "x_b"), nodes[1])
    return xr.Dataset(coords=data)


def _closes_circle(cells: Cells) -> bool:
    if isinstance(cells, Grid):
        return cells.periodic
    return cells.lat.ndim == 2 and cells.box[3] - cells.box[2] >= 360.0


def _corner_nodes(mesh: Mesh) -> tuple[Float64, Float64] | None:
    """Corners as a lattice of shape (ny + 1, nx + 1); None where cells do not share them."""
    if mesh.lat_vertices is None or mesh.lon_vertices is None or mesh.lat.ndim != 2:
        return None
    if mesh.lat_vertices.shape[-1] != 4 or not (mesh.valid & (mesh.copies == 1)).all():
        return None
    nodes = []
    for values in (mesh.lat_vertices, mesh.lon_vertices):
        bounds = xr.DataArray(values, dims=("y", "x", "corner"))
        lattice = bounds_to_vertices(bounds, "corner", order=None)
        nodes.append(np.asarray(lattice.values, dtype=np.float64))
    rebuilt = np.stack([nodes[0][:-1, :-1], nodes[0][1:, 1:]])
    low, high = mesh.lat_vertices.min(axis=-1), mesh.lat_vertices.max(axis=-1)
    if (rebuilt < low - 1e-3).any() or (rebuilt > high + 1e-3).any():
        return None
    return nodes[0], nodes[1]
