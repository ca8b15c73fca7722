"""Configurations: what TOML may say, what is refused, and in which words."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown import errors
from climdown.adjust.options import OTOptions, QDMOptions
from climdown.config import (
    ConsistencyConfig,
    DataConfig,
    NetworkConfig,
    PriorConfig,
    RunConfig,
    TrainingConfig,
    VariableConfig,
    load_config,
)
from climdown.errors import ClimdownError, ConfigError
from climdown.options import from_mapping
from climdown.pipeline.choices import choose
from tests.commands import run_config

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

MINIMAL = """
name = "tiny"
title = "A prior for tests"

[data]
train = "2000/2003"
validation = "2004/2005"
orography = "static.nc"
coarse_factor = 4

[[data.variables]]
name = "tas"
files = ["tas_*.nc"]
standard_names = ["air_temperature"]
units = "degC"

[training]
steps = 10
"""


def variable(**changes: Any) -> dict[str, Any]:
    entry = {"name": "tas", "files": ["a.nc"], "standard_names": ["air_temperature"], "units": "K"}
    return entry | changes


def data(**changes: Any) -> dict[str, Any]:
    entry = {"variables": [variable()], "train": "2000/2003", "validation": "2004/2005"}
    return entry | {"orography": "static.nc", "coarse_factor": 4} | changes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prior.toml"


def test_a_minimal_file_is_completed_by_defaults(path: Path) -> None:
    path.write_text(MINIMAL, encoding="utf-8")
    config = load_config(path)
    expected = VariableConfig(
        name="tas", files=("tas_*.nc",), standard_names=("air_temperature",), units="degC"
    )
    assert config.data.variables == (expected,)
    assert config.data.coarse_factor == 4
    assert config.training == TrainingConfig(steps=10)
    assert config.network == NetworkConfig()


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda p: p.stem)
def test_the_examples_are_valid_and_named_after_their_prior(example: Path) -> None:
    assert load_config(example).name == example.stem


def test_there_are_examples() -> None:
    assert list(EXAMPLES.glob("*.toml"))


def test_whole_numbers_serve_as_floats_and_lists_as_tuples() -> None:
    config = from_mapping(VariableConfig, variable(offset=2, minimum=0))
    assert isinstance(config.offset, float)
    assert isinstance(config.minimum, float)
    assert from_mapping(NetworkConfig, {"channels": [8, 16]}).channels == (8, 16)


def test_nothing_may_be_said_where_nothing_is_the_default() -> None:
    assert from_mapping(VariableConfig, variable(minimum=None)).minimum is None


def test_configurations_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NetworkConfig().blocks = 2  # type: ignore[misc]


@settings(max_examples=30)
@given(
    channels=st.lists(st.sampled_from([8, 16, 64]), min_size=1, max_size=4),
    blocks=st.integers(1, 4),
    dropout=st.floats(0, 0.99),
)
def test_mapping_and_dataclass_say_the_same(
    channels: list[int], blocks: int, dropout: float
) -> None:
    config = NetworkConfig(channels=tuple(channels), blocks=blocks, dropout=dropout)
    assert from_mapping(NetworkConfig, dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("kind", "entries", "message"),
    [
        (TrainingConfig, {"steps": "many"}, "entry 'steps' is 'many'; expected int"),
        (TrainingConfig, {"steps": True}, "entry 'steps' is True; expected int"),
        (TrainingConfig, {"steps": 2.5}, "entry 'steps' is 2.5; expected int"),
        (TrainingConfig, {"steps": 1, "ema": 0.9}, "entry 'ema' is 0.9; expected a list"),
        (TrainingConfig, {"steps": 1, "ema": [False]}, "entry 'ema[0]' is False; expected float"),
        (TrainingConfig, {"steps": 1, "ema": ["0.9"]}, "entry 'ema[0]' is '0.9'; expected float"),
        (
            TrainingConfig,
            {"steps": 1, "precision": "fp8"},
            "entry 'precision' is 'fp8'; expected 'fp32' or 'bf16'",
        ),
        (
            TrainingConfig,
            {"steps": 1, "optimiser": "sgd"},
            "entry 'optimiser' is 'sgd'; expected 'adamw' or 'radam'",
        ),
        (
            TrainingConfig,
            {"steps": 1, "noise": "white"},
            "entry 'noise' is 'white'; expected 'edm' or 'ddpm' or 'vp'",
        ),
        (
            TrainingConfig,
            {"steps": 1, "ema_profile": "flat"},
            "entry 'ema_profile' is 'flat'; expected 'exponential' or 'power'",
        ),
        (
            ConsistencyConfig,
            {"recipe": "distilled"},
            "entry 'recipe' is 'distilled'; expected 'tuned' or 'improved' or 'original'",
        ),
        (DataConfig, data(months=["May"]), "entry 'months[0]' is 'May'; expected int"),
        (DataConfig, data(grid=0.5), "entry 'grid' is 0.5; expected str"),
        (TrainingConfig, {}, "missing entry 'steps'"),
        (TrainingConfig, {"step": 1}, "unknown entry 'step'; expected one of batch_size, "),
        (VariableConfig, variable(units=3), "entry 'units' is 3; expected str"),
        (VariableConfig, variable(files="a.nc"), "entry 'files' is 'a.nc'; expected a list"),
        (VariableConfig, variable(files=[1]), "entry 'files[0]' is 1; expected str"),
        (VariableConfig, variable(minimum="none"), "entry 'minimum' is 'none'; expected float"),
        (DataConfig, data(variables=[3]), "entry 'variables[0]' is 3; expected VariableConfig"),
        (DataConfig, data(variables=[{}]), "missing entry 'variables[0].name'"),
        (
            DataConfig,
            data(variables=[variable(unit="K")]),
            "unknown entry 'variables[0].unit'; expected one of cell_methods, files",
        ),
    ],
)
def test_wrong_entries_are_named_with_what_was_expected(
    kind: type[Any], entries: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        from_mapping(kind, entries)


@pytest.mark.parametrize(
    ("kind", "entries", "message"),
    [
        (DataConfig, data(variables=[variable(files=[])]), "variable 'tas' names no files"),
        (VariableConfig, variable(standard_names=[]), "variable 'tas' names no standard_names"),
        (VariableConfig, variable(offset=0), "variable 'tas' needs offset > 0, found 0.0"),
        (DataConfig, data(variables=[]), "the configuration names no variables"),
        (DataConfig, data(coarse_factor=1), "coarse_factor is 1; need at least 2"),
        (DataConfig, data(min_valid=0), "min_valid is 0.0; need 0 < min_valid <= 1"),
        (DataConfig, data(min_valid=1.5), "min_valid is 1.5; need 0 < min_valid <= 1"),
        (DataConfig, data(months=[1, 13]), "data.months is [1, 13]; need numbers from 1 to 12"),
        (DataConfig, data(months=[0]), "data.months is [0]; need numbers from 1 to 12"),
        (DataConfig, data(hours=[24]), "data.hours is [24]; need numbers from 0 to 23"),
        (DataConfig, data(hours=[-1]), "data.hours is [-1]; need numbers from 0 to 23"),
        (DataConfig, data(statistics_fields=1), "statistics_fields is 1; need at least 2"),
        (DataConfig, data(cache_gib=-1), "data.cache_gib is -1.0; need at least 0"),
        (DataConfig, data(cache_gib=float("nan")), "data.cache_gib is nan; need at least 0"),
        (NetworkConfig, {"channels": []}, "network.channels is []; need one or more numbers > 0"),
        (NetworkConfig, {"channels": [-2]}, "network.channels is [-2]; need"),
        (NetworkConfig, {"blocks": 0}, "network.blocks is 0; need at least 1"),
        (NetworkConfig, {"embedding": 0}, "network.embedding is 0; need at least 1"),
        (NetworkConfig, {"attention": -1}, "network.attention is -1; need at least 0"),
        (NetworkConfig, {"patterns": -1}, "network.patterns is -1; need at least 0"),
        (NetworkConfig, {"tile": 8}, "network.tile is 8; 3 levels need at least 16"),
        (NetworkConfig, {"channels": [32, 6]}, "ends in 6, not divisible by 4 heads"),
        (NetworkConfig, {"heads": 0}, "network.heads is 0; need at least 1"),
        (NetworkConfig, {"dropout": 1}, "network.dropout is 1.0; need 0 <= dropout < 1"),
        (NetworkConfig, {"dropout": -0.1}, "network.dropout is -0.1"),
        (TrainingConfig, {"steps": 0}, "training.steps must be positive"),
        (TrainingConfig, {"steps": 1, "batch_size": 0}, "training.batch_size must be positive"),
        (TrainingConfig, {"steps": 1, "validate_every": 0}, "training.validate_every must"),
        (TrainingConfig, {"steps": 1, "checkpoint_every": -1}, "training.checkpoint_every must"),
        (TrainingConfig, {"steps": 1, "micro_batch": 0}, "training.micro_batch is 0; need at lea"),
        (TrainingConfig, {"steps": 1, "sample_every": -1}, "training.sample_every is -1; need at"),
        (TrainingConfig, {"steps": 1, "seed": -1}, "training.seed is -1; need 0 to 2147483647"),
        (TrainingConfig, {"steps": 1, "seed": 2**31}, "training.seed is 2147483648; need 0 to"),
        (
            TrainingConfig,
            {"steps": 1, "ema": [0.9, 1]},
            "training.ema is [0.9, 1.0]; need one or more numbers between 0 and 1",
        ),
        (TrainingConfig, {"steps": 1, "ema": []}, "training.ema is []; need one or more numbers"),
        (TrainingConfig, {"steps": 1, "ema": [0.0]}, "training.ema is [0.0]; need one or more"),
        (
            TrainingConfig,
            {"steps": 1, "ema": [0.1, 0.29], "ema_profile": "power"},
            "training.ema is [0.1, 0.29]; need one or more numbers between 0 and 0.28",
        ),
        (
            ConsistencyConfig,
            {"recipe": "tuned"},
            'consistency.recipe "tuned" needs a diffusion prior to start from; name it as',
        ),
        (
            ConsistencyConfig,
            {"recipe": "improved", "sigma_min": 0},
            "consistency.sigma_min is 0.0 and sigma_max 80.0; need 0 < sigma_min < sigma_max",
        ),
        (
            ConsistencyConfig,
            {"recipe": "improved", "sigma_min": 2, "sigma_max": 1},
            "consistency.sigma_min is 2.0 and sigma_max 1.0; need",
        ),
        (ConsistencyConfig, {"initial": "x", "std": 0}, "consistency.std is 0.0; need more than 0"),
        (ConsistencyConfig, {"initial": "x", "stages": 0}, "consistency.stages is 0; need at lea"),
    ],
)
def test_values_out_of_range_are_refused(
    kind: type[Any], entries: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        from_mapping(kind, entries)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "gan"}, "unknown method 'gan'"),
        ({"members": 0}, "members is 0; need at least 1"),
        ({"seed": -1}, "seed is -1; need 0 to 2147483647"),
        ({"steps": 0}, "steps is 0; need at least 1"),
        ({"steps": "many"}, "entry 'steps' is 'many'; expected int"),
        ({"speed": 9}, "unknown entry 'speed'; expected one of guidance_scale, sampler, steps"),
        ({"guidance_scale": -0.5}, "guidance scale is -0.5; need at least 0"),
        ({"guidance_scale": 2.0}, "the guidance scale is one of the reference sampler"),
        ({"sampler": "slow"}, "entry 'sampler' is 'slow'; expected 'fast' or 'reference'"),
        ({"filter_scale": 0.0}, "filter scale is 0.0; expected degrees > 0, auto or native"),
        ({"filter_scale": "wide"}, "filter scale is wide"),
        ({"device": "tpu"}, "unknown device 'tpu'; expected auto, cpu or cuda"),
        ({"batch_size": 0}, "batch size is 0; expected a number > 0, or auto"),
        ({"batch_size": "big"}, "batch size is big"),
    ],
)
def test_wrong_options_of_a_run_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        choose(run_config(**changes))


HISTORICAL = {"historical": ("hist.nc",)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": "mean"}, "unknown bias adjustment 'mean'; expected none, qdm or ot"),
        (HISTORICAL, "--historical, --reference and their periods are for bias adjustment; give"),
        ({"reference": ("obs.nc",)}, "are for bias adjustment; give --bias qdm or ot"),
        ({"historical_period": "1990/1999"}, "are for bias adjustment; give --bias qdm or ot"),
        ({"reference_period": "1990/1999"}, "are for bias adjustment; give --bias qdm or ot"),
        ({"bias": "qdm"}, "--bias qdm needs the same model in the reference's period; give --his"),
        ({"bias": "ot", "reference": ("obs.nc",)}, "--bias ot needs the same model in the refer"),
        ({"bias": "ot", **HISTORICAL}, "--bias ot needs whole days of observations, and a prior c"),
        (
            {"bias": "qdm", **HISTORICAL, "reference_period": "1990/1999"},
            "the prior's quantiles have no dates; leave --ref-period out, or give --reference",
        ),
    ],
)
def test_wrong_options_of_bias_adjustment_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        choose(run_config(**changes))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (QDMOptions, {"kind": "sum"}, "unknown kind 'sum'; expected auto or additive or multipl"),
        (QDMOptions, {"group": "week"}, "unknown group 'week'; expected none or month or day"),
        (QDMOptions, {"interpolation": "cubic"}, "unknown interpolation 'cubic'; expected linear"),
        (QDMOptions, {"tails": "long"}, "unknown tails 'long'; expected constant or extremes"),
        (QDMOptions, {"quantiles": 1}, "quantiles is 1; need at least 2"),
        (QDMOptions, {"window": 30}, "window is 30 days; need an odd number from 1 to 365"),
        (QDMOptions, {"window": 367}, "window is 367 days"),
        (QDMOptions, {"window": -1}, "window is -1 days"),
        (QDMOptions, {"max_ratio": 1.0}, "max ratio is 1; need more than 1"),
        (QDMOptions, {"max_ratio": float("nan")}, "max ratio is nan"),
        (QDMOptions, {"dry_threshold": -0.1}, "dry threshold is -0.1 mm day-1; need at least 0"),
        (QDMOptions, {"years": 9}, "years is 9; need 0 or at least 10"),
        (QDMOptions, {"seed": -1}, "seed is -1; need 0 to 2147483647"),
        (OTOptions, {"group": "dayofyear"}, "unknown group 'dayofyear'; expected none, season or"),
        (OTOptions, {"map": "mean"}, "unknown map 'mean'; expected barycentre or sampled"),
        (OTOptions, {"seed": -1}, "seed is -1; need 0 to 2147483647"),
        (OTOptions, {"epsilon": 0.0}, "epsilon is 0.0; need more than 0"),
        (OTOptions, {"eofs": 0.0}, "eofs is 0.0; need a share of the variance up to 1, or a whole"),
        (OTOptions, {"eofs": -2.0}, "eofs is -2.0"),
        (OTOptions, {"eofs": 1.5}, "eofs is 1.5"),
        (OTOptions, {"tolerance": 0.0}, "tolerance is 0.0; need more than 0"),
        (OTOptions, {"max_iterations": 0}, "max iterations is 0; need at least 1"),
        (OTOptions, {"years": 1}, "years is 1; need 0 or at least 10"),
    ],
)
def test_wrong_options_of_the_methods_are_refused(
    kind: type[Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        kind(**changes)


def test_defaults_and_limits_of_the_methods_are_allowed() -> None:
    assert QDMOptions() == QDMOptions(window=31, dry_threshold=None)
    assert QDMOptions(window=365, quantiles=2, years=10, dry_threshold=0.0).window == 365
    assert OTOptions(eofs=1.0).eofs == 1.0
    assert OTOptions(eofs=2.0, epsilon=1e-3, years=10).group == "season"
    config = RunConfig(bias="qdm", bias_options={"window": 61}, historical=("hist.nc",))
    assert choose(config).adjustment_options == QDMOptions(window=61)


def test_a_level_is_a_pressure_in_pascal(path: Path) -> None:
    path.write_text(MINIMAL.replace('units = "degC"', 'units = "degC"\nlevel = 85000'))
    assert load_config(path).data.variables[0].level == 85_000.0
    with pytest.raises(ConfigError, match=r"variable 'tas': level is -5\.0 Pa; need more than 0"):
        from_mapping(VariableConfig, variable(level=-5))


def test_options_of_a_run_may_be_numbers_or_words() -> None:
    assert choose(RunConfig()).options.steps is None
    config = run_config(
        sampler="reference", steps=1, guidance_scale=0.0, filter_scale=2.5, batch_size=8
    )
    assert (config.filter_scale, config.batch_size) == (2.5, 8)
    assert choose(config).options.guidance_scale == 0.0
    assert RunConfig(filter_scale="native").filter_scale == "native"


def test_a_missing_file_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*prior\.toml: No such"):
        load_config(path)


@pytest.mark.parametrize("content", [b"name = ", b"name = '\xff'"])
def test_a_file_that_is_not_toml_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"prior\.toml is not valid TOML"):
        load_config(path)


def test_an_error_in_a_file_names_file_and_entry(path: Path) -> None:
    path.write_text(MINIMAL.replace("steps = 10", "steps = 10\nema = [2]"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"prior\.toml: training\.ema is \[2\.0\]"):
        load_config(path)
    path.write_text(MINIMAL.replace("coarse_factor", "factor"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"prior\.toml: unknown entry 'data\.factor'"):
        load_config(path)


def test_entries_are_set_instead_of_the_files(path: Path) -> None:
    path.write_text(MINIMAL, encoding="utf-8")
    config = load_config(
        path,
        [
            "name=other",
            "title = a title = with signs",
            "training.steps=20",
            "training.steps=30",
            "training.learning_rate = 1e-3",
            "training.ema=[0.9, 0.99]",
            "network.channels=[8, 16]",
            'data.train="2001/2002"',
            "data.grid=-3,-1,40,41,0.5",
            "consistency.recipe=improved",
            "consistency.sigma_max=50",
        ],
    )
    assert (config.name, config.title) == ("other", "a title = with signs")
    assert (config.training.steps, config.training.learning_rate) == (30, 1e-3)
    assert config.training.ema == (0.9, 0.99)
    assert config.network.channels == (8, 16)
    assert (config.data.train, config.data.grid) == ("2001/2002", "-3,-1,40,41,0.5")
    assert config.consistency == ConsistencyConfig(recipe="improved", sigma_max=50.0)
    # What is not set stays.
    assert config.data.validation == "2004/2005"
    assert load_config(path, []) == load_config(path)


def test_a_whole_list_of_tables_may_be_set(path: Path) -> None:
    path.write_text(MINIMAL, encoding="utf-8")
    text = '{name = "pr", standard_names = ["precipitation_flux"], units = "mm", files = ["p.nc"]}'
    (entry,) = load_config(path, [f"data.variables=[{text}]"]).data.variables
    assert (entry.name, entry.files) == ("pr", ("p.nc",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.steps", "cannot set 'training.steps'; expected table.name=value"),
        ("=3", "cannot set '=3'; expected table.name=value"),
        ("training.=3", "cannot set 'training.=3'; expected table.name=value"),
        (".steps=3", "cannot set '.steps=3'; expected table.name=value"),
        ("name.first=x", "cannot set 'name.first': 'name' is no table"),
        ("data.variables.units=K", "cannot set 'data.variables.units': 'variables' is no table"),
        ("training.step=3", "prior.toml: unknown entry 'training.step'; expected one of"),
        ("training.steps=many", "prior.toml: entry 'training.steps' is 'many'; expected int"),
        ("training.steps=0", "prior.toml: training.steps must be positive"),
        ("training.ema=0.9", "prior.toml: entry 'training.ema' is 0.9; expected a list"),
        ("consistency.stages=3", 'prior.toml: consistency.recipe "tuned" needs a diffusion prior'),
    ],
)
def test_entries_that_cannot_be_set_are_named(path: Path, change: str, message: str) -> None:
    path.write_text(MINIMAL, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(path, [change])


def test_a_consistency_section_is_there_or_not(path: Path) -> None:
    path.write_text(MINIMAL, encoding="utf-8")
    assert load_config(path).consistency is None
    section = '\n[consistency]\ninitial = "eobs-iberia-zssd"\nstages = 4\n'
    path.write_text(MINIMAL + section, encoding="utf-8")
    expected = ConsistencyConfig(recipe="tuned", initial="eobs-iberia-zssd", stages=4)
    assert load_config(path).consistency == expected


def test_the_example_mapping_of_the_tests_is_itself_valid() -> None:
    entries = {"name": "tiny", "title": "", "data": data(), "training": {"steps": 1}}
    assert from_mapping(PriorConfig, entries).data.variables[0].units == "K"


def test_every_kind_of_error_has_its_own_exit_code() -> None:
    codes = {kind.__name__: kind.exit_code for kind in ClimdownError.__subclasses__()}
    assert codes.keys() <= vars(errors).keys()
    assert codes["ConfigError"] == 2
    assert codes["Requeue"] == 75
    assert len(set(codes.values())) == len(codes)
    # 0 is success, 1 a bug, 126 and above belong to the shell.
    assert all(1 < code < 126 for code in codes.values())
