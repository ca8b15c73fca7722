"""Sparse weights: a linear map from fields on one set of cells to fields on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import scipy.sparse as sp

from climdown.arrays import Float64, Floats
from climdown.errors import GridError
from climdown.grid import Grid
from climdown.mesh import Mesh

Method = Literal["conservative", "bilinear", "nearest"]
METHODS: tuple[Method, ...] = get_args(Method)
Cells = Grid | Mesh


@dataclass(frozen=True, eq=False)
class Weights:
    """A linear map from fields on `source` to fields on `target`.

    Attributes:
        matrix: sparse, shape (target cells, source cells), both in C order. A conservative row
            sums to the fraction of its cell that the source covers; rows of the other methods
            sum to 1, or to 0 outside the source.
    """

    matrix: sp.csr_array
    source: Cells
    target: Grid
    method: Method

    @cached_property
    def coverage(self) -> Float64:
        """Fraction of each target cell that the source covers, shape (ny, nx)."""
        # Summed in the order of `apply`, so that a field's result does not depend on whether other
        # fields of the stack have missing values.
        return np.asarray(self.matrix @ np.ones(self.matrix.shape[1])).reshape(self.target.shape)

    def apply(self, values: Floats, *, min_coverage: float = 1e-6) -> Floats:
        """Regrid fields, ignoring missing values and renormalising by what is left.

        Args:
            values: shape (..., *source.shape); NaN is missing.
            min_coverage: target cells of which a smaller fraction is covered by valid source
                cells become NaN.

        Returns:
            shape (..., ny', nx') on the target grid, the same floating type.

        Raises:
            GridError: the values have another shape than the source.
        """
        shape = self.source.shape
        if values.shape[values.ndim - len(shape) :] != shape:
            raise GridError(
                f"field has {values.shape[-len(shape) :]} cells, the weights expect {shape}"
            )
        columns = np.asarray(values, dtype=np.float64).reshape(-1, self.matrix.shape[1]).T
        if isinstance(self.source, Mesh):
            columns = self.source.filled_copies(columns)
        valid = np.isfinite(columns)
        total = self.matrix @ np.where(valid, columns, 0.0)
        if valid.all():
            weight = np.broadcast_to(self.coverage.reshape(-1, 1), total.shape)
        else:
            weight = self.matrix @ valid.astype(np.float64)
        # The weights of a fully covered cell may fall short of 1 by a rounding error.
        covered = weight >= min_coverage * (1.0 - 1e-6)
        result = np.where(covered, total / np.where(covered, weight, 1.0), np.nan)
        leading = values.shape[: values.ndim - len(shape)]
        return result.T.reshape(*leading, *self.target.shape).astype(values.dtype)
