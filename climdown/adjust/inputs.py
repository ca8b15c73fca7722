"""What bias adjustment works on: reference, historical and simulated values on one grid."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from climdown import cf, matching, remap
from climdown.errors import ConfigError, InputError, PriorError
from climdown.grid import Grid
from climdown.priors.card import Prior
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
            `units`.
    """

    prior: str
    grid: Grid
    months: tuple[int, ...]
    quantiles: npt.NDArray[np.float32]
    units: str


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
        return self.sim.grid


def open_variables(
    sim: Paths,
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
    paths = cf.expand_paths(sim)
    quantities: dict[str, cf.Quantity] = {}
    for path in paths:
        with cf.open_dataset(path) as dataset:
            for name in cf.gridded_variables(dataset):
                if "units" in dataset[name].attrs and cf.has_time(dataset[name]):
                    quantities.setdefault(name, cf.quantity_like(dataset[name]))
    listed = ", ".join(quantities) or "none"
    if missing := [name for name in variables if name not in quantities]:
        raise InputError(
            f"{cf.describe_paths(paths)}: no variable '{missing[0]}' with units, time, latitude "
            f"and longitude; found {listed}"
        )
    names = list(variables) or list(quantities)
    if not names or (most is not None and len(names) > most):
        raise InputError(
            f"{cf.describe_paths(paths)}: variables with units, time, latitude and longitude are "
            f"{listed}; choose with --variable"
        )
    return [cf.open_field(paths, quantities[name], select=select) for name in names]


def open_series(
    sim: cf.Field,
    ref: Paths | None,
    hist: Paths | None,
    spec: str | None,
    ref_period: str | None,
    hist_period: str | None,
    select: Mapping[str, str] | None,
) -> Series:
    """Reference, historical and simulated values on one grid."""
    if not ref or not hist:
        missing = "--hist" if ref else "--ref"
        raise ConfigError(f"{missing} is missing; both --ref and --hist are needed, or --map")
    historical = cf.open_field(hist, sim.quantity, select=select)
    historical = historical.isel(historical.time.select(hist_period))
    reference = open_reference(ref, sim.quantity, ref_period)
    target = _working_grid(sim, reference, spec)
    if isinstance(reference, Climatology):
        if target.digest != reference.grid.digest:
            raise ConfigError(
                f"--grid differs from the coarse grid of prior {reference.prior}, on which its "
                "quantiles are; leave --grid out"
            )
    else:
        reference = matching.onto(reference, target, min_coverage=REF_COVERAGE)
    return Series(reference, matching.onto(historical, target), matching.onto(sim, target))


def open_reference(ref: Paths, quantity: cf.Quantity, period: str | None) -> cf.Field | Climatology:
    """Observations in files, or the quantiles of a prior.

    Raises:
        InputError: no file and no prior of that name, or the variable is missing.
    """
    name = str(ref[0])
    if len(ref) == 1 and not Path(name).is_file() and not any(c in name for c in "*?["):
        try:
            prior = load_prior(name)
        except PriorError as error:
            raise InputError(
                f"the reference '{name}' is neither a file nor a prior: {error}"
            ) from None
        if period is not None:
            raise ConfigError("a prior's quantiles have no dates; leave --ref-period out")
        return prior_climatology(prior, quantity)
    field = cf.open_field(ref, quantity)
    return field.isel(field.time.select(period))


def prior_climatology(prior: Prior, quantity: cf.Quantity) -> Climatology:
    """The quantiles a prior carries of a quantity, in its units.

    Raises:
        PriorError: it has no such variable, or carries no quantiles.
    """
    for variable in prior.card.variables:
        if set(variable.standard_names) & set(quantity.standard_names):
            values = prior.quantiles(variable.name)
            if values is None:
                raise PriorError(
                    f"prior {prior.card.name} carries no quantiles of {variable.name}; give "
                    "observations instead"
                )
            converted = cf.convert_units(values, variable.units, quantity.units)
            return Climatology(
                prior=prior.card.name,
                grid=prior.card.coarse_grid,
                months=prior.card.months,
                quantiles=converted.astype(np.float32),
                units=quantity.units,
            )
    raise PriorError(
        f"prior {prior.card.name} has no variable with standard_name "
        f"{' or '.join(quantity.standard_names)}"
    )


def _working_grid(sim: cf.Field, ref: cf.Field | Climatology, spec: str | None) -> Grid:
    if spec is not None:
        return remap.target_grid(spec, sim.cells)
    if isinstance(ref, Climatology):
        return ref.grid
    # Cells that the reference does not touch would come out missing.
    return sim.crop(ref.grid).grid if isinstance(ref.cells, Grid) else sim.grid


def check_months(series: Series) -> None:
    """Say which months of the simulation will come out missing."""
    ref = series.ref.months if isinstance(series.ref, Climatology) else series.ref.time.months
    known = set(ref) & set(series.hist.time.months)
    lacking = [month for month in series.sim.time.months if month not in known]
    if not set(series.sim.time.months) & known:
        raise InputError(
            f"{cf.describe_paths(series.sim.paths)}: has months "
            f"{_numbers(series.sim.time.months)}; the reference and the historical simulation "
            f"share months {_numbers(sorted(known)) or 'none'}"
        )
    if lacking:
        log.warning(
            "months %s of the simulation are not in the reference and the historical simulation: "
            "they will be missing",
            _numbers(lacking),
        )


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
