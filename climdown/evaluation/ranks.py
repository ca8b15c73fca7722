"""Where the reference lies among the members: rank histograms, overall and by intensity."""

from __future__ import annotations

import numpy as np

from climdown.arrays import Float64, Index
from climdown.evaluation.comparison import Comparison
from climdown.evaluation.measure import Measure, Resampled, divided
from climdown.evaluation.scene import DRIZZLE, Scene
from climdown.evaluation.segments import Segments
from climdown.evaluation.statistics import Sums

HEAVY = 5.0
"""mm day-1 from which the mean of members and reference counts as heavy."""
_TERCILE = 0.4307  # of a normal distribution, in standard deviations


def classes(scene: Scene) -> tuple[str, str, str]:
    """The three classes of intensity, for people: of the mean of members and reference."""
    if scene.amounts:
        return (
            f"dry (below {DRIZZLE:g} {scene.units})",
            f"light (below {HEAVY:g} {scene.units})",
            f"heavy ({HEAVY:g} {scene.units} or more)",
        )
    away = f"{_TERCILE * scene.deviation:.2g} {scene.units}"
    return (
        f"below normal (by {away} or more)",
        "near normal",
        f"above normal (by {away} or more)",
    )


def histogram(scene: Scene, compared: Comparison, part: Segments) -> Sums:
    """Area-weighted counts of the reference's rank among the members, ties broken at random.

    By three classes of the mean of members and reference together. Classes of the reference alone
    make the histogram of a perfect ensemble slope (Bellier et al. 2017,
    doi:10.1175/MWR-D-16-0487.1), and so do those of the ensemble mean if there are few members
    (Siegert et al. 2012, doi:10.1175/MWR-D-11-00302.1). What treats all M + 1 alike does not.

    Returns:
        `ranks`, shape (3, M + 1).
    """
    ranks = compared.members + 1
    labels = _intensity(scene, compared, part) * ranks + _ranks(scene, compared, part)
    counts = np.bincount(labels.reshape(-1), compared.weights.reshape(-1), minlength=3 * ranks)
    return {"ranks": np.asarray(counts.reshape(3, ranks), dtype=np.float64)}


def _ranks(scene: Scene, compared: Comparison, part: Segments) -> Index:
    """Number of members below the reference, and a random share of those equal to it."""
    ranks = compared.below.copy()
    for step in np.flatnonzero(compared.equal.any(axis=1)):
        share = _uniform(scene.seed, int(part.number[step]), ranks.shape[1])
        ranks[step] += (share * (compared.equal[step] + 1)).astype(np.intp)
    return ranks


def _uniform(seed: int, step: int, cells: int) -> Float64:
    """A number in [0, 1) for each cell, which depends on seed, step and cell alone.

    Philox is a generator whose key may be any number (Salmon et al. 2011,
    doi:10.1145/2063384.2063405).
    """
    key = np.array([seed % 2**64, step % 2**64], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(cells)


def _intensity(scene: Scene, compared: Comparison, part: Segments) -> Index:
    """The class of the mean of members and reference: 0, 1 or 2."""
    members = compared.members
    mean = compared.truth + compared.error * (members / (members + 1))
    if scene.amounts:
        return np.asarray((mean >= DRIZZLE).astype(np.intp) + (mean >= HEAVY))
    climatology = scene.climatology[part.month].reshape(mean.shape)
    # Where a month has no climatology it is taken as near normal.
    away, border = np.nan_to_num(mean - climatology), _TERCILE * scene.deviation
    return np.asarray((away > -border).astype(np.intp) + (away >= border))


STRETCHES = (histogram,)


def _frequencies(sums: Resampled) -> Float64:
    """Of each rank, over all classes, shape (R, M + 1)."""
    counts = sums["ranks"].sum(axis=1)
    return divided(counts, counts.sum(axis=-1, keepdims=True))


def _places(frequencies: Float64) -> Float64:
    """Of ranks: from -1 of the lowest to 1 of the highest."""
    return np.linspace(-1.0, 1.0, frequencies.shape[-1])


def rank_bias(scene: Scene, sums: Resampled) -> Float64:
    """Mean place of the reference among the members, from -1 to 1."""
    frequencies = _frequencies(sums)
    return np.asarray((frequencies * _places(frequencies)).sum(axis=-1))


def rank_dispersion(scene: Scene, sums: Resampled) -> Float64:
    """Mean squared place of the reference over that of a flat histogram."""
    frequencies = _frequencies(sums)
    squares = _places(frequencies) ** 2
    return np.asarray((frequencies * squares).sum(axis=-1) / squares.mean())


def outliers(scene: Scene, sums: Resampled) -> Float64:
    """Share of cases outside all members over its expectation, 2 / (M + 1)."""
    frequencies = _frequencies(sums)
    return np.asarray((frequencies[:, 0] + frequencies[:, -1]) * frequencies.shape[-1] / 2)


def outliers_high(scene: Scene, sums: Resampled) -> Float64:
    """The same of the class of the highest values."""
    return outliers(scene, {"ranks": sums["ranks"][:, 2:]})


def rank_distance(scene: Scene, sums: Resampled) -> Float64:
    """Share of cases that would have to have another rank for a flat histogram."""
    frequencies = _frequencies(sums)
    return np.asarray(np.abs(frequencies - 1 / frequencies.shape[-1]).sum(axis=-1) / 2)


MEASURES = (
    Measure(
        name="rank_bias",
        title="Slope of the rank histogram",
        theme="ensemble",
        kind="pairs",
        along="groups",
        sums=("ranks",),
        value=rank_bias,
        best="zero",
        units="1",
        formula="sum_k f_k (2 k - M) / M, f_k the frequency of rank k = 0...M",
        source="doi:10.1175/2007MWR2219.1",
        sentence=(
            "Where the reference lies among the members on average: 0 in their middle, 1 above "
            "them all (members too low), -1 below them all (members too high)."
        ),
        members=2,
    ),
    Measure(
        name="rank_dispersion",
        title="Curvature of the rank histogram",
        theme="ensemble",
        kind="pairs",
        along="groups",
        sums=("ranks",),
        value=rank_dispersion,
        best="one",
        units="1",
        formula="sum_k f_k (2 k - M)^2 / mean_k (2 k - M)^2",
        source="doi:10.1175/2007MWR2219.1",
        sentence=(
            "How far from their middle the reference lies among the members: 1 if they are "
            "calibrated, above 1 if they have too little spread or a bias, below 1 if too much "
            "spread."
        ),
        members=2,
    ),
    Measure(
        name="outliers",
        title="Outliers over expected ones",
        theme="ensemble",
        kind="pairs",
        along="groups",
        sums=("ranks",),
        value=outliers,
        best="one",
        units="1",
        formula="(f_0 + f_M) (M + 1) / 2",
        source="doi:10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2",
        sentence=(
            "How often the reference lies outside all members, over how often it would if it were "
            "one of them, 2 / (M + 1)."
        ),
        members=2,
    ),
    Measure(
        name="outliers_high",
        title="Outliers of high values",
        theme="ensemble",
        kind="pairs",
        along="groups",
        sums=("ranks",),
        value=outliers_high,
        best="one",
        units="1",
        formula="(f_0 + f_M) (M + 1) / 2 where (y + sum_i x_i) / (M + 1) is in the highest class",
        source="doi:10.1175/MWR-D-11-00302.1",
        sentence=(
            "The same where members and reference are high on average: rain of 5 mm day-1 or more, "
            "other variables so far above normal that a third of the days are."
        ),
        members=2,
    ),
    Measure(
        name="rank_distance",
        title="Distance of the rank histogram from flat",
        theme="ensemble",
        kind="pairs",
        along="groups",
        sums=("ranks",),
        value=rank_distance,
        best="low",
        units="1",
        formula="sum_k |f_k - 1 / (M + 1)| / 2",
        source="doi:10.1029/2005JD006917",
        sentence=(
            "Share of cases that would have to have another rank for a flat histogram (half the "
            "reliability index). Chance alone makes it about sqrt(M / (2 pi n)) for n independent "
            "cases, of which there are far fewer than days and cells."
        ),
        members=2,
    ),
)
