"""Blocks of cells, transposed to one row of time steps per cell, in NumPy or torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import array_api_compat
import numpy as np

from climdown.bias.grouping import Array, Windows, home

Result = TypeVar("Result")

# Of one block of cells with its temporaries. On a CPU small blocks stay in the cache, while large
# ones need fewer calls from Python for each thread; a GPU needs much work at once.
CPU_BLOCK_BYTES = 2**25
GPU_BLOCK_BYTES = 2**32
_BYTES_PER_STEP = 48
# The windows of a block are cut out and sorted in parts of this share of its bytes.
_WINDOWS_SHARE = 16


def cells_per_block(steps: int, block_bytes: int) -> int:
    """How many cells of `steps` time steps are processed at once within a budget of memory."""
    return max(1, block_bytes // (_BYTES_PER_STEP * max(steps, 1)))


def missing_last(rows: Array) -> Array:
    """Rows with missing values replaced by infinity: NaN would take argsort off its fast path."""
    xp, _ = home(rows)
    missing = xp.isnan(rows)
    return xp.where(missing, xp.full_like(rows, xp.inf), rows) if bool(xp.any(missing)) else rows


def rows_of_cells(values: Array) -> Array:
    """Cells first and contiguous, shape (cells, time)."""
    xp, device = home(values)
    # Copied rather than viewed: every later sort wants the steps of a cell side by side in memory.
    rows = xp.empty((values.shape[1], values.shape[0]), dtype=values.dtype, device=device)
    rows[...] = values.T
    return rows


def starts_of(array: Array) -> Array:
    """Place of the first value of each row, rows laid end to end, with a last axis of 1."""
    xp, device = home(array)
    *rows, length = array.shape
    return xp.reshape(length * xp.arange(int(np.prod(rows)), device=device), (*rows, 1))


def pick(flat: Array, index: Array) -> Array:
    """flat[index], by the quicker of the two ways."""
    xp, _ = home(flat)
    return xp.reshape(xp.take(flat, xp.reshape(index, (-1,)), axis=0), index.shape)


def parts_of(runs: Array, windows: Windows) -> Iterator[slice]:
    """Slices of the groups, each with few enough values in all cells to be sorted at once."""
    # Bytes of one group's windows in all cells of the block.
    each = runs.shape[1] * max(windows.longest, 1) * runs.itemsize
    size = max(1, _default_bytes(runs) // _WINDOWS_SHARE // each)
    for start in range(0, len(windows.first), size):
        yield slice(start, start + size)


def _default_bytes(array: Array) -> int:
    on_cpu = str(array_api_compat.device(array)) == "cpu"
    return CPU_BLOCK_BYTES if on_cpu else GPU_BLOCK_BYTES


def in_blocks(
    work: Callable[[slice], Result], values: Array, threads: int, block_bytes: int | None
) -> list[Result]:
    """Do the work on blocks of cells, several at a time."""
    steps, cells = values.shape
    threads = max(threads, 1)
    largest = cells_per_block(steps, block_bytes or _default_bytes(values))
    # Blocks of one size whose number is a multiple of the threads': none idles in the last round.
    rounds = max(1, -(-cells // (largest * threads)))
    size = max(1, -(-cells // (rounds * threads)))
    blocks = [slice(start, min(start + size, cells)) for start in range(0, cells, size)]
    if threads == 1:
        return [work(block) for block in blocks]
    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(work, blocks))
