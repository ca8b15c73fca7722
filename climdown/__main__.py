"""Where the process begins: `climdown` and `python -m climdown`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from climdown.signals import Terminated, ended_by_signals


def main() -> None:
    """Run the command line; a signal ends it with the documented code, however early it comes."""
    _open_closed_streams()
    try:
        with ended_by_signals():
            # Inside, since it takes most of the time before a command begins.
            from climdown.cli import main as command_line

            command_line()
    except Terminated as told:
        sys.stderr.write(f"climdown: {told}\n")
        sys.exit(75)
    except KeyboardInterrupt:
        sys.exit(130)


def _open_closed_streams() -> None:
    """Give a stream that the caller has closed somewhere to go.

    Else the next file to be opened takes its number, and what is printed is written into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or _devnull()
    sys.stderr = sys.stderr or _devnull()


def _devnull() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


if __name__ == "__main__":
    main()
