"""Finding priors by name: those bundled with the package, and folders on disk."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from climdown.errors import PriorError
from climdown.priors.card import CARD_FILE, Prior, read_prior


def bundled_folder() -> Path:
    """Where the priors that come with the package lie."""
    return Path(str(resources.files("climdown.priors") / "bundled"))


def bundled_names() -> list[str]:
    """Names of the priors that come with the package, sorted."""
    return sorted(path.parent.name for path in bundled_folder().glob(f"*/{CARD_FILE}"))


def find_prior(name: str | Path) -> Path:
    """The folder of a prior, given a bundled name or the path of a folder.

    Raises:
        PriorError: there is no such prior; near names are suggested.
    """
    if _is_folder(name):
        return Path(name)
    names = bundled_names()
    if str(name) in names:
        return bundled_folder() / name
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    listed = ", ".join(names) or "none"
    raise PriorError(
        f"no prior '{name}': {hint}bundled are {listed}; "
        "otherwise give the path of a prior's folder"
    )


def _is_folder(name: str | Path) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # too long, or holding a null
        return False


def load_prior(name: str | Path) -> Prior:
    """Read and verify a prior by name or path.

    Raises:
        PriorError: unknown, damaged, or newer than this climdown reads.
    """
    return read_prior(find_prior(name))
