"""`climdown ot`: all variables of a simulation adjusted together by optimal transport."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from climdown import cf, stream
from climdown.adjust.agreement import agree
from climdown.adjust.columns import Columns
from climdown.adjust.days import FEWEST, Group
from climdown.adjust.options import OTOptions
from climdown.adjust.periods import window_of_years
from climdown.adjust.possible import adjusted_line, is_known, warn_of_unknown, within_limits
from climdown.adjust.provenance import Summary, global_attributes, output_variable
from climdown.adjust.series import (
    Paths,
    open_series,
    open_variables,
    season,
)
from climdown.adjust.shared_days import SharedDays
from climdown.arrays import Float32, Index
from climdown.compute.device import check_device, plain_errors
from climdown.errors import ConvergenceError, InputError
from climdown.files import owned
from climdown.inputs import matching


def ot_file(
    sim: Paths,
    output: str | Path,
    *,
    ref: Paths,
    hist: Paths,
    options: OTOptions | None = None,
    variables: Sequence[str] = (),
    grid: str | None = None,
    ref_period: str | None = None,
    hist_period: str | None = None,
    period: str | None = None,
    select: Mapping[str, str] | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    command: str = "climdown.ot_file()",
) -> Summary:
    """Adjust all variables of a simulation together by entropic optimal transport, and write them.

    Args:
        sim, ref, hist: files of simulation, observations, and the model in their period; each
            of the three must hold every variable.
        variables: names in `sim`; empty takes all that have units, time and a grid.
        grid, ref_period, hist_period, period, select: as in `qdm_file`.

    Raises:
        ConvergenceError: Sinkhorn's iteration did not converge.
        ClimdownError: one of its other kinds.
    """
    output, options = Path(output), options or OTOptions()
    with owned(output, [*sim, *ref, *hist], overwrite=overwrite):
        check_device(device)
        sources = open_variables(cf.Sources.open(sim), variables, select)
        first = sources[0]
        written = matching.select_period(first, period)
        series = open_series(sources, ref, hist, grid, ref_period, hist_period, select)
        for source in sources:
            if not is_known(source):
                warn_of_unknown(source)
        shared, samples = agree(series, options.group, ranked=False)
        options = with_years(options, first)
        adjusted, lines = transport_series(shared, options, device=device)
        lines += samples
        by_name = {
            source.source_name: values for source, values in zip(sources, adjusted, strict=True)
        }
        description = describe(options)
        stream.write_series(
            output,
            grid=series[0].grid,
            time=first.time.isel(written),
            variables=[output_variable(source, description) for source in sources],
            attributes=global_attributes(first, command, lines),
            read=lambda name, part: by_name[name][written][part],
            scalars=first.scalars,
        )
        return Summary(output, tuple(lines))


def describe(options: OTOptions) -> str:
    """One line for people and for the output's attributes."""
    group = {"none": "all days together", "season": "by season", "month": "by month"}
    drawn = "observed days drawn, " if options.map == "sampled" else ""
    change = ", mean change kept" if options.keep_change else ""
    if options.keep_change and options.years:
        change += f", within {options.years} years"
    return (
        "multivariate entropic optimal transport (Wan et al. 2023, arXiv 2305.15618), "
        f"{drawn}{group[options.group]}{change}"
    )


def with_years(options: OTOptions, sim: cf.Field) -> OTOptions:
    """The options with the window of years that is right for a simulation, see `periods`."""
    return replace(options, years=window_of_years(sim.time.centres, options.years))


def transport_series(
    shared: SharedDays, options: OTOptions, *, device: str = "cpu"
) -> tuple[list[Float32], list[str]]:
    """Adjust variables together.

    Args:
        shared: the days that count, one series per variable, on one grid.
        options: with the window of years, see `with_years`.

    Returns:
        adjusted values of each variable, shape (time, ny, nx), in the simulation's units, NaN
        where a cell or day has no value in one of the variables, or nothing to learn from; and
        sentences on what was done.

    Raises:
        InputError: grids, dates or cells that do not fit, or too few of them.
        ConvergenceError: Sinkhorn's iteration did not converge.
    """
    columns = Columns(shared.series)
    lines = []
    result = np.full(columns.sim.shape, np.nan, dtype=np.float32)
    for label, months in _groups(options.group):
        parts = {name: columns.rows(name, months) for name in ("ref", "hist", "sim")}
        if all(part.size for part in parts.values()):
            _check_days(label, parts)
            with plain_errors(), _labelled(label):
                result[parts["sim"]], line = Group(columns, parts, options, device).adjust()
            lines.append(f"{label}: {line}")
    if not lines:
        raise InputError(
            f"{cf.describe_paths(shared.series[0].sim.paths)}: no complete day could be adjusted; "
            "reference, historical and simulated files need days with values in all variables and "
            "cells that are seldom missing"
        )
    fields, held = within_limits(shared.series, columns.fields(result))
    for one, values in zip(shared.series, fields, strict=True):
        lines.append(f"{one.sim.source_name}: {_extent(one.sim, values)}")
    return [shared.spread(values.__getitem__, slice(0, shared.total)) for values in fields], [
        *lines,
        *held,
    ]


def _extent(sim: cf.Field, values: Float32) -> str:
    finite = values[np.isfinite(values)]
    return adjusted_line(sim, finite.size, float(finite.max()), sim.source_units)


def _check_days(label: str, parts: Mapping[str, Index]) -> None:
    for name, words in (("ref", "reference"), ("hist", "historical simulation")):
        if parts[name].size < FEWEST:
            raise InputError(
                f"the {words} has {parts[name].size} complete days of {label}; transport needs at "
                f"least {FEWEST}: give more years, or transport more of them together"
            )


@contextmanager
def _labelled(label: str) -> Iterator[None]:
    """Say of which days it is that the iteration did not converge."""
    try:
        yield
    except ConvergenceError as error:
        raise ConvergenceError(f"{label}: {error}") from None


def _groups(group: str) -> list[tuple[str, frozenset[int]]]:
    months = range(1, 13)
    if group == "none":
        return [("all days", frozenset(months))]
    if group == "month":
        return [(f"month {month}", frozenset({month})) for month in months]
    names = ("DJF", "MAM", "JJA", "SON")
    return [
        (name, frozenset(m for m in months if season(m) == number))
        for number, name in enumerate(names)
    ]
