"""Rectilinear grids on the sphere, with exact cell areas."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from climdown.arrays import Float64
from climdown.errors import GridError

# The former name, which `training` still imports.

# Coordinates written as float32 carry errors of some 1e-5 degrees.
_TOLERANCE = 1e-4
# Files give the place of one station with two decimals or more.
_SAME_PLACE = 0.0101  # degrees
_KM_PER_DEGREE = 111.195


@dataclass(frozen=True, eq=False)
class Grid:
    """A rectilinear latitude-longitude grid of contiguous cells.

    Attributes:
        lat: cell centres, degrees north, strictly ascending, shape (ny,).
        lon: cell centres, degrees east, strictly ascending, shape (nx,); any 360-degree
            convention; longitudes of regions across its seam continue past it (350, 360, 370).
        lat_edges: cell edges, shape (ny + 1,), within [-90, 90].
        lon_edges: cell edges, shape (nx + 1,), spanning at most 360 degrees.
        point: whether it is but one place, from `Grid.at`, whose edges say nothing.

    Build one with `Grid.from_centres` or `Grid.regular`, which check and complete the axes.

    Raises:
        GridError: an axis is empty, not finite, not ascending, or edges miss their centres.
    """

    lat: Float64
    lon: Float64
    lat_edges: Float64
    lon_edges: Float64
    point: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for name, centres, edges in (
            ("latitude", self.lat, self.lat_edges),
            ("longitude", self.lon, self.lon_edges),
        ):
            _check_axis(name, centres, edges)
        if self.lat_edges[0] < -90 - _TOLERANCE or self.lat_edges[-1] > 90 + _TOLERANCE:
            raise GridError(
                f"latitude runs from {self.lat_edges[0]:g} to {self.lat_edges[-1]:g}; "
                "expected values within -90 and 90 degrees"
            )
        if self.lon_edges[-1] - self.lon_edges[0] > 360 + _TOLERANCE:
            raise GridError(
                f"longitude cells span {self.lon_edges[-1] - self.lon_edges[0]:g} degrees; "
                "expected at most 360: remove the repeated columns"
            )

    @classmethod
    def from_centres(
        cls,
        lat: npt.ArrayLike,
        lon: npt.ArrayLike,
        *,
        lat_edges: npt.ArrayLike | None = None,
        lon_edges: npt.ArrayLike | None = None,
    ) -> Grid:
        """Build a grid from ascending cell centres; missing edges lie midway between centres.

        The outermost inferred edges lie half a cell out, latitudes clipped at the poles
        (bounds beyond a pole, given or inferred, silently corrupt polar rows otherwise).
        A longitude axis that closes the circle gets edges exactly 360 degrees apart, and
        inferred latitude edges that stop just short of a pole then reach it: the last cell
        of a Gaussian grid is more than half a spacing high.
        """
        lat_centres, lon_centres = _as_axis("latitude", lat), _as_axis("longitude", lon)
        y_edges = _infer_edges(lat_centres) if lat_edges is None else _as_axis("lat", lat_edges)
        x_edges = _infer_edges(lon_centres) if lon_edges is None else _as_axis("lon", lon_edges)
        y_edges = np.clip(y_edges, -90.0, 90.0)
        if abs(x_edges[-1] - x_edges[0] - 360.0) < 0.01:
            x_edges[-1] = x_edges[0] + 360.0
            if lat_edges is None:
                _close_poles(lat_centres, y_edges)
        return cls(lat_centres, lon_centres, y_edges, x_edges)

    @classmethod
    def regular(cls, south: float, north: float, west: float, east: float, spacing: float) -> Grid:
        """Cells of `spacing` degrees that fill the box given by its outer edges.

        The box grows to the north and east to hold whole cells; at the north pole and at a
        full circle the last cell is cut instead.
        """
        if not (spacing > 0 and north > south and east > west):
            raise GridError(
                f"cannot make a grid of {spacing:g} degrees over latitudes {south:g}..{north:g}, "
                f"longitudes {west:g}..{east:g}: need spacing > 0, north > south, east > west"
            )
        y_edges = _regular_edges(south, north, spacing, limit=90.0)
        x_edges = _regular_edges(west, east, spacing, limit=west + 360.0)
        return cls(_midpoints(y_edges), _midpoints(x_edges), y_edges, x_edges)

    @classmethod
    def at(cls, lat: float, lon: float) -> Grid:
        """One place without a cell, such as a station."""
        places = np.array([lat], np.float64), np.array([lon], np.float64)
        south, west = max(lat - _SAME_PLACE, -90.0), lon - _SAME_PLACE
        north, east = min(lat + _SAME_PLACE, 90.0), lon + _SAME_PLACE
        return cls(*places, np.array([south, north]), np.array([west, east]), point=True)

    def is_at(self, other: Grid) -> bool:
        """Whether two points are one place, some hundred metres apart at most."""
        east = (self.lon[0] - other.lon[0] + 180.0) % 360.0 - 180.0
        apart = max(abs(self.lat[0] - other.lat[0]), abs(east))
        return self.point and other.point and bool(apart <= _SAME_PLACE)

    @property
    def shape(self) -> tuple[int, int]:
        """(number of latitudes, number of longitudes)."""
        return self.lat.size, self.lon.size

    @property
    def periodic(self) -> bool:
        """Whether the longitudes close the circle."""
        return bool(self.lon_edges[-1] - self.lon_edges[0] > 360.0 - _TOLERANCE)

    @property
    def spacing(self) -> float:
        """Median cell size along both axes, degrees: the coarser of the two."""
        return float(max(np.median(np.diff(self.lat_edges)), np.median(np.diff(self.lon_edges))))

    @property
    def kilometres(self) -> float:
        """Side of a square as large as a mean cell at the mean latitude, in km."""
        degrees = np.diff(self.lat_edges).mean() * np.diff(self.lon_edges).mean()
        return _KM_PER_DEGREE * float(np.sqrt(degrees * np.cos(np.radians(self.lat.mean()))))

    @cached_property
    def areas(self) -> Float64:
        """Cell areas on the unit sphere, steradian, shape (ny, nx)."""
        heights = np.diff(np.sin(np.radians(self.lat_edges)))
        widths = np.diff(np.radians(self.lon_edges))
        return np.asarray(heights[:, None] * widths[None, :], dtype=np.float64)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the edges rounded to 1e-6 degree: equal for equal grids."""
        digest = hashlib.sha256()
        for axis in (self.lat, self.lon, self.lat_edges, self.lon_edges):
            digest.update(np.round(axis * 1e6).astype("<i8").tobytes())
        return digest.hexdigest()

    def matches(self, other: Grid) -> bool:
        """Whether two grids are one but for the rounding of stored coordinates.

        Longitudes may be a whole circle apart: -10 and 350 are one place.
        """
        if self.shape != other.shape:
            return False
        turn = 360.0 * np.round((self.lon[0] - other.lon[0]) / 360.0)
        return all(
            np.allclose(one, two, rtol=0.0, atol=_TOLERANCE)
            for one, two in (
                (self.lat, other.lat),
                (self.lat_edges, other.lat_edges),
                (self.lon, other.lon + turn),
                (self.lon_edges, other.lon_edges + turn),
            )
        )

    def isel(self, rows: slice, columns: slice) -> Grid:
        """The sub-grid of contiguous rows and columns."""

        def edges(axis: Float64, part: slice) -> Float64:
            start, stop, step = part.indices(axis.size - 1)
            if step != 1 or stop <= start:
                raise GridError(f"cannot take cells {start}:{stop}:{step} of a grid axis")
            return axis[start : stop + 1]

        y_edges, x_edges = edges(self.lat_edges, rows), edges(self.lon_edges, columns)
        return Grid(self.lat[rows], self.lon[columns], y_edges, x_edges, point=self.point)

    def coarsen(self, factor: int) -> Grid:
        """Cells of `factor` x `factor` cells; odd last rows and columns are dropped."""
        if factor < 1 or factor > min(self.shape):
            raise GridError(f"cannot coarsen a grid of {self.shape} cells by a factor {factor}")
        ny, nx = self.lat.size // factor, self.lon.size // factor
        y_edges = self.lat_edges[: ny * factor + 1 : factor]
        x_edges = self.lon_edges[: nx * factor + 1 : factor]
        return Grid(_midpoints(y_edges), _midpoints(x_edges), y_edges, x_edges)

    def grouped(self, factor: int) -> Grid:
        """Cells of `factor` x `factor` cells; last ones of half as many stay, smaller ones go."""
        lat = _every(self.lat_edges, factor, closed=False)
        lon = _every(self.lon_edges, factor, closed=self.periodic)
        return Grid(_midpoints(lat), _midpoints(lon), lat, lon)

    def refuse_point(self) -> None:
        """Check that there are cells.

        Raises:
            GridError: it is but a point.
        """
        if self.point:
            raise GridError(
                "cannot infer the size of a single cell; the file needs coordinate bounds"
            )

    def describe(self) -> str:
        """One line for people: size, spacing and extent."""
        if self.point:
            return f"one point, {_place(self.lat[0], 'N', 'S')}, {_place(self.lon[0], 'E', 'W')}"
        ny, nx = self.shape
        extent = "global longitudes" if self.periodic else span(self.lon_edges, "E", "W")
        latitudes = span(self.lat_edges, "N", "S")
        return f"{ny} x {nx} cells of {self.spacing:.3g} deg, {latitudes}, {extent}"

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists of the four axes, rounded to 1e-9 degree, for a card."""
        return {
            name: np.round(getattr(self, name), 9).tolist()
            for name in ("lat", "lon", "lat_edges", "lon_edges")
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Grid:
        """The inverse of `to_dict`."""
        try:
            axes = [_as_axis(k, entry[k]) for k in ("lat", "lon", "lat_edges", "lon_edges")]
        except KeyError as error:
            raise GridError(f"grid description lacks the axis {error}") from None
        return cls(*axes)


def _as_axis(name: str, values: npt.ArrayLike) -> Float64:
    try:
        axis = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise GridError(f"{name} axis does not hold numbers") from None
    if axis.ndim != 1 or axis.size == 0:
        raise GridError(f"{name} axis has shape {axis.shape}; expected one dimension")
    if not np.isfinite(axis).all():
        raise GridError(f"{name} axis has values that are not finite")
    return axis


def _check_axis(name: str, centres: Float64, edges: Float64) -> None:
    if edges.size != centres.size + 1:
        raise GridError(f"{name} has {centres.size} cells but {edges.size} edges")
    if (np.diff(centres) <= 0).any() or (np.diff(edges) <= 0).any():
        raise GridError(f"{name} is not strictly ascending")
    if (centres < edges[:-1] - _TOLERANCE).any() or (centres > edges[1:] + _TOLERANCE).any():
        raise GridError(f"{name} has cell centres outside their bounds")


def _infer_edges(centres: Float64) -> Float64:
    if centres.size == 1:
        raise GridError("cannot infer the size of a single cell; the file needs coordinate bounds")
    inner = _midpoints(centres)
    first = centres[0] - (inner[0] - centres[0])
    last = centres[-1] + (centres[-1] - inner[-1])
    return np.concatenate([[first], inner, [last]])


def _close_poles(centres: Float64, edges: Float64) -> None:
    """Move the outermost edges to a pole that is nearer than half a cell, in place."""
    for end, pole in ((0, -90.0), (-1, 90.0)):
        if abs(pole - edges[end]) < abs(edges[end] - centres[end]) - _TOLERANCE:
            edges[end] = pole


def _midpoints(values: Float64) -> Float64:
    return 0.5 * (values[:-1] + values[1:])


def _regular_edges(start: float, stop: float, spacing: float, *, limit: float) -> Float64:
    count = int(np.ceil((stop - start) / spacing - 1e-9))
    edges = start + spacing * np.arange(count + 1)
    edges[-1] = min(edges[-1], limit)
    return np.asarray(edges, dtype=np.float64)


def _every(edges: Float64, factor: int, *, closed: bool) -> Float64:
    kept, rest = edges[::factor], (edges.size - 1) % factor
    if rest and (closed or 2 * rest >= factor or kept.size == 1):
        kept = np.append(kept, edges[-1])
    return kept


def span(edges: Sequence[float] | Float64, positive: str, negative: str) -> str:
    first, last = (_place(edges[end], positive, negative) for end in (0, -1))
    return f"{first}..{last}"


def _place(value: float, positive: str, negative: str) -> str:
    return f"{abs(value):.4g}{positive if value >= 0 else negative}"
