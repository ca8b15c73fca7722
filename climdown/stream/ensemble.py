"""Parts joined into an ensemble file: members, their mean and their spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from climdown import cf
from climdown.arrays import Float64
from climdown.files import placed
from climdown.grid import Grid
from climdown.stream.parts import PartStore
from climdown.stream.writing import OutputVariable, add_variable, chunk_steps, create

# What the names of an ensemble's statistics end in.
_SUFFIXES = {"mean": "_mean", "standard_deviation": "_spread"}
_ALL = "realizations"  # scalar coordinate of the statistics


@dataclass(frozen=True, eq=False)
class Template:
    """Everything about an output file but its values."""

    grid: Grid
    time: cf.TimeAxis
    variables: tuple[OutputVariable, ...]
    members: int
    attributes: Mapping[str, Any]


def join(store: PartStore, template: Template, output: Path) -> None:
    """Stream the parts into the output: members, their mean and their spread.

    Memory holds a few chunks, whatever the length of the input. The file appears under its
    name when it is whole.
    """
    with placed(output) as temporary, create(temporary, template.grid, template.time) as file:
        file.setncatts(dict(template.attributes))
        _add_realizations(file, template.members)
        for i, variable in enumerate(template.variables):
            _join_variable(file, store, template, i, variable)


def _add_realizations(file: netCDF4.Dataset, members: int) -> None:
    file.createDimension("realization", members)
    variable = file.createVariable("realization", "i4", ("realization",))
    variable.setncatts(
        {"standard_name": "realization", "long_name": "ensemble member", "units": "1"}
    )
    variable[:] = np.arange(1, members + 1)
    # What cell_methods say of realizations needs such a coordinate: one value stands for all.
    scalar = file.createVariable(_ALL, "i4", ())
    scalar.setncatts(
        {"standard_name": "realization", "long_name": "number of members", "units": "1"}
    )
    scalar[...] = members


def _join_variable(
    file: netCDF4.Dataset,
    store: PartStore,
    template: Template,
    index: int,
    variable: OutputVariable,
) -> None:
    steps = chunk_steps(template.grid, template.time)
    dimensions = ("time", "realization", "lat", "lon")
    members = add_variable(file, _linked_to_statistics(variable), dimensions, steps)
    targets = {
        statistic: add_variable(
            file, _statistic_of(variable, statistic), ("time", "lat", "lon"), steps
        )
        for statistic in _SUFFIXES
    }
    for start in range(0, len(template.time), steps):
        block = slice(start, min(start + steps, len(template.time)))
        moments = _Moments()
        for member in range(template.members):
            values = store.member(member, index, block)
            members[block, member] = np.ma.masked_invalid(values)
            moments.add(values.astype(np.float64))
        targets["mean"][block] = np.ma.masked_invalid(moments.mean)
        targets["standard_deviation"][block] = np.ma.masked_invalid(moments.deviation())


def _linked_to_statistics(variable: OutputVariable) -> OutputVariable:
    """The variable of the members, which names those of their statistics."""
    attributes = cf.with_units_metadata(dict(variable.attributes), difference=False)
    names = " ".join(variable.name + suffix for suffix in _SUFFIXES.values())
    return OutputVariable(variable.name, {**attributes, "ancillary_variables": names})


def _statistic_of(variable: OutputVariable, statistic: str) -> OutputVariable:
    attributes = cf.with_units_metadata(
        cf.statistic_attributes(dict(variable.attributes), statistic),
        difference=statistic == "standard_deviation",
    )
    return OutputVariable(variable.name + _SUFFIXES[statistic], {**attributes, "coordinates": _ALL})


class _Moments:
    """Running mean and sum of squared deviations (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def add(self, values: Float64) -> None:
        """Take in one member's values, of the same shape each time."""
        self.count += 1
        difference = values - self.mean
        self.mean = self.mean + difference / self.count
        self.squares = self.squares + difference * (values - self.mean)

    def deviation(self) -> Any:
        """Sample standard deviation (divisor members - 1); NaN for a single member."""
        if self.count < 2:
            return np.full_like(self.mean, np.nan)
        return np.sqrt(self.squares / (self.count - 1))
