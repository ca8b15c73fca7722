"""Scratch files: the same values whichever way round they are written and read."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown.bias.scratch import Scratch
from climdown.errors import OutputError


@settings(max_examples=60)
@given(data=st.data(), times=st.integers(1, 7), cells=st.integers(1, 9), width=st.integers(1, 10))
def test_any_order_of_writing_and_reading_gives_the_values_back(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    times: int,
    cells: int,
    width: int,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    with Scratch(folder, times=times, cells=cells, width=width) as scratch:
        expected = np.full((times, cells), np.nan, dtype=np.float32)
        counter = 0
        # Both ways of writing, in any order, over one another; then whatever is still missing.
        orders = st.lists(st.tuples(st.booleans(), st.integers(0, 99)), max_size=8)
        for by_time, number in data.draw(orders):
            if by_time:
                start = number % times
                rows = slice(start, data.draw(st.integers(start + 1, times)))
                cut = rows, slice(0, cells)
            else:
                cut = slice(0, times), scratch.blocks[number % len(scratch.blocks)]
            shape = expected[cut].shape
            expected[cut] = counter + np.arange(np.prod(shape)).reshape(shape)
            counter += times * cells
            if by_time:
                scratch.write_times(cut[0].start, expected[cut])
            else:
                scratch.write_cells(cut[1], expected[cut])
        for step in np.flatnonzero(np.isnan(expected).any(axis=1)):
            expected[step] = counter + np.arange(cells)
            counter += cells
            scratch.write_times(int(step), expected[step : step + 1])
        start = data.draw(st.integers(0, times - 1))
        stop = data.draw(st.integers(start + 1, times))
        np.testing.assert_array_equal(scratch.read_times(start, stop), expected[start:stop])
        for block in data.draw(st.permutations(scratch.blocks)):
            np.testing.assert_array_equal(scratch.read_cells(block), expected[:, block])
        np.testing.assert_array_equal(scratch.read_times(0, times), expected)


def test_blocks_cover_each_cell_once(tmp_path: Path) -> None:
    with Scratch(tmp_path, times=1, cells=10, width=4) as scratch:
        assert [(b.start, b.stop) for b in scratch.blocks] == [(0, 4), (4, 8), (8, 10)]


def test_the_file_has_no_name(tmp_path: Path) -> None:
    with Scratch(tmp_path, times=2, cells=3, width=2) as scratch:
        scratch.write_times(0, np.ones((2, 3), dtype=np.float32))
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    message = rf"cannot keep a scratch file of 0\.0 GiB in {tmp_path}/no \(No such file or dir.*\)"
    with pytest.raises(OutputError, match=message):
        Scratch(tmp_path / "no", times=1, cells=1, width=1)


class _Full:
    """A file on a disk that holds some bytes and then no more; it writes a little at a time."""

    def __init__(self, room: int) -> None:
        self.room, self.at, self.content = room, 0, bytearray(room)

    def seek(self, place: int) -> None:
        self.at = place

    def write(self, data: memoryview) -> int:
        if self.at >= self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = min(5, len(data), self.room - self.at)
        self.content[self.at : self.at + count] = data[:count]
        self.at += count
        return count

    def readinto(self, data: memoryview) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def close(self) -> None:
        pass


def test_a_full_disk_is_an_output_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: Any = np.arange(6, dtype=np.float32).reshape(2, 3)
    file = _Full(room=20)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: file)
    with Scratch(tmp_path, times=2, cells=3, width=3) as scratch:
        with pytest.raises(OutputError, match=r"\(No space left on device\); write the output"):
            scratch.write_times(0, values)
        # Writes that a disk takes only in part are gone on with.
        assert bytes(file.content) == values.tobytes()[:20]
        with pytest.raises(OutputError, match=r"scratch file .*\(Input/output error\)"):
            scratch.read_cells(slice(0, 3))
