"""Turning a series round: written along time, read by blocks of cells, and the other way.

Climate files are stored along time, bias adjustment needs all times of a cell. A scratch file
holds one block of cells after the other, so that both ways move long contiguous runs and
memory never holds more than a block of either kind.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from climdown.errors import OutputError


class Scratch:
    """Values of (time, cells) in a file, float32, laid out by blocks of cells.

    Args:
        path: the file, made anew and deleted on leaving the context.
        times, cells: the whole shape.
        width: cells per block.
    """

    def __init__(self, path: Path, *, times: int, cells: int, width: int) -> None:
        self.path, self.times, self.cells = path, times, cells
        self.blocks = [slice(i, min(i + width, cells)) for i in range(0, cells, width)]
        try:
            self._file = path.open("w+b")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from None

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write_times(self, start: int, values: npt.NDArray[np.float32]) -> None:
        """Rows from time `start` on, shape (n, cells)."""
        for block in self.blocks:
            self._write(block, start, values[:, block])

    def write_cells(self, block: slice, values: npt.NDArray[np.float32]) -> None:
        """One of the blocks, shape (times, width)."""
        self._write(block, 0, values)

    def read_cells(self, block: slice) -> npt.NDArray[np.float32]:
        """One of the blocks, shape (times, width)."""
        return self._read(block, 0, self.times)

    def read_times(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows of all cells, shape (stop - start, cells)."""
        return np.concatenate([self._read(block, start, stop) for block in self.blocks], axis=1)

    def _write(self, block: slice, start: int, values: npt.NDArray[np.float32]) -> None:
        self._file.seek(4 * (block.start * self.times + start * (block.stop - block.start)))
        try:
            self._file.write(np.ascontiguousarray(values, dtype=np.float32).tobytes())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from None

    def _read(self, block: slice, start: int, stop: int) -> npt.NDArray[np.float32]:
        width = block.stop - block.start
        self._file.seek(4 * (block.start * self.times + start * width))
        values = np.empty((stop - start, width), dtype=np.float32)
        self._file.readinto(values.reshape(-1).view(np.uint8).data)
        return values
