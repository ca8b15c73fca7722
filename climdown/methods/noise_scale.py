"""The noise level of methods that noise the interpolated input and draw its small scales anew."""

from __future__ import annotations

import logging
import re
from typing import Any

import numpy as np

from climdown.arrays import Floats
from climdown.errors import PriorError
from climdown.methods.method import GuidedVariable, Problem
from climdown.options import option, require

log = logging.getLogger(__name__)

# The input's spectrum is taken over so many steps, spread over the period.
_SPECTRUM_STEPS = 64
# A scale is resolved while the input has this share of the reference's power; crossings above
# it are chance.
_RESOLVED = 0.75


def noise_scale_option() -> Any:
    """`--noise-scale`."""
    return option(
        "auto",
        "Scales drawn anew, as a wavelength (200km) or a noise level in normalised units; auto "
        "finds where the input's spectrum falls below the prior's.",
        metavar="auto|KMkm|SIGMA",
    )


def check_noise_scale(value: float | str) -> None:
    """Refuse what is neither a noise level nor a wavelength.

    Raises:
        ConfigError: says what was expected.
    """
    level = isinstance(value, int | float) and value > 0
    require(
        value == "auto" or level or wavelength(value) is not None,
        f"noise scale is {value}; expected a number > 0, a wavelength like 200km, or auto",
    )


def wavelength(value: float | str) -> float | None:
    """The wavelength in km that an option names, or None."""
    match = re.fullmatch(r"([\d.]+)\s*km", str(value).lower())
    try:
        length = float(match[1]) if match else 0.0
    except ValueError:
        return None
    return length if length > 0 else None


def find_noise_scale(value: float | str, problem: Problem) -> float:
    """sigma(t*): white noise as strong as the prior's fields at a wavenumber k*.

    k* is a wavelength asked for, or the smallest from which on the interpolated input has less
    power than the prior's training fields (Hess et al., arXiv 2403.02774, Eq. 8 and Fig. 2). Of
    several variables the one that is resolved best decides, since all are noised to one level.

    Args:
        value: the level itself, "200km", or "auto".

    Raises:
        PriorError: the prior carries no spectra.
    """
    if not isinstance(value, str):
        return round(float(value), 4)
    guess, length = problem.first_guess(_SPECTRUM_STEPS), wavelength(value)
    levels = [_level(variable, guess, length, problem) for variable in problem.variables]
    return round(min(levels), 4)


def _level(
    variable: GuidedVariable, guess: Floats, length: float | None, problem: Problem
) -> float:
    """The noise level of one variable.

    Args:
        guess: interpolated, normalised input, shape (steps, channels, ny, nx).
        length: the wavelength asked for, km, or None to find it in the spectrum.

    Raises:
        PriorError: the prior carries no spectrum of the variable.
    """
    # Imported here: scipy is slow to load, and the command line reads these declarations.
    from climdown.metrics.spectra import tapered_spectrum, white_noise_power

    reference = problem.spectrum(variable.name)
    if reference is None:
        raise PriorError(
            f"prior {problem.card.name} carries no spectrum of {variable.name}; give "
            "--noise-scale as a number"
        )
    cell = problem.card.grid.kilometres
    wavenumbers, power = tapered_spectrum(
        guess[:, variable.channel], problem.mask[variable.channel]
    )
    if length is None:
        ring = _first_unresolved(power / reference[: len(power)])
    else:
        ring = int(np.searchsorted(wavenumbers, cell / length))
    ring = min(ring, len(power) - 1)
    level = float(np.sqrt(reference[ring] / white_noise_power(problem.card.grid.shape)[ring]))
    log.info(
        "%s: noised to sigma %.2f, which draws wavelengths below %.0f km anew",
        variable.name,
        level,
        cell / wavenumbers[ring],
    )
    return level


def _first_unresolved(ratio: Floats) -> int:
    """The first ring from which on all have less than the resolved share."""
    resolved = np.flatnonzero(ratio >= _RESOLVED)
    return int(resolved[-1]) + 1 if resolved.size else 0
