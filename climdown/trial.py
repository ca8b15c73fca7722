"""A trial of a prior: validation days are averaged over coarse cells and downscaled again.

What comes out is judged as `climdown evaluate` judges, beside methods that draw nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from climdown import cf, pipeline, regrid, stream
from climdown.arrays import Floats
from climdown.config import PriorConfig, RunConfig
from climdown.errors import ConfigError
from climdown.evaluation.evaluate import evaluate
from climdown.evaluation.request import Request
from climdown.files import place_text
from climdown.grid import Grid
from climdown.methods.method import Method
from climdown.methods.registry import methods, plain_baselines
from climdown.priors.card import CARD_FILE, README_FILE, Card
from climdown.priors.prior import Prior, read_prior
from climdown.priors.skill import ENTRY, Skill, skill_table
from climdown.training.data import validation_days
from climdown.training.fit import model_card

DAYS, MEMBERS = 30, 8
_HEADING = "## On days that it was kept from"

Progress = Callable[[int, int], None]


def judge_prior(
    folder: Path,
    config: PriorConfig,
    data: Path,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    days: int = DAYS,
    members: int = MEMBERS,
    progress: Progress | None = None,
) -> Prior:
    """Judge a finished prior on its validation days, and write what comes out on its card.

    Args:
        folder: of the prior; its card gets an entry and its README a section.
        config, data: by which it was trained.
        days: at most so many, in stretches over the period.
        progress: called with the methods that are done, and of all.

    Raises:
        ConfigError: the configuration is not the prior's.
        ClimdownError: its data cannot be read.
    """
    prior = read_prior(folder)
    kept_back = prior.card.training.get("validation")  # a card from elsewhere may not tell
    if (config.name, config.data.validation) != (prior.card.name, kept_back):
        raise ConfigError(
            f"the configuration is that of {config.name}, validated on {config.data.validation}; "
            f"{folder} holds {prior.card.name}, validated on {kept_back}: give the configuration "
            "that it was trained by"
        )
    skills = measure_skill(
        prior, config, data, device=device, days=days, members=members, progress=progress
    )
    entries = {name: skill.to_dict() for name, skill in skills.items()}
    _write_card(folder, replace(prior.card, training={**prior.card.training, ENTRY: entries}))
    return read_prior(folder)


def measure_skill(
    prior: Prior,
    config: PriorConfig,
    data: Path,
    *,
    device: Literal["auto", "cpu", "cuda"],
    days: int,
    members: int,
    progress: Progress | None = None,
) -> dict[str, Skill]:
    """Fair CRPS by variable, and the errors of the baselines."""
    axis, truth = validation_days(config, data, days)
    card = prior.card
    masked = {
        v.name: np.where(m, truth[v.name], np.nan)
        for v, m in zip(card.variables, prior.mask, strict=True)
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "truth.nc", card, card.grid, axis, masked)
        coarse = regrid.weights(card.grid, card.coarse_grid, "conservative")
        averaged = {n: coarse.apply(values) for n, values in masked.items()}
        _write(folder / "input.nc", card, card.coarse_grid, axis, averaged)
        baselines = plain_baselines()
        names = [_own_method(card).name, *baselines]
        for done, method in enumerate(names):
            size = members if method not in baselines else None
            settings = RunConfig(
                method=method, members=size, bias="none", filter_scale="native", device=device
            )
            pipeline.downscale(
                [folder / "input.nc"], folder / f"{method}.nc", prior=prior, config=settings
            )
            if progress is not None:
                progress(done + 1, len(names))
        scores = _scores(folder, names)
    units = {v.name: v.units for v in card.variables}
    return {
        v: Skill(
            crps=by_method[names[0]],
            baselines={name: by_method[name] for name in baselines},
            units=units[v],
            days=len(axis),
            members=members,
            factor=card.coarse_factor,
        )
        for v, by_method in scores.items()
    }


def _own_method(card: Card) -> Method:
    """The first method that draws members from priors of a kind."""
    return next(one for one in methods() if card.kind in one.prior_kinds and one.members > 1)


def _scores(folder: Path, names: list[str]) -> dict[str, dict[str, float]]:
    """Fair CRPS by variable and method."""
    request = Request(
        outputs={name: (str(folder / f"{name}.nc"),) for name in names},
        reference=(str(folder / "truth.nc"),),
        pairing="paired",
        resamples=0,
    )
    result = evaluate(request, folder / "states")
    assert result is not None  # no other process shares the work
    found: dict[str, dict[str, float]] = {}
    for score in result.scores:
        if score.measure == "crps" and score.value is not None:
            found.setdefault(score.variable, {})[score.output] = score.value
    return found


def _write(
    path: Path, card: Card, grid: Grid, axis: cf.TimeAxis, values: Mapping[str, Floats]
) -> None:
    variables = []
    for variable in card.variables:
        name = cf.fitting_name(variable.standard_names[0], variable.units)
        attributes = {"units": variable.units, "cell_methods": variable.cell_methods}
        attributes |= {} if name is None else {"standard_name": name}
        output = stream.OutputVariable(variable.name, attributes)
        variables.append((output, values[variable.name].astype(np.float32)))
    stream.write_fields(path, grid=grid, time=axis, variables=variables, attributes={})


def _write_card(folder: Path, card: Card) -> None:
    """A card with more to tell; of the README one section is written, all else stays."""
    path = folder / README_FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else model_card(card)
    place_text(path, with_section(text, skill_table(card)))
    place_text(folder / CARD_FILE, card.to_json())


def with_section(text: str, table: str) -> str:
    """A README with the section of this trial in the place of an earlier one, or before others."""
    section = f"{_HEADING}\n\n{table}\n"
    before, found, after = text.partition(f"{_HEADING}\n")
    if not found:
        before, _, after = text.partition("\n## ")
        after = f"\n## {after}" if after else ""
        return f"{before.rstrip()}\n\n{section}{after}"
    _, next_heading, rest = after.partition("\n## ")
    return f"{before}{section}{next_heading}{rest}"
