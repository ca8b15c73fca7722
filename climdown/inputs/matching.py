"""What of an input a prior can use: variables, period, region, and the scale it is believed at."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from climdown import cf, regrid
from climdown.errors import ClimdownError, GridError, InputError, PriorError
from climdown.grid import Grid
from climdown.mesh import Mesh
from climdown.priors.card import Variable
from climdown.priors.prior import Prior
from climdown.priors.store import bundled_names, load_prior

log = logging.getLogger(__name__)

# The input must cover this share of the valid area of the prior; the rest is extrapolated.
_MIN_REGION = 0.9
_CHECK_BYTES = 64 << 20
# No quantity comes near it: a fill value that the file does not declare.
FILL = 1e15
# A larger share of unbelievable values is no matter of a few bad cells.
_MOST_UNBELIEVABLE = 0.01


def quantity(variable: Variable) -> cf.Quantity:
    """What to look for in a file to feed a variable of a prior.

    A variable at the surface goes by the names of its family too, beside those on the card.
    """
    found = cf.Quantity(
        variable.name, variable.standard_names, variable.names, variable.units, variable.level
    )
    known = cf.known_family(found)
    if known is None or variable.level is not None:
        return found
    standard_names = dict.fromkeys((*found.standard_names, *known.quantity.standard_names))
    names = dict.fromkeys((*found.names, *known.quantity.names))
    return replace(found, standard_names=tuple(standard_names), names=tuple(names))


def choose_prior(
    kinds: tuple[str, ...],
    paths: Sequence[cf.Location],
    period: str | None,
    select: Mapping[str, str] | None = None,
) -> tuple[Prior, dict[str, cf.Field]]:
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
            fitting.append((prior, match(prior, paths, period, select)))
        except ClimdownError as error:
            reasons.append(f"{name}: {error}")
    if not fitting:
        raise PriorError(f"no bundled prior fits the input: {'; '.join(reasons)}")
    # The prior that is guided by the largest share of its variables.
    prior, fields = max(fitting, key=lambda pair: len(pair[1]) / len(pair[0].card.variables))
    log.info("prior %s fits the input", prior.card.name)
    return prior, fields


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
    paths: Sequence[cf.Location],
    period: str | None,
    select: Mapping[str, str] | None = None,
) -> dict[str, cf.Field]:
    """The prior's variables in the input, cut to period and region.

    Raises:
        InputError: none of the variables is there, one cannot be read, times differ, or months
            are unknown to the prior.
        GridError: the input does not cover the prior's region.
    """
    fields: dict[str, cf.Field] = {}
    missing: dict[str, cf.VariableNotFoundError] = {}
    for variable in prior.card.variables:
        try:
            fields[variable.name] = cf.open_field(paths, quantity(variable), select=select)
        except cf.VariableNotFoundError as error:
            missing[variable.name] = error
    near = {name: reason for name, reason in missing.items() if reason.near}
    if not fields:
        raise next(iter((near or missing).values()))
    for name, reason in near.items():
        log.warning("%s stays unguided: %s", name, reason)
    first = next(iter(fields.values()))
    for name, field in fields.items():
        _check_same_steps(name, field, first)
    step, known = first.time.step_days, prior.card.step_days
    if step > 1.5 * known or step < 0.6 * known:
        log.warning(
            "the input has a time step of %.3g days, prior %s was trained on %.3g: "
            "its fine detail will be that of the latter",
            step,
            prior.card.name,
            known,
        )
    chosen = select_period(first, period)
    _check_months(prior, first, first.time.isel(chosen))
    return {name: _cover(prior, field.isel(chosen)) for name, field in fields.items()}


def whole(
    prior: Prior,
    names: Collection[str],
    paths: Sequence[cf.Location],
    select: Mapping[str, str] | None = None,
) -> dict[str, cf.Field]:
    """Variables that `match` found, cut to the region alone: all steps of the input.

    Raises:
        InputError, GridError: as `match`.
    """
    return {
        v.name: _cover(prior, cf.open_field(paths, quantity(v), select=select))
        for v in prior.card.variables
        if v.name in names
    }


def choose_filter_grid(prior: Prior, fields: dict[str, cf.Field], scale: float | str) -> Grid:
    """The grid of A_low: the scale at and above which the input is believed.

    "auto" is the finest that its cells allow; its spectrum may want a coarser one.
    """
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
        InputError: infinite values, an undeclared fill value, values that the quantity cannot
            have, or time steps without any value.
    """
    where = f"{cf.describe_paths(field.paths)}: variable '{field.source_name}'"
    tally = _Tally(cf.known_family(field.quantity), field.quantity.units)
    steps = max(1, _CHECK_BYTES // (8 * math.prod(field.grid.shape)))
    empty: list[Any] = []
    for start in range(0, len(field.time), steps):
        values = field.read(slice(start, start + steps))
        dates = field.time.dates[start : start + steps]
        _refuse_fill(where, values, dates)
        empty.extend(dates[np.isnan(values).all(axis=(1, 2))])
        tally.add(values)
    if len(empty) == len(field.time):
        raise InputError(
            f"{where} is missing everywhere in the region and period; choose others, or check its "
            "_FillValue"
        )
    if empty:
        raise InputError(
            f"{where} has no value at all in the region at {len(empty)} of {len(field.time)} "
            f"steps, first at {empty[0].isoformat()}; leave these out with --time"
        )
    if tally.strange:
        text = f"{where} has {tally.describe()}, its units are '{field.source_units}'"
        if tally.strange > _MOST_UNBELIEVABLE * tally.count:
            raise InputError(f"{text}; correct them, for example with `ncatted -a units,...`")
        log.warning("%s", text)


class _Tally:
    """Counts values that a quantity cannot have."""

    def __init__(self, known: cf.Known | None, units: str) -> None:
        self.known, self.units = known, units
        self.limits = (-np.inf, np.inf) if known is None else known.range_in(units)
        self.count = self.strange = 0
        self.low, self.high = np.inf, -np.inf

    def add(self, values: npt.NDArray[np.float32]) -> None:
        valid = values[np.isfinite(values)]
        if valid.size:
            self.count += valid.size
            self.strange += int(((valid < self.limits[0]) | (valid > self.limits[1])).sum())
            self.low = min(self.low, float(valid.min()))
            self.high = max(self.high, float(valid.max()))

    def describe(self) -> str:
        name = "" if self.known is None else self.known.quantity.name
        return (
            f"{self.strange / self.count:.2%} of its values outside {self.limits[0]:.4g} to "
            f"{self.limits[1]:.4g} {self.units}, unbelievable for {name}: they run from "
            f"{self.low:.4g} to {self.high:.4g}"
        )


def _refuse_fill(
    where: str, values: npt.NDArray[np.float32], dates: npt.NDArray[np.object_]
) -> None:
    broken = np.abs(values) > FILL
    if broken.any():
        kind = "infinite" if np.isinf(values[broken]).all() else f"{values[broken][0]:.3g}"
        date = dates[broken.any(axis=(1, 2))][0].isoformat()
        raise InputError(
            f"{where} has {kind} values, first at {date}; set them to missing, or declare them "
            "as its _FillValue"
        )


def onto(field: cf.Field, grid: Grid, *, min_coverage: float = 0.5) -> cf.Field:
    """A field on another grid, lazily: averaged onto coarser cells, interpolated to finer ones.

    Raises:
        GridError: the two do not touch, or the field's cells cannot be regridded.
    """
    if field.cells.digest == grid.digest:
        return field
    weights = weights_onto(field, grid)
    return field.regridded(grid, lambda values: weights.apply(values, min_coverage=min_coverage))


def weights_onto(field: cf.Field, grid: Grid) -> regrid.Weights:
    """The weights of `onto`, with its errors."""
    cells, where = field.cells, cf.describe_paths(field.paths)
    known_corners = isinstance(cells, Grid) or cells.lat_vertices is not None
    # Cells of about the same size are averaged: values then move by overlap, and none is made up.
    averaged = known_corners and cells.spacing < 1.5 * grid.spacing
    try:
        weights = regrid.weights(cells, grid, "conservative" if averaged else "bilinear")
    except GridError as error:
        raise GridError(f"{where}: {error}") from None
    if not weights.coverage.any():
        raise GridError(
            f"{where}: the grid ({cells.describe()}) does not touch the region ({grid.describe()})"
        )
    return weights


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
    known = 2 if axis.step_days > 27.0 else 3 if axis.step_days > 0.99 else 5
    return str(axis.dates[0].calendar), [date[:known] for date in dates]


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
    known = prior.card.months
    if unknown := [m for m in axis.months if m not in known]:
        raise InputError(
            f"{cf.describe_paths(field.paths)}: has months {numbers(unknown)}; prior "
            f"{prior.card.name} knows months {numbers(known)} only: choose others with --time"
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
    if isinstance(field.cells, Grid):
        coverage = regrid.weights(cropped.grid, fine, "conservative").coverage
    else:
        known = weights_onto(field, on_grid.grid).coverage
        onward = regrid.weights(on_grid.grid, fine, "conservative").apply(known)
        coverage = np.nan_to_num(onward).astype(np.float64)
    wanted = fine.areas * prior.mask.any(axis=0)
    share = float((coverage * wanted).sum() / wanted.sum())
    if share < _MIN_REGION:
        raise GridError(
            f"{cf.describe_paths(field.paths)}: the grid ({field.cells.describe()}) covers "
            f"{share:.0%} of the region of prior {prior.card.name} ({fine.describe()}); need at "
            f"least {_MIN_REGION:.0%}"
        )
    return cropped


def numbers(values: Sequence[int]) -> str:
    """Months and the like, listed for people."""
    return ", ".join(map(str, values))
