"""`climdown train diffusion`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from climdown.cli.console import log, out, progress_bar

app = typer.Typer(help="Train priors.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Train priors on observations or reanalysis."""


@app.command("diffusion")
def diffusion(
    config: Annotated[Path, typer.Argument(help="Training configuration, TOML.")],
    data: Annotated[Path, typer.Option(help="Folder the configuration's files lie in.")] = Path(),
    output: Annotated[
        Path | None, typer.Option(help="Folder to write. (default: the prior's name)")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")
    ] = "auto",
) -> None:
    """Train a diffusion prior; given again after a kill, goes on from the last checkpoint."""
    from climdown.config import load_config
    from climdown.pipeline import choose_device
    from climdown.training import train_diffusion

    settings = load_config(config)
    folder = output or Path(settings.name)
    total = settings.training.steps
    best = float("inf")
    with progress_bar("steps") as bar:

        def progress(step: int, loss: float, validation: float | None) -> None:
            nonlocal best
            if validation is not None:
                best = min(best, validation)
                log.info("step %d: validation loss %.4f", step, validation)
            bar(step, total, f"loss {loss:.4f}")

        train_diffusion(
            settings, data=data, output=folder, device=choose_device(device).type, progress=progress
        )
    log.info("best validation loss %.4f", best)
    out.print(str(folder), highlight=False, markup=False)
