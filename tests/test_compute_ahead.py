"""Work done ahead: in order, never further than asked for, and over when nobody wants more."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from climdown.compute.ahead import read_ahead
from climdown.errors import InputError


def reader_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("reader")}


def test_what_is_read_ahead_comes_in_order() -> None:
    rng = np.random.default_rng(0)
    pauses = rng.uniform(0.0, 0.004, size=40)

    others = reader_threads()

    def load(step: int) -> int:
        time.sleep(pauses[step])
        return step * step

    found = list(read_ahead(load, range(3, 40), depth=5, threads=3))
    assert found == [step * step for step in range(3, 40)]
    assert reader_threads() <= others


def test_nothing_to_read_ends_at_once() -> None:
    assert list(read_ahead(lambda step: step, range(5, 5))) == []


@pytest.mark.parametrize("depth", [1, 4])
def test_no_more_than_the_depth_is_read_ahead(depth: int) -> None:
    begun: list[int] = []

    def load(step: int) -> int:
        begun.append(step)
        return step

    for step in read_ahead(load, range(30), depth=depth):
        time.sleep(0.005)  # time enough for what should not be read
        assert max(begun) < step + depth
    assert sorted(begun) == list(range(30))


def test_reading_goes_on_while_the_consumer_works() -> None:
    begun = threading.Event()

    def load(step: int) -> int:
        if step == 3:
            begun.set()
        return step

    batches = read_ahead(load, range(10), depth=4)
    next(batches)
    assert begun.wait(30.0)
    close(batches)


def test_an_error_comes_where_it_belongs() -> None:
    others = reader_threads()

    def load(step: int) -> int:
        if step == 3:
            raise InputError("damaged at 3")
        return step

    batches = read_ahead(load, range(10), depth=5)
    assert list(itertools.islice(batches, 3)) == [0, 1, 2]
    with pytest.raises(InputError, match="damaged at 3"):
        next(batches)
    assert reader_threads() <= others


def test_the_threads_end_when_the_consumer_stops() -> None:
    asked: list[int] = []
    others = reader_threads()

    def load(step: int) -> int:
        asked.append(step)
        return step

    batches = read_ahead(load, range(1000), depth=4, threads=2)
    next(batches)
    assert reader_threads() - others
    close(batches)
    assert reader_threads() <= others
    assert max(asked) < 4


def close(batches: Iterator[int]) -> None:
    batches.close()  # type: ignore[attr-defined]
