"""Outputs, references and inputs as ensembles of lazily read fields, whoever wrote the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from climdown import cf
from climdown.arrays import Float32, Index
from climdown.errors import ConfigError, InputError

# Names of dimensions along which members lie, beside those with standard_name "realization".
_MEMBERS = ("realization", "member", "member_id", "ensemble", "ens", "number", "sample", "run")


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Fields of several variables, by member.

    Attributes:
        name: by which people tell it from others.
        members: the fields of each, by variable; all on one grid and time axis.
        attributes: of its first file.
    """

    name: str
    members: tuple[Mapping[str, cf.Field], ...]
    attributes: Mapping[str, Any]

    @property
    def first(self) -> cf.Field:
        """A field that stands for all, for its grid and its time axis."""
        return next(iter(self.members[0].values()))

    @property
    def time(self) -> cf.TimeAxis:
        """The time axis that all share."""
        return self.first.time

    @property
    def where(self) -> str:
        """Its files, for people."""
        return cf.describe_paths(self.first.paths)

    def map(self, change: Callable[[cf.Field], cf.Field]) -> Ensemble:
        """The same with every field changed."""
        members = tuple({n: change(f) for n, f in member.items()} for member in self.members)
        return replace(self, members=members)

    def read(self, variable: str, part: slice) -> Float32:
        """Values of a block of time steps, shape (time, member, ny, nx)."""
        return np.stack([member[variable].read(part) for member in self.members], axis=1)

    def read_steps(self, variable: str, steps: Index) -> Float32:
        """The same of some time steps, ascending."""
        return np.stack([member[variable].read_steps(steps) for member in self.members], axis=1)


def open_ensemble(
    name: str,
    paths: Iterable[str | Path],
    quantities: Mapping[str, cf.Quantity],
    *,
    members: int | None = None,
    select: Mapping[str, str] | None = None,
) -> Ensemble:
    """Open files of one ensemble: members lie along a dimension, or in files of the same times.

    Args:
        quantities: to look for, by the name of the variable; those not found are left out.
        members: take the first so many; None takes all.
        select: the entry to take along further dimensions.

    Raises:
        InputError: none of the quantities is there, or files that do not make up members.
        GridError: the coordinates do not form a grid.
    """
    sources = cf.Sources.open(paths)
    found: list[dict[str, cf.Field]] = []
    for one in _by_member(sources):
        for entry in _entries(one, select or {}):
            if members is not None and len(found) == members:
                break
            found.append(_fields(one, quantities, {**(select or {}), **entry}))
    if members is not None and len(found) < members:
        raise ConfigError(
            f"{sources.describe()} has {len(found)} members; --members asks {members}"
        )
    attributes = dict(sources.datasets[0].attrs)
    ensemble = Ensemble(name, tuple(found), attributes)
    _check_alike(ensemble)
    return ensemble


def _by_member(sources: cf.Sources) -> list[cf.Sources]:
    """Files of each member: those of the same variables and times are different members."""
    spans: dict[tuple[Any, ...], list[int]] = {}
    for i, dataset in enumerate(sources.datasets):
        key = (*cf.gridded_variables(dataset), *_span(dataset))
        spans.setdefault(key, []).append(i)
    counts = {len(files) for files in spans.values()}
    if len(counts) > 1:
        listed = ", ".join(map(str, sorted(counts)))
        raise InputError(
            f"{sources.describe()}: files of the same times are taken as members, and there are "
            f"{listed} of some times; expected as many of each"
        )
    return [
        cf.Sources(
            tuple(sources.paths[files[member]] for files in spans.values()),
            tuple(sources.datasets[files[member]] for files in spans.values()),
        )
        for member in range(counts.pop())
    ]


def _span(dataset: xr.Dataset) -> tuple[Any, ...]:
    """First and last date of a file, as it has them."""
    for name in cf.gridded_variables(dataset):
        array = dataset[name]
        if cf.has_time(array) and not cf.is_undecoded_time(array):
            dates = cf.read_time_axis(array, dataset).dates
            return dates[0].isoformat(), dates[-1].isoformat(), len(dates)
    return ()


def _entries(sources: cf.Sources, select: Mapping[str, str]) -> list[dict[str, str]]:
    """What to select for each member of a file: one entry, or none where there is no dimension."""
    for dataset in sources.datasets:
        for name in cf.gridded_variables(dataset):
            dimension = _member_dimension(dataset[name])
            if dimension is not None and dimension not in select:
                return [{dimension: label} for label in cf.labels(dataset[name], dimension)]
    return [{}]


def _member_dimension(array: xr.DataArray) -> str | None:
    for name in map(str, array.dims):
        standard = str(array[name].attrs.get("standard_name", "")) if name in array.coords else ""
        if name.lower() in _MEMBERS or standard == "realization":
            return name
    return None


def _fields(
    sources: cf.Sources, quantities: Mapping[str, cf.Quantity], select: Mapping[str, str]
) -> dict[str, cf.Field]:
    fields: dict[str, cf.Field] = {}
    missing: list[cf.VariableNotFoundError] = []
    for name, quantity in quantities.items():
        try:
            fields[name] = sources.field(quantity, select=select)
        except cf.VariableNotFoundError as error:
            missing.append(error)
    if not fields:
        raise next((error for error in missing if error.near), missing[0])
    return fields


def _check_alike(ensemble: Ensemble) -> None:
    """Check that all fields share a grid and their dates.

    Raises:
        InputError: one differs.
    """
    first = ensemble.first
    for field in _all_fields(ensemble.members):
        if field.cells.digest != first.cells.digest:
            raise InputError(
                f"{field.where}: its grid ({field.cells.describe()}) differs from that of "
                f"{first.where} ({first.cells.describe()}); regrid one of them"
            )
        if len(field.time) != len(first.time) or (field.time.centres != first.time.centres).any():
            raise InputError(
                f"{field.where}: its time axis ({field.time.describe()}) differs from that of "
                f"{first.where} ({first.time.describe()}); give all the same steps"
            )


def _all_fields(members: Sequence[Mapping[str, cf.Field]]) -> Iterable[cf.Field]:
    return (field for member in members for field in member.values())


def quantities_of(paths: Iterable[str | Path], wanted: Sequence[str]) -> dict[str, cf.Quantity]:
    """What to judge: the gridded variables in time of the reference, in the units to report.

    Args:
        wanted: names; empty takes all.

    Raises:
        InputError: none is there.
        ConfigError: one that is wanted is not.
    """
    sources = cf.Sources.open(paths)
    found: dict[str, cf.Quantity] = {}
    for dataset in sources.datasets:
        for name in cf.gridded_variables(dataset):
            if cf.has_time(dataset[name]) and not _is_statistic(dataset[name]):
                found.setdefault(name, _reported(cf.quantity_like(dataset[name])))
    sources.close()
    if unknown := [name for name in wanted if name not in found]:
        listed = ", ".join(found) or "none"
        raise ConfigError(f"{sources.describe()} has no variable '{unknown[0]}'; it has {listed}")
    if not found:
        raise InputError(f"{sources.describe()}: no variable with time, latitude and longitude")
    return {name: found[name] for name in wanted} if wanted else found


def _is_statistic(array: xr.DataArray) -> bool:
    """Whether a variable is the mean or the spread of an ensemble that lies beside it."""
    return "realization:" in str(array.attrs.get("cell_methods", ""))


def _reported(quantity: cf.Quantity) -> cf.Quantity:
    """The quantity in units that people read: precipitation per day."""
    family = cf.family_of(quantity)
    rate = family is not None and family.quantity.units == "mm day-1"
    return replace(quantity, units="mm day-1") if rate else quantity
