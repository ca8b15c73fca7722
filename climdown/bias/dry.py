"""Dry days among quantiles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def spread_dry_quantiles(
    quantiles: npt.NDArray[np.float32], nodes: npt.NDArray[np.float64], threshold: float
) -> npt.NDArray[np.float32]:
    """Quantiles below the threshold, laid out evenly between 0 and it.

    What the quantiles of a series would be whose dry days were each given some value below the
    threshold, see `quantile.jitter_dry`.

    Args:
        quantiles: shape (groups, nodes, cells), ascending along nodes.
        nodes: their probabilities, shape (nodes,).
    """
    dry = quantiles < threshold
    share = dry.mean(axis=1, keepdims=True)
    spread = threshold * nodes[None, :, None] / np.where(share > 0, share, 1.0)
    return np.where(dry, np.minimum(spread, threshold), quantiles).astype(np.float32)
