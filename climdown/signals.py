"""Signals by which schedulers, terminals and people end a process.

SIGTERM, SIGUSR1 and SIGHUP ask for an end after which the same command goes on: `ended_by_signals`
ends whatever is under way, `stop_requested` lets work in units finish the one it is at.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

_NUMBERS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)

# So long an end may take before it is asked for again.
_SECONDS_TO_CLEAN_UP = 0.5


class Terminated(BaseException):
    """A signal arrived. No `Exception`: nothing that goes on after an error may catch it."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `Terminated` wherever the process is; for the whole of a process.

    Later signals leave the cleaning up alone, and so do signals that come when all is done.
    """
    numbers = _heeded()
    told = ""

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal told
        _ignore(numbers)
        # Some libraries swallow whatever is raised while they are imported: tell them again.
        signal.setitimer(signal.ITIMER_REAL, _SECONDS_TO_CLEAN_UP, _SECONDS_TO_CLEAN_UP)
        told = told or (
            f"stopped by {signal.Signals(number).name}; the same command goes on from what is done"
        )
        raise Terminated(told)

    for number in [*numbers, signal.SIGALRM] if numbers else []:
        signal.signal(number, end)
    try:
        yield
    finally:
        if numbers:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        _ignore([*numbers, signal.SIGINT])


def _ignore(numbers: Iterable[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn the signals into a question to ask between units of work."""
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        log.warning("%s: finishing the unit under way", signal.Signals(number).name)

    before = {number: signal.signal(number, remember) for number in _heeded()}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded() -> list[signal.Signals]:
    """The signals, but for those that the process was told to ignore: `nohup` ignores SIGHUP."""
    if threading.current_thread() is not threading.main_thread():
        return []  # only the main thread can set handlers
    return [number for number in _NUMBERS if signal.getsignal(number) != signal.SIG_IGN]
