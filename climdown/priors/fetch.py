"""Fetching a prior into the cache: from the Hub, from a mirror of it, or from a folder."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from climdown.errors import ConfigError, OutputError, PriorError
from climdown.priors.card import CARD_FILE, read_card
from climdown.priors.hub_cache import PRIOR_FILES, Cache, is_complete, is_intact, writing
from climdown.priors.prior import read_prior
from climdown.priors.store import (
    NAMED,
    Reference,
    bundled_folder,
    bundled_names,
    names_of_bundled,
    parse_reference,
)

if TYPE_CHECKING:
    from climdown.priors.hub import Hub, RemoteFile

log = logging.getLogger(__name__)

# Called with the bytes fetched, the bytes in all, and the name of the current file.
Progress = Callable[[int, int, str], None]


def fetch_prior(
    name: str,
    *,
    revision: str | None = None,
    source: str | None = None,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Fetch a prior and verify it; gives its folder.

    Files in the cache are not fetched again; an interrupted transfer is resumed.

    Args:
        name: bundled (nothing to fetch), named, or a repository ORG/NAME; may end in @REVISION.
        revision: branch, tag or commit.
        source: a prior's folder, a folder that holds NAME/, or the address of a mirror of the Hub;
            None takes HF_ENDPOINT, else the Hub itself.
        cache_dir: None takes huggingface_hub's cache (HF_HUB_CACHE, HF_HOME).
        offline: take only what is in the cache; HF_HUB_OFFLINE says the same.

    Raises:
        PriorError: unknown, not available, or damaged.
        OutputError: the cache cannot be written, or the disk is full.
        ConfigError: options that contradict each other.
    """
    if name in bundled_names():
        if revision is not None:
            raise ConfigError(f"prior '{name}' is bundled and has no revisions")
        return bundled_folder() / name
    reference = parse_reference(name, revision)
    cache = Cache.at(cache_dir)
    remote = source is not None and "://" in source
    if source is not None and not remote:
        if revision is not None:
            raise ConfigError("--revision chooses from a Hub; a folder has no revisions")
        return _from_folder(reference, Path(source).expanduser(), cache)
    if offline and remote:
        raise ConfigError(f"--offline and --from {source} contradict each other; give one")
    if offline or _offline_by_environment():
        return _from_cache(reference, cache)
    # Help and offline use should not wait for the client.
    from climdown.priors.hub import Hub

    return _from_hub(Hub.at(source), reference, cache, progress or _silent)


def _silent(done: int, total: int, name: str) -> None:
    """No progress."""


def _offline_by_environment() -> bool:
    """Whether huggingface_hub would refuse to go online."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def _from_cache(reference: Reference, cache: Cache) -> Path:
    folder = cache.find(reference.repo_id, reference.revision)
    if folder is None:
        raise PriorError(
            f"prior '{reference.text}' is not in the cache {cache.root}, and this is offline: "
            f"fetch it once with the network, or by --from DIR; bundled are {names_of_bundled()}"
        )
    read_prior(folder)
    return folder


def _from_folder(reference: Reference, source: Path, cache: Cache) -> Path:
    """Copy a prior from a folder, or from its subfolder of that name."""
    places = [source, source / reference.name, source / reference.repo_id]
    places.append(source / reference.repo_id.split("/")[1])
    folder = next((place for place in places if (place / CARD_FILE).exists()), None)
    if folder is None:
        raise PriorError(
            f"{source} is neither a prior's folder nor holds {reference.name}/ (no {CARD_FILE})"
        )
    held = read_card(folder).name
    if reference.name in NAMED and held != reference.name:
        raise PriorError(f"{folder} holds the prior '{held}', not '{reference.name}'")
    with writing(cache.root):
        commit = cache.adopt(reference.repo_id, folder)
        cache.point(reference.repo_id, reference.revision, commit)
    return cache.snapshot(reference.repo_id, commit)


def _from_hub(hub: Hub, reference: Reference, cache: Cache, progress: Progress) -> Path:
    from climdown.priors.refusals import HubUnavailableError

    repo_id, revision = reference.repo_id, reference.revision
    cached = cache.find(repo_id, revision)
    if cached is not None and cached.name == revision and is_intact(cached):
        return cached  # a commit never changes: nothing to ask
    try:
        card = hub.describe(repo_id, revision, CARD_FILE, root=cache.root)
    except HubUnavailableError as error:
        if cached is None:
            raise
        read_prior(cached)
        log.warning("%s; taking the copy fetched before", error)
        return cached
    folder = _place(hub, card, cache, progress)
    with writing(cache.root):
        cache.point(repo_id, revision, card.commit)
    log.info("verified %s at %s", repo_id, card.commit[:12])
    return folder


def _place(hub: Hub, card: RemoteFile, cache: Cache, progress: Progress) -> Path:
    """Fetch what the cache lacks of a commit and verify it; what is damaged, once more."""
    folder, again = cache.snapshot(card.repo_id, card.commit), False
    while True:
        if not is_complete(folder):
            _download(hub, card, cache, progress)
        try:
            read_prior(folder)
            return folder
        except PriorError as error:
            with writing(cache.root):
                cache.discard(card.repo_id, card.commit)
            if again:
                raise PriorError(
                    f"{card.repo_id} as {hub.endpoint} has it at {card.commit[:12]} is damaged: "
                    f"{error}; nothing was kept"
                ) from None
            log.warning("damaged: %s; fetching it once more", error)
            again = True


def _download(hub: Hub, card: RemoteFile, cache: Cache, progress: Progress) -> None:
    """All files of a commit, the card first: if it is not to be read, the rest is not fetched."""
    rest = [name for name in PRIOR_FILES if name != CARD_FILE]
    files = [card]
    files += [hub.describe(card.repo_id, card.commit, name, root=cache.root) for name in rest]
    total, done = sum(file.size for file in files), 0
    log.info(
        "fetching %s at %s from %s: %.1f MB", card.repo_id, card.commit[:12], hub.endpoint,
        total / 1e6,
    )  # fmt: skip
    with writing(cache.root):
        _check_room(files, cache)
    for file in files:
        hub.store(file, cache, lambda n, at=done, name=file.name: progress(at + n, total, name))  # type: ignore[misc]
        done += file.size
        if file is card:
            try:
                read_card(cache.snapshot(card.repo_id, card.commit))
            except PriorError:
                with writing(cache.root):
                    cache.discard(card.repo_id, card.commit)
                raise


def _check_room(files: Sequence[RemoteFile], cache: Cache) -> None:
    """Refuse at once what will not fit; other processes may still fill the disk meanwhile."""
    missing = [f for f in files if not cache.blob(f.repo_id, f.digest).is_file()]
    needed = sum(file.size for file in missing)
    cache.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache.root).free
    if needed > free:
        raise OutputError(
            f"no space left for the cache {cache.root}: {needed / 1e6:.1f} MB needed, "
            f"{free / 1e6:.1f} MB free; free some, or choose another folder by --cache-dir"
        )
