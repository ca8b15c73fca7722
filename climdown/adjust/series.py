"""What bias adjustment works on: reference, historical and simulated values on one grid."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from climdown import cf
from climdown.arrays import Float32
from climdown.cf.recognition import mismatch
from climdown.errors import ConfigError, InputError, PriorError
from climdown.grid import Grid
from climdown.inputs import matching
from climdown.inputs.checks import check_reading
from climdown.inputs.onto import regridded_to
from climdown.inputs.targets import target_grid
from climdown.priors.card import Variable
from climdown.priors.prior import Prior
from climdown.priors.store import load_prior

log = logging.getLogger(__name__)

Paths = Sequence[str | Path]

# A cell of which observations fill a smaller share has no reference: a tenth of land in a cell
# is enough to say what its land is like.
REF_COVERAGE = 0.1


@dataclass(frozen=True, eq=False)
class Climatology:
    """A reference of quantiles known beforehand, from a prior.

    Attributes:
        quantiles: shape (months + 1, nodes, ny, nx), the last entry over all months together, in
            the units of the simulation.
        step_days: of the days or longer means whose quantiles they are.
    """

    prior: str
    grid: Grid
    months: tuple[int, ...]
    step_days: float
    quantiles: Float32


@dataclass(frozen=True, eq=False)
class Series:
    """What quantile delta mapping needs of one variable, all on one grid.

    Attributes:
        ref: observations, or their quantiles.
        hist, sim: the model in the reference period and in the period to adjust.
    """

    ref: cf.Field | Climatology
    hist: cf.Field
    sim: cf.Field

    @property
    def grid(self) -> Grid:
        """The grid that all three are on."""
        return self.sim.grid


def open_variables(
    sim: cf.Sources,
    variables: Sequence[str],
    select: Mapping[str, str] | None,
    *,
    most: int | None = None,
) -> list[cf.Field]:
    """The variables to adjust, in their own units, all steps of them.

    Args:
        variables: names in the files; empty takes all that have units, time and cells.
        most: how many there may be.

    Raises:
        InputError: a variable is missing, there is none, or there are too many to choose from.
    """
    where = sim.describe()
    quantities: dict[str, cf.Quantity] = {}
    for dataset in sim.datasets:
        for name in cf.gridded_variables(dataset):
            if "units" in dataset[name].attrs and cf.has_time(dataset[name]):
                quantities.setdefault(name, cf.quantity_like(dataset[name]))
    listed = ", ".join(quantities) or "none"
    if not quantities:
        raise InputError(f"{where}: no variable with units, time, latitude and longitude")
    if missing := [name for name in variables if name not in quantities]:
        raise InputError(
            f"{where}: no variable '{missing[0]}' with units, time, latitude and longitude; found "
            f"{listed}"
        )
    names = list(variables or quantities)
    if most is not None and len(names) > most:
        raise InputError(
            f"{where}: {len(names)} variables could be adjusted ({listed}); choose with --variable"
        )
    fields = [sim.field(quantities[name], select=select) for name in names]
    check_reading(fields)
    return fields


def open_series(
    sims: Sequence[cf.Field],
    ref: Paths | None,
    hist: Paths | None,
    spec: str | None,
    ref_period: str | None,
    hist_period: str | None,
    select: Mapping[str, str] | None,
) -> list[Series]:
    """Reference, historical and simulated values of each variable, the three on one grid."""
    if not ref or not hist:
        missing = "--hist" if ref else "--ref"
        raise ConfigError(f"{missing} is missing; give both --ref and --hist, or --map")
    historical, reference = cf.Sources.open(hist), _open_reference(ref, ref_period)
    return [
        _on_one_grid(
            sim,
            _reference_of(sim, reference, ref_period, select),
            open_period(historical, sim.quantity, hist_period, select),
            spec,
        )
        for sim in sims
    ]


def _on_one_grid(
    sim: cf.Field, reference: cf.Field | Climatology, historical: cf.Field, spec: str | None
) -> Series:
    target = _working_grid(sim, reference, spec)
    if isinstance(reference, Climatology):
        if target.digest != reference.grid.digest:
            raise ConfigError(
                f"--grid differs from the coarse grid of prior {reference.prior}, on which its "
                "quantiles are; leave --grid out"
            )
    else:
        reference = regridded_to(reference, target, min_coverage=REF_COVERAGE)
    return Series(reference, regridded_to(historical, target), regridded_to(sim, target))


def open_period(
    sources: cf.Sources, quantity: cf.Quantity, period: str | None, select: Mapping[str, str] | None
) -> cf.Field:
    """A quantity in files, cut to a period; entries are selected along dimensions they have.

    Of observations and of models, one may have members where the other has none.

    Raises:
        InputError: no file has the variable, or no step lies in the period.
    """
    names = sources.dimensions() if select else set()
    entries = {name: label for name, label in (select or {}).items() if name in names}
    field = sources.field(quantity, select=entries)
    check_reading([field])
    part = field.isel(matching.select_period(field, period))
    if period is not None:
        _warn_of_years_beyond(field, part, period)
    return part


def _warn_of_years_beyond(field: cf.Field, part: cf.Field, period: str) -> None:
    """Say that files have fewer years than were asked for."""
    wanted = [int(end[:4]) for end in period.strip().split("/")]
    first, last = field.time.centres[0].year, field.time.centres[-1].year
    if wanted[0] < first or wanted[1] > last:
        log.warning(
            "%s: the period %s reaches beyond the file, which has %d to %d: %d steps of %d to %d "
            "are used",
            cf.describe_paths(field.paths),
            period,
            first,
            last,
            len(part.time),
            part.time.centres[0].year,
            part.time.centres[-1].year,
        )


def _open_reference(ref: Paths, period: str | None) -> cf.Sources | Prior:
    name = str(ref[0])
    if len(ref) > 1 or Path(name).is_file() or any(c in name for c in "*?["):
        return cf.Sources.open(ref)
    try:
        prior = load_prior(name)
    except PriorError as error:
        raise InputError(f"the reference '{name}' is neither a file nor a prior: {error}") from None
    if period is not None:
        raise ConfigError("a prior's quantiles have no dates; leave --ref-period out")
    return prior


def _reference_of(
    sim: cf.Field,
    reference: cf.Sources | Prior,
    period: str | None,
    select: Mapping[str, str] | None,
) -> cf.Field | Climatology:
    """What a variable of the simulation is compared with."""
    if isinstance(reference, cf.Sources):
        return open_period(reference, sim.quantity, period, select)
    card, array, level = reference.card, cf.like_array(sim), sim.quantity.level
    for variable in card.variables:
        if mismatch(array, matching.quantity(variable)) is None and level in (None, variable.level):
            return prior_climatology(reference, variable, sim.quantity.units)
    names = ", ".join(variable.name for variable in card.variables)
    raise PriorError(
        f"prior {card.name} has no variable like {sim.source_name} of "
        f"{cf.describe_paths(sim.paths)}, only {names}; give observations as the reference"
    )


def prior_climatology(prior: Prior, variable: Variable, units: str) -> Climatology:
    """The quantiles a prior carries of a variable, in other units.

    Raises:
        PriorError: it carries none.
    """
    values = prior.quantiles(variable.name)
    if values is None:
        raise PriorError(
            f"prior {prior.card.name} carries no quantiles of {variable.name}; give observations "
            "as the reference"
        )
    converted = cf.convert_units(values, variable.units, units).astype(np.float32)
    card = prior.card
    return Climatology(card.name, card.coarse_grid, card.months, card.step_days, converted)


def _working_grid(sim: cf.Field, ref: cf.Field | Climatology, spec: str | None) -> Grid:
    if spec is not None:
        return target_grid(spec, sim.cells)
    if isinstance(ref, Climatology):
        return ref.grid
    if isinstance(sim.cells, Grid) and sim.cells.point:
        return sim.cells
    # Cells that the reference does not touch would come out missing.
    return sim.crop(ref.grid).grid if isinstance(ref.cells, Grid) else sim.grid


def shared_months(series: Series) -> set[int]:
    """Months that reference and historical simulation both have."""
    ref = series.ref.months if isinstance(series.ref, Climatology) else series.ref.time.months
    return set(ref) & set(series.hist.time.months)


def season(month: int) -> int:
    """December to February is 0, and so on."""
    return month % 12 // 3
