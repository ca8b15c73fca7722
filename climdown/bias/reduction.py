"""Standardisation of samples by column and their reduction to leading EOFs, in NumPy or torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from ot.backend import get_backend

from climdown.bias.points import centred, check_points
from climdown.errors import ConfigError
from climdown.transforms import Array

# From points (k, d) to points (k, d).
Map = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Standardiser:
    """z = (x - mean) / std, column by column, with the reference's numbers for every sample.

    The same affine map for source and target leaves the bias between them to the transport.
    Columns that are constant in the reference, and have no least deviation, are only shifted.

    Attributes:
        mean, std: (d,).
    """

    mean: Array
    std: Array

    @classmethod
    def fit(cls, reference: Array, least: Array | None = None) -> Standardiser:
        """Take mean and standard deviation from the reference (n, d).

        Args:
            least: deviation below which no column's may lie, (d,): one that hardly varies would
                outweigh all others by the few days on which it does.

        Raises:
            InputError: the reference has a wrong shape, or is not finite.
        """
        check_points(reference, "reference")
        nx = get_backend(reference)
        mean, std = nx.mean(reference, axis=0), deviations(reference)
        if least is not None:
            std = nx.maximum(std, least)
        # Left undivided: rounding errors over a spread of rounding errors would be noise of unit
        # size.
        return cls(mean, nx.where(std > 0, std, nx.ones(std.shape, type_as=std)))

    def forward(self, x: Array) -> Array:
        """To units of the reference's standard deviations."""
        return (x - self.mean) / self.std

    def inverse(self, z: Array) -> Array:
        """Back to the columns' units."""
        return z * self.std + self.mean


def deviations(points: Array) -> Array:
    """Standard deviation of each column of points (n, d), exactly 0 where it is constant."""
    nx = get_backend(points)
    mean, std = nx.mean(points, axis=0), nx.std(points, axis=0)
    # A constant's mean may round to a neighbour of it.
    return nx.where(std <= 1e-6 * abs(mean), nx.zeros(std.shape, type_as=std), std)


@dataclass(frozen=True, eq=False)
class Reduction:
    """Leading EOFs of two samples: the space of the transport, and the way back to all columns.

    The part of a point outside the EOFs is kept and shifted by the samples' difference in mean:
    without it the variance of the small scales would be lost.

    Attributes:
        eofs: orthonormal rows (k, d), leading first.
        explained: their share of the variance.
        offset: the target's mean minus the source's, less its part among the EOFs, (d,).
    """

    eofs: Array
    explained: float
    offset: Array

    def reduce(self, points: Array) -> Array:
        """Coordinates (n, k) of points (n, d)."""
        return get_backend(points).dot(points, self.eofs.T)

    def lift(self, mapping: Map) -> Map:
        """A map of coordinates as a map of points, which it moves within the span of the EOFs."""

        def lifted(points: Array) -> Array:
            # x + V^T (T(V x) - V x) + offset with V the EOFs as rows: what lies outside them
            # passes through.
            reduced = self.reduce(points)
            step = get_backend(points).dot(mapping(reduced) - reduced, self.eofs)
            return points + step + self.offset

        return lifted


def leading_eofs(
    source: Array, target: Array, *, explained: float = 1.0, count: int | None = None
) -> Reduction:
    """Leading empirical orthogonal functions of both samples together.

    Each sample enters about its own mean and with equal weight, whatever its length.

    Args:
        source, target: samples (n, d) and (m, d).
        explained: keep as many as explain this share of the variance.
        count: keep so many instead.

    Raises:
        ConfigError: a share outside (0, 1], or a count outside 1 to d.
        InputError: samples of wrong shapes or types, or not finite.
    """
    check_points(source, "source")
    check_points(target, "target", like=source)
    columns = source.shape[1]
    if not 0 < explained <= 1:
        raise ConfigError(f"explained variance must lie in (0, 1], found {explained}")
    if count is not None and not 1 <= count <= columns:
        raise ConfigError(f"of {columns} columns there are 1 to {columns} EOFs, found {count}")
    nx = get_backend(source, target)
    # 1 / sqrt(n): the product is the covariance.
    roots = [x / len(x) ** 0.5 for x in (centred(source), centred(target))]
    # The sum of two covariances, each a mean over its own sample: equal weight for any n and m.
    values, vectors = nx.eigh(sum(nx.dot(root.T, root) for root in roots))
    # `eigh` ascends, EOFs are wanted leading first; rounding may leave variances below zero.
    variance = list(accumulate(max(float(value), 0.0) for value in nx.flip(values)))
    shares = [part / (variance[-1] or 1.0) for part in variance]
    if count is None:
        # The last share is 1 exactly, or the samples have no variance at all.
        count = 1 + sum(share < explained for share in shares[:-1])
    eofs = nx.flip(vectors, axis=1)[:, :count].T
    # The part of the mean difference along the EOFs is the transport's task; the rest, which no
    # map of coordinates reaches, is added as a constant.
    shift = nx.mean(target, axis=0) - nx.mean(source, axis=0)
    return Reduction(eofs, shares[count - 1], shift - nx.dot(nx.dot(eofs, shift), eofs))
