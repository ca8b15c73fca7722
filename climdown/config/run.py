"""The options of `climdown run`, `qdm` and `ot`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args

from climdown.adjust.options import OTOptions, QDMOptions
from climdown.options import require

Method = Literal["zssd", "cm", "bridge", "ot-diffusion", "bilinear", "delta", "bcsd"]
METHODS = get_args(Method)
BASELINES = ("bilinear", "delta", "bcsd")
_DRAWING = tuple(method for method in METHODS if method not in BASELINES)
# The methods that an option belongs to, where it is not for all.
_OWNERS = {
    "--noise-scale": ("cm", "bridge"),
    "--keep-means": ("cm", "bridge"),
    "--sampler": ("zssd", "bridge", "ot-diffusion"),
    "--guidance-scale": ("zssd", "ot-diffusion"),
    "--steps": _DRAWING,
}
_MEMBERS = 4
# The adjustments of bias that a method is one with, the first of them implied.
_ADJUSTMENTS: dict[str, tuple[Literal["none", "qdm", "ot"], ...]] = {
    "bcsd": ("qdm",),
    "ot-diffusion": ("ot", "none"),
}


@dataclass(frozen=True)
class RunConfig:
    """The options of `climdown run`.

    Attributes:
        members: of the ensemble; None takes 4, or the one that a baseline has.
        seed: of the noise; the same seed gives the same members.
        method: "zssd" guides a diffusion prior by the input; "cm" adds noise to the interpolated
            input and lets a consistency prior draw what the noise drowned; "bridge" does so by a
            diffusion prior; "ot-diffusion" takes the bias off by optimal transport and draws under
            the exact means. Baselines, which use no more of a prior than its grid and climatology:
            "bilinear" interpolates the input, "delta" its departures from the climatology, "bcsd"
            the same after quantile mapping.
        noise_scale: of "cm" and "bridge": a noise level in normalised units; "200km" drowns what is
            shorter than this wavelength, "auto" what the input's spectrum lacks beside the prior's.
        keep_means: of "cm" and "bridge", move each answer of the network to the nearest field with
            the input's coarse means; None does, but for the bridge's reference sampler.
        sampler: "fast" is a second-order solver, of ZSSD with projection onto the observed means;
            "reference" is the paper's: of ZSSD, which differentiates the network at every step, or
            of the bridge, or of "ot-diffusion"; "coarse-loss" is the reference of ZSSD with the
            misfit on the coarse grid, an ablation.
        steps: network evaluations; None takes the prior's own, 1000 for the reference of ZSSD, 500
            for that of the bridge and 250 for that of "ot-diffusion".
        guidance_scale: of the reference of ZSSD, where None takes the prior's own, and of
            "ot-diffusion", where it takes 1.
        filter_scale: degrees to which the input is averaged before it guides: a number,
            "native" (the input's own grid), or "auto" (native, but never finer than the
            coarse grid that the prior names, and coarser where the spectrum of the input departs
            from the prior's).
        coherence: correlation of the noise from one time step to the next, 0 to below 1; "auto" is
            the prior's own, by variable; "none", like 0, draws each step for itself.
        device: "auto" takes a CUDA device where there is one.
        batch_size: fields denoised together, or "auto".
        tile: cells along each side of the overlapping tiles in which the network is applied; None
            does as the prior's card says, which is the whole domain unless it was trained on tiles.
        period: "START/END", or None for all of the input.
        select: the entry to take along further dimensions of the input, as (dimension, label).
        bias: adjustment of the input before it guides; None takes the one that the method implies.
        historical: files of the input's model in the reference's period.
        reference: files of observations; empty takes the quantiles that the prior carries.
        historical_period, reference_period: as `period`.
        qdm, ot: options of the two adjustments.
        overwrite: replace an output that exists, discard parts of another run.
    """

    method: Method = "zssd"
    members: int | None = None
    seed: int = 0
    noise_scale: float | str = "auto"
    keep_means: bool | None = None
    sampler: Literal["fast", "reference", "coarse-loss"] = "fast"
    steps: int | None = None
    guidance_scale: float | None = None
    filter_scale: float | Literal["auto", "native"] = "auto"
    coherence: float | Literal["auto", "none"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    tile: int | None = None
    period: str | None = None
    select: tuple[tuple[str, str], ...] = ()
    bias: Literal["none", "qdm", "ot"] | None = None
    historical: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    historical_period: str | None = None
    reference_period: str | None = None
    qdm: QDMOptions = field(default_factory=QDMOptions)
    ot: OTOptions = field(default_factory=OTOptions)
    overwrite: bool = False

    def __post_init__(self) -> None:
        require(
            self.method in METHODS,
            f"unknown method '{self.method}'; expected {_listed(METHODS)}",
        )
        scale = self.noise_scale
        require(
            scale == "auto" or self.wavelength is not None or _positive(scale),
            f"noise scale is {scale}; expected a number > 0, a wavelength like 200km, or auto",
        )
        self._check_owners()
        members = self.members
        require(members is None or members >= 1, f"members is {members}; need at least 1")
        require(
            self.method not in BASELINES or members in (None, 1),
            f"--method {self.method} draws nothing, so that it has one member and not {members}; "
            "leave --members out",
        )
        require(0 <= self.seed < 2**31, f"seed is {self.seed}; need 0 to {2**31 - 1}")
        require(self.steps is None or self.steps >= 1, f"steps is {self.steps}; need at least 1")
        require(
            self.sampler in ("fast", "reference", "coarse-loss"),
            f"unknown sampler '{self.sampler}'; expected fast or reference, or coarse-loss",
        )
        require(
            self.sampler != "coarse-loss" or self.method == "zssd",
            f"the sampler coarse-loss is an ablation of zssd, not of {self.method}; give fast or "
            "reference",
        )
        pull = self.guidance_scale
        require(pull is None or pull >= 0, f"guidance scale is {pull}; need at least 0")
        require(
            pull is None or self.sampler != "fast" or self.method == "ot-diffusion",
            "the guidance scale is one of the reference sampler; the fast one has no such number: "
            "leave it out, or give --sampler reference",
        )
        require(
            self.filter_scale in ("auto", "native") or _positive(self.filter_scale),
            f"filter scale is {self.filter_scale}; expected degrees > 0, auto or native",
        )
        coherence = self.coherence
        require(
            coherence in ("auto", "none")
            or (isinstance(coherence, int | float) and 0 <= coherence < 1),
            f"coherence is {coherence}; expected 0 to below 1, auto or none",
        )
        require(
            self.device in ("auto", "cpu", "cuda"),
            f"unknown device '{self.device}'; expected auto, cpu or cuda",
        )
        self._check_bias()
        require(self.tile is None or self.tile > 0, f"tile is {self.tile}; need at least 1 cell")
        require(
            self.batch_size == "auto" or _positive(self.batch_size),
            f"batch size is {self.batch_size}; expected a number > 0, or auto",
        )

    @property
    def size(self) -> int:
        """Members of the ensemble."""
        default = 1 if self.method in BASELINES else _MEMBERS
        return default if self.members is None else self.members

    @property
    def adjustment(self) -> Literal["none", "qdm", "ot"]:
        """Adjustment of the input's bias, asked for or implied."""
        implied = _ADJUSTMENTS.get(self.method, ("none",))[0]
        return implied if self.bias is None else self.bias

    @property
    def wavelength(self) -> float | None:
        """The wavelength in km that `noise_scale` names, or None."""
        match = re.fullmatch(r"([\d.]+)\s*km", str(self.noise_scale).lower())
        try:
            value = float(match[1]) if match else 0.0
        except ValueError:
            return None
        return value if value > 0 else None

    def _check_owners(self) -> None:
        """Refuse options of other methods."""
        given = {
            "--noise-scale": self.noise_scale != "auto",
            "--keep-means": self.keep_means is not None,
            "--sampler": self.sampler != "fast",
            "--guidance-scale": self.guidance_scale is not None,
            "--steps": self.steps is not None,
        }
        for option, owners in _OWNERS.items():
            require(
                not given[option] or self.method in owners,
                f"{option} is for --method {_listed(owners)}, not for {self.method}; leave it out",
            )

    def _check_bias(self) -> None:
        require(
            self.bias in (None, "none", "qdm", "ot"),
            f"unknown bias adjustment '{self.bias}'; expected none, qdm or ot",
        )
        fitting = _ADJUSTMENTS.get(self.method, ("none", "qdm", "ot"))
        require(
            self.bias in (None, *fitting),
            f"--method {self.method} is one with --bias {fitting[0]}, not with {self.bias}; leave "
            "--bias out, or give another method",
        )
        adjustment = self.adjustment
        by = f"--method {self.method}" if self.bias is None else f"--bias {self.bias}"
        unbiased = self.method == "ot-diffusion"
        or_none = ", or --bias none if the input has no bias" if unbiased else ""
        given = self.historical or self.reference
        periods = self.historical_period or self.reference_period
        require(
            adjustment != "none" or not (given or periods),
            "--historical, --reference and their periods are for bias adjustment; give --bias qdm "
            "or ot",
        )
        require(
            adjustment == "none" or bool(self.historical),
            f"{by} needs the same model in the reference's period; give --historical{or_none}",
        )
        require(
            adjustment != "ot" or bool(self.reference),
            f"{by} needs whole days of observations, and a prior carries quantiles only (the "
            "licence of its data may not allow more); give --reference",
        )
        require(
            self.reference_period is None or bool(self.reference),
            "the prior's quantiles have no dates; leave --ref-period out, or give --reference",
        )


def _listed(words: tuple[str, ...]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0
