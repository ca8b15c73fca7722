"""Outputs and inputs as files: what may be written, who writes it, and which version is read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from climdown import files
from climdown.adjust.ot import ot_file
from climdown.adjust.qdm import qdm_file
from climdown.errors import OutputError
from climdown.files import check_output, claimed, file_fingerprint
from climdown.grid import Grid
from climdown.regrid.file import regrid_file
from tests.commands import write_tas

# Holds an output until its standard input ends.
HOLD = (
    "import sys; from pathlib import Path; from climdown.files import claimed\n"
    "with claimed(Path(sys.argv[1])):\n"
    "    print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.nc"


def hold(output: Path) -> subprocess.Popen[str]:
    """A process that holds an output."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output)], stdin=pipe, stdout=pipe, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_an_output_that_another_process_writes_is_refused_until_it_ends(output: Path) -> None:
    process = hold(output)
    with (
        pytest.raises(
            OutputError, match=rf"another process \({process.pid} on .*\); wait"
        ) as error,
        claimed(output),
    ):
        pass
    assert "--wait" in str(error.value)
    process.communicate("")
    with claimed(output):
        pass
    assert list(output.parent.iterdir()) == []


def test_a_killed_process_holds_nothing(output: Path) -> None:
    process = hold(output)
    process.kill()
    process.wait()
    assert [path.name for path in output.parent.iterdir()] == [".out.nc.lock"]
    with claimed(output):
        pass
    assert list(output.parent.iterdir()) == []


def test_waiting_ends_when_the_other_process_does(output: Path) -> None:
    process = hold(output)
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("sys.argv[1])", "sys.argv[1]), wait=True"), output],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    process.communicate("")
    assert waiting.communicate(timeout=60)[0] == "held\n"
    assert list(output.parent.iterdir()) == []


def test_a_claim_removes_what_killed_processes_left_and_nothing_else(output: Path) -> None:
    for name in (".out.nc.0a.tmp", ".out.nc.gz.0a.tmp", "out.nc.tmp", ".out.nc.parts"):
        (output.parent / name).write_text("")
    gone = output.parent / ".out.nc.parts.0a.tmp"
    gone.mkdir()
    (gone / "unit").write_text("")
    with claimed(output):
        pass
    left = {path.name for path in output.parent.iterdir()}
    assert left == {".out.nc.gz.0a.tmp", "out.nc.tmp", ".out.nc.parts"}


def test_a_file_system_without_locks_is_told(
    output: Path, monkeypatch: pytest.MonkeyPatch, warned: pytest.LogCaptureFixture
) -> None:
    def unsupported(_descriptor: int, _operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with claimed(output):
        pass
    assert "the file system knows no locks (Function not implemented)" in warned.text


def test_a_claim_in_no_folder_is_an_output_error(tmp_path: Path) -> None:
    match = r"cannot write beside .*out\.nc: No such file"
    with pytest.raises(OutputError, match=match), claimed(tmp_path / "nowhere" / "out.nc"):
        pass


@pytest.mark.parametrize("name", ["a" * 252 + ".nc", "ä" * 126 + ".nc", "日" * 84 + ".nc"])
def test_names_as_long_as_a_file_system_has_them_can_be_written(name: str, tmp_path: Path) -> None:
    assert len(os.fsencode(name)) == 255
    path = tmp_path / name
    with claimed(path), files.placed(path) as temporary:
        temporary.write_text("new")
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_long_names_with_one_beginning_are_told_apart(tmp_path: Path) -> None:
    first, second = (files.beside(tmp_path / ("a" * 250 + end), "parts") for end in ("1", "2"))
    assert first != second


def test_links_are_not_replaced(output: Path) -> None:
    target = output.with_name("precious.nc")
    target.write_text("precious")
    output.symlink_to(target)
    with pytest.raises(OutputError, match=r"out\.nc is a link to .*precious\.nc; name the file"):
        check_output(output, overwrite=True)
    target.unlink()
    with pytest.raises(OutputError, match=r"out\.nc is a link to"):
        check_output(output, overwrite=False)


def test_what_is_no_regular_file_is_not_replaced(output: Path) -> None:
    os.mkfifo(output)
    with pytest.raises(OutputError, match=r"out\.nc is no regular file; expected the name of"):
        check_output(output, overwrite=True)


def test_an_output_that_exists_is_refused_unless_it_may_be_replaced(output: Path) -> None:
    check_output(output, overwrite=False)
    output.write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match=r"out\.nc exists already; give --overwrite"):
        check_output(output, overwrite=False)
    check_output(output, overwrite=True)


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; expected the name of a file"):
        check_output(tmp_path, overwrite=True)


def test_the_folder_of_an_output_must_exist(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder .*nowhere of the output does not exist"):
        check_output(tmp_path / "nowhere" / "out.nc", overwrite=False)


@pytest.mark.parametrize("place", [0, 1 << 19, (3 << 20) // 2, -1])
def test_a_fingerprint_tells_contents_and_sizes_apart(place: int, tmp_path: Path) -> None:
    path = tmp_path / "data.nc"
    content = bytearray(3 << 20)
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))
    before = file_fingerprint(path)
    assert file_fingerprint(path) == before
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))
    assert file_fingerprint(path) != before
    path.write_bytes(bytes((3 << 20) + 1))
    os.utime(path, ns=(0, 0))
    assert file_fingerprint(path) != before


def test_a_fingerprint_belongs_to_the_content_and_not_to_the_name(tmp_path: Path) -> None:
    for name in ("a.nc", "b.nc"):
        (tmp_path / name).write_bytes(b"short")
        os.utime(tmp_path / name, ns=(0, 0))
    assert file_fingerprint(tmp_path / "a.nc") == file_fingerprint(tmp_path / "b.nc")


@pytest.mark.parametrize("verify", [False, True])
def test_a_time_stamp_counts_unless_every_byte_is_read(verify: bool, tmp_path: Path) -> None:
    path = tmp_path / "data.nc"
    path.write_bytes(b"short")
    before = file_fingerprint(path, verify=verify)
    os.utime(path, ns=(0, 1))
    assert (file_fingerprint(path, verify=verify) == before) is verify


def test_a_byte_that_no_sample_reads_is_found_by_reading_all(tmp_path: Path) -> None:
    path = tmp_path / "data.nc"
    content = bytearray(64 << 20)
    found: dict[bool, set[str]] = {False: set(), True: set()}
    for place in (None, (1 << 14) + 5):
        if place is not None:
            content[place] = 1
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))
        for verify, digests in found.items():
            digests.add(file_fingerprint(path, verify=verify))
    assert {verify: len(digests) for verify, digests in found.items()} == {False: 1, True: 2}


def test_every_file_that_is_written_is_held(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the functions, and also the map of `qdm`."""
    write_tas(output.with_name("tas.nc"))
    monkeypatch.chdir(output.parent)
    tas, other = ["tas.nc"], output.with_name("other.nc")
    calls: list[Callable[[], object]] = [
        lambda: regrid_file(Path("tas.nc"), output, target=lambda _: Grid.regular(40, 42, 0, 1, 1)),
        lambda: ot_file(tas, output, ref=tas, hist=tas),
        lambda: qdm_file(tas, output, ref=tas, hist=tas),
        lambda: qdm_file(tas, other, ref=tas, hist=tas, save_map=output),
    ]
    process = hold(output)
    for call in calls:
        match = rf"out\.nc is being written by another process \({process.pid} on"
        with pytest.raises(OutputError, match=match) as error:
            call()
        assert "--wait" not in str(error.value), "only `climdown run` has it"
    process.communicate("")
    assert [path.name for path in output.parent.iterdir()] == ["tas.nc"]
