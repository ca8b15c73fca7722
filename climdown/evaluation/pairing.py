"""Whether the days of an output and of a reference are the same days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from climdown import cf
from climdown.arrays import Float64, Index
from climdown.errors import InputError
from climdown.evaluation.ensembles import Ensemble

# Days that tell whether weather corresponds, and the correlation that says so.
_DAYS_ASKED = 240
_FEWEST_DAYS = 20
# Of a season's days, each like the one before, one in forty pairs of unrelated weather has more.
CORRESPONDS = 0.5


@dataclass(frozen=True)
class Pairing:
    """The decision, and how it was come by.

    Attributes:
        paired: whether scores compare day by day.
        why: for people.
        correlation: of daily departures averaged over the region, of the dates that are shared;
            None where none were asked.
    """

    paired: bool
    why: str
    correlation: float | None = None


def known_step(axis: cf.TimeAxis) -> float | None:
    """Length of the steps of an axis in days; None where a single one does not tell."""
    if len(axis) > 1:
        return axis.step_days
    return float(axis.lengths[0]) if axis.bounded and axis.doubt is None else None


def exactness(axes: Iterable[cf.TimeAxis]) -> int:
    """How many numbers of a date tell steps apart, as the longest step of some axes asks."""
    steps = [step for axis in axes if (step := known_step(axis)) is not None]
    return cf.exactness(max(steps, default=1.0))


def date_places(axis: cf.TimeAxis, exact: int) -> dict[tuple[int, ...], int]:
    """The step of each date, of which so many numbers count."""
    return {key: i for i, key in enumerate(cf.date_keys(axis.centres, exact))}


def shared_steps(axes: Mapping[str, cf.TimeAxis]) -> dict[str, Index]:
    """The steps of each axis on the dates that all have, in order; empty where there are none."""
    exact = exactness(axes.values())
    places = {name: date_places(axis, exact) for name, axis in axes.items()}
    common = set.intersection(*(set(found) for found in places.values()))
    return {
        name: np.array(sorted(found[key] for key in common), dtype=np.intp)
        for name, found in places.items()
    }


def decide(
    asked: Literal["auto", "paired", "unpaired"],
    outputs: Mapping[str, Ensemble],
    reference: Ensemble,
    shared: Mapping[str, Index],
    source: str,
) -> Pairing:
    """Whether to compare day by day.

    Args:
        shared: steps of each output, and of the reference, on the dates that all have.
        source: the name of the reference in `shared`.

    Raises:
        InputError: pairs are asked for, and no date is shared.
    """
    days = len(shared[source])
    if asked == "unpaired":
        return Pairing(False, "unpaired, as asked: distributions are compared, not days")
    if days == 0:
        if asked == "paired":
            raise InputError(
                f"no date of {reference.where} ({reference.time.describe()}) is in all outputs "
                f"({_described(outputs)}); give a reference of the same days, or --unpaired"
            )
        return Pairing(False, "no date is shared: distributions are compared, not days")
    if asked == "paired":
        return Pairing(True, f"paired, as asked: {days} shared dates")
    if days < _FEWEST_DAYS:
        return Pairing(True, f"{days} shared dates, too few to see whether the weather is the same")
    found = [_correlation(one, reference, shared, source) for one in outputs.values()]
    known = [one for one in found if one is not None]
    if not known:
        return Pairing(True, f"{days} shared dates, on which nothing varies that could differ")
    best = max(known)
    if best >= CORRESPONDS:
        return Pairing(
            True, f"{days} shared dates whose weather corresponds (r = {best:.2f})", best
        )
    return Pairing(
        False,
        f"{days} dates are shared, but their weather does not correspond (r = {best:.2f}, expected "
        f"{CORRESPONDS:g} or more): distributions are compared, not days; give --paired if the "
        "days are meant to be the same",
        best,
    )


def _described(outputs: Mapping[str, Ensemble]) -> str:
    return "; ".join(f"{name}: {one.time.describe()}" for name, one in outputs.items())


def _correlation(
    output: Ensemble, reference: Ensemble, shared: Mapping[str, Index], source: str
) -> float | None:
    """Highest over the variables, of departures from the months' means, averaged over cells.

    None where nothing varies.
    """
    chosen = cf.evenly(np.arange(len(shared[source])), _DAYS_ASKED)
    month = np.array([d.month for d in reference.time.centres[shared[source][chosen]]])
    results = []
    for name in (n for n in output.members[0] if n in reference.members[0]):
        ours, theirs = (
            _departures(ensemble.members[0][name], shared[label][chosen], month)
            for ensemble, label in ((output, output.name), (reference, source))
        )
        results.append(_pearson(ours, theirs))
    return max((one for one in results if one is not None), default=None)


def _departures(field: cf.Field, steps: Index, month: Index) -> Float64:
    """Of each step, averaged over the region: what weather of one day has in common."""
    values = field.read_steps(steps).astype(np.float64)
    means = np.array(
        [day[np.isfinite(day)].mean() if np.isfinite(day).any() else np.nan for day in values]
    )
    for one in np.unique(month[np.isfinite(means)]):
        means[month == one] -= np.nanmean(means[month == one])
    return means


def _pearson(a: Float64, b: Float64) -> float | None:
    both = np.isfinite(a) & np.isfinite(b)
    scale = float(np.sqrt((a[both] ** 2).sum() * (b[both] ** 2).sum()))
    return float((a[both] * b[both]).sum() / scale) if scale > 0 else None
