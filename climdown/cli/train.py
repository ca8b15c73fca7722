"""`climdown train diffusion | consistency`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from climdown.cli.console import log, out, progress_bar, quiet
from climdown.cli.help import Command, Commands, examples
from climdown.cli.parameters import INPUT, OUTPUT, AnyDevice
from climdown.errors import ClimdownError
from climdown.signals import stop_requested

if TYPE_CHECKING:
    from climdown.config import PriorConfig
    from climdown.training import Step

app = typer.Typer(
    cls=Commands, help="Train priors on observations or reanalysis.", no_args_is_help=True
)

Config = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        help="Training configuration, TOML.",
        show_default=False,
        rich_help_panel=INPUT,
    ),
]
Data = Annotated[
    Path,
    typer.Option(
        metavar="DIR", help="Folder the configuration's files lie in.", rich_help_panel=INPUT
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Set an entry of the configuration, as training.steps=100. May be repeated.",
        show_default=False,
        rich_help_panel=INPUT,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder to write.",
        show_default="the prior's name",
        rich_help_panel=OUTPUT,
    ),
]
DIFFUSION_EXAMPLES = examples(
    "climdown train diffusion prior.toml --data /data/eobs",
    "climdown train diffusion prior.toml --set training.steps=100 --output trial",
)
CONSISTENCY_EXAMPLES = examples(
    "climdown train consistency prior.toml --data /data/eobs",
    "climdown train consistency prior.toml --device cuda --output my-prior",
)


JUDGE_EXAMPLES = examples(
    "climdown train judge prior.toml my-prior --data /data/eobs",
    "climdown train judge prior.toml my-prior --device cpu",
)


@app.command("diffusion", cls=Command, epilog=DIFFUSION_EXAMPLES)
def diffusion(
    config: Config,
    data: Data = Path(),
    changes: Set = None,
    device: AnyDevice = "auto",
    output: Output = None,
) -> None:
    """Train a diffusion prior; given again after a kill, goes on from the last checkpoint.

    Under torchrun each process takes its share of every batch.
    """
    from climdown.training import train_diffusion

    _train(train_diffusion, config, data, output, device, changes)


@app.command("consistency", cls=Command, epilog=CONSISTENCY_EXAMPLES)
def consistency(
    config: Config,
    data: Data = Path(),
    changes: Set = None,
    device: AnyDevice = "auto",
    output: Output = None,
) -> None:
    """Train a consistency prior, which draws a field in one step; resumes as `diffusion` does."""
    from climdown.training import train_consistency

    _train(train_consistency, config, data, output, device, changes)


@app.command("judge", cls=Command, epilog=JUDGE_EXAMPLES)
def judge(
    config: Config,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="PRIOR",
            help="Folder of a finished prior; its card gets an entry, its README a section.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ],
    data: Data = Path(),
    changes: Set = None,
    device: AnyDevice = "auto",
) -> None:
    """Judge a finished prior on its validation days, as training does at its end.

    The days are averaged over coarse cells and downscaled again by the prior, by the delta method
    and by interpolation. What comes out is written on the prior's card.
    """
    from climdown.config import load_config

    _judge(folder, load_config(config, changes or ()), data, device)
    out.print(str(folder), highlight=False, markup=False)


def _train(
    train: Callable[..., Any],
    config: Path,
    data: Path,
    output: Path | None,
    device: Literal["auto", "cpu", "cuda"],
    changes: list[str] | None,
) -> None:
    from climdown.compute.device import choose_device
    from climdown.compute.ranks import own_rank
    from climdown.config import load_config

    settings = load_config(config, changes or ())
    folder = output or Path(settings.name)
    where: Any = choose_device(device).type
    if not own_rank().leads:  # one process of a team reports for all
        log.setLevel("WARNING")
        with stop_requested() as should_stop:
            train(settings, data=data, output=folder, device=where, should_stop=should_stop)
        return
    with progress_bar("steps") as bar, stop_requested() as should_stop:
        prior = train(
            settings,
            data=data,
            output=folder,
            device=where,
            progress=_reporter(bar, settings.training.steps),
            should_stop=should_stop,
        )
    log.info("best validation %.4f", prior.card.training["validation_loss"])
    try:
        _judge(folder, settings, data, where)
    except ClimdownError as error:
        # Trained it is; that its days cannot be used again is no reason to lose it.
        log.warning("the prior is finished, but could not be judged: %s", error)
    out.print(str(folder), highlight=False, markup=False)


def _judge(
    folder: Path, settings: PriorConfig, data: Path, device: Literal["auto", "cpu", "cuda"]
) -> None:
    """Compare a finished prior with what it has to beat, and say so where it does not."""
    from climdown.priors.skill import skill_of, weaknesses
    from climdown.trial import judge_prior

    with progress_bar("methods") as bar, quiet():
        prior = judge_prior(
            folder, settings, data, device=device, progress=lambda d, t: bar(d, t, "")
        )
    for name, skill in skill_of(prior.card).items():
        others = ", ".join(f"{k} {x:.3g}" for k, x in skill.baselines.items())
        log.info(
            "%s: CRPS %.3g %s on %d validation days; %s",
            *(name, skill.crps, skill.units, skill.days, others),
        )
    for line in weaknesses(prior.card):
        log.warning("%s", line)


def _reporter(bar: Callable[[int, int, str], None], steps: int) -> Callable[[Step], None]:
    """A function that draws the progress of a training of so many steps, and logs its scores."""

    def progress(step: Step) -> None:
        if step.score is not None:
            log.info("step %d: validation %.4f", step.number, step.score)
        bar(step.number, steps, f"loss {step.loss:.4f}")

    return progress
