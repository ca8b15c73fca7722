"""Transposing a series on disk: written along time and read by blocks of cells, or vice versa.

Climate files are stored along time, bias adjustment needs all times of a cell. A scratch file
holds one block of cells after the other, so that both ways move long contiguous runs and
memory never holds more than a block of either kind.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from climdown.arrays import Float32
from climdown.errors import OutputError


class Scratch:
    """Values of (time, cells) in a file, float32, laid out by blocks of cells.

    The file has no name, so that it vanishes however the process ends.

    Args:
        folder: where there is room for it.
        times, cells: the whole shape.
        width: cells per block.

    Raises:
        OutputError: now or later, the folder cannot be written or the disk is full.
    """

    def __init__(self, folder: Path, *, times: int, cells: int, width: int) -> None:
        self.folder, self.times, self.cells = folder, times, cells
        self.blocks = [slice(i, min(i + width, cells)) for i in range(0, cells, width)]
        try:
            # Unbuffered: a full disk shows when it is written to, not some calls later.
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._failure(error) from None

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def write_times(self, start: int, values: Float32) -> None:
        """Rows from time `start` on, shape (n, cells)."""
        for block in self.blocks:
            self._write(block, start, values[:, block])

    def write_cells(self, block: slice, values: Float32) -> None:
        """One of the blocks, shape (times, width)."""
        self._write(block, 0, values)

    def read_cells(self, block: slice) -> Float32:
        """One of the blocks, shape (times, width), once it has been written."""
        return self._read(block, 0, self.times)

    def read_times(self, start: int, stop: int) -> Float32:
        """Rows of all cells, shape (stop - start, cells), once they have been written."""
        values = np.empty((stop - start, self.cells), dtype=np.float32)
        for block in self.blocks:
            values[:, block] = self._read(block, start, stop)
        return values

    def _write(self, block: slice, start: int, values: Float32) -> None:
        rest = np.ascontiguousarray(values, dtype=np.float32).data.cast("B")
        try:
            self._file.seek(self._place(block, start))
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._failure(error) from None

    def _read(self, block: slice, start: int, stop: int) -> Float32:
        values = np.empty((stop - start, block.stop - block.start), dtype=np.float32)
        rest = values.data.cast("B")
        try:
            self._file.seek(self._place(block, start))
            while rest:
                rest = rest[self._file.readinto(rest) or len(rest) :]
        except OSError as error:
            raise self._failure(error) from None
        return values

    def _place(self, block: slice, start: int) -> int:
        width: int = block.stop - block.start
        return 4 * (int(block.start) * self.times + start * width)

    def _failure(self, error: OSError) -> OutputError:
        size = 4 * self.times * self.cells / 2**30
        return OutputError(
            f"cannot keep a scratch file of {size:.1f} GiB in {self.folder} ({error.strerror}); "
            "write the output where there is room, or adjust less at once"
        )
