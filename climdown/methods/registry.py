"""What each method needs of a prior, and its sampler with the options of a run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from climdown import cf
from climdown.config import BASELINES, RunConfig
from climdown.diffusion.sampler import Sampler
from climdown.errors import ConfigError, PriorError
from climdown.inputs import matching
from climdown.methods.baselines import Delta
from climdown.methods.bridge import Bridge, ReferenceBridge
from climdown.methods.cm import ScaleAdaptiveCM
from climdown.methods.ot_diffusion import OTDiffusion, ReferenceOTDiffusion
from climdown.methods.zssd import ZSSD, ReferenceZSSD
from climdown.metrics.spectra import tapered_spectrum, white_noise_power
from climdown.pipeline.observer import Observer
from climdown.priors.prior import Prior

if TYPE_CHECKING:
    from climdown.pipeline import Plan

log = logging.getLogger(__name__)

# The methods that drown what the input does not resolve.
DROWNING = ("cm", "bridge")
# The kinds of prior that each method can use.
KINDS = {
    "zssd": ("diffusion",),
    "cm": ("consistency",),
    "bridge": ("diffusion",),
    "ot-diffusion": ("diffusion",),
    **dict.fromkeys(BASELINES, ("diffusion", "consistency")),
}
# The input's spectrum is taken over so many steps, spread over the period.
_SPECTRUM_STEPS = 64
# A scale is resolved while the input has this share of the reference's power; crossings above
# it are chance.
_RESOLVED = 0.75


def make_sampler(plan: Plan) -> Sampler:
    """The sampler that a plan's options describe.

    Raises:
        PriorError: the prior lacks what the method needs.
        ConfigError: noise so low that nothing would be drawn.
    """
    options, sampling = plan.identity, plan.prior.card.sampling
    if plan.config.method in BASELINES:
        return _baseline(plan)
    if plan.config.method == "cm":
        return ScaleAdaptiveCM(
            options["noise_scale"],
            options["steps"],
            plan.prior.card.sigma_min,
            keep_means=options["keep_means"],
        )
    if plan.config.method == "bridge":
        return _bridge(plan)
    if plan.config.method == "ot-diffusion":
        if plan.config.sampler == "reference":
            return ReferenceOTDiffusion(options["steps"], options["guidance_scale"])
        levels = sampling.sigma_min, sampling.sigma_max
        return OTDiffusion(options["steps"], options["guidance_scale"], *levels)
    if plan.config.sampler != "fast":
        return ReferenceZSSD(
            options["steps"],
            options["guidance_scale"],
            coarse_loss=plan.config.sampler == "coarse-loss",
        )
    return ZSSD(options["steps"], sampling.sigma_min, sampling.sigma_max)


def sampler_options(prior: Prior, config: RunConfig) -> dict[str, Any]:
    """The sampler's options as JSON values, but for a noise scale that the input decides."""
    sampling = prior.card.sampling
    if config.method in BASELINES:
        return {}
    scale = config.guidance_scale
    if config.method == "ot-diffusion":
        steps = ReferenceOTDiffusion.steps if config.sampler == "reference" else sampling.steps
        return {
            "sampler": config.sampler,
            "steps": config.steps or steps,
            "guidance_scale": OTDiffusion.guidance_scale if scale is None else scale,
        }
    if config.method == "zssd" and config.sampler != "fast":
        return {
            "sampler": config.sampler,
            "steps": config.steps or ReferenceZSSD.steps,
            "guidance_scale": sampling.guidance_scale if scale is None else scale,
        }
    if config.method == "zssd":
        return {"sampler": config.sampler, "steps": config.steps or sampling.steps}
    if config.method == "bridge" and config.sampler == "reference":
        return {
            "sampler": config.sampler,
            "steps": config.steps or ReferenceBridge.steps,
            "keep_means": bool(config.keep_means),
        }
    own = {"steps": config.steps or sampling.steps, "keep_means": config.keep_means is not False}
    return {"sampler": config.sampler, **own} if config.method == "bridge" else own


def _bridge(plan: Plan) -> Bridge | ReferenceBridge:
    options, lowest = plan.identity, plan.prior.card.sampling.sigma_min
    reference = plan.config.sampler == "reference"
    lowest = ReferenceBridge.sigma_min if reference else lowest
    if not options["noise_scale"] > lowest:
        raise ConfigError(
            f"the noise scale is {options['noise_scale']:g}, and the bridge ends at noise of "
            f"{lowest:g}: nothing would be drawn; give a larger --noise-scale"
        )
    make = ReferenceBridge if reference else Bridge
    return make(options["noise_scale"], options["steps"], lowest, options["keep_means"])


def _baseline(plan: Plan) -> Delta:
    """The delta method with the prior's climatologies, or with zeros for plain interpolation."""
    variables = plan.prior.card.variables
    patterns = np.zeros((len(variables), *plan.prior.card.grid.shape), dtype=np.float32)
    ratios = [False] * len(variables)
    if plan.config.method == "bilinear":
        return Delta(torch.from_numpy(patterns).to(plan.device), tuple(ratios))
    for channel, variable in enumerate(variables):
        if variable.name not in plan.fields:
            continue
        climatology = plan.prior.climatology(variable.name)
        if climatology is None:
            raise PriorError(
                f"prior {plan.prior.card.name} carries no climatology of {variable.name} on its "
                f"fine grid, from which {plan.config.method} starts; train it anew, choose another "
                "prior, or give --method bilinear"
            )
        patterns[channel] = climatology
        known = cf.known_family(matching.quantity(variable))
        ratios[channel] = known is not None and known.kind == "multiplicative"
    return Delta(torch.from_numpy(patterns).to(plan.device), tuple(ratios))


def find_noise_scale(plan: Plan) -> float:
    """sigma(t*) of cm and bridge: white noise as strong as the prior's fields at a wavenumber k*.

    k* is a wavelength asked for, or the smallest from which on the interpolated input has less
    power than the prior's training fields (Hess et al., arXiv 2403.02774, Eq. 8 and Fig. 2). Of
    several variables the one that is resolved best decides, since noise drowns them all alike.

    Raises:
        PriorError: the prior carries no spectra.
    """
    if not isinstance(plan.config.noise_scale, str):
        return float(plan.config.noise_scale)
    prior, grid = plan.prior, plan.prior.card.grid
    steps = cf.evenly(np.arange(len(plan.time)), _SPECTRUM_STEPS)
    observer = Observer(plan)
    rows = [observer.coarse_values(slice(i, i + 1)) for i in steps.tolist()]
    coarse = [torch.cat(values) for values in zip(*rows, strict=True)]
    like = torch.zeros(len(steps), *prior.mask.shape, device=plan.device)
    guess = observer.observation(coarse).interpolate(like).double().cpu().numpy()
    cell = grid.kilometres
    found = []
    for channel, variable in zip(observer.channels, plan.variables, strict=True):
        reference = prior.spectrum(variable.name)
        if reference is None:
            raise PriorError(
                f"prior {prior.card.name} carries no spectrum of {variable.name}; give "
                "--noise-scale as a number"
            )
        mask = prior.mask[channel]
        wavenumbers, power = tapered_spectrum(guess[:, channel], mask)
        ring = _first_unresolved(power / reference[: len(power)])
        if plan.config.wavelength is not None:
            ring = int(np.searchsorted(wavenumbers, cell / plan.config.wavelength))
        ring = min(ring, len(power) - 1)
        found.append(float(np.sqrt(reference[ring] / white_noise_power(grid.shape)[ring])))
        log.info(
            "%s: noise %.2f drowns wavelengths below %.0f km",
            variable.name,
            found[-1],
            cell / wavenumbers[ring],
        )
    return min(found)


def _first_unresolved(ratio: npt.NDArray[np.floating]) -> int:
    """The first ring from which on all have less than the resolved share."""
    resolved = np.flatnonzero(ratio >= _RESOLVED)
    return int(resolved[-1]) + 1 if resolved.size else 0
