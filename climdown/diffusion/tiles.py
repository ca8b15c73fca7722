"""A network over a large domain in overlapping tiles, joined before the solver's next step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Window = tuple[Tensor, Tensor]
"""Cells of a tile: row numbers as a column, and column numbers; they index the last two axes."""


@dataclass(frozen=True)
class Tiles:
    """How a domain is cut into tiles, and how their predictions are blended where they overlap.

    Predictions are blended at every noise level, so that neighbouring tiles agree on one field from
    the first step on and leave no seam (Bar-Tal et al. 2023, arXiv 2302.08113, Eq. 5). Memory is
    that of one tile. A tile's weight falls linearly to its edges, except at edges of the domain.

    Attributes:
        size: rows and columns of a tile; the domain's where that is smaller.
        overlap: cells that neighbours share, at least.
        periodic: whether tiles continue across the last longitude.
        stride: tiles but the last begin at multiples of it, so that the network's coarser levels
            fall on the same cells in all of them.

    Raises:
        ValueError: an overlap that does not fit into the tile.
    """

    size: int
    overlap: int
    periodic: bool = False
    stride: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= self.size - self.stride:
            raise ValueError(
                f"an overlap of {self.overlap} cells does not fit into tiles of {self.size}"
            )

    def apply(
        self, network: nn.Module, x: Tensor, noise: Tensor, static: Tensor, calendar: Tensor
    ) -> Tensor:
        """The network's prediction for the whole domain, shape (batch, variables, ny, nx).

        Args:
            network: called as network(x, noise, static, calendar) for each tile.
            x, noise, static, calendar: of the whole domain, as of `UNet`.
        """
        ny, nx = x.shape[-2:]
        rows, columns = self._spans(ny), self._spans(nx, circular=self.periodic)
        total: Tensor | None = None
        weight = torch.zeros(ny, nx, device=x.device)
        for row, column in itertools.product(rows, columns):
            cells = row.to(x.device)[:, None], column.to(x.device)
            # Summed in single precision, though the network may answer in half.
            part = network(x[(..., *cells)], noise, static[(..., *cells)], calendar).float()
            blend = self._ramp(row, ny)[:, None] * self._ramp(column, nx, circular=self.periodic)
            blend = blend.to(x.device)
            if total is None:
                total = part.new_zeros((*part.shape[:-2], ny, nx))
            total[(..., *cells)] += blend * part
            weight[cells] += blend
        assert total is not None  # there is at least one tile
        return total / weight

    def draw(self, shape: tuple[int, int], device: torch.device) -> Window:
        """A tile anywhere in a domain (rows, columns), by torch's global random state."""
        starts = []
        for length, circular in zip(shape, (False, self.periodic), strict=True):
            # A circle has as many tiles as cells; an axis with ends has those that fit.
            places = length if circular and self.size < length else max(length - self.size, 0) + 1
            starts.append(int(torch.randint(places, ())))
        rows, columns = (
            torch.arange(start, start + min(self.size, length), device=device) % length
            for start, length in zip(starts, shape, strict=True)
        )
        return rows[:, None], columns

    def _spans(self, length: int, *, circular: bool = False) -> Sequence[Tensor]:
        """The cells of each tile along an axis."""
        if self.size >= length:
            return [torch.arange(length)]
        # Rounded down to the stride, so that neighbours share the overlap at least.
        step = (self.size - self.overlap) // self.stride * self.stride
        # The last tile ends at the domain's edge; on a circle it goes on across the seam.
        last = length if circular else length - self.size
        starts = [*range(0, last, step), *([] if circular else [last])]
        return [torch.arange(start, start + self.size) % length for start in starts]

    def _ramp(self, cells: Tensor, length: int, *, circular: bool = False) -> Tensor:
        """Weights of a tile along an axis."""
        flat = torch.ones(len(cells))
        if len(cells) == length:
            return flat
        # From 1 / (overlap + 1) at the edge up to 1: nowhere 0, or a cell would be left without
        # weight.
        rise = torch.arange(1, len(cells) + 1) / (self.overlap + 1)
        # No neighbour shares the cells at the domain's own edges.
        up = flat if cells[0] == 0 and not circular else rise
        down = flat if cells[-1] == length - 1 and not circular else rise.flip(0)
        return torch.minimum(up, down).clamp(max=1.0)
