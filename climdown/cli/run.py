"""`climdown run`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from climdown.cli.console import log, out, progress_bar, stop_requested
from climdown.cli.declared import number_or
from climdown.cli.help import examples
from climdown.cli.options import (
    BIAS,
    COMPUTING,
    ENSEMBLE,
    INPUT,
    METHOD,
    OUTPUT,
    SAME_MODEL,
    AnyDevice,
    Seed,
    Selection,
    flag,
    input_files,
    parse_selection,
    period,
    whole_number,
)
from climdown.config import RunConfig
from climdown.config.run import Method
from climdown.errors import ConfigError

EXAMPLES = examples(
    "climdown run tas.nc pr.nc out.nc --members 8 --time 1990-12/1991-02",
    "climdown run 'ssp585_*.nc' out.nc --bias qdm --historical 'hist_*.nc'",
    "climdown run tas.nc plain.nc --method bilinear --dry-run",
)


def run(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT... OUTPUT",
            help="CMIP NetCDF files or quoted patterns, then the file to write.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ],
    time: Annotated[
        str | None, period("Period, both ends included: years, months or days: 2001-01/2010-12.")
    ] = None,
    select: Selection = None,
    method: Annotated[
        Method,
        typer.Option(
            help="zssd guides a diffusion prior by the input; cm draws its small scales by a "
            "consistency prior, in one network evaluation; bridge by a diffusion prior; "
            "ot-diffusion draws under the exact means after --bias ot. Baselines: bilinear "
            "interpolates the input, delta its change from the climatology, bcsd the same after "
            "--bias qdm.",
            rich_help_panel=METHOD,
        ),
    ] = "zssd",
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="A bundled or fetched prior, or a folder.",
            show_default="the one that fits",
            rich_help_panel=METHOD,
        ),
    ] = None,
    filter_scale: Annotated[
        Any,
        typer.Option(
            **{**number_or("auto", "native"), "metavar": "DEG|auto|native"},
            help="Scale at which the input is believed: degrees, native (its own grid), or auto "
            "(native, never finer than the prior's coarse grid, and coarser where the input's "
            "spectrum departs from the prior's).",
            rich_help_panel=METHOD,
        ),
    ] = "auto",
    sampler: Annotated[
        Literal["fast", "reference", "coarse-loss"],
        typer.Option(
            help="Fast, or as in the paper: of zssd a thousand steps with guidance through the "
            "network, of bridge 500 steps of Euler and Maruyama, of ot-diffusion 250. coarse-loss "
            "is the reference of zssd with the misfit on the coarse grid, to compare with.",
            rich_help_panel=METHOD,
        ),
    ] = "fast",
    steps: Annotated[
        int | None,
        typer.Option(
            help="Network evaluations per field.",
            show_default="the prior's; 1000 for the reference of zssd, 500 for that of bridge, "
            "250 for that of ot-diffusion",
            rich_help_panel=METHOD,
        ),
    ] = None,
    noise_scale: Annotated[
        Any,
        typer.Option(
            **{**number_or(), "metavar": "auto|KMkm|SIGMA"},
            help="Of cm and bridge: scales drawn anew, as a wavelength (200km) or a noise "
            "level; auto finds where the input's spectrum falls below the prior's.",
            rich_help_panel=METHOD,
        ),
    ] = "auto",
    keep_means: Annotated[
        bool | None,
        typer.Option(
            "--keep-means/--no-keep-means",
            help="Of cm and bridge: move each answer to the input's coarse means, which the papers "
            "do not.",
            show_default="keep, but for the reference sampler of bridge",
            rich_help_panel=METHOD,
        ),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            help="Pull of the reference sampler of zssd towards the input, or of ot-diffusion's "
            "gradient.",
            show_default="the prior's; 1 of ot-diffusion",
            rich_help_panel=METHOD,
        ),
    ] = None,
    members: Annotated[
        int | None,
        whole_number("Members to draw.", panel=ENSEMBLE, show_default="4, and 1 of the baselines"),
    ] = None,
    seed: Seed = 0,
    coherence: Annotated[
        Any,
        typer.Option(
            **{**number_or("auto", "none"), "metavar": "0..1|auto|none"},
            help="Correlation of the noise from one time step to the next; auto is the prior's, by "
            "variable, none draws each step for itself.",
            rich_help_panel=ENSEMBLE,
        ),
    ] = "auto",
    bias: Annotated[
        Literal["none", "qdm", "ot"] | None,
        typer.Option(
            help="Adjust the input's bias before it guides, by quantile delta mapping or optimal "
            "transport, with the defaults of those commands.",
            show_default="none; qdm of bcsd, ot of ot-diffusion",
            rich_help_panel=BIAS,
        ),
    ] = None,
    historical: Annotated[list[str] | None, input_files(SAME_MODEL, panel=BIAS)] = None,
    reference: Annotated[
        list[str] | None,
        input_files("Observations: files.", panel=BIAS, default="the quantiles the prior carries"),
    ] = None,
    hist_period: Annotated[str | None, period("Part of --historical to use.", panel=BIAS)] = None,
    ref_period: Annotated[str | None, period("Part of --reference to use.", panel=BIAS)] = None,
    device: AnyDevice = "auto",
    batch_size: Annotated[
        Any,
        typer.Option(
            **number_or("auto", whole=True),
            help="Fields computed at once; lower it if memory ends.",
            rich_help_panel=COMPUTING,
        ),
    ] = "auto",
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="CELLS",
            help="Apply the network in overlapping tiles of so many cells a side, for domains "
            "beyond the memory.",
            show_default="as the prior was trained",
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    dry_run: Annotated[
        bool, flag("--dry-run", "Check everything, print the plan, write nothing.", panel=OUTPUT)
    ] = False,
    overwrite: Annotated[
        bool, flag("--overwrite", "Replace OUTPUT, and parts of another run.", panel=OUTPUT)
    ] = False,
) -> None:
    """Downscale CMIP files to an ensemble on the fine grid of a prior.

    A run that was killed goes on where it was when the same command is given again.
    """
    if len(files) < 2:
        raise ConfigError("expected at least one INPUT and then OUTPUT")
    config = RunConfig(
        method=method,
        noise_scale=noise_scale,
        keep_means=keep_means,
        members=members,
        seed=seed,
        sampler=sampler,
        steps=steps,
        guidance_scale=guidance_scale,
        filter_scale=filter_scale,
        coherence=coherence,
        device=device,
        batch_size=batch_size,
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
    from climdown import pipeline
    from climdown.files import check_output
    from climdown.priors.store import load_prior

    *inputs, output = files
    check_output(Path(output), overwrite=overwrite)
    chosen = None if prior is None else load_prior(prior)
    plan = pipeline.make_plan(inputs, output, prior=chosen, config=config)
    if dry_run:
        for label, text in plan.describe():
            out.print(f"{label + ':':<13}{text}", highlight=False, markup=False)
        return
    for label, text in plan.describe():
        log.info("%s: %s", label, text)
    command = shlex.join(["climdown", *sys.argv[1:]])
    with progress_bar("fields") as bar, stop_requested() as should_stop:
        summary = pipeline.execute(
            plan,
            command=command,
            progress=lambda done, total: bar(done, total, ""),
            should_stop=should_stop,
        )
    sampled = summary.fields - summary.resumed
    log.info("%d fields in %.0f s (%d resumed)", sampled, summary.seconds, summary.resumed)
    out.print(str(summary.output), highlight=False, markup=False)
