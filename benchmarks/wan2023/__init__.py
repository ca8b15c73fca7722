"""The papers' own test problems, where truth and a biased coarse model are both at hand.

Wan et al. 2023 (arXiv 2305.15618) judge a downscaling method on two flows: the
Kuramoto-Sivashinsky equation in one dimension and the Navier-Stokes equations with Kolmogorov
forcing in two. Each comes as a spectral solver, the truth, and a low-order one on a coarser
grid, the biased model; `simulate` runs either. `conditional` learns the fine fields and draws
them given coarse ones; `sample_distances` tells how far two samples are apart.
"""

from benchmarks.wan2023.stepping import Sampling, Solver, keep_every, shift_randomly, simulate

__all__ = ["Sampling", "Solver", "keep_every", "shift_randomly", "simulate"]
