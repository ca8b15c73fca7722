"""Where blocks are computed: here, on a Dask cluster, on a device; and what can go wrong there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from climdown.compute import engine
from climdown.compute.device import check_device, plain_errors, to_device, to_host
from climdown.compute.engine import open_engine
from climdown.errors import ConfigError
from tests.commands import Shell, read_members
from tests.series import PER_DAY, PR, WINTER, daily, noise, write_days

DAYS = daily(2001, 2, months=WINTER)
ARGUMENTS = ("qdm", "--ref", "ref.nc", "--hist", "hist.nc", "sim.nc")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two workers, in threads of this process."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp"
    ) as running:
        yield running


def write_rain() -> None:
    for seed, name in enumerate(("ref", "hist", "sim")):
        write_days(f"{name}.nc", DAYS, np.maximum(noise(DAYS, seed), 0.0) / PER_DAY, **PR)


@pytest.mark.parametrize("options", [(), ("--save-map", "map.nc")], ids=["plain", "map"])
def test_a_cluster_gives_the_same_bits(
    shell: Shell, cluster: Any, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    write_rain()
    result = shell(*ARGUMENTS, "out.nc")
    assert result.code == 0, result.err
    monkeypatch.setattr("climdown.adjust.blocks._BLOCK_BYTES", 1)
    address = cluster.scheduler_address
    result = shell(*ARGUMENTS, "dask.nc", "--scheduler-address", address, *options)
    assert result.code == 0, result.err
    assert "12 of 12 blocks" in result.err
    np.testing.assert_array_equal(read_members("dask.nc", "pr"), read_members("out.nc", "pr"))
    if options:
        result = shell("qdm", "--map", "map.nc", "sim.nc", "a.nc", "--scheduler-address", address)
        assert result.code == 0, result.err
        np.testing.assert_array_equal(read_members("a.nc", "pr"), read_members("out.nc", "pr"))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nonsense://x", "unknown address scheme"),
        ("localhost:1", "Timed out"),
        ("x", "missing port"),
    ],
)
def test_a_wrong_address_is_one_clear_line(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, address: str, reason: str
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(engine, "_PATIENCE", 0.2)
    write_rain()
    result = shell(*ARGUMENTS, "out.nc", "--scheduler-address", address)
    assert result.code == 2
    assert f"no Dask scheduler answers at {address} ({reason}" in result.message
    assert "give --scheduler-address HOST:PORT" in result.message


def test_a_scheduler_without_workers_is_refused() -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        pytest.raises(ConfigError, match=r"the Dask scheduler at .* has no workers; start some"),
        open_engine(empty.scheduler_address),
    ):
        pass


def test_without_dask_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ConfigError, match=r"needs Dask: pip install 'climdown\[hpc\]'"),
        open_engine("localhost:8786"),
    ):
        pass


def test_a_device_and_a_cluster_exclude_each_other() -> None:
    with (
        pytest.raises(ConfigError, match="Dask workers compute on their CPUs"),
        open_engine("localhost:8786", device="cuda"),
    ):
        pass


def test_errors_of_a_worker_come_back_as_they_are(cluster: Any) -> None:
    def fail(task: int) -> None:
        raise ConfigError(f"task {task}")

    with (
        open_engine(cluster.scheduler_address) as running,
        pytest.raises(ConfigError, match="task 7"),
    ):
        list(running.map(fail, [7]))


@pytest.mark.parametrize("tasks", [0, 1, 3, 20])
def test_results_come_in_order(cluster: Any, tasks: int) -> None:
    with open_engine(cluster.scheduler_address) as far, open_engine() as near:
        for running in (far, near):
            found = list(running.map(lambda x: x + 1, iter(range(tasks))))
            assert found == list(range(1, tasks + 1))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("KilledWorker", "a Dask worker died, likely for want of memory"),
        ("FutureCancelledError", "the Dask cluster went away"),
        ("OutOfMemoryError", "the CUDA device ran out of memory; use --device cpu"),
    ],
)
def test_lost_workers_and_full_devices_are_one_line(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words), plain_errors():
        raise type(name, (RuntimeError,), {})
    with pytest.raises(RuntimeError, match="a bug"), plain_errors():
        raise RuntimeError("a bug")


def test_devices_are_checked() -> None:
    check_device("cpu")
    with pytest.raises(ConfigError, match="unknown device 'tpu'; expected cpu or cuda"):
        check_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("command", ["qdm", "ot"])
def test_cuda_without_a_device_is_refused(shell: Shell, command: str) -> None:
    write_rain()
    result = shell(command, *ARGUMENTS[1:], "out.nc", "--device", "cuda")
    assert result.code == 2
    assert "no CUDA device is available; use --device cpu" in result.message


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_device_gives_the_same_but_for_rounding(shell: Shell) -> None:
    write_rain()
    for device in ("cpu", "cuda"):
        result = shell(*ARGUMENTS, f"{device}.nc", "--device", device)
        assert result.code == 0, result.err
    near, far = (PER_DAY * read_members(f"{device}.nc", "pr") for device in ("cpu", "cuda"))
    np.testing.assert_allclose(far, near, rtol=1e-4, atol=0.06)


def test_arrays_go_to_a_device_and_back() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert to_device(values, "cpu") is values
    assert to_host(values) is values
    np.testing.assert_array_equal(to_host(torch.from_numpy(values)), values)


def test_cores_are_known_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine._cores() >= 1
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert engine._cores() == 1
