"""All statistics and all measures, in the order of reports."""

from __future__ import annotations

from climdown.evaluation import (
    coarse,
    exceedance,
    extremes,
    fields,
    joint,
    pairs,
    quantiles,
    ranks,
    space,
    spread,
    time_structure,
    variables,
)
from climdown.evaluation.measure import Measure
from climdown.evaluation.statistics import Statistics

STATISTICS = Statistics(
    step_of_source=(*fields.STEPS, *space.STEPS),
    stretch_of_source=fields.STRETCHES,
    stretch_of_series=(*quantiles.STRETCHES, *joint.STRETCHES_OF_SERIES),
    unit_of_series=(*time_structure.UNITS, *extremes.UNITS),
    step_of_pairs=pairs.STEPS,
    stretch_of_pairs=(
        *pairs.STRETCHES,
        *spread.STRETCHES,
        *ranks.STRETCHES,
        *exceedance.STRETCHES,
    ),
    step_of_input=coarse.STEPS,
    step_of_fine=coarse.STEPS_OF_FINE,
    stretch_of_input=coarse.STRETCHES,
    unit_of_input=coarse.UNITS,
    stretch_of_variables=(*variables.STRETCHES, *joint.STRETCHES_OF_VARIABLES),
)
MEASURES: tuple[Measure, ...] = (
    *pairs.MEASURES,
    *spread.MEASURES,
    *ranks.MEASURES,
    *exceedance.MEASURES,
    *fields.MEASURES,
    *quantiles.MEASURES,
    *extremes.MEASURES,
    *time_structure.MEASURES,
    *space.MEASURES,
    *variables.MEASURES,
    *joint.MEASURES,
    *coarse.MEASURES,
)


def measure(name: str) -> Measure:
    """The measure of a name."""
    return next(one for one in MEASURES if one.name == name)
