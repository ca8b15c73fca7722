"""Configurations: frozen dataclasses, read from TOML or options, checked when built."""

from climdown.config.reading import from_mapping
from climdown.config.run import BASELINES, METHODS, OTConfig, QDMConfig, RunConfig
from climdown.config.training import (
    ConsistencyConfig,
    DataConfig,
    NetworkConfig,
    PriorConfig,
    SamplingConfig,
    TrainingConfig,
    VariableConfig,
    load_config,
)

__all__ = [
    "BASELINES",
    "METHODS",
    "ConsistencyConfig",
    "DataConfig",
    "NetworkConfig",
    "OTConfig",
    "PriorConfig",
    "QDMConfig",
    "RunConfig",
    "SamplingConfig",
    "TrainingConfig",
    "VariableConfig",
    "from_mapping",
    "load_config",
]
