"""`climdown qdm`: a file adjusted to a reference by quantile delta mapping."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from climdown import cf, stream
from climdown.adjust.agreement import agree, described
from climdown.adjust.blocks import NEEDS, Keep, Progress, Report, adjust_series
from climdown.adjust.options import QDMOptions
from climdown.adjust.provenance import Summary, global_attributes, output_variable
from climdown.adjust.series import (
    Paths,
    Series,
    open_series,
    open_variables,
)
from climdown.adjust.settings import Settings, choose_settings, map_settings, settings_of_map
from climdown.adjust.shared_days import SharedDays, share_months, warn_of_lost_days
from climdown.arrays import Floats
from climdown.bias.scratch import Scratch
from climdown.bias.stored_map import HIST, REF, StoredMap, map_attributes, read_map
from climdown.cf.recognition import mismatch
from climdown.compute.engine import Engine, open_engine
from climdown.errors import ConfigError, InputError
from climdown.files import owned
from climdown.inputs import matching
from climdown.inputs.checks import check_values
from climdown.inputs.onto import regridded_to

log = logging.getLogger(__name__)


def qdm_file(
    sim: Paths,
    output: str | Path,
    *,
    ref: Paths | None = None,
    hist: Paths | None = None,
    options: QDMOptions | None = None,
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
        select: the entry to take along further dimensions, where files have them.
        load_map: a map saved before, instead of `ref` and `hist`.
        save_map: where to keep the map.
        scheduler: address of a Dask scheduler that is to do the work.

    Raises:
        ClimdownError: one of its kinds.
    """
    output, options = Path(output), options or QDMOptions()
    inputs = [*sim, *(ref or ()), *(hist or ()), *([] if load_map is None else [load_map])]
    with ExitStack() as stack:
        for path in _outputs(output, save_map):
            stack.enter_context(owned(path, inputs, overwrite=overwrite))
        (source,) = open_variables(
            cf.Sources.open(sim), () if variable is None else (variable,), select, most=1
        )
        written = matching.select_period(source, period)
        stored = None
        if load_map is None:
            (series,) = open_series([source], ref, hist, grid, ref_period, hist_period, select)
            shared, samples = agree([series], options.group, ranked=options.ranks == "sim")
            settings = choose_settings(shared.series[0], options)
        else:
            _refuse_training(ref, hist, grid, ref_period, hist_period, save_map)
            stored = read_map(Path(cf.expand_paths([load_map])[0]))
            series = _with_map(source, stored)
            settings = settings_of_map(stored, options, series.sim)
            check_values(series.sim, empty_steps=True)
            shared = share_months(series, stored.settings.months)
            samples = [f"map: {stored.path}", described("simulation", shared.series[0].sim)]
            warn_of_lost_days(series.sim, shared.steps)
        log.info("%s", settings.describe())
        engine = stack.enter_context(open_engine(scheduler, device))
        scratch, report = _adjust(
            shared.series[0],
            settings,
            output.resolve().parent,
            stack,
            engine,
            stored,
            save_map,
            progress,
        )
        lines = [*report.lines(settings, series.sim, source.quantity.units), *samples]
        stream.write_series(
            output,
            grid=series.grid,
            time=source.time.isel(written),
            variables=[output_variable(source, settings.describe())],
            attributes=global_attributes(source, command, lines),
            read=lambda _, part: _read(shared, source, scratch, written.start, part),
            scalars=source.scalars,
        )
    return Summary(output, tuple(lines))


def _refuse_training(*entries: object) -> None:
    """Refuse what a map is trained on, where a map is loaded."""
    if any(entries):
        raise ConfigError(
            "--map holds what was trained on --ref and --hist; leave these, --grid, their "
            "periods and --save-map out"
        )


def _outputs(output: Path, save_map: Path | None) -> list[Path]:
    """The files to write, which must be two."""
    if save_map is None:
        return [output]
    if save_map.resolve() == output.resolve():
        raise ConfigError(f"{output} is both output and map; choose another --save-map")
    return [output, save_map]


def _adjust(
    series: Series,
    settings: Settings,
    folder: Path,
    stack: ExitStack,
    engine: Engine,
    stored: StoredMap | None,
    save_map: Path | None,
    progress: Progress | None,
) -> tuple[Scratch, Report]:
    """Adjust, and place the map when it is whole."""
    with ExitStack() as map_file:
        keep = None
        if save_map is not None:
            keep = map_file.enter_context(_map_writer(save_map, series, settings))
        scratch, report = adjust_series(
            series,
            settings,
            stack=stack,
            scratch=folder,
            engine=engine,
            stored=stored,
            keep=keep,
            progress=progress,
        )
        # Inside the block: a map that adjusts nothing is not placed.
        _refuse_nothing_adjusted(series.sim, report)
    return scratch, report


def _refuse_nothing_adjusted(sim: cf.Field, report: Report) -> None:
    if report.values == 0:
        raise InputError(
            f"{cf.describe_paths(sim.paths)}: no value of {sim.source_name} "
            f"could be adjusted; {NEEDS}: give longer ones, or --group none"
        )


def _read(
    shared: SharedDays, source: cf.Field, scratch: Scratch, first: int, part: slice
) -> Floats:
    """Adjusted values in the units of the source; a kept map may have others."""
    steps = slice(first + part.start, first + part.stop)
    values = shared.spread(lambda block: scratch.read_times(block.start, block.stop), steps)
    units = shared.series[0].sim.quantity.units
    if units == source.quantity.units:
        return values
    return cf.convert_units(values, units, source.quantity.units)


def _with_map(sim: cf.Field, stored: StoredMap) -> Series:
    """A simulation on a kept map's grid and in its units.

    Raises:
        InputError: the map is for another quantity.
    """
    trained = stored.settings
    wanted = cf.Quantity(
        trained.variable, trained.standard_names, trained.names, trained.units, trained.level
    )
    if mismatch(cf.like_array(sim), wanted) is not None or sim.quantity.level != wanted.level:
        level = "" if wanted.level is None else f" at {wanted.level / 100:g} hPa"
        raise InputError(
            f"{stored.path} maps {wanted.name}{level} [{wanted.units}]; "
            f"{cf.describe_paths(sim.paths)} has {sim.source_name} [{sim.source_units}]: choose "
            "another map"
        )
    field = replace(sim, quantity=replace(sim.quantity, units=trained.units))
    on_grid = regridded_to(field, stored.grid)
    return Series(on_grid, on_grid, on_grid)


@contextmanager
def _map_writer(path: Path, series: Series, settings: Settings) -> Iterator[Keep]:
    described = {"units": series.sim.quantity.units}
    with stream.map_writer(
        path,
        grid=series.grid,
        nodes=settings.probabilities,
        groups=settings.grouping.count,
        variables={
            REF: {"long_name": "quantiles of the reference", **described},
            HIST: {"long_name": "quantiles of the historical simulation", **described},
        },
        attributes={
            "Conventions": cf.CONVENTIONS,
            "title": settings.describe(),
            **map_attributes(map_settings(series, settings)),
        },
    ) as write:
        yield write
