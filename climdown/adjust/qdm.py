"""`climdown qdm`: a file adjusted to a reference by quantile delta mapping."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from climdown import cf, matching, stream
from climdown.adjust.blocks import Progress, Settings, adjust_series, choose_settings
from climdown.adjust.engine import open_engine
from climdown.adjust.inputs import (
    Paths,
    Series,
    check_months,
    open_series,
    open_variables,
)
from climdown.adjust.outputs import Summary, global_attributes, output_variable
from climdown.bias import maps
from climdown.bias.grouping import Grouping
from climdown.bias.maps import StoredMap
from climdown.config import QDMConfig
from climdown.errors import ConfigError, InputError

log = logging.getLogger(__name__)


def qdm_file(
    sim: Paths,
    output: str | Path,
    *,
    ref: Paths | None,
    hist: Paths | None,
    options: QDMConfig | None = None,
    variable: str | None = None,
    grid: str | None = None,
    ref_period: str | None = None,
    hist_period: str | None = None,
    period: str | None = None,
    select: Mapping[str, str] | None = None,
    load_map: Path | None = None,
    save_map: Path | None = None,
    scheduler: str | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    command: str = "climdown.qdm_file()",
    progress: Progress | None = None,
) -> Summary:
    """Adjust a simulation to a reference by quantile delta mapping, and write it.

    Args:
        ref: files of observations or reanalysis, or a prior's name, for its quantiles.
        hist: the same model in the reference's period.
        variable: in `sim`; None where there is only one.
        grid: None works on the simulation's own grid, or on the prior's coarse one.
        ref_period, hist_period: "START/END", what to train on.
        period: what to write; the rest of `sim` still takes part in its quantiles.
        load_map: a map saved before, instead of `ref` and `hist`.
        save_map: where to keep the map.
        scheduler: address of a Dask scheduler that is to do the work.

    Raises:
        ClimdownError: one of its kinds.
    """
    output = Path(output)
    stream.check_output(output, overwrite=overwrite)
    if save_map is not None:
        stream.check_output(save_map, overwrite=overwrite)
    (source,) = open_variables(sim, () if variable is None else (variable,), select, most=1)
    stored = None if load_map is None else maps.read_map(cf.expand_paths([load_map])[0])
    if stored is not None:
        if ref or hist:
            raise ConfigError("--map holds what --ref and --hist gave; leave them out")
        series, settings = _series_of_map(source, stored, options or QDMConfig())
    else:
        series = open_series(source, ref, hist, grid, ref_period, hist_period, select)
        settings = choose_settings(series, options or QDMConfig())
    check_months(series)
    written = source.time.select(period)
    log.info("%s", settings.describe())
    with ExitStack() as stack:
        engine = stack.enter_context(open_engine(scheduler, device))
        keep = None
        if save_map is not None:
            keep = stack.enter_context(_map_writer(save_map, series, settings))
        scratch, report = adjust_series(
            series,
            settings,
            stack=stack,
            scratch=output.resolve().with_name(f".{output.name}.{os.getpid()}"),
            engine=engine,
            stored=stored,
            keep=keep,
            progress=progress,
        )
        lines = report.lines(settings, series.sim.quantity.units)
        stream.write_series(
            output,
            grid=series.grid,
            time=series.sim.time.isel(written),
            variables=[output_variable(source, settings.describe())],
            attributes=global_attributes(source, command, lines),
            read=lambda _, part: scratch.read_times(
                written.start + part.start, written.start + part.stop
            ).reshape(-1, *series.grid.shape),
            scalars=source.scalars,
        )
    return Summary(output, tuple(lines))


def _series_of_map(sim: cf.Field, stored: StoredMap, options: QDMConfig) -> tuple[Series, Settings]:
    """A simulation on a kept map's grid, and the settings the map was trained with.

    Raises:
        InputError: the map is for another quantity.
    """
    entries = stored.settings
    if not cf.units_convertible(entries["units"], sim.source_units) or (
        sim.attributes.get("standard_name") not in (None, *entries["standard_names"])
    ):
        raise InputError(
            f"{stored.path} maps {entries['variable']} [{entries['units']}]; "
            f"{cf.describe_paths(sim.paths)} has {sim.source_name} [{sim.source_units}]"
        )
    # The map's quantiles are in its own units, and so must the simulation be.
    field = replace(sim, quantity=replace(sim.quantity, units=entries["units"]))
    grouping = Grouping(entries["group"], entries["window"])
    trained = replace(
        options, group=entries["group"], window=entries["window"], tails=entries["tails"]
    )
    settings = Settings(entries["kind"], grouping, entries["nodes"], entries["dry"], trained)
    on_grid = matching.onto(field, stored.grid)
    return Series(on_grid, on_grid, on_grid), settings


@contextmanager
def _map_writer(
    path: Path, series: Series, settings: Settings
) -> Iterator[Callable[[slice, Mapping[str, Any]], None]]:
    sim = series.sim
    entries = {
        "variable": sim.source_name,
        "standard_names": list(sim.quantity.standard_names),
        "units": sim.quantity.units,
        "kind": settings.kind,
        "group": settings.grouping.kind,
        "window": settings.grouping.window,
        "tails": settings.options.tails,
        "nodes": settings.nodes,
        "dry": settings.dry,
        "description": settings.describe(),
    }
    described = {"units": sim.quantity.units}
    with stream.map_writer(
        path,
        grid=series.grid,
        nodes=settings.probabilities,
        groups=settings.grouping.count,
        variables={
            maps.REF: {"long_name": "quantiles of the reference", **described},
            maps.HIST: {"long_name": "quantiles of the historical simulation", **described},
        },
        attributes={"Conventions": "CF-1.8", **maps.map_attributes(entries)},
    ) as write:
        yield write
