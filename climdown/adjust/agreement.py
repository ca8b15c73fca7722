"""Whether reference, historical simulation and simulation can be compared, before anything is.

Errors name the files; what may be meant is warned of, once for all variables.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from climdown import cf
from climdown.adjust.series import Climatology, Series
from climdown.adjust.shared_days import SharedDays, share_days, warn_of_lost_days, years_of
from climdown.errors import InputError
from climdown.inputs.checks import check_values

log = logging.getLogger(__name__)

_STEP_RATIO = 1.5  # months of 28 and 31 days are one step, days and months are not
_FEW_YEARS = 10  # of a shorter simulation the quantiles are weather as much as climate
# Means that differ by so much are in other units. Amounts may differ more: dry cells, snow.
_APART, _AMOUNTS_APART = 5.0, 500.0
_NAMES = {"ref": "reference", "hist": "historical simulation", "sim": "simulation"}
# Attributes by which CMIP6, CMIP5 and CORDEX name a model and its member.
_MODEL = (("source_id",), ("model_id",), ("driving_source_id",), ("driving_model_id",))
_MEMBER = (
    ("variant_label",),
    ("driving_variant_label",),
    ("driving_model_ensemble_member",),
    ("realization", "initialization_method", "physics_version"),
    ("realization_index", "initialization_index", "physics_index", "forcing_index"),
)
_PARENTS = {"source_id": "parent_source_id", "variant_label": "parent_variant_label"}


def agree(series: Sequence[Series], group: str, *, ranked: bool) -> tuple[SharedDays, list[str]]:
    """Cut samples to the days they share, and compare their steps, values, years and models.

    Args:
        series: one per variable, with all their days.
        group: which days are judged together, see `share_days`.
        ranked: whether the simulation is ranked within itself.

    Returns:
        what counts, and sentences that name the samples: files, steps and years.

    Raises:
        InputError: steps of other lengths, values that a quantity cannot have, means so far
            apart that the units of one must be wrong, or no day in common.
        ConfigError: see `share_days`.
    """
    for one in series:
        _check_steps(one)
    shared = share_days(series, group)
    warn_of_lost_days(series[0].sim, shared.steps)
    series = shared.series
    for one in series:
        _check_values(one)
    warnings = [text for one in series for text in _warnings(one, ranked=ranked)]
    for text in dict.fromkeys(warnings):
        log.warning("%s", text)
    return shared, list(dict.fromkeys(text for one in series for text in _described(one)))


def _described(one: Series) -> Iterator[str]:
    for name, words in _NAMES.items():
        sample = getattr(one, name)
        if isinstance(sample, Climatology):
            yield f"{words}: quantiles of prior {sample.prior}"
        else:
            yield described(words, sample)


def described(words: str, sample: cf.Field) -> str:
    """A sentence that names a sample's files, steps and years."""
    where = cf.describe_paths(sample.paths)
    return f"{words}: {where}, {len(sample.time)} steps, {_span(years_of(sample))}"


def _span(years: Sequence[int]) -> str:
    return f"{years[0]} to {years[-1]}" if len(years) > 1 else str(years[0])


def _step(sample: cf.Field | Climatology) -> float:
    """Days; NaN where a single step does not say."""
    if isinstance(sample, Climatology):
        return sample.step_days
    if len(sample.time) < 2 and sample.time.bounds is not None:
        return float(sample.time.lengths[0])
    return sample.time.step_days


def _check_steps(one: Series) -> None:
    for other in (one.ref, one.sim):
        first, second = _step(one.hist), _step(other)
        if max(first, second) > _STEP_RATIO * min(first, second):
            name = (
                f"the quantiles of prior {other.prior}"
                if isinstance(other, Climatology)
                else other.where
            )
            raise InputError(
                f"{one.hist.where} has a time step of {_length(first)}, {name} one of "
                f"{_length(second)}; their quantiles do not compare: give both the same step, for "
                "example with `cdo daymean` or `cdo monmean`"
            )


def _length(days: float) -> str:
    return f"{24 * days:.3g} hours" if days < 0.99 else f"{days:.3g} days"


def _check_values(one: Series) -> None:
    """Each sample for itself, then the three beside one another."""
    tallies = {"hist": check_values(one.hist, empty_steps=True)}
    tallies["sim"] = check_values(one.sim, empty_steps=True)
    if isinstance(one.ref, cf.Field):
        tallies["ref"] = check_values(one.ref, empty_steps=True)
    ranges = {name: (tally.low, tally.mean) for name, tally in tallies.items()}
    if isinstance(one.ref, Climatology):
        values = one.ref.quantiles[-1]
        ranges["ref"] = float(np.nanmin(values)), float(np.nanmean(values))
    _check_magnitudes(
        one, {name: mean for name, (low, mean) in ranges.items() if low > -0.01 * mean}
    )


def _check_magnitudes(one: Series, means: dict[str, float]) -> None:
    """Of what is never negative, means of wrong units lie orders of magnitude apart."""
    limits = cf.physical_limits(one.sim.quantity)
    amounts = limits is not None and not limits.bounded
    most = _AMOUNTS_APART if amounts else _APART
    if len(means) < len(_NAMES) or min(means.values()) <= 0.0:
        return
    lowest, highest = min(means, key=lambda n: means[n]), max(means, key=lambda n: means[n])
    if means[highest] > most * means[lowest]:
        units = one.sim.quantity.units
        text = (
            f"{_mean_of(one, lowest)} {means[lowest]:.3g} {units}, {_mean_of(one, highest)} "
            f"{means[highest]:.3g} {units}"
        )
        raise InputError(
            f"{text}: the units of one must be wrong; correct them, for example with `ncatted -a "
            "units,...`"
        )


def _mean_of(one: Series, name: str) -> str:
    sample = getattr(one, name)
    if isinstance(sample, Climatology):
        return f"the mean of the quantiles of prior {sample.prior} is"
    return f"{sample.where} has a mean of"


def _warnings(one: Series, *, ranked: bool) -> Iterator[str]:
    if isinstance(one.ref, cf.Field):
        yield from _of_years(one.ref, one.hist)
    yield from _of_model(one.hist, one.sim)
    yield from _of_length(one.hist, one.sim, ranked=ranked)


def _of_years(ref: cf.Field, hist: cf.Field) -> Iterator[str]:
    years, others = years_of(ref), years_of(hist)
    shared = set(years) & set(others)
    if 2 * len(shared) < max(len(years), len(others)):
        count = f"{len(shared)} of their years" if shared else "no year"
        yield (
            f"{cf.describe_paths(ref.paths)} ({_span(years)}) and "
            f"{cf.describe_paths(hist.paths)} ({_span(others)}) share {count}: what changed "
            "between the two counts as bias; choose with --ref-period and --hist-period"
        )


def _of_model(hist: cf.Field, sim: cf.Field) -> Iterator[str]:
    for words, labels in (("model", _MODEL), ("member", _MEMBER)):
        for names in labels:
            first, second = (_label(field, names) for field in (hist, sim))
            parent = str(sim.global_attributes.get(_PARENTS.get(names[0], ""), ""))
            if first and second and first not in (second, parent):
                yield (
                    f"{cf.describe_paths(hist.paths)} has {'/'.join(names)} {first}, "
                    f"{cf.describe_paths(sim.paths)} has {second}: the bias of one {words} is "
                    "not that of another; give --hist of the same"
                )


def _label(field: cf.Field, names: Sequence[str]) -> str:
    values = [str(field.global_attributes.get(name, "")).strip() for name in names]
    return "/".join(values) if all(values) else ""


def _of_length(hist: cf.Field, sim: cf.Field, *, ranked: bool) -> Iterator[str]:
    years, others = len(years_of(sim)), len(years_of(hist))
    if years < _FEW_YEARS and 2 * years < others:
        fate = (
            "its values are ranked among so few, and their quantiles are weather as much as "
            "climate; `climdown qdm --ranks hist` ranks them among the historical ones"
            if ranked
            else "its mean change is weather as much as climate"
        )
        yield (
            f"{cf.describe_paths(sim.paths)} has {years} years, "
            f"{cf.describe_paths(hist.paths)} {others}: {fate}"
        )
