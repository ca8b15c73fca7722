"""Days of several variables as points: what optimal transport moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from climdown import cf
from climdown.adjust.series import Climatology, Series
from climdown.arrays import AnyArray, Dates, Float32, Index, Mask
from climdown.errors import ConfigError, InputError
from climdown.transforms import Log

# Of reference, historical and simulation together; what is made of them takes twice as much.
_MOST_BYTES = 4 << 30
_READ_BYTES = 64 << 20
_NEARLY_ALWAYS = 0.95
_NAMES = {"ref": "reference", "hist": "historical simulation", "sim": "simulation"}


@dataclass(frozen=True, eq=False)
class _Sample:
    """Fields of one sample on the dates they share.

    Attributes:
        fields: one per variable.
        rows: for every field, the row of each of its steps, or -1; shape (time,).
        dates: of the rows.
    """

    fields: tuple[cf.Field, ...]
    rows: tuple[Index, ...]
    dates: Dates


@dataclass(frozen=True)
class AmountColumns:
    """Columns of a variable that has no negative values and changes by factors.

    Attributes:
        name: in the simulation's files.
        columns: where they are.
        transform: what normalised them.
        trace: less is none, in the variable's units; None where it is not often zero.
    """

    name: str
    columns: slice
    transform: Log | None
    trace: float | None

    def forward(self, amounts: Float32) -> Float32:
        """Normalised amounts."""
        return amounts if self.transform is None else _forward(self.transform, amounts)

    def inverse(self, values: Float32) -> Float32:
        """Amounts in the variable's units, of normalised ones."""
        return values if self.transform is None else _inverse(self.transform, values)


class Columns:
    """Days as rows, cells of all variables as columns, in normalised units.

    Only cells that have values in all three samples are columns.

    Args:
        series: one per variable, on one grid.

    Attributes:
        ref, hist, sim: shape (days, columns).
        dates: of the days, by sample.
        cells: which cells of all variables are columns, shape (variables * cells,).
        spans: the columns of each variable.
        amounts: those of variables that are amounts.

    Raises:
        InputError: grids, dates or cells that do not fit, or more than memory holds.
        ConfigError: a reference of quantiles.
    """

    def __init__(self, series: Sequence[Series]) -> None:
        self._check(series)
        self.series = series
        self.transforms = [_transform(one.sim) for one in series]
        samples = {name: _sample(name, [getattr(one, name) for one in series]) for name in _NAMES}
        self.dates = {name: sample.dates for name, sample in samples.items()}
        self._check_size()
        values = {name: self._read(sample) for name, sample in samples.items()}
        self.cells = np.logical_and.reduce([_mostly_valid(array) for array in values.values()])
        self._check_cells()
        counts = [cells.sum() for cells in np.split(self.cells, len(series))]
        self.spans = [slice(*pair) for pair in pairwise(accumulate(counts, initial=0))]
        self.amounts = self._amounts()
        self.ref, self.hist, self.sim = (values.pop(name)[:, self.cells] for name in _NAMES)

    def rows(self, name: str, months: frozenset[int]) -> Index:
        """Days of a sample in these months that are complete."""
        complete = np.isfinite(getattr(self, name)).all(axis=1)
        inside = np.array([date.month in months for date in self.dates[name]])
        return np.flatnonzero(complete & inside)

    def fields(self, rows: Float32) -> list[Float32]:
        """Rows in the simulation's units as fields, one per variable."""
        shape = self.series[0].grid.shape
        parts = np.split(self.on_grid(rows), len(self.series), axis=1)
        return [part.reshape(-1, *shape) for part in parts]

    def on_grid(self, rows: Float32) -> Float32:
        """Columns in their places among all cells of all variables, NaN elsewhere."""
        everywhere = np.full((len(rows), self.cells.size), np.nan, dtype=np.float32)
        everywhere[:, self.cells] = rows
        return everywhere

    def _amounts(self) -> list[AmountColumns]:
        fields = [one.sim for one in self.series]
        return [
            AmountColumns(field.source_name, span, transform, _trace(field))
            for field, span, transform in zip(fields, self.spans, self.transforms, strict=True)
            if (family := cf.family_of_field(field)) is not None and family.kind == "multiplicative"
        ]

    def _check(self, series: Sequence[Series]) -> None:
        first = series[0]
        for one in series:
            if isinstance(one.ref, Climatology):
                raise ConfigError(
                    f"prior {one.ref.prior} carries quantiles, which say nothing of how cells and "
                    "variables go together (its data's licence may not allow more); give files of "
                    "observations as --ref"
                )
            if one.grid.digest != first.grid.digest:
                raise InputError(
                    f"{cf.describe_paths(one.sim.paths)}: {one.sim.source_name} lies on another "
                    f"grid than {first.sim.source_name}; give --grid"
                )

    def _check_cells(self) -> None:
        for one, cells in zip(self.series, np.split(self.cells, len(self.series)), strict=True):
            if not cells.any():
                assert isinstance(one.ref, cf.Field)
                ref, hist, sim = (cf.describe_paths(f.paths) for f in (one.ref, one.hist, one.sim))
                raise InputError(
                    f"no cell has {one.sim.source_name} on nearly all days of the reference "
                    f"({ref}), the historical simulation ({hist}) and the simulation ({sim}); "
                    "give files that share cells, or leave the variable out"
                )

    def _check_size(self) -> None:
        columns = len(self.series) * self.series[0].sim.grid.areas.size
        size = 4 * columns * sum(map(len, self.dates.values()))
        if size > _MOST_BYTES:
            where = cf.describe_paths(self.series[0].sim.paths)
            raise InputError(
                f"{where}: transport would hold {size / 2**30:.1f} GiB of days in memory, and "
                f"takes at most {_MOST_BYTES / 2**30:.0f} GiB; give it a coarser grid, fewer "
                "variables or fewer years"
            )

    def _read(self, sample: _Sample) -> Float32:
        """All variables side by side, normalised."""
        cells = self.series[0].sim.grid.areas.size
        values = np.empty((len(sample.dates), cells * len(sample.fields)), dtype=np.float32)
        steps = max(1, _READ_BYTES // (8 * cells))
        for i, (field, rows) in enumerate(zip(sample.fields, sample.rows, strict=True)):
            for start in range(0, len(rows), steps):
                block_rows = rows[start : start + steps]
                block = field.read(slice(start, start + steps)).reshape(-1, cells)[block_rows >= 0]
                if np.isinf(block).any():
                    raise InputError(f"{field.where} has infinite values; set them to missing")
                transform = self.transforms[i]
                block = block if transform is None else _forward(transform, block)
                values[block_rows[block_rows >= 0], i * cells : (i + 1) * cells] = block
            field.refuse_misread()
        return values


def _sample(name: str, fields: Sequence[cf.Field]) -> _Sample:
    """The days that all variables have; a simulation must have the same in all."""
    exact = max(cf.exactness(field.time.step_days) for field in fields)
    days = [cf.date_keys(field.time.centres, exact) for field in fields]
    common = set(days[0]).intersection(*days[1:])
    for field, field_days in zip(fields, days, strict=True):
        if not common or (name == "sim" and len(field_days) > len(common)):
            raise InputError(
                f"{cf.describe_paths(field.paths)}: of the {len(field_days)} days of "
                f"{field.source_name} "
                f"the variables of the {_NAMES[name]} share {len(common)}; give them "
                f"{'the same days' if name == 'sim' else 'days in common'}"
            )
    place = {day: row for row, day in enumerate(sorted(common))}
    rows = tuple(
        np.array([place.get(day, -1) for day in field_days], dtype=np.intp) for field_days in days
    )
    return _Sample(tuple(fields), rows, fields[0].time.centres[rows[0] >= 0])


def _trace(field: cf.Field) -> float | None:
    """Less is none, in the field's units."""
    family = cf.family_of_field(field)
    if family is None or family.trace is None:
        return None
    return family.in_units(family.trace, field.quantity.units)


def _transform(field: cf.Field) -> Log | None:
    """The logarithm for quantities that are often zero, its offset twice the trace."""
    trace = _trace(field)
    return None if trace is None else Log(offset=2.0 * trace)


def _forward(transform: Log, values: Float32) -> Float32:
    return np.asarray(transform.forward(values.astype(np.float64)), np.float32)


def _inverse(transform: Log, values: Float32) -> Float32:
    """The way back; less than the trace is none."""
    amounts: AnyArray = transform.inverse(values.astype(np.float64))
    return np.where(amounts < 0.5 * transform.offset, 0.0, amounts).astype(np.float32)


def _mostly_valid(values: Float32) -> Mask:
    """Columns whose values are there on nearly all days."""
    return np.asarray(np.isfinite(values).mean(axis=0) > _NEARLY_ALWAYS)
