"""Fault tolerance: a running command is really killed, and taken up again."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from climdown.stream import parts_folder
from tests.commands import SMALL_UNITS, Shell, read_members, write_tas
from tests.priors import write_tiny_prior

_PATIENCE = 120.0  # seconds, far beyond what is needed


@pytest.fixture
def folder(shell: Shell, tmp_path: Path) -> Path:
    """The current folder of `shell`."""
    write_tiny_prior(tmp_path / "tiny")
    write_tas(tmp_path / "tas.nc", days=[day + 0.5 for day in range(24)])
    return tmp_path


def words(output: str) -> list[str]:
    """`climdown run` with some seconds of work in many units."""
    options = ["--members", "4", "--batch-size", "4", "--steps", "30", "--seed", "5"]
    return ["run", "tas.nc", output, "--prior", "tiny", *options]


def start(folder: Path) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [*SMALL_UNITS, *words("out.nc")]
    return subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def wait_for_parts(process: subprocess.Popen[str], folder: Path, count: int) -> int:
    """Wait until the process has finished some units; how many it has."""
    parts = parts_folder(folder / "out.nc")
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, "finished before it could be stopped"
        if (found := len(list(parts.glob("unit-*.npy")))) >= count:
            return found
        time.sleep(0.02)
    raise AssertionError("no part files appeared")


def test_killed_run_resumes_to_the_same_bits(shell: Shell, folder: Path) -> None:
    process = start(folder)
    wait_for_parts(process, folder, 3)
    process.send_signal(signal.SIGKILL)
    assert process.wait(_PATIENCE) == -signal.SIGKILL
    process.communicate()
    assert not (folder / "out.nc").exists()

    resumed = shell(*words("out.nc"))
    assert resumed.code == 0, resumed.err
    assert "resuming:" in resumed.err
    whole = shell(*words("whole.nc"))
    assert whole.code == 0, whole.err
    np.testing.assert_array_equal(
        read_members(folder / "out.nc"), read_members(folder / "whole.nc")
    )
    assert not parts_folder(folder / "out.nc").exists()


def test_terminated_run_finishes_its_unit_and_asks_to_be_requeued(folder: Path) -> None:
    process = start(folder)
    before = wait_for_parts(process, folder, 1)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 75, log
    assert "stopped by a signal" in log
    assert "Traceback" not in log
    assert not (folder / "out.nc").exists()
    assert len(list(parts_folder(folder / "out.nc").glob("unit-*.npy"))) >= before
