"""Signals of a process: heeded wherever it is, once, and not swallowed by what runs then."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SWALLOWING = """
import os, time
from climdown.signals import Terminated, ended_by_signals
try:
    with ended_by_signals():
        try:
            print("ready", flush=True)
            time.sleep(60)
        except:
            print("swallowed", flush=True)
        time.sleep(60)
except Terminated as told:
    print(told, flush=True)
os._exit(75)
"""

ENDING = """
import time
from climdown.signals import ended_by_signals
with ended_by_signals():
    pass
print("ready", flush=True)
time.sleep(1)
"""


def start(program: str) -> subprocess.Popen[str]:
    """A program that says when it is ready."""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_an_end_that_is_swallowed_is_asked_for_again(number: signal.Signals) -> None:
    process = start(SWALLOWING)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert out == (
        f"swallowed\nstopped by {number.name}; the same command goes on from what is done\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_when_all_is_done_changes_nothing(number: signal.Signals) -> None:
    process = start(ENDING)
    process.send_signal(number)
    assert process.wait(60) == 0


def test_nohup_is_heeded() -> None:
    program = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{SWALLOWING}"
    process = start(program)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert "stopped by SIGTERM" in process.communicate(timeout=60)[0]
