"""From a configuration to a plan: everything opened, checked and decided, nothing written."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from climdown import cf, files
from climdown.arrays import Float64
from climdown.compute.device import choose_batch_size, choose_device
from climdown.config import RunConfig
from climdown.errors import OutputError
from climdown.grid import Grid
from climdown.inputs import matching
from climdown.inputs.checks import check_reading, check_values, warn_of_disorder
from climdown.inputs.matching import Matched
from climdown.inputs.typical import typical
from climdown.methods.method import GuidedVariable, Problem
from climdown.pipeline import effective_resolution
from climdown.pipeline.adjustment import AdjustedInput, Reference, plan_adjustment
from climdown.pipeline.autocorrelation import Autocorrelation, choose_autocorrelation
from climdown.pipeline.choices import Choices, check_output, choose
from climdown.pipeline.observer import Observer
from climdown.pipeline.plan import Plan
from climdown.priors.build import make_tiles
from climdown.priors.card import Variable
from climdown.priors.prior import Prior
from climdown.priors.skill import weaknesses

log = logging.getLogger(__name__)


def make_plan(
    inputs: Sequence[str | Path], output: str | Path, *, prior: Prior | None, config: RunConfig
) -> Plan:
    """Open and check everything, and decide what is to be done; writes nothing.

    Args:
        prior: None chooses the bundled one that fits.

    Raises:
        ClimdownError: one of its kinds.
    """
    output, choices = Path(output), choose(config)
    check_output(output, config)
    paths = cf.expand_paths(inputs)
    files.refuse_inputs(output, [*paths, *config.historical, *config.reference])
    sources = cf.Sources.open(paths)
    device = choose_device(config.device)
    prior, matched = _matched(prior, sources, choices, config)
    check_reading(matched.fields.values())
    _check(prior, matched, config)
    _warn_of_weakness(prior, matched, choices)
    grid = _filter_grid(prior, matched, choices, config)
    problem = _problem(prior, matched.fields, grid, device)
    plan = Plan(
        inputs=files.fingerprints(paths, verify=config.verify),
        period=config.period,
        select=dict(config.select),
        prior=prior,
        fields=matched.fields,
        filter_grid=grid,
        autocorrelation=_autocorrelation(prior, matched, choices, config),
        adjusted=_adjusted(prior, matched, grid, choices, config),
        method=choices.method,
        decided=choices.method.decide(choices.options, problem),
        problem=problem,
        members=choices.members,
        seed=config.seed,
        device=device,
        batch_size=_batch_size(prior, device, config),
        tile=config.tile,
        output=output,
        overwrite=config.overwrite,
        wait=config.wait,
    )
    _check_room(plan)
    plan.method.sampler(plan.decided, problem)  # what it lacks is said before anything is computed
    return plan


def _check_room(plan: Plan) -> None:
    """Refuse, before anything is computed, what the disk cannot hold."""
    parts = files.parts_folder(plan.output)
    there = sum(path.stat().st_size for path in parts.glob("*.npy"))
    free = shutil.disk_usage(plan.output.resolve().parent).free + there
    wanted = plan.total * plan.field_bytes
    if wanted > free:
        raise OutputError(
            f"{plan.output}: {plan.total} fields need {wanted / 2**30:.1f} GiB for their parts, "
            f"and the disk has {free / 2**30:.1f} GiB free; choose fewer --members or a shorter "
            "--time, or write the output where there is room"
        )


def _matched(
    prior: Prior | None, sources: cf.Sources, choices: Choices, config: RunConfig
) -> tuple[Prior, Matched]:
    """The prior, given or chosen, and its variables in the input."""
    kinds, select = choices.method.prior_kinds, dict(config.select)
    if prior is None:
        return matching.choose_prior(kinds, sources, config.period, select)
    matching.require_kind(prior, kinds)
    return prior, matching.match(prior, sources, config.period, select)


def _check(prior: Prior, matched: Matched, config: RunConfig) -> None:
    """Refuse tiles that are too small, and input with impossible values."""
    if config.tile is not None:
        make_tiles(prior.card, config.tile)
    variables = {variable.name: variable for variable in prior.card.variables}
    for name, field in matched.fields.items():
        check_values(field, typical(prior, variables[name]))
    warn_of_disorder(matched.fields)


def _warn_of_weakness(prior: Prior, matched: Matched, choices: Choices) -> None:
    """Say again what training said: this prior is no better than methods without a network."""
    if choices.method.members > 1:
        for line in weaknesses(prior.card, matched.fields):
            log.warning("%s", line)


def _autocorrelation(
    prior: Prior, matched: Matched, choices: Choices, config: RunConfig
) -> Autocorrelation | None:
    """That of the noise in time; None for methods that draw nothing."""
    if choices.method.members == 1:
        return None
    axis = next(iter(matched.fields.values())).time
    return choose_autocorrelation(prior.card, axis, config.coherence)


def _batch_size(prior: Prior, device: torch.device, config: RunConfig) -> int:
    """Fields denoised together: as asked for, or as many as the device's memory holds."""
    card = prior.card
    return choose_batch_size(
        config.batch_size,
        width=card.network.channels[0],
        cells=math.prod(card.grid.shape),
        device=device,
    )


def _filter_grid(prior: Prior, matched: Matched, choices: Choices, config: RunConfig) -> Grid:
    """The grid of A_low, as asked for or as the spectra of all of the input have it."""
    if choices.adjustment is not None and not config.reference:
        grid = effective_resolution.quantile_grid(prior, config.filter_scale)
    else:
        grid = effective_resolution.choose_filter_grid(prior, matched.fields, config.filter_scale)
    if config.filter_scale != "auto":
        return grid
    # All steps: runs over parts of an input must not differ in the scale at which it guides.
    return effective_resolution.choose_effective_grid(prior, matched.region, grid)


def _problem(
    prior: Prior, fields: Mapping[str, cf.Field], grid: Grid, device: torch.device
) -> Problem:
    """What the method may know of the run."""

    def first_guess(steps: int) -> Float64:
        return Observer(prior, fields, grid, device).first_guess(steps)

    variables = enumerate(prior.card.variables)
    return Problem(
        card=prior.card,
        variables=tuple(
            GuidedVariable(variable.name, channel, _is_ratio(variable))
            for channel, variable in variables
            if variable.name in fields
        ),
        mask=prior.mask,
        device=device,
        climatology=prior.climatology,
        spectrum=prior.spectrum,
        first_guess=first_guess,
    )


def _is_ratio(variable: Variable) -> bool:
    family = cf.family_of(matching.quantity(variable))
    return family is not None and family.kind == "multiplicative"


def _adjusted(
    prior: Prior, matched: Matched, grid: Grid, choices: Choices, config: RunConfig
) -> AdjustedInput | None:
    if choices.adjustment is None:
        return None
    reference = Reference(
        config.historical,
        config.historical_period,
        config.reference,
        config.reference_period,
        config.verify,
    )
    return plan_adjustment(
        choices.adjustment,
        choices.adjustment_options,
        reference,
        prior=prior,
        matched=matched,
        grid=grid,
        select=dict(config.select),
    )
