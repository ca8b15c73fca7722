"""Fitting diffusion and consistency priors to observations or reanalysis."""

from climdown.training.data import GRAVITY, prepare
from climdown.training.fit import CHECKPOINT, LOG, train_consistency, train_diffusion
from climdown.training.samples import Dataset, Samples
from climdown.training.trainer import Step, Trainer

__all__ = [
    "CHECKPOINT",
    "GRAVITY",
    "LOG",
    "Dataset",
    "Samples",
    "Step",
    "Trainer",
    "prepare",
    "train_consistency",
    "train_diffusion",
]
