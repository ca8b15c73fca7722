"""`climdown run`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from climdown.cli.console import log, out, progress_bar, stop_requested
from climdown.cli.options import parse_selection
from climdown.config import RunConfig
from climdown.errors import ConfigError


def run(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT... OUTPUT",
            help="CMIP NetCDF files or quoted patterns, then the file to write.",
            show_default=False,
        ),
    ],
    method: Annotated[
        str,
        typer.Option(
            metavar="zssd|cm|bridge|ot-diffusion|bilinear|delta|bcsd",
            help="zssd guides a diffusion prior by the input; cm draws its small scales by a "
            "consistency prior, in one network evaluation; bridge by a diffusion prior; "
            "ot-diffusion draws under the exact means after --bias ot. Baselines: bilinear "
            "interpolates the input, delta its change from the climatology, bcsd the same after "
            "--bias qdm.",
        ),
    ] = "zssd",
    prior: Annotated[
        str | None,
        typer.Option(
            help="Name of a bundled or fetched prior, or a folder. (default: the one that fits)"
        ),
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(help="Size of the ensemble. (default: 4, and 1 of the baselines)"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same members.")] = 0,
    sampler: Annotated[
        str,
        typer.Option(
            metavar="fast|reference|coarse-loss",
            help="Fast, or as in the paper: of zssd a thousand steps with guidance through the "
            "network, of bridge 500 steps of Euler and Maruyama, of ot-diffusion 250. coarse-loss "
            "is the reference of zssd with the misfit on the coarse grid, to compare with.",
        ),
    ] = "fast",
    steps: Annotated[
        int | None,
        typer.Option(
            help="Network evaluations per field. (default: the prior's; 1000 for the reference of "
            "zssd, 500 for that of bridge, 250 for that of ot-diffusion)"
        ),
    ] = None,
    noise_scale: Annotated[
        str,
        typer.Option(
            metavar="auto|KMkm|SIGMA",
            help="Of cm and bridge: scales drawn anew, as a wavelength (200km) or a noise "
            "level; auto finds where the input's spectrum falls below the prior's.",
        ),
    ] = "auto",
    keep_means: Annotated[
        bool | None,
        typer.Option(
            "--keep-means/--no-keep-means",
            help="Of cm and bridge: move each answer to the input's coarse means, which the papers "
            "do not. (default: keep, but for the reference sampler of bridge)",
        ),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            help="Pull of the reference sampler of zssd towards the input (default: the prior's), "
            "or of ot-diffusion's gradient (default: 1)."
        ),
    ] = None,
    filter_scale: Annotated[
        str,
        typer.Option(
            metavar="DEG|auto|native",
            help="Scale at which the input is believed: degrees, native (its own grid), or auto "
            "(native, never finer than the prior's coarse grid, and coarser where the input's "
            "spectrum departs from the prior's).",
        ),
    ] = "auto",
    coherence: Annotated[
        str,
        typer.Option(
            metavar="auto|none|0..1",
            help="Correlation of the noise from one time step to the next; auto is the prior's, by "
            "variable, none draws each step for itself.",
        ),
    ] = "auto",
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")
    ] = "auto",
    batch_size: Annotated[
        str,
        typer.Option(metavar="N|auto", help="Fields computed at once; lower it if memory ends."),
    ] = "auto",
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="CELLS",
            help="Apply the network in overlapping tiles of so many cells a side, for domains "
            "beyond the memory. (default: as the prior was trained)",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="START/END", help="Period, both ends included: years, months or days."
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIM=LABEL",
            help="Which entry of a further dimension to take: realization=3; may be repeated.",
        ),
    ] = None,
    bias: Annotated[
        str | None,
        typer.Option(
            metavar="none|qdm|ot",
            help="Adjust the input's bias before it guides, by quantile delta mapping or optimal "
            "transport, with the defaults of those commands. (default: none; qdm of bcsd, ot of "
            "ot-diffusion)",
        ),
    ] = None,
    historical: Annotated[
        list[str] | None,
        typer.Option(help="The same model in the reference's period: files. May be repeated."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(help="Observations: files. (default: the quantiles the prior carries)"),
    ] = None,
    hist_period: Annotated[
        str | None, typer.Option(metavar="START/END", help="Part of --historical to use.")
    ] = None,
    ref_period: Annotated[
        str | None, typer.Option(metavar="START/END", help="Part of --reference to use.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUTPUT, and parts of another run.")
    ] = False,
) -> None:
    """Downscale CMIP files to an ensemble on the fine grid of a prior.

    A run that was killed goes on where it was when the same command is given again.
    """
    if len(files) < 2:
        raise ConfigError("expected at least one INPUT and then OUTPUT")
    config = RunConfig(
        method=method,
        options={
            name: value
            for name, value in {
                "noise_scale": None if noise_scale == "auto" else _number_or_text(noise_scale),
                "keep_means": keep_means,
                "sampler": None if sampler == "fast" else sampler,
                "steps": steps,
                "guidance_scale": guidance_scale,
            }.items()
            if value is not None
        },
        members=members,
        seed=seed,
        filter_scale=_number_or("filter scale", filter_scale, ("auto", "native")),  # type: ignore[arg-type]
        coherence=_number_or("coherence", coherence, ("auto", "none")),  # type: ignore[arg-type]
        device=cast(Literal["auto", "cpu", "cuda"], device),
        batch_size=_whole_or_auto(batch_size),
        tile=tile,
        period=time,
        select=parse_selection(select),
        bias=bias,
        historical=tuple(historical or ()),
        reference=tuple(reference or ()),
        historical_period=hist_period,
        reference_period=ref_period,
        overwrite=overwrite,
    )
    # Slow imports come after all that can be refused without them.
    from climdown.pipeline.choices import choose

    choose(config)
    from climdown.files import check_output
    from climdown.pipeline.execution import execute
    from climdown.pipeline.plan import describe
    from climdown.pipeline.planning import make_plan
    from climdown.priors.store import load_prior

    *inputs, output = files
    check_output(Path(output), overwrite=overwrite)
    chosen = None if prior is None else load_prior(prior)
    plan = make_plan(inputs, output, prior=chosen, config=config)
    if dry_run:
        for label, text in describe(plan):
            out.print(f"{label + ':':<13}{text}", highlight=False, markup=False)
        return
    for label, text in describe(plan):
        log.info("%s: %s", label, text)
    command = shlex.join(["climdown", *sys.argv[1:]])
    with progress_bar("fields") as bar, stop_requested() as should_stop:
        summary = execute(
            plan,
            command=command,
            progress=lambda done, total: bar(done, total, ""),
            should_stop=should_stop,
        )
    sampled = summary.fields - summary.resumed
    log.info("%d fields in %.0f s (%d resumed)", sampled, summary.seconds, summary.resumed)
    out.print(str(summary.output), highlight=False, markup=False)


def _number_or(label: str, text: str, words: tuple[str, ...]) -> float | str:
    if text in words:
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            f"{label} is '{text}'; expected a number or {' or '.join(words)}"
        ) from None


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _whole_or_auto(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"batch size is '{text}'; expected a whole number or auto") from None
