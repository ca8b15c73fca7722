"""Invertible pointwise maps from physical units to normalised ones, chained and serialised.

The same code serves NumPy arrays and torch tensors: the caller passes the array namespace
(`numpy` or `torch`), so that sampling can differentiate through an inverse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from climdown.arrays import Float64
from climdown.errors import ConfigError

# An array of NumPy or of torch: what the two share has no common static type.
Array = Any


class Transform(Protocol):
    """An invertible map, applied cell by cell."""

    kind: ClassVar[str]

    def forward(self, x: Array, xp: Any = np) -> Array:
        """From physical (or less transformed) to normalised values."""

    def inverse(self, z: Array, xp: Any = np) -> Array:
        """The inverse of `forward`."""

    def to_dict(self) -> dict[str, Any]:
        """Parameters for a card; fields are stored elsewhere and named here."""


@dataclass(frozen=True)
class Log:
    """z = log(x + offset) - log(offset) for amounts with a lower bound of zero.

    Below the offset, in the variable's units, the map is nearly linear, above it logarithmic (form
    of Hess et al., arXiv 2403.02774).
    """

    offset: float
    kind: ClassVar[str] = "log"

    def __post_init__(self) -> None:
        if not self.offset > 0:
            raise ConfigError(f"log transform needs an offset > 0, found {self.offset}")

    def forward(self, x: Array, xp: Any = np) -> Array:
        return xp.log1p(xp.clip(x, 0.0, None) / self.offset)

    def inverse(self, z: Array, xp: Any = np) -> Array:
        return self.offset * xp.expm1(z)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "offset": self.offset}


@dataclass(frozen=True)
class Standardise:
    """z = (x - mean) / std with one mean and one std for the whole domain."""

    mean: float
    std: float
    kind: ClassVar[str] = "standardise"

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ConfigError(f"standardise needs std > 0, found {self.std}")

    def forward(self, x: Array, xp: Any = np) -> Array:
        return (x - self.mean) / self.std

    def inverse(self, z: Array, xp: Any = np) -> Array:
        return z * self.std + self.mean

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "mean": self.mean, "std": self.std}


@dataclass(frozen=True, eq=False)
class Anomaly:
    """z = x - climatology, with a field of shape (ny, nx); cells without one are NaN there.

    The climatology is stored with a prior's fields under `field`.
    """

    climatology: Float64
    field: str
    kind: ClassVar[str] = "anomaly"

    def forward(self, x: Array, xp: Any = np) -> Array:
        return x - self._like(x, xp)

    def inverse(self, z: Array, xp: Any = np) -> Array:
        return z + self._like(z, xp)

    def _like(self, x: Array, xp: Any) -> Array:
        return xp.asarray(self.climatology, dtype=x.dtype, device=x.device)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "field": self.field}


@dataclass(frozen=True)
class Chain:
    """Transforms applied one after the other; `inverse` undoes them in reverse."""

    steps: tuple[Transform, ...]

    def forward(self, x: Array, xp: Any = np) -> Array:
        for step in self.steps:
            x = step.forward(x, xp)
        return x

    def inverse(self, z: Array, xp: Any = np) -> Array:
        for step in reversed(self.steps):
            z = step.inverse(z, xp)
        return z

    def without_fields(self) -> Chain:
        """The same chain less its anomaly steps: usable on any grid, for differences."""
        return Chain(tuple(step for step in self.steps if not isinstance(step, Anomaly)))

    def to_list(self) -> list[dict[str, Any]]:
        """Serialised steps, for a card."""
        return [step.to_dict() for step in self.steps]

    @classmethod
    def from_list(
        cls, entries: Sequence[Mapping[str, Any]], fields: Mapping[str, Float64]
    ) -> Chain:
        """Rebuild a chain; `fields` holds the climatologies its steps name."""
        return cls(tuple(_build(entry, fields) for entry in entries))


def _build(entry: Mapping[str, Any], fields: Mapping[str, Float64]) -> Transform:
    parameters = dict(entry)
    kind = parameters.pop("kind", None)
    try:
        if kind == Log.kind:
            return Log(offset=float(parameters["offset"]))
        if kind == Standardise.kind:
            return Standardise(mean=float(parameters["mean"]), std=float(parameters["std"]))
        if kind == Anomaly.kind:
            name = str(parameters["field"])
            return Anomaly(climatology=fields[name], field=name)
    except KeyError as error:
        raise ConfigError(f"transform '{kind}' lacks {error}") from None
    except (TypeError, ValueError):
        raise ConfigError(f"transform '{kind}' has parameters that are not numbers") from None
    raise ConfigError(f"unknown transform {str(kind)!r}; expected log, standardise or anomaly")
