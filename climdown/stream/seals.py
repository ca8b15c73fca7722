"""Seals of part files: a checksum of what a part holds and of what it is a part of.

A seal stands behind the array in the file. It tells flipped bits, cut or empty files, and parts
that belong to another run or to another place in this one.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

log = logging.getLogger(__name__)

_MARK = b"climdown part\0"
_DIGEST_BYTES = 32
_SEAL_BYTES = len(_MARK) + _DIGEST_BYTES
_BLOCK_BYTES = 1 << 20


def seal(path: Path, key: str) -> None:
    """Write a seal behind what a file holds.

    Args:
        key: what the file is a part of, and which one.
    """
    digest = _digest(path, path.stat().st_size, key)
    with path.open("ab") as stream:
        stream.write(_MARK + digest)


def is_usable(path: Path, key: str, *, otherwise: str) -> bool:
    """Whether a part is whole and the one of this key; what is not is named in the log.

    Args:
        otherwise: what is done with such a part anew, for people.
    """
    intact = _is_intact(path, key)
    if not intact:
        log.warning("%s is damaged, or no part of this run: it is %s anew", path, otherwise)
    return intact


def _is_intact(path: Path, key: str) -> bool:
    """Whether a file ends in the seal of what it holds, under this key."""
    size = path.stat().st_size - _SEAL_BYTES
    if size < 0:
        return False
    with path.open("rb") as stream:
        stream.seek(size)
        written = stream.read()
    return written == _MARK + _digest(path, size, key)


def _digest(path: Path, size: int, key: str) -> bytes:
    """Of the first `size` bytes of a file, and of its key."""
    digest = hashlib.blake2b(key.encode(), digest_size=_DIGEST_BYTES)
    with path.open("rb") as stream:
        left = size
        while block := stream.read(min(left, _BLOCK_BYTES)):
            digest.update(block)
            left -= len(block)
    return digest.digest()
