"""Entropic optimal transport between two samples: a map from biased days to observed-like ones.

Points are rows: source (n, d) the model's days, target (m, d) the observed ones, in columns that
have been made comparable (`Standardiser`) and perhaps few (`eofs`). The plan minimises
<C, plan> + reg KL(plan | uniform x uniform) with C the squared Euclidean distance; its
barycentric projection moves the sample, and the entropic map extends it to new points
(Wan et al. 2023, arXiv 2305.15618; Pooladian & Niles-Weed, arXiv 2109.12004).

Arrays may be NumPy's or torch's, on any device, in one floating type: POT's backends compute.

What the map cannot do: a mapped point is a weighted mean of target points. A larger epsilon
averages more of them and loses variance; a smaller one copies single days; none leaves the
convex hull of the target, so a shift in climate has to be carried around the map (`adjust`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import ot
from ot.backend import get_backend

from climdown.bias.points import centred, check_points, check_positive, mean_square
from climdown.bias.reduction import Map
from climdown.errors import ConfigError, ConvergenceError, InputError
from climdown.transforms import Array

logger = logging.getLogger(__name__)

# A hundredth of the mean squared distance averages about two days in fields of a hundred cells:
# the variance is kept, and the result is more than a copy of the nearest day.
EPSILON = 0.01
CANDIDATES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002)

# Up to _DENSE entries POT holds the whole cost matrix; beyond, blocks of about _BLOCK entries are
# computed again in every iteration.
_DENSE = 2**20
_BLOCK = 2**23
# Sinkhorn's steps are over-relaxed once the marginal error is below _ROUGHLY, which saves a third
# of the iterations; below 2 the iteration still converges locally (Thibault et al. 2021,
# doi:10.3390/a14050143). Over-relaxed too early, it can overshoot.
_RELAXATION = 1.5
_ROUGHLY = 0.3
# In single precision a column may receive no mass: its step, the logarithm, is bounded by this.
_TINY = 1e-37


@dataclass(frozen=True, eq=False)
class Transport:
    """An entropic plan between two samples, and the map it makes.

    Attributes:
        source: the sample moved, (n, d).
        target: the sample it is moved onto, (m, d).
        potentials: f (n,) and g (m,) in squared units of the columns; the plan is
            exp((f_i + g_j - C_ij) / reg) / (n m), its rows exact, its columns within
            `marginal_error`. C is taken between points about their own sample's mean: that
            leaves the plan unchanged, and shifts cost neither iterations nor digits.
        epsilon: regularisation as a fraction of `scale`.
        scale: mean squared distance between the samples, each about its own mean.
        iterations: how many it took.
        marginal_error: sum over target points of |mass received - 1 / m|, of 2 at most.
        batch_size: how many rows of the cost matrix are held at once.
    """

    source: Array
    target: Array
    potentials: tuple[Array, Array]
    epsilon: float
    scale: float
    iterations: int
    marginal_error: float
    batch_size: int

    @property
    def regularisation(self) -> float:
        """The reg of the plan, in squared units of the columns."""
        return self.epsilon * self.scale

    def project(self) -> Array:
        """Barycentric projection of the source: each point's mean under the plan, (n, d)."""
        nx, f, x = get_backend(self.source), self.potentials[0], centred(self.source)
        # The exponent (f_i + g_j - C_ij) / reg with C_ij = |x_i|^2 - 2 x_i.y_j + |y_j|^2: here
        # what depends on i alone, in `_scores` the rest.
        level = (f - nx.sum(x**2, axis=1)) / self.regularisation
        blocks = []
        for start in range(0, len(x), self.batch_size):
            rows = slice(start, start + self.batch_size)
            plan = nx.exp(self._scores(x[rows]) + level[rows, None])
            # Rows of the plan sum to 1 / n, so that those of exp(.) / m sum to 1: a conditional
            # mean.
            blocks.append(nx.dot(plan, self.target) / len(self.target))
        return nx.concatenate(blocks, axis=0)

    def __call__(self, new: Array) -> Array:
        """The entropic map at new points (k, d); on the source itself it is `project`.

        Raises:
            InputError: the points have another shape or type, or are not finite.
        """
        check_points(new, "new", like=self.source)
        nx = get_backend(new, self.target)
        # T(x) = sum_j w_j y_j with w_j ~ exp((g_j - |x - y_j|^2) / reg), normalised: f is not
        # defined off the sample, and the normalisation takes its place.
        x = new - nx.mean(self.source, axis=0)
        blocks = []
        for start in range(0, len(x), self.batch_size):
            weights, total, _ = _softmax(self._scores(x[start : start + self.batch_size]))
            blocks.append(nx.dot(weights, self.target) / total[:, None])
        return nx.concatenate(blocks, axis=0)

    def sample(self, new: Array, uniforms: Array) -> Array:
        """One target point for each new one, drawn with the weights that the map averages by.

        Averages lose variance, draws do not: over many draws the mapped source is distributed as
        the target.

        Args:
            new: points (k, d).
            uniforms: numbers from 0 to 1, one for each point, (k,); they alone decide the draws.

        Raises:
            InputError: as for a call; or there is not one number for each point.
        """
        check_points(new, "new", like=self.source)
        if tuple(uniforms.shape) != (len(new),):
            raise InputError(f"uniforms have shape {tuple(uniforms.shape)}; expected ({len(new)},)")
        nx = get_backend(new, self.target)
        x = new - nx.mean(self.source, axis=0)
        blocks = []
        for start in range(0, len(x), self.batch_size):
            rows = slice(start, start + self.batch_size)
            weights, _, _ = _softmax(self._scores(x[rows]))
            summed = nx.cumsum(weights, axis=1)
            # The sum's own last entry as the total: what rounding makes of it is the same there.
            drawn = nx.sum(summed < uniforms[rows, None] * summed[:, -1:], axis=1)
            blocks.append(self.target[nx.clip(drawn, 0, len(self.target) - 1)])
        return nx.concatenate(blocks, axis=0)

    def _scores(self, x: Array) -> Array:
        return _scores(x, centred(self.target), self.potentials[1], self.regularisation)


def fit(
    source: Array,
    target: Array,
    *,
    epsilon: float = EPSILON,
    tolerance: float = 1e-3,
    max_iterations: int = 5000,
    batch_size: int | None = None,
    start: Transport | None = None,
) -> Transport:
    """Sinkhorn's iteration in the log domain (Cuturi 2013, arXiv 1306.0895).

    Small problems are solved by POT with the whole cost matrix, larger ones by blocks of rows
    in memory that grows with n + m alone.

    Args:
        source, target: samples (n, d) and (m, d), standardised, of one floating type. Single
            precision is enough for tolerances down to about 1e-5.
        epsilon: regularisation as a fraction of the mean squared distance between the samples,
            each about its own mean: no unit, shift or number of columns changes its meaning.
        tolerance: largest marginal error; the mean of the mapped sample is off by no more than
            this times the largest target value.
        max_iterations: when to give up.
        batch_size: rows of the cost matrix held at once; by default POT's solver where the
            whole matrix is small, else blocks of about 8 million entries.
        start: a transport between the same samples, at another epsilon, to begin from.

    Raises:
        ConfigError: an option is not positive.
        InputError: samples of wrong shapes or types, not finite, or without variance.
        ConvergenceError: the marginal error is still above the tolerance.
    """
    check_points(source, "source")
    check_points(target, "target", like=source)
    check_positive(epsilon=epsilon, tolerance=tolerance, max_iterations=max_iterations)
    check_positive(batch_size=1 if batch_size is None else batch_size)
    x, y = centred(source), centred(target)
    # E |x - y|^2 of independent points, whose means are zero here.
    scale = mean_square(x) + mean_square(y)
    if not scale > 0:
        raise InputError("source and target have no variance; transport needs points that differ")
    rows = batch_size or max(1, _BLOCK // len(y))
    problem = _Problem(x, y, epsilon * scale, tolerance, max_iterations, start)
    dense = batch_size is None and len(x) * len(y) <= _DENSE
    solution = _solve_dense(problem) if dense else _solve_blocked(problem, rows)
    potentials, iterations, error = solution
    # Written so that NaN counts as failure.
    if not error <= tolerance:
        raise not_converged(epsilon, error, iterations, tolerance)
    logger.debug("epsilon %g: %d iterations, marginal error %.1e", epsilon, iterations, error)
    return Transport(source, target, potentials, epsilon, scale, iterations, error, rows)


def choose_epsilon(
    source: Array,
    target: Array,
    held_source: Array,
    held_target: Array,
    candidates: Sequence[float] = CANDIDATES,
    *,
    slack: float = 0.1,
    distance: Callable[[Array, Array], float] | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
    batch_size: int | None = None,
) -> float:
    """The largest epsilon that brings held-out source points about nearest to held-out targets.

    A distance between samples is hardly sensitive to which point is mapped where, so it favours
    too small an epsilon. Where the best map is known (Gaussian and cubic, 3 to 40 columns, 300 to
    1000 points) the mean squared error of the one chosen was 1.2 to 2.0 times the least possible
    without slack, 1.0 to 1.7 times with a slack of a tenth; by MMD instead of the sliced
    Wasserstein distance 1.4 to 2.2 times.

    Args:
        source, target: samples to fit, (n, d) and (m, d).
        held_source, held_target: samples to compare, of any lengths.
        candidates: epsilons as in `fit`; those too small to converge are skipped.
        slack: how much farther than the nearest, as a fraction, still counts as nearest.
        distance: of two samples; by default the sliced 2-Wasserstein distance.
        tolerance, max_iterations, batch_size: as in `fit`.

    Raises:
        ConfigError: there are no candidates.
        ConvergenceError: none of them converged.
    """
    if not candidates:
        raise ConfigError("no candidates to choose epsilon from")
    measure = distance or _sliced_wasserstein
    distances: dict[float, float] = {}
    transport: Transport | None = None
    # Large ones first: each solution is a good start for the next.
    for epsilon in sorted(candidates, reverse=True):
        try:
            transport = fit(
                source,
                target,
                epsilon=epsilon,
                tolerance=tolerance,
                max_iterations=max_iterations,
                batch_size=batch_size,
                start=transport,
            )
        except ConvergenceError as error:
            # Smaller ones converge more slowly still.
            logger.info("epsilon %g and smaller ones passed over: %s", epsilon, error)
            break
        distances[epsilon] = float(measure(transport(held_source), held_target))
        logger.info("epsilon %g: distance %.4g", epsilon, distances[epsilon])
    if not distances:
        raise ConvergenceError(
            f"none of the epsilons {', '.join(f'{e:g}' for e in sorted(candidates))} converged "
            f"in {max_iterations} iterations: offer larger ones, or allow more iterations"
        )
    nearest = min(distances.values())
    return max(e for e, value in distances.items() if value <= nearest + slack * abs(nearest))


def adjust(mapping: Map, points: Array, shift: Array) -> Array:
    """Map points of a changed climate with their mean change carried around the map.

    T(x - shift) + shift. Without it the change would be lost, since mapped points lie in the
    target's convex hull. The mean change of the result is `shift`, apart from what T does to
    changes other than in the mean; for the fitted sample plus `shift` it is exact.

    Args:
        mapping: a `Transport`, or one lifted by a `Reduction`.
        points: the simulation, (k, d).
        shift: mean of the simulation's period minus mean of the source, per column, (d,).
    """
    return mapping(points - shift) + shift


@dataclass(frozen=True, eq=False)
class _Problem:
    """Input of Sinkhorn's iteration: centred samples, reg, when to stop, where to begin."""

    x: Array
    y: Array
    reg: float
    tolerance: float
    limit: int
    start: Transport | None


# Potentials, iterations and marginal error.
_Solution = tuple[tuple[Array, Array], int, float]


def _solve_dense(problem: _Problem) -> _Solution:
    """By POT, which holds the whole cost matrix and computes its error every tenth iteration."""
    x, y, reg = problem.x, problem.y, problem.reg
    nx = get_backend(x, y)
    a = nx.full((len(x),), 1.0 / len(x), type_as=x)
    b = nx.full((len(y),), 1.0 / len(y), type_as=x)
    log_a, log_b = nx.log(a), nx.log(b)
    warm = None
    if problem.start is not None:
        f, g = problem.start.potentials
        # POT's u and v contain the masses: plan = exp(u + v - C / reg), u = f / reg + log a.
        warm = (f / reg + log_a, g / reg + log_b)
    # POT also computes exp(u), which is not used here and may overflow.
    with np.errstate(over="ignore"):
        plan, log = ot.bregman.sinkhorn_log(
            a,
            b,
            ot.dist(x, y),
            reg,
            numItermax=problem.limit,
            # POT's error is the Euclidean norm, ours the sum: at most so many times larger.
            stopThr=problem.tolerance / len(y) ** 0.5,
            log=True,
            warn=False,
            warmstart=warm,
        )
    error = float(nx.sum(abs(nx.sum(plan, axis=0) - b)))
    potentials = (reg * (log["log_u"] - log_a), reg * (log["log_v"] - log_b))
    return potentials, int(log["niter"]) + 1, error


def _solve_blocked(problem: _Problem, rows: int) -> _Solution:
    """By blocks of rows, since POT's lazy loop computes each cost three times, and on the CPU.

    One exponential per entry and iteration: normalising the rows is f's step, and the mass that
    then arrives in each column gives both g's step and the marginal error.
    """
    x, y, reg = problem.x, problem.y, problem.reg
    nx = get_backend(x)
    g = problem.start.potentials[1] if problem.start else nx.zeros((len(y),), type_as=y)

    def sweep(g: Array) -> tuple[Array, Array]:
        return _sweep(x, y, g, reg, rows)

    return balance(sweep, g, reg, tolerance=problem.tolerance, limit=problem.limit)


def balance(
    sweep: Callable[[Array], tuple[Array, Array]],
    g: Array,
    reg: float,
    *,
    tolerance: float,
    limit: int,
) -> _Solution:
    """Steps of g until each target receives its mass, or there were too many.

    Args:
        sweep: g (m,) to the f that makes all rows exact, and the mass each target then receives, 1
            when right, (m,).
        g: to begin from.
        reg: regularisation, in units of g.
        tolerance: of the marginal error, the mean of |mass received - 1|.
        limit: sweeps at most.
    """
    nx = get_backend(g)
    iteration = 1
    f, received = sweep(g)
    while (error := float(nx.mean(abs(received - 1.0)))) > tolerance:
        if iteration == limit:
            break
        # Sinkhorn's step is g_j <- g_j - reg log(received_j), which makes column j exact for this
        # f.
        relaxation = _RELAXATION if error < _ROUGHLY else 1.0
        g = g - relaxation * reg * nx.log(nx.clip(received, _TINY, None))
        f, received = sweep(g)
        iteration += 1
    return (f, g), iteration, error


def not_converged(
    epsilon: float, error: float, iterations: int, tolerance: float
) -> ConvergenceError:
    """The error for a plan that has not converged."""
    return ConvergenceError(
        f"Sinkhorn at epsilon {epsilon:g} reached a marginal error of {error:.1e} in "
        f"{iterations} iterations; asked for were {tolerance:.1e}: raise epsilon, "
        "or allow more iterations"
    )


def _sweep(x: Array, y: Array, g: Array, reg: float, rows: int) -> tuple[Array, Array]:
    """The f (n,) that makes all rows exact, and the mass each column then gets, 1 when right."""
    nx = get_backend(x, y)
    received = nx.zeros((len(y),), type_as=y)
    parts = []
    for first in range(0, len(x), rows):
        block = x[first : first + rows]
        # Each row's sum over j of exp((g_j - C_ij) / reg), as total exp(peak) exp(-|x_i|^2 / reg):
        # so f_i = -reg log(sum / m), and the normalised row is n times that of the plan.
        weights, total, peak = _softmax(_scores(block, y, g, reg))
        received = received + nx.dot(1.0 / total, weights)
        parts.append(nx.sum(block**2, axis=1) - reg * (peak + nx.log(total / len(y))))
    return nx.concatenate(parts, axis=0), received * (len(y) / len(x))


def _scores(x: Array, y: Array, g: Array, reg: float) -> Array:
    """(g_j - C_ij) / reg (k, m), without |x_i|^2, which a row's normalisation takes out."""
    nx = get_backend(x, y)
    # A matrix product in place of the differences x_i - y_j, which would take d times the memory.
    scores = nx.dot(x * (2.0 / reg), y.T)
    scores += ((g - nx.sum(y**2, axis=1)) / reg)[None, :]
    return scores


def _softmax(scores: Array) -> tuple[Array, Array, Array]:
    """exp(scores - peak) (k, m), its row sums (k,) and the peaks (k,); overwrites the scores."""
    nx = get_backend(scores)
    # Peaks subtracted first, or small epsilons overflow; in place, since a block is large.
    peak = nx.max(scores, axis=1)
    scores -= peak[:, None]
    weights = nx.exp(scores)
    return weights, nx.sum(weights, axis=1), peak


def _sliced_wasserstein(a: Array, b: Array) -> float:
    return float(ot.sliced_wasserstein_distance(a, b, n_projections=200, seed=0))
