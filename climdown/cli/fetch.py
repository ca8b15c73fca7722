"""`climdown fetch-prior` and `climdown push-prior`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from climdown.cli.console import err, out, progress_bar

CacheDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of fetched priors (default: huggingface_hub's cache, see HF_HOME).",
    ),
]


def fetch_prior(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|REPO_ID",
            help="A prior's name, or its repository ORG/NAME; may end in @REVISION.",
            show_default=False,
        ),
    ],
    revision: Annotated[
        str | None,
        typer.Option(metavar="REV", help="Branch, tag or commit to fetch (default: main)."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR|URL",
            help="A prior's folder, a folder that holds NAME/, or a mirror of the Hub (your "
            "token, if there is one, goes to it). Default: HF_ENDPOINT, else the Hub.",
        ),
    ] = None,
    cache_dir: CacheDir = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Ask no network: verify what was fetched before. As HF_HUB_OFFLINE."
        ),
    ] = False,
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
            whole = -(-total // 1_000_000)
            bar(whole if done == total else done // 1_000_000, whole, file)

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
        Path, typer.Argument(metavar="DIR", help="A prior's folder.", show_default=False)
    ],
    repo_id: Annotated[
        str,
        typer.Argument(
            metavar="REPO_ID", help="Repository to create or update: ORG/NAME.", show_default=False
        ),
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Create a repository that only you may read.")
    ] = False,
    revision: Annotated[
        str, typer.Option(metavar="BRANCH", help="Branch to publish on, created where needed.")
    ] = "main",
    message: Annotated[
        str | None, typer.Option(help="Message of the commit (default: the prior's name).")
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
