"""The layout in which CORDEX ML-Bench takes the predictions of generative models.

Precipitation and daily maximum temperature in one file, each of ten members along a dimension
`member`, in the units of the benchmark's templates
(https://github.com/WCRP-CORDEX/ml-benchmark, folders submission and format_predictions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from climdown import cf
from climdown.arrays import Float32
from climdown.files import placed
from climdown.grid import Grid
from climdown.stream.writing import OutputVariable, add_compressed, chunk_steps, create

MEMBERS = 10
VARIABLES = (
    OutputVariable(
        "pr",
        {
            "standard_name": "lwe_precipitation_rate",
            "long_name": "Precipitation",
            "units": "mm/day",
            "cell_methods": "time: mean",
        },
    ),
    OutputVariable(
        "tasmax",
        {
            "standard_name": "air_temperature",
            "long_name": "Daily Maximum Near-Surface Air Temperature",
            "units": "K",
            "cell_methods": "time: maximum",
        },
    ),
)
ATTRIBUTES = {
    "project_id": "CORDEX",
    "activity_id": "ML-Benchmark",
    "probabilistic_output": "yes",
    "realization_generation_id": "ensemble",
}


def write_ml_bench(
    path: Path,
    *,
    grid: Grid,
    time: cf.TimeAxis,
    attributes: Mapping[str, Any],
    read: Callable[[str, slice], Float32],
) -> None:
    """Write an ensemble, block by block of time.

    Args:
        attributes: of the file, beside those of the benchmark.
        read: called with "pr" or "tasmax" and a block of time steps; gives shape
            (time, MEMBERS, ny, nx), in mm day-1 and K.
    """
    steps = chunk_steps(grid, time)
    with placed(path) as temporary, create(temporary, grid, time) as file:
        file.setncatts({**attributes, **ATTRIBUTES})
        file.createDimension("member", MEMBERS)
        labels = file.createVariable("member", "i4", ("member",))
        labels.setncatts({"standard_name": "realization", "units": "1"})
        labels[:] = np.arange(1, MEMBERS + 1)
        for variable in VARIABLES:
            chunks = (1, steps, *grid.shape)
            target = add_compressed(file, variable, ("member", "time", "lat", "lon"), chunks)
            for start in range(0, len(time), steps):
                part = slice(start, min(start + steps, len(time)))
                values = np.ma.masked_invalid(read(variable.name, part))
                target[:, part] = values.swapaxes(0, 1)
