"""The cache of fetched priors: that of huggingface_hub, in that library's own layout.

A repository ORG/NAME has the folder `models--ORG--NAME`: contents in `blobs/`, each named by its
hash; a folder `snapshots/COMMIT/` of links to them; files `refs/REVISION` with the commit that a
branch or tag stood for when it was fetched. A prior counts as fetched once all of its files are in
its snapshot, and a revision is pointed at it only after they have been verified.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from climdown.errors import OutputError, PriorError
from climdown.files import file_digest, flush_folder, renamed
from climdown.priors.bounds import max_bytes
from climdown.priors.card import CARD_FILE, FIELDS_FILE, MODEL_FILE, README_FILE
from climdown.priors.prior import read_prior

# The card first: it is small and says whether the others are worth fetching.
PRIOR_FILES = (CARD_FILE, FIELDS_FILE, MODEL_FILE, README_FILE)
DEFAULT_REVISION = "main"
_COMMIT = re.compile("[0-9a-f]{40}")
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def default_folder() -> Path:
    """The cache that huggingface_hub would use: HF_HUB_CACHE, else `hub` below HF_HOME."""
    shared = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", f"{shared}/huggingface")
    folder = os.environ.get("HF_HUB_CACHE", os.environ.get("HUGGINGFACE_HUB_CACHE", f"{home}/hub"))
    return Path(os.path.expandvars(folder)).expanduser()


@dataclass(frozen=True)
class Fetched:
    """A prior in the cache: its repository, commit and the revisions that point at it."""

    repo_id: str
    commit: str
    revisions: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Cache:
    """A cache folder."""

    root: Path

    @classmethod
    def at(cls, folder: str | Path | None = None) -> Cache:
        """The cache in a folder, or the default one."""
        return cls(default_folder() if folder is None else Path(folder).expanduser().absolute())

    def home(self, repo_id: str) -> Path:
        """The folder of a repository."""
        return self.root / "--".join(["models", *repo_id.split("/")])

    def blob(self, repo_id: str, digest: str) -> Path:
        """The path of a content."""
        return self.home(repo_id) / "blobs" / digest

    def lock(self, repo_id: str, digest: str) -> Path:
        """The file that huggingface_hub locks while it fetches a content."""
        return self.root / ".locks" / self.home(repo_id).name / f"{digest}.lock"

    def snapshot(self, repo_id: str, commit: str) -> Path:
        """The folder of a commit, whether it is there or not."""
        return self.home(repo_id) / "snapshots" / commit

    def commit(self, repo_id: str, revision: str) -> str | None:
        """The commit that a revision stood for when it was fetched."""
        if _COMMIT.fullmatch(revision):
            return revision
        try:
            text = (self.home(repo_id) / "refs" / revision).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return text if _COMMIT.fullmatch(text) else None

    def find(self, repo_id: str, revision: str) -> Path | None:
        """The folder of a fetched prior, not yet verified, or None."""
        commit = self.commit(repo_id, revision)
        folder = None if commit is None else self.snapshot(repo_id, commit)
        return folder if folder is not None and is_complete(folder) else None

    def fetched(self, repo_id: str | None = None) -> Iterator[Fetched]:
        """All priors in the cache, or those of a repository."""
        homes = self.root.glob("models--*--*") if repo_id is None else [self.home(repo_id)]
        for home in sorted(homes):
            name = "/".join(home.name.split("--")[1:])
            for folder in sorted((home / "snapshots").glob("*")):
                if _COMMIT.fullmatch(folder.name) and is_complete(folder):
                    revisions = tuple(_revisions(home, folder.name))
                    yield Fetched(name, folder.name, revisions, folder)

    def point(self, repo_id: str, revision: str, commit: str) -> None:
        """Let a branch or tag stand for a commit from now on; readers see the old or the new."""
        if revision == commit:
            return
        path = self.home(repo_id) / "refs" / revision
        path.parent.mkdir(parents=True, exist_ok=True)
        with renamed(path) as temporary:
            temporary.write_text(commit, encoding="ascii")

    def discard(self, repo_id: str, commit: str) -> None:
        """Remove a snapshot, its contents, and the revisions that point at it.

        Contents that other snapshots link to stay, unless they are damaged.
        """
        home, folder = self.home(repo_id), self.snapshot(repo_id, commit)
        others = {
            path.resolve()
            for path in (home / "snapshots").glob("*/*")
            if path.parent.name != commit
        }
        for path in (folder / name for name in PRIOR_FILES):
            content = path.resolve()
            path.unlink(missing_ok=True)
            inside = content.parent == (home / "blobs").resolve() and content.is_file()
            if inside and (content not in others or not is_content(content, content.name)):
                content.unlink()
        for revision in _revisions(home, commit):
            (home / "refs" / revision).unlink()
        with suppress(OSError):  # absent, or not empty
            folder.rmdir()

    def remove(self, repo_id: str, revision: str | None = None) -> None:
        """Remove a fetched prior: all of it, or one revision.

        Raises:
            PriorError: it has not been fetched, or the repository holds no prior.
        """
        home = self.home(repo_id)
        snapshots = [p for p in (home / "snapshots").glob("*") if _COMMIT.fullmatch(p.name)]
        if not home.is_dir():
            raise PriorError(f"prior '{repo_id}' has not been fetched into {self.root}")
        if snapshots and not any((folder / CARD_FILE).exists() for folder in snapshots):
            raise PriorError(f"{home} holds no prior; it was not fetched by climdown")
        if revision is not None:
            commit = self.commit(repo_id, revision)
            if commit is None or not self.snapshot(repo_id, commit).is_dir():
                raise PriorError(f"prior '{repo_id}' has no revision '{revision}' in {self.root}")
            self.discard(repo_id, commit)
        else:
            # Renamed first, so that no reader meets a half-removed prior.
            removed = self.root / f".removed-{uuid.uuid4().hex}"
            home.rename(removed)
            shutil.rmtree(removed)

    def adopt(self, repo_id: str, source: Path) -> str:
        """Copy a prior's folder into the cache, verified, as a snapshot; gives its commit.

        The commit is made up: the first digits of the hash of the card.

        Raises:
            PriorError: the folder is not a prior, or holds something else than plain files.
        """
        for name in PRIOR_FILES:
            check_plain(source, name)
        snapshots = self.home(repo_id) / "snapshots"
        snapshots.mkdir(parents=True, exist_ok=True)
        temporary = snapshots / f".adopted-{uuid.uuid4().hex}"
        try:
            temporary.mkdir()
            for name in PRIOR_FILES:
                shutil.copyfile(source / name, temporary / name)
            commit = read_prior(temporary).digest[:40]
            if not is_intact(snapshots / commit):
                self.discard(repo_id, commit)
                temporary.rename(snapshots / commit)
                flush_folder(snapshots)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return commit


def is_complete(folder: Path) -> bool:
    """Whether all files of a prior are in a folder."""
    return all((folder / name).is_file() for name in PRIOR_FILES)


def is_intact(folder: Path) -> bool:
    """Whether a folder holds a prior of which every hash and shape is right."""
    try:
        read_prior(folder)
    except PriorError:
        return False
    return is_complete(folder)


def is_content(path: Path, digest: str) -> bool:
    """Whether a file has the hash it is named by: SHA-256, or that of a git blob (SHA-1)."""
    if len(digest) == 64:
        return file_digest(path) == digest
    hashed = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            hashed.update(piece)
    return hashed.hexdigest() == digest


def check_plain(folder: Path, name: str) -> None:
    """Refuse a file of a prior that leads elsewhere, is no plain file, or is too large.

    Links as huggingface_hub makes them, from a snapshot to the contents beside it, are good.

    Raises:
        PriorError: says what the path is.
    """
    path = folder / name
    try:
        status = path.stat()
    except OSError as error:
        raise PriorError(f"{folder} is not a prior: {name}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise PriorError(f"{path} is no plain file")
    if status.st_size > max_bytes(name):
        raise PriorError(f"{path} has {status.st_size} bytes; at most {max_bytes(name)} are read")
    base, target = folder.resolve(), path.resolve()
    contents = base.parent.parent / "blobs" if base.parent.name == "snapshots" else base
    if target.parent not in (base, contents):
        raise PriorError(f"{path} is a link that leads out of the folder; copy the file itself")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say plainly that a disk is full or a folder cannot be written.

    Raises:
        OutputError: in place of any OSError inside.
    """
    try:
        yield
    except OSError as error:
        raise write_error(error, folder) from None


def write_error(error: OSError, folder: Path) -> OutputError:
    """What to say of a failure to write into the cache."""
    reason = error.strerror or str(error)
    if error.errno in _FULL_DISK:
        return OutputError(
            f"no space left for the cache {folder} ({reason}): free some, or choose another "
            "folder by --cache-dir or HF_HOME, and run the same command again"
        )
    return OutputError(
        f"cannot write into the cache {folder} ({reason}): choose another folder by --cache-dir "
        "or HF_HOME"
    )


def _revisions(home: Path, commit: str) -> list[str]:
    """Branches and tags that stand for a commit."""
    refs = home / "refs"
    revisions = []
    for path in sorted(refs.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            try:
                text = path.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError):
                continue
            if text == commit:
                revisions.append(path.relative_to(refs).as_posix())
    return revisions
