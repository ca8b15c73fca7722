"""The command line: a thin skin that parses, calls one function and prints.

Results go to standard output, everything else to standard error. Exit codes are those of
`climdown.errors`, 1 for a bug, 130 for an interrupt.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from climdown import __version__
from climdown.cli import demo, fetch, inspect, ot, priors, qdm, regrid, run, train
from climdown.cli.console import report_error, set_up_logging
from climdown.errors import ClimdownError

EXIT_CODES = """
Exit codes: 0 done; 1 unexpected failure (a bug); 2 wrong option or configuration; 3 input;
4 grid or region; 5 prior; 6 output; 7 parts of another run lie beside the output;
8 an iteration did not converge;
75 stopped by a signal, the same command resumes; 130 interrupted.
"""

app = typer.Typer(
    name="climdown",
    help="Turn raw CMIP NetCDF into fine, CF-compliant ensembles by generative priors.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command("run")(run.run)
app.command("inspect")(inspect.inspect)
app.command("regrid")(regrid.regrid)
app.command("qdm")(qdm.qdm)
app.command("ot")(ot.ot)
app.command("demo")(demo.demo)
app.command("fetch-prior")(fetch.fetch_prior)
app.command("push-prior")(fetch.push_prior)
app.add_typer(priors.app, name="priors")
app.add_typer(train.app, name="train")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"climdown {__version__}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log details to standard error.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of all commands."""
    set_up_logging(verbose=verbose)


def main() -> None:
    """Run the command line; expected failures end in one line and their exit code."""
    try:
        app()
    except ClimdownError as error:
        report_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
