"""`climdown run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from climdown.cli.console import command_line, log, out, progress_bar
from climdown.cli.declared import Command, number_or, parameters, with_parameters
from climdown.cli.help import examples
from climdown.cli.parameters import (
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
from climdown.config import DEFAULT_METHOD, RunConfig
from climdown.errors import ConfigError
from climdown.methods.registry import all_options, listed, methods
from climdown.options import Option
from climdown.pipeline.choices import check_output, choose
from climdown.signals import stop_requested

if TYPE_CHECKING:
    from climdown.pipeline.plan import Plan

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
    *,
    options: dict[str, Any],
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
            help="Scale at which the input guides: degrees, native (its own grid), or auto "
            "(native, never finer than the prior's coarse grid, and coarser where the input's "
            "spectrum departs from the prior's).",
            rich_help_panel=METHOD,
        ),
    ] = "auto",
    members: Annotated[
        int | None,
        whole_number("Members to draw.", panel=ENSEMBLE, show_default=members_default()),
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
            show_default=bias_default(),
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
            **number_or("auto", integer=True),
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
    wait: Annotated[
        bool, flag("--wait", "Wait while another process writes OUTPUT.", panel=OUTPUT)
    ] = False,
    verify: Annotated[
        bool,
        flag("--verify", "Tell changed inputs apart by every byte, not by samples.", panel=OUTPUT),
    ] = False,
) -> None:
    """Downscale CMIP files to an ensemble on the fine grid of a prior.

    A run that was killed goes on where it was when the same command is given again.
    """
    if len(files) < 2:
        raise ConfigError("expected at least one INPUT and then OUTPUT")
    config = RunConfig(
        method=options.pop("method"),
        options={name: value for name, value in options.items() if value is not None},
        members=members,
        seed=seed,
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
        wait=wait,
        verify=verify,
    )
    *inputs, output = files
    choose(config)
    check_output(Path(output), config)
    # Slow imports come after all that can be refused without them.
    from climdown.pipeline.plan import describe
    from climdown.pipeline.planning import make_plan
    from climdown.priors.store import load_prior

    chosen = None if prior is None else load_prior(prior)
    plan = make_plan(inputs, output, prior=chosen, config=config)
    if dry_run:
        for label, text in describe(plan):
            out.print(f"{label + ':':<13}{text}", highlight=False, markup=False)
        return
    for label, text in describe(plan):
        log.info("%s: %s", label, text)
    _execute(plan)


def _execute(plan: Plan) -> None:
    """Do what a plan says, with a bar; print the output's name."""
    from climdown.pipeline.execution import execute

    with progress_bar("fields") as bar:
        summary = execute(
            plan,
            command=command_line(),
            progress=lambda done, total: bar(done, total, ""),
            stopping=stop_requested,
        )
    sampled = summary.fields - summary.resumed
    log.info("%d fields in %.0f s (%d resumed)", sampled, summary.seconds, summary.resumed)
    out.print(str(summary.output), highlight=False, markup=False)


def members_default() -> str:
    """The default of --members by method, in words."""
    sizes = {method.members for method in methods()}
    several = " or ".join(map(str, sorted(sizes - {1})))
    alone = [method.name for method in methods() if method.members == 1]
    return f"{several}; 1 of {listed(alone, 'and')}" if alone else several


def bias_default() -> str:
    """The default of --bias by method, in words."""
    implied = [f"{method.bias[0]} of {method.name}" for method in methods() if method.bias]
    return "; ".join(["none", *implied])


def command() -> Command:
    """`climdown run` with the methods that are registered by now, and their options."""
    summaries = " ".join(f"{one.name}: {one.summary}" for one in methods())
    names: Any = Literal[tuple(one.name for one in methods())]
    method = Option("method", names, DEFAULT_METHOD, summaries)
    method_options = parameters(all_options(), panel=METHOD, unset=True)
    return with_parameters(run, [*parameters([method], panel=METHOD), *method_options])
