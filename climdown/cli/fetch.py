"""`climdown fetch-prior` and `climdown push-prior`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from climdown.cli.console import err, out, progress_bar
from climdown.cli.help import examples
from climdown.cli.parameters import INPUT, OUTPUT, cache_folder, flag

FetchedInto = Annotated[Path | None, cache_folder(panel=OUTPUT)]

FETCH_EXAMPLES = examples(
    "climdown fetch-prior era5-zssd",
    "climdown fetch-prior me/my-prior --revision v2",
    "climdown fetch-prior era5-zssd --from /shared/priors",
)
PUSH_EXAMPLES = examples(
    "climdown push-prior my-prior me/my-prior --private",
    "climdown push-prior my-prior me/my-prior --revision v2 --message longer",
)


def fetch_prior(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|REPO_ID",
            help="A prior's name, or its repository ORG/NAME; may end in @REVISION.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ],
    revision: Annotated[
        str | None,
        typer.Option(
            metavar="REV",
            help="Branch, tag or commit to fetch.",
            show_default="main",
            rich_help_panel=INPUT,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR|URL",
            help="A prior's folder, a folder that holds NAME/, or a mirror of the Hub (your "
            "token, if there is one, goes to it).",
            show_default="HF_ENDPOINT, else the Hub",
            rich_help_panel=INPUT,
        ),
    ] = None,
    offline: Annotated[
        bool,
        flag(
            "--offline",
            "Ask no network: verify what was fetched before. As HF_HUB_OFFLINE.",
            panel=INPUT,
        ),
    ] = False,
    cache_dir: FetchedInto = None,
) -> None:
    """Fetch a prior, verify it, and print its folder.

    A transfer that broke off goes on where it was; what is there already is not fetched again.

    Bundled priors need no fetching: their folder is printed at once, without the network.
    """
    from climdown.priors import fetch

    with ExitStack() as stack:
        bar: Callable[[int, int, str], None] | None = None

        def draw(done: int, total: int, file: str) -> None:
            nonlocal bar
            if bar is None:  # no bar where nothing is transferred
                bar = stack.enter_context(progress_bar("MB"))
            megabytes = -(-total // 1_000_000)
            bar(megabytes if done == total else done // 1_000_000, megabytes, file)

        folder = fetch.fetch_prior(
            name,
            revision=revision,
            source=source,
            cache_dir=cache_dir,
            offline=offline,
            progress=draw,
        )
    out.print(str(folder), highlight=False, markup=False)


def push_prior(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A prior's folder.", show_default=False, rich_help_panel=INPUT
        ),
    ],
    repo_id: Annotated[
        str,
        typer.Argument(
            metavar="REPO_ID",
            help="Repository to create or update: ORG/NAME.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ],
    private: Annotated[
        bool,
        flag("--private", "Create a repository that only you may read.", panel=OUTPUT),
    ] = False,
    revision: Annotated[
        str,
        typer.Option(
            metavar="BRANCH",
            help="Branch to publish on, created where needed.",
            rich_help_panel=OUTPUT,
        ),
    ] = "main",
    message: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Message of the commit.",
            show_default="the prior's name",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Publish a prior on the Hub and print its address.

    The prior is verified first. The token comes from HF_TOKEN or `hf auth login`.

    If README.md has no metadata that the Hub reads, the published one gets them.
    """
    from climdown.priors import publish

    url = publish.push_prior(
        folder,
        repo_id,
        private=private,
        revision=revision,
        message=message,
        bars=err.is_terminal,
    )
    out.print(url, highlight=False, markup=False)
