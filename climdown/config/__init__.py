"""Configurations: frozen dataclasses, read from TOML or options, checked when built."""

from climdown.config.run import DEFAULT_METHOD, RunConfig
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
    "DEFAULT_METHOD",
    "ConsistencyConfig",
    "DataConfig",
    "NetworkConfig",
    "PriorConfig",
    "RunConfig",
    "SamplingConfig",
    "TrainingConfig",
    "VariableConfig",
    "load_config",
]
