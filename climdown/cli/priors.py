"""`climdown priors list | show | verify | path | remove`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from climdown.cli.console import log, out
from climdown.cli.help import Command, Commands, examples
from climdown.cli.parameters import INPUT, CacheDir

if TYPE_CHECKING:
    from climdown.priors.skill import Skill

app = typer.Typer(cls=Commands, help="Look at priors.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A bundled or fetched prior's name, its repository ORG/NAME, or a prior's folder.",
        show_default=False,
        rich_help_panel=INPUT,
    ),
]


@app.command(
    "list",
    cls=Command,
    epilog=examples("climdown priors list", "climdown priors list --cache-dir /shared/priors"),
)
def list_priors(cache_dir: CacheDir = None) -> None:
    """List the bundled priors, the fetched ones, and those that can be fetched by name."""
    from climdown.errors import PriorError
    from climdown.priors import store
    from climdown.priors.card import read_card
    from climdown.priors.hub_cache import Cache

    table = Table()
    for title in ("name", "where", "variables", "grid", "months", "licence of its data"):
        table.add_column(title, no_wrap=title in ("name", "where"), overflow="fold")
    known_priors = store.known_priors(Cache.at(cache_dir))
    for entry in known_priors:
        cells: tuple[str, ...] = ("", "", "", "")
        if entry.folder is not None:
            try:
                card = read_card(entry.folder)
            except PriorError as error:
                cells = (f"not to be read: {error}", "", "", "")
            else:
                variables = ", ".join(v.name for v in card.variables)
                months = ", ".join(map(str, card.months))
                cells = (variables, card.grid.describe(), months, card.licence)
        table.add_row(entry.name, entry.origin, *cells)
    out.print(table, highlight=False, markup=False)
    if any(entry.folder is None for entry in known_priors):
        out.print("To fetch one: climdown fetch-prior NAME", highlight=False, markup=False)


@app.command(
    "show",
    cls=Command,
    epilog=examples("climdown priors show eobs-iberia-zssd", "climdown priors show ./my-prior"),
)
def show(name: Name, cache_dir: CacheDir = None) -> None:
    """Show a prior's card: what it needs, what it was trained on."""
    from climdown.priors import store
    from climdown.priors.card import read_card
    from climdown.priors.skill import ENTRY, skill_of

    folder = store.find_prior(name, cache_dir)
    card = read_card(folder)
    rows = [
        ("name", card.name),
        ("title", card.title),
        ("folder", str(folder)),
        (
            "variables",
            "; ".join(f"{v.name} [{v.units}] {v.standard_names[0]}" for v in card.variables),
        ),
        ("grid", card.grid.describe()),
        ("coarse grid", card.coarse_grid.describe()),
        ("months", ", ".join(map(str, card.months))),
        ("time step", f"{card.step_days:g} days"),
        ("licence", card.licence),
        *((label, _short(value)) for label, value in card.training.items() if label != ENTRY),
        *((f"CRPS of {name}", _skill(one)) for name, one in skill_of(card).items()),
    ]
    table = Table("", "", show_header=False)
    for label, text in rows:
        table.add_row(label, text)
    out.print(table, highlight=False, markup=False)


@app.command(
    "verify",
    cls=Command,
    epilog=examples("climdown priors verify eobs-iberia-zssd", "climdown priors verify ./my-prior"),
)
def verify(name: Name, cache_dir: CacheDir = None) -> None:
    """Check every hash and shape of a prior, and that its weights load."""
    from climdown.priors.skill import weaknesses
    from climdown.priors.store import load_prior

    prior = load_prior(name, cache_dir)
    for line in weaknesses(prior.card):
        log.warning("%s", line)
    _ = prior.transforms
    parameters = sum(p.numel() for p in prior.denoiser().parameters())
    out.print(
        f"{prior.card.name}: ok ({parameters} parameters, SHA-256 {prior.digest})",
        highlight=False,
        markup=False,
    )


@app.command(
    "path",
    cls=Command,
    epilog=examples(
        "climdown priors path eobs-iberia-zssd",
        "climdown priors path era5-zssd --cache-dir /shared/priors",
    ),
)
def path(name: Name, cache_dir: CacheDir = None) -> None:
    """Print a prior's folder."""
    from climdown.priors.store import find_prior

    out.print(str(find_prior(name, cache_dir)), highlight=False, markup=False)


@app.command(
    "remove",
    cls=Command,
    epilog=examples("climdown priors remove era5-zssd", "climdown priors remove era5-zssd@v1"),
)
def remove(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A fetched prior's name or repository; with @REVISION only that one.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ],
    cache_dir: CacheDir = None,
) -> None:
    """Remove a fetched prior from the cache."""
    from climdown.priors.store import remove_prior

    removed = remove_prior(name, cache_dir)
    log.info("removed %s (%s)", name, removed.repo_id)


def _skill(skill: Skill) -> str:
    """How well a prior does beside methods without a network."""
    others = ", ".join(f"{name} {error:.3g}" for name, error in skill.baselines.items())
    return f"{skill.crps:.3g} {skill.units} on {skill.days} validation days; {others}"


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items())
    return str(value)
