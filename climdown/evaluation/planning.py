"""From a request to a plan: files opened, steps and cells made comparable or refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from climdown import cf, files, regrid
from climdown.arrays import Index
from climdown.errors import ConfigError, GridError, InputError
from climdown.evaluation.ensembles import Ensemble, open_ensemble, quantities_of
from climdown.evaluation.pairing import Pairing, decide, shared_steps
from climdown.evaluation.plan import Plan
from climdown.evaluation.request import INTERPOLATED, REFERENCE, Request
from climdown.evaluation.scene import Scene
from climdown.evaluation.segments import Segments, segments
from climdown.evaluation.survey import survey, with_input
from climdown.grid import Grid
from climdown.inputs.onto import regridded_to
from climdown.inputs.targets import target_grid

log = logging.getLogger(__name__)

# Sums of maps by group take this much memory at most, for each sum of each source.
_MAP_BYTES = 64 << 20
_MOST_GROUPS, _FEWEST_GROUPS = 24, 2


def make_plan(request: Request) -> Plan:
    """Open all files and decide what is judged.

    Raises:
        ConfigError, InputError, GridError: files that cannot be compared; says what to do.
    """
    quantities = quantities_of(request.reference, request.variables)
    reference = _open(REFERENCE, request.reference, quantities, request, members=1)
    outputs = {
        name: _open(name, paths, quantities, request, members=request.members)
        for name, paths in request.outputs.items()
    }
    given = _open("input", request.input, quantities, request, members=1) if request.input else None
    grid = _common_grid(request, outputs, reference)
    reference, outputs = (
        _onto(reference, grid, request),
        {name: _onto(one, grid, request) for name, one in outputs.items()},
    )
    baselines = request.baselines
    if given is not None:
        given = given.map(lambda field: field.crop(grid))
        if not baselines:
            outputs[INTERPOLATED] = _interpolated(given, grid)
            baselines = (INTERPOLATED,)
    _check_frequency([reference, *outputs.values()])
    pairing, parts = _segments(request, outputs, reference, grid)
    scenes = {
        name: _scene(name, quantities[name], reference, given, parts)
        for name in quantities
        if any(name in one.members[0] for one in outputs.values())
    }
    return Plan(
        scenes={name: replace(scene, seed=request.seed) for name, scene in scenes.items()},
        outputs=outputs,
        reference=reference,
        input=given,
        baselines=baselines,
        pairing=pairing,
        segments=parts,
        input_steps=_input_steps(outputs, given, parts),
        seed=request.seed,
        notes=_notes(request, grid, pairing),
        identity=_identity(request),
    )


def _open(
    name: str,
    paths: tuple[str, ...],
    quantities: Mapping[str, cf.Quantity],
    request: Request,
    *,
    members: int | None,
) -> Ensemble:
    ensemble = open_ensemble(name, paths, quantities, members=members, select=request.select)
    for member in ensemble.members[:1]:
        for field in member.values():
            for doubt in field.doubts:
                log.warning("%s", doubt)
    return ensemble


def _common_grid(request: Request, outputs: Mapping[str, Ensemble], reference: Ensemble) -> Grid:
    """The cells on which all are judged."""
    first = next(iter(outputs.values()))
    cells = {"reference": reference, "output": first}.get(request.grid or "output")
    if cells is not None:
        grid = cells.first.grid
    else:
        grid = target_grid(str(request.grid), first.first.cells)
    if request.region is not None:
        west, east, south, north = request.region
        box = Grid.regular(south, north, west, east, max(north - south, east - west))
        grid = _cropped(grid, box)
    if request.grid is None:
        smaller = _overlap(grid, reference.first.grid)
        grid = grid if smaller is None else smaller
    return grid


def _cropped(grid: Grid, box: Grid) -> Grid:
    """The cells of a grid whose centres lie in a box."""
    rows = np.flatnonzero((grid.lat >= box.lat_edges[0]) & (grid.lat <= box.lat_edges[-1]))
    west, span = box.lon_edges[0], box.lon_edges[-1] - box.lon_edges[0]
    columns = np.flatnonzero(np.mod(grid.lon - west, 360.0) <= span)
    if not rows.size or not columns.size:
        raise GridError(f"no cell of {grid.describe()} lies in the region {box.describe()}")
    if columns[-1] - columns[0] + 1 != columns.size:
        raise GridError(
            f"the region {box.describe()} lies across the seam of {grid.describe()}; give --grid "
            "with a box, too"
        )
    return grid.isel(slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))


def _overlap(grid: Grid, other: Grid) -> Grid | None:
    """The part of a grid that another covers with the same cells; None if it covers all."""
    same_lat = np.abs(grid.lat[:, None] - other.lat[None]).min(axis=1) < 1e-3
    turned = (grid.lon[:, None] - other.lon[None] + 180.0) % 360.0 - 180.0
    same_lon = np.abs(turned).min(axis=1) < 1e-3
    if (same_lat.all() and same_lon.all()) or not (same_lat.any() and same_lon.any()):
        return None
    rows, columns = np.flatnonzero(same_lat), np.flatnonzero(same_lon)
    return grid.isel(slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))


def _onto(ensemble: Ensemble, grid: Grid, request: Request) -> Ensemble:
    """An ensemble on the cells that are judged, regridded only where that was asked for."""
    if request.grid is not None:
        return ensemble.map(lambda field: regridded_to(field, grid))
    try:
        cut = ensemble.map(lambda field: field.crop(grid))
        same = cut.first.grid.matches(grid)
    except GridError:
        same = False
    if not same:
        raise GridError(
            f"{ensemble.where} has other cells ({ensemble.first.cells.describe()}) than what it is "
            f"compared with ({grid.describe()}); give --grid reference, --grid output or another "
            "grid to judge all on"
        )
    return cut


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
    first = ensembles[0]
    for other in ensembles[1:]:
        ours, theirs = first.time.step_days, other.time.step_days
        if max(ours, theirs) > 1.5 * min(ours, theirs):
            raise InputError(
                f"{first.where} has steps of {ours:.3g} days and {other.where} of {theirs:.3g}; "
                "expected the same: average the finer one, for example with `cdo daymean` or "
                "`cdo monmean`"
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


def _scene(
    name: str,
    quantity: cf.Quantity,
    reference: Ensemble,
    given: Ensemble | None,
    parts: Mapping[str, Segments],
) -> Scene:
    amounts = quantity.units == "mm day-1"
    scene = survey(name, reference.members[0][name], parts[REFERENCE], amounts=amounts)
    if given is None or name not in given.members[0]:
        return scene
    field = given.members[0][name]
    everything = segments(field.time, np.arange(len(field.time)))
    return with_input(scene, field, everything)


def _input_steps(
    outputs: Mapping[str, Ensemble], given: Ensemble | None, parts: Mapping[str, Segments]
) -> dict[str, Index]:
    """By output the step of the input on each judged date, -1 where it has none."""
    if given is None:
        return {}
    exact = cf.exactness(given.time.step_days)
    places = {key: i for i, key in enumerate(cf.date_keys(given.time.centres, exact))}
    result = {}
    for name, one in outputs.items():
        keys = cf.date_keys(one.time.centres[parts[name].steps], exact)
        result[name] = np.array([places.get(key, -1) for key in keys], dtype=np.intp)
        if (result[name] < 0).all():
            raise InputError(
                f"{given.where} ({given.time.describe()}) has none of the dates of {one.where} "
                f"({one.time.describe()}); expected what it was made from"
            )
    return result


def _notes(request: Request, grid: Grid, pairing: Pairing) -> tuple[str, ...]:
    where = f"judged on {grid.describe()}"
    regridded = f", all regridded to it (--grid {request.grid})" if request.grid else ""
    return (f"{where}{regridded}", pairing.why)


def _identity(request: Request) -> dict[str, Any]:
    """Files and options that decide the sums."""

    def prints(paths: tuple[str, ...]) -> list[list[str]]:
        found = files.fingerprints(cf.expand_paths(paths), verify=False)
        return [list(pair) for pair in found]

    if request.resamples < 0:
        raise ConfigError("--resamples needs at least 0")
    return {
        "outputs": {name: prints(paths) for name, paths in request.outputs.items()},
        "reference": prints(request.reference),
        "input": prints(request.input) if request.input else [],
        "baselines": list(request.baselines),
        "pairing": request.pairing,
        "variables": list(request.variables),
        "region": request.region and list(request.region),
        "period": request.period,
        "members": request.members,
        "grid": request.grid,
        "select": dict(request.select),
        "seed": request.seed,
    }
