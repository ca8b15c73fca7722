"""`climdown priors list | show | verify`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from climdown.cli.console import out

app = typer.Typer(help="Look at priors.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(help="A bundled prior's name, or a prior's folder.", show_default=False)
]


@app.command("list")
def list_priors() -> None:
    """List the bundled priors."""
    from climdown.priors import store
    from climdown.priors.card import read_card

    table = Table("name", "variables", "grid", "months", "licence of its data")
    for name in store.bundled_names():
        card = read_card(store.find_prior(name))
        variables = ", ".join(v.name for v in card.variables)
        months = ", ".join(map(str, card.months))
        table.add_row(name, variables, card.grid.describe(), months, card.licence)
    out.print(table, highlight=False, markup=False)


@app.command("show")
def show(name: Name) -> None:
    """Show a prior's card: what it needs, what it was trained on."""
    from climdown.priors import store
    from climdown.priors.card import read_card

    folder = store.find_prior(name)
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
        *((label, _short(value)) for label, value in card.training.items()),
    ]
    table = Table("", "", show_header=False)
    for label, text in rows:
        table.add_row(label, text)
    out.print(table, highlight=False, markup=False)


@app.command("verify")
def verify(name: Name) -> None:
    """Check every hash and shape of a prior, and that its weights load."""
    from climdown.priors.store import load_prior

    prior = load_prior(name)
    parameters = sum(p.numel() for p in prior.denoiser().parameters())
    out.print(
        f"{prior.card.name}: ok ({parameters} parameters, SHA-256 {prior.digest})",
        highlight=False,
        markup=False,
    )


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items())
    return str(value)
