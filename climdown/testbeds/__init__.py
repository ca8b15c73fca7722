"""The papers' own test problems, where truth and a biased coarse model are both at hand.

Wan et al. 2023 (arXiv 2305.15618) judge a downscaling method on two flows: the
Kuramoto-Sivashinsky equation in one dimension and the Navier-Stokes equations with Kolmogorov
forcing in two. Each comes as a spectral solver, the truth, and a low-order one on a coarser
grid, the biased model; `simulate` runs either.
"""

from climdown.testbeds.stepping import Sampling, Solver, keep_every, simulate

__all__ = ["Sampling", "Solver", "keep_every", "simulate"]
