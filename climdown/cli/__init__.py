"""The command line: a thin skin that parses, calls one function and prints.

Results go to standard output, everything else to standard error. Exit codes are those of
`climdown.errors`, 1 for a bug, 130 for an interrupt.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from climdown import __version__
from climdown.cli import demo, evaluate, fetch, inspect, ot, plot, priors, qdm, regrid, run, train
from climdown.cli.console import check_names, checked_stdout, out, report_error, set_up_logging
from climdown.cli.help import Command, Commands
from climdown.cli.usage import UsageError, asks_for_help, usage_message
from climdown.errors import ClimdownError

EPILOG = """\b
Exit codes:
   0  done
   1  unexpected failure: a bug
   2  wrong option or configuration
   3  input
   4  grid or region
   5  prior
   6  output
   7  parts of another run lie beside the output
   8  an iteration did not converge
  75  stopped by a signal; the same command resumes
 130  interrupted

\b
Examples:
  climdown demo
  climdown COMMAND --help
"""
FIELDS = "Fields"
PRIORS = "Priors"


def make_app() -> typer.Typer:
    """The commands, with the methods that are registered by now."""
    app = typer.Typer(
        cls=Commands,
        name="climdown",
        help="Turn raw CMIP NetCDF into fine, CF-compliant ensembles by generative priors.",
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=True,
        callback=options,
    )
    for name, function, examples, panel in (
        ("run", run.command(), run.EXAMPLES, FIELDS),
        ("regrid", regrid.regrid, regrid.EXAMPLES, FIELDS),
        ("qdm", qdm.qdm, qdm.EXAMPLES, FIELDS),
        ("ot", ot.ot, ot.EXAMPLES, FIELDS),
        ("evaluate", evaluate.evaluate, evaluate.EXAMPLES, FIELDS),
        ("plot", plot.plot, plot.EXAMPLES, FIELDS),
        ("inspect", inspect.inspect, inspect.EXAMPLES, FIELDS),
        ("demo", demo.demo, demo.EXAMPLES, FIELDS),
        ("fetch-prior", fetch.fetch_prior, fetch.FETCH_EXAMPLES, PRIORS),
        ("push-prior", fetch.push_prior, fetch.PUSH_EXAMPLES, PRIORS),
    ):
        app.command(name, cls=Command, epilog=examples, rich_help_panel=panel)(function)
    app.add_typer(priors.app, name="priors", rich_help_panel=PRIORS)
    app.add_typer(train.app, name="train", rich_help_panel=PRIORS)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"climdown {__version__}", highlight=False)
        raise typer.Exit


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
        # Typer's own way to end prints several lines, in a box.
        with checked_stdout():
            check_names()
            code = make_app()(prog_name="climdown", standalone_mode=False)
        sys.exit(code)
    except ClimdownError as error:
        report_error(str(error))
        sys.exit(error.exit_code)
    except UsageError as error:
        if asks_for_help(error):
            typer.echo(str(error), err=True)
        else:
            report_error(usage_message(error))
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
