"""Fixtures that several test files share: a tiny prior, and data tiny enough to train on."""

from __future__ import annotations

import os

# One thread in this process and in those it starts, before anything brings its pool of threads:
# the processes of pytest-xdist do not fight for cores, and all add up in the same order.
os.environ["OMP_NUM_THREADS"] = "1"

import logging
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from climdown.config import (
    DataConfig,
    NetworkConfig,
    PriorConfig,
    TrainingConfig,
    VariableConfig,
)
from climdown.methods import registry
from climdown.priors.prior import Prior
from climdown.training import train_diffusion
from tests.commands import Shell
from tests.factories import Floats, make_dataset
from tests.hub import REPO, LoopbackHub, serving, write_named_prior
from tests.priors import write_tiny_prior
from tests.training_data import LAT, LON, write_statics

# How long an example takes says something of the machine alone.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches of this process, and of those it starts, lie in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CLIMDOWN_CACHE_DIR", "HF_HOME", "XDG_CACHE_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(autouse=True)
def own_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods that a test registers are gone after it."""
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory: pytest.TempPathFactory) -> Prior:
    """A prior of tas and pr with random weights; do not change its files."""
    return write_tiny_prior(tmp_path_factory.mktemp("priors") / "tiny")


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """The command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Shell(monkeypatch, capsys)


@pytest.fixture
def warned(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """What the package warns of, whatever a command did to its log before."""
    monkeypatch.setattr(logging.getLogger("climdown"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("climdown"), "propagate", True)
    caplog.set_level(logging.WARNING, logger="climdown")
    return caplog


@pytest.fixture(scope="session")
def training_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twenty days of tas (K) and pr (kg m-2 s-1), and their orography.

    tas lacks its first cell from day 3 on, and the whole last row on day 5; pr misses nothing.
    """
    folder = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(0)
    # Days differ as a whole, cells a little: something that a small network learns at once.
    noise = rng.normal(size=(20, 1, 1)) + 0.3 * rng.normal(size=(20, LAT.size, LON.size))

    def tas(lat: Floats, lon: Floats, step: int) -> Floats:
        values: Floats = 280.0 + 2.0 * (lat - 40.0) + np.cos(lon) + 0.1 * step + noise[step]
        if step >= 3:
            values[0, 0] = np.nan
        if step == 5:
            values[-1] = np.nan
        return values

    def pr(lat: Floats, lon: Floats, step: int) -> Floats:
        values: Floats = 2e-5 * np.exp(noise[step] + 0.1 * (lat - 40.0) + 0.0 * lon)
        return values

    times = [day + 0.5 for day in range(20)]
    make_dataset(path=folder / "tas.nc", lat=LAT, lon=LON, times=times, values=tas)
    make_dataset(
        path=folder / "pr.nc",
        name="pr",
        standard_name="precipitation_flux",
        units="kg m-2 s-1",
        lat=LAT,
        lon=LON,
        times=times,
        values=pr,
    )
    write_statics(folder / "static.nc")
    return folder


@pytest.fixture(scope="session")
def training_config() -> PriorConfig:
    """Training of a very small network on `training_data`: 14 days, then 6 for validation."""
    variables = (
        VariableConfig(
            name="tas", files=("tas.nc",), standard_names=("air_temperature",), units="degC"
        ),
        VariableConfig(
            name="pr",
            files=("pr.nc",),
            standard_names=("precipitation_flux",),
            units="mm day-1",
            transform="log",
            minimum=0.0,
        ),
    )
    return PriorConfig(
        name="tiny",
        title="A prior for tests",
        data=DataConfig(
            variables=variables,
            train="2001-01-01/2001-01-14",
            validation="2001-01-15/2001-01-20",
            orography="static.nc",
            coarse_factor=2,
            licence="none: synthetic",
            attribution="made up",
        ),
        network=NetworkConfig(channels=(4, 8), heads=2, embedding=8, dropout=0.1),
        training=TrainingConfig(
            steps=6, batch_size=4, warmup=2, seed=3, validate_every=2, checkpoint_every=2
        ),
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """The Hub for this test and its children."""
    with serving(monkeypatch, tmp_path / "home") as server:
        yield server


@pytest.fixture
def era5(hub: LoopbackHub, tmp_path: Path, tiny_prior: Prior) -> Path:
    """The folder of a prior "era5-zssd" that the Hub has."""
    folder = write_named_prior(tmp_path / "source", tiny_prior.folder)
    hub.publish(REPO, folder)
    return folder


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, training_config: PriorConfig, training_data: Path
) -> Prior:
    """A prior after the few steps of `training_config`."""
    output = tmp_path_factory.mktemp("trained") / "tiny"
    return train_diffusion(training_config, data=training_data, output=output)
