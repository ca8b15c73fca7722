"""Regridding by sparse weights, from cells of any shape to rectilinear grids.

Between rectilinear grids weights are exact products of two small per-axis matrices; overlaps of
cells of other shapes are exact integrals along their edges, or those of ESMF where it is asked
for. Everything after the weights is shared.
"""

from climdown.regrid.build import Backend, choose_backend, weights
from climdown.regrid.rectilinear import axis_weights
from climdown.regrid.weights import METHODS, Cells, Method, Weights

__all__ = [
    "METHODS",
    "Backend",
    "Cells",
    "Method",
    "Weights",
    "axis_weights",
    "choose_backend",
    "weights",
]
