"""Files: placed whole or not at all, told apart by what they hold, never one's own input.

Every file that climdown writes goes through `placed`.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from climdown.errors import ConfigError, InputError, OutputError

log = logging.getLogger(__name__)

# A fingerprint samples the first and last block and so many between.
_SAMPLES, _SAMPLE_BYTES = 256, 1 << 14
_LEFTOVER = re.compile(r"(parts\.)?[0-9a-f]+\.tmp")
# Endings and a point are added to names, which may have 255 bytes.
_LONGEST_NAME, _KEPT_CHARACTERS = 200, 40


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
    temporary = beside(path, f"{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left half written of a file, which nobody is writing now."""
    stem = beside(path, "").name
    for temporary in path.parent.glob(f"{glob.escape(stem)}*.tmp"):
        # Not those of another file whose name goes on where this one ends.
        if not _LEFTOVER.fullmatch(temporary.name.removeprefix(stem)):
            continue
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def beside(path: Path, ending: str) -> Path:
    """A hidden file or folder beside one, named after it; long names are shortened."""
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
        name = f"{name[:_KEPT_CHARACTERS]}-{digest}"
    return path.with_name(f".{name}.{ending}")


def parts_folder(output: Path) -> Path:
    """Where the parts of an output lie."""
    return beside(output, "parts")


def remove_folder(folder: Path) -> None:
    """Delete a folder; a process killed meanwhile leaves no half of it under its name."""
    gone = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.tmp")
    folder.rename(gone)
    shutil.rmtree(gone)


@contextmanager
def claimed(output: Path, *, wait: bool | None = False) -> Iterator[None]:
    """Hold an output alone, by an advisory lock beside it; leftovers of killed processes go.

    The lock ends with the process, however that ends, and holds on shared file systems that know
    locks (NFS, Lustre mounted with flock, GPFS).

    Args:
        wait: until another process lets go of it, instead of refusing; None where the command
            has no such option to be offered.

    Raises:
        OutputError: another process holds it, or its folder cannot be written.
    """
    path = beside(output, "lock")
    try:
        descriptor = _locked(path, output, wait=wait)
    except OSError as error:
        raise OutputError(f"cannot write beside {output}: {error.strerror}") from None
    try:
        remove_leftovers(output)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def owned(output: Path, inputs: Iterable[str | Path], *, overwrite: bool) -> Iterator[None]:
    """Hold an output that may be written, from the first look at it to its last byte.

    Raises:
        ConfigError, OutputError: as of `refuse_inputs`, `check_output` and `claimed`.
    """
    refuse_inputs(output, inputs)
    check_output(output, overwrite=overwrite)
    with claimed(output, wait=None):
        check_output(output, overwrite=overwrite)
        yield


def _locked(path: Path, output: Path, *, wait: bool | None) -> int:
    """A descriptor that holds the lock of a file under its name."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _lock(descriptor, wait=bool(wait)):
            holder = os.read(descriptor, 200).decode(errors="replace")
            os.close(descriptor)
            option = "" if wait is None else " give --wait,"
            raise OutputError(
                f"{output} is being written by another process ({holder or 'unknown'}); wait for "
                f"it,{option} or write another output"
            )
        # Whoever held it may have removed the name in the meantime.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()} on {os.uname().nodename}".encode())
                return descriptor
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Whether the lock was had; a file system without locks lets everybody in, and says so."""
    import fcntl  # the systems of clusters have it

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        log.warning(
            "the file system knows no locks (%s): see that no other process writes this output",
            error.strerror,
        )
    return True


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
    """Refuse an output that exists, that is no plain file, or whose folder does not exist.

    Raises:
        OutputError: says which, and the remedy.
    """
    if output.is_symlink():
        raise OutputError(
            f"{output} is a link to {output.readlink()}; name the file itself, or another output"
        )
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists already; give --overwrite to replace it")
    if output.is_dir():
        raise OutputError(f"{output} is a folder; expected the name of a file")
    if output.exists() and not output.is_file():
        raise OutputError(f"{output} is no regular file; expected the name of a file")
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


def file_fingerprint(path: Path | str, *, verify: bool = False) -> str:
    """What tells versions of a file apart: its size, time stamp, and a hash that samples it.

    Of a folder, a Zarr store, the same of all its files, sampled only where they describe it.

    Args:
        verify: hash every byte, and take no time stamp.

    Raises:
        InputError: the path is an address, whose versions cannot be told apart.
    """
    if isinstance(path, str):
        raise InputError(
            f"{path}: is a remote address; expected a local file or Zarr store, whose versions can "
            "be told apart when a run is resumed; copy what is needed first"
        )
    if path.is_dir():
        return _folder_fingerprint(path, verify=verify)
    if verify:
        return file_digest(path)
    status = path.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
    last = max(status.st_size - _SAMPLE_BYTES, 0)
    with path.open("rb") as stream:
        for number in range(_SAMPLES):
            stream.seek(last * number // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def fingerprints(paths: Iterable[Path | str], *, verify: bool) -> tuple[tuple[str, str], ...]:
    """Name and fingerprint of each path."""
    return tuple((Path(path).name, file_fingerprint(path, verify=verify)) for path in paths)


def _folder_fingerprint(folder: Path, *, verify: bool) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        status = path.stat()
        digest.update(f"{path.relative_to(folder).as_posix()} {status.st_size}\n".encode())
        # Zarr's metadata: zarr.json, .zarray, .zattrs and the like.
        if verify or path.name == "zarr.json" or path.name.startswith(".z"):
            digest.update(path.read_bytes())
        if not verify:
            digest.update(str(status.st_mtime_ns).encode())
    return digest.hexdigest()
