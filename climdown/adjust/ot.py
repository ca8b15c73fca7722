"""`climdown ot`: all variables of a simulation adjusted together by optimal transport."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from climdown import cf, stream
from climdown.adjust.agreement import agree
from climdown.adjust.columns import Columns
from climdown.adjust.options import OTOptions
from climdown.adjust.periods import moving_periods, window_of_years
from climdown.adjust.possible import is_known, warn_of_unknown, within_limits
from climdown.adjust.provenance import Summary, global_attributes, output_variable
from climdown.adjust.series import (
    Paths,
    Series,
    open_series,
    open_variables,
    season,
)
from climdown.adjust.shared_days import share_days
from climdown.bias import transport
from climdown.bias.reduction import Map, Reduction, Standardiser, leading_eofs
from climdown.compute.device import check_device, plain_errors, to_device, to_host
from climdown.errors import ConvergenceError, InputError
from climdown.files import check_output, refuse_inputs
from climdown.inputs import matching

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]

# Of the years, this many at the end are held out to choose epsilon.
_HELD_OUT = 0.25
_FEWEST = 20  # days of a group in either sample


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
    check_output(output, overwrite=overwrite)
    refuse_inputs(output, [*sim, *ref, *hist])
    check_device(device)
    sources = open_variables(cf.Sources.open(sim), variables, select)
    first = sources[0]
    written = matching.select_period(first, period)
    series = open_series(sources, ref, hist, grid, ref_period, hist_period, select)
    for source in sources:
        if not is_known(source):
            warn_of_unknown(source)
    _, samples = agree(series, options.group, ranked=False)
    adjusted, lines = transport_series(series, options, device=device)
    lines += samples
    by_name = {source.source_name: values for source, values in zip(sources, adjusted, strict=True)}
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
    change = ", mean change kept" if options.keep_change else ""
    return (
        "multivariate entropic optimal transport (Wan et al. 2023, arXiv 2305.15618), "
        f"{group[options.group]}{change}"
    )


def transport_series(
    series: Sequence[Series], options: OTOptions, *, device: str = "cpu"
) -> tuple[list[Floats], list[str]]:
    """Adjust variables together.

    Args:
        series: one per variable, on one grid.

    Returns:
        adjusted values of each variable, shape (time, ny, nx), in the simulation's units, NaN
        where a cell or day has no value in one of the variables, or nothing to learn from; and
        sentences on what was done.

    Raises:
        InputError: grids, dates or cells that do not fit, or too few of them.
        ConvergenceError: Sinkhorn's iteration did not converge.
    """
    shared = share_days(series, options.group)
    options = replace(options, years=window_of_years(series[0].sim.time.dates, options.years))
    columns = Columns(shared.series)
    lines = []
    result = np.full(columns.sim.shape, np.nan, dtype=np.float32)
    for label, months in _groups(options.group):
        parts = {name: columns.rows(name, months) for name in ("ref", "hist", "sim")}
        if all(part.size for part in parts.values()):
            _check_days(label, parts)
            with plain_errors(), _labelled(label):
                result[parts["sim"]], line = _Group(columns, parts, device).adjust(options)
            lines.append(f"{label}: {line}")
    if not lines:
        raise InputError(
            f"{cf.describe_paths(series[0].sim.paths)}: no complete day could be adjusted; "
            "reference, historical and simulated files need days with values in all variables and "
            "cells that are seldom missing"
        )
    fields, held = within_limits(shared.series, columns.fields(result))
    return [shared.spread(values.__getitem__, slice(0, shared.total)) for values in fields], [
        *lines,
        *held,
    ]


def _check_days(label: str, parts: Mapping[str, npt.NDArray[np.intp]]) -> None:
    for name, words in (("ref", "reference"), ("hist", "historical simulation")):
        if parts[name].size < _FEWEST:
            raise InputError(
                f"the {words} has {parts[name].size} complete days of {label}; transport needs at "
                f"least {_FEWEST}: give more years, or transport more of them together"
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


@dataclass(frozen=True, eq=False)
class _Sample:
    """Standardised points of a group and the winters they are from, by their January."""

    points: Any
    years: npt.NDArray[np.int64]

    def split(self) -> tuple[Any, Any]:
        """Points of the first years, and of those held out."""
        years = np.unique(self.years)
        first_held = years[-max(1, round(_HELD_OUT * years.size))]
        held = self.years >= first_held
        return self.points[~held], self.points[held]


class _Group:
    """Days that are transported together, standardised by the reference's.

    Args:
        rows: of `columns`, by sample.
    """

    def __init__(
        self, columns: Columns, rows: Mapping[str, npt.NDArray[np.intp]], device: str
    ) -> None:
        self.columns, self.rows, self.device = columns, rows, device
        self.standardiser = Standardiser.fit(columns.ref[rows["ref"]])
        self.ref, self.hist, self.sim = map(self._sample, ("ref", "hist", "sim"))

    def adjust(self, options: OTOptions) -> tuple[Floats, str]:
        """Mapped days of the simulation, and a sentence on them."""
        ref, hist, reduction = self._reduced(options.eofs)
        fitted = transport.fit(
            hist.points,
            ref.points,
            epsilon=options.epsilon or _chosen_epsilon(hist, ref, options),
            tolerance=options.tolerance,
            max_iterations=options.max_iterations,
        )
        mapping: Map = fitted if reduction is None else reduction.lift(fitted)
        mapped = self._map(mapping, options)
        text = (
            f"{len(hist.points)} historical and {len(ref.points)} reference days, epsilon "
            f"{fitted.epsilon:g}, {fitted.iterations} iterations, marginal error "
            f"{fitted.marginal_error:.1e}"
        )
        if reduction is not None:
            text += f", {len(reduction.eofs)} EOFs ({reduction.explained:.1%} of the variance)"
        return self.standardiser.inverse(mapped).astype(np.float32), text

    def _sample(self, name: str) -> _Sample:
        rows = self.rows[name]
        values = self.standardiser.forward(getattr(self.columns, name)[rows])
        years = np.array([d.year + (d.month == 12) for d in self.columns.dates[name][rows]])
        return _Sample(to_device(values.astype(np.float32), self.device), years)

    def _reduced(self, eofs: float | None) -> tuple[_Sample, _Sample, Reduction | None]:
        """Reference and historical days within leading EOFs, a share of the variance or a count."""
        if eofs is None:
            return self.ref, self.hist, None
        points = self.hist.points, self.ref.points
        reduction = (
            leading_eofs(*points, count=int(eofs))
            if eofs > 1
            else leading_eofs(*points, explained=eofs)
        )
        ref, hist = (_Sample(reduction.reduce(s.points), s.years) for s in (self.ref, self.hist))
        return ref, hist, reduction

    def _map(self, mapping: Map, options: OTOptions) -> Floats:
        """Map the simulation, period by period, its mean change carried around the map."""
        if not options.keep_change:
            return to_host(mapping(self.sim.points))
        before = to_host(self.hist.points).mean(axis=0, dtype=np.float64)
        plain = to_host(self.sim.points)
        mapped = np.empty_like(plain)
        dates = self.columns.dates["sim"][self.rows["sim"]]
        for part, window in moving_periods(dates, options.years):
            change = plain[window].mean(axis=0, dtype=np.float64) - before
            shift = to_device(change.astype(np.float32), self.device)
            mapped[part] = to_host(transport.adjust(mapping, self.sim.points[part], shift))
        return mapped


def _chosen_epsilon(hist: _Sample, ref: _Sample, options: OTOptions) -> float:
    """Epsilon by the last years held out; the default where there are too few to hold out."""
    (fit_hist, held_hist), (fit_ref, held_ref) = hist.split(), ref.split()
    if min(map(len, (fit_hist, held_hist, fit_ref, held_ref))) < _FEWEST:
        log.warning("too few years to choose epsilon by; taking %g", transport.EPSILON)
        return transport.EPSILON
    return transport.choose_epsilon(
        fit_hist,
        fit_ref,
        held_hist,
        held_ref,
        # Averaging over many days costs variance, which an adjustment must keep.
        slack=0.02,
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
    )
