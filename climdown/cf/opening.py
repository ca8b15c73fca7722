"""Files, Zarr stores and addresses: paths and patterns, and opening them lazily."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from climdown.arrays import AnyArray
from climdown.cf.coordinates import with_coordinates
from climdown.errors import InputError

# One of these lies in every Zarr store: of format 3, of format 2, and consolidated format 2.
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zmetadata")
# Endings of remote files; what ends otherwise is taken for a Zarr store.
_NETCDF_ENDINGS = (".nc", ".nc4", ".cdf", ".h5", ".hdf5")
# Where a dataset keeps its undecoded twin.
_STORED = "stored"
_CLOUD = "pip install 'climdown[cloud]'"


class Url(str):
    """The address of a remote store or file, "gs://..."; a Path would lose one of its slashes."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The last part, as of a path."""
        return self.rstrip("/").rsplit("/", 1)[-1]


Location: TypeAlias = Path | Url


def describe_paths(paths: Sequence[Location]) -> str:
    """The first path, and how many more."""
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def expand_paths(patterns: Iterable[str | Path]) -> list[Location]:
    """Files and Zarr stores named by paths, quoted glob patterns and URLs.

    They are in sorted order within a pattern; one that is named twice counts once.

    Raises:
        InputError: a path does not exist or a pattern matches nothing; a pattern in a URL.
    """
    locations = (location for pattern in patterns for location in _expand(pattern))
    return list(dict.fromkeys(locations))


def is_zarr(location: Location) -> bool:
    """Whether a Zarr store lies there, or is meant to: an address that ends as no NetCDF file."""
    if isinstance(location, Url):
        return not location.lower().endswith(_NETCDF_ENDINGS)
    return any((location / mark).is_file() for mark in _ZARR_MARKS)


def open_dataset(path: Location) -> xr.Dataset:
    """Open a NetCDF file or a Zarr store lazily, with calendar-aware dates for every calendar.

    Raises:
        InputError: it is neither, cannot be reached, or a time axis or another variable cannot
            be decoded.
    """
    coder = xr.coders.CFDatetimeCoder(use_cftime=True)
    with _explained(path), warnings.catch_warnings():
        # Of several fill values each is taken for missing, as it should be.
        warnings.simplefilter("ignore", xr.SerializationWarning)
        # Decoded from the stored values, which stay at hand: the file is opened once for both.
        stored = _open(path, decode_cf=False)
        dataset = xr.decode_cf(stored, decode_times=coder, decode_timedelta=False)
        located = with_coordinates(dataset)
    located.set_close(stored.close)
    located.encoding |= {"source": str(path), _STORED: stored}
    return located


def stored_values(dataset: xr.Dataset, name: str) -> AnyArray:
    """The numbers of a variable as its file holds them, undecoded but for packing.

    Args:
        dataset: as `open_dataset` gives it.

    Raises:
        InputError: the file cannot be read any more.
    """
    with _explained(_location(dataset.encoding["source"])):
        stored = dataset.encoding[_STORED][name]
        values = np.asarray(stored.values)
    if {"scale_factor", "add_offset"} & set(stored.attrs):
        values = values * stored.attrs.get("scale_factor", 1.0)
        values = values + stored.attrs.get("add_offset", 0.0)
    # Zarr states the order of bytes, and netCDF4 warns of types that state any.
    return values.astype(values.dtype.newbyteorder("="))


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _expand(pattern: str | Path) -> list[Location]:
    location = _location(pattern)
    if isinstance(location, Url):
        if "*" in location:
            raise InputError(f"{location}: patterns work for local files only; name each address")
        return [location]
    # A file's own name wins over its reading as a pattern.
    named = _is_data(location)
    names = [str(pattern)] if named else sorted(glob.glob(str(pattern)))  # noqa: PTH207
    files: list[Location] = [Path(name) for name in names if _is_data(Path(name))]
    if not files and location.is_dir():
        raise InputError(f"{pattern} is a folder; name its files, like '{pattern}/*.nc'")
    if not files:
        kind = "no file matches" if glob.has_magic(str(pattern)) else "no such file:"
        raise InputError(f"{kind} {pattern}")
    return files


def _location(text: str | Path) -> Location:
    return Url(text) if isinstance(text, str) and "://" in text else Path(text)


def _is_data(path: Path) -> bool:
    return path.is_file() or is_zarr(path)


def _open(path: Location, **decoding: Any) -> xr.Dataset:
    if not is_zarr(path):
        # The netCDF library itself knows but a few protocols, and no credentials.
        engine = "h5netcdf" if isinstance(path, Url) else "netcdf4"
        return xr.open_dataset(path, engine=engine, **decoding)
    with warnings.catch_warnings():
        # Opening is slower without consolidated metadata, and a reader cannot help it.
        warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata")
        return xr.open_dataset(path, engine="zarr", chunks=None, **decoding)


@contextmanager
def _explained(path: Location) -> Iterator[None]:
    """Turn what goes wrong in opening a file or store into one line."""
    try:
        yield
    except Exception as error:
        # The libraries behind the protocols raise errors that have no base in common.
        if not isinstance(path, Url) and not isinstance(error, OSError | ValueError):
            raise
        explained = _time_problem(error) or _remote_problem(path, error) or _problem(path, error)
        raise InputError(f"{path}: {explained}") from None


def _time_problem(error: Exception) -> str | None:
    line = first_line(error).split(". Try opening")[0]
    if not isinstance(error, ValueError) or "time units" not in line:
        return None
    return (
        f"the time axis cannot be decoded ({line}); expected days, hours, minutes or seconds since "
        "a date, in a calendar of CF"
    )


def _problem(path: Location, error: Exception) -> str:
    line = first_line(error).split(". Try opening")[0]
    if isinstance(error, OSError):
        return f"cannot be read as {'Zarr' if is_zarr(path) else 'NetCDF'} ({line})"
    return f"cannot be decoded ({line})"


def _remote_problem(path: Location, error: Exception) -> str | None:
    """What is wrong with an address, and what to do; None for a local path."""
    if not isinstance(path, Url):
        return None
    line, scheme = first_line(error), path.split("://")[0]
    if isinstance(error, ImportError) or "unrecognized engine" in line:
        return f"a library for such addresses is missing ({line}); install it: {_CLOUD}"
    if "Protocol not known" in line:
        return f"no protocol {scheme}:// is known; expected gs://, s3://, https:// or the like"
    if isinstance(error, FileNotFoundError):
        kind = f"Zarr store ({', '.join(_ZARR_MARKS)})" if is_zarr(path) else "NetCDF file"
        return f"nothing there ({line}); expected a {kind}, check the address"
    if isinstance(error, PermissionError):
        setting = f"FSSPEC_{scheme.upper()}"
        return (
            f"access is refused ({line}); expected a public store, or credentials in the variable "
            f"{setting} (for public data on s3: FSSPEC_S3='{{\"anon\": true}}')"
        )
    if isinstance(error, ValueError):
        return None
    return f"cannot be reached ({line}); check the address and the network"
