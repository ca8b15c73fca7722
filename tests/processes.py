"""The command line in a process of its own, which can be met on its way, stopped and killed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from climdown.stream import parts_folder

PATIENCE = 120.0  # seconds, far beyond what is needed


def start(command: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    """A command that runs in a folder."""
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    """Until something has happened that the process does."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def parts(folder: Path) -> list[Path]:
    """The parts that a run of `out.nc` in a folder has placed."""
    return sorted(parts_folder(folder / "out.nc").glob("unit-*.npy"))


def kill(process: subprocess.Popen[str]) -> None:
    """End a process as a power cut would."""
    process.kill()
    process.communicate()
