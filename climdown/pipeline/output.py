"""What the output of a run says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from climdown import cf, stream
from climdown.pipeline.plan import Plan, identity
from climdown.priors.card import Variable
from climdown.version import __version__


def output_template(plan: Plan, command: str) -> stream.Template:
    """Axes and attributes of the output."""
    parent = next(iter(plan.fields.values())).global_attributes
    label = "time series" if len(plan.time) > 1 else "field"
    attributes = cf.global_attributes(
        parent,
        title=f"Downscaled ensemble ({label}) by climdown, prior {plan.prior.card.name}",
        command=command,
        now=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        provenance=_provenance(plan, parent),
    )
    return stream.Template(
        grid=plan.prior.card.grid,
        time=plan.time,
        variables=tuple(_variable(plan, variable) for variable in plan.variables),
        members=plan.members,
        attributes=attributes,
    )


def is_output_of(plan: Plan, path: Path) -> bool:
    """Whether a file is what this very plan gives: a run killed before it cleaned up left it."""
    try:
        with netCDF4.Dataset(path) as file:
            written = json.loads(str(file.getncattr("climdown_options")))
    except (OSError, AttributeError, ValueError):
        return False
    return bool(written == json.loads(json.dumps(identity(plan))))


def _variable(plan: Plan, variable: Variable) -> stream.OutputVariable:
    field = plan.fields[variable.name]
    attributes = cf.output_attributes(field)
    if "height" in field.scalars:
        # CDO drops variables that have a scalar height beside a realization axis.
        height = field.scalars["height"]
        attributes["comment"] = f"height: {float(height)} {height.attrs.get('units', 'm')}"
    return stream.OutputVariable(variable.name, attributes)


def _provenance(plan: Plan, parent: Mapping[str, Any]) -> dict[str, Any]:
    adjusted = {}
    if plan.adjusted is not None:
        adjusted["bias_adjustment"] = plan.adjusted.describe()
        if report := plan.adjusted.report():
            adjusted["bias_adjustment_report"] = report
    described = f"climdown {__version__} ({plan.method.name})"
    return {
        "source": f"{parent['source']}; {described}" if "source" in parent else described,
        "climdown_version": __version__,
        "climdown_method": plan.method.name,
        "climdown_prior": plan.prior.card.name,
        "climdown_prior_sha256": plan.prior.digest,
        "climdown_prior_licence": plan.prior.card.licence,
        "climdown_seed": np.int32(plan.seed),
        "climdown_options": json.dumps(identity(plan)),
        **adjusted,
    }
