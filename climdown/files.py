"""Files: placed whole or not at all, told apart by what they hold, never one's own input.

Every file that climdown writes goes through `placed`.
"""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from climdown.errors import ConfigError, InputError, OutputError

_HASHED_BYTES = 1 << 20


@contextmanager
def placed(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder, renamed when all went well, else removed.

    Contents and name are on the disk before this ends: what was made from other files may then
    take their place.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    try:
        with renamed(path) as temporary:
            yield temporary
    except (OSError, RuntimeError) as error:
        # The netCDF library and torch report a full disk as a RuntimeError.
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot write {path}: {reason}") from None


@contextmanager
def renamed(path: Path) -> Iterator[Path]:
    """As `placed`, with errors as they come, for callers that have a better remedy to offer."""
    # Random, since neither threads nor the machines of a cluster differ by the number of a process.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left half written of a file, which nobody is writing now."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        temporary.unlink(missing_ok=True)


def place_text(path: Path, text: str) -> None:
    """Write a small file, as `placed` does."""
    with placed(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def flush_folder(folder: Path) -> None:
    """Wait until names made or removed in a folder are on the disk, where the system can tell."""
    with suppress(OSError):  # some file systems know no such thing
        _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists or whose folder does not.

    Raises:
        OutputError: says which, and the remedy.
    """
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists already; give --overwrite to replace it")
    if output.is_dir():
        raise OutputError(f"{output} is a folder; expected the name of a NetCDF file")
    if not output.resolve().parent.is_dir():
        raise OutputError(f"the folder {output.resolve().parent} of the output does not exist")


def refuse_inputs(output: Path, inputs: Iterable[str | Path]) -> None:
    """Check that an output is none of the files it is made from, given as paths and patterns.

    Raises:
        ConfigError: it is.
    """
    if not output.exists():
        return
    for pattern in inputs:
        files = [str(pattern)] if Path(pattern).is_file() else glob.glob(str(pattern))  # noqa: PTH207
        if any(output.samefile(path) for path in files):
            raise ConfigError(f"{output} is both input and output; choose another output")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_fingerprint(path: Path | str) -> str:
    """Hash of a file's size, beginning and end: tells versions apart without reading it all.

    Of a folder, a Zarr store, the names and sizes of its files and all that describes them.

    Raises:
        InputError: the path is an address, whose versions cannot be told apart.
    """
    if isinstance(path, str):
        raise InputError(
            f"{path}: is a remote address; expected a local file or Zarr store, whose versions can "
            "be told apart when a run is resumed; copy what is needed first"
        )
    if path.is_dir():
        return _folder_fingerprint(path)
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        digest.update(stream.read(_HASHED_BYTES))
        stream.seek(max(0, size - _HASHED_BYTES))
        digest.update(stream.read())
    return digest.hexdigest()


def _folder_fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        # Zarr's metadata: zarr.json, .zarray, .zattrs and the like.
        if path.name == "zarr.json" or path.name.startswith(".z"):
            digest.update(path.read_bytes())
    return digest.hexdigest()
