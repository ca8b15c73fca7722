"""The recipes in examples/ run as they are, on tiny stores with the archives' structure."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from safetensors.numpy import load_file

from climdown.config import PriorConfig, load_config
from climdown.priors.card import FIELDS_FILE
from climdown.priors.prior import read_prior
from tests.archives import write_arco_era5, write_weatherbench
from tests.commands import Shell

EXAMPLES = Path(__file__).parent.parent / "examples"
RECIPES = sorted(EXAMPLES.glob("*.toml"))
# Eight longitudes a level of the network, and both poles.
LAT, LON = np.linspace(90.0, -90.0, 17), np.arange(0.0, 360.0, 15.0)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_a_configuration_named_as_its_file(recipe: Path) -> None:
    config = load_config(recipe)
    assert config.name == recipe.stem
    text = recipe.read_text(encoding="utf-8")
    kind = "diffusion" if config.consistency is None else "consistency"
    assert f"climdown train {kind} examples/{recipe.name}" in text


def small(store: Path, config: PriorConfig) -> list[str]:
    """The changes that let a recipe run in seconds: where the data are, and how much of all."""
    changes = {
        "data.files": [str(store)],
        "data.orography": str(store),
        "data.train": "2020-01-01/2020-01-05",
        "data.validation": "2020-01-06/2020-01-07",
        "data.coarse_factor": 2,
        "network.channels": [8] * len(config.network.channels),
        "network.embedding": 8,
        "training.steps": 2,
        "training.batch_size": 2,
        "training.validate_every": 2,
        "training.sample_every": 2,
    }
    words = [f"{k}={v!r}".replace("'", '"') for k, v in changes.items()]
    return [word for change in words for word in ("--set", change)]


def test_era5_zssd_trains_on_the_structure_of_arco_era5(shell: Shell, tmp_path: Path) -> None:
    store = tmp_path / "arco.zarr"
    archive = xr.decode_cf(write_arco_era5(store, days=7, lat=LAT, lon=LON, hours=3, zarr_format=3))
    recipe = EXAMPLES / "era5-zssd.toml"
    words = [
        "train",
        "diffusion",
        str(recipe),
        "--device",
        "cpu",
        *small(store, load_config(recipe)),
    ]
    assert shell(*words).code == 0
    prior = read_prior(tmp_path / "era5-zssd")
    card = prior.card
    assert (card.kind, card.grid.shape, card.grid.periodic) == ("diffusion", (17, 24), True)
    assert card.step_days == 0.25
    assert card.training["fields"] == 5 * 4
    assert [v.name for v in card.variables] == ["psl", "uas", "vas", "zg500", "zg250"]
    hours = archive["time"].dt.hour.isin([0, 6, 12, 18]) & (archive["time"].dt.day <= 5)
    for name, source, scale in (
        ("psl", archive["mean_sea_level_pressure"], 1.0),
        ("uas", archive["10m_u_component_of_wind"], 1.0),
        ("zg250", archive["geopotential"].sel(level=250), 1 / 9.80665),
    ):
        mean = scale * source.sel(time=hours).mean("time").sortby("latitude").values
        np.testing.assert_allclose(prior.fields[f"climatology_{name}"], mean, rtol=1e-4, atol=1e-3)
    height = archive["geopotential_at_surface"].isel(time=0).sortby("latitude").values / 9806.65
    np.testing.assert_allclose(prior.fields["orography"], height, atol=1e-4)


def test_era5_cm_trains_on_the_structure_of_weatherbench(shell: Shell, tmp_path: Path) -> None:
    store = tmp_path / "weatherbench.zarr"
    archive = xr.decode_cf(
        write_weatherbench(store, days=7, lat=LAT, lon=LON, longitude_first=False)
    )
    recipe = EXAMPLES / "era5-cm.toml"
    words = ["train", "consistency", str(recipe), "--device", "cpu"]
    changes = [*small(store, load_config(recipe)), "--set", 'data.grid="r16x12"']
    assert shell(*words, *changes).code == 0
    prior = read_prior(tmp_path / "era5-cm")
    card = prior.card
    assert (card.kind, card.grid.shape, card.grid.periodic) == ("consistency", (12, 16), True)
    assert (card.step_days, card.training["fields"], card.sigma_min) == (1.0, 5, 0.002)
    midnight = (archive["time"].dt.hour == 0) & (archive["time"].dt.day <= 5)
    rain = 1e3 * archive["total_precipitation_24hr"].sel(time=midnight).sortby("latitude")
    weights = np.broadcast_to(np.cos(np.radians(LAT[::-1]))[:, None], (LAT.size, LON.size))
    theirs = np.average(rain.mean("time").values, weights=weights)
    fields = load_file(tmp_path / "era5-cm" / FIELDS_FILE)
    ours = np.average(fields["climatology_pr"], weights=card.grid.areas)
    assert ours == pytest.approx(theirs, rel=0.05)
    assert len(list((tmp_path / "era5-cm" / "training").glob("samples-*.png"))) == 1


def test_the_job_script_is_a_shell_script() -> None:
    script = EXAMPLES / "train.slurm"
    subprocess.run(["bash", "-n", str(script)], check=True)
