"""`weights()`: the choice of the backend, and caching in memory and on disk."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy.sparse as sp

from climdown.errors import ConfigError
from climdown.grid import Grid
from climdown.mesh import Mesh
from climdown.regrid import cache, esmf, points, polygons, rectilinear
from climdown.regrid.weights import METHODS, Cells, Method, Weights

log = logging.getLogger(__name__)

Backend = Literal["auto", "native", "xesmf"]


def weights(source: Cells, target: Grid, method: Method, *, backend: Backend = "auto") -> Weights:
    """Weights from `source` to `target`, kept in memory and, where slow to build, on disk.

    Args:
        backend: "native" needs nothing but this package; "xesmf" needs esmpy; "auto" is native
            except for bilinear from curvilinear cells where esmpy is installed: ESMF interpolates
            in their quadrilaterals, native in triangles. Conservative is exact and faster native.

    Raises:
        ConfigError: an unknown method or backend, or esmpy is missing.
        GridError: cells that the method cannot take.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown regridding method '{method}'; expected {', '.join(METHODS)}")
    if backend not in ("auto", "native", "xesmf"):
        raise ConfigError(f"unknown backend '{backend}'; expected auto, native or xesmf")
    for cells in (source, target):
        if isinstance(cells, Grid):
            cells.refuse_point()
    return _cached(_Key(source, target, method, choose_backend(source, method, backend)))


def choose_backend(source: Cells, method: Method, backend: Backend) -> Literal["native", "xesmf"]:
    """The backend that is used; "auto" is resolved."""
    if backend != "auto":
        return backend
    along_axes = isinstance(source, Grid) or source.along_axes
    if along_axes or method != "bilinear" or not esmf.esmf_knows(source, method):
        return "native"
    return "xesmf" if esmf.esmf_available() else "native"


class _Key:
    """Arguments of a cached call, compared by the digests of the cells."""

    def __init__(
        self, source: Cells, target: Grid, method: Method, backend: Literal["native", "xesmf"]
    ) -> None:
        self.source, self.target, self.method, self.backend = source, target, method, backend
        self.identity = (source.digest, target.digest, method, backend)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)


@lru_cache(maxsize=32)
def _cached(key: _Key) -> Weights:
    if isinstance(key.source, Grid) and key.backend == "native":
        # Built faster than a file is read.
        matrix = rectilinear.rectilinear_weights(key.source, key.target, key.method)
        return Weights(matrix, key.source, key.target, key.method)
    shape = (int(np.prod(key.target.shape)), int(np.prod(key.source.shape)))
    path = cache.weights_path(*key.identity)
    matrix = cache.read_weights(path, shape)
    if matrix is None:
        log.info("building %s weights (%s), kept in %s", key.method, key.backend, path.parent)
        matrix = _build(key)
        cache.write_weights(path, matrix)
    return Weights(matrix, key.source, key.target, key.method)


def _build(key: _Key) -> sp.csr_array:
    if key.backend == "xesmf":
        matrix = esmf.esmf_weights(key.source, key.target, key.method)
        return _within_reach(key, matrix) if key.method == "nearest" else matrix
    assert isinstance(key.source, Mesh)
    if key.source.along_axes:
        return rectilinear.rectangle_weights(key.source, key.target, key.method)
    build = {
        "conservative": polygons.conservative_weights,
        "bilinear": points.linear_weights,
        "nearest": points.nearest_weights,
    }
    return build[key.method](key.source, key.target)


def _within_reach(key: _Key, matrix: sp.csr_array) -> sp.csr_array:
    """ESMF takes the nearest cell however far it is: keep the targets that native weights reach."""
    if isinstance(key.source, Grid):
        near = rectilinear.rectilinear_weights(key.source, key.target, "nearest")
    else:
        near = points.nearest_weights(key.source, key.target)
    reached = np.asarray(near.sum(axis=1)) > 0
    return sp.csr_array(sp.diags_array(reached.astype(np.float64)) @ matrix)
