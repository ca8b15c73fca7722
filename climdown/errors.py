"""The errors climdown raises, each with the exit code its command ends with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class ClimdownError(Exception):
    """Base of all expected failures: one line that says what was found and what to do."""

    exit_code: ClassVar[int] = 1


class ConfigError(ClimdownError):
    """An option, or an entry of a configuration file, is wrong or unknown."""

    exit_code = 2


class InputError(ClimdownError):
    """An input file cannot be read, or holds something other than what was asked for."""

    exit_code = 3


class GridError(ClimdownError):
    """A grid is malformed, or the input does not cover the region of the prior."""

    exit_code = 4


class PriorError(ClimdownError):
    """A prior is unknown, damaged, too new, or does not fit the input."""

    exit_code = 5


class OutputError(ClimdownError):
    """The output exists already, or cannot be written."""

    exit_code = 6


class ResumeError(ClimdownError):
    """Parts of an earlier run lie beside the output and do not belong to this run."""

    exit_code = 7


class ConvergenceError(ClimdownError):
    """An iteration did not converge."""

    exit_code = 8


class Requeue(ClimdownError):  # noqa: N818 - it asks for something, it is no error
    """A termination signal arrived; finished units are kept, the same command resumes.

    75 is EX_TEMPFAIL of sysexits.h: a scheduler may run the same command again.
    """

    exit_code = 75


@contextmanager
def naming(source: object) -> Iterator[None]:
    """Say in which file something is wrong; wrong options speak for themselves."""
    try:
        yield
    except ConfigError:
        raise
    except ClimdownError as error:
        raise type(error)(f"{source}: {error}") from None
