"""From a request to a plan: files opened, steps and cells made comparable or refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from climdown import cf, files, regrid
from climdown.arrays import Index, Mask
from climdown.errors import InputError
from climdown.evaluation.cells import common_grid, onto
from climdown.evaluation.ensembles import Ensemble, open_ensemble, quantities_of
from climdown.evaluation.pairing import (
    Pairing,
    date_places,
    decide,
    exactness,
    known_step,
    shared_steps,
)
from climdown.evaluation.plan import Plan
from climdown.evaluation.request import INPUT, INTERPOLATED, REFERENCE, Request
from climdown.evaluation.scene import SERIES_CELLS, Scene
from climdown.evaluation.segments import Segments, segments
from climdown.evaluation.survey import covered, repeated, survey, with_input
from climdown.grid import Grid
from climdown.inputs.checks import check_reading
from climdown.version import __version__

log = logging.getLogger(__name__)

# Sums of maps by group take this much memory at most, for each sum of each source.
_MAP_BYTES = 64 << 20
_MOST_GROUPS, _FEWEST_GROUPS = 24, 2
# Series of single cells over a unit, of all sources that are read together.
_SERIES_BYTES = 512 << 20
_FEWEST_CELLS = 64


def make_plan(request: Request) -> Plan:
    """Open all files and decide what is judged.

    Raises:
        ConfigError, InputError, GridError: files that cannot be compared; says what to do.
    """
    quantities = quantities_of(request.reference, request.variables)
    reference = _open(REFERENCE, request.reference, quantities, request)
    outputs = {
        name: _open(name, paths, quantities, request) for name, paths in request.outputs.items()
    }
    given = _open(INPUT, request.input, quantities, request) if request.input else None
    grid = common_grid(request, outputs, reference)
    regridded = request.grid is not None
    reference = onto(reference, grid, regridded=regridded)
    outputs = {name: onto(one, grid, regridded=regridded) for name, one in outputs.items()}
    baselines = request.baselines
    if given is not None:
        given = given.map(lambda field: field.crop(grid))
        if not baselines:
            outputs.setdefault(INTERPOLATED, _interpolated(given, grid))
            baselines = (INTERPOLATED,)
    everyone = [reference, *outputs.values(), *([] if given is None else [given])]
    _check_frequency(everyone)
    pairing, parts = _segments(request, outputs, reference, grid)
    names = [n for n in quantities if any(n in one.members[0] for one in outputs.values())]
    scenes = _scenes(names, outputs, reference, given, parts)
    return Plan(
        scenes={name: replace(scene, seed=request.seed) for name, scene in scenes.items()},
        outputs=outputs,
        reference=reference,
        input=given,
        baselines=baselines,
        pairing=pairing,
        segments=parts,
        input_steps=_input_steps(outputs, given, parts, paired=pairing.paired),
        repeated=tuple(name for name, one in outputs.items() if repeated(one, parts[name])),
        notes=_notes(request, grid, pairing),
        identity=_identity(request),
    )


def _open(
    name: str,
    paths: tuple[str, ...],
    quantities: Mapping[str, cf.Quantity],
    request: Request,
) -> Ensemble:
    single = name in (REFERENCE, INPUT)
    members = None if single else request.members
    ensemble = open_ensemble(name, paths, quantities, members=members, select=request.select)
    check_reading(ensemble.members[0].values())
    if single and len(ensemble.members) > 1:
        log.warning(
            "%s: the first of its %d members is taken as the %s; choose another with --select",
            ensemble.where,
            len(ensemble.members),
            name,
        )
        ensemble = replace(ensemble, members=ensemble.members[:1])
    return ensemble


def _interpolated(given: Ensemble, grid: Grid) -> Ensemble:
    """The input between the centres of its cells: what every method has to beat."""

    def raised(field: cf.Field) -> cf.Field:
        return field.regridded(grid, regrid.weights(field.grid, grid, "bilinear").apply)

    return replace(given.map(raised), name=INTERPOLATED)


def _check_frequency(ensembles: list[Ensemble]) -> None:
    """Check that steps are as long.

    Raises:
        InputError: some are days, others months.
    """
    steps = {one.where: step for one in ensembles if (step := known_step(one.time)) is not None}
    for where, theirs in steps.items():
        first, ours = next(iter(steps.items()))
        if max(ours, theirs) > 1.5 * min(ours, theirs):
            raise InputError(
                f"{first} has steps of {ours:.3g} days and {where} of {theirs:.3g}; expected the "
                "same: average the finer one, for example with `cdo daymean` or `cdo monmean`"
            )


def _segments(
    request: Request, outputs: Mapping[str, Ensemble], reference: Ensemble, grid: Grid
) -> tuple[Pairing, dict[str, Segments]]:
    """Whether days are pairs, and the steps of each source."""
    everyone = {REFERENCE: reference, **outputs}
    chosen = {name: _in_period(one, request.period) for name, one in everyone.items()}
    cut = {name: one.time.isel(chosen[name]) for name, one in everyone.items()}
    shared = {name: chosen[name][part] for name, part in shared_steps(cut).items()}
    pairing = decide(request.pairing, outputs, reference, shared, REFERENCE)
    most = int(
        np.clip(_MAP_BYTES // (8 * grid.shape[0] * grid.shape[1]), _FEWEST_GROUPS, _MOST_GROUPS)
    )
    if pairing.paired:
        _warn_of_rest(everyone, chosen, shared)
        labels = segments(reference.time, shared[REFERENCE], most_groups=most)
        return pairing, {name: replace(labels, steps=steps) for name, steps in shared.items()}
    kept = _same_months(everyone, chosen)
    return pairing, {
        name: segments(one.time, kept[name], most_groups=most) for name, one in everyone.items()
    }


def _in_period(ensemble: Ensemble, period: str | None) -> Index:
    try:
        return np.arange(len(ensemble.time))[ensemble.time.select(period)]
    except InputError as error:
        raise InputError(f"{ensemble.where}: {error}") from None


def _warn_of_rest(
    everyone: Mapping[str, Ensemble], chosen: Mapping[str, Index], shared: Mapping[str, Index]
) -> None:
    for name, one in everyone.items():
        rest = len(chosen[name]) - len(shared[name])
        if rest and name != REFERENCE:
            log.warning(
                "%s: %d of its steps are not in all others and are left out", one.where, rest
            )


def _same_months(everyone: Mapping[str, Ensemble], chosen: Mapping[str, Index]) -> dict[str, Index]:
    """Steps of the months that all have: a winter is not judged against years."""
    months = {
        name: np.array([d.month for d in one.time.centres[chosen[name]]])
        for name, one in everyone.items()
    }
    common = set.intersection(*(set(m.tolist()) for m in months.values()))
    if not common:
        raise InputError(
            "outputs and reference have no month in common: "
            + "; ".join(f"{n}: {one.time.describe()}" for n, one in everyone.items())
        )
    return {name: chosen[name][np.isin(m, list(common))] for name, m in months.items()}


def _scenes(
    names: Sequence[str],
    outputs: Mapping[str, Ensemble],
    reference: Ensemble,
    given: Ensemble | None,
    parts: Mapping[str, Segments],
) -> dict[str, Scene]:
    """The scene of each variable."""
    most = _most_cells(parts, outputs, len(names))
    scenes = {}
    for name in names:
        mask = _where_all(name, outputs, reference, parts)
        field = reference.members[0][name]
        scenes[name] = survey(
            name,
            field,
            parts[REFERENCE],
            amounts=field.quantity.units == "mm day-1",
            within=mask,
            most_cells=most,
        )
        if given is not None and name in given.members[0]:
            everything = segments(given.time, np.arange(len(given.time)))
            scenes[name] = with_input(scenes[name], given.members[0][name], everything)
    return scenes


def _where_all(
    name: str,
    outputs: Mapping[str, Ensemble],
    reference: Ensemble,
    parts: Mapping[str, Segments],
) -> Mask:
    """Cells in which the reference and all outputs of a variable have values.

    Raises:
        InputError: there are none, or impossible values.
    """
    first = reference.members[0][name]
    own = covered(first, parts[REFERENCE])
    mask = own.copy()
    for output, one in outputs.items():
        if name in one.members[0]:
            mask &= covered(one.members[0][name], parts[output])
    if not mask.any():
        raise InputError(
            f"{first.where} has values in no cell in which all outputs have some; expected fields "
            "of the same region, with the same land or sea"
        )
    if lost := int(own.sum() - mask.sum()):
        log.warning(
            "%s: %d of its %d cells are left out, since an output has no values there",
            first.where,
            lost,
            own.sum(),
        )
    return mask


def _input_steps(
    outputs: Mapping[str, Ensemble],
    given: Ensemble | None,
    parts: Mapping[str, Segments],
    *,
    paired: bool,
) -> dict[str, Index]:
    """By output the step of the input on each judged date, -1 where it has none.

    Of pairs the reference is held against the input, too: what it has there no output can better.
    """
    if given is None:
        return {}
    exact = exactness([given.time, *(one.time for one in outputs.values())])
    places = date_places(given.time, exact)
    result = {}
    for name, one in outputs.items():
        keys = cf.date_keys(one.time.centres[parts[name].steps], exact)
        result[name] = np.array([places.get(key, -1) for key in keys], dtype=np.intp)
        if (result[name] < 0).all():
            raise InputError(
                f"{given.where} ({given.time.describe()}) has none of the dates of {one.where} "
                f"({one.time.describe()}); expected what it was made from"
            )
    if paired:
        result[REFERENCE] = next(iter(result.values()))
    return result


def _most_cells(
    parts: Mapping[str, Segments], outputs: Mapping[str, Ensemble], variables: int
) -> int:
    """Of how many cells series are kept: those of one unit are held at once."""
    longest = max(unit.stop - unit.start for one in parts.values() for unit in one.units)
    series = variables * (1 + sum(len(one.members) for one in outputs.values()))
    return int(np.clip(_SERIES_BYTES // (4 * longest * series), _FEWEST_CELLS, SERIES_CELLS))


def _notes(request: Request, grid: Grid, pairing: Pairing) -> tuple[str, ...]:
    where = f"judged on {grid.describe()}"
    regridded = f", all regridded to it (--grid {request.grid})" if request.grid else ""
    return (f"{where}{regridded}", pairing.why)


def _identity(request: Request) -> dict[str, Any]:
    """Files and options that decide the sums."""

    def prints(paths: tuple[str, ...]) -> list[list[str]]:
        found = files.fingerprints(cf.expand_paths(paths), verify=False)
        return [list(pair) for pair in found]

    grid = request.grid
    return {
        "climdown": __version__,
        "outputs": {name: prints(paths) for name, paths in request.outputs.items()},
        "reference": prints(request.reference),
        "input": prints(request.input) if request.input else [],
        "baselines": list(request.baselines),
        "pairing": request.pairing,
        "variables": list(request.variables),
        "region": request.region and list(request.region),
        "period": request.period,
        "members": request.members,
        "grid": prints((grid,)) if grid and Path(grid).is_file() else grid,
        "select": dict(request.select),
        "seed": request.seed,
    }
