"""What of an input a prior can use: variables, period and region."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from climdown import cf, regrid
from climdown.errors import ClimdownError, GridError, InputError, PriorError
from climdown.grid import Grid
from climdown.inputs.onto import onto, weights_onto
from climdown.mesh import Mesh
from climdown.priors.card import Variable
from climdown.priors.prior import Prior
from climdown.priors.store import bundled_names, load_prior

log = logging.getLogger(__name__)

# The input must cover this share of the valid area of the prior; the rest is extrapolated.
_MIN_REGION = 0.9


@dataclass(frozen=True, eq=False)
class Matched:
    """An input as a prior can use it, by the prior's variables.

    Attributes:
        everywhere: the fields as the files have them, all cells and steps.
        region: the same on rectilinear cells over the prior's region, all steps.
        steps: those that are asked for.
    """

    everywhere: dict[str, cf.Field]
    region: dict[str, cf.Field]
    steps: slice

    @cached_property
    def fields(self) -> dict[str, cf.Field]:
        """Over the prior's region, the steps that are asked for."""
        return {name: field.isel(self.steps) for name, field in self.region.items()}


def quantity(variable: Variable) -> cf.Quantity:
    """What to look for in a file to feed a variable of a prior.

    A variable at the surface goes by the names of its family too, beside those on the card.
    """
    named = cf.Quantity(
        variable.name, variable.standard_names, variable.names, variable.units, variable.level
    )
    family = cf.family_of(named)
    if family is None or variable.level is not None:
        return named
    standard_names = dict.fromkeys((*named.standard_names, *family.quantity.standard_names))
    names = dict.fromkeys((*named.names, *family.quantity.names))
    return replace(named, standard_names=tuple(standard_names), names=tuple(names))


def choose_prior(
    kinds: tuple[str, ...],
    sources: cf.Sources,
    period: str | None,
    select: Mapping[str, str] | None = None,
) -> tuple[Prior, Matched]:
    """The bundled prior of given kinds that fits variables, region and months of the input.

    Raises:
        PriorError: none fits; says why for each.
    """
    reasons = []
    fitting = []
    for name in bundled_names():
        try:
            prior = load_prior(name)
            require_kind(prior, kinds)
            fitting.append((prior, match(prior, sources, period, select)))
        except ClimdownError as error:
            reasons.append(f"{name}: {error}")
    if not fitting:
        raise PriorError(f"no bundled prior fits the input: {'; '.join(reasons)}")
    # The prior that is guided by the largest share of its variables.
    prior, matched = max(fitting, key=lambda pair: len(pair[1].region) / len(pair[0].mask))
    log.info("prior %s fits the input", prior.card.name)
    return prior, matched


def require_kind(prior: Prior, kinds: tuple[str, ...]) -> None:
    """Check that a prior is of a kind that a method can use.

    Raises:
        PriorError: it is of another.
    """
    if prior.card.kind not in kinds:
        raise PriorError(
            f"prior {prior.card.name} is a {prior.card.kind} model; the method needs one of "
            f"{' or '.join(kinds)}"
        )


def match(
    prior: Prior,
    sources: cf.Sources,
    period: str | None,
    select: Mapping[str, str] | None = None,
) -> Matched:
    """The prior's variables in the input, over its region.

    Raises:
        InputError: none of the variables is there, one cannot be read, times differ, or months
            are unknown to the prior.
        GridError: the input does not cover the prior's region.
    """
    fields = _guiding_fields(prior, sources, select)
    first = next(iter(fields.values()))
    for name, field in fields.items():
        _check_same_steps(name, field, first)
    _warn_of_step(prior, first.time)
    steps = select_period(first, period)
    _check_months(prior, first, first.time.isel(steps))
    return Matched(fields, {name: _cover(prior, field) for name, field in fields.items()}, steps)


def _guiding_fields(
    prior: Prior, sources: cf.Sources, select: Mapping[str, str] | None
) -> dict[str, cf.Field]:
    """The variables that the input has; near misses are logged, where another one is there."""
    fields: dict[str, cf.Field] = {}
    missing: dict[str, cf.VariableNotFoundError] = {}
    for variable in prior.card.variables:
        try:
            fields[variable.name] = sources.field(quantity(variable), select=select)
        except cf.VariableNotFoundError as error:
            missing[variable.name] = error
    near = {name: reason for name, reason in missing.items() if reason.near}
    if not fields:
        raise next(iter((near or missing).values()))
    for name, reason in near.items():
        log.warning("%s stays unguided: %s", name, reason)
    return fields


def _warn_of_step(prior: Prior, axis: cf.TimeAxis) -> None:
    step, trained = axis.step_days, prior.card.step_days
    if step > 1.5 * trained or step < 0.6 * trained:
        log.warning(
            "the input has a time step of %.3g days, prior %s was trained on %.3g: "
            "its fine detail will be that of the latter",
            step,
            prior.card.name,
            trained,
        )


def _cells_near(prior: Prior, mesh: Mesh) -> Grid:
    """Rectilinear cells about as large as a mesh's, over the prior's region and a little more.

    Where they can, they divide the prior's coarse cells evenly: the mesh's values then reach
    these as by one average, not two.
    """
    fine, coarse = prior.card.grid, prior.card.coarse_grid
    parts = round(coarse.spacing / mesh.spacing)
    spacing = coarse.spacing / parts if parts else round(mesh.spacing, 3)
    south, west = float(fine.lat_edges[0]), float(fine.lon_edges[0])
    margin = 2.0 * spacing
    return Grid.regular(
        max(south - margin, -90.0),
        min(float(fine.lat_edges[-1]) + margin, 90.0),
        west - margin,
        min(float(fine.lon_edges[-1]) + margin, west - margin + 360.0),
        spacing,
    )


def _check_same_steps(name: str, field: cf.Field, first: cf.Field) -> None:
    if _steps(field.time) == _steps(first.time):
        return
    raise InputError(
        f"{cf.describe_paths(field.paths)}: the time axis of {name} ({_span(field.time)}) differs "
        f"from that of {cf.describe_paths(first.paths)} ({_span(first.time)}); give both the same "
        "steps, for example with `cdo seldate`"
    )


def _steps(axis: cf.TimeAxis) -> tuple[str, list[tuple[int, ...]]]:
    """Calendar and dates, as exact as the step: a daily mean may be stamped at any hour."""
    dates = [(d.year, d.month, d.day, d.hour, d.minute) for d in axis.dates]
    parts = 2 if axis.step_days > 27.0 else 3 if axis.step_days > 0.99 else 5
    return str(axis.dates[0].calendar), [date[:parts] for date in dates]


def _span(axis: cf.TimeAxis) -> str:
    first, last = (date.strftime("%Y-%m-%d %H:%M") for date in (axis.dates[0], axis.dates[-1]))
    return f"{len(axis)} steps from {first} to {last}, {axis.calendar}"


def select_period(field: cf.Field, period: str | None) -> slice:
    """The steps of a period; an error names the field's files."""
    try:
        return field.time.select(period)
    except InputError as error:
        raise InputError(f"{cf.describe_paths(field.paths)}: {error}") from None


def _check_months(prior: Prior, field: cf.Field, axis: cf.TimeAxis) -> None:
    months = prior.card.months
    if unknown := [m for m in axis.months if m not in months]:
        raise InputError(
            f"{cf.describe_paths(field.paths)}: has months {numbers(unknown)}; prior "
            f"{prior.card.name} knows months {numbers(months)} only: choose others with --time"
        )


def _cover(prior: Prior, field: cf.Field) -> cf.Field:
    """Cut a field to the prior's region, on rectilinear cells, after checking that it covers it."""
    fine = prior.card.grid
    on_grid = field
    if not isinstance(field.cells, Grid):
        target = _cells_near(prior, field.cells)
        described = field.cells.describe(), target.describe()
        log.info("%s is regridded from %s to %s", field.source_name, *described)
        on_grid = onto(field, target)
    try:
        cropped = on_grid.crop(fine)
    except GridError as error:
        raise GridError(f"{error}; that of prior {prior.card.name}") from None
    share = _covered_share(prior, field, on_grid.grid, cropped.grid)
    if share < _MIN_REGION:
        raise GridError(
            f"{cf.describe_paths(field.paths)}: the grid ({field.cells.describe()}) covers "
            f"{share:.0%} of the region of prior {prior.card.name} ({fine.describe()}); need at "
            f"least {_MIN_REGION:.0%}"
        )
    return cropped


def _covered_share(prior: Prior, field: cf.Field, grid: Grid, cropped: Grid) -> float:
    """The share of the prior's valid area that a field covers.

    Args:
        grid: the field's own, or that on which a field on a mesh is read.
        cropped: the part of it over the prior's region.
    """
    fine = prior.card.grid
    if isinstance(field.cells, Grid):
        coverage = regrid.weights(cropped, fine, "conservative").coverage
    else:
        covered = weights_onto(field, grid).coverage
        onward = regrid.weights(grid, fine, "conservative").apply(covered)
        coverage = np.nan_to_num(onward).astype(np.float64)
    wanted = fine.areas * prior.mask.any(axis=0)
    return float((coverage * wanted).sum() / wanted.sum())


def numbers(values: Sequence[int]) -> str:
    """Months and the like, listed for people."""
    return ", ".join(map(str, values))
