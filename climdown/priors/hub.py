"""Reading from the Hub, or a mirror that speaks its protocol, by the client huggingface_hub.

The client asks what a file is, carries the session (proxies, certificates, tokens) and places the
contents in its cache. The transfer itself is here, because since version 1.18 the client begins a
file anew when a process was killed (huggingface_hub pull request 4228): a content grows in
`blobs/HASH.HOST.incomplete`, the next process asks for the rest, and nothing gets its name before
its hash is right. The host is in the name because on some cluster file systems a lock holds only
among the processes of one machine.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from filelock import Timeout
from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    get_session,
    hf_hub_download,
    hf_hub_url,
    utils,
)
from huggingface_hub.errors import HfHubHTTPError

from climdown.errors import ConfigError, PriorError
from climdown.priors.bounds import max_bytes
from climdown.priors.hub_cache import Cache, is_content
from climdown.priors.refusals import (
    SLOW_DOWN,
    Attempt,
    HTTPError,
    asked_wait,
    explained,
    status_of,
)
from climdown.version import __version__

log = logging.getLogger(__name__)

_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile("[0-9a-f]{40}")
_MOMENTARY = {408, SLOW_DOWN, 500, 502, 503, 504}
_FAILURES = 3
_LONGEST_WAIT = 60.0
_RANGE_REFUSED = 416
_LIBRARY: dict[str, Any] = {"library_name": "climdown", "library_version": __version__}
# Its annotations hide some of what the library documents.
_utils: Any = utils

T = TypeVar("T")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at a commit; `digest` is SHA-256, or SHA-1 as git names blobs."""

    repo_id: str
    commit: str
    name: str
    digest: str
    size: int


@dataclass(frozen=True)
class Hub:
    """The Hub at an address, by default that of HF_ENDPOINT, else huggingface.co."""

    endpoint: str

    @classmethod
    def at(cls, address: str | None = None) -> Hub:
        """The Hub at an address.

        Raises:
            ConfigError: that is no address.
        """
        address = address or os.environ.get("HF_ENDPOINT") or str(constants.ENDPOINT)
        if not _is_address(address):
            raise ConfigError(f"'{address}' is no address of a Hub; expected https://HOST")
        return cls(address.rstrip("/"))

    def describe(self, repo_id: str, revision: str, name: str, *, root: Path) -> RemoteFile:
        """Ask what a file is at a revision.

        Raises:
            PriorError: the Hub cannot be reached, refuses, or lacks the file.
        """
        url = hf_hub_url(repo_id, name, revision=revision, endpoint=self.endpoint)
        with explained(self._attempt(repo_id, revision, root)):
            metadata = _patiently(
                lambda: get_hf_file_metadata(url, endpoint=self.endpoint, **_LIBRARY)
            )
        digest, commit, size = metadata.etag or "", metadata.commit_hash or "", metadata.size
        # Both become names of files: nothing but hashes may.
        hashed = _HASH.fullmatch(digest) and _COMMIT.fullmatch(commit)
        if not hashed or size is None or size < 0:
            raise PriorError(
                f"{self.endpoint} does not answer as the Hub does for {repo_id}/{name} (commit, "
                "hash and size): check HF_ENDPOINT, --from and the proxy"
            )
        if size > max_bytes(name):
            raise PriorError(
                f"{repo_id}: {name} has {size} bytes; at most {max_bytes(name)} are fetched"
            )
        return RemoteFile(repo_id, commit, name, digest, size)

    def store(self, file: RemoteFile, cache: Cache, report: Callable[[int], None]) -> None:
        """Fetch a file into the cache, unless its content is in it.

        Args:
            report: called with the bytes of the file fetched so far.

        Raises:
            PriorError: the Hub cannot be reached, refuses, or twice sends another content.
            OutputError: the cache cannot be written.
        """
        blob = cache.blob(file.repo_id, file.digest)
        with explained(self._attempt(file.repo_id, file.commit, cache.root)):
            blob.parent.mkdir(parents=True, exist_ok=True)
            with _locked(cache.lock(file.repo_id, file.digest), file.name):
                if blob.is_file():
                    report(file.size)
                else:
                    self._complete(file, blob, report)
            hf_hub_download(
                file.repo_id,
                file.name,
                revision=file.commit,
                cache_dir=cache.root,
                endpoint=self.endpoint,
                **_LIBRARY,
            )

    def _attempt(self, repo_id: str, revision: str, root: Path) -> Attempt:
        def revisions() -> list[str]:
            refs = HfApi(endpoint=self.endpoint, **_LIBRARY).list_repo_refs(repo_id)
            return [ref.name for ref in (*refs.branches, *refs.tags)]

        return Attempt(self.endpoint, repo_id, revision, root=root, revisions=revisions)

    def _complete(self, file: RemoteFile, blob: Path, report: Callable[[int], None]) -> None:
        """Fetch what is missing of a content; one that turns out wrong is fetched once more."""
        host = re.sub("[^A-Za-z0-9-]", "-", platform.node())
        partial = blob.with_name(f"{blob.name}.{host}.incomplete")
        for _ in range(2):
            self._transfer(file, partial, report)
            if is_content(partial, file.digest):
                partial.replace(blob)
                return
            partial.unlink()
            log.warning("%s arrived damaged", file.name)
        raise PriorError(
            f"{self.endpoint} twice sent {file.name} of {file.repo_id} with another hash than it "
            "says; nothing was kept"
        )

    def _transfer(self, file: RemoteFile, partial: Path, report: Callable[[int], None]) -> None:
        """Append to a file until it is complete; broken connections are made anew."""
        failures = 0
        report(_size(partial))
        while (offset := _size(partial)) != file.size or not partial.exists():
            if offset > file.size:
                partial.unlink()
                continue
            try:
                self._stream(file, partial, offset, report)
                gained = _size(partial) > offset
                broken: Exception = PriorError(
                    f"{file.repo_id}: {file.name} breaks off after {_size(partial)} bytes of "
                    f"{file.size}; try again later"
                )
            except HTTPError as error:
                if status_of(error) not in {None, *_MOMENTARY}:
                    raise
                gained, broken = _size(partial) > offset, error
            if _size(partial) == file.size:
                return
            failures = 0 if gained else failures + 1
            if failures >= _FAILURES:
                raise broken
            _pause(failures, broken)

    def _stream(
        self, file: RemoteFile, partial: Path, offset: int, report: Callable[[int], None]
    ) -> None:
        # By commit, since what a branch holds may change. Large contents are elsewhere: the client
        # follows, and leaves the token behind.
        url = hf_hub_url(file.repo_id, file.name, revision=file.commit, endpoint=self.endpoint)
        headers = _utils.build_hf_headers(**_LIBRARY) | {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream(
            "GET", url, headers=headers, timeout=timeout, follow_redirects=True
        ) as response:
            if response.status_code == _RANGE_REFUSED:
                partial.unlink()
                return
            _utils.hf_raise_for_status(response)
            mode = "ab" if response.status_code == 206 else "wb"
            # Unbuffered: what has arrived survives a kill.
            with partial.open(mode, buffering=0) as out:
                done = offset if mode == "ab" else 0
                for piece in response.iter_bytes():
                    done += len(piece)
                    if done > file.size:
                        raise PriorError(
                            f"{self.endpoint} sends more of {file.repo_id}/{file.name} than the "
                            f"{file.size} bytes it announced"
                        )
                    _write_all(out, piece)
                    report(done)


def _write_all(out: object, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[out.write(rest) :]  # type: ignore[attr-defined]


def _patiently(call: Callable[[], T]) -> T:
    """Call again when the Hub asks to slow down or fails for a moment."""
    failures = 0
    while True:
        try:
            return call()
        except HfHubHTTPError as error:
            failures += 1
            if status_of(error) not in _MOMENTARY or failures >= _FAILURES:
                raise
            _pause(failures, error)


def _pause(failures: int, error: Exception) -> None:
    """Wait as long as the Hub asks for, or a little longer each time; too long is a failure."""
    asked = asked_wait(error)
    seconds = 2.0 ** (failures - 1) if asked is None else asked
    if seconds > _LONGEST_WAIT:
        raise error
    log.info("waiting %.1f s (%s)", seconds, " ".join(str(error).split())[:120])
    time.sleep(seconds)


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """One process of this machine at a time; the others say that they wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(_utils.WeakFileLock(path, timeout=2))
        except Timeout:
            log.info("another process fetches %s; waiting for it", name)
            stack.enter_context(_utils.WeakFileLock(path))
        yield


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
