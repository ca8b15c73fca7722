"""Values of variables of any size, in blocks: all of them, or a sample that takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import xarray as xr

Block = npt.NDArray[np.float64]

_BLOCK_BYTES = 64 << 20
# A sample's values, and in how many pieces it is spread over a dimension.
_SAMPLED = 1 << 22
_PIECES = 16


def blocks(array: xr.DataArray) -> Iterator[Block]:
    """All values in pieces of bounded size, cut along the leading dimensions."""
    if array.ndim == 0 or 8 * array.size <= _BLOCK_BYTES:
        yield np.asarray(array.values, np.float64)
        return
    first = array.dims[0]
    row_bytes = 8 * array.size // array.sizes[first]
    rows = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, array.sizes[first], rows):
        part = array.isel({first: slice(start, start + rows)})
        yield from blocks(part.isel({first: 0}) if rows == 1 else part)


def sample(array: xr.DataArray, most: int | None = None) -> Iterator[Block]:
    """At most about four million values, in pieces spread evenly; all where there are no more."""
    most = _SAMPLED if most is None else most
    if array.size <= most:
        yield from blocks(array)
        return
    first, count = array.dims[0], array.sizes[array.dims[0]]
    pieces = min(count, _PIECES, max(2, most))
    each = max(1, most // pieces)
    rows = each // (array.size // count)
    for start in np.linspace(0, count - max(1, rows), pieces).round().astype(int).tolist():
        if rows > 0:
            yield from blocks(array.isel({first: slice(start, start + rows)}))
        else:
            yield from sample(array.isel({first: start}), each)
