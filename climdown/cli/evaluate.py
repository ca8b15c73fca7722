"""`climdown evaluate`."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from climdown.cli.console import command_line, each_line_once, out, progress_bar
from climdown.cli.help import examples
from climdown.cli.parameters import (
    COMPUTING,
    INPUT,
    METHOD,
    OUTPUT,
    Overwrite,
    Selection,
    input_files,
    parse_selection,
    period,
    whole_number,
)
from climdown.cli.printable import printable
from climdown.errors import ConfigError

if TYPE_CHECKING:
    from climdown.evaluation.evaluate import Evaluation
    from climdown.evaluation.finding import Finding

EXAMPLES = examples(
    "climdown evaluate out.nc --reference obs.nc --input gcm.nc",
    "climdown evaluate zssd=a.nc cm=b.nc --reference obs.nc --json scores.json",
    "climdown evaluate 'm=r*.nc' --reference obs.nc --region -10,5,35,44",
)
_COLOURS = {"good": "green", "fair": "yellow", "poor": "red", "unknown": "dim"}
_WORDS = {"good": "good", "fair": "fair", "poor": "poor", "unknown": "cannot be told"}


def _written(name: str, text: str) -> Any:
    return typer.Option(name, metavar="FILE", help=text, show_default=False, rich_help_panel=OUTPUT)


def evaluate(
    outputs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FILE...",
            help="Outputs to judge, of climdown or others; files of one name are members, or "
            "follow one another in time. Patterns are quoted.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ],
    reference: Annotated[
        list[str] | None, input_files("Observations or reanalysis to judge by.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="What the outputs were made from. May be repeated.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FILE",
            help="What the outputs have to beat. May be repeated.",
            show_default="the input, interpolated",
            rich_help_panel=INPUT,
        ),
    ] = None,
    variable: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Variable of the reference to judge. May be repeated.",
            show_default="all that an output has, too",
            rich_help_panel=INPUT,
        ),
    ] = None,
    select: Selection = None,
    time: Annotated[str | None, period("Period to judge: 2001-01/2010-12.")] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="W,E,S,N",
            help="Box to judge, in degrees; west may be larger than east.",
            show_default="where all have values",
            rich_help_panel=INPUT,
        ),
    ] = None,
    members: Annotated[
        int | None,
        whole_number("Judge the first so many members.", panel=INPUT, show_default="all"),
    ] = None,
    paired: Annotated[
        bool | None,
        typer.Option(
            "--paired/--unpaired",
            help="Compare day by day, or distributions only.",
            show_default="found out from dates and weather",
            rich_help_panel=METHOD,
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Regrid all to one grid: reference, output, or as of `climdown regrid`.",
            show_default="no regridding: grids must be the same",
            rich_help_panel=METHOD,
        ),
    ] = None,
    resamples: Annotated[
        int, whole_number("Of the bootstrap; 0 gives no intervals.", panel=METHOD)
    ] = 200,
    seed: Annotated[int, whole_number("Same seed, same intervals.", panel=METHOD)] = 0,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Compute the I-th of N shares; who finds all of them writes the results.",
            show_default=False,
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    scheduler_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Let the workers of a Dask cluster do the work.",
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    report: Annotated[
        Path | None, _written("--report", "A report with maps and figures: one HTML file.")
    ] = None,
    as_json: Annotated[
        Path | None, _written("--json", "Scores, findings and plan, as JSON.")
    ] = None,
    as_csv: Annotated[Path | None, _written("--csv", "A row for each score.")] = None,
    markdown: Annotated[Path | None, _written("--markdown", "The main table, as Markdown.")] = None,
    export: Annotated[
        Path | None, _written("--export", "The output itself in another layout, see --format.")
    ] = None,
    layout: Annotated[
        Literal["cordex-ml-bench"] | None,
        typer.Option(
            "--format",
            help="Layout of --export: ten members of pr and tasmax in one file.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    states: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep the sums there; the same command goes on from them.",
            show_default="beside the first file written, removed at the end",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Judge ensembles by observations: scores with their uncertainty, and a verdict in words.

    Finds out whether days correspond, and compares days or distributions. Calendars and units may
    differ; grids are made one only with --grid. A killed evaluation goes on where it stopped.
    """
    from climdown.evaluation.deliver import Wanted, evaluate_files
    from climdown.evaluation.request import Request

    named = named_files(outputs)
    baselines = named_files(baseline or [])
    if twice := sorted(set(named) & set(baselines)):
        raise ConfigError(f"'{twice[0]}' is an output and a baseline; give one another name")
    if (export is None) != (layout is None):
        raise ConfigError(
            "--export and --format go together: --format cordex-ml-bench --export FILE"
        )
    request = Request(
        outputs={**named, **baselines},
        reference=tuple(reference or ()),
        input=tuple(given or ()),
        baselines=tuple(baselines),
        pairing="auto" if paired is None else "paired" if paired else "unpaired",
        variables=tuple(variable or ()),
        region=None if region is None else parse_region(region),
        period=time,
        members=members,
        grid=grid,
        select=dict(parse_selection(select)),
        seed=seed,
        resamples=resamples,
        scheduler=scheduler_address,
        shard=None if shard is None else parse_shard(shard),
        overwrite=overwrite,
    )
    wanted = Wanted(
        report=report, json=as_json, csv=as_csv, markdown=markdown, export=export, states=states
    )
    with each_line_once(), progress_bar("units of work") as bar:
        result = evaluate_files(
            request, wanted, command=command_line(), progress=lambda done, n: bar(done, n, "")
        )
    if result is not None:
        _print(*result)


def named_files(words: list[str]) -> dict[str, tuple[str, ...]]:
    """Files by the names of outputs, from words like NAME=FILE or FILE.

    Files of one name are one ensemble; words without a name are named by their file.

    Raises:
        ConfigError: two words without a name would have the same.
    """
    named: dict[str, tuple[str, ...]] = {}
    unnamed: set[str] = set()
    for word in words:
        name, equals, path = word.partition("=")
        if equals and "/" not in name and not Path(word).exists():
            if name in unnamed:
                raise ConfigError(_same_name(name))
            named[name] = (*named.get(name, ()), path)
            continue
        stem = re.sub(r"[*?\[\]|=+/]", "", Path(word).stem).strip("_-. ") or "output"
        if stem in named:
            raise ConfigError(_same_name(stem))
        unnamed.add(stem)
        named[stem] = (word,)
    return named


def _same_name(name: str) -> str:
    return (
        f"two outputs would be called '{name}'; name them, as in a={name}.nc b=other/{name}.nc, or "
        "give members of one ensemble one name"
    )


def parse_region(text: str) -> tuple[float, float, float, float]:
    """West, east, south and north.

    Raises:
        ConfigError: they are no four numbers.
    """
    try:
        west, east, south, north = map(float, text.split(","))
    except ValueError:
        raise ConfigError(
            f"--region is '{text}'; expected WEST,EAST,SOUTH,NORTH in degrees, like -10,5,35,44"
        ) from None
    return west, east, south, north


def parse_shard(text: str) -> tuple[int, int]:
    """I/N, as (I - 1, N).

    Raises:
        ConfigError: they are no such numbers.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise ConfigError(f"--shard is '{text}'; expected I/N, like 1/4")
    return int(match[1]) - 1, int(match[2])


def _print(evaluation: Evaluation, findings: list[Finding]) -> None:
    """The verdict and the main table: drawn on a terminal, plain lines elsewhere."""
    from climdown.evaluation.exports import main_table

    names = list(evaluation.plan.outputs)
    rows = [["measure", "variable", *names, "reference"], *main_table(evaluation)]
    if not out.is_terminal:
        for one in findings:
            _line("verdict", _WORDS[one.level], one.output, one.variable or "all", one.text)
        for row in rows:
            _line(*row)
        return
    for one in (one for one in findings if one.level != "good"):
        about = f"{one.output} {one.variable}".strip()
        text = Text(f"{_WORDS[one.level]:>14}  ", style=_COLOURS[one.level])
        out.print(text.append(printable(f"{about}: {one.text}"), style="default"))
    for name, count in Counter(one.output for one in findings if one.level == "good").items():
        out.print(
            Text(f"{_WORDS['good']:>14}  ", style=_COLOURS["good"]).append(
                f"{printable(name)}: {count} findings, see --report or --json", style="default"
            )
        )
    table = Table()
    for title in rows[0]:
        table.add_column(Text(printable(title)))
    for row in rows[1:]:
        table.add_row(*(Text(printable(cell)) for cell in row))
    out.print(table)


def _line(*cells: str) -> None:
    out.file.write("\t".join(map(printable, cells)) + "\n")
