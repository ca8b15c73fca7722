"""All statistics and all measures, in the order of reports."""

from __future__ import annotations

from climdown.evaluation import extremes, fields, pairs, quantiles, time_structure
from climdown.evaluation.measure import Measure
from climdown.evaluation.statistics import Statistics

STATISTICS = Statistics(
    step_of_source=fields.STEPS,
    stretch_of_source=fields.STRETCHES,
    stretch_of_series=quantiles.STRETCHES,
    unit_of_series=(*time_structure.UNITS, *extremes.UNITS),
    step_of_pairs=pairs.STEPS,
    stretch_of_pairs=pairs.STRETCHES,
)
MEASURES: tuple[Measure, ...] = (
    *pairs.MEASURES,
    *fields.MEASURES,
    *quantiles.MEASURES,
    *extremes.MEASURES,
    *time_structure.MEASURES,
)


def measure(name: str) -> Measure:
    """The measure of a name."""
    return next(one for one in MEASURES if one.name == name)
