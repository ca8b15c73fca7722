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

_Handler = Callable[[int, FrameType | None], None]


class Terminated(BaseException):
    """A signal arrived. No `Exception`: nothing that goes on after an error may catch it."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `Terminated` wherever the process is; later signals leave the cleaning up alone."""
    numbers = _heeded()

    def end(number: int, _frame: FrameType | None) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        raise Terminated(
            f"stopped by {signal.Signals(number).name}; the same command goes on from what is done"
        )

    with _handled(numbers, end):
        yield


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn the signals into a question to ask between units of work."""
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        log.warning("%s: finishing the unit under way", signal.Signals(number).name)

    with _handled(_heeded(), remember):
        yield lambda: bool(received)


def _heeded() -> list[signal.Signals]:
    """The signals, but for those that the process was told to ignore: `nohup` ignores SIGHUP."""
    if threading.current_thread() is not threading.main_thread():
        return []  # only the main thread can set handlers
    return [number for number in _NUMBERS if signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def _handled(numbers: Iterable[signal.Signals], handler: _Handler) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
