"""`climdown ot`: all variables of a simulation adjusted together by optimal transport."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from climdown import cf, stream
from climdown.adjust.engine import check_device, to_device, to_host
from climdown.adjust.inputs import (
    Climatology,
    Paths,
    Series,
    check_months,
    open_series,
    open_variables,
)
from climdown.adjust.outputs import Summary, global_attributes, output_variable
from climdown.adjust.periods import moving_periods
from climdown.bias import transport
from climdown.config import OTConfig
from climdown.errors import ConfigError, InputError
from climdown.transforms import Log

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]

# Everything is held in memory: about six arrays of this size at most.
_MOST_BYTES = 4 << 30
# Of the years, this many at the end are held out to choose epsilon.
_HELD_OUT = 0.25
_SEASON_OF_MONTH = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0)
_FEWEST = 20  # days of a group in either sample


def ot_file(
    sim: Paths,
    output: str | Path,
    *,
    ref: Paths,
    hist: Paths,
    options: OTConfig | None = None,
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
            must hold every variable.
        variables: names in `sim`; empty takes all that have units, time and a grid.
        grid, ref_period, hist_period, period, select: as in `qdm_file`.

    Raises:
        ConvergenceError: Sinkhorn's iteration did not converge.
        ClimdownError: one of its other kinds.
    """
    output, options = Path(output), options or OTConfig()
    stream.check_output(output, overwrite=overwrite)
    check_device(device)
    sources = open_variables(sim, variables, select)
    first = sources[0]
    written = first.time.select(period)
    series = [
        open_series(source, ref, hist, grid, ref_period, hist_period, select) for source in sources
    ]
    for one in series:
        check_months(one)
    adjusted, lines = transport_series(series, options, device=device)
    description = describe(options)
    stream.write_series(
        output,
        grid=series[0].grid,
        time=first.time.isel(written),
        variables=[output_variable(source, description) for source in sources],
        attributes=global_attributes(first, command, lines),
        read=lambda name, part: adjusted[name][written][part],
        scalars=first.scalars,
    )
    return Summary(output, tuple(lines))


def describe(options: OTConfig) -> str:
    """One line for people and for the output's attributes."""
    group = {"none": "all days together", "season": "by season", "month": "by month"}
    change = ", mean change kept" if options.keep_change else ""
    return (
        "multivariate entropic optimal transport (Wan et al. 2023, arXiv 2305.15618), "
        f"{group[options.group]}{change}"
    )


def transport_series(
    series: Sequence[Series], options: OTConfig, *, device: str = "cpu"
) -> tuple[dict[str, Floats], list[str]]:
    """Adjust variables together.

    Args:
        series: one per variable, on one grid.

    Returns:
        adjusted values by variable, shape (time, ny, nx), in the simulation's units, NaN where a
        cell or day has no value in one of the variables; and sentences on what was done.

    Raises:
        InputError: grids, dates or cells that do not fit, or too few of them.
        ConvergenceError: Sinkhorn's iteration did not converge.
    """
    columns = _Columns(series)
    lines = []
    result = np.full(columns.sim.shape, np.nan, dtype=np.float32)
    for label, months in _groups(options.group):
        parts = {name: columns.rows(name, months) for name in ("ref", "hist", "sim")}
        if parts["sim"].size == 0:
            continue
        for name in ("ref", "hist"):
            if parts[name].size < _FEWEST:
                raise InputError(
                    f"{name} has {parts[name].size} complete days for {label}; transport needs "
                    f"at least {_FEWEST}: give more years, or --group none"
                )
        mapped, line = _transport_group(columns, parts, options, device)
        result[parts["sim"]] = mapped
        lines.append(f"{label}: {line}")
    return columns.fields(result), lines


class _Columns:
    """Samples as rows, cells of all variables as columns, in normalised units.

    Attributes:
        ref, hist, sim: shape (days, columns); only cells that have values in all three are
            columns.
    """

    def __init__(self, series: Sequence[Series]) -> None:
        self.series = series
        first = series[0]
        for one in series[1:]:
            if one.grid.digest != first.grid.digest:
                raise InputError(
                    f"{cf.describe_paths(one.sim.paths)}: {one.sim.source_name} lies on another "
                    f"grid than {first.sim.source_name}; give --grid"
                )
        refs = [one.ref for one in series]
        for ref in refs:
            if isinstance(ref, Climatology):
                raise ConfigError(
                    f"prior {ref.prior} carries quantiles, which say nothing of how cells and "
                    "variables go together; optimal transport needs observations as --ref"
                )
        self.transforms = [_transform(one.sim) for one in series]
        self.dates: dict[str, npt.NDArray[np.object_]] = {}
        values = {
            "ref": self._read("ref", [r for r in refs if isinstance(r, cf.Field)]),
            "hist": self._read("hist", [one.hist for one in series]),
            "sim": self._read("sim", [one.sim for one in series]),
        }
        self.cells = np.logical_and.reduce([_mostly_valid(array) for array in values.values()])
        if not self.cells.any():
            raise InputError(
                "no cell has values in reference, historical and simulated files together"
            )
        self.ref, self.hist, self.sim = (values[n][:, self.cells] for n in ("ref", "hist", "sim"))

    def rows(self, name: str, months: frozenset[int]) -> npt.NDArray[np.intp]:
        """Days of a sample in these months that are complete."""
        complete = np.isfinite(getattr(self, name)).all(axis=1)
        inside = np.array([date.month in months for date in self.dates[name]])
        return np.flatnonzero(complete & inside)

    def fields(self, rows: Floats) -> dict[str, Floats]:
        """Rows in normalised units as fields in the simulation's."""
        shape = self.series[0].grid.shape
        everywhere = np.full((len(rows), self.cells.size), np.nan, dtype=np.float32)
        everywhere[:, self.cells] = rows
        found = {}
        for one, transform, part in zip(
            self.series,
            self.transforms,
            np.split(everywhere, len(self.series), axis=1),
            strict=True,
        ):
            values = part.astype(np.float64)
            if transform is not None:
                values = np.maximum(transform.inverse(values), 0.0)
                # Days that the reference would call dry.
                values = np.where(values < 0.5 * transform.offset, 0.0, values)
            found[one.sim.source_name] = values.astype(np.float32).reshape(-1, *shape)
        return found

    def _read(self, name: str, fields: Sequence[cf.Field]) -> Floats:
        """All variables side by side on the dates they share, normalised."""
        common = set(map(_day, fields[0].time.dates))
        for field in fields[1:]:
            common &= set(map(_day, field.time.dates))
        days = [_day(date) for date in fields[0].time.dates]
        kept = [i for i, day in enumerate(days) if day in common]
        if name == "sim" and len(kept) < len(days):
            raise InputError("the variables of the simulation have different dates")
        if not kept:
            raise InputError(f"the variables of {name} share no date")
        size = 4 * len(kept) * len(fields) * int(np.prod(fields[0].grid.shape))
        if size > _MOST_BYTES:
            raise InputError(
                f"{name} takes {size / 2**30:.1f} GiB of memory; transport works on coarse fields "
                f"of at most {_MOST_BYTES / 2**30:.0f} GiB: give a coarser --grid or less of it"
            )
        self.dates[name] = fields[0].time.dates[kept]
        columns = []
        for field, transform in zip(fields, self.transforms, strict=True):
            where = {_day(date): i for i, date in enumerate(field.time.dates)}
            values = field.read(slice(0, len(field.time)))[[where[days[i]] for i in kept]]
            if np.isinf(values).any():
                raise InputError(
                    f"{cf.describe_paths(field.paths)}: variable '{field.source_name}' has "
                    "infinite values; set them to missing"
                )
            values = values.reshape(len(kept), -1)
            columns.append(values if transform is None else _forward(transform, values))
        return np.concatenate(columns, axis=1)


def _transform(field: cf.Field) -> Log | None:
    """The logarithm for quantities that are often zero, its offset twice the trace."""
    known = cf.known_quantity(cf.like_array(field))
    if known is None or known.trace is None:
        return None
    offset = cf.convert_units(
        np.array([2.0 * known.trace]), known.quantity.units, field.quantity.units
    )
    return Log(offset=float(offset[0]))


def _forward(transform: Log, values: Floats) -> Floats:
    return np.asarray(transform.forward(np.maximum(values, 0.0).astype(np.float64)), np.float32)


def _mostly_valid(values: Floats) -> npt.NDArray[np.bool_]:
    """Columns whose values are there on nearly all days."""
    return np.asarray(np.isfinite(values).mean(axis=0) > 0.95)


def _day(date: Any) -> tuple[int, int, int]:
    return date.year, date.month, date.day


def _groups(group: str) -> list[tuple[str, frozenset[int]]]:
    months = range(1, 13)
    if group == "none":
        return [("all days", frozenset(months))]
    if group == "month":
        return [(f"month {month}", frozenset({month})) for month in months]
    names = ("DJF", "MAM", "JJA", "SON")
    return [
        (name, frozenset(m for m in months if _SEASON_OF_MONTH[m - 1] == season))
        for season, name in enumerate(names)
    ]


@dataclass(frozen=True, eq=False)
class _Sample:
    """Standardised points of a group and the years they are from."""

    points: Any
    years: npt.NDArray[np.int64]

    def split(self) -> tuple[Any, Any]:
        """Points of the first years, and of those held out."""
        years = np.unique(self.years)
        first_held = years[-max(1, round(_HELD_OUT * years.size))]
        held = self.years >= first_held
        return self.points[~held], self.points[held]


def _transport_group(
    columns: _Columns,
    parts: Mapping[str, npt.NDArray[np.intp]],
    options: OTConfig,
    device: str,
) -> tuple[Floats, str]:
    """Mapped days of a group's simulation, and a sentence on it."""
    standardiser = transport.Standardiser.fit(columns.ref[parts["ref"]])

    def sample(name: str) -> _Sample:
        values = standardiser.forward(getattr(columns, name)[parts[name]])
        years = np.array([d.year + (d.month == 12) for d in columns.dates[name][parts[name]]])
        return _Sample(to_device(values.astype(np.float32), device), years)

    ref, hist, sim = (sample(name) for name in ("ref", "hist", "sim"))
    reduction = None
    if options.eofs is not None:
        count = int(options.eofs) if options.eofs > 1 else None
        share = 1.0 if count else options.eofs
        reduction = transport.eofs(hist.points, ref.points, explained=share, count=count)
        ref, hist = (_Sample(reduction.reduce(s.points), s.years) for s in (ref, hist))
    epsilon = options.epsilon or _chosen_epsilon(hist, ref, options)
    fitted = transport.fit(
        hist.points,
        ref.points,
        epsilon=epsilon,
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
    )
    mapping: Any = fitted if reduction is None else reduction.lift(fitted)
    mapped = _map_periods(mapping, columns, parts, standardiser, sim.points, options, device)
    text = (
        f"{len(hist.points)} historical and {len(ref.points)} reference days, epsilon "
        f"{epsilon:g}, {fitted.iterations} iterations, marginal error {fitted.marginal_error:.1e}"
    )
    if reduction is not None:
        text += f", {len(reduction.eofs)} EOFs ({reduction.explained:.1%} of the variance)"
    return standardiser.inverse(to_host(mapped)).astype(np.float32), text


def _map_periods(
    mapping: Any,
    columns: _Columns,
    parts: Mapping[str, npt.NDArray[np.intp]],
    standardiser: transport.Standardiser,
    points: Any,
    options: OTConfig,
    device: str,
) -> Any:
    """Map a simulation, period by period, its mean change carried around the map."""
    if not options.keep_change:
        return mapping(points)
    hist = standardiser.forward(columns.hist[parts["hist"]]).mean(axis=0)
    plain = to_host(points)
    mapped = np.empty_like(plain)
    dates = columns.dates["sim"][parts["sim"]]
    for part, window in moving_periods(dates, options.years):
        shift = (plain[window].mean(axis=0) - hist).astype(np.float32)
        mapped[part] = to_host(transport.adjust(mapping, points[part], to_device(shift, device)))
    return mapped


def _chosen_epsilon(hist: _Sample, ref: _Sample, options: OTConfig) -> float:
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
