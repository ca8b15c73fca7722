"""Training data out of core: blocks of time steps in a bounded cache, and their order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from climdown import cf
from climdown.arrays import Float32, Index

# A block is about so large, so that neither opening a file nor a block's surplus costs much.
_BLOCK_BYTES = 8 << 20
_MOST_STEPS = 64


class FieldReader:
    """Values of several variables at the dates they share, in any order, from any thread.

    Args:
        fields: one per variable, all on one grid.
        dates: ascending, each among the dates of every field.
        cache_bytes: at most so much is kept; blocks least recently used go first.
    """

    def __init__(
        self, fields: Sequence[cf.Field], dates: Sequence[Any], *, cache_bytes: int
    ) -> None:
        self.fields = tuple(fields)
        self.dates = tuple(dates)
        self.shape = (len(self.fields), *self.fields[0].grid.shape)
        self.field_bytes = 4 * int(np.prod(self.shape))
        self.block = max(1, min(_MOST_STEPS, _BLOCK_BYTES // self.field_bytes))
        self.cache_bytes = cache_bytes
        exact = shared_exactness(self.fields)
        keys = cf.date_keys(self.dates, exact)
        self._positions = [_positions(field, keys, exact) for field in self.fields]
        self._blocks: OrderedDict[int, Future[Float32]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.dates)

    @property
    def kept_blocks(self) -> int:
        """Blocks that the cache holds, at least one."""
        return max(1, self.cache_bytes // (self.block * self.field_bytes))

    def read(self, index: Index) -> Float32:
        """Values in each variable's units, NaN where missing, shape (n, variables, ny, nx).

        Raises:
            InputError: a file is damaged.
        """
        result = np.empty((len(index), *self.shape), dtype=np.float32)
        numbers = index // self.block
        for number in dict.fromkeys(numbers.tolist()):
            rows = np.flatnonzero(numbers == number)
            result[rows] = self._block(number)[index[rows] - number * self.block]
        return result

    def _block(self, number: int) -> Float32:
        with self._lock:
            future = self._blocks.get(number)
            first = future is None
            if future is None:
                future = self._blocks[number] = Future()
            self._blocks.move_to_end(number)
            while len(self._blocks) > self.kept_blocks:
                self._blocks.popitem(last=False)
        if first:
            try:
                future.set_result(self._load(number))
            except BaseException as error:
                with self._lock:
                    self._blocks.pop(number, None)
                future.set_exception(error)
        return future.result()

    def _load(self, number: int) -> Float32:
        steps = slice(number * self.block, min((number + 1) * self.block, len(self)))
        values = np.empty((steps.stop - steps.start, *self.shape), dtype=np.float32)
        for variable, field in enumerate(self.fields):
            positions = self._positions[variable][steps]
            # Runs of neighbours in the file are read at once.
            breaks = np.flatnonzero(np.diff(positions) != 1) + 1
            for rows in np.split(np.arange(len(positions)), breaks):
                part = slice(int(positions[rows[0]]), int(positions[rows[-1]]) + 1)
                values[rows, variable] = field.read(part)
        return values


def shared_exactness(fields: Sequence[cf.Field]) -> int:
    """How exactly dates tell the steps of all fields apart; see `cf.exactness`."""
    return max(cf.exactness(field.time.step_days) for field in fields)


def _positions(field: cf.Field, keys: Sequence[tuple[int, ...]], exact: int) -> Index:
    position = {key: i for i, key in enumerate(cf.date_keys(field.time.centres, exact))}
    return np.array([position[key] for key in keys], dtype=np.intp)


class Order:
    """Which fields make up each batch: a pure function of seed and step, so that runs resume.

    Every field comes once in an epoch. Where not all of them fit into memory, blocks of
    neighbours are shuffled, then the fields within windows of blocks, so that a block is read
    about once an epoch.

    Args:
        count: number of fields.
        block: neighbours that are read together.
        window: blocks that are shuffled into one another; None shuffles all.
    """

    def __init__(self, count: int, *, seed: int, block: int = 1, window: int | None = None) -> None:
        self.count, self.seed = count, seed
        self.block, self.window = block, window
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def batch(self, step: int, size: int) -> Index:
        """The fields of a step's batch, shape (size,)."""
        first = step * size
        places = np.arange(first, first + size)
        epochs = places // self.count
        parts = [
            self._epoch(int(epoch))[places[epochs == epoch] % self.count]
            for epoch in np.unique(epochs)
        ]
        return np.concatenate(parts)

    def _shuffled(self, epoch: int) -> Index:
        rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        blocks = -(-self.count // self.block)
        if self.block == 1 or self.window is None or self.window >= blocks:
            return rng.permutation(self.count).astype(np.intp)
        order = rng.permutation(blocks)
        parts = []
        for start in range(0, blocks, self.window):
            chosen = [
                np.arange(b * self.block, min((b + 1) * self.block, self.count))
                for b in order[start : start + self.window]
            ]
            parts.append(rng.permutation(np.concatenate(chosen)))
        return np.concatenate(parts).astype(np.intp)
