"""Training data out of core: the right values from a bounded cache, in an order that repeats."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown import cf
from climdown.arrays import Float32
from climdown.errors import InputError
from climdown.training import reader as reader_module
from climdown.training.reader import FieldReader, Order
from tests.factories import PR, TAS, write_damaged


class Counting(FieldReader):
    """Remembers which blocks it loaded."""

    def __init__(
        self, fields: list[cf.Field], dates: list[Any], *, block: int, kept: int = 1
    ) -> None:
        super().__init__(fields, dates, cache_bytes=0)
        self.block = block
        self.cache_bytes = kept * block * self.field_bytes
        self.loaded: list[int] = []

    def _load(self, number: int) -> Float32:
        self.loaded.append(number)
        return super()._load(number)


@pytest.fixture(scope="module")
def fields(training_data: Path) -> list[cf.Field]:
    """tas and pr of twenty days."""
    return [cf.open_field(training_data / f"{q.name}.nc", q) for q in (TAS, PR)]


@pytest.fixture(scope="module")
def dates(fields: list[cf.Field]) -> list[Any]:
    return list(fields[0].time.dates)


@pytest.fixture(scope="module")
def truth(fields: list[cf.Field]) -> Float32:
    """All values, shape (time, variables, ny, nx)."""
    return np.stack([field.read(slice(None)) for field in fields], axis=1)


@settings(max_examples=60)
@given(
    index=st.lists(st.integers(0, 19), max_size=30),
    block=st.integers(1, 25),
    kept=st.integers(0, 21),
)
def test_any_order_reads_what_the_fields_hold(
    index: list[int],
    block: int,
    kept: int,
    fields: list[cf.Field],
    dates: list[Any],
    truth: Float32,
) -> None:
    reader = Counting(fields, dates, block=block, kept=kept)
    assert len(reader) == 20
    wanted = np.array(index, dtype=np.intp)
    for _ in range(2):
        np.testing.assert_array_equal(reader.read(wanted), truth[wanted])
    assert len(reader._blocks) <= max(1, kept)


def test_the_dates_may_be_few_and_lie_at_other_places_of_each_variable(
    fields: list[cf.Field], dates: list[Any], truth: Float32
) -> None:
    chosen = [0, 1, 2, 5, 9, 10, 13, 17]
    later = fields[1].isel(slice(0, 18))
    early = fields[0].isel(slice(0, 20))
    reader = Counting([early, later], [dates[i] for i in chosen], block=3)
    np.testing.assert_array_equal(reader.read(np.arange(8)), truth[chosen])
    shifted = [field.isel(slice(5, 20)) for field in fields]
    reader = Counting([fields[0], shifted[1]], dates[5:], block=4)
    np.testing.assert_array_equal(reader.read(np.arange(15)), truth[5:])


def test_a_block_is_a_few_megabytes_and_never_more_steps_than_some(
    fields: list[cf.Field], dates: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FieldReader(fields, dates, cache_bytes=0).block == 64
    monkeypatch.setattr(reader_module, "_BLOCK_BYTES", 3 * 4 * 2 * 6 * 8)
    reader = FieldReader(fields, dates, cache_bytes=10 * 4 * 2 * 6 * 8)
    assert (reader.block, reader.kept_blocks) == (3, 3)
    monkeypatch.setattr(reader_module, "_BLOCK_BYTES", 1)
    assert FieldReader(fields, dates, cache_bytes=0).block == 1
    assert FieldReader(fields, dates, cache_bytes=0).kept_blocks == 1


def test_blocks_used_least_recently_go_first(fields: list[cf.Field], dates: list[Any]) -> None:
    reader = Counting(fields, dates, block=5, kept=2)
    for day in (0, 7, 1, 12, 2, 8):
        reader.read(np.array([day], dtype=np.intp))
    assert reader.loaded == [0, 1, 2, 1]


def test_many_threads_read_the_right_values_and_each_block_once(
    fields: list[cf.Field], dates: list[Any], truth: Float32
) -> None:
    reader = Counting(fields, dates, block=3, kept=7)
    together = threading.Barrier(8)

    def read(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        together.wait()
        indices = [rng.integers(0, 20, size=6) for _ in range(20)]
        return all(np.array_equal(reader.read(i), truth[i], equal_nan=True) for i in indices)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
    assert sorted(reader.loaded) == list(range(7))


def test_threads_that_share_a_small_cache_read_the_right_values(
    fields: list[cf.Field], dates: list[Any], truth: Float32
) -> None:
    reader = Counting(fields, dates, block=3, kept=1)

    def read(seed: int) -> bool:
        index = np.random.default_rng(seed).integers(0, 20, size=6)
        return np.array_equal(reader.read(index), truth[index], equal_nan=True)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(30)))
    assert len(reader._blocks) == 1


def test_a_damaged_file_is_an_error_each_time(tmp_path: Path) -> None:
    write_damaged(tmp_path / "damaged.nc")
    field = cf.open_field(tmp_path / "damaged.nc", TAS)
    reader = Counting([field], list(field.time.dates), block=20)
    for _ in range(2):
        with pytest.raises(InputError, match=r"damaged\.nc: variable 'tas' cannot be read"):
            reader.read(np.arange(20))
    assert reader.loaded == [0, 0], "the failure itself is not kept"


def test_a_read_that_failed_once_may_succeed_later(
    fields: list[cf.Field], dates: list[Any], truth: Float32
) -> None:
    class Flaky(Counting):
        def _load(self, number: int) -> Float32:
            values = super()._load(number)
            if len(self.loaded) == 1:
                raise InputError("the network is down")
            return values

    reader = Flaky(fields, dates, block=20)
    with pytest.raises(InputError, match="the network is down"):
        reader.read(np.arange(3))
    np.testing.assert_array_equal(reader.read(np.arange(3)), truth[:3])


ORDERS = {
    "count": st.integers(1, 60),
    "block": st.integers(1, 9),
    "window": st.none() | st.integers(1, 8),
    "seed": st.integers(0, 2**31 - 1),
}


@settings(max_examples=100)
@given(**ORDERS, size=st.integers(1, 70))
def test_every_field_comes_once_an_epoch(
    count: int, block: int, window: int | None, seed: int, size: int
) -> None:
    order = Order(count, seed=seed, block=block, window=window)
    steps = -(-3 * count // size)
    batches = [order.batch(step, size) for step in range(steps)]
    assert all(batch.shape == (size,) for batch in batches)
    places = np.concatenate(batches)
    for epoch in range(3):
        part = places[epoch * count : (epoch + 1) * count]
        np.testing.assert_array_equal(np.sort(part), np.arange(count))


@settings(max_examples=50)
@given(**ORDERS, size=st.integers(1, 20), steps=st.lists(st.integers(0, 200), max_size=12))
def test_a_batch_depends_on_seed_and_step_alone(
    count: int, block: int, window: int | None, seed: int, size: int, steps: list[int]
) -> None:
    order = Order(count, seed=seed, block=block, window=window)
    for step in steps:
        fresh = Order(count, seed=seed, block=block, window=window)
        np.testing.assert_array_equal(order.batch(step, size), fresh.batch(step, size))


@pytest.mark.parametrize("window", [None, 3])
def test_seeds_and_epochs_are_shuffled_differently(window: int | None) -> None:
    one, other = (Order(100, seed=seed, block=5, window=window) for seed in (0, 1))
    assert not np.array_equal(one.batch(0, 100), other.batch(0, 100))
    assert not np.array_equal(one.batch(0, 100), one.batch(1, 100))
    assert not np.array_equal(one.batch(0, 100), np.arange(100))


@settings(max_examples=25)
@given(
    block=st.integers(2, 4),
    kept=st.integers(2, 12),
    size=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_an_epoch_loads_each_block_once_whatever_fits_into_the_cache(
    block: int, kept: int, size: int, seed: int, fields: list[cf.Field], dates: list[Any]
) -> None:
    reader = Counting(fields, dates, block=block, kept=kept)
    order = Order(20, seed=seed, block=block, window=max(1, kept // 2))
    for step in range(20 // size):
        reader.read(order.batch(step, size))
    assert len(reader.loaded) == len(set(reader.loaded))


def test_a_short_span_of_an_epoch_touches_few_blocks_and_mixes_their_fields() -> None:
    block, window = 8, 4
    order = Order(1000, seed=0, block=block, window=window)
    blocks = order.batch(0, 1000) // block
    span = block * window
    touched = [len(set(blocks[i : i + span])) for i in range(1000 - span)]
    assert max(touched) <= 2 * window + 1  # one more where the short last block lies
    # Neighbours in the order mostly come from different blocks: 1 - 7/31 of them.
    assert np.mean(np.diff(blocks) != 0) > 0.7
    # And windows are made of blocks from anywhere.
    firsts = [blocks[i : i + span] for i in range(0, 1000 - span, span)]
    assert np.mean([np.ptp(part) for part in firsts]) > 40
