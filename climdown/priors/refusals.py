"""What to say when the Hub cannot be reached, or refuses: one clear line for each case."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from climdown.errors import ClimdownError, PriorError
from climdown.priors.hub_cache import write_error
from climdown.priors.store import NAMED, names_of_bundled, suggestion

# The base class of all failures of the HTTP library that huggingface_hub is built on, whichever
# that is: the HTTP errors of the Hub derive from it.
HTTPError: type[Exception] = next(k for k in HfHubHTTPError.__mro__ if k.__name__ == "HTTPError")

SLOW_DOWN = 429
_WINDOW = re.compile(r"\br\s*=\s*0\b.*\bt\s*=\s*(\d+)")


class HubUnavailableError(PriorError):
    """The Hub cannot be reached, or fails for now: what was fetched before may serve."""


@dataclass(frozen=True)
class Attempt:
    """What was tried, for a message.

    Attributes:
        verb: "read" or "write".
        root: the cache folder, if one is written to.
        revisions: asks the Hub for the branches and tags of the repository.
    """

    endpoint: str
    repo_id: str
    revision: str
    verb: str = "read"
    root: Path | None = None
    revisions: Callable[[], list[str]] = list


@contextmanager
def explained(attempt: Attempt) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line.

    Raises:
        PriorError: the Hub cannot be reached, refuses, or lacks something.
        OutputError: the cache cannot be written.
    """
    try:
        yield
    except ClimdownError:
        raise
    except (HTTPError, EntryNotFoundError, OSError, RuntimeError, ValueError) as error:
        raise _explain(error, attempt) from None


def status_of(error: BaseException) -> int | None:
    """The status of an answer of the Hub, None if there was no answer."""
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def asked_wait(error: BaseException) -> float | None:
    """The seconds after which the Hub wants to be asked again, if it says so."""
    if not isinstance(error, HfHubHTTPError):
        return None
    headers = error.response.headers
    if (text := headers.get("Retry-After", "")).isdigit():
        return float(text)
    # '"resolvers";r=0;t=55': none remain, the window ends in 55 s.
    window = _WINDOW.search(headers.get("RateLimit", ""))
    return float(window[1]) if window else None


def _explain(error: BaseException, attempt: Attempt) -> ClimdownError:
    # The library wraps what happened in a general remark.
    wrapped = isinstance(error, LocalEntryNotFoundError | RuntimeError)
    if wrapped and error.__cause__ is not None:
        return _explain(error.__cause__, attempt)
    if isinstance(error, OfflineModeIsEnabled):
        return HubUnavailableError(f"HF_HUB_OFFLINE is set, {attempt.endpoint} is not asked")
    if isinstance(error, HfHubHTTPError):
        return _refused(error, attempt)
    if isinstance(error, HTTPError):
        return HubUnavailableError(
            f"cannot reach {attempt.endpoint} ({_line(error)}): check the network, HF_ENDPOINT "
            f"and the proxy{_otherwise(attempt)}"
        )
    if isinstance(error, OSError) and error.errno is not None and attempt.root is not None:
        return write_error(error, attempt.root)
    return PriorError(f"{attempt.endpoint}, {attempt.repo_id}: {_line(error)}")


def _refused(error: HfHubHTTPError, attempt: Attempt) -> PriorError:
    place, status = f"{attempt.endpoint}/{attempt.repo_id}", error.response.status_code
    if isinstance(error, GatedRepoError):
        return PriorError(f"{place} is gated: ask for access there, then set HF_TOKEN")
    if isinstance(error, RepositoryNotFoundError):
        return _no_repository(attempt)
    if isinstance(error, RevisionNotFoundError):
        return _no_revision(attempt)
    if isinstance(error, EntryNotFoundError):
        name = str(error.response.request.url).rsplit("/", 1)[-1]
        return PriorError(f"{place} has no {name} at '{attempt.revision}': it is no whole prior")
    if status == 401:
        return PriorError(
            f"{attempt.endpoint} refuses the token, or got none: set HF_TOKEN, or run "
            "`hf auth login`"
        )
    if status == 403:
        return PriorError(
            f"{attempt.endpoint} does not let this token {attempt.verb} {attempt.repo_id}: use "
            "one with more rights, by HF_TOKEN or `hf auth login`"
        )
    if status == SLOW_DOWN:
        seconds = asked_wait(error)
        when = "later" if seconds is None else f"in {seconds:.0f} s"
        return HubUnavailableError(f"{attempt.endpoint} asks to slow down (429): try again {when}")
    if status >= 500:
        return HubUnavailableError(
            f"{attempt.endpoint} fails for now ({status}): try again later{_otherwise(attempt)}"
        )
    answer = getattr(error, "server_message", None) or error
    return PriorError(f"{place}: the Hub answers {status} ({_line(answer)})")


def _no_repository(attempt: Attempt) -> PriorError:
    repo_id = attempt.repo_id
    if repo_id in NAMED.values() and attempt.verb == "read":
        return PriorError(
            f"prior '{repo_id.split('/')[1]}' has not been published yet: {attempt.endpoint} has "
            f"no repository {repo_id} that you may read; {_bundled()}"
        )
    return PriorError(
        f"{attempt.endpoint} has no repository {repo_id} that you may {attempt.verb}: "
        f"{suggestion(repo_id)}if it is private, set HF_TOKEN or run `hf auth login`; {_bundled()}"
    )


def _no_revision(attempt: Attempt) -> PriorError:
    try:
        revisions = attempt.revisions()
    except (HTTPError, OSError, ValueError, KeyError):  # a mirror may not list them
        revisions = []
    near = difflib.get_close_matches(attempt.revision, revisions, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    names = ", ".join(revisions[:10])
    hint += f"it has {names}" if revisions else "look at its page for branches and tags"
    place = f"{attempt.endpoint}/{attempt.repo_id}"
    return PriorError(f"{place} has no revision '{attempt.revision}': {hint}")


def _bundled() -> str:
    return f"bundled priors need no network: {names_of_bundled()}"


def _otherwise(attempt: Attempt) -> str:
    """What else one who wants a prior can do."""
    return f"; or fetch from a folder by --from DIR; {_bundled()}" if attempt.verb == "read" else ""


def _line(error: BaseException | str) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
