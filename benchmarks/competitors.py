"""Methods that the scoreboard compares, by name, and what they draw in the real pipeline."""

from __future__ import annotations

import ast
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from netCDF4 import Dataset
from torch import Tensor

from benchmarks.judging import Written
from climdown import cf
from climdown.arrays import Dates, Floats
from climdown.config import RunConfig, VariableConfig
from climdown.errors import ConfigError
from climdown.grid import Grid
from climdown.inputs.onto import onto
from climdown.methods.method import Method
from climdown.methods.registry import find_method
from climdown.options import options_of
from climdown.pipeline.choices import choose
from climdown.pipeline.execution import execute
from climdown.pipeline.observer import Observer
from climdown.pipeline.plan import Plan
from climdown.pipeline.planning import make_plan
from climdown.priors.prior import Prior

# A run over few days takes them in stretches spread over the input: at most so many, of at least
# so many days, since each adjusts all of the input.
_STRETCHES, _STRETCH_DAYS = 12, 4


@dataclass(frozen=True)
class Competitor:
    """A method of `climdown run` with settings of its own, under a name in the tables.

    Attributes:
        settings: entries of `RunConfig`, the method and its options among them.
    """

    label: str
    settings: Mapping[str, Any]

    @property
    def method(self) -> Method:
        """What it declares."""
        return find_method(self.settings["method"])

    def prior(self, priors: Mapping[str, Prior]) -> Prior | None:
        """The first that it can use of priors by kind."""
        kinds = self.method.prior_kinds
        return next((prior for kind, prior in priors.items() if kind in kinds), None)

    def configure(self, entries: Mapping[str, Any]) -> RunConfig:
        """The configuration of a run; a method that draws nothing has one member.

        Raises:
            ConfigError: the method cannot have these.
        """
        members = {} if self.method.members > 1 else {"members": None}
        config = RunConfig(**{**entries, **members, **self.settings})
        choose(config)
        return config


def parse_competitor(word: str) -> Competitor:
    """A method as "NAME[:OPTION=VALUE...]", as `climdown run` has them: "cm:steps=4".

    Raises:
        ConfigError: `climdown run` has no such method or option.
    """
    name, *entries = word.split(":")
    option_names = {option.name for option in options_of(find_method(name).Options)}
    settings: dict[str, Any] = {"method": name, "options": {}}
    for entry in entries:
        key, _, text = entry.partition("=")
        if key in option_names:
            settings["options"][key] = _value(text)
        elif key in {field.name for field in fields(RunConfig)}:
            settings[key] = _value(text)
        else:
            raise ConfigError(f"{word}: unknown option '{key}'")
    return Competitor(word, settings)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a method made of an input.

    Attributes:
        files: with the members, one for each stretch.
        guide: what guided them, on `grid`, NaN where nothing did, shape (time, cy, cx).
        raw: the input before any adjustment, on all cells of `grid`.
        seconds, evaluations: see `Written`.
    """

    files: tuple[Path, ...]
    guide: dict[str, Floats]
    raw: dict[str, Floats]
    grid: Grid
    dates: list[Any]
    seconds: float
    evaluations: int | None

    @property
    def axis(self) -> cf.TimeAxis:
        """All days of the files."""
        return cf.time_axis(self.dates, units="days since 1900-01-01")

    @property
    def written(self) -> Written:
        """The files and their cost."""
        return Written(self.files, self.seconds, self.evaluations)

    def members(self, variable: VariableConfig) -> Floats:
        """Its values in all files, in these units, shape (time, member, ny, nx)."""
        parts = []
        for path in self.files:
            with Dataset(path) as file:
                stored = np.ma.filled(file[variable.name][:].astype(np.float32), np.nan)
                units = file[variable.name].units
            parts.append(cf.convert_units(stored, units, variable.units).astype(np.float32))
        return np.concatenate(parts)


def draw_all(
    methods: Sequence[Competitor],
    priors: Mapping[str, Prior],
    inputs: Sequence[Path],
    entries: Mapping[str, Any],
    folder: Path,
    periods: Sequence[str | None] = (None,),
) -> dict[str, Drawn]:
    """What the methods make of an input; one that cannot run on it is reported and left out.

    Args:
        folder: of their outputs.
        priors: by kind; methods of other kinds are left out.
        entries: of `RunConfig`, but for the method's own.
    """
    drawn = {}
    for place, method in enumerate(methods):
        prior = method.prior(priors)
        if prior is None:
            continue
        try:
            config = method.configure(entries)
            drawn[method.label] = draw(prior, inputs, config, folder / str(place), periods)
        except ConfigError as error:
            print(f"\n{method.label}: left out, {error}")
    return drawn


def draw(
    prior: Prior,
    inputs: Sequence[Path],
    config: RunConfig,
    folder: Path,
    periods: Sequence[str | None] = (None,),
) -> Drawn:
    """Run the pipeline on stretches of an input; all of it takes part in a bias adjustment."""
    folder.mkdir(parents=True)
    if len(periods) > 1:
        full_plan = make_plan(inputs, folder / "whole.nc", prior=prior, config=config)
        # A choice that the input decides is that of all of it.
        names = {option.name for option in options_of(full_plan.method.Options)}
        decided = {name: value for name, value in full_plan.decided.items() if name in names}
        config = replace(config, options={**config.options, **decided})
    return _joined(
        [
            _stretch(prior, inputs, replace(config, period=period), folder / f"{i}.nc")
            for i, period in enumerate(periods)
        ]
    )


def _stretch(prior: Prior, inputs: Sequence[Path], config: RunConfig, output: Path) -> Drawn:
    plan = make_plan(inputs, output, prior=prior, config=config)
    reached: list[float] = []
    execute(plan, command="scoreboard", progress=lambda *_: reached.append(time.monotonic()))
    names = [v.name for v in plan.variables]
    values = _guiding_values(plan)
    guide: dict[str, Floats] = {
        n: x.cpu().numpy().astype(np.float64) for n, x in zip(names, values, strict=True)
    }
    raw: dict[str, Floats] = {
        n: onto(plan.fields[n], plan.filter_grid).read(slice(0, len(plan.time))) for n in names
    }
    return Drawn(
        files=(output,),
        guide=guide,
        raw=raw,
        grid=plan.filter_grid,
        dates=list(plan.time.dates),
        seconds=(reached[-1] - reached[0]) / plan.total,
        evaluations=plan.decided.get("steps"),
    )


def _guiding_values(plan: Plan) -> list[Tensor]:
    """Coarse values of all steps, adjusted as the run adjusted them."""
    with tempfile.TemporaryDirectory() as folder:
        adjusted = plan.adjusted
        readers = {} if adjusted is None else adjusted.readers(Path(folder), plan.device.type)
        observer = Observer(plan.prior, plan.fields, plan.filter_grid, plan.device, readers)
        return observer.coarse_values(slice(0, len(plan.time)))


def _joined(parts: Sequence[Drawn]) -> Drawn:
    def along_time(name: str) -> dict[str, Floats]:
        parts_of_time = [getattr(part, name) for part in parts]
        return {v: np.concatenate([one[v] for one in parts_of_time]) for v in parts_of_time[0]}

    return replace(
        parts[0],
        files=tuple(path for part in parts for path in part.files),
        guide=along_time("guide"),
        raw=along_time("raw"),
        dates=[date for part in parts for date in part.dates],
        seconds=float(np.median([part.seconds for part in parts])),
    )


def stretches(axis: cf.TimeAxis, period: str | None, days: int | None) -> list[str | None]:
    """Stretches of so many days in all, evenly spread over a period; all of it without a number."""
    dates = axis.dates[axis.select(period)]
    if days is None or days >= len(dates):
        return [_period(dates)]
    count = min(_STRETCHES, max(1, days // _STRETCH_DAYS))
    length = days // count
    starts = np.linspace(0, len(dates) - length, count).round().astype(int)
    return [_period(dates[start : start + length]) for start in starts.tolist()]


def _period(dates: Dates) -> str:
    return "/".join(f"{d.year:04d}-{d.month:02d}-{d.day:02d}" for d in (dates[0], dates[-1]))
