"""Running the command line inside the test process, as a shell would see it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from climdown.cli import main
from climdown.config import RunConfig
from tests.factories import Floats, make_dataset

SMALL_UNITS = (
    sys.executable,
    "-c",
    "from climdown.stream import parts; parts.UNIT_BYTES = 1\n"
    "from climdown.__main__ import main; main()",
)
"""The command line with a part file for every batch: a real run has them of 64 MB."""


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line of an error; fails where there are more."""
        lines = [line for line in self.err.splitlines() if "climdown: error:" in line]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        assert self.err.rstrip().endswith(lines[0]), "the error is the last line"
        return lines[0]


class Shell:
    """Calls `climdown ARGUMENTS...` in the current folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str | Path | int) -> Result:
        self._monkeypatch.setattr(sys, "argv", ["climdown", *map(str, arguments)])
        self._capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = self._capsys.readouterr()
        return Result(code, captured.out, captured.err)


def run_config(**settings: Any) -> RunConfig:
    """A configuration of a run; what is none of its own entries is an option of the method."""
    own = {field.name for field in fields(RunConfig)}
    options = {name: settings.pop(name) for name in sorted(set(settings) - own)}
    return RunConfig(options=options, **settings)


def read_members(path: Path | str, name: str = "tas") -> Floats:
    """A variable's values, NaN where missing."""
    with netCDF4.Dataset(path) as file:
        values: Floats = np.ma.filled(file[name][:].astype(np.float64), np.nan)
    return values


LAT = (40.5, 41.5, 42.5)
LON = (-3.5, -2.5, -1.5, -0.5)


def rain(lat: Floats, lon: Floats, step: int) -> Floats:
    """Precipitation in kg m-2 s-1: a few mm a day."""
    return np.asarray((3.0 + np.sin(lon) + 0.0 * lat + 0.1 * step) / 86400.0)


def warmth(lat: Floats, lon: Floats, step: int) -> Floats:
    """Temperature in K."""
    return np.asarray(280.0 - 0.5 * (lat - 40.0) + 0.0 * lon + 0.2 * step)


def write_tas(path: Path, *, days: Sequence[float] = (0.5, 1.5, 2.5), **options: object) -> Path:
    """A coarse tas file over the tiny prior's region, in January 2001."""
    settings: dict[str, object] = {
        "lat": LAT,
        "lon": LON,
        "values": warmth,
        "times": days,
        "height": 2.0,
        **options,
    }
    make_dataset(path=path, **settings)  # type: ignore[arg-type]
    return path


def write_pr(path: Path, *, days: Sequence[float] = (0.5, 1.5, 2.5), **options: object) -> Path:
    """The like for pr."""
    settings: dict[str, object] = {
        "name": "pr",
        "standard_name": "precipitation_flux",
        "units": "kg m-2 s-1",
        "lat": LAT,
        "lon": LON,
        "values": rain,
        "times": days,
        **options,
    }
    make_dataset(path=path, **settings)  # type: ignore[arg-type]
    return path
