"""Devices: choosing and checking them, moving arrays, and what fits into their memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from climdown.arrays import Float32
from climdown.errors import ConfigError

if TYPE_CHECKING:
    import torch

_CPU_BATCH = 16
_CUDA_BATCH = 256
# Some 64 activations of the finest level's width are alive in a guided step.
_ACTIVATIONS = 64


def choose_device(name: str) -> torch.device:
    """The device asked for; "auto" takes CUDA where there is one.

    Raises:
        ConfigError: CUDA was asked for and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("no CUDA device is available; use --device cpu or auto")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")


def choose_batch_size(wanted: int | str, *, width: int, cells: int, device: torch.device) -> int:
    """Fields denoised at once: as asked, or by the memory that a guided step takes.

    Args:
        width: channels of the network's finest level.
        cells: of a field.
    """
    import torch

    if isinstance(wanted, int):
        return wanted
    if device.type == "cpu":
        return _CPU_BATCH
    field_bytes = _ACTIVATIONS * 4 * width * cells
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(_CUDA_BATCH, int(0.5 * free) // field_bytes))


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ConfigError: an unknown one, or CUDA where there is none.
    """
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"unknown device '{device}'; expected cpu or cuda")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("no CUDA device is available; use --device cpu")


def to_device(values: Float32, device: str) -> Any:
    """An array as NumPy's, or as torch's on a CUDA device."""
    if device == "cpu":
        return values
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def to_host(values: Any) -> Float32:
    """The way back."""
    return values if isinstance(values, np.ndarray) else np.asarray(values.cpu().numpy())


@contextmanager
def plain_errors() -> Iterator[None]:
    """Say in one line that a cluster or a device gave up.

    Raises:
        ConfigError: the cluster lost a block, or the device ran out of memory.
    """
    try:
        yield
    except Exception as error:
        # Named, not imported: neither package need be there.
        remedy = {
            "KilledWorker": "a Dask worker died, likely for want of memory; give workers more",
            "FutureCancelledError": "the Dask cluster went away; start it and run again",
            "OutOfMemoryError": "the CUDA device ran out of memory; use --device cpu",
        }.get(type(error).__name__)
        if remedy is None:
            raise
        raise ConfigError(remedy) from None
