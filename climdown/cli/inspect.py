"""`climdown inspect`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from climdown.cli.console import each_line_once, out, report_error
from climdown.cli.help import examples
from climdown.cli.parameters import INPUT, OUTPUT, flag
from climdown.cli.printable import printable
from climdown.errors import ClimdownError

if TYPE_CHECKING:
    from climdown.cf import Location, Sources
    from climdown.inputs.inspection import VariableReport
    from climdown.priors.prior import Prior

EXAMPLES = examples(
    "climdown inspect tas.nc",
    "climdown inspect 'tas_*.nc' --no-priors",
    "climdown inspect tas.nc --json | jq .variables",
)
_WIDE = 10_000
_UNFIT = "does not fit: "


def inspect(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="NetCDF files or quoted patterns.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ],
    full: Annotated[
        bool,
        flag("--full", "Read all values, where else a sample of large ones is.", panel=INPUT),
    ] = False,
    priors: Annotated[
        bool,
        typer.Option(
            help="Say what each bundled prior would make of each file.", rich_help_panel=OUTPUT
        ),
    ] = True,
    as_json: Annotated[
        bool, flag("--json", "Print one JSON object per file, one per line.", panel=OUTPUT)
    ] = False,
) -> None:
    """Show what climdown understands of NetCDF files.

    Variables, grid, calendar, frequency, gaps, range, suspicious values, and what each bundled
    prior would make of each file. Files that cannot be read do not stop the others; the exit code
    is that of the worst.
    """
    known = _bundled() if priors else {}
    worst = 0
    show = _show_json if as_json else _show_table
    with each_line_once():
        for path in _paths(files):
            try:
                show(path, *_inspected(path, known, full=full))
            except ClimdownError as error:
                worst = max(worst, error.exit_code)
                report_error(str(error))
                if as_json:
                    _write_json({"file": str(path), "error": str(error)})
    if worst:
        raise typer.Exit(worst)


def _paths(patterns: list[str]) -> list[Location | str]:
    """The files of all patterns, each once; a pattern without any as it is."""
    from climdown import cf

    paths: list[Location | str] = []
    for pattern in patterns:
        try:
            paths += cf.expand_paths([pattern])
        except ClimdownError:
            paths.append(pattern)
    return list(dict.fromkeys(paths))


def _inspected(
    path: Location | str, known: dict[str, Prior | ClimdownError], *, full: bool
) -> tuple[list[VariableReport], dict[str, str]]:
    """Reports of a file's variables, and what each prior would make of it.

    Raises:
        ClimdownError: it cannot be read.
    """
    from climdown import cf
    from climdown.inputs import inspection

    (location,) = cf.expand_paths([path])
    sources = inspection.open_local(location)
    reports = inspection.inspect_sources(sources, full=full)
    verdicts = {name: _verdict(prior, sources) for name, prior in known.items()}
    sources.close()
    return reports, verdicts


def _show_json(
    path: Location | str, reports: list[VariableReport], verdicts: dict[str, str]
) -> None:
    variables = [report.to_dict() for report in reports]
    _write_json({"file": str(path), "variables": variables, "priors": verdicts})


def _write_json(entry: dict[str, Any]) -> None:
    out.file.write(json.dumps(entry, allow_nan=False) + "\n")


def _show_table(
    path: Location | str, reports: list[VariableReport], verdicts: dict[str, str]
) -> None:
    # Off a terminal nothing is lost by long lines, and much by folded ones.
    console = out if out.is_terminal else Console(file=out.file, width=_WIDE)
    console.print(_table(path, reports, verdicts), highlight=False, markup=False)


def _table(path: Location | str, reports: list[VariableReport], verdicts: dict[str, str]) -> Table:
    table = Table(title=Text(printable(str(path))), show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    if not reports:
        table.add_row("variables", "none with latitude and longitude")
    for report in reports:
        for label, text in report.rows():
            table.add_row(Text(printable(label)), Text(printable(text)))
        table.add_section()
    problems = [problem for report in reports for problem in report.problems]
    for verdict, names in _alike(verdicts, problems).items():
        label = f"prior{'' if len(names) == 1 else 's'} {', '.join(names)}"
        table.add_row(Text(printable(label)), Text(printable(verdict)))
    return table


def _alike(verdicts: dict[str, str], problems: list[str]) -> dict[str, list[str]]:
    """Names of priors by their verdict; a problem told before is not told again."""
    names: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        reason = verdict.removeprefix(_UNFIT)
        told = any(problem.endswith(reason) for problem in problems)
        names.setdefault(f"{_UNFIT}it is not readable" if told else verdict, []).append(name)
    return names


def _bundled() -> dict[str, Prior | ClimdownError]:
    """The bundled priors by name, or why one cannot be read."""
    from climdown.priors.store import bundled_names, load_prior

    bundled: dict[str, Prior | ClimdownError] = {}
    for name in bundled_names():
        try:
            bundled[name] = load_prior(name)
        except ClimdownError as error:
            bundled[name] = error
    return bundled


def _verdict(prior: Prior | ClimdownError, sources: Sources) -> str:
    """What a bundled prior would make of a file."""
    from climdown.inputs import matching
    from climdown.inputs.checks import check_sample
    from climdown.inputs.typical import typical

    if isinstance(prior, ClimdownError):
        return f"cannot be read: {prior}"
    try:
        fields = matching.match(prior, sources, None).region
        for variable in prior.card.variables:
            if variable.name in fields:
                check_sample(fields[variable.name], typical(prior, variable))
    except ClimdownError as error:
        return _UNFIT + str(error).removeprefix(f"{sources.paths[0]}: ")
    free = [v.name for v in prior.card.variables if v.name not in fields]
    unguided = f"; free: {', '.join(free)}" if free else ""
    return f"fits: guided by {', '.join(fields)}{unguided}"
