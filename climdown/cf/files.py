"""Files: paths and patterns, and opening them lazily."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import xarray as xr

from climdown.cf.coordinates import with_coordinates
from climdown.errors import InputError


def describe_paths(paths: Sequence[Path]) -> str:
    """The first path, and how many more."""
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def expand_paths(patterns: Iterable[str | Path]) -> list[Path]:
    """Files named by paths and quoted glob patterns, in sorted order within a pattern.

    A file that is named twice counts once.

    Raises:
        InputError: a path does not exist or a pattern matches nothing.
    """
    paths: list[Path] = []
    for pattern in patterns:
        # A file's own name wins over its reading as a pattern.
        named = Path(pattern).is_file()
        found = [str(pattern)] if named else sorted(glob.glob(str(pattern)))  # noqa: PTH207
        files = [Path(name) for name in found if Path(name).is_file()]
        if not files and Path(pattern).is_dir():
            raise InputError(f"{pattern} is a folder; name its files, like '{pattern}/*.nc'")
        if not files:
            kind = "no file matches" if glob.has_magic(str(pattern)) else "no such file:"
            raise InputError(f"{kind} {pattern}")
        paths.extend(files)
    return list(dict.fromkeys(paths))


def open_dataset(path: Path) -> xr.Dataset:
    """Open a NetCDF file lazily, with calendar-aware dates for every calendar.

    Raises:
        InputError: the file is not NetCDF, or a time axis or another variable cannot be decoded.
    """
    coder = xr.coders.CFDatetimeCoder(use_cftime=True)
    try:
        with warnings.catch_warnings():
            # Of several fill values each is taken for missing, as it should be.
            warnings.simplefilter("ignore", xr.SerializationWarning)
            dataset = xr.open_dataset(
                path, engine="netcdf4", decode_times=coder, decode_timedelta=False
            )
        located = with_coordinates(dataset)
        located.set_close(dataset.close)
        return located
    except OSError as error:
        raise InputError(f"{path}: cannot be read as NetCDF ({first_line(error)})") from None
    except ValueError as error:
        line = first_line(error).split(". Try opening")[0]
        if "time units" in line:
            raise InputError(
                f"{path}: the time axis cannot be decoded ({line}); expected days, hours, minutes "
                "or seconds since a date, in a calendar of CF"
            ) from None
        raise InputError(f"{path}: cannot be decoded ({line})") from None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
