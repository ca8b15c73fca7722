"""Regridding between rectilinear grids by sparse weights, exact on the sphere.

On rectilinear grids the overlap of two cells is the product of an overlap in sin(latitude)
and one in longitude, so conservative weights are an outer product of two small per-axis
matrices: exact, and built in milliseconds. Grids of other kinds need another *backend*: a
function from (source, target, method) to `Weights`; everything after that is shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from climdown.errors import GridError
from climdown.grid import FloatArray, Grid

Method = Literal["conservative", "bilinear"]


@dataclass(frozen=True, eq=False)
class Weights:
    """A linear map from fields on `source` to fields on `target`.

    Attributes:
        matrix: sparse, shape (target cells, source cells), rows in C order of (lat, lon).
            A conservative row sums to the fraction of its cell that the source covers; a
            bilinear row sums to 1, or to 0 outside the source.
    """

    matrix: sp.csr_array
    source: Grid
    target: Grid
    method: Method

    @property
    def coverage(self) -> FloatArray:
        """Fraction of each target cell that the source grid covers, shape (ny, nx)."""
        # The order of summation of `apply`: a step's values never depend on its neighbours'.
        return np.asarray(self.matrix @ np.ones(self.matrix.shape[1])).reshape(self.target.shape)

    def apply(
        self, values: npt.NDArray[np.floating], *, min_coverage: float = 1e-6
    ) -> npt.NDArray[np.floating]:
        """Regrid fields, ignoring missing values and renormalising by what is left.

        Args:
            values: shape (..., ny, nx) on the source grid; NaN is missing.
            min_coverage: target cells of which a smaller fraction is covered by valid source
                cells become NaN.

        Returns:
            shape (..., ny', nx') on the target grid, the same floating type.
        """
        if values.shape[-2:] != self.source.shape:
            raise GridError(
                f"field has {values.shape[-2:]} cells, the weights expect {self.source.shape}"
            )
        columns = np.asarray(values, dtype=np.float64).reshape(-1, self.matrix.shape[1]).T
        valid = np.isfinite(columns)
        total = self.matrix @ np.where(valid, columns, 0.0)
        if valid.all():
            weight = np.broadcast_to(self.coverage.reshape(-1, 1), total.shape)
        else:
            weight = self.matrix @ valid.astype(np.float64)
        kept = weight >= min_coverage
        result = np.where(kept, total / np.where(kept, weight, 1.0), np.nan)
        return result.T.reshape(*values.shape[:-2], *self.target.shape).astype(values.dtype)


Backend = Callable[[Grid, Grid, Method], Weights]


def axis_weights(source: Grid, target: Grid, method: Method) -> tuple[FloatArray, FloatArray]:
    """The per-axis factors of the weights: dense (ny', ny) in latitude and (nx', nx) in longitude.

    For "conservative", row i of a factor holds the fraction of target interval i that falls
    into each source interval (in sin(latitude), or in longitude modulo 360). For "bilinear",
    linear interpolation between centres, constant within the outermost half cells.
    """
    if method == "conservative":
        return (
            _overlap_fractions(_sin(source.lat_edges), _sin(target.lat_edges)),
            _periodic_overlap_fractions(source.lon_edges, target.lon_edges),
        )
    if method == "bilinear":
        return (
            _linear(source.lat, source.lat_edges, target.lat),
            _linear_longitude(source, target.lon),
        )
    raise GridError(f"unknown regridding method '{method}'; expected conservative or bilinear")


def native_weights(source: Grid, target: Grid, method: Method) -> Weights:
    """Exact weights between two rectilinear grids (the native backend)."""
    lat, lon = axis_weights(source, target, method)
    matrix = sp.kron(sp.csr_array(lat), sp.csr_array(lon), format="csr")
    if method == "bilinear" and source.periodic:
        matrix = matrix + _polar_correction(source, target, lon)
    return Weights(sp.csr_array(matrix), source, target, method)


def weights(
    source: Grid, target: Grid, method: Method, *, backend: Backend = native_weights
) -> Weights:
    """Weights from `source` to `target`, kept in memory under the hash of both grids."""
    return _cached(_Key(source, target, method, backend))


@dataclass(frozen=True, eq=False)
class _Key:
    source: Grid
    target: Grid
    method: Method
    backend: Backend

    def _identity(self) -> tuple[object, ...]:
        return self.source.digest, self.target.digest, self.method, self.backend

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())


@lru_cache(maxsize=32)
def _cached(key: _Key) -> Weights:
    return key.backend(key.source, key.target, key.method)


def _sin(degrees: FloatArray) -> FloatArray:
    return np.asarray(np.sin(np.radians(degrees)), dtype=np.float64)


def _overlap_fractions(source_edges: FloatArray, target_edges: FloatArray) -> FloatArray:
    low = np.maximum(target_edges[:-1, None], source_edges[None, :-1])
    high = np.minimum(target_edges[1:, None], source_edges[None, 1:])
    return np.asarray(np.clip(high - low, 0.0, None) / np.diff(target_edges)[:, None])


def _periodic_overlap_fractions(source_edges: FloatArray, target_edges: FloatArray) -> FloatArray:
    # Shift the target by whole circles so that every convention meets every other.
    first = int(np.floor((source_edges[0] - target_edges[-1]) / 360.0))
    last = int(np.ceil((source_edges[-1] - target_edges[0]) / 360.0))
    turns = range(first, last + 1)
    parts = [_overlap_fractions(source_edges, target_edges + 360.0 * k) for k in turns]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def _linear(centres: FloatArray, edges: FloatArray, points: FloatArray) -> FloatArray:
    """Rows of linear interpolation weights; zero rows for points outside the edges."""
    matrix = np.zeros((points.size, centres.size))
    inside = (points >= edges[0] - 1e-9) & (points <= edges[-1] + 1e-9)
    rows = np.flatnonzero(inside)
    if centres.size == 1:
        matrix[rows, 0] = 1.0
        return matrix
    position = np.clip(points[rows], centres[0], centres[-1])
    left = np.clip(np.searchsorted(centres, position, side="right") - 1, 0, centres.size - 2)
    fraction = (position - centres[left]) / (centres[left + 1] - centres[left])
    matrix[rows, left] = 1.0 - fraction
    matrix[rows, left + 1] = fraction
    return matrix


def _linear_longitude(source: Grid, points: FloatArray) -> FloatArray:
    """Interpolation weights in longitude; a periodic source is extended across its seam."""
    base = source.lon_edges[0]
    wrapped = base + np.mod(points - base, 360.0)
    if not source.periodic:
        # A point a rounding error west of the first edge must not wrap to the far east.
        wrapped = np.where(wrapped - base > 360.0 - 1e-6, wrapped - 360.0, wrapped)
        return _linear(source.lon, source.lon_edges, wrapped)
    size = source.lon.size
    extended = np.concatenate([[source.lon[-1] - 360.0], source.lon, [source.lon[0] + 360.0]])
    open_ended = np.array([extended[0], extended[-1]])
    matrix = _linear(extended, open_ended, wrapped)
    matrix[:, size] += matrix[:, 0]
    matrix[:, 1] += matrix[:, -1]
    return matrix[:, 1:-1]


def _polar_correction(source: Grid, target: Grid, lon: FloatArray) -> sp.csr_array:
    """Between the last row and the pole, interpolate towards the row's zonal mean.

    The value at a pole is one value; the zonal mean of the nearest row is its best estimate,
    where constant continuation would draw a fan of wedges. Returned as a difference to it.
    """
    towards_pole = np.zeros((target.lat.size, source.lat.size))
    for row, pole in ((0, -90.0), (source.lat.size - 1, 90.0)):
        gap = pole - source.lat[row]
        reaches_pole = abs(pole - source.lat_edges[0 if row == 0 else -1]) < 1e-6
        if abs(gap) > 1e-9 and reaches_pole:
            towards_pole[:, row] = np.clip((target.lat - source.lat[row]) / gap, 0.0, 1.0)
    zonal_mean = np.full_like(lon, 1.0 / source.lon.size)
    return sp.csr_array(sp.kron(sp.csr_array(towards_pole), sp.csr_array(zonal_mean - lon)))
