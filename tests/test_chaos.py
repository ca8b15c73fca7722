"""What happens to real runs: killed anywhere, started twice, damaged and changed between.

Every story ends in the data of an undisturbed run, or in one line that says why not.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from tests.commands import read_members, write_tas
from tests.factories import Floats
from tests.priors import write_tiny_prior
from tests.processes import PATIENCE, kill, parts, start, wait_for

_WORDS = ("run", "tas.nc", "out.nc", "--prior", "tiny", "--members", "3", "--batch-size", "3")

# A part file for every batch, and joining, placing and cleaning up long enough to be met.
_SLOW = """
import time
from climdown import stream
from climdown.stream import ensemble, parts
parts.UNIT_BYTES = 1

def slow(owner, name, before=0.0, after=0.0):
    whole = getattr(owner, name)
    def slowly(*words, **options):
        time.sleep(before)
        result = whole(*words, **options)
        time.sleep(after)
        return result
    setattr(owner, name, slowly)

slow(parts.PartStore, "write", after=0.05)
slow(ensemble, "_join_variable", after=0.5)
slow(parts.PartStore, "remove", before=1.0)
from climdown.__main__ import main
main()
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Floats]:
    """The folder of an undisturbed run, and its members."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_tiny_prior(folder / "tiny")
    write_tas(folder / "tas.nc", days=[day + 0.5 for day in range(12)])
    assert finish(folder).returncode == 0
    return folder, read_members(folder / "out.nc")


@pytest.fixture
def folder(undisturbed: tuple[Path, Floats], tmp_path: Path) -> Path:
    """The same prior and input, no output yet."""
    whole, _ = undisturbed
    for name in ("tiny", "tas.nc"):
        subprocess.run(["cp", "-a", whole / name, tmp_path / name], check=True)
    return tmp_path


def begin(
    folder: Path, *words: str, program: Sequence[str] = ("-c", _SLOW)
) -> subprocess.Popen[str]:
    """The run in a process of its own."""
    return start([sys.executable, *program, *_WORDS, *words], folder)


def finish(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The run, to whatever end it comes."""
    command = [sys.executable, "-m", "climdown", *_WORDS, *words]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def some_parts(folder: Path) -> bool:
    return len(parts(folder)) > 2


def joining(folder: Path) -> bool:
    return any(path.name.startswith(".out.nc.") for path in folder.glob(".*.tmp"))


def placed(folder: Path) -> bool:
    return (folder / "out.nc").exists()


def interrupted(folder: Path, when: Callable[[Path], bool] = some_parts) -> None:
    """A run that is killed at a moment."""
    process = begin(folder)
    wait_for(process, lambda: when(folder))
    kill(process)


def check(folder: Path, whole: Floats) -> None:
    """The output is there, right to the last bit, and nothing but it."""
    np.testing.assert_array_equal(read_members(folder / "out.nc"), whole)
    assert {path.name for path in folder.iterdir()} == {"tas.nc", "tiny", "out.nc"}


def test_killed_at_ten_random_moments(folder: Path, undisturbed: tuple[Path, Floats]) -> None:
    chance = random.Random(4)
    # Without a wait there are no parts yet, or not even a process that has loaded what it needs.
    for _ in range(7):
        process = begin(folder)
        time.sleep(chance.uniform(0.2, 3.0))
        kill(process)
        if placed(folder):
            break
    for moment in (some_parts, joining, placed):
        if not placed(folder):
            interrupted(folder, moment)
    again = finish(folder)
    assert again.returncode == 0, again.stderr
    assert "out.nc is finished" in again.stderr
    check(folder, undisturbed[1])


def test_killed_while_joining(folder: Path, undisturbed: tuple[Path, Floats]) -> None:
    interrupted(folder, joining)
    assert not placed(folder)
    again = finish(folder)
    assert again.returncode == 0, again.stderr
    assert "resuming: 36 of 36 fields are done" in again.stderr
    check(folder, undisturbed[1])


def test_an_output_of_another_run_is_not_taken_for_finished(folder: Path) -> None:
    interrupted(folder, placed)
    other = finish(folder, "--seed", "3")
    assert other.returncode == 6
    assert "out.nc exists already; give --overwrite to replace it" in other.stderr


def test_two_runs_at_once(folder: Path, undisturbed: tuple[Path, Floats]) -> None:
    first = begin(folder)
    wait_for(first, lambda: some_parts(folder))
    first.send_signal(signal.SIGSTOP)  # so that it does not end before the others have tried
    for words in ((), ("--overwrite",), ("--seed", "5", "--overwrite")):
        second = finish(folder, *words)
        assert second.returncode == 6, second.stderr
        assert f"out.nc is being written by another process ({first.pid} on " in second.stderr
    first.send_signal(signal.SIGCONT)
    waiting = finish(folder, "--wait")
    assert waiting.returncode == 0, waiting.stderr
    assert first.wait(PATIENCE) == 0
    check(folder, undisturbed[1])


def test_started_together(folder: Path, undisturbed: tuple[Path, Floats]) -> None:
    together = [begin(folder, "--wait") for _ in range(2)]
    ends = [process.communicate(timeout=PATIENCE) for process in together]
    assert [process.returncode for process in together] == [0, 0], ends
    check(folder, undisturbed[1])


def test_a_flipped_bit_is_drawn_anew(folder: Path, undisturbed: tuple[Path, Floats]) -> None:
    interrupted(folder)
    damaged = parts(folder)[1]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    again = finish(folder)
    assert again.returncode == 0, again.stderr
    assert f"{damaged.name} is damaged, or no part of this run: it is drawn anew" in again.stderr
    check(folder, undisturbed[1])


def test_a_changed_input_is_refused(folder: Path) -> None:
    interrupted(folder)
    before = parts(folder)
    source = folder / "tas.nc"
    content, stamp = source.read_bytes(), source.stat().st_mtime_ns
    with netCDF4.Dataset(source, "a") as file:
        file["tas"][9, 1, 1] += 1.0
    one_value = source.read_bytes()
    assert len(one_value) == len(content)
    for changed, later in ((one_value, 0), (content, 1), (content + b"\0", 0)):
        source.write_bytes(changed)
        os.utime(source, ns=(stamp, stamp + later))
        again = finish(folder)
        assert again.returncode == 7, again.stderr
        assert "holds parts of another run (other inputs); repeat its command" in again.stderr
        assert parts(folder) == before


def catches(process: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of a signal, as Linux tells."""
    status = Path(f"/proc/{process}/status")
    if not status.is_file():
        return True
    (mask,) = (x.split()[1] for x in status.read_text().splitlines() if x.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("number", "moment", "code"),
    [
        (signal.SIGTERM, None, 75),
        (signal.SIGHUP, None, 75),
        (signal.SIGINT, None, 130),
        (signal.SIGHUP, some_parts, 75),
        (signal.SIGINT, some_parts, 130),
        (signal.SIGTERM, joining, 75),
    ],
)
def test_signals_end_with_their_codes(
    number: signal.Signals, moment: Callable[[Path], bool] | None, code: int, folder: Path
) -> None:
    if moment is None:
        # So many steps that it cannot have ended before the signal is heeded.
        process = begin(folder, "--steps", "1000", program=("-m", "climdown"))
        wait_for(process, lambda: catches(process.pid, signal.SIGTERM))
        time.sleep(0.5)  # while it loads what it needs
    else:
        process = begin(folder)
        wait_for(process, lambda: moment(folder))
    process.send_signal(number)
    _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, log
    assert "Traceback" not in log
    left = {path.name for path in folder.iterdir()} - {".out.nc.parts"}
    assert left == {"tas.nc", "tiny"}


def test_what_no_disk_holds_is_refused_before_anything_is_computed(folder: Path) -> None:
    done = finish(folder, "--members", "100000000")
    assert done.returncode == 6, done.stderr
    assert "1200000000 fields need" in done.stderr
    assert "choose fewer --members or a shorter --time" in done.stderr
    assert {path.name for path in folder.iterdir()} == {"tas.nc", "tiny"}
