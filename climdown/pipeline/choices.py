"""What a configuration asks of method and adjustment, resolved and checked together.

Light to import: the command line refuses what does not fit before anything slow is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from climdown import files
from climdown.adjust.options import OPTIONS
from climdown.config.run import RunConfig
from climdown.methods.method import Method
from climdown.methods.registry import build_options, find_method, listed
from climdown.options import from_mapping, require


@dataclass(frozen=True)
class Choices:
    """A method with its options, and the adjustment of bias that goes with it.

    Attributes:
        options: of the method, of its class `Options`.
        members: of the ensemble.
        adjustment: name of the adjustment, asked for or implied, or None.
        adjustment_options: of its class of options, or None.
    """

    method: Method
    options: Any
    members: int
    adjustment: str | None
    adjustment_options: Any


def choose(config: RunConfig) -> Choices:
    """Resolve method, members and adjustment of a configuration.

    Raises:
        ConfigError: unknown names, options of other methods, or what does not fit together.
    """
    method = find_method(config.method)
    options = build_options(method, config.options)
    require(
        method.members > 1 or config.members in (None, 1),
        f"--method {method.name} draws nothing, so that it has one member and not "
        f"{config.members}; leave --members out",
    )
    adjustment = _adjustment(method, config)
    _check_reference(method, config, adjustment)
    kind = None if adjustment is None else OPTIONS[adjustment]
    return Choices(
        method,
        options,
        config.members or method.members,
        adjustment,
        None if kind is None else from_mapping(kind, config.bias_options),
    )


def check_output(output: Path, config: RunConfig) -> None:
    """Refuse an output that a run cannot write.

    Where parts lie, or another process is waited for, it may be there: the one of this very run.

    Raises:
        OutputError: says why, and the remedy.
    """
    resumed = config.wait or files.parts_folder(output).is_dir()
    files.check_output(output, overwrite=config.overwrite or resumed)


def _adjustment(method: Method, config: RunConfig) -> str | None:
    names = ("none", *OPTIONS)
    require(
        config.bias in (None, *names),
        f"unknown bias adjustment '{config.bias}'; expected {listed(names, 'or')}",
    )
    fitting = names if method.bias is None else method.bias
    require(
        config.bias in (None, *fitting),
        f"--method {method.name} is one with --bias {fitting[0]}, not with {config.bias}; leave "
        "--bias out, or give another method",
    )
    name = fitting[0] if config.bias is None else config.bias
    return None if name == "none" else name


def _check_reference(method: Method, config: RunConfig, adjustment: str | None) -> None:
    """Files and periods that an adjustment needs, or that nothing needs."""
    given = config.historical or config.reference
    periods = config.historical_period or config.reference_period
    require(
        adjustment is not None or not (given or periods or config.bias_options),
        "--historical, --reference and their periods are for bias adjustment; give --bias "
        f"{listed(list(OPTIONS), 'or')}",
    )
    if adjustment is None:
        return
    by = f"--method {method.name}" if config.bias is None else f"--bias {adjustment}"
    spared = "none" in (method.bias or ())
    or_none = ", or --bias none if the input has no bias" if spared else ""
    require(
        bool(config.historical),
        f"{by} needs the same model in the reference's period; give --historical{or_none}",
    )
    require(
        bool(config.reference) or not OPTIONS[adjustment].needs_days,
        f"{by} needs whole days of observations, and a prior carries quantiles only (the "
        "licence of its data may not allow more); give --reference",
    )
    require(
        config.reference_period is None or bool(config.reference),
        "the prior's quantiles have no dates; leave --ref-period out, or give --reference",
    )
