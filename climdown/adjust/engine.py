"""Where blocks of cells are computed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from climdown.errors import ConfigError


@dataclass(frozen=True)
class Engine:
    """Where blocks are computed: here, by threads or on a CUDA device, or by Dask workers.

    Attributes:
        executor: of a Dask cluster, or None.
        depth: blocks under way at once on the cluster; bounds memory.
        threads: that share one block.
    """

    executor: Executor | None
    depth: int
    threads: int
    device: str

    def map(self, work: Callable[[Any], Any], tasks: Iterator[Any]) -> Iterator[Any]:
        """Results in order."""
        if self.executor is None:
            yield from map(work, tasks)
            return
        waiting: deque[Future[Any]] = deque()
        for task in tasks:
            waiting.append(self.executor.submit(work, task))
            if len(waiting) >= self.depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def open_engine(scheduler: str | None = None, device: str = "cpu") -> Iterator[Engine]:
    """An engine; a Dask scheduler's address hands the blocks to its workers.

    Raises:
        ConfigError: an unknown device, no CUDA, Dask not installed, or no scheduler there.
    """
    check_device(device)
    if scheduler is None:
        threads = 1 if device == "cuda" else max(1, len(os.sched_getaffinity(0)))
        yield Engine(None, 1, threads, device)
        return
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError("--scheduler-address needs Dask: pip install 'climdown[hpc]'") from None
    try:
        client = Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at {scheduler} ({error})") from None
    with client:
        cores = max(1, sum(client.ncores().values()))
        yield Engine(client.get_executor(pure=False), 2 * cores, 1, device)


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ConfigError: an unknown one, or CUDA where there is none.
    """
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"unknown device '{device}'; expected cpu or cuda")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("no CUDA device is available; use --device cpu")


def to_device(values: npt.NDArray[np.float32], device: str) -> Any:
    """An array as NumPy's, or as torch's on a CUDA device."""
    if device == "cpu":
        return values
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def to_host(values: Any) -> npt.NDArray[np.float32]:
    """The way back."""
    return values if isinstance(values, np.ndarray) else np.asarray(values.cpu().numpy())
