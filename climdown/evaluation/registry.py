"""All statistics and all measures, in the order of reports."""

from __future__ import annotations

from climdown.evaluation import exceedance, fields, pairs, ranks, spread
from climdown.evaluation.measure import Measure
from climdown.evaluation.statistics import Statistics

STATISTICS = Statistics(
    step_of_source=fields.STEPS,
    stretch_of_source=fields.STRETCHES,
    step_of_pairs=pairs.STEPS,
    stretch_of_pairs=(
        *pairs.STRETCHES,
        *spread.STRETCHES,
        *ranks.STRETCHES,
        *exceedance.STRETCHES,
    ),
)
MEASURES: tuple[Measure, ...] = (
    *pairs.MEASURES,
    *spread.MEASURES,
    *ranks.MEASURES,
    *exceedance.MEASURES,
    *fields.MEASURES,
)


def measure(name: str) -> Measure:
    """The measure of a name."""
    return next(one for one in MEASURES if one.name == name)
