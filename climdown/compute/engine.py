"""Where blocks of cells are computed."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from climdown.compute.device import check_device, plain_errors
from climdown.errors import ConfigError

_PATIENCE = 10.0  # seconds in which a scheduler must answer

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Engine:
    """Where blocks are computed: here, by threads or on a CUDA device, or by Dask workers.

    Attributes:
        client: of a Dask cluster, or None.
        depth: blocks under way at once on the cluster; bounds memory.
        threads: that share one block.
    """

    client: Any
    depth: int
    threads: int
    device: str

    def map(
        self, work: Callable[[Task], Result], tasks: Iterable[Task], *, abreast: bool = False
    ) -> Iterator[Result]:
        """Results in order.

        Args:
            abreast: here, too, several tasks at once, each by one thread, while the next is made.

        Raises:
            ConfigError: the cluster lost a block, or the device ran out of memory.
        """
        with plain_errors():
            if self.client is not None:
                yield from self._submit(work, tasks)
            elif abreast and self.threads > 1:
                yield from self._abreast(work, tasks)
            else:
                yield from map(work, tasks)

    def _abreast(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        waiting: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                if len(waiting) >= self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _submit(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        waiting: deque[Any] = deque()
        for task in tasks:
            # Scattered, since a task's arrays are too large for a graph.
            data = self.client.scatter(task, hash=False)
            waiting.append(self.client.submit(work, data, pure=False))
            if len(waiting) >= self.depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def open_engine(scheduler: str | None = None, device: str = "cpu") -> Iterator[Engine]:
    """An engine; a Dask scheduler's address hands the blocks to its workers.

    Raises:
        ConfigError: an unknown device, no CUDA, Dask not installed, no scheduler there or one
            without workers.
    """
    if scheduler is None:
        check_device(device)
        yield Engine(None, 1, 1 if device == "cuda" else _cores(), device)
        return
    if device != "cpu":
        raise ConfigError("--device is for this machine; Dask workers compute on their CPUs")
    with _connect(scheduler) as client:
        cores = sum(client.ncores().values())
        if cores == 0:
            raise ConfigError(f"the Dask scheduler at {scheduler} has no workers; start some")
        yield Engine(client, 2 * cores, 1, device)


def _connect(scheduler: str) -> Any:
    try:
        from distributed import Client
        from distributed.comm.core import connect
    except ImportError:
        raise ConfigError("--scheduler-address needs Dask: pip install 'climdown[hpc]'") from None

    async def contact() -> None:
        await (await connect(scheduler, timeout=_PATIENCE)).close()

    try:
        # A client that found nobody would complain once more when it is deleted. In a thread,
        # since notebooks have a loop of their own.
        with ThreadPoolExecutor(1) as executor:
            executor.submit(asyncio.run, contact()).result()
        return Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at {scheduler} ({error}); give --scheduler-address "
            "HOST:PORT of a running one"
        ) from None


def _cores() -> int:
    """Those this process may use, which not every system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
