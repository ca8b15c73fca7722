"""What quantile delta mapping and optimal transport declare: name, source, needs, options.

Light to import, for the command line; `needs_days` says that the reference must be days of
observations, since the quantiles that a prior carries will not do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from climdown.options import option, require


@dataclass(frozen=True)
class QDMOptions:
    """The options of quantile delta mapping, see `bias.quantile`."""

    adjustment: ClassVar[str] = "qdm"
    source: ClassVar[str] = "doi:10.1175/JCLI-D-14-00754.1"
    needs_days: ClassVar[bool] = False

    kind: Literal["auto", "additive", "multiplicative"] = option(
        "auto", "Differences or ratios; auto: ratios for precipitation, wind speed, radiation."
    )
    quantiles: int | None = option(
        None,
        "Number of quantiles of each cell and group of days.",
        default_text="500 for precipitation, else 100",
    )
    group: Literal["none", "month", "dayofyear"] = option(
        "month", "Which days are judged together: all, each month's, or those around each day."
    )
    window: int = option(
        31, "Days around a day of the year, an odd number, with --group dayofyear.", metavar="DAYS"
    )
    interpolation: Literal["linear", "nearest"] = option(
        "linear", "How the correction is interpolated between quantiles."
    )
    tails: Literal["constant", "extremes"] = option(
        "constant",
        "Beyond the outermost quantile: its correction, or one that goes on changing out to the "
        "smallest and largest value.",
    )
    max_ratio: float = option(10.0, "Bound of the ratio of multiplicative variables.")
    dry_threshold: float | None = option(
        None,
        "Less precipitation than this is none, mm/day.",
        metavar="MM",
        default_text="0.05 for precipitation",
    )
    years: int | None = option(
        None,
        "Take the quantiles of each decade of the simulation from so many years around it; 0: all "
        "of it is one period.",
        metavar="YEARS",
        default_text="30 for more than 45 years, else one period",
    )
    ranks: Literal["sim", "hist"] = option(
        "sim",
        "Rank values among the simulation's own, which keeps its change, or among the historical "
        "ones, for simulations of few years.",
    )
    seed: int = option(0, "Of the small random values that tell dry days apart.")

    def __post_init__(self) -> None:
        for name, words in (
            ("kind", ("auto", "additive", "multiplicative")),
            ("group", ("none", "month", "dayofyear")),
            ("interpolation", ("linear", "nearest")),
            ("tails", ("constant", "extremes")),
            ("ranks", ("sim", "hist")),
        ):
            value = getattr(self, name)
            require(value in words, f"unknown {name} '{value}'; expected {' or '.join(words)}")
        n = self.quantiles
        require(n is None or n >= 2, f"quantiles is {n}; need at least 2")
        require(
            1 <= self.window <= 365 and self.window % 2 == 1,
            f"window is {self.window} days; need an odd number from 1 to 365",
        )
        require(self.max_ratio > 1, f"max ratio is {self.max_ratio:g}; need more than 1")
        dry = self.dry_threshold
        require(dry is None or dry >= 0, f"dry threshold is {dry} mm day-1; need at least 0")
        require(0 <= self.seed < 2**31, f"seed is {self.seed}; need 0 to {2**31 - 1}")
        years = self.years
        require(years in (None, 0) or years >= 10, f"years is {years}; need 0 or at least 10")


@dataclass(frozen=True)
class OTOptions:
    """The options of bias adjustment by optimal transport, see `bias.transport`."""

    adjustment: ClassVar[str] = "ot"
    source: ClassVar[str] = "arXiv:2305.15618"
    needs_days: ClassVar[bool] = True

    epsilon: float | None = option(
        None,
        "Regularisation, as a fraction of the mean squared distance.",
        metavar="SHARE",
        default_text="chosen on years held out",
    )
    eofs: float | None = option(
        None,
        "Transport within leading EOFs: their share of the variance (0.95) or their number (40).",
        metavar="SHARE|N",
        default_text="all columns",
    )
    group: Literal["none", "season", "month"] = option("season", "Days transported together.")
    map: Literal["barycentre", "sampled"] = option(
        "barycentre",
        "Each day becomes a mean of observed days, weighted by the plan; or one of them, drawn "
        "with these weights, which keeps the variance.",
    )
    keep_change: bool = option(
        True,
        "Keep the simulation's change against its history: in the mean, of amounts in each "
        "quantile.",
    )
    years: int | None = option(
        None,
        "Take that change for each decade from so many years around it; 0: all of the simulation "
        "is one period.",
        metavar="YEARS",
        default_text="30 for more than 45 years, else one period",
    )
    tolerance: float = option(
        1e-3, "Largest marginal error of the transport plan.", metavar="SHARE"
    )
    max_iterations: int = option(5000, "Steps of Sinkhorn's iteration before it is given up.")
    seed: int = option(0, "Of draws, and of the order of days that are equal, such as dry ones.")

    def __post_init__(self) -> None:
        require(
            self.group in ("none", "season", "month"),
            f"unknown group '{self.group}'; expected none, season or month",
        )
        require(
            self.map in ("barycentre", "sampled"),
            f"unknown map '{self.map}'; expected barycentre or sampled",
        )
        require(0 <= self.seed < 2**31, f"seed is {self.seed}; need 0 to {2**31 - 1}")
        epsilon, eofs = self.epsilon, self.eofs
        require(epsilon is None or epsilon > 0, f"epsilon is {epsilon}; need more than 0")
        require(
            eofs is None or 0 < eofs <= 1 or (eofs > 1 and eofs == round(eofs)),
            f"eofs is {eofs}; need a share of the variance up to 1, or a whole number",
        )
        require(self.tolerance > 0, f"tolerance is {self.tolerance}; need more than 0")
        require(
            self.max_iterations > 0, f"max iterations is {self.max_iterations}; need at least 1"
        )
        years = self.years
        require(years in (None, 0) or years >= 10, f"years is {years}; need 0 or at least 10")


OPTIONS: dict[str, type[QDMOptions] | type[OTOptions]] = {
    kind.adjustment: kind for kind in (QDMOptions, OTOptions)
}
"""By the name of the adjustment; `adjust.registry` has what it does."""
