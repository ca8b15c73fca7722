"""Work done ahead in threads, so that who takes the results need not wait for files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(
    load: Callable[[int], T], steps: range, *, depth: int = 4, threads: int = 2
) -> Iterator[T]:
    """Yield load(step) in order, computed ahead in threads; errors come where they belong."""
    waiting: OrderedDict[int, Future[T]] = OrderedDict()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
    try:
        for step in steps:
            for ahead in range(step, min(step + depth, steps.stop)):
                if ahead not in waiting:
                    waiting[ahead] = pool.submit(load, ahead)
            yield waiting.pop(step).result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
