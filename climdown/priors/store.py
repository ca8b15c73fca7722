"""Finding priors by name: bundled with the package, in a folder, or fetched into the cache.

Nothing here touches the network; `climdown.priors.fetch` does.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from climdown.errors import PriorError
from climdown.priors.card import CARD_FILE
from climdown.priors.hub_cache import DEFAULT_REVISION, Cache, writing
from climdown.priors.prior import Prior, read_prior

# Repositories of the priors that are too large to bundle.
NAMED = {"era5-cm": "climdown/era5-cm", "era5-zssd": "climdown/era5-zssd"}
_PART = "[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPO_ID = re.compile(f"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


@dataclass(frozen=True)
class Reference:
    """A prior that can be fetched: its name, repository and revision (branch, tag or commit)."""

    name: str
    repo_id: str
    revision: str

    @property
    def text(self) -> str:
        """What a user types for it."""
        return self.name if self.revision == DEFAULT_REVISION else f"{self.name}@{self.revision}"


@dataclass(frozen=True)
class ListedPrior:
    """A prior that has a name, and where it is: `folder` is None until it has been fetched."""

    name: str
    origin: Literal["bundled", "fetched", "not fetched"]
    folder: Path | None


def bundled_folder() -> Path:
    """The folder of the priors that come with the package."""
    return Path(str(resources.files("climdown.priors") / "bundled"))


def bundled_names() -> list[str]:
    """Names of the priors that come with the package, sorted."""
    return sorted(path.parent.name for path in bundled_folder().glob(f"*/{CARD_FILE}"))


def known_priors(cache: Cache) -> list[ListedPrior]:
    """The bundled priors, the fetched ones, and the named ones that have not been fetched."""
    bundled = [ListedPrior(name, "bundled", bundled_folder() / name) for name in bundled_names()]
    aliases = {repo_id: name for name, repo_id in NAMED.items()}
    fetched = []
    for prior in cache.fetched():
        name = aliases.get(prior.repo_id, prior.repo_id)
        for revision in prior.revisions or (prior.commit,):
            text = Reference(name, prior.repo_id, revision).text
            fetched.append(ListedPrior(text, "fetched", prior.folder))
    names = {prior.name for prior in fetched}
    missing = [ListedPrior(name, "not fetched", None) for name in NAMED if name not in names]
    return [*bundled, *fetched, *missing]


def parse_reference(name: str, revision: str | None = None) -> Reference:
    """The prior that NAME, NAME@REVISION, ORG/NAME or ORG/NAME@REVISION stands for.

    Raises:
        PriorError: the name is neither named nor like a repository, or the revision malformed.
    """
    base, at, inline = name.partition("@")
    if at and revision is not None and revision != inline:
        raise PriorError(f"'{name}' and --revision {revision} name two revisions; give one")
    revision = revision if revision is not None else (inline if at else DEFAULT_REVISION)
    if base not in NAMED and not is_repo_id(base):
        raise _unknown(name)
    check_revision(revision)
    return Reference(base, NAMED.get(base, base), revision)


def check_revision(revision: str) -> None:
    """Refuse what is no name of a branch, tag or commit: it becomes the name of a file.

    Raises:
        PriorError: the text cannot be a revision.
    """
    if not _REVISION.fullmatch(revision) or ".." in revision or revision.endswith("/"):
        raise PriorError(f"'{revision}' is no revision; expected a branch, a tag or a commit")


def is_repo_id(text: str) -> bool:
    """Whether a text is an ORG/NAME as the Hub allows them."""
    return bool(_REPO_ID.fullmatch(text)) and "--" not in text and ".." not in text


def find_prior(name: str | Path, cache_dir: str | Path | None = None) -> Path:
    """The folder of a prior, given a path, a bundled name, or that of a fetched one.

    Raises:
        PriorError: there is no such prior; near names are suggested, or the command to fetch it.
    """
    if _is_folder(name):
        return Path(name)
    text = str(name)
    if text in bundled_names():
        return bundled_folder() / text
    reference = parse_reference(text)
    cache = Cache.at(cache_dir)
    if (folder := cache.find(reference.repo_id, reference.revision)) is not None:
        return folder
    revisions = [r for prior in cache.fetched(reference.repo_id) for r in prior.revisions]
    others = f"fetched are its revisions {', '.join(revisions)}; " if revisions else ""
    raise PriorError(
        f"no prior '{text}' here: it is no folder and was not fetched into {cache.root}; {others}"
        f"run `climdown fetch-prior {text}`, or use a bundled one: {names_of_bundled()}"
    )


def load_prior(name: str | Path, cache_dir: str | Path | None = None) -> Prior:
    """Read and verify a prior by name or path.

    Raises:
        PriorError: unknown, not fetched, damaged, or newer than this climdown reads.
    """
    return read_prior(find_prior(name, cache_dir))


def remove_prior(name: str, cache_dir: str | Path | None = None) -> Reference:
    """Remove a fetched prior, or one revision of it if the name has one.

    Raises:
        PriorError: it is bundled, unknown or not fetched.
        OutputError: its files cannot be removed.
    """
    if name in bundled_names():
        raise PriorError(f"prior '{name}' is bundled with climdown; only fetched ones are removed")
    reference = parse_reference(name)
    cache = Cache.at(cache_dir)
    with writing(cache.root):
        cache.remove(reference.repo_id, reference.revision if "@" in name else None)
    return reference


def names_of_bundled() -> str:
    """The bundled names, for a message."""
    return ", ".join(bundled_names()) or "none"


def suggestion(name: str) -> str:
    """'did you mean ...? ' where a name of a prior is near, else nothing."""
    candidates = [*bundled_names(), *NAMED, *NAMED.values()]
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f"did you mean {near[0]}? " if near else ""


def _unknown(name: str) -> PriorError:
    return PriorError(
        f"no prior '{name}': {suggestion(name)}bundled are {names_of_bundled()}; to be fetched "
        f"are {', '.join(NAMED)} and repositories ORG/NAME; otherwise give the path of a prior's "
        "folder"
    )


def _is_folder(name: str | Path) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # too long, or holding a null
        return False
