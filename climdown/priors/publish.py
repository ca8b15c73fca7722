"""Publishing a prior on the Hub."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCardData, utils

from climdown.errors import PriorError
from climdown.priors.card import README_FILE, Card
from climdown.priors.hub import Hub
from climdown.priors.hub_cache import DEFAULT_REVISION, PRIOR_FILES, check_plain
from climdown.priors.prior import read_prior
from climdown.priors.refusals import Attempt, explained
from climdown.priors.store import check_revision, is_repo_id
from climdown.version import __version__

log = logging.getLogger(__name__)

_utils: Any = utils  # its annotations hide some of what the library documents
_FRONT_MATTER = re.compile(r"\A\s*---\s*\n.*?\n---\s*(\n|\Z)", re.DOTALL)
# Licences that the Hub knows by name and that data of priors have; any other is "other".
_LICENCES = {"apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"}


def push_prior(
    folder: Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str = DEFAULT_REVISION,
    message: str | None = None,
    bars: bool = False,
) -> str:
    """Publish a prior's four files in one commit, in a repository new or old; gives its address.

    The prior is verified first, as far as loading its weights. Other files of the repository stay.

    Args:
        bars: let the client draw its progress bars.

    Raises:
        PriorError: the prior is damaged, or the Hub cannot be reached or refuses.
    """
    if not is_repo_id(repo_id):
        raise PriorError(f"'{repo_id}' is no repository; expected ORG/NAME")
    check_revision(revision)
    for name in PRIOR_FILES:
        check_plain(folder, name)
    prior = read_prior(folder)
    _ = prior.transforms
    prior.denoiser()
    try:
        readme = model_card(prior.card, (folder / README_FILE).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise PriorError(f"{folder / README_FILE} is no text in UTF-8") from None
    operations = [
        CommitOperationAdd(name, readme.encode() if name == README_FILE else str(folder / name))
        for name in PRIOR_FILES
    ]
    hub = Hub.at()
    api = HfApi(endpoint=hub.endpoint, library_name="climdown", library_version=__version__)
    size = sum((folder / name).stat().st_size for name in PRIOR_FILES)
    log.info("publishing %s (%.1f MB) as %s", prior.card.name, size / 1e6, repo_id)
    with _bars(bars), explained(Attempt(hub.endpoint, repo_id, revision, verb="write")):
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise PriorError(
                f"{hub.endpoint}/{repo_id} is there already and public; nothing was uploaded: "
                "make it private on its page, or leave --private out"
            )
        if revision != DEFAULT_REVISION:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        api.create_commit(
            repo_id,
            operations,
            commit_message=message or f"{prior.card.name}, by climdown {__version__}",
            revision=revision,
        )
    page = f"{hub.endpoint}/{repo_id}"
    return page if revision == DEFAULT_REVISION else f"{page}/tree/{revision}"


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """The client's progress bars, or none."""
    before = _utils.are_progress_bars_disabled()
    if shown or before:
        yield
        return
    _utils.disable_progress_bars()
    try:
        yield
    finally:
        _utils.enable_progress_bars()


def model_card(card: Card, readme: str) -> str:
    """The text of a README.md with the metadata the Hub reads at its head, added if it has none."""
    if _FRONT_MATTER.match(readme):
        return readme
    licence = re.sub(r"\s+", "-", card.licence.strip().lower())
    data = ModelCardData(
        license=licence if licence in _LICENCES else "other",
        library_name="climdown",
        tags=["climate", "downscaling", card.kind],
    )
    body = readme if card.licence in readme else f"{readme.rstrip()}\n\n{_licence(card)}"
    return f"---\n{data.to_yaml()}\n---\n{body}"


def _licence(card: Card) -> str:
    return f"Licence of the training data, which binds these weights: {card.licence}\n"
