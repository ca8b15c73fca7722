"""Messages: progress bars on a terminal, timestamped lines off it, one line per error."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

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


def report_error(message: str) -> None:
    """One line on standard error."""
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
            task = bars.add_task(unit, total=None, rate="", note="")
            meter = _Rate()

            def draw(done: int, total: int, note: str) -> None:
                rate = meter.update(done)
                shown = f"{rate:.2f} {unit}/s" if rate else ""
                bars.update(task, completed=done, total=total, rate=shown, note=note)

            yield draw
    else:
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
            log.info(
                "%d of %d %s%s%s%s", done, total, unit, speed, left, f" {note}" if note else ""
            )

        yield write


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGUSR1 into a question to ask between units of work."""
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        log.warning("signal %d: finishing the unit under way", number)

    numbers = [signal.SIGTERM, signal.SIGUSR1]
    before = {number: signal.signal(number, remember) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
