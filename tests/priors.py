"""A tiny prior with fresh weights, for tests of everything around the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from climdown.bias.quantile import nodes
from climdown.config import NetworkConfig, SamplingConfig
from climdown.grid import Grid
from climdown.priors.build import build_denoiser
from climdown.priors.card import Card, Variable
from climdown.priors.prior import Prior, write_prior
from climdown.priors.tensors import quantiles_field

FINE = Grid.regular(40.0, 43.0, -4.0, 0.0, 0.25)  # 12 x 16 cells
TAS = Variable(
    name="tas",
    standard_names=("air_temperature",),
    names=("tas", "t2m"),
    long_name="Near-Surface Air Temperature",
    units="degC",
    cell_methods="time: mean",
    transform=(
        {"kind": "anomaly", "field": "climatology_tas"},
        {"kind": "standardise", "mean": 0.0, "std": 3.0},
    ),
)
PR = Variable(
    name="pr",
    standard_names=("precipitation_flux", "lwe_precipitation_rate"),
    names=("pr", "tp"),
    long_name="Precipitation",
    units="mm day-1",
    cell_methods="time: mean",
    transform=(
        {"kind": "log", "offset": 1.0},
        {"kind": "standardise", "mean": 0.5, "std": 0.8},
    ),
    minimum=0.0,
    trace=0.05,
)


def write_tiny_prior(
    folder: Path,
    *,
    months: tuple[int, ...] = (12, 1, 2),
    grid: Grid = FINE,
    seed: int = 0,
    quantiles: bool = False,
    variables: tuple[Variable, ...] = (TAS, PR),
) -> Prior:
    """Write a prior of tas and pr with random weights; the south-west corner is sea.

    Args:
        variables: others than tas and pr; with quantiles as of tas if they are in degC.
        quantiles: whether it carries quantiles at p, the same in all coarse cells: of tas 5 + p
            plus the number of the month in degC, the mean of these over all months, of pr
            20 (p - 0.5) mm/day and at least 0.
    """
    ny, nx = grid.shape
    mask = np.ones((len(variables), ny, nx), dtype=np.float32)
    mask[:, : ny // 4, : nx // 4] = 0.0
    rng = np.random.default_rng(seed)
    height = rng.uniform(0.0, 2.0, (ny, nx)).astype(np.float32)
    fields = {
        "mask": mask,
        "orography": height,
        "land_fraction": mask[0],
        "climatology_tas": (10.0 - 5.0 * height).astype(np.float32) * mask[0],
    }
    card = Card(
        name="tiny",
        title="A prior for tests",
        kind="diffusion",
        variables=variables,
        months=tuple(sorted(months)),
        step_days=1.0,
        coarse_factor=4,
        statics=("orography", "land_fraction"),
        sigma_data=1.0,
        grid=grid,
        network=NetworkConfig(channels=(8, 8), blocks=1, heads=2, embedding=16, dropout=0.0),
        sampling=SamplingConfig(steps=4, sigma_max=20.0),
        licence="none: synthetic",
        training={"train": "none"},
        files={},
    )
    if quantiles:
        fields |= _quantiles(card)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = build_denoiser(card, fields)
        # The last convolution starts at zero; give it something to say.
        torch.nn.init.normal_(denoiser.network.conv_out.conv.weight, std=0.05)  # type: ignore[union-attr, arg-type]
    return write_prior(folder, card, denoiser.state_dict(), fields, "# tiny\n")


def _quantiles(card: Card) -> dict[str, npt.NDArray[np.float32]]:
    numbers = np.array([*card.months, np.mean(card.months)])[:, None]
    warm = 5.0 + numbers + nodes(100)
    wet = np.maximum(20.0 * (nodes(500) - 0.5) + 0.0 * numbers, 0.0)
    shape = card.coarse_grid.shape
    return {
        quantiles_field(variable.name): np.broadcast_to(
            values[..., None, None], (*values.shape, *shape)
        ).astype(np.float32)
        for variable in card.variables
        for values in (warm if variable.units == "degC" else wet,)
    }
