"""CF attributes of what climdown writes."""

from __future__ import annotations

from typing import Any

from climdown.cf.fields import Field
from climdown.cf.units import units_convertible
from climdown.cf.water import fitting_name

# Files follow both: what 1.11 added is there, and nothing that 1.8 forbids.
CONVENTIONS = "CF-1.8 CF-1.11"


def output_attributes(field: Field) -> dict[str, Any]:
    """CF attributes of an adjusted variable: the input's, less those of its storage."""
    names = ("standard_name", "long_name", "cell_methods", "cell_measures", "original_name")
    attributes = {k: v for k, v in field.attributes.items() if k in names and k != "cell_measures"}
    if field.quantity.standard_names:
        attributes.setdefault("standard_name", field.quantity.standard_names[0])
    attributes["units"] = output_units(field)
    if "standard_name" in attributes:
        fitting = fitting_name(str(attributes.pop("standard_name")), attributes["units"])
        attributes |= {} if fitting is None else {"standard_name": fitting}
    if field.step_days is not None and "cell_methods" in attributes:
        # Divided by the length of its step, a sum is a mean rate.
        methods = str(attributes["cell_methods"])
        attributes["cell_methods"] = methods.replace("time: sum", "time: mean")
    return attributes


def output_units(field: Field) -> str:
    """The input's units, in the form UDUNITS reads."""
    return field.source_units.replace("**", "")


def statistic_attributes(attributes: dict[str, Any], statistic: str) -> dict[str, Any]:
    """Attributes of the ensemble "mean" or "standard_deviation" of a variable."""
    methods = " ".join(filter(None, [attributes.get("cell_methods"), f"realization: {statistic}"]))
    label = {"mean": "ensemble mean", "standard_deviation": "ensemble standard deviation"}
    names = (attributes.get("long_name"), attributes.get("standard_name"))
    long_name = next(filter(None, names), "values")
    result = {
        **attributes,
        "cell_methods": methods,
        "long_name": f"{long_name}, {label[statistic]}",
    }
    result.pop("original_name", None)
    return result


def with_units_metadata(attributes: dict[str, Any], *, difference: bool) -> dict[str, Any]:
    """Say whether a temperature is on a scale or a difference (CF 1.11, section 3.1.2)."""
    if not units_convertible(str(attributes["units"]), "K"):
        return attributes
    kind = "difference" if difference else "on_scale"
    return {**attributes, "units_metadata": f"temperature: {kind}"}


def global_attributes(
    parent: dict[str, Any], *, title: str, command: str, provenance: dict[str, Any], now: str
) -> dict[str, Any]:
    """Global attributes of an output: the parent's, with history prepended.

    Args:
        parent: of the input; its tracking_id becomes parent_tracking_id.
        provenance: climdown's own attributes.
        now: time of the command, ISO 8601.
    """
    inherited = {
        k: v for k, v in parent.items() if k not in ("history", "tracking_id", "creation_date")
    }
    if "tracking_id" in parent:
        inherited["parent_tracking_id"] = parent["tracking_id"]
    if "title" in parent:
        inherited["parent_title"] = parent["title"]
    history = "\n".join(filter(None, [f"{now} {command}", str(parent.get("history", ""))]))
    return {
        **inherited,
        "Conventions": CONVENTIONS,
        "title": title,
        "history": history,
        "creation_date": now,
        **provenance,
    }
