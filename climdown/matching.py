"""What of an input a prior can use: variables, period, region, and the scale it is believed at."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from climdown import cf, regrid
from climdown.errors import ClimdownError, GridError, InputError, PriorError
from climdown.grid import Grid
from climdown.priors.card import Prior, Variable
from climdown.priors.store import bundled_names, load_prior

log = logging.getLogger(__name__)

# The input must cover this share of the valid area of the prior; the rest is extrapolated.
_MIN_REGION = 0.9
_CHECK_BYTES = 64 << 20


def quantity(variable: Variable) -> cf.Quantity:
    """What to look for in a file to feed a variable of a prior."""
    return cf.Quantity(
        variable.name, variable.standard_names, variable.names, variable.units, variable.level
    )


def choose_prior(
    paths: Sequence[Path], period: str | None, select: Mapping[str, str] | None = None
) -> tuple[Prior, dict[str, cf.Field]]:
    """The bundled prior that fits variables, region and months of the input.

    Raises:
        PriorError: none fits; says why for each.
    """
    reasons = []
    fitting = []
    for name in bundled_names():
        try:
            prior = load_prior(name)
            fitting.append((prior, match(prior, paths, period, select)))
        except ClimdownError as error:
            reasons.append(f"{name}: {error}")
    if not fitting:
        raise PriorError(f"no bundled prior fits the input: {'; '.join(reasons)}")
    # The prior that is guided by the largest share of its variables.
    prior, fields = max(fitting, key=lambda pair: len(pair[1]) / len(pair[0].card.variables))
    log.info("prior %s fits the input", prior.card.name)
    return prior, fields


def match(
    prior: Prior,
    paths: Sequence[Path],
    period: str | None,
    select: Mapping[str, str] | None = None,
) -> dict[str, cf.Field]:
    """The prior's variables in the input, cut to period and region.

    Raises:
        InputError: none of the variables is there, times differ, or months are unknown to the
            prior.
        GridError: the input does not cover the prior's region.
    """
    fields, problems = {}, []
    for variable in prior.card.variables:
        try:
            fields[variable.name] = cf.open_field(paths, quantity(variable), select=select)
        except InputError as error:
            problems.append(error)
    if not fields:
        raise problems[0]
    first = next(iter(fields.values()))
    for name, field in fields.items():
        if not np.array_equal(field.time.dates, first.time.dates):
            raise InputError(
                f"{cf.describe_paths(field.paths)}: the time axis of {name} "
                f"({field.time.describe()}) differs from that of {cf.describe_paths(first.paths)} "
                f"({first.time.describe()})"
            )
    step, known = first.time.step_days, prior.card.step_days
    if step > 1.5 * known or step < 0.6 * known:
        log.warning(
            "the input has a time step of %.3g days, prior %s was trained on %.3g: "
            "its fine detail will be that of the latter",
            step,
            prior.card.name,
            known,
        )
    chosen = first.time.select(period)
    _check_months(prior, first, first.time.isel(chosen))
    return {
        name: _cover(prior, _rectilinear(prior, field.isel(chosen)))
        for name, field in fields.items()
    }


def choose_filter_grid(prior: Prior, fields: dict[str, cf.Field], scale: float | str) -> Grid:
    """The grid of A_low: the scale at and above which the input is believed."""
    native = max((field.grid for field in fields.values()), key=lambda grid: grid.spacing)
    if len({field.grid.digest for field in fields.values()}) == 1:
        native = next(iter(fields.values())).grid
    fine, coarse = prior.card.grid, prior.card.coarse_grid
    if scale == "native" or (scale == "auto" and native.spacing > 0.99 * coarse.spacing):
        return native
    if scale == "auto":
        return coarse
    spacing = float(scale)
    # Multiples of the spacing, so that every region sees the same cells.
    south, west = (math.floor(e[0] / spacing) * spacing for e in (fine.lat_edges, fine.lon_edges))
    north, east = float(fine.lat_edges[-1]), float(fine.lon_edges[-1])
    return Grid.regular(max(south, -90.0), north, west, min(east, west + 360.0), spacing)


def check_values(field: cf.Field) -> None:
    """Read all values once, block by block.

    Raises:
        InputError: infinite values, or time steps without any value.
    """
    where = f"{cf.describe_paths(field.paths)}: variable '{field.source_name}'"
    steps = max(1, _CHECK_BYTES // (8 * math.prod(field.grid.shape)))
    empty = 0
    first_empty = ""
    for start in range(0, len(field.time), steps):
        values = field.read(slice(start, start + steps))
        dates = field.time.dates[start : start + steps]
        infinite = np.isinf(values).any(axis=(1, 2))
        if infinite.any():
            raise InputError(
                f"{where} has infinite values, first at {dates[infinite][0].isoformat()}; "
                "set them to missing"
            )
        missing = np.isnan(values).all(axis=(1, 2))
        if missing.any() and not empty:
            first_empty = dates[missing][0].isoformat()
        empty += int(missing.sum())
    if empty == len(field.time):
        raise InputError(f"{where} is missing everywhere in the region and period")
    if empty:
        raise InputError(
            f"{where} has no value at all in the region at {empty} of {len(field.time)} steps, "
            f"first at {first_empty}; leave these out with --time"
        )


def _rectilinear(prior: Prior, field: cf.Field) -> cf.Field:
    """A field on a mesh, on rectilinear cells of its own spacing over the prior's region."""
    if isinstance(field.cells, Grid):
        return field
    mesh, fine = field.cells, prior.card.grid
    spacing = round(mesh.spacing, 3)
    margin = 2.0 * spacing
    target = Grid.regular(
        max(float(fine.lat_edges[0]) - margin, -90.0),
        min(float(fine.lat_edges[-1]) + margin, 90.0),
        float(fine.lon_edges[0]) - margin,
        min(float(fine.lon_edges[-1]) + margin, float(fine.lon_edges[0]) - margin + 360.0),
        spacing,
    )
    return onto(field, target)


def onto(field: cf.Field, grid: Grid, *, min_coverage: float = 0.5) -> cf.Field:
    """A field on another grid, lazily: averaged onto coarser cells, interpolated to finer ones."""
    if field.cells.digest == grid.digest:
        return field
    known_corners = isinstance(field.cells, Grid) or field.cells.lat_vertices is not None
    # Cells of about the same size are averaged: values then move by overlap, and none is made up.
    averaged = known_corners and field.cells.spacing < 1.5 * grid.spacing
    method: regrid.Method = "conservative" if averaged else "bilinear"
    weights = regrid.weights(field.cells, grid, method)
    if not weights.coverage.any():
        raise GridError(
            f"{cf.describe_paths(field.paths)}: the grid ({field.cells.describe()}) does not touch "
            f"the region ({grid.describe()})"
        )
    return field.regridded(grid, lambda values: weights.apply(values, min_coverage=min_coverage))


def _check_months(prior: Prior, field: cf.Field, axis: cf.TimeAxis) -> None:
    known = prior.card.months
    if unknown := [m for m in axis.months if m not in known]:
        raise InputError(
            f"{cf.describe_paths(field.paths)}: has months {_numbers(unknown)}; prior "
            f"{prior.card.name} knows months {_numbers(known)} only: choose others with --time"
        )


def _cover(prior: Prior, field: cf.Field) -> cf.Field:
    """Cut a field to the prior's region, after checking that it covers it."""
    fine = prior.card.grid
    where = cf.describe_paths(field.paths)
    try:
        cropped = field.crop(fine)
    except GridError as error:
        raise GridError(f"{error}; that of prior {prior.card.name}") from None
    coverage = regrid.weights(cropped.grid, fine, "conservative").coverage
    wanted = fine.areas * prior.mask.any(axis=0)
    share = float((coverage * wanted).sum() / wanted.sum())
    if share < _MIN_REGION:
        raise GridError(
            f"{where}: the grid ({field.grid.describe()}) covers {share:.0%} of the region of "
            f"prior {prior.card.name} ({fine.describe()}); need at least {_MIN_REGION:.0%}"
        )
    return cropped


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
