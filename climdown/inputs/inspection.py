"""What climdown understands of a file, for `climdown inspect`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from climdown import cf
from climdown.errors import ClimdownError, InputError
from climdown.grid import Grid
from climdown.inputs.checks import FILL
from climdown.inputs.sampling import blocks, sample
from climdown.inputs.suspicions import suspicions_of_reading, suspicions_of_time
from climdown.mesh import Mesh

T = TypeVar("T")

# More values outside the plausible range than this share are the rule, not the exception.
_MANY = 0.01
_FREQUENCIES = (
    ("hourly", 0.99 / 24, 1.01 / 24),
    ("daily", 0.99, 1.01),
    ("monthly", 27.5, 31.5),
    ("yearly", 359.0, 367.0),
)


@dataclass(frozen=True)
class GridReport:
    """Cells of a variable; degrees."""

    kind: str
    shape: tuple[int, ...]
    spacing: float
    text: str
    corners: bool


@dataclass(frozen=True)
class TimeReport:
    """A time axis; `step_days` is the median step, `gaps` where it jumps."""

    start: str
    end: str
    steps: int
    calendar: str
    step_days: float | None
    frequency: str
    gaps: int
    months: tuple[int, ...]
    units: str


@dataclass(frozen=True)
class ValueReport:
    """Values of a variable, in its own units; shares of the values that were read.

    Attributes:
        read: share of all values that were read.
        fill: a fill value that the file does not declare, or None.
    """

    low: float | None
    high: float | None
    mean: float | None
    missing: float
    infinite: int
    unbelievable: float
    read: float = 1.0
    fill: float | None = None


@dataclass(frozen=True)
class VariableReport:
    """What is known of one gridded variable.

    Attributes:
        quantity: the family it was recognised as, "" if none.
        other_dimensions: dimensions beside time, latitude and longitude, with their labels.
        problems: what keeps climdown from reading it, one line each.
        suspicious: what may be wrong, one line each.
    """

    file: str
    name: str
    long_name: str
    standard_name: str
    units: str
    cell_methods: str
    quantity: str
    dimensions: dict[str, int]
    other_dimensions: dict[str, list[str]]
    grid: GridReport | None
    time: TimeReport | None
    values: ValueReport | None
    problems: tuple[str, ...]
    suspicious: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """(label, text) pairs, for people."""
        rows = [
            ("variable", f"{self.name} ({self.long_name or 'no long_name'})"),
            ("standard_name", self.standard_name or "none"),
            ("units", self.units or "none"),
            ("taken for", self.quantity or "no quantity climdown knows"),
            ("dimensions", ", ".join(f"{d}={n}" for d, n in self.dimensions.items())),
        ]
        rows += [
            (f"choose {name}", _shortened(labels))
            for name, labels in self.other_dimensions.items()
            if len(labels) > 1
        ]
        if self.cell_methods:
            rows.append(("cell_methods", self.cell_methods))
        if self.grid is not None:
            rows.append(("grid", self.grid.text))
        if self.time is not None:
            rows.append(("time", _time_text(self.time)))
        if self.values is not None:
            rows.append(("values", _values_text(self.values)))
        rows += [("not readable", text) for text in self.problems]
        rows += [("suspicious", text) for text in self.suspicious]
        return rows


def open_local(path: cf.Location) -> cf.Sources:
    """A file or Zarr store to inspect, opened.

    Raises:
        InputError: it cannot be read, or lies behind an address.
    """
    if isinstance(path, cf.Url):
        raise InputError(
            f"{path}: every value is read to inspect it, too much over a network; expected a local "
            "file or Zarr store"
        )
    return cf.Sources.open(path)


def inspect_sources(sources: cf.Sources, *, full: bool = False) -> list[VariableReport]:
    """A report for each gridded variable; none where there is no such variable.

    Args:
        full: read all values; else a sample where there are more than some millions.
    """
    return [
        _inspect(path, dataset, name, full=full)
        for path, dataset in zip(sources.paths, sources.datasets, strict=True)
        for name in cf.gridded_variables(dataset)
    ]


def _inspect(path: cf.Location, dataset: xr.Dataset, name: str, *, full: bool) -> VariableReport:
    array = dataset[name]
    family = cf.family_of_array(array)
    problems: list[str] = []
    cells = _attempt(partial(cf.cells_and_remarks, array, dataset), "grid", problems)
    suspicious = [] if cells is None else [*cells[1]]
    axis = _attempt(partial(cf.read_time_axis, array, dataset), "time", problems)
    time = None if axis is None else _attempt(partial(_time, axis), "time", problems)
    if axis is not None and time is not None:
        methods = str(array.attrs.get("cell_methods", ""))
        doubts = (axis.doubt, axis.month_doubt(methods), axis.day_doubt(methods))
        suspicious += [*suspicions_of_time(axis, dataset), *filter(None, doubts)]
    if not problems and "units" in array.attrs:
        suspicious += suspicions_of_reading(path, dataset, name, full=full)
    watch = cf.FillWatch()
    values = _readable_values(array, family, watch, problems, full=full)
    suspicious += filter(None, (one.describe(name) for one in watch.valid_ranges()))
    described = {*map(str, cf.horizontal_dims(array)), *cf.time_dims(array)}
    others = [str(d) for d in array.dims if str(d) not in described]
    names = ("long_name", "standard_name", "units", "cell_methods")
    return VariableReport(
        file=str(path),
        name=name,
        **{key: str(array.attrs.get(key, "")) for key in names},
        quantity=family.quantity.name if family is not None else "",
        dimensions={str(d): n for d, n in array.sizes.items()},
        other_dimensions={name: cf.labels(array, name) for name in others},
        grid=None if cells is None else _grid(cells[0]),
        time=time,
        values=values,
        problems=tuple(problems),
        suspicious=tuple(dict.fromkeys((*_suspicions(array, family, time, values), *suspicious))),
    )


def _attempt(read: Callable[[], T], label: str, problems: list[str]) -> T | None:
    """What `read` returns; where it cannot, None, and one more problem."""
    try:
        return read()
    except ClimdownError as error:
        problems.append(f"{label}: {error}")
        return None


def _readable_values(
    array: xr.DataArray,
    family: cf.VariableFamily | None,
    watch: cf.FillWatch,
    problems: list[str],
    *,
    full: bool,
) -> ValueReport | None:
    """The report on values; where they cannot be read, None, and one more problem."""
    try:
        return _values(array, family, watch, full=full)
    except (OSError, RuntimeError) as error:
        problems.append(f"values: {error}; the file may be damaged")
        return None


def _grid(cells: Grid | Mesh) -> GridReport:
    if isinstance(cells, Grid):
        kind, corners = "rectilinear", True
    else:
        kind = "curvilinear" if cells.lat.ndim == 2 else "unstructured"
        corners = cells.lat_vertices is not None
    return GridReport(kind, cells.shape, round(cells.spacing, 6), cells.describe(), corners)


def _time(axis: cf.TimeAxis) -> TimeReport:
    """The report on a time axis.

    Raises:
        InputError: its dates do not ascend.
    """
    cf.check_ascending(axis)
    step = axis.step_days if len(axis) > 1 else None
    return TimeReport(
        start=axis.centres[0].isoformat(),
        end=axis.centres[-1].isoformat(),
        steps=len(axis),
        calendar=axis.calendar,
        step_days=step,
        frequency=_frequency(step),
        gaps=axis.gaps,
        months=axis.months,
        units=axis.units,
    )


def _frequency(step: float | None) -> str:
    if step is None:
        return "one step"
    for name, low, high in _FREQUENCIES:
        if low <= step <= high:
            return name
    if step < 1.0 and abs(24.0 * step - round(24.0 * step)) < 1e-3:
        return f"every {round(24.0 * step)} hours"
    return f"every {step:.3g} days"


def _time_text(time: TimeReport) -> str:
    gaps = f", {_count(time.gaps, 'gap')}" if time.gaps else ""
    months = "all months" if len(time.months) == 12 else _months(time.months)
    return (
        f"{_count(time.steps, 'step')} from {time.start[:10]} to {time.end[:10]} "
        f"({time.calendar}), {time.frequency}{gaps}, {months}; {time.units}"
    )


def _months(months: tuple[int, ...]) -> str:
    return ("month " if len(months) == 1 else "months ") + ", ".join(map(str, months))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _values_text(values: ValueReport) -> str:
    infinite = f", {values.infinite} INFINITE" if values.infinite else ""
    sampled = f"; of a sample of {values.read:.2g} of all values" if values.read < 1.0 else ""
    if values.mean is None:
        return f"all missing{infinite}{sampled}"
    return (
        f"{values.low:.4g} to {values.high:.4g}, mean {values.mean:.4g}, "
        f"{values.missing:.1%} missing{infinite}{sampled}"
    )


def _values(
    array: xr.DataArray, family: cf.VariableFamily | None, watch: cf.FillWatch, *, full: bool
) -> ValueReport | None:
    """Range and share of missing values, read in blocks; None for what are no numbers."""
    if not np.issubdtype(array.dtype, np.number) or array.size == 0:
        return None
    low, high, total, count, infinite, implausible = np.inf, -np.inf, 0.0, 0, 0, 0
    read, limits = 0, _limits(array, family)
    for block in blocks(array) if full else sample(array):
        finite = block[np.isfinite(block)]
        read += block.size
        infinite += int(np.isinf(block).sum())
        watch.add(finite, array.attrs | array.encoding)
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            # Shares of the mean, so that fill values of 1e308 do not overflow.
            total, count = total + float((finite / array.size).sum()), count + finite.size
            implausible += int(((finite < limits[0]) | (finite > limits[1])).sum())
    missing, share = 1 - (count + infinite) / read, read / array.size
    if count == 0:
        return ValueReport(None, None, None, missing, infinite, 0.0, share)
    fill, mean = watch.undeclared(), total * (array.size / count)
    value = None if fill is None else fill.value
    return ValueReport(low, high, mean, missing, infinite, implausible / count, share, value)


def _limits(array: xr.DataArray, family: cf.VariableFamily | None) -> tuple[float, float]:
    """The plausible range in the variable's own units."""
    if family is None:
        return -np.inf, np.inf
    return family.range_in(str(array.attrs["units"]))


def _trace(array: xr.DataArray, family: cf.VariableFamily | None) -> float | None:
    """Below what values count as none, in the variable's own units; None if that is not known."""
    units = str(array.attrs.get("units", ""))
    if family is None or family.trace is None:
        return None
    convertible = cf.units_convertible(family.quantity.units, units)
    return family.in_units(family.trace, units) if convertible else None


def _suspicions(
    array: xr.DataArray,
    family: cf.VariableFamily | None,
    time: TimeReport | None,
    values: ValueReport | None,
) -> Iterator[str]:
    units = array.attrs.get("units")
    if units is None:
        yield "no units: climdown cannot convert it, and will not guess"
    elif not cf.units_convertible(str(units), str(units)):
        yield f"units '{units}' are unknown to UDUNITS: climdown cannot convert them"
    if "standard_name" not in array.attrs:
        yield "no standard_name: it is recognised by its name alone"
    if values is None:
        return
    if values.infinite:
        yield _count(values.infinite, "infinite value")
    yield from _implausible(array, family, values)
    if values.low is not None and values.low == values.high and array.size > 1:
        yield "all values are equal"
    if time is not None and time.gaps and len(time.months) == 12:
        gaps = _count(time.gaps, "gap")
        yield f"{gaps} in a series that has every month: steps are missing"


def _implausible(
    array: xr.DataArray, family: cf.VariableFamily | None, values: ValueReport
) -> Iterator[str]:
    if values.fill is not None:
        yield f"values of {values.fill:.7g}: a fill value that the file does not declare?"
        return
    extremes = [value for value in (values.low, values.high) if value is not None]
    for value in extremes:
        if abs(value) > FILL:
            yield f"values of {value:.4g}: a fill value that the file does not declare?"
            return
    if (trace := _trace(array, family)) is not None and 0.0 < extremes[-1] < trace:
        yield (
            f"no value is larger than {extremes[-1]:.4g} {array.attrs['units']}, a trace: are the "
            "units right?"
        )
    if values.unbelievable > 0 and family is not None:
        low, high = _limits(array, family)
        cause = "are the units right?" if values.unbelievable > _MANY else "a fill value?"
        yield (
            f"{values.unbelievable:.2%} of the values lie outside {low:.4g} to {high:.4g} "
            f"{array.attrs['units']}, unbelievable for {family.quantity.name}: {cause}"
        )


def _shortened(labels: list[str], most: int = 12) -> str:
    return ", ".join(labels[:most]) + (f", ... ({len(labels)})" if len(labels) > most else "")
