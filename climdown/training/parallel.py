"""Data-parallel training: one process per device, started by `torchrun` or `srun`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from climdown.compute.ranks import own_rank
from climdown.errors import ConfigError


@dataclass(frozen=True)
class Team:
    """The processes that train together; alone, a team of one."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports for all."""
        return self.rank == 0

    def share(self, count: int) -> list[int]:
        """Positions of this process in a batch; each lies with one process of the team."""
        return list(range(self.rank, count, self.size))

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the team, the same bits in every process."""
        if self.size == 1:
            return
        # One message instead of one for each tensor.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        totals = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, totals, strict=True):
            tensor.copy_(total.view_as(tensor))

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Team, torch.device]]:
    """The team that this process was started in, and its own device.

    Raises:
        ConfigError: more processes on a machine than it has CUDA devices, or no contact with them.
    """
    rank = own_rank()
    if rank.size == 1:
        yield Team(), device
        return
    if device.type == "cuda":
        device = _own_device(rank.local)
    _meet(device)
    try:
        yield Team(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


def _own_device(local: int) -> torch.device:
    if local >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local} has no CUDA device of its own, this machine has "
            f"{torch.cuda.device_count()}; start one process per device"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def _meet(device: torch.device) -> None:
    """Join the process group, by the addresses that the launcher set."""
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"cannot join the other training processes ({line}); start them with torchrun"
        ) from None
