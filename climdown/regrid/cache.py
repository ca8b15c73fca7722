"""Weights on disk, under the hash of both sets of cells, the method and the backend."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import scipy.sparse as sp

from climdown.errors import OutputError
from climdown.files import placed

log = logging.getLogger(__name__)

# To be raised when weights of the same name would have other values.
_VERSION = 2


def cache_folder() -> Path:
    """The folder of weights: CLIMDOWN_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("CLIMDOWN_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "climdown"
    except RuntimeError:  # no home: a user without an entry, as in containers
        return Path(tempfile.gettempdir()) / f"climdown-{os.getuid()}"


def weights_path(source: str, target: str, method: str, backend: str) -> Path:
    """The file of weights between cells with these digests."""
    name = f"v{_VERSION}-{source[:16]}-{target[:16]}-{method}-{backend}.npz"
    return cache_folder() / "weights" / name


def read_weights(path: Path, shape: tuple[int, int]) -> sp.csr_array | None:
    """Stored weights, or None; a damaged file is logged and built again."""
    try:
        matrix = sp.csr_array(sp.load_npz(path))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except Exception as error:  # zip, NumPy and SciPy each raise their own on damaged files
        log.warning("%s is damaged (%s) and is built again", path, type(error).__name__)
        return None
    if matrix.shape != shape:
        log.warning("%s has shape %s, not %s, and is built again", path, matrix.shape, shape)
        return None
    return matrix


def write_weights(path: Path, matrix: sp.csr_array) -> None:
    """Store weights atomically; a cache that cannot be written is logged and is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with placed(path) as temporary, temporary.open("wb") as stream:
            sp.save_npz(stream, matrix)
    except (OSError, OutputError) as error:
        log.warning(
            "cannot keep regridding weights in %s (%s); CLIMDOWN_CACHE_DIR names another folder",
            path.parent,
            getattr(error, "strerror", None) or error,
        )
