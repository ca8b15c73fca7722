"""Configurations: frozen dataclasses, read from TOML or options, checked when built."""

from climdown.config.run import BASELINES, METHODS, RunConfig
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
from climdown.options import from_mapping

__all__ = [
    "BASELINES",
    "METHODS",
    "ConsistencyConfig",
    "DataConfig",
    "NetworkConfig",
    "PriorConfig",
    "RunConfig",
    "SamplingConfig",
    "TrainingConfig",
    "VariableConfig",
    "from_mapping",
    "load_config",
]
