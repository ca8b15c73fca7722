"""Quantile delta mapping of a variable with every choice made."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from climdown import cf
from climdown.adjust.options import QDMOptions
from climdown.adjust.periods import window_of_years
from climdown.adjust.possible import warn_of_unknown
from climdown.adjust.series import Climatology, Series, shared_months
from climdown.arrays import Float64
from climdown.bias import quantile
from climdown.bias.grouping import Grouping
from climdown.bias.stored_map import MapSettings, StoredMap
from climdown.errors import ConfigError

_QUANTILES, _RAIN_QUANTILES = 100, 500
_TAILS = {"constant": "constant correction", "extremes": "out to the extremes"}


@dataclass(frozen=True)
class Settings:
    """Quantile delta mapping of one variable, every choice made.

    Attributes:
        nodes: number of quantiles, the extremes not counted.
        dry: precipitation below this is none, in the simulation's units; None if it does not apply.
        limits: what the quantity lies between, in the simulation's units; None if unknown.
    """

    kind: quantile.Kind
    grouping: Grouping
    nodes: int
    dry: float | None
    options: QDMOptions
    limits: cf.Limits | None = None

    @property
    def probabilities(self) -> Float64:
        """Of the quantiles, the extremes' 0 and 1 included, shape (nodes,)."""
        inner = quantile.nodes(self.nodes)
        extremes = self.options.tails == "extremes"
        return np.concatenate([[0.0], inner, [1.0]]) if extremes else inner

    def describe(self) -> str:
        """One line for people and for the output's attributes."""
        group = {"none": "all days together", "month": "by calendar month"}.get(
            self.grouping.kind, f"by day of the year, {self.grouping.window} days around it"
        )
        options = self.options
        bound = f", ratio at most {options.max_ratio:g}" if self.kind == "multiplicative" else ""
        years = "" if options.years is None else f", ranked within {options.years} years"
        if options.ranks == "hist":
            years = ", ranked among the historical values"
        return (
            f"quantile delta mapping (Cannon et al. 2015), {self.kind}, {self.nodes} quantiles, "
            f"{group}, {options.interpolation} between them, beyond them {_TAILS[options.tails]}"
            f"{bound}{years}"
        )


def choose_settings(series: Series, options: QDMOptions) -> Settings:
    """Kind, number of quantiles and dry threshold for a variable.

    Raises:
        ConfigError: a grouping, tail or number of quantiles that the prior does not have.
    """
    sim = series.sim
    family = cf.family_of_field(sim)
    trace = None if family is None else family.trace
    limits = cf.physical_limits(sim.quantity)
    kind = options.kind
    if kind == "auto":
        kind = _usual_kind(sim, family, limits)
    dry = None
    if family is not None and trace is not None and kind == "multiplicative":
        threshold = trace if options.dry_threshold is None else options.dry_threshold
        dry = family.in_units(threshold, sim.quantity.units)
    nodes = options.quantiles or (_QUANTILES if trace is None else _RAIN_QUANTILES)
    if isinstance(series.ref, Climatology):
        nodes = series.ref.quantiles.shape[1]
        _check_options(series.ref.prior, nodes, options)
    options = replace(options, years=window_of_years(sim.time.centres, options.years))
    return Settings(kind, Grouping(options.group, options.window), nodes, dry, options, limits)


def _usual_kind(
    sim: cf.Field, known: cf.VariableFamily | None, limits: cf.Limits | None
) -> quantile.Kind:
    """Ratios for amounts, differences for the rest; what is unknown is told to be taken so."""
    if known is not None:
        return known.kind
    if limits is None:
        warn_of_unknown(sim)
        return "additive"
    return "additive" if limits.bounded else "multiplicative"


def _check_options(prior: str, nodes: int, options: QDMOptions) -> None:
    if options.group == "dayofyear":
        raise ConfigError(
            f"prior {prior} carries quantiles by month and of all its months; choose group month "
            "or none, or give observations as the reference"
        )
    if options.tails == "extremes":
        raise ConfigError(
            f"prior {prior} does not carry the extremes; choose tails constant, or give "
            "observations as the reference"
        )
    if options.quantiles not in (None, nodes):
        raise ConfigError(
            f"prior {prior} carries {nodes} quantiles of this variable, not {options.quantiles}; "
            "leave the number out, or give observations as the reference"
        )


def settings_of_map(stored: StoredMap, options: QDMOptions, sim: cf.Field) -> Settings:
    """The settings a kept map was trained with; the rest as the options say.

    Args:
        sim: the simulation in the map's units.

    Raises:
        ConfigError: an option asks for another training.
    """
    training, default = stored.settings, QDMOptions()
    nodes = stored.nodes.size - (2 if training.tails == "extremes" else 0)
    trained = {
        "kind": training.kind,
        "quantiles": nodes,
        "group": training.group,
        "window": training.window,
        "tails": training.tails,
        "dry_threshold": training.dry,
    }
    for name, value in trained.items():
        if getattr(options, name) not in (getattr(default, name), value):
            option = name.replace("_", "-")
            raise ConfigError(
                f"{stored.path} was trained with {name.replace('_', ' ')} {value}; leave "
                f"--{option} out, or train another map"
            )
    grouping = Grouping(training.group, training.window)
    years = window_of_years(sim.time.centres, options.years)
    options = replace(
        options, group=training.group, window=training.window, tails=training.tails, years=years
    )
    limits = cf.physical_limits(sim.quantity)
    return Settings(training.kind, grouping, nodes, training.dry, options, limits)


def map_settings(series: Series, settings: Settings) -> MapSettings:
    """What a map must keep to be applied later."""
    quantity = series.sim.quantity
    return MapSettings(
        variable=quantity.name,
        standard_names=quantity.standard_names,
        names=quantity.names,
        units=quantity.units,
        level=quantity.level,
        kind=settings.kind,
        tails=settings.options.tails,
        group=settings.grouping.kind,
        window=settings.grouping.window,
        months=tuple(sorted(shared_months(series))),
        dry=settings.dry,
    )
