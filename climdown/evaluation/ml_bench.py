"""An output as CORDEX ML-Bench takes it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from climdown import cf
from climdown.arrays import Float32
from climdown.errors import ConfigError, InputError
from climdown.evaluation.ensembles import Ensemble, open_ensemble
from climdown.evaluation.request import Request
from climdown.stream import write_ml_bench
from climdown.stream.ml_bench import MEMBERS, VARIABLES


def ml_bench_ensemble(request: Request) -> Ensemble:
    """The one output that is judged, whole, if it has all that the benchmark asks for.

    Raises:
        ConfigError: there are several outputs.
        InputError: a variable or members are missing, or steps are not days.
        GridError: it is on no rectilinear grid.
    """
    judged = [name for name in request.outputs if name not in request.baselines]
    if len(judged) != 1:
        raise ConfigError(
            f"--export writes one output, and there are {len(judged)} ({', '.join(judged)}); give "
            "one, and others as --baseline"
        )
    quantities = {v.name: _quantity(v.name, str(v.attributes["units"])) for v in VARIABLES}
    files = request.outputs[judged[0]]
    ensemble = open_ensemble(judged[0], files, quantities, select=request.select)
    if missing := [name for name in quantities if name not in ensemble.members[0]]:
        raise InputError(
            f"{ensemble.where} has no {' and no '.join(missing)}; CORDEX ML-Bench takes pr and "
            "tasmax in one file"
        )
    if len(ensemble.members) < MEMBERS:
        raise InputError(
            f"{ensemble.where} has {len(ensemble.members)} members; CORDEX ML-Bench takes "
            f"{MEMBERS}: run it with --members {MEMBERS}"
        )
    if not 0.99 < ensemble.time.step_days < 1.01:
        raise InputError(
            f"{ensemble.where} has steps of {ensemble.time.step_days:.3g} days; CORDEX ML-Bench "
            "takes daily values"
        )
    return ensemble.map(lambda field: _on_grid(field))


def export_ml_bench(path: Path, ensemble: Ensemble, *, command: str) -> None:
    """Write the first ten members of an ensemble, all of its steps."""

    def read(name: str, part: slice) -> Float32:
        return ensemble.read(name, part)[:, :MEMBERS]

    attributes: dict[str, Any] = cf.global_attributes(
        ensemble.first.global_attributes,
        title="Predictions for CORDEX ML-Bench",
        command=command,
        now=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        provenance={},
    )
    if method := ensemble.attributes.get("climdown_method"):
        attributes["esd_method_id"] = f"climdown-{method}"
    grid, time = ensemble.first.grid, ensemble.time
    write_ml_bench(path, grid=grid, time=time, attributes=attributes, read=read)


def _on_grid(field: cf.Field) -> cf.Field:
    assert field.grid  # a mesh is refused here, before anything is judged
    return field


def _quantity(name: str, units: str) -> cf.Quantity:
    """What to look for, by the family of that name."""
    family = cf.family_of(cf.Quantity(name, (), (name,), units))
    assert family is not None
    return family.quantity
