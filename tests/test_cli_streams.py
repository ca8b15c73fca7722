"""Streams, names and locales that a command meets outside: one line at most, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import write_tas

COMMAND = f"{sys.executable} -m climdown"
FULL = Path("/dev/full")


def typed(words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of a shell, with the command line for `climdown`; the code is that of climdown."""
    return subprocess.run(
        ["bash", "-c", words.replace("climdown", COMMAND)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize(
    "words", ["--version", "--help", "inspect tas.nc", "inspect tas.nc --json"]
)
def test_a_full_standard_output_is_told(words: str, tmp_path: Path) -> None:
    write_tas(tmp_path / "tas.nc")
    done = typed(f"climdown {words} > {FULL}", tmp_path)
    assert done.returncode == 6
    expected = "climdown: error: cannot write to standard output: No space left on device\n"
    assert done.stderr == expected


@pytest.mark.parametrize("words", ["--version", "inspect tas.nc", "inspect tas.nc --json"])
def test_a_reader_that_has_had_enough_is_no_failure(words: str, tmp_path: Path) -> None:
    write_tas(tmp_path / "tas.nc")
    done = typed(f"climdown {words} | true; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_harm_no_output(closed: str, tmp_path: Path) -> None:
    write_tas(tmp_path / "tas.nc")
    open_ = typed("climdown regrid tas.nc open.nc --grid 0.5", tmp_path)
    shut = typed(f"climdown regrid tas.nc shut.nc --grid 0.5 {closed}", tmp_path)
    assert (open_.returncode, shut.returncode) == (0, 0)
    sizes = {(tmp_path / name).stat().st_size for name in ("open.nc", "shut.nc")}
    assert max(sizes) - min(sizes) < 64  # their histories differ
    assert "Traceback" not in shut.stderr


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_a_full_standard_error_changes_no_code(tmp_path: Path) -> None:
    done = typed(f"climdown regrid nowhere.nc out.nc --grid 1 2> {FULL}", tmp_path)
    assert done.returncode == 3


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}, {"LANG": "de_DE"}],
)
def test_names_of_any_letters_are_written_in_any_locale(
    environment: dict[str, str], tmp_path: Path
) -> None:
    write_tas(tmp_path / "größe_日.nc")
    done = typed("climdown regrid größe_日.nc ñandú.nc --grid 0.5", tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "ñandú.nc").exists()


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    done = typed(r"climdown inspect $'\xff\xfe.nc'", tmp_path)
    assert done.returncode == 3
    assert done.stderr == (
        "climdown: error: the name '\\xff\\xfe.nc' is not UTF-8 text; rename what it names\n"
    )


def test_names_of_255_bytes_are_read_and_written(tmp_path: Path) -> None:
    name, out = "a" * 252 + ".nc", "b" * 252 + ".nc"
    write_tas(tmp_path / "tas.nc").rename(tmp_path / name)
    done = typed(f"climdown regrid {name} {out} --grid 0.5", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {name, out}
