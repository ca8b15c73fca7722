"""A look at a file: one step of one variable, as maps of members, their mean and their spread."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from climdown import cf
from climdown.arrays import Float32, Floats
from climdown.errors import ClimdownError, ConfigError, InputError
from climdown.evaluation.days import describe_date
from climdown.evaluation.ensembles import Ensemble, open_ensemble, quantities_of
from climdown.evaluation.view import written
from climdown.plots.atlas import Scale
from climdown.plots.quicklook import Panel

log = logging.getLogger(__name__)

_MOST_MEMBERS = 4  # that are drawn where none is chosen
_CANDIDATES = 24  # steps among which the most varied one is looked for


@dataclass(frozen=True, eq=False)
class Look:
    """What there is to see.

    Attributes:
        title: variable, date and file, for people.
        chosen: what was chosen without having been asked, one line each.
        panels: maps, all of one region.
    """

    title: str
    chosen: tuple[str, ...]
    panels: tuple[Panel, ...]


def look(
    paths: Sequence[str],
    *,
    variable: str | None = None,
    time: str | None = None,
    member: int | None = None,
    select: Mapping[str, str] | None = None,
) -> Look:
    """Read one step.

    Args:
        variable: name in the file; None takes the first.
        time: a date, a month or a year, whose first step is taken; None takes the one of some
            that varies most in space.
        member: counted from 1; None takes the first ones, mean and spread.
        select: entries along further dimensions.

    Raises:
        ConfigError: a variable, date or member that is not there.
        InputError, GridError: a file that cannot be read.
    """
    static = _static(paths, variable)
    if static is not None:
        if time is not None or member is not None:
            raise ConfigError(f"{paths[0]}: '{static[0]}' has neither dates nor members to choose")
        return _of_static(paths, *static)
    quantities = quantities_of(paths, [] if variable is None else [variable])
    name, ensemble = _first_readable(paths, quantities, select)
    others = [other for other in quantities if other != name]
    for doubt in ensemble.first.doubts:
        log.warning("%s", doubt)
    step, why = _step(ensemble, name, time)
    count = len(ensemble.members)
    if member is not None and not 1 <= member <= count:
        raise ConfigError(f"{ensemble.where} has {count} members; --member asks for {member}")
    values = ensemble.read(name, slice(step, step + 1))[0]
    for one in ensemble.members:
        one[name].refuse_misread()
    chosen = [f"variable {name}; there are also {', '.join(others)}: --variable"] if others else []
    date = describe_date(ensemble.time, step)
    return Look(
        title=f"{name}, {date}",
        chosen=(*chosen, *([f"{date}, {why}; others: --time"] if why else [])),
        panels=_panels(ensemble, name, values, member),
    )


def _first_readable(
    paths: Sequence[str], quantities: Mapping[str, cf.Quantity], select: Mapping[str, str] | None
) -> tuple[str, Ensemble]:
    """The first variable that is a field, and why the first one is none if all are none."""
    errors: list[ClimdownError] = []
    for name, quantity in quantities.items():
        try:
            return name, open_ensemble(name, paths, {name: quantity}, select=select)
        except ClimdownError as error:
            errors.append(error)
    # One that was found and leaves something to choose says more than one that was not.
    raise next((e for e in errors if not isinstance(e, cf.VariableNotFoundError)), errors[0])


def _step(ensemble: Ensemble, name: str, time: str | None) -> tuple[int, str]:
    """The step to show, and why it was chosen if nobody asked for it."""
    if time is not None:
        try:
            return ensemble.time.select(f"{time}/{time}").start, ""
        except ConfigError:
            raise ConfigError(
                f"--time is '{time}'; expected a date like 1996-12-01, a month or a year"
            ) from None
        except InputError as error:
            raise InputError(f"{ensemble.where}: {error}") from None
    if len(ensemble.time) == 1:
        return 0, ""
    steps = cf.evenly(np.arange(len(ensemble.time)), _CANDIDATES)
    fields = ensemble.members[0][name].read_steps(steps)
    most = int(np.argmax([_variation(one) for one in fields]))
    return int(steps[most]), f"the most varied of {len(steps)} steps"


def _variation(field: Floats) -> float:
    """Standard deviation in space, and less than any of a field without values."""
    known = field[np.isfinite(field)].astype(np.float64)
    return float(known.std()) if known.size else -1.0


def _panels(
    ensemble: Ensemble, name: str, values: Float32, member: int | None
) -> tuple[Panel, ...]:
    first = ensemble.first
    units = written(first.quantity.units)
    scale: Scale = "amounts" if first.quantity.units == "mm day-1" else "values"

    def panel(title: str, field: Floats, kind: Scale = scale) -> Panel:
        return Panel(title, first.cells, field, units, kind)

    if len(values) == 1:
        return (panel(_long_name(first.attributes), values[0]),)
    if member is not None:
        return (panel(f"member {member} of {len(values)}", values[member - 1]),)
    members = [panel(f"member {i}", one) for i, one in enumerate(values[:_MOST_MEMBERS], start=1)]
    mean = panel(f"mean of {len(values)}", values.mean(axis=0))
    return (*members, mean, panel("spread", values.std(axis=0, ddof=1), "spread"))


def _long_name(attributes: Mapping[str, object]) -> str:
    return str(attributes.get("long_name", ""))


def _static(paths: Sequence[str], variable: str | None) -> tuple[str, xr.Dataset] | None:
    """The variable and its file, if it is one that does not run along time."""
    sources = cf.Sources.open(paths)
    gridded = [(n, d) for d in sources.datasets for n in cf.gridded_variables(d)]
    timed = any(cf.has_time(dataset[name]) for name, dataset in gridded)
    for name, dataset in gridded:
        wanted = not timed if variable is None else name == variable
        if wanted and not cf.has_time(dataset[name]):
            return name, dataset
    sources.close()
    return None


def _of_static(paths: Sequence[str], name: str, dataset: xr.Dataset) -> Look:
    try:
        cells, array = cf.horizontal_cells(dataset[name].squeeze(), dataset)
    except InputError as error:
        raise InputError(f"{paths[0]}: {error}") from None
    if array.shape != cells.shape:
        further = ", ".join(map(str, array.dims[: array.ndim - len(cells.shape)]))
        raise InputError(
            f"{paths[0]}: variable '{name}' has the further dimension {further} and no dates; "
            "expected a field, or a series of them"
        )
    values = np.asarray(array.values, dtype=np.float64)
    units = written(str(array.attrs.get("units", "")))
    return Look(name, (), (Panel(_long_name(array.attrs), cells, values, units, "values"),))
