"""Fault tolerance: a running command is really killed, and taken up again."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from climdown.stream import parts_folder
from tests.commands import SMALL_UNITS, Shell, read_members, write_tas
from tests.priors import write_tiny_prior
from tests.processes import PATIENCE, kill, parts, start, wait_for


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


def begin(folder: Path) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return start([*SMALL_UNITS, *words("out.nc")], folder)


def test_killed_run_resumes_to_the_same_bits(shell: Shell, folder: Path) -> None:
    process = begin(folder)
    wait_for(process, lambda: len(parts(folder)) >= 3)
    kill(process)
    assert process.returncode == -signal.SIGKILL
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
    process = begin(folder)
    wait_for(process, lambda: len(parts(folder)) >= 1)
    before = len(parts(folder))
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, log
    assert "stopped by a signal" in log
    assert "Traceback" not in log
    assert not (folder / "out.nc").exists()
    assert len(parts(folder)) >= before
