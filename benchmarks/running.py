"""What the parts of the scoreboard share: observations, baselines, files, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from climdown import cf, regrid, stream
from climdown.arrays import Floats, Index, Mask
from climdown.config import DataConfig, VariableConfig
from climdown.errors import InputError
from climdown.grid import Grid
from climdown.priors.prior import Prior

Row = dict[str, Any]


def open_truth(variable: VariableConfig, data: Path) -> cf.Field:
    """The observed field of a variable."""
    names = [data / name for name in variable.files]
    wanted = cf.Quantity(
        variable.name, variable.standard_names, variable.names, variable.units, variable.level
    )
    return cf.open_field(names, wanted)


def inside(axis: cf.TimeAxis, period: str) -> Mask:
    """Which steps lie in a period; none may."""
    chosen = np.zeros(len(axis), dtype=bool)
    try:
        chosen[axis.select(period)] = True
    except InputError:
        return chosen
    return chosen


def held_out(axis: cf.TimeAxis, data: DataConfig, period: str | None) -> Index:
    """Steps of a period; by default of validation or, in data of other years, none of training."""
    if period is not None:
        return np.arange(len(axis))[axis.select(period)]
    chosen = inside(axis, data.validation)
    return np.flatnonzero(chosen if chosen.any() else ~inside(axis, data.train))


def climatology(name: str, priors: Sequence[Prior]) -> Floats:
    """Mean of each cell over the training period, as the first prior that has it carries it."""
    for prior in priors:
        if (mean := prior.fields.get(f"climatology_{name}")) is not None:
            channel = [v.name for v in prior.card.variables].index(name)
            return np.where(prior.mask[channel], mean.astype(np.float64), np.nan)
    raise ValueError(f"no prior carries the climatology of {name}")


def coarsened(values: Floats, fine: Grid, coarse: Grid) -> Floats:
    """Area-weighted means over the valid fine cells of each coarse cell, shape (..., cy, cx)."""
    return np.asarray(regrid.weights(fine, coarse, "conservative").apply(values), np.float64)


def bilinear(values: Floats, coarse: Grid, fine: Grid) -> Floats:
    """Interpolated fields, shape (..., ny, nx)."""
    return np.asarray(regrid.weights(coarse, fine, "bilinear").apply(values), np.float64)


def delta(
    variable: VariableConfig, values: Floats, coarse: Grid, fine: Grid, mean: Floats
) -> Floats:
    """Interpolated fields with the climatology's fine pattern, a ratio under a logarithm."""
    smooth = bilinear(coarsened(mean, fine, coarse), coarse, fine)
    raised = bilinear(values, coarse, fine)
    if variable.transform == "log":
        return raised * np.where(smooth > 0, mean / smooth, 1.0)
    return raised + mean - smooth


def written_name(variable: VariableConfig) -> str:
    """The standard name for a variable in its units: a flux has no millimetres."""
    name = variable.standard_names[0]
    return cf.fitting_name(name, variable.units) or name


def write_fields(
    path: Path,
    grid: Grid,
    axis: cf.TimeAxis,
    variables: Sequence[VariableConfig],
    values: Mapping[str, Floats],
    attributes: Mapping[str, Any],
) -> None:
    """Fields in the variables' units as a CF file."""
    described = []
    for variable in variables:
        description = {"standard_name": written_name(variable), "units": variable.units}
        output = stream.OutputVariable(variable.name, description)
        described.append((output, values[variable.name].astype(np.float32)))
    stream.write_fields(
        path, grid=grid, time=axis, variables=described, attributes=attributes or {}
    )


def print_table(title: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Markdown; numbers of a column that no row has are left out."""
    shown = [c for c in columns if any(row.get(c) is not None for row in rows)]
    print(f"\n{title}\n")
    print(f"| {' | '.join(shown)} |")
    print(f"|{'---|' * len(shown)}")
    for row in rows:
        print(f"| {' | '.join(_text(row.get(column)) for column in shown)} |", flush=True)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
    return "" if value is None else str(value)
