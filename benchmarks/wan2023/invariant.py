"""Optimal transport between samples of laws that a group of symmetries leaves unchanged.

Where a group moves fields about without changing their distances, nor either of two laws, it
does not change the best plan between these. So a source field may go to any image of a target
field, and all images of one target have one potential: a sample of n fields serves as well as
all their images, for the price of n in every iteration. The test problems look the same from
many places, as no region of the earth does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from climdown.bias import transport
from climdown.bias.points import check_points, check_positive

# Fields (n, *grid) to (g, n, *grid), the group's images of each.
Images = Callable[[Tensor], Tensor]

# So many entries of the cost matrix of all images are held at once; more fall out of the cache.
_BLOCK = 2**20


@dataclass(frozen=True, eq=False)
class InvariantTransport:
    """An entropic plan between orbits, and the map it makes.

    Attributes:
        origin, centre: means over all images of source and target, (points,).
        images: of the target, less `centre`, (g, m, points).
        potential: g_j over `regularisation`, less |y_j|^2 over it, (m,).
        regularisation: reg, in squared units of the fields.
        iterations: how many were needed.
        marginal_error: mean over target fields of |m times the mass received - 1|.
    """

    origin: Tensor
    centre: Tensor
    images: Tensor
    potential: Tensor
    regularisation: float
    iterations: int
    marginal_error: float

    def __call__(self, new: Tensor) -> Tensor:
        """The entropic map (Pooladian & Niles-Weed, arXiv 2109.12004) at new fields (k, *grid).

        The map of an image is the image of the map.
        """
        points = new.flatten(1) - self.origin
        flat = self.images.flatten(0, 1)
        moved = []
        for block in torch.split(points, _rows(self.images)):
            scores = _scores(block, self.images, self.regularisation) + self.potential
            scores = scores.transpose(0, 1).flatten(1)
            moved.append(torch.softmax(scores, 1) @ flat)
        return (self.centre + torch.cat(moved)).reshape(new.shape)


def fit(
    source: Tensor,
    target: Tensor,
    images: Images,
    *,
    epsilon: float,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
) -> InvariantTransport:
    """Sinkhorn's iteration between orbits, by one n x m matrix of costs held in memory.

    The same plan as `bias.transport.fit` makes between all images of both samples.

    Args:
        source, target: fields (n, *grid) and (m, *grid) of one floating type and device.
        images: of fields; an isometry each, together a group.
        epsilon: regularisation as a fraction of the mean squared distance between the samples,
            each about its own mean.
        tolerance: largest marginal error.
        max_iterations: when to give up.

    Raises:
        ConfigError: an option is not positive.
        InputError: samples of wrong shapes or types, or not finite.
        ConvergenceError: the marginal error is still above the tolerance.
    """
    check_points(source.flatten(1), "source")
    check_points(target.flatten(1), "target", like=source.flatten(1))
    check_positive(epsilon=epsilon, tolerance=tolerance, max_iterations=max_iterations)
    # Means over all images are images of themselves: shifts cost neither iterations nor digits.
    turned = images(target).flatten(2)
    origin, centre = images(source).flatten(2).mean((0, 1)), turned.mean((0, 1))
    x, y, turned = source.flatten(1) - origin, target.flatten(1) - centre, turned - centre
    reg = epsilon * float(x.square().sum(1).mean() + y.square().sum(1).mean())
    rows = _rows(turned)
    kernel = torch.cat([_log_sum(_scores(block, turned, reg)) for block in torch.split(x, rows)])
    (_, potential), iterations, error = transport.balance(
        lambda g: _sweep(kernel, g, max(1, _BLOCK // len(y))),
        -y.square().sum(1) / reg,
        1.0,
        tolerance=tolerance,
        limit=max_iterations,
    )
    # Written so that NaN counts as failure.
    if not error <= tolerance:
        raise transport.not_converged(epsilon, error, iterations, tolerance)
    return InvariantTransport(origin, centre, turned, potential, reg, iterations, error)


def _rows(images: Tensor) -> int:
    """Fields whose scores of all images make a block."""
    return max(1, _BLOCK // math.prod(images.shape[:2]))


def _scores(x: Tensor, images: Tensor, reg: float) -> Tensor:
    """2 <x, g y> / reg, (g, k, m)."""
    return (x * (2.0 / reg)) @ images.transpose(1, 2)


def _log_sum(scores: Tensor) -> Tensor:
    """log of the sum over images of exp(scores), (k, m); spoils the scores."""
    peak = scores.amax(0)
    # A good deal faster than torch.logsumexp on a CPU.
    return peak + scores.sub_(peak).exp_().sum(0).log_()


def _sweep(kernel: Tensor, potential: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """What `balance` asks for: the rows' own potential, over reg, and the mass of each target."""
    total, potentials = torch.zeros_like(potential), []
    for block in torch.split(kernel, rows):
        plan = block + potential
        peak = plan.amax(1, keepdim=True)
        plan.sub_(peak).exp_()
        mass = plan.sum(1)
        total += (1.0 / mass) @ plan
        potentials.append(-(peak[:, 0] + mass.log()))
    return torch.cat(potentials), total * (len(potential) / len(kernel))
