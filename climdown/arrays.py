"""Types of NumPy arrays, in one place: their precision is part of the name."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating]
"""Of either precision."""
Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Int64: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Index: TypeAlias = npt.NDArray[np.intp]
"""Positions along an axis."""
Dates: TypeAlias = npt.NDArray[np.object_]
"""Calendar-aware dates (cftime)."""
AnyArray: TypeAlias = npt.NDArray[Any]
