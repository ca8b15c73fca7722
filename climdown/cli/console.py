"""Messages: progress bars on a terminal, timestamped lines off it, one line per error."""

from __future__ import annotations

import io
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from climdown.cli.printable import printable
from climdown.errors import InputError, OutputError


class _Stdout:
    """Standard output: one line where it is full, silence where its reader has had enough."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._told():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._told():
            self._stream.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self._give_up()
        except OSError as error:
            self._give_up()
            raise OutputError(f"cannot write to standard output: {error.strerror}") from None

    def _give_up(self) -> None:
        """Let what is still to be written vanish: at its end the process would try once more."""
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def checked_stdout() -> Iterator[None]:
    """Watch over standard output, whoever writes to it.

    Raises:
        OutputError: it cannot be written.
    """
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a letter that it lacks stops nothing
    sys.stdout = cast("TextIO", _Stdout(stream))
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout = stream


out = Console(soft_wrap=True)
err = Console(stderr=True)
log = logging.getLogger("climdown")

_SECONDS_BETWEEN_LINES = 10.0


def set_up_logging(*, verbose: bool) -> None:
    """Send the package's log to standard error."""
    handler: logging.Handler
    if err.is_terminal:
        handler = RichHandler(console=err, show_path=False, show_level=False, markup=False)
        handler.setFormatter(_Printable("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(
            _Printable("%(asctime)s %(levelname)s | %(message)s", "%Y-%m-%dT%H:%M:%S")
        )
    log.handlers = [handler]
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False
    logging.raiseExceptions = False  # a full standard error is no reason for a traceback


def command_line() -> str:
    """The command as it was typed, for the history of an output."""
    return shlex.join(["climdown", *sys.argv[1:]])


def check_names() -> None:
    """Refuse names that no library of NetCDF opens.

    Raises:
        InputError: a word of the command is no text.
    """
    for word in sys.argv[1:]:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            shown = os.fsencode(word).decode(errors="backslashreplace")
            raise InputError(f"the name '{shown}' is not UTF-8 text; rename what it names")


def report_error(message: str) -> None:
    """One line on standard error."""
    with suppress(OSError):
        sys.stderr.write(f"climdown: error: {printable(' '.join(message.split()))}\n")


@contextmanager
def each_line_once() -> Iterator[None]:
    """Leave out what the log has said before."""
    said: set[str] = set()

    def new(record: logging.LogRecord) -> bool:
        line = record.getMessage()
        fresh = line not in said
        said.add(line)
        return fresh

    for handler in log.handlers:
        handler.addFilter(new)
    try:
        yield
    finally:
        for handler in log.handlers:
            handler.removeFilter(new)


@contextmanager
def quiet() -> Iterator[None]:
    """Log warnings alone, of what runs as a part of something else."""
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with rate and time left on a terminal, a line now and then elsewhere.

    Yields a function to call with (done, total, note).
    """
    if err.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} {task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=err,
        ) as bars:
            yield _bar(bars, unit)
    else:
        yield _lines(unit)


def _bar(bars: Progress, unit: str) -> Callable[[int, int, str], None]:
    """A new bar's function, see `progress_bar`."""
    task = bars.add_task(unit, total=None, rate="", note="")
    meter = _Rate()

    def draw(done: int, total: int, note: str) -> None:
        rate = meter.update(done)
        shown = f"{rate:.2f} {unit}/s" if rate else ""
        bars.update(task, completed=done, total=total, rate=shown, note=note)

    return draw


def _lines(unit: str) -> Callable[[int, int, str], None]:
    """A function that logs a line now and then, and one at the end, see `progress_bar`."""
    meter = _Rate()
    last = 0.0

    def write(done: int, total: int, note: str) -> None:
        nonlocal last
        rate = meter.update(done)
        now = time.monotonic()
        if done < total and now - last < _SECONDS_BETWEEN_LINES:
            return
        last = now
        left = f", {_duration((total - done) / rate)} left" if rate and done < total else ""
        speed = f", {rate:.2f} {unit}/s" if rate else ""
        log.info("%d of %d %s%s%s%s", done, total, unit, speed, left, f" {note}" if note else "")

    return write


class _Printable(logging.Formatter):
    """Lines without the control characters that names and attributes of files may hold."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of the base
        return printable(super().formatMessage(record))


class _Rate:
    """Units per second since the first call."""

    def __init__(self) -> None:
        self.begun: float | None = None
        self.first = 0

    def update(self, done: int) -> float | None:
        """The rate once so many units are done; None before it can be known."""
        now = time.monotonic()
        if self.begun is None:
            self.begun, self.first = now, done
            return None
        elapsed = now - self.begun
        return (done - self.first) / elapsed if elapsed > 0 and done > self.first else None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
