"""Scores and findings as JSON, CSV and Markdown; the schema stands in docs/guide.md."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from climdown import cf
from climdown.evaluation.bootstrap import Score
from climdown.evaluation.ensembles import Ensemble
from climdown.evaluation.evaluate import Evaluation
from climdown.evaluation.finding import Finding
from climdown.evaluation.measure import Measure
from climdown.evaluation.plan import Plan
from climdown.evaluation.registry import MEASURES, measure
from climdown.evaluation.request import REFERENCE
from climdown.files import place_text
from climdown.version import __version__

SCHEMA = 1
"""Of the JSON: it grows by one when an entry is renamed, removed or gets another meaning."""


def write_json(
    path: Path, evaluation: Evaluation, findings: Sequence[Finding], *, command: str
) -> None:
    """Everything that was found, with what it was found of."""
    document = as_document(evaluation, findings, command=command)
    place_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def as_document(
    evaluation: Evaluation, findings: Sequence[Finding], *, command: str
) -> dict[str, Any]:
    """What `write_json` writes; plain values, None for what is not known."""
    used = {score.measure for score in evaluation.scores}
    document = {
        "schema": SCHEMA,
        "climdown_version": __version__,
        "command": command,
        "plan": _plan(evaluation.plan),
        "findings": [asdict(one) for one in findings],
        "scores": [asdict(one) for one in evaluation.scores],
        "skills": [asdict(one) for one in evaluation.skills],
        "measures": {one.name: _measure(one) for one in MEASURES if one.name in used},
    }
    return dict(_plain(document))


def write_csv(path: Path, scores: Iterable[Score]) -> None:
    """One row for each score; what is not known is empty."""
    text = io.StringIO()
    names = [field.name for field in fields(Score)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain(asdict(score)) for score in scores)
    place_text(path, text.getvalue())


def write_markdown(path: Path, evaluation: Evaluation) -> None:
    """The main table, for a paper."""
    place_text(path, markdown_table(evaluation))


def markdown_table(evaluation: Evaluation) -> str:
    """A row for each main measure and variable, a column for each output."""
    names = list(evaluation.plan.outputs)
    table = main_table(evaluation)
    head = ["Measure", "Variable", *names, "Reference"]
    lines = [head, ["---", "---", *("---:" for _ in head[2:])], *table]
    pairing = evaluation.plan.pairing.why
    note = f"{pairing[0].upper()}{pairing[1:]}. In brackets: interval of 95 % (block bootstrap)."
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + f"\n\n{note}\n"


def main_table(evaluation: Evaluation) -> list[list[str]]:
    """Rows of texts: measure with units, variable, each output's value, the reference's own."""
    found = {(s.measure, s.variable, s.output): s for s in evaluation.scores}
    rows = []
    for name, variable in dict.fromkeys((s.measure, s.variable) for s in evaluation.scores):
        one = measure(name)
        if not one.tells:
            continue
        scores = [found.get((name, variable, output)) for output in evaluation.plan.outputs]
        first = next(score for score in scores if score is not None)
        units = "" if first.units in ("1", "") else f" ({first.units})"
        own = "" if first.reference is None else number(first.reference)
        rows.append([f"{one.title}{units}", variable, *map(_value, scores), own])
    return rows


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.3g}"


def _value(score: Score | None) -> str:
    if score is None or score.value is None:
        return "-"
    if score.low is None or score.high is None:
        return number(score.value)
    return f"{number(score.value)} [{number(score.low)}, {number(score.high)}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plan(plan: Plan) -> dict[str, Any]:
    grid = next(iter(plan.scenes.values())).grid
    return {
        "paired": plan.paired,
        "pairing": plan.pairing.why,
        "correlation": plan.pairing.correlation,
        "grid": {
            "description": grid.describe(),
            "lat": grid.lat.tolist(),
            "lon": grid.lon.tolist(),
        },
        "notes": list(plan.notes),
        "variables": {
            name: {"units": scene.units, "cells": int(scene.mask.sum())}
            for name, scene in plan.scenes.items()
        },
        "reference": _source(plan, plan.reference, REFERENCE),
        "input": None if plan.input is None else {"files": _files(plan.input)},
        "outputs": {
            name: {
                **_source(plan, one, name),
                "members": len(one.members),
                "variables": list(plan.variables(name)),
                "baseline": name in plan.baselines,
            }
            for name, one in plan.outputs.items()
        },
        "options": dict(plan.identity),
    }


def _source(plan: Plan, ensemble: Ensemble, name: str) -> dict[str, Any]:
    axis = ensemble.time.isel(plan.segments[name].steps)
    return {
        "files": _files(ensemble),
        "first": axis.centres[0].isoformat(),
        "last": axis.centres[-1].isoformat(),
        "steps": len(axis),
        "calendar": axis.calendar,
    }


def _files(ensemble: Ensemble) -> list[str]:
    """Every file of an ensemble, once."""
    fields_of = (field for member in ensemble.members for field in member.values())
    return list(dict.fromkeys(cf.describe_paths([p]) for one in fields_of for p in one.paths))


def _measure(one: Measure) -> dict[str, Any]:
    names = ("title", "theme", "best", "formula", "source", "sentence")
    return {name: getattr(one, name) for name in names}


def _plain(value: Any) -> Any:
    """The same in types that JSON has; numbers that are none are None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value if value is None else str(value)
