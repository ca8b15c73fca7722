"""What a prior learns from: training data opened, masked, split and normalised, out of core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from climdown import cf, regrid
from climdown.arrays import Float32, Floats, Index, Mask
from climdown.config import DataConfig, PriorConfig, VariableConfig
from climdown.errors import ConfigError, InputError
from climdown.grid import Grid
from climdown.inputs.checks import check_reading
from climdown.inputs.targets import target_grid
from climdown.metrics.spectra import tapered_spectrum
from climdown.priors.card import Card, Variable
from climdown.priors.gaussian import Patterns, to_fields
from climdown.priors.tensors import climatology_field, quantiles_field, spectrum_field
from climdown.training.climatology import VariableStatistics, normalised_pattern
from climdown.training.lags import lag_one_autocorrelations
from climdown.training.patterns import BLOCKS, find_patterns
from climdown.training.reader import FieldReader, shared_exactness
from climdown.training.samples import Dataset, Samples
from climdown.transforms import Chain

GRAVITY = 9.80665  # m s-2, the constant of CF and ECMWF
_SIGMA_DATA = 1.0
_SPECTRUM_FIELDS = 256
_STRETCH = 5  # days that are judged one after the other


def prepare(config: PriorConfig, data: Path) -> Dataset:
    """Open, mask, split and normalise the training data; statistics take one pass over them.

    Args:
        data: folder below which the configuration's files lie; addresses are taken as they are.

    Raises:
        InputError: a file or variable is missing, grids or times differ between variables.
        ConfigError: training and validation periods overlap.
    """
    opened = _open_all(config.data, data)
    grid = opened[0].grid
    dates = _chosen_dates(config.data, opened)
    train_days, validation_days = _split(config, opened[0], dates)
    reader = FieldReader(opened, dates, cache_bytes=int(config.data.cache_gib * 2**30))
    counted = cf.evenly(train_days, config.data.statistics_fields)
    statistics = _collect(config, reader, counted, grid)
    orography = _location(config.data.orography, data)
    fields = _static_fields(orography, grid, dates[train_days[0]])
    masks = _masks(config.data, statistics)
    fields["mask"] = masks.astype(np.float32)
    months = [int(dates[i].month) for i in counted]
    train_months = sorted({int(dates[i].month) for i in train_days})
    chains = []
    for entry, collected, mask in zip(config.data.variables, statistics, masks, strict=True):
        chain = collected.transform(entry.name, mask)
        chains.append(chain)
        fields |= _climatology(entry.name, collected, mask, chain)
        fields[quantiles_field(entry.name)] = collected.quantiles(months, among=train_months)
    step_days = _step_days(dates, opened[0])

    def samples(days: Index) -> Samples:
        calendar = cf.calendar_conditions([dates[i] for i in days], step_days)
        group = torch.zeros(len(days), dtype=torch.long)
        return Samples(reader, days, tuple(chains), masks, torch.from_numpy(calendar), group)

    train = samples(train_days)
    fields |= _spectra(config, train)
    train_dates = [dates[i] for i in train_days]
    lags = lag_one_autocorrelations(train, train_dates, step_days, factor=config.data.coarse_factor)
    patterns: tuple[Patterns, ...] = ()
    if config.network.patterns:
        train, patterns = _with_patterns(config, train)
        for entry, part in zip(config.data.variables, patterns, strict=True):
            fields |= to_fields(entry.name, part)
    card = _card(config, grid, step_days, train_dates, chains, lags)
    return Dataset(card, fields, train, samples(validation_days), patterns)


def validation_days(
    config: PriorConfig, data: Path, most: int
) -> tuple[cf.TimeAxis, dict[str, Float32]]:
    """Fields that were kept from training, at most so many, in stretches over their period.

    Returns:
        their time axis, and by variable values in its units, shape (time, ny, nx).

    Raises:
        InputError, ConfigError: as of `prepare`.
    """
    opened = _open_all(config.data, data)
    dates = _chosen_dates(config.data, opened)
    _, kept_back = _split(config, opened[0], dates)
    chosen = kept_back[_stretches(len(kept_back), most)]
    values = FieldReader(opened, dates, cache_bytes=0).read(chosen)
    axis = cf.time_axis([dates[i] for i in chosen], units="days since 1850-01-01")
    return axis, {entry.name: values[:, i] for i, entry in enumerate(config.data.variables)}


def _stretches(count: int, most: int) -> Index:
    """At most so many of some steps, in stretches of consecutive ones, evenly spread."""
    if count <= most:
        return np.arange(count)
    length = min(_STRETCH, most)
    starts = np.linspace(0, count - length, most // length).round().astype(np.intp)
    return np.unique(starts[:, None] + np.arange(length))


def _masks(config: DataConfig, statistics: Sequence[VariableStatistics]) -> Mask:
    """Where each variable is observed often enough, shape (variables, ny, nx)."""
    masks = np.stack([collected.mask(config.min_valid) for collected in statistics])
    for entry, mask in zip(config.variables, masks, strict=True):
        if not mask.any():
            raise InputError(
                f"no cell of {entry.name} is observed on {config.min_valid:.0%} of the training "
                "days; lower data.min_valid"
            )
    return masks


def _climatology(
    name: str, collected: VariableStatistics, mask: Mask, chain: Chain
) -> dict[str, Floats]:
    """A variable's mean of each cell, and that as a conditioning field."""
    mean = collected.climatology(mask)
    pattern = normalised_pattern(mean, mask, chain)
    return {climatology_field(name): mean, f"pattern_{name}": pattern}


def _location(name: str, data: Path) -> cf.Location:
    return cf.Url(name) if "://" in name else data / name


def _open_all(config: DataConfig, data: Path) -> list[cf.Field]:
    """The fields of each variable, all on one grid."""
    first, *others = opened = [_open(entry, config, data) for entry in config.variables]
    for field in others:
        if field.grid.digest != first.grid.digest:
            raise InputError(
                f"{cf.describe_paths(field.paths)}: the grid differs from that of {first.paths[0]}"
            )
    return opened


def _open(entry: VariableConfig, config: DataConfig, data: Path) -> cf.Field:
    quantity = cf.Quantity(entry.name, entry.standard_names, entry.names, entry.units, entry.level)
    files = entry.files or config.files
    field = cf.open_field([_location(name, data) for name in files], quantity)
    check_reading([field])
    if config.grid is None:
        return field
    grid = target_grid(config.grid)
    weights = regrid.weights(field.cells, grid, "conservative")
    return field.regridded(grid, partial(weights.apply, min_coverage=config.min_valid))


def _chosen_dates(config: DataConfig, fields: Sequence[cf.Field]) -> list[Any]:
    """The dates that all variables share, of the months and hours asked for, ascending."""
    exact = shared_exactness(fields)
    common = set.intersection(*(set(cf.date_keys(f.time.centres, exact)) for f in fields))
    if not common or len({field.time.shared_calendar for field in fields}) > 1:
        raise InputError("the training variables share no time step")
    axis = fields[0].time
    keys = cf.date_keys(axis.centres, exact)
    chosen = [
        date
        for date, stamp, key in zip(axis.centres, axis.dates, keys, strict=True)
        if key in common
        and (not config.months or date.month in config.months)
        # Archives name their steps by stamps: a daily mean belongs to no hour.
        and (not config.hours or stamp.hour in config.hours)
    ]
    if not chosen:
        raise InputError(
            f"no time step is left of months {list(config.months)} and hours {list(config.hours)}; "
            f"the data have {fields[0].time.describe()}"
        )
    return chosen


def _step_days(dates: Sequence[Any], field: cf.Field) -> float:
    """The median step between the chosen dates, which hours may have thinned."""
    if len(dates) == len(field.time) or len(dates) < 2:
        return float(field.time.step_days)
    steps = np.diff(np.array(dates))
    return float(np.median([step.total_seconds() for step in steps])) / 86400.0


def _collect(
    config: PriorConfig, reader: FieldReader, days: Index, grid: Grid
) -> list[VariableStatistics]:
    coarse = grid.coarsen(config.data.coarse_factor)
    statistics = [
        VariableStatistics(grid, coarse, offset=e.offset if e.transform == "log" else None)
        for e in config.data.variables
    ]
    for start in range(0, len(days), reader.block):
        values = reader.read(days[start : start + reader.block])
        for variable, collected in enumerate(statistics):
            collected.add(values[:, variable])
    for field in reader.fields:
        field.refuse_misread()
    return statistics


def _spectra(config: PriorConfig, train: Samples) -> dict[str, Float32]:
    """Spectra of the normalised fields, from some spread over training."""
    x, _, _ = train.take(cf.evenly(np.arange(len(train)), _SPECTRUM_FIELDS))
    spectra = {}
    for i, entry in enumerate(config.data.variables):
        _, power = tapered_spectrum(x[:, i].double().numpy(), train.mask[i])
        spectra[spectrum_field(entry.name)] = power.astype(np.float32)
    return spectra


def _with_patterns(config: PriorConfig, train: Samples) -> tuple[Samples, tuple[Patterns, ...]]:
    """Patterns of each variable, and the training fields with the group that left them out."""
    n = len(train)
    group = np.arange(n) * BLOCKS // n
    chosen = cf.evenly(np.arange(n), config.data.statistics_fields)
    blocks = [np.flatnonzero(group[chosen] == block) for block in range(BLOCKS)]
    patterns = []
    for variable, mask in enumerate(train.mask):
        # One variable at a time: all days of it are held in memory.
        rows = [
            train.take(chosen[start : start + train.reader.block])[0][:, variable].numpy()[:, mask]
            for start in range(0, len(chosen), train.reader.block)
        ]
        patterns.append(find_patterns(np.concatenate(rows), blocks, config.network.patterns))
    return replace(train, group=torch.from_numpy(group + 1)), tuple(patterns)


def _split(config: PriorConfig, field: cf.Field, dates: Sequence[Any]) -> tuple[Index, Index]:
    index = {date: i for i, date in enumerate(dates)}

    def days(period: str) -> set[int]:
        chosen = field.time.centres[field.time.select(period)]
        return {index[date] for date in chosen if date in index}

    train, validation = days(config.data.train), days(config.data.validation)
    if shared := train & validation:
        raise ConfigError(f"training and validation share {len(shared)} time steps")
    for name, chosen in (("training", train), ("validation", validation)):
        if not chosen:
            raise InputError(f"no time step that all variables share lies in the {name} period")
    return np.array(sorted(train), dtype=np.intp), np.array(sorted(validation), dtype=np.intp)


# A static field's standard names, usual names, and what turns it into the conditioning field.
_STATICS = (
    ("orography", {"surface_geopotential"}, {"geopotential_at_surface"}, 1e-3 / GRAVITY),
    ("orography", {"surface_altitude"}, {"orog"}, 1e-3),
    ("land_fraction", {"land_area_fraction", "land_binary_mask"}, {"land_sea_mask", "lsm"}, 1.0),
)


def _static_fields(path: cf.Location, grid: Grid, date: Any) -> dict[str, Floats]:
    """Orography (km) and land fraction on a grid, from surface geopotential or altitude.

    Archives repeat static fields at every step, even at such as hold no data yet: `date` is one
    that does.
    """
    dataset = cf.open_dataset(path)
    fields: dict[str, Floats] = {}
    for name in cf.gridded_variables(dataset):
        standard_name = str(dataset[name].attrs.get("standard_name"))
        for target, standard_names, names, scale in _STATICS:
            if target not in fields and (standard_name in standard_names or name in names):
                source, array = cf.horizontal_cells(dataset[name], dataset)
                array = _at(array, dataset, date)
                leading = array.dims[: array.ndim - len(source.shape)]
                array = array.isel(dict.fromkeys(leading, 0))
                values = np.asarray(array.values, dtype=np.float64) * scale
                regridded = regrid.weights(source, grid, "conservative").apply(values)
                fields[target] = regridded.astype(np.float32)
    if missing := {"orography", "land_fraction"} - set(fields):
        raise InputError(
            f"{path}: no variable for {' and '.join(sorted(missing))}; expected standard_name "
            "surface_geopotential or surface_altitude, and land_area_fraction"
        )
    for name, static in fields.items():
        if not np.isfinite(static).all():
            raise InputError(f"{path}: {name} does not cover the grid ({grid.describe()})")
    return fields


def _at(array: Any, dataset: Any, date: Any) -> Any:
    """The step of a date where the array has it."""
    if not cf.has_time(array):
        return array
    axis = cf.read_time_axis(array, dataset)
    dates, along = list(axis.centres), str(array[axis.name].dims[0])
    return array.isel({along: dates.index(date)}) if date in dates else array


def _card(
    config: PriorConfig,
    grid: Grid,
    step_days: float,
    train_dates: Sequence[Any],
    chains: Sequence[Chain],
    lags: Sequence[float],
) -> Card:
    variables = tuple(map(_variable, config.data.variables, chains))
    patterns = tuple(f"pattern_{entry.name}" for entry in config.data.variables)
    return Card(
        name=config.name,
        title=config.title,
        kind="diffusion" if config.consistency is None else "consistency",
        variables=variables,
        months=tuple(sorted({int(date.month) for date in train_dates})),
        step_days=step_days,
        coarse_factor=config.data.coarse_factor,
        statics=("orography", "land_fraction", *patterns),
        sigma_data=_SIGMA_DATA,
        sigma_min=0.0 if config.consistency is None else config.consistency.sigma_min,
        grid=grid,
        network=config.network,
        sampling=config.sampling,
        licence=config.data.licence,
        training=_training_entries(config, len(train_dates)),
        files={},
        lag_correlation={v.name: round(lag, 4) for v, lag in zip(variables, lags, strict=False)},
    )


def _variable(entry: VariableConfig, chain: Chain) -> Variable:
    return Variable(
        name=entry.name,
        standard_names=entry.standard_names,
        names=entry.names,
        long_name=entry.long_name,
        units=entry.units,
        cell_methods=entry.cell_methods,
        transform=tuple(chain.to_list()),
        minimum=entry.minimum,
        trace=entry.trace,
        level=entry.level,
    )


def _training_entries(config: PriorConfig, fields: int) -> dict[str, Any]:
    """What the card says of the training, for people."""
    return {
        "attribution": config.data.attribution,
        "train": config.data.train,
        "validation": config.data.validation,
        "fields": fields,
        **asdict(config.training),
        **({} if config.consistency is None else asdict(config.consistency)),
    }
